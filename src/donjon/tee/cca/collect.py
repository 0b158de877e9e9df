"""Evidence of this machine: a token from configfs-tsm."""

from __future__ import annotations

from donjon.errors import PlatformError
from donjon.tee import tsm
from donjon.tee.cca.evidence import parse
from donjon.wire import der

__all__ = ["collect"]


def collect(report_data: bytes, root: str = tsm.ROOT) -> bytes:
    """Have the platform sign `report_data`.

    Args:
        report_data: 64 bytes, the realm's challenge.
    Returns:
        The value of a certificate request's extension.
    Raises:
        UsageError: the report data has another length. PlatformError: this machine cannot do it, or did something else.
    """
    found = tsm.report(report_data, "cca", root)
    token = tsm.understood("cca", lambda: parse(found.report))
    if token.realm.claims.challenge != report_data:
        raise PlatformError("CCA token: expected it to bind what was asked for, got another challenge")
    return der.encode(der.OCTET_STRING, found.report)
