"""Both ends of the sallyport without I/O: bytes in, events out; calls in, bytes out.

    machine.feed(data) -> [Hello(...), Log(...), ...]       machine.take() -> bytes to write

Theory of operation. A session has one state, and two tables say which frame the host and the guest may send in it, and
where that leads; both ends follow both tables. What a table lacks is refused, and the machine is dead then. Frames
cross on their way, so the tables are made such that what one end may send in its state, the other takes in its own:
whoever may leave a state is the only one who is bound by its being left.

Nothing here grows by what the other end does:

- a partial frame is at most MAX_PAYLOAD, judged by its type before it is awaited; files are handed on as they come
- a stream's data is at most what its reader has given credit for (WINDOW), log records LOG_WINDOW; a writer without
  credit waits, except for logs: they are dropped and counted, as logging must not stop a Keep
- requests have numbers that count up, so none comes twice; so many may be unanswered (DIALS, REQUESTS), where an answer
  counts as given when it was taken out to be written: an asker who reads no answers gets no more
- `congested` says that the other end does not read: who feeds on regardless has to hold the answers

Between streams, replies and files the small goes first: files and collateral are cut into frames when there is room.

There is no secret on this channel, and no session key: the host could take its place in any case. A recorded session
that is replayed into another Keep is a session like any other; the descriptor is what the hardware vouches for.
"""

from __future__ import annotations

from donjon.errors import BugError, DonjonError, ParseError, PlatformError, TrapError, UsageError
from donjon.log import WARN
from donjon.sallyport import frames as f
from donjon.sums import new, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
    from typing import ClassVar
else:
    from _collections import deque  # the package around it takes longer to load than this module

__all__ = [
    "CONGESTED", "DIALS", "END", "GUEST", "HOST", "LISTENERS", "LOG_WINDOW", "MARKS", "MAX_COLLATERAL", "REQUESTS",
    "STATES", "STDERR", "STDIN", "STDOUT", "WINDOW", "Fetched", "FileDone", "GuestMachine", "HostMachine", "Launched",
    "Lost", "State", "Violation",
]  # fmt: skip

STDIN, STDOUT, STDERR, LOGS = range(4)
WINDOW = 256 << 10
"""Bytes of a stream that its reader may have to hold."""
LOG_WINDOW = 64 << 10
CONGESTED = 1 << 20
"""Bytes that wait to be written; a peer that reads never lets it come so far."""
ROOM = 256 << 10
"""Bytes that wait to be written, from which on streams and logs wait."""
DIALS = 64
REQUESTS = 8
LISTENERS = 1024
"""As many as Enarx.toml can have entries."""
MARKS = 64
MAX_COLLATERAL = 1 << 20
PIECE = 32 << 10
"""Bytes of one frame of a file or stream: what the guest's driver moves at once."""


class State:
    """How far a session is: one of STATES. No `Enum`, as loading that takes longer than all of this module."""

    __slots__ = ("value",)

    GREETING: ClassVar[State]
    LAUNCHING: ClassVar[State]
    DESCRIBING: ClassVar[State]
    CHECKING: ClassVar[State]
    HANDOVER: ClassVar[State]
    RECEIVING: ClassVar[State]
    STARTING: ClassVar[State]
    RUNNING: ClassVar[State]
    ENDED: ClassVar[State]
    BROKEN: ClassVar[State]

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"State.{self.value.upper()}"


STATES = tuple(State(name.lower()) for name in State.__annotations__)
for _state in STATES:
    setattr(State, _state.value.upper(), _state)

# fmt: off
S = State
HOST: dict[State, dict[type[f.Frame], State]] = {
    S.GREETING:   {},
    S.LAUNCHING:  {f.Launch: S.DESCRIBING},
    S.DESCRIBING: {f.Chunk: S.DESCRIBING},
    S.CHECKING:   {},
    S.HANDOVER:   {f.File: S.RECEIVING, f.Start: S.STARTING},
    S.RECEIVING:  {f.Chunk: S.RECEIVING},
    S.STARTING:   {},
    S.RUNNING:    {f.Stdin: S.RUNNING, f.End: S.RUNNING, f.Gone: S.RUNNING},
    S.ENDED:      {},
    S.BROKEN:     {},
}
GUEST: dict[State, dict[type[f.Frame], State]] = {
    S.GREETING:   {f.Hello: S.LAUNCHING},
    S.LAUNCHING:  {},
    S.DESCRIBING: {},
    S.CHECKING:   {f.Accept: S.HANDOVER, f.Refuse: S.ENDED},
    S.HANDOVER:   {},
    S.RECEIVING:  {},
    S.STARTING:   {f.Started: S.RUNNING},
    S.RUNNING:    {f.Stdout: S.RUNNING, f.Stderr: S.RUNNING, f.End: S.RUNNING, f.Gone: S.RUNNING,
                   f.Exit: S.ENDED, f.Trap: S.ENDED},
    S.ENDED:      {},
    S.BROKEN:     {},
}
END = {S.DESCRIBING: S.CHECKING, S.RECEIVING: S.HANDOVER}
"""Where the last Chunk leads."""
# fmt: on

# What may come in several states and changes none.
for _state in STATES:
    if _state in (S.ENDED, S.BROKEN):
        continue
    if _state is not S.GREETING:
        HOST[_state] |= dict.fromkeys((f.Stop, f.Credit), _state)
        GUEST[_state] |= {f.Log: _state, f.Mark: _state, f.Failed: S.ENDED}
    if _state in (S.STARTING, S.RUNNING):
        HOST[_state] |= dict.fromkeys(
            (
                f.CollateralReply, f.CollateralData, f.CollateralFailed, f.Dialed, f.DialFailed, f.Bound, f.BindFailed,
                f.Peer,
            ),
            _state,
        )  # fmt: skip
        GUEST[_state] |= dict.fromkeys((f.Collateral, f.Dial, f.Listening), _state)
GUEST[S.RUNNING][f.Credit] = S.RUNNING
# A guest that finds the host at fault has a last word, also before it greeted.
GUEST[S.GREETING][f.Failed] = S.ENDED

LAST = (f.Exit, f.Trap, f.Failed, f.Refuse)


class Launched:
    """All of the descriptor and the options is there."""

    def __init__(self, version: int, descriptor: bytes, options: bytes) -> None:
        self.version, self.descriptor, self.options = version, descriptor, options


class FileDone:
    """A file is complete, and its SHA-256 is right."""

    def __init__(self, name: str) -> None:
        self.name = name


class Fetched:
    """What was asked for with `collateral`."""

    def __init__(self, id: int, data: bytes) -> None:  # noqa: A002 - as the frames have it
        self.id, self.data = id, data


class Lost:
    """The other end closed before the session was over; `state` is how far it was."""

    def __init__(self, state: State) -> None:
        self.state = state


if TYPE_CHECKING:
    Event = f.Frame | Launched | FileDone | Fetched | Lost


class Violation(ParseError):  # noqa: N818 - says what happened
    """The other end broke the protocol; `events` are those before that, of the same bytes."""

    def __init__(self, message: str, events: list[Event]) -> None:
        super().__init__(message)
        self.events = events


class Stream:
    """One direction of bytes. As a writer `credit` is what may be sent; as a reader what may still come."""

    __slots__ = ("credit", "ended", "gone", "held", "owed", "window")

    def __init__(self, window: int) -> None:
        self.window = self.credit = window
        self.owed = 0
        """Reader: bytes for which credit is to be given."""
        self.held = 0
        """Reader: bytes that were received and not consumed."""
        self.ended = self.gone = False


class Machine:
    """What both ends have in common; see HostMachine and GuestMachine."""

    SENDS = HOST
    TAKES = GUEST
    WRITES: tuple[int, ...] = ()
    """Streams that this end writes."""
    US = "host"
    THEM = "guest"
    _received: Callable[[f.Frame, list[Event]], None]
    """What this end makes of a frame that the other may send now."""

    def __init__(self) -> None:
        self.state = S.GREETING
        self._fault: Violation | None = None
        self._in = bytearray()
        self._small: deque[bytes] = deque()
        self._bulk: deque[Iterator[bytes]] = deque()
        self._rest = b""
        self._backlog = 0
        self._turn = False
        self._streams = [Stream(WINDOW), Stream(WINDOW), Stream(WINDOW), Stream(LOG_WINDOW)]
        self._dials: set[int] = set()
        self._requests: set[int] = set()
        self._binds: set[int] = set()
        self._counts: dict[type[f.Frame], int] = {f.Dial: 0, f.Collateral: 0, f.Listening: 0, f.Mark: 0}
        self._left = 0
        """Bytes of the launch or file that are still to come."""
        self._closed = False

    # ---- in

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes of the other end; give what they say.

        Raises:
            Violation: a ParseError: they are not what the other end may say now. The machine is dead.
        """
        if self._fault is not None:
            raise self._fault
        if self._deaf():
            return []
        held = self._in
        held += data
        events: list[Event] = []
        at, size = 0, len(held)
        try:
            while at < size:
                if self.state is S.ENDED:
                    if self._deaf():
                        at = size
                        break
                    raise ParseError("sallyport: guest: expected nothing after its last word, got more")
                kind = self._kind(held[at])
                if size - at < f.HEADER:
                    break
                length = int.from_bytes(held[at + 1 : at + f.HEADER], "little")
                if not kind.LEAST <= length <= kind.MOST:
                    expected = f"{kind.LEAST} to {kind.MOST} bytes"
                    raise ParseError(f"sallyport: {kind.__name__}: expected {expected}, got {length}")
                if size - at - f.HEADER < length:
                    break
                start = at + f.HEADER
                at = start + length
                frame = f.decode(kind, bytes(held[start:at]))
                self.state = self.TAKES[self.state][kind]
                self._received(frame, events)
        except ParseError as error:
            self._fault = Violation(error.message, events)
            self._break()
            raise self._fault from None
        del held[:at]
        return events

    def eof(self) -> list[Event]:
        """The other end has closed: an event, unless the session was over or this was said before."""
        if self.over:
            return []
        self._closed = True
        was, self.state = self.state, S.BROKEN
        self._in.clear()
        self._drop()
        return [Lost(was)]

    def _deaf(self) -> bool:
        """Whether what comes is dropped."""
        return self._closed

    def _kind(self, number: int) -> type[f.Frame]:
        kind = f.TYPES.get(number)
        allowed = self.TAKES[self.state]
        if kind is None or kind not in allowed:
            got = f"type {number:#04x}" if kind is None else kind.__name__
            names = ", ".join(one.__name__ for one in allowed) or "nothing"
            place = f"{self.THEM} while {self.state.value}"
            raise ParseError(f"sallyport: {place}: expected {names}, got {got}")
        return kind

    def _common(self, frame: f.Frame, events: list[Event]) -> bool:
        """Streams: the same on both sides. False: it is another frame."""
        if isinstance(frame, f.Stdin | f.Stdout | f.Stderr):
            number = frame.TYPE - f.Stdin.TYPE if frame.TYPE == f.Stdin.TYPE else frame.TYPE - f.Stdout.TYPE + 1
            stream, size = self._streams[number], len(frame.data)
            if stream.ended:
                raise ParseError(f"sallyport: {type(frame).__name__}: expected nothing after End, got {size} bytes")
            self._spend(stream, size, type(frame).__name__)
            if not stream.gone:
                stream.held += size
                events.append(frame)
        elif isinstance(frame, f.Credit):
            stream = self._streams[frame.stream]
            if frame.stream not in self.WRITES or (frame.stream != LOGS and self.state is not S.RUNNING):
                raise ParseError(
                    f"sallyport: Credit.stream: expected one that the {self.US} writes, got {frame.stream}"
                )
            stream.credit += frame.size
            if stream.credit > stream.window:
                got = f"{stream.credit} with what was left"
                raise ParseError(f"sallyport: Credit.size: expected at most {stream.window} bytes, got {got}")
        elif isinstance(frame, f.End):
            if frame.stream in self.WRITES or self._streams[frame.stream].ended:
                raise ParseError(f"sallyport: End.stream: expected one that is open, got {frame.stream}")
            self._streams[frame.stream].ended = True
            if not self._streams[frame.stream].gone:
                events.append(frame)
        elif isinstance(frame, f.Gone):
            if frame.stream not in self.WRITES or self._streams[frame.stream].gone:
                raise ParseError(f"sallyport: Gone.stream: expected one that is read, got {frame.stream}")
            self._streams[frame.stream].gone = True
            events.append(frame)
        else:
            return False
        return True

    def _spend(self, stream: Stream, size: int, name: str) -> None:
        """The other end has used its credit."""
        if size > stream.credit:
            raise ParseError(f"sallyport: {name}: expected at most {stream.credit} bytes of credit, got {size}")
        stream.credit -= size

    def _next(self, frame: f.Collateral | f.Dial | f.Listening) -> None:
        """Numbers count up from 1: none is given twice."""
        kind = type(frame)
        self._counts[kind] += 1
        if frame.id != self._counts[kind]:
            raise ParseError(f"sallyport: {kind.__name__}.id: expected {self._counts[kind]}, got {frame.id}")

    # ---- out

    @property
    def pending(self) -> bool:
        """Is there something to take?"""
        return bool(self._rest or self._small or self._bulk or self._due())

    @property
    def backlog(self) -> int:
        """Bytes that wait to be taken, without files and collateral, which are cut from what the caller holds."""
        return self._backlog + len(self._rest)

    @property
    def congested(self) -> bool:
        """The other end does not read: feed no more, and take on nothing that will have to be told."""
        return self.backlog > CONGESTED

    def take(self, limit: int = 1 << 16) -> bytes:
        """Give up to `limit` bytes to be written; nothing when there is nothing."""
        parts = [self._rest] if self._rest else []
        size = len(self._rest)
        while size < limit:
            made = self._next_out()
            if made is None:
                break
            parts.append(made)
            size += len(made)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._rest = whole[limit:]
        return whole[:limit] if self._rest else whole

    def discard(self) -> None:
        """Nothing arrives at the other end any more: forget what was to be taken."""
        self._rest = b""
        self._drop()

    @property
    def over(self) -> bool:
        """Whether the session is: what is sent then goes nowhere, and is no mistake, as the end crosses with much."""
        return self._closed or self.state in (S.ENDED, S.BROKEN)

    def _next_out(self) -> bytes | None:
        """The next frame."""
        for number in self._due():
            stream = self._streams[number]
            size, stream.owed = stream.owed, 0
            stream.credit += size
            return f.Credit(stream=number, size=size).encode()
        self._turn = not self._turn
        if self._small and (self._turn or not self._bulk):
            made = self._small.popleft()
            self._backlog -= len(made)
            return made
        while self._bulk:
            for made in self._bulk[0]:
                return made
            self._bulk.popleft()
        return self._next_out() if self._small else None

    def _due(self) -> tuple[int, ...]:
        """Streams whose writer is to get credit: half a window is worth a frame."""
        if self.state in (S.ENDED, S.BROKEN):
            return ()
        return tuple(
            number
            for number, stream in enumerate(self._streams)
            if stream.owed >= stream.window // 2 and not stream.ended and not stream.gone
        )

    def _send(self, frame: f.Frame) -> None:
        made = frame.encode()
        self._move(type(frame))
        self._small.append(made)
        self._backlog += len(made)

    def _may(self, kind: type[f.Frame]) -> None:
        if kind not in self.SENDS[self.state]:
            raise BugError(f"sallyport: the {self.US} sends no {kind.__name__} while {self.state.value}")

    def _move(self, kind: type[f.Frame]) -> None:
        self._may(kind)
        self.state = self.SENDS[self.state][kind]

    def _drop(self) -> None:
        """Nothing more goes out, but for the rest of a frame that was begun."""
        self._small.clear()
        self._bulk.clear()
        self._backlog = 0

    def _break(self) -> None:
        self.state = S.BROKEN
        self._in.clear()
        self._drop()

    # ---- streams

    def room(self, stream: int) -> int:
        """Bytes that `write` takes now."""
        if stream not in self.WRITES or self.state is not S.RUNNING:
            return 0
        found = self._streams[stream]
        if found.ended:
            return 0
        if found.gone:
            return WINDOW
        return max(0, min(found.credit, ROOM - self.backlog))

    def write(self, stream: int, data: bytes | bytearray | memoryview) -> int:
        """Send bytes of a stream.

        Returns:
            How many were taken: as many as there is `room` for; all when nobody reads the stream any more.
        """
        found = self._streams[stream]
        if found.gone and self.state is S.RUNNING:
            return len(data)
        view = memoryview(data)[: self.room(stream)]
        kind: type[f.Stdin | f.Stdout | f.Stderr] = (f.Stdin, f.Stdout, f.Stderr)[stream]
        for at in range(0, len(view), PIECE):
            piece = bytes(view[at : at + PIECE])
            found.credit -= len(piece)
            self._send(kind(data=piece))
        return len(view)

    def end(self, stream: int) -> None:
        """Say that there is no more in a stream that this end writes; again: nothing."""
        found = self._streams[stream]
        if stream not in self.WRITES or stream == LOGS:
            raise BugError(f"sallyport: the {self.US} does not write stream {stream}")
        if self.over:
            return
        self._may(f.End)
        if not found.ended:
            found.ended = True
            self._send(f.End(stream=stream))

    def gone(self, stream: int) -> None:
        """Say that nobody reads a stream here any more; again, or after its end: nothing."""
        found = self._streams[stream]
        if stream in self.WRITES or stream == LOGS:
            raise BugError(f"sallyport: the {self.US} does not read stream {stream}")
        if self.over:
            return
        self._may(f.Gone)
        if not found.gone and not found.ended:
            found.gone = True
            found.held = 0
            self._send(f.Gone(stream=stream))

    def consumed(self, stream: int, size: int) -> None:
        """So many received bytes are out of memory: as many may come again."""
        found = self._streams[stream]
        if found.gone:
            return
        if not 0 <= size <= found.held:
            raise BugError(f"sallyport: stream {stream}: {size} bytes were consumed, and {found.held} are held")
        found.held -= size
        found.owed += size


class HostMachine(Machine):
    """The end outside, which must not believe the guest.

    Args:
        hello: what the guest said before a snapshot of it was taken; by default it has not greeted yet.
    """

    WRITES = (STDIN,)

    def __init__(self, hello: f.Hello | None = None) -> None:
        super().__init__()
        self._launching = self._starting = self._stopped = False
        if hello is not None:
            self.state = S.LAUNCHING

    def launch(self, descriptor: bytes, options: bytes) -> None:
        """Hand over what is to be launched."""
        self._may(f.Launch)
        if self._launching:
            raise BugError("sallyport: the launch was sent before")
        frame = f.Launch(version=f.VERSION, descriptor=len(descriptor), options=len(options))
        frame.payload()  # an error belongs to the caller
        self._launching = True
        self._bulk.append(self._pieces(frame, descriptor + options))

    def file(self, name: str, data: bytes | memoryview) -> None:
        """Hand over a file; `data` is held until all of it was taken."""
        if self.state not in (S.HANDOVER, S.RECEIVING) or self._starting:
            raise BugError(f"sallyport: the host sends no File while {self.state.value}")
        frame = f.File(name=name, size=len(data), digest=sha256(data))
        frame.payload()
        self._bulk.append(self._pieces(frame, data))

    def start(self) -> None:
        """That was the last file."""
        if self.state not in (S.HANDOVER, S.RECEIVING) or self._starting:
            raise BugError(f"sallyport: the host sends no Start while {self.state.value}")
        self._starting = True
        self._bulk.append(self._pieces(f.Start(), b""))

    def _pieces(self, frame: f.Frame, data: bytes | memoryview) -> Iterator[bytes]:
        """The frames of the launch, of a file, of the start. The state moves as they are taken, not before."""
        self._move(type(frame))
        if not data and self.state in END:
            self.state = END[self.state]
        yield frame.encode()
        view = memoryview(data)
        for at in range(0, len(view), PIECE):
            made = f.Chunk(data=bytes(view[at : at + PIECE])).encode()
            if at + PIECE >= len(view):
                self.state = END[self.state]
            yield made

    def reply(self, id: int, data: bytes) -> None:  # noqa: A002
        """Give what was asked for; `data` is held until all of it was taken."""
        if not self._asked(id, self._requests, f.CollateralReply):
            return
        frame = f.CollateralReply(id=id, size=len(data))
        frame.payload()
        self._bulk.append(self._answer(frame, data))

    def collateral_failed(self, id: int, message: str) -> None:  # noqa: A002
        """Say why there is none."""
        if not self._asked(id, self._requests, f.CollateralFailed):
            return
        frame = f.CollateralFailed(id=id, message=f.fit(message, f.MAX_MESSAGE, breaks=True))
        self._bulk.append(self._answer(frame, b""))

    def _answer(self, frame: f.CollateralReply | f.CollateralFailed, data: bytes) -> Iterator[bytes]:
        yield frame.encode()
        for at in range(0, len(data), PIECE):
            yield f.CollateralData(data=data[at : at + PIECE]).encode()
        self._requests.discard(~frame.id)  # only now may the guest have another

    def _asked(self, id: int, waiting: set[int], kind: type[f.Frame]) -> bool:  # noqa: A002
        """Whether the guest still waits for this answer; False: the session is over."""
        if self.over:
            return False
        self._may(kind)
        if id not in waiting:
            raise BugError(f"sallyport: the guest waits for no answer {id}")
        waiting.discard(id)
        if waiting is self._requests:
            waiting.add(~id)  # answered, and not read yet
        return True

    def dialed(self, id: int, source_port: int) -> None:  # noqa: A002
        """The connection comes in at the gate from that port."""
        if self._asked(id, self._dials, f.Dialed):
            self._send(f.Dialed(id=id, source_port=source_port))

    def dial_failed(self, id: int, error: DonjonError) -> None:  # noqa: A002
        """There is no connection."""
        if self._asked(id, self._dials, f.DialFailed):
            family, message, hint = _told(error)
            self._send(f.DialFailed(id=id, family=family, message=message, hint=hint))

    def bound(self, id: int, host: str, port: int) -> None:  # noqa: A002
        """The host listens there."""
        if self._asked(id, self._binds, f.Bound):
            self._send(f.Bound(id=id, host=host, port=port))

    def bind_failed(self, id: int, error: DonjonError) -> None:  # noqa: A002
        """It cannot."""
        if self._asked(id, self._binds, f.BindFailed):
            family, message, hint = _told(error)
            self._send(f.BindFailed(id=id, family=family, message=message, hint=hint))

    def peer(self, guest_port: int, source_port: int, host: str, port: int) -> None:
        """Say who a connection is from that comes to `guest_port`, from `source_port`."""
        if not self.over:
            self._send(f.Peer(guest_port=guest_port, source_port=source_port, host=host, port=port))

    def stop(self) -> None:
        """Ask for the end; again, or after it: nothing. Before the greeting there is nobody to ask: end the machine."""
        if not self._stopped and f.Stop in self.SENDS[self.state]:
            self._stopped = True
            self._send(f.Stop())

    def _received(self, frame: f.Frame, events: list[Event]) -> None:
        if self._common(frame, events):
            return
        if isinstance(frame, f.Hello):
            if f.VERSION not in frame.versions:
                spoken = ", ".join(map(str, frame.versions))
                raise ParseError(f"sallyport: Hello.versions: expected {f.VERSION} among them, got {spoken}")
        elif isinstance(frame, f.Log):
            stream, size = self._streams[LOGS], f.HEADER + len(frame.payload())
            self._spend(stream, size, "Log")
            stream.owed += size
        elif isinstance(frame, f.Mark):
            self._counts[f.Mark] += 1
            if self._counts[f.Mark] > MARKS:
                raise ParseError(f"sallyport: Mark: expected at most {MARKS}, got one more")
        elif isinstance(frame, f.Collateral):
            self._next(frame)
            self._wait(frame, self._requests, REQUESTS)
        elif isinstance(frame, f.Dial):
            self._next(frame)
            self._wait(frame, self._dials, DIALS)
        elif isinstance(frame, f.Listening):
            self._next(frame)
            if frame.id > LISTENERS:
                raise ParseError(f"sallyport: Listening.id: expected at most {LISTENERS}, got {frame.id}")
            self._binds.add(frame.id)
        elif isinstance(frame, LAST):
            self._drop()
        events.append(frame)

    def _wait(self, frame: f.Collateral | f.Dial, waiting: set[int], most: int) -> None:
        if len(waiting) >= most:
            raise ParseError(
                f"sallyport: {type(frame).__name__}: expected at most {most} without an answer, got one more"
            )
        waiting.add(frame.id)


class GuestMachine(Machine):
    """The end inside, which must not believe the host.

    Args:
        most_files, most_bytes: of all files together that it takes.
    """

    SENDS, TAKES = GUEST, HOST
    WRITES = (STDOUT, STDERR, LOGS)
    US, THEM = "guest", "host"

    def __init__(self, most_files: int = 128, most_bytes: int = 128 << 20) -> None:
        super().__init__()
        self._most_files, self._most_bytes = most_files, most_bytes
        self._launch = f.Launch(version=f.VERSION, descriptor=1, options=1)
        self._launched = bytearray()
        self._files: set[str] = set()
        self._file = f.File(name="none", size=0, digest=bytes(32))
        self._hash = new("sha256", 0)
        self._stopped = False
        self._reply: f.CollateralReply | None = None
        self._fetched = bytearray()
        self._ports: set[int] = set()
        self._dropped = 0

    def hello(self, variant: str, image: bytes = b"") -> None:
        """Greet: the variant of the image, and its digest where it is known."""
        self._send(f.Hello(versions=(f.VERSION,), variant=variant, image=image or bytes(32)))

    def accept(self) -> None:
        """The descriptor is as it must be."""
        self._send(f.Accept())

    def refuse(self, error: DonjonError) -> None:
        """It is not: the last word."""
        family, message, hint = _told(error)
        self._send(f.Refuse(family=family, message=message, hint=hint))

    def started(self) -> None:
        """The workload runs."""
        self._send(f.Started())

    def log(self, level: int, target: str, message: str) -> None:
        """Send a record. Where there is no credit, or none may be sent, it is dropped; a later one says how many."""
        if f.Log not in self.SENDS[self.state]:
            return
        if self._dropped and self._record(
            WARN, "donjon.keep", f"{self._dropped} messages dropped: nobody read them in time"
        ):
            self._dropped = 0
        if self._dropped or not self._record(level, target, message):
            self._dropped += 1

    def _record(self, level: int, target: str, message: str) -> bool:
        level = min(max(level, 1), 5)
        frame = f.Log(level=level, target=f.fit(target, 128) or "donjon", message=f.fit(message, f.MAX_MESSAGE))
        stream, size = self._streams[LOGS], f.HEADER + len(frame.payload())
        if size > min(stream.credit, ROOM - self.backlog):
            return False
        stream.credit -= size
        self._send(frame)
        return True

    def mark(self, name: str, nanoseconds: int) -> None:
        """Send a moment; after MARKS of them nothing."""
        if self._counts[f.Mark] < MARKS and f.Mark in self.SENDS[self.state]:
            self._counts[f.Mark] += 1
            self._send(f.Mark(name=name, nanoseconds=nanoseconds))

    def collateral(self, request: str) -> int:
        """Ask the host to fetch something.

        Returns:
            The number that the answer will have.
        Raises:
            UsageError: too many are unanswered.
        """
        self._may(f.Collateral)
        if len(self._requests) >= REQUESTS:
            raise UsageError(f"sallyport: expected at most {REQUESTS} requests without an answer, got one more")
        number = self._counts[f.Collateral] + 1
        self._send(f.Collateral(id=number, request=request))
        self._counts[f.Collateral] = number
        self._requests.add(number)
        return number

    def dial(self, host: str, port: int) -> int:
        """Ask for a connection out.

        Returns:
            The number that the answer will have.
        Raises:
            PlatformError: too many are unanswered.
        """
        self._may(f.Dial)
        if len(self._dials) >= DIALS:
            raise PlatformError(f"cannot connect to {host}:{port}: {DIALS} other connections are being made")
        number = self._counts[f.Dial] + 1
        self._send(f.Dial(id=number, host=host, port=port))
        self._counts[f.Dial] = number
        self._dials.add(number)
        return number

    def listening(self, name: str, prot: str, host: str, port: int, guest_port: int) -> int:
        """Ask the host to listen for a listener of ours.

        Returns:
            The number that the answer will have.
        """
        number = self._counts[f.Listening] + 1
        if number > LISTENERS:
            raise UsageError(f"sallyport: expected at most {LISTENERS} listeners, got one more")
        name = f.fit(name, f.MAX_NAME)
        self._send(f.Listening(id=number, name=name, prot=prot, host=host, port=port, guest_port=guest_port))
        self._counts[f.Listening] = number
        self._binds.add(number)
        self._ports.add(guest_port)
        return number

    def exit(self, code: int) -> None:
        """The workload has ended: the last word, behind all that was written."""
        self._send(f.Exit(code=code))

    def trap(self, error: TrapError) -> None:
        """It trapped: the last word."""
        _, message, hint = _told(error)
        functions = tuple(f.fit(one, 512) for one in error.frames[: f.MAX_FRAMES])
        self._send(f.Trap(message=message, code=f.fit(error.code, 128), frames=functions, hint=hint))

    def fail(self, error: BaseException) -> None:
        """The Keep failed: the last word, in any state, also when the host is at fault; after another one nothing."""
        if self.state is S.ENDED or self._closed:
            return
        family, message, hint = _told(error)
        if self.state is S.BROKEN:
            self._small.append(f.Failed(family=family, message=message, hint=hint).encode())
            self._backlog += len(self._small[-1])
            self.state = S.ENDED
            return
        self._send(f.Failed(family=family, message=message, hint=hint))

    def _deaf(self) -> bool:
        return self._closed or self.state is S.ENDED

    def _received(self, frame: f.Frame, events: list[Event]) -> None:
        if self._common(frame, events):
            return
        if isinstance(frame, f.Launch):
            if frame.version != f.VERSION:
                raise ParseError(f"sallyport: Launch.version: expected {f.VERSION}, got {frame.version}")
            self._launch = frame
            self._left = frame.descriptor + frame.options
        elif isinstance(frame, f.File):
            self._begin(frame)
            events.append(frame)
            if not frame.size:
                self._complete(events)
        elif isinstance(frame, f.Chunk):
            if len(frame.data) > self._left:
                raise ParseError(f"sallyport: Chunk: expected at most {self._left} bytes, got {len(frame.data)}")
            self._left -= len(frame.data)
            if self.state is S.RECEIVING:
                self._hash.update(frame.data)
                events.append(frame)
            else:
                self._launched += frame.data
            if not self._left:
                self._complete(events)
        elif isinstance(frame, f.Stop):
            if self._stopped:
                raise ParseError("sallyport: Stop: expected one, got another")
            self._stopped = True
            events.append(frame)
        elif isinstance(frame, f.CollateralReply | f.CollateralFailed | f.CollateralData):
            self._collateral(frame, events)
        elif isinstance(frame, f.Dialed | f.DialFailed):
            self._answered(frame.id, self._dials, frame)
            events.append(frame)
        elif isinstance(frame, f.Bound | f.BindFailed):
            self._answered(frame.id, self._binds, frame)
            events.append(frame)
        else:
            if isinstance(frame, f.Peer) and frame.guest_port not in self._ports:
                raise ParseError(f"sallyport: Peer.guest_port: expected that of a listener, got {frame.guest_port}")
            events.append(frame)

    def _begin(self, frame: f.File) -> None:
        if frame.name in self._files:
            raise ParseError(f'sallyport: File.name: expected another than "{frame.name}", which came before')
        if len(self._files) >= self._most_files:
            raise ParseError(f"sallyport: File: expected at most {self._most_files}, got one more")
        if frame.size > self._most_bytes:
            raise ParseError(f"sallyport: File.size: expected at most {self._most_bytes} bytes, got {frame.size}")
        self._most_bytes -= frame.size
        self._files.add(frame.name)
        self._file, self._left = frame, frame.size
        self._hash = new("sha256", frame.size)

    def _complete(self, events: list[Event]) -> None:
        """The launch or a file is all there."""
        if self.state is S.DESCRIBING:
            data, cut = bytes(self._launched), self._launch.descriptor
            self._launched.clear()
            events.append(Launched(self._launch.version, data[:cut], data[cut:]))
        else:
            found = self._hash.digest()
            if found != self._file.digest:
                place = f'sallyport: file "{self._file.name}"'
                raise ParseError(f"{place}: expected SHA-256 {self._file.digest.hex()}, got {found.hex()}")
            events.append(FileDone(self._file.name))
        self.state = END[self.state]

    def _collateral(
        self, frame: f.CollateralReply | f.CollateralFailed | f.CollateralData, events: list[Event]
    ) -> None:
        if isinstance(frame, f.CollateralFailed):
            self._answered(frame.id, self._requests, frame)
            events.append(frame)
            return
        if isinstance(frame, f.CollateralReply):
            if self._reply is not None:
                raise ParseError(
                    f"sallyport: CollateralReply: expected the rest of {self._reply.id} first, got {frame.id}"
                )
            self._answered(frame.id, self._requests, frame)
            self._reply = frame
        else:
            left = 0 if self._reply is None else self._reply.size - len(self._fetched)
            if len(frame.data) > left:
                raise ParseError(f"sallyport: CollateralData: expected at most {left} bytes, got {len(frame.data)}")
            self._fetched += frame.data
        if self._reply is not None and len(self._fetched) == self._reply.size:
            events.append(Fetched(self._reply.id, bytes(self._fetched)))
            self._reply = None
            self._fetched.clear()

    def _answered(self, id: int, waiting: set[int], frame: f.Frame) -> None:  # noqa: A002
        if id not in waiting:
            raise ParseError(f"sallyport: {type(frame).__name__}.id: expected one that was asked for, got {id}")
        waiting.discard(id)


def _told(error: BaseException) -> tuple[str, str, str]:
    """Family, message and hint, as frames have them."""
    if not isinstance(error, DonjonError):
        error = BugError(f"internal error: {type(error).__name__}: {error}")
    family = next(kind.__name__ for kind in type(error).__mro__ if f.FAMILIES.get(kind.__name__) is kind)
    message = f.fit(error.message, f.MAX_MESSAGE, breaks=True)
    return family, message, f.fit(error.hint or "", f.MAX_HINT, breaks=True)
