"""How long something may take, in CPU time: the one way in which tests ask for that."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import TypeVar

__all__ = ["quickly"]

Found = TypeVar("Found")


def quickly(act: Callable[[], Found], most: float) -> Found:
    """What `act` gives, which has to take less than so many seconds.

    What was slow is done again: a slow input is slow then too; Python's collector, which now and then looks at all that
    thousands of tests have made, and a busy machine are not.
    """
    took, found = _timed(act)
    if took >= most:
        took, found = _timed(act)
    assert took < most, f"it took {took:.2f} s twice, and {most} s is the most"
    return found


def _timed(act: Callable[[], Found]) -> tuple[float, Found]:
    began = process_time()
    found = act()
    return process_time() - began, found
