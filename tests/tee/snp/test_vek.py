"""The certificates of keys: what they have to say, and what they may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from donjon.errors import ParseError
from donjon.tee.snp import vek as names
from donjon.tee.snp.layout import Product, SigningKey, Tcb
from donjon.tee.snp.simulate import Chip, name, number
from donjon.tee.snp.vek import read_vek
from donjon.wire import der
from tests.tee.snp.machines import Machines


def instead(chip: Chip, oid: str, value: bytes, critical: bool = False) -> Chip:
    return chip.with_extensions(oid, extra=((oid, critical, value),))


def test_reads_a_vcek(machines: Machines) -> None:
    vek = read_vek(machines.turin.vek)
    assert (vek.kind, vek.product, vek.struct_version, vek.csp_id) == (SigningKey.VCEK, Product.Turin, 1, None)
    assert vek.tcb == Tcb(fmc=1, bootloader=1, tee=1, snp=4, microcode=81)
    assert vek.hw_id == machines.turin.chip_id[:8]
    assert vek.certificate.serial == 0


def test_reads_a_vlek(machines: Machines) -> None:
    vek = read_vek(machines.cloud.vek)
    assert (vek.kind, vek.csp_id, vek.hw_id) == (SigningKey.VLEK, "CN=cloud.example", None)


@pytest.mark.parametrize("product", list(Product), ids=lambda product: product.name)
def test_reads_an_id_that_is_wrapped_as_x509_wants_it(machines: Machines, product: Product) -> None:
    chip = machines.chip(product, SigningKey.VCEK)
    size = product.chip_id_size
    wrapped = der.encode(der.OCTET_STRING, chip.chip_id[:size])
    assert read_vek(instead(chip, names.HW_ID, wrapped).vek).hw_id == chip.chip_id[:size]


def test_reads_a_product_with_its_stepping(machines: Machines) -> None:
    vek = read_vek(instead(machines.genoa, names.PRODUCT_NAME, der.encode(der.IA5_STRING, b"Genoa-B1")).vek)
    assert (vek.product, vek.product_name) == (Product.Genoa, "Genoa-B1")


def ia5(text: str) -> bytes:
    return der.encode(der.IA5_STRING, text.encode())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda m: m.genoa.changed(subject=name("SEV-Keep")),
            'VEK.subject: expected the name SEV-VCEK or SEV-VLEK, got "SEV-Keep"',
        ),
        (
            lambda m: m.genoa.changed(subject=der.encode(der.SEQUENCE)),
            'VEK.subject: expected the name SEV-VCEK or SEV-VLEK, got ""',
        ),
        *(
            (lambda m, oid=oid: m.genoa.with_extensions(oid), f"VEK: expected the extension {oid}, got none")
            for oid in (names.STRUCT_VERSION, names.PRODUCT_NAME, *names.SPL.values())
        ),
        (lambda m: m.genoa.with_extensions(names.HW_ID), "VEK: expected a hwID and no cspID in a VCEK"),
        (lambda m: m.cloud.with_extensions(names.CSP_ID), "VEK: expected a cspID and no hwID in a VLEK"),
        (
            lambda m: m.genoa.with_extensions(extra=((names.CSP_ID, False, ia5("x")),)),
            "VEK: expected a hwID and no cspID in a VCEK",
        ),
        (
            lambda m: m.cloud.with_extensions(extra=((names.HW_ID, False, bytes(64)),)),
            "VEK: expected a cspID and no hwID in a VLEK",
        ),
        (lambda m: instead(m.genoa, names.HW_ID, bytes(8)), "VEK.hwID: expected 64 bytes for Genoa, got 8"),
        (lambda m: instead(m.turin, names.HW_ID, bytes(64)), "VEK.hwID: expected 8 bytes for Turin, got 64"),
        (lambda m: instead(m.genoa, names.HW_ID, bytes(63)), "VEK.hwID at 0x000: expected OCTET STRING, got a value"),
        (lambda m: m.turin.with_extensions(names.SPL_FMC), "VEK.fmcSPL: expected one for Turin"),
        (
            lambda m: m.genoa.with_extensions(extra=((names.SPL_FMC, False, number(1)),)),
            "VEK.fmcSPL: expected none for Genoa",
        ),
        *(
            (
                lambda m, oid=oid: instead(m.genoa, oid, number(1)),
                f"VEK.extension {oid}: expected 0, got 1",
            )
            for oid in names.SPL_RESERVED
        ),
        (
            lambda m: instead(m.genoa, names.SPL["snp"], number(256)),
            f"VEK.extension {names.SPL['snp']}: expected a number of 1 byte, got 256",
        ),
        (
            lambda m: instead(m.genoa, names.SPL["snp"], number(-1)),
            f"VEK.extension {names.SPL['snp']}: expected a number of 1 byte, got -1",
        ),
        (
            lambda m: instead(m.genoa, names.SPL["snp"], number(1) + b"\0"),
            f"VEK.extension {names.SPL['snp']}.end at 0x003: expected no more bytes, got 1",
        ),
        (
            lambda m: instead(m.genoa, names.PRODUCT_NAME, der.encode(der.UTF8_STRING, b"Genoa")),
            f"VEK.extension {names.PRODUCT_NAME} at 0x000: expected IA5String, got UTF8String",
        ),
        (
            lambda m: instead(m.genoa, names.PRODUCT_NAME, ia5("Genoa\x1b[2J")),
            f"VEK.extension {names.PRODUCT_NAME}: expected at most 256 printable characters",
        ),
        (
            lambda m: instead(m.cloud, names.CSP_ID, ia5("x" * 257)),
            f"VEK.extension {names.CSP_ID}: expected at most 256 printable characters",
        ),
        (
            lambda m: m.genoa.with_extensions(extra=(("1.2.3.4", True, b""),)),
            "VEK.extensions: expected no unknown critical extension, got 1.2.3.4",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses(machines: Machines, change: object, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_vek(change(machines).vek)  # type: ignore[operator]
    assert caught.value.message == text


def test_takes_an_unknown_extension_that_is_not_critical(machines: Machines) -> None:
    assert read_vek(machines.genoa.with_extensions(extra=(("1.2.3.4", False, b""),)).vek).product is Product.Genoa


def test_an_unknown_product_is_no_error_of_form(machines: Machines) -> None:
    chip = instead(machines.genoa, names.PRODUCT_NAME, ia5("Venice-A0"))
    assert read_vek(chip.vek).product is None
    assert read_vek(replace(chip, tcb=Tcb(fmc=1, bootloader=1, tee=1, snp=1, microcode=1)).vek).product is None
