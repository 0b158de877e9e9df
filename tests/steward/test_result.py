"""The attestation result in a certificate: what it says, and that only what was written is read."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.steward import result
from donjon.steward.policy import parse
from donjon.steward.procedure import Trust, decide, vendor_trust
from donjon.tee.contract import Roots
from donjon.wire.der import OCTET_STRING, UTF8_STRING, encode
from tests.steward.requests import NOW, REAL, SNP_AT, kvm_request

LAX = parse("accept_unattested = true\n")
MILAN = parse('[snp]\nproducts = ["Milan"]\ntcb_floor = "none"\n')
KVM = decide(kvm_request(), {"kvm": Trust((Roots({}),))}, LAX, NOW).require()


def test_tells_of_real_hardware_what_was_found_and_what_to_know() -> None:
    grant = decide(REAL["snp"].read_bytes(), vendor_trust(), MILAN, SNP_AT).require()
    claims = result.read_cmw(result.write_cmw(result.ear(grant, "test 1")))
    assert claims["iat"] == int(SNP_AT.timestamp())
    assert claims["ear_verifier_id"] == {"developer": "Donjon", "build": "test 1"}
    appraisal = claims["submods"]["snp"]
    assert appraisal["ear_status"] == "warning"  # Milan
    assert appraisal["ear_trustworthiness_vector"] == {"instance-identity": 2, "hardware": 32}
    told = appraisal["ear_attester_claims"]
    assert told["product"] == "Milan"
    assert told["measurement"].startswith("ff717ae7")
    assert told["tcb"]["snp"] == 6
    assert any("Milan" in note for note in told["notes"])
    digest = appraisal["ear_appraisal_policy_ids"][0].removeprefix("ni:///sha-256;")
    assert base64.urlsafe_b64decode(digest + "=") == MILAN.digest


def test_names_no_chip() -> None:
    grant = decide(REAL["snp"].read_bytes(), vendor_trust(), MILAN, SNP_AT).require()
    assert "5cb260b9c24d8a9c" not in json.dumps(result.ear(grant, ""))


def test_affirms_nothing_of_what_proves_nothing() -> None:
    appraisal = result.ear(KVM, "")["submods"]["kvm"]
    assert appraisal["ear_status"] == "none"
    assert "ear_trustworthiness_vector" not in appraisal
    assert appraisal["ear_attester_claims"]["protected"] is False


def record(*parts: object) -> bytes:
    return encode(UTF8_STRING, json.dumps(parts).encode())


def content(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


REFUSED = {
    "nothing": b"",
    "another choice": encode(OCTET_STRING, b"[]"),
    "too much": bytes(result.MAX_RESULT + 1),
    "a byte behind it": record() + b"\0",
    "no JSON": encode(UTF8_STRING, b"["),
    "too much nesting": encode(UTF8_STRING, b"[" * 60000),
    "another type": record("application/json", content("{}"), 8),
    "evidence": record(result.MEDIA_TYPE, content("{}"), 4),
    "no base64": record(result.MEDIA_TYPE, "*", 8),
    "no object": record(result.MEDIA_TYPE, content("[]"), 8),
    "another profile": record(result.MEDIA_TYPE, content('{"eat_profile": "x"}'), 8),
    "a name twice": record(result.MEDIA_TYPE, content(f'{{"iat": 1, "iat": 2, "eat_profile": "{result.PROFILE}"}}'), 8),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    with pytest.raises(ParseError):
        result.read_cmw(REFUSED[name])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(data: bytes, cut: int) -> None:
    for broken in (data, result.write_cmw({"a": 1})[:cut]):
        try:
            result.read_cmw(broken)
        except ParseError:
            pass
        try:
            result.read_markers(broken)
        except ParseError:
            pass


def test_markers_read_as_they_were_written() -> None:
    assert result.read_markers(result.write_markers(("simulated", "unprotected"))) == ("simulated", "unprotected")
    with pytest.raises(ParseError, match="at most 8"):
        result.read_markers(result.write_markers(("a",) * 9))
