"""Struct tables: one class is one table of a specification, one line one row, and the only place an offset is written.

    # fmt: off
    @layout(size=0x18, spec="EXAMPLE, table 3")
    class Header:
        version:     int   = u32(0x00, only=(1, 2))
        flags:       Flags = u32(0x04, Flags)                     # IntFlag: an unknown bit is an error
        hints:       Hints = u32(0x08, Hints, unknown="kept")     # IntFlag: unknown bits stay in the value
        kind:        Kind  = u16(0x0C, Kind)                      # IntEnum: an unknown value is an error
        reserved_0e        = zero(0x0E, 2)
        name:        bytes = raw(0x10, 8)
    # fmt: on

    header = unpack(Header, data)        # exactly 0x18 bytes, or ParseError
    pack(header) == data                 # also checks what it writes

The class becomes a frozen dataclass with keyword arguments. The rows have to cover the table without gap and overlap
and in order, else the import fails. A table that is a part of a larger one gives its `start`, so that its rows and its
errors have the larger one's offsets. `byteorder="big"` is for formats of the network.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Any, Literal, TypeVar, dataclass_transform

from donjon.errors import BugError, ParseError, UsageError

T = TypeVar("T")

_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row: where it is, how long, and what may stand there.

    Args:
        kind: an IntFlag or IntEnum that the number becomes; None leaves it as it is.
        unknown: whether bits that an IntFlag does not name are refused or kept in its value.
        only: the allowed values, if not all.
    """

    offset: int
    size: int
    number: bool
    zero: bool = False
    kind: type[IntEnum | IntFlag] | None = None
    unknown: Literal["refused", "kept"] = "refused"
    only: tuple[int, ...] | tuple[bytes, ...] | None = None


def u8(
    offset: int,
    kind: type[IntEnum | IntFlag] | None = None,
    *,
    only: tuple[int, ...] | None = None,
    unknown: Literal["refused", "kept"] = "refused",
) -> Any:
    """One byte, as a number."""
    return Row(offset, 1, True, kind=kind, only=only, unknown=unknown)


def u16(
    offset: int,
    kind: type[IntEnum | IntFlag] | None = None,
    *,
    only: tuple[int, ...] | None = None,
    unknown: Literal["refused", "kept"] = "refused",
) -> Any:
    """Two bytes, as a number."""
    return Row(offset, 2, True, kind=kind, only=only, unknown=unknown)


def u32(
    offset: int,
    kind: type[IntEnum | IntFlag] | None = None,
    *,
    only: tuple[int, ...] | None = None,
    unknown: Literal["refused", "kept"] = "refused",
) -> Any:
    """Four bytes, as a number."""
    return Row(offset, 4, True, kind=kind, only=only, unknown=unknown)


def u64(
    offset: int,
    kind: type[IntEnum | IntFlag] | None = None,
    *,
    only: tuple[int, ...] | None = None,
    unknown: Literal["refused", "kept"] = "refused",
) -> Any:
    """Eight bytes, as a number."""
    return Row(offset, 8, True, kind=kind, only=only, unknown=unknown)


def raw(offset: int, size: int, *, only: tuple[bytes, ...] | None = None) -> Any:
    """Bytes as they are; also for reserved rows that may hold anything."""
    return Row(offset, size, False, only=only)


def zero(offset: int, size: int) -> Any:
    """Bytes that have to be zero; the row has a name, but is no field of the value."""
    return Row(offset, size, False, zero=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """What `layout` has made of a class."""

    name: str
    start: int
    size: int
    spec: str
    byteorder: Literal["little", "big"]
    rows: Mapping[str, Row]
    struct: struct.Struct
    fields: tuple[str, ...]
    checked: tuple[tuple[str, int], ...]
    """Rows that need more than being read: name, and index of its value."""
    known: Mapping[str, int]
    """Bits that the IntFlag of a row names."""


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(u8, u16, u32, u64, raw), eq_default=True
)
def layout(
    *, size: int, spec: str, start: int = 0, byteorder: Literal["little", "big"] = "little"
) -> Callable[[type[T]], type[T]]:
    """Make a struct table of a class.

    Args:
        size: bytes from the first row to the end of the last.
        spec: short id of the document, and the table's name there.
        start: offset of the first row.
    Raises:
        BugError: a row is missing, overlaps another, reaches over the end, or has a field without a type.
    """

    def make(cls: type[T]) -> type[T]:
        rows = {name: value for name, value in vars(cls).items() if isinstance(value, Row)}
        _check_rows(cls.__name__, rows, start, size)
        for name, row in rows.items():
            if row.zero == (name in cls.__annotations__):
                raise BugError(f"{cls.__name__}.{name}: expected a type for each row but those of zero()")
            delattr(cls, name)
        form = {"little": "<", "big": ">"}[byteorder] + "".join(
            _CODES[row.size] if row.number else f"{row.size}s" for row in rows.values()
        )
        made = dataclasses.dataclass(frozen=True, kw_only=True, slots=True)(cls)
        made.__layout__ = Table(  # type: ignore[attr-defined]
            cls.__name__,
            start,
            size,
            spec,
            byteorder,
            rows,
            struct.Struct(form),
            tuple(name for name, row in rows.items() if not row.zero),
            tuple((name, index) for index, (name, row) in enumerate(rows.items()) if row.zero or row.kind or row.only),
            {name: _known_bits(row.kind) for name, row in rows.items() if row.kind and issubclass(row.kind, IntFlag)},
        )
        return made

    return make


def _check_rows(name: str, rows: Mapping[str, Row], start: int, size: int) -> None:
    """Refuse tables with gaps, overlaps or a wrong total."""
    at = start
    for row_name, row in rows.items():
        if row.offset != at:
            what = "a gap" if row.offset > at else "an overlap"
            raise BugError(f"{name}.{row_name} at {row.offset:#05x}: {what}, the row before ends at {at:#05x}")
        if row.size <= 0:
            raise BugError(f"{name}.{row_name} at {row.offset:#05x}: expected at least 1 byte, got {row.size}")
        at += row.size
    if at != start + size:
        raise BugError(f"{name}: expected rows up to {start + size:#05x}, they end at {at:#05x}")


def _known_bits(kind: type[IntEnum | IntFlag]) -> int:
    bits = 0
    for member in kind.__members__.values():
        bits |= int(member)
    return bits


def table_of(cls: type[object]) -> Table:
    """The table of a class that `layout` has made.

    Raises:
        BugError: it is no such class.
    """
    table = getattr(cls, "__layout__", None)
    if not isinstance(table, Table):
        raise BugError(f"{cls.__name__} is no layout")
    return table


def size_of(cls: type[object]) -> int:
    """Bytes of the table."""
    return table_of(cls).size


def offset_of(cls: type[object], row: str) -> int:
    """Where the row begins, counted as in the table."""
    return table_of(cls).rows[row].offset


def unpack(cls: type[T], data: bytes | memoryview) -> T:
    """Read a value from exactly its bytes.

    Raises:
        ParseError: too short, too long, or a row holds what it may not.
    """
    table = table_of(cls)
    if len(data) != table.size:
        raise ParseError(f"{table.name}: expected {table.size} bytes, got {len(data)}")
    return _read(cls, table, data, 0)


def unpack_part(cls: type[T], data: bytes | memoryview) -> T:
    """Read a part of the larger structure `data`, from the part's own start.

    Raises:
        ParseError: the structure ends before the part does, or a row holds what it may not.
    """
    table = table_of(cls)
    if len(data) < table.start + table.size:
        raise ParseError(f"{table.name}: expected bytes up to {table.start + table.size:#05x}, got {len(data):#05x}")
    return _read(cls, table, data, table.start)


def _read(cls: type[T], table: Table, data: bytes | memoryview, at: int) -> T:
    found = table.struct.unpack_from(data, at)
    values: dict[str, Any] = dict(zip(table.rows, found, strict=True))
    for name, index in table.checked:
        row = table.rows[name]
        values[name] = _checked(table, name, row, found[index])
        if row.zero:
            del values[name]
    return cls(**values)


def _checked(table: Table, name: str, row: Row, value: Any) -> Any:
    """The row's value, if it may be so."""
    if row.zero:
        if value.count(0) != row.size:
            raise ParseError(f"{_place(table, name, row)}: expected {row.size} zero bytes, got {_nonzero(value)}")
        return value
    if row.only is not None and value not in row.only:
        allowed = ", ".join(_text(item) for item in row.only)
        one_of = "one of " if len(row.only) > 1 else ""
        raise ParseError(f"{_place(table, name, row)}: expected {one_of}{allowed}, got {_text(value)}")
    if row.kind is None:
        return value
    if name in table.known:
        unknown = int(value) & ~table.known[name]
        if unknown and row.unknown == "refused":
            raise ParseError(f"{_place(table, name, row)}: expected no unknown bits, got {unknown:#x}")
        return _member(row.kind, value)
    try:
        return _member(row.kind, value)
    except ValueError as error:
        allowed = ", ".join(f"{item.value} ({item.name})" for item in row.kind)
        raise ParseError(f"{_place(table, name, row)}: expected one of {allowed}, got {value}") from error


@lru_cache(maxsize=1024)
def _member(kind: type[IntEnum | IntFlag], value: int) -> IntEnum | IntFlag:
    """Remembered, as making a member takes longer than reading the row."""
    return kind(value)


def _place(table: Table, name: str, row: Row) -> str:
    return f"{table.name}.{name} at {row.offset:#05x}"


def _nonzero(value: bytes) -> str:
    """All bytes of a short row; of a long one those from the first that is not zero."""
    first = next(index for index, byte in enumerate(value) if byte)
    return value.hex() if len(value) <= 16 else f"{value[first : first + 8].hex()} at byte {first} of it"


def _text(value: int | bytes) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return f"{value} ({value:#x})" if value > 9 else str(value)


def pack(value: object) -> bytes:
    """Write a value; the opposite of `unpack`.

    Raises:
        UsageError: a field has what the table refuses, or a number or bytes that do not fit.
    """
    table = table_of(type(value))
    values: list[Any] = []
    for name, row in table.rows.items():
        item: Any = bytes(row.size) if row.zero else getattr(value, name)
        if row.number:
            number = int(item)
            if not 0 <= number < 1 << (8 * row.size):
                raise UsageError(f"{_place(table, name, row)}: expected a number of {row.size} bytes, got {number}")
            values.append(number)
        elif len(item) != row.size:
            raise UsageError(f"{_place(table, name, row)}: expected {row.size} bytes, got {len(item)}")
        else:
            values.append(bytes(item))
    for name, index in table.checked:
        try:
            _checked(table, name, table.rows[name], values[index])
        except ParseError as error:
            raise UsageError(error.message) from error
    return table.struct.pack(*values)
