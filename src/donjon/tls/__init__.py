"""Transparent TLS: the pipe (no I/O), the contexts that configure it, and the streams around it.

Names are loaded when first used: `ssl` takes 10 ms to import, and a workload without TLS does not need it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.tls.context import client_context, server_context
    from donjon.tls.pipe import FEED, RECORD, STARVED, TlsError, TlsPipe, Truncated, Unproven

__all__ = [
    "FEED", "RECORD", "STARVED", "TlsError", "TlsPipe", "Truncated", "Unproven", "client_context", "server_context",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from donjon.tls import context, pipe

    return getattr(context if name.endswith("_context") else pipe, name)
