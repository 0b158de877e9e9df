"""Simulated AMD hardware for the tests of the service; its keys are those of the tests of SNP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from donjon.tee.snp.simulate import Vendor
from tests.steward.vendors import Fake
from tests.tee.conftest import keys
from tests.tee.snp.machines import NOW, YEAR, Machines


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Machines:
    base = tmp_path_factory.getbasetemp()
    return Machines(Vendor(keys(base if worker_id == "master" else base.parent), NOW - YEAR))


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A vendor's service that has nothing yet."""
    with Fake().serving() as service:
        yield service
