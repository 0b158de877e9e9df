"""Evidence of this machine: a report from configfs-tsm, with the certificates that the host sent along.

The host need not send any. Then the report goes out alone, as an OCTET STRING, and whoever judges it asks AMD for the
certificate.
"""

from __future__ import annotations

from donjon.errors import PlatformError
from donjon.tee import tsm
from donjon.tee.snp.certtable import read_table
from donjon.tee.snp.evidence import encode, parse
from donjon.tee.snp.layout import SigningKey, read_report
from donjon.tee.snp.x509 import read_crl
from donjon.wire import der

__all__ = ["collect"]


def collect(report_data: bytes, root: str = tsm.ROOT, privlevel: int | None = None) -> bytes:
    """Have the processor sign `report_data`.

    Args:
        report_data: 64 bytes.
        privlevel: the VMPL to ask for; None leaves it to the kernel.
    Returns:
        The value of a certificate request's extension.
    Raises:
        UsageError: the report data has another length. PlatformError: this machine cannot do it, or did something else.
    """
    found = tsm.report(report_data, "snp", root, privlevel)
    report = tsm.understood("snp", lambda: read_report(found.report))
    if report.guest.report_data != report_data:
        raise PlatformError("SNP report: expected it to bind what was asked for, got other report data")
    names = {item.value: item.name for item in SigningKey}
    key = names.get(report.head.signer_info.signing_key, "")
    if key not in ("VCEK", "VLEK"):
        raise PlatformError(
            "SNP report: expected a signature by the VCEK or VLEK, got none", "the host's operator has masked the key"
        )
    certificates = tsm.understood("snp", lambda: read_table(found.auxiliary))
    if key not in certificates:
        return der.encode(der.OCTET_STRING, found.report)
    crls = [("", certificates["CRL"])] if "CRL" in certificates else []
    evidence = encode(found.report, certificates[key], crls)
    tsm.understood("snp", lambda: (parse(evidence), [read_crl(crl) for _, crl in crls]))
    return evidence
