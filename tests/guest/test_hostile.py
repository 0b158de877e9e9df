"""The agent between two enemies: a host that lies, stalls, floods, and a Keep's process that was taken over."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from donjon.errors import PlatformError
from donjon.guest.agent import Place
from donjon.guest.evidence import check_named
from donjon.guest.requests import Asker, answer
from donjon.keep.channel import Reporter
from donjon.sallyport import frames
from donjon.sallyport.machine import STDIN, State
from tests.guest.sessions import Session
from tests.guest.test_agent import CAT, HELLO, SPIN, STREAMS, launched

Enemy = Callable[[Reporter, socket.socket], int]


def taken_over(monkeypatch: pytest.MonkeyPatch, enemy: Enemy) -> None:
    """The Keep's process does this instead of running the workload."""
    monkeypatch.setattr("donjon.guest.keep._run", lambda _workload, _place, reporter, asked: enemy(reporter, asked))


def sockets() -> tuple[Place, int]:
    """A place with a network whose gate is a port of this machine's, and that port."""
    with socket.create_server(("127.0.0.1", 0)) as spare:
        gate = spare.getsockname()[1]
    return Place(network=True, address="127.0.0.1", gateway="127.0.0.1", gate_port=gate), gate


def raw(channel: socket.socket, *fields: str) -> socket.socket:
    """Ask, and do not wait; where the answer will come."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(channel, [answer(*fields)], [theirs.fileno()])
    return ours


# ---- the host


FLOOD = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (i32.store (i32.const 4) (i32.const 60000))
    (loop $more (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))) (br $more))))"""


def test_a_workload_whose_output_nobody_reads_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.agent.GRACE_SECONDS", 0.2)
    monkeypatch.setattr("donjon.sallyport.machine.HostMachine.consumed", lambda *_: None)

    def act(session: Session, event: Any) -> None:
        if len(session.stdout) >= 200_000:
            session.machine.stop()

    assert Session(launched(FLOOD), act=act).run().last(frames.Exit).code == 143


def test_stop_before_the_start_is_answered() -> None:
    def hello(session: Session, event: Any) -> None:
        if isinstance(event, frames.Hello):
            session.machine.stop()

    failed = Session(launched(HELLO), act=hello).run().last(frames.Failed)
    assert failed.message == "stopped before the workload started"


@pytest.mark.parametrize("state", [State.LAUNCHING, State.DESCRIBING, State.HANDOVER, State.RECEIVING])
@pytest.mark.parametrize("trickle", [False, True], ids=["silent", "trickling"])
def test_a_host_that_stalls_before_the_start_has_one_deadline(
    state: State, trickle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that come in time do not make it longer."""
    monkeypatch.setattr("donjon.guest.agent.HANDOVER_SECONDS", 0.5)
    session = Session(launched(HELLO))
    launch = frames.Launch(version=1, descriptor=len(session.descriptor), options=2).encode()
    more = frames.Chunk(data=session.descriptor + b"{}").encode()
    file = frames.File(name="main.wasm", size=1000, digest=bytes(32)).encode()
    piece = frames.Chunk(data=b" ").encode()
    before, held = {
        State.LAUNCHING: (b"", launch[:-1]),
        State.DESCRIBING: (launch, more[:-1]),
        State.HANDOVER: (launch + more, file[:-1]),
        State.RECEIVING: (launch + more, piece * 999),
    }[state]
    accepted = state in (State.LAUNCHING, State.DESCRIBING)
    session.socket.setblocking(True)
    session.socket.sendall(before)
    session.socket.settimeout(0.02)
    begun = time.monotonic()
    heard = b""
    with suppress(ConnectionResetError):
        while True:
            assert time.monotonic() < begun + 5, heard
            try:
                data = session.socket.recv(65536)
            except TimeoutError:
                if trickle and held and accepted:
                    with suppress(BrokenPipeError):
                        held = held[session.socket.send(held[:1]) :]
                continue
            if not data:
                break
            heard += data
            if not accepted and any(isinstance(frame, frames.Accept) for frame in told(heard)):
                accepted = True
                if state is State.RECEIVING:
                    session.socket.sendall(file)
    session.close()
    failed = told(heard)[-1]
    assert isinstance(failed, frames.Failed)
    assert failed.message == f"the host has not handed over the launch within 0.5 s (it was {state.value})"


def told(data: bytes) -> list[frames.Frame]:
    """The frames in what an agent has sent."""
    found = []
    while data:
        size = frames.HEADER + int.from_bytes(data[1 : frames.HEADER], "little")
        found.append(frames.decode(frames.TYPES[data[0]], data[frames.HEADER : size]))
        data = data[size:]
    return found


@pytest.mark.parametrize("part", ["descriptor", "options"])
def test_a_launch_beyond_its_limit_is_refused_before_it_comes(part: str) -> None:
    session = Session(launched(HELLO))
    sizes = {"descriptor": 1, "options": 1} | {part: (1 << 20) + 1}
    body = b"\1" + b"".join(sizes[name].to_bytes(4, "little") for name in ("descriptor", "options"))
    whole = frames.Launch(version=1, descriptor=1, options=1).encode()
    assert len(whole) == frames.HEADER + len(body)
    session.socket.sendall(whole[: frames.HEADER] + body)
    while not session.machine.over:
        session.events += session.port.step(1.0)
    session.close()
    message = session.last(frames.Failed).message
    assert message.startswith(f"sallyport: Launch.{part} at ")
    assert message.endswith("expected a number from 1 to 1048576, got 1048577")


@pytest.mark.parametrize("closes", [True, False], ids=["closes", "stays and reads nothing"])
def test_after_the_deadline_the_agent_ends_whatever_the_host_does(
    closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("donjon.guest.agent.HANDOVER_SECONDS", 0.2)
    monkeypatch.setattr("donjon.guest.agent.FLUSH_SECONDS", 0.2)
    session = Session(launched(HELLO), Place(network=True, address="127.0.0.1", gate_port=0))
    if closes:
        session.socket.shutdown(socket.SHUT_RDWR)
    session.wait(5.0)
    session.socket.close()


def test_a_host_that_does_not_answer_a_listener_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.broker.DIAL_SECONDS", 0.2)
    place, _ = sockets()
    toml = STREAMS + '{kind="connect",prot="tcp",host="peer.example",port=7}]'
    failed = Session(launched(HELLO, toml), place).run().last(frames.Failed)
    assert failed.message == 'cannot connect to peer.example:7 for "peer.example": the host does not answer'


def test_a_package_that_would_leave_no_memory_is_refused_before_it_comes() -> None:
    session = Session(launched(HELLO + b" " * (1 << 20)), Place(memory=3 << 20)).run()
    failed = session.last(frames.Failed)
    assert failed.message.startswith("sallyport: File.size: expected at most 1048576 bytes, got ")


def test_a_host_that_announces_two_connections_from_one_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def enemy(reporter: Reporter, asked: socket.socket) -> int:
        answers = [raw(asked, "reach", "a.example", str(port)) for port in (1, 2)]
        time.sleep(20)
        return len(answers)

    taken_over(monkeypatch, enemy)

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Dial):
            session.machine.dialed(event.id, 5555)

    failed = Session(launched(HELLO), sockets()[0], act=act).run().last(frames.Failed)
    assert failed.message == "sallyport: Dialed.source_port: expected one that no other connection has, got 5555"


@pytest.mark.parametrize("first", ["announced", "asked for"])
def test_a_peers_address_may_come_before_or_after_its_connection(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def enemy(reporter: Reporter, asked: socket.socket) -> int:
        asker = Asker(asked)
        asker.ask("listening", "web", "tcp", "::", "80", "10003")
        if first == "announced":
            time.sleep(0.3)
        rest, _ = asker.ask("peer", "10003", "4444")
        raise PlatformError(rest.decode().replace("\0", " "))

    taken_over(monkeypatch, enemy)

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Listening):
            session.machine.bound(event.id, "::", 80)
            if first == "asked for":
                while session.machine.pending:
                    session.port.send()
                time.sleep(0.3)
            session.machine.peer(event.guest_port, 4444, "192.0.2.7", 999)

    failed = Session(launched(HELLO), sockets()[0], act=act).run().last(frames.Failed)
    assert failed.message == "192.0.2.7 999"


def test_a_peer_whom_the_host_does_not_name_is_nobody_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.broker.PEER_SECONDS", 0.1)
    taken_over(monkeypatch, lambda _, asked: int(bool(Asker(asked).ask("peer", "10003", "4444"))))
    failed = Session(launched(HELLO), sockets()[0]).run().last(frames.Failed)
    assert failed.message == "the host has not said who that is"


def test_a_connection_that_does_not_come_from_the_host_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.broker.DIAL_SECONDS", 1.0)
    place, gate = sockets()
    place.gateway = "192.0.2.1"

    def enemy(_reporter: Reporter, asked: socket.socket) -> int:
        waiting = raw(asked, "reach", "a.example", "1")
        played = socket.create_connection(("127.0.0.1", gate), source_address=("127.0.0.1", 0))
        Asker(asked).ask("reach", "a.example", str(played.getsockname()[1]))  # tells the test the port
        return len(waiting.recv(10))

    taken_over(monkeypatch, enemy)
    numbers: list[int] = []

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Dial):
            numbers.append(event.id)
            if len(numbers) == 2:
                session.machine.dialed(numbers[0], event.port)
                session.machine.dial_failed(numbers[1], PlatformError("said by the host"))

    failed = Session(launched(HELLO), place, act=act).run().last(frames.Failed)
    assert failed.message == "said by the host"


def test_the_network_stays_until_the_host_closes_the_port() -> None:
    """What the workload has sent is in the kernel's buffers when it ends."""
    session = Session(launched(HELLO), sockets()[0])
    while not session.machine.over:
        for event in session.port.step(1.0):
            session._take(event)
    time.sleep(0.3)
    assert not session._ended()
    session.socket.close()
    begun = time.monotonic()
    session.wait()
    assert time.monotonic() < begun + 2


# ---- the Keep's process


def stopped(session: Session, event: Any) -> None:
    """Ask for the end as soon as the Keep says that it runs."""
    if isinstance(event, frames.Started):
        session.machine.stop()


def test_answers_that_nobody_reads_do_not_hold_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def enemy(reporter: Reporter, asked: socket.socket) -> int:
        kept = [raw(asked, "peer", "1", str(number)) for number in range(300)]
        one = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for number in range(2000):
            socket.send_fds(asked, [answer("evidence", "x" * 3000)], [one[1].fileno()])
            del number
        reporter.send("ready")
        time.sleep(60)
        return len(kept)

    taken_over(monkeypatch, enemy)
    assert Session(launched(HELLO), act=stopped).run().last(frames.Exit).code == 143


def test_an_answer_goes_to_nothing_but_a_socket_of_its_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else the agent would write for the Keep where root may write."""

    def enemy(reporter: Reporter, asked: socket.socket) -> int:
        file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        stream = socket.socketpair()
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        for number in (file, stream[0].fileno(), netlink.fileno()):
            socket.send_fds(asked, [answer("identity")], [number])
        asked.send(answer("identity"))  # and none at all
        with pytest.raises(PlatformError, match="the host has not said"):
            Asker(asked).ask("peer", "1", "1")
        stream[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            stream[1].recv(1)
        return 9

    monkeypatch.setattr("donjon.guest.broker.PEER_SECONDS", 0.1)
    taken_over(monkeypatch, enemy)
    assert Session(launched(HELLO)).run().last(frames.Exit).code == 9
    assert (tmp_path / "file").read_bytes() == b""


def test_a_fork_and_its_parent_get_each_their_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def enemy(_reporter: Reporter, asked: socket.socket) -> int:
        asker = Asker(asked)
        asker.ask("listening", "web", "tcp", "::", "80", "10003")
        child = os.fork()
        for number in range(1, 200):
            port = number + (1000 if child else 2000)
            rest, _ = asker.ask("peer", "10003", str(port))
            if rest != f"192.0.2.1\0{port}".encode():
                os._exit(3)
        if not child:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    taken_over(monkeypatch, enemy)

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Listening):
            session.machine.bound(event.id, "::", 80)
            for number in range(1, 200):
                for port in (number + 1000, number + 2000):
                    session.machine.peer(event.guest_port, port, "192.0.2.1", port)

    assert Session(launched(HELLO), sockets()[0], act=act).run().last(frames.Exit).code == 7


def test_peers_are_remembered_while_many_wait_and_not_waited_for_once_some_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More connections than are remembered may wait to be accepted: those are strangers, but hold up nobody."""
    most = 50

    def enemy(_reporter: Reporter, asked: socket.socket) -> int:
        asker = Asker(asked)
        asker.ask("listening", "web", "tcp", "::", "80", "10003")
        for number in range(2, most + 2):  # the oldest that is left first, as they are accepted
            rest, _ = asker.ask("peer", "10003", str(number))
            if rest != f"{'x' * 64}\0{number}".encode():
                return 3
        begun = time.monotonic()
        for number in (1, 7, 8):
            with pytest.raises(PlatformError, match="the host has not said"):
                asker.ask("peer", "10003", str(number))
        return 4 if time.monotonic() - begun > 20 else 7

    monkeypatch.setattr("donjon.guest.broker.MOST_PEERS", most)
    monkeypatch.setattr("donjon.guest.broker.PEER_SECONDS", 25.0)
    taken_over(monkeypatch, enemy)

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Listening):
            for number in range(1, most + 2):
                session.machine.peer(event.guest_port, number, "x" * 1000, number)
            session.machine.bound(event.id, "::", 80)

    assert Session(launched(HELLO), sockets()[0], act=act).run().last(frames.Exit).code == 7


def evidence(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A TEE that takes its time, and writes down when it is asked and when it is done."""

    def collect(report_data: bytes, root: str) -> bytes:
        del report_data, root
        with path.open("a") as file:
            file.write("[")
        time.sleep(0.2)
        with path.open("a") as file:
            file.write("]")
        return b"signed"

    monkeypatch.setattr("donjon.tee.snp.collect.collect", collect)
    monkeypatch.setattr("donjon.guest.evidence.check_named", lambda *_: None)


def test_evidence_is_had_one_at_a_time_and_by_makers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evidence(monkeypatch, tmp_path / "log")

    def maker_of(_workload: object, _place: Place, asked: socket.socket) -> Callable[[Any], Any]:
        def make(_say: object) -> None:
            answers = [raw(asked, "evidence", "00") for _ in range(10)]
            found = [one.recv(1000).partition(b"\0")[0] for one in answers]
            raise PlatformError(" ".join(word.decode() for word in found))

        return make

    def enemy(_reporter: Reporter, asked: socket.socket) -> int:
        from donjon.identity.apart import Making

        with pytest.raises(Exception, match="expected one that it may make"):
            Asker(asked).ask("evidence", "00")
        makings = [Making(Asker(asked).ask("identity")[1]) for _ in range(2)]
        with pytest.raises(PlatformError, match="2 identities are being made already"):
            Asker(asked).ask("identity")
        told = []
        for making in makings:
            with pytest.raises(PlatformError) as caught:
                making.result()
            told += caught.value.message.split()
        raise PlatformError(" ".join(sorted(told)))

    monkeypatch.setattr("donjon.guest.keep.maker_of", maker_of)
    taken_over(monkeypatch, enemy)
    failed = Session(launched(HELLO), Place(tee="snp")).run().last(frames.Failed)
    count = failed.message.split().count("evidence")
    assert 3 <= count < 20
    assert failed.message.split().count("failed") == 20 - count
    assert (tmp_path / "log").read_text() == "[]" * count


def test_a_process_for_evidence_that_cannot_be_had_is_told_who_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evidence(monkeypatch, tmp_path / "log")

    def begin(*_: object) -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    def maker_of(_workload: object, _place: Place, asked: socket.socket) -> Callable[[Any], Any]:
        def make(_say: object) -> None:
            Asker(asked).ask("evidence", "00")

        return make

    def enemy(_reporter: Reporter, asked: socket.socket) -> int:
        from donjon.identity.apart import Making

        with pytest.raises(PlatformError, match="cannot start a process for evidence: resource temporarily unavail"):
            Making(Asker(asked).ask("identity")[1]).result()
        return 7

    monkeypatch.setattr("donjon.guest.broker.begin", begin)
    monkeypatch.setattr("donjon.guest.keep.maker_of", maker_of)
    taken_over(monkeypatch, enemy)
    assert Session(launched(HELLO), Place(tee="snp")).run().last(frames.Exit).code == 7
    assert not (tmp_path / "log").exists()


def test_a_process_for_evidence_that_was_taken_over_says_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.evidence._claimed", lambda _: b"named\0" + bytes(64 << 20))
    with pytest.raises(PlatformError, match="the TEE gave no evidence"):
        check_named(Place(tee="snp"), bytes(32))


def test_evidence_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("donjon.tee.snp.collect.collect", lambda *_, **__: time.sleep(60))
    monkeypatch.setattr("donjon.guest.evidence.SECONDS", 0.2)
    refused = Session(launched(HELLO), Place(tee="snp")).run().last(frames.Refuse)
    assert refused.message == "the TEE gave no evidence within 0.2 s"


@pytest.mark.parametrize("name", ["\n", "é" * 40, "run\x1b[2J", "", "another"])
def test_a_mark_that_is_none_is_dropped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def enemy(reporter: Reporter, _asked: socket.socket) -> int:
        reporter.send("mark", name, "5")
        reporter.send("mark", "run", "\u0665")
        reporter.send("mark", "run", "9" * 19)
        return 4

    taken_over(monkeypatch, enemy)
    session = Session(launched(HELLO)).run()
    assert session.last(frames.Exit).code == 4
    assert session.last(frames.Mark) == frames.Mark(name="run", nanoseconds=int("9" * 19))


TELLING_START = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $begin (drop (call $write (i32.const 77) (i32.const 0) (i32.const 0) (i32.const 0)))
    (call $exit (i32.const 424242)))
  (start $begin)
  (func (export "_start")))"""


@pytest.mark.parametrize("output", [False, True], ids=["hidden", "shown"])
def test_what_a_start_function_does_in_a_tee_is_the_workloads_too(
    output: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs when everything is open, so it may have read secrets."""
    monkeypatch.setattr("donjon.guest.evidence.check_named", lambda *_: None)
    launch = launched(TELLING_START, output=output)
    session = Session(launch, Place(tee="snp"), options={"log": "trace"}).run()
    said = str(session.events)
    assert ("424242" in said or "146" in said) is output
    assert ("fd_write(0x4d" in str(session.logs())) is output


def test_a_record_that_is_none_does_not_leave_a_confidential_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    def enemy(reporter: Reporter, _asked: socket.socket) -> int:
        reporter.send("open")
        reporter.send("secret words")
        return 0

    taken_over(monkeypatch, enemy)
    monkeypatch.setattr("donjon.guest.evidence.check_named", lambda *_: None)
    failed = Session(launched(HELLO), Place(tee="snp")).run().last(frames.Failed)
    assert "secret" not in failed.message
    assert failed.message.startswith("the workload has failed (ParseError): ")


def test_a_keep_that_only_computes_still_hears_the_end_of_its_input() -> None:
    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            session.machine.end(STDIN)

    assert Session(launched(CAT), act=act).run().last(frames.Exit).code == 0
    assert Session(launched(SPIN), act=stopped).run().last(frames.Exit).code == 143
