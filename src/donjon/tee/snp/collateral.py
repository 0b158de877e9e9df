"""What helps to judge evidence, and where AMD keeps it.

AMD's key distribution service (KDS) serves VCEKs by chip and TCB, and for each product a chain and a revocation list.
VLEKs it gives to cloud providers only. It answers slowly and turns away who asks often, so what was fetched is kept: a
VCEK for ever, as it never changes, a list until it ends. Fetching is not done here, and no address ever comes from
evidence: these are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from donjon.errors import ParseError, UsageError
from donjon.tee.contract import Need, Roots
from donjon.tee.snp.layout import Product, Report, SigningKey, Tcb
from donjon.tee.snp.vek import Vek, read_vek
from donjon.tee.snp.x509 import read_certificate
from donjon.wire.pki import shape

if TYPE_CHECKING:
    from donjon.tee.snp.evidence import Evidence

KDS = "https://kdsintf.amd.com"
MAX_PIECES = 64
"""Certificates, lists and VEKs, of each so many: the joined collateral of a heap of files."""
_PSS = "1.2.840.113549.1.1.10"
"""AMD signs all its certificates and lists with this."""

# Parameters of a VCEK's address. Source: VCEK-KDS, Get VCEK.
_PARAMETERS = (
    ("fmc", "fmcSPL"),
    ("bootloader", "blSPL"),
    ("tee", "teeSPL"),
    ("snp", "snpSPL"),
    ("microcode", "ucodeSPL"),
)


@dataclass(frozen=True, slots=True)
class Collateral:
    """What helps to judge the evidence; who sent it does not matter, as all of it is signed.

    Args:
        certificates: ARK, ASK or ASVK in DER, if somebody sent them. They add nothing, since ours are pinned; one that
            differs from ours is refused.
        crls: revocation lists in DER, of any product; the newest that the product's ARK has issued is used.
        veks: VCEKs and VLEKs in DER, for reports that came without; the one that fits is used.
        grace: how long after its end the newest list may still be used, because a newer one cannot be had. Whoever sets
            it says so to the policy as well, which has to allow what was really used.
    """

    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    veks: tuple[bytes, ...] = ()
    grace: timedelta = timedelta(0)


def join(own: Collateral, other: Collateral) -> Collateral:
    """Both together: of lists the newest is used anyway."""

    def both(one: tuple[bytes, ...], two: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if not one or not two:
            return one or two
        found = (*one, *(item for item in two if item not in one))
        if len(found) > MAX_PIECES:
            raise ParseError(f"SNP collateral: expected at most {MAX_PIECES} of a kind, got {len(found)}")
        return found

    return Collateral(
        both(own.certificates, other.certificates),
        both(own.crls, other.crls),
        both(own.veks, other.veks),
        max(own.grace, other.grace),
    )


def read_collateral(data: bytes) -> Collateral | None:
    """A certificate or a revocation list of AMD, in DER."""
    kind, algorithm = shape(data)
    if algorithm != _PSS or kind not in ("certificate", "crl"):
        return None
    if kind == "crl":
        return Collateral(crls=(data,))
    leaf = read_certificate(data).subject.common_name in {"SEV-VCEK", "SEV-VLEK"}
    return Collateral(veks=(data,)) if leaf else Collateral(certificates=(data,))


def read_roots(document: Mapping[str, Any], source: str) -> tuple[Roots, Collateral] | None:
    """There is no form of AMD's own."""
    del document, source
    return None


def find_vek(report: Report, collateral: Collateral) -> Vek | None:
    """Among the collateral, the certificate of the key that signed a report: the one that fits, or else any.

    Raises:
        ParseError: one of them is not well formed.
    """
    found = [read_vek(data) for data in collateral.veks]
    fitting = (vek for vek in found if vek.tcb.write() == report.guest.reported_tcb and _is_of_chip(vek, report))
    return next(fitting, found[0] if found else None)


def _is_of_chip(vek: Vek, report: Report) -> bool:
    return vek.hw_id is None or report.platform.chip_id == vek.hw_id.ljust(64, b"\0")


SIGNED = ("chain.vek_signature", "report.signature")
"""Checks that a report passes without any list; one that fails them makes nobody ask for one."""


def needs(evidence: Evidence) -> tuple[Need, ...]:
    """The product's revocation list; and for a report that came alone the VCEK of its chip, where it says which."""
    report, vek = evidence.report, evidence.vek
    product = Product.of_cpuid(report.cpuid) if report.cpuid else vek.product if vek else None
    kinds = {item.value: item for item in SigningKey}
    kind = vek.kind if vek else kinds.get(report.head.signer_info.signing_key)
    if product is None or kind not in (SigningKey.VCEK, SigningKey.VLEK):
        return ()
    lists = Need(f"crl-{kind.name.lower()}-{product.name.lower()}", SIGNED)
    chip = report.platform.chip_id
    if vek is not None or kind is not SigningKey.VCEK or not any(chip):
        return (lists,)
    name = f"vcek-{product.name.lower()}-{chip[: product.chip_id_size].hex()}-{report.guest.reported_tcb.hex()}"
    return (lists, Need(name, lasting=True))


def vcek_address(product: Product, chip_id: bytes, tcb: Tcb, service: str = KDS) -> str:
    """Where the VCEK of a chip at a TCB is, in DER.

    Args:
        chip_id: CHIP_ID, 64 bytes.
        tcb: REPORTED_TCB.
        service: of AMD, or of somebody who keeps copies.
    Raises:
        UsageError: the host masks its chip's id, so nobody can ask for its certificate.
    Source: VCEK-KDS, Get VCEK; of Turin's id the first 8 bytes.
    """
    if not any(chip_id):
        raise UsageError("VCEK: the report has no CHIP_ID", "have the host send the certificate along with the report")
    parts = tcb.parts()
    query = "&".join(f"{word}={parts[part]:02d}" for part, word in _PARAMETERS if part in parts)
    return f"{service}/vcek/v1/{product.name}/{chip_id[: product.chip_id_size].hex()}?{query}"


def crl_address(product: Product, kind: SigningKey = SigningKey.VCEK, service: str = KDS) -> str:
    """Where the revocation list of a product's ARK is, in DER. Source: VCEK-KDS, Get CRL."""
    return f"{service}/{kind.name.lower()}/v1/{product.name}/crl"


def chain_address(product: Product, kind: SigningKey = SigningKey.VCEK, service: str = KDS) -> str:
    """Where ASK or ASVK and ARK are, in PEM. Source: VCEK-KDS, Get Certificate Chain."""
    return f"{service}/{kind.name.lower()}/v1/{product.name}/cert_chain"
