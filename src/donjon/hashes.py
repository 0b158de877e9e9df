"""SHA-2 without OpenSSL where little is hashed.

`hashlib` loads OpenSSL: 3 ms of a start on a host, 40 of one in an emulated machine. The interpreter has the same
functions built in, slower by half a processor's worth; so what is small takes them, and the rest OpenSSL's.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["digest", "new", "sha256"]

SMALL = 1 << 20
"""Bytes from which on loading OpenSSL pays."""
_SHORT = {"sha224": "_sha256", "sha256": "_sha256", "sha384": "_sha512", "sha512": "_sha512"}
"""Name -> where Python 3.11 has it; from 3.12 on all are in `_sha2`."""


def new(name: str, size: int) -> _Hash:
    """A hash of nothing yet.

    Args:
        name: sha224, sha256, sha384 or sha512.
        size: of all that will be hashed, in bytes, as far as is known.
    """
    if size < SMALL:
        for module in ("_sha2", _SHORT[name]):
            try:
                found: _Hash = getattr(__import__(module), name)()
            except ImportError:
                continue
            return found
    import hashlib

    return hashlib.new(name)


def digest(name: str, data: bytes | bytearray | memoryview) -> bytes:
    """The hash of these bytes."""
    made = new(name, len(data))
    made.update(data)
    return made.digest()


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """SHA-256 of these bytes."""
    return digest("sha256", data)
