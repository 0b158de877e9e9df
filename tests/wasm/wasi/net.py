"""Descriptors for a lab, with their other ends in the test's hands. Loopback only, ports chosen by the kernel."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from donjon.tls.listener import TlsListener
from donjon.wasm.wasi.descriptors.socket import Budget, TcpListener, TcpStream
from donjon.wasm.wasi.descriptors.stdio import Stdio
from tests.wasm.wasi.lab import Lab

T = TypeVar("T")
NONBLOCK = 4  # fdflags
SECONDS = 10.0  # the longest that the other end waits for anything


class Net:
    """Opens things, and closes them in the end."""

    def __init__(self, lab: Lab, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.lab = lab
        self.server = server
        self.client = client
        self.budget = Budget(64)
        self._sockets: list[socket.socket] = []
        self._pipes: list[int] = []

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        for pipe in self._pipes:
            os.close(pipe)

    def keep(self, each: socket.socket) -> socket.socket:
        self._sockets.append(each)
        return each

    # ---- pipes

    def stdin(self, flags: int = 0) -> tuple[int, int]:
        """A guest's standard input, and the host's descriptor to write to."""
        read, write = os.pipe()
        self._pipes += [read, write]
        return self.lab.add(Stdio(read, False, self.lab.guest.reactor), flags), write

    def stdout(self, flags: int = 0) -> tuple[int, int]:
        """A guest's standard output, and the host's descriptor to read from."""
        read, write = os.pipe()
        self._pipes += [read, write]
        return self.lab.add(Stdio(write, True, self.lab.guest.reactor), flags), read

    def hang_up(self, pipe: int) -> None:
        """Close the host's end of a pipe."""
        self._pipes.remove(pipe)
        os.close(pipe)

    # ---- TCP

    def tcp_listener(self, flags: int = 0) -> tuple[int, tuple[str, int]]:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        return self.lab.add(TcpListener(listener, self.lab.guest.reactor, self.budget), flags), address

    def tcp(self, flags: int = 0, room: int | None = None) -> tuple[int, socket.socket]:
        """A connection: the guest's descriptor and the peer.

        Args:
            room: bytes of the buffers on both sides, roughly; for tests of writing into a full one.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            if room:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            ours = socket.socket()
            if room:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
            ours.connect(listener.getsockname())
            theirs = self.keep(listener.accept()[0])
        theirs.settimeout(SECONDS)
        self.budget.take()
        return self.lab.add(TcpStream(ours, self.lab.guest.reactor, self.budget), flags), theirs

    def connect(self, address: tuple[str, int]) -> socket.socket:
        return self.keep(socket.create_connection(address, SECONDS))

    # ---- TLS

    def tls_listener(self, flags: int = 0) -> tuple[int, tuple[str, int]]:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        made = TlsListener(listener, self.server, self.lab.guest.reactor, self.budget)
        return self.lab.add(made, flags), address

    def tls_connect(self, address: tuple[str, int]) -> ssl.SSLSocket:
        """A TLS client; its handshake needs the listener's help, so it is for a thread of its own: `meanwhile`."""
        connection = socket.create_connection(address, SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = self.client.wrap_socket(connection, server_hostname="localhost")
        self._sockets.append(wrapped)
        return wrapped

    def tls(self, flags: int = 0, listener: tuple[int, tuple[str, int]] | None = None) -> tuple[int, ssl.SSLSocket]:
        """A TLS connection: the guest's descriptor and the peer."""
        fd, address = listener or self.tls_listener()
        with meanwhile(lambda: self.tls_connect(address)) as client:
            self.lab.ok("sock_accept", fd, flags, 640)
        return self.lab.u32(640), client.result()


class meanwhile(Generic[T]):
    """Do something in another thread, `after` some seconds, while the guest waits in a call."""

    def __init__(self, work: Callable[[], T], after: float = 0.0) -> None:
        self._value: T | None = None
        self._error: BaseException | None = None

        def run() -> None:
            time.sleep(after)
            try:
                self._value = work()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the other end did not finish"
        if self._error is not None:
            raise self._error

    def result(self) -> T:
        """What the work gave; once the block is left."""
        assert self._value is not None
        return self._value


def reset(connection: socket.socket) -> None:
    """Close so that the peer gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def write_full(lab: Lab, fd: int, size: int) -> bytes:
    """Write pieces of this size until there is no room; what was written. Each piece has a byte of its own."""
    sent = b""
    for number in range(10_000):
        data = bytes([number & 0xFF]) * size
        try:
            sent += data[: lab.write(fd, data)]
        except OSError as error:
            if str(error) != "again":
                raise
            return sent
    raise AssertionError("there is always room")


def receive_all(connection: socket.socket) -> bytes:
    """Everything until the end of the peer's data."""
    data = b""
    while part := connection.recv(1 << 20):
        data += part
    return data


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is true that the kernel brings about on its own, such as a delivery over the loopback."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.001)
