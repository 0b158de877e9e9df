"""Tests of commands call `main` in their own process, which must go on as it was: what it runs is not confined."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox is for ever."""
    monkeypatch.setenv("DONJON_SANDBOX", "off")
