"""What OVMF says to whoever starts it in an SNP guest: which pages to add, and whether it measures the kernel.

    reset block     where the other processors begin
    SEV metadata    "ASEV" | u32 size | u32 version 1 | u32 n | n of Section
    hash table      u32 address | u32 size: where the host puts the SHA-256 of kernel, initrd and command line

Only firmware with a section SNP_KERNEL_HASHES measures the kernel: the page of hashes becomes part of the launch
digest, and the firmware boots nothing that differs from it. All other firmware boots whatever the host hands over, so
its launch digest says nothing about what runs; `check_measures_kernel` refuses it.

Source: EDK2, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm [OVMF]; QEMU, target/i386/sev.c, for sizes and overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from donjon.errors import ParseError, UsageError
from donjon.tee import ovmf
from donjon.tee.ovmf import PAGE
from donjon.wire import Cursor, layout, raw, u32

__all__ = [
    "HASH_TABLE_SIZE",
    "METADATA_HINT",
    "NEEDED",
    "Firmware",
    "Section",
    "SectionType",
    "check_measures_kernel",
    "parse",
]

NEEDED = "OVMF.amdsev.fd of the Debian package ovmf-amdsev (in sid since 2026.08), or a build of EDK2's AmdSevX64.dsc"
METADATA_HINT = f"use {NEEDED}"

RESET_BLOCK = ovmf.guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
HASH_TABLE = ovmf.guid("7255371f-3a3b-4b04-927b-1da6efa8d454")
METADATA = ovmf.guid("dc886566-984a-4798-a75e-5585a7bf67cc")
HASH_TABLE_SIZE = 176
"""Bytes of the table that QEMU writes: three hashes with names and lengths, padded to 16."""
MAX_SECTIONS = 64
MAX_MEMORY = 32 << 20


class SectionType(IntEnum):
    """What the host does with the pages of a section.   [OVMF, OvmfSevMetadata.asm]"""

    SNP_SEC_MEM = 1
    """Zero pages."""
    SNP_SECRETS = 2
    CPUID = 3
    SVSM_CAA = 4
    """A zero page, unless there is an SVSM."""
    SNP_KERNEL_HASHES = 0x10


_SINGLE = (SectionType.SNP_SECRETS, SectionType.CPUID, SectionType.SNP_KERNEL_HASHES)


# fmt: off
@layout(size=0x10, spec="OVMF, OvmfSevMetadata.asm, header")
class MetadataHead:
    """Before the sections."""

    signature: bytes = raw(0x0, 4, only=(b"ASEV",))
    size:      int   = u32(0x4)                      # of this and the sections
    version:   int   = u32(0x8, only=(1,))
    sections:  int   = u32(0xC)


@layout(size=0x0C, spec="OVMF, OvmfSevMetadata.asm, section")
class Section:
    """Guest memory that is there from the start; `gpa` and `size` in bytes, multiples of 4096."""

    gpa:  int         = u32(0x0)
    size: int         = u32(0x4)
    type: SectionType = u32(0x8, SectionType)
# fmt: on


@dataclass(frozen=True, slots=True)
class Firmware:
    """OVMF that can start an SNP guest.

    Args:
        data: the file, mapped up to 4 GiB.
        sections: in the order in which they are added; no two overlap.
        reset_eip: where the second processor and all others begin.
        hash_table: the address of the table of hashes; None where the firmware has no place for one.
    """

    data: bytes
    sections: tuple[Section, ...]
    reset_eip: int
    hash_table: int | None

    @property
    def base(self) -> int:
        """The guest address of the first byte."""
        return ovmf.FOUR_GIB - len(self.data)

    @property
    def measures_kernel(self) -> bool:
        """Whether it has a page for the hashes of kernel, initrd and command line."""
        return self.hash_table is not None


def parse(data: bytes) -> Firmware:
    """Read a firmware file.

    Args:
        data: the file, at most 16 MiB.
    Raises:
        ParseError: not OVMF, or without what an SNP guest needs.
    """
    found = ovmf.parse(data)
    cursor = found.pointed(METADATA, "SEV metadata")
    if cursor is None:
        raise ParseError("firmware: expected SEV metadata in OVMF's table, got none", METADATA_HINT)
    sections = _sections(cursor)
    _check_apart(sections, found.base)
    eip = found.number(RESET_BLOCK, "SEV-ES reset block")
    if eip is None:
        raise ParseError("firmware: expected an SEV-ES reset block in OVMF's table, got none", METADATA_HINT)
    return Firmware(data, sections, eip, _hash_table(found, sections))


def check_measures_kernel(firmware: Firmware) -> None:
    """Refuse firmware that boots any kernel.

    Raises:
        UsageError: it has no page for the hashes.
    """
    if not firmware.measures_kernel:
        raise UsageError(
            "this firmware does not measure the kernel (it has no section SNP_KERNEL_HASHES): the host could boot "
            "anything with it, and the launch digest would be the same",
            METADATA_HINT,
        )


def _sections(cursor: Cursor) -> tuple[Section, ...]:
    head = cursor.part(MetadataHead, "header")
    if head.sections > MAX_SECTIONS:
        raise cursor.refuse("sections", f"at most {MAX_SECTIONS}", f"{head.sections}")
    if head.size != 16 + 12 * head.sections:
        raise cursor.refuse("size", f"{16 + 12 * head.sections} for {head.sections} sections", f"{head.size}")
    found = []
    for index in range(head.sections):
        section = cursor.part(Section, f"section {index}")
        if section.gpa % PAGE or section.size % PAGE:
            raise cursor.refuse(f"section {index}", "whole pages", f"{section.size:#x} bytes at {section.gpa:#x}")
        if section.type in _SINGLE and section.size != PAGE:
            raise cursor.refuse(f"section {index}", f"one page for {section.type.name}", f"{section.size:#x} bytes")
        found.append(section)
    for kind in _SINGLE:
        if sum(section.type is kind for section in found) > 1:
            raise cursor.refuse("sections", f"one {kind.name}", "several")
    return tuple(found)


def _check_apart(sections: tuple[Section, ...], base: int) -> None:
    """No page may be added twice, and none where the firmware itself is: which content counts would be open."""
    total = sum(section.size for section in sections)
    if total > MAX_MEMORY:  # each page costs a step of the chain
        raise ParseError(f"firmware, SEV metadata: expected at most {MAX_MEMORY:#x} bytes of memory, got {total:#x}")
    end = 0
    for section in sorted((item for item in sections if item.size), key=lambda item: item.gpa):
        if section.gpa < end or section.gpa + section.size > base:
            raise ParseError(
                f"firmware, SEV metadata: expected sections apart from each other and below {base:#x}, "
                f"got {section.type.name} of {section.size:#x} bytes at {section.gpa:#x}"
            )
        end = section.gpa + section.size


def _hash_table(firmware: ovmf.Firmware, sections: tuple[Section, ...]) -> int | None:
    """Where hashes go. The table and the page are only worth something together."""
    page = next((item for item in sections if item.type is SectionType.SNP_KERNEL_HASHES), None)
    if page is None:
        return None
    what = "hash table"
    address = firmware.number(HASH_TABLE, what)
    if address is None:
        raise ParseError("firmware: expected a hash table in OVMF's table, as there is a page for it, got none")
    size = firmware.number(HASH_TABLE, what, 1) or 0
    if size < HASH_TABLE_SIZE or not page.gpa <= address <= page.gpa + PAGE - size:
        raise ParseError(
            f"firmware, {what}: expected at least {HASH_TABLE_SIZE} bytes in the page at {page.gpa:#x}, "
            f"got {size} bytes at {address:#x}"
        )
    return address
