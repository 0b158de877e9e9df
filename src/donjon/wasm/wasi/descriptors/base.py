"""What every descriptor has. A kind overrides what it can do; the rest refuses, as a native descriptor of that kind
would."""

from __future__ import annotations

from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.types import Eventtype, Filetype
from donjon.wasm.wasi.reactor import POLLIN, POLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import TypeAlias

    Buffers: TypeAlias = list[memoryview]
    Event: TypeAlias = tuple[int, int, int]

__all__ = ["EVENT_HANGUP", "Descriptor"]

POLLERR, POLLHUP, POLLNVAL = 8, 16, 32  # the same on Linux and macOS
EVENT_HANGUP = 1  # eventrwflags.fd_readwrite_hangup


class Descriptor:
    """One open thing of the guest's.

    Attributes:
        filetype: Filetype, as fd_fdstat_get reports it.
        rights, inheriting: Rights of this descriptor, and of what is opened through it.
        flags: Fdflag bits in force; NONBLOCK is honoured by us, whatever the host's descriptor is set to.
        host: the host's descriptor, which is polled; -1 if there is none.
    """

    __slots__ = ("filetype", "flags", "host", "inheriting", "rights")

    def __init__(self, host: int, filetype: int, rights: int, inheriting: int = 0, flags: int = 0) -> None:
        self.host = host
        self.filetype = filetype
        self.rights = rights
        self.inheriting = inheriting
        self.flags = flags

    # Every method raises WasiError or OSError; either becomes the call's errno.

    def readv(self, buffers: Buffers) -> int:
        """Read into the buffers in order; bytes read, 0 at the end of data."""
        raise WasiError(Errno.NOTSUP, "cannot be read")

    def writev(self, buffers: Buffers) -> int:
        """Write the buffers in order; bytes written, perhaps fewer than given."""
        raise WasiError(Errno.NOTSUP, "cannot be written")

    def preadv(self, buffers: Buffers, offset: int) -> int:
        """Read at a place, which only a file has."""
        raise WasiError(Errno.SPIPE, "has no position")

    def pwritev(self, buffers: Buffers, offset: int) -> int:
        """Write at a place, which only a file has."""
        raise WasiError(Errno.SPIPE, "has no position")

    def seek(self, offset: int, whence: int) -> int:
        """Move the position; the new one, from the start."""
        raise WasiError(Errno.SPIPE, "has no position")

    def recv(self, buffers: Buffers) -> int:
        """Receive; bytes received, 0 at the end of data."""
        raise WasiError(Errno.NOTSOCK, "is not a socket")

    def recv_with(self, buffers: Buffers, flags: int) -> int:
        """Receive with Riflag bits, at least one."""
        raise WasiError(Errno.NOTSOCK, "is not a socket")

    def send(self, buffers: Buffers) -> int:
        """Send; bytes sent."""
        raise WasiError(Errno.NOTSOCK, "is not a socket")

    def accept(self) -> Descriptor:
        """The next connection."""
        raise WasiError(Errno.NOTSOCK, "is not a socket")

    def shutdown(self, how: int) -> None:
        """Close directions, Sdflag bits."""
        raise WasiError(Errno.NOTSOCK, "is not a socket")

    def stat(self) -> os.stat_result | None:
        """The host's stat where the guest may see it; None: there is only a type."""
        return None

    def sync(self, data_only: bool) -> None:
        """Bring what was written to the disk."""
        raise WasiError(Errno.INVAL, "cannot be synchronised")

    def advise(self, offset: int, length: int, advice: int) -> None:
        """Hint at the use to come."""
        raise WasiError(Errno.SPIPE, "has no position")

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that this much can be written."""
        raise WasiError(Errno.SPIPE, "has no position")

    def set_size(self, size: int) -> None:
        """Cut or extend."""
        raise WasiError(Errno.INVAL, "has no size")

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set times in nanoseconds; None leaves one as it is."""
        raise WasiError(Errno.BADF, "has no times")

    def set_flags(self, flags: int) -> None:
        """Replace the Fdflag bits."""
        self.flags = flags

    def entries(self, cookie: int) -> Iterable[tuple[str, int, int]]:
        """Name, inode and filetype of what is in a directory, with "." and "..", from entry number `cookie` on.

        Cookie 0 takes a new picture of the directory; others refer to the last.
        """
        raise WasiError(Errno.NOTDIR, "is not a directory")

    def preopened(self) -> str | None:
        """The name under which the guest finds this directory; None: it does not."""
        return None

    def close(self) -> None:
        """Give back what it holds. Called once."""

    listens = False
    """Is it a listener, which sock_accept takes?"""

    # ---- waiting

    asks = False
    """Must `ready` always be asked before the kernel is?"""
    buffers = False
    """Can it know more than the kernel, and translate `woken` anew each time? Then it is in `Reactor.eager` while it
    does."""

    def ready(self, kind: int) -> Event | None:
        """What a poller gets at once, without asking the kernel: (errno, bytes, flags); None: ask the kernel."""
        return None

    def woken(self, kind: int, events: int) -> Event | None:
        """What a poller gets when the kernel reports `events` (poll's bits) for `host`; None: nothing for it after
        all."""
        if kind == Eventtype.FD_READ:
            if not events & (POLLIN | POLLERR | POLLHUP | POLLNVAL):
                return None
        elif not events & (POLLOUT | POLLERR | POLLHUP | POLLNVAL):
            return None
        if events & POLLNVAL:
            return (Errno.BADF, 0, 0)
        return (Errno.SUCCESS, 1, EVENT_HANGUP if events & POLLHUP else 0)

    def mask(self, kind: int) -> int:
        """The events of poll that can make `kind` (Eventtype) true."""
        return POLLIN if kind == Eventtype.FD_READ else POLLOUT

    def is_socket(self) -> bool:
        """Is it one of the kinds that sock_* take?"""
        return self.filetype == Filetype.SOCKET_STREAM
