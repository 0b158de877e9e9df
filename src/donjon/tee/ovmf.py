"""OVMF, the firmware of virtual machines, as a host reads it that starts a confidential one: SNP and TDX share this.

    data | u16 length | GUID | ... | data | u16 length | GUID | u16 length of all | footer GUID | reset vector 32 |
                                                                                                    end, at 4 GiB

The table is read from its end, as each entry has its length and name behind its data; lengths count data, length and
name. Entries say where other things are, as a distance from the end of the file. Two entries of one name are refused:
readers would differ on which they take.

A file comes from outside: sizes are limited before anything is read, and every number is checked against the file.
Source: EDK2, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm; QEMU, hw/i386/pc_sysfw_ovmf.c [OVMF].
"""

from __future__ import annotations

from dataclasses import dataclass

from donjon.errors import ParseError
from donjon.wire import Cursor

__all__ = ["FOOTER", "FOUR_GIB", "MAX_FIRMWARE", "PAGE", "RESET_VECTOR", "Firmware", "guid", "parse"]

PAGE = 4096
FOUR_GIB = 1 << 32
MAX_FIRMWARE = 16 << 20
"""QEMU maps no more than 16 MiB below 4 GiB; OVMF has 2 or 4."""
RESET_VECTOR = 32
"""Bytes behind the table."""
MAX_ENTRIES = 64
_HEAD = 18  # length and name


def guid(text: str) -> bytes:
    """The 16 bytes of a GUID as UEFI stores it: its first three groups with the least significant byte first."""
    first, second, third, *rest = (bytes.fromhex(group) for group in text.split("-"))
    return first[::-1] + second[::-1] + third[::-1] + b"".join(rest)


FOOTER = guid("96b582de-1fb2-45f7-baea-a366c55a082d")


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware file whose table has been read.

    Args:
        data: the file; a multiple of 4096 bytes.
        entries: name, 16 bytes, → data.
    """

    data: bytes
    entries: dict[bytes, bytes]

    @property
    def base(self) -> int:
        """The guest address of the first byte: the file ends at 4 GiB."""
        return FOUR_GIB - len(self.data)

    def number(self, name: bytes, what: str, index: int = 0) -> int | None:
        """A number of 4 bytes in an entry; None where there is no such entry.

        Args:
            what: the entry, for errors. index: how many numbers stand before it.
        Raises:
            ParseError: the entry is too short for it.
        """
        entry = self.entries.get(name)
        if entry is None:
            return None
        if len(entry) < 4 * index + 4:
            raise ParseError(f"firmware, {what}: expected at least {4 * index + 4} bytes, got {len(entry)}")
        return int.from_bytes(entry[4 * index : 4 * index + 4], "little")

    def pointed(self, name: bytes, what: str, before: int = 0) -> Cursor | None:
        """What an entry points at, from there to the end of the file; None where there is no such entry.

        Args:
            what: the thing, for errors. before: how many bytes before it have to be in the file too.
        Raises:
            ParseError: it would lie outside the file.
        """
        distance = self.number(name, what)
        if distance is None:
            return None
        if not 0 < distance <= len(self.data) - before:
            raise ParseError(
                f"firmware, {what}: expected a distance from the end in the file's {len(self.data):#x} bytes, "
                f"got {distance:#x}"
            )
        at = len(self.data) - distance
        return Cursor(memoryview(self.data)[at:], f"firmware, {what}", base=at)


def parse(data: bytes) -> Firmware:
    """Read the table of a firmware file.

    Args:
        data: the file, at most 16 MiB.
    Raises:
        ParseError: no such file; the text gives the place.
    """
    if len(data) > MAX_FIRMWARE:
        raise ParseError(f"firmware: expected at most {MAX_FIRMWARE} bytes, got {len(data)}")
    if not data or len(data) % PAGE:
        raise ParseError(f"firmware: expected a multiple of {PAGE} bytes, got {len(data)}")
    end = len(data) - RESET_VECTOR
    if data[end - 16 : end] != FOOTER:
        raise ParseError(
            f"firmware: expected OVMF's table, whose name stands at {end - 16:#x}, got {data[end - 16 : end].hex()}",
            "it has to be OVMF as one file, without a separate one for variables",
        )
    total = _length(data, end)
    if not _HEAD <= total <= end:
        raise ParseError(f"firmware, length of the table at {end - _HEAD:#x}: expected 18 to {end:#x}, got {total:#x}")
    return Firmware(data, _entries(data, end - total, end - _HEAD))


def _entries(data: bytes, start: int, end: int) -> dict[bytes, bytes]:
    """The entries between `start` and `end`, from the last to the first."""
    found: dict[bytes, bytes] = {}
    while end > start:
        room = end - start
        length = _length(data, end) if room >= _HEAD else 0
        place = f"firmware, length of an entry at {max(end - _HEAD, start):#x}"
        if not _HEAD <= length <= room:
            raise ParseError(f"{place}: expected 18 to {room}, got {length if room >= _HEAD else 'no room for one'}")
        name = data[end - 16 : end]
        if name in found:
            raise ParseError(f"{place}: expected each name once, got {name.hex()} again")
        if len(found) == MAX_ENTRIES:
            raise ParseError(f"{place}: expected at most {MAX_ENTRIES} entries, got more")
        found[name] = data[end - length : end - _HEAD]
        end -= length
    return found


def _length(data: bytes, end: int) -> int:
    return int.from_bytes(data[end - _HEAD : end - 16], "little")
