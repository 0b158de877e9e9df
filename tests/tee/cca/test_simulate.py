"""The simulated platform is like a real one where it matters, and says everywhere that it is none."""

import cbor2
import pytest

from donjon.errors import UsageError
from donjon.tee import cca
from donjon.tee.cca import layout
from donjon.tee.cca.collateral import read_anchors
from donjon.tee.cca.simulate import SimulatedPlatform, SimulatedRealm, firmware
from donjon.tee.contract import Demands, Outcome
from tests.tee.cca.simulated import CHALLENGE, NOW, RIM, RPV, platform, realm, verdict, verify
from tests.tee.cca.test_vectors import FOLDER

TOKEN = platform().token(realm(), CHALLENGE)


def shape(value: object) -> object:
    """A token without its values: keys, kinds and lengths of what has a fixed length."""
    if isinstance(value, cbor2.CBORTag):
        return ("tag", value.tag, shape(value.value))
    if hasattr(value, "items"):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shape(item) for item in value]
    return type(value).__name__


def opened(token: bytes) -> list[object]:
    """The shapes of the collection and of both sets of claims, without optional ones and with one component."""
    outer = cbor2.loads(token)
    found = [shape(outer)]
    for label in (layout.PLATFORM_LABEL, layout.REALM_LABEL):
        sign1 = cbor2.loads(outer.value[label][1])
        claims = cbor2.loads(sign1.value[2])
        claims.pop(2400, None)
        if 2399 in claims:
            claims[2399] = [{key: item for key, item in claims[2399][0].items() if key != 4}]
        found.append([shape(sign1), shape(cbor2.loads(sign1.value[0])), shape(claims)])
    return found


def test_a_simulated_token_has_the_shape_of_a_published_one() -> None:
    assert opened(TOKEN) == opened((FOLDER / "tfm-cmw907-realm2.cbor").read_bytes())


def test_a_simulated_token_is_refused_unless_the_demand_says_that_it_may_pass() -> None:
    refused = verdict(TOKEN, demands=Demands(CHALLENGE))
    assert [check.name for check in refused.checks if check.outcome is Outcome.FAILED] == ["evidence.attested"]
    accepted = verdict(TOKEN)
    assert accepted.accepted
    assert accepted.require().simulated


def test_demands_of_the_challenge_and_the_workload_are_those_of_every_tee() -> None:
    other = verdict(TOKEN, demands=Demands(bytes(64), True, (bytes(64),)))
    failed = [check.name for check in other.checks if check.outcome is Outcome.FAILED]
    assert failed == ["evidence.binding", "evidence.workload"]
    assert verdict(TOKEN, demands=Demands(CHALLENGE, True, (bytes(64), RPV))).accepted


def test_a_key_is_bound_by_all_64_bytes() -> None:
    challenge = cca.key_binding(b"a public key")
    assert len(challenge) == 64
    token = platform().token(realm(), challenge)
    assert verdict(token, demands=Demands(cca.key_binding(b"a public key"), True)).accepted
    assert not verdict(token, demands=Demands(cca.key_binding(b"another"), True)).accepted


def test_another_version_of_the_firmware_has_other_measurements() -> None:
    old, new = firmware(), firmware("2.0", "sha-512")
    assert {item.measurement for item in old}.isdisjoint(item.measurement for item in new)
    made = SimulatedPlatform.new(sw_components=new, hash_algo_id="sha-512")
    assert verify(made.token(realm(), CHALLENGE), made.roots()).tcb["RMM"] == "2.0"


def test_each_platform_has_keys_and_a_name_of_its_own() -> None:
    one, two = SimulatedPlatform.new(), SimulatedPlatform.new()
    assert set(one.roots().anchors).isdisjoint(two.roots().anchors)
    assert one.roots().simulated
    both, collateral = read_anchors(one.anchors() + two.anchors(), simulated=True)
    for made in (one, two):
        evidence, _ = cca.parse(made.token(realm(), CHALLENGE))
        assert cca.verify(evidence, collateral, both, NOW).workload == RPV


def test_a_workload_name_that_is_short_is_filled_up() -> None:
    made = SimulatedRealm(RIM, b"name")
    assert made.personalization_value == b"name" + bytes(60)


@pytest.mark.parametrize(
    ("rim", "rpv", "message"),
    [
        (bytes(48), b"", "initial measurement: expected 32 bytes, got 48"),
        (RIM, bytes(65), "personalization value: expected 64 bytes, got 65"),
    ],
)
def test_refuses_values_that_no_realm_has(rim: bytes, rpv: bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SimulatedRealm(rim, rpv)
    assert caught.value.message == message
