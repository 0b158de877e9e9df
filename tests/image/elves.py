"""ELF files as small as they can be, with what the code under test looks at."""

from __future__ import annotations

import struct

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")


def library(needs: tuple[str, ...] = (), tail: bytes = b"debugging") -> bytes:
    """A library that needs others; `tail` lies behind what is loaded."""
    names, offsets = b"\0", []
    for name in needs:
        offsets.append(len(names))
        names += name.encode() + b"\0"
    start = HEADER.size + 2 * SEGMENT.size
    dynamic = b"".join(struct.pack("<qQ", 1, offset) for offset in offsets)
    size = len(dynamic) + 3 * 16
    dynamic += struct.pack("<qQqQqQ", 5, 0x1000 + start + size, 10, len(names), 0, 0)
    body = dynamic + names
    end = start + len(body)
    header = HEADER.pack(IDENT, 3, 62, 1, 0, HEADER.size, end, 0, HEADER.size, SEGMENT.size, 2, SECTION.size, 1, 0)
    load = SEGMENT.pack(1, 5, 0, 0x1000, 0x1000, end, end, 0x1000)
    return header + load + SEGMENT.pack(2, 6, start, 0x1000 + start, 0, size, size, 8) + body + tail


def module(info: tuple[str, ...]) -> bytes:
    """A kernel module that says `info` of itself."""
    text = b"\0".join(word.encode() for word in info) + b"\0"
    names = b"\0.modinfo\0.shstrtab\0"
    at = HEADER.size
    table = at + len(text) + len(names)
    sections = SECTION.pack(*[0] * 10)
    sections += SECTION.pack(1, 1, 2, 0, at, len(text), 0, 0, 1, 0)
    sections += SECTION.pack(10, 3, 0, 0, at + len(text), len(names), 0, 0, 1, 0)
    header = HEADER.pack(IDENT, 1, 62, 1, 0, 0, table, 0, HEADER.size, 0, 0, SECTION.size, 3, 2)
    return header + text + names + sections
