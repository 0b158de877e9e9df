"""A host that lies, stalls, replays, floods or dies, against the real agent as an ordinary process.

The agent has to end, in time, with nothing left behind; to say what was wrong, where somebody can still hear it; and to
hold no more memory than an agent whose host behaves.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from donjon.config import parse
from donjon.guest import agent as agents
from donjon.guest.agent import Agent, Place
from donjon.keep.launch import Launch
from donjon.sallyport import frames as f
from donjon.sallyport.io import Port
from donjon.sallyport.machine import STDOUT, HostMachine, Lost, State
from donjon.workload import File
from tests.sallyport.ends import SAMPLES, raw

SECONDS = 20.0
"""For an agent to end; it takes a small part of one."""
GROWTH = 24 << 20
"""Bytes that an agent may grow by: twice all its windows, and what an allocator keeps."""
WAIT = b"""(module (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop $more (i32.store (i32.const 4) (i32.const 1))
    (br_if $more (i32.eqz (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))))"""
LISTENS = """[[files]]
kind = "stdin"
[[files]]
kind = "listen"
name = "web"
prot = "tcp"
port = 1
"""
SPIN = b"""(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"""
YES = b"""(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start") (loop $more (i32.store (i32.const 4) (i32.const 65536))
    (br_if $more (i32.eqz (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))))"""


class Victim:
    """An agent, and the end of its port that a hostile host has."""

    def __init__(
        self, module: bytes = SPIN, toml: str | None = None, patience: float | None = None, network: bool = False
    ) -> None:
        self.module, self.toml = module, toml
        text = None if toml is None else toml.encode()
        self.launch = Launch(module, None if toml is None else parse(toml), toml=text, attest="none")
        gate, self.listener = two_ports() if network else (0, 0)
        place = Place(network=network, address="127.0.0.1", gate_port=gate, first_port=self.listener - 1)
        self.launch.main = File.named("main.wasm", module)
        self.socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.socket.close()
            if patience is not None:
                agents.HANDOVER_SECONDS = patience
            Agent(theirs.fileno(), place).run()
            os._exit(0)
        theirs.close()
        self.machine = HostMachine()
        self.port = Port(self.socket.fileno(), self.machine)
        self.sent = b""
        self.events: list[Any] = []
        self.keep = 0

    def reach(self, state: State) -> Victim:
        """Behave, as far as `state`."""
        end = time.monotonic() + SECONDS
        self.sent = b""
        while self.machine.state is not state:
            assert time.monotonic() < end, self.events
            for event in self.step(1.0):
                if isinstance(event, f.Hello) and state is not State.LAUNCHING:
                    self.machine.launch(self.launch.describe().json(), b"{}")
                elif isinstance(event, f.Accept) and state is not State.HANDOVER:
                    if self.toml is not None:
                        self.machine.file("Enarx.toml", self.toml.encode())
                    self.machine.file("main.wasm", self.module)
                    self.machine.start()
                elif isinstance(event, f.Listening):
                    self.machine.bound(event.id, "127.0.0.1", 1)
        self.step(0)
        if state is State.RUNNING:
            (self.keep,) = children(self.pid)
        return self

    def step(self, seconds: float) -> list[Any]:
        """One turn of a host that behaves; what it sends is noted."""
        while self.machine.pending:
            data = self.machine.take()
            self.sent += data
            self.socket.setblocking(True)
            self.socket.sendall(data)
        self.socket.setblocking(False)
        if not select.select([self.socket], [], [], seconds)[0]:
            return []
        events = self.port.receive()
        self.events += events
        return events

    def throw(self, data: bytes) -> bool:
        """Send anything; False: the agent takes no more."""
        self.socket.settimeout(SECONDS)
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        finally:
            self.socket.setblocking(False)
        return True

    def last_words(self) -> Any:
        """What the agent says in the end, and that it ends."""
        end = time.monotonic() + SECONDS
        while not self.port.ended:
            assert time.monotonic() < end, "the agent does not end"
            self.step(0.2)
        self.gone()
        return next(event for event in reversed(self.events) if not isinstance(event, Lost))

    def gone(self) -> None:
        """The agent has ended by itself, and so has its Keep."""
        end = time.monotonic() + SECONDS
        while self.pid and not os.waitpid(self.pid, os.WNOHANG)[0]:
            assert time.monotonic() < end, "the agent does not end"
            time.sleep(0.01)
        self.pid = 0
        while self.keep and alive(self.keep):
            assert time.monotonic() < end, "the Keep outlives its agent"
            time.sleep(0.01)

    def memory(self) -> int:
        """Bytes that are the agent's alone."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) << 10

    def close(self) -> None:
        self.socket.close()
        for pid in (self.pid, self.keep):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.pid:
            os.waitpid(self.pid, 0)


def two_ports() -> tuple[int, int]:
    """Numbers that are free, and are not taken by others as long as nobody asks for any."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return int(one.getsockname()[1]), int(other.getsockname()[1])


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


Make = Callable[..., Victim]


@pytest.fixture
def victim() -> Iterator[Make]:
    made: list[Victim] = []

    def make(*args: Any, **named: Any) -> Victim:
        made.append(Victim(*args, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()


def file(name: str, data: bytes, size: int | None = None) -> bytes:
    from hashlib import sha256

    return f.File(name=name, size=len(data) if size is None else size, digest=sha256(data).digest()).encode()


# Lies


@pytest.mark.parametrize(
    ("state", "data", "message"),
    [
        (State.LAUNCHING, SAMPLES[f.Start], "host while launching: expected Launch, Stop, Credit, got Start"),
        (State.LAUNCHING, b"\xff", "host while launching: expected Launch, Stop, Credit, got type 0xff"),
        (State.HANDOVER, file("main.wasm", SPIN, 1 << 40), "File.size: expected at most 134217728 bytes"),
        (State.HANDOVER, file("main.wasm", b"ab") + raw(2, b"ac"), 'file "main.wasm": expected SHA-256'),
        (State.HANDOVER, file("main.wasm", b"ab") + raw(2, b"ab") + raw(4), "launch: expected the package"),
        (State.HANDOVER, raw(4), "launch: expected the file main.wasm, got none"),
        (State.HANDOVER, file("../../etc/passwd", b"") + file("main.wasm", b"") + raw(4), "does not name"),
        (State.RUNNING, SAMPLES[f.Dialed], "Dialed.id: expected one that was asked for, got 1"),
        (State.RUNNING, SAMPLES[f.Bound], "Bound.id: expected one that was asked for, got 1"),
        (State.RUNNING, f.CollateralReply(id=7, size=1).encode(), "CollateralReply.id: expected one that was asked"),
        (State.RUNNING, SAMPLES[f.Peer], "Peer.guest_port: expected that of a listener, got 1"),
        (State.RUNNING, f.Credit(stream=1, size=1).encode(), "Credit.size: expected at most 262144 bytes"),
        (State.RUNNING, SAMPLES[f.Hello], "host while running: expected"),
        (State.RUNNING, raw(5, b""), "Stdin: expected 1 to 65536 bytes, got 0"),
    ],
    ids=lambda value: value[:44] if isinstance(value, str) else "",
)
def test_a_lie_ends_the_keep_and_is_named(victim: Make, state: State, data: bytes, message: str) -> None:
    one = victim().reach(state)
    one.throw(data)
    told = one.last_words()
    assert isinstance(told, f.Failed), told
    assert message in told.message


def test_a_descriptor_that_is_none_is_refused(victim: Make) -> None:
    for descriptor in (b"x", b"[" * 100_000, b"{}", b"\xff", b'{"args":[],"env":{},"package":"00","roots":{}}'):
        one = victim().reach(State.LAUNCHING)
        one.machine.launch(descriptor, b"{}")
        told = one.last_words()
        assert isinstance(told, f.Refuse), told
        assert told.family in ("ParseError", "UsageError", "VerifyError")


# Replays


def test_a_session_that_is_played_twice_is_refused_the_second_time(victim: Make) -> None:
    one = victim().reach(State.RUNNING)
    one.throw(one.sent)
    told = one.last_words()
    assert isinstance(told, f.Failed)
    assert "got Launch" in told.message


def test_a_session_that_is_played_to_another_keep_does_not_wait_for_its_answers(victim: Make) -> None:
    sent = victim().reach(State.RUNNING).sent
    one = victim().reach(State.LAUNCHING)
    one.throw(sent)
    one.machine.state = State.CHECKING  # a host that has said all that
    told = one.last_words()
    assert isinstance(told, f.Failed)
    assert told.message == "sallyport: host while checking: expected Stop, Credit, got File"


# Floods


def test_stdin_beyond_the_credit_is_refused_and_nothing_grows(victim: Make) -> None:
    one = victim().reach(State.RUNNING)
    before = one.memory()
    for _ in range(4):
        one.throw(raw(5, bytes(1 << 16)))
    time.sleep(0.3)
    assert one.memory() - before < GROWTH
    one.throw(raw(5, b"x"))
    told = one.last_words()
    assert isinstance(told, f.Failed)
    assert "Stdin: expected at most" in told.message


def test_a_window_of_single_bytes_takes_no_more_than_a_window(victim: Make) -> None:
    one = victim().reach(State.RUNNING)
    before = one.memory()
    one.throw(raw(5, b"x") * (150 << 10))
    time.sleep(0.5)
    assert one.memory() - before < GROWTH
    one.socket.close()
    one.gone()


def test_endless_peers_are_forgotten_not_kept(victim: Make) -> None:
    one = victim(WAIT, LISTENS, network=True).reach(State.RUNNING)
    before = one.memory()
    for start in range(0, 40_000, 1000):
        flood = b"".join(
            f.Peer(guest_port=one.listener, source_port=1 + number, host="x" * 1000, port=1).encode()
            for number in range(start, start + 1000)
        )
        assert one.throw(flood)
    one.throw(b"\xff")
    grown = one.memory() - before
    told = one.last_words()
    assert "got type 0xff" in told.message
    assert grown < GROWTH


def test_a_file_in_pieces_of_one_byte_is_a_file(victim: Make) -> None:
    one = victim().reach(State.HANDOVER)
    module = SPIN + b"\n" * 20_000
    one.throw(file("main.wasm", module) + b"".join(raw(2, module[at : at + 1]) for at in range(len(module))) + raw(4))
    told = one.last_words()
    assert "launch: expected the package" in told.message


@pytest.mark.parametrize("seed", range(8))
def test_noise_ends_the_keep(victim: Make, seed: int) -> None:
    dice = random.Random(seed)
    state = dice.choice((State.LAUNCHING, State.HANDOVER, State.RUNNING))
    one = victim().reach(state)
    samples = list(SAMPLES.values())
    noise = b"".join(
        dice.choice(samples) if dice.random() < 0.7 else dice.randbytes(dice.randrange(40)) for _ in range(200)
    )
    one.throw(noise)
    one.socket.shutdown(socket.SHUT_WR)
    told = one.last_words()
    assert isinstance(told, f.Failed | f.Exit | f.Hello | f.Accept | f.Mark | f.Log), told


# Silence


def test_a_host_that_says_nothing_is_not_waited_for(victim: Make) -> None:
    for state in (State.LAUNCHING, State.HANDOVER):
        told = victim(patience=0.3).reach(state).last_words()
        assert isinstance(told, f.Failed)
        assert told.message == f"the host has not handed over the launch within 0.3 s (it was {state.value})"


def test_output_that_nobody_reads_stops_the_workload_and_nothing_grows(victim: Make) -> None:
    one = victim(YES).reach(State.RUNNING)
    before = one.memory()
    time.sleep(1.0)
    assert one.memory() - before < GROWTH
    held = sum(len(event.data) for event in one.events if isinstance(event, f.Stdout))  # it began at once
    while select.select([one.socket], [], [], 0.3)[0]:
        held += sum(len(event.data) for event in one.port.receive() if isinstance(event, f.Stdout))
    assert held == 256 << 10, "a window, and not a byte more"
    one.machine.consumed(STDOUT, held - 5)
    one.step(0)
    assert any(isinstance(event, f.Stdout) for event in one.step(SECONDS)), "it goes on when it is read again"
    one.socket.close()
    one.gone()


# Death


@pytest.mark.parametrize("state", [State.LAUNCHING, State.HANDOVER, State.RUNNING], ids=lambda state: state.value)
@pytest.mark.parametrize("module", [SPIN, WAIT, YES], ids=["spins", "reads", "writes"])
@pytest.mark.parametrize("half", [b"", b"\x0e\0"], ids=["between frames", "within a frame"])
def test_a_host_that_dies_takes_its_keep_with_it(victim: Make, state: State, module: bytes, half: bytes) -> None:
    one = victim(module).reach(state)
    one.throw(half)
    one.socket.close()
    one.gone()


def test_a_host_that_dies_before_the_greeting(victim: Make) -> None:
    one = victim()
    one.socket.close()
    one.gone()


def test_a_keep_that_is_stopped_ends(victim: Make) -> None:
    for module in (SPIN, WAIT):
        one = victim(module).reach(State.RUNNING)
        one.machine.stop()
        told = one.last_words()
        assert isinstance(told, f.Exit)
        assert told.code in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
