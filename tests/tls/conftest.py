"""What the tests of TLS share: one identity, and clients that trust it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.identity import Identity, self_signed
from donjon.tls import client_context
from tests.tls.ends import Ends


@pytest.fixture(scope="session")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    identity = self_signed(["keep.example", "10.0.0.7"])
    roots = tmp_path_factory.mktemp("tls") / "roots.pem"
    roots.write_bytes(identity.chain_pem())
    return Ends(identity, str(roots))


@pytest.fixture
def trusting(tmp_path: Path) -> Callable[[Identity], ssl.SSLContext]:
    """Make a client that trusts one identity and no other."""

    def make(identity: Identity) -> ssl.SSLContext:
        path = tmp_path / f"{identity.fingerprint}.pem"
        path.write_bytes(identity.chain_pem())
        return client_context(None, str(path))

    return make
