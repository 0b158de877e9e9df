"""Evidence of a machine without a TEE: nothing, which proves nothing."""

from __future__ import annotations

from donjon.errors import UsageError

__all__ = ["collect"]


def collect(report_data: bytes, root: str = "") -> bytes:
    """Say nothing.

    Args:
        report_data: empty, as nothing can be bound. root: there is no device.
    Raises:
        UsageError: there is report data.
    """
    del root
    if report_data:
        raise UsageError(f"report data: expected none, as KVM binds nothing, got {len(report_data)} bytes")
    return b""
