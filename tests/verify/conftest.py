"""One Steward for all tests of a module."""

from __future__ import annotations

import pytest

from tests.verify.servers import Steward


@pytest.fixture(scope="module")
def steward(tmp_path_factory: pytest.TempPathFactory) -> Steward:
    return Steward(tmp_path_factory.mktemp("steward"))
