"""What tests everywhere may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from donjon.image import Image
from donjon.keep import channel
from tests import images

MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ or "COVERAGE_PROCESS_START" in os.environ
"""Whether `make coverage` is at work: a Keep in its sandbox can write down nothing of what it ran."""


@pytest.fixture(scope="session", autouse=True)
def seen() -> Iterator[None]:
    """Where coverage is measured, Keeps that are to have as much of a sandbox as the machine has, have none."""
    with pytest.MonkeyPatch.context() as patch:
        if MEASURED:

            def orders_for(*given: Any, sandbox: str = "auto", **more: Any) -> bytes:
                return channel.orders_for(*given, **more, sandbox="off" if sandbox == "auto" else sandbox)  # type: ignore[misc]

            patch.setattr("donjon.keep.process.orders_for", orders_for)
            patch.setenv("DONJON_SANDBOX", "off")
        yield


@pytest.fixture(scope="session")
def image() -> Callable[[str], Image]:
    """`image("production")`: a guest image of these sources, built once; skips the test where that cannot be."""
    return images.image
