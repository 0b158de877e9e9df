"""An agent as an ordinary process, and the host's end of its sallyport in the test's hands."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from donjon.guest.agent import Agent, Place
from donjon.keep.launch import Launch
from donjon.sallyport import frames
from donjon.sallyport.io import Port
from donjon.sallyport.machine import STDERR, STDOUT, HostMachine
from donjon.workload import File

SECONDS = 30.0
Act = Callable[["Session", Any], None]


class Session:
    """One session from Hello to the last word.

    Args:
        files: what is handed over instead of the launch's own.
        descriptor: likewise.
        act: called with each event, beside what every host does.
    """

    def __init__(
        self,
        launch: Launch,
        place: Place | None = None,
        files: Mapping[str, bytes] | None = None,
        descriptor: bytes | None = None,
        options: dict[str, object] | None = None,
        act: Act = lambda _session, _event: None,
    ) -> None:
        module = launch.module if isinstance(launch.module, bytes) else b""
        launch.main = File.named("main.wasm", module)
        own = {"main.wasm": module} | ({} if launch.toml is None else {"Enarx.toml": launch.toml})
        self.files = own if files is None else files
        self.descriptor = launch.describe().json() if descriptor is None else descriptor
        self.options = json.dumps(options or {}).encode()
        self.act = act
        self.events: list[Any] = []
        self.stdout = b""
        self.stderr = b""
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            Agent(theirs.fileno(), place or Place()).run()
            os._exit(0)
        theirs.close()
        self.socket = ours
        self.machine = HostMachine()
        self.port = Port(ours.fileno(), self.machine)

    def run(self) -> Session:
        end = time.monotonic() + SECONDS
        try:
            while not self.port.ended:
                assert time.monotonic() < end, self.events
                for event in self.port.step(1.0):
                    self._take(event)
        finally:
            self.close()
        return self

    def _take(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, frames.Hello):
            self.machine.launch(self.descriptor, self.options)
        elif isinstance(event, frames.Accept):
            for name, data in self.files.items():
                self.machine.file(name, data)
            self.machine.start()
        elif isinstance(event, frames.Stdout):
            self.stdout += event.data
            self.machine.consumed(STDOUT, len(event.data))
        elif isinstance(event, frames.Stderr):
            self.stderr += event.data
            self.machine.consumed(STDERR, len(event.data))
        self.act(self, event)

    def close(self) -> None:
        self.socket.close()
        end = time.monotonic() + 15
        while not os.waitpid(self.pid, os.WNOHANG)[0]:  # it ends because the port has
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError("the agent does not end with its port")
            time.sleep(0.01)

    def last(self, kind: type) -> Any:
        """The one event of this kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        assert len(found) == 1, self.events
        return found[0]
