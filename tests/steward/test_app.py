"""The service over HTTP: what Enarx's tests expect of it (E-STW), what is ours, and what hostile clients get."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from donjon.errors import PlatformError
from donjon.steward import app, authority, endorsement, nonce, result
from donjon.steward._openapi import document
from donjon.steward.authority import Authority
from donjon.steward.depot import Depot
from donjon.steward.policy import Policy, parse
from donjon.steward.procedure import Decision, Trust, vendor_trust
from donjon.steward.record import Record
from donjon.steward.request import MAX_BUNDLE, MAX_REQUEST
from donjon.steward.service import Service, Writer
from donjon.tee.contract import Roots
from donjon.wire.der import SEQUENCE, Der, encode
from tests.steward.asgi import Reply, call, call_async
from tests.steward.requests import NOW, REAL, SGX_AT, SNP_AT, Realm, kvm_request, new_key, request

LAX = "accept_unattested = true\n"
PROBLEM = "application/problem+json"


@dataclass
class World:
    """A Steward in memory, with its record on disk."""

    service: Service
    realm: Realm
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.public = app.public(self.service)
        self.admin = app.admin(self.service)
        self.service.clock = lambda: self.now

    def post(self, body: bytes, kind: str | None = app.PKCS10, target: str = "/", **options: Any) -> Reply:
        return call(self.public, "POST", target, body, kind=kind, **options)

    def ask(self, target: str, **members: object) -> Reply:
        return self.post(json.dumps(members).encode(), "application/json", target)

    def get(self, target: str) -> Reply:
        return call(self.public, "GET", target)

    def entries(self) -> list[dict[str, Any]]:
        with Record(self.service.writer.path, read_only=True) as book:
            book.verify()
            return [entry.fields for entry in book.read(limit=10_000)]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority.create(str(tmp_path_factory.mktemp("ca")), NOW)


@pytest.fixture(scope="module")
def realm() -> Realm:
    return Realm()


def make(tmp_path: Path, ca: Authority, realm: Realm, text: str = LAX) -> World:
    trust = {"kvm": Trust((Roots({}),)), **realm.trust}
    return World(Service(parse(text), trust, ca, Writer(Record(str(tmp_path / "record.sqlite")))), realm)


@pytest.fixture
def world(tmp_path: Path, ca: Authority, realm: Realm) -> Iterator[World]:
    made = make(tmp_path, ca, realm)
    yield made
    made.service.writer.close()


def certificates(body: bytes) -> list[x509.Certificate]:
    reader = Der(body, "path").sequence()
    found = []
    while reader.left:
        found.append(x509.load_der_x509_certificate(reader.whole(SEQUENCE, "certificate")))
    return found


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def own_authority(tmp_path: Path) -> Authority:
    """A self-signed one, as Enarx generates it for --host."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=365))
    builder = builder.add_extension(usage, True).add_extension(x509.BasicConstraints(True, 0), True)
    (tmp_path / "crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return authority.from_files(str(tmp_path / "key"), str(tmp_path / "crt"))


# Enarx's tests


@pytest.mark.parametrize("own", [False, True], ids=["our authority", "an authority from files"])
def test_e_stw_03_to_06_one_request_gets_issuer_and_leaf(
    tmp_path: Path, ca: Authority, realm: Realm, own: bool
) -> None:
    world = make(tmp_path, own_authority(tmp_path) if own else ca, realm)
    reply = world.post(kvm_request())
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    issuer, leaf = certificates(reply.body)
    assert issuer == world.service.authority.certificate
    leaf.verify_directly_issued_by(issuer)
    world.service.writer.close()


@pytest.mark.parametrize("count", [1, 5])
def test_e_stw_04_07_a_bundle_gets_as_many_as_it_has(world: World, count: int) -> None:
    requests = [kvm_request() for _ in range(count)]
    reply = world.post(encode(SEQUENCE, *requests), app.BUNDLE)
    assert reply.status == 200
    output = Der(reply.body, "output").sequence()
    chain, issued = certificates(output.whole(SEQUENCE, "chain")), certificates(output.whole(SEQUENCE, "issued"))
    assert chain == [world.service.authority.certificate]
    assert len({item.serial_number for item in issued}) == count
    assert len(world.entries()) == count


@pytest.mark.parametrize("kind", [app.PKCS10, app.BUNDLE])
def test_e_stw_08_to_10_a_request_without_evidence_is_401(world: World, kind: str) -> None:
    data = request()
    reply = world.post(data if kind == app.PKCS10 else encode(SEQUENCE, data), kind)
    assert reply.status == 401
    assert reply.json["type"] == "/v1/problems/unattested"
    assert reply.headers["www-authenticate"] == "Attestation"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (kvm_request(), None),
        (encode(SEQUENCE, kvm_request()), None),
        (kvm_request(), "application/octet-stream"),
        (b"", app.PKCS10),
        (b"\1\2\3\4", app.PKCS10),
        (b"", app.BUNDLE),
        (b"\1\2\3\4", app.BUNDLE),
        (encode(SEQUENCE), app.BUNDLE),
        (encode(SEQUENCE, kvm_request(), b"\x30\0"), app.BUNDLE),
        (kvm_request()[:-1] + bytes([kvm_request()[-1] ^ 1]), app.PKCS10),
    ],
)
def test_e_stw_11_to_15_what_is_malformed_is_400(world: World, body: bytes, kind: str | None) -> None:
    reply = world.post(body, kind)
    assert reply.status == 400
    assert reply.headers["content-type"] == PROBLEM


def test_a_changed_signature_is_400(world: World) -> None:
    data = bytearray(kvm_request())
    data[-1] ^= 1
    assert world.post(bytes(data)).status == 400


def test_refused_evidence_is_400_with_the_reasons(tmp_path: Path, ca: Authority, realm: Realm) -> None:
    world = make(tmp_path, ca, realm, "")
    reply = world.post(kvm_request())
    assert reply.status == 400
    assert reply.json["type"] == "/v1/problems/refused"
    assert reply.json["detail"].startswith("evidence.attested: expected evidence of real hardware")
    assert [check["name"] for check in reply.json["checks"] if check["outcome"] == "failed"] == ["evidence.attested"]
    world.service.writer.close()


@pytest.mark.parametrize(
    ("name", "when", "status", "failed"),
    [
        ("snp", SNP_AT, 200, set()),
        ("snp", datetime(2022, 9, 1, tzinfo=UTC), 400, {"chain.vek_validity"}),
        ("snp", datetime(2023, 6, 1, tzinfo=UTC), 400, {"crl.validity"}),
        ("xeon", SGX_AT, 400, {"qe_identity.present"}),
        ("i5", SGX_AT, 400, {"qe_identity.present"}),
    ],
)
def test_real_keeps_of_enarx_get_the_answers_that_the_vectors_expect(
    tmp_path: Path, realm: Realm, name: str, when: datetime, status: int, failed: set[str]
) -> None:
    ca = authority.create(str(tmp_path / "ca"), when)
    text = '[snp]\nproducts = ["Milan"]\ntcb_floor = "none"\n'
    world = World(
        Service(parse(text), vendor_trust(), ca, Writer(Record(str(tmp_path / "record.sqlite")))), realm, when
    )
    reply = world.post(REAL[name].read_bytes())
    assert reply.status == status
    if status == 200:
        issuer, leaf = certificates(reply.body)
        leaf.verify_directly_issued_by(issuer)
        key = x509.load_der_x509_csr(REAL[name].read_bytes()).public_key()
        assert leaf.public_key() == key
        assert result.MARKERS not in {item.oid.dotted_string for item in leaf.extensions}
    else:
        assert {check["name"] for check in reply.json["checks"] if check["outcome"] == "failed"} == failed
    (entry,) = world.entries()
    assert entry["verdict"] == ("accepted" if status == 200 else "refused")
    world.service.writer.close()


def test_a_bundle_of_rubbish_fills_the_record_with_one_entry(world: World) -> None:
    """66 bytes that anybody can send must not become 20 KB that are kept for ever."""
    assert world.post(encode(SEQUENCE, *[b"\x30\x00"] * 32), app.BUNDLE).status == 400
    assert len(world.entries()) == 1


def test_one_bad_request_spoils_a_bundle(world: World) -> None:
    assert world.post(encode(SEQUENCE, kvm_request(), request()), app.BUNDLE).status == 401
    assert [entry["verdict"] for entry in world.entries()] == ["accepted", "refused"]
    assert all("serial" not in entry for entry in world.entries())


def test_takes_a_content_type_with_parameters_and_capitals(world: World) -> None:
    assert world.post(kvm_request(), "Application/PKCS10; charset=utf-8").status == 200


def test_is_there(world: World) -> None:
    reply = world.get("/")
    assert (reply.status, reply.body) == (200, b"")
    assert call(world.public, "HEAD", "/").status == 200


# Ours


def test_attests_evidence_that_binds_a_nonce(world: World) -> None:
    given = world.get("/v1/nonce").json
    value = base64.urlsafe_b64decode(given["nonce"] + "==")
    assert given["expires"] == "2026-06-01T12:05:00Z"
    data = world.realm.request(lambda key: nonce.binding(value, key))
    reply = world.ask("/v1/attest", request=b64(data), nonce=given["nonce"])
    assert reply.status == 200
    found = reply.json
    chain = [x509.load_der_x509_certificate(base64.b64decode(item)) for item in found["chain"]]
    assert chain == [chain[0], world.service.authority.certificate]
    chain[0].verify_directly_issued_by(chain[1])
    assert f"{chain[0].serial_number:032x}" == found["serial"]
    assert found["markers"] == ["simulated"]
    assert "evidence of unknown age: no nonce" not in found["notes"]
    assert found["record"]["entry"] == 1


def test_a_nonce_ends_after_five_minutes(world: World) -> None:
    given = world.get("/v1/nonce").json["nonce"]
    value = base64.urlsafe_b64decode(given + "==")
    data = world.realm.request(lambda key: nonce.binding(value, key))
    world.now += timedelta(seconds=301)
    reply = world.ask("/v1/attest", request=b64(data), nonce=given)
    assert reply.status == 403
    assert reply.json["detail"].startswith("nonce.age: ")


def test_another_steward_of_the_same_authority_knows_the_nonce(
    tmp_path: Path, world: World, ca: Authority, realm: Realm
) -> None:
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other", ca, realm)
    given = other.get("/v1/nonce").json["nonce"]
    value = base64.urlsafe_b64decode(given + "==")
    data = world.realm.request(lambda key: nonce.binding(value, key))
    assert world.ask("/v1/attest", request=b64(data), nonce=given).status == 200
    other.service.writer.close()


@pytest.mark.parametrize(
    ("data", "status"), [(b"", 400), (request(), 401), (request(("1.3.6.1.4.1.58270.1.1", b"x")), 403)]
)
def test_says_with_a_status_what_can_be_done(world: World, data: bytes, status: int) -> None:
    assert world.ask("/v1/attest", request=b64(data)).status == status


def test_tells_what_it_would_decide_and_issues_nothing(world: World) -> None:
    reply = world.ask("/v1/verdict", request=b64(kvm_request()))
    assert reply.status == 200
    assert reply.json["accepted"] is True
    (entry,) = world.entries()
    assert entry["asked"] == "verdict"
    assert "serial" not in entry
    refused = world.ask("/v1/verdict", request=b64(world.realm.request(lambda _: bytes(64))))
    assert refused.status == 200
    assert refused.json["accepted"] is False
    assert world.ask("/v1/verdict", request=b64(request())).status == 401


def test_says_whom_to_trust_and_what_it_accepts(world: World) -> None:
    found = world.get("/v1/trust-anchors").json
    assert [x509.load_pem_x509_certificate(item.encode()) for item in found["anchors"]] == [
        world.service.authority.anchor
    ]
    assert found["accept_unattested"] is True
    assert found["simulated"] == ["cca"]
    assert found["policy"] == parse(LAX).digest.hex()


def test_shows_the_entry_of_a_certificate(world: World) -> None:
    serial = world.ask("/v1/attest", request=b64(kvm_request())).json["serial"]
    found = world.get(f"/v1/record/{serial}").json
    assert json.loads(found["body"])["serial"] == serial
    assert world.get("/v1/record").json == {"entries": 1, "hash": found["hash"]}
    assert world.get(f"/v1/record/{'0' * 32}").status == 404
    assert world.get("/v1/record/abc").status == 400


def test_the_record_is_on_disk_before_the_answer_leaves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = world.post(kvm_request())
    leaf = certificates(reply.body)[1]
    assert [entry["serial"] for entry in world.entries()] == [f"{leaf.serial_number:032x}"]

    def broken(self: Record, entries: object) -> None:
        raise PlatformError("no space left")

    monkeypatch.setattr(Record, "append", broken)
    reply = world.post(kvm_request())
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert "space" not in reply.json["detail"]
    ready = call(world.admin, "GET", "/readyz")
    assert (ready.status, ready.json["problems"]) == (503, {"record": "no space left"})


def test_issues_nothing_when_its_own_certificate_has_ended(world: World) -> None:
    world.now = world.service.authority.not_after
    assert world.post(kvm_request()).status == 503
    assert "authority" in call(world.admin, "GET", "/readyz").json["problems"]


def test_is_busy_when_too_many_wait_for_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.steward.service.MAX_WAITING", 0)
    reply = world.post(kvm_request())
    assert (reply.status, reply.json["type"]) == (503, "/v1/problems/busy")


def test_many_at_once_get_an_entry_each(world: World) -> None:
    async def many() -> list[Reply]:
        calls = (call_async(world.public, "POST", "/", kvm_request(), kind=app.PKCS10) for _ in range(50))
        return list(await asyncio.gather(*calls))

    replies = asyncio.run(many())
    issued = {f"{certificates(reply.body)[1].serial_number:032x}" for reply in replies}
    assert {entry["serial"] for entry in world.entries()} == issued
    assert len(issued) == 50


def test_explains_its_problems(world: World) -> None:
    for kind in app.PROBLEMS:
        assert world.get(f"/v1/problems/{kind}").status == 200
    assert world.get("/v1/problems/other").status == 404


# For operators


def test_operators_see_that_it_lives_and_what_it_accepts(world: World) -> None:
    assert call(world.admin, "GET", "/livez").body == b"ok\n"
    reply = call(world.admin, "GET", "/readyz")
    assert reply.status == 200
    assert reply.json["accept_unattested"] is True
    world.service.draining = True
    assert call(world.admin, "GET", "/readyz").status == 503


def test_operators_count(world: World) -> None:
    world.post(kvm_request())
    world.post(request())
    text = call(world.admin, "GET", "/metrics").body.decode()
    assert 'donjon_steward_certificates_total{tee="kvm",marked="unprotected"} 1\n' in text
    assert 'donjon_steward_decisions_total{tee="none",verdict="refused",check="request.evidence"} 1\n' in text
    assert 'donjon_steward_requests_total{route="/",status="401"} 1\n' in text
    assert 'donjon_steward_decision_seconds_bucket{tee="kvm",le="+Inf"} 1\n' in text
    assert "donjon_steward_record_entries 2\n" in text
    assert "donjon_steward_accept_unattested 1\n" in text
    line = re.compile(r'(# (HELP|TYPE) .+|[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+)')
    assert all(line.fullmatch(item) for item in text.splitlines())


def test_operators_read_the_record(world: World) -> None:
    for _ in range(3):
        world.post(kvm_request())
    found = call(world.admin, "GET", "/v1/record?after=1&limit=1").json["entries"]
    assert [item["entry"] for item in found] == [2]
    assert call(world.admin, "GET", "/v1/record?after=x").status == 400


def test_what_is_for_operators_is_not_for_others(world: World) -> None:
    for target in ("/livez", "/readyz", "/metrics"):
        assert world.get(target).status == 404


# Hostile clients


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"request": "", "other": 1}', 400),
        (b'{"request": 1}', 400),
        (b'{"request": "*"}', 400),
        (b'{"request": "AA==", "request": "AA=="}', 400),
        (b'{"request": NaN}', 400),
        (b'{"request": "AA==", "nonce": "AA"}', 400),
        (b'{"request": "AA==", "nonce": 7}', 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"request": "' + b"A" * app.MAX_JSON + b'"}', 413),
    ],
)
def test_refuses_json(world: World, body: bytes, status: int) -> None:
    reply = world.post(body, "application/json", "/v1/attest")
    assert reply.status == status
    assert reply.headers["content-type"] == PROBLEM


def test_refuses_another_type_than_json(world: World) -> None:
    assert world.post(b"{}", "text/plain", "/v1/attest").status == 415


@pytest.mark.parametrize(("kind", "most"), [(app.PKCS10, MAX_REQUEST), (app.BUNDLE, MAX_BUNDLE)])
def test_refuses_what_is_too_long_before_reading_it(world: World, kind: str, most: int) -> None:
    assert world.post(b"x", kind, length=str(most + 1)).status == 413
    assert world.post(b"x", kind, length="-1").status == 413
    assert world.post(b"x", kind, length="9" * 5000).status == 413
    parts = [bytes(65536)] * (most // 65536 + 1)
    assert call(world.public, "POST", "/", parts, kind=kind).status == 413


def test_refuses_a_body_that_does_not_arrive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.05)
    assert call(world.public, "POST", "/", [], kind=app.PKCS10).status == 408


def test_a_client_that_goes_away_disturbs_nobody(world: World) -> None:
    assert world.post(b"abc", stop=True).status == 400
    assert world.entries() == []


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/nonce/", 404), ("PUT", "/", 405), ("POST", "/v1/nonce", 405)],
)
def test_unknown_paths_and_methods_are_problems_too(world: World, method: str, target: str, status: int) -> None:
    reply = call(world.public, method, target)
    assert (reply.status, reply.headers["content-type"]) == (status, PROBLEM)


def test_speaks_no_websocket(world: World) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(world.public({"type": "websocket", "path": "/"}, receive, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_mistake_of_ours_shows_no_traceback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("donjon.steward.service.decide", broken)
    reply = world.post(kvm_request())
    assert reply.status == 500
    assert b"secret" not in reply.body


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([app.PKCS10, app.BUNDLE]))
def test_any_body_gets_an_answer_below_500(body: bytes, kind: str) -> None:
    assert SHARED.post(body, kind).status in (200, 400, 401)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 10_000))
def test_any_change_of_good_evidence_gets_no_certificate(at: int, bits: int, cut: int) -> None:
    changed = bytearray(GOOD)
    changed[at % len(GOOD)] ^= bits
    assert SHARED.post(bytes(changed)).status == 400
    assert SHARED.post(GOOD[: cut % len(GOOD)]).status == 400


@pytest.fixture(scope="module", autouse=True)
def shared(tmp_path_factory: pytest.TempPathFactory, ca: Authority, realm: Realm) -> Iterator[None]:
    """Hypothesis runs one test many times: these share a Steward."""
    global SHARED, GOOD
    SHARED, GOOD = make(tmp_path_factory.mktemp("shared"), ca, realm), realm.request()
    assert SHARED.post(GOOD).status == 200
    yield
    SHARED.service.writer.close()


SHARED: World
GOOD: bytes


# The document


def test_the_document_has_every_route_and_every_reference_leads_somewhere() -> None:
    found = document()
    paths = {(path, method.upper()) for path, item in found["paths"].items() for method in item}
    assert paths == {
        ("/", "GET"), ("/", "POST"), ("/v1/nonce", "GET"), ("/v1/attest", "POST"), ("/v1/verdict", "POST"),
        ("/v1/trust-anchors", "GET"), ("/v1/record", "GET"), ("/v1/record/{serial}", "GET"),
        ("/v1/problems/{kind}", "GET"), ("/v1/openapi.json", "GET"),
    }  # fmt: skip
    names = set(re.findall(r'#/components/schemas/(\w+)"', json.dumps(found)))
    assert names == set(found["components"]["schemas"])


def fits(schema: dict[str, Any], value: Any, schemas: dict[str, Any]) -> bool:
    """Whether a value is of a schema, as far as this document uses schemas."""
    if "$ref" in schema:
        return fits(schemas[schema["$ref"].rpartition("/")[2]], value, schemas)
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, type] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(fits(schema["items"], item, schemas) for item in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(known) and all(
            fits(known[name], item, schemas) for name, item in value.items()
        )
    return re.search(schema.get("pattern", ""), str(value)) is not None


def test_answers_are_what_the_document_says(world: World) -> None:
    found = document()
    schemas = found["components"]["schemas"]
    good, bad = b64(kvm_request()), b64(world.realm.request(lambda _: bytes(64)))
    replies = {
        ("/v1/nonce", "get"): [world.get("/v1/nonce")],
        ("/v1/attest", "post"): [world.ask("/v1/attest", request=item) for item in (good, bad, "")],
        ("/v1/verdict", "post"): [world.ask("/v1/verdict", request=item) for item in (good, bad, "")],
        ("/v1/trust-anchors", "get"): [world.get("/v1/trust-anchors")],
        ("/v1/record", "get"): [world.get("/v1/record")],
    }
    for (path, method), answers in replies.items():
        for reply in answers:
            about = found["paths"][path][method]["responses"][str(reply.status)]["content"]
            schema = about[reply.headers["content-type"]]["schema"]
            assert fits(schema, reply.json, schemas), (path, reply.status, reply.body)
    assert world.get("/v1/openapi.json").json == found


def test_every_way_to_fail_is_in_the_document(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = document()
    serial = world.ask("/v1/attest", request=b64(kvm_request())).json["serial"]

    def said(path: str, method: str, reply: Reply) -> int:
        about = found["paths"][path][method]["responses"][str(reply.status)]["content"]
        schema = about[reply.headers["content-type"].partition(";")[0]]["schema"]
        text = reply.headers["content-type"].startswith("text/")
        assert text or fits(schema, reply.json, found["components"]["schemas"]), (path, reply.body)
        return reply.status

    entry = "/v1/record/{serial}"
    assert [
        said("/", "post", world.post(b"", "text/plain")),
        said("/", "post", world.post(request())),
        said("/", "post", world.post(b"", length=str(MAX_REQUEST + 1))),
        said("/v1/attest", "post", world.ask("/v1/attest", request=b64(request()))),
        said("/v1/attest", "post", world.post(b"", "application/json", "/v1/attest", length=str(app.MAX_JSON + 1))),
        said("/v1/verdict", "post", world.post(b"{}", "text/plain", "/v1/verdict")),
        said(entry, "get", world.get(f"/v1/record/{serial}")),
        said(entry, "get", world.get("/v1/record/x")),
        said(entry, "get", world.get(f"/v1/record/{'0' * 32}")),
        said("/v1/problems/{kind}", "get", world.get("/v1/problems/busy")),
        said("/v1/problems/{kind}", "get", world.get("/v1/problems/none")),
    ] == [400, 401, 413, 401, 413, 415, 200, 400, 404, 200, 404]

    def broken(*_: object) -> None:
        raise PlatformError("no disk")

    for name in ("append", "head", "of_serial"):
        monkeypatch.setattr(Record, name, broken)
    assert {
        said("/", "post", world.post(kvm_request())),
        said("/v1/attest", "post", world.ask("/v1/attest", request=b64(kvm_request()))),
        said("/v1/record", "get", world.get("/v1/record")),
        said(entry, "get", world.get(f"/v1/record/{serial}")),
    } == {503}
    monkeypatch.setattr(Service, "attest", lambda *_, **__: 1 / 0)
    assert said("/", "post", world.post(kvm_request())) == 500
    assert said("/v1/verdict", "post", world.ask("/v1/verdict", request=b64(kvm_request()))) == 500


# What speaks for a workload, and what vendors have


def test_a_package_and_a_statement_come_with_a_request(tmp_path: Path, ca: Authority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    package = "ab" * 32
    descriptor = json.dumps({"args": [], "env": {}, "package": package, "roots": {}}).encode()
    launch = hashlib.sha256(endorsement.DESCRIPTOR_DOMAIN + descriptor).digest()
    realm = Realm(launch)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    statement = json.loads(endorsement.make(launch, key, NOW + timedelta(days=36500)))
    cases: list[tuple[str, dict[str, object]]] = [
        (f'package = ["{package}"]', {"descriptor": b64(descriptor)}),
        (f"signers = [{json.dumps(public)}]", {"endorsements": [statement]}),
    ]
    entries: list[dict[str, Any]] = []
    for line, more in cases:
        world = make(tmp_path, ca, realm, f'{LAX}[[workload]]\n{line}\nnames = ["a.example.com"]\n')
        asked = b64(realm.request())
        assert world.ask("/v1/attest", request=asked).status == 403
        reply = world.ask("/v1/attest", request=asked, **more)
        assert reply.status == 200, reply.json
        leaf = x509.load_der_x509_certificate(base64.b64decode(reply.json["chain"][0]))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["a.example.com"]
        cmw = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(result.CMW)).value
        assert isinstance(cmw, x509.UnrecognizedExtension)
        entries.append(result.read_cmw(cmw.value)["submods"]["cca"]["ear_attester_claims"])
        entries.append(world.entries()[-1])
        world.service.writer.close()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signer = hashlib.sha256(spki).hexdigest()
    assert [entry.get("workload_signer", entry.get("signer")) for entry in entries] == [None, None, signer, signer]


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"descriptor": 1}, "descriptor: expected base64"),
        ({"descriptor": "*"}, "descriptor: expected base64"),
        ({"endorsements": {}}, "endorsements: expected a list of at most 8"),
        ({"endorsements": [{}] * 9}, "endorsements: expected a list of at most 8"),
        ({"endorsements": ["x"]}, "endorsements: expected objects"),
        ({"endorsements": [{}]}, "expected a DSSE envelope"),
        ({"endorsement": []}, "expected an object with request"),
    ],
)
def test_what_speaks_for_a_workload_has_its_form(world: World, more: dict[str, Any], detail: str) -> None:
    reply = world.ask("/v1/verdict", request=b64(kvm_request()), **more)
    assert reply.status == 400
    assert detail in reply.json["detail"]


def test_what_a_vendor_has_not_answered_yet_is_no_refusal_for_ever(world: World) -> None:
    class Waiting(Depot):
        async def settle(self, judge: Any, *_: object) -> tuple[Decision, bool]:
            return judge(self.base), True

    service = world.service
    service.depot = Waiting(None, service.trust, Policy().collateral, None, metrics=service.metrics)
    service.policy = parse("")
    reply = world.post(kvm_request())
    assert reply.status == 503
    assert reply.json["type"] == "/v1/problems/collateral"
    assert reply.headers["retry-after"]
    assert world.entries()[-1]["verdict"] == "refused"
    assert call(world.public, "GET", reply.json["type"]).status == 200
    metrics = call(world.admin, "GET", "/metrics").body.decode()
    assert "donjon_steward_collateral_pieces 0" in metrics
    service.depot.floor = datetime.max.replace(tzinfo=UTC)
    assert world.post(kvm_request()).status == 503
    ready = call(world.admin, "GET", "/readyz")
    assert ready.status == 503
    assert ready.json["problems"] == {"clock": "it stands before what vendors have signed"}


def test_an_unknown_method_is_told_which_ones_there_are(world: World) -> None:
    reply = call(world.public, "PUT", "/v1/attest")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert "allow" not in call(world.public, "GET", "/nothing").headers
