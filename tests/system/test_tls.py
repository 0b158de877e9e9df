"""TLS servers in a Keep, spoken to by ordinary clients, by many, and by bad ones."""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509

from donjon.tls import TlsPipe
from tests import programs
from tests.keep import guests
from tests.system.command import Running, config, file, listens
from tests.system.conftest import Serve
from tests.system.tls import exactly, pinned, tls_client, to_the_end, unchecked

HTTP = guests.guest(  # the same answer to whatever one read brings
    """(local $fd i32)
       (loop $next
         (local.set $fd (call $accept (i32.const 3) (i32.const 0)))
         (i32.store (i32.const 0) (i32.const 4096))
         (i32.store (i32.const 4) (i32.const 8192))
         (if (i32.eqz (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
           (then (call $write (local.get $fd) (i32.const 2048) (i32.const 59))))
         (call $check (call $fd_close (local.get $fd)))
         (br $next))""",
    r'(data (i32.const 2048) "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello, world!\n")',
)
SHOWS = guests.guest(  # copies one connection to stdout
    "(call $copy (call $accept (i32.const 3) (i32.const 0)) (i32.const 1))"
)


@contextmanager
def running(folder: Path, guest: bytes, *words: str) -> Iterator[Running]:
    """A guest in text with one TLS listener."""
    toml = config(folder, listens("in", "tls"))
    with Running("run", file(folder, guest), "--wasmcfgfile", toml, *words, listeners=1) as process:
        yield process


# ---- ordinary clients


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_python_accepts_the_pinned_certificate_under_each_local_name(name: str, serve: Serve) -> None:
    address = serve("echo-c", "tls").at("echo")
    with tls_client(address, pinned(address), name) as client:
        assert client.version() == "TLSv1.3"
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"


def test_the_certificate_is_the_one_that_enarx_makes_with_names(serve: Serve) -> None:
    certificate = x509.load_pem_x509_certificate(
        ssl.get_server_certificate(serve("echo-c", "tls").at("echo"), timeout=20).encode()
    )
    assert certificate.subject.rfc4514_string() == certificate.issuer.rfc4514_string() == "CN=localhost"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_two_keeps_have_two_certificates(serve: Serve) -> None:
    certificates = {ssl.get_server_certificate(serve("echo-c", "tls").at("echo"), timeout=20) for _ in range(2)}
    assert len(certificates) == 2


@pytest.mark.toolchain
def test_openssl_talks_to_it(serve: Serve, tmp_path: Path) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not installed")
    host, port = address = serve("echo-c", "tls").at("echo")
    (tmp_path / "keep.pem").write_text(ssl.get_server_certificate(address, timeout=20))
    words = [openssl, "s_client", "-connect", f"{host}:{port}", "-CAfile", str(tmp_path / "keep.pem")]
    with subprocess.Popen(
        [*words, "-verify_return_error", "-verify_hostname", "localhost", "-brief"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        client.stdin.write(b"hello from openssl\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"hello from openssl\n"
        client.stdin.close()
        said = client.stderr.read()
        client.wait(20)
    assert b"Verification: OK" in said
    assert b"TLSv1.3" in said


@pytest.mark.toolchain
def test_curl_fetches_a_page(tmp_path: Path) -> None:
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is not installed")
    with running(tmp_path, HTTP) as keep:
        host, port = address = keep.at("in")
        (tmp_path / "keep.pem").write_text(ssl.get_server_certificate(address, timeout=20))
        words = [curl, "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--cacert"]
        done = subprocess.run(
            [*words, str(tmp_path / "keep.pem"), f"https://{host}:{port}/"], capture_output=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"hello, world!\n"


@pytest.mark.toolchain
@pytest.mark.parametrize("program", ["http-c", "http-go"])
def test_curl_fetches_two_pages_of_the_http_example_over_one_connection(program: str, tmp_path: Path) -> None:
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is not installed")
    toml = config(tmp_path, listens("http", "tls"))
    with Running("run", programs.path(program), "--wasmcfgfile", toml, listeners=1) as keep:
        host, port = address = keep.at("http")
        (tmp_path / "keep.pem").write_text(ssl.get_server_certificate(address, timeout=20))
        page = f"https://{host}:{port}"
        words = ["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20", "--cacert", "keep.pem"]
        done = subprocess.run(
            [curl, *words, f"{page}/about.txt", f"{page}/", "--write-out", "%{num_connects}\n"],
            capture_output=True,
            cwd=tmp_path,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b", compiled to WebAssembly, in a Keep.\n1\n" in done.stdout
    assert b"<h1>Hello from a Keep</h1>" in done.stdout
    assert done.stdout.endswith(b"\n0\n")  # no further connection


# ---- many clients


@pytest.mark.parametrize("prot", ["tcp", "tls"])
def test_many_clients_at_once_each_get_their_own_words(prot: str, serve: Serve) -> None:
    address = serve("echo-c", prot).at("echo")
    with ExitStack() as stack:
        clients: list[socket.socket] = [
            stack.enter_context(tls_client(address) if prot == "tls" else socket.create_connection(address, 20))
            for _ in range(50)
        ]
        for turn in range(3):
            for index, client in enumerate(clients):
                client.sendall(f"{turn} {index:4}\n".encode())
            for index, client in reversed([*enumerate(clients)]):
                assert exactly(client, 7) == f"{turn} {index:4}\n".encode()


@pytest.mark.slow
def test_a_thousand_tls_connections_are_each_served_in_turn(serve: Serve) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2048:
        pytest.skip("this machine allows a process fewer than 2048 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, before[1]))
    try:
        address = serve("echo-c", "tls").at("echo")
        context = unchecked()
        with ExitStack() as stack:
            clients = [stack.enter_context(tls_client(address, context)) for _ in range(1000)]
            for index, client in enumerate(clients):
                client.sendall(f"{index:4}\n".encode())
                assert exactly(client, 5) == f"{index:4}\n".encode()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- slow, silent, wrong clients


@pytest.mark.parametrize("kind", ["blocking", "echo-c", "echo-go"])
def test_silent_clients_and_slow_ones_keep_nobody_waiting(kind: str, serve: Serve) -> None:
    keep = serve(kind, "tls")
    address = keep.at("echo")
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(20)]
        for client in silent[10:]:
            client.sendall(bytes.fromhex("16 03 01 02 00 01"))  # the beginning of a ClientHello
        begun = time.monotonic()
        for _ in range(3):
            with tls_client(address) as client:
                client.sendall(b"quick")
                assert exactly(client, 5) == b"quick"
        assert time.monotonic() - begun < 5


def test_silent_clients_do_not_use_up_the_connections_that_there_may_be(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("echo", "tls"), after="[limits]\nconnections = 3\n")
    module = file(tmp_path, guests.SERVES)
    with Running("run", module, "--wasmcfgfile", toml, listeners=1) as keep, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(keep.at("echo"), 20))
        begun = time.monotonic()
        with tls_client(keep.at("echo")) as client:
            client.sendall(b"quick")
            assert exactly(client, 5) == b"quick"
        assert time.monotonic() - begun < 5


def test_a_handshake_one_byte_at_a_time_succeeds(serve: Serve) -> None:
    address = serve("echo-c", "tls").at("echo")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = unchecked().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(address, 20) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            for byte in outgoing.read():
                raw.sendall(bytes([byte]))
            if done:
                break
            incoming.write(raw.recv(65536))
        client.write(b"x")
        raw.sendall(outgoing.read())
        while True:
            incoming.write(raw.recv(65536))
            try:
                assert client.read() == b"x"
                break
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "plain HTTP", id="plain HTTP"),
        pytest.param(b"SSH-2.0-client\r\n", "no TLS", id="SSH"),
        pytest.param(bytes(100), "no TLS", id="zeros"),
        pytest.param(bytes.fromhex("16 03 01 00 04 01 00 00 00"), "", id="a broken ClientHello"),
        pytest.param(b"", "closed the connection", id="nothing"),
    ],
)
def test_who_speaks_no_tls_is_dropped_and_the_guest_never_hears_of_it(data: bytes, reason: str, tmp_path: Path) -> None:
    with running(tmp_path, SHOWS, "--log-filter", "debug") as keep:
        with socket.create_connection(keep.at("in"), 20) as wrong:
            wrong.sendall(data)
            wrong.shutdown(socket.SHUT_WR)
            try:
                answer = to_the_end(wrong)
            except ConnectionResetError:
                answer = b""
            assert len(answer) <= 7  # an alert at most
        with tls_client(keep.at("in")) as right:
            right.sendall(b"the first that the guest sees")
            right.unwrap()
        assert keep.wait() == 0
        assert keep.output() == b"the first that the guest sees"
    assert b"dropped: " in keep.stderr
    assert reason.encode() in keep.stderr


def test_tls_1_2_is_refused(serve: Serve) -> None:
    context = unchecked()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    keep = serve("echo-c", "tls")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"), tls_client(keep.at("echo"), context):
        pass
    with tls_client(keep.at("echo")) as client:
        client.sendall(b"still there")
        assert exactly(client, 11) == b"still there"


def test_running_out_of_the_hosts_descriptors_ends_no_connection_and_no_guest(serve: Serve) -> None:
    """The system's limit is lower than the configuration's: newcomers wait, and are served when others have gone."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux can limit a process that runs")
    keep = serve("echo-c", "tls")
    resource.prlimit(keep.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    address = keep.at("echo")
    with ExitStack() as stack:
        first = stack.enter_context(tls_client(address))
        waiting = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(60)]
        first.sendall(b"x")
        assert exactly(first, 1) == b"x"
        for client in waiting:
            client.close()
        with tls_client(address) as late:
            late.sendall(b"late")
            assert exactly(late, 4) == b"late"


# ---- the end of a connection


def test_a_clean_end_is_the_end_of_data_and_the_answer_arrives_after_it(tmp_path: Path) -> None:
    with running(tmp_path, guests.ANSWERS_AT_THE_END) as keep, Half(keep.at("in")) as client:
        client.send(b"all that ")
        client.send(b"I had to say")
        client.close_notify()
        assert client.to_the_end() == b"all that I had to say"
        assert keep.wait() == 0


@pytest.mark.parametrize("reset", [False, True], ids=["TCP ends", "TCP is reset"])
def test_a_connection_that_is_cut_is_an_error_and_not_the_end_of_data(reset: bool, tmp_path: Path) -> None:
    with running(tmp_path, guests.ANSWERS_AT_THE_END) as keep:
        with Half(keep.at("in")) as client:
            client.send(b"half of what")
            if reset:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert keep.wait() == 100 + 15  # connreset


def test_the_guests_end_of_writing_reaches_the_client_which_may_go_on(tmp_path: Path) -> None:
    with running(tmp_path, guests.SPEAKS_THEN_LISTENS) as keep:
        with (
            socket.create_connection(keep.at("in"), 20) as raw,
            unchecked().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as client,
        ):
            assert to_the_end(client) == b"done"  # a cut would raise
            client.sendall(b"my answer")
            client.unwrap()
        assert keep.wait() == 0
        assert keep.output() == b"my answer"


def test_a_guest_that_exits_still_ends_its_connections_cleanly(tmp_path: Path) -> None:
    with (
        running(tmp_path, guests.guest("(call $line (call $accept (i32.const 3) (i32.const 0)))")) as keep,
        socket.create_connection(keep.at("in"), 20) as raw,
        unchecked().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as client,
    ):
        client.sendall(b"last words\n")
        assert to_the_end(client) == b"last words\n"
        assert keep.wait() == 0


def test_plain_tcp_can_be_half_closed_in_both_directions(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("in"))
    for guest, says, answer in (
        (guests.ANSWERS_AT_THE_END, b"question", b"question"),
        (guests.SPEAKS_THEN_LISTENS, b"", b"done"),
    ):
        with Running("run", file(tmp_path, guest), "--wasmcfgfile", toml, listeners=1) as keep:
            with socket.create_connection(keep.at("in"), 20) as client:
                client.sendall(says)
                if says:
                    client.shutdown(socket.SHUT_WR)
                assert to_the_end(client) == answer
                if not says:
                    client.sendall(b"after")
            assert keep.wait() == 0
            assert keep.output() == (b"" if says else b"after")


# ---- much data


@pytest.mark.parametrize("prot", ["tcp", "tls"])
@pytest.mark.parametrize("kind", ["blocking", "echo-c", "echo-go"])
def test_megabytes_in_pieces_of_any_size_come_back_unchanged(kind: str, prot: str, serve: Serve) -> None:
    """Both directions at once, so that buffers fill up and writes are partial."""
    address = serve(kind, prot).at("echo")
    chance = random.Random(f"{kind} {prot}")  # the same pieces in every run
    data = chance.randbytes(6 << 20)
    with tls_client(address) if prot == "tls" else socket.create_connection(address, 20) as client:
        if isinstance(client, ssl.SSLSocket):  # ssl's sockets are not for two threads: pieces go and come by turns
            got = _echo_by_turns(client, data, chance)
        else:
            sender = threading.Thread(target=_send_in_pieces, args=(client, data, chance))
            sender.start()
            got = exactly(client, len(data))
            sender.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def _send_in_pieces(client: socket.socket, data: bytes, chance: random.Random) -> None:
    at = 0
    while at < len(data):
        size = chance.choice((1, 7, 1000, 16384, 16385, 100_000, 400_000))
        client.sendall(data[at : at + size])
        at += size


def _echo_by_turns(client: ssl.SSLSocket, data: bytes, chance: random.Random) -> bytes:
    """Send whenever there is room, receive whenever there is something."""
    client.setblocking(False)
    got, piece = bytearray(), b""
    at, end = 0, time.monotonic() + 60
    while len(got) < len(data):
        assert time.monotonic() < end
        idle = True
        piece = piece or data[at : at + chance.choice((1, 7, 1000, 16384, 100_000))]
        try:
            if piece:
                sent = client.send(piece)
                at, piece, idle = at + sent, piece[sent:], False
        except ssl.SSLWantWriteError:
            pass  # OpenSSL wants to be asked again with the same piece
        try:
            got += client.recv(chance.choice((1000, 16384, 100_000)))
            idle = False
        except ssl.SSLWantReadError:
            pass
        if idle:
            time.sleep(0.0005)
    return bytes(got)


class Half:
    """A TLS client that can end its own direction and go on reading, which Python's ssl cannot."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, 20)
        self._pipe = TlsPipe(unchecked(), server_side=False, server_hostname="localhost")

    def __enter__(self) -> Self:
        while not self._pipe.handshake():
            self.socket.sendall(self._pipe.take())
            self._pipe.feed(self.socket.recv(65536))
        self.socket.sendall(self._pipe.take())
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(self._pipe.seal(data))

    def close_notify(self) -> None:
        self._pipe.close_notify()
        self.socket.sendall(self._pipe.take())

    def to_the_end(self) -> bytes:
        """What comes until the peer's close_notify; a cut raises."""
        data, buffer = b"", memoryview(bytearray(65536))
        while size := self._pipe.read_into(buffer):
            if size > 0:
                data += buffer[:size]
            elif part := self.socket.recv(65536):
                self._pipe.feed(part)
            else:
                self._pipe.feed_eof()
        return data

    def __exit__(self, *_: object) -> None:
        self.socket.close()
