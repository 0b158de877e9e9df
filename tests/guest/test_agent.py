"""The agent runs what fits its descriptor, and says how everything else failed."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from donjon.config import parse
from donjon.guest.agent import Place
from donjon.keep.launch import Launch
from donjon.sallyport import frames
from donjon.sallyport.machine import STDIN, State
from donjon.workload import Descriptor, File
from tests.guest.sessions import Session

ROOT = Path(__file__).resolve().parents[2]
HELLO = (ROOT / "examples/hello/wat/hello.wat").read_bytes()
TRAP = b'(module (memory (export "memory") 1) (func (export "_start") unreachable))'
SPIN = b'(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
CODE = b"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 7))))"""
COPY = b"""(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $more
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $more))))
    (call $exit (i32.const %d))))"""
"""Copies its stdin to its stdout, and exits with this code."""
CAT, ECHO = COPY % 0, COPY % 7

NO_LEVEL = 'launch options: log: expected off, error, warn, info, debug, trace or donjon.PART=LEVEL, got "loud"'
STREAMS = 'files = [{kind="stdin"}, {kind="stdout"}, {kind="stderr"}, '


def launched(module: bytes, toml: str | None = None, **more: Any) -> Launch:
    config = None if toml is None else parse(toml)
    return Launch(module, config, toml=None if toml is None else toml.encode(), attest="none", **more)


def test_a_workload_runs_and_its_output_and_exit_code_come_out() -> None:
    session = Session(launched(HELLO)).run()
    assert session.stdout == b"hello from WebAssembly\n"
    assert session.last(frames.Exit).code == 0
    assert {event.name for event in session.events if isinstance(event, frames.Mark)} >= {"compile", "run"}


def test_an_exit_code_is_the_workloads() -> None:
    assert Session(launched(CODE)).run().last(frames.Exit).code == 7


def test_a_trap_is_told_as_on_a_host() -> None:
    trap = Session(launched(TRAP)).run().last(frames.Trap)
    assert trap.code == "unreachable"


def test_more_than_the_window_goes_through_stdin_and_stdout() -> None:
    wanted = bytes(range(256)) * 4096
    left = bytearray(wanted)

    def feed(session: Session) -> None:
        while left and (room := session.machine.room(STDIN)):
            done = session.machine.write(STDIN, bytes(left[:room]))
            del left[:done]
            if not left:
                session.machine.end(STDIN)

    def act(session: Session, event: Any) -> None:
        if session.machine.state is State.RUNNING:
            feed(session)

    session = Session(launched(CAT), act=act)
    assert session.run().stdout == wanted


def test_stop_ends_a_workload_that_computes() -> None:
    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            session.machine.stop()

    assert Session(launched(SPIN), act=act).run().last(frames.Exit).code == 143


def test_processor_time_is_limited_inside() -> None:
    session = Session(launched(SPIN, "[limits]\ncpu = 0.05\n")).run()
    assert session.last(frames.Trap).message == "the guest has used the processor time that it may have"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main.wasm": CODE}, r"launch: expected the package [0-9a-f]{64}, got [0-9a-f]{64}"),
        ({"main.wasm": HELLO, "Enarx.toml": b"not = [toml"}, "launch: expected the package"),
        ({}, r"launch: expected the file main\.wasm, got none"),
        ({"main.wasm": HELLO, "roots/x": b""}, "launch: got the file roots/x, which the descriptor does not name"),
        ({"main.wasm": b"\xff not even a module"}, "launch: expected the package"),
    ],
    ids=["another module", "another configuration", "no module", "a root too many", "no module at all"],
)
def test_files_that_are_not_the_descriptors_are_refused_before_they_are_parsed(
    files: Mapping[str, bytes], message: str
) -> None:
    failed = Session(launched(HELLO), files=files).run().last(frames.Failed)
    assert failed.family == "VerifyError"
    assert re.match(message, failed.message)


def test_a_root_that_is_not_the_descriptors_is_refused_before_it_is_parsed() -> None:
    launch = launched(HELLO)
    launch.main = File.named("main.wasm", HELLO)
    made = launch.describe()
    made.roots["shop"] = bytes(32)
    files = {"main.wasm": HELLO, "roots/shop": b"\xff no PEM"}
    failed = Session(launch, files=files, descriptor=made.json()).run().last(frames.Failed)
    assert failed.family == "VerifyError"
    assert failed.message.startswith(f"launch: expected roots.shop with SHA-256 {bytes(32).hex()}, got ")


@pytest.mark.parametrize(
    ("descriptor", "options", "message"),
    [
        (b"{}", {}, "launch descriptor: expected args, env, package, roots, and output only where it is true"),
        (b"[" * 100_000, {}, "launch descriptor: expected JSON in UTF-8, got something else"),
        (None, {"shell": "sh"}, "launch options: expected an object with any of attest, log, name"),
        (None, {"log": "loud"}, NO_LEVEL),
    ],
    ids=["empty", "deep", "an unknown option", "no level"],
)  # fmt: skip
def test_a_launch_that_cannot_be_is_refused(descriptor: bytes | None, options: dict[str, object], message: str) -> None:
    refused = Session(launched(HELLO), descriptor=descriptor, options=options).run().last(frames.Refuse)
    assert refused.message == message


def test_a_machine_on_which_no_keep_may_start_says_why() -> None:
    place = Place(problem="this processor has no RDRAND")
    assert Session(launched(HELLO), place).run().last(frames.Refuse).message == "this processor has no RDRAND"


def test_a_directory_of_the_host_is_refused() -> None:
    toml = STREAMS + '{kind="dir",host="/tmp",guest="/tmp"}]'
    failed = Session(launched(HELLO, toml)).run().last(frames.Failed)
    assert failed.message.startswith('"/tmp": a Keep in a virtual machine has no directories of its host')


def test_a_keep_that_cannot_start_was_never_said_to_have_started() -> None:
    session = Session(launched(b"\0asm nonsense")).run()
    assert session.last(frames.Failed).family == "ParseError"
    assert not any(isinstance(event, frames.Started) for event in session.events)


def test_output_of_a_confidential_keep_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.agent.Agent._check_named", lambda *_: None)
    session = Session(launched(HELLO), Place(tee="snp")).run()
    assert (session.stdout, session.last(frames.Exit).code) == (b"", 0)
    failed = Session(launched(TRAP), Place(tee="snp")).run().last(frames.Trap)
    assert failed.message == (
        "the workload has failed (TrapError): what the workload says of it does not leave a confidential Keep"
    )
    assert failed.frames == ()


def test_output_of_a_confidential_keep_comes_out_where_the_descriptor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.agent.Agent._check_named", lambda *_: None)
    session = Session(launched(HELLO, output=True), Place(tee="snp")).run()
    assert session.stdout == b"hello from WebAssembly\n"


def test_a_connection_goes_where_the_host_makes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as spare:
        gate = spare.getsockname()[1]
    place = Place(network=True, address="127.0.0.1", gateway="127.0.0.1", gate_port=gate)
    toml = STREAMS + '{kind="connect",prot="tcp",host="peer.example",port=7}]'
    asked = []

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Dial):
            asked.append((event.host, event.port))
            carried = socket.create_connection(("127.0.0.1", gate))
            session.machine.dialed(event.id, carried.getsockname()[1])
            carried.close()

    session = Session(launched(HELLO, toml), place, act=act).run()
    assert asked == [("peer.example", 7)]
    assert session.last(frames.Exit).code == 0


def test_a_listener_is_where_the_host_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as spare:
        first = spare.getsockname()[1]
    place = Place(network=True, address="127.0.0.1", gateway="127.0.0.1", gate_port=0, first_port=first - 3)
    toml = STREAMS + '{kind="listen",name="web",prot="tcp",port=80}]'

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Listening):
            assert (event.name, event.port, event.guest_port) == ("web", 80, first)
            session.machine.bound(event.id, "192.0.2.1", 8080)

    session = Session(launched(HELLO, toml), place, act=act).run()
    assert session.last(frames.Exit).code == 0
    logs = [event.message for event in session.events if isinstance(event, frames.Log)]
    assert 'listening on 192.0.2.1:8080 (tcp) as "web"' in logs


def test_a_host_that_goes_away_ends_the_keep() -> None:
    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            session.socket.shutdown(socket.SHUT_RDWR)

    Session(launched(SPIN), act=act).run()


def test_a_descriptor_is_read_as_it_was_written() -> None:
    made = Descriptor(bytes(32), ["\udc80", "é"], {"A": "b"}, {"x": bytes(range(32))}, True)
    assert Descriptor.read(made.json()).json() == made.json()
    assert b'"output":true' in made.json()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_keep_is_a_user_without_capabilities_who_gets_none() -> None:
    seen = []

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            children = Path(f"/proc/{session.pid}/task/{session.pid}/children").read_text(encoding="ascii").split()
            seen.append(
                dict(line.split(":\t", 1) for line in Path(f"/proc/{children[0]}/status").read_text().splitlines())
            )
            session.machine.stop()

    Session(launched(SPIN), Place(confined=True), act=act).run()
    status = seen[0]
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].split() == []
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
