"""One simulated Intel and one machine, made once, and ways to judge what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from donjon import tee
from donjon.tee.contract import EvidenceError, Outcome, Roots
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.simulate import SimulatedIntel, SimulatedPlatform, TeeName, enclave
from donjon.tee.tdx.simulate import td_report

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@cache
def intel() -> SimulatedIntel:
    """Keys are made once."""
    return SimulatedIntel.new(NOW)


@cache
def platform() -> SimulatedPlatform:
    """A server of several packages."""
    return intel().platform()


def quote(name: TeeName, machine: SimulatedPlatform | None = None, **changes: Any) -> bytes:
    """A good quote, but for the changes of `SimulatedPlatform.quote`."""
    machine = machine or platform()
    return machine.sgx_quote(enclave(), **changes) if name == "sgx" else machine.tdx_quote(td_report(), **changes)


def signed(name: TeeName) -> tuple[Any, Collateral]:
    """Good evidence, and its collateral."""
    module: Any = tee.load(name)
    return module.parse(quote(name))[0], intel().collateral(platform(), name, NOW)


def failures(
    name: TeeName, evidence: Any, collateral: Collateral, roots: Roots | None = None, now: datetime = NOW
) -> dict[str, str]:
    """The checks of `verify` that failed: name → text."""
    module: Any = tee.load(name)
    if isinstance(evidence, bytes):
        evidence, _ = module.parse(evidence)
    try:
        module.verify(evidence, collateral, roots or intel().roots(), now)
    except EvidenceError as error:
        return {check.name: str(check) for check in error.checks if check.outcome is Outcome.FAILED}
    return {}


def refusals(name: TeeName, evidence: bytes, policy: Any, collateral: Collateral | None = None) -> dict[str, str]:
    """The checks of `judge` that failed, for evidence that is genuine: name → text."""
    module: Any = tee.load(name)
    collateral = collateral or intel().collateral(platform(), name, NOW)
    report = module.verify(module.parse(evidence)[0], collateral, intel().roots(), NOW)
    return {check.name: str(check) for check in module.judge(report, policy) if check.outcome is Outcome.FAILED}
