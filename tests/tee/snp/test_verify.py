"""Each check of `verify` alone: evidence in which nothing else is wrong, made under simulated roots.

Three things follow from the table. The case fails in exactly the named check, with the text given. Without that check
the evidence would pass, so no other one stands in for it. And no check of `verify` lacks its case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs

from donjon.errors import BugError, ParseError, UsageError
from donjon.tee import snp
from donjon.tee.contract import Check, Checks, EvidenceError, Outcome, Roots, VerifiedReport
from donjon.tee.snp import vek as names
from donjon.tee.snp.layout import Product, SignerInfo, SigningKey, Tcb
from donjon.tee.snp.simulate import (
    TCBS,
    YEAR,
    Chip,
    Vendor,
    certificate,
    name,
    number,
    public,
)
from donjon.tee.snp.x509 import PSS_SHA384_TRAILER
from donjon.wire import der
from tests.tee.snp.machines import DAY, NOW, Case, Machines, failed, fresh_crl

Make = Callable[[Machines], Case]
CASES: list[tuple[str, str, Make]] = []


def case(check: str, text: str) -> Callable[[Make], Make]:
    """A case of the table: the check that fails, and what it says."""

    def add(make: Make) -> Make:
        CASES.append((check, text, make))
        return make

    return add


def product_name(chip: Chip, text: str) -> Chip:
    """The same key, certified for another product."""
    value = der.encode(der.IA5_STRING, text.encode())
    return chip.with_extensions(names.PRODUCT_NAME, extra=((names.PRODUCT_NAME, False, value),))


def spl(chip: Chip, part: str, value: int) -> Chip:
    """The same key, certified for another version of one part."""
    oid = names.SPL_FMC if part == "fmc" else names.SPL[part]
    return chip.with_extensions(oid, extra=((oid, False, number(value)),))


def anchors(machines: Machines, anchor: str, **changes: Any) -> Case:
    """Everything under a vendor one of whose anchors is not the usual one."""
    product, kind = anchor.split("/")
    usual = machines.vendor.usual(Product[product], kind)
    vendor = replace(machines.vendor, fields={anchor: replace(usual, **changes)})
    return Case(replace(machines.genoa, vendor=vendor))


@case("product.known", "expected Milan, Genoa or Turin, got family 0x19 model 0x20 stepping 1")
def a_report_of_an_unknown_processor(machines: Machines) -> Case:
    return Case(machines.genoa, {"model": 0x20})


@case("product.known", "expected Milan, Genoa or Turin, got Venice")
def an_old_report_with_the_key_of_an_unknown_product(machines: Machines) -> Case:
    return Case(product_name(machines.genoa, "Venice"), {"version": 2})


@case("product.cpuid", "expected Genoa, got Milan")
def a_report_of_one_product_with_a_key_for_another(machines: Machines) -> Case:
    return Case(product_name(machines.genoa, "Milan-B0"))


@case("product.cpuid", "expected Genoa, got Venice")
def a_report_with_a_key_for_an_unknown_product(machines: Machines) -> Case:
    return Case(product_name(machines.genoa, "Venice"))


@case("product.root", "expected a product with pinned roots, got Genoa")
def a_product_without_roots(machines: Machines) -> Case:
    roots = machines.vendor.roots
    kept = {key: value for key, value in roots.anchors.items() if key != "Genoa/ASVK"}
    return Case(machines.genoa, roots=Roots(kept, simulated=True))


@case("report.signing_key", "expected VCEK, got VLEK")
def a_report_that_names_the_other_kind_of_key(machines: Machines) -> Case:
    return Case(machines.genoa, {"signer_info": SignerInfo(SigningKey.VLEK << 2)})


@case("report.signing_key", "expected VCEK, got NONE")
def a_report_that_names_no_key(machines: Machines) -> Case:
    return Case(machines.genoa, {"signer_info": SignerInfo(SigningKey.NONE << 2)})


@case("report.signing_key", "expected VLEK, got 5")
def a_report_that_names_a_key_of_the_future(machines: Machines) -> Case:
    return Case(machines.cloud, {"signer_info": SignerInfo(5 << 2)})


@case("report.mask_chip_key", "expected a key that is not masked, got MASK_CHIP_KEY")
def a_report_whose_key_is_masked(machines: Machines) -> Case:
    return Case(machines.genoa, {"signer_info": SignerInfo.MASK_CHIP_KEY})


@case("chain.sent", "expected the pinned ARK and ASK or ASVK, got SEV-Genoa 0x20002")
def a_chain_that_is_not_the_pinned_one(machines: Machines) -> Case:
    usual = machines.vendor.usual(Product.Genoa, "ASK")
    return Case(machines.genoa, chain=(certificate(replace(usual, serial=0x20002), machines.vendor.keys["ARK"]),))


@case("chain.ark_is_ca", "expected yes, got no")
def a_root_that_may_not_sign(machines: Machines) -> Case:
    return anchors(machines, "Genoa/ARK", extensions=())


@case("chain.issuer_is_ca", "expected yes, got no")
def an_issuer_that_may_not_sign(machines: Machines) -> Case:
    constraints = der.encode(der.SEQUENCE)
    return anchors(machines, "Genoa/ASK", extensions=(("2.5.29.19", True, constraints),))


@case("chain.issuer_name", "expected ARK-Genoa, got ARK-Milan")
def an_issuer_that_names_another_root(machines: Machines) -> Case:
    return anchors(machines, "Genoa/ASK", issuer=name("ARK-Milan"))


@case("chain.issuer_signature", "expected a signature by ARK-Genoa, got another signature")
def an_issuer_that_its_root_did_not_sign(machines: Machines) -> Case:
    usual = machines.vendor.usual(Product.Genoa, "ASK")
    forged = certificate(usual, machines.vendor.keys["ASVK"])
    return Case(machines.genoa, roots=Roots({**machines.vendor.roots.anchors, "Genoa/ASK": forged}, simulated=True))


@case("chain.vek_name", "expected SEV-Genoa, got SEV-Milan")
def a_key_that_names_another_issuer(machines: Machines) -> Case:
    return Case(machines.genoa.changed(issuer=name("SEV-Milan")))


@case("chain.vek_name", "expected 30")
def a_key_whose_issuer_only_looks_like_the_right_one(machines: Machines) -> Case:
    lookalike = name("SEV-Genoa").replace(b"Santa", b"Satan").replace(b"Engineering", b"engineering")
    return Case(machines.genoa.changed(issuer=lookalike))


@case("chain.vek_signature", "expected a signature by SEV-Genoa, got another signature")
def a_key_that_somebody_else_has_signed(machines: Machines) -> Case:
    # The ASVK signs for a VCEK: the right names, a genuine signature, the wrong issuer.
    keys = {**machines.vendor.keys, "ASK": machines.vendor.keys["ASVK"]}
    vek = replace(machines.genoa, vendor=replace(machines.vendor, keys=keys)).vek
    return Case(machines.genoa, vek=vek)


@case("chain.vek_key", "expected a key on P-384, got another key")
def a_key_on_another_curve(machines: Machines) -> Case:
    return Case(machines.genoa.changed(spki=public(ec.generate_private_key(ec.SECP256R1()))))


@case("chain.ark_validity", "expected validity, got")
def a_root_that_has_ended(machines: Machines) -> Case:
    return anchors(machines, "Genoa/ARK", not_after=NOW - DAY)


@case("chain.issuer_validity", "expected validity, got")
def an_issuer_that_has_ended(machines: Machines) -> Case:
    return anchors(machines, "Genoa/ASK", not_after=NOW - DAY)


@case(
    "chain.vek_validity",
    "expected validity, got 2019-05-24T00:00:00Z to 2026-05-23T00:00:00Z, judged at 2026-06-01T00:00:00Z",
)
def a_key_that_has_ended(machines: Machines) -> Case:
    end = datetime(2026, 5, 23, tzinfo=UTC)
    return Case(machines.genoa.changed(not_before=datetime(2019, 5, 24, tzinfo=UTC), not_after=end))


@case("chain.vek_validity", "expected validity, got 2026-06-02T00:00:00Z to")
def a_key_of_tomorrow(machines: Machines) -> Case:
    return Case(machines.genoa.changed(not_before=NOW + DAY))


@case("crl.signature", "expected a signature by ARK-Genoa, got another signature")
def a_revocation_list_of_somebody_else(machines: Machines) -> Case:
    forged = machines.vendor.crl(Product.Genoa, NOW - DAY, key=machines.vendor.keys["ASK"])
    return Case(machines.genoa, crls=(forged,))


@case("vek.present", "expected the certificate of the key that signed, got nothing")
def a_report_that_came_alone(machines: Machines) -> Case:
    return Case(machines.genoa, alone=True)


@case("crl.validity", "expected validity, got 2025-05-31T00:00:00Z to 2026-05-31T00:00:00Z, judged at")
def a_revocation_list_that_ended_longer_ago_than_its_grace(machines: Machines) -> Case:
    ended = (machines.vendor.crl(Product.Genoa, NOW - DAY - YEAR, NOW - DAY),)
    return Case(machines.genoa, crls=ended, grace=DAY / 2, policy={"stale_collateral_days": 1})


@case("crl.validity", "expected validity, got 2025-05-31T00:00:00Z to 2026-05-31T00:00:00Z, judged at")
def a_revocation_list_that_has_ended(machines: Machines) -> Case:
    return Case(machines.genoa, crls=(machines.vendor.crl(Product.Genoa, NOW - DAY - YEAR, NOW - DAY),))


@case("crl.validity", "expected validity, got 2026-06-02T00:00:00Z to 2027-06-02T00:00:00Z, judged at")
def a_revocation_list_of_tomorrow(machines: Machines) -> Case:
    return Case(machines.genoa, crls=(machines.vendor.crl(Product.Genoa, NOW + DAY),))


@case("crl.validity", "expected validity, got 2026-05-31T00:00:00Z to no end, judged at")
def a_revocation_list_without_an_end(machines: Machines) -> Case:
    return Case(machines.genoa, crls=(machines.vendor.crl(Product.Genoa, NOW - DAY, ends=False),))


@case("crl.revoked", "expected none of the chain, got SEV-Genoa 0x20001")
def an_issuer_that_was_revoked(machines: Machines) -> Case:
    return Case(machines.genoa, crls=(machines.vendor.crl(Product.Genoa, NOW - DAY, revoked=[7, 0x20001]),))


@case("crl.revoked", "expected none of the chain, got SEV-VLEK-Genoa 0x20101")
def an_issuer_of_vleks_that_was_revoked_since_an_older_list(machines: Machines) -> Case:
    newer = machines.vendor.crl(Product.Genoa, NOW - DAY, revoked=[0x20101])
    older = machines.vendor.crl(Product.Genoa, NOW - 2 * DAY)
    return Case(machines.cloud, crls=(older, newer, older))


@case("report.signature", "expected a signature by the VCEK over bytes 000h to 29Fh, got another signature")
def a_report_signed_by_another_key(machines: Machines) -> Case:
    return Case(machines.genoa, {"key": machines.turin.key})


@case("report.signature", "expected a signature by the VCEK over bytes 000h to 29Fh, got another signature")
def a_report_that_was_changed_afterwards(machines: Machines) -> Case:
    report = bytearray(machines.genoa.report())
    report[0x090] ^= 1
    return Case(machines.genoa, report=bytes(report))


@case("report.signature", "expected a signature by the VCEK over bytes 000h to 29Fh, got another signature")
def a_report_without_a_signature(machines: Machines) -> Case:
    return Case(machines.genoa, report=machines.genoa.report()[:0x2A0] + bytes(512))


@case("vek.bootloader", "expected 9, got 10")
def a_key_of_another_bootloader(machines: Machines) -> Case:
    return Case(spl(machines.genoa, "bootloader", 9))


@case("vek.tee", "expected 1, got 0")
def a_key_of_another_tee(machines: Machines) -> Case:
    return Case(spl(machines.genoa, "tee", 1))


@case("vek.snp", "expected 24, got 23")
def a_key_of_other_snp_firmware(machines: Machines) -> Case:
    return Case(spl(machines.genoa, "snp", 24))


@case("vek.microcode", "expected 255, got 84")
def a_key_of_other_microcode(machines: Machines) -> Case:
    return Case(spl(machines.genoa, "microcode", 255))


@case("vek.fmc", "expected 2, got 1")
def a_key_of_another_first_mutable_code(machines: Machines) -> Case:
    return Case(spl(machines.turin, "fmc", 2))


@case("vek.chip_id", "expected ")
def a_key_of_another_chip(machines: Machines) -> Case:
    return Case(machines.genoa, {"chip_id": b"\1" * 64})


@case("report.chip_id", "expected zeros behind the id, got 0000000000")
def a_report_with_something_behind_the_id_of_its_chip(machines: Machines) -> Case:
    return Case(machines.chip(Product.Turin, SigningKey.VLEK), {"chip_id": bytes(63) + b"\1"})


TABLE = pytest.mark.parametrize(
    ("check", "text", "make"), CASES, ids=[make.__name__.replace("_", " ") for _, _, make in CASES]
)


@TABLE
def test_refuses(machines: Machines, check: str, text: str, make: Make) -> None:
    verdict = make(machines).judge()
    assert verdict.report is None
    found = failed(verdict)
    assert set(found) == {check}
    assert found[check].startswith(f"{check}: {text}")


# Verification ends with these: the rest of it needs their answer.
ENDS = {"vek.present", "product.known", "product.root"}
GOES_ON = [(check, make) for check, _, make in CASES if check not in ENDS]


@pytest.mark.parametrize(("check", "make"), GOES_ON, ids=[make.__name__.replace("_", " ") for _, make in GOES_ON])
def test_nothing_else_would_refuse(machines: Machines, check: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Checks.record

    def without(self: Checks, item: Check) -> bool:
        return record(self, structs.replace(item, outcome=Outcome.PASSED) if item.name == check else item)

    monkeypatch.setattr(Checks, "record", without)
    assert make(machines).judge().accepted


def test_every_check_has_its_case(machines: Machines) -> None:
    made = {
        item.name
        for chip in (machines.genoa, machines.turin, machines.cloud)
        for item in Case(chip).judge().checks
        if not item.name.startswith(("policy.", "evidence.", "tcb."))
        and item.name not in {"report.report_id_ma", "report.abi"}
    }
    assert made == {check for check, _, _ in CASES}


def test_a_list_that_has_ended_passes_within_its_grace_if_the_policy_says_so_too(machines: Machines) -> None:
    ended = (machines.vendor.crl(Product.Genoa, NOW - DAY - YEAR, NOW - DAY),)
    verdict = Case(machines.genoa, crls=ended, grace=2 * DAY, policy={"stale_collateral_days": 1}).judge()
    assert verdict.accepted
    assert "the revocation list ended 1 days and 0 hours before" in verdict.notes
    assert verdict.require().valid_until == NOW + DAY


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [SigningKey.VCEK, SigningKey.VLEK], ids=["VCEK", "VLEK"])
@pytest.mark.parametrize("product", list(Product), ids=lambda product: product.name)
def test_accepts_what_is_all_right(machines: Machines, product: Product, kind: SigningKey, version: int) -> None:
    verdict = Case(machines.chip(product, kind), {"version": version}).judge()
    assert verdict.accepted
    report = verdict.require()
    assert (report.product, report.simulated, report.judged_at) == (product.name, True, NOW)
    assert report.tcb == TCBS[product].parts()
    assert report.valid_from == NOW - DAY
    assert report.valid_until == min(NOW - DAY + YEAR, NOW - 10 * DAY + (7 if kind is SigningKey.VCEK else 1) * YEAR)


def test_accepts_the_pinned_chain_when_it_is_sent(machines: Machines) -> None:
    anchors = machines.vendor.roots.anchors
    assert Case(machines.genoa, chain=(anchors["Genoa/ARK"], anchors["Genoa/ASK"])).judge().accepted


def test_accepts_the_default_trailer_of_pss_written_out(machines: Machines) -> None:
    assert Case(machines.genoa.changed(algorithm=PSS_SHA384_TRAILER)).judge().accepted


def test_refuses_other_pss_parameters(machines: Machines) -> None:
    vendor = machines.vendor
    usual = vendor.usual(Product.Genoa, "ASK")
    for made in (
        certificate(usual, vendor.keys["ARK"], salt=32),
        certificate(replace(usual, algorithm=der.encode(der.SEQUENCE)), vendor.keys["ARK"]),
    ):
        roots = Roots({**vendor.roots.anchors, "Genoa/ASK": made}, simulated=True)
        assert set(failed(Case(machines.genoa, roots=roots).judge())) == {"chain.issuer_signature"}


def test_refuses_a_root_of_another_size(machines: Machines) -> None:
    case = anchors(machines, "Genoa/ASK", spki=public(machines.genoa.key))
    assert "chain.vek_signature" in failed(case.judge())


def test_a_masked_chip_id_is_noted_and_left_to_the_policy(machines: Machines) -> None:
    verdict = Case(machines.genoa, {"chip_id": bytes(64)}).judge()
    assert verdict.report is not None
    assert set(failed(verdict)) == {"policy.allow_masked_chip_id"}


def test_revocation_lists_of_other_products_are_left_alone(machines: Machines) -> None:
    other = machines.vendor.crl(Product.Milan, NOW + DAY, revoked=[0x20001])
    verdict = Case(machines.genoa, crls=(other, fresh_crl(machines.vendor, Product.Genoa))).judge()
    assert verdict.accepted


def test_all_that_is_wrong_is_said_at_once(machines: Machines) -> None:
    chip = spl(machines.genoa.changed(not_after=NOW - DAY), "snp", 1)
    verdict = Case(chip, {"chip_id": b"\1" * 64, "key": machines.turin.key}).judge()
    assert set(failed(verdict)) == {"chain.vek_validity", "report.signature", "vek.snp", "vek.chip_id"}
    assert verdict.failure is not None
    assert verdict.failure.name == "chain.vek_validity", "the first decides"


def test_real_roots_know_nothing_of_simulated_hardware(machines: Machines) -> None:
    verdict = Case(machines.genoa, crls=(), roots=snp.vendor_roots()).judge()
    assert set(failed(verdict)) == {"chain.vek_name", "chain.vek_signature"}


def test_simulated_roots_know_nothing_of_other_simulated_hardware(machines: Machines, vendor: Vendor) -> None:
    keys = {"ARK": vendor.keys["ASVK"], "ASK": vendor.keys["ARK"], "ASVK": vendor.keys["ASK"]}
    other = replace(vendor, keys=keys)
    assert "chain.vek_signature" in failed(Case(machines.genoa, crls=(), roots=other.roots).judge())


def test_the_same_evidence_gets_another_answer_at_another_time(machines: Machines) -> None:
    report = machines.genoa.report()
    answers = {
        days: Case(machines.genoa, report=report, now=NOW + days * DAY).judge().accepted
        for days in (-11, -1, 0, 363, 365)
    }
    assert answers == {-11: False, -1: True, 0: True, 363: True, 365: False}


def test_demands_a_time_with_its_zone(machines: Machines) -> None:
    evidence = snp.assemble(machines.genoa.report(), [machines.genoa.vek])
    with pytest.raises(UsageError, match="expected a time with its zone"):
        snp.verify(*evidence, machines.vendor.roots, NOW.replace(tzinfo=None))


def test_the_error_carries_every_check(machines: Machines) -> None:
    evidence = snp.assemble(machines.genoa.report(key=machines.turin.key), [machines.genoa.vek])
    with pytest.raises(EvidenceError) as caught:
        snp.verify(*evidence, machines.vendor.roots, NOW)
    assert caught.value.message.startswith("snp: report.signature: expected a signature by the VCEK")
    assert len(caught.value.checks) > 20
    assert caught.value.failure is not None
    assert caught.value.failure.name == "report.signature"


def test_reserved_bytes_of_a_tcb_are_refused(machines: Machines) -> None:
    raw = Tcb(bootloader=10, tee=0, snp=23, microcode=84).write()
    dirty = raw[:3] + b"\1" + raw[4:]
    evidence = snp.assemble(machines.genoa.report(reported_tcb=dirty), [machines.genoa.vek])
    with pytest.raises(ParseError, match=r"^TcbRowsMilan.reserved_2 at 0x002: expected 4 zero bytes, got 00010000$"):
        snp.verify(*evidence, machines.vendor.roots, NOW)


def test_a_list_with_a_critical_extension_is_refused(machines: Machines) -> None:
    indirect = machines.vendor.crl(Product.Genoa, NOW - DAY, extensions=(("2.5.29.28", True, b"\x30\0"),))
    with pytest.raises(ParseError, match=r"^crl: expected no critical extension, got 2.5.29.28$"):
        snp.verify(*snp.assemble(machines.genoa.report(), [machines.genoa.vek], [indirect]), machines.vendor.roots, NOW)


def test_nobody_else_makes_a_verified_report(machines: Machines) -> None:
    report = Case(machines.genoa).judge().require()
    with pytest.raises(BugError, match=r"made by Checks\.verified"):
        replace(report, simulated=False)
    with pytest.raises(BugError, match=r"made by Checks\.verified"):
        VerifiedReport("snp", "Genoa", b"", b"", b"", None, {}, {}, (), NOW, NOW, NOW, False, True)


def test_claims_name_no_machine(machines: Machines) -> None:
    report = Case(machines.genoa).judge().require()
    text = repr(dict(report.claims)) + repr(dict(report.tcb))
    assert machines.genoa.chip_id.hex()[:16] not in text
    assert report.claims["firmware"] == "1.55.40"
    assert report.claims["alias_check"] is True
    assert report.claims["signing_key"] == "VCEK"
