"""`donjon run` in this process: what it hands on. What it does as a command is in tests/system."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.cli.parse import Options, parse
from donjon.cli.run import run
from donjon.errors import ParseError, UsageError
from tests.keep import guests

Captured = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """`run` takes over the process it is in."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def options(*words: str) -> Options:
    return parse(["run", *words], {"DONJON_SANDBOX": "off"}).options  # it is for ever, and this process goes on


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "main.wat"
    path.write_bytes(guests.ARGUMENTS)
    return path


def test_hands_on_the_arguments_and_returns_the_guests_code(module: Path, capfdbinary: Captured) -> None:
    assert run(options(str(module), "--", "a", "b")) == 0
    assert capfdbinary.readouterr() == (b"main.wasm\0a\0b\0", b"")


def test_runs_it_beside_where_its_processor_time_is_limited(
    module: Path, tmp_path: Path, capfdbinary: Captured
) -> None:
    toml = tmp_path / "Enarx.toml"
    toml.write_text('args = ["x"]\n[limits]\ncpu = 60\n')
    assert run(options(str(module), "--wasmcfgfile", str(toml), "--", "y")) == 0
    assert capfdbinary.readouterr() == (b"main.wasm\0x\0y\0", b"")


def test_the_log_filter_reaches_a_keep_beside(tmp_path: Path, capfdbinary: Captured) -> None:
    (tmp_path / "main.wat").write_bytes(guests.guest("(drop (call $fd_close (i32.const 99)))"))
    (tmp_path / "Enarx.toml").write_text("[limits]\ncpu = 60\n")
    words = [str(tmp_path / "main.wat"), "--wasmcfgfile", str(tmp_path / "Enarx.toml"), "--log-filter", "trace"]
    assert run(options(*words)) == 0
    assert b"donjon: trace: [donjon.wasi] fd_close: " in capfdbinary.readouterr().err


def test_sigint_keeps_its_ordinary_effect(module: Path, capfdbinary: Captured) -> None:
    run(options(str(module)))
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_lets_errors_through_by_family(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        run(options(str(tmp_path / "none.wasm")))
    (tmp_path / "bad.wasm").write_bytes(b"MZ")
    with pytest.raises(ParseError, match="a Windows program"):
        run(options(str(tmp_path / "bad.wasm")))
