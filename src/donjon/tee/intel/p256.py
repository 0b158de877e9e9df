"""ECDSA over P-256 with SHA-256, the only signature in all of Intel's evidence, in its raw form r || s, big endian."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.errors import ParseError

_ALGORITHM = ECDSA(SHA256())


@lru_cache(maxsize=256)
def public_key(point: bytes, where: str) -> EllipticCurvePublicKey:
    """Read x || y, 32 bytes each, big endian. Remembered: all quotes of one machine have the same attestation key.

    Raises:
        ParseError: no such point is on the curve.
    """
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), b"\x04" + point)
    except ValueError as error:
        raise ParseError(f"{where}: expected a point of P-256, got {point.hex()}") from error


def point(key: EllipticCurvePublicKey) -> bytes:
    """Write a key as x || y."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def is_known(data: bytes, signature: bytes, key: EllipticCurvePublicKey) -> bool:
    """Like `is_signed`, for what many judgements share: a good signature is remembered, not checked again."""
    try:
        return _good(data, signature, point(key))
    except InvalidSignature:
        return False


@lru_cache(maxsize=64)
def _good(data: bytes, signature: bytes, key: bytes) -> bool:
    if not is_signed(data, signature, public_key(key, "signer")):
        raise InvalidSignature
    return True


def is_signed(data: bytes, signature: bytes, key: EllipticCurvePublicKey) -> bool:
    """Whether `signature`, 64 bytes, is that of `key` over `data`."""
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(der, data, _ALGORITHM)
    except InvalidSignature:
        return False
    return True


def sign(data: bytes, key: EllipticCurvePrivateKey) -> bytes:
    """Sign; 64 bytes."""
    r, s = decode_dss_signature(key.sign(data, _ALGORITHM))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
