"""Python's `ssl`, refusing peers that do not satisfy demands.

    context = ssl_context(expect(steward_root="root.pem", workload="5e3f..."))
    urllib.request.urlopen("https://shop.example.com:8443/", context=context)

Theory of operation. `ssl.SSLContext` makes its sockets and objects of the classes `sslsocket_class` and
`sslobject_class`; here those judge the peer when the handshake is complete, and before that nothing goes in or out.
OpenSSL shakes hands by itself when somebody reads or writes first, so every method that moves data shakes hands (and
judges) before it does. A refusal is an `ssl.SSLCertVerificationError`, which is how libraries know a bad certificate,
and it is final: the same connection refuses for ever.

OpenSSL judges nothing (CERT_NONE) and asks for no host name: identity is what is demanded, and a Keep's certificate
need not have the name under which it is reached. A name is demanded as `names`.

A client certificate that somebody loads into the context is shown in the handshake, so before the peer is judged.

Not supported, as a resumed session shows no certificate: sessions. TLS 1.3 is the only version; whoever lowers
`minimum_version` is refused by the version that came out.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from donjon.errors import UsageError
from donjon.verify.certificates import read_certificate
from donjon.verify.connection import chain_of, settle
from donjon.verify.demands import Demands
from donjon.verify.judgement import Proof, RefusedError, judge

Clock = Callable[[], datetime]
Accept = Callable[[Proof], None]


class PeerRefusedError(ssl.SSLCertVerificationError):
    """The peer is not what was demanded. `refused` has every check."""

    def __init__(self, refused: RefusedError) -> None:
        super().__init__(1, refused.message)
        self.refused = refused
        self.verify_code = 1
        self.verify_message = refused.message


def ssl_context(demands: Demands, accept: Accept | None = None, clock: Clock | None = None) -> ssl.SSLContext:
    """Make a context for clients whose every peer is judged.

    Args:
        demands: what has to hold, e.g. of `expect(...)`.
        accept: is shown each proof before a byte moves, and raises RefusedError for one that it does not want.
        clock: gives the time to judge at; by default the machine's.
    Raises:
        ParseError: an anchor is malformed.
    """
    return ProvenContext(demands, accept, clock)


class ProvenContext(ssl.SSLContext):
    """See the module; `ssl_context` makes one."""

    def __new__(cls, demands: Demands, accept: Accept | None = None, clock: Clock | None = None) -> Self:
        """OpenSSL's part is made here, for clients."""
        del demands, accept, clock
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, demands: Demands, accept: Accept | None = None, clock: Clock | None = None) -> None:
        if not isinstance(demands, Demands):
            raise UsageError(f"ssl_context: expected demands, got {type(demands).__name__}", "make them with expect()")
        for number, anchor in enumerate(demands.anchors):
            read_certificate(anchor, f"root[{number}]")
        self.demands = demands
        self.accept = accept
        self.clock = clock or _now
        self.sslsocket_class = ProvenSocket
        self.sslobject_class = ProvenObject
        settle(self)

    def judge(self, stream: Any) -> Proof:
        """Judge the peer of a connection whose handshake is complete.

        Raises:
            RefusedError: it is not what was demanded, or does not speak TLS 1.3.
        """
        if stream.version() != "TLSv1.3" or stream.session_reused:
            raise ssl.SSLError(1, "the peer is judged by the handshake of TLS 1.3, without a session")
        proof = judge(chain_of(stream), self.demands, self.clock())
        if self.accept is not None:
            self.accept(proof)
        return proof

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """As `ssl.SSLContext` does; the socket is a `ProvenSocket`, and takes no cut for an end unless asked to."""
        _no_session(session)
        return super().wrap_socket(sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As `ssl.SSLContext` does; the object is a `ProvenObject`."""
        _no_session(session)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname)


def _now() -> datetime:
    return datetime.now(UTC)


def _no_session(session: object) -> None:
    if session is not None:
        raise UsageError("a proven connection cannot resume a session: the peer would show no certificate")


class _Judged:
    """What sockets and objects have in common; stands before the class of `ssl` that it guards."""

    context: Any
    _proof: Proof | None = None
    _refusal: RefusedError | None = None

    @property
    def proof(self) -> Proof | None:
        """What the peer has proven; None before the handshake is complete."""
        return self._proof

    @property
    def session(self) -> None:
        """None: sessions are not resumed."""
        return

    @session.setter
    def session(self, session: object) -> None:
        _no_session(session)

    def _check(self) -> None:
        """The handshake has just been completed."""
        if self._refusal is None and self._proof is None:
            try:
                self._proof = self.context.judge(self)
            except RefusedError as error:
                self._refusal = error
        if self._refusal is not None:
            raise PeerRefusedError(self._refusal) from self._refusal

    def _ready(self) -> None:
        """Before data moves: shake hands, if that is still to be done."""
        if self._proof is None:
            if self._refusal is not None:
                raise PeerRefusedError(self._refusal) from self._refusal
            self.do_handshake()

    if TYPE_CHECKING:

        def do_handshake(self, *arguments: Any) -> None:
            """Of the class that this is mixed into."""


class ProvenObject(_Judged, ssl.SSLObject):  # type: ignore[misc]  # `session` is None for good
    """TLS over buffers, as asyncio uses it."""

    def do_handshake(self) -> None:
        """Shake hands, then judge."""
        ssl.SSLObject.do_handshake(self)
        self._check()

    def read(self, *arguments: Any) -> Any:
        """Read, from a peer that is proven."""
        self._ready()
        return super().read(*arguments)

    def write(self, data: Any) -> int:
        """Write, to a peer that is proven."""
        self._ready()
        return super().write(data)

    def unwrap(self) -> None:
        """End it."""
        self._ready()
        super().unwrap()


class ProvenSocket(_Judged, ssl.SSLSocket):  # type: ignore[misc]  # `session` is None for good
    """TLS over a socket."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, then judge; a peer that is refused is hung up on."""
        if self._refusal is None:
            ssl.SSLSocket.do_handshake(self, block)
        try:
            self._check()
        except Exception:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self, socket.SHUT_RDWR)
            raise

    def _ready(self) -> None:
        if (
            self._refusal is None and getattr(self, "_sslobj", None) is None
        ):  # not connected yet, or TLS was ended: `ssl` would go on in the clear
            raise OSError(errno.ENOTCONN, "not connected: nothing is sent or received without TLS")
        super()._ready()

    def read(self, *arguments: Any) -> Any:
        """Read, from a peer that is proven; so do all of these."""
        self._ready()
        return super().read(*arguments)

    def recv(self, *arguments: Any) -> bytes:
        """Receive."""
        self._ready()
        return super().recv(*arguments)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        """Receive into a buffer."""
        self._ready()
        return super().recv_into(*arguments, **named)

    def recvfrom(self, *arguments: Any) -> Any:
        """Nothing that TLS has."""
        self._ready()
        return super().recvfrom(*arguments)

    def recvfrom_into(self, *arguments: Any, **named: Any) -> Any:
        """Nothing that TLS has."""
        self._ready()
        return super().recvfrom_into(*arguments, **named)

    def write(self, data: Any) -> int:
        """Write, to a peer that is proven; so do all of these."""
        self._ready()
        return super().write(data)

    def send(self, *arguments: Any) -> int:
        """Send a part."""
        self._ready()
        return super().send(*arguments)

    def sendall(self, *arguments: Any) -> None:
        """Send all."""
        self._ready()
        super().sendall(*arguments)

    def sendto(self, *arguments: Any) -> int:
        """Nothing that TLS has."""
        self._ready()
        return super().sendto(*arguments)

    def sendfile(self, *arguments: Any, **named: Any) -> int:
        """Send a file."""
        self._ready()
        return super().sendfile(*arguments, **named)

    def unwrap(self) -> socket.socket:
        """End TLS; nothing moves on this socket afterwards."""
        self._ready()
        return super().unwrap()
