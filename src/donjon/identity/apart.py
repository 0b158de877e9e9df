"""Makes an identity in a process of its own, which then ends.

The library that makes keys and certificates takes 50 ms to load and 12 MB as long as the process lives, as much as all
else in a Keep. So a fork loads it, makes what is asked for, and hands it back through a pipe; it can begin before the
result is needed. The key is never anywhere but in the memory of these two processes, which trust each other.
"""

from __future__ import annotations

import os

from donjon.errors import BugError, DonjonError, PlatformError, UsageError, words_of
from donjon.identity.chain import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Apart"]


class Apart:
    """An identity that is being made.

    Args:
        make: makes it, in the other process.
    """

    def __init__(self, make: Callable[[], Identity]) -> None:
        reader, writer = os.pipe()
        try:
            self._pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            raise PlatformError(f"cannot start a process that makes the Keep's key: {words_of(error)}") from error
        if self._pid == 0:
            os.close(reader)
            _make(make, writer)
        os.close(writer)
        self._reader = reader

    def result(self) -> Identity:
        """Wait for it; call this once.

        Raises:
            UsageError: it cannot be made as asked for.
            PlatformError: the library that makes it cannot be loaded.
            BugError: the other process failed.
        """
        with open(self._reader, "rb") as file:
            data = file.read()
        os.waitpid(self._pid, 0)
        parts = _split(data)
        if len(parts) < 2:
            raise BugError("the process that makes the Keep's key ended early")
        kind, *rest = parts
        if kind == b"identity":
            return Identity(rest[0], tuple(rest[1:]))
        family = {b"UsageError": UsageError, b"PlatformError": PlatformError}.get(kind, BugError)
        raise family(rest[0].decode(), rest[1].decode() or None)


def _make(make: Callable[[], Identity], writer: int) -> None:
    """In the other process: make, send, end."""
    try:
        made = make()
        parts = [b"identity", made._key, *made.chain]
    except DonjonError as error:
        parts = [type(error).__name__.encode(), error.message.encode(), (error.hint or "").encode()]
    except ImportError as error:
        hint = b"reinstall the Python package cryptography"
        parts = [b"PlatformError", f"cannot load what makes the Keep's key: {error}".encode(), hint]
    except BaseException as error:  # this process must not go on as if it were the Keep
        parts = [b"BugError", f"internal error: {type(error).__name__}: {error}".encode(), b""]
    try:
        with open(writer, "wb") as file:
            file.writelines(len(part).to_bytes(4, "big") + part for part in parts)
    finally:
        os._exit(0)


def _split(data: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at + 4 : end])
        at = end
    return parts
