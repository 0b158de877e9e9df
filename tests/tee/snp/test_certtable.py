"""The host's table of certificates: what is written is read again, and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.tee.snp.certtable import GUIDS, MAX_ENTRIES, MAX_TABLE, read_table, write_table

VCEK, CRL = GUIDS["VCEK"], GUIDS["CRL"]
END = bytes(24)


def entry(guid: bytes, offset: int, length: int) -> bytes:
    return guid + struct.pack("<II", offset, length)


@given(st.dictionaries(st.sampled_from(sorted(GUIDS)), st.binary(min_size=1, max_size=500)))
def test_what_is_written_is_read(certificates: dict[str, bytes]) -> None:
    assert read_table(write_table(certificates)) == certificates


def test_guids_stand_as_text_writes_them() -> None:
    assert write_table({"VCEK": b"x"})[:16].hex() == "63da758de6644564adc5f4b93be8accd"


def test_no_bytes_are_no_certificates() -> None:
    assert read_table(b"") == {}
    assert read_table(END) == {}


def test_what_follows_and_what_nobody_knows_is_passed_over() -> None:
    table = entry(b"a stranger's own", 72, 3) + entry(VCEK, 75, 4) + END + b"abcdefg" + bytes(100)
    assert read_table(table) == {"VCEK": b"defg"}


BAD = {
    "too long": (bytes(MAX_TABLE + 1), "expected at most 32768 bytes, got 32769"),
    "shorter than an entry": (b"x" * 23, "entry 0: expected 24 bytes, got 23"),
    "no end": (entry(VCEK, 24, 1) * 2, "entry 2: expected 24 bytes, got 0"),
    "too many entries": (entry(bytes(15) + b"x", 1000, 1) * (MAX_ENTRIES + 1) + END, "expected at most 32 entries"),
    "into the table itself": (entry(VCEK, 47, 1) + END + b"x", "entry 0: expected bytes from 48 to 49, got 47 to 48"),
    "beyond the data": (entry(VCEK, 48, 2) + END + b"x", "entry 0: expected bytes from 48 to 49, got 48 to 50"),
    "far beyond": (entry(VCEK, 0xFFFFFFFF, 0xFFFFFFFF) + END, "got 4294967295 to 8589934590"),
    "empty": (entry(VCEK, 48, 0) + END + b"x", "entry 0: expected bytes from 48 to 49, got 48 to 48"),
    "one of zeros with a length": (entry(bytes(16), 0, 1) + END + b"x", "entry 0: expected bytes from 48 to 49"),
    "twice": (entry(VCEK, 72, 1) + entry(VCEK, 73, 1) + END + b"xy", "entry 1: expected one VCEK, got a second one"),
    "overlapping": (entry(VCEK, 72, 2) + entry(CRL, 73, 1) + END + b"xy", "got two that overlap"),
    "a certificate that is too long": (
        entry(VCEK, 48, 8193) + END + bytes(8193),
        "entry 0: expected a VCEK of at most 8192 bytes, got 8193",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name: str) -> None:
    data, text = BAD[name]
    with pytest.raises(ParseError) as caught:
        read_table(data)
    assert text in caught.value.message


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_table(data)
    except ParseError:
        pass
