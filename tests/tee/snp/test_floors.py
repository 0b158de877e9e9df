"""The shipped table: complete, dated, and no number without a processor it is for."""

from __future__ import annotations

from datetime import date

from donjon.tee.snp import floors
from donjon.tee.snp.layout import Cpuid, Product
from donjon.tee.snp.simulate import CPUIDS, TCBS


def test_every_part_has_a_number_or_is_said_to_be_unknown() -> None:
    table = floors.shipped()
    for product in Product:
        parts: floors.Parts = getattr(table, product.name)
        named = set(parts.unknown) | {"microcode"} | ({"snp"} if parts.snp is not None else set())
        assert named == set(TCBS[product].parts())
    assert table.date >= date(2026, 11, 23)


def test_every_row_is_for_a_processor_of_a_product_that_we_know() -> None:
    rows = floors.shipped().microcode
    keys = [(row.family, row.model, row.stepping) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(Product.of_cpuid(Cpuid(family=f, model=m, stepping=s)) for f, m, s in keys)
    assert all(0 < row.at_least < 256 for row in rows)
    assert set(CPUIDS.values()) <= set(keys)


def test_microcode_is_asked_of_the_processor_that_the_number_is_for() -> None:
    milan_x = Cpuid(family=0x19, model=0x01, stepping=2)
    assert floors.minimum(Product.Milan, milan_x) == {"snp": 0x18, "microcode": 0x44}
    assert floors.minimum(Product.Milan, Cpuid(family=0x19, model=0x01, stepping=0)) == {"snp": 0x18}
    assert floors.minimum(Product.Genoa, None) == {"snp": 0x17}
    assert floors.minimum(Product.Turin, None) == {}
