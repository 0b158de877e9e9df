"""The examples do what their READMEs say."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from donjon import config
from tests import programs
from tests.project.clients import Protocol, connect, receive, receive_all, serving

pytestmark = pytest.mark.toolchain

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIRECTORIES = sorted(path.parent.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.glob("*/*/README.md"))


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_an_example_has_a_readme_of_one_screen_and_a_good_configuration(directory: str) -> None:
    text = (EXAMPLES / directory / "README.md").read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 24
    assert f"donjon run examples/{directory}/" in text
    if directory != "hello/wat":
        settings = config.load(str(EXAMPLES / directory / "Enarx.toml"))
        for listener in (file for file in settings.files if file.kind == "listen"):
            assert f"port {listener.port}" in text
            assert f"localhost:{listener.port}" in text


slow = pytest.mark.slow  # Go's programs are large, and compiled at their first start

ECHO = ["echo-c", pytest.param("echo-go", marks=slow), "echo-wat"]


@pytest.mark.parametrize("prot", ["tls", "tcp"])
@pytest.mark.parametrize("program", ECHO)
def test_echo_serves_many_clients_at_once(program: str, prot: Protocol) -> None:
    with serving(programs.path(program), "echo", prot) as address:
        clients = [connect(address, prot) for _ in range(40)]
        for number, client in enumerate(clients):
            client.sendall(b"client %02d" % number)
        for number, client in reversed(list(enumerate(clients))):
            assert receive(client, 9) == b"client %02d" % number
            client.close()


@pytest.mark.parametrize("program", ECHO)
def test_echo_gives_back_all_of_it_after_the_client_has_ended(program: str) -> None:
    """More than the buffers between hold, so that the server has to wait for us."""
    data = bytes(range(256)) * 8000
    with serving(programs.path(program), "echo", "tcp") as address, connect(address, "tcp") as client:
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(receive_all(client)))
        reader.start()
        client.sendall(data)
        client.shutdown(1)
        reader.join()
    assert received == [data]


def test_echo_in_c_serves_others_while_one_takes_nothing() -> None:
    with serving(programs.path("echo-c"), "echo", "tcp") as address, connect(address, "tcp") as greedy:
        greedy.setblocking(False)
        sent = 0
        try:
            while sent < 1 << 26:
                sent += greedy.send(b"x" * 65536)
        except BlockingIOError:
            pass  # every buffer on the way is full
        with connect(address, "tcp") as other:
            other.sendall(b"still there?")
            assert receive(other, 12) == b"still there?"
        greedy.settimeout(20)
        greedy.shutdown(1)
        assert len(receive_all(greedy)) == sent


def test_echo_in_c_takes_no_more_clients_than_it_has_places_for_and_the_next_when_one_goes() -> None:
    places = 1023
    with serving(programs.path("echo-c"), "echo", "tcp") as address:
        clients = [connect(address, "tcp") for _ in range(places)]
        clients[-1].sendall(b"full")
        assert receive(clients[-1], 4) == b"full"
        with connect(address, "tcp") as late:
            late.sendall(b"hello")
            clients[500].sendall(b"x")
            assert receive(clients[500], 1) == b"x"
            clients[500].close()
            assert receive(late, 5) == b"hello"
        for client in clients:
            client.close()


QUESTION = b"Why did the chicken cross the road? 42\n"


@pytest.mark.parametrize("prot", ["tls", "tcp"])
@pytest.mark.parametrize("program", ["rot13-c", "rot13-zig"])
def test_rot13_turns_letters_and_twice_is_none(program: str, prot: Protocol) -> None:
    with serving(programs.path(program), "rot13", prot) as address:
        clients = [connect(address, prot) for _ in range(5)]
        for client in clients:
            client.sendall(QUESTION)
            turned = receive(client, len(QUESTION))
            assert turned == b"Jul qvq gur puvpxra pebff gur ebnq? 42\n"
            client.sendall(turned)
        for client in clients:
            assert receive(client, len(QUESTION)) == QUESTION
            client.close()


@pytest.mark.parametrize("program", ["rot13-c", "rot13-zig"])
def test_rot13_loses_nothing_when_the_client_is_slow(program: str) -> None:
    with serving(programs.path(program), "rot13", "tcp") as address, connect(address, "tcp") as client:

        def say_all() -> None:
            client.sendall(b"abc" * 700_000)
            client.shutdown(1)

        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(receive_all(client)))
        sender = threading.Thread(target=say_all)
        sender.start()
        sender.join(0.2)  # until it is stuck
        reader.start()
        sender.join()
        reader.join()
    assert received == [b"nop" * 700_000]


# -- HTTP --------------------------------------------------------------------------------------------------------------

HOST = b"Host: localhost\r\n"


def ask(address: tuple[str, int], request: bytes, prot: Protocol = "tcp") -> bytes:
    """Send a request; return all that comes until the server closes. A server that does not is an error."""
    with connect(address, prot) as client:
        client.sendall(request)
        return receive_all(client)


def status(response: bytes) -> int:
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", response)
    assert match, response[:80]
    return int(match[1])


@pytest.mark.parametrize("prot", ["tls", "tcp"])
@pytest.mark.parametrize(("program", "language"), [("http-c", b"C"), pytest.param("http-go", b"Go", marks=slow)])
def test_http_serves_its_pages_and_keeps_the_connection(program: str, language: bytes, prot: Protocol) -> None:
    with serving(programs.path(program), "http", prot) as address, connect(address, prot) as client:
        for path, kind, body in (
            (b"/about.txt?x=1", b"text/plain", b"A small HTTP server in " + language + b", compiled"),
            (b"/", b"text/html", b"<h1>Hello from a Keep</h1>"),
        ):
            client.sendall(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += receive(client, 1)
            length = re.search(rb"Content-Length: (\d+)\r\n", head)
            assert length
            assert status(head) == 200
            assert b"Content-Type: " + kind in head
            assert re.search(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", head)
            assert body in receive(client, int(length[1]))
        client.sendall(b"HEAD / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        head = receive_all(client)
        assert status(head) == 200
        assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("program", ["http-c", pytest.param("http-go", marks=slow)])
@pytest.mark.parametrize(
    ("title", "request_bytes", "expected"),
    [
        ("unknown path", b"GET /nothing HTTP/1.0\r\n\r\n", 404),
        ("unknown method", b"DELETE / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 405),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        ("not HTTP at all", b"\x16\x03\x01 hello\r\n\r\n", 400),
        ("space before a colon", b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n", 400),
        ("zero byte", b"GET / HTTP/1.1\r\n" + HOST + b"A: \0\r\n\r\n", 400),
        ("a version to come", b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 505),
        ("headers without end", b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_http_answers_what_it_cannot_serve_and_hangs_up(
    program: str, title: str, request_bytes: bytes, expected: int
) -> None:
    with serving(programs.path(program), "http", "tcp") as address:
        assert status(ask(address, request_bytes)) == expected


def test_http_in_c_answers_requests_that_arrive_together_in_order() -> None:
    first = b"GET /about.txt HTTP/1.1\r\n" + HOST + b"\r\n"
    second = b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"\r\nHEAD / HTTP/1.1\r\n" + HOST + b"Connection: x, Close\r\n\r\n"
    with serving(programs.path("http-c"), "http", "tcp") as address:
        together = ask(address, first + second + first + last)
        assert re.findall(rb"HTTP/1\.1 (\d+)", together) == [b"200", b"404", b"200", b"200"]


def test_http_in_c_takes_a_request_byte_by_byte() -> None:
    with serving(programs.path("http-c"), "http", "tcp") as address, connect(address, "tcp") as client:
        for byte in b"GET /about.txt HTTP/1.0\r\nX: y\r\n\r\n":
            client.sendall(bytes([byte]))
        response = receive_all(client)
        assert status(response) == 200
        assert response.endswith(b"A small HTTP server in C, compiled to WebAssembly, in a Keep.\n")


def test_http_in_c_does_not_take_a_body_for_the_next_request() -> None:
    smuggled = b"GET /about.txt HTTP/1.1\r\n" + HOST + b"\r\n"
    request = b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(smuggled)
    with serving(programs.path("http-c"), "http", "tcp") as address:
        assert len(re.findall(rb"HTTP/1\.1 \d+", ask(address, request + smuggled))) == 1
