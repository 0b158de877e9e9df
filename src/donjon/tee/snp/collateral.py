"""What helps to judge evidence, and where AMD keeps it.

AMD's key distribution service (KDS) serves VCEKs by chip and TCB, and for each product a chain and a revocation list.
VLEKs it gives to cloud providers only. It answers slowly and turns away who asks often, so what was fetched is kept: a
VCEK for ever, as it never changes, a list until it ends. Fetching is not done here, and no address ever comes from
evidence: these are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from donjon.errors import UsageError
from donjon.tee.snp.layout import Product, SigningKey, Tcb

KDS = "https://kdsintf.amd.com"

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
    """

    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()

    def joined(self, other: Collateral) -> Collateral:
        """Both together: e.g. what came with a request, and what the service has fetched."""
        return Collateral(self.certificates + other.certificates, self.crls + other.crls)


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
