"""Bytes and their meaning: struct tables that read like a specification's, a cursor for what is nested, strict DER.

    @layout, u8 .. u64, raw, zero      a table of fixed size; `unpack` and `pack` follow it
    Cursor                             lengths that are themselves data; what is left over is an error
    der                                tag, length and value of ASN.1 in its one canonical encoding

Everything here takes bytes and gives values, or raises ParseError with the place in its text. Nothing recurses, and no
length is believed before it is compared with what is there.
"""

from donjon.wire.cursor import Cursor
from donjon.wire.layout import layout, offset_of, pack, raw, size_of, u8, u16, u32, u64, unpack, unpack_part, zero

__all__ = [
    "Cursor",
    "layout",
    "offset_of",
    "pack",
    "raw",
    "size_of",
    "u8",
    "u16",
    "u32",
    "u64",
    "unpack",
    "unpack_part",
    "zero",
]
