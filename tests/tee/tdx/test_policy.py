"""For each key of `[tdx]`: a genuine TD in which only that is violated."""

from __future__ import annotations

from typing import Any

import pytest

from donjon.errors import ParseError
from donjon.tee import tdx
from donjon.tee.intel.policy import IntelPolicy
from donjon.tee.tdx.layout import TdAttributes
from donjon.tee.tdx.simulate import td_report
from tests.tee.intel.simulated import NOW, intel, platform, refusals
from tests.tee.intel.vectors import named

BASE = TdAttributes.SEPT_VE_DISABLE
ZERO, ONES = "00" * 48, "01" * 48
GOOD = tdx.parse(platform().tdx_quote(td_report()))[0].body
MRTD = GOOD.mr_td.hex()


def refused(fields: dict[str, Any], keys: dict[str, Any]) -> set[str]:
    policy = tdx.Policy.read(keys, "[tdx]")
    return set(refusals("tdx", platform().tdx_quote(td_report(**fields)), policy))


# Fields of the TD report, keys of the policy, the checks that fail: these and no others.
CASES: list[tuple[str, dict[str, Any], dict[str, Any], set[str]]] = [
    ("everything is well", {}, {}, set()),
    ("the TD can be debugged", {"td_attributes": BASE | TdAttributes.DEBUG}, {}, {"td.debug"}),
    (
        "the policy allows to debug",
        {"td_attributes": BASE | TdAttributes.DEBUG},
        {"attributes": ["DEBUG", "SEPT_VE_DISABLE"]},
        set(),
    ),
    ("the TD can be moved", {"td_attributes": BASE | TdAttributes.MIGRATABLE}, {}, {"td.migratable"}),
    (
        "the policy allows to move it",
        {"td_attributes": BASE | TdAttributes.MIGRATABLE},
        {"attributes": ["MIGRATABLE", "SEPT_VE_DISABLE"]},
        set(),
    ),
    ("supervisor keys may be on", {"td_attributes": BASE | TdAttributes.PKS | TdAttributes.PERFMON}, {}, set()),
    (
        "the policy leaves them out",
        {"td_attributes": BASE | TdAttributes.PKS},
        {"attributes": ["SEPT_VE_DISABLE"]},
        {"td.attributes"},
    ),
    ("the TD provisions others", {"td_attributes": BASE | TdAttributes.TPA}, {}, {"td.attributes"}),
    ("an attribute is set that nobody knows", {"td_attributes": BASE | TdAttributes(1 << 9)}, {}, {"td.attributes"}),
    ("another debug bit is set", {"td_attributes": BASE | TdAttributes(1 << 3)}, {}, {"td.attributes"}),
    ("the host can hide memory", {"td_attributes": TdAttributes(0)}, {}, {"td.required_attributes"}),
    ("the policy lets it", {"td_attributes": TdAttributes(0)}, {"required_attributes": []}, set()),
    ("the processor's extensions lack the basic ones", {"xfam": 0x1}, {}, {"td.xfam"}),
    ("an extension is used that nobody knows", {"xfam": 0xE7 | 1 << 60}, {}, {"td.xfam"}),
    ("an extension is used that the policy refuses", {}, {"allowed_xfam": 0x3}, {"td.xfam"}),
    ("the TD is listed", {}, {"hash": [MRTD]}, set()),
    ("the TD is not listed", {}, {"hash": [ZERO]}, {"td.hash"}),
    ("the TD is denied", {}, {"hash_blacklist": [MRTD]}, {"td.hash_blacklist"}),
    *(
        (f"{name} is listed", {name: b"\1" * 48}, {name: [ONES]}, set())
        for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
    ),
    *((f"{name} is not listed", {}, {name: [ONES]}, {f"td.{name}"}) for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3")),
    *(
        (f"{name} is listed", {name: b"\1" * 48}, {name: [ONES]}, set())
        for name in ("mr_seam", "mr_config_id", "mr_owner", "mr_owner_config")
    ),
    *(
        (f"{name} is not listed", {}, {name: [ONES]}, {f"td.{name}"})
        for name in ("mr_seam", "mr_config_id", "mr_owner", "mr_owner_config")
    ),
    ("a service TD is bound", {"mr_service_td": b"\1" * 48}, {}, {"td.service_td"}),
    ("the service TD is listed", {"mr_service_td": b"\1" * 48}, {"service_td": [ONES]}, set()),
    ("another service TD is listed", {"mr_service_td": b"\2" * 48}, {"service_td": [ONES]}, {"td.service_td"}),
    ("no service TD is bound though one may be", {}, {"service_td": [ONES]}, set()),
    ("a report 1.0 can have no service TD", {"newer": False}, {}, set()),
    ("the event log is missing", {}, {"require_event_log": True}, {"event_log.present"}),
]


@pytest.mark.parametrize(("fields", "keys", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_decides_when(fields: dict[str, Any], keys: dict[str, Any], expected: set[str]) -> None:
    assert refused(fields, keys) == expected


def test_every_key_and_every_check_has_a_case() -> None:
    own = set(tdx.Policy.__struct_fields__) - set(IntelPolicy.__struct_fields__)
    assert own == {key for _, _, keys, _ in CASES for key in keys}
    report = tdx.verify(
        tdx.parse(platform().tdx_quote(td_report()))[0],
        intel().collateral(platform(), "tdx", NOW),
        intel().roots(),
        NOW,
    )
    shared = ("tcb.", "platform.", "collateral.", "dcap_qvl.")
    made = {check.name for check in tdx.judge(report, tdx.Policy()) if not check.name.startswith(shared)}
    apart = {"quote.trailing", "event_log.replay"}  # which have tests below
    assert made - apart == {name for _, _, _, expected in CASES for name in expected}


def test_zeros_after_a_quote_pass_and_anything_else_does_not() -> None:
    quote = platform().tdx_quote(td_report())
    assert refusals("tdx", quote + bytes(70), tdx.Policy()) == {}
    found = refusals("tdx", quote + bytes(3) + b"\1" + bytes(4), tdx.Policy())
    assert found == {"quote.trailing": "quote.trailing: expected nothing or zeros, got 00000001"}


def log_and_quote() -> tuple[bytes, bytes, bytes]:
    """A genuine quote's log, and a simulated quote with the same registers; and a log that does not fit."""
    vector = named("tdx/lunal-v4-with-event-log")
    body = tdx.parse(vector.read("quote"))[0].body
    registers = {name: getattr(body, name) for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3")}
    quote = platform().tdx_quote(td_report(**registers))
    return vector.read("ccel_match"), vector.read("ccel_mismatch_rtmr2"), quote


def test_an_event_log_has_to_fit_the_registers() -> None:
    match, mismatch, quote = log_and_quote()
    collateral = intel().collateral(platform(), "tdx", NOW)
    policy = tdx.Policy.read({"require_event_log": True}, "[tdx]")
    assert refusals("tdx", tdx.wrap(quote, collateral, match), policy) == {}
    found = refusals("tdx", tdx.wrap(quote, collateral, mismatch), tdx.Policy())
    assert list(found) == ["event_log.replay"]
    assert "expected rtmr2=35b87e05" in found["event_log.replay"]
    assert "got rtmr2=4070333e" in found["event_log.replay"]


@pytest.mark.parametrize(
    ("bit", "note"),
    [
        ("DEBUG", "the host can read and change this TD"),
        ("MIGRATABLE", "a service TD can move this TD elsewhere"),
    ],
)
def test_what_passes_though_it_weakens_is_noted(bit: str, note: str) -> None:
    quote = platform().tdx_quote(td_report(td_attributes=BASE | TdAttributes[bit]))
    report = tdx.verify(tdx.parse(quote)[0], intel().collateral(platform(), "tdx", NOW), intel().roots(), NOW)
    policy = tdx.Policy.read({"attributes": [bit, "SEPT_VE_DISABLE"], "hash": [report.measurement.hex()]}, "[tdx]")
    assert {check.note for check in tdx.judge(report, policy) if check.note} == {note}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hash": ["41c1"]}, "expected 96 hex digits"),
        ({"attributes": ["TURBO"]}, "attributes[0]: expected one of DEBUG, LASS, "),
        ({"attributes": ["PKS"]}, "required_attributes: expected ones that attributes allows, got SEPT_VE_DISABLE"),
        ({"hash": [MRTD], "hash_blacklist": [MRTD]}, f"expected different ones, got {MRTD} in both"),
        ({"rtmr4": []}, 'unknown key "rtmr4"'),
        ({"allowed_statuses": ["Revoked"]}, "Revoked can never pass"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        tdx.Policy.read(keys, "[tdx]")
    assert message in f"{caught.value}"
