"""What a policy can ask of any Intel platform; the tables `[sgx]` and `[tdx]` have these keys and their own.

Enarx's `allowed_advisories` keeps its meaning: where it is given, a platform that is not up to date may pass as long as
all advisories that explain why are on the list. Two things are closed that Enarx leaves open: a state that no advisory
explains does not pass, and neither does `Revoked`. With `allowed_statuses` both lists are asked.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec

from donjon.tee.contract import Checks, Hex16, Model
from donjon.tee.intel import dcap
from donjon.tee.intel.pck import SgxType
from donjon.tee.intel.tcb import Hex6, TcbStatus
from donjon.tee.intel.verify import Genuine

HOPELESS = (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)
_LATE = (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)

Count = Annotated[int, msgspec.Meta(ge=0)]

# XCR0's bits that are defined today: x87 and SSE, AVX, MPX, AVX-512, PT, PKRU, CET, UINTR, LBR, AMX.
XFRM_REQUIRED = 0x00003
XFRM_KNOWN = 0x6DBFF


class IntelPolicy(Model, frozen=True, kw_only=True):
    """Keys of `[sgx]` and `[tdx]` alike; every default is the safe one.

    Args:
        allowed_statuses: which states of the TCB may pass; empty means UpToDate, or what `allowed_advisories` explains.
        allowed_advisories: every advisory that applies must be one of these; empty asks nothing.
        denied_advisories: and none may be one of these.
        out_of_date_until: to the end of this day (UTC), OutOfDate passes as well; for the weeks after Intel has
            published fixes that vendors of mainboards have not delivered yet.
        min_tcb_evaluation_data_number: of Intel's lists; keeps out lists from before a known TCB recovery.
        max_tcb_age_days: since the date of the platform's level.
        stale_collateral_days: how long past their end CRLs and lists may be used; 0 is not at all.
        sgx_types: how memory is protected.
        allow_dynamic_platform, allow_cached_keys, allow_smt: what Intel says of servers of several packages.
        fmspc, fmspc_blacklist: kinds of platforms that may pass, and that may not; an empty list asks nothing.
        ppid, ppid_blacklist: single platforms; against forged evidence after keys were taken out of a processor.
        second_opinion: the library dcap-qvl, where it is installed, has to say the same as our own verification.
    """

    allowed_statuses: tuple[TcbStatus, ...] = ()
    allowed_advisories: tuple[str, ...] = ()
    denied_advisories: tuple[str, ...] = ()
    out_of_date_until: date | None = None
    min_tcb_evaluation_data_number: Count = 0
    max_tcb_age_days: Count | None = None
    stale_collateral_days: Count = 0
    sgx_types: tuple[SgxType, ...] = tuple(SgxType)
    allow_dynamic_platform: bool = True
    allow_cached_keys: bool = True
    allow_smt: bool = True
    fmspc: tuple[Hex6, ...] = ()
    fmspc_blacklist: tuple[Hex6, ...] = ()
    ppid: tuple[Hex16, ...] = ()
    ppid_blacklist: tuple[Hex16, ...] = ()
    second_opinion: bool = True

    def __post_init__(self) -> None:
        for status in HOPELESS:
            if status in self.allowed_statuses:
                raise ValueError(f"allowed_statuses: {status} can never pass, as nothing is proven then")


def judge_platform(checks: Checks, report: Genuine[Any], policy: IntelPolicy, now: datetime) -> None:
    """Ask what the policy asks of the platform.

    Args:
        now: the time of judgement.
    """
    _judge_second_opinion(checks, report, policy, now)
    _judge_status(checks, report, policy, now)
    _judge_lists(checks, report, policy, now)
    spec = "SGX-PCK 5.1"
    platform = report.platform
    checks.one_of("platform.sgx_type", platform.sgx_type, policy.sgx_types, spec)
    for name, found, allowed in (
        ("platform.dynamic_platform", platform.dynamic_platform, policy.allow_dynamic_platform),
        ("platform.cached_keys", platform.cached_keys, policy.allow_cached_keys),
        ("platform.smt", platform.smt, policy.allow_smt),
    ):
        if found is None:
            checks.skip(name, "a platform of one package, of which Intel does not say", spec)
        else:
            checks.that(name, allowed or not found, found, "yes or no" if allowed else False, spec)
    fmspc = platform.fmspc
    if policy.fmspc:
        checks.one_of("platform.fmspc", fmspc, map(bytes, policy.fmspc), spec)
    else:
        checks.skip("platform.fmspc", "the policy names no kinds of platforms", spec)
    checks.that("platform.fmspc_blacklist", fmspc not in policy.fmspc_blacklist, fmspc, "not on the list", spec)
    # A PPID tells one machine from all others: it stays out of verdicts.
    if policy.ppid:
        checks.that("platform.ppid", platform.ppid in policy.ppid, "a PPID, not shown", "one on the list", spec)
    else:
        checks.skip("platform.ppid", "the policy names no single platforms", spec)
    denied = platform.ppid in policy.ppid_blacklist
    checks.that("platform.ppid_blacklist", not denied, "a PPID, not shown", "not on the list", spec)


def _judge_second_opinion(checks: Checks, report: Genuine[Any], policy: IntelPolicy, now: datetime) -> None:
    """Whether the library agrees; it is asked of what we have found genuine, as it says less of anything else."""
    why = ""
    if not policy.second_opinion:
        why = "the policy asks for none"
    elif report.stale:
        why = "collateral has ended, of which the library takes none"
    elif getattr(report.evidence, "trailing", b""):
        why = "there are bytes after the quote, which the library passes over"
    elif not dcap.is_installed():
        why = "the library is not installed"
    if why:
        checks.skip(dcap.AGREES, why, dcap.SPEC)
    else:
        dcap.check_agreement(checks, report, dcap.opinion(report.evidence, report.collateral, report.roots, now))


def _judge_status(checks: Checks, report: Genuine[Any], policy: IntelPolicy, now: datetime) -> None:
    """Whether the platform's state may pass, by one of three keys."""
    status = report.status
    allowed = policy.allowed_statuses or (TcbStatus.UP_TO_DATE,)
    demanded = f"one of {', '.join(allowed)}"
    ok = status in allowed
    if policy.allowed_advisories and not policy.allowed_statuses:
        demanded += ", or one that allowed advisories explain"
        ok = ok or (status not in HOPELESS and bool(report.advisories))
    if policy.out_of_date_until is not None:
        demanded += f", or OutOfDate until {policy.out_of_date_until}"
        ok = ok or (status in _LATE and now.astimezone(UTC).date() <= policy.out_of_date_until)
    note = "" if status is TcbStatus.UP_TO_DATE else f"the platform is not up to date: {status}"
    checks.that("tcb.status", ok, status, demanded, "PCS v4, tcbStatus", note)


def _judge_lists(checks: Checks, report: Genuine[Any], policy: IntelPolicy, now: datetime) -> None:
    """Advisories, and how old all of it is."""
    spec = "PCS v4, advisoryIDs"
    if policy.allowed_advisories:
        more = [item for item in report.advisories if item not in policy.allowed_advisories]
        found = f"{', '.join(more)} besides" if more else ", ".join(report.advisories) or "none"
        checks.that("tcb.advisories", not more, found, "only those that the policy allows", spec)
    else:
        checks.skip("tcb.advisories", "the policy lists none that would be allowed", spec)
    bad = [item for item in report.advisories if item in policy.denied_advisories]
    checks.that("tcb.denied_advisories", not bad, ", ".join(bad) or "none of them", "none that the policy denies", spec)
    checks.at_least(
        "tcb.evaluation", report.evaluation, policy.min_tcb_evaluation_data_number, "PCS v4, tcbEvaluationDataNumber"
    )
    spec = "PCS v4, tcbDate"
    since = report.platform_state.date
    if policy.max_tcb_age_days is None:
        checks.skip("tcb.age", "the policy names no age", spec)
    else:
        young = since is not None and (now - since).days <= policy.max_tcb_age_days
        found = f"{(now - since).days} days" if since else "no date"
        checks.that("tcb.age", young, found, f"at most {policy.max_tcb_age_days} days", spec)
    checks.that(
        "collateral.stale",
        report.stale <= timedelta(days=min(policy.stale_collateral_days, 36500)),
        f"{report.stale.days} days and {report.stale.seconds // 3600} hours past its end"
        if report.stale
        else "in its time",
        f"at most {policy.stale_collateral_days} days past its end",
        "QVL 4.1.2.7",
        "the newest collateral at hand is not fresh" if report.stale else "",
    )
