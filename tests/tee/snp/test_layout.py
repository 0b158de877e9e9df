"""The report's bytes: what each version allows where, and that every reserved byte and bit is looked at."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.tee.snp.layout import (
    SIGNED,
    SIZE,
    Cpuid,
    Product,
    ReportGuest,
    ReportHead,
    ReportPlatform,
    ReportSignature,
    Tcb,
    read_report,
)
from donjon.wire import pack
from donjon.wire.layout import table_of
from tests.tee.snp.machines import Machines


def damaged(report: bytes, at: int, value: int) -> bytes:
    data = bytearray(report)
    data[at] = value
    return bytes(data)


RESERVED = {
    2: [*range(0x04C, 0x050), *range(0x188, 0x1A0), 0x1EB, 0x1EF, *range(0x1F8, 0x2A0), *range(0x330, 0x4A0)],
    3: [*range(0x04C, 0x050), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x1F8, 0x2A0), *range(0x330, 0x4A0)],
    4: [*range(0x04C, 0x050), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x208, 0x2A0), *range(0x330, 0x4A0)],
    5: [*range(0x04C, 0x050), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x208, 0x2A0), *range(0x330, 0x4A0)],
}


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_refuses_each_reserved_byte_that_is_set_and_no_other(machines: Machines, version: int) -> None:
    report = machines.genoa.report(version=version)
    refused = set()
    for at in range(SIZE):
        try:
            read_report(damaged(report, at, 0x80))
        except ParseError:
            refused.add(at)
    # Beside the reserved bytes: VERSION and SIGNATURE_ALGO, which have one value each, POLICY and SIGNER_INFO, whose
    # bits are all known or refused.
    others = {*range(0x004), *range(0x00A, 0x010), *range(0x034, 0x038), *range(0x048, 0x04C)}
    assert refused == set(RESERVED[version]) | others


@pytest.mark.parametrize(
    ("at", "value", "text"),
    [
        (0x04F, 0xCC, "ReportHead.reserved_04c at 0x04c: expected 4 zero bytes, got 000000cc"),
        (0x000, 0x06, "ReportHead.version at 0x000: expected one of 2, 3, 4, 5, got 6"),
        (0x034, 0x02, "ReportHead.signature_algo at 0x034: expected 1, got 2"),
        (0x00B, 0x04, "ReportHead.policy at 0x008: expected no unknown bits, got 0x4000000"),
        (0x00A, 0x01, "ReportHead.policy at 0x008: expected bit 17 to be 1, got 0"),
        (0x048, 0x20, "ReportHead.signer_info at 0x048: expected no unknown bits, got 0x20"),
        (0x1EB, 0x01, "ReportPlatform.reserved_1eb at 0x1eb: expected 1 zero bytes, got 01"),
        (
            0x49F,
            0x01,
            "ReportSignature.reserved_330 at 0x330: expected 368 zero bytes, got 01 at byte 367 of it",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_says_what_is_wrong_and_where(machines: Machines, at: int, value: int, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_report(damaged(machines.genoa.report(), at, value))
    assert caught.value.message == text


@pytest.mark.parametrize("size", [0, 1, 672, 1183, 1185, 4000])
def test_refuses_another_size(size: int) -> None:
    with pytest.raises(ParseError, match=f"^SNP report: expected 1184 bytes, got {size}$"):
        read_report(bytes(size))


def test_versions_differ_in_what_they_show(machines: Machines) -> None:
    reports = {version: read_report(machines.genoa.report(version=version)) for version in (2, 3, 4, 5)}
    assert [version for version, report in reports.items() if report.cpuid is None] == [2]
    assert [version for version, report in reports.items() if report.mitigations is not None] == [5]
    assert reports[5].mitigations is not None
    assert reports[5].mitigations.current_mit_vector == 0x3F


def test_version_4_may_hold_anything_where_version_5_has_its_vectors(machines: Machines) -> None:
    report = machines.genoa.report(version=4, undescribed_1f8=b"\xff" * 16)
    assert read_report(report).mitigations is None
    assert read_report(report).signed == report[:SIGNED]


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, Product.Milan),
        (0x19, 0x0F, Product.Milan),
        (0x19, 0x10, Product.Genoa),
        (0x19, 0x1F, Product.Genoa),
        (0x19, 0x20, None),
        (0x19, 0x9F, None),
        (0x19, 0xA0, Product.Genoa),
        (0x19, 0xAF, Product.Genoa),
        (0x19, 0xB0, None),
        (0x1A, 0x00, Product.Turin),
        (0x1A, 0x11, Product.Turin),
        (0x1A, 0x12, None),
        (0x17, 0x01, None),
    ],
)
def test_knows_a_product_by_its_processor(family: int, model: int, product: Product | None) -> None:
    assert Product.of_cpuid(Cpuid(family=family, model=model, stepping=0)) is product


def test_turin_has_another_order_of_version_numbers() -> None:
    data = bytes.fromhex("0102030400000005")
    assert Tcb.read(data, Product.Turin).parts() == {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 5}
    with pytest.raises(ParseError, match=r"TcbRowsMilan\.reserved_2 at 0x002"):
        Tcb.read(data, Product.Genoa)
    data = bytes.fromhex("0102000000000405")
    assert Tcb.read(data, Product.Milan).parts() == {"bootloader": 1, "tee": 2, "snp": 4, "microcode": 5}
    with pytest.raises(ParseError, match=r"TcbRowsTurin\.reserved_4 at 0x004"):
        Tcb.read(data, Product.Turin)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 5), st.booleans())
def test_version_numbers_are_read_as_written(numbers: tuple[int, ...], turin: bool) -> None:
    fmc, bootloader, tee, snp, microcode = numbers
    tcb = Tcb(fmc=fmc if turin else None, bootloader=bootloader, tee=tee, snp=snp, microcode=microcode)
    assert Tcb.read(tcb.write(), Product.Turin if turin else Product.Genoa) == tcb


def test_the_parts_of_a_report_fill_it() -> None:
    tables = [table_of(part) for part in (ReportHead, ReportGuest, Cpuid, ReportPlatform)]
    for one, other in pairwise(tables):
        assert one.start + one.size == other.start
    assert table_of(ReportSignature).start == SIGNED
    assert table_of(ReportSignature).start + table_of(ReportSignature).size == SIZE


def test_what_was_read_is_written_again(machines: Machines) -> None:
    data = machines.turin.report(vmpl=2, report_data=bytes(range(64)))
    report = read_report(data)
    assert report.cpuid is not None
    assert report.mitigations is not None
    parts = (report.head, report.guest, report.cpuid, report.platform, report.mitigations, report.signature)
    assert b"".join(map(pack, parts)) == data
