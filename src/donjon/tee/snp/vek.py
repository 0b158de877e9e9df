"""The certificate of the key that signs reports: VCEK (of one chip) or VLEK (of one cloud provider), at one TCB.

What it says beyond a usual certificate is in extensions below 1.3.6.1.4.1.3704.1:

    .1  structVersion   INTEGER            .3.1  bootloader       .3.4 to .3.7  reserved, zero
    .2  productName     IA5String          .3.2  tee              .3.8  microcode
    .4  hwID            64 or 8 bytes      .3.3  snp              .3.9  fmc, from Turin on
    .5  cspID           IA5String, VLEK only; hwID is in a VCEK only

The security numbers are those that the key was derived from: a machine with lower ones cannot have the key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from donjon.errors import ParseError
from donjon.log import printable
from donjon.tee.snp.layout import Product, SigningKey, Tcb
from donjon.tee.snp.x509 import Certificate, read_certificate
from donjon.wire import der
from donjon.wire.der import Der

ARC = "1.3.6.1.4.1.3704.1"
STRUCT_VERSION = f"{ARC}.1"
PRODUCT_NAME = f"{ARC}.2"
HW_ID = f"{ARC}.4"
CSP_ID = f"{ARC}.5"
SPL = {
    "bootloader": f"{ARC}.3.1",
    "tee": f"{ARC}.3.2",
    "snp": f"{ARC}.3.3",
    "microcode": f"{ARC}.3.8",
}
SPL_FMC = f"{ARC}.3.9"
SPL_RESERVED = tuple(f"{ARC}.3.{number}" for number in (4, 5, 6, 7))

_KINDS = {"SEV-VCEK": SigningKey.VCEK, "SEV-VLEK": SigningKey.VLEK}


@dataclass(frozen=True, slots=True)
class Vek:
    """A VCEK or VLEK, well formed and no more.

    Args:
        kind: by its subject's name.
        product_name: as it is written: the product, and sometimes a stepping behind a hyphen.
        product: None for one that we do not know.
        tcb: what the key was derived from.
        hw_id: the chip's id, 64 or 8 bytes; None in a VLEK.
        csp_id: the cloud provider's; None in a VCEK.
    """

    certificate: Certificate
    kind: SigningKey
    struct_version: int
    product_name: str
    product: Product | None
    tcb: Tcb
    hw_id: bytes | None
    csp_id: str | None


@lru_cache(maxsize=1024)
def read_vek(data: bytes) -> Vek:
    """Read a VCEK or VLEK.

    Args:
        data: DER.
    Raises:
        ParseError: not well formed; an extension is missing, of a wrong kind, or one too many.
    Source: VCEK-KDS, VCEK Certificate Definition, VLEK Certificate Definition.
    """
    certificate = read_certificate(data)
    name = certificate.subject.common_name
    kind = _KINDS.get(name)
    if kind is None:
        raise ParseError(f'VEK.subject: expected the name SEV-VCEK or SEV-VLEK, got "{printable(name[:40])}"')
    known = {STRUCT_VERSION, PRODUCT_NAME, HW_ID, CSP_ID, SPL_FMC, *SPL.values(), *SPL_RESERVED}
    for oid, extension in certificate.extensions.items():
        if extension.critical and oid not in known:
            raise ParseError(f"VEK.extensions: expected no unknown critical extension, got {oid}")
    product_name = _text(certificate, PRODUCT_NAME)
    product = {item.name: item for item in Product}.get(product_name.partition("-")[0])
    turin = SPL_FMC in certificate.extensions
    if product is not None and turin != (product is Product.Turin):
        raise ParseError(f"VEK.fmcSPL: expected {'one' if not turin else 'none'} for {product_name}")
    for oid in SPL_RESERVED:
        # Milan and Genoa have four of them, Turin three: the fourth byte became fmc.
        if (oid in certificate.extensions) and (number := _number(certificate, oid)):
            raise ParseError(f"VEK.extension {oid}: expected 0, got {number}")
    tcb = Tcb(
        **{part: _number(certificate, oid) for part, oid in SPL.items()},
        fmc=_number(certificate, SPL_FMC) if turin else None,
    )
    hw_id = _hw_id(certificate)
    csp_id = certificate.extensions.get(CSP_ID)
    if kind is SigningKey.VCEK and (hw_id is None or csp_id is not None):
        raise ParseError("VEK: expected a hwID and no cspID in a VCEK")
    if kind is SigningKey.VLEK and (csp_id is None or hw_id is not None):
        raise ParseError("VEK: expected a cspID and no hwID in a VLEK")
    size = product.chip_id_size if product else None
    if hw_id is not None and size is not None and len(hw_id) != size:
        raise ParseError(f"VEK.hwID: expected {size} bytes for {product_name}, got {len(hw_id)}")
    return Vek(
        certificate,
        kind,
        _number(certificate, STRUCT_VERSION),
        product_name,
        product,
        tcb,
        hw_id,
        _text(certificate, CSP_ID) if csp_id else None,
    )


def _hw_id(certificate: Certificate) -> bytes | None:
    """The chip's id: AMD writes the bytes themselves; an OCTET STRING, as the rules of X.509 would have it, will do."""
    extension = certificate.extensions.get(HW_ID)
    if extension is None or len(extension.value) in {8, 64}:
        return None if extension is None else extension.value
    value = Der(extension.value, "VEK.hwID")
    octets = value.octets("")
    value.end()
    return octets


def _value(certificate: Certificate, oid: str) -> Der:
    extension = certificate.extensions.get(oid)
    if extension is None:
        raise ParseError(f"VEK: expected the extension {oid}, got none")
    return Der(extension.value, f"VEK.extension {oid}")


def _number(certificate: Certificate, oid: str) -> int:
    """A security number: one byte, written as an INTEGER."""
    value = _value(certificate, oid)
    number = value.integer("")
    value.end()
    if not 0 <= number <= 0xFF:
        raise ParseError(f"VEK.extension {oid}: expected a number of 1 byte, got {number}")
    return number


def _text(certificate: Certificate, oid: str) -> str:
    value = _value(certificate, oid)
    text = value.text(der.IA5_STRING, "")
    value.end()
    if len(text) > 256 or not text.isprintable():
        raise ParseError(f"VEK.extension {oid}: expected at most 256 printable characters")
    return text
