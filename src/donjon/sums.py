"""SHA-2 that loads OpenSSL only where there is much to hash.

`hashlib` loads OpenSSL's library: 3 ms of a start, and 50 in an emulated machine, where a Keep without TLS has no other
use for it. What is short is hashed by the interpreter's own code, which is there already, and several times slower.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Hash(Protocol):
        """What `hashlib` and the interpreter's own modules give alike."""

        def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
        def digest(self) -> bytes: ...


__all__ = ["SHORT", "new", "sha256"]

SHORT = 1 << 18
"""Bytes that are hashed without OpenSSL: 1 ms."""


def _own() -> dict[str, Callable[[], Hash]]:
    """The interpreter's: in one module since CPython 3.12, in two before; none in another Python."""
    for homes in (("_sha2", "_sha2"), ("_sha256", "_sha512")):
        try:
            short, long = map(__import__, homes)
        except ImportError:
            continue
        return {"sha224": short.sha224, "sha256": short.sha256, "sha384": long.sha384, "sha512": long.sha512}
    return {}


_OWN = _own()


def new(name: str, size: int) -> Hash:
    """A hash of nothing yet, that is going to be fed about `size` bytes.

    Args:
        name: sha224, sha256, sha384, sha512.
    """
    if size > SHORT or "_hashlib" in sys.modules or name not in _OWN:
        import hashlib

        return hashlib.new(name)
    return _OWN[name]()


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """SHA-256: 32 bytes."""
    hashed = new("sha256", len(data))
    hashed.update(data)
    return hashed.digest()
