"""Clients for the servers in Keeps, and a Keep with one listener for them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from donjon import Keep
from donjon.config.models import Config, Listen, Stderr, Stdin, Stdout

Protocol = Literal["tls", "tcp"]

PATIENCE = 20.0  # seconds


@contextmanager
def serving(module: Path, name: str, prot: Protocol) -> Iterator[tuple[str, int]]:
    """Run a server that wants one listener; give its address."""
    files = (Stdin(), Stdout(), Stderr(), Listen(prot=prot, name=name, addr="127.0.0.1", port=0))
    with Keep.start(str(module), config=Config(files=files)) as keep:
        host, port = keep.listeners[name][:2]
        yield host, port


def connect(address: tuple[str, int], prot: Protocol) -> socket.socket:
    plain = socket.create_connection(address, timeout=PATIENCE)
    if prot == "tcp":
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the Keep has signed its certificate itself
    return context.wrap_socket(plain, server_hostname="localhost")


def receive(client: socket.socket, length: int) -> bytes:
    """Exactly so many bytes; fewer only at the end."""
    received = b""
    while len(received) < length and (some := client.recv(length - len(received))):
        received += some
    return received


def receive_all(client: socket.socket) -> bytes:
    """Everything up to the end."""
    received = b""
    while some := client.recv(65536):
        received += some
    return received
