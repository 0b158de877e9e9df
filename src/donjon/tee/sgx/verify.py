"""Is an SGX quote genuine?"""

from __future__ import annotations

from datetime import datetime

from donjon.tee.contract import Checks, Roots, VerifiedReport, utc
from donjon.tee.intel.verify import Findings, Genuine, Quote, check_quote, genuine
from donjon.tee.sgx.collateral import Collateral
from donjon.tee.sgx.evidence import Evidence
from donjon.tee.sgx.layout import Attributes

TCB_ID = "SGX"
QE_ID = "QE"


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
    now = utc(now)
    checks = Checks("sgx")
    found = examine(checks, evidence, collateral, roots, now)
    report = genuine(checks, evidence, found, collateral, roots)
    body = evidence.body
    return checks.verified(
        product=f"FMSPC {report.platform.fmspc.hex().upper()}",
        measurement=body.mr_enclave,
        report_data=body.report_data,
        # Only with KSS does the processor say what the launcher put there; without it the bytes are zero.
        workload=body.config_id if Attributes.KSS in body.attributes else b"",
        report=report,
        claims={
            "mrenclave": body.mr_enclave.hex(),
            "mrsigner": body.mr_signer.hex(),
            "isv_prod_id": body.isv_prod_id,
            "isv_svn": body.isv_svn,
            "debug": Attributes.DEBUG in body.attributes,
            "sgx_type": str(report.platform.sgx_type),
        },
        tcb=report.tcb(),
        judged_at=now,
        valid_from=found.valid_from,
        valid_until=found.valid_until,
        simulated=roots.simulated,
    )


def examine(checks: Checks, evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime) -> Findings:
    """The same without an end: every check is made, none is drawn a conclusion from. For diagnosis."""
    quote = Quote(TCB_ID, QE_ID, evidence.signed, evidence.signature)
    return check_quote(checks, quote, collateral, roots, now)
