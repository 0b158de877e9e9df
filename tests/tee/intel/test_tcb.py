"""States of the TCB: how lists are read and put in order, how states are found and combined."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from donjon.errors import BugError, ParseError
from donjon.tee.intel import tcb
from donjon.tee.intel.simulate import NEWER_TEE_TCB_SVN, TEE_TCB_SVN, qe_identity, tcb_info
from donjon.tee.intel.tcb import TcbStatus as S
from tests.tee.intel.simulated import NOW, platform

START = NOW - timedelta(days=1)
NUMBERS = platform().numbers
MODULE = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def info(tee: Any = "tdx", status: S = S.UP_TO_DATE, **changes: Any) -> tcb.TcbInfo:
    return tcb.tcb_info(text(tcb_info(NUMBERS, tee, START, status, **changes)))


def level(components: list[int], pcesvn: int, status: str, tdx: list[int] | None = None) -> dict[str, Any]:
    numbers: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn} for svn in components], "pcesvn": pcesvn}
    if tdx is not None:
        numbers["tdxtcbcomponents"] = [{"svn": svn} for svn in tdx]
    return {"tcb": numbers, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": [f"A-{status}"]}


# Combining


@pytest.mark.parametrize(
    ("state", "other", "expected"),
    [
        *((status, S.UP_TO_DATE, status) for status in S),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE),
        (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE),
        (S.CONFIGURATION_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.OUT_OF_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE),
        (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.REVOKED, S.OUT_OF_DATE, S.REVOKED),
        (S.NOT_SUPPORTED, S.OUT_OF_DATE, S.NOT_SUPPORTED),
        *((status, S.REVOKED, S.REVOKED) for status in S),
        (S.UP_TO_DATE, S.NOT_SUPPORTED, S.NOT_SUPPORTED),
        (S.REVOKED, S.NOT_SUPPORTED, S.REVOKED),
    ],
)
def test_states_converge(state: S, other: S, expected: S) -> None:
    assert tcb.converge(state, other) is expected


def test_a_quoting_enclave_has_no_settings() -> None:
    with pytest.raises(BugError, match="a QE or TDX module is never ConfigurationNeeded"):
        tcb.converge(S.UP_TO_DATE, S.CONFIGURATION_NEEDED)


@pytest.mark.parametrize(
    ("sgx", "tdx", "module", "qe", "newer", "expected"),
    [
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, S.UP_TO_DATE, NEWER_TEE_TCB_SVN, S.TD_RELAUNCH_ADVISED),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, NEWER_TEE_TCB_SVN, S.TD_RELAUNCH_ADVISED),
        (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE, None, NEWER_TEE_TCB_SVN, S.TD_RELAUNCH_ADVISED),
        (
            S.CONFIGURATION_NEEDED,
            S.OUT_OF_DATE,
            S.OUT_OF_DATE,
            None,
            NEWER_TEE_TCB_SVN,
            S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
        ),
        (
            S.UP_TO_DATE,
            S.OUT_OF_DATE_CONFIGURATION_NEEDED,
            S.OUT_OF_DATE,
            None,
            NEWER_TEE_TCB_SVN,
            S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
        ),
        (S.OUT_OF_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, NEWER_TEE_TCB_SVN, S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.UP_TO_DATE, None, NEWER_TEE_TCB_SVN, S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.UP_TO_DATE, S.UP_TO_DATE, None, NEWER_TEE_TCB_SVN, S.UP_TO_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, NEWER_TEE_TCB_SVN, S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, S.REVOKED, NEWER_TEE_TCB_SVN, S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, TEE_TCB_SVN, S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, bytes((7, 1, 1, *bytes(13))), S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, bytes((7, 9, 2, *bytes(13))), S.OUT_OF_DATE),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, bytes((6, 0, 2, *bytes(13))), S.TD_RELAUNCH_ADVISED),
        (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE, None, bytes((5, 0, 2, *bytes(13))), S.OUT_OF_DATE),
    ],
)
def test_a_relaunch_is_advised_when_only_the_module_is_behind(
    sgx: S, tdx: S, module: S, qe: S | None, newer: bytes, expected: S
) -> None:
    lists = info(module_status=S.OUT_OF_DATE)
    assert tcb.relaunch(lists, newer, sgx, tdx, module, qe) is expected


# Levels


def test_the_first_level_counts_whatever_the_order_of_the_text() -> None:
    own = list(NUMBERS.components)
    lower = [max(0, svn - 1) for svn in own]
    levels = [level(lower, 5, "OutOfDate"), level(own, 13, "UpToDate"), level(own, 12, "SWHardeningNeeded")]
    for turned in (levels, levels[::-1], levels[1:] + levels[:1]):
        found = info("sgx", tcbLevels=turned)
        assert [item.status for item in found.tcb_levels] == [S.UP_TO_DATE, S.SW_HARDENING_NEEDED, S.OUT_OF_DATE]
        sgx, state = tcb.platform_states(found, NUMBERS)
        assert sgx == state
        assert (state.status, state.advisories) == (S.UP_TO_DATE, ("A-UpToDate",))


@pytest.mark.parametrize("index", range(16))
def test_every_component_counts(index: int) -> None:
    demanded = list(NUMBERS.components)
    demanded[index] += 1
    found = info("sgx", tcbLevels=[level(demanded, 13, "UpToDate")])
    assert tcb.platform_states(found, NUMBERS)[1] is tcb.NOT_SUPPORTED


def test_the_pcesvn_counts() -> None:
    found = info("sgx", tcbLevels=[level(list(NUMBERS.components), 14, "UpToDate")])
    assert tcb.platform_states(found, NUMBERS)[1] is tcb.NOT_SUPPORTED


@pytest.mark.parametrize("index", range(16))
@pytest.mark.parametrize("version", [0, 1])
def test_every_tdx_component_counts_but_those_of_a_module_with_a_version(index: int, version: int) -> None:
    svn = bytearray(16)
    svn[1] = version
    demanded = list(svn)
    demanded[index] += 1
    found = info(tcbLevels=[level(list(NUMBERS.components), 13, "UpToDate", demanded)])
    sgx, state = tcb.platform_states(found, NUMBERS, bytes(svn))
    assert sgx.status is S.UP_TO_DATE
    assert (state.status is S.UP_TO_DATE) is (version == 1 and index < 2)


def test_a_lower_level_may_be_that_of_the_td() -> None:
    own = list(NUMBERS.components)
    levels = [level(own, 13, "UpToDate", [9, 0, 9, *bytes(13)]), level(own, 13, "OutOfDate", [1, 0, 1, *bytes(13)])]
    sgx, state = tcb.platform_states(info(tcbLevels=levels), NUMBERS, bytes((5, 0, 2, *bytes(13))))
    assert (sgx.status, state.status) == (S.UP_TO_DATE, S.OUT_OF_DATE)


# Reading


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, 'expected id "SGX" or "TDX", version 3, tcbType 0, got \'TDX\', 2, 0'),
        ({"id": "CCA"}, "got 'CCA', 3, 0"),
        ({"tcbType": 1}, "got 'TDX', 3, 1"),
        ({"tcbLevels": []}, "Expected `array` of length >= 1 - at `$.tcbLevels`"),
        ({"tcbLevels": [level([1] * 15, 1, "UpToDate", [0] * 16)]}, "Expected `array` of length >= 16"),
        ({"tcbLevels": [level([1] * 16, 1, "UpToDate")]}, "expected 16 TDX components, got 0"),
        ({"tcbLevels": [level([256] * 16, 1, "UpToDate", [0] * 16)]}, "Expected `int` <= 255"),
        ({"tcbLevels": [level([1] * 16, 1, "Fine", [0] * 16)]}, "Invalid enum value 'Fine'"),
        ({"tcbLevels": [level([1] * 16, 1, "NotSupported", [0] * 16)]}, "tcbStatus: expected one of"),
        ({"tcbLevels": [level([1] * 16, 1, "UpToDate", [0] * 16)] * 2}, "TCB info tcbLevels: expected each level once"),
        ({"fmspc": "00"}, 'expected 12 hex digits, got "00" - at `$.fmspc`'),
        ({"fmspc": 7}, "expected 12 hex digits, got int"),
        ({"issueDate": "2026-11-23T12:00:00"}, "Expected `datetime` with a timezone component"),
        ({"nextUpdate": "tomorrow"}, "Invalid RFC3339 encoded datetime"),
        ({"tdxModule": None}, "expected tdxModule in the list for TDX and only there"),
        ({"tdxModuleIdentities": [{"id": "TDX_01", **MODULE, "tcbLevels": []}]}, "length >= 1"),
        ({"tdxModuleIdentities": [{"id": "SEAM", **MODULE, "tcbLevels": []}]}, "Expected `str` matching regex"),
    ],
)
def test_refuses_tcb_info(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        info(**changes)
    assert caught.value.message.startswith("TCB info")
    assert message in caught.value.message


def test_refuses_what_belongs_to_the_other_tee() -> None:
    with pytest.raises(ParseError, match="expected tdxModule in the list for TDX and only there"):
        info("sgx", tdxModule=MODULE)
    with pytest.raises(ParseError, match="expected tdxModule in the list for TDX and only there"):
        info("sgx", tdxModuleIdentities=tcb_info(NUMBERS, "tdx", START)["tdxModuleIdentities"])
    with pytest.raises(ParseError, match="expected 0 TDX components, got 16"):
        info("sgx", tcbLevels=[level([1] * 16, 1, "UpToDate", [0] * 16)])


def test_refuses_a_module_or_its_level_twice() -> None:
    (module,) = tcb_info(NUMBERS, "tdx", START)["tdxModuleIdentities"]
    with pytest.raises(ParseError, match="expected each module once, got TDX_01, TDX_01"):
        info(tdxModuleIdentities=[module, {**module, "id": "tdx_01".replace("tdx", "TDX")}])
    twice = {**module, "tcbLevels": module["tcbLevels"] * 2}
    with pytest.raises(ParseError, match="TCB info: expected each ISVSVN once"):
        info(tdxModuleIdentities=[twice])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, 'expected id "QE" or "TD_QE" and version 2, got \'QE\' and 3'),
        ({"id": "QVE"}, "got 'QVE' and 2"),
        ({"mrsigner": "00"}, "expected 64 hex digits"),
        ({"attributesMask": "00"}, "expected 32 hex digits"),
        ({"tcbLevels": []}, "Expected `array` of length >= 1"),
        (
            {
                "tcbLevels": [
                    {"tcb": {"isvsvn": 1}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "SWHardeningNeeded"}
                ]
            },
            "tcbStatus: expected one of OutOfDate, Revoked, UpToDate, got SWHardeningNeeded",
        ),
    ],
)
def test_refuses_a_qe_identity(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        tcb.qe_identity(text(qe_identity("sgx", START, **changes)))
    assert caught.value.message.startswith("QE identity")
    assert message in caught.value.message


def test_passes_over_members_that_it_does_not_know() -> None:
    assert info("sgx", tcbComments="new").id == "SGX"


@pytest.mark.parametrize(("svn", "status"), [(9, S.UP_TO_DATE), (8, S.UP_TO_DATE), (7, S.NOT_SUPPORTED)])
def test_an_enclaves_state_is_that_of_the_first_level_it_reaches(svn: int, status: S) -> None:
    identity = tcb.qe_identity(text(qe_identity("sgx", START)))
    assert tcb.enclave_state(identity.tcb_levels, svn).status is status


def test_advisories_come_each_once_in_order() -> None:
    assert tcb.union(("b", "a"), ("c", "a"), ()) == ("b", "a", "c")
