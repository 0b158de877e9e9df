"""For each check of verification: evidence in which only that is violated, signed again under simulated roots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from donjon import tee
from donjon.errors import BugError, ParseError, UsageError
from donjon.tee import sgx, tdx
from donjon.tee.contract import Checks, EvidenceError, Outcome, Roots
from donjon.tee.intel import pck
from donjon.tee.intel import x509 as pki
from donjon.tee.intel.collateral import Collateral, Signed
from donjon.tee.intel.layout import Attributes, MiscSelect
from donjon.tee.intel.p256 import sign
from donjon.tee.intel.simulate import (
    FRESH,
    Authority,
    SimulatedPlatform,
    TeeName,
    certificate,
    enclave,
    key_usage,
    platform_numbers,
    qe_identity,
    sgx_extension,
    tcb_info,
)
from donjon.tee.intel.tcb import TcbStatus
from donjon.tee.intel.verify import Findings, genuine
from donjon.tee.tdx.simulate import td_report
from donjon.wire.der import SEQUENCE, Der, encode
from tests.tee.intel.simulated import NOW, failures, intel, platform, quote, signed

START = NOW - timedelta(days=1)
DAY = timedelta(days=1)
BOTH: tuple[TeeName, ...] = ("sgx", "tdx")
Case = Callable[[TeeName], tuple[bytes, Collateral]]


def good(name: TeeName) -> Collateral:
    return intel().collateral(platform(), name, NOW)


def exchanged(collateral: Collateral, piece: str, new: Signed | None) -> Collateral:
    """Collateral with another TCB info or QE identity."""
    return replace(collateral, tcb_info=new) if piece == "tcb_info" else replace(collateral, qe_identity=new)


def with_pck(**changes: Any) -> Case:
    """A machine whose PCK certificate was issued in another way."""
    machine = intel().platform(platform().numbers, **changes)
    return lambda name: (quote(name, machine), good(name))


def with_chain(chain: tuple[bytes, ...]) -> Case:
    """A quote that brings these certificates; the leaf is the machine's own."""
    return lambda name: (quote(name, certification=pki.pem(chain).encode()), good(name))


def with_ca(**changes: Any) -> Case:
    """A machine below a PCK CA that was issued in another way."""
    start = changes.pop("start", START)
    changes.setdefault("path_length", 0)
    authority = intel().root.issue(changes.pop("name", pck.CA_NAMES[1]), start, **changes)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(pck.EXTENSION), sgx_extension(platform().numbers))
    leaf = authority.issue(pck.LEAF_NAME, START, extensions=(extension,))
    machine = SimulatedPlatform(platform().numbers, leaf, platform().attestation_key)

    def make(name: TeeName) -> tuple[bytes, Collateral]:
        collateral = good(name)
        return quote(name, machine), replace(collateral, crls=(collateral.crls[0], authority.crl(START)))

    return make


def with_crls(make: Callable[[], tuple[bytes, ...]]) -> Case:
    return lambda name: (quote(name), replace(good(name), crls=make()))


def with_info(**changes: Any) -> Case:
    def make(name: TeeName) -> tuple[bytes, Collateral]:
        start = changes.pop("start", START)
        info = tcb_info(platform().numbers, name, start, **changes)
        return quote(name), replace(good(name), tcb_info=intel().sign(info))

    return make


def with_identity(**changes: Any) -> Case:
    def make(name: TeeName) -> tuple[bytes, Collateral]:
        start = changes.pop("start", START)
        return quote(name), replace(good(name), qe_identity=intel().sign(qe_identity(name, start, **changes)))

    return make


def with_signer(piece: str, **changes: Any) -> Case:
    """TCB info or QE identity signed under another certificate for the same kind of key."""

    def make(name: TeeName) -> tuple[bytes, Collateral]:
        found = dict(changes)
        issuer: Authority = found.pop("issuer", intel().root)
        signer = issuer.issue(found.pop("name", pck.TCB_SIGNER_NAME), found.pop("start", START), **found)
        made = tcb_info(platform().numbers, name, START) if piece == "tcb_info" else qe_identity(name, START)
        collateral = good(name)
        signed_again = intel().sign(made, signer)
        if piece == "tcb_info":
            return quote(name), replace(collateral, tcb_info=signed_again)
        return quote(name), replace(collateral, qe_identity=signed_again)

    return make


def with_revoked_signer(piece: str) -> Case:
    """A signer of its own for one of the two, which the root's CRL revokes."""
    signer = intel().root.issue(pck.TCB_SIGNER_NAME, START)

    def make(name: TeeName) -> tuple[bytes, Collateral]:
        collateral = good(name)
        crls = (intel().root.crl(START, [signer.serial]), *collateral.crls[1:])
        made = tcb_info(platform().numbers, name, START) if piece == "tcb_info" else qe_identity(name, START)
        return quote(name), exchanged(replace(collateral, crls=crls), piece, intel().sign(made, signer))

    return make


def with_qe(**fields: Any) -> Case:
    return lambda name: (quote(name, qe=fields), good(name))


def without(piece: str) -> Case:
    return lambda name: (quote(name), exchanged(good(name), piece, None))


def damaged(piece: str) -> Case:
    """One of the two objects with a byte changed after signing, in a member that nobody reads."""

    def make(name: TeeName) -> tuple[bytes, Collateral]:
        collateral = good(name)
        signed_piece = getattr(collateral, piece)
        body = signed_piece.body.replace(b'"version":', b'"Version":', 1)
        return quote(name), exchanged(collateral, piece, replace(signed_piece, body=body))

    return make


def root_crl(**changes: Any) -> bytes:
    return intel().root.crl(changes.pop("start", START), **changes)


def pck_crl(**changes: Any) -> bytes:
    return intel().platform_ca.crl(changes.pop("start", START), **changes)


def foreign_root() -> Authority:
    """A root of the same name with another key, which nobody has pinned."""
    key = generate_private_key(SECP256R1())
    der = certificate(pck.ROOT_NAME, key, intel().root.name, key, START - DAY, START + 100 * DAY, path_length=1)
    return Authority(key, der, (der,))


def bad_root(**changes: Any) -> tuple[bytes, ...]:
    """The chain with a root made anew by the same key; it is not the pinned one either."""
    key = intel().root.key
    der = certificate(pck.ROOT_NAME, key, intel().root.name, key, START - DAY, START + 100 * DAY, **changes)
    return (*platform().pck.chain[:2], der)


OTHER_KEY = generate_private_key(SECP256R1())
OTHER_CA = foreign_root().issue(pck.CA_NAMES[1], START, path_length=0)

# What is violated, how, and the checks that fail: these and no others.
CASES: list[tuple[str, Case, set[str]]] = [
    (
        "the chain's root is another than the pinned one",
        with_chain((*platform().pck.chain[:2], foreign_root().der)),
        {"pck.root", "pck.chain", "root_ca_crl.signature"},
    ),
    (
        "the chain's root is the pinned one's key in another certificate",
        with_chain(bad_root(path_length=1)),
        {"pck.root"},
    ),
    ("the leaf is called something else", with_pck(name="Intel SGX PCK Certificat"), {"pck.names"}),
    ("the issuer is called something else", with_ca(name="Intel SGX PCK Other CA"), {"pck.names"}),
    (
        "the root is missing from the chain",
        with_chain(platform().pck.chain[:2]),
        {"pck.names", "pck.root", "pck.chain"},
    ),
    (
        "only the leaf comes",
        with_chain(platform().pck.chain[:1]),
        {"pck.names", "pck.root", "pck.chain", "root_ca_crl.present", "pck_crl.signature"},
    ),
    (
        "the leaf comes twice",
        with_chain((platform().pck.chain[0], *platform().pck.chain)),
        {"pck.names", "pck.chain", "pck_crl.signature"},
    ),
    (
        "the issuer's signature is missing on the leaf",
        with_chain(
            (platform().pck.chain[0], intel().root.issue(pck.CA_NAMES[1], START, path_length=0).der, intel().root.der)
        ),
        {"pck.chain", "pck_crl.signature"},
    ),
    ("the leaf has become a CA", with_pck(constraints=x509.BasicConstraints(True, None)), {"pck.chain"}),
    ("the leaf has no basic constraints", with_pck(constraints=None), {"pck.chain"}),
    ("the leaf has no key usage", with_pck(usage=None), {"pck.chain"}),
    ("the leaf may not sign", with_pck(usage=key_usage(ca=False, digital_signature=False)), {"pck.chain"}),
    ("the leaf may sign certificates", with_pck(usage=key_usage(ca=False, key_cert_sign=True)), {"pck.chain"}),
    ("the leaf may sign CRLs", with_pck(usage=key_usage(ca=False, crl_sign=True)), {"pck.chain"}),
    (
        "the leaf has a critical extension that nobody knows",
        with_pck(critical=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")),
        {"pck.chain"},
    ),
    ("the leaf is signed with SHA-384", with_pck(algorithm=SHA384()), {"pck.chain"}),
    ("the issuer is no CA", with_ca(constraints=x509.BasicConstraints(False, None)), {"pck.chain"}),
    ("the issuer may not sign certificates", with_ca(usage=key_usage(ca=True, key_cert_sign=False)), {"pck.chain"}),
    ("the issuer may not sign CRLs", with_ca(usage=key_usage(ca=True, crl_sign=False)), {"pck_crl.signature"}),
    ("the root allows no CA below it", with_chain(bad_root(path_length=0)), {"pck.root", "pck.chain"}),
    ("the leaf is not valid yet", with_pck(start=NOW + DAY), {"pck.validity"}),
    ("the leaf has expired", with_pck(start=NOW - 5 * DAY, end=NOW - DAY), {"pck.validity"}),
    ("the issuer is not valid yet", with_ca(start=NOW + DAY), {"pck.validity"}),
    ("the issuer has expired", with_ca(start=NOW - 5 * DAY, end=NOW - DAY), {"pck.validity"}),
    ("the root's CRL is missing", with_crls(lambda: (pck_crl(),)), {"root_ca_crl.present"}),
    (
        "the root's CRL has another's signature",
        with_crls(lambda: (root_crl(signer=OTHER_KEY), pck_crl())),
        {"root_ca_crl.signature"},
    ),
    (
        "the root's CRL is not valid yet",
        with_crls(lambda: (root_crl(start=NOW + DAY), pck_crl())),
        {"root_ca_crl.validity"},
    ),
    (
        "the root's CRL has expired",
        with_crls(lambda: (root_crl(start=NOW - FRESH - DAY), pck_crl())),
        {"root_ca_crl.validity"},
    ),
    (
        "the issuer is revoked",
        with_crls(lambda: (root_crl(revoked=[intel().platform_ca.serial]), pck_crl())),
        {"pck_ca.not_revoked"},
    ),
    ("the PCK CRL is missing", with_crls(lambda: (root_crl(),)), {"pck_crl.present"}),
    (
        "the PCK CRL is another issuer's",
        with_crls(lambda: (root_crl(), intel().processor_ca.crl(START))),
        {"pck_crl.present"},
    ),
    (
        "the PCK CRL has another's signature",
        with_crls(lambda: (root_crl(), pck_crl(signer=OTHER_KEY))),
        {"pck_crl.signature"},
    ),
    (
        "the PCK CRL has the root's signature",
        with_crls(lambda: (root_crl(), pck_crl(signer=intel().root.key))),
        {"pck_crl.signature"},
    ),
    (
        "the PCK CRL is signed with SHA-384",
        with_crls(lambda: (root_crl(), pck_crl(algorithm=SHA384()))),
        {"pck_crl.signature"},
    ),
    ("the PCK CRL is not valid yet", with_crls(lambda: (root_crl(), pck_crl(start=NOW + DAY))), {"pck_crl.validity"}),
    (
        "the PCK CRL has expired",
        with_crls(lambda: (root_crl(), pck_crl(start=NOW - FRESH - DAY))),
        {"pck_crl.validity"},
    ),
    (
        "the leaf is revoked",
        with_crls(lambda: (root_crl(), pck_crl(revoked=[platform().pck.serial]))),
        {"pck.not_revoked"},
    ),
    (
        "the QE report is signed by another key",
        lambda name: (quote(name, qe_signer=OTHER_KEY), good(name)),
        {"qe.signature"},
    ),
    ("the QE report names another attestation key", with_qe(report_data=bytes(64)), {"qe.key"}),
    (
        "the QE report has something after the key's digest",
        lambda name: (quote(name, qe={"report_data": _key_digest(name) + b"\1" + bytes(31)}), good(name)),
        {"qe.key"},
    ),
    ("the authentication data is another", lambda name: (_with_other_authentication(name), good(name)), {"qe.key"}),
    ("the QE was signed by another than Intel", with_qe(mr_signer=bytes(32)), {"qe.mr_signer"}),
    ("the QE is another product", with_qe(isv_prod_id=77), {"qe.isv_prod_id"}),
    ("the QE has other parts of state saved", with_qe(misc_select=MiscSelect.EXINFO), {"qe.misc_select"}),
    (
        "the QE can be debugged",
        with_qe(attributes=Attributes.INIT | Attributes.DEBUG | Attributes.PROVISION_KEY),
        {"qe.attributes"},
    ),
    ("the QE has no provisioning key", with_qe(attributes=Attributes.INIT), {"qe.attributes"}),
    ("the QE identity is missing", without("qe_identity"), {"qe_identity.present"}),
    (
        "the QE identity is that of the other TEE",
        lambda name: (
            quote(name),
            replace(good(name), qe_identity=intel().sign(qe_identity("tdx" if name == "sgx" else "sgx", START))),
        ),
        {"qe_identity.id"},
    ),
    ("the QE identity was changed after signing", damaged("qe_identity"), {"qe_identity.signature"}),
    (
        "the QE identity is not valid yet",
        with_identity(issueDate=f"{NOW + DAY:%Y-%m-%dT%H:%M:%SZ}"),
        {"qe_identity.validity"},
    ),
    (
        "the QE identity has expired",
        with_identity(nextUpdate=f"{NOW - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"),
        {"qe_identity.validity"},
    ),
    (
        "the QE identity's signer is called something else",
        with_signer("qe_identity", name="Intel SGX TCB"),
        {"qe_identity_signer.names"},
    ),
    (
        "the QE identity's signer is below another root",
        with_signer("qe_identity", issuer=foreign_root()),
        {"qe_identity_signer.root"},
    ),
    (
        "the QE identity's signer is a CA",
        with_signer("qe_identity", constraints=x509.BasicConstraints(True, 0)),
        {"qe_identity_signer.chain"},
    ),
    (
        "the QE identity's signer has expired",
        with_signer("qe_identity", start=NOW - 5 * DAY, end=NOW - DAY),
        {"qe_identity_signer.validity"},
    ),
    ("the QE identity's signer is revoked", with_revoked_signer("qe_identity"), {"qe_identity_signer.not_revoked"}),
    (
        "the quote is signed by another key",
        lambda name: (quote(name, signer=OTHER_KEY), good(name)),
        {"quote.signature"},
    ),
    ("the quote was changed after signing", lambda name: (_with_other_body(name), good(name)), {"quote.signature"}),
    ("TCB info is missing", without("tcb_info"), {"tcb_info.present"}),
    (
        "TCB info is that of the other TEE",
        lambda name: (quote(name), replace(good(name), tcb_info=good("tdx" if name == "sgx" else "sgx").tcb_info)),
        {"tcb_info.id"},
    ),
    ("TCB info is about another kind of platform", with_info(fmspc="AAAAAAAAAAAA"), {"tcb_info.fmspc"}),
    ("TCB info is about another PCE", with_info(pceId="0001"), {"tcb_info.pceid"}),
    ("TCB info was changed after signing", damaged("tcb_info"), {"tcb_info.signature"}),
    ("TCB info is not valid yet", with_info(issueDate=f"{NOW + DAY:%Y-%m-%dT%H:%M:%SZ}"), {"tcb_info.validity"}),
    (
        "TCB info has expired",
        with_info(nextUpdate=f"{NOW - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"),
        {"tcb_info.validity"},
    ),
    (
        "TCB info's signer is called something else",
        with_signer("tcb_info", name="Intel SGX TCB"),
        {"tcb_info_signer.names"},
    ),
    (
        "TCB info's signer is below another root",
        with_signer("tcb_info", issuer=foreign_root()),
        {"tcb_info_signer.root"},
    ),
    (
        "TCB info's signer is a PCK",
        with_signer("tcb_info", issuer=intel().platform_ca, name=pck.LEAF_NAME),
        {"tcb_info_signer.names"},
    ),
    (
        "TCB info's signer is a CA",
        with_signer("tcb_info", constraints=x509.BasicConstraints(True, 0)),
        {"tcb_info_signer.chain"},
    ),
    ("TCB info's signer is not valid yet", with_signer("tcb_info", start=NOW + DAY), {"tcb_info_signer.validity"}),
    (
        "TCB info's signer has expired",
        with_signer("tcb_info", start=NOW - 5 * DAY, end=NOW - DAY),
        {"tcb_info_signer.validity"},
    ),
    ("TCB info's signer is revoked", with_revoked_signer("tcb_info"), {"tcb_info_signer.not_revoked"}),
]


def _key_digest(name: TeeName) -> bytes:
    digest: bytes = signed(name)[0].signature.qe_report.report_data[:32]
    return digest


def _with_other_authentication(name: TeeName) -> bytes:
    data = quote(name)
    at = data.index(bytes(range(32)))
    return data[:at] + b"\xff" + data[at + 1 :]


def _with_other_body(name: TeeName) -> bytes:
    """One bit of the report data."""
    end = {"sgx": 48 + 384, "tdx": 48 + 6 + 584}[name]
    data = bytearray(quote(name))
    data[end - 1] ^= 1
    return bytes(data)


@pytest.mark.parametrize("name", BOTH)
def test_accepts_a_good_quote(name: TeeName) -> None:
    assert failures(name, *signed(name)) == {}


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("name", BOTH)
def test_refuses_when(name: TeeName, make: Case, expected: set[str]) -> None:
    assert set(failures(name, *make(name))) == expected


@pytest.mark.parametrize("name", BOTH)
def test_every_check_has_a_case_that_fails(name: TeeName) -> None:
    module: Any = tee.load(name)
    evidence, collateral = signed(name)
    made = {check.name for check in module.verify(evidence, collateral, intel().roots(), NOW).checks}
    tried = {check for _, _, expected in CASES for check in expected}
    apart = {"quote.certification_type", "tdx_module.known", "tdx_module.mr_signer", "tdx_module.attributes"}
    assert made <= tried | apart
    assert tried <= made


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_refuses_certification_data_that_would_have_to_be_looked_up(name: TeeName, kind: int) -> None:
    data = quote(name, certification_type=kind, certification=bytes(404))
    found = failures(name, data, good(name))
    assert list(found.values()) == [f"quote.certification_type: expected 5, got {kind}"]


@pytest.mark.parametrize("name", BOTH)
def test_refuses_everything_when_no_root_is_pinned(name: TeeName) -> None:
    found = failures(name, *signed(name), roots=Roots({}))
    assert set(found) == {"pck.root", "tcb_info_signer.root", "qe_identity_signer.root"}
    assert found["pck.root"].startswith("pck.root: expected the pinned root, but none is pinned, got ")


@pytest.mark.parametrize("name", BOTH)
def test_refuses_everything_below_somebody_elses_root(name: TeeName) -> None:
    found = failures(name, *signed(name), roots=Roots({"SGX Root CA": foreign_root().der}))
    assert set(found) == {"pck.root", "tcb_info_signer.root", "qe_identity_signer.root"}


@pytest.mark.parametrize(
    ("key", "what"), [(generate_private_key(SECP384R1()).public_key(), "P-384")], ids=["a P-384 key"]
)
def test_refuses_a_pck_of_another_kind(key: Any, what: str) -> None:
    machine = intel().platform(platform().numbers, public_key=key)
    found = failures("sgx", quote("sgx", machine), good("sgx"))
    assert set(found) == {"pck.chain", "qe.signature"}
    assert "expected a P-256 key, got " in found["pck.chain"]


def test_refuses_a_chain_in_another_order() -> None:
    data = quote("sgx", certification=pki.pem(platform().pck.chain[::-1]).encode())
    with pytest.raises(ParseError, match="expected the SGX extension"):
        failures("sgx", data, good("sgx"))


def test_refuses_a_pck_without_the_sgx_extension() -> None:
    machine = intel().platform(platform().numbers, extensions=())
    with pytest.raises(ParseError, match=r"expected the SGX extension 1\.2\.840\.113741\.1\.13\.1, got none"):
        failures("sgx", quote("sgx", machine), good("sgx"))


@pytest.mark.parametrize("name", BOTH)
def test_a_refusal_names_all_that_is_wrong(name: TeeName) -> None:
    data = quote(name, signer=OTHER_KEY, qe={"mr_signer": bytes(32)})
    collateral = replace(good(name), tcb_info=None)
    assert set(failures(name, data, collateral)) == {"quote.signature", "qe.mr_signer", "tcb_info.present"}


def test_nothing_is_read_from_lists_that_intel_did_not_sign() -> None:
    evidence, collateral = signed("sgx")
    assert collateral.tcb_info
    collateral = replace(collateral, tcb_info=replace(collateral.tcb_info, body=b"not even JSON"))
    assert set(failures("sgx", evidence, collateral)) == {"tcb_info.signature"}


# Times


@pytest.mark.parametrize("name", BOTH)
def test_the_report_says_when_all_of_it_holds(name: TeeName) -> None:
    module: Any = tee.load(name)
    evidence, collateral = signed(name)
    report = module.verify(evidence, collateral, intel().roots(), NOW)
    assert (report.valid_from, report.valid_until) == (START, START + FRESH)
    for moment in (report.valid_from, report.valid_until):
        assert failures(name, evidence, collateral, now=moment) == {}
    for moment in (report.valid_from - timedelta(seconds=1), report.valid_until + timedelta(seconds=1)):
        assert failures(name, evidence, collateral, now=moment)


def test_a_time_without_a_zone_is_refused() -> None:
    evidence, collateral = signed("sgx")
    with pytest.raises(UsageError, match="expected a time with its zone"):
        sgx.verify(evidence, collateral, intel().roots(), NOW.replace(tzinfo=None))


@pytest.mark.parametrize("name", BOTH)
def test_stale_collateral_passes_within_its_grace_and_the_verdict_says_so(name: TeeName) -> None:
    module: Any = tee.load(name)
    evidence, collateral = signed(name)
    late = START + FRESH + timedelta(days=2, hours=3)
    assert set(failures(name, evidence, collateral, now=late)) == {
        "root_ca_crl.validity",
        "pck_crl.validity",
        "tcb_info.validity",
        "qe_identity.validity",
    }
    report = module.verify(evidence, replace(collateral, grace=3 * DAY), intel().roots(), late)
    assert report.report.stale == timedelta(days=2, hours=3)
    assert report.valid_until == START + FRESH + 3 * DAY
    assert {check.note for check in report.checks if check.note} == {"ended 2 days and 3 hours before"}
    assert failures(name, evidence, replace(collateral, grace=2 * DAY), now=late)


def test_a_crl_without_an_end_is_never_fresh() -> None:
    # cryptography's builder demands an end, so the bytes are made by hand.
    *parts, _, extensions = crl_parts(root_crl())
    endless = crl_of([*parts, extensions])
    found = failures("sgx", quote("sgx"), replace(good("sgx"), crls=(endless, pck_crl())))
    assert list(found) == ["root_ca_crl.validity"]
    assert "to no end" in found["root_ca_crl.validity"]


def test_a_signed_crl_with_entries_that_cannot_be_read_is_refused() -> None:
    *parts, extensions = crl_parts(root_crl())
    entry = encode(SEQUENCE, encode(0x02, b"\1"), encode(0x17, b"991301000000Z"))  # a thirteenth month
    strange = crl_of([*parts, encode(SEQUENCE, entry), extensions])
    with pytest.raises(ParseError, match="CRL"):
        failures("sgx", quote("sgx"), replace(good("sgx"), crls=(strange, pck_crl())))


def crl_parts(der: bytes) -> list[bytes]:
    """What the signed part of a CRL holds: version, algorithm, issuer, thisUpdate, nextUpdate, extensions."""
    tbs = Der(der, "crl").sequence().sequence("tbs")
    return [tbs.whole(0, "part") for _ in iter(lambda: tbs.left, 0)]


def crl_of(parts: list[bytes]) -> bytes:
    """A CRL of the root with this in its signed part."""
    tbs = encode(SEQUENCE, *parts)
    raw = sign(tbs, intel().root.key)
    value = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    return encode(SEQUENCE, tbs, parts[1], encode(0x03, b"\0" + value))


def test_a_crl_that_ends_with_the_calendar_and_a_grace_is_no_trouble() -> None:
    from datetime import UTC, datetime

    for_ever = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    collateral = replace(good("sgx"), crls=(root_crl(end=for_ever), pck_crl(end=for_ever)), grace=10 * DAY)
    assert failures("sgx", quote("sgx"), collateral) == {}


# CRLs in numbers


def test_of_two_crls_by_one_issuer_the_newer_counts() -> None:
    older, newer = pck_crl(), pck_crl(start=START + timedelta(hours=1), revoked=[platform().pck.serial])
    for crls in ((root_crl(), older, newer), (newer, older, root_crl())):
        assert set(failures("sgx", quote("sgx"), replace(good("sgx"), crls=crls))) == {"pck.not_revoked"}


def test_too_many_crls_are_refused() -> None:
    with pytest.raises(ParseError, match="expected at most 16 CRLs, got 17"):
        failures("sgx", quote("sgx"), replace(good("sgx"), crls=(pck_crl(),) * 17))


def test_a_partial_crl_is_refused() -> None:
    point = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    with pytest.raises(ParseError, match=r"expected no critical extension, got 2\.5\.29\.28"):
        failures("sgx", quote("sgx"), replace(good("sgx"), crls=(root_crl(extensions=[(point, True)]), pck_crl())))


# What the report carries


def test_an_sgx_report_carries_what_the_enclave_is() -> None:
    body = enclave(config_id=bytes(range(64)), report_data=bytes(range(64)))
    evidence, _ = sgx.parse(platform().sgx_quote(body))
    report = sgx.verify(evidence, good("sgx"), intel().roots(), NOW)
    assert (report.tee, report.product) == ("sgx", "FMSPC D017D017D017")
    assert (report.measurement, report.report_data) == (body.mr_enclave, bytes(range(64)))
    assert report.workload == bytes(range(64))
    assert report.simulated
    assert report.protected
    assert report.tcb["status"] == "UpToDate"
    assert platform().numbers.ppid.hex() not in repr((report.claims, report.tcb, report.checks))


def test_an_enclave_without_kss_names_no_workload() -> None:
    body = enclave(attributes=Attributes.INIT | Attributes.MODE64BIT)
    evidence, _ = sgx.parse(platform().sgx_quote(body))
    assert sgx.verify(evidence, good("sgx"), intel().roots(), NOW).workload == b""


@pytest.mark.parametrize("version", [4, 5])
def test_a_tdx_report_carries_what_the_td_is(version: Any) -> None:
    data = td_report(newer=False, mr_config_id=bytes(range(48)), report_data=bytes(range(64)))
    evidence, _ = tdx.parse(platform().tdx_quote(data, version))
    report = tdx.verify(evidence, good("tdx"), intel().roots(), NOW)
    assert (report.measurement, report.report_data) == (evidence.body.mr_td, bytes(range(64)))
    assert report.workload == bytes(range(48))
    assert report.tcb["tdx_module"] == "TDX_01"


# The TDX module


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tee_tcb_svn": bytes((6, 9, 2, *bytes(13)))}, {"tdx_module.known"}),
        ({"mr_signer_seam": b"\1" * 48}, {"tdx_module.mr_signer"}),
        ({"seam_attributes": b"\1" + bytes(7)}, {"tdx_module.attributes"}),
        ({"tee_tcb_svn": bytes((6, 0, 2, *bytes(13))), "mr_signer_seam": b"\1" * 48}, {"tdx_module.mr_signer"}),
        ({"tee_tcb_svn": bytes((6, 0, 2, *bytes(13))), "seam_attributes": bytes(7) + b"\1"}, {"tdx_module.attributes"}),
    ],
    ids=[
        "of an unknown version",
        "signed by another",
        "with an attribute set",
        "without a version and signed by another",
        "without a version and with an attribute set",
    ],
)
def test_refuses_a_td_on_a_module(changes: dict[str, Any], expected: set[str]) -> None:
    assert set(failures("tdx", platform().tdx_quote(td_report(**changes)), good("tdx"))) == expected


def test_attributes_outside_the_mask_are_refused_too() -> None:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "00" * 8}
    info = tcb_info(platform().numbers, "tdx", START)
    info["tdxModuleIdentities"][0] |= module
    collateral = replace(good("tdx"), tcb_info=intel().sign(info))
    data = platform().tdx_quote(td_report(seam_attributes=b"\1" + bytes(7)))
    assert set(failures("tdx", data, collateral)) == {"tdx_module.attributes"}


def test_a_module_without_a_version_is_judged_by_the_levels_of_the_platform() -> None:
    evidence, _ = tdx.parse(platform().tdx_quote(td_report(tee_tcb_svn=bytes((6, 0, 2, *bytes(13))))))
    report = tdx.verify(evidence, good("tdx"), intel().roots(), NOW)
    assert report.report.status is TcbStatus.UP_TO_DATE
    assert report.report.module_state is None
    evidence, _ = tdx.parse(platform().tdx_quote(td_report(tee_tcb_svn=bytes((5, 0, 2, *bytes(13))))))
    assert tdx.verify(evidence, good("tdx"), intel().roots(), NOW).report.status is TcbStatus.NOT_SUPPORTED


# States


@pytest.mark.parametrize(
    ("name", "status"),
    [(name, status) for name in BOTH for status in TcbStatus if name == "tdx" or "Relaunch" not in status],
)
def test_every_state_is_found_out(name: TeeName, status: TcbStatus) -> None:
    module: Any = tee.load(name)
    evidence, _ = signed(name)
    report = module.verify(evidence, intel().collateral(platform(), name, NOW, status), intel().roots(), NOW)
    assert report.report.status is status
    assert report.tcb["status"] == status


def test_a_processor_ca_is_as_good_as_a_platform_ca() -> None:
    numbers = platform_numbers(platform_instance=None, dynamic_platform=None, cached_keys=None, smt=None)
    machine = intel().platform(numbers, ca="processor")
    collateral = intel().collateral(machine, "sgx", NOW)
    assert failures("sgx", quote("sgx", machine), collateral) == {}


def test_a_report_is_never_made_of_something_unknown() -> None:
    checks = Checks("sgx")
    checks.that("something", True, 1, 1, "")
    with pytest.raises(BugError, match="a quote without a failed check, of which the state is unknown"):
        genuine(checks, None, Findings(), Collateral(), intel().roots())


def test_an_error_says_what_was_expected_and_what_came() -> None:
    with pytest.raises(EvidenceError) as caught:
        sgx.verify(sgx.parse(quote("sgx"))[0], Collateral(), intel().roots(), NOW)
    assert caught.value.message == "sgx: root_ca_crl.present: expected at hand, got nothing (and 3 more)"
    skipped = {check.name for check in caught.value.checks if check.outcome is Outcome.NOT_APPLICABLE}
    assert {"pck.not_revoked", "pck_ca.not_revoked"} <= skipped
