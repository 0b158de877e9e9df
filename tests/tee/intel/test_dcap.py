"""Our verification and the library dcap-qvl say the same, but for the differences listed here."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import pytest

from donjon import tee
from donjon.errors import ParseError
from donjon.tee import sgx, tdx
from donjon.tee.contract import Check, Checks, Outcome, Roots
from donjon.tee.intel import dcap, vendor_roots
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.dcap import AGREES, Opinion, check_agreement, opinion
from donjon.tee.intel.policy import judge_platform
from donjon.tee.intel.simulate import TeeName, enclave, qe_identity, tcb_info
from donjon.tee.intel.tcb import TcbStatus
from donjon.tee.tdx.layout import TdAttributes
from donjon.tee.tdx.simulate import td_report
from tests.tee.intel.simulated import NOW, intel, platform, signed
from tests.tee.intel.vectors import EVIDENCE, Vector

# Vector (and time, if not its main one) → what the library says where we say something else, and why.
LISTED = {
    "sgx/neg-debug-occlum": ("Debug mode is enabled", "we: genuine, and policy refuses debug"),
    "sgx/neg-debug-xeon-e": ("Debug mode is enabled", "we: genuine, and policy refuses debug"),
    "tdx/neg-debug-trustee-v4": ("Debug mode is enabled", "we: genuine, and policy refuses debug"),
    "tdx/trustee-azure-v4-outofdate": ("SEPT_VE_DISABLE", "we: genuine, and policy refuses these attributes"),
    "tdx/neg-phala-v5-no-tcb-level": ("No matching TCB level", "we: genuine, in the state NotSupported"),
    "tdx/neg-trustee-v5-no-tcb-level": ("No matching TCB level", "we: genuine, in the state NotSupported"),
    "tdx/neg-tcb-not-supported-spr-e4": ("bytes after the quote", "we: genuine, and policy refuses those bytes"),
}
ASKED = [pair for pair in EVIDENCE if pair[0].entry["failure"] != "format"]


def label(value: object) -> str:
    return value["at"] if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("vector", "judgement"), ASKED, ids=label)
def test_both_say_the_same_of_every_vector(vector: Vector, judgement: dict[str, Any]) -> None:
    module: Any = tee.load(vector.tee)
    now = datetime.fromisoformat(judgement["at"])
    evidence, _ = module.parse(vector.read("quote"))
    checks = Checks(vector.tee)
    found = module.examine(checks, evidence, vector.collateral, vendor_roots(), now)
    said = opinion(evidence, vector.collateral, vendor_roots(), now)
    if str(vector) in LISTED:
        words, _ = LISTED[str(vector)]
        assert checks.ok
        assert words in said.error
        assert said.genuine is (words != "bytes after the quote")
    elif checks.ok:
        assert (said.status, list(said.advisories)) == (found.status, list(found.advisories))
    else:
        assert said.error
        assert not said.genuine


@pytest.mark.parametrize(
    "vector", {str(vector): vector for vector, _ in EVIDENCE if vector.entry["dcap_qvl_0_7_0"]}.values(), ids=str
)
def test_the_library_says_what_the_entry_recorded(vector: Vector) -> None:
    dcap_qvl: Any = import_module("dcap_qvl")
    recorded = vector.entry["dcap_qvl_0_7_0"]
    collateral = dcap_qvl.QuoteCollateralV3.from_json(vector.read("collateral").decode())
    now = int(vector.judge_at.timestamp())
    if "error" in recorded:
        with pytest.raises(ValueError, match="Verification failed") as caught:
            dcap_qvl.verify(vector.read("quote"), collateral, now)
        assert str(caught.value).split("\n")[0] == recorded["error"].split("\n")[0]
    else:
        report = dcap_qvl.verify(vector.read("quote"), collateral, now)
        assert {"status": report.status, "advisory_ids": report.advisory_ids} == recorded


@pytest.fixture(params=["sgx", "tdx"])
def genuine(request: pytest.FixtureRequest) -> Any:
    evidence, collateral = signed(request.param)
    return tee.load(request.param).verify(evidence, collateral, intel().roots(), NOW)


def agrees(report: Any, **keys: Any) -> Check:
    kind = tee.load(report.tee)
    found = {check.name: check for check in kind.judge(report, kind.Policy(**keys))}
    assert all(check.outcome is not Outcome.FAILED for name, check in found.items() if name != AGREES)
    return found[AGREES]


def test_a_policy_asks_both_and_refuses_what_they_disagree_on(genuine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agrees(genuine).outcome is Outcome.PASSED
    monkeypatch.setattr(dcap, "opinion", lambda *_: Opinion("OutOfDate", (), ""))
    assert str(agrees(genuine)) == "dcap_qvl.agrees: expected UpToDate, got OutOfDate"
    assert agrees(genuine, second_opinion=False).outcome is Outcome.NOT_APPLICABLE


def test_the_library_is_not_asked_of_what_it_cannot_judge(genuine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = replace(genuine.report, stale=timedelta(days=1))
    checks = Checks(genuine.tee)
    judge_platform(checks, ended, tee.load(genuine.tee).Policy(stale_collateral_days=2), NOW)
    assert checks.all[0].found == "collateral has ended, of which the library takes none"
    monkeypatch.setattr(dcap, "is_installed", lambda: False)
    assert agrees(genuine).found == "the library is not installed"


@pytest.mark.parametrize("name", ["sgx", "tdx"])
@pytest.mark.parametrize("status", TcbStatus, ids=str)
@pytest.mark.parametrize(
    "qe_status", [TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED], ids=str
)
def test_both_say_the_same_of_simulated_platforms_in_every_state(
    name: TeeName, status: TcbStatus, qe_status: TcbStatus
) -> None:
    module: Any = tee.load(name)
    collateral = intel().collateral(platform(), name, NOW, status, qe_status=qe_status)
    quote = platform().sgx_quote(enclave()) if name == "sgx" else platform().tdx_quote(td_report())
    evidence, _ = module.parse(quote)
    report = module.verify(evidence, collateral, intel().roots(), NOW).report
    checks = Checks(name)
    said = opinion(evidence, collateral, intel().roots(), NOW)
    assert check_agreement(checks, report, said), checks.all
    if said.error:
        assert report.status in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)


@pytest.mark.parametrize("module_status", [TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED], ids=str)
@pytest.mark.parametrize("newer", [True, False], ids=["report 1.5", "report 1.0"])
def test_both_say_the_same_of_tdx_modules_in_every_state(module_status: TcbStatus, newer: bool) -> None:
    collateral = intel().collateral(platform(), "tdx", NOW, module_status=module_status)
    evidence, _ = tdx.parse(platform().tdx_quote(td_report(newer=newer)))
    report = tdx.verify(evidence, collateral, intel().roots(), NOW).report
    checks = Checks("tdx")
    said = opinion(evidence, collateral, intel().roots(), NOW)
    assert check_agreement(checks, report, said), checks.all


# Simulated evidence: name, evidence and collateral, what the library says, what we say, why.


def _with_info(**changes: Any) -> Collateral:
    info = tcb_info(platform().numbers, "tdx", NOW - timedelta(days=1), **changes)
    return replace(intel().collateral(platform(), "tdx", NOW), tcb_info=intel().sign(info))


def _migratable() -> tuple[tdx.Evidence, Collateral]:
    attributes = TdAttributes.MIGRATABLE | TdAttributes.SEPT_VE_DISABLE
    evidence, _ = tdx.parse(platform().tdx_quote(td_report(td_attributes=attributes)))
    return evidence, intel().collateral(platform(), "tdx", NOW)


def _first_components() -> tuple[tdx.Evidence, Collateral]:
    """A module with a version whose ISVSVN is below the level's first TDX component."""
    info = tcb_info(platform().numbers, "tdx", NOW - timedelta(days=1))
    info["tdxModuleIdentities"][0]["tcbLevels"][0]["tcb"]["isvsvn"] = 1
    svn = bytes((5, 1, 2, *bytes(13)))
    evidence, _ = tdx.parse(platform().tdx_quote(td_report(newer=False, tee_tcb_svn=svn)))
    return evidence, replace(intel().collateral(platform(), "tdx", NOW), tcb_info=intel().sign(info))


def _no_module_identities() -> tuple[tdx.Evidence, Collateral]:
    """Nobody says in what state a module with a version is."""
    return tdx.parse(platform().tdx_quote(td_report()))[0], _with_info(tdxModuleIdentities=[])


def _unknown_newer_module() -> tuple[tdx.Evidence, Collateral]:
    """The module that is loaded by now is of a version that the lists do not know."""
    report = td_report(tee_tcb_svn_2=bytes((9, 7, 2, *bytes(13))))
    collateral = intel().collateral(platform(), "tdx", NOW, TcbStatus.TD_RELAUNCH_ADVISED)
    return tdx.parse(platform().tdx_quote(report))[0], collateral


def _qe_identity_3() -> tuple[tdx.Evidence, Collateral]:
    """A QE identity of a version that PCS does not have."""
    identity = intel().sign(qe_identity("tdx", NOW - timedelta(days=1), version=3))
    collateral = replace(intel().collateral(platform(), "tdx", NOW), qe_identity=identity)
    return tdx.parse(platform().tdx_quote(td_report()))[0], collateral


def _long_authentication_data() -> tuple[sgx.Evidence, Collateral]:
    machine = replace(platform(), authentication_data=bytes(40))
    return sgx.parse(machine.sgx_quote(enclave()))[0], intel().collateral(machine, "sgx", NOW)


def _stale_with_grace() -> tuple[sgx.Evidence, Collateral]:
    collateral = intel().collateral(platform(), "sgx", NOW - timedelta(days=31))
    return sgx.parse(platform().sgx_quote(enclave()))[0], replace(collateral, grace=timedelta(days=7))


def _equal_levels() -> tuple[sgx.Evidence, Collateral]:
    """Two levels with the same numbers."""
    info = tcb_info(platform().numbers, "sgx", NOW - timedelta(days=1))
    info["tcbLevels"] *= 2
    collateral = replace(intel().collateral(platform(), "sgx", NOW), tcb_info=intel().sign(info))
    return sgx.parse(platform().sgx_quote(enclave()))[0], collateral


def _duplicate_keys() -> tuple[sgx.Evidence, Collateral]:
    """A list in which one member, unknown to the library, stands twice."""
    collateral = intel().collateral(platform(), "sgx", NOW)
    assert collateral.tcb_info
    body = collateral.tcb_info.body[:-1] + b',"extra":1,"extra":2}'
    return sgx.parse(platform().sgx_quote(enclave()))[0], replace(collateral, tcb_info=intel().sign(body))


SIMULATED: list[tuple[Any, str, str, str]] = [
    (_migratable, "TD migration is enabled", "UpToDate", "whether it may be moved is for policy to say"),
    (_first_components, "", "UpToDate", "the same: these two components are the module's own business"),
    (_no_module_identities, "No TDX module identity", "tdx_module.known", "the same"),
    (_unknown_newer_module, "No TDX module identity", "OutOfDate", "what is loaded now says nothing against the TD"),
    (_qe_identity_3, "", "ParseError", "nobody has said what a version 3 means"),
    (_long_authentication_data, "Invalid QE auth data length", "UpToDate", "the format allows any length"),
    (_stale_with_grace, "expired", "UpToDate", "there is a stated grace"),
    (_equal_levels, "", "ParseError", "one of two equal levels would count by chance"),
    (_duplicate_keys, "", "ParseError", "who reads the other of the two reads another list"),
]


@pytest.mark.parametrize(
    ("make", "library", "ours", "why"), SIMULATED, ids=lambda value: getattr(value, "__name__", "")[1:]
)
def test_the_known_differences_are_as_listed(make: Any, library: str, ours: str, why: str) -> None:
    evidence, collateral = make()
    module: Any = sgx if isinstance(evidence, sgx.Evidence) else tdx
    said = opinion(evidence, collateral, intel().roots(), NOW)
    assert (library.lower() in said.error.lower()) if library else not said.error, said
    checks = Checks("intel")
    if ours == "ParseError":
        with pytest.raises(ParseError):
            module.examine(checks, evidence, collateral, intel().roots(), NOW)
        return
    found = module.examine(checks, evidence, collateral, intel().roots(), NOW)
    failed = [check.name for check in checks.all if check.outcome is Outcome.FAILED]
    assert (failed or [str(found.status)]) == [ours], why


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_disagreement_is_a_failed_check(name: TeeName) -> None:
    module: Any = tee.load(name)
    evidence, collateral = signed(name)
    report = module.verify(evidence, collateral, intel().roots(), NOW).report
    for said in (Opinion("OutOfDate", (), ""), Opinion("UpToDate", ("INTEL-SA-1",), ""), Opinion("", (), "no")):
        checks = Checks(name)
        assert not check_agreement(checks, report, said)
        assert not checks.ok


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"roots": Roots({})}, "no root is pinned"),
        ({"certification_type": 1}, "certification data of type 1"),
        ({"qe_identity": None}, "collateral: expected TCB info and QE identity, got one or none"),
        ({"crls": ()}, "collateral: expected the CRLs of the root and of the PCK's issuer, got one or none"),
        ({"trailing": b"x"}, "bytes after the quote"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_asked_that_our_parser_would_refuse(change: dict[str, Any], error: str) -> None:
    evidence, collateral = signed("tdx")
    anchors = change.pop("roots", intel().roots())
    if "certification_type" in change:
        evidence = replace(evidence, signature=replace(evidence.signature, **change))
    elif "trailing" in change:
        evidence = replace(evidence, **change)
    else:
        collateral = replace(collateral, **change)
    assert opinion(evidence, collateral, anchors, NOW) == Opinion("", (), error)


def test_it_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from donjon.errors import PlatformError

    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    with pytest.raises(PlatformError, match="dcap-qvl is not installed"):
        opinion(*signed("sgx"), intel().roots(), NOW)


def test_listed_differences_are_all_seen() -> None:
    assert set(LISTED) <= {str(vector) for vector, _ in ASKED}
