"""Statements by which somebody vouches for a workload: read strictly, believed only from named keys, in their time."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.cli.main import main
from donjon.errors import ParseError, UsageError
from donjon.steward import endorsement
from donjon.steward.endorsement import DESCRIPTOR_DOMAIN, MAX_ENVELOPE, Envelope, Proofs, is_by, make, read
from donjon.steward.files import read_endorsements
from donjon.steward.policy import Policy, parse
from donjon.steward.procedure import Decision, decide
from tests.steward.requests import NOW, Realm

DAY = timedelta(days=1)
KEYS: dict[str, endorsement.PrivateKey] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
KEY = KEYS["Ed25519"]
PACKAGE = sha256(b"package").digest()
DESCRIPTOR = json.dumps(
    {"args": [], "env": {}, "package": PACKAGE.hex(), "roots": {}}, sort_keys=True, separators=(",", ":")
).encode()
LAUNCH = sha256(DESCRIPTOR_DOMAIN + DESCRIPTOR).digest()
REALM = Realm(LAUNCH)
OTHER = Realm()


def pem(key: endorsement.PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def policy(*lines: str) -> Policy:
    return parse("\n".join(("accept_unattested = true", "[[workload]]", 'names = ["shop.example.com"]', *lines)))


def signed_for(*keys: endorsement.PrivateKey) -> Policy:
    return policy(f"signers = {json.dumps([pem(key) for key in keys])}")


def statement(digest: bytes = LAUNCH, key: endorsement.PrivateKey = KEY, **changes: Any) -> Envelope:
    return read(make(digest, key, changes.pop("until", NOW + DAY), **changes).encode())


def judged(policy: Policy, proofs: Proofs, realm: Realm = REALM, now: datetime = NOW) -> Decision:
    return decide(realm.request(), realm.trust, policy, now, proofs=proofs)


def found(decision: Decision) -> str:
    (text,) = [check.found for check in decision.checks if check.name == "evidence.workload"]
    return text


@pytest.mark.parametrize("kind", KEYS)
def test_a_workload_is_accepted_for_its_signer(kind: str) -> None:
    key = KEYS[kind]
    decision = judged(signed_for(*KEYS.values()), Proofs(sent=(statement(key=key, title="shop 1.0"),)))
    assert decision.accepted, decision.failures
    grant = decision.require()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert grant.signer == sha256(spki).hexdigest()
    assert grant.names == ("shop.example.com",)
    assert f"signed for by {grant.signer[:16]} until 2026-06-02T12:00:00Z" in found(decision)


def test_the_operators_statements_count_as_well() -> None:
    text = make(LAUNCH, KEY, NOW + DAY).encode()
    kept = read_endorsements([("a.json", text), ("b.json", make(PACKAGE, KEY, NOW + DAY).encode())])
    assert judged(signed_for(KEY), Proofs(kept=kept)).accepted


def test_a_package_is_accepted_with_its_descriptor() -> None:
    listed = policy(f'package = ["{PACKAGE.hex()}"]')
    assert judged(listed, Proofs(DESCRIPTOR)).accepted
    assert not judged(listed, Proofs()).accepted
    assert judged(signed_for(KEY), Proofs(DESCRIPTOR, (statement(PACKAGE),))).accepted
    assert not judged(signed_for(KEY), Proofs(None, (statement(PACKAGE),))).accepted


ROOT, STRANGE = sha256(b"a Steward's root").digest(), sha256(b"the host's own root").digest()


def launched(*roots: bytes) -> tuple[bytes, Realm]:
    """The package with these files for its `[roots]`: they lie beside it, so whoever starts it chooses them."""
    named = {f"r{number}": each.hex() for number, each in enumerate(roots)}
    found = {"args": [], "env": {}, "package": PACKAGE.hex(), "roots": named}
    descriptor = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    return descriptor, Realm(sha256(DESCRIPTOR_DOMAIN + descriptor).digest())


@pytest.mark.parametrize("way", ["package", "signed"])
def test_a_package_passes_with_no_roots_but_those_of_the_policy(way: str) -> None:
    """Else a host starts the package with a root of its own: it gets the name, and trusts whom the host likes."""
    words = f'package = ["{PACKAGE.hex()}"]' if way == "package" else f"signers = {json.dumps([pem(KEY)])}"
    none, listed = policy(words), policy(f'{words}\nroots = ["{ROOT.hex()}"]')
    cases: list[tuple[Policy, tuple[bytes, ...], bool]] = [
        (none, (), True),
        (none, (ROOT,), False),
        (none, (STRANGE,), False),
        (listed, (), True),
        (listed, (ROOT,), True),
        (listed, (STRANGE,), False),
        (listed, (ROOT, STRANGE), False),
    ]
    for asked, roots, passes in cases:
        descriptor, realm = launched(*roots)
        decision = judged(asked, Proofs(descriptor, (statement(PACKAGE),)), realm)
        assert decision.accepted is passes, (roots, found(decision))
        if not passes:
            assert f"with roots that the policy does not list: {roots[-1].hex()}" in found(decision)


def test_who_lists_or_signs_for_a_launch_has_said_which_roots() -> None:
    descriptor, realm = launched(STRANGE)
    launch = sha256(DESCRIPTOR_DOMAIN + descriptor).digest()
    assert judged(policy(f'digest = ["{launch.hex()}"]'), Proofs(), realm).accepted
    assert judged(signed_for(KEY), Proofs(descriptor, (statement(launch),)), realm).accepted


@pytest.mark.parametrize("roots", [1, [], {"a": 1}, {"a": "00"}])
def test_refuses_a_descriptor_with_roots_of_another_form(roots: Any) -> None:
    descriptor = json.dumps({"package": PACKAGE.hex(), "roots": roots}).encode()
    realm = Realm(sha256(DESCRIPTOR_DOMAIN + descriptor).digest())
    decision = judged(policy(f'package = ["{PACKAGE.hex()}"]'), Proofs(descriptor), realm)
    assert not decision.accepted
    assert "descriptor.roots" in found(decision)


REFUSED: dict[str, tuple[Policy, Proofs, str]] = {
    "nothing is said": (signed_for(KEY), Proofs(), LAUNCH.hex()),
    "another has signed": (signed_for(KEYS["P-256"]), Proofs(sent=(statement(),)), LAUNCH.hex()),
    "it has ended": (
        signed_for(KEY), Proofs(sent=(statement(until=NOW - DAY),)), "a statement that ended at 2026-05-31T12:00:00Z"
    ),
    "it has not begun": (
        signed_for(KEY), Proofs(sent=(statement(since=NOW + DAY / 2),)), "a statement that holds from 2026-06-02T00:00"
    ),
    "it is about another": (signed_for(KEY), Proofs(sent=(statement(bytes(32)),)), LAUNCH.hex()),
    "the descriptor is another": (
        policy(f'package = ["{PACKAGE.hex()}"]'), Proofs(DESCRIPTOR + b" "), "expected the one that evidence binds"
    ),
    "the package is another": (policy(f'package = ["{"00" * 32}"]'), Proofs(DESCRIPTOR), f"package {PACKAGE.hex()}"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_when(name: str) -> None:
    asked, proofs, text = REFUSED[name]
    decision = judged(asked, proofs)
    assert [check.name for check in decision.failures] == ["evidence.workload"]
    assert text in found(decision)


def test_evidence_that_names_no_workload_is_not_helped_by_a_statement() -> None:
    proofs = Proofs(DESCRIPTOR, (statement(), statement(bytes(32))))
    decision = judged(signed_for(KEY), proofs, OTHER)
    assert [check.name for check in decision.failures] == ["evidence.workload"]


def test_a_signature_is_over_the_statement() -> None:
    good = json.loads(make(LAUNCH, KEY, NOW + DAY))
    other = json.loads(make(LAUNCH, KEY, NOW + 9 * DAY))
    mixed = read({**good, "payload": other["payload"]})
    (signer,) = signed_for(KEY).workloads[0].signers
    assert is_by(read(good), signer)
    assert not is_by(mixed, signer)


def changed(**members: Any) -> bytes:
    """A good envelope whose statement has other members; None takes one out."""
    envelope = json.loads(make(LAUNCH, KEY, NOW + DAY))
    inner = json.loads(base64.b64decode(envelope["payload"])) | members
    inner = {name: value for name, value in inner.items() if value is not None}
    return json.dumps({**envelope, "payload": base64.b64encode(json.dumps(inner).encode()).decode()}).encode()


GOOD = make(LAUNCH, KEY, NOW + DAY).encode()
MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "expected JSON"),
    "too long": (b" " * (MAX_ENVELOPE + 1), "expected at most 16384 bytes"),
    "a list": (b"[]", "expected a DSSE envelope"),
    "a name twice": (b'{"payloadType": 1, "payloadType": 2}', "expected each name once"),
    "nested": (b"[" * 9000, "expected JSON"),
    "of another type": (GOOD.replace(b"in-toto", b"other"), "expected a DSSE envelope of application/vnd.in-toto+json"),
    "without signatures": (json.dumps({**json.loads(GOOD), "signatures": []}).encode(), "expected 1 to 4"),
    "with too many": (
        json.dumps({**json.loads(GOOD), "signatures": json.loads(GOOD)["signatures"] * 5}).encode(), "expected 1 to 4"
    ),
    "with a signature that is none": (
        json.dumps({**json.loads(GOOD), "signatures": ["x"]}).encode(), "expected objects, got str"
    ),
    "with a key that is not named": (GOOD.replace(b"keyid", b"kid"), "keyid: expected 64 hex digits"),
    "no base64": (json.dumps({**json.loads(GOOD), "payload": "*"}).encode(), "payload: expected base64"),
    "another statement": (changed(_type="https://in-toto.io/Statement/v0.1"), "_type: expected"),
    "another predicate": (changed(predicateType="https://slsa.dev/provenance/v1"), "predicateType: expected urn:oid"),
    "two subjects": (changed(subject=[{"name": "a", "digest": {}}] * 2), "subject: expected one"),
    "another digest": (changed(subject=[{"name": "a", "digest": {"sha1": "00"}}]), "subject: expected one"),
    "a short digest": (changed(subject=[{"name": "a", "digest": {"sha256": "00"}}]), "expected 64 hex digits"),
    "a name with a line end": (changed(subject=[{"name": "a\n", "digest": {"sha256": "00" * 32}}]), "expected one"),
    "no end": (changed(predicate={}), "predicate: expected notAfter"),
    "more": (changed(predicate={"notAfter": "2026-06-01T00:00:00Z", "x": 1}), "predicate: expected notAfter"),
    "a time without a zone": (changed(predicate={"notAfter": "2026-06-01T00:00:00"}), "expected times like"),
    "no such day": (changed(predicate={"notAfter": "2026-02-31T00:00:00Z"}), "expected times like"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_what_is(name: str) -> None:
    data, text = MALFORMED[name]
    with pytest.raises(ParseError, match=text.replace("+", r"\+")):
        read(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_change_is_read_or_refused(at: int, byte: int) -> None:
    for data in (GOOD[:at] + bytes([byte]) + GOOD[at + 1 :], GOOD[:at]):
        try:
            read(data)
        except ParseError:
            pass


@pytest.mark.parametrize(
    "descriptor", [b"{}", b"[]", b'{"package": 1}', b'{"package":"' + b"0" * 63 + b'"}', b"{" * 9000, bytes(70_000)]
)
def test_a_descriptor_has_a_package(descriptor: bytes) -> None:
    with pytest.raises(ParseError):
        endorsement.package_of(descriptor, sha256(DESCRIPTOR_DOMAIN + descriptor).digest())


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: rsa.generate_private_key(65537, 2048).public_key(),
        lambda: ec.generate_private_key(ec.SECP521R1()).public_key(),
    ],
)
def test_a_policy_names_keys_of_three_kinds(make_key: Callable[[], Any]) -> None:
    text = make_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for bad in (text, "x", pem(KEY).replace("M", "N", 1)):
        with pytest.raises(ParseError, match="expected a public key of P-256, P-384 or Ed25519 in PEM"):
            policy(f"signers = [{json.dumps(bad)}]")


def test_a_policy_names_a_key_once() -> None:
    with pytest.raises(ParseError, match="expected each signer once"):
        parse(f"[[workload]]\nsigners = [{json.dumps(pem(KEY))}]\n[[workload]]\nsigners = [{json.dumps(pem(KEY))}]\n")


def test_nobody_makes_what_cannot_be_read() -> None:
    for wrong in ({"digest": b"x"}, {"title": "x" * 201}, {"until": NOW.replace(tzinfo=None)}):
        words: dict[str, Any] = {"digest": LAUNCH, "key": KEY, "until": NOW + DAY, **wrong}
        with pytest.raises(UsageError):
            make(**words)
    with pytest.raises(UsageError, match="got secp521r1"):
        make(LAUNCH, ec.generate_private_key(ec.SECP521R1()), NOW)


# The command


def keep(name: str, key: Any) -> None:
    Path(name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    Path(name).chmod(0o600)


def test_endorse_prints_a_statement_that_judge_believes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keep("release.key", KEY)
    words = ["steward", "endorse", LAUNCH.hex(), "--key", "release.key", "--title", "shop 1.0"]
    assert main([*words, "--until", "9999-01-01T00:00:00Z"]) == 0
    assert capfd.readouterr().err == ""
    assert main([*words, "--until", "2026-07-01T00:00:00Z"]) == 0
    Path("said").mkdir()
    said, warned = capfd.readouterr()
    Path("said/shop.json").write_text(said)
    assert warned == "donjon: warning: --until is past, 2026-07-01T00:00:00Z: nobody believes this statement now\n"
    Path("request.csr").write_bytes(REALM.request())
    Path("anchors.toml").write_text(REALM.platform.anchors())
    Path("p.toml").write_text(f"[[workload]]\nsigners = [{json.dumps(pem(KEY))}]\n")
    judge = ["steward", "judge", "--policy", "p.toml", "--at", "2026-06-01T12:00:00Z", "--roots", "anchors.toml"]
    assert main([*judge, "request.csr"]) == 4
    assert main([*judge, "--endorsements", "said", "request.csr"]) == 0, capfd.readouterr().out
    assert "signed for by" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "text", "code"),
    [
        (["zz", "--key", "k", "--until", "2026-07-01T00:00:00Z"], "DIGEST: expected 64 hex digits", 2),
        (["00" * 32, "--key", "k", "--until", "2026-07-01T00:00:00Z"], "k: expected a private key in PEM", 1),
        (["00" * 32, "--key", "rsa", "--until", "2026-07-01T00:00:00Z"], "rsa: expected a key of P-256", 1),
        (["00" * 32, "--key", "good", "--until", "tomorrow"], "--until: expected a time", 2),
        (["00" * 32, "--key", "open", "--until", "2026-07-01T00:00:00Z"], "its owner alone can read", 2),
        (["00" * 32, "--key", "none", "--until", "2026-07-01T00:00:00Z"], "cannot read none", 2),
    ],
)
def test_endorse_says_what_is_wrong(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    text: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("k").write_text("no key")
    Path("k").chmod(0o600)
    for name, key in (("rsa", rsa.generate_private_key(65537, 2048)), ("good", KEY), ("open", KEY)):
        keep(name, key)
    Path("open").chmod(0o640)
    assert main(["steward", "endorse", *words]) == code
    assert text in capfd.readouterr().err


def test_a_directory_with_something_else_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("said").mkdir()
    Path("said/notes.txt").write_text("not read")
    Path("said/bad.json").write_text("{}")
    Path("request.csr").write_bytes(REALM.request())
    assert main(["steward", "judge", "--endorsements", "said", "request.csr"]) == 1
    assert "said/bad.json: expected a DSSE envelope" in capfd.readouterr().err
    assert main(["steward", "judge", "--endorsements", "missing", "request.csr"]) == 2
