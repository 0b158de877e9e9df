"""Standard input, output and error, and `null`."""

from __future__ import annotations

import os
import select
import stat

from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.rights import Rights
from donjon.wasm.wasi.p1.types import Fdflag, Filetype
from donjon.wasm.wasi.reactor import POLLIN, POLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.wasm.wasi.descriptors.base import Buffers, Event
    from donjon.wasm.wasi.reactor import Reactor

__all__ = ["Null", "Stdio"]

_COMMON = Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_FILESTAT_GET | Rights.POLL_FD_READWRITE
_PLACE = Rights.FD_SEEK | Rights.FD_TELL | Rights.FD_ADVISE


class Stdio(Descriptor):
    """A stream that the Keep got from who started it: a terminal, a pipe, a file or a socket.

    The host's descriptor is shared with other processes, so its mode is never changed: what the guest sets is kept
    here.

    Args:
        host: the host's descriptor; it stays open when the guest closes its own, so that no file opened later gets its
            number, and what others write there.
        writes: output, else input.
    """

    __slots__ = ("_blocking", "_reactor", "_read", "_write")

    def __init__(self, host: int, writes: bool, reactor: Reactor) -> None:
        mode = os.fstat(host).st_mode
        filetype = _filetype(mode)
        rights = _COMMON | (Rights.FD_WRITE | Rights.FD_SYNC | Rights.FD_DATASYNC if writes else Rights.FD_READ)
        if filetype == Filetype.REGULAR_FILE:
            rights |= _PLACE  # a terminal must not have these: isatty() in wasi-libc asks for exactly that
        super().__init__(host, filetype, rights)
        self._reactor = reactor
        self._blocking = filetype in (Filetype.REGULAR_FILE, Filetype.BLOCK_DEVICE)

    def readv(self, buffers: Buffers) -> int:
        if self.flags or self._reactor.tasks:
            self._prepare(POLLIN)
        while True:
            try:
                return os.readv(self.host, buffers)
            except BlockingIOError:  # whoever gave us the descriptor made it non-blocking
                self._prepare(POLLIN)

    def writev(self, buffers: Buffers) -> int:
        if (self.flags or self._reactor.tasks) and not self._blocking:
            return self._write_pieces(buffers)
        while True:
            try:
                return os.write(self.host, buffers[0]) if len(buffers) == 1 else os.writev(self.host, buffers)
            except BlockingIOError:
                self._prepare(POLLOUT)

    def _write_pieces(self, buffers: Buffers) -> int:
        """Write what there is room for: a pipe that is writable has room for PIPE_BUF bytes, and more could block."""
        done = 0
        for buffer in buffers:
            for at in range(0, len(buffer), select.PIPE_BUF):
                piece = buffer[at : at + select.PIPE_BUF]
                try:
                    self._prepare(POLLOUT)
                    count = os.write(self.host, piece)
                except (OSError, WasiError):
                    if done:
                        return done  # the next write meets the error again
                    raise
                done += count
                if count < len(piece):
                    return done
        return done

    def _prepare(self, mask: int) -> None:
        """Wait until the kernel would not make us wait, or say that the guest would have to."""
        if self._blocking:
            return
        if not self.flags & Fdflag.NONBLOCK:
            self._reactor.wait(self.host, mask)
            return
        poller = select.poll()
        poller.register(self.host, mask)
        if not poller.poll(0):
            raise WasiError(Errno.AGAIN, "would block")

    def seek(self, offset: int, whence: int) -> int:
        return os.lseek(self.host, offset, whence)

    def preadv(self, buffers: Buffers, offset: int) -> int:
        return os.preadv(self.host, buffers, offset)

    def pwritev(self, buffers: Buffers, offset: int) -> int:
        return os.pwritev(self.host, buffers, offset)

    def stat(self) -> os.stat_result | None:
        return os.fstat(self.host)

    def sync(self, data_only: bool) -> None:
        os.fsync(self.host)

    def advise(self, offset: int, length: int, advice: int) -> None:
        """A hint, and the host needs none for what it owns."""


class Null(Descriptor):
    """Nothing comes out, everything goes in: `kind = "null"`."""

    __slots__ = ()
    asks = True

    def __init__(self) -> None:
        super().__init__(-1, Filetype.UNKNOWN, _COMMON | Rights.FD_READ | Rights.FD_WRITE)

    def readv(self, buffers: Buffers) -> int:
        return 0

    def writev(self, buffers: Buffers) -> int:
        return sum(map(len, buffers))

    def ready(self, kind: int) -> Event | None:
        return (Errno.SUCCESS, 0, 0)


def _filetype(mode: int) -> int:
    if stat.S_ISCHR(mode):
        return Filetype.CHARACTER_DEVICE
    if stat.S_ISREG(mode):
        return Filetype.REGULAR_FILE
    if stat.S_ISSOCK(mode):
        return Filetype.SOCKET_STREAM
    if stat.S_ISBLK(mode):
        return Filetype.BLOCK_DEVICE
    return Filetype.UNKNOWN  # a pipe: preview 1 has no name for it
