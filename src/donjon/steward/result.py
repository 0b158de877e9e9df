"""The judgement as others can read it: an attestation result inside the certificate.

The extension is id-pe-cmw (1.3.6.1.5.5.7.1.35), its value

    CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }

with the JSON form: an array of media type, content in base64url, and 8, which says that it is an attestation result.
The content is an EAT Attestation Result (EAR): a set of claims that nothing protects but the certificate's signature,
which covers it. So whoever trusts the certificate's issuer knows what that issuer saw, and when:

    eat_profile       tag:ietf.org,2026:rats/ear#04
    iat               when it was judged, seconds since 1970
    ear_verifier_id   this program and its version
    submods.<tee>     ear_status                    affirming; warning where there is something to know (`notes`);
                                                    none for evidence that proves nothing
                      ear_trustworthiness_vector    for real hardware: instance-identity 2, hardware 2, or 32 with notes
                      ear_appraisal_policy_ids      the policy file's SHA-256 as a URI (RFC 6920)
                      ear_attester_claims           product, measurement, workload, tcb, claims, nonce, simulated,
                                                    protected, notes, valid_until; workload_signer, SHA-256 of the
                                                    key by whose statement the workload was accepted, if it took one

The evidence itself stays out: it names the chip, and it is kilobytes in every handshake.

Markers stand apart too, for readers that know no JSON: 1.3.6.1.4.1.58270.1.16, SEQUENCE OF UTF8String, with
"simulated" or "unprotected"; a certificate without that extension is of real hardware.

Source: RFC 9999, sections 3.1 and 4; RFC 9782; draft-ietf-rats-ear-04, section 3; draft-ietf-rats-ar4si-10, section 2.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from donjon.errors import ParseError
from donjon.steward.answer import report_dict
from donjon.steward.procedure import Grant
from donjon.wire.der import SEQUENCE, UTF8_STRING, Der, encode

CMW = "1.3.6.1.5.5.7.1.35"
MARKERS = "1.3.6.1.4.1.58270.1.16"
PROFILE = "tag:ietf.org,2026:rats/ear#04"
MEDIA_TYPE = f'application/eat-ucs+json; eat_profile="{PROFILE}"'
ATTESTATION_RESULT = 8
"""CMW's indicator, bit 3."""
MAX_RESULT = 64 * 1024
MAX_MARKERS = 8


def ear(grant: Grant, build: str) -> dict[str, Any]:
    """The claims.

    Args:
        build: name and version of the program.
    """
    report = grant.report
    told = report_dict(report)
    del told["tee"], told["report_data"], told["judged_at"], told["valid_from"]
    policy = base64.urlsafe_b64encode(grant.policy).rstrip(b"=").decode()
    real = not grant.markers
    appraisal: dict[str, Any] = {
        "ear_status": ("warning" if grant.notes else "affirming") if real else "none",
        "ear_appraisal_policy_ids": [f"ni:///sha-256;{policy}"],
        "ear_attester_claims": {
            **told,
            "nonce": grant.nonce,
            "notes": list(grant.notes),
            **({"workload_signer": grant.signer} if grant.signer else {}),
        },
    }
    if real:
        appraisal["ear_trustworthiness_vector"] = {"instance-identity": 2, "hardware": 32 if grant.notes else 2}
    return {
        "eat_profile": PROFILE,
        "iat": int(report.judged_at.timestamp()),
        "ear_verifier_id": {"developer": "Donjon", "build": build},
        "submods": {report.tee: appraisal},
    }


def write_cmw(claims: Mapping[str, Any]) -> bytes:
    """The value of the extension id-pe-cmw."""
    content = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    value = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    return encode(UTF8_STRING, json.dumps([MEDIA_TYPE, value, ATTESTATION_RESULT], separators=(",", ":")).encode())


def read_cmw(value: bytes) -> dict[str, Any]:
    """The claims in an extension; the opposite of `write_cmw`, for relying parties.

    Raises:
        ParseError: it is not of the form that `write_cmw` gives.
    """
    if len(value) > MAX_RESULT:
        raise ParseError(f"id-pe-cmw: expected at most {MAX_RESULT} bytes, got {len(value)}")
    source = Der(value, "id-pe-cmw")
    text = source.text(UTF8_STRING, "json")
    source.end()
    record = _json(text)
    if not isinstance(record, list) or len(record) != 3 or record[0] != MEDIA_TYPE or record[2] != ATTESTATION_RESULT:
        raise ParseError("id-pe-cmw: expected a record with an attestation result of EAR's profile")
    try:
        content = base64.b64decode(str(record[1]) + "=" * (-len(str(record[1])) % 4), altchars=b"-_", validate=True)
        claims = _json(content.decode())
    except ValueError as error:
        raise ParseError("id-pe-cmw: expected base64url of UTF-8") from error
    if not isinstance(claims, dict) or claims.get("eat_profile") != PROFILE:
        raise ParseError(f"id-pe-cmw: expected claims of the profile {PROFILE}")
    return claims


def write_markers(markers: tuple[str, ...]) -> bytes:
    """The value of the extension that says what is not real."""
    return encode(SEQUENCE, *(encode(UTF8_STRING, word.encode()) for word in markers))


def read_markers(value: bytes) -> tuple[str, ...]:
    """The opposite of `write_markers`.

    Raises:
        ParseError: it is not of that form.
    """
    source = Der(value, "markers")
    words = source.sequence()
    source.end()
    found: list[str] = []
    while words.left:
        if len(found) == MAX_MARKERS:
            raise words.refuse("marker", f"at most {MAX_MARKERS}", "more")
        found.append(words.text(UTF8_STRING, "marker"))
    return tuple(found)


def _json(text: str) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ParseError("id-pe-cmw: expected each name once in an object")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ParseError("id-pe-cmw: expected JSON") from error
