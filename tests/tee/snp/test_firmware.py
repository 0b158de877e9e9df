"""OVMF's table and SEV metadata: simulated firmware is read, and every number that does not fit is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.errors import ParseError, UsageError
from donjon.sim import firmware as simulated
from donjon.tee import ovmf
from donjon.tee.snp import firmware
from donjon.tee.snp.firmware import SectionType

GOOD = simulated.write()
METADATA = GOOD.rindex(b"ASEV\x64")


def changed(at: int, value: int, size: int = 4) -> bytes:
    data = bytearray(GOOD)
    at = at if at >= 0 else len(data) + at
    data[at : at + size] = value.to_bytes(size, "little")
    return bytes(data)


def section(index: int, field: int, value: int) -> bytes:
    """One number of a section changed: 0 address, 1 size, 2 type."""
    return changed(METADATA + 16 + 12 * index + 4 * field, value)


def test_simulated_firmware_has_the_layout_of_the_real_one() -> None:
    found = firmware.parse(GOOD)
    assert tuple((item.gpa, item.size, int(item.type)) for item in found.sections) == simulated.SNP_SECTIONS
    assert (found.reset_eip, found.hash_table, found.base) == (0x80B004, 0x810C00, (1 << 32) - len(GOOD))
    assert found.measures_kernel
    assert simulated.write() == GOOD


def test_guids_stand_as_uefi_stores_them() -> None:
    assert ovmf.FOOTER.hex() == "de82b596b21ff745baeaa366c55a082d"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a multiple of 4096 bytes, got 0"),
        (GOOD[1:], "expected a multiple of 4096 bytes"),
        (bytes(ovmf.MAX_FIRMWARE + 1), "expected at most 16777216 bytes"),
        (bytes(8192), "expected OVMF's table"),
        (changed(-50, 17, 2), "length of the table at 0x3ffce: expected 18 to"),
        (changed(-68, 17, 2), "length of an entry at 0x3ffbc: expected 18 to"),
        (changed(-68, 65535, 2), "length of an entry at 0x3ffbc: expected 18 to"),
        (simulated.write(snp=False), "expected SEV metadata in OVMF's table, got none"),
        (changed(METADATA, 0), "MetadataHead.signature"),
        (changed(METADATA + 4, 99), "expected 100 for 7 sections, got 99"),
        (changed(METADATA + 8, 2), "MetadataHead.version"),
        (changed(METADATA + 12, 65), "expected at most 64, got 65"),
        (section(0, 0, 1), r"section 0 .*expected whole pages"),
        (section(0, 1, 1), r"section 0 .*expected whole pages"),
        (section(0, 2, 9), "Section.type"),
        (section(2, 1, 0x2000), "expected one page for SNP_SECRETS, got 0x2000 bytes"),
        (section(0, 1, 0xB000), "expected sections apart"),
        (section(0, 0, 0xFFFFF000), "expected sections apart"),
        (section(5, 1, 0x80000000), "expected at most 0x2000000 bytes of memory"),
        (section(4, 2, 3), "expected one CPUID, got several"),
        (section(6, 0, 0x830000), "expected at least 176 bytes in the page at 0x830000"),
    ],
)
def test_malformed_firmware_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        firmware.parse(data)


def test_an_entry_that_stands_twice_is_refused() -> None:
    name = ovmf.guid(simulated.RESET_BLOCK)
    other = ovmf.guid(simulated.SECRETS)
    assert GOOD.count(other) == 1
    with pytest.raises(ParseError, match="expected each name once"):
        firmware.parse(GOOD.replace(other, name))


@pytest.mark.parametrize(("name", "message"), [("RESET_BLOCK", "reset block"), ("HASH_TABLE", "expected a hash table")])
def test_what_an_snp_guest_needs_has_to_be_there(name: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        firmware.parse(GOOD.replace(ovmf.guid(getattr(simulated, name)), b"another one's   "))


@given(st.integers(0, 400), st.integers(0, 255))
def test_any_byte_of_the_tables_is_read_or_refused(back: int, value: int) -> None:
    try:
        found = firmware.parse(changed(-1 - back, value, 1))
    except ParseError:
        return
    assert all(isinstance(item.type, SectionType) for item in found.sections)


@pytest.mark.parametrize("size", [0, 4096, 32768 + 1, ovmf.MAX_FIRMWARE + 4096])
def test_simulated_firmware_of_impossible_sizes_is_not_made(size: int) -> None:
    with pytest.raises(UsageError, match="size: expected"):
        simulated.write(size=size)
