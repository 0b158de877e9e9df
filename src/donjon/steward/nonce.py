"""Freshness without memory: a nonce that carries its own time and proof, and the report data that binds it to a key.

    nonce       = body || HMAC-SHA-256(secret, domain || body)
    body        = 01 || issued (8 bytes, seconds since 1970) || random (16 bytes)
    report data = SHA-512(domain || length of nonce (1 byte) || nonce || SubjectPublicKeyInfo)

Several services behind one address share the secret and recognise each other's nonces. A nonce says that evidence is
not older than the nonce; it may be used again for the same key within its life, which gives nobody anything: the same
key gets the same certificate once more.

Why the domains: without them a hash that was made for another protocol could pass for ours, and ours for another. A
SubjectPublicKeyInfo begins with 30h and the domain with a letter, so this hash is never that of Enarx's binding, which
is the key's alone. Source: attestation threats as in draft-ietf-lamps-attestation-freshness-09, section 7.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha512

from donjon.errors import UsageError

SIZE = 57
"""Bytes of a nonce."""
LIFE = timedelta(minutes=5)
LEEWAY = timedelta(seconds=5)
"""By which the clock of the service that judges may be behind that of the one that gave out the nonce."""

_VERSION = b"\x01"
_NONCE_DOMAIN = b"donjon steward nonce v1\0"
_BINDING_DOMAIN = b"donjon attestation binding v1\0"


@dataclass(frozen=True, slots=True)
class Age:
    """What a nonce tells.

    Args:
        genuine: it is one of ours. issued: when it was given out; only sound if genuine.
    """

    genuine: bool
    issued: datetime


def make(secret: bytes, now: datetime, random: bytes) -> bytes:
    """Give out a nonce.

    Args:
        secret: at least 32 bytes. random: 16 bytes that nobody can foresee.
    Raises:
        UsageError: one of them has another length.
    """
    _check(secret)
    if len(random) != 16:
        raise UsageError(f"nonce: expected 16 random bytes, got {len(random)}")
    body = _VERSION + int(now.timestamp()).to_bytes(8, "big") + random
    return body + _proof(secret, body)


def read(secret: bytes, nonce: bytes) -> Age:
    """Say whether a nonce is ours and how old it is; anything at all may be asked about."""
    _check(secret)
    body, proof = nonce[:25], nonce[25:]
    genuine = len(nonce) == SIZE and body[:1] == _VERSION and hmac.compare_digest(proof, _proof(secret, body))
    issued = int.from_bytes(body[1:9], "big") if genuine else 0
    return Age(genuine, datetime.fromtimestamp(issued, UTC))


def binding(nonce: bytes, spki: bytes) -> bytes:
    """The 64 bytes of report data that bind a nonce and a key together.

    Args:
        nonce: 1 to 255 bytes. spki: the key's SubjectPublicKeyInfo in DER.
    """
    return sha512(_BINDING_DOMAIN + bytes((len(nonce),)) + nonce + spki).digest()


def _proof(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, _NONCE_DOMAIN + body, sha256)


def _check(secret: bytes) -> None:
    if len(secret) < 32:
        raise UsageError(f"secret for nonces: expected at least 32 bytes, got {len(secret)}")
