"""DER: each value has one encoding; everything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.wire import der
from donjon.wire.der import Der


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def test_reads_a_structure() -> None:
    data = der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, der.integer_content(-129)),
        der.encode(der.context(0), der.encode(der.BOOLEAN, b"\xff")),
        der.encode(der.SET, der.encode(der.UTF8_STRING, "ä".encode())),
        der.encode(der.OCTET_STRING, bytes(300)),
        der.encode(der.BIT_STRING, b"\0\x07"),
        der.encode(der.NULL),
        der.encode(der.OID, der.oid_content("2.999.3.128")),
    )
    whole = Der(data, "T")
    source = whole.sequence()
    whole.end()
    assert source.integer("n") == -129
    assert source.tag == der.context(0)
    assert source.inside(der.context(0)).boolean("flag") is True
    assert source.set().text(der.UTF8_STRING, "name") == "ä"
    assert source.octets("o") == bytes(300)
    assert source.bits("b") == b"\x07"
    source.null("z")
    assert source.oid("oid") == "2.999.3.128"
    source.end()
    assert source.tag == 0


def test_hands_out_a_value_with_its_header() -> None:
    source = Der(h("3003020105 0500"), "T")
    assert source.whole(der.SEQUENCE, "x") == h("3003020105")
    assert source.take(0, "anything") == b""


@pytest.mark.parametrize(
    ("data", "read", "text"),
    [
        ("02", lambda s: s.integer("x"), "T.x at 0x000: expected INTEGER, got 1 bytes"),
        ("", lambda s: s.integer("x"), "T.x at 0x000: expected INTEGER, got 0 bytes"),
        ("0401ff", lambda s: s.integer("x"), "T.x at 0x000: expected INTEGER, got OCTET STRING"),
        ("800100", lambda s: s.integer("x"), "T.x at 0x000: expected INTEGER, got [0]"),
        ("420100", lambda s: s.integer("x"), "T.x at 0x000: expected INTEGER, got the tag 42"),
        ("0203ff", lambda s: s.integer("x"), "T.x at 0x000: expected 3 bytes, got 1"),
        ("0200", lambda s: s.integer("x"), "T.x at 0x000: expected an INTEGER of at least 1 byte, got nothing"),
        ("0202007f", lambda s: s.integer("x"), "T.x at 0x000: expected the shortest form of the INTEGER, got 007f"),
        ("0202ff80", lambda s: s.integer("x"), "T.x at 0x000: expected the shortest form of the INTEGER, got ff80"),
        (
            "028207d0" + "7f" * 2000,
            lambda s: s.integer("x"),
            "T.x at 0x000: expected an INTEGER of at most 64 bytes, got 2000 bytes",
        ),
        (
            "018207d0" + "7f" * 2000,
            lambda s: s.boolean("x"),
            f"T.x at 0x000: expected a BOOLEAN of 00 or ff, got {'7f' * 16}",
        ),
        ("30800000", lambda s: s.sequence(), "T at 0x000: expected a length of 1 to 5 bytes, got 80"),
        ("3085010203040506", lambda s: s.sequence(), "T at 0x000: expected a length of 1 to 5 bytes, got 85"),
        ("3082ff", lambda s: s.sequence(), "T at 0x000: expected a length of 1 to 5 bytes, got 82"),
        ("308105", lambda s: s.sequence(), "T at 0x000: expected the shortest form of the length, got 8105"),
        ("30820080", lambda s: s.sequence(), "T at 0x000: expected the shortest form of the length, got 820080"),
        ("30847fffffff", lambda s: s.sequence(), "T at 0x000: expected 2147483647 bytes, got 0"),
        ("3f0100", lambda s: s.take(0, "x"), "T.x at 0x000: expected a tag of one byte, got 3f"),
        ("010101", lambda s: s.boolean("x"), "T.x at 0x000: expected a BOOLEAN of 00 or ff, got 01"),
        ("03020780", lambda s: s.bits("x"), "T.x at 0x000: expected a BIT STRING of whole bytes, got 07"),
        ("0300", lambda s: s.bits("x"), "T.x at 0x000: expected a BIT STRING of whole bytes, got nothing"),
        ("050100", lambda s: s.null("x"), "T.x at 0x000: expected an empty NULL, got content"),
        ("0600", lambda s: s.oid("x"), "T.x at 0x000: expected an OBJECT IDENTIFIER, got nothing"),
        ("06022a80", lambda s: s.oid("x"), "T.x at 0x000: expected an OBJECT IDENTIFIER, got 2a80"),
        ("06032a8001", lambda s: s.oid("x"), "T.x at 0x000: expected an OBJECT IDENTIFIER, got 2a8001"),
        ("0c01ff", lambda s: s.text(der.UTF8_STRING, "x"), "T.x at 0x000: expected text of UTF8String, got ff"),
        ("1601ff", lambda s: s.text(der.IA5_STRING, "x"), "T.x at 0x000: expected text of IA5String, got ff"),
        ("0500", lambda s: s.time("x"), "T.x at 0x000: expected a time, got NULL"),
        ("30020500", lambda s: s.sequence("in").end(), "T.in.end at 0x002: expected no more bytes, got 2"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("T") else "",
)
def test_refuses_what_is_no_der(data: str, read: Callable[[Der], Any], text: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(Der(h(data), "T"))
    assert caught.value.message == text


def encoded_time(text: str) -> Der:
    tag = der.UTC_TIME if len(text) == 13 else der.GENERALIZED_TIME
    return Der(der.encode(tag, text.encode()), "T")


def test_reads_times_of_both_forms() -> None:
    assert encoded_time("221031133446Z").time("x") == datetime(2022, 10, 31, 13, 34, 46, tzinfo=UTC)
    assert encoded_time("991231235959Z").time("x") == datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert encoded_time("20500101000000Z").time("x") == datetime(2050, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2210311334Z", "221031133446+", "22103113344xZ", "20221031133446.5Z", "221331000000Z", "20230229000000Z"]
)
def test_refuses_times_of_another_form_or_that_never_are(text: str) -> None:
    with pytest.raises(ParseError, match="expected a time"):
        encoded_time(text).time("x")


def test_long_oids_are_refused() -> None:
    with pytest.raises(ParseError):
        Der(der.encode(der.OID, b"\x2a" * 65), "T").oid("x")


@settings(max_examples=200, deadline=None)
@given(st.integers(-(1 << 200), 1 << 200))
def test_numbers_are_read_as_written(number: int) -> None:
    assert Der(der.encode(der.INTEGER, der.integer_content(number)), "T").integer("x") == number


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=6), st.sampled_from(["0.5", "1.39", "2.0", "2.100"]))
def test_oids_are_read_as_written(arcs: list[int], start: str) -> None:
    text = ".".join([start, *map(str, arcs)])
    assert der.oid_text(der.oid_content(text)) == text


READS: list[Callable[[Der], Any]] = [
    lambda s: s.integer("x"),
    lambda s: s.boolean("x"),
    lambda s: s.octets("x"),
    lambda s: s.bits("x"),
    lambda s: s.null("x"),
    lambda s: s.oid("x"),
    lambda s: s.time("x"),
    lambda s: s.text(s.tag, "x"),
    lambda s: s.sequence(),
    lambda s: s.whole(0, "x"),
]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40), st.sampled_from(READS))
def test_any_bytes_are_read_or_refused(data: bytes, read: Callable[[Der], Any]) -> None:
    source = Der(data, "T")
    try:
        while source.left:
            read(source)
    except ParseError:
        pass
