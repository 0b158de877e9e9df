"""Keeps that say whom they trust, in both directions, spoken to by peers of which one thing is wrong."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from donjon import Keep
from donjon.config import Config, Connect, Listen, Stderr, Stdin, Stdout, Verify
from donjon.errors import UsageError, VerifyError
from donjon.identity import Identity, self_signed
from donjon.log import WARN
from tests.keep import guests
from tests.keep.stewards import MEASUREMENT, NAME, OTHER, WORKLOAD, Steward, client, pem, server
from tests.system.said import Said
from tests.system.tls import exactly, peer

HOUR = timedelta(hours=1)
DEMANDED = Verify(workload=[WORKLOAD.hex()])


@pytest.fixture(scope="module")
def steward() -> Steward:
    return Steward()


@pytest.fixture(scope="module")
def stranger() -> Steward:
    """Another Steward, of the same name."""
    return Steward()


@contextmanager
def listening(
    anchor: bytes, verify: Verify | None = None, guest: bytes = guests.SERVES
) -> Iterator[tuple[Keep, tuple[str, int], Said]]:
    """A Keep that echoes to clients of one root, one after the other."""
    entry = Listen(name="in", addr="127.0.0.1", port=0, ca=["keeps"], verify=verify)
    config = Config(roots={"keeps": pem(anchor)}, files=[Stdin(), Stdout(), Stderr(), entry])
    said = Said()
    with Keep.start(guest, config, log=said.logger, log_filter="debug") as keep:
        yield keep, keep.listeners["in"], said


def speak(address: tuple[str, int], context: ssl.SSLContext, text: bytes = b"hello") -> bytes:
    """Say something to a Keep; give what it says."""
    with socket.create_connection(address, 10) as raw, context.wrap_socket(raw) as stream:
        stream.sendall(text)
        return exactly(stream, len(text))


def refused(address: tuple[str, int], context: ssl.SSLContext) -> str:
    """What a client hears from a Keep that does not take it."""
    with pytest.raises((ssl.SSLError, OSError)) as caught:
        speak(address, context)
    return str(caught.value)


# ---- listen


@pytest.mark.parametrize(
    "verify",
    [
        None,
        Verify(),
        Verify(workload=[OTHER.hex(), WORKLOAD.hex()]),
        Verify(names=["SHOP.example.com"]),
        Verify(tee=["snp"], measurement=[MEASUREMENT], max_age="1h", workload=[WORKLOAD.hex()], names=[NAME]),
    ],
)
def test_takes_a_client_that_is_what_it_must_be(verify: Verify | None, steward: Steward) -> None:
    with listening(steward.anchor, verify) as (_, address, said):
        assert speak(address, client(steward.keep())) == b"hello"
    assert not [line for line in said.lines if line[0] <= WARN]


NO_CERTIFICATE = "peer showed no certificate"
Make = Callable[[Steward, Steward], Identity | None]
CASES: dict[str, tuple[Make, str, str]] = {
    "without a certificate": (lambda _, __: None, NO_CERTIFICATE, "certificate required"),
    "with a certificate that it signed itself": (
        lambda _, __: self_signed(), "certificate verify failed: self-signed certificate", "unknown ca"),
    "of another Steward with the same name": (
        lambda _, stranger: stranger.keep(), "certificate verify failed: ", "decrypt error|unknown ca"),
    "whose certificate has expired": (
        lambda steward, _: steward.keep(life=-HOUR, age=2 * HOUR),
        "certificate verify failed: certificate has expired", "certificate expired"),
    "that is another workload": (lambda steward, _: steward.keep(workload=OTHER), "demand.workload", "unexpected"),
    "that runs in simulated hardware": (
        lambda steward, _: steward.keep(simulated=True), "evidence.attested", "unexpected"),
    "that runs in no hardware": (lambda steward, _: steward.keep(protected=False), "evidence.attested", "unexpected"),
    "that nobody has judged": (lambda steward, _: steward.keep(judged=False), "result.format", "unexpected"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refuses_a_client(case: str, steward: Steward, stranger: Steward) -> None:
    make, reason, alert = CASES[case]
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        heard = refused(address, client(make(steward, stranger))).lower().replace("_", " ")
        level, line = said.waited(keep, "refused: ")
        assert speak(address, client(steward.keep())) == b"hello", "and goes on"
    assert level == WARN
    assert line.startswith("connection from 127.0.0.1:")
    assert reason in line
    assert any(word in heard for word in alert.split("|")), heard


def test_refuses_a_client_whose_certificate_has_another_name(steward: Steward) -> None:
    with listening(steward.anchor, Verify(names=["other.example.com"])) as (keep, address, said):
        refused(address, client(steward.keep()))
        assert "demand.name" in said.waited(keep, "refused: ")[1]


def test_refuses_a_client_that_was_judged_too_long_ago(steward: Steward) -> None:
    with listening(steward.anchor, Verify(max_age="1h")) as (keep, address, said):
        refused(address, client(steward.keep(age=2 * HOUR)))
        assert "demand.max_age" in said.waited(keep, "refused: ")[1]


def test_takes_simulated_hardware_where_it_is_told_to(steward: Steward) -> None:
    with listening(steward.anchor, Verify(accept_unattested=True)) as (_, address, _):
        assert speak(address, client(steward.keep(simulated=True))) == b"hello"


def test_without_verify_a_certificate_of_the_root_is_enough(steward: Steward) -> None:
    with listening(steward.anchor) as (_, address, _):
        assert speak(address, client(steward.keep(judged=False, workload=OTHER))) == b"hello"


def test_drops_a_client_that_speaks_no_tls(steward: Steward) -> None:
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        with socket.create_connection(address, 10) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            try:
                assert plain.recv(1) in (b"", b"\x15"), "nothing but an alert"
            except ConnectionResetError:
                pass
        assert "plain HTTP" in said.waited(keep, "dropped: ")[1]


def test_drops_a_client_that_speaks_tls_1_2(steward: Steward) -> None:
    context = client(steward.keep())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        assert "PROTOCOL_VERSION" in refused(address, context)
        assert "does not offer TLS 1.3" in said.waited(keep, "dropped: ")[1]


def test_a_client_that_stalls_in_its_handshake_holds_nobody_up(steward: Steward) -> None:
    with listening(steward.anchor, DEMANDED) as (_, address, _):
        silent = [socket.create_connection(address, 10) for _ in range(20)]
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        half = client(steward.keep()).wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            half.do_handshake()
        hello = outgoing.read()
        for number, each in enumerate(silent):  # silence, a part, all of ClientHello and then silence
            each.sendall(hello[: (0, 100, len(hello))[number % 3]])
        begun = time.monotonic()
        for _ in range(5):
            assert speak(address, client(steward.keep())) == b"hello"
        assert time.monotonic() - begun < 5
        for each in silent:
            each.close()


# ---- connect


CONNECTED = guests.guest("(call $write (i32.const 1) (i32.const 2048) (i32.const 4)) (call $copy (i32.const 3) "
                         "(i32.const 1))", '(data (i32.const 2048) "run:")')  # fmt: skip


def connecting(port: int, anchor: bytes, verify: Verify | None = None, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """A Keep that prints what its peer says; gives its exit code and that."""
    entry = Connect(name="out", host=host, port=port, ca=["keeps"], verify=verify)
    config = Config(roots={"keeps": pem(anchor)}, files=[Stdin(), Stdout(), Stderr(), entry])
    with Keep.start(CONNECTED, config) as keep:
        assert keep.stdout is not None
        text = keep.stdout.read()
        return keep.wait(10), text


def greet(stream: socket.socket) -> None:
    stream.sendall(b"hello")
    if isinstance(stream, ssl.SSLSocket):
        stream.unwrap()


@pytest.mark.parametrize(
    "verify",
    [
        Verify(workload=[WORKLOAD.hex()]),
        Verify(names=[NAME]),
        Verify(measurement=[MEASUREMENT], tee=["snp", "tdx"], max_age="10m"),
    ],
)
def test_connects_to_a_peer_that_is_what_it_must_be_by_whatever_address(verify: Verify, steward: Steward) -> None:
    with peer(greet, server(steward.keep())) as port:
        assert connecting(port, steward.anchor, verify) == (0, b"run:hello")


@pytest.mark.parametrize("verify", [None, Verify(), Verify(tee=["snp"])])
def test_the_host_name_must_match_where_nothing_else_says_who_the_peer_is(
    verify: Verify | None, steward: Steward
) -> None:
    with peer(greet, server(steward.keep(names=("localhost",)))) as port:
        assert connecting(port, steward.anchor, verify, "localhost") == (0, b"run:hello")
    with peer(greet, server(steward.keep()), refused=True) as port, pytest.raises(VerifyError, match="mismatch"):
        connecting(port, steward.anchor, verify, "localhost")


PEERS: dict[str, tuple[Callable[[Steward, Steward], Identity], str]] = {
    "that signed its certificate itself": (lambda _, __: self_signed(), "certificate verify failed: self-signed"),
    "of another Steward with the same name": (lambda _, stranger: stranger.keep(), "certificate verify failed: "),
    "whose certificate has expired": (
        lambda steward, _: steward.keep(life=-HOUR, age=2 * HOUR), "certificate has expired"),
    "that is another workload": (lambda steward, _: steward.keep(workload=OTHER), "demand.workload"),
    "that runs in simulated hardware": (lambda steward, _: steward.keep(simulated=True), "evidence.attested"),
    "that nobody has judged": (lambda steward, _: steward.keep(judged=False), "result.format"),
}  # fmt: skip


@pytest.mark.parametrize("case", PEERS)
def test_does_not_start_with_a_peer(case: str, steward: Steward, stranger: Steward) -> None:
    make, reason = PEERS[case]
    heard: list[bytes] = []

    def listen(stream: socket.socket) -> None:
        heard.append(stream.recv(1))

    with peer(listen, server(make(steward, stranger)), refused=True) as port, pytest.raises(VerifyError) as caught:
        connecting(port, steward.anchor, DEMANDED)
    assert caught.value.message.startswith(f'cannot connect to 127.0.0.1:{port} for "out": ')
    assert reason in caught.value.message
    assert caught.value.exit_code == 4
    assert not heard


def test_the_hint_names_the_roots_and_no_variable(steward: Steward, stranger: Steward) -> None:
    with peer(greet, server(self_signed()), refused=True) as port, pytest.raises(VerifyError) as caught:
        connecting(port, steward.anchor, DEMANDED)
    assert caught.value.hint == (
        "the peer's certificate must lead to a root in keeps, see `ca` and [roots] in Enarx.toml"
    )


def test_trusts_none_of_the_systems_roots_beside_its_own(
    steward: Steward, stranger: Steward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.file(tmp_path)))
    with peer(greet, server(stranger.keep()), refused=True) as port, pytest.raises(VerifyError, match="verify failed"):
        connecting(port, steward.anchor, DEMANDED)


# ---- roots


def test_a_root_that_is_missing_or_no_certificate_stops_the_keep(steward: Steward, tmp_path: Path) -> None:
    def start(roots: dict[str, str]) -> None:
        entry = Listen(name="in", addr="127.0.0.1", port=0, ca=["keeps"])
        Keep.start(guests.SERVES, Config(roots=roots, files=[entry])).close()

    with pytest.raises(UsageError, match=r"roots\.keeps: cannot read .*no such file"):
        start({"keeps": str(tmp_path / "none.pem")})
    start({"keeps": str(steward.file(tmp_path)), "unused": pem(steward.anchor)})
    with pytest.raises(UsageError, match=r"roots\.unused: cannot read"):
        start({"keeps": pem(steward.anchor), "unused": str(tmp_path / "none.pem")})


@pytest.mark.parametrize("verify", [None, DEMANDED])
def test_only_who_demands_something_pays_for_the_libraries_that_judge(verify: Verify | None, steward: Steward) -> None:
    with listening(steward.anchor, verify) as (keep, address, _):
        assert speak(address, client(steward.keep())) == b"hello"
        mapped = Path(f"/proc/{keep.pid}/maps").read_text()
    assert [name in mapped for name in ("cryptography", "msgspec")] == [verify is not None] * 2
