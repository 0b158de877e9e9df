"""What is asked of evidence of every TEE: for each question, evidence in which only the answer to it is wrong."""

from __future__ import annotations

import pytest

from donjon.tee.contract import Demands, Outcome, Verdict
from donjon.tee.snp.simulate import Vendor
from tests.tee.simulated import NAMES, Maker, World

DATA = bytes(range(64))
WORKLOAD = bytes(range(32))


@pytest.fixture(scope="session")
def world(vendor: Vendor) -> World:
    return World(vendor)


@pytest.fixture(params=NAMES)
def maker(request: pytest.FixtureRequest, world: World) -> Maker:
    return world.makers[request.param]


def field(maker: Maker, workload: bytes = WORKLOAD) -> bytes:
    return workload.ljust(maker.field, b"\0")


def failed(verdict: Verdict) -> list[str]:
    assert not verdict.accepted
    return [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]


def test_what_all_demands_are_true_of_is_accepted(maker: Maker) -> None:
    verdict = maker.judge(maker.make(DATA, field(maker)), Demands(DATA, True, (bytes(maker.field), field(maker))))
    assert verdict.accepted, verdict.failure
    assert verdict.require().workload == field(maker)


def test_simulated_evidence_is_refused_unless_somebody_says_otherwise(maker: Maker) -> None:
    assert failed(maker.judge(maker.make(DATA, field(maker)), Demands(DATA))) == ["evidence.attested"]


def test_evidence_for_another_key_is_refused(maker: Maker) -> None:
    evidence = maker.make(DATA[:-1] + b"\0", field(maker))
    assert failed(maker.judge(evidence, Demands(DATA, True))) == ["evidence.binding"]


def test_evidence_of_another_workload_is_refused(maker: Maker) -> None:
    evidence = maker.make(DATA, field(maker, WORKLOAD[:-1] + b"\0"))
    assert failed(maker.judge(evidence, Demands(DATA, True, (field(maker),)))) == ["evidence.workload"]


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_what_is_no_evidence_is_refused(maker: Maker, cut: int) -> None:
    evidence = maker.make(DATA, field(maker))[:-1][: cut or None]
    assert failed(maker.judge(evidence, Demands(DATA, True))) == ["evidence.format"]
