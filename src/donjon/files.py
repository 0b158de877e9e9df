"""Files that users name: read with a limit, and made for their owner alone, with one wording for what can go wrong.

What a file holds, its reader says. The lab (`sim/_files.py`), collectors and the cache of modules have their own rules.
Files of our own that others may read at any time appear whole: `replacing`.
"""

from __future__ import annotations

import contextlib
import os
import stat

from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["caches", "check_private", "create", "read", "replacing"]


def read(path: str, most: int, private: bool = False) -> bytes:
    """A file of at most `most` bytes.

    Args:
        private: it is a secret: nobody else may be able to read it, and it has to be this user's, or root's.
    Raises:
        UsageError: it is missing or a directory, or not as private as it should be.
        PlatformError: it cannot be read. ParseError: it is longer.
    """
    name = printable(path)
    try:
        with open(path, "rb") as stream:
            if private:
                check_private(name, os.fstat(stream.fileno()))
            data = stream.read(most + 1)
    except ValueError as error:
        raise UsageError(f"cannot read {name}: not a path", "check the path") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"cannot read {name}: {words_of(error)}", "check the path") from error
    except OSError as error:
        raise PlatformError(f"cannot read {name}: {words_of(error)}", "check who may read it") from error
    if len(data) > most:
        raise ParseError(f"{name}: expected at most {most} bytes, got more")
    return data


def create(path: str, data: bytes) -> None:
    """Make a file that only its owner can read: whole on disk when this returns, and not there when this raises.

    Raises:
        FileExistsError: something is there, and stays. OSError, ValueError: it cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        _sync_directory(path)
    except OSError:
        os.unlink(path)
        raise


@contextlib.contextmanager
def replacing(path: str, mode: int = 0o600, sync: bool = False) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` when the block ends: who reads it finds the old one or the new, whole.

    Until then it stands beside, under a name that nobody else has and that ends in `.new`. When the block raises, it is
    removed, and what had the name keeps it.

    Args:
        mode: less what the umask takes away.
        sync: the same after a power cut, and it is on disk when this returns.
    Raises:
        OSError: it cannot be made, written or renamed.
    """
    draft = f"{path}.{os.urandom(8).hex()}.new"  # in containers, processes share their numbers
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            if sync:
                stream.flush()
                os.fsync(descriptor)
        os.rename(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    if sync:
        _sync_directory(path)


def _sync_directory(path: str) -> None:
    """Have the name of a file on disk."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def caches() -> str:
    """Where what can be made again is kept for this user; "" where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):  # its specification: ignore what is not absolute
        base = os.path.expanduser("~/.cache") if os.environ.get("HOME", "~") else ""
    return f"{base}/donjon" if base.startswith("/") else ""


def check_private(name: str, about: os.stat_result) -> None:
    """Refuse a key's file that others can read, or that is neither this user's nor root's.

    Raises:
        UsageError: it is one.
    """
    mode = stat.S_IMODE(about.st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"{name}: expected a key that its owner alone can read, got the mode {mode:o}", f"chmod 600 {name}"
        )
    if about.st_uid not in (0, os.geteuid()):
        raise UsageError(f"{name}: expected a key of this user's, got one of user {about.st_uid}")
