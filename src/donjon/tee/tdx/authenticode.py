"""The hash of a program for UEFI as firmware measures it: all of the file but its checksum and its signatures.

A Linux kernel (bzImage) is such a program. A signature that is added or taken away leaves the hash as it is.

    DOS header ... 3Ch: offset of | "PE\\0\\0" | file header | optional header with data directories | section table
    the sections' bytes | other bytes | attribute certificates, which are the signatures

Source: Windows Authenticode Portable Executable Signature Format, «Calculating the PE Image Hash» [AUTHENTICODE]; PE
Format, optional header [PE]; EDK2's SecurityPkg does the same.
"""

from __future__ import annotations

import hashlib

from donjon.errors import ParseError
from donjon.wire import Cursor

__all__ = ["MAX_PROGRAM", "image_hash"]

MAX_PROGRAM = 512 << 20
MAX_SECTIONS = 96
_PE32, _PE32_PLUS = 0x10B, 0x20B
_CHECKSUM = 64  # in the optional header, the same in both kinds
_DIRECTORIES = {_PE32: 96, _PE32_PLUS: 112}
_SECURITY = 4  # index of the data directory of signatures


def image_hash(data: bytes, algorithm: str = "sha384") -> bytes:
    """Hash a program.

    Args:
        data: the file, at most 512 MiB. algorithm: a name of hashlib's.
    Raises:
        ParseError: no such program, or one whose parts overlap or reach beyond it.
    """
    if len(data) > MAX_PROGRAM:
        raise ParseError(f"program: expected at most {MAX_PROGRAM} bytes, got {len(data)}")
    cursor = _at(data, 0x3C)
    header = cursor.u32("offset of the PE header")
    cursor = _at(data, header)
    if cursor.take(4, "signature") != b"PE\0\0":
        raise ParseError(f"program: expected a PE header at {header:#x}, as kernels with an EFI stub have one")
    cursor.u16("machine")
    count = cursor.u16("number of sections")
    if count > MAX_SECTIONS:
        raise cursor.refuse("number of sections", f"at most {MAX_SECTIONS}", f"{count}")
    cursor.take(12, "file header")
    size = cursor.u16("size of the optional header")
    cursor.u16("characteristics")
    start = header + 24
    optional = cursor.nested(size, "optional header")
    kind = optional.u16("magic")
    if kind not in _DIRECTORIES:
        raise optional.refuse("magic", f"{_PE32:#x} or {_PE32_PLUS:#x}", f"{kind:#x}", 0)
    headers = _number(optional, size, 60, "size of the headers")
    directories = _number(optional, size, _DIRECTORIES[kind] - 4, "number of data directories")
    security = _DIRECTORIES[kind] + 8 * _SECURITY
    signatures = _number(optional, size, security + 4, "size of the signatures") if directories > _SECURITY else 0
    if signatures and _number(optional, size, security, "offset of the signatures") != len(data) - signatures:
        raise optional.refuse("signatures", "the end of the file", "another place", security)
    if not start + size <= headers <= len(data) - signatures:
        raise optional.refuse("size of the headers", f"{start + size:#x} to the end of the file", f"{headers:#x}", 60)

    found = hashlib.new(algorithm)
    found.update(data[: start + _CHECKSUM])
    if directories > _SECURITY:
        found.update(data[start + _CHECKSUM + 4 : start + security])
        found.update(data[start + security + 8 : headers])
    else:
        found.update(data[start + _CHECKSUM + 4 : headers])
    end = headers
    for offset, length in _sections(cursor, count):
        if offset != end or offset + length > len(data) - signatures:
            raise ParseError(
                f"program: expected a section at {end:#x}, without gap or overlap and in the file, "
                f"got {length:#x} bytes at {offset:#x}"
            )
        found.update(data[offset : offset + length])
        end = offset + length
    found.update(data[end : len(data) - signatures])
    return found.digest()


def _sections(cursor: Cursor, count: int) -> list[tuple[int, int]]:
    """Offset and length of what sections have in the file, in the file's order."""
    found = []
    for index in range(count):
        row = cursor.nested(40, f"section {index}")
        row.take(16, "name and place in memory")
        length = row.u32("size")
        offset = row.u32("offset")
        if length:
            found.append((offset, length))
    return sorted(found)


def _number(optional: Cursor, size: int, offset: int, field: str) -> int:
    """A number of 4 bytes at an offset of the optional header."""
    if offset + 4 > size:
        raise optional.refuse(field, f"an optional header of {offset + 4} bytes", f"{size}", 0)
    optional.at = offset
    return optional.u32(field)


def _at(data: bytes, offset: int) -> Cursor:
    """A cursor from an offset on."""
    if offset > len(data):
        raise ParseError(f"program: expected at least {offset:#x} bytes, got {len(data):#x}")
    return Cursor(memoryview(data)[offset:], "program", base=offset)
