"""Every vector of SGX and TDX judges as its entry says, at each of its times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from donjon import tee
from donjon.errors import ParseError
from donjon.tee.contract import Checks, Demands, EvidenceError, Outcome, appraise
from donjon.tee.intel import vendor_roots
from donjon.tee.intel.collateral import Collateral, join
from donjon.tee.intel.verify import Findings
from tests.tee.intel.vectors import ALL, EVIDENCE, Vector, named

# Which of our checks says what an entry calls its `failure`. Others may fail before it: what counts is that this one
# does, or for "format" that nothing is parsed.
FAILURES = {
    "attestation_key_binding": {"qe.key"},
    "cert_not_yet_valid": {"pck.validity"},
    "cert_type_unsupported": {"quote.certification_type"},
    "crl_expired": {"pck_crl.validity", "root_ca_crl.validity"},
    "crl_not_yet_valid": {"pck_crl.validity", "root_ca_crl.validity"},
    "fmspc_mismatch": {"tcb_info.fmspc"},
    "qe_identity_wrong_tee": {"qe_identity.id"},
    "qe_report_signature": {"qe.signature"},
    "quote_signature": {"quote.signature"},
    "tcb_info_signature": {"tcb_info.signature"},
}


def examine(vector: Vector, now: datetime) -> tuple[Checks, Findings]:
    module: Any = tee.load(vector.tee)
    checks = Checks(vector.tee)
    evidence, _ = module.parse(vector.read("quote"))
    return checks, module.examine(checks, evidence, vector.collateral, vendor_roots(), now)


def failed(checks: Checks) -> set[str]:
    return {check.name for check in checks.all if check.outcome is Outcome.FAILED}


@pytest.mark.parametrize(
    ("vector", "judgement"), EVIDENCE, ids=lambda value: str(value) if isinstance(value, Vector) else value["at"]
)
def test_authenticity_is_as_the_entry_says(vector: Vector, judgement: dict[str, Any]) -> None:
    now = datetime.fromisoformat(judgement["at"])
    if judgement["failure"] == "format":
        with pytest.raises(ParseError):
            examine(vector, now)
        return
    checks, found = examine(vector, now)
    missing = {f"{name}.present" for name in found.missing}
    real = failed(checks) - missing
    assert (not real) is judgement["authentic"], real
    if judgement["failure"] is not None:
        assert real & FAILURES[judgement["failure"]]


@pytest.mark.parametrize("vector", [vector for vector in ALL if vector.entry["authentic"]], ids=str)
def test_the_platforms_state_is_as_the_entry_says(vector: Vector) -> None:
    _, found = examine(vector, vector.judge_at)
    entry = vector.entry
    assert set(found.missing) == set(entry["missing_collateral"])
    assert found.status == entry["tcb_status"]
    assert (found.platform_state and found.platform_state.status) == entry["platform_status"]
    assert (found.qe_state and found.qe_state.status) == entry["qe_status"]
    assert list(found.advisories) == entry["advisories"]
    assert found.evaluation == entry["tcb_evaluation_data_number"]
    date = found.platform_state.date if found.platform_state else None
    assert date == (datetime.fromisoformat(entry["tcb_date"]) if entry["tcb_date"] else None)
    module = entry["tdx_module"]
    if module and module["id"] != "TDX_MODULE(v0)":  # one without a version has no state of its own
        assert found.module_state is not None
        assert {"id": found.module_id, "status": str(found.module_state.status)} == module
    else:
        assert found.module_state is None


@pytest.mark.parametrize(
    "vector", [vector for vector in ALL if vector.entry["pck"] and vector.entry["failure"] != "format"], ids=str
)
def test_the_pck_certificate_reads_as_the_entry_says(vector: Vector) -> None:
    _, found = examine(vector, vector.judge_at)
    pck = vector.entry["pck"]
    assert found.platform is not None
    assert found.platform.ppid.hex() == pck["ppid"]
    assert list(found.platform.components) == pck["tcb_components"]
    assert found.platform.pcesvn == pck["pcesvn"]
    assert found.platform.cpusvn.hex() == pck["cpusvn"]
    assert found.platform.pceid.hex() == pck["pceid"]
    assert found.platform.fmspc.hex() == pck["fmspc"]
    assert ["Standard", "Scalable", "ScalableWithIntegrity"][pck["sgx_type"]] == found.platform.sgx_type
    configuration = pck.get("configuration", {})
    assert found.platform.dynamic_platform == configuration.get("dynamic_platform")
    assert found.platform.cached_keys == configuration.get("cached_keys")
    assert found.platform.smt == configuration.get("smt_enabled")


@pytest.mark.parametrize("vector", ALL, ids=str)
def test_the_default_policy_decides_as_the_strict_one(vector: Vector) -> None:
    module: Any = tee.load(vector.tee)

    def verify() -> Any:
        evidence, _ = module.parse(vector.read("quote"))
        return module.verify(evidence, vector.collateral, vendor_roots(), vector.judge_at)

    verdict = appraise(module, verify, module.Policy(), Demands())
    assert verdict.accepted is (vector.entry["strict"] == "accept"), verdict.failure


@pytest.mark.parametrize("vector_id", ["sgx/steward-xeon-icelake", "sgx/steward-i5-icelake"])
def test_an_enarx_request_holds_what_the_entry_holds(vector_id: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from donjon.tee import sgx

    vector = named(vector_id)
    request = x509.load_der_x509_csr(vector.read("request"))
    extension = next(item for item in request.extensions if item.oid.dotted_string == sgx.OID)
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    evidence, collateral = sgx.parse(extension.value.value)
    assert evidence.raw == vector.read("quote")
    assert collateral.tcb_info == vector.collateral.tcb_info
    assert set(collateral.crls) >= set(vector.collateral.crls)
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert evidence.body.report_data == sgx.key_binding(spki)
    with pytest.raises(EvidenceError) as caught:
        sgx.verify(evidence, collateral, vendor_roots(), vector.judge_at)
    assert [check.name for check in caught.value.checks if check.outcome is Outcome.FAILED] == ["qe_identity.present"]


def test_an_enarx_request_passes_with_enarxs_policy_once_somebody_brings_the_qe_identity() -> None:
    # Nobody captured one of that month, so a later one stands in, with the grace that this takes.
    from dataclasses import replace
    from datetime import timedelta

    from donjon.tee import sgx

    vector = named("sgx/steward-xeon-icelake")
    evidence, _ = sgx.parse(vector.read("quote"))
    later = named("sgx/automata-icelake")
    now = later.judge_at
    collateral = replace(later.collateral, grace=timedelta(0))
    report = sgx.verify(evidence, join(collateral, Collateral()), vendor_roots(), now)
    policy = sgx.Policy.read(
        {
            "signer": ["7a49a07df0f8e90a6e1d9a63e3c696d9c844f0e3f8739b21daa640f99facc48a"],
            "hash": ["4046ea255f0455131a024e1265ac1ebd131fdbd1240f1712a00381f6f04e8c15"],
            "features": ["Debug", "ProvisioningKey", "EInitKey", "KSS"],
            "enclave_security_version": 0,
            "enclave_product_id": 0,
            "allowed_advisories": list(report.report.advisories),
        },
        "[sgx]",
    )
    checks = sgx.judge(report, policy)
    assert [check.name for check in checks if check.outcome is Outcome.FAILED] == []
    assert report.report.status == "OutOfDate"
