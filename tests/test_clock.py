"""What is slow is told, and what was slow once is not."""

from __future__ import annotations

from time import process_time

import pytest

from tests.clock import quickly


def burn(seconds: float) -> None:
    end = process_time() + seconds
    while process_time() < end:
        pass


def test_what_is_slow_is_told() -> None:
    with pytest.raises(AssertionError, match=r"^it took 0\.\d\d s twice, and 0\.02 s is the most"):
        quickly(lambda: burn(0.05), 0.02)


def test_what_was_slow_once_is_not() -> None:
    waits = iter([0.5, 0.0])
    assert quickly(lambda: burn(next(waits)), 0.4) is None
