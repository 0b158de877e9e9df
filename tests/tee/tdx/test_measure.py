"""Registers of a TD: a published MRTD, a computation of the test's own, and what is refused."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from donjon.errors import ParseError
from donjon.sim import firmware as simulated
from donjon.tee.tdx import measure
from donjon.tee.tdx.authenticode import image_hash


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def test_mrtd_is_the_hash_of_what_the_host_adds() -> None:
    data = simulated.write()
    code = len(data) - 0x4000
    records = []
    for address, size, content in (
        ((1 << 32) - code, code, data[0x4000:]),
        ((1 << 32) - len(data), 0x4000, None),
        (0x814000, 0xC000, None),
        (0x80B000, 0x2000, None),
        (0x809000, 0x2000, None),
        (0x800000, 0x6000, None),
        (0x820000, 0x10000, None),
    ):
        for page in range(0, size, 4096):
            records.append(struct.pack("<16sQ104x", b"MEM.PAGE.ADD", address + page))
            for at in range(page, page + 4096, 256) if content else ():
                assert content
                records += [struct.pack("<16sQ104x", b"MR.EXTEND", address + at), content[at : at + 256]]
    assert measure.mrtd(data) == sha384(b"".join(records))
    assert measure.mrtd(data) != measure.mrtd(simulated.write(seed=b"another"))


@pytest.mark.skipif("DONJON_OVMF_TDX" not in os.environ, reason="DONJON_OVMF_TDX names no firmware")
def test_mrtd_of_a_known_firmware_is_the_published_one() -> None:
    """Ubuntu's package ovmf 2025.02-3ubuntu2; MRTD as virtee/tdx-measure has it (tests/fixtures/canonical-defaults)."""
    data = Path(os.environ["DONJON_OVMF_TDX"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == "9e807cb2cd4313406a3aa4becc0836671a5c64ca7bdc08a45e15260184b446bf"
    published = "7357a10d2e2724dffe68813e3cc4cfcde6814d749f2fb62e3953e54f6e0b50a219786afe2cd478f684b52c61837e1114"
    assert measure.mrtd(data).hex() == published


@pytest.mark.skipif("DONJON_SIGNED_KERNEL" not in os.environ, reason="DONJON_SIGNED_KERNEL names no kernel")
def test_a_signed_kernel_holds_its_own_hash() -> None:
    """A signature for Secure Boot, such as Debian's, is over the SHA-256 of the program, which stands in it."""
    data = Path(os.environ["DONJON_SIGNED_KERNEL"]).read_bytes()
    assert image_hash(data, "sha256") in data


def program(sections: tuple[bytes, ...] = (b"text" * 128,), signatures: bytes = b"", checksum: int = 0) -> bytes:
    """A program for UEFI of 64 bits, made by hand."""
    headers = 0x400
    table, at = b"", headers
    for section in sections:
        table += struct.pack("<8sIIII16x", b".text", len(section), at, len(section), at)
        at += len(section)
    optional = struct.pack("<H58xII40xI", 0x20B, headers, checksum, 16)
    optional += bytes(32) + struct.pack("<II", at if signatures else 0, len(signatures)) + bytes(88)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    head = head.ljust(0x80, b"\0") + b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, len(sections), len(optional), 0x22)
    return (head + optional + table).ljust(headers, b"\0") + b"".join(sections) + signatures


def test_a_program_s_hash_leaves_out_checksum_and_signatures() -> None:
    plain = program()
    start = 0x80 + 24
    expected = plain[: start + 64] + plain[start + 68 : start + 144] + plain[start + 152 :]
    assert image_hash(plain) == sha384(expected)
    assert image_hash(program(checksum=77)) == image_hash(plain)
    assert image_hash(program(signatures=b"s" * 16)) == image_hash(plain)
    assert image_hash(program((b"Text" * 128,))) != image_hash(plain)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 0x3c bytes"),
        (b"MZ".ljust(64, b"\xff"), "at least 0xffffffff bytes"),
        (bytes(64) + bytes(64), "expected a PE header"),
        (program()[:0x500], "expected a section at 0x400, without gap or overlap"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        image_hash(data)


def test_rtmrs_are_extended_event_by_event() -> None:
    register = bytes(48)
    for event in (
        image_hash(program()),
        sha384(b"Calling EFI Application from Boot Option"),
        sha384(bytes(4)),
        sha384(b"Exit Boot Services Invocation"),
        sha384(b"Exit Boot Services Returned with Success"),
    ):
        register = sha384(register + event)
    assert measure.rtmr1(program()) == register
    line = sha384("quiet initrd=initrd\0".encode("utf-16-le"))
    assert measure.rtmr2("quiet", b"initrd") == sha384(sha384(bytes(48) + line) + sha384(b"initrd"))
    assert measure.rtmr2("quiet", b"") == sha384(bytes(48) + sha384("quiet\0".encode("utf-16-le")))


def changed(at: int, value: int, size: int = 4) -> bytes:
    """Simulated firmware with one number of its TDX metadata changed; `at` counts from "TDVF"."""
    data = bytearray(simulated.write())
    start = data.rindex(b"TDVF\xf0")
    data[start + at : start + at + size] = value.to_bytes(size, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (simulated.write(tdx=False), "expected TDX metadata in OVMF's table, got none"),
        (changed(0, 0), "MetadataHead.signature"),
        (changed(-16, 0), "expected TDVF's GUID before it"),
        (changed(4, 1), "expected 240 for 7 sections, got 1"),
        (changed(12, 1 << 31), "expected at most 64, got 2147483648"),
        (changed(16, 1 << 30), "expected bytes of the file"),
        (changed(20, 4096), "bytes in the file, got 0x1000"),
        (changed(24, 1, 8), "expected whole pages"),
        (changed(32, 0, 8), "expected whole pages"),
        (changed(40, 9), "Section.type"),
        (changed(44, 2), "expected no unknown bits, got 0x2"),
        (changed(16 + 64 + 8, 0x80B000, 8), "that do not overlap"),
        (changed(16 + 64 + 24, 2), "expected one TD_HOB, got none or several"),
    ],
)
def test_malformed_firmware_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        measure.mrtd(data)
