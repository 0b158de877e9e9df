"""SIGSTRUCT: Enarx's known answer byte for byte, and each way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from donjon.errors import ParseError, UsageError, VerifyError
from donjon.tee.intel.layout import Attributes
from donjon.tee.sgx import sigstruct

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "enarx"
KNOWN = (VECTORS / "sigstruct.bin").read_bytes()


def key() -> rsa.RSAPrivateKey:
    found = load_pem_private_key((VECTORS / "sgx-test.key").read_bytes(), None)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


def test_digest_and_signature_are_those_of_enarx() -> None:
    digest = "298037d88782e022e019b3020745b78aa40ed95c77da4bf7f3253d3a44c4fd7e"
    assert sigstruct.key_digest(key().public_key()).hex() == digest
    assert sigstruct.sign((VECTORS / "sigstruct-body.bin").read_bytes(), key()) == KNOWN


def test_what_is_signed_is_checked_and_admits_no_debugging() -> None:
    found = sigstruct.check(sigstruct.sign(sigstruct.body(b"e" * 32, product_id=7, svn=3), key()))
    assert (found.mr_enclave, found.isv_prod_id, found.isv_svn) == (b"e" * 32, 7, 3)
    assert found.attributes_mask & Attributes.DEBUG
    assert not found.attributes & Attributes.DEBUG


@pytest.mark.parametrize(
    ("at", "error", "message"),
    [
        (0x000, ParseError, "Header.header"),
        (0x02C, ParseError, "Header.reserved_02c"),
        (0x200, ParseError, "Key.exponent"),
        (0x204, VerifyError, "SIGSTRUCT.signature"),
        (0x3C0, VerifyError, "SIGSTRUCT.signature"),
        (0x410, VerifyError, "SIGSTRUCT.q1"),
        (0x590, VerifyError, "SIGSTRUCT.q1"),
        (0x404, ParseError, "End.reserved_404"),
    ],
)
def test_a_changed_byte_is_found(at: int, error: type[Exception], message: str) -> None:
    data = bytearray(KNOWN)
    data[at] ^= 4
    with pytest.raises(error, match=message):
        sigstruct.check(bytes(data))


def test_other_sizes_and_keys_are_refused() -> None:
    with pytest.raises(ParseError, match="expected 1808 bytes, got 3"):
        sigstruct.check(b"abc")
    with pytest.raises(ParseError, match="expected 128 bytes, got 3"):
        sigstruct.sign(b"abc", key())
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(UsageError, match="RSA of 3072 bits with the exponent 3, got 2048 bits with 65537"):
        sigstruct.key_digest(other.public_key())
