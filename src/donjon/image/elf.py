"""What the image needs to know of ELF files: where the loaded part ends, what a library needs, what a module says.

A library of the distribution carries sections that only linkers and debuggers read, behind everything that is ever
mapped: `cut` drops them, in place of `strip`, whose output changes with its version. The section table is gone then, so
a kernel module, which is loaded by its sections, is never cut.   [GABI]
"""

from __future__ import annotations

import struct

from donjon.errors import ParseError

__all__ = ["cut", "modinfo", "needed"]

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SEGMENT = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ = 0, 1, 5, 10
IDENT = b"\x7fELF\x02\x01\x01"  # 64 bit, little-endian, version 1
SECTION_FIELDS = slice(0x28, 0x30), slice(0x3A, 0x40)  # e_shoff; e_shentsize, e_shnum, e_shstrndx


def cut(data: bytes, name: str) -> bytes:
    """An executable or library without what lies behind its last loaded byte.

    Raises:
        ParseError: it is no ELF file for x86-64, or nothing in it is loaded.
    """
    segments = _segments(data, name)
    ends = [offset + size for kind, _, offset, _, _, size, _, _ in segments if kind == PT_LOAD]
    header = HEADER.unpack_from(data)
    end = max([*ends, header[5] + header[9] * header[10]])
    if not ends:
        raise ParseError(f"{name}: expected a segment that is loaded")
    out = bytearray(data[:end])
    for field in SECTION_FIELDS:
        out[field] = bytes(field.stop - field.start)
    return bytes(out)


def needed(data: bytes, name: str) -> list[str]:
    """The libraries that the loader will look for (DT_NEEDED), in order.

    Raises:
        ParseError: the file is malformed.
    """
    segments = _segments(data, name)
    dynamic = next((segment for segment in segments if segment[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    entries: list[tuple[int, int]] = []
    for at in range(dynamic[2], dynamic[2] + dynamic[5] - 15, 16):
        tag, value = struct.unpack_from("<qQ", data, at)
        if tag == DT_NULL:
            break
        entries.append((tag, value))
    values = dict(entries)
    table, size = values.get(DT_STRTAB, 0), values.get(DT_STRSZ, 0)
    start = next((offset + table - address for kind, _, offset, address, _, length, _, _ in segments
                  if kind == PT_LOAD and address <= table and table + size <= address + length), None)  # fmt: skip
    if start is None:
        raise ParseError(f"{name}: expected the table of names inside a segment")
    names = data[start : start + size]
    return [_text(names, value, name) for tag, value in entries if tag == DT_NEEDED]


def modinfo(data: bytes, name: str) -> list[tuple[str, str]]:
    """What a kernel module says of itself, key and value: `("depends", "configfs")`.

    Raises:
        ParseError: the file is malformed.
    """
    header = _header(data, name)
    offset, size, count, index = header[6], header[11], header[12], header[13]
    if size != SECTION.size or offset + size * count > len(data) or index >= count:
        raise ParseError(f"{name}: expected a table of {count} sections at {offset:#x}")
    sections = [SECTION.unpack_from(data, offset + size * number) for number in range(count)]
    names = data[sections[index][4] : sections[index][4] + sections[index][5]]
    for section in sections:
        if section[0] < len(names) and _text(names, section[0], name) == ".modinfo":
            words = data[section[4] : section[4] + section[5]].split(b"\0")
            pairs = [word.decode("utf-8", "replace").partition("=") for word in words if b"=" in word]
            return [(key, value) for key, _, value in pairs]
    raise ParseError(f"{name}: expected a section .modinfo")


def _header(data: bytes, name: str) -> tuple[int, ...]:
    if len(data) < HEADER.size or not data.startswith(IDENT):
        raise ParseError(f"{name}: expected an ELF file of 64 bits, little-endian, got {data[:7].hex()}")
    return HEADER.unpack_from(data)


def _segments(data: bytes, name: str) -> list[tuple[int, ...]]:
    header = _header(data, name)
    offset, size, count = header[5], header[9], header[10]
    if size != SEGMENT.size or offset + size * count > len(data):
        raise ParseError(f"{name}: expected a table of {count} segments at {offset:#x}")
    segments = [SEGMENT.unpack_from(data, offset + size * number) for number in range(count)]
    for _, _, start, _, _, length, _, _ in segments:
        if start + length > len(data):
            raise ParseError(f"{name}: expected a segment of {length} bytes at {start:#x}, the file ends early")
    return segments


def _text(names: bytes, at: int, name: str) -> str:
    end = names.find(b"\0", at)
    if end < 0:
        raise ParseError(f"{name}: expected a name at {at:#x} of its table")
    return names[at:end].decode("utf-8", "replace")
