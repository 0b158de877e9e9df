"""Each key of `verify` in Enarx.toml becomes the demand that it says, and whatever a peer sends only refuses it."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from donjon.config import Verify
from donjon.errors import ParseError, VerifyError
from donjon.keep import peers
from donjon.keep.peers import judge_of
from tests.keep.stewards import MEASUREMENT, NAME, OTHER, WORKLOAD, Steward

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def steward() -> Steward:
    return Steward()


def reason(verify: Verify, steward: Steward, chain: tuple[bytes, ...]) -> str:
    """The name of the check that fails."""
    with pytest.raises(VerifyError) as caught:
        judge_of(verify, (steward.anchor,), "client")((*chain, steward.anchor))
    return caught.value.message.removeprefix("peer refused: ").partition(":")[0]


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        (Verify(workload=[OTHER.hex(), WORKLOAD.hex()]), Verify(workload=[OTHER.hex()]), "demand.workload"),
        (Verify(names=["a.example", NAME.upper()]), Verify(names=["example.com"]), "demand.name"),
        (Verify(tee=["tdx", "snp"]), Verify(tee=["tdx", "kvm"]), "demand.tee"),
        (Verify(measurement=["00" * 48, MEASUREMENT]), Verify(measurement=["00" * 48]), "demand.measurement"),
        (Verify(max_age="30m"), Verify(max_age="30s"), "demand.max_age"),
    ],
)
def test_each_demand_is_put(right: Verify, wrong: Verify, check: str, steward: Steward) -> None:
    chain = steward.keep(age=MINUTE).chain
    judge_of(right, (steward.anchor,), "client")((*chain, steward.anchor))
    assert check in reason(wrong, steward, chain)


@pytest.mark.parametrize("changes", [{"simulated": True}, {"protected": False}])
def test_what_proves_nothing_is_taken_only_if_that_is_said(changes: dict[str, Any], steward: Steward) -> None:
    chain = steward.keep(**changes).chain
    assert "evidence.attested" in reason(Verify(), steward, chain)
    judge_of(Verify(accept_unattested=True), (steward.anchor,), "client")((*chain, steward.anchor))


def test_the_clock_is_asked_for_each_peer(steward: Steward) -> None:
    times = iter([datetime.now(UTC), datetime.now(UTC) + timedelta(hours=2)])
    judge = judge_of(Verify(max_age="1h"), (steward.anchor,), "client", lambda: next(times))
    chain = (*steward.keep(life=timedelta(hours=9)).chain, steward.anchor)
    judge(chain)
    with pytest.raises(VerifyError, match=r"demand\.max_age"):
        judge(chain)


def test_a_root_that_is_no_certificate_is_told_when_the_socket_is_opened(steward: Steward) -> None:
    with pytest.raises(ParseError, match=r"^certificate 2 in `ca`"):
        judge_of(Verify(), (steward.anchor, b"0\x03\x02\x01\x01"), "server")


def test_a_peer_without_a_certificate_is_refused(steward: Steward) -> None:
    with pytest.raises(VerifyError, match="1 to 8 certificates, got 0"):
        judge_of(Verify(), (steward.anchor,), "client")(())


def test_damaged_chains_are_refused_in_one_family(steward: Steward) -> None:
    judge = judge_of(Verify(workload=[WORKLOAD.hex()]), (steward.anchor,), "client")
    whole = (*steward.keep().chain, steward.anchor)
    chance = random.Random(7)
    for _ in range(300):
        chain = [bytearray(one) for one in whole[: chance.randrange(1, 4)]]
        victim = chance.choice(chain)
        victim[chance.randrange(len(victim))] ^= 1 << chance.randrange(8)
        try:
            judge(tuple(map(bytes, chain)))
        except VerifyError:
            continue
        assert victim is chain[-1], "only the root's own signature does not matter: it is given"
        assert len(chain) == 3


def test_our_own_mistake_costs_the_peer_its_connection_and_nothing_else(
    steward: Steward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RecursionError(os.urandom(4).hex())

    monkeypatch.setattr(peers, "judge", broken)
    with pytest.raises(VerifyError, match=r"^peer cannot be judged: internal error: RecursionError$"):
        judge_of(Verify(), (steward.anchor,), "client")(steward.keep().chain)
