"""A peer is believed when everything holds; for each check there is a peer in which only that does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError, UsageError
from donjon.steward import authority as stewards
from donjon.steward.procedure import Trust
from donjon.tee import cca, snp
from donjon.tee.contract import Check, Outcome, Roots
from donjon.verify import Demands, Proof, RefusedError, judge
from donjon.verify.certificates import MAX_CHAIN
from donjon.verify.judgement import ITSELF, NOBODY_ASKED, judge_evidence, judge_request
from donjon.verify.result import uri
from tests.steward.requests import NOW, REAL, SNP_AT, spki
from tests.verify.chains import (
    DAY,
    NAME,
    OTHER,
    WORKLOAD,
    Chain,
    Entity,
    appraisal,
    authority,
    claims,
    granted,
    new_key,
    realm,
    simulated_trust,
    unknown,
    usage,
    with_evidence,
)

HOUR = timedelta(hours=1)


def failed(checks: tuple[Check, ...]) -> list[str]:
    return [check.name for check in checks if check.outcome is Outcome.FAILED]


def refusal(chain: Any, demands: Demands, now: Any = NOW) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        judge(chain, demands, now)
    return caught.value


# By a Steward


def test_believes_what_a_steward_says() -> None:
    chain = Chain()
    demands = chain.demands(
        tees=("snp",), products=("Milan", "Genoa"), measurements=(b"\xab" * 48,), workloads=(OTHER, WORKLOAD),
        names=("SHOP.example.com",), max_age=HOUR, tcb={"snp": {"microcode": 84, "name": "x"}, "tdx": {"pcesvn": 9}},
    )  # fmt: skip
    proof = judge(chain.built(), demands, NOW)
    assert (proof.tee, proof.product, proof.measurement, proof.workload) == ("snp", "Genoa", b"\xab" * 48, WORKLOAD)
    assert proof.tcb["microcode"] == 84
    assert proof.judged_by == "CN=Test Root (Donjon, test 1)"
    assert (proof.judged_at, proof.valid_until) == (NOW, NOW + DAY)
    assert (proof.simulated, proof.protected, proof.nonce, proof.notes) == (False, True, True, ())
    assert NAME in proof.names
    assert all(check.outcome is Outcome.PASSED for check in proof.checks)


def test_says_that_nobody_asked_what_runs() -> None:
    chain = Chain()
    assert judge(chain.built(), chain.demands(), NOW).notes == (NOBODY_ASKED,)
    assert judge(chain.built(), chain.demands(measurements=(b"\xab" * 48,)), NOW).notes == (NOBODY_ASKED,)
    assert judge(chain.built(), chain.demands(names=(NAME,)), NOW).notes == ()


def test_believes_what_the_steward_of_this_project_issues(tmp_path: Any) -> None:
    ca = stewards.create(str(tmp_path / "ca"), NOW)
    key = new_key()
    grant = granted(key)
    issued = ca.issue(grant, NOW)
    demands = Demands(
        anchors=(ca.anchor.public_bytes(Encoding.DER),), workloads=(WORKLOAD,), names=(NAME,),
        accept_unattested=True, tees=("cca",), max_age=HOUR,
    )  # fmt: skip
    proof = judge((issued.der, *ca.path), demands, NOW)
    assert (proof.tee, proof.simulated, proof.workload) == ("cca", True, WORKLOAD)
    assert "simulated: proves nothing about the host" in proof.notes
    assert "evidence of unknown age: no nonce" in proof.notes


def test_the_root_may_come_along() -> None:
    chain = Chain()
    demands = chain.demands()
    judge((*chain.built(), demands.anchors[0]), demands, NOW)
    judge((*chain.built(), demands.anchors[0], chain.anchor), demands, NOW)  # what stands behind it, nobody looks at
    judge((*chain.built(), chain.anchor), demands, NOW)  # another certificate of the same root's


def test_a_steward_may_issue_with_its_root() -> None:
    chain = Chain()
    chain.issuing = chain.root
    judge(chain.built()[:1], chain.demands(), NOW)


def test_an_issuing_certificate_may_be_all_that_is_believed() -> None:
    chain = Chain()
    built = chain.built()
    judge(built, Demands(anchors=(built[1],)), NOW)


def test_other_kinds_of_keys_are_believed_too() -> None:
    chain = Chain()
    chain.root.key = rsa.generate_private_key(65537, 2048)
    chain.issuing.key = ed25519.Ed25519PrivateKey.generate()
    chain.leaf.key = ec.generate_private_key(ec.SECP384R1())
    judge(chain.built(), chain.demands(), NOW)


def test_knows_when_it_must_be_a_client() -> None:
    chain = Chain()
    judge(chain.built(), chain.demands(purpose="client"), NOW)


def test_says_when_the_vendors_lists_have_ended() -> None:
    chain = Chain(told=claims(valid_until="2026-05-31T00:00:00Z"))
    assert any("ended 2026-05-31" in note for note in judge(chain.built(), chain.demands(), NOW).notes)


Change = Callable[[Chain], object]


def of_leaf(**changes: Any) -> Change:
    return lambda chain: vars(chain.leaf).update(changes)


def of_issuing(**changes: Any) -> Change:
    return lambda chain: vars(chain.issuing).update(changes)


def leaf_extension(name: str, value: x509.ExtensionType, critical: bool = True) -> Change:
    return lambda chain: chain.leaf.extensions.__setitem__(name, (value, critical))


def issuing_extension(name: str, value: x509.ExtensionType, critical: bool = True) -> Change:
    return lambda chain: chain.issuing.extensions.__setitem__(name, (value, critical))


def root_extension(name: str, value: x509.ExtensionType, critical: bool = True) -> Change:
    return lambda chain: chain.root.extensions.__setitem__(name, (value, critical))


def says(**changes: Any) -> Change:
    """The same Steward with other attester's claims."""
    return lambda chain: appraisal(chain.told or {})["ear_attester_claims"].update(changes)


def told(**changes: Any) -> Change:
    return lambda chain: (chain.told or {}).update(changes)


def status(word: object) -> Change:
    return lambda chain: appraisal(chain.told or {}).update(ear_status=word)


def marked(*words: str) -> Change:
    return lambda chain: setattr(chain, "markers", words)


def both(*changes: Change) -> Change:
    return lambda chain: [change(chain) for change in changes]


def names(*items: x509.GeneralName) -> Change:
    return lambda chain: setattr(chain, "names", list(items))


EKU = ExtendedKeyUsageOID
CA = x509.BasicConstraints(ca=True, path_length=None)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
WEB = x509.NameConstraints([x509.DNSName("example.com")], None)
STRANGE = unknown("1.2.3.4", b"\x05\x00")

REFUSED: dict[str, tuple[Change, str]] = {
    "a leaf of another authority": (lambda c: setattr(c, "issuing", _copy(c.issuing)), "chain.issued"),
    "a leaf that names another issuer": (of_leaf(issuer="Test Other"), "chain.issued"),
    "a leaf that has ended": (of_leaf(end=NOW - timedelta(seconds=1)), "chain.dates"),
    "a leaf that has not begun": (of_leaf(start=NOW + HOUR), "chain.dates"),
    "an authority that has ended": (of_issuing(end=NOW - timedelta(seconds=1)), "chain.dates"),
    "a root that has ended": (lambda c: setattr(c.root, "end", NOW - timedelta(seconds=1)), "chain.dates"),
    "a leaf that may sign certificates": (leaf_extension("constraints", CA), "leaf.authority"),
    "a leaf whose key may sign certificates": (
        leaf_extension("usage", usage(digital_signature=True, key_cert_sign=True)), "leaf.authority"
    ),
    "a key that may not sign": (leaf_extension("usage", usage(key_agreement=True)), "leaf.usage"),
    "a certificate for mail": (
        leaf_extension("purposes", x509.ExtendedKeyUsage([EKU.EMAIL_PROTECTION])), "leaf.purpose"
    ),
    "a certificate for clients": (leaf_extension("purposes", x509.ExtendedKeyUsage([EKU.CLIENT_AUTH])), "leaf.purpose"),
    "an authority that is none": (issuing_extension("constraints", NO_CA), "chain.authorities"),
    "an authority whose key may not sign certificates": (
        issuing_extension("usage", usage(digital_signature=True)), "chain.authorities"
    ),
    "a root that is no authority": (root_extension("constraints", NO_CA), "chain.authorities"),
    "an authority for clients alone": (
        issuing_extension("purposes", x509.ExtendedKeyUsage([EKU.CLIENT_AUTH]), False), "chain.purpose"
    ),
    "a root that allows no authority below": (
        root_extension("constraints", x509.BasicConstraints(ca=True, path_length=0)), "chain.path_length"
    ),
    "a critical extension that nobody knows": (leaf_extension("strange", STRANGE), "chain.extensions"),
    "an authority with such an extension": (issuing_extension("strange", STRANGE), "chain.extensions"),
    "an authority that is limited to names": (issuing_extension("names", WEB, False), "chain.extensions"),
    "a leaf signed with SHA-224": (of_leaf(digest=hashes.SHA224()), "chain.algorithms"),
    "a key of another curve": (lambda c: setattr(c.leaf, "key", _other_curve()), "chain.algorithms"),
    "a short RSA key": (lambda c: setattr(c.leaf, "key", _short()), "chain.algorithms"),
    "no result": (lambda c: setattr(c, "told", None), "result.format"),
    "another profile": (told(eat_profile="tag:example.com"), "result.format"),
    "no time": (told(iat=None), "result.format"),
    "a time that is text": (told(iat="1780315200"), "result.format"),
    "a time that is true": (told(iat=True), "result.format"),
    "a time that is a fraction": (told(iat=1.5), "result.format"),
    "a time before 1970": (told(iat=-1), "result.format"),
    "a time beyond reason": (told(iat=10**30), "result.format"),
    "no submods": (told(submods={}), "result.format"),
    "submods that are a list": (told(submods=[]), "result.format"),
    "two submods": (lambda c: c.told["submods"].update(tdx={}), "result.format"),  # type: ignore[index]
    "an unknown TEE": (lambda c: c.told.update(submods={"sev": appraisal(c.told)}), "result.format"),  # type: ignore[union-attr,arg-type]
    "no verifier": (told(ear_verifier_id=None), "result.format"),
    "a verifier without a build": (told(ear_verifier_id={"developer": "x"}), "result.format"),
    "a verifier that moves the cursor": (told(ear_verifier_id={"developer": "\x1b[2J", "build": ""}), "result.format"),
    "a status that is a number": (status(2), "result.format"),
    "no attester's claims": (lambda c: appraisal(c.told or {}).pop("ear_attester_claims"), "result.format"),
    "a product of a kilobyte": (says(product="x" * 1001), "result.format"),
    "a measurement that is not hex": (says(measurement="xy"), "result.format"),
    "a measurement in capitals": (says(measurement="AB"), "result.format"),
    "a measurement with spaces": (says(measurement="ab cd"), "result.format"),
    "a measurement of 65 bytes": (says(measurement="ab" * 65), "result.format"),
    "a workload that is a number": (says(workload=7), "result.format"),
    "a TCB that is a list": (says(tcb=[1]), "result.format"),
    "a TCB of 65 parts": (says(tcb={str(n): n for n in range(65)}), "result.format"),
    "a TCB within a TCB": (says(tcb={"a": {}}), "result.format"),
    "a TCB that is infinite": (says(tcb={"a": float("inf")}), "result.format"),
    "a TCB of a hundred digits": (says(tcb={"a": 10**100}), "result.format"),
    "claims that are missing": (says(claims=None), "result.format"),
    "a nonce that is a number": (says(nonce=1), "result.format"),
    "notes that are text": (says(notes="x"), "result.format"),
    "65 notes": (says(notes=["x"] * 65), "result.format"),
    "a note of two lines": (says(notes=["x\ny"]), "result.format"),
    "simulated as text": (says(simulated="false"), "result.format"),
    "protected that is missing": (says(protected=None), "result.format"),
    "an end without a zone": (says(valid_until="2026-06-20T00:00:00"), "result.format"),
    "an end that is a word": (says(valid_until="tomorrow, at noon..."), "result.format"),
    "an end in another form": (says(valid_until="2026-W25-6T00:00:00Z"), "result.format"),
    "a result before the certificate": (told(iat=int((NOW - HOUR).timestamp())), "result.time"),
    "a result of tomorrow": (told(iat=int((NOW + HOUR).timestamp())), "result.time"),
    "a result that contradicts": (status("contraindicated"), "result.status"),
    "a result that affirms nothing": (status("none"), "result.status"),
    "a simulated one that is affirmed": (both(says(simulated=True), marked("simulated")), "result.status"),
    "a simulated one without its marker": (both(says(simulated=True), status("none")), "result.markers"),
    "an unprotected one without its marker": (both(says(protected=False), status("none")), "result.markers"),
    "a marker that the result lacks": (marked("simulated"), "result.markers"),
    "an unknown marker": (marked("holy"), "result.markers"),
    "a marker twice": (
        both(says(simulated=True), status("none"), marked("simulated", "simulated")), "result.markers"
    ),
    "another workload in its names": (
        names(x509.UniformResourceIdentifier(uri(OTHER))), "result.workload"
    ),
    "two workloads in its names": (
        names(x509.UniformResourceIdentifier(uri(WORKLOAD)), x509.UniformResourceIdentifier(uri(OTHER))),
        "result.workload",
    ),
    "no workload in its names": (names(x509.DNSName(NAME)), "result.workload"),
    "a workload that the result lacks": (says(workload="00" * 32), "result.workload"),
    "KVM that says it protects": (
        lambda c: c.told.update(submods={"kvm": appraisal(c.told)}), "result.protected"  # type: ignore[union-attr,arg-type]
    ),
    "what is simulated": (both(says(simulated=True), status("none"), marked("simulated")), "evidence.attested"),
    "what is not protected": (both(says(protected=False), status("none"), marked("unprotected")), "evidence.attested"),
}  # fmt: skip


def _copy(entity: Entity) -> Entity:
    """An authority of the same name with another key: what it has issued, the right one has not."""
    return Entity(entity.subject, end=entity.end, extensions=entity.extensions)


def _other_curve() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256K1())


def _short() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    change, check = REFUSED[name]
    chain = Chain()
    right = chain.built()[1]
    change(chain)
    leaf, issuing = chain.built()
    if name == "a leaf of another authority":
        issuing = right
    error = refusal((leaf, issuing), chain.demands())
    expected = {check, "chain.anchor"} if check == "chain.issued" else {check}
    if check == "chain.algorithms":
        expected |= {"chain.issued", "chain.anchor"} & set(failed(error.checks))
    assert set(failed(error.checks)) == expected
    assert error.message.startswith("peer refused: chain." if check.startswith("chain") else f"peer refused: {check}")
    assert error.exit_code == 4


DEMANDED: dict[str, tuple[dict[str, Any], str]] = {
    "another TEE": ({"tees": ("tdx", "cca")}, "demand.tee"),
    "another product": ({"products": ("Turin",)}, "demand.product"),
    "another measurement": ({"measurements": (b"\xab" * 47, b"\xac" * 48)}, "demand.measurement"),
    "another workload": ({"workloads": (OTHER,)}, "demand.workload"),
    "another name": ({"names": ("shop.example.org",)}, "demand.name"),
    "a name above it": ({"names": ("example.com",)}, "demand.name"),
    "a younger judgement": ({"max_age": timedelta(minutes=59)}, "demand.max_age"),
    "a newer TCB": ({"tcb": {"snp": {"microcode": 85}}}, "demand.tcb"),
    "a part of the TCB that is missing": ({"tcb": {"snp": {"tee": 1}}}, "demand.tcb"),
    "a number where there is text": ({"tcb": {"snp": {"name": 1}}}, "demand.tcb"),
    "another text in the TCB": ({"tcb": {"snp": {"name": "y"}}}, "demand.tcb"),
}


@pytest.mark.parametrize("name", DEMANDED)
def test_refuses_when_the_demand_is(name: str) -> None:
    asked, check = DEMANDED[name]
    chain = Chain(told={**claims(), "iat": int((NOW - HOUR).timestamp())})
    chain.leaf.start = NOW - HOUR
    error = refusal(chain.built(), chain.demands(**asked))
    assert failed(error.checks) == [check]


def test_tells_all_demands_that_do_not_hold() -> None:
    chain = Chain()
    error = refusal(chain.built(), chain.demands(tees=("cca",), workloads=(OTHER,)))
    assert failed(error.checks) == ["demand.tee", "demand.workload"]
    assert error.message == "peer refused: demand.tee: expected one of cca, got snp (and 1 more)"


def test_accepts_what_proves_nothing_only_when_told() -> None:
    chain = Chain(told=claims(simulated=True, protected=True), markers=("simulated",))
    status("none")(chain)
    proof = judge(chain.built(), chain.demands(accept_unattested=True), NOW)
    assert proof.simulated
    assert "simulated: proves nothing about the host" in proof.notes


def test_refuses_another_stewards_root() -> None:
    chain, other = Chain(), Chain()
    error = refusal(chain.built(), other.demands())
    assert failed(error.checks) == ["chain.anchor"]
    other.root.subject = "Another Root"
    assert failed(refusal(chain.built(), other.demands()).checks) == ["chain.anchor"]


def test_an_anchor_that_is_malformed_is_told_to_who_gave_it() -> None:
    with pytest.raises(ParseError, match=r"root\[0\]"):
        judge(Chain().built(), Demands(anchors=(b"x",)), NOW)


# By the evidence itself


def bare(**more: Any) -> Demands:
    return Demands(roots=simulated_trust(), **{"accept_unattested": True, **more})


def test_believes_evidence_in_a_certificate_that_is_signed_by_its_own_key() -> None:
    proof = judge([with_evidence()], bare(tees=("cca",), workloads=(WORKLOAD,), measurements=(bytes(32),)), NOW)
    assert (proof.tee, proof.workload, proof.judged_by, proof.judged_at) == ("cca", WORKLOAD, ITSELF, NOW)
    assert (proof.simulated, proof.nonce, proof.names) == (True, False, ())
    assert "evidence of unknown age: no nonce" in proof.notes
    assert proof.valid_until <= NOW + DAY


def test_evidence_of_simulated_roots_needs_both_the_roots_and_the_word() -> None:
    chain = [with_evidence()]
    assert failed(refusal(chain, bare(accept_unattested=False)).checks) == ["evidence.attested"]
    assert "evidence.binding" not in failed(refusal(chain, Demands(accept_unattested=True)).checks)


def test_believes_a_keep_without_a_tee_only_when_told() -> None:
    chain = [with_evidence(oids=(), change=lambda keep: keep.extensions.update(kvm=KVM))]
    assert judge(chain, Demands(accept_unattested=True), NOW).protected is False
    assert failed(refusal(chain, Demands()).checks) == ["evidence.attested"]


KVM = (unknown("1.3.6.1.4.1.58270.1.1", b""), False)


def changed(**changes: Any) -> Callable[[Entity], None]:
    return lambda keep: vars(keep).update(changes)


def with_extension(value: x509.ExtensionType, critical: bool = True) -> Callable[[Entity], None]:
    return lambda keep: keep.extensions.__setitem__("other", (value, critical))


EVIDENCE_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "evidence of another key": (lambda: with_evidence(bound=new_key()), "evidence.binding"),
    "no evidence": (lambda: with_evidence(oids=()), "evidence.carried"),
    "evidence of two TEEs": (lambda: with_evidence(oids=(cca.OID, snp.OID)), "evidence.carried"),
    "evidence that is said to be another TEE's": (lambda: with_evidence(oids=(snp.OID,)), "evidence.format"),
    "a certificate that has ended": (
        lambda: with_evidence(change=changed(end=NOW - timedelta(seconds=1))), "chain.dates"
    ),
    "a certificate that another key has signed": (lambda: _forged(), "leaf.signature"),
    "a certificate that names another issuer": (
        lambda: with_evidence(change=changed(issuer="another")), "leaf.signature"
    ),
    "a critical extension that nobody knows": (
        lambda: with_evidence(change=with_extension(STRANGE)), "chain.extensions"
    ),
    "a certificate that may sign others": (
        lambda: with_evidence(change=lambda keep: keep.extensions.__setitem__("constraints", (CA, True))),
        "leaf.authority",
    ),
    "a certificate for mail": (
        lambda: with_evidence(change=with_extension(x509.ExtendedKeyUsage([EKU.EMAIL_PROTECTION]))), "leaf.purpose"
    ),
}  # fmt: skip


def _forged() -> bytes:
    keep = Entity("localhost")
    public = keep.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    token = cca.wrap(realm().platform.token(realm().realm, cca.key_binding(public)))
    keep.extensions = {"evidence": (unknown(cca.OID, token), False)}
    return keep.signed(Entity("localhost"))


@pytest.mark.parametrize("name", EVIDENCE_REFUSED)
def test_refuses_evidence_itself_with(name: str) -> None:
    make, check = EVIDENCE_REFUSED[name]
    assert failed(refusal([make()], bare()).checks) == [check]


def test_a_certificate_of_a_steward_is_not_evidence_itself() -> None:
    error = refusal(Chain().built(), Demands())
    assert failed(error.checks) == ["leaf.signature"]
    assert error.hint == "if a Steward has issued it, name the Steward's root"


def test_evidence_is_not_asked_where_a_steward_was_demanded() -> None:
    error = refusal([with_evidence()], Chain().demands(accept_unattested=True))
    assert failed(error.checks) == ["chain.anchor"]
    assert error.hint == "the peer shows evidence itself: without a Steward's root it is judged by that"


def test_the_tee_policy_of_the_demands_is_asked() -> None:
    tables = {"cca": cca.Policy.read({"hash": ["11" * 32]}, "[cca]")}
    names_of_failed = failed(refusal([with_evidence()], bare(tables=tables)).checks)
    assert names_of_failed == ["realm.initial_measurement"]


# Requests and evidence without a certificate


def test_a_request_is_judged_by_its_evidence() -> None:
    key = new_key()
    data = realm().request(key=key)
    proof = judge_request(data, simulated_trust(), Demands(accept_unattested=True, workloads=(WORKLOAD,)), NOW)
    assert (proof.tee, proof.workload, proof.judged_by) == ("cca", WORKLOAD, ITSELF)
    assert proof.key == sha256(spki(key)).digest()
    broken = data[:-1] + bytes((data[-1] ^ 1,))
    with pytest.raises(RefusedError) as caught:
        judge_request(broken, simulated_trust(), Demands(accept_unattested=True), NOW)
    assert failed(caught.value.checks) == ["request.signature"]
    with pytest.raises(ParseError):
        judge_request(b"x", simulated_trust(), Demands(), NOW)
    with pytest.raises(UsageError, match="this is a request"):
        judge_request(data, simulated_trust(), Chain().demands(), NOW)


def test_evidence_alone_says_nothing_about_a_key() -> None:
    token = cca.wrap(realm().platform.token(realm().realm, bytes(64)))
    trust = simulated_trust()["cca"]
    demands = Demands(accept_unattested=True)
    proof = judge_evidence(cca, lambda: cca.parse(token), trust, demands, NOW)
    assert (proof.key, proof.certificate) == (b"", b"")
    judge_evidence(cca, lambda: cca.parse(token), trust, demands, NOW, report_data=bytes(64))
    with pytest.raises(RefusedError) as caught:
        judge_evidence(cca, lambda: cca.parse(token), trust, demands, NOW, report_data=bytes(63) + b"x")
    assert failed(caught.value.checks) == ["evidence.binding"]
    with pytest.raises(UsageError, match="this is evidence"):
        judge_evidence(cca, lambda: cca.parse(token), trust, Chain().demands(), NOW)


# Bounds, and whatever may come


def test_refuses_what_is_no_chain() -> None:
    leaf, issuing = Chain().built()
    for chain in ([], [b""], [leaf + b"\0", issuing], [leaf[:-1], issuing], [leaf] * (MAX_CHAIN + 1), [bytes(200_000)]):
        assert failed(refusal(chain, Chain().demands()).checks) == ["chain.format"]
        assert failed(refusal(chain, Demands()).checks) == ["chain.format"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_is_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    built = [list(chain) for chain in FUZZED_CHAINS][data.draw(st.integers(0, 1))]
    which = data.draw(st.integers(0, len(built) - 1))
    at = data.draw(st.integers(0, len(built[which]) - 1))
    changed = bytearray(built[which])
    changed[at] ^= data.draw(st.integers(1, 255))
    built[which] = bytes(changed)
    with pytest.raises(RefusedError):
        judge(built, FUZZED_DEMANDS if len(built) == 2 else bare(), NOW)


FUZZED = Chain()
FUZZED_DEMANDS = FUZZED.demands()
FUZZED_CHAINS = (FUZZED.built(), (with_evidence(),))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=10))
def test_any_bytes_are_refused(chain: list[bytes]) -> None:
    with pytest.raises(RefusedError):
        judge(chain, FUZZED_DEMANDS, NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    (), ("eat_profile",), ("iat",), ("ear_verifier_id",), ("ear_verifier_id", "build"), ("submods",),
    ("submods", "snp"), ("submods", "snp", "ear_status"), ("submods", "snp", "ear_attester_claims"),
    *(("submods", "snp", "ear_attester_claims", name) for name in appraisal(claims())["ear_attester_claims"]),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FIELDS), JSON)
def test_a_steward_that_writes_anything_is_read_or_refused(path: tuple[str, ...], value: Any) -> None:
    said: Any = claims()
    if path:
        table = said
        for name in path[:-1]:
            table = table[name]
        table[path[-1]] = value
    else:
        said = value
    FUZZED.told = said
    try:
        judge(FUZZED.built(), FUZZED_DEMANDS, NOW)
    except RefusedError:
        pass
    finally:
        FUZZED.told = claims()


# Demands


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "a word for several": ({"tees": "snp"}, "tees: expected several values"),
    "an unknown TEE": ({"tees": ("sev",)}, 'TEE "sev"'),
    "an unknown TEE's TCB": ({"tcb": {"sev": {}}}, 'TEE "sev"'),
    "a workload of 31 bytes": ({"workloads": (bytes(31),)}, "workloads: expected digests of 32 bytes"),
    "a workload of zeros": ({"workloads": (bytes(32),)}, "workloads: expected digests of 32 bytes"),
    "an empty measurement": ({"measurements": (b"",)}, "measurements: expected digests of 1 to 64 bytes"),
    "a thousand and one names": ({"names": ("a",) * 1001}, "names: expected at most 1000"),
    "a Steward and a TEE's policy": ({"anchors": (b"x",), "tables": {"cca": cca.Policy()}}, "exclude each other"),
    "a Steward and other roots": ({"anchors": (b"x",), "roots": {"cca": Trust((Roots({}),))}}, "exclude each other"),
    "a name without a Steward": ({"names": (NAME,)}, "names need a Steward's root"),
    "an age without a Steward": ({"max_age": HOUR}, "an age needs a Steward's root"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_demands_that_cannot_be(name: str) -> None:
    asked, message = IMPOSSIBLE[name]
    with pytest.raises(UsageError, match=message):
        Demands(**asked)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="with its zone"):
        judge(Chain().built(), Chain().demands(), NOW.replace(tzinfo=None))


def test_only_judge_makes_a_proof() -> None:
    chain = Chain()
    proof = judge(chain.built(), chain.demands(), NOW)
    with pytest.raises(Exception, match="made by judge"):
        Proof(**{name: getattr(proof, name) for name in Proof.__dataclass_fields__ if name != "seal"})


def test_authorities_in_between_may_be_many_as_each_allows() -> None:
    middle = authority("Test Middle", 1)
    chain = Chain(root=authority("Test Root", 2))
    leaf, _ = chain.built()
    judge((leaf, chain.issuing.signed(middle), middle.signed(chain.root)), chain.demands(), NOW)
    chain.root.extensions["constraints"] = (x509.BasicConstraints(ca=True, path_length=1), True)
    error = refusal((leaf, chain.issuing.signed(middle), middle.signed(chain.root)), chain.demands())
    assert failed(error.checks) == ["chain.path_length"]


def test_real_hardware_is_told_as_it_is(tmp_path: Any) -> None:
    from donjon.steward.policy import parse
    from donjon.steward.procedure import decide, vendor_trust

    policy = parse('[snp]\nproducts = ["Milan"]\ntcb_floor = "none"\n')
    grant = decide(REAL["snp"].read_bytes(), vendor_trust(), policy, SNP_AT).require()
    ca = stewards.create(str(tmp_path / "ca"), SNP_AT)
    demands = Demands(anchors=(ca.anchor.public_bytes(Encoding.DER),), products=("Milan",))
    proof = judge((ca.issue(grant, SNP_AT).der, *ca.path), demands, SNP_AT)
    assert proof.measurement.hex().startswith("ff717ae7")
    assert any("Milan" in note for note in proof.notes)
