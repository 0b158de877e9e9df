"""ASN.1 in DER, read strictly: every value has exactly one encoding, and everything else is an error.

    outer = Der(data, "Evidence").sequence()
    report = outer.octets("report")
    outer.end()

Why not a library: `asn1crypto` takes BER too (indefinite and long-winded lengths, so two readings of one signed thing
are possible) and has been left alone since 2022; `cryptography.hazmat.asn1` is strict but younger than the versions we
support, and its face still moves. What is left is tag, length, value: a cursor. Whole certificates, CRLs and requests
are `cryptography`'s business; here are the few structures that it does not know or will stop to accept.

Not here: tags above 30, types that no structure of ours has. Nothing recurses: each level is the caller's own call.
"""

from __future__ import annotations

from datetime import UTC, datetime

from donjon.errors import ParseError

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

MAX_INTEGER = 64
"""Bytes of an INTEGER. Versions, counts and serial numbers are read so; RFC 5280 gives a serial number 20."""

_NAMES = {
    BOOLEAN: "BOOLEAN",
    INTEGER: "INTEGER",
    BIT_STRING: "BIT STRING",
    OCTET_STRING: "OCTET STRING",
    NULL: "NULL",
    OID: "OBJECT IDENTIFIER",
    ENUMERATED: "ENUMERATED",
    UTF8_STRING: "UTF8String",
    PRINTABLE_STRING: "PrintableString",
    IA5_STRING: "IA5String",
    UTC_TIME: "UTCTime",
    GENERALIZED_TIME: "GeneralizedTime",
    SEQUENCE: "SEQUENCE",
    SET: "SET",
}


def context(number: int, constructed: bool = True) -> int:
    """The tag byte of [number]."""
    return (0xA0 if constructed else 0x80) | number


class Der:
    """Reads the values in `data`, one after the other.

    Args:
        data: the content of a structure, or a whole encoding.
        name: of the thing, for errors.
        base: the offset that the first byte has in errors.
    """

    __slots__ = ("_at", "_data", "_end", "base", "name")

    def __init__(self, data: bytes, name: str, base: int = 0) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)
        self.name = name
        self.base = base

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return self._end - self._at

    @property
    def tag(self) -> int:
        """The tag of the next value; 0 at the end. For OPTIONAL and CHOICE."""
        return self._data[self._at] if self._at < self._end else 0

    def refuse(self, field: str, expected: str, got: str, at: int | None = None) -> ParseError:
        """Make the error for a field."""
        place = self.base + (self._at if at is None else at)
        where = f"{self.name}.{field}" if field else self.name
        return ParseError(f"{where} at {place:#05x}: expected {expected}, got {got}")

    def _header(self, tag: int, field: str) -> tuple[int, int]:
        """Where the next value's content begins and ends; `tag` 0 takes any."""
        data, at, end = self._data, self._at, self._end
        if end - at < 2:
            raise self.refuse(field, _name(tag), f"{end - at} bytes")
        if tag and data[at] != tag:
            raise self.refuse(field, _name(tag), _name(data[at]))
        if data[at] & 0x1F == 0x1F:
            raise self.refuse(field, "a tag of one byte", f"{data[at]:02x}")
        length = data[at + 1]
        start = at + 2
        if length > 0x7F:
            count = length & 0x7F
            if not 1 <= count <= 4 or end - start < count:
                raise self.refuse(field, "a length of 1 to 5 bytes", f"{length:02x}")
            length = int.from_bytes(data[start : start + count], "big")
            if length <= 0x7F or length >> (8 * (count - 1)) == 0:
                raise self.refuse(field, "the shortest form of the length", data[at + 1 : start + count].hex())
            start += count
        if length > end - start:
            raise self.refuse(field, f"{length} bytes", f"{end - start}")
        return start, start + length

    def take(self, tag: int, field: str) -> bytes:
        """The content of the next value.

        Args:
            tag: what it has to be; 0 takes anything.
        Raises:
            ParseError: it is something else, or not DER.
        """
        start, self._at = self._header(tag, field)
        return self._data[start : self._at]

    def whole(self, tag: int, field: str) -> bytes:
        """The next value with its tag and length, e.g. a certificate to be read by others."""
        begin = self._at
        _, self._at = self._header(tag, field)
        return self._data[begin : self._at]

    def inside(self, tag: int, field: str = "") -> Der:
        """A reader for the content of the next value."""
        start, end = self._header(tag, field)
        self._at = end
        name = f"{self.name}.{field}" if field else self.name
        return Der(self._data[start:end], name, self.base + start)

    def sequence(self, field: str = "") -> Der:
        """A reader for the content of the next value, a SEQUENCE (OF)."""
        return self.inside(SEQUENCE, field)

    def set(self, field: str = "") -> Der:
        """A reader for the content of the next value, a SET (OF)."""
        return self.inside(SET, field)

    def integer(self, field: str) -> int:
        """An INTEGER, of any sign and at most MAX_INTEGER bytes."""
        at = self._at
        content = self.take(INTEGER, field)
        if len(content) > MAX_INTEGER:  # Python writes none of more than 4300 digits into a message, and raises
            raise self.refuse(field, f"an INTEGER of at most {MAX_INTEGER} bytes", f"{len(content)} bytes", at)
        if not content:
            raise self.refuse(field, "an INTEGER of at least 1 byte", "nothing", at)
        if len(content) > 1 and ((content[0] == 0 and content[1] < 0x80) or (content[0] == 0xFF and content[1] > 0x7F)):
            raise self.refuse(field, "the shortest form of the INTEGER", content[:8].hex(), at)
        return int.from_bytes(content, "big", signed=True)

    def boolean(self, field: str) -> bool:
        """A BOOLEAN: 00 or ff."""
        at = self._at
        content = self.take(BOOLEAN, field)
        if content not in {b"\0", b"\xff"}:
            raise self.refuse(field, "a BOOLEAN of 00 or ff", content[:16].hex() or "nothing", at)
        return content == b"\xff"

    def octets(self, field: str) -> bytes:
        """An OCTET STRING."""
        return self.take(OCTET_STRING, field)

    def bits(self, field: str) -> bytes:
        """A BIT STRING of whole bytes."""
        at = self._at
        content = self.take(BIT_STRING, field)
        if not content or content[0] != 0:
            raise self.refuse(field, "a BIT STRING of whole bytes", content[:1].hex() or "nothing", at)
        return content[1:]

    def null(self, field: str) -> None:
        """A NULL."""
        at = self._at
        if self.take(NULL, field):
            raise self.refuse(field, "an empty NULL", "content", at)

    def oid(self, field: str) -> str:
        """An OBJECT IDENTIFIER, with dots."""
        at = self._at
        content = self.take(OID, field)
        text = oid_text(content)
        if text is None:
            raise self.refuse(field, "an OBJECT IDENTIFIER", content[:16].hex() or "nothing", at)
        return text

    def text(self, tag: int, field: str) -> str:
        """A string of the kind `tag`; IA5String and PrintableString are ASCII."""
        at = self._at
        content = self.take(tag, field)
        try:
            return content.decode("utf-8" if tag == UTF8_STRING else "ascii")
        except UnicodeDecodeError as error:
            raise self.refuse(field, f"text of {_name(tag)}", content[:16].hex(), at) from error

    def time(self, field: str) -> datetime:
        """A UTCTime or GeneralizedTime in the one form that RFC 5280 allows: to the second, with a Z."""
        at, tag = self._at, self.tag
        if tag not in {UTC_TIME, GENERALIZED_TIME}:
            raise self.refuse(field, "a time", _name(tag))
        content = self.take(tag, field)
        digits = content[:-1]
        size = 12 if tag == UTC_TIME else 14
        if len(digits) != size or not digits.isdigit() or content[-1:] != b"Z":
            raise self.refuse(field, f"a time of {size} digits and Z", content[:20].hex(), at)
        text = digits.decode("ascii")
        if tag == UTC_TIME:  # RFC 5280, 4.1.2.5.1: 50 to 99 lie before 2000
            text = ("19" if text[0] >= "5" else "20") + text
        try:
            month, day, hour, minute, second = (int(text[index : index + 2]) for index in range(4, 14, 2))
            return datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC)
        except ValueError as error:
            raise self.refuse(field, "a time that exists", text, at) from error

    def end(self) -> None:
        """Nothing may follow.

        Raises:
            ParseError: something does.
        """
        if self.left:
            raise self.refuse("end", "no more bytes", f"{self.left}")


def oid_text(content: bytes) -> str | None:
    """The dotted form of an OBJECT IDENTIFIER's content; None when it is not one in DER, or has more than 64 bytes."""
    if not content or len(content) > 64 or content[-1] & 0x80:
        return None
    arcs: list[int] = []
    arc = 0
    first = True  # byte of its arc
    for byte in content:
        if first and byte == 0x80:
            return None  # a leading zero: not the shortest form
        arc = arc << 7 | byte & 0x7F
        first = not byte & 0x80
        if first:
            arcs.append(arc)
            arc = 0
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, [top, arcs[0] - 40 * top, *arcs[1:]]))


def oid_content(text: str) -> bytes:
    """The content of an OBJECT IDENTIFIER; the opposite of `oid_text`."""
    first, second, *rest = map(int, text.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return bytes(content)


def encode(tag: int, *contents: bytes) -> bytes:
    """Write a value: the tag, the length of all `contents` together, and them.

    A number's content is `integer_content(n)`, an OID's `oid_content(text)`.
    """
    content = b"".join(contents)
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def integer_content(number: int) -> bytes:
    """The content of an INTEGER."""
    return number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True)


def _name(tag: int) -> str:
    if tag in _NAMES:
        return _NAMES[tag]
    if tag & 0xC0 == 0x80:
        return f"[{tag & 0x1F}]"
    return f"the tag {tag:02x}" if tag else "a value"
