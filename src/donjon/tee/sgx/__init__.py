"""Intel SGX: quotes of version 3, alone or as Enarx wraps them with their collateral.

What every TEE offers, see `donjon.tee.contract.Tee`. README.md says what is checked and what nobody can check.
"""

from __future__ import annotations

import hashlib

from donjon.tee.intel import vendor_roots
from donjon.tee.intel.evidence import MAX_EVIDENCE
from donjon.tee.intel.evidence import encode_evidence as wrap
from donjon.tee.sgx.collateral import Collateral, is_evidence, join, need, needs, read_collateral, read_roots
from donjon.tee.sgx.evidence import Evidence, claimed, parse
from donjon.tee.sgx.policy import Policy, judge
from donjon.tee.sgx.verify import examine, verify

__all__ = [
    "MAX_EVIDENCE",
    "NAME",
    "OID",
    "TITLE",
    "Collateral",
    "Evidence",
    "Policy",
    "claimed",
    "examine",
    "is_evidence",
    "join",
    "judge",
    "key_binding",
    "need",
    "needs",
    "parse",
    "read_collateral",
    "read_roots",
    "vendor_roots",
    "verify",
    "wrap",
]

NAME = "sgx"
TITLE = "Intel SGX"
OID = "1.3.6.1.4.1.58270.1.2"


def key_binding(spki: bytes) -> bytes:
    """The report data that binds a key, as Enarx makes it: SHA-256 of its DER SubjectPublicKeyInfo, and 32 zeros."""
    return hashlib.sha256(spki).digest() + bytes(32)
