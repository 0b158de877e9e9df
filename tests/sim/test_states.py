"""Every state that can be said is reached: a Steward's verdict names the check that it fails, or accepts it."""

from __future__ import annotations

from typing import Any

import pytest

from donjon import sim
from donjon.errors import UsageError
from donjon.sim.lab import TEES, simulation
from donjon.tee.contract import Check, Outcome
from donjon.tee.simulated import Word, read_state
from tests.sim.labs import asked

STATES = [(name, word) for name in TEES for word in simulation(name).WORDS]


@pytest.mark.parametrize(("name", "word"), STATES, ids=[f"{name} {word.word}" for name, word in STATES])
def test_every_state_is_reached(lab: sim.Lab, name: str, word: Word) -> None:
    decision = asked(lab, lab.guest(name, state=word.word))
    failure = decision.failure
    assert (failure.name if failure else "") == word.fails, [str(check) for check in decision.failures]
    assert decision.accepted is not bool(word.fails)


def checks(lab: sim.Lab, name: str, state: str) -> dict[str, Check]:
    return {check.name: check for check in asked(lab, lab.guest(name, state=state)).checks}


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_the_verdict_tells_intels_state_in_intels_word(lab: sim.Lab, name: str) -> None:
    words = [word.word for word in simulation(name).WORDS if word.group == "tcb"]
    assert len(words) == {"sgx": 8, "tdx": 10}[name]
    for word in words:
        assert checks(lab, name, word)["tcb.status"].found == word


@pytest.mark.parametrize("part", ["qe", "module"])
def test_the_verdict_tells_the_worst_of_all_parts(lab: sim.Lab, part: str) -> None:
    for word in ("OutOfDate", "Revoked", "NotSupported"):
        assert checks(lab, "tdx", f"{part}-{word}")["tcb.status"].found == word


def test_the_verdict_tells_the_lifecycle(lab: sim.Lab) -> None:
    words = [word.word for word in simulation("cca").WORDS if word.group == "lifecycle"]
    assert len(words) == 7
    for word in words:
        assert checks(lab, "cca", word)["platform.lifecycle"].found == word


@pytest.mark.parametrize(
    ("name", "state", "about"),
    [
        ("snp", "turin", {"product": "Turin", "report_version": 5, "signing_key": "VCEK"}),
        ("snp", "genoa,vlek", {"product": "Genoa", "report_version": 3, "signing_key": "VLEK"}),
        ("snp", "genoa,report-2", {"product": "Genoa", "report_version": 2}),
        ("snp", "genoa,report-5", {"report_version": 5}),
        ("snp", "report-3", {"report_version": 3}),
    ],
)
def test_a_grant_tells_what_was_asked_for(lab: sim.Lab, name: str, state: str, about: dict[str, Any]) -> None:
    report = asked(lab, lab.guest(name, state=state)).require().report
    assert about.items() <= {"product": report.product, **report.claims}.items()


@pytest.mark.parametrize(("state", "first"), [("tag-399", "d9018f"), ("tag-907", "d9038b")])
def test_a_token_has_the_tag_that_was_asked_for(lab: sim.Lab, state: str, first: str) -> None:
    assert lab.guest("cca", state=state).blobs(bytes(64)).report[:3].hex() == first


@pytest.mark.parametrize(
    ("state", "version", "size"), [("quote-5", 5, 648), ("quote-5-td-1.0", 5, 584), ("quote-4", 4, 0)]
)
def test_a_quote_has_the_version_that_was_asked_for(lab: sim.Lab, state: str, version: int, size: int) -> None:
    quote = lab.guest("tdx", state=state).blobs(bytes(64)).report
    assert quote[0] == version
    assert version == 4 or int.from_bytes(quote[50:54], "little") == size


def test_states_of_several_groups_add_up(lab: sim.Lab) -> None:
    decision = asked(lab, lab.guest("snp", state="milan,vlek,debug,unchecked,revoked"))
    assert {"crl.revoked"} == {check.name for check in decision.failures}  # not genuine: the policy was not asked
    decision = asked(lab, lab.guest("snp", state="milan,vlek,debug,unchecked"))
    failed = {check.name for check in decision.checks if check.outcome is Outcome.FAILED}
    assert failed == {"policy.products", "policy.allow_debug", "policy.alias_check"}


# Words


def test_capitals_and_hyphens_make_no_difference() -> None:
    words = simulation("tdx").WORDS
    assert read_state(words, "up-to-date, QUOTE4", "x") == read_state(words, "UpToDate,quote-4", "x")
    words = simulation("cca").WORDS
    assert read_state(words, "non-platform-rot-debug", "x")["lifecycle"] == "non_platform_rot_debug"


@pytest.mark.parametrize(
    ("said", "text", "hint"),
    [
        ("genua", 'unknown state "genua"', 'did you mean "genoa"?'),
        ("zzzz", 'unknown state "zzzz"', "`donjon sim states` lists them"),
        ("genoa,milan", 'expected one word about product, got "genoa" and "milan"', None),
        ("genoa,genoa", 'expected one word about product, got "genoa" and "genoa"', None),
    ],
)
def test_refuses_what_is_no_state(said: str, text: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        read_state(simulation("snp").WORDS, said, "snp, state")
    assert caught.value.message == f"snp, state: {text}"
    assert caught.value.hint == hint


@pytest.mark.parametrize("name", TEES)
def test_words_are_told_apart_and_the_first_of_each_group_is_good(name: str) -> None:
    words = simulation(name).WORDS
    plain = [word.word.lower().replace("-", "").replace("_", "") for word in words]
    assert len(set(plain)) == len(plain)
    first = {word.group: word for word in reversed(words)}
    assert not [word for word in first.values() if word.fails]
    assert read_state(words, "", "x") == {group: word.word for group, word in first.items()}
