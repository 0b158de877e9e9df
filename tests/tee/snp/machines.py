"""What the tests of SNP do again and again: take a machine that is all right, change one thing, ask what fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from donjon.tee import snp
from donjon.tee.contract import Demands, Outcome, Roots, Verdict, VerifiedReport, appraise
from donjon.tee.snp.layout import Product, SigningKey
from donjon.tee.snp.simulate import Chip, Vendor

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)


@dataclass
class Case:
    """One judgement; every field is what is usual unless it is given.

    Args:
        rows: rows of the report.
        report: the whole report, instead.
        vek: the certificate, instead of the chip's.
        crls: instead of one that is a day old.
        chain: certificates sent along.
        policy: the table [snp].
        alone: the report came without the certificate.
        grace: for lists that have ended.
    """

    chip: Chip
    rows: Mapping[str, Any] = field(default_factory=dict)
    report: bytes | None = None
    vek: bytes | None = None
    crls: tuple[bytes, ...] | None = None
    chain: tuple[bytes, ...] = ()
    roots: Roots | None = None
    now: datetime = NOW
    policy: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    grace: timedelta = timedelta(0)

    def judge(self) -> Verdict:
        """All three steps."""
        vendor, product = self.chip.vendor, self.chip.product
        crls = self.crls if self.crls is not None else (fresh_crl(vendor, product),)
        report = self.report or self.chip.report(**self.rows)

        def verify() -> VerifiedReport[Any]:
            if self.alone:
                evidence, collateral = snp.parse(report)
            else:
                evidence, collateral = snp.assemble(report, [self.vek or self.chip.vek, *self.chain], crls)
            collateral = replace(collateral, grace=self.grace)
            return snp.verify(evidence, collateral, self.roots or vendor.roots, self.now)

        return appraise(
            snp,
            verify,
            snp.Policy.read({"products": [product.name], **self.policy}, "[snp]"),
            Demands(accept_unattested=True),
        )


_CRLS: dict[tuple[int, Product], bytes] = {}


def fresh_crl(vendor: Vendor, product: Product) -> bytes:
    """One that is a day old."""
    key = (id(vendor.keys), product)
    if key not in _CRLS:
        _CRLS[key] = vendor.crl(product, NOW - DAY)
    return _CRLS[key]


class Machines:
    """Machines, one of each sort."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.chip = cache(self._chip)

    def _chip(self, product: Product = Product.Genoa, kind: SigningKey = SigningKey.VCEK) -> Chip:
        return self.vendor.chip(product, NOW - 10 * DAY, kind)

    @property
    def genoa(self) -> Chip:
        """The usual machine."""
        return self.chip(Product.Genoa, SigningKey.VCEK)

    @property
    def turin(self) -> Chip:
        return self.chip(Product.Turin, SigningKey.VCEK)

    @property
    def milan(self) -> Chip:
        return self.chip(Product.Milan, SigningKey.VCEK)

    @property
    def cloud(self) -> Chip:
        """A machine of a cloud provider."""
        return self.chip(Product.Genoa, SigningKey.VLEK)


def failed(verdict: Verdict) -> dict[str, str]:
    """Name → text of each check that failed."""
    return {check.name: str(check) for check in verdict.checks if check.outcome is Outcome.FAILED}
