"""Requirements on a version, as Enarx's `abi = ">=1.51"` writes them: the language of Rust's package manager.

    ">=1.51"    "1.51"  (same major version, at least this)    ">=1.49, <2"    "~1.51"    "1.*"

What is compared has a major and a minor number. A requirement without an operator means `^`.
Source: Cargo Book, Specifying Dependencies, Version requirement syntax.
"""

from __future__ import annotations

import re
from typing import Self

_PART = re.compile(r"(=|>=|>|<=|<|\^|~)? *(\d{1,9}|[*xX])(?:\.(\d{1,9}|[*xX]))?(?:\.(\d{1,9}|[*xX]))?", re.ASCII)
_TOP = 1 << 32
Triple = tuple[int, int, int]


class VersionRequirement:
    """Ranges that a version has to lie in, all of them: first version in, first version out.

    Args:
        text: as it was written.
    """

    __slots__ = ("ranges", "text")

    def __init__(self, text: str, ranges: tuple[tuple[Triple, Triple], ...]) -> None:
        self.text = text
        self.ranges = ranges

    @classmethod
    def read(cls, text: object) -> Self:
        """Read a requirement.

        Raises:
            ValueError: it is none; or it names a pre-release, which these versions do not have.
        """
        if not isinstance(text, str) or len(text) > 200:
            raise ValueError('expected a requirement such as ">=1.51"')
        return cls(text, tuple(_range(part.strip()) for part in text.split(",")))

    def allows(self, major: int, minor: int) -> bool:
        """Whether the version satisfies the requirement."""
        return all(first <= (major, minor, 0) < last for first, last in self.ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionRequirement) and other.ranges == self.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __str__(self) -> str:
        return self.text


def _range(part: str) -> tuple[Triple, Triple]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f'expected a requirement such as ">=1.51", got "{part[:20]}"')
    operator, *texts = match.groups()
    numbers: list[int] = []
    for text in texts:
        if text is None or text in "*xX":
            break
        numbers.append(int(text))
    given = [text for text in texts if text is not None]
    wild = len(given) > len(numbers)
    if any(text not in "*xX" for text in given[len(numbers) :]):
        raise ValueError(f'expected no number behind a "*", got "{part[:20]}"')
    if wild and operator not in (None, "="):
        raise ValueError(f'expected no operator before a "*", got "{part[:20]}"')
    if not numbers:
        return (0, 0, 0), (_TOP, 0, 0)
    first = _padded(numbers)
    after = _next(numbers)
    if wild:
        return first, after
    match operator:
        case "=":
            return first, after
        case ">=":
            return first, (_TOP, 0, 0)
        case ">":
            return after, (_TOP, 0, 0)
        case "<":
            return (0, 0, 0), first
        case "<=":
            return (0, 0, 0), after
        case "~":
            return first, _next(numbers[:2])
        case _:
            return first, _next(_significant(numbers))


def _significant(numbers: list[int]) -> list[int]:
    """The numbers up to the first that is not zero: what `^` holds fixed."""
    for index, number in enumerate(numbers):
        if number:
            return numbers[: index + 1]
    return numbers


def _padded(numbers: list[int]) -> Triple:
    major, minor, patch = [*numbers, 0, 0][:3]
    return major, minor, patch


def _next(numbers: list[int]) -> Triple:
    """The first version behind all that begin with `numbers`."""
    return _padded([*numbers[:-1], numbers[-1] + 1])
