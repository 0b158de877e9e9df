"""A second opinion: the library `dcap-qvl` (Rust, by Phala) behind our parser, for quotes of SGX and TDX alike.

It has nothing in common with `verify.py` but the specifications, so a mistake in one of the two shows as a difference;
the tests compare both on every vector and on simulated platforms in every state, and a Steward asks both, unless its
policy says otherwise (`second_opinion`). It is not the only judge, as it says less than policy needs (one error instead
of every check) and more than it knows (it refuses what policy has to decide).

Before it is asked, our parser has had its say: outer certification data of type 6, lengths that fit, a certification
type of 5 are facts by then, none of which it asks for; bytes after the quote, which it passes over, are refused here.

How it differs, as of 0.7.0 (`DIFFERENCES` names the words of its errors; tests hold every line of this list):
- debug, migration, SEPT_VE_DISABLE = 0, other reserved attributes and a service TD are errors, not facts for a policy;
- a platform, QE or module below all levels is an error, not a state, and so is a revoked one;
- a newer module that the lists do not know is an error; we say that the TD's own module is out of date;
- a TD_QE identity of version 3, several levels with the same numbers, and unknown keys that stand twice are taken; we
  refuse them;
- authentication data has to have 32 bytes, as Intel's QE makes it; there is no grace for stale collateral.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from donjon.errors import ParseError, PlatformError
from donjon.tee.contract import Checks, Roots, utc
from donjon.tee.intel.collateral import Collateral, to_json
from donjon.tee.intel.layout import PCK_CHAIN, Signature
from donjon.tee.intel.verify import ROOT, Genuine

AGREES = "dcap_qvl.agrees"
SPEC = "dcap-qvl 0.7"
DIFFERENCES = {
    "Debug mode is enabled": "debug is for policy to refuse",
    "SEPT_VE_DISABLE is not enabled": "attributes are for policy to refuse",
    "TD migration is enabled": "attributes are for policy to refuse",
    "Reserved bits in TD attributes are set": "attributes are for policy to refuse",
    "Invalid MR service TD": "service TDs are for policy to refuse",
    "No matching TCB level found": "below all levels is a state, NotSupported",
    "TCB status is invalid: Revoked": "revoked is a state that policy always refuses",
    "is below minimum required": "below all levels of QE or module is a state, NotSupported",
}
"""Words of its errors that say nothing against a quote being genuine → why we go on."""


class Evidence(Protocol):
    """What both TEEs' evidence has."""

    @property
    def raw(self) -> bytes:
        """The whole quote."""

    @property
    def signature(self) -> Signature:
        """What signs it."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the library says.

    Args:
        status: the converged state, in Intel's words; "" with an error. advisories: Intel's ids.
        error: why it refuses; "" when it does not.
    """

    status: str
    advisories: tuple[str, ...]
    error: str

    @property
    def genuine(self) -> bool:
        """Whether nothing that it says speaks against the quote being genuine."""
        return not self.error or self.difference != ""

    @property
    def difference(self) -> str:
        """Why an error of its does not count for us; "" where it does."""
        return next((reason for words, reason in DIFFERENCES.items() if words in self.error), "")


@cache
def is_installed() -> bool:
    """Whether there is such a library here; the part `steward` of this project brings it."""
    return find_spec("dcap_qvl") is not None


def opinion(evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime) -> Opinion:
    """Ask the library.

    Args:
        evidence: as `sgx.parse` or `tdx.parse` has read it.
    Raises:
        PlatformError: the library is not installed.
    """
    try:
        library: Any = import_module("dcap_qvl")
    except ImportError as error:
        raise PlatformError("dcap-qvl is not installed", "install the part `steward` of donjon") from error
    anchor = roots.anchors.get(ROOT)
    if anchor is None:
        return Opinion("", (), "no root is pinned")
    if evidence.signature.certification_type != PCK_CHAIN:
        return Opinion("", (), f"certification data of type {evidence.signature.certification_type}")
    if getattr(evidence, "trailing", b""):
        return Opinion("", (), "bytes after the quote")
    try:
        text = to_json(collateral, evidence.signature.chain)
    except ParseError as error:
        return Opinion("", (), error.message)
    try:
        report = library.verify_with_root_ca(
            evidence.raw, library.QuoteCollateralV3.from_json(text), anchor, int(utc(now).timestamp())
        )
    except ValueError as error:
        return Opinion("", (), str(error))
    found = json.loads(report.to_json())
    return Opinion(found["status"], tuple(found["advisory_ids"]), "")


def check_agreement(checks: Checks, report: Genuine[Evidence], said: Opinion) -> bool:
    """Record whether the library agrees with a report that `verify` found genuine.

    Returns:
        False when it does not: then one of the two is wrong, and nobody should rely on either.
    """
    if said.error:
        found = f"{said.error}: {said.difference}" if said.difference else said.error
        return checks.that(AGREES, said.genuine, found, f"{report.status}", SPEC)
    same = said.status == report.status and set(said.advisories) == set(report.advisories)
    ours = f"{report.status} {' '.join(sorted(report.advisories))}".strip()
    theirs = f"{said.status} {' '.join(sorted(said.advisories))}".strip()
    return checks.that(AGREES, same, theirs, ours, SPEC)
