"""KVM without confidential computing, and no TEE at all: Enarx's empty evidence, which proves nothing.

It exists so that a Steward can serve development machines, when it is told to accept that. What it says of itself is
that it is not protected; the common demands refuse it by that (`Demands.accept_unattested`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from donjon.errors import ParseError
from donjon.tee.contract import Check, Checks, Model, Need, Roots, VerifiedReport, utc

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
    "read_collateral",
    "read_roots",
    "vendor_roots",
    "verify",
]

NAME = "kvm"
TITLE = "KVM, unprotected"
OID = "1.3.6.1.4.1.58270.1.1"
MAX_EVIDENCE = 0

SPEC = "enarx/steward, kvm.rs"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Nothing, well formed."""


@dataclass(frozen=True, slots=True)
class Collateral:
    """Nothing helps to judge nothing."""


class Policy(Model, frozen=True):
    """The table `[kvm]` has no keys: whether this evidence is accepted at all is not a question of its content."""


def parse(data: bytes) -> tuple[Evidence, Collateral]:
    """Read the empty extension.

    Raises:
        ParseError: it is not empty.
    """
    if data:
        raise ParseError(f"KVM evidence: expected 0 bytes, got {len(data)}")
    return Evidence(), Collateral()


def verify(evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime) -> VerifiedReport[Evidence]:
    """Make the report that says that nothing is known. It has no time at which it would end."""
    del collateral
    checks = Checks(NAME)
    checks.that("evidence.empty", True, "nothing", "nothing", SPEC, note="KVM keeps no host out")
    return checks.verified(
        product="",
        measurement=b"",
        report_data=b"",
        report=evidence,
        judged_at=utc(now),
        valid_from=datetime(1970, 1, 1, tzinfo=UTC),
        valid_until=datetime(9999, 12, 31, tzinfo=UTC),
        simulated=roots.simulated,
        protected=False,
    )


def judge(report: VerifiedReport[Evidence], policy: Policy) -> tuple[Check, ...]:
    """There is nothing to ask."""
    del report, policy
    return ()


def vendor_roots() -> Roots:
    """There are none."""
    return Roots({})


def is_evidence(data: bytes) -> bool:
    """No file is this: nothing in a file is an empty file."""
    del data
    return False


def read_collateral(data: bytes) -> Collateral | None:
    """No file helps."""
    del data
    return None


def read_roots(document: Mapping[str, Any], source: str) -> tuple[Roots, Collateral] | None:
    """There are none to be had."""
    del document, source
    return None


def join(own: Collateral, other: Collateral) -> Collateral:
    """Nothing and nothing."""
    del other
    return own


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """Nothing."""
    del evidence
    return ()


def key_binding(spki: bytes) -> bytes:
    """Nothing binds a key."""
    del spki
    return b""


def claimed(evidence: Evidence) -> tuple[bytes, bytes]:
    """Nothing binds anything."""
    del evidence
    return b"", b""
