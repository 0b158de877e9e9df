"""JSON as Intel's services send it: signed text, of which exactly the signed bytes are read.

Standard parsers take the last of two equal keys, and a signature says nothing about which of them a reader takes: here
such text is refused, as are NaN, fractions, deep nesting and anything after the end. Text that carries its own
signature, `{"tcbInfo":{...},"signature":"..."}`, is cut where the bytes lie; nothing is written anew to be checked.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from donjon.errors import ParseError

MAX_BYTES = 64 * 1024
"""Of one document. Intel's longest today has 10 KiB; a byte of the worst that can be written takes 0.15 us."""
MAX_DEPTH = 16
"""Levels of objects and lists; Intel's have five."""

# A string that never ends is one token as well: every character is looked at once, whatever the text.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[][{}]', re.DOTALL)
# Half a character: Python keeps it in a string, which then is no text. Nobody writes whole ones so today.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_SPACE = re.compile(r"[ \t\n\r]*")


def read(data: bytes, where: str, limit: int = MAX_BYTES) -> Any:
    """Parse one document.

    Args:
        data: UTF-8 without a byte order mark, at most `limit` bytes.
        where: what this is, for messages, e.g. "TCB info".
    Returns:
        dict, list, str, int, bool or None, and these inside.
    Raises:
        ParseError: not JSON, too long, too deep, a key twice in one object, a fraction, a number of over 20 digits.
    """
    text = _text(data, where, limit)
    value, end = _scan(text, _skip(text, 0), where)
    if end != len(text.rstrip(" \t\n\r")):
        raise ParseError(f"{where}: expected the end at byte {end}, got {text[end : end + 20]!a}")
    return value


def split(data: bytes, name: str, where: str) -> tuple[bytes, bytes]:
    """Take `{"<name>":{...},"signature":"<128 hex digits>"}` apart.

    Returns:
        the object's own bytes, as signed, and the signature's 64 bytes.
    Raises:
        ParseError: it is anything else; the order of the two members does not matter.
    """
    text = _text(data, where, MAX_BYTES)
    at = _skip(text, 0)
    members: dict[str, tuple[Any, str]] = {}
    if text[at : at + 1] != "{":
        raise ParseError(f"{where}: expected an object, got {text[at : at + 20]!a}")
    closing = ""
    while closing != "}":
        key, at = _scan(text, _skip(text, at + 1), where)
        at = _skip(text, at)
        if key not in (name, "signature") or key in members or text[at : at + 1] != ":":
            raise ParseError(f'{where}: expected the members "{name}" and "signature", got {str(key)[:40]!a}')
        start = _skip(text, at + 1)
        value, at = _scan(text, start, where)
        members[key] = value, text[start:at]
        at = _skip(text, at)
        closing = text[at : at + 1]
        if closing not in (",", "}"):
            raise ParseError(f'{where}: expected "," or "}}" at byte {at}, got {closing!a}')
    if _skip(text, at + 1) != len(text) or len(members) != 2:
        raise ParseError(f'{where}: expected the members "{name}" and "signature" and nothing else')
    return members[name][1].encode(), signature(members["signature"][0], where)


def signature(value: object, where: str) -> bytes:
    """Read an ECDSA P-256 signature from 128 hex digits: r and s, 32 bytes each, big endian.

    Raises:
        ParseError: it is anything else.
    """
    if not isinstance(value, str) or not re.fullmatch("[0-9A-Fa-f]{128}", value):
        raise ParseError(f"{where} signature: expected 128 hex digits, got {str(value)[:40]!a}")
    return bytes.fromhex(value)


def _text(data: bytes, where: str, limit: int) -> str:
    """Decode after asking for size and depth, in time that grows with the size and no more."""
    if len(data) > limit:
        raise ParseError(f"{where}: expected at most {limit} bytes, got {len(data)}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"{where} at byte {error.start}: expected UTF-8, got {data[error.start]:02x}") from error
    half = _SURROGATE.search(text)
    if half:
        raise ParseError(f"{where} at character {half.start()}: expected whole characters, got {half[0]}")
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ParseError(f"{where} at character {token.start()}: expected at most {MAX_DEPTH} levels, got more")
        elif first in "]}":
            depth -= 1
    return text


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _scan(text: str, at: int, where: str) -> tuple[Any, int]:
    """One value from `at` on, and where it ends."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise ParseError(f"{where} at character {error.pos}: expected JSON, got {error.msg[:60].lower()}") from error
    except _RefusedError as error:
        raise ParseError(f"{where}: {error}") from error


class _RefusedError(Exception):
    pass


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) != len(members):
        left = dict.fromkeys(made, 1)
        twice = next(name for name, _ in members if left.pop(name, 0) == 0)
        raise _RefusedError(f"expected each key once, got {twice[:40]!a} twice")
    return made


def _number(text: str) -> int:
    if len(text) > 20:
        raise _RefusedError(f"expected a number of at most 20 digits, got {len(text)} characters")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise _RefusedError(f"expected a whole number, got {text[:20]}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_number, parse_float=_refuse, parse_constant=_refuse, strict=True
)
