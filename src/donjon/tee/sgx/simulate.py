"""Enclaves on simulated platforms (`donjon.tee.intel.simulate`), for `donjon.sim`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from donjon.errors import UsageError
from donjon.tee.intel.evidence import encode_evidence
from donjon.tee.intel.layout import Attributes
from donjon.tee.intel.simulate import (
    MACHINE_WORDS,
    MAKER,
    QE_WORDS,
    TCB_WORDS,
    Maker,
    SimulatedPlatform,
    dump,
    enclave,
    make,
    open_maker,
    published,
    renew,
    roots,
)
from donjon.tee.simulated import Blobs, State, Word

__all__ = ["MAKER", "WORDS", "dump", "guest", "make", "open_maker", "renew", "roots"]

# fmt: off
WORDS = (
    *TCB_WORDS,
    *QE_WORDS,
    *MACHINE_WORDS,
    Word("guest", "sealed", "an enclave in its production mode"),
    Word("guest", "debug", "the host can read and change it", "enclave.debug"),
    Word("guest", "provisioning-key", "it can recognise the platform for ever", "enclave.features"),
)
# fmt: on
_EXTRA = {
    "sealed": Attributes(0),
    "debug": Attributes.DEBUG,
    "provisioning-key": Attributes.PROVISION_KEY,
}


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

    def blobs(self, report_data: bytes, now: datetime, privlevel: int | None = None) -> Blobs:
        """The quote."""
        del privlevel
        return Blobs(self._quote(self.maker.machine(self.state, now), report_data))

    def evidence(self, report_data: bytes, now: datetime) -> bytes:
        """The quote with Intel's collateral."""
        machine = self.maker.machine(self.state, now)
        quote = self._quote(machine, report_data)
        return encode_evidence(quote, self.maker.collateral(self.state, machine, "sgx", now))

    def collateral(self, now: datetime) -> bytes:
        """Intel's lists and CRLs."""
        return published(self.maker, self.state, "sgx", now)

    def _quote(self, machine: SimulatedPlatform, report_data: bytes) -> bytes:
        usual = enclave()
        attributes = usual.attributes | _EXTRA[self.state["guest"]]
        body = replace(usual, report_data=report_data, config_id=self.workload, attributes=attributes)
        return machine.sgx_quote(body)
