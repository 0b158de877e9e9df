"""A listener whose clients have to prove something: who is refused, what that costs, and who hears of it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from donjon.errors import VerifyError
from donjon.identity import Identity
from donjon.log import DEBUG, WARN, Logger
from donjon.tls import TlsError, TlsPipe, client_context, server_context
from donjon.tls import listener as module
from donjon.tls.listener import TlsListener
from donjon.wasm.wasi.descriptors.socket import Budget
from donjon.wasm.wasi.p1.errno import WasiError
from donjon.wasm.wasi.p1.types import Fdflag
from donjon.wasm.wasi.reactor import Reactor
from tests.keep.stewards import Steward


class Door:
    """A listener, the reactor that moves it, and what it logs and asks."""

    def __init__(self, steward: Steward) -> None:
        self.steward = steward
        self.asked: list[tuple[bytes, ...]] = []
        self.answer: Callable[[tuple[bytes, ...]], None] = lambda _: None
        self.lines: list[tuple[int, str]] = []
        self.budget = Budget(8)
        self.reactor = Reactor()
        host = socket.create_server(("127.0.0.1", 0))
        self.address = host.getsockname()
        log = Logger(lambda level, _, text: self.lines.append((level, text)), "debug")
        context = server_context(steward.keep(), [steward.anchor])
        self.listener = TlsListener(host, context, self.reactor, self.budget, log, self._judge)
        self.listener.set_flags(Fdflag.NONBLOCK)

    def _judge(self, chain: tuple[bytes, ...]) -> None:
        self.asked.append(chain)
        self.answer(chain)

    def refuse(self, reason: str) -> None:
        def answer(_: tuple[bytes, ...]) -> None:
            raise VerifyError(reason)

        self.answer = answer

    def turn(self) -> bool:
        """Let it do what it can; True: a connection is there."""
        try:
            self.listener.accept().close()
        except WasiError:
            return False
        return True

    def used(self) -> int:
        count = 0
        while self.budget.take():
            count += 1
        for _ in range(count):
            self.budget.give()
        return 8 - count


class Caller:
    """A client whose every step a test takes."""

    def __init__(self, door: Door, identity: Identity | None) -> None:
        self.door = door
        self.socket = socket.create_connection(door.address, 10)
        self.socket.setblocking(False)
        context = client_context(identity, [door.steward.anchor], check_name=False)
        self.pipe = TlsPipe(context, server_side=False, server_hostname="localhost")

    def step(self) -> bool:
        """Send what there is to send, let the door work, take what comes. True: the handshake is done here."""
        done = self.pipe.handshake()
        data = self.pipe.take()
        if data:
            self.socket.sendall(data)
        self.door.turn()
        if not done and select.select([self.socket], [], [], 0.01)[0]:
            self.pipe.feed(self.socket.recv(1 << 16))
        return done

    def shake(self) -> None:
        end = time.monotonic() + 10
        while not self.step():
            assert time.monotonic() < end

    def heard(self) -> str:
        """What it hears of a refusal."""
        end = time.monotonic() + 10
        view = memoryview(bytearray(100))
        while time.monotonic() < end:
            self.door.turn()
            if select.select([self.socket], [], [], 0.01)[0]:
                data = self.socket.recv(1 << 16)
                if data:
                    self.pipe.feed(data)
                else:
                    self.pipe.feed_eof()
                try:
                    self.pipe.read_into(view)
                except TlsError as error:
                    return error.message
        raise AssertionError("nothing came")


@pytest.fixture(scope="module")
def steward() -> Steward:
    return Steward()


@pytest.fixture
def door(steward: Steward) -> Iterator[Door]:
    made = Door(steward)
    yield made
    made.listener.close()
    assert made.used() == 0
    assert not made.reactor.tasks


def test_a_client_is_judged_once_by_the_chain_that_was_verified(door: Door) -> None:
    keep = door.steward.keep()
    caller = Caller(door, keep)
    caller.shake()
    while not door.asked:
        door.turn()
    door.turn()
    assert door.asked == [(*keep.chain, door.steward.anchor)]
    caller.socket.close()


def test_a_refused_client_gets_an_alert_and_the_guest_never_sees_it(door: Door) -> None:
    door.refuse("it is another workload")
    caller = Caller(door, door.steward.keep())
    caller.shake()
    assert caller.heard() == (
        "peer refused: unexpected message (so a Keep ends what it does not accept) (peer localhost)"
    )
    host, port = caller.socket.getsockname()
    assert door.lines == [(WARN, f"connection from {host}:{port} refused: it is another workload")]
    assert not door.turn()
    assert door.used() == 0
    caller.socket.close()


def test_a_refused_client_that_sent_its_request_at_once_gets_the_alert_too(door: Door) -> None:
    door.refuse("no")
    caller = Caller(door, door.steward.keep())
    while not caller.pipe.handshake():
        caller.step()
    caller.socket.sendall(caller.pipe.take() + caller.pipe.seal(b"request" * 1000))
    assert "unexpected message" in caller.heard()
    caller.socket.close()


def test_a_client_that_hangs_up_at_once_is_no_trouble(door: Door) -> None:
    door.refuse("no")
    caller = Caller(door, door.steward.keep())
    while not caller.pipe.handshake():
        caller.step()
    caller.socket.sendall(caller.pipe.take())
    caller.socket.close()
    while not door.lines:
        door.turn()
    assert door.used() == 0


def test_a_client_without_certificate_is_not_even_judged(door: Door) -> None:
    caller = Caller(door, None)
    caller.shake()
    assert caller.heard().startswith("peer refused: it demands a certificate")
    assert not door.asked
    assert [(level, text.partition(" refused: ")[2]) for level, text in door.lines] == [
        (WARN, "peer showed no certificate")
    ]
    caller.socket.close()


def test_refusals_without_end_are_counted(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOLD", 2)
    monkeypatch.setattr(module, "TOLD_SECONDS", 0.5)
    for _ in range(5):
        door.listener._tell("no")
    assert door.lines == [(WARN, "no")] * 2 + [(DEBUG, "no")] * 3
    time.sleep(0.6)
    door.listener._tell("no")
    assert door.lines[5:] == [(WARN, "3 more connections refused"), (WARN, "no")]


def test_an_answer_that_is_no_refusal_is_our_mistake_and_not_hidden(door: Door) -> None:
    """`judge_of` lets out nothing but VerifyError; a listener that swallowed the rest would let the peer wait."""

    def broken(_: tuple[bytes, ...]) -> None:
        raise ZeroDivisionError

    door.answer = broken
    caller = Caller(door, door.steward.keep())

    def go_on() -> None:
        while True:
            caller.step()

    with pytest.raises(ZeroDivisionError):
        go_on()
    caller.socket.close()


def test_a_listener_without_judge_hands_out_whoever_has_a_certificate(steward: Steward) -> None:
    host = socket.create_server(("127.0.0.1", 0))
    made = TlsListener(host, server_context(steward.keep(), [steward.anchor]), Reactor(), Budget(1))
    made.set_flags(Fdflag.NONBLOCK)
    context = client_context(steward.keep(), [steward.anchor], check_name=False)
    pipe = TlsPipe(context, server_side=False, server_hostname="localhost")
    with socket.create_connection(host.getsockname(), 10) as client:
        client.setblocking(False)
        accepted = None
        while accepted is None:
            done = pipe.handshake()
            client.sendall(pipe.take())
            try:
                accepted = made.accept()
            except WasiError:
                if not done and select.select([client], [], [], 0.01)[0]:
                    pipe.feed(client.recv(1 << 16))
        accepted.close()
    made.close()
