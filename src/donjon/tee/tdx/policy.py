"""Is a genuine TDX quote acceptable? The table `[tdx]` of a policy file, and its questions.

    [tdx]
    hash = ["91eb2b44..."]                    # MRTD that may run
    rtmr1 = ["0084452c..."]                   # or what the event log says, to be judged by whoever reads it
    mr_config_id = []
    required_attributes = []                  # e.g. for TDs under Azure's paravisor, which clear SEPT_VE_DISABLE
    allowed_statuses = ["UpToDate", "SWHardeningNeeded"]      # and more, see `IntelPolicy`

A list that is empty asks nothing, but `service_td`: without a list no service TD may be bound. All findings are
reported at once.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from donjon.tee.contract import Check, Checks, Hex48, VerifiedReport
from donjon.tee.intel.policy import XFRM_KNOWN, XFRM_REQUIRED, Count, IntelPolicy, judge_platform
from donjon.tee.intel.verify import Genuine
from donjon.tee.tdx import eventlog
from donjon.tee.tdx.evidence import Evidence
from donjon.tee.tdx.layout import TdAttributes

SPEC = "TDX-ABI, ATTRIBUTES"
SPEC_REPORT = "TDX-ABI, TDINFO"


class Attribute(StrEnum):
    """Attributes of a TD, as TDX-ABI names them."""

    DEBUG = "DEBUG"
    LASS = "LASS"
    SEPT_VE_DISABLE = "SEPT_VE_DISABLE"
    MIGRATABLE = "MIGRATABLE"
    PKS = "PKS"
    KL = "KL"
    TPA = "TPA"
    PERFMON = "PERFMON"


_HARMLESS = tuple(item for item in Attribute if item not in (Attribute.DEBUG, Attribute.MIGRATABLE, Attribute.TPA))
_RTMRS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")


class Policy(IntelPolicy, frozen=True, kw_only=True):
    """The table `[tdx]`; `Policy()` is the safe default.

    Args:
        hash: MRTD that may run; hash_blacklist: that may not.
        rtmr0, rtmr1, rtmr2, rtmr3: what the runtime registers may be.
        mr_seam: which TDX modules may run TDs, beyond what Intel's lists say of their state.
        mr_config_id, mr_owner, mr_owner_config: what the launcher may have put there.
        attributes: what may be set. "DEBUG" lets the host read the TD; "MIGRATABLE" lets a service TD move it.
        required_attributes: what must be. Without SEPT_VE_DISABLE a host can hide memory from a guest that is not
            written for it.
        allowed_xfam: bits of XFAM, the processor's extensions, that the TD may use.
        service_td: MRSERVICETD that may be bound beside none.
        require_event_log: the log has come along. That it fits the registers is always asked.
    """

    hash: tuple[Hex48, ...] = ()
    hash_blacklist: tuple[Hex48, ...] = ()
    rtmr0: tuple[Hex48, ...] = ()
    rtmr1: tuple[Hex48, ...] = ()
    rtmr2: tuple[Hex48, ...] = ()
    rtmr3: tuple[Hex48, ...] = ()
    mr_seam: tuple[Hex48, ...] = ()
    mr_config_id: tuple[Hex48, ...] = ()
    mr_owner: tuple[Hex48, ...] = ()
    mr_owner_config: tuple[Hex48, ...] = ()
    attributes: tuple[Attribute, ...] = _HARMLESS
    required_attributes: tuple[Attribute, ...] = (Attribute.SEPT_VE_DISABLE,)
    allowed_xfam: Count = XFRM_KNOWN
    service_td: tuple[Hex48, ...] = ()
    require_event_log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        both = set(self.hash) & set(self.hash_blacklist)
        if both:
            raise ValueError(f"hash and hash_blacklist: expected different ones, got {min(both).hex()} in both")
        missing = set(self.required_attributes) - set(self.attributes)
        if missing:
            raise ValueError(f"required_attributes: expected ones that attributes allows, got {min(missing)}")


def judge(report: VerifiedReport[Genuine[Evidence]], policy: Policy) -> tuple[Check, ...]:
    """Ask everything that the policy asks; every finding, failed ones too."""
    checks = Checks("tdx")
    evidence = report.report.evidence
    # Nothing signs what follows a quote, so nothing may read it; zeros are the buffer that Linux hands out.
    checks.that("quote.trailing", not evidence.trailing, evidence.trailing[:16], "nothing or zeros", "TDX-QUOTE, A.3")
    _judge_attributes(checks, evidence, policy)
    _judge_measurements(checks, evidence, policy)
    _judge_event_log(checks, evidence, policy)
    judge_platform(checks, report.report, policy, report.judged_at)
    return checks.all


def _judge_attributes(checks: Checks, evidence: Evidence, policy: Policy) -> None:
    attributes = evidence.body.td_attributes
    for name, bit, allowed, note in (
        ("td.debug", TdAttributes.DEBUG, Attribute.DEBUG, "the host can read and change this TD"),
        ("td.migratable", TdAttributes.MIGRATABLE, Attribute.MIGRATABLE, "a service TD can move this TD elsewhere"),
    ):
        found = bit in attributes
        may = allowed in policy.attributes
        checks.that(name, may or not found, found, "yes or no" if may else False, SPEC, note if found else "")
    allowed_bits = _bits(policy.attributes) | TdAttributes.DEBUG | TdAttributes.MIGRATABLE  # which have been asked for
    more = int(attributes) & ~int(allowed_bits)
    checks.that("td.attributes", not more, attributes, f"only {allowed_bits.name}", SPEC)
    required = _bits(policy.required_attributes)
    checks.that("td.required_attributes", required in attributes, attributes, required or "none", SPEC)
    xfam = evidence.body.xfam
    checks.that(
        "td.xfam",
        xfam & XFRM_REQUIRED == XFRM_REQUIRED and not xfam & ~policy.allowed_xfam,
        hex(xfam),
        f"{XFRM_REQUIRED:#x}, and only {policy.allowed_xfam:#x}",
        "TDX-ABI, XFAM",
    )


@lru_cache(maxsize=64)
def _bits(names: tuple[Attribute, ...]) -> TdAttributes:
    found = TdAttributes(0)
    for name in names:
        found |= TdAttributes[name]
    return found


def _judge_measurements(checks: Checks, evidence: Evidence, policy: Policy) -> None:
    body = evidence.body
    denied = body.mr_td in policy.hash_blacklist
    checks.that("td.hash_blacklist", not denied, body.mr_td, "not on the list", SPEC_REPORT)
    for name, found, allowed in (
        ("td.hash", body.mr_td, policy.hash),
        ("td.rtmr0", body.rtmr0, policy.rtmr0),
        ("td.rtmr1", body.rtmr1, policy.rtmr1),
        ("td.rtmr2", body.rtmr2, policy.rtmr2),
        ("td.rtmr3", body.rtmr3, policy.rtmr3),
        ("td.mr_config_id", body.mr_config_id, policy.mr_config_id),
        ("td.mr_owner", body.mr_owner, policy.mr_owner),
        ("td.mr_owner_config", body.mr_owner_config, policy.mr_owner_config),
        ("td.mr_seam", body.mr_seam, policy.mr_seam),
    ):
        if allowed:
            checks.one_of(name, found, map(bytes, allowed), SPEC_REPORT)
        else:
            note = "the policy names no TD: any passes" if name == "td.hash" else ""
            checks.skip(name, "the policy names none", SPEC_REPORT, note=note)
    if evidence.newer is None:
        checks.skip("td.service_td", "a TD report 1.0, to which none can be bound", SPEC_REPORT)
    else:
        checks.one_of(
            "td.service_td", evidence.newer.mr_service_td, (bytes(48), *map(bytes, policy.service_td)), SPEC_REPORT
        )


def _judge_event_log(checks: Checks, evidence: Evidence, policy: Policy) -> None:
    spec = "TCG-PFP 10"
    if evidence.events is None:
        if policy.require_event_log:
            checks.that("event_log.present", False, "nothing", "at hand", spec)
        else:
            checks.skip("event_log.present", "no log came along, and the policy asks for none", spec)
        checks.skip("event_log.replay", "there is no log", spec)
        return
    checks.that("event_log.present", True, f"{len(evidence.events)} events", "at hand", spec)
    body = evidence.body
    registers = dict(zip(_RTMRS, (body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3), strict=True))
    replayed = dict(zip(_RTMRS, eventlog.replay(evidence.events), strict=True))
    wrong = {name: value for name, value in replayed.items() if value != registers[name]}
    demanded = {name: registers[name] for name in wrong}
    checks.that(
        "event_log.replay", not wrong, wrong or "the quote's registers", demanded or "the quote's registers", spec
    )
