"""What is in a file, by its content alone; and roots, which are never found but asked for."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError, UsageError
from donjon.steward.files import MAX_FILE, MAX_ROOTS, Pile, read_roots, write_roots
from donjon.steward.policy import Policy
from donjon.steward.procedure import judge
from donjon.tee import ALL, cca, snp
from donjon.tee.contract import Demands, Roots
from donjon.tee.intel import collateral as intel
from donjon.tee.intel.collateral import MAX_CRLS
from donjon.wire.der import SEQUENCE, encode
from tests.steward.requests import REAL, SNP_AT, VECTORS, Realm, kvm_request

SNP = VECTORS / "snp/steward-milan-v2"
SGX = VECTORS / "sgx/phala-xeon-e"


def found(data: bytes) -> list[str]:
    pile = Pile()
    pile.add("file", data)
    return [subject.tee or "request" for subject in pile.subjects]


def pem(label: str, data: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()


def evidence_in(request: bytes) -> bytes:
    """The value of the only extension."""
    from donjon.steward.request import parse_request

    return parse_request(request).extensions[0].value


CASES = {
    "a request": (kvm_request(), ["request"]),
    "a request in PEM": (pem("CERTIFICATE REQUEST", kvm_request()), ["request"]),
    "a request in PEM, as older programs write it": (pem("NEW CERTIFICATE REQUEST", kvm_request()), ["request"]),
    "two requests in PEM": (pem("CERTIFICATE REQUEST", kvm_request()) * 2, ["request", "request"]),
    "a request of a real Keep": (REAL["i5"].read_bytes(), ["request"]),
    "a report": ((VECTORS / "snp/ms-turin-v5/report.bin").read_bytes(), ["snp"]),
    "a quote of SGX": ((SGX / "quote.bin").read_bytes(), ["sgx"]),
    "a quote of TDX": ((VECTORS / "tdx/phala-v4-b0c06f/quote.bin").read_bytes(), ["tdx"]),
    "a token of CCA": ((VECTORS / "cca/veraison-ffm00.cbor").read_bytes(), ["cca"]),
    "a newer token of CCA": ((VECTORS / "cca/tfm-cmw907-realm2.cbor").read_bytes(), ["cca"]),
    "evidence of SNP as requests carry it": (evidence_in(REAL["snp"].read_bytes()), ["snp"]),
    "a report that came alone, as requests carry it": (
        snp.wrap((VECTORS / "snp/ms-turin-v5/report.bin").read_bytes()),
        ["snp"],
    ),
    "evidence of SGX as requests carry it": (evidence_in(REAL["xeon"].read_bytes()), ["sgx"]),
    "a certificate": ((SNP / "vcek.der").read_bytes(), []),
    "certificates as a Steward answers": (encode(SEQUENCE, *[(SNP / "vcek.der").read_bytes()] * 2), []),
    "a CRL": ((SNP / "crl.der").read_bytes(), []),
    "collateral": ((SGX / "collateral.json").read_bytes(), []),
}


@pytest.mark.parametrize("name", CASES)
def test_knows(name: str) -> None:
    data, expected = CASES[name]
    assert found(data) == expected


def test_keeps_crls_of_amd_and_of_intel_apart() -> None:
    pile = Pile()
    pile.add("amd", (SNP / "crl.der").read_bytes())
    strings = json.loads((SGX / "collateral.json").read_text())
    pile.add("intel", bytes.fromhex(strings["pck_crl"]))
    assert {kind: len(item.crls) for kind, item in pile.collateral.items()} == {"snp": 1, "sgx": 1, "tdx": 1}


def test_judges_a_bare_report_with_the_certificates_beside_it() -> None:
    pile = Pile()
    for name in ("report.bin", "vcek.der", "ask.der", "ark.der", "crl.der"):
        pile.add(name, (SNP / name).read_bytes())
    evidence, collateral = snp.parse(pile.subjects[0].data)
    assert evidence.report.head.version == 2
    helped = pile.trust()["snp"].complete(evidence, collateral)
    assert [len(items) for items in (helped.certificates, helped.veks, helped.crls)] == [2, 1, 1]
    decision = judge(snp, lambda: (evidence, collateral), pile.trust()["snp"], Policy(), Demands(), SNP_AT)
    assert decision.report is not None


def test_fills_what_a_request_left_out() -> None:
    pile = Pile()
    pile.add("collateral", (SGX / "collateral.json").read_bytes())
    for name in ("sgx", "tdx"):
        assert pile.trust()[name].complete(None, intel.Collateral()).qe_identity is not None


def test_trusts_the_vendors_and_what_was_added() -> None:
    realm, pile = Realm(), Pile()
    assert set(pile.trust()) == set(ALL)
    pile.add_roots("roots", write_roots({"cca": realm.roots}))
    trust = pile.trust()
    assert [roots.simulated for roots in trust["cca"].roots] == [False, True]
    assert trust["cca"].roots[1].anchors == realm.roots.anchors
    assert len(trust["snp"].roots) == 1


def test_reads_a_file_of_arm_platforms_with_what_their_makers_say() -> None:
    realm, pile = Realm(), Pile()
    pile.add_roots("anchors", realm.platform.anchors(revoked="lost"))
    trust = pile.trust()["cca"]
    assert not trust.roots[1].simulated
    assert [notice.revoked for notice in trust.complete(None, cca.Collateral()).notices.values()] == ["lost"]


CRL = bytes.fromhex(json.loads((SGX / "collateral.json").read_text())["pck_crl"])

REFUSED = {
    "nothing": b"",
    "text": b"hello",
    "too much": bytes(MAX_FILE + 1),
    "an empty SEQUENCE": encode(SEQUENCE),
    "a SEQUENCE of OCTET STRINGs that are no quote": encode(SEQUENCE, encode(4, b"abc")),
    "a private key": pem("PRIVATE KEY", b"abc"),
    "PEM without base64": b"-----BEGIN CERTIFICATE-----\nA=A\n-----END CERTIFICATE-----\n",
    "an object that is no collateral": b'{"a": 1}',
    "too many CRLs": pem("X509 CRL", CRL)
    + b"".join(pem("X509 CRL", CRL[:-1] + bytes([n])) for n in range(2 * MAX_CRLS + 1)),
    "a request that is too long": encode(SEQUENCE, encode(SEQUENCE, b"\x02\x01\0", encode(4, bytes(600_000)))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    with pytest.raises(ParseError):
        found(REFUSED[name])


def test_says_where_the_key_of_an_arm_platform_belongs() -> None:
    with pytest.raises(ParseError, match="got PEM of PUBLIC KEY") as caught:
        found((VECTORS / "cca/cpak.pem").read_bytes())
    assert caught.value.hint == "keys of Arm platforms go into the file of --roots"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([data for data, _ in CASES.values()]), st.integers(0, 2000), st.integers(0, 255))
def test_any_change_of_a_file_is_read_or_refused(data: bytes, at: int, byte: int) -> None:
    changed = bytearray(data)
    changed[at % len(data)] = byte
    for broken in (bytes(changed), data[:at]):
        try:
            found(broken)
        except ParseError:
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simulated = 1\n", "expected true or false"),
        ("[snp]\n", "simulated: expected true or false, got nothing"),
        ("simulated = true\n[sev]\n", "expected simulated and tables"),
        ("simulated = true\n[snp]\nx = 1\n", "expected DER in base64, got int"),
        ('simulated = true\n[snp]\nx = "*"\n', "expected DER in base64, got str"),
        ("[", "roots:1:"),
        ("#" * (MAX_ROOTS + 1), "expected at most"),
        ("a = " + "[" * 5000, "roots:1:69: expected at most 64 levels, got more"),
    ],
)
def test_refuses_roots_that_are_not_as_shown(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        read_roots(text)


def test_does_not_mix_real_and_simulated_roots_in_one_file() -> None:
    with pytest.raises(UsageError, match="two files"):
        write_roots({"snp": Roots({}), "cca": Roots({}, simulated=True)})
