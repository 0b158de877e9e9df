"""Enclaves on simulated platforms (`donjon.tee.intel.simulate`), for `donjon.sim`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from donjon.errors import UsageError
from donjon.tee.intel.evidence import encode_evidence
from donjon.tee.intel.simulate import (
    MAKER,
    Maker,
    SimulatedPlatform,
    dump,
    enclave,
    make,
    open_maker,
    renew,
    roots,
)
from donjon.tee.intel.tcb import TcbStatus
from donjon.tee.simulated import Blobs, State, Word

__all__ = ["MAKER", "WORDS", "dump", "guest", "make", "open_maker", "renew", "roots"]

WORDS = (Word("tcb", "UpToDate", "Intel's lists know nothing against the platform"),)


def guest(maker: Maker, state: State, workload: bytes) -> Guest:
    """An enclave on a machine in this state.

    Args:
        workload: CONFIGID, at most 64 bytes.
    """
    if len(workload) > 64:
        raise UsageError(f"CONFIGID: expected at most 64 bytes, got {len(workload)}")
    return Guest(maker, state, workload.ljust(64, b"\0"))


@dataclass(frozen=True)
class Guest:
    """What an enclave can ask of its hardware."""

    maker: Maker
    state: State
    workload: bytes

    def blobs(self, report_data: bytes, now: datetime) -> Blobs:
        """The quote."""
        return Blobs(self._quote(self.maker.machine(now), report_data))

    def evidence(self, report_data: bytes, now: datetime) -> bytes:
        """The quote with Intel's collateral."""
        machine = self.maker.machine(now)
        collateral = self.maker.intel.collateral(machine, "sgx", now, TcbStatus(self.state["tcb"]))
        return encode_evidence(self._quote(machine, report_data), collateral)

    def _quote(self, machine: SimulatedPlatform, report_data: bytes) -> bytes:
        return machine.sgx_quote(enclave(report_data=report_data, config_id=self.workload))
