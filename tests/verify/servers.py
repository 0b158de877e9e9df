"""Live TLS servers whose certificates prove something, or do not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from donjon.steward import authority as stewards
from donjon.steward.files import write_roots
from tests.verify.chains import WORKLOAD, Entity, granted, new_key, realm, with_evidence

Handle = Callable[[ssl.SSLSocket], None]


def pem(*certificates: bytes) -> bytes:
    return b"".join(x509.load_der_x509_certificate(item).public_bytes(Encoding.PEM) for item in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Steward:
    """A Steward on disk, and Keeps that it has judged just now, on simulated hardware."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.folder = folder
        self.authority = stewards.create(str(folder / "ca"), self.now)
        self.root = folder / "ca" / "root.crt"

    def keep(self, workload: bytes = WORKLOAD, key: ec.EllipticCurvePrivateKey | None = None) -> Path:
        """Key and chain of a new Keep, in one file as `ssl` loads it."""
        key = key or new_key()
        issued = self.authority.issue(granted(key, workload=workload, now=self.now), self.now)
        return self._file(key, issued.der, *self.authority.path)

    def bare_keep(self, change: Callable[[Entity], None] = lambda _: None) -> Path:
        """The same for one whose certificate carries the evidence itself."""
        key = new_key()
        return self._file(key, with_evidence(key, now=self.now, change=change))

    def roots(self) -> Path:
        """A file with the roots of the simulated hardware."""
        path = self.folder / "roots.toml"
        path.write_text(write_roots({"cca": realm().roots}))
        return path

    def _file(self, key: ec.EllipticCurvePrivateKey, *chain: bytes) -> Path:
        path = self.folder / f"keep-{len(list(self.folder.iterdir()))}.pem"
        path.write_bytes(key_pem(key) + pem(*chain))
        return path


def server_context(identity: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(identity)
    return context


def http_ok(stream: ssl.SSLSocket) -> None:
    """Answer one HTTP request."""
    request = b""
    while b"\r\n\r\n" not in request:
        more = stream.recv(4096)
        if not more:
            return
        request += more
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nproven")


class Server:
    """Accepts connections until it is closed; what each one sent is kept."""

    def __init__(self, context: ssl.SSLContext, handle: Handle) -> None:
        self.context = context
        self.handle = handle
        self.received: list[bytes] = []
        self.names: list[str | None] = []
        self.errors: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, self.context.wrap_socket(connection, True, suppress_ragged_eofs=False) as stream:
                self.handle(stream)
        except (OSError, ValueError) as error:
            self.errors.append(error)

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._thread.join()
        for thread in self._threads:
            thread.join()


@contextmanager
def serving(identity: Path, handle: Handle = http_ok, **more: Any) -> Iterator[Server]:
    server = Server(server_context(identity, **more), handle)
    try:
        yield server
    finally:
        server.close()
