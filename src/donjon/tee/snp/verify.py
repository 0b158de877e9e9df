"""Is a report genuine? Nothing here asks whether it is acceptable: that is `policy`.

A report of AMD SEV-SNP is signed by a key that the chip derives from its secret and its TCB (VCEK), or that a cloud
provider got for its machines at that TCB (VLEK). AMD certifies that key: ARK → ASK → VCEK, or ARK → ASVK → VLEK.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from donjon.tee.contract import Checks, Roots, VerifiedReport, utc
from donjon.tee.snp.collateral import Collateral, find_vek
from donjon.tee.snp.evidence import Evidence
from donjon.tee.snp.layout import Product, Report, SignerInfo, SigningKey, Tcb
from donjon.tee.snp.vek import Vek
from donjon.tee.snp.x509 import Certificate, Crl, Name, is_ca, p384_key, read_certificate, read_crl, signed_by

ABI = "SNP-ABI, ATTESTATION_REPORT"
KDS = "VCEK-KDS"
RFC5280 = "RFC 5280"
PSS = "RSASSA-PSS with SHA-384"
LATEST = datetime.max.replace(tzinfo=UTC)

# Who certifies a key of this kind, as anchors are named.
_ISSUERS = {SigningKey.VCEK: "ASK", SigningKey.VLEK: "ASVK"}


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a verified report tells the policy: the report with its version numbers read, and its key.

    Args:
        crl_date: when the revocation list was made that was checked; None when there was none.
        stale: how long ago that list has ended; zero if it has not.
    """

    report: Report
    vek: Vek
    product: Product
    reported: Tcb
    committed: Tcb
    current: Tcb
    launch: Tcb
    crl_date: datetime | None
    stale: timedelta = timedelta(0)


def verify(evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime) -> VerifiedReport[Genuine]:
    """Check everything that makes a report genuine.

    Args:
        collateral: revocation lists, and the chain if somebody sent it; both may be missing.
        roots: anchors "<product>/ARK", "<product>/ASK", "<product>/ASVK", each a certificate in DER.
        now: the time to judge at, with its zone.
    Raises:
        EvidenceError: it is not genuine; carries every check.
        ParseError: a certificate or list in `collateral` is not well formed, or a reserved byte of a TCB is set.
        UsageError: `now` has no zone, or an anchor is no certificate.
    Source: SNP-ABI, ATTESTATION_REPORT and TCB_VERSION; VCEK-KDS, certificate definitions; RFC 5280.
    """
    # A report is genuine when
    # (1) it comes from a product that we know, and its key's certificate is for the same product;
    # (2) it was signed by the kind of key that the certificate is for;
    # (3) that certificate's chain ends in `roots`, link by link; (4) all of the chain is valid at `now`;
    # (5) the product's revocation list, if there is one, is genuine, fresh, and does not name a part of the chain;
    # (6) bytes 000h to 29Fh are signed by the key;
    # (7) the key was derived for REPORTED_TCB; (8) and, a VCEK, on the chip that CHIP_ID names.
    # Not asked here: whether there must be a revocation list, and whether CHIP_ID may be masked (policy).
    # Not asked at all: a serial number of the VCEK in the revocation list. AMD gives all of them the number 0.
    now = utc(now)
    checks = Checks("snp")
    report = evidence.report
    vek = check_vek(checks, evidence, collateral)
    product = check_product(checks, report, vek, roots)  # (1)
    check_kind(checks, report, vek)  # (2)
    ark, issuer = _anchors(roots, product, vek.kind)
    check_chain(checks, vek, ark, issuer, collateral)  # (3)
    check_validity(checks, (("ark", ark), ("issuer", issuer), ("vek", vek.certificate)), now)  # (4)
    crl = check_not_revoked(checks, (issuer, vek.certificate), ark, collateral, now)  # (5)
    check_signature(checks, report, vek)  # (6)
    reported = Tcb.read(report.guest.reported_tcb, product)
    check_tcb(checks, reported, vek)  # (7)
    check_chip(checks, report, vek, product)  # (8)
    genuine = Genuine(
        report,
        vek,
        product,
        reported,
        Tcb.read(report.platform.committed_tcb, product),
        Tcb.read(report.head.current_tcb, product),
        Tcb.read(report.platform.launch_tcb, product),
        crl.this_update if crl else None,
        max(now - crl.next_update, timedelta(0)) if crl and crl.next_update and collateral.grace else timedelta(0),
    )
    starts = [certificate.not_before for certificate in (ark, issuer, vek.certificate)]
    ends = [certificate.not_after for certificate in (ark, issuer, vek.certificate)]
    if crl is not None and crl.next_update is not None:
        starts.append(crl.this_update)
        ends.append(_end(crl.next_update, collateral.grace))
    return checks.verified(
        product=product.name,
        measurement=report.guest.measurement,
        report_data=report.guest.report_data,
        workload=report.guest.host_data,
        report=genuine,
        claims=claims(genuine),
        tcb=reported.parts(),
        judged_at=now,
        valid_from=max(starts),
        valid_until=min(ends),
        simulated=roots.simulated,
    )


def check_vek(checks: Checks, evidence: Evidence, collateral: Collateral) -> Vek:
    """The certificate of the key; without it nothing can be said."""
    vek = evidence.vek or find_vek(evidence.report, collateral)
    if vek is None:
        checks.that("vek.present", False, "nothing", "the certificate of the key that signed", KDS)
        raise checks.refusal(
            "have the host send it along (`cert_table`), or let the service fetch it: VLEKs, masked chips and reports "
            "of version 2 it cannot"
        )
    checks.that("vek.present", True, vek.kind.name, "the certificate of the key that signed", KDS)
    return vek


def check_product(checks: Checks, report: Report, vek: Vek, roots: Roots) -> Product:
    """(1) Which product it is; without that there is no chain to check.

    Versions before 3 do not say; the certificate does. A report of one product must not pass with another's key.
    """
    if report.cpuid is None:
        product = vek.product
        checks.skip("product.cpuid", f"the report is of version {report.head.version}", ABI)
        known = checks.that("product.known", product is not None, vek.product_name, "Milan, Genoa or Turin", KDS)
    else:
        product = Product.of_cpuid(report.cpuid)
        cpuid = f"family {report.cpuid.family:#x} model {report.cpuid.model:#x} stepping {report.cpuid.stepping}"
        known = checks.that("product.known", product is not None, cpuid, "Milan, Genoa or Turin", ABI)
        if product is not None:
            name = vek.product.name if vek.product else vek.product_name
            known &= checks.equal("product.cpuid", name, product.name, KDS)
    if product is None or not known:
        raise checks.refusal()
    if not checks.that(
        "product.root",
        all(f"{product.name}/{kind}" in roots.anchors for kind in ("ARK", "ASK", "ASVK")),
        product.name,
        "a product with pinned roots",
        KDS,
    ):
        raise checks.refusal()
    return product


def check_kind(checks: Checks, report: Report, vek: Vek) -> None:
    """(2) The report says which kind of key has signed it."""
    signer = report.head.signer_info
    names = {item.value: item.name for item in SigningKey}
    checks.equal("report.signing_key", names.get(signer.signing_key, str(signer.signing_key)), vek.kind.name, ABI)
    # With a masked chip key the firmware writes zeros instead of a signature.
    checks.that("report.mask_chip_key", not signer & SignerInfo.MASK_CHIP_KEY, signer, "a key that is not masked", ABI)


def _anchors(roots: Roots, product: Product, kind: SigningKey) -> tuple[Certificate, Certificate]:
    """ARK, and ASK or ASVK."""
    ask = _ISSUERS[kind]
    return (
        read_certificate(roots.anchors[f"{product.name}/ARK"], "ARK"),
        read_certificate(roots.anchors[f"{product.name}/{ask}"], ask),
    )


def check_chain(checks: Checks, vek: Vek, ark: Certificate, issuer: Certificate, collateral: Collateral) -> None:
    """(3) Each certificate names the one above it and is signed by it; the top two are pinned."""
    leaf = vek.certificate
    sent = [read_certificate(data) for data in collateral.certificates]
    strange = [item for item in sent if item.encoded not in {ark.encoded, issuer.encoded}]
    if sent:
        found = ", ".join(f"{item.subject.common_name} {item.serial:#x}" for item in strange) or "the pinned ones"
        checks.that("chain.sent", not strange, found, "the pinned ARK and ASK or ASVK", KDS)
    else:
        checks.skip("chain.sent", "no chain was sent", KDS)
    for name, certificate in (("ark", ark), ("issuer", issuer)):
        checks.equal(f"chain.{name}_is_ca", is_ca(certificate), True, f"{RFC5280} 4.2.1.9")
    _name(checks, "chain.issuer_name", issuer.issuer, ark.subject)
    _signature(checks, "chain.issuer_signature", signed_by(issuer, ark), ark.subject.common_name, f"{PSS}, {KDS}")
    _name(checks, "chain.vek_name", leaf.issuer, issuer.subject)
    _signature(checks, "chain.vek_signature", signed_by(leaf, issuer), issuer.subject.common_name, f"{PSS}, {KDS}")
    on_p384 = p384_key(leaf) is not None
    checks.that("chain.vek_key", on_p384, "a key on P-384" if on_p384 else "another key", "a key on P-384", KDS)


def check_key(checks: Checks, report: Report, vek: Vek, product: Product, roots: Roots | None) -> None:
    """Of all that, what makes a certificate that of the report's key, at any time: (1), (2), (3), (6) to (8).

    Args:
        roots: None leaves out (3): any key will do that has signed the report.
    """
    name = vek.product.name if vek.product else vek.product_name
    checks.equal("product.cpuid", name, product.name, KDS)
    check_kind(checks, report, vek)
    if roots is None:
        checks.equal("vek.key_is_p384", p384_key(vek.certificate) is not None, True, KDS)
    else:
        check_chain(checks, vek, *_anchors(roots, product, vek.kind), Collateral())
    check_signature(checks, report, vek)
    check_tcb(checks, Tcb.read(report.guest.reported_tcb, product), vek)
    check_chip(checks, report, vek, product)


def _name(checks: Checks, name: str, found: Name, demanded: Name) -> None:
    """Names are the same when their bytes are; shown is what people call them, if that tells them apart."""
    same = found.encoded == demanded.encoded
    tells = same or found.common_name != demanded.common_name
    shown = (found.common_name, demanded.common_name) if tells else (found.encoded.hex(), demanded.encoded.hex())
    checks.that(name, same, *shown, f"{RFC5280} 6.1.3")


def _signature(checks: Checks, name: str, good: bool, signer: str, spec: str) -> None:
    demanded = f"a signature by {signer}"
    checks.that(name, good, demanded if good else "another signature", demanded, spec)


def check_validity(checks: Checks, chain: tuple[tuple[str, Certificate], ...], now: datetime) -> None:
    """(4) Each certificate is valid at the time of judgement."""
    for name, certificate in chain:
        checks.within(
            f"chain.{name}_validity", certificate.not_before, certificate.not_after, now, f"{RFC5280} 4.1.2.5"
        )


def check_not_revoked(
    checks: Checks, chain: tuple[Certificate, ...], ark: Certificate, collateral: Collateral, now: datetime
) -> Crl | None:
    """(5) The newest list in the ARK's name; lists of other products are left alone."""
    lists = [read_crl(data) for data in collateral.crls]
    own = [item for item in lists if item.issuer.encoded == ark.subject.encoded]
    if not own:
        for name in ("crl.signature", "crl.validity", "crl.revoked"):
            checks.skip(name, f"there is no revocation list of {ark.subject.common_name}", f"{KDS} CRL")
        return None
    crl = max(own, key=lambda item: item.this_update)
    _signature(checks, "crl.signature", signed_by(crl, ark), ark.subject.common_name, f"{PSS}, {KDS} CRL")
    end, note = crl.next_update, ""
    if end is not None and end < now <= _end(end, collateral.grace):
        end, late = _end(end, collateral.grace), now - end
        note = f"the revocation list ended {late.days} days and {late.seconds // 3600} hours before"
    checks.within("crl.validity", crl.this_update, end, now, f"{RFC5280} 5.1.2", note)
    revoked = [item for item in chain if item.serial in crl.revoked]
    found = ", ".join(f"{item.subject.common_name} {item.serial:#x}" for item in revoked)
    checks.that("crl.revoked", not revoked, found or "none of the chain", "none of the chain", f"{RFC5280} 6.3.3")
    return crl


def _end(end: datetime, grace: timedelta) -> datetime:
    return end + min(grace, LATEST - end)


def check_signature(checks: Checks, report: Report, vek: Vek) -> None:
    """(6) The key has signed what the report says."""
    key = p384_key(vek.certificate)
    if key is None:
        checks.skip("report.signature", "the certificate has no key that could have signed", ABI)
        return
    r, s = (int.from_bytes(part, "little") for part in (report.signature.r, report.signature.s))
    try:
        key.verify(encode_dss_signature(r, s), report.signed, ec.ECDSA(SHA384()))
        genuine = True
    except InvalidSignature:
        genuine = False
    _signature(checks, "report.signature", genuine, f"the {vek.kind.name} over bytes 000h to 29Fh", ABI)


def check_tcb(checks: Checks, reported: Tcb, vek: Vek) -> None:
    """(7) Number by number: the key proves exactly this TCB."""
    proven = vek.tcb.parts()
    for name, number in reported.parts().items():
        checks.equal(f"vek.{name}", number, proven.get(name), f"{KDS}, security patch levels")
    if reported.fmc is None:
        checks.skip("vek.fmc", "products before Turin have none", KDS)


def check_chip(checks: Checks, report: Report, vek: Vek, product: Product) -> None:
    """(8) The key is this chip's. All zeros mean that the host hides its id from guests (MASK_CHIP_ID)."""
    chip = report.platform.chip_id
    spec = f"{ABI}, CHIP_ID"
    if vek.hw_id is None:
        checks.skip("vek.chip_id", "a VLEK belongs to no chip", spec)
    elif not any(chip):
        checks.skip("vek.chip_id", "the host masks its chip's id", spec)
    else:
        checks.equal("vek.chip_id", chip, vek.hw_id.ljust(64, b"\0"), spec)
    size = product.chip_id_size
    checks.that("report.chip_id", not any(chip[size:]), chip[size:] or "all of it", "zeros behind the id", spec)


def claims(genuine: Genuine) -> dict[str, object]:
    """What a reader of certificates and verdicts may want to know; nothing that names a machine or its owner."""
    report = genuine.report
    policy, info = report.head.policy, report.head.platform_info
    major, minor, build = report.current_version
    return {
        "report_version": report.head.version,
        "guest_svn": report.head.guest_svn,
        "vmpl": report.head.vmpl,
        "debug": bool(policy & policy.DEBUG),
        "migration": bool(policy & policy.MIGRATE_MA),
        "smt": bool(info & info.SMT_EN),
        "alias_check": bool(info & info.ALIAS_CHECK_COMPLETE),
        "firmware": f"{major}.{minor}.{build}",
        "signing_key": genuine.vek.kind.name,
        "family_id": report.head.family_id.hex(),
        "image_id": report.head.image_id.hex(),
        "id_key_digest": report.guest.id_key_digest.hex(),
        "author_key_digest": report.guest.author_key_digest.hex(),
        "crl_date": genuine.crl_date.isoformat() if genuine.crl_date else "",
    }
