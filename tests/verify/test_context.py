"""A context for clients: proven peers are talked to, others get no byte and give none, whatever the library."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from donjon.errors import ParseError, UsageError
from donjon.tls.pipe import TlsError, TlsPipe
from donjon.verify import Demands, PeerRefusedError, Proof, RefusedError, expect, ssl_context
from donjon.verify.context import ProvenContext, ProvenObject, ProvenSocket
from tests.verify.chains import OTHER, WORKLOAD
from tests.verify.servers import Server, Steward, http_ok, serving

ANSWER = b"proven"


def right(steward: Steward, **more: Any) -> Demands:
    return expect(steward_root=str(steward.root), accept_unattested=True, workload=WORKLOAD.hex(), **more)


def wrong(steward: Steward) -> Demands:
    return expect(steward_root=str(steward.root), accept_unattested=True, workload=OTHER.hex())


def by_urllib(address: str, context: ssl.SSLContext) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"https://{address}/", timeout=20) as answer:
        body: bytes = answer.read()
        return body


def by_http_client(address: str, context: ssl.SSLContext) -> bytes:
    connection = http.client.HTTPSConnection(address, context=context, timeout=20)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def by_httpx(address: str, context: ssl.SSLContext) -> bytes:
    import httpx

    with httpx.Client(verify=context, trust_env=False) as client:
        return client.get(f"https://{address}/").content


def by_httpx_async(address: str, context: ssl.SSLContext) -> bytes:
    import httpx

    async def get() -> bytes:
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            return (await client.get(f"https://{address}/")).content

    return asyncio.run(get())


def by_aiohttp(address: str, context: ssl.SSLContext) -> bytes:
    import aiohttp

    async def get() -> bytes:
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(f"https://{address}/") as answer:
            return await answer.read()

    return asyncio.run(get())


def by_asyncio(address: str, context: ssl.SSLContext) -> bytes:
    async def get() -> bytes:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        proof = writer.get_extra_info("ssl_object").proof
        assert proof.workload == WORKLOAD
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.rpartition(b"\r\n")[2]

    return asyncio.run(get())


CLIENTS: list[Callable[[str, ssl.SSLContext], bytes]] = [
    by_urllib, by_http_client, by_httpx, by_httpx_async, by_aiohttp, by_asyncio,
]  # fmt: skip


def refused_in(error: BaseException) -> PeerRefusedError:
    """Libraries wrap the error in their own: what it was about is found behind it."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, PeerRefusedError):
        inner = next((item for item in found.args if isinstance(item, BaseException)), None)
        reason = getattr(found, "reason", None) or getattr(found, "certificate_error", None)
        found = inner or (reason if isinstance(reason, BaseException) else None) or found.__cause__ or found.__context__
    assert found is not None, repr(error)
    return found


def keeping(server_sends: bytes = b"") -> Callable[[ssl.SSLSocket], None]:
    """Sends something at once, and keeps what comes."""

    def handle(stream: ssl.SSLSocket) -> None:
        if server_sends:
            stream.sendall(server_sends)
        handle.received.append(stream.recv(4096))  # type: ignore[attr-defined]

    handle.received = []  # type: ignore[attr-defined]
    return handle


@pytest.mark.parametrize("client", CLIENTS, ids=lambda item: item.__name__)
def test_talks_to_a_proven_peer(steward: Steward, client: Callable[[str, ssl.SSLContext], bytes]) -> None:
    with serving(steward.keep()) as server:
        assert client(server.address, ssl_context(right(steward))) == ANSWER


@pytest.mark.parametrize("client", CLIENTS, ids=lambda item: item.__name__)
def test_gives_no_byte_to_another_peer(steward: Steward, client: Callable[[str, ssl.SSLContext], bytes]) -> None:
    handle = keeping()
    with serving(steward.keep(), handle) as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
            client(server.address, ssl_context(wrong(steward)))
        error = refused_in(caught.value)
        assert error.refused.failure is not None
        assert error.refused.failure.name == "demand.workload"
        assert "demand.workload: expected one of" in str(error)
    assert handle.received in ([], [b""])  # type: ignore[attr-defined]


def test_a_keep_whose_certificate_carries_the_evidence_is_proven_too(steward: Steward) -> None:
    demands = expect(roots=str(steward.roots()), accept_unattested=True, workload=WORKLOAD.hex(), tee="cca")
    with serving(steward.bare_keep()) as server:
        assert by_urllib(server.address, ssl_context(demands)) == ANSWER


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 20)


EARLY: dict[str, Callable[[ssl.SSLSocket], object]] = {
    "recv": lambda stream: stream.recv(10),
    "recv_into": lambda stream: stream.recv_into(bytearray(10)),
    "read": lambda stream: stream.read(10),
    "read into a buffer": lambda stream: stream.read(10, bytearray(10)),
    "send": lambda stream: stream.send(b"secret"),
    "sendall": lambda stream: stream.sendall(b"secret"),
    "write": lambda stream: stream.write(b"secret"),
    "sendfile": lambda stream: _send_file(stream),
    "makefile": lambda stream: stream.makefile("rb").read(10),
    "a file to write": lambda stream: _write(stream),
    "unwrap": lambda stream: stream.unwrap(),
    "do_handshake": lambda stream: stream.do_handshake(),
}


def _send_file(stream: ssl.SSLSocket) -> None:
    with Path(__file__).open("rb") as file:
        stream.sendfile(file)


def _write(stream: ssl.SSLSocket) -> None:
    with stream.makefile("wb", buffering=0) as file:
        file.write(b"secret")


@pytest.mark.parametrize("how", EARLY)
def test_nothing_moves_before_the_peer_is_proven_by(steward: Steward, how: str) -> None:
    handle = keeping(b"from the wrong peer")
    with serving(steward.keep(), handle) as server, connected(server) as plain:
        stream = ssl_context(wrong(steward)).wrap_socket(plain, do_handshake_on_connect=False)
        assert isinstance(stream, ProvenSocket)
        assert stream.proof is None
        for _ in range(3):  # the refusal is final
            with pytest.raises(PeerRefusedError):
                EARLY[how](stream)
        for other in EARLY.values():
            with pytest.raises(PeerRefusedError):
                other(stream)
        stream.close()
    assert handle.received in ([], [b""])  # type: ignore[attr-defined]


def test_a_proven_peer_may_be_read_from_before_the_handshake_is_asked_for(steward: Steward) -> None:
    with serving(steward.keep(), keeping(b"hello")) as server, connected(server) as plain:
        stream = ssl_context(right(steward)).wrap_socket(plain, do_handshake_on_connect=False)
        with stream:
            assert stream.recv(10) == b"hello"
            assert isinstance(stream, ProvenSocket)
            assert isinstance(stream.proof, Proof)
            stream.sendall(b"bye")


def test_nothing_moves_in_the_clear_on_such_a_socket(steward: Steward) -> None:
    with socket.socket() as plain:
        stream = ssl_context(right(steward)).wrap_socket(plain)
        for move in (stream.recv, stream.read, stream.recvfrom):
            with pytest.raises(OSError, match="nothing is sent or received without TLS"):
                move(1)
        with pytest.raises(OSError, match="without TLS"):
            stream.sendto(b"x", ("127.0.0.1", 9))
        with pytest.raises(OSError, match="without TLS"):
            stream.recvfrom_into(bytearray(1))
        stream.close()
    with serving(steward.keep(), http_ok) as server, connected(server) as plain:
        stream = ssl_context(right(steward)).wrap_socket(plain)
        stream.shutdown(socket.SHUT_WR)  # `ssl` forgets TLS here
        with pytest.raises(OSError, match="without TLS"):
            stream.send(b"x")
        stream.close()


def test_a_socket_that_connects_later_is_judged_when_it_does(steward: Steward) -> None:
    context = ssl_context(wrong(steward))
    with serving(steward.keep(), keeping()) as server, socket.socket() as plain:
        stream = context.wrap_socket(plain)
        with pytest.raises(PeerRefusedError):
            stream.connect(("127.0.0.1", server.port))
        stream.close()


def test_a_socket_that_does_not_block_is_judged_too(steward: Steward) -> None:
    with serving(steward.keep(), keeping()) as server, connected(server) as plain:
        plain.setblocking(False)
        with ssl_context(wrong(steward)).wrap_socket(plain, do_handshake_on_connect=False) as stream:
            while True:
                try:
                    stream.do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
                except PeerRefusedError:
                    break
                pytest.fail("not judged")


def test_an_object_over_buffers_moves_nothing_before(steward: Steward) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(steward.keep())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = server.wrap_bio(to_server, to_client, server_side=True)
    ours = ssl_context(wrong(steward)).wrap_bio(to_client, to_server)
    assert isinstance(ours, ProvenObject)
    with pytest.raises(ssl.SSLWantReadError):
        ours.read(1)
    with pytest.raises(ssl.SSLWantReadError):
        other.do_handshake()
    for move in (lambda: ours.read(1), lambda: ours.write(b"x"), ours.unwrap, ours.do_handshake, lambda: ours.read(1)):
        with pytest.raises(PeerRefusedError):
            move()


def test_the_pipe_of_keeps_takes_such_a_context(steward: Steward) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(steward.keep())
    for demands, proven in ((right(steward), True), (wrong(steward), False)):
        theirs = TlsPipe(server, server_side=True)
        ours = TlsPipe(ssl_context(demands), server_side=False, server_hostname="127.0.0.1")
        assert not ours.handshake()
        theirs.feed(ours.take())
        assert not theirs.handshake()
        ours.feed(theirs.take())
        if proven:
            assert ours.handshake()
        else:
            with pytest.raises(TlsError, match=r"demand\.workload"):
                ours.handshake()
            with pytest.raises(TlsError):
                ours.read_into(memoryview(bytearray(10)))


def test_tls_1_2_is_refused(steward: Steward) -> None:
    with serving(steward.keep(), keeping(), version=ssl.TLSVersion.TLSv1_2) as server:
        with connected(server) as plain, pytest.raises(ssl.SSLError):
            ssl_context(right(steward)).wrap_socket(plain)
        context = ssl_context(right(steward))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with connected(server) as plain, pytest.raises(ssl.SSLError, match=r"handshake of TLS 1\.3"):
            context.wrap_socket(plain)


def test_sessions_are_not_resumed(steward: Steward) -> None:
    context = ssl_context(right(steward))
    with serving(steward.keep(), keeping(b"x")) as server, connected(server) as plain:
        stream = context.wrap_socket(plain)
        stream.recv(1)
        assert stream.session is None
        with pytest.raises(UsageError, match="cannot resume"):
            stream.session = object()  # type: ignore[assignment]
        stream.close()
    session: Any = object()
    with socket.socket() as plain, pytest.raises(UsageError, match="cannot resume"):
        context.wrap_socket(plain, session=session)
    with socket.socket() as plain, pytest.raises(UsageError, match="cannot resume"):
        context.wrap_socket(plain, False, True, True, None, session)
    with pytest.raises(UsageError, match="cannot resume"):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), session=session)


def test_each_proof_can_be_looked_at_before_a_byte_moves(steward: Steward) -> None:
    seen: list[Proof] = []

    def accept(proof: Proof) -> None:
        seen.append(proof)
        if len(seen) > 1:
            raise RefusedError(proof.checks)

    context = ssl_context(right(steward), accept)
    with serving(steward.keep()) as server:
        assert by_urllib(server.address, context) == ANSWER
        with connected(server) as plain, pytest.raises(PeerRefusedError):
            context.wrap_socket(plain)
    assert len(seen) == 2


def test_the_time_is_asked_at_each_connection(steward: Steward) -> None:
    times = [steward.now, steward.now + timedelta(days=2)]
    context = ssl_context(right(steward), clock=lambda: times.pop(0))
    with serving(steward.keep()) as server:
        assert by_urllib(server.address, context) == ANSWER
        with connected(server) as plain, pytest.raises(PeerRefusedError, match=r"chain\.dates"):
            context.wrap_socket(plain)


def test_demands_are_checked_when_the_context_is_made() -> None:
    with pytest.raises(ParseError, match=r"root\[0\]"):
        ssl_context(Demands(anchors=(b"x",)))
    demands: Any = "verify.toml"
    with pytest.raises(UsageError, match="expected demands, got str"):
        ssl_context(demands)
    assert isinstance(ssl_context(Demands()), ProvenContext)
