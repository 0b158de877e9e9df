"""The shipped table of minimum security version numbers, `floors.toml`: what it says of a processor."""

from __future__ import annotations

import tomllib
from datetime import date
from functools import cache

import msgspec

from donjon.tee.snp.layout import Cpuid, Product


class Microcode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lowest microcode of one processor."""

    family: int
    model: int
    stepping: int
    at_least: int


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lowest numbers of a product.

    Args:
        unknown: parts for which nobody here knows a number.
    """

    unknown: tuple[str, ...]
    snp: int | None = None


class Floors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole table.

    Args:
        date: when somebody last looked for newer numbers.
    """

    date: date
    microcode: tuple[Microcode, ...]
    Milan: Parts
    Genoa: Parts
    Turin: Parts


@cache
def shipped() -> Floors:
    """The table that came with this version."""
    with open(f"{__file__.rpartition('.')[0]}.toml", "rb") as file:
        return msgspec.convert(tomllib.load(file), Floors)


def minimum(product: Product, cpuid: Cpuid | None) -> dict[str, int]:
    """The lowest numbers, by part, as far as they are known.

    Args:
        cpuid: what the report says of its processor; None asks no microcode.
    """
    floors = shipped()
    found: dict[str, int] = {}
    parts: Parts = getattr(floors, product.name)
    if parts.snp is not None:
        found["snp"] = parts.snp
    for row in floors.microcode:
        if cpuid is not None and (row.family, row.model, row.stepping) == (cpuid.family, cpuid.model, cpuid.stepping):
            found["microcode"] = row.at_least
    return found
