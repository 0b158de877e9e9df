"""TCP sockets as they are: a listener, and a stream that was accepted or connected.

The host's sockets are always non-blocking. Whether the guest has to wait is decided by the flags it set; if it has to,
it waits in the reactor, where the background gets on with its work.
"""

from __future__ import annotations

import os
import socket

from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.rights import LISTENER, STREAM
from donjon.wasm.wasi.p1.types import Fdflag, Filetype, Riflag, Sdflag
from donjon.wasm.wasi.reactor import POLLIN, POLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.wasm.wasi.descriptors.base import Buffers
    from donjon.wasm.wasi.reactor import Reactor

__all__ = ["Budget", "Listener", "TcpListener", "TcpStream", "check_socket_flags", "length", "set_nodelay"]

_HOW = {Sdflag.RD: socket.SHUT_RD, Sdflag.WR: socket.SHUT_WR, Sdflag.RD | Sdflag.WR: socket.SHUT_RDWR}


class Budget:
    """How many connections the guest may have; shared by its listeners and streams."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self) -> bool:
        """Count one more; False: there are as many as there may be."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def give(self) -> None:
        """One less."""
        self.used -= 1


class TcpStream(Descriptor):
    """A connection.

    Args:
        connection: connected; it belongs to the stream from now on.
        budget: where the connection was counted already; closing gives it back.
    """

    __slots__ = ("_budget", "_reactor", "_socket")

    def __init__(self, connection: socket.socket, reactor: Reactor, budget: Budget) -> None:
        super().__init__(connection.fileno(), Filetype.SOCKET_STREAM, STREAM)
        connection.setblocking(False)
        self._socket = connection
        self._reactor = reactor
        self._budget = budget

    def readv(self, buffers: Buffers) -> int:
        while True:
            try:
                return os.readv(self.host, buffers)
            except BlockingIOError:
                if self.flags & Fdflag.NONBLOCK:
                    raise
                self._reactor.wait(self.host, POLLIN)

    recv = readv

    def recv_with(self, buffers: Buffers, flags: int) -> int:
        if flags & Riflag.RECV_PEEK:  # with RECV_WAITALL too: what is there can be looked at, what is not, not
            while True:
                try:
                    return self._socket.recvmsg_into(buffers, 0, socket.MSG_PEEK)[0]
                except BlockingIOError:
                    if self.flags & Fdflag.NONBLOCK:
                        raise
                    self._reactor.wait(self.host, POLLIN)
        return self._recv_all(buffers)

    def _recv_all(self, buffers: Buffers) -> int:
        """Fill the buffers; fewer bytes come at the end of data, after an error, or if the guest does not want to
        wait."""
        total = 0
        for buffer in buffers:
            at = 0
            while at < len(buffer):
                try:
                    count = self.readv([buffer[at:]])
                except OSError:
                    if total:
                        return total
                    raise
                if not count:
                    return total
                at += count
                total += count
        return total

    def writev(self, buffers: Buffers) -> int:
        try:
            count = os.write(self.host, buffers[0]) if len(buffers) == 1 else os.writev(self.host, buffers)
        except BlockingIOError:
            if self.flags & Fdflag.NONBLOCK:
                raise
            count = 0
        if self.flags & Fdflag.NONBLOCK or count == length(buffers):
            return count
        return self._write_rest(buffers, count)

    def _write_rest(self, buffers: Buffers, done: int) -> int:
        """A blocking write ends when everything is on its way, as a native one."""
        start = 0
        for buffer in buffers:
            end = start + len(buffer)
            while done < end:
                try:
                    done += os.write(self.host, buffer[done - start :])
                except BlockingIOError:
                    self._reactor.wait(self.host, POLLOUT)
                except OSError:
                    if done:
                        return done  # the next write meets the error again
                    raise
            start = end
        return done

    send = writev

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(_HOW[how])

    def set_flags(self, flags: int) -> None:
        self.flags = check_socket_flags(flags)

    def close(self) -> None:
        self._socket.close()
        self._budget.give()


class Listener(Descriptor):
    """What all listeners share: they hand out connections, and have no data themselves.

    Args:
        listener: bound and listening; it belongs to this descriptor from now on.
        budget: counts the connections that were accepted and are not closed.
    """

    __slots__ = ("_budget", "_reactor", "_socket")
    listens = True

    def __init__(self, listener: socket.socket, reactor: Reactor, budget: Budget) -> None:
        super().__init__(listener.fileno(), Filetype.SOCKET_STREAM, LISTENER, STREAM)
        listener.setblocking(False)
        self._socket = listener
        self._reactor = reactor
        self._budget = budget

    def readv(self, buffers: Buffers) -> int:
        raise WasiError(Errno.NOTCONN, "a listener has no data")

    recv = readv

    def recv_with(self, buffers: Buffers, flags: int) -> int:
        raise WasiError(Errno.NOTCONN, "a listener has no data")

    def send(self, buffers: Buffers) -> int:
        raise WasiError(Errno.NOTCONN, "a listener takes no data")

    def shutdown(self, how: int) -> None:
        raise WasiError(Errno.NOTCONN, "a listener has no directions")

    def set_flags(self, flags: int) -> None:
        self.flags = check_socket_flags(flags)

    def close(self) -> None:
        self._socket.close()


class TcpListener(Listener):
    """A listening socket whose connections are handed out as they come."""

    __slots__ = ()

    def accept(self) -> Descriptor:
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                if self.flags & Fdflag.NONBLOCK:
                    raise
                self._reactor.wait(self.host, POLLIN)
                continue
            if self._budget.take():
                set_nodelay(connection)
                return TcpStream(connection, self._reactor, self._budget)
            connection.close()  # one too many: the peer is told at once, not left waiting


def set_nodelay(connection: socket.socket) -> None:
    """Send small messages at once."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # macOS refuses it once the peer has reset the connection, and reading will tell so


def check_socket_flags(flags: int) -> int:
    """Of the flags only NONBLOCK means something on a socket; others are refused."""
    if flags & ~Fdflag.NONBLOCK:
        raise WasiError(Errno.INVAL, f"fdflags {flags:#x}: expected nonblock or none on a socket")
    return flags


def length(buffers: Buffers) -> int:
    """Bytes in all buffers."""
    return len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
