"""JSON of which there is one form, and a reader of any, without what the package `json` loads.

`json` is a scanner and an encoder in C, and regular expressions around them for what is not asked for here: other
encodings, indentation, subclasses. These cost more than all the rest of a small descriptor. So the two are used as
they are; where an interpreter has them not, or otherwise, `json` does the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["canonical", "parse"]

WHITESPACE = " \t\n\r"


def canonical(value: object) -> bytes:
    """JSON of which there is one form: names sorted, no whitespace, UTF-8.

    Names are sorted by code points, which is the order of their bytes in UTF-8. Bytes that are no UTF-8 (arguments of a
    command line may hold such) are written as the escapes of the surrogates that Python keeps them as.
    """
    text = _encode(value)
    return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one for one in text).encode()


def parse(data: bytes) -> object:
    """What JSON in UTF-8 says.

    Raises:
        ValueError, RecursionError: it is none, or too deep.
    """
    return _decode(data.decode())


def _refuse(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


class _Plain:
    """What the scanner asks for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, _refuse


def _in_c() -> tuple[Callable[[object], str], Callable[[str], object]]:
    from _json import encode_basestring, make_encoder, make_scanner

    def unknown(value: object) -> object:
        raise TypeError(f"{type(value).__name__} is no JSON")

    encoder = make_encoder(None, unknown, encode_basestring, None, ":", ",", True, False, False)
    scan = make_scanner(_Plain)  # type: ignore[arg-type]  # only these are looked at

    def encode(value: object) -> str:
        return "".join(encoder(value, 0))

    def decode(text: str) -> object:
        text = text.strip(WHITESPACE)
        try:
            found, end = scan(text, 0)
        except StopIteration:
            raise ValueError("no JSON") from None
        if end != len(text):
            raise ValueError("more than one value")
        return found

    if encode({"b": ["é"], "a": 1}) != '{"a":1,"b":["é"]}' or decode('{"a": [1, "b"]}') != {"a": [1, "b"]}:
        raise ImportError
    return encode, decode


def _in_python() -> tuple[Callable[[object], str], Callable[[str], object]]:
    import json

    def encode(value: object) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def decode(text: str) -> object:
        return json.loads(text, parse_constant=_refuse)

    return encode, decode


try:
    _encode, _decode = _in_c()
except (ImportError, TypeError, AttributeError):
    _encode, _decode = _in_python()
