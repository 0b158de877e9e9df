"""Simulated AMD hardware for the tests: three RSA keys, made once in a session, whatever the number of processes."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from donjon.tee.snp.simulate import SERIALS, Vendor
from tests.tee.snp.machines import NOW, YEAR, Machines


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Vendor:
    base = tmp_path_factory.getbasetemp()
    return Vendor(keys(base if worker_id == "master" else base.parent), NOW - YEAR)


def keys(folder: Path) -> dict[str, rsa.RSAPrivateKey]:
    """The keys in `folder`; the first process to come makes them."""
    with (folder / "simulated-amd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for kind in SERIALS:
            path = folder / f"simulated-{kind}.der"
            if not path.exists():
                key = rsa.generate_private_key(65537, 4096)
                path.write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    found = {kind: load_der_private_key((folder / f"simulated-{kind}.der").read_bytes(), None) for kind in SERIALS}
    return {kind: key for kind, key in found.items() if isinstance(key, rsa.RSAPrivateKey)}


@pytest.fixture(scope="session")
def machines(vendor: Vendor) -> Machines:
    return Machines(vendor)
