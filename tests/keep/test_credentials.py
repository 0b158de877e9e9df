"""A Keep's identity while it runs: renewed in time or late, and never shown when it has expired."""

from __future__ import annotations

import mmap
import os
import signal
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from donjon.errors import DonjonError, PlatformError, VerifyError
from donjon.identity import Identity, self_signed
from donjon.identity.apart import Beside
from donjon.identity.certificate import private_bytes
from donjon.keep import credentials as module
from donjon.keep.credentials import Credentials
from donjon.log import Logger
from donjon.tls.context import server_context
from donjon.wasm.wasi.reactor import Reactor
from tests.steward.https import Issuer
from tests.system.tls import unchecked

Make = Callable[[Callable[[str], None]], Identity]


class Clock:
    """Seconds since 1970, where a test says how late it is; processes that were forked before hear of it."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        self.ahead = 0.0

    @property
    def ahead(self) -> float:
        return float(struct.unpack("d", self._shared[:8])[0])

    @ahead.setter
    def ahead(self, seconds: float) -> None:
        self._shared[:8] = struct.pack("d", seconds)

    def __call__(self) -> float:
        return time.time() + self.ahead


class Case:
    """Credentials with a reactor; `say` is what they logged.

    Args:
        life: of each certificate, seconds.
        fails: while this file exists, making one fails.
    """

    def __init__(self, folder: Path, life: float = 3600.0, make: Make | None = None) -> None:
        self.clock = Clock()
        self.reactor = Reactor()
        self.said: list[tuple[int, str]] = []
        self.fails = folder / "fails"
        self.hangs = folder / "hangs"
        self.maker = folder / "maker"  # the number of the process that made the last one
        self._issuer = Issuer()
        self._life = life
        log = Logger(lambda level, _target, text: self.said.append((level, text)))
        self.credentials = Credentials(make or self._make, self.reactor, log, self.clock)
        self.context = server_context(self.credentials.identity())
        self.credentials.show_in(self.context)

    def _make(self, say: Callable[[str], None]) -> Identity:
        self.maker.write_text(str(os.getpid()))
        say("made one")
        while self.hangs.exists():
            time.sleep(0.01)
        if self.fails.exists():
            raise VerifyError("the Steward refuses: policy\nand more")
        key = ec.generate_private_key(ec.SECP256R1())
        end = self.clock() + self._life
        leaf = self._issuer.sign(key.public_key(), life=timedelta(days=9)).public_bytes(Encoding.DER)
        return Identity(private_bytes(key), (leaf, self._issuer.der), end)

    def until(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        """Let the reactor work until it is so."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, self.said
            self.reactor.sleep(0.02)

    def texts(self, level: int) -> list[str]:
        return [text for at, text in self.said if at == level]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.credentials.close()
    assert made.reactor.tasks == {}


class Connection:
    """A client and a server in memory, their handshake done."""

    def __init__(self, context: ssl.SSLContext) -> None:
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = unchecked().wrap_bio(back, there, server_hostname=None)
        self.server = context.wrap_bio(there, back, server_side=True)
        for _ in range(3):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    pass

    @property
    def shown(self) -> bytes | None:
        return self.client.getpeercert(binary_form=True)

    def works(self) -> bool:
        self.server.write(b"ping")
        self.client.write(b"pong")
        return (self.client.read(4), self.server.read(4)) == (b"ping", b"pong")


def test_handshakes_show_the_renewed_chain_and_open_connections_go_on(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = case.credentials.identity()
    before = Connection(case.context)
    assert before.shown == first.certificate
    case.clock.ahead += 2400 + 181  # two thirds and a twentieth of an hour
    monkeypatch.setattr(module, "LOOK", 0.01)
    case.credentials._arm()
    case.until(lambda: case.credentials.identity() is not first)
    second = case.credentials.identity()
    assert second.certificate != first.certificate
    assert second.key_pem() != first.key_pem()
    after = Connection(case.context)
    assert after.shown == second.certificate
    assert before.works()
    assert after.works()
    assert case.texts(3)[-1].startswith("the Keep's certificate is renewed, and valid until 20")
    assert case.texts(2) == case.texts(1) == []


def test_the_next_is_due_at_two_thirds_of_the_life_give_or_take_a_twentieth(tmp_path: Path) -> None:
    due = []
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = Case(folder)
        due.append((case.credentials._due - case.clock()) / 3600)
        case.credentials.close()
    assert 0.616 < min(due) < max(due) < 0.717
    assert max(due) - min(due) > 0.01


def test_nothing_is_renewed_before_it_is_due(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    case.clock.ahead += 2200
    case.credentials._arm()
    first = case.credentials.identity()
    case.reactor.sleep(0.2)
    assert case.credentials.identity() is first


def test_what_fails_is_tried_again_later_each_time_until_it_succeeds(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    first = case.credentials.identity()
    case.fails.touch()
    case.clock.ahead += 2600
    case.credentials._arm()
    case.until(lambda: len(case.texts(2)) == 1)
    assert case.texts(2)[0].startswith(
        "the Keep's certificate is not renewed: the Steward refuses: policy; and more; it expires at 20"
    )
    waits = []
    for number in range(2, 5):
        waits.append(case.credentials._due - case.clock())
        case.clock.ahead += waits[-1]
        case.until(lambda number=number: len(case.texts(2)) == number)  # type: ignore[misc]
    assert 14 < waits[0] < 16
    assert 28 < waits[1] < 32
    assert 56 < waits[2] < 64
    assert Connection(case.context).shown == first.certificate
    case.fails.unlink()
    case.clock.ahead += 1 + case.credentials._due - case.clock()
    case.until(lambda: case.credentials.identity() is not first)
    assert case.credentials._wait == module.FIRST_RETRY


def test_an_expired_certificate_is_shown_to_nobody_and_said_loudly_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    before = Connection(case.context)
    case.fails.touch()
    case.clock.ahead += 3601
    for _ in range(3):
        with pytest.raises(ssl.SSLError):
            Connection(case.context)
    assert before.works()
    assert len(case.texts(1)) == 1
    assert case.texts(1)[0].startswith("the Keep's certificate has expired at 20")
    assert case.texts(1)[0].endswith("no new TLS connection is accepted until it is renewed; open ones go on")
    case.credentials._arm()
    case.until(lambda: bool(case.texts(2)))
    with pytest.raises(ssl.SSLError):
        Connection(case.context)
    case.fails.unlink()
    case.clock.ahead += 60
    first = case.credentials.identity()
    case.until(lambda: case.credentials.identity() is not first)
    assert Connection(case.context).works()
    assert before.works()
    assert len(case.texts(1)) == 1


def test_expiry_is_said_although_nobody_connects(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    case.fails.touch()
    case.clock.ahead += 3601
    case.credentials._arm()
    case.until(lambda: bool(case.texts(1)))


def test_an_attempt_that_hangs_is_given_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    monkeypatch.setattr(module, "RENEWAL_SECONDS", 0.1)
    case.hangs.touch()
    case.clock.ahead += 2600
    case.credentials._arm()
    case.until(lambda: bool(case.texts(2)))
    assert "not renewed: nothing came within 0.1 s; it expires at" in case.texts(2)[0]


def test_a_keep_that_ends_takes_its_renewal_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "LOOK", 0.01)
    case = Case(tmp_path)
    first = case.maker.read_text()
    case.hangs.touch()
    case.clock.ahead += 2600
    case.credentials._arm()
    case.until(lambda: case.credentials._making is not None)
    case.until(lambda: case.maker.read_text() not in ("", first))
    maker = int(case.maker.read_text())
    os.kill(maker, 0)
    begun = time.monotonic()
    case.credentials.close()
    case.reactor.drain(2.0)
    assert time.monotonic() - begun < 1.9  # nothing is left to drain
    end = begun + 10
    while _lives(maker):
        assert time.monotonic() < end
        time.sleep(0.01)
    case.clock._shared.close()
    assert len(os.listdir("/proc/self/fd")) == before


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_identity_that_nobody_renews_gives_the_reactor_nothing_to_do() -> None:
    reactor = Reactor()
    credentials = Credentials(lambda _say: self_signed(), reactor, Logger(None))
    context = server_context(credentials.identity())
    credentials.show_in(context)
    assert reactor.tasks == {}
    assert context.sni_callback is None
    credentials.close()


def test_a_keep_whose_identity_cannot_be_had_says_why() -> None:
    def fail(_say: Callable[[str], None]) -> Identity:
        raise PlatformError("no evidence", "a hint")

    credentials = Credentials(fail, Reactor(), Logger(None))
    with pytest.raises(DonjonError, match="no evidence") as caught:
        credentials.identity()
    assert type(caught.value) is PlatformError
    assert caught.value.hint == "a hint"
    credentials.close()


def test_times_are_said_in_utc(case: Case) -> None:
    end = datetime.fromtimestamp(case.credentials.identity().expires or 0, UTC)
    assert module._shown(end.timestamp()) == end.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_fork_that_fails_is_tried_again_too(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork(*_: object) -> None:
        raise PlatformError("cannot start a process that makes the Keep's key: cannot allocate memory")

    monkeypatch.setattr(module, "LOOK", 0.01)
    first = case.credentials.identity()
    with monkeypatch.context() as inner:
        inner.setattr(Beside, "begin", no_fork)
        case.clock.ahead += 2600
        case.credentials._arm()
        case.until(lambda: bool(case.texts(2)))
    assert "not renewed: cannot start a process that makes the Keep's key" in case.texts(2)[0]
    case.clock.ahead += 60
    case.until(lambda: case.credentials.identity() is not first)


def test_a_renewal_that_nobody_is_there_for_is_said(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    beside = case.credentials._beside
    assert beside is not None
    os.kill(beside._pid, signal.SIGKILL)
    os.waitpid(beside._pid, 0)
    case.clock.ahead += 2600
    case.credentials._arm()
    case.until(lambda: bool(case.texts(2)))
    assert "not renewed: cannot have the Keep's key made: the process for it is gone: broken pipe" in case.texts(2)[0]
