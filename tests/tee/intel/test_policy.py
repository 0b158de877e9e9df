"""For each key of `[sgx]` and `[tdx]` that both have: genuine evidence in which only that is violated."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from donjon import tee
from donjon.errors import ParseError
from donjon.tee.contract import Outcome
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.policy import HOPELESS, IntelPolicy
from donjon.tee.intel.simulate import (
    ADVISORY,
    EVALUATION,
    MODULE_ADVISORY,
    QE_ADVISORY,
    TeeName,
    platform_numbers,
    qe_identity,
    tcb_info,
)
from donjon.tee.intel.tcb import TcbStatus
from tests.tee.intel.simulated import NOW, intel, platform, quote, refusals

BOTH: tuple[TeeName, ...] = ("sgx", "tdx")
FMSPC = platform().numbers.fmspc.hex()
PPID = platform().numbers.ppid.hex()
OLD = TcbStatus.OUT_OF_DATE
HARDEN = TcbStatus.SW_HARDENING_NEEDED


def read(name: TeeName, **keys: Any) -> Any:
    """A policy from a file's table."""
    module: Any = tee.load(name)
    return module.Policy.read(keys, f"[{name}]")


def refused(name: TeeName, status: TcbStatus = TcbStatus.UP_TO_DATE, **keys: Any) -> set[str]:
    """The checks that fail for a platform in this state under a policy of these keys."""
    collateral = intel().collateral(platform(), name, NOW, status)
    return set(refusals(name, quote(name), read(name, **keys), collateral))


# State of the platform, keys of the policy, the checks that fail: these and no others.
CASES: list[tuple[str, TcbStatus, dict[str, Any], set[str]]] = [
    ("everything is well", TcbStatus.UP_TO_DATE, {}, set()),
    ("the platform is out of date", OLD, {}, {"tcb.status"}),
    ("the platform asks for hardened software", HARDEN, {}, {"tcb.status"}),
    ("the policy allows that state", HARDEN, {"allowed_statuses": ["UpToDate", "SWHardeningNeeded"]}, set()),
    ("the policy allows another state", HARDEN, {"allowed_statuses": ["UpToDate", "OutOfDate"]}, {"tcb.status"}),
    ("the policy allows only another state", TcbStatus.UP_TO_DATE, {"allowed_statuses": ["OutOfDate"]}, {"tcb.status"}),
    ("allowed advisories explain the state", OLD, {"allowed_advisories": [ADVISORY]}, set()),
    ("an advisory is not allowed", OLD, {"allowed_advisories": ["SIMULATED-SA-9"]}, {"tcb.advisories"}),
    (
        "an advisory is not allowed though the state is",
        OLD,
        {"allowed_statuses": ["OutOfDate"], "allowed_advisories": ["SIMULATED-SA-9"]},
        {"tcb.advisories"},
    ),
    (
        "advisories are allowed but the state is not",
        OLD,
        {"allowed_statuses": ["UpToDate"], "allowed_advisories": [ADVISORY]},
        {"tcb.status"},
    ),
    ("advisories are allowed but it is revoked", TcbStatus.REVOKED, {"allowed_advisories": [ADVISORY]}, {"tcb.status"}),
    (
        "an advisory is denied",
        OLD,
        {"allowed_statuses": ["OutOfDate"], "denied_advisories": [ADVISORY]},
        {"tcb.denied_advisories"},
    ),
    ("the day of grace has come", OLD, {"out_of_date_until": NOW.date()}, set()),
    ("the day of grace has passed", OLD, {"out_of_date_until": NOW.date() - timedelta(days=1)}, {"tcb.status"}),
    ("grace is for what is out of date", HARDEN, {"out_of_date_until": NOW.date()}, {"tcb.status"}),
    ("the lists are new enough", TcbStatus.UP_TO_DATE, {"min_tcb_evaluation_data_number": EVALUATION}, set()),
    (
        "the lists are too old",
        TcbStatus.UP_TO_DATE,
        {"min_tcb_evaluation_data_number": EVALUATION + 1},
        {"tcb.evaluation"},
    ),
    ("the level is young enough", TcbStatus.UP_TO_DATE, {"max_tcb_age_days": 201}, set()),
    ("the level is too old", TcbStatus.UP_TO_DATE, {"max_tcb_age_days": 200}, {"tcb.age"}),
    ("the level has no date", TcbStatus.NOT_SUPPORTED, {"max_tcb_age_days": 300}, {"tcb.status", "tcb.age"}),
    ("memory is protected in another way", TcbStatus.UP_TO_DATE, {"sgx_types": ["Standard"]}, {"platform.sgx_type"}),
    ("packages may be added", TcbStatus.UP_TO_DATE, {"allow_dynamic_platform": False}, {"platform.dynamic_platform"}),
    ("keys are cached", TcbStatus.UP_TO_DATE, {"allow_cached_keys": False}, {"platform.cached_keys"}),
    ("hyper-threads are on", TcbStatus.UP_TO_DATE, {"allow_smt": False}, {"platform.smt"}),
    ("the kind of platform is listed", TcbStatus.UP_TO_DATE, {"fmspc": [FMSPC]}, set()),
    ("the kind of platform is not listed", TcbStatus.UP_TO_DATE, {"fmspc": ["00" * 6]}, {"platform.fmspc"}),
    (
        "the kind of platform is denied",
        TcbStatus.UP_TO_DATE,
        {"fmspc_blacklist": [FMSPC]},
        {"platform.fmspc_blacklist"},
    ),
    ("the platform is listed", TcbStatus.UP_TO_DATE, {"ppid": [PPID]}, set()),
    ("the platform is not listed", TcbStatus.UP_TO_DATE, {"ppid": ["00" * 16]}, {"platform.ppid"}),
    ("the platform is denied", TcbStatus.UP_TO_DATE, {"ppid_blacklist": [PPID]}, {"platform.ppid_blacklist"}),
]


@pytest.mark.parametrize(("status", "keys", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("name", BOTH)
def test_decides_when(name: TeeName, status: TcbStatus, keys: dict[str, Any], expected: set[str]) -> None:
    assert refused(name, status, **keys) == expected


@pytest.mark.parametrize("name", BOTH)
def test_stale_collateral_needs_a_policy_that_says_how_stale(name: TeeName) -> None:
    published = NOW - timedelta(days=32)
    collateral = replace(
        intel().collateral(platform(), name, published), grace=timedelta(days=30)
    )  # which has ended 3 days ago
    assert set(refusals(name, quote(name), read(name), collateral)) == {"collateral.stale"}
    assert set(refusals(name, quote(name), read(name, stale_collateral_days=2), collateral)) == {"collateral.stale"}
    assert refusals(name, quote(name), read(name, stale_collateral_days=3), collateral) == {}


@pytest.mark.parametrize("name", BOTH)
def test_a_state_that_no_advisory_explains_does_not_pass_by_a_list_of_advisories(name: TeeName) -> None:
    info = tcb_info(platform().numbers, name, NOW - timedelta(days=1), OLD)
    del info["tcbLevels"][1]["advisoryIDs"]
    collateral = replace(intel().collateral(platform(), name, NOW), tcb_info=intel().sign(info))
    assert set(refusals(name, quote(name), read(name, allowed_advisories=[ADVISORY]), collateral)) == {"tcb.status"}


def test_every_key_has_a_case() -> None:
    keys = set(IntelPolicy.__struct_fields__)
    tried = {key for _, _, keys, _ in CASES for key in keys} | {"stale_collateral_days", "second_opinion"}
    assert keys == tried


def test_the_oldest_list_counts_for_the_evaluation_number() -> None:
    start = NOW - timedelta(days=1)
    identity = intel().sign(qe_identity("sgx", start, tcbEvaluationDataNumber=3))
    collateral = replace(intel().collateral(platform(), "sgx", NOW), qe_identity=identity)
    found = refusals("sgx", quote("sgx"), read("sgx", min_tcb_evaluation_data_number=EVALUATION), collateral)
    assert set(found) == {"tcb.evaluation"}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("qe_status", "expected"),
    [(TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE), (TcbStatus.REVOKED, TcbStatus.REVOKED)],
)
def test_a_quoting_enclave_that_is_out_of_date_counts(name: TeeName, qe_status: TcbStatus, expected: TcbStatus) -> None:
    collateral = intel().collateral(platform(), name, NOW, qe_status=qe_status)
    found = refusals(name, quote(name), read(name), collateral)
    assert list(found) == ["tcb.status"]
    assert f"got {expected}" in found["tcb.status"]
    allowed = refusals(name, quote(name), read(name, allowed_advisories=[QE_ADVISORY]), collateral)
    assert bool(allowed) is (expected in HOPELESS)


def test_a_tdx_module_that_is_out_of_date_counts() -> None:
    collateral = intel().collateral(platform(), "tdx", NOW, module_status=TcbStatus.REVOKED)
    assert set(refusals("tdx", quote("tdx"), read("tdx", allowed_advisories=[MODULE_ADVISORY]), collateral)) == {
        "tcb.status"
    }


def test_a_relaunch_that_is_advised_passes_only_where_the_policy_says() -> None:
    status = TcbStatus.TD_RELAUNCH_ADVISED
    assert refused("tdx", status) == {"tcb.status"}
    assert refused("tdx", status, allowed_statuses=["UpToDate", "TDRelaunchAdvised"]) == set()


def test_a_platform_of_one_package_is_not_asked_about_several() -> None:
    numbers = platform_numbers(platform_instance=None, dynamic_platform=None, cached_keys=None, smt=None)
    machine = intel().platform(numbers)
    collateral: Collateral = intel().collateral(machine, "sgx", NOW)
    module: Any = tee.load("sgx")
    report = module.verify(module.parse(quote("sgx", machine))[0], collateral, intel().roots(), NOW)
    policy = read("sgx", allow_smt=False, allow_cached_keys=False, allow_dynamic_platform=False)
    skipped = {check.name for check in module.judge(report, policy) if check.outcome is Outcome.NOT_APPLICABLE}
    assert {"platform.smt", "platform.cached_keys", "platform.dynamic_platform"} <= skipped


@pytest.mark.parametrize("name", BOTH)
def test_a_ppid_never_stands_in_a_verdict(name: TeeName) -> None:
    found = refusals(name, quote(name), read(name, ppid=["00" * 16], ppid_blacklist=[PPID]))
    assert set(found) == {"platform.ppid", "platform.ppid_blacklist"}
    assert PPID not in repr(found)


@pytest.mark.parametrize("name", BOTH)
def test_what_passes_though_it_is_not_up_to_date_is_noted(name: TeeName) -> None:
    module: Any = tee.load(name)
    collateral = intel().collateral(platform(), name, NOW, OLD)
    report = module.verify(module.parse(quote(name))[0], collateral, intel().roots(), NOW)
    policy = read(name, allowed_statuses=["OutOfDate"], hash=[report.measurement.hex()])
    notes = {check.note for check in module.judge(report, policy) if check.note}
    assert notes == {"the platform is not up to date: OutOfDate"}


@pytest.mark.parametrize(("name", "what"), [("sgx", "enclave"), ("tdx", "TD")])
def test_that_nobody_asked_which_code_it_is_is_noted(name: TeeName, what: str) -> None:
    module: Any = tee.load(name)
    collateral = intel().collateral(platform(), name, NOW)
    report = module.verify(module.parse(quote(name))[0], collateral, intel().roots(), NOW)
    assert {check.note for check in module.judge(report, module.Policy())} == {
        "", f"the policy names no {what}: any passes",
    }  # fmt: skip
    for key in {"sgx": ["hash", "signer"], "tdx": ["hash"]}[name]:
        value = report.report.evidence.body.mr_signer if key == "signer" else report.measurement
        assert not any(check.note for check in module.judge(report, read(name, **{key: [value.hex()]})))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"allowed_statuses": ["Fine"]}, "allowed_statuses[0]: expected one of UpToDate, "),
        ({"allowed_statuses": ["Revoked"]}, "allowed_statuses: Revoked can never pass, as nothing is proven then"),
        ({"allowed_statuses": ["NotSupported"]}, "NotSupported can never pass"),
        ({"allowed_status": []}, 'unknown key "allowed_status"'),
        ({"min_tcb_evaluation_data_number": -1}, "min_tcb_evaluation_data_number: Expected `int` >= 0"),
        ({"max_tcb_age_days": "30"}, "max_tcb_age_days: Expected `int | null`, got `str`"),
        ({"stale_collateral_days": 0.5}, "stale_collateral_days: Expected `int`, got `float`"),
        ({"fmspc": ["00"]}, "expected 12 hex digits"),
        ({"ppid_blacklist": ["zz" * 16]}, "expected 32 hex digits"),
        ({"out_of_date_until": "soon"}, "out_of_date_until: Invalid RFC3339 encoded date"),
        (
            {"sgx_types": ["Small"]},
            "sgx_types[0]: expected one of Standard, Scalable, ScalableWithIntegrity, got",
        ),
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_a_policy_that_cannot_be_meant_is_refused(name: TeeName, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(name, **keys)
    assert message in f"{caught.value}"


def test_dates_of_toml_are_read() -> None:
    import tomllib

    table = tomllib.loads("out_of_date_until = 2026-12-24")
    assert read("sgx", **table).out_of_date_until == date(2026, 12, 24)
