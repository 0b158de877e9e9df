"""Strict CBOR: what a CCA token may be made of, and nothing else.

cbor2 makes the values. Before that, one pass over the heads of all items, without recursion, refuses what cbor2 would
take or interpret: tags that turn bytes into numbers, dates, patterns or shared objects, floats, undefined and other
simple values, indefinite lengths, lengths past the end, deep nesting, bytes after the end. Its time grows with the
bytes. Maps with a key twice, and text that is not UTF-8, are refused by cbor2.

Not demanded: the shortest encoding of a number or a length ("variant serialization MAY be used", CCA-TOKEN 4.11.3).
Nothing depends on it, as signatures and hashes are over bytes as they came.
"""

from __future__ import annotations

from collections.abc import Mapping

import cbor2

from donjon.errors import ParseError

MAX_DEPTH = 16  # arrays, maps and tags within each other

UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, OTHER = range(8)
FALSE, TRUE, NULL = 20, 21, 22
INDEFINITE = 31


def read(data: bytes, where: str, tags: tuple[int, ...] = ()) -> object:
    """Read one item that fills `data`.

    Args:
        where: what is read, for messages, e.g. "CCA token".
        tags: the tag numbers that may occur.
    Returns:
        int, bytes, str, bool, None, tuple, a Mapping, or cbor2.CBORTag; containers hold the same kinds.
    Raises:
        ParseError: it is not CBOR, or not as the module says; the text gives the offset in bytes.
    Source: STD94 (RFC 8949), CCA-TOKEN 4.11.1.
    """
    _scan(data, where, tags)
    try:
        return cbor2.loads(
            data, max_depth=MAX_DEPTH + 1, allow_indefinite=False, allow_duplicate_keys=False, immutable=True
        )
    except cbor2.CBORError as error:
        raise ParseError(f"{where}: not CBOR that this format allows: {_tidy(error)}") from error


def read_map(data: bytes, where: str) -> Mapping[object, object]:
    """Read a map that fills `data`; otherwise as `read`."""
    value = read(data, where)
    if not isinstance(value, Mapping):
        raise ParseError(f"{where}: expected a map, got {kind(value)}")
    return value


def kind(value: object) -> str:
    """Name a value's kind in CBOR's words, with its size, for messages."""
    if isinstance(value, bool) or value is None:
        return {False: "false", True: "true", None: "null"}[value]
    if isinstance(value, int):
        return f"the integer {value}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes" if len(value) != 1 else "1 byte"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 80 else f"a text of {len(value)} characters"
    if isinstance(value, tuple):
        return f"an array of {len(value)}"
    if isinstance(value, Mapping):
        return f"a map of {len(value)}"
    return f"tag {value.tag}" if isinstance(value, cbor2.CBORTag) else type(value).__name__


def _scan(data: bytes, where: str, tags: tuple[int, ...]) -> None:
    """Refuse everything but one complete item made of what is allowed."""
    open_items: list[int] = []  # for each container around this place: how many items it still lacks
    at = 0
    while True:
        start = at
        if at >= len(data):
            raise ParseError(f"{where} at {start:#x}: expected another item, got the end")
        major, info = data[at] >> 5, data[at] & 0x1F
        at += 1
        if info < 24:
            argument = info
        elif info < 28:
            width = 1 << (info - 24)
            argument = int.from_bytes(data[at : at + width], "big")
            at += width
            if at > len(data):
                raise ParseError(f"{where} at {start:#x}: expected a head of {1 + width} bytes, got the end")
        elif info == INDEFINITE:
            raise ParseError(f"{where} at {start:#x}: expected a definite length, got an indefinite one")
        else:
            raise ParseError(f"{where} at {start:#x}: expected an item, got the reserved byte {data[start]:02x}")

        items = 0
        if major in (BYTES, TEXT):
            if argument > len(data) - at:
                raise ParseError(f"{where} at {start:#x}: expected a string of {argument} bytes, got {len(data) - at}")
            at += argument
        elif major in (ARRAY, MAP):
            items = argument * (2 if major == MAP else 1)
            if items > len(data) - at:  # each takes a byte at least
                raise ParseError(f"{where} at {start:#x}: expected {items} items, got {len(data) - at} bytes")
        elif major == TAG:
            if argument not in tags:
                allowed = " or ".join(str(tag) for tag in tags) or "none"
                raise ParseError(f"{where} at {start:#x}: expected tag {allowed}, got tag {argument}")
            items = 1
        elif major == OTHER and info not in (FALSE, TRUE, NULL):
            raise ParseError(
                f"{where} at {start:#x}: expected an integer, string, array, map, true, false or null, "
                f"got the byte {data[start]:02x}"
            )

        if items:
            if len(open_items) == MAX_DEPTH:
                raise ParseError(f"{where} at {start:#x}: expected at most {MAX_DEPTH} levels of nesting, got more")
            open_items.append(items)
            continue
        while open_items:
            open_items[-1] -= 1
            if open_items[-1]:
                break
            open_items.pop()
        if not open_items:
            break
    if at != len(data):
        raise ParseError(f"{where} at {at:#x}: expected the end, got {len(data) - at} more bytes")


def _tidy(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:159] + "…"
