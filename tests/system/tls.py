"""TLS as ordinary clients and servers have it: Python's ssl with its usual settings, and a private authority."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


def pinned(address: tuple[str, int]) -> ssl.SSLContext:
    """A client that trusts the certificate which the Keep at `address` shows, and no other; names are checked."""
    return ssl.create_default_context(cadata=ssl.get_server_certificate(address, timeout=20))


@contextmanager
def tls_client(
    address: tuple[str, int], context: ssl.SSLContext | None = None, name: str = "localhost", seconds: float = 20
) -> Iterator[ssl.SSLSocket]:
    """A connection, its handshake done; the certificate is not checked unless a context does."""
    if context is None:
        context = unchecked()
    with socket.create_connection(address, seconds) as raw, context.wrap_socket(raw, server_hostname=name) as wrapped:
        yield wrapped


def unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Authority:
    """A certificate authority that no system knows.

    Attributes:
        path: its certificate in PEM.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        certificate = self._sign(self._name, self._key.public_key(), [], ca=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(certificate.public_bytes(PEM))

    def server(self, *names: str) -> ssl.SSLContext:
        """A server whose certificate is for these host names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = self._sign(subject, key.public_key(), [general(name) for name in names], ca=False)
        path = self._folder / "server.pem"
        path.write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if ca:
            usage = dict.fromkeys(
                ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                 "encipher_only", "decipher_only"), False,
            )  # fmt: skip
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextmanager
def peer(
    serve: Callable[[socket.socket], None],
    context: ssl.SSLContext | None = None,
    refused: bool = False,
    seconds: float = 20,
) -> Iterator[int]:
    """A server of one connection in a thread, with TLS or without; gives its port. What `serve` raises is raised.

    Args:
        refused: the handshake must fail.
        seconds: how long it waits for its client.
    """
    failed: list[BaseException] = []

    def work() -> None:
        try:
            raw, _ = listener.accept()
            raw.settimeout(20)
            with raw:
                if context is None:
                    serve(raw)
                else:
                    with context.wrap_socket(raw, server_side=True) as wrapped:
                        serve(wrapped)
        except BaseException as error:
            failed.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(seconds)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()
    if refused:
        assert isinstance(failed[0], (ssl.SSLError, ConnectionError)), failed
    elif failed:
        raise failed[0]


def three_lines(stream: socket.socket) -> None:
    """What Enarx's tests do with each connection: a line there and the same back, three times."""
    for _ in range(3):
        stream.sendall(b"test\n")
        assert exactly(stream, 5) == b"test\n"


def exactly(stream: socket.socket, size: int) -> bytes:
    """So many bytes; fewer at the end of data."""
    data = b""
    while len(data) < size and (part := stream.recv(min(size - len(data), 1 << 16))):
        data += part
    return data


def to_the_end(stream: socket.socket) -> bytes:
    data = bytearray()
    while part := stream.recv(1 << 16):
        data += part
    return bytes(data)
