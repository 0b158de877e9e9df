"""Is a TDX quote genuine?"""

from __future__ import annotations

from datetime import datetime

from donjon.tee.contract import Checks, Roots, VerifiedReport, utc
from donjon.tee.intel.verify import Findings, Genuine, Quote, Td, check_quote, genuine
from donjon.tee.tdx.collateral import Collateral
from donjon.tee.tdx.evidence import Evidence
from donjon.tee.tdx.layout import TdAttributes

TCB_ID = "TDX"
QE_ID = "TD_QE"


def verify(
    evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime
) -> VerifiedReport[Genuine[Evidence]]:
    """Say whether a quote is genuine.

    Raises:
        EvidenceError: it is not, or collateral is missing or not fresh; carries all checks.
        ParseError: a certificate, a CRL or a signed object inside cannot be read.
    """
    # A quote is genuine when a genuine platform signed it, see the list in `donjon.tee.intel.verify`.
    # Not asked here: is it acceptable (policy.py), also of the platform's state, which is found out but not judged.
    # The event log is not part of the quote: whether it fits is asked there too.
    now = utc(now)
    checks = Checks("tdx")
    found = examine(checks, evidence, collateral, roots, now)
    report = genuine(checks, evidence, found, collateral, roots)
    body = evidence.body
    return checks.verified(
        product=f"FMSPC {report.platform.fmspc.hex().upper()}",
        measurement=body.mr_td,
        report_data=body.report_data,
        workload=body.mr_config_id,
        report=report,
        claims={
            "mrtd": body.mr_td.hex(),
            "mrseam": body.mr_seam.hex(),
            "rtmr": [item.hex() for item in (body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3)],
            "debug": TdAttributes.DEBUG in body.td_attributes,
            "migratable": TdAttributes.MIGRATABLE in body.td_attributes,
            "event_log": evidence.events is not None,
        },
        tcb=report.tcb() | {"tee_tcb_svn": body.tee_tcb_svn.hex()},
        judged_at=now,
        valid_from=found.valid_from,
        valid_until=found.valid_until,
        simulated=roots.simulated,
    )


def examine(checks: Checks, evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime) -> Findings:
    """The same without an end: every check is made, none is drawn a conclusion from. For diagnosis."""
    body, newer = evidence.body, evidence.newer
    newest = newer.tee_tcb_svn_2 if newer else None
    td = Td(body.tee_tcb_svn, newest, body.mr_signer_seam, body.seam_attributes)
    quote = Quote(TCB_ID, QE_ID, evidence.signed, evidence.signature, td)
    return check_quote(checks, quote, collateral, roots, now)
