"""The chain of a live peer. TLS 1.3 proves that the peer has the key of the first certificate, and nothing more: what
the certificates are worth, `judge` says.

    chain = fetch("shop.example.com", 8443)
"""

from __future__ import annotations

import os
import socket
import ssl
from ipaddress import ip_address
from typing import Any, NamedTuple

from donjon.errors import PlatformError, UsageError, words_of
from donjon.log import printable

SECONDS = 10.0
"""For connecting, and again for the handshake."""


class Address(NamedTuple):
    """Where a peer listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def server_name(self) -> str | None:
        """What TLS tells the peer (SNI); addresses are not told."""
        try:
            ip_address(self.host.partition("%")[0])
        except ValueError:
            return self.host.rstrip(".")
        return None


def read_address(text: str, what: str = "address") -> Address:
    """Read HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is not of that form.
    """
    host, colon, number = text.rpartition(":")
    port = int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else 65536
    bracketed = host[:1] == "[" and host[-1:] == "]"
    inside = host[1:-1] if bracketed else host
    name = inside.partition("%")[0]
    fits = _is_ipv6(name) if bracketed else ":" not in name
    plain = inside.isprintable() and len(inside) <= 253 and not set(" /[]@") & set(inside)
    if colon and port <= 65535 and name and fits and plain:
        return Address(inside, port)
    shown = printable(text[:80])
    hint = "an IPv6 address is written [::1]:443" if ":" in host else None
    raise UsageError(f'{what}: expected HOST:PORT, got "{shown}"', hint)


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


def fetch(address: Address, seconds: float = SECONDS) -> tuple[bytes, ...]:
    """Connect, shake hands, and hand out the certificates that the peer shows, the leaf first.

    Raises:
        PlatformError: nobody is there, or it speaks no TLS 1.3.
    """
    context = plain_context()
    try:
        with socket.create_connection(address, seconds) as connection:
            connection.settimeout(seconds)
            with context.wrap_socket(connection, server_hostname=address.server_name) as stream:
                return chain_of(stream)
    except (OSError, ValueError) as error:
        raise cannot_connect(address, error) from error


def plain_context() -> ssl.SSLContext:
    """TLS 1.3 for a client that lets OpenSSL judge nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settle(context)
    return context


def settle(context: ssl.SSLContext) -> None:
    """Set what every connection of a relying party has: TLS 1.3 alone, no tickets, no verdict of OpenSSL's.

    OpenSSL would ask for a host name and for roots of the Web PKI. Whoever uses this judges the chain himself.
    """
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python sets: a cut is no clean end


def chain_of(stream: Any) -> tuple[bytes, ...]:
    """The certificates that the peer has shown, as it sent them; the handshake is complete.

    Args:
        stream: an `ssl.SSLSocket` or `ssl.SSLObject`.
    """
    if hasattr(stream, "get_unverified_chain"):  # public from Python 3.13 on
        return tuple(bytes(item) for item in stream.get_unverified_chain() or ())
    from _ssl import ENCODING_DER  # type: ignore[import-not-found,unused-ignore]

    return tuple(item.public_bytes(ENCODING_DER) for item in stream._sslobj.get_unverified_chain() or ())


def cannot_connect(address: Address, error: Exception) -> PlatformError:
    """What went wrong, in our words."""
    where = printable(str(address))
    if isinstance(error, TimeoutError):
        return PlatformError(f"cannot connect to {where}: no answer in time")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or str(error)
        if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
            return PlatformError(f"cannot connect to {where}: the peer does not speak TLS 1.3")
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
            return PlatformError(f"cannot connect to {where}: the peer does not speak TLS")
        if isinstance(error, ssl.SSLEOFError):
            return PlatformError(f"cannot connect to {where}: the peer hung up during the TLS handshake")
        return PlatformError(f"cannot connect to {where}: TLS: {printable(reason.replace('_', ' ').lower())}")
    if isinstance(error, OSError):
        known = isinstance(error.errno, int) and error.errno > 0 and not isinstance(error, socket.gaierror)
        words = os.strerror(error.errno or 0).lower() if known else words_of(error)  # asyncio's own text says less
        return PlatformError(f"cannot connect to {where}: {printable(words)}", "check host and port")
    return PlatformError(f"cannot connect to {where}: not a host name")
