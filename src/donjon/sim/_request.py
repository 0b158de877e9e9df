"""A certificate request as a Keep sends it, for a key that somebody has: to try a Steward without running a Keep."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from donjon import tee
from donjon.errors import ParseError
from donjon.sim.lab import Guest

__all__ = ["request"]


def request(guest: Guest, pem: bytes) -> bytes:
    """Make a request whose evidence binds the key.

    Args:
        pem: a private key, P-256, P-384 or Ed25519, without a password.
    Returns:
        A CertificationRequest in DER.
    Raises:
        ParseError: it is no such key.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParseError("key: expected a private key in PEM, without a password") from error
    digest: hashes.SHA256 | hashes.SHA384 | None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        digest = None
    elif isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
    else:
        raise ParseError("key: expected one of P-256, P-384 or Ed25519")
    kind = tee.load(guest.tee)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    value = guest.collect(kind.key_binding(spki))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(kind.OID), value)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(extension, False)
    return builder.sign(key, digest).public_bytes(Encoding.DER)
