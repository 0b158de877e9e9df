"""What AMD's key distribution service (KDS) publishes, as far as a Steward asks for it: lists, and VCEKs.

Chains are pinned, so nobody asks for them; a VLEK is given to cloud providers only. Nothing is connected to here.

    crl-vcek-genoa                       the list of the product's ARK, as it is published for VCEKs; or for VLEKs
    vcek-genoa-<chip id>-<TCB>           the certificate of a chip's key at a TCB, both as in the report
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from donjon.errors import ParseError, VerifyError
from donjon.tee.contract import Need, Piece, Roots
from donjon.tee.snp.collateral import KDS, SIGNED, Collateral, crl_address, read_collateral, vcek_address
from donjon.tee.snp.layout import Product, SigningKey, Tcb
from donjon.tee.snp.vek import read_vek
from donjon.tee.snp.x509 import MAX_CRL, Certificate, read_certificate, read_crl, signed_by

VENDOR = "amd"
BASE = KDS

_PRODUCTS = {item.name.lower(): item for item in Product}
_LIST = re.compile(rf"crl-(vcek|vlek)-({'|'.join(_PRODUCTS)})")
_VCEK = re.compile(rf"vcek-({'|'.join(_PRODUCTS)})-([0-9a-f]{{16}}|[0-9a-f]{{128}})-([0-9a-f]{{16}})")


def need(name: str) -> Need:
    """The need of this name."""
    if _LIST.fullmatch(name):
        return Need(name, SIGNED)
    match = _VCEK.fullmatch(name)
    if match is None or len(match[2]) != 2 * _PRODUCTS[match[1]].chip_id_size:
        raise ParseError(f"AMD publishes nothing of the name {name[:40]!a}")
    return Need(name, lasting=True)


def address(need: Need, base: str) -> str:
    """Where it is. Source: VCEK-KDS, Get VCEK, Get CRL."""
    if match := _LIST.fullmatch(need.name):
        return crl_address(_PRODUCTS[match[2]], SigningKey[match[1].upper()], base)
    product, chip, tcb = _vcek(need)
    return vcek_address(product, chip.ljust(64, b"\0"), tcb, base)


def keep(need: Need, body: bytes, headers: Mapping[str, str]) -> bytes:
    """DER, as it comes."""
    del headers
    if len(body) > MAX_CRL:
        raise ParseError(f"{need.name}: expected at most {MAX_CRL} bytes, got {len(body)}")
    return body


def sort(data: bytes) -> Mapping[str, bytes]:
    """A revocation list, which counts for both places where AMD has it; or a VCEK."""
    found = read_collateral(data)
    if found is None:
        return {}
    names: tuple[str, ...] = ()
    if found.crls:
        product = read_crl(data).issuer.common_name.removeprefix("ARK-").lower()
        names = tuple(f"crl-{kind}-{product}" for kind in ("vcek", "vlek") if product in _PRODUCTS)
    elif found.veks:
        vek = read_vek(data)
        if vek.product is not None and vek.hw_id is not None:
            names = (f"vcek-{vek.product.name.lower()}-{vek.hw_id.hex()}-{vek.tcb.write().hex()}",)
    return dict.fromkeys(names, data)


def piece(need: Need, kept: bytes, roots: Roots) -> Piece:
    """Read a list or a VCEK, and verify that AMD's key for this product has signed it."""
    if match := _LIST.fullmatch(need.name):
        ark = _anchor(roots, _PRODUCTS[match[2]], "ARK")
        crl = read_crl(kept, need.name)
        if crl.issuer.encoded != ark.subject.encoded or not signed_by(crl, ark):
            raise VerifyError(f"{need.name}: expected a signature by {ark.subject.common_name}, got another one")
        if crl.next_update is None:
            raise VerifyError(f"{need.name}: expected a list that says when it ends, got one that does not")
        return Piece(Collateral(crls=(kept,)), crl.this_update, crl.next_update)
    product, chip, tcb = _vcek(need)
    vek, ask = read_vek(kept), _anchor(roots, product, "ASK")
    if (vek.kind, vek.product, vek.hw_id, vek.tcb) != (SigningKey.VCEK, product, chip, tcb):
        raise VerifyError(f"{need.name[:20]}: expected the VCEK of this chip and TCB, got another certificate")
    leaf = vek.certificate
    if leaf.issuer.encoded != ask.subject.encoded or not signed_by(leaf, ask):
        raise VerifyError(f"{need.name[:20]}: expected a signature by {ask.subject.common_name}, got another one")
    return Piece(Collateral(veks=(kept,)), leaf.not_before, leaf.not_after)


def _vcek(need: Need) -> tuple[Product, bytes, Tcb]:
    match = _VCEK.fullmatch(need.name)
    if match is None:
        raise ParseError(f"AMD publishes nothing of the name {need.name[:40]!a}")
    product = _PRODUCTS[match[1]]
    return product, bytes.fromhex(match[2]), Tcb.read(bytes.fromhex(match[3]), product)


def _anchor(roots: Roots, product: Product, kind: str) -> Certificate:
    found = roots.anchors.get(f"{product.name}/{kind}")
    if found is None:
        raise VerifyError(f"expected a pinned {kind} of {product.name}, got none")
    return read_certificate(found, kind)
