"""The chain of a live peer, and what is said when there is none."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from donjon.errors import PlatformError, UsageError
from donjon.verify.connection import Address, chain_of, fetch, read_address
from tests.verify.servers import Server, Steward, server_context, serving


def test_gives_the_chain_as_the_peer_sends_it(steward: Steward) -> None:
    identity = steward.keep()
    with serving(identity) as server:
        chain = fetch(Address("127.0.0.1", server.port))
    assert len(chain) == 2
    assert chain[1] == steward.authority.path[0]


def test_asks_for_the_name_unless_it_is_an_address(steward: Steward) -> None:
    asked: list[str | None] = []
    context = server_context(steward.keep())
    context.sni_callback = lambda _stream, name, _context: asked.append(name)
    server = Server(context, lambda _stream: None)
    try:
        for host in ("localhost", "127.0.0.1"):
            fetch(Address(host, server.port))
    finally:
        server.close()
    assert asked == ["localhost", None]


@pytest.mark.parametrize(
    ("text", "host", "port", "name"),
    [
        ("shop.example.com:8443", "shop.example.com", 8443, "shop.example.com"),
        ("shop.example.com.:1", "shop.example.com.", 1, "shop.example.com"),
        ("10.0.0.1:443", "10.0.0.1", 443, None),
        ("[::1]:443", "::1", 443, None),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, None),
    ],
)
def test_reads_an_address(text: str, host: str, port: int, name: str | None) -> None:
    found = read_address(text)
    assert found == (host, port)
    assert found.server_name == name
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", ":443", "host", "host:", "host:x", "host:65536", "host:-1", "host:1e3", "::1:443", "[::1]", "[::1]:",
     "[host]:443", "[]:443", "a b:1", "a/b:1", "a\0b:1", "user@host:1", "x" * 254 + ":1", "host:123456",
     "[10.0.0.1]:1"],
)  # fmt: skip
def test_refuses_the_address(text: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        read_address(text)


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A listener that sends these bytes and hangs up; None sends nothing and waits."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                if answer is None:
                    done.wait(20)
                else:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"),
        (b"", "hung up during the TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x46", r"does not speak TLS 1\.3"),  # alert: protocol version
        (b"\x15\x03\x03\x00\x02\x02\x28", "handshake failure"),
        (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", "TLS: "),
    ],
)
def test_says_why_there_is_no_chain(answer: bytes, message: str) -> None:
    with answering(answer) as port, pytest.raises(PlatformError, match=message):
        fetch(Address("127.0.0.1", port))


def test_does_not_wait_for_ever() -> None:
    with answering(None) as port, pytest.raises(PlatformError, match="no answer in time"):
        fetch(Address("127.0.0.1", port), 0.2)


def test_a_peer_of_tls_1_2_is_none(steward: Steward) -> None:
    old = serving(steward.keep(), version=ssl.TLSVersion.TLSv1_2)
    with old as server, pytest.raises(PlatformError, match=r"does not speak TLS 1\.3"):
        fetch(Address("127.0.0.1", server.port))


def test_says_that_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PlatformError, match=r"cannot connect to 127\.0\.0\.1:\d+: connection refused"):
        fetch(Address("127.0.0.1", port))
    with pytest.raises(PlatformError, match="cannot connect to"):
        fetch(Address("x" * 70 + ".invalid", 1))


class NewStream:
    """As Python has it from 3.13 on: public, and the certificates are bytes."""

    def get_unverified_chain(self) -> list[bytes] | None:
        return [b"leaf", b"issuing"]


class OldStream:
    """As Python has it before: inside, and the certificates are objects."""

    class _sslobj:
        @staticmethod
        def get_unverified_chain() -> list[Any]:
            class Certificate:
                def public_bytes(self, encoding: int) -> bytes:
                    assert encoding == 2  # DER
                    return b"leaf"

            return [Certificate()]


class NoChain:
    """A peer that shows no certificate."""

    def get_unverified_chain(self) -> None:
        return None


def test_reads_the_chain_of_old_and_new_pythons() -> None:
    assert chain_of(NewStream()) == (b"leaf", b"issuing")
    assert chain_of(OldStream()) == (b"leaf",)
    assert chain_of(NoChain()) == ()
