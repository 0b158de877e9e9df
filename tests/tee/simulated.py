"""Good simulated evidence of every TEE, as a request carries it, with all collateral that the format has room for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from donjon import tee
from donjon.tee import cca, sgx, snp, tdx
from donjon.tee.cca.simulate import SimulatedRealm
from donjon.tee.contract import Demands, Roots, Verdict, appraise
from donjon.tee.intel.simulate import enclave
from donjon.tee.sgx.layout import Attributes
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Vendor
from donjon.tee.tdx.simulate import td_report
from tests.tee.cca import simulated as arm
from tests.tee.intel import simulated as intel
from tests.tee.intel.simulated import NOW
from tests.tee.snp.machines import DAY

__all__ = ["NAMES", "NOW", "Maker", "World"]

NAMES = tuple(name for name in tee.ALL if name != "kvm")

KSS = Attributes.INIT | Attributes.MODE64BIT | Attributes.KSS
"""Without the last, an enclave has no CONFIGID."""


@dataclass(frozen=True)
class Maker:
    """One TEE.

    Args:
        make: report data (64 bytes) and a workload (as many as its field has) → evidence.
        field: bytes of the workload field.
        table: of the policy that accepts it.
    """

    name: str
    make: Callable[[bytes, bytes], bytes]
    roots: Roots
    field: int
    table: dict[str, Any]

    @property
    def kind(self) -> Any:
        """The TEE's module."""
        return tee.load(self.name)

    def judge(self, evidence: bytes, demands: Demands) -> Verdict:
        """All three steps."""

        def verify() -> Any:
            return self.kind.verify(*self.kind.parse(evidence), self.roots, NOW)

        return appraise(self.kind, verify, self.kind.Policy.read(self.table, self.name), demands)


class World:
    """One machine of each sort.

    Args:
        vendor: of the AMD machine, whose keys take long to make.
    """

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = replace(vendor, since=NOW - 400 * DAY)
        self.chip = self.vendor.chip(Product.Genoa, NOW - 10 * DAY)
        self.amd_crl = self.vendor.crl(Product.Genoa, NOW - DAY)
        self.makers = {
            "snp": Maker("snp", self._snp, self.vendor.roots, 32, {"products": ["Genoa"]}),
            "sgx": Maker("sgx", self._sgx, intel.intel().roots(), 64, {}),
            "tdx": Maker("tdx", self._tdx, intel.intel().roots(), 48, {}),
            "cca": Maker("cca", self._cca, arm.platform().roots(), 64, {}),
        }

    def _snp(self, data: bytes, workload: bytes) -> bytes:
        report = self.chip.report(report_data=data, host_data=workload)
        return snp.encode(report, self.chip.vek, [("", self.amd_crl)])

    def _sgx(self, data: bytes, workload: bytes) -> bytes:
        quote = intel.platform().sgx_quote(enclave(report_data=data, config_id=workload, attributes=KSS))
        return sgx.wrap(quote, intel.intel().collateral(intel.platform(), "sgx", NOW))

    def _tdx(self, data: bytes, workload: bytes) -> bytes:
        quote = intel.platform().tdx_quote(td_report(report_data=data, mr_config_id=workload))
        return tdx.wrap(quote, intel.intel().collateral(intel.platform(), "tdx", NOW))

    def _cca(self, data: bytes, workload: bytes) -> bytes:
        return cca.wrap(arm.platform().token(SimulatedRealm(arm.RIM, workload), data))
