"""Claim sets as tables: one row a claim, as in the specification; reading, writing and checking come from the row.

    @claims
    class RealmClaims(Claims):
        challenge:  bytes      = claim(10, "cca-realm-challenge", data(64))
        mec_policy: int | None = claim(44243, "cca-realm-mec-policy", whole(0, 1), default=None)

A row is the key, the specification's name, and what the value may be; `default=None` means that the claim may be
absent. Values are kept as they are on the wire (arrays as tuples), so that a set that was read is written the same.
Importing fails when a key has two rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

from donjon.errors import BugError, ParseError
from donjon.tee.cca._cbor import kind

T = TypeVar("T")

Rule = Callable[[object, str], Any]
"""Gives the value as the table keeps it, or raises ParseError; the text is where the value stands."""

MAX_TEXT = 256  # characters; texts in a token are names, versions and addresses


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What `claim` says: key on the wire, name in the specification, what the value may be, whether it may lack."""

    key: int
    name: str
    rule: Rule
    optional: bool


def claim(key: int, name: str, rule: Rule, *, default: Any = dataclasses.MISSING) -> Any:
    """One row."""
    row = Row(key, name, rule, default is not dataclasses.MISSING)
    return dataclasses.field(default=default, metadata={"row": row})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(claim, dataclasses.field))
def claims(plain: type[T]) -> type[T]:
    """Make the class: frozen, made by keywords, with its table of rows in `ROWS`."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(plain)
    rows = {item.name: item.metadata["row"] for item in dataclasses.fields(made) if "row" in item.metadata}  # type: ignore[arg-type]  # it is a dataclass now
    if len({row.key for row in rows.values()}) != len(rows):
        raise BugError(f"{plain.__name__}: two claims have the same key")
    made.ROWS = rows  # type: ignore[attr-defined]  # `Claims` declares it
    return made


@claims
class Claims:
    """A map whose keys are known.

    Args:
        others: what the map holds beside that. "The receiver MUST NOT error out on claims it does not understand"
            (CCA-TOKEN 4.11.3): policy decides.
    """

    ROWS: ClassVar[Mapping[str, Row]] = {}

    others: Mapping[int | str, object] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, value: object, where: str, strict: bool = False) -> Self:
        """Make it from a map that was read.

        Args:
            strict: other keys are errors too.
        Raises:
            ParseError: not a map, a claim lacks, or is not what its row says.
        """
        if not isinstance(value, Mapping):
            raise ParseError(f"{where}: expected a map, got {kind(value)}")
        rest: dict[int | str, object] = {}
        for key, item in value.items():
            if type(key) is not int and type(key) is not str:  # true would be found as 1
                raise ParseError(f"{where}: expected integers and texts as keys, got {kind(key)}")
            rest[key] = item
        found = {}
        for field, row in cls.ROWS.items():
            if row.key in rest:
                found[field] = row.rule(rest.pop(row.key), f"{where}, {row.name} ({row.key})")
            elif not row.optional:
                raise ParseError(f"{where}: {row.name} ({row.key}) is missing")
        if strict and rest:
            raise ParseError(f"{where}: expected no other keys, got {', '.join(kind(key) for key in rest)}")
        return cls(**found, others=rest)

    def map(self) -> dict[int | str, object]:
        """The map to write, in the order of the table."""
        known = ((row.key, getattr(self, field)) for field, row in self.ROWS.items())
        return {key: _wire(value) for key, value in known if value is not None} | dict(self.others)


def _wire(value: object) -> object:
    if isinstance(value, Claims):
        return value.map()
    return [_wire(item) for item in value] if isinstance(value, tuple) else value


# What values may be


def data(*sizes: int, first: int | None = None, most: int = 0) -> Rule:
    """Bytes of one of `sizes`, or of 1 to `most`; `first` is what the first one has to be."""
    expected = f"{' or '.join(str(size) for size in sizes)} bytes" if sizes else f"1 to {most} bytes"
    if first is not None:
        expected += f" that begin with {first:02x}"

    def rule(value: object, where: str) -> bytes:
        if not isinstance(value, bytes) or not (len(value) in sizes if sizes else 1 <= len(value) <= most):
            raise ParseError(f"{where}: expected {expected}, got {kind(value)}")
        if first is not None and value[0] != first:
            raise ParseError(f"{where}: expected {expected}, got {value[:1].hex()}")
        return value

    return rule


def text(*allowed: str) -> Rule:
    """Text: one of `allowed`, or any of 1 to 256 characters that can be printed."""
    expected = " or ".join(f'"{word}"' for word in allowed) or f"a text of 1 to {MAX_TEXT} printable characters"

    def rule(value: object, where: str) -> str:
        if isinstance(value, str) and (value in allowed if allowed else 1 <= len(value) <= MAX_TEXT):
            if value.isprintable():
                return value
            raise ParseError(f"{where}: expected {expected}, got {value!r}")
        raise ParseError(f"{where}: expected {expected}, got {kind(value)}")

    return rule


def whole(least: int, most: int) -> Rule:
    """An integer from `least` to `most`."""
    expected = f"{least}" if least == most else f"an integer from {least} to {most}"

    def rule(value: object, where: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ParseError(f"{where}: expected {expected}, got {kind(value)}")
        return value

    return rule


def flag(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ParseError(f"{where}: expected true or false, got {kind(value)}")
    return value


def either(*rules: Rule) -> Rule:
    """What one of the rules takes; the message is that of the first."""

    def rule(value: object, where: str) -> object:
        for other in rules[1:]:
            try:
                return other(value, where)
            except ParseError:
                continue
        return rules[0](value, where)

    return rule


def many(each: Rule, least: int, most: int) -> Rule:
    """An array of `least` to `most` such values."""
    expected = f"an array of {least}" if least == most else f"an array of {least} to {most}"

    def rule(value: object, where: str) -> tuple[object, ...]:
        if not isinstance(value, tuple) or not least <= len(value) <= most:
            raise ParseError(f"{where}: expected {expected}, got {kind(value)}")
        return tuple(each(item, f"{where} [{number}]") for number, item in enumerate(value))

    return rule


def table(of: type[Claims]) -> Rule:
    """A map that is a claim set of its own."""
    return of.read
