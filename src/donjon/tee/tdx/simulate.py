"""TD reports for simulated platforms (`donjon.tee.intel.simulate`)."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

from donjon.tee.intel.simulate import NEWER_TEE_TCB_SVN, TEE_TCB_SVN
from donjon.tee.tdx.layout import TdAttributes, TdReport10, TdReport15
from donjon.wire import pack

__all__ = ["td_report"]


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
