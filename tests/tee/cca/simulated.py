"""One simulated platform and one realm, made once, and ways to judge what they say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from donjon.tee import cca
from donjon.tee.cca.collateral import Collateral
from donjon.tee.cca.simulate import SimulatedPlatform, SimulatedRealm
from donjon.tee.contract import Demands, EvidenceError, Outcome, Roots, Verdict, VerifiedReport, appraise

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CHALLENGE = bytes(range(64))
RIM = bytes(range(32))
RPV = bytes(range(64, 128))


@cache
def platform() -> SimulatedPlatform:
    """Keys are made once."""
    return SimulatedPlatform.new()


def realm(**fields: Any) -> SimulatedRealm:
    """A realm that has measured two things."""
    made = SimulatedRealm(RIM, RPV, **fields)
    made.extend(0, bytes(range(32)))
    made.extend(3, b"later")
    return made


def token(platform_changes: Mapping[str, Any] | None = None, realm_changes: Mapping[str, Any] | None = None) -> bytes:
    """A good token, but for the changes, which are put in before signing."""
    return platform().token(realm(), CHALLENGE, platform_changes=platform_changes, realm_changes=realm_changes)


def verify(
    data: bytes, roots: Roots | None = None, collateral: Collateral | None = None, now: datetime = NOW
) -> VerifiedReport[cca.Evidence]:
    """Parse and verify, with the simulated platform's roots."""
    evidence, nothing = cca.parse(data)
    return cca.verify(evidence, collateral or nothing, roots or platform().roots(), now)


def failures(
    data: bytes, roots: Roots | None = None, collateral: Collateral | None = None, now: datetime = NOW
) -> dict[str, str]:
    """The checks of `verify` that failed: name → text."""
    try:
        verify(data, roots, collateral, now)
    except EvidenceError as error:
        return {check.name: str(check) for check in error.checks if check.outcome is Outcome.FAILED}
    return {}


def verdict(
    data: bytes, policy: cca.Policy | None = None, collateral: Collateral | None = None, demands: Demands | None = None
) -> Verdict:
    """All three steps."""
    demands = demands or Demands(CHALLENGE, accept_unattested=True)
    return appraise(cca, lambda: verify(data, None, collateral), policy or cca.Policy(), demands)
