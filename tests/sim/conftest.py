"""One lab for all tests of a session, whatever the number of processes: its RSA keys take a second."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from donjon import sim
from tests.sim.labs import NOW


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    with (base / "lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "lab").exists():
            sim.create(str(base / "lab"), NOW)
    return base / "lab"


@pytest.fixture(scope="session")
def lab(folder: Path) -> sim.Lab:
    return sim.load(str(folder), NOW)
