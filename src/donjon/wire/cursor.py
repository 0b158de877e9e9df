"""A cursor over bytes whose structure is known only while reading: what has a length before it, what is nested.

    cursor = Cursor(data, "Quote")
    head = cursor.part(QuoteHeader, "header")
    signature = cursor.nested(cursor.u32("signature length"), "signature data")
    ...
    signature.end()          # every cursor ends with this: leftover bytes are an error
    cursor.end()

Errors name the thing, the field and its offset in the outermost data: `Quote.signature data at 0x27c: expected ...`.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from donjon.errors import ParseError
from donjon.wire.layout import size_of, unpack

T = TypeVar("T")


class Cursor:
    """Reads from the start to the end of `data`.

    Args:
        data: what arrived; its size has been limited by who received it.
        name: of the whole, for errors.
        order: of numbers.
        base: the offset that the first byte has in errors.
    """

    __slots__ = ("_data", "_order", "at", "base", "name")

    def __init__(
        self, data: bytes | memoryview, name: str, order: Literal["little", "big"] = "little", base: int = 0
    ) -> None:
        self._data = memoryview(data)
        self._order: Literal["little", "big"] = order
        self.name = name
        self.base = base
        self.at = 0
        """Index of the next byte."""

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return len(self._data) - self.at

    def refuse(self, field: str, expected: str, got: str, at: int | None = None) -> ParseError:
        """Make the error for a field: `raise cursor.refuse("type", "5", "1")`."""
        place = self.base + (self.at if at is None else at)
        return ParseError(f"{self.name}.{field} at {place:#05x}: expected {expected}, got {got}")

    def _view(self, size: int, field: str) -> memoryview:
        if size < 0 or size > self.left:
            raise self.refuse(field, f"{size} bytes", f"{self.left}")
        start, self.at = self.at, self.at + size
        return self._data[start : self.at]

    def take(self, size: int, field: str) -> bytes:
        """The next `size` bytes.

        Raises:
            ParseError: there are fewer.
        """
        return bytes(self._view(size, field))

    def rest(self) -> bytes:
        """Everything that follows; maybe nothing."""
        return bytes(self._view(self.left, "rest"))

    def peek(self, size: int) -> bytes:
        """Up to `size` of the next bytes, without going on."""
        return bytes(self._data[self.at : self.at + size])

    def number(self, size: int, field: str) -> int:
        """A number of `size` bytes without sign."""
        return int.from_bytes(self._view(size, field), self._order)

    def u8(self, field: str) -> int:
        """A number of one byte."""
        return self.number(1, field)

    def u16(self, field: str) -> int:
        """A number of two bytes."""
        return self.number(2, field)

    def u32(self, field: str) -> int:
        """A number of four bytes."""
        return self.number(4, field)

    def u64(self, field: str) -> int:
        """A number of eight bytes."""
        return self.number(8, field)

    def part(self, table: type[T], field: str) -> T:
        """A struct table; its own errors count from its own start.

        Raises:
            ParseError: too few bytes, or a row holds what it may not.
        """
        return unpack(table, self._view(size_of(table), field))

    def nested(self, size: int, field: str) -> Cursor:
        """A cursor over the next `size` bytes; this one goes on behind them.

        Raises:
            ParseError: there are fewer.
        """
        base = self.base + self.at
        return Cursor(self._view(size, field), f"{self.name}.{field}", self._order, base)

    def zeros(self, field: str, limit: int | None = None) -> None:
        """Everything that follows has to be zero, and at most `limit` bytes: padding that a format allows.

        Raises:
            ParseError: another byte, or more of them.
        """
        if limit is not None and self.left > limit:
            raise self.refuse(field, f"at most {limit} bytes", f"{self.left}")
        start = self.at
        found = self.rest()
        if found.count(0) != len(found):
            where = next(index for index, byte in enumerate(found) if byte)
            raise self.refuse(field, "zero bytes", f"{found[where]:02x}", start + where)

    def end(self) -> None:
        """Nothing may follow.

        Raises:
            ParseError: something does.
        """
        if self.left:
            shown = self.peek(8).hex() + ("..." if self.left > 8 else "")
            raise self.refuse("end", "no more bytes", f"{self.left} ({shown})")
