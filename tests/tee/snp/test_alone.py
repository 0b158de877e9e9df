"""A report that came alone is completed with real certificates of real machines, and with no other's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from donjon.errors import VerifyError
from donjon.tee import snp
from donjon.tee.snp.alone import complete, lacks
from donjon.tee.snp.evidence import encode, parse, wrap
from donjon.tee.snp.layout import Product, SigningKey, read_report
from donjon.tee.snp.simulate import Vendor
from donjon.tee.snp.vek import read_vek
from tests.tee.snp.test_vectors import EVIDENCE, files

REAL = [vector for vector in EVIDENCE if vector["authentic"]]


def named(data: dict[str, bytes]) -> bool:
    """Whether its certificate is one that can be asked for."""
    return read_report(data["report"]).cpuid is not None and read_vek(data["vek"]).kind is SigningKey.VCEK


@pytest.mark.parametrize("vector", REAL, ids=[vector["id"] for vector in REAL])
def test_a_real_report_gets_its_own_certificate(vector: dict[str, Any]) -> None:
    data = files(vector)
    alone = wrap(data["report"])
    if not named(data):
        assert lacks(alone) == ""
        return
    vek = read_vek(data["vek"])
    assert vek.hw_id is not None
    assert lacks(alone).split("-")[2:] == [vek.hw_id.hex(), vek.tcb.write().hex()]
    whole = complete(alone, data["vek"], snp.vendor_roots())
    assert whole == encode(data["report"], data["vek"])
    assert lacks(whole) == ""
    evidence, _ = parse(whole)
    assert evidence.vek == vek
    flipped = bytearray(data["report"])
    flipped[0x50] ^= 1  # of the report data
    with pytest.raises(VerifyError, match=r"report\.signature: "):
        complete(wrap(bytes(flipped)), data["vek"], snp.vendor_roots())
    with pytest.raises(VerifyError, match=r"report\.signature: "):
        complete(wrap(bytes(flipped)), data["vek"], None)


def test_at_least_one_of_them_can_be_asked_for() -> None:
    assert any(named(files(vector)) for vector in REAL)


def test_nobody_elses_certificate_will_do() -> None:
    found = [data for data in map(files, REAL) if named(data)]
    refused = 0
    for one in found:
        for other in found:
            if one["vek"] == other["vek"]:
                continue
            with pytest.raises(VerifyError):
                complete(wrap(one["report"]), other["vek"], snp.vendor_roots())
            refused += 1
    assert refused


def test_a_key_of_another_kind_cannot_have_signed_it_even_where_the_maker_is_unknown() -> None:
    vendor = Vendor.make(datetime(2026, 1, 1, tzinfo=UTC))
    chip = vendor.chip(Product.Genoa, datetime(2026, 1, 1, tzinfo=UTC))
    alone = wrap(chip.report(report_data=bytes(64)))
    assert complete(alone, chip.vek, None)
    rsa = vendor.usual(Product.Genoa, "ASK").spki
    with pytest.raises(VerifyError, match=r"vek\.key_is_p384: "):
        complete(alone, chip.changed(spki=rsa).vek, None)
