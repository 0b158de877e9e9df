"""Takes samples in rounds: every contender once a round, in a different order each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ["interleave", "turned"]

T = TypeVar("T")


def interleave(contenders: Mapping[str, Callable[[], T]], rounds: int, warm_up: int = 0) -> dict[str, list[T]]:
    """Measure all contenders `rounds` times.

    Args:
        contenders: name to a function that measures once.
        rounds: how often, each in its own order.
        warm_up: rounds before those, whose results are dropped (caches fill, files come into memory).
    Returns:
        Results by contender in order of rounds; contenders in their given order.
    """
    names = list(contenders)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        for name in turned(names, number):
            result = contenders[name]()
            if number >= 0:
                results[name].append(result)
    return results


def turned(names: list[str], number: int) -> list[str]:
    """The order of round `number`: it begins with that contender, so that none is always the first, warm or cold."""
    first = number % len(names) if names else 0
    return names[first:] + names[:first]
