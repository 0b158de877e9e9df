"""The judgement: what is granted, and for every question a request that fails by it alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from donjon.errors import BugError, UsageError
from donjon.steward import nonce as nonces
from donjon.steward.policy import Policy, parse
from donjon.steward.procedure import Decision, Grant, Ground, Trust, bound_digest, decide, vendor_trust
from donjon.tee import cca, snp
from donjon.tee.contract import EvidenceError, Outcome, Roots
from tests.steward.requests import (
    KVM,
    NOW,
    REAL,
    SGX_AT,
    SNP_AT,
    VECTORS,
    Realm,
    kvm_request,
    new_key,
    request,
    spki,
)

SECRET = b"s" * 32
LAX = parse("accept_unattested = true\n")
KVM_TRUST = {"kvm": Trust((Roots({}),))}
WORKLOAD = bytes(range(32))
NAMED = parse(
    f"""
    accept_unattested = true
    domain = "keeps.example.com"
    [[workload]]
    digest = ["{WORKLOAD.hex()}"]
    names = ["shop.example.com", "10.0.0.1"]
    """
)


@pytest.fixture(scope="module")
def realm() -> Realm:
    return Realm(WORKLOAD)


def failed(decision: Decision) -> list[str]:
    assert not decision.accepted
    with pytest.raises(EvidenceError):
        decision.require()
    return [check.name for check in decision.failures]


# Unattested


def test_refuses_kvm_unless_told_otherwise() -> None:
    decision = decide(kvm_request(), KVM_TRUST, Policy(), NOW)
    assert failed(decision) == ["evidence.attested"]
    assert decision.ground is Ground.REFUSED


def test_grants_kvm_when_told_to_and_says_so() -> None:
    key = new_key()
    grant = decide(kvm_request(key), KVM_TRUST, LAX, NOW).require()
    assert grant.spki == spki(key)
    assert grant.markers == ("unprotected",)
    assert grant.names == ()
    assert grant.workload_uri == ""
    assert grant.lifetime == timedelta(hours=24)
    assert any("proves nothing" in note for note in grant.notes)


def test_refuses_simulated_evidence_unless_told_otherwise(realm: Realm) -> None:
    decision = decide(realm.request(), realm.trust, Policy(), NOW)
    assert failed(decision) == ["evidence.attested"]


def test_grants_simulated_evidence_when_told_to_and_says_so(realm: Realm) -> None:
    grant = decide(realm.request(), realm.trust, LAX, NOW).require()
    assert grant.markers == ("simulated",)
    assert grant.report.simulated


def test_does_not_know_a_simulated_platform_without_its_roots(realm: Realm) -> None:
    decision = decide(realm.request(), {"cca": Trust((Roots({}),))}, LAX, NOW)
    assert failed(decision)[0] == "platform.anchor"


def test_tells_of_the_roots_that_came_furthest(realm: Realm) -> None:
    strict = parse("accept_unattested = true\n[cca]\nhash = ['" + "11" * 32 + "']\n")
    decision = decide(realm.request(), realm.trust, strict, NOW)
    assert failed(decision) == ["realm.initial_measurement"]


# The request


def test_refuses_what_is_no_request() -> None:
    decision = decide(b"\1\2\3\4", KVM_TRUST, LAX, NOW)
    assert failed(decision) == ["request.format"]
    assert decision.ground is Ground.MALFORMED
    assert decision.evidence == b""
    assert len(decision.request) == 32


def test_refuses_a_signature_that_is_not_the_keys() -> None:
    data = bytearray(kvm_request())
    data[-1] ^= 1
    decision = decide(bytes(data), KVM_TRUST, LAX, NOW)
    assert failed(decision) == ["request.signature"]
    assert decision.ground is Ground.MALFORMED


def test_refuses_a_kind_of_key_that_the_policy_does_not_have() -> None:
    strict = parse('accept_unattested = true\nkeys = ["P-384"]\n')
    assert failed(decide(kvm_request(), KVM_TRUST, strict, NOW)) == ["request.key"]
    good = decide(kvm_request(ec.generate_private_key(ec.SECP384R1())), KVM_TRUST, strict, NOW)
    assert good.accepted


def test_a_request_without_evidence_is_unattested() -> None:
    decision = decide(request(), KVM_TRUST, LAX, NOW)
    assert failed(decision) == ["request.evidence"]
    assert decision.ground is Ground.UNATTESTED


@pytest.mark.parametrize(
    ("extensions", "ground"),
    [
        ([(KVM, b""), (snp.OID, b"")], Ground.UNATTESTED),
        ([("1.2.3.4", b"")], Ground.MALFORMED),
        ([(KVM, b""), ("1.2.3.4", b"")], Ground.MALFORMED),
    ],
    ids=["of two TEEs", "of a stranger", "with something beside it"],
)
def test_refuses_evidence(extensions: list[tuple[str, bytes]], ground: Ground) -> None:
    decision = decide(request(*extensions), KVM_TRUST, LAX, NOW)
    assert failed(decision) == ["request.evidence"]
    assert decision.ground is ground


def test_refuses_evidence_that_is_not_well_formed() -> None:
    assert failed(decide(request((KVM, b"x")), KVM_TRUST, LAX, NOW)) == ["evidence.format"]


def test_refuses_a_tee_that_the_policy_does_not_let_in() -> None:
    strict = parse('accept_unattested = true\ntees = ["snp"]\n')
    assert failed(decide(kvm_request(), KVM_TRUST, strict, NOW)) == ["request.tee"]


def test_refuses_a_tee_of_which_it_has_no_roots() -> None:
    assert failed(decide(kvm_request(), {}, LAX, NOW)) == ["request.tee"]


def test_wants_to_know_where_the_clock_stands() -> None:
    with pytest.raises(UsageError, match="zone"):
        decide(kvm_request(), KVM_TRUST, LAX, datetime(2026, 6, 1))  # noqa: DTZ001 - that is the point


# Binding


def test_refuses_evidence_for_another_key(realm: Realm) -> None:
    stolen = realm.request(lambda _: cca.key_binding(spki(new_key())))
    assert failed(decide(stolen, realm.trust, LAX, NOW)) == ["evidence.binding"]


def test_takes_evidence_that_binds_a_nonce(realm: Realm) -> None:
    nonce = nonces.make(SECRET, NOW, bytes(16))
    data = realm.request(lambda key: nonces.binding(nonce, key))
    assert decide(data, realm.trust, LAX, NOW, nonce, SECRET).require().nonce


@pytest.mark.parametrize(("seconds", "accepted"), [(-6, False), (-5, True), (0, True), (300, True), (301, False)])
def test_a_nonce_lives_for_five_minutes(realm: Realm, seconds: int, accepted: bool) -> None:
    nonce = nonces.make(SECRET, NOW, bytes(16))
    data = realm.request(lambda key: nonces.binding(nonce, key))
    decision = decide(data, realm.trust, LAX, NOW + timedelta(seconds=seconds), nonce, SECRET)
    assert decision.accepted is accepted
    assert [check.name for check in decision.failures] == ([] if accepted else ["nonce.age"])


def test_refuses_a_nonce_of_another_service(realm: Realm) -> None:
    nonce = nonces.make(b"o" * 32, NOW, bytes(16))
    data = realm.request(lambda key: nonces.binding(nonce, key))
    assert failed(decide(data, realm.trust, LAX, NOW, nonce, SECRET)) == ["nonce.genuine"]


def test_refuses_evidence_that_does_not_bind_the_nonce(realm: Realm) -> None:
    nonce = nonces.make(SECRET, NOW, bytes(16))
    assert failed(decide(realm.request(), realm.trust, LAX, NOW, nonce, SECRET)) == ["evidence.binding"]
    bound = realm.request(lambda key: nonces.binding(nonce, key))
    assert failed(decide(bound, realm.trust, LAX, NOW)) == ["evidence.binding"]


def test_refuses_evidence_without_a_nonce_when_the_policy_wants_one(realm: Realm) -> None:
    strict = parse("accept_unattested = true\nrequire_nonce = true\n")
    assert failed(decide(realm.request(), realm.trust, strict, NOW)) == ["nonce.given"]


def test_says_that_evidence_without_a_nonce_has_no_age(realm: Realm) -> None:
    assert "evidence of unknown age: no nonce" in decide(realm.request(), realm.trust, LAX, NOW).notes


# The workload


def test_gives_the_names_of_the_workload_that_the_evidence_binds(realm: Realm) -> None:
    grant = decide(realm.request(), realm.trust, NAMED, NOW).require()
    assert grant.names == ("shop.example.com", "10.0.0.1")
    assert grant.domain == "keeps.example.com"
    assert grant.workload == WORKLOAD
    assert grant.workload_uri == "ni:///sha-256;AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def test_refuses_another_workload() -> None:
    other = Realm(b"\1" * 32)
    assert failed(decide(other.request(), other.trust, NAMED, NOW)) == ["evidence.workload"]


def test_refuses_evidence_that_binds_no_workload_when_the_policy_names_some() -> None:
    assert failed(decide(kvm_request(), KVM_TRUST, NAMED, NOW)) == ["evidence.workload"]


def test_says_that_nobody_asked_for_the_workload(realm: Realm) -> None:
    assert "the policy names no workloads: any passes" in decide(realm.request(), realm.trust, LAX, NOW).notes


@pytest.mark.parametrize(
    ("field", "digest"),
    [
        (b"", b""),
        (bytes(64), b""),
        (b"\1" * 32, b"\1" * 32),
        (b"\1" * 32 + bytes(16), b"\1" * 32),
        (b"\1" * 33 + bytes(15), b""),
        (b"\1" * 31, b""),
    ],
)
def test_reads_a_digest_only_from_a_field_that_our_launchers_fill(field: bytes, digest: bytes) -> None:
    assert bound_digest(field) == digest


# Real Keeps


ENARX = """
[sgx]
signer = ["7a49a07df0f8e90a6e1d9a63e3c696d9c844f0e3f8739b21daa640f99facc48a"]
hash = ["4046ea255f0455131a024e1265ac1ebd131fdbd1240f1712a00381f6f04e8c15"]
allowed_advisories = ["INTEL-SA-00289", "INTEL-SA-00381", "INTEL-SA-00389", "INTEL-SA-00477", "INTEL-SA-00586",
    "INTEL-SA-00614", "INTEL-SA-00615", "INTEL-SA-00617", "INTEL-SA-00657"]
[snp]
signer = ["7dc22240a8344fce6ba5f22ffbedabc52d4123ae0ba1c59796e521b953916b503f223b15c4429e7d8c5489ad71f1e193"]
id_key_digest = ["d71a4d1da440d515cd69fbb1314acf4221726e82768a8bf6e4a4063ed542ac78349c8145b4666a4242a91a374387b473"]
hash = ["ff717ae719840c93c1fca3b7db96488454c3c21b43531488eecff51cfed3febcd91da8be87a4cbcbc52a3bae770987c3"]
abi = ">=1.51"
policy_flags = ["SMT"]
platform_info_flags = "SME"
"""
MILAN = 'products = ["Milan"]\ntcb_floor = "none"\n'


def snp_policy(text: str = "") -> Policy:
    return parse(ENARX + MILAN + text)


def expected(name: str) -> dict[str, Any]:
    entries = json.loads((VECTORS / name.split("/", maxsplit=1)[0] / "expected.json").read_text())["vectors"]
    return next(entry for entry in entries if entry["id"].endswith(name.split("/")[1]))


def test_grants_a_real_keep_on_milan_as_the_vectors_say() -> None:
    assert expected("snp/steward-milan-v2")["strict"] == "accept"
    decision = decide(REAL["snp"].read_bytes(), vendor_trust(), snp_policy(), SNP_AT)
    grant = decision.require()
    assert grant.report.product == "Milan"
    assert grant.markers == ()
    assert any("Milan" in note for note in grant.notes)


def test_refuses_milan_to_whom_has_not_named_it() -> None:
    decision = decide(REAL["snp"].read_bytes(), vendor_trust(), parse(ENARX), SNP_AT)
    assert any("product" in name for name in failed(decision))


@pytest.mark.parametrize("when", ["2022-09-01T00:00:00+00:00", "2023-05-10T00:00:00+00:00"])
def test_refuses_the_same_request_at_another_time(when: str) -> None:
    decision = decide(REAL["snp"].read_bytes(), vendor_trust(), snp_policy(), datetime.fromisoformat(when))
    assert not decision.accepted


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ('abi = ">=1.51"', 'abi = ">254.0"'),
        ('signer = ["7dc2', 'signer = ["7dc3'),
        ('id_key_digest = ["d71a', 'id_key_digest = ["d71b'),
    ],
)
def test_refuses_what_enarxs_own_tests_refuse(line: str, check: str) -> None:
    policy = parse((ENARX + MILAN).replace(line, check))
    assert len(failed(decide(REAL["snp"].read_bytes(), vendor_trust(), policy, SNP_AT))) == 1


@pytest.mark.parametrize("name", ["xeon", "i5"])
def test_refuses_real_keeps_on_sgx_for_want_of_a_qe_identity_as_the_vectors_say(name: str) -> None:
    directory = REAL[name].parent.name
    assert expected(f"sgx/{directory}")["strict"] == "reject:collateral_missing(qe_identity)"
    decision = decide(REAL[name].read_bytes(), vendor_trust(), parse(ENARX), SGX_AT)
    assert any("qe_identity" in item for item in failed(decision))
    assert [check.outcome for check in decision.checks if check.name == "request.signature"] == [Outcome.PASSED]


def test_nobody_is_judged_without_roots() -> None:
    with pytest.raises(BugError, match="judged without roots"):
        decide(kvm_request(), {"kvm": Trust(())}, LAX, NOW)


def test_only_a_judgement_makes_a_grant(realm: Realm) -> None:
    grant = decide(realm.request(), realm.trust, LAX, NOW).require()
    with pytest.raises(BugError):
        Grant(grant.spki, grant.report, (), b"", timedelta(1), "", False, (), b"")
