"""TD reports for simulated platforms (`donjon.tee.intel.simulate`), and TDs for `donjon.sim`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from donjon.errors import UsageError
from donjon.tee.intel.evidence import encode_evidence
from donjon.tee.intel.simulate import (
    MACHINE_WORDS,
    MAKER,
    MODULE_WORDS,
    NEWER_TEE_TCB_SVN,
    QE_WORDS,
    TCB_WORDS,
    TEE_TCB_SVN,
    Maker,
    SimulatedPlatform,
    dump,
    make,
    open_maker,
    published,
    renew,
    roots,
)
from donjon.tee.intel.tcb import TcbStatus
from donjon.tee.simulated import Blobs, Measured, Started, State, Word
from donjon.tee.tdx.layout import TdAttributes, TdReport10, TdReport15
from donjon.wire import pack

__all__ = ["MAKER", "WORDS", "dump", "guest", "make", "measure", "open_maker", "renew", "roots", "td_report"]


def td_report(*, newer: bool = True, **changes: Any) -> bytes:
    """A TD in its production mode, on a module that has been updated since the TD started.

    Args:
        newer: a report 1.5; else 1.0.
        changes: fields of `TdReport10` and `TdReport15`.
    """
    name = hashlib.sha384(b"a simulated TD").digest()
    body = TdReport10(
        tee_tcb_svn=TEE_TCB_SVN,
        mr_seam=hashlib.sha384(b"the simulated TDX module").digest(),
        mr_signer_seam=bytes(48),
        seam_attributes=bytes(8),
        td_attributes=TdAttributes.SEPT_VE_DISABLE,
        xfam=0x602E7,
        mr_td=name,
        mr_config_id=bytes(48),
        mr_owner=bytes(48),
        mr_owner_config=bytes(48),
        rtmr0=bytes(48),
        rtmr1=bytes(48),
        rtmr2=bytes(48),
        rtmr3=bytes(48),
        report_data=bytes(64),
    )
    rest = TdReport15(tee_tcb_svn_2=NEWER_TEE_TCB_SVN, mr_service_td=bytes(48))
    later = {item.name for item in fields(TdReport15)}
    body = replace(body, **{key: value for key, value in changes.items() if key not in later})
    rest = replace(rest, **{key: value for key, value in changes.items() if key in later})
    return pack(body) + (pack(rest) if newer else b"")


# For donjon.sim, see donjon.tee.simulated

_RELAUNCH = {
    TcbStatus.TD_RELAUNCH_ADVISED: "the TDX module has been updated, the TD started before that",
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: "it has, and the machine's owner must have switched something",
}
# fmt: off
WORDS = (
    *TCB_WORDS,
    *(Word("tcb", str(status), about, "tcb.status") for status, about in _RELAUNCH.items()),
    *QE_WORDS,
    *MODULE_WORDS,
    *MACHINE_WORDS,
    Word("quote", "quote-5", "version 5, with a TD report 1.5"),
    Word("quote", "quote-5-td-1.0", "version 5, with a TD report 1.0"),
    Word("quote", "quote-4", "version 4, which has TD reports 1.0 only"),
    Word("guest", "sealed", "a TD in its production mode"),
    Word("guest", "debug", "the host can read and change it", "td.debug"),
    Word("guest", "migratable", "a service TD can move it elsewhere", "td.migratable"),
)
# fmt: on
_EXTRA = {
    "sealed": TdAttributes(0),
    "debug": TdAttributes.DEBUG,
    "migratable": TdAttributes.MIGRATABLE,
}
PADDED = 8000
"""Bytes of what Linux hands out for a quote: zeros fill it up."""


def measure(started: Started) -> Measured:
    """The registers, as the TDX module, the firmware and the kernel between them make them.

    RTMR0, the machine's set-up, stays zero: nothing of the machine that is simulated runs QEMU's tables for it.
    """
    from donjon.tee.tdx.measure import mrtd, rtmr1, rtmr2

    return {
        "mr_td": mrtd(started.firmware),
        "rtmr1": rtmr1(started.kernel),
        "rtmr2": rtmr2(started.cmdline, started.initrd),
    }


_OF_LAUNCH = frozenset({"mr_td", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2"})


def guest(maker: Maker, state: State, workload: bytes, measured: Measured | None = None) -> Guest:
    """A TD on a machine in this state.

    Args:
        workload: MRCONFIGID, at most 48 bytes.
        measured: rows of the report that the launch decides.
    """
    if len(workload) > 48:
        raise UsageError(f"MRCONFIGID: expected at most 48 bytes, got {len(workload)}")
    if unknown := set(measured or {}) - _OF_LAUNCH:
        raise UsageError(f"simulated report: no launch decides about {min(unknown)}")
    return Guest(maker, state, workload.ljust(48, b"\0"), measured or {})


@dataclass(frozen=True)
class Guest:
    """What a TD can ask of its hardware."""

    maker: Maker
    state: State
    workload: bytes
    measured: Measured

    def blobs(self, report_data: bytes, now: datetime, privlevel: int | None = None) -> Blobs:
        """The quote, filled up as Linux does it."""
        del privlevel
        return Blobs(self._quote(self.maker.machine(self.state, now), report_data).ljust(PADDED, b"\0"))

    def evidence(self, report_data: bytes, now: datetime) -> bytes:
        """The quote with Intel's collateral."""
        machine = self.maker.machine(self.state, now)
        quote = self._quote(machine, report_data)
        return encode_evidence(quote, self.maker.collateral(self.state, machine, "tdx", now))

    def collateral(self, now: datetime) -> bytes:
        """Intel's lists and CRLs."""
        return published(self.maker, self.state, "tdx", now)

    def _quote(self, machine: SimulatedPlatform, report_data: bytes) -> bytes:
        # Where it is not said that a newer module has been loaded meanwhile, the module is the TD's own.
        updated = self.state["tcb"] in _RELAUNCH
        report = td_report(
            newer=self.state["quote"] == "quote-5",
            **self.measured,
            report_data=report_data,
            mr_config_id=self.workload,
            td_attributes=TdAttributes.SEPT_VE_DISABLE | _EXTRA[self.state["guest"]],
            tee_tcb_svn_2=NEWER_TEE_TCB_SVN if updated else TEE_TCB_SVN,
        )
        return machine.tdx_quote(report, 4 if self.state["quote"] == "quote-4" else 5)
