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


SAMPLES: dict[type[f.Frame], bytes] = {
    kind: bytes(frame.encode())
    for kind, frame in {
        f.Launch: f.Launch(version=1, descriptor=1, options=1), f.Chunk: f.Chunk(data=b"x"),
        f.File: f.File(name="other", size=1, digest=bytes(32)), f.Start: f.Start(), f.Stdin: f.Stdin(data=b"x"),
        f.CollateralReply: f.CollateralReply(id=1, size=1), f.CollateralData: f.CollateralData(data=b"x"),
        f.CollateralFailed: f.CollateralFailed(id=1, message=""), f.Dialed: f.Dialed(id=1, source_port=1),
        f.DialFailed: f.DialFailed(id=1, family="BugError", message="", hint=""),
        f.Bound: f.Bound(id=1, host="::", port=1),
        f.BindFailed: f.BindFailed(id=1, family="BugError", message="", hint=""),
        f.Peer: f.Peer(guest_port=1, source_port=1, host="::", port=1), f.Stop: f.Stop(),
        f.Hello: f.Hello(versions=(1,), variant="x", image=bytes(32)), f.Accept: f.Accept(),
        f.Refuse: f.Refuse(family="BugError", message="", hint=""), f.Started: f.Started(),
        f.Stdout: f.Stdout(data=b"x"), f.Stderr: f.Stderr(data=b"x"), f.Log: f.Log(level=1, target="t", message=""),
        f.Mark: f.Mark(name="n", nanoseconds=1), f.Collateral: f.Collateral(id=1, request="r"),
        f.Dial: f.Dial(id=1, host="h", port=1),
        f.Listening: f.Listening(id=1, name="n", prot="tcp", host="", port=0, guest_port=1),
        f.Exit: f.Exit(code=0), f.Trap: f.Trap(message="", code="", frames=(), hint=""),
        f.Failed: f.Failed(family="BugError", message="", hint=""), f.Credit: f.Credit(stream=3, size=1),
        f.End: f.End(stream=0), f.Gone: f.Gone(stream=1),
    }.items()
}  # fmt: skip
"""Each frame once, as bytes."""
