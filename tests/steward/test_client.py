"""What a client of a Steward does when the other end is any server at all: small hostile ones, over real TLS."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.errors import DonjonError, ParseError, PlatformError, UsageError, VerifyError
from donjon.identity import self_signed
from donjon.steward import client as module
from donjon.steward.client import Client, RefusedError, UnreachableError
from donjon.tls.context import client_context, server_context
from tests.steward.https import (
    NONCE,
    Answer,
    Handler,
    Server,
    chain_answer,
    document,
    drip,
    nonce_answer,
    path_answer,
    reply,
    serving,
)

LEAF, ISSUER = b"\x30\x03leaf"[:5], b"\x30\x02is"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that take seconds in life take hundredths here; an exchange has its time, also on a busy machine."""
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCHANGE_SECONDS", 0.5)


def asking(
    server: Server, path: str = "", attempts: int | None = 1, said: list[str] | None = None
) -> tuple[bytes, ...]:
    """Ask it; the nonce is the request."""
    client = Client(
        server.url + path,
        client_context(None, server.roots),
        (said if said is not None else list[str]()).append,
        attempts,
    )
    return client.certify(lambda nonce: b"without" if nonce is None else b"with " + nonce)


def always(answer: Answer, nonce: bool = True) -> Handler:
    """The same to everything, but for the nonce."""
    return lambda _method, target, _body: nonce_answer() if nonce and target.endswith("/v1/nonce") else answer


def refusal(folder: Path, handler: Handler, family: type[DonjonError], attempts: int = 1) -> tuple[str, Server]:
    with serving(folder, handler) as server, pytest.raises(family) as caught:
        asking(server, attempts=attempts)
    assert type(caught.value) is family
    assert caught.value.message.startswith(f"the Steward {server.url}")
    return caught.value.message.removeprefix(f"the Steward {server.url}"), server


# ---- the two protocols


def test_sends_a_request_that_binds_the_nonce_and_takes_the_chain(tmp_path: Path) -> None:
    sent = []

    def handle(method: str, target: str, body: bytes) -> Answer:
        if target == "/v1/nonce":
            return nonce_answer()
        sent.append(json.loads(body))
        return chain_answer(LEAF, ISSUER)

    with serving(tmp_path, handle) as server:
        assert asking(server) == (LEAF, ISSUER)
    assert server.asked == ["GET /v1/nonce", "POST /v1/attest"]
    assert base64.b64decode(sent[0]["request"]) == b"with " + NONCE
    assert base64.urlsafe_b64decode(sent[0]["nonce"]) == NONCE


@pytest.mark.parametrize("status", [404, 405])
def test_speaks_enarxs_protocol_where_there_is_no_nonce(tmp_path: Path, status: int) -> None:
    sent = []

    def handle(method: str, target: str, body: bytes) -> Answer:
        if method == "GET":
            return reply(status, "text/plain", b"not here")
        sent.append(body)
        return path_answer(b"\x30\x01l", b"\x30\x01i")

    with serving(tmp_path, handle) as server:
        assert asking(server) == (b"\x30\x01l", b"\x30\x01i")
    assert server.asked == ["GET /v1/nonce", "POST /"]
    assert sent == [b"without"]


def test_paths_lie_below_the_address(tmp_path: Path) -> None:
    with serving(tmp_path, always(chain_answer(LEAF, ISSUER))) as server:
        asking(server, "/a/b/")
        assert server.asked == ["GET /a/b/v1/nonce", "POST /a/b/v1/attest"]
    with serving(
        tmp_path, lambda *asked: reply(404) if asked[0] == "GET" else path_answer(b"\x30\0", b"\x30\0")
    ) as server:
        asking(server, "/a?x=1")
        assert server.asked == ["GET /a/v1/nonce", "POST /a?x=1"]


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_falls_back_for_no_other_refusal(tmp_path: Path, status: int) -> None:
    text, server = refusal(tmp_path, lambda *_: reply(status), RefusedError)
    assert text == f" refuses ({status})"
    assert server.asked == ["GET /v1/nonce"]


def test_falls_back_for_no_answer_that_breaks_off(tmp_path: Path) -> None:
    cut = b"HTTP/1.1 404 X\r\nContent-Length: 100\r\n\r\nhalf"
    text, server = refusal(tmp_path, lambda *_: cut, UnreachableError)
    assert text.startswith(" cannot be reached: connection closed in the middle")
    assert server.asked == ["GET /v1/nonce"]


# ---- answers that are none


WRONG = " answered with something else than certificates: "
MANY = [base64.b64encode(b"\x30\0").decode()] * 9


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (reply(200, "text/html", b"<html>"), ": expected an answer of type application/json, got text/html"),
        (reply(200, "", b"{}"), ": expected an answer of type application/json, got none"),
        (reply(302, "", b"", "Location: https://example.com/"), ": expected an answer, got a redirect (302), which is"),
        (reply(308, "", b"", "Location: https://example.com/"), ": expected an answer, got a redirect (308), which is"),
        (reply(200, "application/json", b"garbage"), WRONG + "expected JSON"),
        (reply(200, "application/json", b"[" * 60000), WRONG + "expected JSON"),
        (reply(200, "application/json", b"[]"), WRONG + "expected a JSON object"),
        (
            reply(200, "application/json", b'{"chain":[],"chain":[]}'),
            WRONG + "expected each name once in a JSON object",
        ),
        (reply(200, "application/json", b"{}"), WRONG + "chain: expected an array"),
        (chain_answer(LEAF), WRONG + "chain: expected a certificate and who has"),
        (
            reply(200, "application/json", document({"chain": MANY})),
            WRONG + "chain: expected an array of at most 8",
        ),
        (
            reply(200, "application/json", document({"chain": ["#", "#"]})),
            WRONG + "chain: expected base64",
        ),
        (b"\x00" * 100, ": expected HTTP, got something else (BadStatusLine)"),
        (b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 200 + b"\r\n", ": expected HTTP, got something else (HTTPException)"),
        (b"HTTP/1.1 200 X\r\nA: " + b"b" * 70000, ": expected HTTP, got something else (LineTooLong)"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 262145\r\n\r\n", ": expected at most 262144 bytes, got 262145"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n", ": expected at most 262144 bytes, got 99999999999"),
        (b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n", ": expected at most 262144 bytes, got -1"),
        (b"HTTP/1.1 200 X\r\n\r\n" + bytes(300_000), ": expected at most 262144 bytes, got more"),
        (
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + bytes(0x8000) + b"\r\n",
            " stopped in the middle of its answer",
        ),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(tmp_path: Path, answer: bytes, text: str) -> None:
    family = UnreachableError if text.startswith(" stopped") else ParseError
    found, _ = refusal(tmp_path, always(answer), family)
    assert found.startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x30\x80", "PkiPath"),
        (b"\x30\x04\x30\x00\x30\x00trailing", "PkiPath"),
        (b"\x30\x02\x30\x00", "chain: expected a certificate and who has signed it, got 1"),
        (b"\x30\x12" + b"\x30\x00" * 9, "PkiPath.certificate at 0x012: expected at most 8, got more"),
        (b"\x04\x02\x30\x00", "PkiPath"),
    ],
    ids=["BER", "trailing bytes", "a leaf alone", "nine certificates", "another type"],
)
def test_what_is_no_pki_path_is_refused(tmp_path: Path, body: bytes, text: str) -> None:
    def handle(method: str, target: str, _body: bytes) -> Answer:
        return reply(404) if method == "GET" else reply(200, "application/pkix-pkipath", body)

    found, _ = refusal(tmp_path, handle, ParseError)
    assert found.startswith(WRONG + text)


@pytest.mark.parametrize("nonce", [None, 7, "#", "", base64.urlsafe_b64encode(bytes(256)).decode()])
def test_what_is_no_nonce_is_refused(tmp_path: Path, nonce: object) -> None:
    handle = always(reply(200, "application/json", document({"nonce": nonce})), nonce=False)
    found, _ = refusal(tmp_path, handle, ParseError)
    assert found.startswith(WRONG + "nonce: expected ")


# ---- refusals


def test_a_refusal_shows_the_reasons_and_is_final(tmp_path: Path) -> None:
    checks = [
        {"name": "report.vmpl", "outcome": "failed", "found": "3", "demanded": "0"},
        {"name": "chain.root", "outcome": "passed", "found": "x", "demanded": "y"},
        {"name": "policy.debug", "outcome": "failed", "found": "1\x1b[2J", "demanded": "0"},
    ]
    problem = document({"detail": "report.vmpl: expected 0, got 3", "checks": checks})
    text, server = refusal(tmp_path, always(reply(403, "application/problem+json", problem)), RefusedError, attempts=5)
    assert text == " refuses (403): report.vmpl: expected 0, got 3\npolicy.debug: expected 0, got 1\\x1b[2J"
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain; charset=utf-8", b"  go\x00away\n", ": go\\x00away"),
        ("text/plain", "é".encode() * 5000, ": " + "é" * 399 + "…"),
        ("text/html", b"<b>no</b>", ""),
        ("application/problem+json", b"{", ""),
        ("application/problem+json", document({"title": "no"}), ": no"),
        ("application/problem+json", document({"detail": 7, "checks": {"a": 1}}), ""),
        ("application/problem+json", document({"detail": "x" * 1000}), ": " + "x" * 399 + "…"),
        (
            "application/problem+json",
            document({"checks": [7, *({"name": str(n), "outcome": "failed"} for n in range(10))]}),
            ": " + "\n".join(f"{n}: expected , got " for n in range(8)) + "\nand 2 more",
        ),
    ],
)
def test_its_words_are_bounded_and_harmless(tmp_path: Path, kind: str, body: bytes, text: str) -> None:
    found, _ = refusal(tmp_path, always(reply(400, kind, body)), RefusedError)
    assert found == " refuses (400)" + text


def test_a_failure_of_its_own_is_not_asked_again(tmp_path: Path) -> None:
    text, server = refusal(tmp_path, always(reply(500)), PlatformError, attempts=5)
    assert text == ": expected an answer, got status 500"
    assert len(server.asked) == 2


# ---- attempts


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_who_cannot_answer_now_is_asked_again(tmp_path: Path, status: int) -> None:
    later, said = [reply(status, "", b"", "Retry-After: 3600")] * 2, list[str]()

    def handle(method: str, target: str, _body: bytes) -> Answer:
        if target == "/v1/nonce":
            return nonce_answer()
        return later.pop() if later else chain_answer(LEAF, ISSUER)

    with serving(tmp_path, handle) as server:
        assert asking(server, attempts=None, said=said) == (LEAF, ISSUER)
    assert server.asked == ["GET /v1/nonce", "POST /v1/attest"] * 3
    assert len(said) == 2
    assert said[0] == f"the Steward {server.url} cannot answer now ({status}); asking again in 0.1 s"


def test_attempts_come_to_an_end(tmp_path: Path) -> None:
    text, server = refusal(tmp_path, always(reply(503)), UnreachableError, attempts=3)
    assert text == " cannot answer now (503); it was asked 3 times"
    assert len(server.asked) == 6


def test_attempts_end_with_the_time_that_all_of_them_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOTAL_SECONDS", 0.3)
    monkeypatch.setattr(module, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(module, "LONGEST_WAIT", 10.0)
    begun = time.monotonic()
    _, server = refusal(tmp_path, always(reply(503)), UnreachableError, attempts=1000)
    assert time.monotonic() - begun < 10
    assert len(server.asked) < 12


def test_who_is_not_there_is_asked_again_and_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    said: list[str] = []
    client = Client(f"https://127.0.0.1:{port}", client_context(None, (self_signed().certificate,)), said.append)
    with pytest.raises(UnreachableError, match="cannot be reached: connection refused; it was asked 5 times") as caught:
        client.certify(lambda _nonce: b"")
    assert len(said) == 4
    assert caught.value.hint is not None
    assert caught.value.exit_code == 3


def test_a_name_that_nobody_knows_is_said_so() -> None:
    client = Client("https://steward.invalid", client_context(None, (self_signed().certificate,)), attempts=1)
    with pytest.raises(UnreachableError, match="cannot be reached: "):
        client.certify(lambda _nonce: b"")


# ---- slow ones


@pytest.mark.parametrize(
    "answer",
    [
        lambda _connection: time.sleep(1.0),
        drip(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.01),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)),
    ],
    ids=["silence", "headers without end", "continue without end", "a body byte by byte"],
)
def test_who_is_slow_is_left_when_the_time_is_over(
    tmp_path: Path, impatient: None, answer: Callable[[ssl.SSLSocket], None]
) -> None:
    with serving(tmp_path, always(answer, nonce=False)) as server:
        begun = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            asking(server)
        assert time.monotonic() - begun < 10  # what was sent would go on for longer
    assert caught.value.message == f"the Steward {server.url} did not answer within 0.5 s"


def test_who_does_not_shake_hands_is_left_when_the_time_is_over(impatient: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(url, client_context(None, (self_signed().certificate,)), attempts=1)
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.5 s"):
            client.certify(lambda _nonce: b"")


# ---- TLS


def failing(context: ssl.SSLContext, server: Server, attempts: int = 5) -> str:
    with pytest.raises(VerifyError) as caught:
        Client(server.url, context, attempts=attempts).certify(lambda _nonce: b"")
    assert type(caught.value) is VerifyError
    return caught.value.message.removeprefix(f"the Steward {server.url}")


def test_a_certificate_of_another_root_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, always(b"")) as server:
        text = failing(client_context(None, (self_signed().certificate,)), server)
    assert text.startswith(": its certificate is not to be trusted: unable to get local issuer certificate")
    assert server.asked == []


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, always(b"")) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        text = failing(client_context(None, server.roots), server)
    assert text.startswith(": its certificate is not to be trusted: Hostname mismatch")


def test_a_root_may_be_one_that_has_not_signed_itself(tmp_path: Path) -> None:
    with serving(tmp_path, always(chain_answer(LEAF, ISSUER))) as server:
        shown = ssl.get_server_certificate(("127.0.0.1", int(server.url.rpartition(":")[2])))
        server.roots = (ssl.PEM_cert_to_DER_cert(shown),)
        assert asking(server) == (LEAF, ISSUER)


def test_what_speaks_no_tls_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=answer)
        thread.start()
        client = Client(url, client_context(None, (self_signed().certificate,)))
        with pytest.raises(VerifyError, match="no TLS with it: ") as caught:
            client.certify(lambda _nonce: b"")
        thread.join()
    assert caught.value.exit_code == 4


def test_an_older_tls_is_refused(tmp_path: Path) -> None:
    identity = self_signed(["127.0.0.1"])
    context = server_context(identity)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(tmp_path, always(b""), context) as server:
        text = failing(client_context(None, (identity.certificate,)), server)
    assert text.startswith(": no TLS with it: ")


# ---- addresses


@pytest.mark.parametrize("url", ["http://a", "https://", "https://user:secret@a", "ftp://a", "a"])
def test_only_https_addresses_without_a_user(url: str) -> None:
    with pytest.raises(UsageError, match="expected https://HOST, without a user"):
        Client(url, client_context(None, (self_signed().certificate,)))


def test_a_context_that_verifies_nothing_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with pytest.raises(UsageError, match="verifies its certificate and name"):
        Client("https://a", context)
