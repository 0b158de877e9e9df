"""The SGX extension: every field is read, and refused where it is missing, twice there, or of another form."""

import pytest

from donjon.errors import ParseError
from donjon.tee.intel import pck
from donjon.tee.intel.simulate import platform_numbers, sgx_extension
from donjon.wire.der import INTEGER, OCTET_STRING, OID, SEQUENCE, Der, encode, integer_content, oid_content

NUMBERS = platform_numbers()
GOOD = sgx_extension(NUMBERS)


def fields() -> list[bytes]:
    """The members of the extension, each an element."""
    outer = Der(GOOD, "extension").sequence()
    found = []
    while outer.left:
        found.append(outer.whole(SEQUENCE, "field"))
    return found


def member(arc: str, tag: int, *contents: bytes) -> bytes:
    return encode(SEQUENCE, encode(OID, oid_content(f"{pck.EXTENSION}.{arc}")), encode(tag, *contents))


def tcb(*changes: tuple[int, bytes | None]) -> bytes:
    """Field 2 with members replaced or left out."""
    members = {
        **{
            index: member(f"2.{index}", INTEGER, integer_content(svn))
            for index, svn in enumerate(NUMBERS.components, 1)
        },
        17: member("2.17", INTEGER, integer_content(13)),
        18: member("2.18", OCTET_STRING, NUMBERS.cpusvn),
    } | dict(changes)
    return member("2", SEQUENCE, *(item for item in members.values() if item is not None))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"platform_instance": None, "dynamic_platform": None, "cached_keys": None, "smt": None},
        {"dynamic_platform": False, "cached_keys": False, "smt": False},
        {"components": tuple(range(240, 256)), "pcesvn": 65535},
        *({"sgx_type": kind} for kind in pck.SgxType),
    ],
)
def test_reads_what_is_written(changes: dict[str, object]) -> None:
    numbers = platform_numbers(**changes)
    assert pck.parse(sgx_extension(numbers)) == numbers


def test_passes_over_fields_that_it_does_not_know() -> None:
    more = member("99", OCTET_STRING, b"new")
    assert pck.parse(encode(SEQUENCE, *fields(), more)) == NUMBERS


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        (GOOD + b"\0", "SGX extension.end"),
        (encode(SEQUENCE, *fields()[1:]), "SGX extension.PPID: expected the field 1, got none"),
        (encode(SEQUENCE, *fields()[:1], *fields()[2:]), "SGX extension.TCB: expected the field 2, got none"),
        (encode(SEQUENCE, *fields(), fields()[0]), "each field of 1.2.840.113741.1.13.1 once"),
        (encode(SEQUENCE, *fields(), member("1.1", INTEGER, b"\1")), "each field of 1.2.840.113741.1.13.1 once"),
        (encode(SEQUENCE, member("1", OCTET_STRING, bytes(15)), *fields()[1:]), "PPID: expected 16 bytes, got 15"),
        (encode(SEQUENCE, member("1", INTEGER, b"\1"), *fields()[1:]), "expected OCTET STRING, got INTEGER"),
        (encode(SEQUENCE, fields()[0], tcb((3, None)), *fields()[2:]), "SVN 3: expected the field 3, got none"),
        (
            encode(SEQUENCE, fields()[0], tcb((3, member("2.3", INTEGER, b"\1\0"))), *fields()[2:]),
            "SGX extension.SVN 3: expected 0 to 255, got 0x100",
        ),
        (
            encode(SEQUENCE, fields()[0], tcb((3, member("2.3", INTEGER, b"\xff"))), *fields()[2:]),
            "SGX extension.SVN 3: expected 0 to 255, got -0x1",
        ),
        (
            encode(SEQUENCE, fields()[0], tcb((17, member("2.17", INTEGER, b"\1\0\0"))), *fields()[2:]),
            "SGX extension.PCESVN: expected 0 to 65535, got 0x10000",
        ),
        (encode(SEQUENCE, fields()[0], tcb((18, None)), *fields()[2:]), "CPUSVN: expected the field 18, got none"),
        (
            encode(SEQUENCE, *fields()[:4], member("5", 0x0A, b"\3"), *fields()[5:]),
            "SGX extension.SGXType: expected 0, 1 or 2, got 03",
        ),
        (
            encode(SEQUENCE, *fields()[:4], member("5", 0x0A), *fields()[5:]),
            "SGX extension.SGXType: expected 0, 1 or 2, got nothing",
        ),
        (encode(SEQUENCE, *fields()[:6], member("7", SEQUENCE, member("7.1", 0x01, b"\1"))), "a BOOLEAN of 00 or ff"),
    ],
)
def test_refuses(extension: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        pck.parse(extension)
    assert message in caught.value.message
