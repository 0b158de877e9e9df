"""What path_open opens besides directories: files, and the devices and named pipes that lie among them."""

from __future__ import annotations

import os

from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.descriptors.stdio import Stdio
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.rights import FILE, Rights
from donjon.wasm.wasi.p1.types import Eventtype, Fdflag, Filetype

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.wasm.wasi.descriptors.base import Buffers, Event
    from donjon.wasm.wasi.reactor import Reactor

__all__ = ["Device", "File", "set_times"]

_AFTER_WRITES = Fdflag.DSYNC | Fdflag.RSYNC | Fdflag.SYNC
_ADVICE = ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
"""In the order of preview 1's numbers, which is not the host's.   [WASI-P1 advice]"""


class File(Descriptor):
    """A regular file, or a block device, which can do the same.

    Args:
        handle: the host's descriptor, which becomes this one's. `Descriptor.host` stays -1, as nothing needs to be
            polled: a file is always ready.
        rights: those asked for; what makes no sense on a file is dropped, and so is, without FD_WRITE, what changes it.
        flags: Fdflag bits. The host knows about `append`; `dsync`, `rsync` and `sync` are kept by us, after each
            write, so that they can be changed while the file is open.
        filetype: Filetype.REGULAR_FILE, or BLOCK_DEVICE.
    """

    __slots__ = ("_handle",)
    asks = True

    def __init__(self, handle: int, rights: int, flags: int = 0, filetype: int = Filetype.REGULAR_FILE) -> None:
        rights &= FILE
        if not rights & Rights.FD_WRITE:
            rights &= ~(Rights.FD_ALLOCATE | Rights.FD_FILESTAT_SET_SIZE)
        super().__init__(-1, filetype, rights, 0, flags)
        self._handle = handle

    def readv(self, buffers: Buffers) -> int:
        if self.flags & Fdflag.RSYNC:
            self._settle()
        return os.readv(self._handle, buffers) if buffers else 0

    def writev(self, buffers: Buffers) -> int:
        done = os.writev(self._handle, buffers) if buffers else 0
        if self.flags & _AFTER_WRITES:
            self._settle()
        return done

    def preadv(self, buffers: Buffers, offset: int) -> int:
        if self.flags & Fdflag.RSYNC:
            self._settle()
        return os.preadv(self._handle, buffers, offset) if buffers else 0

    def pwritev(self, buffers: Buffers, offset: int) -> int:
        done = os.pwritev(self._handle, buffers, offset) if buffers else 0
        if self.flags & _AFTER_WRITES:
            self._settle()
        return done

    def _settle(self) -> None:
        """Bring to the disk as much as the flags want."""
        self.sync(data_only=not self.flags & Fdflag.SYNC)

    def seek(self, offset: int, whence: int) -> int:
        return os.lseek(self._handle, offset, whence)

    def stat(self) -> os.stat_result:
        return os.fstat(self._handle)

    def sync(self, data_only: bool) -> None:
        sync(self._handle, data_only)

    def advise(self, offset: int, length: int, advice: int) -> None:
        """Pass the hint on where the host takes hints; macOS does not."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._handle, offset, length, getattr(os, "POSIX_FADV_" + _ADVICE[advice]))

    def allocate(self, offset: int, length: int) -> None:
        if not hasattr(os, "posix_fallocate"):
            raise WasiError(Errno.NOTSUP, "this host cannot make room in a file")
        os.posix_fallocate(self._handle, offset, length)

    def set_size(self, size: int) -> None:
        os.ftruncate(self._handle, size)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        set_times(self._handle, atime, mtime)

    def set_flags(self, flags: int) -> None:
        if (flags ^ self.flags) & Fdflag.APPEND:
            import fcntl

            mode = fcntl.fcntl(self._handle, fcntl.F_GETFL)
            mode = mode | os.O_APPEND if flags & Fdflag.APPEND else mode & ~os.O_APPEND
            fcntl.fcntl(self._handle, fcntl.F_SETFL, mode)
        self.flags = flags

    def ready(self, kind: int) -> Event | None:
        left = 0
        if kind == Eventtype.FD_READ:
            left = max(0, os.fstat(self._handle).st_size - os.lseek(self._handle, 0, os.SEEK_CUR))
        return (Errno.SUCCESS, left, 0)

    def close(self) -> None:
        os.close(self._handle)


class Device(Stdio):
    """A character device or a named pipe that was found in a directory: a stream that is the guest's alone.

    It was opened without waiting, and does not make the Keep wait in the kernel later. So a named pipe differs from a
    native one in how it starts: nobody waits for the other end, a reader meets the end of data and a writer `nxio`.

    Args:
        handle: the host's descriptor, non-blocking, which becomes this one's.
        rights: those asked for; what makes no sense on a stream is dropped.
    """

    __slots__ = ()

    def __init__(self, handle: int, rights: int, flags: int, reactor: Reactor) -> None:
        super().__init__(handle, writes=True, reactor=reactor)
        self.rights = rights & (self.rights | Rights.FD_READ)
        self.flags = flags

    def close(self) -> None:
        os.close(self.host)


def sync(handle: int, data_only: bool) -> None:
    """Bring what was written to the disk; macOS makes no difference between data and the rest."""
    if data_only and hasattr(os, "fdatasync"):
        os.fdatasync(handle)
    else:
        os.fsync(handle)


def set_times(what: int | bytes, atime: int | None, mtime: int | None, parent: int | None = None) -> None:
    """Set times in nanoseconds; None leaves one as it is.

    Args:
        what: a host's descriptor, or with `parent` a name in that directory; a link of this name is not followed.
    """
    if atime is None and mtime is None:
        return
    follow = parent is None
    if atime is None or mtime is None:
        found = os.stat(what, dir_fd=parent, follow_symlinks=follow)
        atime = found.st_atime_ns if atime is None else atime
        mtime = found.st_mtime_ns if mtime is None else mtime
    os.utime(what, ns=(atime, mtime), dir_fd=parent, follow_symlinks=follow)
