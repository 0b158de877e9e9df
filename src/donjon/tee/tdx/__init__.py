"""Intel TDX: quotes of versions 4 and 5, TD reports 1.0 and 1.5, with or without an event log.

What every TEE offers, see `donjon.tee.contract.Tee`. README.md says what is checked and what nobody can check.
"""

from __future__ import annotations

import hashlib

from donjon.tee.intel import vendor_roots
from donjon.tee.intel.evidence import MAX_EVIDENCE
from donjon.tee.intel.evidence import encode_evidence as wrap
from donjon.tee.tdx.collateral import Collateral, is_evidence, join, need, needs, read_collateral, read_roots
from donjon.tee.tdx.evidence import Evidence, claimed, parse, with_event_log
from donjon.tee.tdx.policy import Policy, judge
from donjon.tee.tdx.verify import examine, verify

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
    "with_event_log",
    "wrap",
]

NAME = "tdx"
TITLE = "Intel TDX"
OID = "1.3.6.1.4.1.58270.1.4"
"""Enarx has no TDX; this follows its three."""


def key_binding(spki: bytes) -> bytes:
    """The report data that binds a key: SHA-512 of its DER SubjectPublicKeyInfo, which fills the 64 bytes."""
    return hashlib.sha512(spki).digest()
