"""`donjon connect`: what passes, what does not, and that each side sees the other's end as it was."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from donjon.errors import PlatformError
from donjon.log import Logger
from donjon.tee.contract import Outcome
from donjon.verify import RefusedError, expect, judge
from donjon.verify import proxy as proxies
from donjon.verify.connection import Address
from donjon.verify.proxy import Pin, Proxy, listen
from tests.steward.requests import NOW
from tests.system.command import command, donjon_run, environment
from tests.verify.chains import OTHER, WORKLOAD, Chain, claims, new_key, status_none
from tests.verify.servers import Server, Steward, server_context, serving

MEGABYTE = 1 << 20


class Door:
    """`donjon connect` as a process, with what it wrote to stderr."""

    def __init__(self, server: Server, steward: Steward, *words: str, workload: bytes = WORKLOAD) -> None:
        expected = f"steward_root={steward.root},workload={workload.hex()},accept_unattested=true"
        line = [*command(), "connect", server.address, "--expect", expected, *words]
        self.process = subprocess.Popen(line, stderr=subprocess.PIPE, env=environment(), bufsize=0)
        self.text = ""
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in iter(self.process.stderr.readline, b""):
            with self._said:
                self.text += line.decode()
                self._said.notify_all()

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it does."""
        end = time.monotonic() + 30
        with self._said:
            while (found := re.search(pattern, self.text)) is None:
                assert self._said.wait(max(0, end - time.monotonic())), self.text
        return found

    @property
    def port(self) -> int:
        return int(self.says(r"listening on 127\.0\.0\.1:(\d+) for ")[1])

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


def echo(stream: ssl.SSLSocket) -> None:
    """Send back what comes, and end when the peer does."""
    while data := stream.recv(65536):
        stream.sendall(data)
    stream.unwrap()


def whole(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@contextmanager
def door(
    steward: Steward, handle: Callable[[ssl.SSLSocket], None], *words: str, identity: Path | None = None
) -> Iterator[tuple[Server, Door]]:
    with serving(identity or steward.keep(), handle) as server, Door(server, steward, *words) as found:
        yield server, found


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Steward, Server, Door]]:
    steward = Steward(tmp_path_factory.mktemp("steward"))
    with door(steward, echo) as (server, found):
        yield steward, server, found


def test_carries_both_ways_and_ends_each_by_itself(echoing: tuple[Steward, Server, Door]) -> None:
    _, _, found = echoing
    with found.open() as connection:
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        connection.sendall(b" and bye")
        connection.shutdown(socket.SHUT_WR)  # the Keep sees the end, and only then ends itself
        assert whole(connection) == b" and bye"


def test_carries_what_the_keep_sends_after_the_client_has_ended(steward: Steward) -> None:
    def late(stream: ssl.SSLSocket) -> None:
        size = 0
        while data := stream.recv(65536):
            size += len(data)
        time.sleep(0.1)
        stream.sendall(b"%d bytes" % size)
        stream.unwrap()

    with door(steward, late) as (_, found), found.open() as connection:
        connection.sendall(bytes(MEGABYTE))
        connection.shutdown(socket.SHUT_WR)
        assert whole(connection) == b"1048576 bytes"


@pytest.mark.slow
def test_carries_much_in_many_connections_at_once(echoing: tuple[Steward, Server, Door]) -> None:
    _, _, found = echoing
    data = os.urandom(MEGABYTE)
    answers: list[bytes] = []

    def talk() -> None:
        with found.open() as connection:

            def send() -> None:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            answers.append(whole(connection))
            sender.join()

    threads = [threading.Thread(target=talk) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [data] * 20


def test_a_cut_is_no_clean_end(steward: Steward) -> None:
    def cut(stream: ssl.SSLSocket) -> None:
        stream.sendall(b"half of it")
        stream.recv(1)  # and hang up without close_notify

    with door(steward, cut) as (_, found), found.open() as connection:
        assert connection.recv(10) == b"half of it"
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            whole(connection)
        found.says("cut short: TCP ended without close_notify")


def test_a_client_that_resets_resets_the_keeps_side(steward: Steward) -> None:
    ended: list[object] = []

    def wait(stream: ssl.SSLSocket) -> None:
        try:
            if stream.recv(1):
                stream.sendall(b"x")
                ended.append(stream.recv(1))
        except OSError as error:
            ended.append(error)

    with door(steward, wait) as (_, found):
        connection = found.open()
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        end = time.monotonic() + 20
        while not ended and time.monotonic() < end:
            time.sleep(0.01)
    assert len(ended) == 1
    assert isinstance(ended[0], OSError)


@pytest.mark.slow
def test_who_reads_slowly_is_waited_for(steward: Steward) -> None:
    sent = [0]

    def pour(stream: ssl.SSLSocket) -> None:
        stream.settimeout(1)
        try:
            while sent[0] < 200 * MEGABYTE:
                stream.sendall(bytes(65536))
                sent[0] += 65536
        except OSError:
            pass

    with door(steward, pour) as (_, found), found.open() as connection:
        connection.recv(1)
        time.sleep(1.5)
        assert 0 < sent[0] < 100 * MEGABYTE  # what the kernel's buffers hold; the proxy itself adds little
        resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{found.process.pid}/status").read_text())
        assert resident is not None
        assert int(resident[1]) < 80_000


def test_a_keep_that_is_not_what_is_expected_ends_it_at_the_start(steward: Steward) -> None:
    with serving(steward.keep(), echo) as server, Door(server, steward, workload=OTHER) as found:
        assert found.process.wait(30) == 4
        assert "error: peer refused: demand.workload" in found.says(r"error: .*\n")[0]


def test_nobody_there_ends_it_at_the_start(steward: Steward) -> None:
    expected = f"steward_root={steward.root}"
    done = donjon_run("connect", "127.0.0.1:1", "--expect", expected)
    assert done.returncode == 3
    assert b"cannot connect to 127.0.0.1:1: connection refused" in done.stderr
    with serving(steward.keep(), echo, version=ssl.TLSVersion.TLSv1_2) as server:
        done = donjon_run("connect", server.address, "--expect", expected)
    assert done.returncode == 3
    assert b"does not accept TLS 1.3" in done.stderr


def say(connection: socket.socket, data: bytes) -> None:
    """Send, and wait for an answer: a reset comes at whichever call meets it first."""
    connection.sendall(data)
    connection.recv(1)


def test_a_keep_that_changes_gets_no_byte(steward: Steward) -> None:
    received: list[bytes] = []

    def keep(stream: ssl.SSLSocket) -> None:
        if data := stream.recv(100):
            received.append(data)
            stream.sendall(data)
            stream.unwrap()

    with serving(steward.keep(), keep) as server, Door(server, steward) as found:
        with found.open() as connection:
            connection.sendall(b"first")
            assert connection.recv(5) == b"first"
        server.context = server_context(steward.keep(OTHER))
        with found.open() as connection, pytest.raises(ConnectionError):
            say(connection, b"second")
        found.says(r"error: peer refused: demand\.workload: expected one of .*, got")
    assert received == [b"first"]


@pytest.mark.slow
def test_a_keep_may_renew_its_key_unless_that_is_pinned(steward: Steward) -> None:
    for words, goes_on in (((), True), (("--pin", "none"), True), (("--pin", "key"), False)):
        with ExitStack() as stack:
            server = stack.enter_context(serving(steward.keep(), echo))
            found = stack.enter_context(Door(server, steward, *words))
            with found.open() as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
            server.context = server_context(steward.keep())
            with found.open() as connection:
                if goes_on:
                    connection.sendall(b"y")
                    assert connection.recv(1) == b"y"
                else:
                    with pytest.raises(ConnectionError):
                        say(connection, b"y")
                    found.says(r"error: peer refused: pin\.key: .*start `donjon connect` again")


def test_the_same_key_with_a_new_certificate_is_the_same(steward: Steward) -> None:
    key = new_key()
    with serving(steward.keep(key=key), echo) as server, Door(server, steward, "--pin", "key") as found:
        for _ in range(2):
            with found.open() as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
            server.context = server_context(steward.keep(key=key))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_what_is_open(steward: Steward, number: int) -> None:
    with door(steward, echo) as (_, found), found.open() as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        assert found.stop(number) == 0
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert "Traceback" not in found.text


def test_a_client_that_says_nothing_holds_nobody_up(echoing: tuple[Steward, Server, Door]) -> None:
    _, _, found = echoing
    with found.open(), found.open() as other:
        other.sendall(b"x")
        assert other.recv(1) == b"x"


def test_says_what_it_does_not_like(steward: Steward) -> None:
    with serving(steward.keep(), echo) as server:
        line = [*command(), "connect", server.address, "--listen", "0.0.0.0:0", "--expect"]
        expected = f"steward_root={steward.root},accept_unattested=true"
        with subprocess.Popen([*line, expected], stderr=subprocess.PIPE, env=environment()) as process:
            assert process.stderr is not None
            lines = [process.stderr.readline().decode() for _ in range(3)]
            process.terminate()
    assert "is open to others than this machine, in the clear" in lines[0]
    assert "nobody asked what runs" in lines[1]
    assert "listening on 0.0.0.0:" in lines[2]


def test_a_port_that_is_taken_is_said(steward: Steward) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        with pytest.raises(PlatformError, match=r"cannot listen on 127\.0\.0\.1:\d+: address already in use"):
            listen(address)
    with pytest.raises(PlatformError, match="cannot listen on"):
        listen(Address("x.invalid", 0))
    with listen(Address("::1", 0)) as found:
        assert found.family == socket.AF_INET6


# The pin by itself


PINNED: dict[str, Callable[[Chain], object]] = {
    "measurement": lambda chain: setattr(chain, "told", claims(measurement="cd" * 48)),
    "tee": lambda chain: setattr(chain, "told", {**claims(), "submods": {"tdx": claims()["submods"]["snp"]}}),
    "workload": lambda chain: vars(chain).update(told=claims(workload="00" * 32), names=chain.names[:2]),
    "anchor": lambda chain: setattr(chain.root, "key", new_key()),
    "simulated": lambda chain: status_none(chain, simulated=True),
    "protected": lambda chain: status_none(chain, protected=False),
}


@pytest.mark.parametrize("what", PINNED)
def test_what_was_proven_first_stays(what: str) -> None:
    chain = Chain()
    first = judge(chain.built(), chain.demands(accept_unattested=True), NOW)
    other = Chain(root=replace(chain.root), issuing=chain.issuing)
    other.leaf.key = chain.leaf.key
    PINNED[what](other)
    second = judge(other.built(), other.demands(accept_unattested=True), NOW)
    for words in ("proof", "key"):
        pin = Pin(words)
        pin.accept(first)
        pin.accept(first)
        with pytest.raises(RefusedError) as caught:
            pin.accept(second)
        failed = [check.name for check in caught.value.checks if check.outcome is Outcome.FAILED]
        assert failed == [f"pin.{what}"]
        pin.accept(first)
    pin = Pin("none")
    pin.accept(first)
    pin.accept(second)


def test_a_stewards_new_version_is_no_other_steward() -> None:
    chain = Chain()
    first = judge(chain.built(), chain.demands(), NOW)
    chain.told = {**claims(), "ear_verifier_id": {"developer": "Donjon", "build": "test 2"}}
    pin = Pin("proof")
    pin.accept(first)
    pin.accept(judge(chain.built(), chain.demands(), NOW))


# Within this process, where limits can be made small


@contextmanager
def inside(target: Address, steward: Steward, talk: Callable[[int], None]) -> Iterator[list[str]]:
    """Run a proxy here while `talk(port)` runs beside it; afterwards, what it has logged."""
    lines: list[str] = []
    log = Logger(lambda _level, _where, message: lines.append(message))
    demands = expect(steward_root=str(steward.root), workload=WORKLOAD.hex(), accept_unattested=True)
    failures: list[BaseException] = []

    def beside() -> None:
        try:
            talk(listener.getsockname()[1])
        except BaseException as error:
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with listen(Address("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=beside)
        Proxy(target, demands, "proof", log).run(listener, thread.start)
        thread.join()
    if failures:
        raise AssertionError(lines) from failures[0]
    yield lines


def is_reset(port: int) -> bool:
    """Whether it hangs up with a reset, which may come as early as in the middle of connecting."""
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            assert connection.recv(1) == b""
            return False
    except ConnectionResetError:
        return True


def test_no_more_connections_than_it_can_bear(steward: Steward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "MAX_CONNECTIONS", 1)

    def talk(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 20) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            assert is_reset(port)
            first.sendall(b"y")
            assert first.recv(1) == b"y"

    with serving(steward.keep(), echo) as server:
        where = Address("127.0.0.1", server.port)
        with inside(where, steward, talk) as lines:
            assert lines == ["refused a connection: 1 are open"]


def test_a_keep_that_goes_away_is_told(steward: Steward) -> None:
    with serving(steward.keep(), echo) as server:

        def talk(port: int) -> None:
            server.close()
            assert is_reset(port)

        with inside(Address("127.0.0.1", server.port), steward, talk) as lines:
            assert re.fullmatch(
                r"cannot connect to 127\.0\.0\.1:\d+: connection refused; check host and port", lines[0]
            )


def test_a_keep_that_stops_to_speak_is_not_waited_for(steward: Steward, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []
        port_of_keep = listener.getsockname()[1]

        def first_well_then_silent() -> None:
            connection, _ = listener.accept()
            with server_context(steward.keep()).wrap_socket(connection, server_side=True) as stream:
                stream.recv(1)
            taken.append(listener.accept()[0])

        thread = threading.Thread(target=first_well_then_silent)
        thread.start()

        def talk(port: int) -> None:
            monkeypatch.setattr(proxies, "SECONDS", 0.3)
            assert is_reset(port)

        with inside(Address("127.0.0.1", port_of_keep), steward, talk) as lines:
            assert re.fullmatch(r"cannot connect to 127\.0\.0\.1:\d+: no answer in time", lines[0])
        thread.join()
        for connection in taken:
            connection.close()


def test_ends_and_errors_within(steward: Steward) -> None:
    """The whole way once more, where coverage sees it."""

    def talk(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"hello")
            connection.shutdown(socket.SHUT_WR)
            assert whole(connection) == b"hello"
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"cut")
            assert connection.recv(3) == b"cut"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.context = server_context(steward.keep(OTHER))
        assert is_reset(port)

    with serving(steward.keep(), echo) as server:
        where = Address("127.0.0.1", server.port)
        with inside(where, steward, talk) as lines:
            assert len(lines) == 1
            assert lines[0].startswith("peer refused: demand.workload")
    with serving(steward.keep(OTHER), echo) as server:
        address = Address("127.0.0.1", server.port)
        with pytest.raises(RefusedError, match=r"demand\.workload"), inside(address, steward, print):
            pass
