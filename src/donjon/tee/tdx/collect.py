"""Evidence of this machine: a quote from configfs-tsm. Intel's collateral is not to be had here: others add it."""

from __future__ import annotations

from donjon.errors import PlatformError
from donjon.tee import tsm
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.evidence import encode_evidence
from donjon.tee.tdx.evidence import parse_quote

__all__ = ["collect"]


def collect(report_data: bytes, root: str = tsm.ROOT) -> bytes:
    """Have the processor sign `report_data`.

    Args:
        report_data: 64 bytes.
    Returns:
        The value of a certificate request's extension: the quote without the zeros that the kernel fills it up with.
        What else follows a quote stays, for policy to judge.
    Raises:
        UsageError: the report data has another length. PlatformError: this machine cannot do it, or did something else.
    """
    found = tsm.report(report_data, "tdx", root)
    quote = tsm.understood("tdx", lambda: parse_quote(found.report))
    if quote.body.report_data != report_data:
        raise PlatformError("TDX quote: expected it to bind what was asked for, got other report data")
    return encode_evidence(quote.raw + quote.trailing, Collateral())
