"""What a verifier of TDX needs beside the quote; the same kinds of things as for SGX."""

from __future__ import annotations

from donjon.tee.intel.collateral import Collateral, Need, Signed, from_answer, from_json, to_json
from donjon.tee.intel.collateral import need as _need
from donjon.tee.tdx.evidence import Evidence

__all__ = ["Collateral", "Need", "Signed", "from_answer", "from_json", "need", "to_json"]


def need(evidence: Evidence, update: str = "standard") -> Need:
    """Which collateral this quote needs; see `donjon.tee.intel.collateral.Need`.

    Raises:
        ParseError: it carries no PCK chain of Intel's form.
    """
    return _need("tdx", evidence.signature, update)
