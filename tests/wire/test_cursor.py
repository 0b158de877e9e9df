"""The cursor: lengths are compared with what is there, leftovers are an error, places are counted from the outside."""

from __future__ import annotations

import pytest

from donjon.errors import ParseError
from donjon.wire import Cursor, layout, u16


@layout(size=2, spec="TEST")
class Pair:
    number: int = u16(0x0)


def test_reads_nested_and_length_prefixed_data() -> None:
    cursor = Cursor(b"\x07" + b"\x05\0" + b"\x02\0\x03\0\xff" + bytes(3), "Thing")
    assert cursor.u8("kind") == 7
    inner = cursor.nested(cursor.u16("size"), "body")
    assert (inner.u16("a"), inner.part(Pair, "b").number, inner.take(1, "c")) == (2, 3, b"\xff")
    inner.end()
    assert cursor.left == 3
    cursor.zeros("padding", 3)
    cursor.end()


def test_reads_numbers_of_both_orders() -> None:
    data = bytes(range(1, 16))
    assert [Cursor(data, "T").u32("x"), Cursor(data, "T").u64("x")] == [0x04030201, 0x0807060504030201]
    assert Cursor(data, "T", "big").u32("x") == 0x01020304
    nested = Cursor(data, "T", "big").nested(4, "n")
    assert nested.u16("x") == 0x0102, "an inner cursor keeps the order"


def test_shows_and_takes_the_rest() -> None:
    cursor = Cursor(b"abc", "T")
    assert (cursor.peek(2), cursor.rest(), cursor.rest(), cursor.left) == (b"ab", b"abc", b"", 0)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (lambda c: c.take(5, "x"), "T.x at 0x000: expected 5 bytes, got 4"),
        (lambda c: c.take(-1, "x"), "T.x at 0x000: expected -1 bytes, got 4"),
        (lambda c: c.u64("x"), "T.x at 0x000: expected 8 bytes, got 4"),
        (lambda c: (c.u16("a"), c.u32("x")), "T.x at 0x002: expected 4 bytes, got 2"),
        (lambda c: c.nested(0x7FFFFFFF, "x"), "T.x at 0x000: expected 2147483647 bytes, got 4"),
        (lambda c: (c.u8("a"), c.nested(2, "in").u32("x")), "T.in.x at 0x001: expected 4 bytes, got 2"),
        (lambda c: c.end(), "T.end at 0x000: expected no more bytes, got 4 (00000100)"),
        (lambda c: c.zeros("pad"), "T.pad at 0x002: expected zero bytes, got 01"),
        (lambda c: c.zeros("pad", 3), "T.pad at 0x000: expected at most 3 bytes, got 4"),
    ],
    ids=["too long", "negative", "too short", "later", "huge", "nested", "leftover", "padding", "too much padding"],
)
def test_refuses_with_the_place_in_the_whole(action: object, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        action(Cursor(b"\0\0\x01\0", "T"))  # type: ignore[operator]
    assert caught.value.message == text


def test_a_base_is_added_to_every_place() -> None:
    cursor = Cursor(b"\0", "T", base=0x100)
    with pytest.raises(ParseError, match=r"T.x at 0x100: expected 2 bytes, got 1"):
        cursor.u16("x")
    assert cursor.refuse("y", "5", "1", at=7).message == "T.y at 0x107: expected 5, got 1"


def test_many_leftover_bytes_are_cut_short() -> None:
    with pytest.raises(ParseError, match=r"got 20 \(0000000000000000\.\.\.\)"):
        Cursor(bytes(20), "T").end()
