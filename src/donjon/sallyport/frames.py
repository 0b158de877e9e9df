"""The frames of the sallyport: what each holds, how long it may be, and its bytes.

    type u8, length u32, payload        numbers are little-endian; at most MAX_PAYLOAD bytes of payload

A class is a frame, a line in it a field, in the order of the bytes. Reading and writing follow the table, so what could
not be read is not written either. Text has its length before it (u16, bytes of UTF-8); `line` is printable, `text` has
line breaks too: both may be shown on a terminal as they are. `rest` is the remainder of the payload.

No frame holds another, so nothing recurses, and all limits are known from the type alone: a length is judged before one
byte of the payload is awaited. Types below 0x40 are the host's, the others the guest's.

Why neither msgspec nor `donjon.wire`: the guest reads this module at each start, on a processor that may be emulated.
There `donjon.wire` takes 24 ms of a fast machine (dataclasses, inspect, typing) and this module 1.
"""

from __future__ import annotations

from donjon import errors
from donjon.errors import ParseError, UsageError
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, dataclass_transform
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


__all__ = [
    "FAMILIES", "HEADER", "MAX_PAYLOAD", "TYPES", "VERSION", "Accept", "BindFailed", "Bound", "Chunk", "Collateral",
    "CollateralData", "CollateralFailed", "CollateralReply", "Credit", "Dial", "DialFailed", "Dialed", "End", "Exit",
    "Failed", "File", "Frame", "Gone", "Hello", "Launch", "Listening", "Log", "Mark", "Peer", "Refuse", "Start",
    "Started", "Stderr", "Stdin", "Stdout", "Stop", "Trap", "decode", "fit",
]  # fmt: skip

VERSION = 1
"""Of everything but the header, Hello and Refuse, which stay as they are."""
HEADER = 5
"""Bytes before the payload."""
MAX_PAYLOAD = 1 << 16
MAX_NAME = 4096
"""Bytes of a name in Enarx.toml."""
MAX_HOST = 1024
"""Bytes of an address or host name, as Enarx.toml may have it."""
MAX_MESSAGE = 8192
MAX_HINT = 2048
MAX_FRAMES = 64
"""Functions in a trap."""

FAMILIES: dict[str, type[errors.DonjonError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.DonjonError) and kind is not errors.DonjonError
}
"""Whose fault it is, by name."""


class Field:
    """One field: how it is read and written."""

    least: int
    most: int
    """Bytes on the wire."""
    read: Callable[[bytes, int], tuple[Any, int]]
    """The value that begins at a place, and where the next begins; ValueError(expected, got) if it is none."""
    write: Callable[[Any], bytes]
    """The bytes of a value; ValueError(expected, got) if it has none."""


class Number(Field):
    """A number without sign, between two others."""

    def __init__(self, size: int, low: int, high: int | None) -> None:
        self.size = self.least = self.most = size
        self.low = low
        self.high = (1 << (8 * size)) - 1 if high is None else high

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        end = at + self.size
        if end > len(data):
            raise ValueError(f"{self.size} bytes", f"{len(data) - at}")
        value = int.from_bytes(data[at:end], "little")
        self._check(value)
        return value, end

    def write(self, value: Any) -> bytes:
        self._check(value)
        made: bytes = value.to_bytes(self.size, "little")
        return made

    def _check(self, value: int) -> None:
        if not self.low <= value <= self.high:
            raise ValueError(f"a number from {self.low} to {self.high}", f"{value}")


class Raw(Field):
    """Bytes of a fixed size."""

    def __init__(self, size: int) -> None:
        self.least = self.most = size

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        end = at + self.most
        if end > len(data):
            raise ValueError(f"{self.most} bytes", f"{len(data) - at}")
        return data[at:end], end

    def write(self, value: Any) -> bytes:
        if len(value) != self.most:
            raise ValueError(f"{self.most} bytes", f"{len(value)}")
        return bytes(value)


class Rest(Field):
    """All bytes that follow."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        self._check(len(data) - at)
        return data[at:], len(data)

    def write(self, value: Any) -> bytes:
        self._check(len(value))
        return bytes(value)

    def _check(self, size: int) -> None:
        if not self.least <= size <= self.most:
            raise ValueError(f"{self.least} to {self.most} bytes", f"{size}")


class Words(Field):
    """Text of `shortest` to `longest` bytes, or one of the words in `only`."""

    def __init__(self, shortest: int, longest: int, breaks: bool, only: tuple[str, ...] | None = None) -> None:
        self.shortest, self.longest, self.breaks, self.only = shortest, longest, breaks, only
        self.least, self.most = 2 + shortest, 2 + longest

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        start = at + 2
        if start > len(data):
            raise ValueError("a length of 2 bytes", f"{len(data) - at}")
        size = int.from_bytes(data[at:start], "little")
        end = start + size
        if not self.shortest <= size <= self.longest:
            raise ValueError(f"text of {self.shortest} to {self.longest} bytes", f"{size}")
        if end > len(data):
            raise ValueError(f"{size} bytes", f"{len(data) - start}")
        raw = data[start:end]
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError("UTF-8", raw[error.start : error.start + 8].hex()) from None
        self._check(value)
        return value, end

    def write(self, value: Any) -> bytes:
        try:
            raw: bytes = value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("text that UTF-8 can hold", ascii(value[:20])) from None
        if not self.shortest <= len(raw) <= self.longest:
            raise ValueError(f"text of {self.shortest} to {self.longest} bytes", f"{len(raw)}")
        self._check(value)
        return len(raw).to_bytes(2, "little") + raw

    def _check(self, value: str) -> None:
        plain = value.replace("\n", "") if self.breaks else value
        if not plain.isprintable():
            found = next(character for character in plain if not character.isprintable())
            raise ValueError("printable text", ascii(found))
        if self.only is not None and value not in self.only:
            raise ValueError(f"one of {', '.join(self.only)}", f'"{value[:20]}"')


class Several(Field):
    """A count of one byte, and so many fields of one kind, as a tuple."""

    def __init__(self, field: Field, least: int, most: int) -> None:
        self.field, self.fewest, self.top = field, least, most
        self.least, self.most = 1 + least * field.least, 1 + most * field.most

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        if at >= len(data):
            raise ValueError("a count of 1 byte", "0")
        count = data[at]
        self._check(count)
        at += 1
        found = []
        for _ in range(count):
            value, at = self.field.read(data, at)
            found.append(value)
        return tuple(found), at

    def write(self, value: Any) -> bytes:
        self._check(len(value))
        return bytes((len(value),)) + b"".join(map(self.field.write, value))

    def _check(self, count: int) -> None:
        if not self.fewest <= count <= self.top:
            raise ValueError(f"{self.fewest} to {self.top} of them", f"{count}")


# What stands in the tables. They return a Field; the types that they claim are those of the values.


def u8(low: int = 0, high: int | None = None) -> Any:
    """A number of one byte."""
    return Number(1, low, high)


def u16(low: int = 0, high: int | None = None) -> Any:
    """A number of two bytes."""
    return Number(2, low, high)


def u32(low: int = 0, high: int | None = None) -> Any:
    """A number of four bytes."""
    return Number(4, low, high)


def u64(low: int = 0, high: int | None = None) -> Any:
    """A number of eight bytes."""
    return Number(8, low, high)


def raw(size: int) -> Any:
    """Bytes of a fixed size."""
    return Raw(size)


def rest(least: int = 1, most: int = MAX_PAYLOAD) -> Any:
    """All bytes that follow."""
    return Rest(least, most)


def line(longest: int, shortest: int = 1) -> Any:
    """Printable text without line breaks."""
    return Words(shortest, longest, breaks=False)


def word(*only: str) -> Any:
    """One of some words."""
    return Words(1, max(map(len, only)), breaks=False, only=only)


def text(longest: int) -> Any:
    """Printable text, also of several lines, also of none."""
    return Words(0, longest, breaks=True)


def several(field: Any, most: int, least: int = 0) -> Any:
    """A tuple."""
    return Several(field, least, most)


@dataclass_transform(
    eq_default=True, frozen_default=True, field_specifiers=(u8, u16, u32, u64, raw, rest, line, word, text, several)
)
class Frame:
    """The root of the frames. Values compare by content and print as the call that makes them."""

    TYPE: ClassVar[int] = 0
    FIELDS: ClassVar[dict[str, Field]] = {}
    LEAST: ClassVar[int] = 0
    MOST: ClassVar[int] = 0

    def __init_subclass__(cls, number: int | None = None) -> None:
        cls.FIELDS = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        if number is None:
            return
        cls.TYPE = number
        cls.LEAST = sum(field.least for field in cls.FIELDS.values())
        cls.MOST = min(sum(field.most for field in cls.FIELDS.values()), MAX_PAYLOAD)
        TYPES[number] = cls

    if not TYPE_CHECKING:  # checkers make one with types from the table

        def __init__(self, *values: object, **named: object) -> None:
            given = dict(zip(self.FIELDS, values), **named)  # noqa: B905 - the next line sees what is too many
            if len(given) != len(self.FIELDS) or len(values) > len(given) or given.keys() != self.FIELDS.keys():
                raise TypeError(f"{type(self).__name__} takes {', '.join(self.FIELDS) or 'nothing'}")
            self.__dict__.update(given)

    def payload(self) -> bytes:
        """The bytes after the header.

        Raises:
            UsageError: a field holds what it may not.
        """
        parts = []
        for name, field in self.FIELDS.items():
            try:
                parts.append(field.write(getattr(self, name)))
            except ValueError as error:
                expected, got = error.args
                place = f"{type(self).__name__}.{name}"
                raise UsageError(f"sallyport: {place}: expected {expected}, got {got}") from None
        made = b"".join(parts)
        if len(made) > self.MOST:
            raise UsageError(f"sallyport: {type(self).__name__}: expected at most {self.MOST} bytes, got {len(made)}")
        return made

    def encode(self) -> bytes:
        """The whole frame."""
        made = self.payload()
        return b"%c%b%b" % (self.TYPE, len(made).to_bytes(4, "little"), made)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


TYPES: dict[int, type[Frame]] = {}
"""Number → frame."""


def decode(kind: type[Frame], payload: bytes) -> Frame:
    """Read a payload.

    Raises:
        ParseError: a field is not what it must be, or bytes are left over; the text has its place.
    """
    at = 0
    made = kind.__new__(kind)
    values = made.__dict__
    for name, field in kind.FIELDS.items():
        try:
            values[name], at = field.read(payload, at)
        except ValueError as error:
            expected, got = error.args
            place = f"{kind.__name__}.{name} at {at:#05x}"
            raise ParseError(f"sallyport: {place}: expected {expected}, got {got}") from None
    if at != len(payload):
        place = f"{kind.__name__}.end at {at:#05x}"
        raise ParseError(f"sallyport: {place}: expected no more bytes, got {len(payload) - at}")
    return made


def fit(words: str, most: int, breaks: bool = False) -> str:
    """A text as a frame may have it: escaped where it is not printable, and cut to `most` bytes."""
    parts = words[:most].split("\n") if breaks else [words[:most]]
    made = "\n".join(map(printable, parts))
    return made.encode("utf-8")[:most].decode("utf-8", "ignore")


class Telling(Frame):
    """A frame that tells of an error: `family`, `message` and `hint` are those of donjon.errors."""

    def error(self) -> errors.DonjonError:
        """The error, as the one who had it would have raised it."""
        family, message, hint = (self.__dict__[name] for name in ("family", "message", "hint"))
        return FAMILIES[family](message, hint or None)


# ---- the host's


class Launch(Frame, number=0x01):
    """What to launch follows: so many bytes of Chunk, the descriptor first."""

    version: int = u8(1)
    descriptor: int = u32(1, 1 << 20)
    options: int = u32(1, 1 << 20)


class Chunk(Frame, number=0x02):
    """Bytes of the launch or of a file."""

    data: bytes = rest()


class File(Frame, number=0x03):
    """A file follows: its name (no path: a key), its size and its SHA-256."""

    name: str = line(MAX_NAME)
    size: int = u64()
    digest: bytes = raw(32)


class Start(Frame, number=0x04):
    """That was the last file."""


class Stdin(Frame, number=0x05):
    """Bytes for the guest."""

    data: bytes = rest()


class CollateralReply(Frame, number=0x06):
    """What was asked for follows, as `size` bytes of CollateralData."""

    id: int = u32()
    size: int = u32(0, 1 << 20)


class CollateralData(Frame, number=0x07):
    """Bytes of what was asked for."""

    data: bytes = rest()


class CollateralFailed(Frame, number=0x08):
    """There is none, and why."""

    id: int = u32()
    message: str = text(MAX_MESSAGE)


class Dialed(Frame, number=0x09):
    """The connection comes in at the gate, from this port."""

    id: int = u32()
    source_port: int = u16(1)


class DialFailed(Telling, number=0x0A):
    """There is no connection, and why."""

    id: int = u32()
    family: str = word(*FAMILIES)
    message: str = text(MAX_MESSAGE)
    hint: str = text(MAX_HINT)


class Bound(Frame, number=0x0B):
    """The host listens there."""

    id: int = u32()
    host: str = line(MAX_HOST)
    port: int = u16(1)


class BindFailed(Telling, number=0x0C):
    """It cannot listen, and why."""

    id: int = u32()
    family: str = word(*FAMILIES)
    message: str = text(MAX_MESSAGE)
    hint: str = text(MAX_HINT)


class Peer(Frame, number=0x0D):
    """A connection that comes to `guest_port` from `source_port` is in truth from `host` and `port`."""

    guest_port: int = u16(1)
    source_port: int = u16(1)
    host: str = line(MAX_HOST)
    port: int = u16()


class Stop(Frame, number=0x0E):
    """End the workload."""


# ---- the guest's


class Hello(Frame, number=0x41):
    """The first frame of all: versions that the guest speaks, which image it is."""

    versions: tuple[int, ...] = several(u8(1), 16, 1)
    variant: str = line(64)
    image: bytes = raw(32)


class Accept(Frame, number=0x42):
    """The descriptor is the one that the hardware was launched with, or there is no such hardware."""


class Refuse(Telling, number=0x43):
    """It is not, and why. The last frame."""

    family: str = word(*FAMILIES)
    message: str = text(MAX_MESSAGE)
    hint: str = text(MAX_HINT)


class Started(Frame, number=0x44):
    """The workload runs: streams are open."""


class Stdout(Frame, number=0x45):
    """Bytes of the guest."""

    data: bytes = rest()


class Stderr(Frame, number=0x46):
    """Bytes of the guest."""

    data: bytes = rest()


class Log(Frame, number=0x47):
    """A record, level 1 (error) to 5 (trace)."""

    level: int = u8(1, 5)
    target: str = line(128)
    message: str = line(MAX_MESSAGE, 0)


class Mark(Frame, number=0x48):
    """A moment of the start, in nanoseconds of the guest's monotonic clock."""

    name: str = line(64)
    nanoseconds: int = u64()


class Collateral(Frame, number=0x49):
    """The guest asks for what it cannot fetch itself, and will verify."""

    id: int = u32()
    request: str = line(4096)


class Dial(Frame, number=0x4A):
    """A connection out is asked for."""

    id: int = u32()
    host: str = line(MAX_HOST)
    port: int = u16(1)


class Listening(Frame, number=0x4B):
    """The guest listens on `guest_port`; the host is to listen for it on `host` and `port`."""

    id: int = u32()
    name: str = line(MAX_NAME, 0)
    prot: str = line(16)
    host: str = line(MAX_HOST, 0)
    port: int = u16()
    guest_port: int = u16(1)


class Exit(Frame, number=0x4C):
    """The workload has ended by itself. A last frame."""

    code: int = u32()


class Trap(Telling, number=0x4D):
    """It trapped; `frames` are its functions, innermost first. A last frame."""

    message: str = text(MAX_MESSAGE)
    code: str = line(128, 0)
    frames: tuple[str, ...] = several(line(512, 0), MAX_FRAMES)
    hint: str = text(MAX_HINT)

    def error(self) -> errors.DonjonError:
        """The trap, as the one who had it would have raised it."""
        return errors.TrapError(self.message, self.code, self.frames, self.hint or None)


class Failed(Telling, number=0x4E):
    """It could not start, or the Keep failed, and why. A last frame."""

    family: str = word(*FAMILIES)
    message: str = text(MAX_MESSAGE)
    hint: str = text(MAX_HINT)


# ---- both


class Credit(Frame, number=0x80):
    """The reader of a stream takes so many bytes more: 0 stdin, 1 stdout, 2 stderr, 3 log records."""

    stream: int = u8(0, 3)
    size: int = u32(1)


class End(Frame, number=0x81):
    """The writer of a stream has no more."""

    stream: int = u8(0, 2)


class Gone(Frame, number=0x82):
    """The reader of a stream wants no more."""

    stream: int = u8(0, 2)
