"""An identity gives its key to TLS, and shows it nowhere else."""

from __future__ import annotations

import copy
import pickle
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from donjon.identity import Identity, self_signed


@pytest.fixture(scope="module")
def identity() -> Identity:
    return self_signed()


def test_pem_is_what_others_read(identity: Identity) -> None:
    key = serialization.load_pem_private_key(identity.key_pem(), None)
    certificate = x509.load_pem_x509_certificate(identity.chain_pem())
    assert key.public_key() == certificate.public_key()
    assert certificate.fingerprint(hashes.SHA256()).hex() == identity.fingerprint
    assert max(map(len, identity.chain_pem().splitlines())) == 64
    assert ssl.PEM_cert_to_DER_cert(identity.chain_pem().decode()) == identity.certificate


def test_chain_keeps_its_order(identity: Identity) -> None:
    other = self_signed()
    both = Identity(b"", (identity.certificate, other.certificate))
    found = x509.load_pem_x509_certificates(both.chain_pem())
    assert [one.public_bytes(serialization.Encoding.DER) for one in found] == list(both.chain)


def test_repr_shows_the_fingerprint_and_no_key(identity: Identity) -> None:
    assert repr(identity) == f"<Identity {identity.fingerprint[:16]}, 1 certificate>"
    assert repr(Identity(b"secret", identity.chain * 2)).endswith(", 2 certificates>")
    assert "secret" not in repr(Identity(b"secret", identity.chain))
    assert str(identity) == repr(identity)


def test_it_cannot_be_pickled_or_copied(identity: Identity) -> None:
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="the key stays in the Keep"):
            way(identity)
