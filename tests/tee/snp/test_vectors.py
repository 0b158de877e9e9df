"""Evidence of real hardware is judged as `tests/vectors/snp/expected.json` says, at its own time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha384
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.errors import ParseError
from donjon.tee import snp
from donjon.tee.contract import Checks, Demands, EvidenceError, Verdict, VerifiedReport, appraise
from donjon.tee.snp.layout import Product, Tcb, read_report
from donjon.tee.snp.vek import read_vek
from donjon.tee.snp.verify import check_not_revoked
from donjon.tee.snp.x509 import read_certificate, read_crl

ROOT = Path(__file__).parents[2] / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((ROOT / "snp/expected.json").read_text())["vectors"]
EVIDENCE = [vector for vector in VECTORS if "kind" not in vector]

# What `strict` means in expected.json: no debugging, no migration; nothing else, so what our defaults ask beyond it
# (a tier for Milan, lowest version numbers, a revocation list) is named here.
STRICT = {"products": ["Milan", "Genoa", "Turin"], "tcb_floor": "none", "crl": "if given"}


def named(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["id"] for vector in vectors])


def files(vector: dict[str, Any]) -> dict[str, bytes]:
    return {name: (ROOT / path).read_bytes() for name, path in vector["files"].items()}


def pieces(vector: dict[str, Any]) -> tuple[snp.Evidence, snp.Collateral]:
    data = files(vector)
    crls = [data["crl"]] if "crl" in data else []
    return snp.assemble(data["report"], [data["vek"], data["ask"], data["ark"]], crls)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def times() -> Iterator[Any]:
    for vector in EVIDENCE:
        yield pytest.param(vector, vector["judge_at"], vector["authentic"], id=vector["id"])
        for also in vector.get("also", []):
            yield pytest.param(vector, also["at"], also["authentic"], id=f"{vector['id']} at {also['at'][:10]}")


@pytest.mark.parametrize(("vector", "when", "authentic"), list(times()))
def test_is_genuine_when_it_should_be(vector: dict[str, Any], when: str, authentic: bool) -> None:
    def judge() -> VerifiedReport[snp.Genuine]:
        return snp.verify(*pieces(vector), snp.vendor_roots(), at(when))

    if not authentic:
        with pytest.raises((ParseError, EvidenceError)):
            judge()
        return
    report = judge()
    assert [report.valid_from, report.valid_until] == [at(text) for text in vector["window"]]
    assert (report.product, report.simulated, report.protected) == (vector["cpu"], False, True)


# The reason that expected.json gives, as our checks have it.
REASONS = {
    "cert_not_yet_valid": {"chain.vek_validity"},
    "cert_expired": {"chain.vek_validity"},
    "crl_expired": {"crl.validity"},
    "chain_untrusted": {"chain.vek_signature", "chain.sent"},
    "report_signature": {"report.signature"},
}


@pytest.mark.parametrize(("vector", "when", "authentic"), list(times()))
def test_is_refused_for_the_reason_that_is_expected(vector: dict[str, Any], when: str, authentic: bool) -> None:
    if authentic:
        return
    outcomes = {vector["judge_at"]: vector["failure"], **{o["at"]: o["failure"] for o in vector.get("also", [])}}
    verdict = appraise(snp, lambda: snp.verify(*pieces(vector), snp.vendor_roots(), at(when)), snp.Policy(), Demands())
    assert verdict.failure is not None
    assert verdict.report is None
    if outcomes[when] == "format":
        assert verdict.failure.name == "evidence.format"
    else:
        failed = {check.name for check in verdict.checks if check.outcome == "failed"}
        assert failed & REASONS[outcomes[when]]


def strict(vector: dict[str, Any], **more: object) -> Verdict:
    policy = snp.Policy.read({**STRICT, **more}, "[snp]")
    when = at(vector["judge_at"])
    return appraise(snp, lambda: snp.verify(*pieces(vector), snp.vendor_roots(), when), policy, Demands())


@named(EVIDENCE)
def test_is_acceptable_when_it_should_be(vector: dict[str, Any]) -> None:
    wanted = vector["strict"]
    if wanted.startswith("accept(vmpl 1"):
        assert strict(vector, vmpl=[0, 1]).accepted
        verdict = strict(vector)
        assert verdict.failure is not None
        assert str(verdict.failure) == "policy.vmpl: expected one of 0, got 1"
    elif wanted == "accept":
        assert strict(vector).accepted
    else:
        verdict = strict(vector)
        assert not verdict.accepted
        if wanted == "reject:debug_enabled":
            assert [check.name for check in verdict.checks if check.outcome == "failed"] == ["policy.allow_debug"]


def test_debugging_passes_only_by_name_and_is_said() -> None:
    (vector,) = [vector for vector in EVIDENCE if vector["id"] == "snp/neg-debug-policy-milan"]
    verdict = strict(vector, allow_debug=True)
    assert verdict.accepted
    assert "the host can read and change this guest" in verdict.notes


@named([vector for vector in EVIDENCE if vector["authentic"]])
def test_safe_defaults_refuse_only_what_they_ask_for(vector: dict[str, Any]) -> None:
    when = at(vector["judge_at"])
    verdict = appraise(snp, lambda: snp.verify(*pieces(vector), snp.vendor_roots(), when), snp.Policy(), Demands())
    failed = {check.name for check in verdict.checks if check.outcome == "failed"}
    expected = set()
    if vector["cpu"] == "Milan":
        expected.add("policy.products")
    if "crl" not in vector["files"]:
        expected.add("policy.crl")
    if vector["id"] in {"snp/steward-milan-v2", "snp/trustee-milan-v2", "snp/neg-debug-policy-milan"}:
        expected |= {f"tcb.{which}_minimum" for which in ("reported", "committed", "current", "launch")}
    if vector["id"] == "snp/trustee-milan-vlek-v3":
        expected |= {"tcb.reported_minimum", "policy.vmpl"}
    if vector["id"] == "snp/neg-debug-policy-milan":
        expected.add("policy.allow_debug")
    assert failed == expected


@named([vector for vector in EVIDENCE if "facts" in vector and vector["failure"] != "format"])
def test_reads_what_is_in_the_report(vector: dict[str, Any]) -> None:
    facts, report = vector["facts"], read_report(files(vector)["report"])
    head, guest, platform = report.head, report.guest, report.platform
    assert (head.version, head.guest_svn, head.vmpl) == (facts["version"], facts["guest_svn"], facts["vmpl"])
    assert int(head.policy) == int(facts["policy_raw"], 16)
    assert int(head.platform_info) == int(facts["platform_info_raw"], 16)
    assert head.policy.abi == (facts["policy"]["abi_major"], facts["policy"]["abi_minor"])
    for name in ("family_id", "image_id"):
        assert getattr(head, name).hex() == facts[name]
    for name in ("report_data", "measurement", "host_data", "id_key_digest", "author_key_digest", "report_id"):
        assert getattr(guest, name).hex() == facts[name]
    assert (guest.report_id_ma.hex(), platform.chip_id.hex()) == (facts["report_id_ma"], facts["chip_id"])
    product = Product[facts["product"]]
    for name, data in (
        ("reported_tcb", guest.reported_tcb),
        ("current_tcb", head.current_tcb),
        ("committed_tcb", platform.committed_tcb),
        ("launch_tcb", platform.launch_tcb),
    ):
        parts = Tcb.read(data, product).parts()
        assert parts == {part: facts[name][part] for part in parts}
        assert data.hex() == facts[name]["raw"]
        assert Tcb.read(data, product).write() == data
    for name, version in (("current_version", report.current_version), ("committed_version", report.committed_version)):
        assert version == tuple(facts[name][part] for part in ("major", "minor", "build"))
    if "cpuid" in facts:
        assert report.cpuid is not None
        found = {name: getattr(report.cpuid, name) for name in ("family", "model", "stepping")}
        assert found == {name: int(str(value), 0) for name, value in facts["cpuid"].items()}
        assert Product.of_cpuid(report.cpuid) is product
    if "launch_mit_vector" in facts:
        assert report.mitigations is not None
        assert report.mitigations.launch_mit_vector == int(facts["launch_mit_vector"], 16)


@named([vector for vector in EVIDENCE if "cert_facts" in vector])
def test_reads_what_is_in_the_certificate(vector: dict[str, Any]) -> None:
    facts, vek = vector["cert_facts"], read_vek(files(vector)["vek"])
    assert (vek.struct_version, vek.product_name) == (facts["struct_version"], facts["product_name"])
    names = {"bootloader": "bl", "tee": "tee", "snp": "snp", "microcode": "ucode", "fmc": "fmc"}
    assert vek.tcb.parts() == {part: facts[f"{names[part]}_spl"] for part in vek.tcb.parts()}
    assert vek.csp_id == facts.get("csp_id")
    if facts.get("hw_id") is not None and vek.hw_id is not None:
        assert vek.hw_id.hex() in facts["hw_id"]


def test_amd_has_revoked_its_first_ask_of_genoa() -> None:
    (vector,) = [vector for vector in VECTORS if vector.get("kind") == "crl_check"]
    data = files(vector)
    checks = Checks("snp")
    ark, old = read_certificate(data["issuer"]), read_certificate(data["certificate"])
    check_not_revoked(checks, (old,), ark, snp.Collateral(crls=(data["crl"],)), at(vector["judge_at"]))
    assert checks.passed("crl.signature")
    assert checks.passed("crl.validity")
    (failure,) = [check for check in checks.all if check.outcome == "failed"]
    assert str(failure) == "crl.revoked: expected none of the chain, got SEV-Genoa 0x20001"
    assert data["certificate"] not in snp.vendor_roots().anchors.values()


def test_the_request_of_an_enarx_keep_carries_evidence_and_binds_its_key() -> None:
    (vector,) = [vector for vector in EVIDENCE if "request" in vector["files"]]
    data = files(vector)
    request = x509.load_der_x509_csr(data["request"])
    (extension,) = [item for item in request.extensions if item.oid.dotted_string == snp.OID]
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    evidence, collateral = snp.parse(extension.value.value)
    assert evidence.vek
    assert evidence.vek.certificate.encoded == data["vek"]
    assert data["crl"] in collateral.crls
    report = snp.verify(evidence, collateral, snp.vendor_roots(), at(vector["judge_at"]))
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert sha384(spki).hexdigest() == vector["csr"]["spki_sha384"]
    assert snp.key_binding(spki) == report.report_data
    with pytest.raises(EvidenceError, match=r"crl.validity"):
        snp.verify(evidence, collateral, snp.vendor_roots(), at("2023-06-01T00:00:00Z"))
    with pytest.raises(EvidenceError, match=r"chain.vek_validity"):
        snp.verify(evidence, collateral, snp.vendor_roots(), at("2022-09-01T00:00:00Z"))


def test_enarx_evidence_is_written_as_it_is_read() -> None:
    (vector,) = [vector for vector in EVIDENCE if "request" in vector["files"]]
    data = files(vector)
    urls = [f"https://kdsintf.amd.com/vcek/v1/{product}/crl" for product in ("Genoa", "Milan")]
    genoa = (ROOT / "snp/crl-genoa-revokes-old-ask/crl.der").read_bytes()
    written = snp.encode(data["report"], data["vek"], zip(urls, (genoa, data["crl"]), strict=True))
    assert written in data["request"]


# What cryptography makes of the same bytes: the oracle, and the canary.


def others() -> list[dict[str, Any]]:
    return [vector for vector in EVIDENCE if "vek" in vector["files"]]


@named(others())
def test_certificates_are_read_as_cryptography_reads_them(vector: dict[str, Any]) -> None:
    for name in ("vek", "ask", "ark"):
        data = files(vector)[name]
        ours = read_certificate(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = x509.load_der_x509_certificate(data)
            serial = theirs.serial_number
        assert ours.serial == serial
        assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
        assert ours.tbs == theirs.tbs_certificate_bytes
        assert ours.signature == theirs.signature
        assert ours.subject.encoded == theirs.subject.public_bytes()
        assert ours.issuer.encoded == theirs.issuer.public_bytes()
        assert set(ours.extensions) == {item.oid.dotted_string for item in theirs.extensions}


@named([vector for vector in VECTORS if "crl" in vector["files"]])
def test_revocation_lists_are_read_as_cryptography_reads_them(vector: dict[str, Any]) -> None:
    ours = read_crl(files(vector)["crl"])
    theirs = x509.load_der_x509_crl(files(vector)["crl"])
    assert ours.tbs == theirs.tbs_certlist_bytes
    assert (ours.this_update, ours.next_update) == (theirs.last_update_utc, theirs.next_update_utc)
    assert ours.revoked == {item.serial_number for item in theirs}


def test_canary_cryptography_still_reads_certificates_with_serial_number_0() -> None:
    # When this fails, nothing of ours is broken: verification does not use it. But the comparisons above have to go,
    # and whoever reads VCEKs with cryptography elsewhere has to stop.
    (vector,) = [vector for vector in EVIDENCE if vector["id"] == "snp/ms-turin-v5"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert x509.load_der_x509_certificate(files(vector)["vek"]).serial_number == 0
