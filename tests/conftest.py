"""What tests everywhere may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from donjon.image import Image
from tests import images


@pytest.fixture(scope="session")
def image() -> Callable[[str], Image]:
    """`image("production")`: a guest image of these sources, built once; skips the test where that cannot be."""
    return images.image
