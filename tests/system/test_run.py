"""`donjon run`: exit codes, words, streams, signals."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MEASURED
from tests.keep import guests
from tests.system.command import Running, command, config, donjon_run, environment, file, listens

# ---- exit codes


@pytest.mark.parametrize("code", [0, 1, 2, 3, 31, 70, 125, 126, 127, 128, 134, 255])
def test_the_guests_exit_code_is_the_commands(code: int, tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.exits(code)))
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_exit_of_minus_one_is_255_as_natively(tmp_path: Path) -> None:
    assert donjon_run("run", file(tmp_path, guests.exits(0xFFFFFFFF))).returncode == 255


@pytest.mark.parametrize("code", [256, 1000, 0x7FFFFFFF])
def test_an_exit_code_over_255_is_refused_and_not_cut(code: int, tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.exits(code)))
    assert done.returncode == 2
    assert f"the guest exited with code {code}: expected -128 to 255".encode() in done.stderr


def test_a_trap_prints_the_guests_functions_and_exits_with_134(tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.TRAPS))
    assert (done.returncode, done.stdout) == (134, b"")
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "donjon: error: the guest trapped: unreachable"
    assert lines[1:3] == ["  at inner", "  at outer"]


def test_endless_recursion_is_a_trap_with_a_short_backtrace(tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.RECURS))
    assert done.returncode == 134
    assert b"call stack exhausted" in done.stderr
    assert len(done.stderr.splitlines()) < 30


@pytest.mark.parametrize(
    ("content", "code", "complaint"),
    [
        pytest.param(b"", 1, "is empty", id="an empty file"),
        pytest.param(b"\0asm\x0d\0\x01\0", 1, "component", id="a component"),
        pytest.param(b"\0asm\x01\0\0\0\x01\xff\xff\xff", 1, "not a valid module", id="a module cut short"),
        pytest.param(b"#!/bin/sh\n", 1, "a script", id="a script"),
        pytest.param(None, 2, "no such file", id="no file"),
    ],
)
def test_what_is_no_module_ends_in_one_message(
    content: bytes | None, code: int, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "main.wasm"
    if content is not None:
        path.write_bytes(content)
    done = donjon_run("run", path)
    assert (done.returncode, done.stdout) == (code, b"")
    assert complaint in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert b"donjon: hint: " in done.stderr


def test_processor_time_is_limited_by_the_configuration(tmp_path: Path) -> None:
    done = donjon_run(
        "run", file(tmp_path, guests.SPINS), "--wasmcfgfile", config(tmp_path, after="[limits]\ncpu = 0.2\n")
    )
    assert done.returncode == 134
    assert b"processor time" in done.stderr


def test_a_guest_with_a_processor_limit_keeps_its_streams_and_its_code(tmp_path: Path) -> None:
    toml = config(tmp_path, after="[limits]\ncpu = 30\n")
    done = donjon_run("run", file(tmp_path, guests.CAT), "--wasmcfgfile", toml, stdin=b"through")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"through", b"")


# ---- words


def test_words_after_two_dashes_are_the_guests(tmp_path: Path) -> None:
    toml = config(tmp_path, before='args = ["first"]\n')
    module = file(tmp_path, guests.ARGUMENTS)
    done = donjon_run("run", module, "--wasmcfgfile", toml, "--", "--log-filter", "-x", "--", "")
    assert done.stdout == b"main.wasm\0first\0--log-filter\0-x\0--\0\0"


def test_a_module_alone_is_run(tmp_path: Path) -> None:
    assert donjon_run(file(tmp_path, guests.says("hi"))).stdout == b"hi"
    assert donjon_run(file(tmp_path, guests.ARGUMENTS), "--", "x").stdout == b"main.wasm\0x\0"


@pytest.mark.parametrize("prefix", ["DONJON", "ENARX"])
def test_options_fall_back_to_variables(prefix: str, tmp_path: Path) -> None:
    toml = config(tmp_path, before='args = ["from the file"]\n')
    env = {f"{prefix}_WASMCFGFILE": str(toml), f"{prefix}_BACKEND": "nil", f"{prefix}_LOG": "off"}
    assert donjon_run("run", file(tmp_path, guests.ARGUMENTS), env=env).stdout == b"main.wasm\0from the file\0"
    wrong = donjon_run("run", file(tmp_path, guests.ARGUMENTS), env={f"{prefix}_BACKEND": "sgx"})
    assert wrong.returncode == 2
    assert f"{prefix}_BACKEND".encode() in wrong.stderr


def test_an_option_beats_donjons_variable_and_that_beats_enarxs(tmp_path: Path) -> None:
    files = {}
    for name in ("option", "donjon", "enarx"):
        (tmp_path / name).mkdir()
        files[name] = str(config(tmp_path / name, before=f'args = ["{name}"]\n'))
    module = file(tmp_path, guests.ARGUMENTS)
    env = {"DONJON_WASMCFGFILE": files["donjon"], "ENARX_WASMCFGFILE": files["enarx"]}
    assert donjon_run("run", module, "--wasmcfgfile", files["option"], env=env).stdout == b"main.wasm\0option\0"
    assert donjon_run("run", module, env=env).stdout == b"main.wasm\0donjon\0"


def test_a_malformed_configuration_is_shown_with_its_place(tmp_path: Path) -> None:
    toml = tmp_path / "Enarx.toml"
    toml.write_text('[[files]]\nkind = "listne"\n')
    done = donjon_run("run", file(tmp_path, guests.RETURNS), "--wasmcfgfile", toml)
    assert done.returncode == 1
    assert f"{toml}:2:8".encode() in done.stderr
    assert b"listen" in done.stderr


# ---- what we say, and where


def test_our_words_go_to_stderr_and_stdout_is_the_guests(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("in"))
    done = donjon_run("run", file(tmp_path, guests.says("mine")), "--wasmcfgfile", toml, "--log-filter", "trace")
    assert done.stdout == b"mine"
    assert b"listening on 127.0.0.1:" in done.stderr


def test_the_log_can_go_to_stdout(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("in"))
    done = donjon_run("run", file(tmp_path, guests.RETURNS), "--wasmcfgfile", toml, "--log-target", "stdout")
    assert done.stdout.startswith(b"donjon: listening on 127.0.0.1:")
    assert done.stderr == b""


def test_the_log_filter_takes_levels_and_targets(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("in"))
    module = file(tmp_path, guests.guest("(drop (call $fd_close (i32.const 99)))"))
    for levels, wanted in (("off", b""), ("warn", b""), ("donjon.wasi=trace,error", b"donjon: trace: [donjon.wasi] ")):
        done = donjon_run("run", module, "--wasmcfgfile", toml, "--log-filter", levels)
        assert done.returncode == 0
        assert done.stderr.startswith(wanted)
        assert bool(done.stderr) == bool(wanted)


def test_files_without_output_are_warned_about(tmp_path: Path) -> None:
    toml = config(tmp_path, 'kind = "stdin"', stdio=False)
    done = donjon_run("run", file(tmp_path, guests.RETURNS), "--wasmcfgfile", toml)
    assert done.returncode == 0
    assert b'donjon: warning: no entry of kind "stdout" in `files`' in done.stderr
    assert b'"stderr"' in done.stderr


# ---- streams


def shell(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a script of sh in which "$@" is `donjon` with the arguments."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *command(), *map(str, arguments)],
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )


def test_closed_standard_streams_are_empty_ones(tmp_path: Path) -> None:
    assert shell('"$@" <&- >&-', "run", file(tmp_path, guests.CAT)).returncode == 0
    assert shell('"$@" >&-', "run", file(tmp_path, guests.says("lost"))).returncode == 0
    assert shell('"$@" <&- >&- 2>&-', "run", file(tmp_path, guests.says("lost", descriptor=2))).returncode == 0


def test_a_listener_never_takes_the_number_of_a_closed_standard_stream(tmp_path: Path) -> None:
    """Else what the guest or we write to stderr would go to a peer, or fail in strange ways."""
    toml = config(tmp_path, listens("in"), *(f'kind = "{kind}"' for kind in ("stdin", "stdout", "stderr")), stdio=False)
    guest = guests.guest(
        "(call $write (i32.const 3) (i32.const 2048) (i32.const 4)) (call $copy (i32.const 1) (i32.const 2))"
    )
    done = shell('"$@" <&- >&- 2>&-', "run", file(tmp_path, guest), "--wasmcfgfile", toml)
    assert done.returncode == 0


def test_a_reader_that_goes_away_is_an_error_of_the_guests(tmp_path: Path) -> None:
    guest = guests.guest("(loop (call $write (i32.const 1) (i32.const 2048) (i32.const 2048)) (br 0))")
    done = shell('{ "$@"; echo $? >&2; } | head -c 1', "run", file(tmp_path, guest))
    assert done.stderr == b"164\n"  # 100 + EPIPE


def test_stdin_from_a_file_and_stdout_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(range(256)) * 1000)
    done = shell(f'"$@" < {tmp_path}/in > {tmp_path}/out', "run", file(tmp_path, guests.CAT))
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_a_full_disk_is_an_error_of_the_guests(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is a device of Linux")
    assert shell('"$@" > /dev/full', "run", file(tmp_path, guests.says("x"))).returncode == 151  # 100 + ENOSPC


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("guest", ["SPINS", "SLEEPS", "READS", "ACCEPTS"])
@pytest.mark.parametrize("prot", ["tcp", "tls"])
def test_a_signal_ends_it_at_once(prot: str, guest: str, number: signal.Signals, tmp_path: Path) -> None:
    toml = config(tmp_path, listens("in", prot=prot))
    with Running("run", file(tmp_path, getattr(guests, guest)), "--wasmcfgfile", toml, listeners=1) as running:
        status, seconds = running.end(number)
    assert status == -number
    assert seconds < 1  # 0.2 on a machine with nothing else to do


def test_a_signal_ends_a_guest_with_a_processor_limit_too(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("in"), after="[limits]\ncpu = 100\n")
    with Running("run", file(tmp_path, guests.SPINS), "--wasmcfgfile", toml, listeners=1) as running:
        status, seconds = running.end(signal.SIGTERM)
        assert (status, seconds < 1) == (-signal.SIGTERM, True)
        assert running.output() == b""  # the Keep held stdout open: it is gone as well


OPENS_ALL_IT_CAN = b"""(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $set_flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "file")
  (func (export "_start") (local $errno i32)
    (loop $more
      (local.set $errno (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0)
        (i64.const 0x4a) (i64.const 0) (i32.const 0) (i32.const 64)))
      (br_if $more (i32.eqz (local.get $errno))))
    (drop (call $set_flags (i32.load (i32.const 64)) (i32.const 1)))
    (call $exit (local.get $errno))))"""


def test_a_guest_that_takes_all_of_the_hosts_descriptors_gets_an_errno_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    toml = config(tmp_path, 'kind = "dir"\nhost = "."\nguest = "/"\nmode = "rw"')
    module = file(tmp_path, OPENS_ALL_IT_CAN)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    done = donjon_run("run", module, "--wasmcfgfile", toml, preexec_fn=few)
    assert (done.returncode, done.stderr) == (33, b""), "33 is mfile"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the addresses of a process")
def test_too_few_addresses_are_the_machines_fault(tmp_path: Path) -> None:
    module = file(tmp_path, b'(module (memory (export "memory") 1) (func (export "_start")))')

    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    done = donjon_run("run", module, preexec_fn=narrow)
    assert done.returncode == 3
    assert b"no address space for the guest" in done.stderr
    assert b"ulimit -v" in done.stderr


# ---- the sandbox


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
@pytest.mark.skipif(MEASURED, reason="where coverage is measured, Keeps have no sandbox: see conftest")
@pytest.mark.parametrize(
    ("words", "env", "more"),
    [((), {}, 1), (("--sandbox", "on"), {}, 1), (("--sandbox", "off"), {}, 0), ((), {"DONJON_SANDBOX": "off"}, 0)],
)
def test_the_process_is_confined_unless_it_is_told_not_to(
    words: tuple[str, ...], env: dict[str, str], more: int, tmp_path: Path
) -> None:
    def filters(pid: int | str) -> int:
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("Seccomp_filters:\t")[2].split()[0])

    with Running("run", *words, file(tmp_path, guests.CAT), env=env) as running:
        assert running.process.stdin is not None
        assert running.process.stdout is not None
        running.process.stdin.write(b"x")
        assert running.process.stdout.read(1) == b"x"
        assert filters(running.process.pid) - filters("self") == more
