"""What the tests of preview 1 share: a lab, and both ends of pipes, TCP and TLS connections on the loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from donjon.identity import Identity, self_signed
from donjon.tls import client_context, server_context
from tests.wasm.wasi.lab import Lab
from tests.wasm.wasi.net import Net


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab(("main.wasm", "ünï"), ("HOME=/", "EMPTY="))
    yield made
    made.close()


@pytest.fixture(scope="session")
def identity() -> Identity:
    return self_signed(["localhost"])


@pytest.fixture(scope="session")
def contexts(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The Keep's context, and that of a client that trusts it."""
    roots = tmp_path_factory.mktemp("roots") / "roots.pem"
    roots.write_bytes(identity.chain_pem())
    return server_context(identity), client_context(None, str(roots))


@pytest.fixture
def net(lab: Lab, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Net]:
    made = Net(lab, *contexts)
    yield made
    made.close()
