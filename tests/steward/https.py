"""A server that says whatever a test wants over HTTPS, and a Steward in a few lines that issues whatever it wants."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.wire.der import SEQUENCE, encode
from tests.system.tls import Authority

NONCE = bytes(range(57))

Answer = bytes | Callable[[ssl.SSLSocket], None]
Handler = Callable[[str, str, bytes], Answer]


def reply(status: int, kind: str = "", body: bytes = b"", *headers: str) -> bytes:
    """A whole answer of HTTP/1.1."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def document(found: object) -> bytes:
    return json.dumps(found).encode()


class Server:
    """Answers each connection once, with what `handler(method, target, body)` gives.

    Attributes:
        url: where it is. asked: the requests so far, "GET /v1/nonce".
        roots: the certificate that its own leads to, DER.
    """

    def __init__(self, folder: Path, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        authority = Authority(folder)
        self.pem = authority.path
        self.roots = (ssl.PEM_cert_to_DER_cert(self.pem.read_text()),)
        self.handler = handler
        self.asked: list[str] = []
        self._tls = tls or authority.server("127.0.0.1")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ending = False
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            with suppress(OSError):
                raw, _ = self._listener.accept()
                if self._ending:
                    raw.close()
                    return
                thread = threading.Thread(target=self._serve, args=(raw,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(20)
        try:
            with self._tls.wrap_socket(raw, server_side=True) as connection:
                head, _, body = b"", b"", b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(65536)
                    if not part:
                        return
                    head += part
                head, _, body = head.partition(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                size = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                while len(body) < size:
                    body += connection.recv(65536)
                self.asked.append(f"{method} {target}")
                answer = self.handler(method, target, body)
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)
        except OSError:
            pass
        finally:
            raw.close()

    def close(self) -> None:
        self._ending = True
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname(), 5).close()
        for thread in list(self._threads):
            thread.join()
        self._listener.close()


@contextmanager
def serving(folder: Path, handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(folder, handler, tls)
    try:
        yield server
    finally:
        server.close()


def drip(data: bytes, pause: float = 0.05) -> Callable[[ssl.SSLSocket], None]:
    """Send a byte now and then, without end."""

    def send(connection: ssl.SSLSocket) -> None:
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(pause)

    return send


class Issuer:
    """An authority that signs what a test asks for."""

    def __init__(self, now: datetime | None = None, **changes: Any) -> None:
        self.now = now or datetime.now(UTC)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
        self.certificate = self.sign(self.key.public_key(), subject=self.name, **{"ca": True, **changes})

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def sign(
        self,
        key: Any,
        subject: x509.Name | None = None,
        ca: bool | None = None,
        path_length: int | None = None,
        cert_sign: bool | None = None,
        start: timedelta = timedelta(minutes=-5),
        life: timedelta = timedelta(hours=24),
        uris: tuple[str, ...] = (),
        signer: ec.EllipticCurvePrivateKey | None = None,
        issuer: x509.Name | None = None,
    ) -> x509.Certificate:
        """A certificate; `ca` None leaves the constraints out, `cert_sign` None the key usage."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject if subject is not None else x509.Name([]))
            .issuer_name(self.name if issuer is None else issuer)
            .serial_number(x509.random_serial_number())
            .public_key(key)
            .not_valid_before(self.now + start)
            .not_valid_after(self.now + life)
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        if cert_sign is not None:
            others = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
                 "encipher_only", "decipher_only"), False,
            )  # fmt: skip
            usage = x509.KeyUsage(digital_signature=True, key_cert_sign=cert_sign, **others)
            builder = builder.add_extension(usage, critical=True)
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=subject is None)
        return builder.sign(signer or self.key, hashes.SHA256())

    def answer(self, request: bytes, **changes: Any) -> tuple[bytes, bytes]:
        """Leaf and issuer for a request."""
        key = x509.load_der_x509_csr(request).public_key()
        leaf = self.sign(key, uris=changes.pop("uris", ("urn:uuid:test",)), **changes)
        return leaf.public_bytes(Encoding.DER), self.der


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def nonce_answer() -> bytes:
    return reply(200, "application/json", document({"nonce": base64.urlsafe_b64encode(NONCE).decode(), "expires": "x"}))


def chain_answer(*chain: bytes) -> bytes:
    return reply(200, "application/json", document({"chain": [base64.b64encode(one).decode() for one in chain]}))


def path_answer(*chain: bytes) -> bytes:
    """As Enarx answers: the leaf last."""
    return reply(200, "application/pkix-pkipath", encode(SEQUENCE, *reversed(chain)))


def steward(issuer: Issuer, enarx: bool = False, **changes: Any) -> Handler:
    """A Steward that grants everything."""

    def handle(method: str, target: str, body: bytes) -> Answer:
        if (method, target) == ("GET", "/v1/nonce"):
            return reply(404) if enarx else nonce_answer()
        if (method, target) == ("POST", "/v1/attest") and not enarx:
            return chain_answer(*issuer.answer(base64.b64decode(json.loads(body)["request"]), **changes))
        assert (method, target) == ("POST", "/"), target
        return path_answer(*issuer.answer(body, **changes))

    return handle
