"""What every TEE's folder offers, and the words in which verdicts are given."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta, timezone
from enum import IntFlag
from types import SimpleNamespace
from typing import Any, cast

import pytest

from donjon import tee
from donjon.errors import BugError, ParseError, UsageError, VerifyError
from donjon.tee.contract import (
    Check,
    Checks,
    Demands,
    EvidenceError,
    Hex,
    Hex16,
    Hex32,
    Model,
    Outcome,
    Roots,
    Tee,
    Verdict,
    VerifiedReport,
    Words,
    appraise,
    check_demands,
    shown,
    utc,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Flags(IntFlag):
    RED = 1
    BLUE = 2


# Checks


def test_records_in_order_and_says_which_failed() -> None:
    checks = Checks("x")
    assert checks.equal("a.equal", 1, 1, "S")
    assert not checks.equal("a.unequal", b"\1", b"\2", "S")
    assert checks.one_of("a.listed", "x", ["x", "y"], "S")
    assert not checks.one_of("a.unlisted", "z", ["x", "y"], "S")
    assert not checks.one_of("a.empty", "z", [], "S")
    assert checks.at_least("a.high", 2, 2, "S")
    assert not checks.at_least("a.low", 1, 2, "S")
    assert checks.skip("a.skipped", "nobody asks", "S")
    assert checks.within("a.fresh", NOW - DAY, NOW, NOW, "S")
    assert checks.within("a.new", NOW, NOW + DAY, NOW, "S")
    assert not checks.within("a.early", NOW + DAY, NOW + 2 * DAY, NOW, "S")
    assert not checks.within("a.late", NOW - 2 * DAY, NOW - DAY, NOW, "S")
    assert not checks.within("a.endless", NOW - DAY, None, NOW, "S")
    assert [str(check) for check in checks.all] == [
        "a.equal: 1",
        "a.unequal: expected 02, got 01",
        "a.listed: x",
        "a.unlisted: expected one of x, y, got z",
        "a.empty: expected nothing, as the list is empty, got z",
        "a.high: 2",
        "a.low: expected at least 2, got 1",
        "a.skipped: not applicable, nobody asks",
        "a.fresh: 2026-05-31T00:00:00Z to 2026-06-01T00:00:00Z, judged at 2026-06-01T00:00:00Z",
        "a.new: 2026-06-01T00:00:00Z to 2026-06-02T00:00:00Z, judged at 2026-06-01T00:00:00Z",
        "a.early: expected validity, got 2026-06-02T00:00:00Z to 2026-06-03T00:00:00Z, judged at 2026-06-01T00:00:00Z",
        "a.late: expected validity, got 2026-05-30T00:00:00Z to 2026-05-31T00:00:00Z, judged at 2026-06-01T00:00:00Z",
        "a.endless: expected validity, got 2026-05-31T00:00:00Z to no end, judged at 2026-06-01T00:00:00Z",
    ]
    assert not checks.ok
    assert checks.passed("a.equal")
    assert not checks.passed("a.unequal")
    assert not checks.passed("a.skipped")
    assert not checks.passed("a.unknown")


def test_a_note_is_said_behind() -> None:
    assert str(Check("a.b", Outcome.PASSED, "x", "x", "S", "but beware")) == "a.b: x (but beware)"


def test_a_name_is_used_once() -> None:
    checks = Checks("x")
    checks.equal("a.b", 1, 1, "S")
    with pytest.raises(BugError, match=r"x: the check a\.b is made twice"):
        checks.skip("a.b", "why", "S")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (b"\xab\x01", "ab01"),
        (bytearray(b"\1"), "01"),
        (b"", "nothing"),
        (True, "yes"),
        (False, "no"),
        (17, "17"),
        (None, "nothing"),
        (1.5, "1.5"),
        (datetime(2026, 6, 1, 14, tzinfo=timezone(timedelta(hours=2))), "2026-06-01T12:00:00Z"),
        (Outcome.FAILED, "failed"),
        (Flags.RED, "RED"),
        (Flags(0), "0x0"),
        ({"a": 1, "b": b"\2"}, "a=1 b=02"),
        ({}, "nothing"),
        ((1, b"\2"), "1, 02"),
        ((), "nothing"),
    ],
)
def test_values_are_written_in_one_way(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_a_check_says_does_not_change_with_what_it_was_made_from() -> None:
    octets, listed, named = bytearray(b"\1"), [1, 2], {"a": 1}
    checks = Checks("x")
    checks.equal("a.octets", octets, b"\1", "S")
    checks.one_of("a.listed", [1, 2], [listed], "S")
    checks.equal("a.view", memoryview(octets), named, "S")
    octets[0], listed[0], named["a"] = 9, 9, 9
    found = [(check.found, check.demanded) for check in checks.all]
    assert found == [("01", "01"), ("1, 2", "one of 1, 2"), ("01", "a=1")]


def test_checks_that_read_the_same_are_the_same() -> None:
    value = Check("a.b", Outcome.PASSED, b"\xab", Words("at least ", 3), "S")
    text = Check("a.b", Outcome.PASSED, "ab", "at least 3", "S")
    assert value == text
    assert hash(value) == hash(text)
    assert len({value, text}) == 1
    others = ("a.c", Outcome.PASSED, "ab", "3"), ("a.b", Outcome.FAILED, "ab", "3"), ("a.b", Outcome.PASSED, "ab", "2")
    assert all(Check(*other, "S") != text for other in others)
    assert text != "ab"


def test_a_check_cannot_be_changed() -> None:
    check = Check("a.b", Outcome.FAILED, b"\1", b"\2", "S")
    for name in ("outcome", "actual", "found"):
        with pytest.raises(AttributeError):
            setattr(check, name, Outcome.PASSED)


def test_checks_of_others_are_taken_over_and_a_name_is_still_used_once() -> None:
    checks = Checks("x")
    checks.equal("a.b", 1, 1, "S")
    checks.extend([Check("a.c", Outcome.FAILED, 1, 2, "S")])
    assert [check.name for check in checks.all] == ["a.b", "a.c"]
    assert not checks.ok
    with pytest.raises(BugError, match=r"x: a check is made twice, one of a\.d, a\.b"):
        checks.extend([Check("a.d", Outcome.PASSED, 1, 1, "S"), Check("a.b", Outcome.PASSED, 1, 1, "S")])
    with pytest.raises(BugError, match="made twice"):
        Checks("x", [Check("a.d", Outcome.PASSED, 1, 1, "S"), Check("a.d", Outcome.PASSED, 1, 1, "S")])


def test_time_has_its_zone() -> None:
    assert utc(NOW) == NOW
    with pytest.raises(UsageError, match="time of judgement: expected a time with its zone, got 2026-06-01T00:00:00"):
        utc(NOW.replace(tzinfo=None))


# Errors and reports


def made(checks: Checks, **fields: Any) -> VerifiedReport[str]:
    usual: dict[str, Any] = {
        "product": "P",
        "measurement": b"m",
        "report_data": bytes(64),
        "report": "report",
        "judged_at": NOW,
        "valid_from": NOW - DAY,
        "valid_until": NOW + DAY,
        "simulated": False,
    }
    return checks.verified(**(usual | fields))


def passed(name: str = "a.b") -> Checks:
    checks = Checks("x")
    checks.equal(name, 1, 1, "S")
    return checks


def test_a_report_is_made_when_nothing_failed() -> None:
    report = made(passed(), claims={"a": 1}, tcb={"snp": 2}, workload=b"w")
    assert (report.tee, report.product, report.workload, report.claims["a"]) == ("x", "P", b"w", 1)
    assert [check.name for check in report.checks] == ["a.b"]
    with pytest.raises(TypeError):
        cast("dict[str, Any]", report.claims)["a"] = 2


def test_no_report_is_made_when_a_check_failed() -> None:
    checks = passed()
    checks.equal("c.d", 1, 2, "S")
    checks.equal("e.f", 1, 2, "S")
    with pytest.raises(EvidenceError) as caught:
        made(checks)
    assert caught.value.message == "x: c.d: expected 2, got 1 (and 1 more)"
    assert isinstance(caught.value, VerifyError)
    assert len(caught.value.checks) == 3
    assert caught.value.failure == checks.all[1]


def test_our_own_mistakes_are_errors() -> None:
    with pytest.raises(BugError, match="verified without a check"):
        made(Checks("x"))
    skipped = Checks("x")
    skipped.skip("a.b", "why", "S")
    with pytest.raises(BugError, match="verified without a check"):
        made(skipped)
    with pytest.raises(BugError, match="report data of 32 bytes"):
        made(passed(), report_data=bytes(32))
    with pytest.raises(BugError, match="report data of 0 bytes"):
        made(passed(), report_data=b"")
    with pytest.raises(BugError, match="refused without a failed check"):
        raise passed().refusal()
    assert EvidenceError("x", ()).message == "x: no check was made"
    assert EvidenceError("x", ()).failure is None


def test_roots_do_not_change() -> None:
    anchors = {"a": b"1"}
    roots = Roots(anchors)
    anchors["a"] = b"2"
    assert roots.anchors["a"] == b"1"
    assert not roots.simulated


# Verdicts


def stand_in(*checks: Check) -> Tee:
    return cast("Tee", SimpleNamespace(NAME="x", TITLE="X", judge=lambda *_: checks))


def judged(demands: Demands = Demands(), *findings: Check, **fields: Any) -> Verdict:  # noqa: B008 - frozen
    return appraise(stand_in(*findings), lambda: made(passed(), **fields), None, demands)


def names(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]


def test_a_verdict_has_the_checks_of_all_steps() -> None:
    finding = Check("policy.x", Outcome.PASSED, "1", "1", "S", "note")
    verdict = judged(Demands(), finding)
    assert verdict.accepted
    assert [check.name for check in verdict.checks] == [
        "a.b",
        "evidence.attested",
        "evidence.binding",
        "evidence.workload",
        "policy.x",
    ]
    assert verdict.notes == ("note",)
    assert verdict.require().product == "P"


def test_a_failed_finding_refuses_and_the_report_is_still_there() -> None:
    verdict = judged(Demands(), Check("policy.x", Outcome.FAILED, "1", "2", "S"))
    assert not verdict.accepted
    assert verdict.report is not None
    assert verdict.failure is not None
    with pytest.raises(EvidenceError, match=r"x: policy\.x: expected 2, got 1"):
        verdict.require()


def test_evidence_of_no_form_is_a_verdict_too() -> None:
    def parse() -> VerifiedReport[Any]:
        raise ParseError("Thing at 0x000: expected 2 bytes, got 1")

    verdict = appraise(stand_in(), parse, None, Demands())
    assert (verdict.report, verdict.accepted) == (None, False)
    (check,) = verdict.checks
    assert (
        str(check) == "evidence.format: expected what the format demands, got Thing at 0x000: expected 2 bytes, got 1"
    )


def test_evidence_that_is_not_genuine_is_a_verdict_with_its_checks() -> None:
    def verify() -> VerifiedReport[Any]:
        checks = passed()
        checks.equal("c.d", 1, 2, "S")
        raise checks.refusal()

    verdict = appraise(stand_in(), verify, None, Demands(accept_unattested=True))
    assert names(verdict) == ["c.d"]
    with pytest.raises(EvidenceError):
        verdict.require()


@pytest.mark.parametrize(
    ("demands", "fields", "failed"),
    [
        (Demands(report_data=bytes(64)), {}, []),
        (Demands(report_data=b"\1" * 64), {}, ["evidence.binding"]),
        (Demands(workloads=(b"v", b"w")), {"workload": b"w"}, []),
        (Demands(workloads=(b"v",)), {"workload": b"w"}, ["evidence.workload"]),
        (Demands(workloads=()), {"workload": b"w"}, ["evidence.workload"]),
        (Demands(), {"simulated": True}, ["evidence.attested"]),
        (Demands(accept_unattested=True), {"simulated": True}, []),
        (Demands(), {"protected": False}, ["evidence.attested"]),
        (Demands(accept_unattested=True), {"protected": False}, []),
    ],
    ids=[
        "the key that is bound",
        "another key",
        "a workload of the list",
        "another workload",
        "an empty list of workloads",
        "simulated roots",
        "simulated roots that are accepted",
        "no protection",
        "no protection that is accepted",
    ],
)
def test_demands_on_every_tee(demands: Demands, fields: dict[str, Any], failed: list[str]) -> None:
    assert names(judged(demands, **fields)) == failed


def test_without_report_data_only_unprotected_evidence_comes_and_that_is_refused_already() -> None:
    checks = Checks("x")
    check_demands(checks, made(passed(), report_data=b"", protected=False), Demands(report_data=bytes(64)))
    assert [check.name for check in checks.all if check.outcome is Outcome.FAILED] == ["evidence.attested"]


# Tables


class Inner(Model, frozen=True):
    number: int = 0


class Table(Model, frozen=True):
    digests: tuple[Hex16, ...] = ()
    inner: Inner = Inner()


def test_reads_a_table() -> None:
    table = Table.read({"digests": ["00" * 16], "inner": {"number": 1}}, "[x]")
    assert table == Table(digests=(Hex16(bytes(16)),), inner=Inner(number=1))
    assert Hex16.read(Hex16(bytes(16))) == bytes(16)


@pytest.mark.parametrize(
    ("table", "text", "hint"),
    [
        ({"digest": []}, '[x]: unknown key "digest": expected one of digests, inner', 'did you mean "digests"?'),
        ({"inner": {"nummer": 1}}, '[x] inner: unknown key "nummer": expected one of number', 'did you mean "number"?'),
        ({"inner": {"number": "1"}}, "[x] inner.number: Expected `int`, got `str`", None),
        ({"inner": 1}, "[x] inner: Expected `object`, got `int`", None),
        ({"digests": ["0g" * 16]}, f'[x] digests[0]: expected 32 hex digits, got "{"0g" * 16}"', None),
    ],
)
def test_refuses_a_table_with_its_reason(table: dict[str, object], text: str, hint: str | None) -> None:
    with pytest.raises(ParseError) as caught:
        Table.read(table, "[x]")
    assert (caught.value.message, caught.value.hint) == (text, hint)


def test_a_field_that_no_table_can_hold_is_our_mistake() -> None:
    class Strange(Model, frozen=True):
        field: Checks | None = None

    with pytest.raises(BugError, match="a policy field of type Checks"):
        Strange.read({"field": 1}, "[x]")
    assert issubclass(Hex32, Hex)


# Folders

METHODS = [name for name, item in vars(Tee).items() if inspect.isfunction(item) and not name.startswith("_")]


@pytest.mark.parametrize("name", tee.ALL)
def test_every_folder_offers_the_same(name: str) -> None:
    folder = tee.load(name)
    assert name == folder.NAME
    assert folder.TITLE
    assert all(part.isdigit() for part in folder.OID.split("."))
    assert folder.MAX_EVIDENCE >= 0
    assert issubclass(folder.Policy, Model)
    assert folder.Policy.read({}, f"[{name}]") == folder.Policy(), "every key has a safe default"
    assert isinstance(folder.vendor_roots(), Roots)
    assert not folder.vendor_roots().simulated
    assert len(folder.key_binding(b"spki")) in {0, 64}
    assert folder.join(folder.Collateral(), folder.Collateral()) == folder.Collateral()
    assert not folder.is_evidence(b"hello")
    assert folder.read_collateral(b"hello") is None
    assert folder.read_roots({"simulated": True, name: {}}, "roots") is None
    for method in METHODS:
        wanted = list(inspect.signature(getattr(Tee, method)).parameters)[1:]
        assert list(inspect.signature(getattr(folder, method)).parameters) == wanted


@pytest.mark.parametrize("name", tee.ALL)
def test_every_folder_refuses_too_much_evidence(name: str) -> None:
    folder = tee.load(name)
    with pytest.raises(ParseError):
        folder.parse(bytes(folder.MAX_EVIDENCE + 1))


def test_no_two_folders_share_a_name_or_an_oid() -> None:
    folders = [tee.load(name) for name in tee.ALL]
    assert len({folder.OID for folder in folders}) == len(folders)
    assert len({folder.TITLE for folder in folders}) == len(folders)


def test_an_unknown_tee_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(UsageError) as caught:
        tee.load("snq")
    assert caught.value.message.startswith('TEE "snq": expected one of snp, ')
    assert caught.value.hint == 'did you mean "snp"?'
    with pytest.raises(UsageError):
        tee.load("")
