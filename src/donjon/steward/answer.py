"""A decision in the words of JSON: what `steward judge --json` prints and the service's verdicts hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from donjon.steward.procedure import Decision
from donjon.tee.contract import Check, Verdict, VerifiedReport, shown


def check_dict(check: Check) -> dict[str, str]:
    """One question; a note only where there is one."""
    fields = {
        "name": check.name,
        "outcome": check.outcome.value,
        "found": check.found,
        "demanded": check.demanded,
        "spec": check.spec,
    }
    return {**fields, "note": check.note} if check.note else fields


def report_dict(report: VerifiedReport[Any]) -> dict[str, Any]:
    """What genuine evidence says. No chip is named: `claims` and `tcb` hold no such thing."""
    return {
        "tee": report.tee,
        "product": report.product,
        "measurement": report.measurement.hex(),
        "report_data": report.report_data.hex(),
        "workload": report.workload.hex(),
        "tcb": {name: plain(value) for name, value in report.tcb.items()},
        "claims": {name: plain(value) for name, value in report.claims.items()},
        "judged_at": shown(report.judged_at),
        "valid_from": shown(report.valid_from),
        "valid_until": shown(report.valid_until),
        "simulated": report.simulated,
        "protected": report.protected,
    }


def plain(value: object) -> object:
    """A value as JSON has it: numbers and bools as they are, everything else as verdicts write it."""
    return value if isinstance(value, bool | int | float) else shown(value)


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A whole decision about a request."""
    found = {
        "accepted": decision.accepted,
        "tee": decision.tee,
        "ground": decision.ground.value if decision.ground else "",
        "at": shown(decision.now),
        "policy": decision.policy.hex(),
        "request": decision.request.hex(),
        "evidence": decision.evidence.hex(),
        **_checks(decision.checks),
    }
    if decision.grant is not None:
        grant = decision.grant
        found["report"] = report_dict(grant.report)
        found["grant"] = {
            "names": list(grant.names),
            "workload": grant.workload_uri,
            "lifetime_seconds": int(grant.lifetime.total_seconds()),
            "markers": list(grant.markers),
            "nonce": grant.nonce,
        }
    return found


def verdict_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict about evidence alone."""
    found = {"accepted": verdict.accepted, "tee": verdict.tee, **_checks(verdict.checks)}
    if verdict.report is not None:
        found["report"] = report_dict(verdict.report)
    return found


def _checks(checks: Iterable[Check]) -> dict[str, Any]:
    return {"checks": [check_dict(check) for check in checks]}
