"""Published tokens are judged as `expected.json` beside them says."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from donjon.tee import cca
from donjon.tee.cca.collateral import anchor_name
from donjon.tee.contract import Demands, Outcome, Roots, Verdict, appraise

FOLDER = Path(__file__).parent.parent.parent / "vectors" / "cca"
VECTORS = {vector["id"]: vector for vector in json.loads((FOLDER / "expected.json").read_text())["vectors"]}
FACTS = VECTORS["veraison-ffm00"]["facts"]["platform"]
PLATFORM = anchor_name(bytes.fromhex(FACTS["implementation_id"]), bytes.fromhex(FACTS["instance_id"]))

# What may stand for each failure in `expected.json`.
NAMES = {
    "format": {"evidence.format"},
    "platform_signature": {"platform.signature", "platform.algorithm"},
    "realm_signature": {"realm.signature"},
    "rak_binding": {"platform.challenge"},
    "challenge_mismatch": {"evidence.binding"},
}


def judge(vector: dict[str, Any], now: datetime) -> Verdict:
    token = (FOLDER / f"{vector['id']}.cbor").read_bytes()
    key = load_pem_public_key((FOLDER / vector["cpak"]).read_bytes())
    roots = Roots({PLATFORM: key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)})
    challenge = bytes.fromhex(vector["expected_challenge"]) if "expected_challenge" in vector else None
    return appraise(cca, lambda: cca.verify(*cca.parse(token), roots, now), cca.Policy(), Demands(challenge))


@pytest.mark.parametrize("year", [2000, 2026, 2100])
@pytest.mark.parametrize("name", VECTORS)
def test_judges_a_published_token_as_expected_at_any_time(name: str, year: int) -> None:
    vector = VECTORS[name]
    verdict = judge(vector, datetime(year, 1, 1, tzinfo=UTC))
    assert verdict.accepted == (vector["strict"] == "accept")
    failed = {check.name for check in verdict.checks if check.outcome is Outcome.FAILED}
    if vector["failure"] is None:
        assert not failed
    else:
        assert len(failed & NAMES[vector["failure"]]) == 1, failed
        assert verdict.failure is not None
        assert verdict.failure.name in NAMES[vector["failure"]]


def test_all_fifteen_are_there() -> None:
    assert len(VECTORS) == 15
    assert {path.stem for path in FOLDER.glob("*.cbor")} == set(VECTORS)


@pytest.mark.parametrize("name", [name for name, vector in VECTORS.items() if "facts" in vector])
def test_reads_the_same_values_as_another_implementation(name: str) -> None:
    facts = VECTORS[name]["facts"]
    evidence, _ = cca.parse((FOLDER / f"{name}.cbor").read_bytes())
    platform, realm = evidence.platform.claims, evidence.realm.claims
    assert evidence.tag == facts["tag"]
    assert evidence.platform.algorithm == facts["plat_alg"]
    assert evidence.realm.algorithm == facts["realm_alg"]
    assert realm.public_key_hash_algo_id == facts["rak_hash_alg"]
    expected = facts["platform"]
    for field in ("challenge", "implementation_id", "instance_id", "config"):
        assert getattr(platform, field).hex() == expected[field]
    for field in ("profile", "lifecycle", "hash_algo_id", "verification_service"):
        assert getattr(platform, field) == expected[field]
    assert platform.state == expected["lifecycle_state"]
    components = [
        {str(key): value.hex() if isinstance(value, bytes) else value for key, value in component.map().items()}
        for component in platform.sw_components
    ]
    assert components == expected["sw_components"]
    expected = facts["realm"]
    for field in ("challenge", "personalization_value", "public_key", "initial_measurement"):
        assert getattr(realm, field).hex() == expected[field]
    for field in ("hash_algo_id", "public_key_hash_algo_id"):
        assert getattr(realm, field) == expected[field]
    assert [value.hex() for value in realm.extensible_measurements] == expected["extensible_measurements"]
    assert realm.profile == expected.get("profile")
    assert realm.mec_policy == expected.get("mec_policy")
    assert (realm.instance_id.hex() if realm.instance_id else None) == expected.get("instance_id")


def test_an_exchanged_realm_part_is_found_by_the_challenge_alone() -> None:
    vector = VECTORS["swap-realm-same-rak"]
    asked = VECTORS["veraison-ffm00"]["facts"]["realm"]["challenge"]
    theirs = VECTORS["tfm-cmw907-realm2"]["facts"]["realm"]["challenge"]
    assert asked == theirs, "the two tokens answer one challenge, so it cannot tell them apart either"
    other = judge({**vector, "expected_challenge": "00" * 64}, datetime(2026, 1, 1, tzinfo=UTC))
    assert [check.name for check in other.checks if check.outcome is Outcome.FAILED] == ["evidence.binding"]


def test_no_published_test_key_is_shipped() -> None:
    assert cca.vendor_roots().anchors == {}
    verdict = appraise(
        cca,
        lambda: cca.verify(
            *cca.parse((FOLDER / "veraison-ffm00.cbor").read_bytes()),
            cca.vendor_roots(),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        cca.Policy(),
        Demands(),
    )
    assert [check.name for check in verdict.checks if check.outcome is Outcome.FAILED] == ["platform.anchor"]
