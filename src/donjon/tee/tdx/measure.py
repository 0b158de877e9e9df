"""What a TD's registers will hold, before there is a TD: MRTD from the firmware, RTMR1 and RTMR2 from what it boots.

    MRTD     the firmware's sections, as the host adds them: the TDX module folds addresses and contents
    RTMR0    how the machine is set up: list of memory (TD HOB), variables, ACPI tables, boot order
    RTMR1    the program that the firmware boots: the kernel, and that it leaves the firmware
    RTMR2    what the kernel's EFI stub is given: command line and initrd
    RTMR3    nothing: left to the guest, zero with Donjon's image

RTMR0 cannot be computed from files: its ACPI tables come from QEMU and depend on its version, the memory size and the
order of devices. It says nothing about what runs; pin what the event log of a first, trusted start shows, or leave it.

RTMR1 and RTMR2 hold for QEMU since 10.2, which hands the kernel over as the file is (QEMU 10.1 changes its header
first), for OVMF since 2025.05 and for Linux since 6.9. They follow published descriptions and have been compared with
no TD of ours; MRTD is compared with a published value in the tests.

Source: TDX-ABI, TDH.MEM.PAGE.ADD, TDH.MR.EXTEND; TDVF design guide, chapters 4, 8 and 11 [TDVF]; QEMU,
target/i386/kvm/tdx.c, for the order; its commit a7542a38f399, first in 10.2.0, for the header; Linux,
drivers/firmware/efi/libstub, for RTMR2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from donjon.errors import ParseError
from donjon.tee import ovmf
from donjon.tee.ovmf import PAGE
from donjon.tee.tdx.authenticode import image_hash
from donjon.wire import Cursor, layout, raw, u32, u64

__all__ = ["Section", "SectionType", "mrtd", "parse", "rtmr1", "rtmr2"]

METADATA = ovmf.guid("e47a6535-984a-4798-865e-4685a7bf8ec2")
_TDVF = ovmf.guid("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")
MAX_SECTIONS = 64
_CHUNK = 256


class SectionType(IntEnum):
    """What a section is.   [TDVF 11.2]"""

    BFV = 0
    """Firmware code."""
    CFV = 1
    """Firmware variables."""
    TD_HOB = 2
    """Where the host writes the list of memory."""
    TEMP_MEM = 3


class SectionFlags(IntFlag):
    """Its attributes."""

    MR_EXTEND = 1 << 0
    """Its content goes into MRTD, not only its place."""


# fmt: off
@layout(size=0x10, spec="TDVF 11.2, TDVF_DESCRIPTOR")
class MetadataHead:
    """Before the sections."""

    signature: bytes = raw(0x0, 4, only=(b"TDVF",))
    length:    int   = u32(0x4)                      # of this and the sections
    version:   int   = u32(0x8, only=(1,))
    sections:  int   = u32(0xC)


@layout(size=0x20, spec="TDVF 11.2, TDVF_SECTION")
class Section:
    """Guest memory that is there from the start; addresses and sizes in bytes."""

    offset:     int          = u32(0x00)             # in the file
    raw_size:   int          = u32(0x04)             # in the file; 0: zeros
    address:    int          = u64(0x08)
    size:       int          = u64(0x10)
    type:       SectionType  = u32(0x18, SectionType)
    attributes: SectionFlags = u32(0x1C, SectionFlags)
# fmt: on


@dataclass(frozen=True, slots=True)
class Firmware:
    """OVMF that can start a TD.

    Args:
        sections: in the order in which the host adds them; no two overlap.
    """

    data: bytes
    sections: tuple[Section, ...]


def parse(data: bytes) -> Firmware:
    """Read a firmware file.

    Args:
        data: the file, at most 16 MiB.
    Raises:
        ParseError: not OVMF, or without what a TD needs.
    """
    found = ovmf.parse(data)
    cursor = found.pointed(METADATA, "TDX metadata", before=16)
    if cursor is None:
        raise ParseError(
            "firmware: expected TDX metadata in OVMF's table, got none",
            "use OVMF.fd or OVMF.inteltdx.ms.fd of Debian's packages ovmf and ovmf-inteltdx, or another build for TDX",
        )
    if data[cursor.base - 16 : cursor.base] != _TDVF:
        raise cursor.refuse("GUID", "TDVF's GUID before it", data[cursor.base - 16 : cursor.base].hex())
    return Firmware(data, _sections(cursor, len(data)))


def mrtd(firmware: bytes) -> bytes:
    """MRTD of a TD that QEMU starts with this firmware.

    Returns:
        48 bytes.
    Raises:
        ParseError: the firmware is malformed.
    """
    found = parse(firmware)
    digest = hashlib.sha384()
    for section in found.sections:
        for at in range(0, section.size, PAGE):
            digest.update(_record(b"MEM.PAGE.ADD", section.address + at))
            if SectionFlags.MR_EXTEND in section.attributes:
                for chunk in range(at, at + PAGE, _CHUNK):
                    digest.update(_record(b"MR.EXTEND", section.address + chunk))
                    start = section.offset + chunk
                    digest.update(found.data[start : start + _CHUNK] if section.raw_size else bytes(_CHUNK))
    return digest.digest()


def rtmr1(kernel: bytes) -> bytes:
    """RTMR1 of a TD that boots this kernel directly; which QEMU and OVMF it holds for, the module says.

    Args:
        kernel: the bzImage, a program for UEFI.
    Returns:
        48 bytes.
    Raises:
        ParseError: the kernel is no such program.
    Source: TCG-PFP 3.3.4, PCR 4; TDVF 8.1.
    """
    return _extended(
        (
            image_hash(kernel),
            _sha384(b"Calling EFI Application from Boot Option"),
            _sha384(bytes(4)),  # the separator
            _sha384(b"Exit Boot Services Invocation"),
            _sha384(b"Exit Boot Services Returned with Success"),
        )
    )


def rtmr2(cmdline: str, initrd: bytes) -> bytes:
    """RTMR2 of a TD whose kernel gets this command line and initrd.

    Args:
        cmdline: as QEMU gets it; where there is an initrd, OVMF puts its name behind it.
    Returns:
        48 bytes.
    """
    given = cmdline + (" initrd=initrd" if initrd else "")
    events = [_sha384((given + "\0").encode("utf-16-le"))]
    if initrd:
        events.append(_sha384(initrd))
    return _extended(events)


def _sections(cursor: Cursor, file_size: int) -> tuple[Section, ...]:
    head = cursor.part(MetadataHead, "header")
    if head.sections > MAX_SECTIONS:
        raise cursor.refuse("sections", f"at most {MAX_SECTIONS}", f"{head.sections}")
    if head.length != 16 + 32 * head.sections:
        raise cursor.refuse("length", f"{16 + 32 * head.sections} for {head.sections} sections", f"{head.length}")
    found = []
    for index in range(head.sections):
        section = cursor.part(Section, f"section {index}")
        name = f"section {index}"
        if section.address % PAGE or section.size % PAGE or not section.size:
            raise cursor.refuse(name, "whole pages", f"{section.size:#x} bytes at {section.address:#x}")
        in_file = section.type in (SectionType.BFV, SectionType.CFV)
        if section.raw_size != (section.size if in_file else 0):
            expected = f"{section.size:#x} bytes in the file" if in_file else "none in the file"
            raise cursor.refuse(name, expected, f"{section.raw_size:#x}")
        if section.offset + section.raw_size > file_size:
            raise cursor.refuse(name, "bytes of the file", f"{section.raw_size:#x} from {section.offset:#x} on")
        found.append(section)
    for kind in (SectionType.BFV, SectionType.TD_HOB):
        if sum(section.type is kind for section in found) != 1:
            raise cursor.refuse("sections", f"one {kind.name}", "none or several")
    end = 0
    for section in sorted(found, key=lambda item: item.address):
        if section.address < end or section.address + section.size > ovmf.FOUR_GIB:
            raise cursor.refuse("sections", "parts of memory below 4 GiB that do not overlap", f"{section.address:#x}")
        end = section.address + section.size
    if sum(section.size for section in found) > ovmf.MAX_FIRMWARE * 2:
        raise cursor.refuse("sections", f"at most {ovmf.MAX_FIRMWARE * 2:#x} bytes of memory", "more")
    return tuple(found)


def _record(what: bytes, address: int) -> bytes:
    """128 bytes: the function's name, at 10h the address."""
    return (what.ljust(16, b"\0") + address.to_bytes(8, "little")).ljust(128, b"\0")


def _extended(digests: Iterable[bytes]) -> bytes:
    """A register that begins as zero and is extended by each."""
    register = bytes(48)
    for digest in digests:
        register = _sha384(register + digest)
    return register


def _sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()
