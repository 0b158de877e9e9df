"""What arrives: Enarx's encoding and plain pieces, in every wrong form; any bytes are read or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.tee import snp
from donjon.tee.contract import EvidenceError
from donjon.tee.snp.evidence import MAX_CERTIFICATES, MAX_CRLS
from donjon.tee.snp.layout import Product, SignerInfo, read_report
from donjon.tee.snp.vek import read_vek
from donjon.tee.snp.x509 import read_certificate, read_crl
from donjon.wire import der
from tests.tee.snp.machines import NOW, Machines, fresh_crl

URL = "https://kds.example/crl"


def encoded(machines: Machines, crls: int = 1, url: str = URL) -> bytes:
    crl = fresh_crl(machines.vendor, Product.Genoa)
    return snp.encode(machines.genoa.report(), machines.genoa.vek, [(url, crl)] * crls)


def vek_of(evidence: snp.Evidence) -> bytes | None:
    return evidence.vek.certificate.encoded if evidence.vek else None


def test_reads_what_it_writes(machines: Machines) -> None:
    evidence, collateral = snp.parse(encoded(machines))
    assert vek_of(evidence) == machines.genoa.vek
    assert collateral.crls == (fresh_crl(machines.vendor, Product.Genoa),)
    assert snp.verify(evidence, collateral, machines.vendor.roots, NOW).product == "Genoa"


@pytest.mark.parametrize("more", [0, 1, 1183, 1185])
def test_a_file_that_ends_behind_the_head_of_a_report_is_no_evidence(more: int) -> None:
    assert not snp.is_evidence(b"\x04\x82\x04\xa0" + b"\2" * more)
    assert snp.is_evidence(b"\x04\x82\x04\xa0" + b"\2" * 1184)


def test_evidence_without_lists_is_evidence(machines: Machines) -> None:
    assert snp.parse(encoded(machines, crls=0))[1].crls == ()


def test_collateral_adds_up() -> None:
    one, other = snp.Collateral((b"a",), (b"b",)), snp.Collateral((b"c",), (b"d",))
    assert snp.join(one, other) == snp.Collateral((b"a", b"c"), (b"b", b"d"))
    assert snp.join(one, one) == one
    with pytest.raises(ParseError, match="expected at most 64 of a kind, got 66"):
        snp.join(snp.Collateral(crls=tuple(bytes([n]) for n in range(65))), one)


@pytest.mark.parametrize("wrap", [snp.wrap, bytes], ids=["in an OCTET STRING", "as it is"])
def test_a_report_may_come_alone(machines: Machines, wrap: Callable[[bytes], bytes]) -> None:
    chip = machines.turin
    data = wrap(chip.report())
    assert snp.is_evidence(data)
    evidence, collateral = snp.parse(data)
    assert evidence.vek is None
    assert collateral == snp.Collateral()
    with pytest.raises(EvidenceError, match=r"vek\.present: expected the certificate of the key that signed"):
        snp.verify(evidence, collateral, machines.vendor.roots, NOW)
    # Among several certificates the one that fits is used.
    more = snp.Collateral(veks=(machines.genoa.vek, chip.vek, machines.cloud.vek))
    assert snp.verify(evidence, more, machines.vendor.roots, NOW).product == "Turin"


@pytest.mark.parametrize("data", [b"\4\2ab", snp.wrap(bytes(1183)), snp.wrap(bytes(1184)), snp.wrap(b"") + b"a"])
def test_what_comes_alone_has_to_be_a_report(data: bytes) -> None:
    with pytest.raises(ParseError):
        snp.parse(data)


def test_needs_say_what_amd_has(machines: Machines) -> None:
    def names(report: bytes) -> list[str]:
        return [need.name for need in snp.needs(snp.parse(report)[0])]

    turin = machines.turin
    tcb = turin.tcb.write().hex()
    assert names(turin.report()) == ["crl-vcek-turin", f"vcek-turin-{turin.chip_id[:8].hex()}-{tcb}"]
    assert names(encoded(machines)) == ["crl-vcek-genoa"]
    assert names(machines.cloud.report()) == ["crl-vlek-genoa"]
    assert names(turin.report(chip_id=bytes(64))) == ["crl-vcek-turin"]
    assert names(machines.milan.report(version=2)) == []  # it does not say which product
    assert names(turin.report(signer_info=SignerInfo(7 << 2))) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda _: b"", "Evidence at 0x000: expected SEQUENCE, got 0 bytes"),
        (lambda m: encoded(m) + b"\0", "Evidence.end at 0x"),
        (lambda m: encoded(m)[:-1], "Evidence at 0x000: expected "),
        (lambda _: bytes(65 * 1024), "SNP evidence: expected at most 65536 bytes, got 66560"),
        (lambda m: encoded(m, crls=MAX_CRLS + 1), f"expected at most {MAX_CRLS} revocation lists, got more"),
        (lambda m: encoded(m, url="x" * 1025), "expected at most 1024 characters, got more"),
        (lambda m: snp.encode(m.genoa.report()[:-1], m.genoa.vek), "SNP report: expected 1184 bytes, got 1183"),
        (lambda m: snp.encode(m.genoa.report(), b"\5\0"), "Evidence.certificates.vek at 0x"),
        (lambda _: der.encode(der.SEQUENCE), "Evidence.certificates at 0x002: expected SEQUENCE, got 0 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses(machines: Machines, change: Callable[[Machines], bytes], text: str) -> None:
    with pytest.raises(ParseError) as caught:
        snp.parse(change(machines))
    assert text in caught.value.message


def test_finds_the_key_among_certificates_in_any_order(machines: Machines) -> None:
    anchors = machines.vendor.roots.anchors
    chain = [anchors["Genoa/ARK"], machines.genoa.vek, anchors["Genoa/ASK"]]
    evidence, collateral = snp.assemble(machines.genoa.report(), chain)
    assert vek_of(evidence) == machines.genoa.vek
    assert collateral.certificates == (chain[0], chain[2])


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (lambda m: (m.genoa.report(), []), "SNP evidence: expected one certificate of SEV-VCEK or SEV-VLEK, got 0"),
        (
            lambda m: (m.genoa.report(), [m.genoa.vek, m.cloud.vek]),
            "SNP evidence: expected one certificate of SEV-VCEK or SEV-VLEK, got 2",
        ),
        (
            lambda m: (m.genoa.report(), [m.genoa.vek] * (MAX_CERTIFICATES + 1)),
            "SNP evidence: expected at most 10 certificates, got 11",
        ),
        (
            lambda m: (m.genoa.report(), [bytes(8193)]),
            "SNP evidence: expected certificates of at most 8192 bytes each",
        ),
        (
            lambda m: (m.genoa.report(), [m.genoa.vek], [b""] * 9),
            "SNP evidence: expected at most 8 revocation lists, got 9",
        ),
        (lambda m: (b"", [m.genoa.vek]), "SNP report: expected 1184 bytes, got 0"),
        (lambda m: (m.genoa.report(), [b"\x30\0"]), "certificate.tbs at 0x002: expected SEQUENCE, got 0 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_pieces_that_do_not_make_evidence(
    machines: Machines, pieces: Callable[[Machines], tuple[Any, ...]], text: str
) -> None:
    with pytest.raises(ParseError) as caught:
        snp.assemble(*pieces(machines))
    assert caught.value.message == text


def test_the_binding_of_a_key_is_its_digest_and_zeros() -> None:
    assert len(snp.key_binding(b"spki")) == 64
    assert snp.key_binding(b"spki")[48:] == bytes(16)
    assert snp.key_binding(b"spki") != snp.key_binding(b"other")


# Any input is parsed or raises ParseError; and what parses is judged or raises EvidenceError.

READERS: list[Callable[[bytes], object]] = [snp.parse, read_report, read_certificate, read_crl, read_vek]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(READERS))
def test_any_bytes_are_read_or_refused(data: bytes, read: Callable[[bytes], object]) -> None:
    try:
        read(data)
    except ParseError:
        pass


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_evidence_is_refused_and_nothing_else_happens(machines: Machines, data: st.DataObject) -> None:
    original = encoded(machines)
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if what == "set":
            changed[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del changed[at : at + data.draw(st.integers(1, 50))]
        else:
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        if not changed:
            break
    try:
        evidence, collateral = snp.parse(bytes(changed))
        report = snp.verify(evidence, collateral, machines.vendor.roots, NOW)
    except (ParseError, EvidenceError):
        return
    # Only what nobody has signed can change: the address beside a list, or a list of somebody else.
    assert report.report.report.signed == original[-(1184):][:672]
    assert vek_of(evidence) == machines.genoa.vek
