"""The worst requests that anybody can send cost little more than usual ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bench.hostile import hostile
from bench.machines import World
from bench.suites.hostile import milliseconds, peak
from donjon.steward.policy import parse
from donjon.steward.procedure import Decision, Trust, decide
from donjon.steward.request import MAX_REQUEST

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
POLICY = parse("accept_unattested = true\n")
# A signature on P-384 takes half a millisecond, and the worst request that we know nine times as long as a usual one.
# What this is to catch grows with the square of the size, and takes seconds.
FACTOR = 50
MEGABYTES = 16


def judged(world: World, data: bytes) -> Decision:
    return decide(data, {name: Trust((roots,)) for name, roots in world.roots.items()}, POLICY, NOW)


@pytest.fixture(scope="module")
def usual() -> tuple[World, bytes]:
    world = World.make(NOW, 1)
    return world, world.request("snp", 0)


@pytest.mark.slow
def test_a_hostile_request_costs_at_most_so_many_usual_ones(usual: tuple[World, bytes]) -> None:
    assert judged(*usual).accepted
    world, requests = hostile(NOW)
    allowed = FACTOR * milliseconds(lambda: judged(*usual))
    for name, data in requests.items():
        assert len(data) <= 1.1 * MAX_REQUEST, name

        def judge(data: bytes = data) -> Decision:
            return judged(world, data)

        assert milliseconds(judge) < allowed, name
        assert peak(judge) < MEGABYTES, name


@pytest.mark.slow
def test_hostile_requests_get_as_far_as_they_are_meant_to() -> None:
    world, requests = hostile(NOW)
    expected = {
        "SEQUENCEs in each other": "evidence.format",
        "a length of 4 GiB": "evidence.format",
        "many extensions": "request.format",
        "SNP: a long CRL, genuine": "",
        "SNP: a certificate of many extensions": "policy.crl",
        "TDX: a long event log": "event_log.replay",
        "TDX: lists of many levels": "",
        "TDX: lists of brackets": "qe_identity.signature",
        "SGX: long CRLs of others": "pck.root",
        "SGX: ten certificates of 2 KiB": "pck.names",
        "CCA: thousands of claims": "evidence.format",
        "CCA: arrays in each other": "evidence.format",
    }
    found = {name: judged(world, data).failure for name, data in requests.items()}
    assert {name: failure.name if failure else "" for name, failure in found.items()} == expected
