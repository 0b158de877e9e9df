"""Simulated hardware: what it is asked for it makes, and it says that it is simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from donjon.errors import UsageError
from donjon.tee import snp
from donjon.tee.snp import roots
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import ORGANIZATION, Vendor
from tests.tee.snp.machines import NOW, Case, Machines


def test_everything_verified_with_its_roots_says_so(machines: Machines) -> None:
    verdict = Case(machines.genoa).judge()
    assert verdict.require().simulated
    assert "simulated: proves nothing about the host" in verdict.notes


def test_its_certificates_do_not_carry_the_name_of_amd(machines: Machines) -> None:
    for data in (*machines.vendor.roots.anchors.values(), machines.genoa.vek):
        assert ORGANIZATION.encode() in data
        assert b"Advanced Micro" not in data


def test_its_roots_are_made_once(vendor: Vendor) -> None:
    assert vendor.roots is vendor.roots
    assert not set(vendor.roots.anchors.values()) & set(snp.vendor_roots().anchors.values())
    assert set(vendor.roots.anchors) == set(roots.PINNED)


def test_machines_differ_by_their_seed(vendor: Vendor) -> None:
    ids = {vendor.chip(Product.Turin, NOW, seed=seed).chip_id for seed in (b"", b"1", b"1")}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda chip: chip.report(colour=1), "simulated report: no row of the name colour"),
        (lambda chip: chip.report(vmpl=1 << 40), "ReportHead.vmpl at 0x030: expected a number of 4 bytes"),
        (lambda chip: chip.report(report_data=b""), "ReportGuest.report_data at 0x050: expected 64 bytes, got 0"),
        (lambda chip: chip.signature(b""), "simulated report: expected 672 bytes to sign, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_what_no_report_can_hold(machines: Machines, ask: Callable[[Any], bytes], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(machines.genoa)
    assert caught.value.message.startswith(text)


@pytest.mark.slow
def test_makes_a_vendor_of_its_own() -> None:
    vendor = Vendor.make(NOW)
    chip = vendor.chip(Product.Turin, NOW)
    report = snp.verify(*snp.assemble(chip.report(), [chip.vek]), vendor.roots, NOW)
    assert report.simulated
