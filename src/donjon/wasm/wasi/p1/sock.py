"""sock_*: sockets, which are opened for the guest before it starts, or accepted from one of those.   [WASI-P1]

Whether TLS lies between the guest and the wire, the guest does not see here or anywhere.
"""

from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.rights import Rights
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import Fd, Fdflag, Fdflags, Iovecs, NewFd, Riflags, Sdflags, Siflags, Size, SizeRoflags

_RECV, _SEND = Rights.FD_READ, Rights.FD_WRITE  # preview 1 has no rights of their own for these


@wasi()
def sock_accept(guest: Guest, fd: Fd, flags: Fdflags) -> NewFd:
    """Take the next connection of a listener; on a TLS listener one whose handshake is done.   [WASI-P1 sock_accept]

    Only `nonblock` can be set by `flags`; the new connection does not inherit it from the listener.
    again: none is there and the listener is non-blocking. notsock: fd is not a socket. inval: fd does not listen.
    mfile: the guest has as many descriptors open as it may.
    """
    if flags & ~Fdflag.NONBLOCK:
        raise WasiError(Errno.INVAL, f"fdflags {flags:#x}: expected nonblock or none")
    if not fd.is_socket():
        raise WasiError(Errno.NOTSOCK, "is not a socket")
    if not fd.listens:
        raise WasiError(Errno.INVAL, "does not listen")
    if not fd.rights & Rights.SOCK_ACCEPT:
        raise WasiError(Errno.NOTCAPABLE, "the right was given up")
    if len(guest.fds) >= guest.limit:
        raise WasiError(Errno.MFILE, f"{guest.limit} descriptors are open, which is the limit")
    connection = fd.accept()
    if flags:
        connection.set_flags(flags)
    return guest.add(connection)


@wasi()
def sock_recv(guest: Guest, fd: Fd, ri_data: Iovecs, ri_flags: Riflags) -> SizeRoflags:
    """Receive; 0 bytes are the end of the peer's data.   [WASI-P1 sock_recv]

    again: nothing is there and the socket is non-blocking. connreset: the peer is gone, or ended TLS without saying so.
    notsock: fd is not a socket. notconn: it listens. notcapable: fd lacks fd_read.
    """
    if not fd.rights & _RECV:
        _refuse(fd)
    return fd.recv_with(ri_data, ri_flags) if ri_flags else fd.recv(ri_data)


@wasi()
def sock_send(guest: Guest, fd: Fd, si_data: Iovecs, si_flags: Siflags) -> Size:
    """Send, perhaps only a part.   [WASI-P1 sock_send]

    again: no room and the socket is non-blocking. pipe: this direction is closed. notsock: fd is not a socket.
    """
    if not fd.rights & _SEND:
        _refuse(fd)
    return fd.send(si_data)


@wasi()
def sock_shutdown(guest: Guest, fd: Fd, how: Sdflags) -> None:
    """Close one direction or both; with TLS the peer is told by close_notify.   [WASI-P1 sock_shutdown]

    inval: how names no direction. notsock: fd is not a socket. notconn: it listens.
    """
    if not how:
        raise WasiError(Errno.INVAL, "sdflags 0: expected rd, wr or both")
    if not fd.rights & Rights.SOCK_SHUTDOWN:
        _refuse(fd)
    fd.shutdown(how)


def _refuse(fd: Fd) -> None:
    """Say what is missing: a socket, a connection, or only the right."""
    if not fd.is_socket():
        raise WasiError(Errno.NOTSOCK, "is not a socket")
    if fd.listens:
        raise WasiError(Errno.NOTCONN, "listens, and has no peer")
    raise WasiError(Errno.NOTCAPABLE, "the right was given up")
