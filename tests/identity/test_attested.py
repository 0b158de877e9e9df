"""A Keep's identity with evidence: what is asked for, what is bound, and what is refused before anybody sees it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon import tee
from donjon.errors import ParseError, PlatformError, VerifyError
from donjon.identity import Identity, attested
from donjon.identity.attested import Source, certified, proven
from donjon.sim import Lab
from donjon.steward.client import Client
from donjon.steward.nonce import binding
from donjon.steward.policy import parse
from donjon.steward.procedure import decide
from donjon.steward.request import parse_request
from donjon.tls.context import client_context
from tests.sim.labs import NOW, trust
from tests.steward.https import NONCE, Answer, Issuer, Server, chain_answer, nonce_answer, serving, steward

WORKLOAD = bytes(range(32))
OTHER = bytes(32)[:-1] + b"\1"
SIMULATED = ("snp", "tdx", "sgx", "cca")


class Kvm:
    tee = "kvm"

    def collect(self, report_data: bytes) -> bytes:
        assert report_data == b""
        return b""


class Fixed:
    """Evidence that is always the same."""

    def __init__(self, tee_name: str, value: bytes) -> None:
        self.tee = tee_name
        self.value = value

    def collect(self, report_data: bytes) -> bytes:
        del report_data
        return self.value


def of(lab: Lab, name: str, workload: bytes = WORKLOAD) -> Source:
    return lab.guest(name, workload)


def ask(server: Server, source: Source, now: datetime = NOW) -> Identity:
    return certified(
        source, WORKLOAD, Client(server.url, client_context(None, server.roots), attempts=1), now.timestamp
    )


@pytest.mark.parametrize("name", SIMULATED)
@pytest.mark.parametrize("enarx", [False, True], ids=["with a nonce", "as Enarx"])
def test_a_request_is_one_that_a_steward_grants(lab: Lab, tmp_path: Path, name: str, enarx: bool) -> None:
    issuer, sent = Issuer(NOW), []
    inner = steward(issuer, enarx)

    def handle(method: str, target: str, body: bytes) -> Answer:
        if method == "POST":
            sent.append(body if enarx else base64.b64decode(json.loads(body)["request"]))
        return inner(method, target, body)

    with serving(tmp_path, handle) as server:
        made = ask(server, of(lab, name))
    leaf = x509.load_der_x509_certificate(made.certificate)
    assert made.chain == (made.certificate, issuer.der)
    assert made.expires == (NOW + timedelta(hours=24)).timestamp()
    request = parse_request(sent[0])
    assert request.key == ("P-384" if name == "snp" else "P-256")
    assert leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == request.spki
    kind = tee.load(name)
    bound, named = kind.claimed(kind.parse(request.extensions[0].value)[0])
    assert bound == (kind.key_binding(request.spki) if enarx else binding(NONCE, request.spki))
    assert named == WORKLOAD.ljust(len(named), b"\0")
    if enarx:
        decision = decide(sent[0], trust(lab), parse("accept_unattested = true\n"), NOW)
        assert decision.accepted, [str(check) for check in decision.failures]
        assert decision.require().workload == WORKLOAD


def test_no_evidence_at_all_is_asked_for_without_report_data(tmp_path: Path) -> None:
    with serving(tmp_path, steward(Issuer(NOW))) as server:
        assert len(ask(server, Kvm()).chain) == 2


@pytest.mark.parametrize("name", SIMULATED)
def test_evidence_of_a_launcher_that_names_no_workload_is_taken(lab: Lab, tmp_path: Path, name: str) -> None:
    with serving(tmp_path, steward(Issuer(NOW))) as server:
        assert len(ask(server, of(lab, name, b"")).chain) == 2


@pytest.mark.parametrize("name", SIMULATED)
def test_evidence_for_another_workload_goes_nowhere(lab: Lab, tmp_path: Path, name: str) -> None:
    with serving(tmp_path, steward(Issuer(NOW))) as server:
        with pytest.raises(VerifyError, match=f"expected evidence for this workload, {WORKLOAD.hex()}") as caught:
            ask(server, of(lab, name, OTHER))
        assert server.asked == ["GET /v1/nonce"]
    assert caught.value.hint is not None
    with pytest.raises(VerifyError, match="expected evidence for this workload"):
        proven(of(lab, name, OTHER), WORKLOAD, [])


def test_a_workload_field_with_something_behind_the_digest_is_another(lab: Lab) -> None:
    with pytest.raises(VerifyError, match="expected evidence for this workload"):
        proven(of(lab, "tdx", WORKLOAD + b"\1"), WORKLOAD, [])


@pytest.mark.parametrize("name", SIMULATED)
def test_evidence_that_binds_another_key_goes_nowhere(lab: Lab, tmp_path: Path, name: str) -> None:
    stale = of(lab, name).collect(bytes(64))
    with serving(tmp_path, steward(Issuer(NOW))) as server:
        with pytest.raises(VerifyError, match=r"expected evidence that binds .*…, got 00000000"):
            ask(server, Fixed(name, stale))
        assert server.asked == ["GET /v1/nonce"]


@pytest.mark.parametrize("name", [*SIMULATED, "kvm"])
def test_evidence_that_is_none_is_this_machines_fault(name: str) -> None:
    with pytest.raises(PlatformError, match="this machine's evidence is none of "):
        proven(Fixed(name, b"garbage"), WORKLOAD, [])


@pytest.mark.parametrize("name", SIMULATED)
def test_without_a_steward_the_certificate_holds_the_evidence(lab: Lab, name: str) -> None:
    made = proven(of(lab, name), WORKLOAD, ["192.0.2.1"])
    assert made.expires is None
    leaf = x509.load_der_x509_certificate(made.certificate)
    kind = tee.load(name)
    extension = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(kind.OID))
    assert not extension.critical
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    evidence, collateral = kind.parse(extension.value.value)
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert kind.claimed(evidence)[0] == kind.key_binding(spki)
    report = kind.verify(evidence, collateral, trust(lab)[name].roots[-1], NOW)
    assert report.simulated
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == ("secp384r1" if name == "snp" else "secp256r1")
    leaf.verify_directly_issued_by(leaf)


# ---- what a Steward sends


def test_a_certificate_for_another_key_is_refused_by_name(lab: Lab, tmp_path: Path) -> None:
    issuer = Issuer(NOW)
    other = issuer.sign(ec.generate_private_key(ec.SECP256R1()).public_key()).public_bytes(Encoding.DER)

    def handle(method: str, target: str, _body: bytes) -> Answer:
        return nonce_answer() if method == "GET" else chain_answer(other, issuer.der)

    with serving(tmp_path, handle) as server, pytest.raises(VerifyError) as caught:
        ask(server, of(lab, "cca"))
    assert caught.value.message == (
        f"the Steward {server.url} sent a certificate that is none for this Keep: "
        "certificate[0]: expected a certificate for this Keep's key, got one for another key"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"life": timedelta(0)}, "expected one that is valid at 2026-06-01T12:00:00Z"),
        ({"start": timedelta(hours=1)}, "not yet valid"),
        ({"ca": True}, "expected a certificate that signs no others"),
        ({"uris": ("ni:///sha-256;" + "A" * 43,)}, "expected the workload 0001"),
        ({"signer": ec.generate_private_key(ec.SECP256R1())}, "expected a signature by the next certificate"),
    ],
    ids=["expired", "not yet valid", "an authority's", "another workload's", "signed by another"],
)
def test_a_certificate_that_is_none_for_this_keep_is_refused(
    lab: Lab, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    with serving(tmp_path, steward(Issuer(NOW), **changes)) as server, pytest.raises(VerifyError, match=text) as caught:
        ask(server, of(lab, "cca"))
    assert caught.value.exit_code == 4


def test_what_is_no_certificate_is_refused(lab: Lab, tmp_path: Path) -> None:
    def handle(method: str, target: str, _body: bytes) -> Answer:
        return nonce_answer() if method == "GET" else chain_answer(b"garbage", b"garbage")

    with serving(tmp_path, handle) as server, pytest.raises(ParseError, match="something else than certificates"):
        ask(server, of(lab, "cca"))


def test_each_identity_has_a_key_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, steward(Issuer())) as server:
        made = [ask(server, Kvm(), datetime.now(UTC)) for _ in range(2)]
    assert made[0].key_pem() != made[1].key_pem()


def test_keys_are_as_enarx_makes_them() -> None:
    curves = {name: attested.fresh_key(tee.load(name)).curve.name for name in tee.ALL}
    assert curves == {
        "snp": "secp384r1",
        "tdx": "secp256r1",
        "sgx": "secp256r1",
        "cca": "secp256r1",
        "kvm": "secp256r1",
    }
