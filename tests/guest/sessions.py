"""An agent, and the host's end of its sallyport in a test's hands: as an ordinary process, or in a virtual machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from donjon.guest.agent import Agent, Place
from donjon.image import Image
from donjon.keep.launch import Launch
from donjon.keep.vm import words
from donjon.sallyport import frames
from donjon.sallyport.io import Port
from donjon.sallyport.machine import STDERR, STDOUT, HostMachine
from donjon.workload import File
from tests import images

Act = Callable[["Session", Any], None]


class Session:
    """One session from Hello to the last word.

    Args:
        files: what is handed over instead of the launch's own.
        descriptor: likewise.
        act: called with each event, beside what every host does.
    """

    SECONDS = 30.0

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
        self.place = place or Place()
        self.socket, theirs = socket.socketpair()
        self.machine = HostMachine()
        self.port = Port(self.socket.fileno(), self.machine)
        with theirs:
            self._start(theirs)

    def _start(self, theirs: socket.socket) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            self.socket.close()
            Agent(theirs.fileno(), self.place).run()
            os._exit(0)

    def run(self) -> Self:
        end = time.monotonic() + self.SECONDS
        try:
            while not self.port.ended and not self.machine.over:
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
        self.wait()

    def wait(self, seconds: float = 15.0) -> None:
        """Until it has ended, as it does by itself when the session is over, or its port is closed."""
        end = time.monotonic() + seconds
        while not self._ended():
            if time.monotonic() > end:
                self._kill()
                raise AssertionError("it does not end with its session")
            time.sleep(0.01)

    def _ended(self) -> bool:
        return bool(os.waitpid(self.pid, os.WNOHANG)[0])

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def last(self, kind: type) -> Any:
        """The one event of this kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        assert len(found) == 1, self.events
        return found[0]

    def logs(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, frames.Log)]


class Machine(Session):
    """A session with an image, in an emulated machine that must have powered off soon after.

    Args:
        image: which is started.
        more: a path; what is to be behind the image's own initramfs.
        memory: in MiB. processor: QEMU's name for one. extra: more of its words.
        network: ports of the guest that are to be reached; `ports` then has those of this machine.
    """

    SECONDS = 100.0

    def __init__(
        self,
        image: Image,
        launch: Launch,
        *,
        initrd: Path | None = None,
        memory: int = 320,
        processor: str = words.PROCESSOR["tcg"],
        network: tuple[int, ...] = (),
        console: Path | None = None,
        devices: tuple[tuple[str, socket.socket], ...] = (),
        **more: Any,
    ) -> None:
        self.ports = dict(zip(network, _free_ports(len(network)), strict=True))
        self._devices = devices
        self._words = words.kvm("tcg", memory * words.MIB, "qboot.rom")
        self._words[self._words.index("-cpu") + 1] = processor
        self._words += words.common(image.vmlinux, str(initrd or image.initrd_raw), image.cmdline)
        if network:
            self._words += words.network([(outside, inside) for inside, outside in self.ports.items()], False)
        if console is not None:
            self._words += ["-serial", f"file:{console}"]
        super().__init__(launch, **more)

    def _start(self, theirs: socket.socket) -> None:
        ports = [("donjon.sallyport", theirs), *self._devices]
        for number, (name, end) in enumerate(ports):
            self._words += words.port(name, end.fileno(), number == 0, False)
        self.started = time.monotonic()
        descriptors = [end.fileno() for _, end in ports]
        self.process = subprocess.Popen(
            [images.qemu(), *self._words], pass_fds=descriptors, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        for _, end in self._devices:
            end.close()

    def _ended(self) -> bool:
        ended = self.process.poll() is not None
        if ended and self.process.stdout is not None:
            self.process.stdout.close()
        return ended

    def _kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def _free_ports(count: int) -> list[int]:
    spare = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in spare]
    for one in spare:
        one.close()
    return found
