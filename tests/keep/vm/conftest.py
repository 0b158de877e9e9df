"""What most tests here wait in, and what carries their connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from donjon.keep.vm.loop import Loop
from tests.keep.vm.yard import Yard


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = Yard()
    yield made
    made.close()
