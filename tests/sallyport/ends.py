"""Both ends of a sallyport in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from donjon.sallyport import frames as f
from donjon.sallyport.machine import GuestMachine, HostMachine, Machine, State

DESCRIPTOR = b'{"package":"00"}'
OPTIONS = b"{}"


def pieces(data: bytes, step: int | random.Random | None) -> Iterator[bytes]:
    """Whole, in steps, or cut at random."""
    at = 0
    while at < len(data):
        size = len(data) if step is None else step if isinstance(step, int) else step.randrange(1, 5000)
        yield data[at : at + size]
        at += size


class Ends:
    """A host and a guest, and what each has heard."""

    def __init__(self, step: int | random.Random | None = None, **limits: int) -> None:
        self.host = HostMachine()
        self.guest = GuestMachine(**limits)
        self.step = step
        self.heard_outside: list[Any] = []
        self.heard_inside: list[Any] = []

    def pump(self) -> None:
        """Move bytes until nobody has any."""
        while self.host.pending or self.guest.pending:
            self.heard_outside += move(self.guest, self.host, self.step)
            self.heard_inside += move(self.host, self.guest, self.step)

    def reach(self, state: State, files: dict[str, bytes] | None = None) -> Ends:
        """Go on as far as `state`, in the ordinary way."""
        for name, step in self.steps(files or {}):
            if self.host.state is state and self.guest.state is state:
                break
            assert name
            step()
            if state in (State.DESCRIBING, State.RECEIVING) and name in ("launch", "file"):
                self.heard_inside += self.guest.feed(self.host.take(f.HEADER + (9 if name == "launch" else 48)))
                if self.host.state is state:
                    break
            self.pump()
        assert self.host.state is self.guest.state is state
        return self

    def steps(self, files: dict[str, bytes]) -> Iterator[tuple[str, Callable[[], object]]]:
        """The ordinary way."""
        yield "hello", lambda: self.guest.hello("production")
        yield "launch", lambda: self.host.launch(DESCRIPTOR, OPTIONS)
        yield "accept", lambda: self.guest.accept()
        for name, data in (files or {"m.wasm": bytes(100_000)}).items():
            yield "file", lambda name=name, data=data: self.host.file(name, data)  # type: ignore[misc]
        yield "start", lambda: self.host.start()
        yield "started", lambda: self.guest.started()
        yield "exit", lambda: self.guest.exit(0)


def move(sender: Machine, receiver: Machine, step: int | random.Random | None = None) -> list[Any]:
    """Everything that one has for the other."""
    events: list[Any] = []
    while data := sender.take():
        for piece in pieces(data, step):
            events += receiver.feed(piece)
    return events


def raw(kind: int, payload: bytes = b"") -> bytes:
    """A frame of anything."""
    return bytes((kind,)) + len(payload).to_bytes(4, "little") + payload
