"""Struct tables: what they read and write, what they refuse and in which words, and which tables are no tables."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import BugError, ParseError, UsageError
from donjon.wire import layout, offset_of, pack, raw, size_of, u8, u16, u32, u64, unpack, unpack_part, zero


class Flags(IntFlag):
    RED = 1
    BLUE = 4


class Kind(IntEnum):
    ONE = 1
    TWO = 2


# fmt: off
@layout(size=0x20, spec="TEST, table 1")
class Little:
    version:     int   = u8(0x00, only=(1, 2))
    reserved_01        = zero(0x01, 3)
    flags:       Flags = u32(0x04, Flags)
    hints:       Flags = u16(0x08, Flags, unknown="kept")
    kind:        Kind  = u16(0x0A, Kind)
    magic:       bytes = raw(0x0C, 4, only=(b"MAGI",))
    number:      int   = u64(0x10)
    name:        bytes = raw(0x18, 8)


@layout(start=0x10, size=0x04, spec="TEST, table 2", byteorder="big")
class Big:
    number: int = u32(0x10)


@layout(size=0x20, spec="TEST, table 3")
class Long:
    reserved_00 = zero(0x00, 32)
# fmt: on

GOOD = bytes.fromhex("01 000000 05000000 0aff 0200 4d414749 0807060504030201 6162636465666768")


def damaged(at: int, with_: str) -> bytes:
    data = bytearray(GOOD)
    piece = bytes.fromhex(with_)
    data[at : at + len(piece)] = piece
    return bytes(data)


def test_reads_what_the_table_says() -> None:
    value = unpack(Little, GOOD)
    assert value.version == 1
    assert value.flags == Flags.RED | Flags.BLUE
    assert int(value.hints) == 0xFF0A, "unknown bits are kept where the row says so"
    assert value.kind is Kind.TWO
    assert (value.magic, value.number, value.name) == (b"MAGI", 0x0102030405060708, b"abcdefgh")
    assert pack(value) == GOOD
    assert unpack(Big, b"\x01\x02\x03\x04").number == 0x01020304


def test_reads_a_part_from_its_own_start() -> None:
    assert unpack_part(Big, bytes(16) + b"\0\0\0\x07" + b"rest").number == 7
    with pytest.raises(ParseError, match=r"^Big: expected bytes up to 0x014, got 0x013$"):
        unpack_part(Big, bytes(0x13))


def test_knows_its_size_and_offsets() -> None:
    assert (size_of(Little), offset_of(Little, "kind"), offset_of(Big, "number")) == (0x20, 0x0A, 0x10)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (GOOD[:-1], "Little: expected 32 bytes, got 31"),
        (GOOD + b"\0", "Little: expected 32 bytes, got 33"),
        (b"", "Little: expected 32 bytes, got 0"),
        (damaged(0, "03"), "Little.version at 0x000: expected one of 1, 2, got 3"),
        (damaged(0, "43"), "Little.version at 0x000: expected one of 1, 2, got 67 (0x43)"),
        (damaged(1, "0000cc"), "Little.reserved_01 at 0x001: expected 3 zero bytes, got 0000cc"),
        (damaged(4, "02"), "Little.flags at 0x004: expected no unknown bits, got 0x2"),
        (damaged(7, "80"), "Little.flags at 0x004: expected no unknown bits, got 0x80000000"),
        (damaged(10, "03"), "Little.kind at 0x00a: expected one of 1 (ONE), 2 (TWO), got 3"),
        (damaged(12, "00"), "Little.magic at 0x00c: expected 4d414749, got 00414749"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_with_place_and_expectation(data: bytes, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        unpack(Little, data)
    assert caught.value.message == text


def test_a_long_reserved_row_shows_where_it_is_not_zero() -> None:
    with pytest.raises(ParseError) as caught:
        unpack(Long, bytes(20) + b"\x07" + bytes(11))
    text = "Long.reserved_00 at 0x000: expected 32 zero bytes, got 0700000000000000 at byte 20 of it"
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 3}, "Little.version at 0x000: expected one of 1, 2, got 3"),
        ({"number": 1 << 64}, "Little.number at 0x010: expected a number of 8 bytes, got 18446744073709551616"),
        ({"number": -1}, "Little.number at 0x010: expected a number of 8 bytes, got -1"),
        ({"name": b"short"}, "Little.name at 0x018: expected 8 bytes, got 5"),
        ({"flags": 2}, "Little.flags at 0x004: expected no unknown bits, got 0x2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_writes_nothing_that_it_would_refuse(changes: dict[str, Any], text: str) -> None:
    fields: dict[str, Any] = {
        "version": 1,
        "flags": Flags.RED,
        "hints": Flags.RED,
        "kind": Kind.ONE,
        "magic": b"MAGI",
        "number": 0,
        "name": bytes(8),
    }
    with pytest.raises(UsageError) as caught:
        pack(Little(**(fields | changes)))
    assert caught.value.message == text


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=28, max_size=36) | st.integers(0, 31).map(lambda at: damaged(at, "ff")))
def test_any_bytes_are_read_or_refused_and_what_is_read_is_written_again(data: bytes) -> None:
    try:
        value = unpack(Little, data)
    except ParseError:
        return
    assert pack(value) == data


def test_values_are_frozen_and_compare() -> None:
    value = unpack(Little, GOOD)
    assert value == unpack(Little, GOOD)
    with pytest.raises(AttributeError):
        value.version = 2  # type: ignore[misc]


# Tables that are none


def table(size: int, **rows: Any) -> None:
    annotations = {name: int for name, row in rows.items() if not row.zero}
    layout(size=size, spec="TEST")(type("Bad", (), {**rows, "__annotations__": annotations}))


@pytest.mark.parametrize(
    ("size", "rows", "text"),
    [
        (8, {"a": u32(0), "b": u16(6)}, "Bad.b at 0x006: a gap, the row before ends at 0x004"),
        (8, {"a": u32(0), "b": u32(2)}, "Bad.b at 0x002: an overlap, the row before ends at 0x004"),
        (8, {"a": u32(4), "b": u32(0)}, "Bad.a at 0x004: a gap, the row before ends at 0x000"),
        (8, {"a": u32(0)}, "Bad: expected rows up to 0x008, they end at 0x004"),
        (2, {"a": u32(0)}, "Bad: expected rows up to 0x002, they end at 0x004"),
        (0, {"a": raw(0, 0)}, "Bad.a at 0x000: expected at least 1 byte, got 0"),
    ],
    ids=["a gap", "an overlap", "a gap at the start", "too short", "too long", "an empty row"],
)
def test_refuses_tables_that_do_not_add_up(size: int, rows: dict[str, Any], text: str) -> None:
    with pytest.raises(BugError) as caught:
        table(size, **rows)
    assert caught.value.message == text


def test_refuses_a_row_without_a_type_and_a_typed_row_of_zeros() -> None:
    for types in ({}, {"a": int, "b": int}):
        body = {"a": u8(0), "b": zero(1, 1), "__annotations__": types}
        with pytest.raises(BugError, match="expected a type for each row but those of zero"):
            layout(size=2, spec="TEST")(type("Bad", (), body))


def test_refuses_a_class_that_is_no_table() -> None:
    with pytest.raises(BugError, match="int is no layout"):
        unpack(int, b"")
