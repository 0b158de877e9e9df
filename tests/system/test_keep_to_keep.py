"""Keeps that say whom they trust, in both directions, spoken to by peers of which one thing is wrong."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from donjon import Keep
from donjon.config import Config, Connect, File, Limits, Listen, Stderr, Stdin, Stdout, Verify
from donjon.errors import UsageError, VerifyError
from donjon.identity import Identity, self_signed
from donjon.log import WARN
from tests.keep import guests
from tests.keep.stewards import MEASUREMENT, NAME, OTHER, WORKLOAD, Steward, client, pem, server
from tests.system.said import Said
from tests.system.tls import exactly, peer
from tests.verify.chains import Chain, Entity, unknown

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
    assert not isinstance(caught.value, (ConnectionRefusedError, TimeoutError)), "nobody listens"
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


# ---- clients that attack


def forged(*certificates: bytes, key: Identity) -> ssl.SSLContext:
    """A client that sends these, and has the key of the first of them."""
    return client(Identity(key._key, certificates))


def test_a_stolen_chain_behind_an_own_certificate_proves_nothing(steward: Steward, stranger: Steward) -> None:
    victim, thief = steward.keep(), stranger.keep()
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        refused(address, forged(thief.certificate, *victim.chain, steward.anchor, key=thief))
        assert "certificate verify failed" in said.waited(keep, "refused: ")[1]


def test_two_certificates_of_the_steward_are_judged_as_the_one_whose_key_is_proven(steward: Steward) -> None:
    right, wrong = steward.keep(), steward.keep(workload=OTHER)
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        refused(address, forged(wrong.certificate, right.certificate, right.chain[1], key=wrong))
        assert "demand.workload" in said.waited(keep, "refused: ")[1]
        assert speak(address, forged(right.certificate, wrong.certificate, right.chain[1], key=right)) == b"hello"


def test_what_a_client_sends_beside_its_chain_is_not_looked_at(steward: Steward, stranger: Steward) -> None:
    right = steward.keep()
    litter = [stranger.keep().certificate for _ in range(20)]
    with listening(steward.anchor, DEMANDED) as (_, address, _):
        assert speak(address, forged(*right.chain, *litter, key=right)) == b"hello"


def test_a_certificate_needs_its_own_key(steward: Steward, stranger: Steward) -> None:
    right, thief = steward.keep(), stranger.keep()
    with pytest.raises(VerifyError, match="do not belong together"):
        forged(*right.chain, key=thief)


def test_the_stewards_own_authority_is_no_peer(steward: Steward) -> None:
    secret = steward.issuing.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    itself = Identity(secret, (steward.issuing.signed(steward.root),))
    with listening(steward.anchor, Verify(accept_unattested=True)) as (keep, address, said):
        refused(address, client(itself))
        assert "unsuitable certificate purpose" in said.waited(keep, "refused: ")[1]


@pytest.mark.parametrize(("size", "reason"), [(90_000, None), (200_000, "excessive message size")])
def test_a_huge_certificate_costs_no_more_than_another(size: int, reason: str | None, steward: Steward) -> None:
    huge = steward.keep(extra={"huge": (unknown("1.3.6.1.4.1.99999.1", bytes(size)), False)})
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        begun = time.monotonic()
        if reason is None:
            assert speak(address, client(huge)) == b"hello"
        else:
            refused(address, client(huge))
            assert reason in said.waited(keep, "dropped: ")[1]
        assert time.monotonic() - begun < 5


def test_authentication_after_the_handshake_is_no_way_round_it(steward: Steward) -> None:
    context = client()
    context.post_handshake_auth = True
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        assert "certificate required" in refused(address, context).lower().replace("_", " ")
        assert NO_CERTIFICATE in said.waited(keep, "refused: ")[1]


def test_a_session_is_not_resumed_without_a_certificate(steward: Steward) -> None:
    known = client(steward.keep())
    with listening(steward.anchor, DEMANDED) as (_, address, _):
        with socket.create_connection(address, 10) as raw, known.wrap_socket(raw) as stream:
            stream.sendall(b"hello")
            assert exactly(stream, 5) == b"hello"
            session = stream.session
            assert session is None or not session.has_ticket
        with socket.create_connection(address, 10) as raw, known.wrap_socket(raw, session=session) as stream:
            stream.sendall(b"hello")
            assert exactly(stream, 5) == b"hello"
            assert not stream.session_reused


def test_a_certificate_cannot_write_into_the_log(steward: Steward) -> None:
    evil = steward.keep()
    name = "x\n2026 donjon: all is well\x1b[2J"
    chain = Chain(steward.root, steward.issuing, Entity(name, start=steward.issuing.start, end=steward.issuing.end))
    secret = chain.leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    evil = Identity(secret, chain.built())
    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        refused(address, client(evil))
        assert said.waited(keep, "refused: ")[1].isprintable()


def test_the_limit_of_connections_counts_refused_clients_only_while_they_are_there(steward: Steward) -> None:
    entry = Listen(name="in", addr="127.0.0.1", port=0, ca=["keeps"], verify=DEMANDED)
    files: list[File] = [Stdin(), Stdout(), Stderr(), entry]
    config = Config(roots={"keeps": pem(steward.anchor)}, files=files, limits=Limits(connections=2))
    with Keep.start(guests.SERVES, config) as keep:
        address = keep.listeners["in"]
        for _ in range(5):
            refused(address, client(steward.keep(workload=OTHER)))
            refused(address, client())
        assert speak(address, client(steward.keep())) == b"hello"


@pytest.mark.slow
def test_memory_and_descriptors_stay_the_same_over_a_thousand_refusals(steward: Steward) -> None:
    contexts = [client(steward.keep(workload=OTHER)), client(), client(self_signed()), client(steward.keep())]

    def round_of(number: int) -> None:
        for _ in range(number):
            for context in contexts[:3]:
                refused(address, context)

    with listening(steward.anchor, DEMANDED) as (keep, address, said):
        round_of(60)
        before = resident(keep)
        round_of(340)
        assert speak(address, contexts[3]) == b"hello"
        after = resident(keep)
        assert len([line for line in said.lines if line[0] == WARN]) <= 61 + 60 * 10, "a minute has sixty lines"
    assert after[1] == before[1]
    assert after[0] - before[0] < 1 << 20, "and not a kilobyte for each"


def resident(keep: Keep) -> tuple[int, int]:
    """Bytes of memory, and the number of open descriptors, when it has settled."""
    time.sleep(0.3)
    keep.poll()
    pages = int(Path(f"/proc/{keep.pid}/statm").read_text().split()[1])
    return pages * 4096, len(os.listdir(f"/proc/{keep.pid}/fd"))


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
        Verify(names=[NAME], measurement=[MEASUREMENT], tee=["snp", "tdx"], max_age="10m"),
    ],
)
def test_connects_to_a_peer_that_is_what_it_must_be_by_whatever_address(verify: Verify, steward: Steward) -> None:
    with peer(greet, server(steward.keep())) as port:
        assert connecting(port, steward.anchor, verify) == (0, b"run:hello")


@pytest.mark.parametrize("verify", [None, Verify(), Verify(tee=["snp"]), Verify(measurement=[MEASUREMENT])])
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
