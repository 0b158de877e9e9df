"""Arm Confidential Compute Architecture (CCA): tokens of realms, tags 399 and 907, legacy and RATS profiles.

What every TEE offers, see `donjon.tee.contract.Tee`. README.md says what is checked and what nobody can check.
"""

from __future__ import annotations

import hashlib

from donjon.errors import ParseError
from donjon.tee.cca import evidence as _evidence
from donjon.tee.cca.collateral import Collateral, join, read_anchors, read_collateral, read_roots
from donjon.tee.cca.evidence import Evidence, claimed
from donjon.tee.cca.layout import MAX_TOKEN
from donjon.tee.cca.policy import Policy, judge, trust_vector
from donjon.tee.cca.verify import verify
from donjon.tee.contract import Need, Roots
from donjon.wire.der import OCTET_STRING, Der, encode

__all__ = [
    "MAX_EVIDENCE",
    "NAME",
    "OID",
    "TITLE",
    "Collateral",
    "Evidence",
    "Policy",
    "claimed",
    "is_evidence",
    "join",
    "judge",
    "key_binding",
    "needs",
    "parse",
    "read_anchors",
    "read_collateral",
    "read_roots",
    "trust_vector",
    "vendor_roots",
    "verify",
    "wrap",
]

NAME = "cca"
TITLE = "Arm CCA"
OID = "1.3.6.1.4.1.58270.1.5"
MAX_EVIDENCE = MAX_TOKEN + 5  # with the head of an OCTET STRING


def parse(data: bytes) -> tuple[Evidence, Collateral]:
    """Read a token, bare or as the value of a certificate request's extension: an OCTET STRING in DER around it.

    Returns:
        The evidence, and collateral without anything: a token brings none.
    Raises:
        ParseError: it is not well formed, or too large.
    """
    if len(data) > MAX_EVIDENCE:
        raise ParseError(f"CCA evidence: expected at most {MAX_EVIDENCE} bytes, got {len(data)}")
    if data[:1] == bytes([OCTET_STRING]):  # no token begins so: there it would be the number 4
        value = Der(data, "CCA evidence")
        data = value.octets("token")
        value.end()
    return _evidence.parse(data), Collateral()


def is_evidence(data: bytes) -> bool:
    """Whether a file seems to be a token, by its tag, 399 or 907; bare or wrapped."""
    if data[:1] == bytes([OCTET_STRING]):
        try:
            data = Der(data, "file").octets("token")
        except ParseError:
            return False
    return data[:3] in (b"\xd9\x01\x8f", b"\xd9\x03\x8b")


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """Nothing: nobody publishes anything about platforms of Arm."""
    del evidence
    return ()


def wrap(token: bytes) -> bytes:
    """The value of a certificate request's extension that carries `token`; `parse` reads it."""
    return encode(OCTET_STRING, token)


def vendor_roots() -> Roots:
    """None: no maker of platforms has published a key. An operator hands them over: `read_anchors`."""
    return Roots({})


def key_binding(spki: bytes) -> bytes:
    """The challenge that binds a key: SHA-512 of its DER SubjectPublicKeyInfo, which fills the 64 bytes."""
    return hashlib.sha512(spki).digest()
