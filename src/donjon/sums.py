"""SHA-2 that loads OpenSSL only where there is much to hash.

`hashlib` loads OpenSSL's library: 3 ms of a start, and 50 in an emulated machine, where a Keep without TLS has no other
use for it. What is short is hashed by the interpreter's own code, which is there already, and several times slower.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        """What `hashlib` and the interpreter's own modules give alike."""

        def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
        def digest(self) -> bytes: ...


__all__ = ["SHORT", "new", "sha256"]

SHORT = 1 << 18
"""Bytes that are hashed without OpenSSL: 1 ms."""

OWN = (("sha224", "_sha256"), ("sha256", "_sha256"), ("sha384", "_sha512"), ("sha512", "_sha512"))
"""Algorithm -> where CPython 3.11 has it; since 3.12 `_sha2` has all."""


def _own(name: str, home: str) -> object:
    for module in ("_sha2", home):
        try:
            return getattr(__import__(module), name)
        except ImportError:
            continue
    return None  # another Python than CPython


_OWN = {name: _own(name, home) for name, home in OWN}


def new(name: str, size: int) -> Hash:
    """A hash of nothing yet, that is going to be fed about `size` bytes.

    Args:
        name: sha224, sha256, sha384, sha512.
    """
    own = _OWN[name]
    if size > SHORT or "_hashlib" in sys.modules or own is None:
        import hashlib

        return hashlib.new(name)
    made: Hash = own()  # type: ignore[operator]
    return made


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """SHA-256: 32 bytes."""
    hashed = new("sha256", len(data))
    hashed.update(data)
    return hashed.digest()
