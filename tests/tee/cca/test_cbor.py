"""Strict CBOR: each form that is refused, with its message, and a bound on time and memory."""

import time
import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.tee.cca._cbor import MAX_DEPTH, kind, read, read_map

ATOM = "x at 0x0: expected an integer, string, array, map, true, false or null, got the byte"
REFUSED: dict[str, tuple[str, str | None]] = {
    "nothing": ("", "x at 0x0: expected another item, got the end"),
    "a head cut off": ("19 01", "x at 0x0: expected a head of 3 bytes, got the end"),
    "bytes cut off": ("43 0102", "x at 0x0: expected a string of 3 bytes, got 2"),
    "a text of 2^63 bytes": ("7b 7fffffffffffffff 00", f"x at 0x0: expected a string of {2**63 - 1} bytes, got 1"),
    "an array of 2^64-1": ("9b ffffffffffffffff 00", "x at 0x0: expected 18446744073709551615 items, got 1 bytes"),
    "a map that lacks its last value": ("a1 01", "x at 0x0: expected 2 items, got 1 bytes"),
    "an array that lacks its last item": ("82 43 010203", "x at 0x5: expected another item, got the end"),
    "a byte after the end": ("01 00", "x at 0x1: expected the end, got 1 more bytes"),
    "an array of indefinite length": ("9f 01 ff", "x at 0x0: expected a definite length, got an indefinite one"),
    "a map of indefinite length": ("bf ff", "x at 0x0: expected a definite length, got an indefinite one"),
    "bytes of indefinite length": ("5f 41 00 ff", "x at 0x0: expected a definite length, got an indefinite one"),
    "a text of indefinite length": ("7f 60 ff", "x at 0x0: expected a definite length, got an indefinite one"),
    "a stop": ("81 ff", "x at 0x1: expected a definite length, got an indefinite one"),
    "a reserved head": ("1c", "x at 0x0: expected an item, got the reserved byte 1c"),
    "a key twice": (
        "a2 01 02 01 03",
        "x: not CBOR that this format allows: error decoding map: Duplicate map key: 1",
    ),
    "a key twice, in two lengths": (
        "a2 01 02 1801 03",
        "x: not CBOR that this format allows: error decoding map: Duplicate map key: 1",
    ),
    "a text that is not UTF-8": ("62 c328", None),
    "a tag that is not expected": ("d8 3d 01", "x at 0x0: expected tag 18, got tag 61"),
    "a large number in a tag": ("c2 41 01", "x at 0x0: expected tag 18, got tag 2"),
    "a pattern in a tag": ("d8 23 61 61", "x at 0x0: expected tag 18, got tag 35"),
    "a shared object": ("d8 1c 80", "x at 0x0: expected tag 18, got tag 28"),
    "a float": ("f9 0000", f"{ATOM} f9"),
    "undefined": ("f7", f"{ATOM} f7"),
    "a simple value": ("f820", f"{ATOM} f8"),
    "17 levels": ("81" * 17 + "01", "x at 0x10: expected at most 16 levels of nesting, got more"),
    "32000 levels": ("81" * 32000 + "01", "x at 0x10: expected at most 16 levels of nesting, got more"),
    "17 levels of tags": ("d2" * 17 + "01", "x at 0x10: expected at most 16 levels of nesting, got more"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(ParseError) as caught:
        read(bytes.fromhex(data), "x", (18,))
    assert message is None or caught.value.message == message


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0),
        ("1800", 0),
        ("1b0000000000000001", 1),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3bffffffffffffffff", -(2**64)),
        ("40", b""),
        ("5800", b""),
        ("6161", "a"),
        ("80", ()),
        ("820141ff", (1, b"\xff")),
        ("f4", False),
        ("f5", True),
        ("f6", None),
    ],
)
def test_takes_what_is_allowed_in_any_length(data: str, value: object) -> None:
    assert read(bytes.fromhex(data), "x") == value


def test_takes_sixteen_levels() -> None:
    value = read(b"\x81" * MAX_DEPTH + b"\x01", "x")
    for _ in range(MAX_DEPTH):
        assert isinstance(value, tuple)
        (value,) = value
    assert value == 1


def test_takes_an_expected_tag() -> None:
    value = read(bytes.fromhex("d28101"), "x", (18,))
    assert isinstance(value, cbor2.CBORTag)
    assert (value.tag, value.value) == (18, (1,))


def test_reads_a_map_or_says_what_came() -> None:
    assert dict(read_map(bytes.fromhex("a10102"), "x")) == {1: 2}
    with pytest.raises(ParseError, match=r"^x: expected a map, got an array of 0$"):
        read_map(b"\x80", "x")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (-7, "the integer -7"),
        (b"a", "1 byte"),
        (b"", "0 bytes"),
        ("a\n", "the text 'a\\n'"),
        ("a" * 81, "a text of 81 characters"),
        ((1,), "an array of 1"),
        ({}, "a map of 0"),
        (cbor2.CBORTag(18, 1), "tag 18"),
        (1.0, "float"),
    ],
)
def test_names_a_value(value: object, words: str) -> None:
    assert kind(value) == words


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.integers(0, 2**32) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


def as_read(value: object) -> object:
    """A mapping that was read may be of another type than the one that was written."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: as_read(item) for key, item in value.items()}
    return tuple(as_read(item) for item in value) if isinstance(value, tuple) else value


@given(VALUES)
def test_reads_what_was_written(value: object) -> None:
    assert as_read(read(cbor2.dumps(value), "x")) == value


# Invariant: any bytes are read or refused with ParseError.
@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_reads_or_refuses_any_bytes(data: bytes) -> None:
    try:
        read(data, "x", (18, 399, 907))
    except ParseError:
        pass


ATTACKS = {
    "a long array": b"\x99\x7f\xf0" + b"\x00" * 0x7FF0,
    "a map of many keys": b"\xb9\x20\x00" + b"".join(b"\x19" + n.to_bytes(2, "big") + b"\x00" for n in range(0x2000)),
    "arrays side by side": b"\x99\x7f\xf0" + b"\x80" * 0x7FF0,
    "empty maps": b"\x99\x7f\xf0" + b"\xa0" * 0x7FF0,
    "short texts": b"\x99\x3f\xf0" + b"\x61a" * 0x3FF0,
    "keys whose hashes collide": b"\xa9"
    + b"".join(b"\x1b" + (n * (2**61 - 1)).to_bytes(8, "big") + b"\x00" for n in range(8))
    + b"\x01\x00",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_takes_little_time_and_memory_for_the_largest_input(name: str) -> None:
    data = ATTACKS[name]
    tracemalloc.start()
    try:
        start = time.process_time()
        read(data, "x")
        took = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert took < 1  # it takes some 20 ms; tracing and a busy machine take their part
    assert peak < 8 << 20
