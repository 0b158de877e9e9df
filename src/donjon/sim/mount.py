"""Puts simulated hardware's files under a mount point, by FUSE, so that collectors talk to a real file system.

It needs /dev/fuse, libfuse (on Debian the package fuse3) and the Python package mfusepy. Only the user who mounts it
can look into it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from importlib import import_module
from typing import Any

from donjon.errors import PlatformError, UsageError, words_of
from donjon.sim.kernel import Rules

__all__ = ["missing", "mount"]

DEVICE = "/dev/fuse"
ENDED = 8
"""What fuse_main of libfuse 3 gives when a signal has ended it."""


def missing() -> PlatformError | None:
    """Why nothing can be mounted on this machine; None when something can."""
    if not os.path.exists(DEVICE):
        return PlatformError(f"cannot mount: there is no {DEVICE}", "modprobe fuse; in a container: --device /dev/fuse")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return PlatformError(f"cannot mount: this user may not open {DEVICE}", f"run as root, or chmod 666 {DEVICE}")
    try:
        _library()
    except PlatformError as error:
        return error
    return None


def mount(rules: Rules, where: str, ready: Callable[[], None]) -> None:
    """Mount, and serve until a signal ends it or somebody unmounts it.

    Args:
        where: a directory that is there.
        ready: called when it can be used.
    Raises:
        UsageError: there is no such directory. PlatformError: this machine cannot mount.
    """
    if not os.path.isdir(where):
        raise UsageError(f"{where}: expected a directory to mount on", f"mkdir -p {where}")
    reason = missing()
    if reason:
        raise reason
    library = _library()
    operations = _Operations(rules, ready)
    options = {"direct_io": True, "attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    try:
        with _default_signals():
            library.FUSE(
                operations,
                where,
                foreground=True,
                nothreads=True,
                fsname="donjon-sim",
                default_permissions=True,
                **options,
            )
    except RuntimeError as error:
        if operations.mounted and error.args == (ENDED,):
            return
        raise PlatformError(f"cannot mount on {where}: libfuse says {error}", "its own message is above") from error


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    """Libfuse ends properly on these signals where nobody else handles them; mfusepy takes care of SIGINT."""
    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread, where none can be set
        for number in (signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _library() -> Any:
    # It takes libfuse 2 where that is there too; but what helps users to mount, fusermount3, belongs to libfuse 3.
    if "FUSE_LIBRARY_PATH" not in os.environ and find_library("fuse3"):
        os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    try:
        return import_module("mfusepy")
    except ImportError as error:
        raise PlatformError("mounting needs the package mfusepy", "pip install mfusepy") from error
    except (OSError, AttributeError) as error:  # no libfuse, or one that it does not know
        said = words_of(error) if isinstance(error, OSError) else str(error)
        raise PlatformError(f"mounting needs libfuse: {said}", "apt-get install fuse3") from error


class _Operations:
    """What libfuse calls; what is not here, it refuses."""

    use_ns = True

    def __init__(self, rules: Rules, ready: Callable[[], None]) -> None:
        self._rules = rules
        self._ready = ready
        self._time = time.time_ns()
        self.mounted = False

    def init(self, path: str) -> None:
        del path
        self.mounted = True
        self._ready()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        del fh
        mode = self._rules.mode(path)
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._time)
        # The kernel says 4096 for every attribute, whatever it holds.
        size = 4096 if mode & 0o100000 else 0
        return {
            "st_mode": mode,
            "st_nlink": 1,
            "st_size": size,
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            **times,
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        del fh
        return [".", "..", *self._rules.names(path)]

    def mkdir(self, path: str, mode: int) -> int:
        del mode
        self._rules.make(path)
        return 0

    def rmdir(self, path: str) -> int:
        self._rules.remove(path)
        return 0

    def unlink(self, path: str) -> int:
        del path
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def create(self, path: str, mode: int, flags: int) -> int:
        del path, mode, flags
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def truncate(self, path: str, length: int) -> int:
        # Shells open with O_TRUNC; attributes take it and keep what they hold.
        del length
        self._rules.mode(path)
        return 0

    def open(self, path: str, flags: int) -> int:
        return self._rules.open(path, flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        del path
        return self._rules.read(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        del path
        return self._rules.write(fh, data, offset)

    def flush(self, path: str, fh: int) -> int:
        del path
        self._rules.flush(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        del path
        self._rules.release(fh)
        return 0
