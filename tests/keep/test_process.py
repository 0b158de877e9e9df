"""Keeps from Python: start, feed, watch, stop, and what they leave behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon import Config, Keep, Result, WarmParent, run
from donjon.config import Connect, File, Limits, Listen, Null, Stderr, Stdin, Stdout
from donjon.errors import DonjonError, ParseError, PlatformError, TrapError, UsageError, VerifyError
from donjon.log import Logger
from tests.keep import guests

ROOT = Path(__file__).resolve().parents[2]
STDIO: tuple[File, ...] = (Stdin(), Stdout(), Stderr())
LISTENS = Config(files=[*STDIO, Listen(name="in", prot="tcp", addr="127.0.0.1", port=0)])


# ---- run


def test_run_feeds_waits_and_collects() -> None:
    result = run(guests.CAT, stdin=b"7\n")
    assert (result.code, result.stdout, result.stderr) == (0, b"7\n", b"")
    assert repr(result) == r"Result(code=0, stdout=b'7\n', stderr=b'')"
    assert isinstance(result, Result)


@pytest.mark.parametrize("code", [0, 1, 2, 42, 126, 134, 255])
def test_the_guests_exit_code_comes_back(code: int) -> None:
    assert run(guests.exits(code)).code == code


def test_what_the_guest_writes_on_stderr_is_kept_apart() -> None:
    assert run(guests.says("oh\n", descriptor=2)).stderr == b"oh\n"


def test_two_mebibytes_go_in_and_come_out_again() -> None:
    data = bytes(range(256)) * 8192
    assert run(guests.CAT, stdin=data).stdout == data


def test_a_guest_that_does_not_read_its_input_does_not_hold_up_run() -> None:
    assert run(guests.RETURNS, stdin=bytes(1 << 20)).code == 0


def test_run_gives_up_after_its_timeout_and_stops_the_keep() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the Keep still runs after 0\.3 s"):
        run(guests.SPINS, timeout=0.3)
    assert time.monotonic() - begun < 5


def test_a_module_comes_as_path_as_bytes_and_as_text(tmp_path: Path) -> None:
    path = tmp_path / "hello.wat"
    path.write_bytes(guests.says("hi"))
    assert run(path).stdout == run(str(path)).stdout == run(path.read_bytes()).stdout == b"hi"


def test_a_relative_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hello.wat").write_bytes(guests.says("hi"))
    monkeypatch.chdir(tmp_path)
    assert run("hello.wat").stdout == b"hi"


# ---- what the guest is given


def test_arguments_begin_with_main_wasm_then_the_configurations_then_the_callers() -> None:
    result = run(guests.ARGUMENTS, Config(args=["a", ""]), args=["b c", "ü", "\n\\\0"[:2]])
    assert result.stdout.split(b"\0")[:-1] == [b"main.wasm", b"a", b"", b"b c", "ü".encode(), b"\n\\"]


def test_an_argument_that_is_not_utf8_arrives_as_it_was() -> None:
    assert run(guests.ARGUMENTS, args=[os.fsdecode(b"\xff\xfe")]).stdout == b"main.wasm\0\xff\xfe\0"


def test_the_environment_is_fd_count_and_fd_names_then_the_configurations_in_its_order_then_the_callers() -> None:
    config = Config(env={"Z": "1", "A": "2"}, files=[*STDIO, Null(name="nothing")])
    result = run(guests.ENVIRONMENT, config, env={"M": "3", "A": "4"})
    assert result.stdout == b"FD_COUNT=4\0FD_NAMES=stdin:stdout:stderr:nothing\0Z=1\0A=4\0M=3\0"


def test_nothing_of_our_own_environment_reaches_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    assert b"s3cret" not in run(guests.ENVIRONMENT).stdout


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        pytest.param({"env": {"FD_COUNT": "9"}}, "FD_COUNT", id="a variable that the Keep sets"),
        pytest.param({"env": {"A=B": "9"}}, "A=B", id="an equals sign in a name"),
        pytest.param({"env": {"": "9"}}, 'variable ""', id="no name"),
        pytest.param({"env": {"A": "\0"}}, "NUL", id="a NUL in a value"),
        pytest.param({"args": ["a\0b"]}, "NUL", id="a NUL in an argument"),
        pytest.param({"args": ["a" * (1 << 18)]}, "at most 131072", id="an argument that no system takes"),
        pytest.param({"stdin": "pope"}, 'expected "pipe", "inherit", "null"', id="a stream of no known kind"),
        pytest.param({"log_filter": "loud"}, "log filter", id="a log filter of no known level"),
    ],
)
def test_refuses_what_cannot_be_given(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Keep.start(guests.RETURNS, **given)  # type: ignore[arg-type]


def test_null_entries_read_as_empty_and_swallow() -> None:
    result = run(guests.CAT, Config(files=[Null(), Null(), Stderr()]), stdin=b"never seen")
    assert (result.code, result.stdout) == (0, b"")


def test_stdout_may_stand_at_any_number() -> None:
    result = run(guests.says("four", descriptor=4), Config(files=[Null(), Null(), Stderr(), Null(), Stdout()]))
    assert result.stdout == b"four"


def test_a_configuration_without_stdout_is_warned_about() -> None:
    lines: list[tuple[int, str, str]] = []
    run(guests.RETURNS, Config(files=[Stdin()]), log=Logger(lambda *message: lines.append(message)))
    assert [text for level, _, text in lines if level == 2] == [
        'no entry of kind "stdout" in `files`: what the guest writes there is lost',
        'no entry of kind "stderr" in `files`: what the guest writes there is lost',
    ]


def test_writing_to_a_descriptor_that_files_does_not_name_fails_with_badf() -> None:
    assert run(guests.says("x"), Config(files=[Stdin()])).code == 108


# ---- errors


@pytest.mark.parametrize(
    ("module", "family", "message"),
    [
        pytest.param("no/such.wasm", UsageError, r"no module .*no/such\.wasm: no such file", id="no file"),
        pytest.param("/", UsageError, "cannot read the module /", id="a directory"),
        pytest.param(b"", ParseError, "is empty", id="nothing"),
        pytest.param(b"\x7fELF\x02", ParseError, "a native Linux program", id="a native program"),
        pytest.param(b"\0asm\x0d\0\x01\0", ParseError, "is a component", id="a component"),
        pytest.param(b"\0asm\1\0\0\0\xff", ParseError, "not a valid module", id="rubbish after a good beginning"),
        pytest.param(b"(module", ParseError, "not valid WebAssembly text", id="text that stops early"),
        pytest.param(b"(module)", ParseError, "exports no _start", id="nothing to run"),
        pytest.param(
            b'(module (import "env" "x" (func)) (func (export "_start")))', ParseError, r"env\.x", id="a strange import"
        ),
        pytest.param(b"(module (func $s unreachable) (start $s))", TrapError, "unreachable", id="a trap at the start"),
    ],
)
def test_a_start_that_fails_raises_the_family_whose_fault_it_is(
    module: bytes | str, family: type[DonjonError], message: str
) -> None:
    with pytest.raises(family, match=message):
        Keep.start(module)


def test_a_trap_is_an_exception_with_the_guests_functions() -> None:
    with Keep.start(guests.TRAPS) as keep, pytest.raises(TrapError, match="unreachable") as caught:
        keep.wait(10)
    assert caught.value.code == "unreachable"
    assert caught.value.frames[:2] == ("inner", "outer")
    with pytest.raises(TrapError):
        keep.poll()  # asked again, it says the same


def test_endless_recursion_is_a_trap() -> None:
    with pytest.raises(TrapError, match="call stack exhausted"):
        run(guests.RECURS)


def test_a_function_name_as_long_as_a_record_does_not_break_the_report() -> None:
    name = "名\\" * 40_000
    with pytest.raises(TrapError) as caught:
        run(f'(module (func $"{name}" (export "_start") unreachable))'.replace("\\", "\\\\").encode())
    assert caught.value.frames[0].startswith("名\\名\\")


@pytest.mark.parametrize("start", ["fresh", "warm"])
def test_a_module_that_ends_in_its_start_function_has_an_exit_code(start: str) -> None:
    with WarmParent(guests.EXITS_BEFORE_ITS_START) as parent:
        keep = parent.start() if start == "warm" else Keep.start(guests.EXITS_BEFORE_ITS_START)
        with keep:
            assert keep.wait(20) == 3
            assert keep.stdout is not None
            assert keep.stdout.read() == b""


def test_an_exit_code_over_255_is_an_error_and_not_cut() -> None:
    with pytest.raises(UsageError, match="code 256: expected -128 to 255"):
        run(guests.exits(256))


def test_a_configuration_file_that_is_malformed_says_where(tmp_path: Path) -> None:
    path = tmp_path / "Enarx.toml"
    path.write_text('arks = ["x"]\n')
    with pytest.raises(ParseError, match=r"Enarx\.toml.*arks"):
        Keep.start(guests.RETURNS, config=path)


# ---- watching


def test_poll_says_none_until_the_end() -> None:
    with Keep.start(guests.CAT) as keep:
        assert keep.poll() is None
        assert keep.stdin is not None
        assert keep.stdout is not None
        keep.stdin.write(b"ping")
        assert keep.stdout.read(4) == b"ping"
        keep.stdin.close()
        assert keep.wait(10) == 0
        assert keep.poll() == 0


def test_wait_gives_up_after_its_timeout_and_can_be_asked_again() -> None:
    with Keep.start(guests.SPINS) as keep:
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"after 0\.05 s"):
                keep.wait(0.05)
        keep.stop()
        assert keep.wait(1) == 143


@pytest.mark.parametrize("guest", ["SPINS", "SLEEPS", "READS", "ACCEPTS"])
def test_stops_at_once_whatever_the_guest_is_doing(guest: str) -> None:
    with Keep.start(getattr(guests, guest), config=LISTENS) as keep:
        begun = time.monotonic()
        keep.stop()
        assert time.monotonic() - begun < 1
        assert keep.wait() == 128 + signal.SIGTERM


def test_stopping_twice_or_after_the_end_does_nothing() -> None:
    with Keep.start(guests.exits(3)) as keep:
        assert keep.wait(10) == 3
        keep.stop()
        keep.stop()
        assert keep.wait() == 3
    keep.close()
    assert keep.wait() == 3


def test_leaving_the_block_stops_it_also_when_an_exception_does() -> None:
    with pytest.raises(ZeroDivisionError), Keep.start(guests.SPINS) as keep:
        raise ZeroDivisionError
    assert keep.wait() == 143
    with pytest.raises(ProcessLookupError):
        os.kill(keep.pid, 0)


def test_without_a_block_close_gives_everything_back() -> None:
    keep = Keep.start(guests.SPINS)
    keep.close()
    assert keep.wait() == 143


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_keep_that_somebody_else_ends_has_the_shells_code(number: signal.Signals) -> None:
    with Keep.start(guests.SPINS) as keep:
        os.kill(keep.pid, number)
        assert keep.wait(10) == 128 + number


def test_a_keep_that_crashes_is_a_bug_and_not_an_exit_code() -> None:
    with Keep.start(guests.SPINS) as keep:
        os.kill(keep.pid, signal.SIGABRT)
        with pytest.raises(DonjonError, match=f"ended by signal {signal.SIGABRT:d}"):
            keep.wait(10)


def test_a_keep_that_does_not_take_sigterm_is_killed() -> None:
    with Keep.start(guests.SPINS) as keep:
        os.kill(keep.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, keep.pid, os.WSTOPPED | os.WNOWAIT)  # from here on SIGTERM waits for SIGCONT
        keep.stop(grace=0.1)
        assert keep.wait() == 128 + signal.SIGKILL


# ---- listeners


def test_listeners_tell_the_addresses_really_bound() -> None:
    files = [*STDIO, *(Listen(name=name, prot="tcp", addr="127.0.0.1", port=0) for name in ("a", "b"))]
    with Keep.start(guests.SLEEPS, Config(files=files)) as keep:
        assert set(keep.listeners) == {"a", "b"}
        assert keep.listeners["a"][0] == "127.0.0.1"
        assert keep.listeners["a"] != keep.listeners["b"]
        for address in keep.listeners.values():
            socket.create_connection(address, 5).close()


def test_of_several_listeners_with_one_name_the_last_is_told() -> None:
    addresses: list[str] = []
    files = [*STDIO, *(Listen(name="x", prot="tcp", addr=addr, port=0) for addr in ("127.0.0.1", "127.0.0.2"))]
    if sys.platform != "linux":
        pytest.skip("127.0.0.2 is an address of Linux")
    log = Logger(lambda _level, _target, text: addresses.append(text))
    with Keep.start(guests.SLEEPS, Config(files=files), log=log) as keep:
        assert keep.listeners["x"][0] == "127.0.0.2"
        keep.poll()
        assert len(addresses) == 2


def test_six_hundred_listeners_are_all_told() -> None:
    """More records than fit into the channel at once: the Keep must wait for us, and live through it."""
    files = [*STDIO, *(Listen(name=f"n{i}", prot="tcp", addr="127.0.0.1", port=0) for i in range(600))]
    with Keep.start(guests.SLEEPS, Config(files=files)) as keep:
        assert len(keep.listeners) == 600
        with pytest.raises(TimeoutError):
            keep.wait(0.05)


def test_a_port_that_is_taken_is_the_platforms_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        files = [*STDIO, Listen(name="in", prot="tcp", addr="127.0.0.1", port=taken.getsockname()[1])]
        with pytest.raises(PlatformError, match="address already in use"):
            Keep.start(guests.SLEEPS, Config(files=files))


def test_a_peer_that_refuses_is_the_platforms_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(PlatformError, match=rf"cannot connect to 127\.0\.0\.1:{port} .*refused"):
        Keep.start(guests.SLEEPS, Config(files=[*STDIO, Connect(host="127.0.0.1", prot="tcp", port=port)]))


def test_a_peer_that_speaks_no_tls_is_no_verified_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(VerifyError, match="plain HTTP"):
            Keep.start(guests.SLEEPS, Config(files=[*STDIO, Connect(host="localhost", port=server.getsockname()[1])]))
        thread.join()


# ---- limits


@pytest.mark.parametrize("start", ["fresh", "warm"])
def test_a_guest_that_uses_up_its_processor_time_is_stopped(start: str) -> None:
    config = Config(limits=Limits(cpu=0.2))
    with WarmParent(guests.SPINS) as parent:
        keep = parent.start(config) if start == "warm" else Keep.start(guests.SPINS, config)
        with keep, pytest.raises(TrapError, match="processor time") as caught:
            keep.wait(20)
    assert caught.value.code == "processor time"
    assert "cpu" in (caught.value.hint or "")


def test_a_start_function_that_uses_up_the_processor_time_is_stopped() -> None:
    with pytest.raises(TrapError, match="processor time"):
        run(guests.SPINS_BEFORE_ITS_START, Config(limits=Limits(cpu=0.2)), timeout=20)


def test_waiting_uses_no_processor_time() -> None:
    with Keep.start(guests.SLEEPS, Config(limits=Limits(cpu=0.05))) as keep, pytest.raises(TimeoutError):
        keep.wait(0.5)


def test_memory_grows_to_its_limit_and_no_further() -> None:
    assert run(guests.GROWS, Config(limits=Limits(memory="1 MiB"))).code == 16


def test_a_module_that_wants_more_memory_than_its_limit_from_the_first_is_refused() -> None:
    with pytest.raises(TrapError, match="more memory than it may have") as caught:
        run(b'(module (memory 64) (func (export "_start")))', Config(limits=Limits(memory="1 MiB")))
    assert "memory" in (caught.value.hint or "")


def test_descriptors_end_at_their_limit() -> None:
    config = LISTENS.replace(limits=Limits(descriptors=6))
    with Keep.start(guests.TAKES, config) as keep:
        peers = [socket.create_connection(keep.listeners["in"], 5) for _ in range(3)]
        assert keep.wait(10) == 100 + 33  # mfile
        for peer in peers:
            peer.close()


def test_connections_over_their_limit_are_closed_at_once() -> None:
    config = LISTENS.replace(limits=Limits(connections=2))
    with Keep.start(guests.TAKES, config) as keep:
        peers = [socket.create_connection(keep.listeners["in"], 5) for _ in range(3)]
        for peer in peers:
            peer.settimeout(5)
        assert peers[2].recv(1) == b""
        peers[0].settimeout(0.1)
        with pytest.raises(TimeoutError):
            peers[0].recv(1)
        for peer in peers:
            peer.close()


# ---- streams


def test_streams_can_be_descriptors_of_ours() -> None:
    reader, writer = os.pipe()
    try:
        with Keep.start(guests.says("to a pipe"), stdin="null", stdout=writer, stderr="inherit") as keep:
            assert (keep.stdin, keep.stdout, keep.stderr) == (None, None, None)
            assert keep.wait(10) == 0
        assert os.read(reader, 100) == b"to a pipe"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_guest_whose_reader_went_away_gets_epipe() -> None:
    with Keep.start(guests.CAT) as keep:
        assert keep.stdout is not None
        assert keep.stdin is not None
        keep.stdout.close()
        keep.stdin.write(b"x")
        assert keep.wait(10) == 100 + 64


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("how", ["run", "inherit"])
def test_a_program_without_standard_streams_can_have_keeps(closed: tuple[int, ...], how: str, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    program = f"""
import os
for number in {closed}: os.close(number)
from donjon import Keep, run
from tests.keep import guests
if {how!r} == "run":
    text = run(guests.CAT, stdin=b"through").stdout
else:
    with Keep.start(guests.says("lost"), stdin="inherit", stdout="inherit", stderr="inherit") as keep:
        text = b"ended %d" % keep.wait(20)
with open({str(answer)!r}, "wb") as file: file.write(text)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert answer.read_bytes() == (b"through" if how == "run" else b"ended 0")


# ---- what a Keep logs


def test_what_a_keep_logs_reaches_its_owner_when_it_looks() -> None:
    lines: list[str] = []
    log = Logger(lambda _level, target, text: lines.append(f"{target}: {text}"), "trace")
    with Keep.start(guests.SLEEPS, LISTENS, log=log) as keep:
        port = keep.listeners["in"][1]
    assert f'donjon: listening on 127.0.0.1:{port} (tcp) as "in"' in lines


def test_a_keep_that_logs_without_end_is_neither_held_up_nor_unstoppable() -> None:
    lines: list[str] = []
    log = Logger(lambda _level, _target, text: lines.append(text), "trace")
    with Keep.start(guests.SPAWNS_CALLS, log=log, log_filter="trace") as keep:
        time.sleep(0.3)  # nobody reads: the channel fills up
        begun = time.monotonic()
        assert keep.poll() is None
        with pytest.raises(TimeoutError):
            keep.wait(0.2)
        keep.stop()
        assert keep.wait(1) == 143
        assert time.monotonic() - begun < 2
    assert any("messages dropped" in text for text in lines)


def test_a_keep_that_has_logged_much_ends_while_its_owner_waits_for_its_output() -> None:
    """The owner reads stdout to its end, and what was logged only afterwards: neither may wait for the other."""
    calls = guests.guest(
        "(local $n i32) (loop (drop (call $fd_close (i32.const 99)))"
        " (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000))))"
    )
    with Keep.start(calls, log_filter="trace") as keep:
        assert keep.stdout is not None
        assert keep.stdout.read() == b""
        assert keep.wait(20) == 0


# ---- warm parents


def test_several_threads_can_start_keeps_from_one_warm_parent() -> None:
    said: list[bytes] = []

    def start(parent: WarmParent, name: str) -> None:
        for _ in range(5):
            with parent.start(args=[name * 10_000]) as keep:
                assert keep.stdout is not None
                said.append(keep.stdout.read())
                keep.wait(20)

    with WarmParent(guests.ARGUMENTS) as parent:
        threads = [threading.Thread(target=start, args=(parent, name)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(said) == [b"main.wasm\0%b\0" % (name * 10_000) for name in (b"a", b"b", b"c", b"d") for _ in range(5)]


def test_a_warm_parent_starts_keeps_that_differ() -> None:
    with WarmParent(guests.ARGUMENTS) as parent:
        for name in ("one", "two"):
            with parent.start(args=[name]) as keep:
                assert keep.stdout is not None
                assert keep.stdout.read() == f"main.wasm\0{name}\0".encode()
                assert keep.wait(10) == 0


def test_every_exit_code_comes_back() -> None:
    with WarmParent(guests.EXITS_WITH_THE_LENGTH_OF_ITS_ARGUMENT) as parent:
        for code in range(256):
            with parent.start(args=["x" * code], stdout="null", stderr="null") as keep:
                assert keep.wait(20) == code


def test_keeps_of_a_warm_parent_have_listeners_of_their_own() -> None:
    with WarmParent(guests.SERVES) as parent:
        keeps = [parent.start(LISTENS) for _ in range(4)]
        assert len({keep.listeners["in"] for keep in keeps}) == 4
        assert len({keep.pid for keep in keeps}) == 4
        for keep in keeps:
            with socket.create_connection(keep.listeners["in"], 5) as peer:
                peer.sendall(b"hello")
                assert peer.recv(100) == b"hello"
            keep.close()
            assert keep.wait() == 143


def test_closing_a_warm_parent_leaves_its_keeps_alone() -> None:
    with WarmParent(guests.CAT) as parent:
        keep = parent.start()
    with keep:
        assert keep.stdin is not None
        assert keep.stdout is not None
        keep.stdin.write(b"still here")
        assert keep.stdout.read(10) == b"still here"


def test_a_warm_parent_tells_which_signal_ended_a_keep() -> None:
    with WarmParent(guests.SPINS) as parent:
        with parent.start() as keep:
            os.kill(keep.pid, signal.SIGKILL)
            assert keep.wait(10) == 137
        with parent.start() as keep:
            os.kill(keep.pid, signal.SIGABRT)
            with pytest.raises(DonjonError, match=f"ended by signal {signal.SIGABRT:d}"):
                keep.wait(10)


def test_a_warm_parent_refuses_what_is_no_module() -> None:
    with pytest.raises(ParseError, match="is empty"):
        WarmParent(b"")


def test_a_warm_parent_that_is_gone_says_so() -> None:
    parent = WarmParent(guests.RETURNS)
    parent.close()
    parent.close()
    with pytest.raises(PlatformError, match="the warm parent is gone"):
        parent.start()


def test_a_keep_of_a_warm_parent_that_cannot_start_says_why_and_the_next_one_starts() -> None:
    with WarmParent(guests.RETURNS) as parent:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            files = [*STDIO, Listen(name="in", prot="tcp", addr="127.0.0.1", port=taken.getsockname()[1])]
            with pytest.raises(PlatformError, match="in use"):
                parent.start(Config(files=files))
        with parent.start() as keep:
            assert keep.wait(10) == 0


# ---- whoever started it goes away


def owner(start: str) -> subprocess.Popen[str]:
    """Another process that starts a Keep as `start` says, prints the numbers of processes to watch, and stays."""
    program = f"""
import os, time
from donjon import Keep, WarmParent
from tests.keep import guests
{start}
time.sleep(600)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process when its socket's other end is closed")
@pytest.mark.parametrize("guest", ["SPINS", "SLEEPS", "READS"])
@pytest.mark.parametrize("start", ["fresh", "warm"])
def test_no_keep_outlives_an_owner_that_was_killed(start: str, guest: str) -> None:
    make = f"Keep.start(guests.{guest})" if start == "fresh" else f"(p := WarmParent(guests.{guest})).start()"
    other = "" if start == "fresh" else ", p._process.pid"
    with owner(f"keep = {make}\nprint(keep.pid{other}, flush=True)") as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
        process.wait()
        gone_within(1.0, lambda: not any(map(alive, pids)))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone_within(seconds: float, gone: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not gone():
        assert time.monotonic() < end
        time.sleep(0.01)
