"""What a verifier of SGX needs beside the quote; the same kinds of things as for TDX."""

from __future__ import annotations

from donjon.tee import contract
from donjon.tee.intel import collateral as intel
from donjon.tee.intel.collateral import (
    Collateral,
    Need,
    Signed,
    from_answer,
    from_json,
    join,
    read_collateral,
    read_roots,
    to_json,
)
from donjon.tee.intel.collateral import need as _need
from donjon.tee.sgx.evidence import Evidence

__all__ = [
    "Collateral",
    "Need",
    "Signed",
    "from_answer",
    "from_json",
    "is_evidence",
    "join",
    "need",
    "needs",
    "read_collateral",
    "read_roots",
    "to_json",
]


def need(evidence: Evidence, update: str = "standard") -> Need:
    """Which collateral this quote needs; see `donjon.tee.intel.collateral.Need`.

    Raises:
        ParseError: it carries no PCK chain of Intel's form.
    """
    return _need("sgx", evidence.signature, update)


def needs(evidence: Evidence) -> tuple[contract.Need, ...]:
    """The same as names, for whoever keeps collateral."""
    return intel.needs("sgx", evidence.signature)


def is_evidence(data: bytes) -> bool:
    """Whether a file seems to be a quote of SGX, bare or wrapped."""
    return intel.is_quote(data, (3, 4, 5), 0)
