"""Exit codes, and what is printed where when something goes wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

import donjon
from donjon.cli import main as module
from donjon.cli.main import main
from donjon.cli.parse import Options
from donjon.errors import ParseError, PlatformError, TrapError, UsageError, VerifyError

Run = Callable[[Callable[[Options], int]], None]
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def run(monkeypatch: Patch) -> Run:
    """Put another function in place of `donjon.cli.run:run`."""

    def replace(function: Callable[[Options], int]) -> None:
        fake = types.ModuleType("donjon.cli.run")
        fake.run = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "donjon.cli.run", fake)

    return replace


def raiser(error: BaseException) -> Callable[[Options], int]:
    def handler(_options: Options) -> int:
        raise error

    return handler


def test_hands_its_options_to_run_and_returns_its_code(run: Run, capfd: Captured) -> None:
    seen: list[Options] = []

    def handler(options: Options) -> int:
        seen.append(options)
        return 42

    run(handler)
    assert main(["a.wasm", "--log-filter", "off", "--", "x"]) == 42
    assert (seen[0].module, seen[0].args, seen[0].log_filter) == ("a.wasm", ("x",), "off")
    assert capfd.readouterr() == ("", "")


def test_without_words_prints_help_on_stdout(capfd: Captured) -> None:
    assert main([]) == 0
    out, err = capfd.readouterr()
    assert "Usage:\n  donjon COMMAND" in out
    assert err == ""


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_prints_its_version(word: str, capfd: Captured) -> None:
    assert main([word]) == 0
    assert capfd.readouterr() == (f"donjon {donjon.__version__}\n", "")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        pytest.param(ParseError("a.wasm: cut short"), 1, "donjon: error: a.wasm: cut short\n", id="malformed input"),
        pytest.param(
            UsageError("no", hint="yes"), 2, "donjon: error: no\ndonjon: hint: yes\n", id="a hint has its own line"
        ),
        pytest.param(PlatformError("port taken"), 3, "donjon: error: port taken\n", id="this machine"),
        pytest.param(VerifyError("not it"), 4, "donjon: error: not it\n", id="a peer"),
        pytest.param(
            TrapError("unreachable", "unreachable", ("inner", "a\x1b[2J")),
            134,
            "donjon: error: unreachable\n  at inner\n  at a\\x1b[2J\n",
            id="a trap shows the guest's functions",
        ),
        pytest.param(
            ParseError("x\ndonjon: hint: forged\x07"),
            1,
            "donjon: error: x\n  donjon: hint: forged\\x07\n",
            id="text from outside cannot look like ours",
        ),
        pytest.param(KeyboardInterrupt(), 130, "", id="Ctrl-C ends quietly"),
        pytest.param(BrokenPipeError(), 141, "", id="a reader that went away ends it quietly"),
    ],
)
def test_errors(error: BaseException, code: int, text: str, run: Run, capfd: Captured) -> None:
    run(raiser(error))
    assert main(["run", "a.wasm"]) == code
    assert capfd.readouterr() == ("", text)


def test_our_own_mistakes_say_where_to_report_them(run: Run, capfd: Captured) -> None:
    run(raiser(ZeroDivisionError("by zero")))
    assert main(["run", "a.wasm"]) == 70
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(
        "donjon: error: internal error: ZeroDivisionError: by zero\ndonjon: hint: this is a mistake in donjon"
    )
    assert "CONTRIBUTING.md" in err
    assert "DONJON_TRACEBACK=1" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), ParseError("bad")])
def test_a_traceback_is_shown_when_asked_for(error: Exception, run: Run, monkeypatch: Patch, capfd: Captured) -> None:
    monkeypatch.setenv("DONJON_TRACEBACK", "1")
    run(raiser(error))
    assert main(["run", "a.wasm"]) in (70, 1)
    assert "Traceback (most recent call last):" in capfd.readouterr().err


def test_errors_are_plain_where_no_terminal_is(monkeypatch: Patch, capfd: Captured) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert main(["rnu"]) == 2
    assert "\x1b" not in capfd.readouterr().err


def test_python_m_donjon_ends_with_the_same_code() -> None:
    done = _donjon("rnu", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'donjon: error: unknown command "donjon rnu"\ndonjon: hint: did you mean `donjon run`?\n'


def test_a_reader_that_went_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = _donjon("--help", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (module.SIGPIPE_CODE, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = _donjon("--help", stdout=full)
    assert done.returncode == 3
    assert done.stderr == "donjon: error: cannot write to standard output: no space left on device\n"


def test_what_others_left_in_buffers_is_written_at_the_end_or_the_end_is_a_failure(monkeypatch: Patch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError

    codes: list[int] = []
    monkeypatch.setattr(sys, "argv", ["donjon", "--version"])
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(sys, "stdout", None)
    module.entry()
    monkeypatch.setattr(sys, "stdout", Full())
    module.entry()
    assert codes == [0, 1]


def test_a_closed_stdout_is_an_error() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m donjon --help >&-', sys.executable],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 3
    assert done.stderr == "donjon: error: cannot write to standard output: bad file descriptor\n"


def test_arguments_that_are_not_utf8_are_shown_escaped() -> None:
    done = _donjon(b"a\xff\x1b", stdout=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith('donjon: error: unknown command "donjon a\\xff\\x1b"\n')


def test_help_prints_where_the_locale_has_no_ticks() -> None:
    done = _donjon("platform", "info", stdout=subprocess.PIPE, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert "\n+ Backend: nil\n" in done.stdout or "\n- Backend: nil\n" in done.stdout


# What a start may not import: each costs between 1 and 40 of the 20 ms that it may take.
HEAVY = {
    "argparse",
    "asyncio",
    "contextlib",
    "ctypes",
    "dataclasses",
    "difflib",
    "enum",
    "hashlib",
    "importlib.metadata",
    "json",
    "logging",
    "pathlib",
    "platform",
    "re",
    "shlex",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "textwrap",
    "tomllib",
    "traceback",
    "typing",
}


def test_the_way_to_run_imports_nothing_heavy() -> None:
    script = (
        "import sys, types; before = set(sys.modules); fake = types.ModuleType('donjon.cli.run')\n"
        "from donjon.cli import tui\n"
        "fake.run = lambda options: tui.logger(options.log_filter, options.log_target).info('ready') or 0\n"
        "sys.modules['donjon.cli.run'] = fake\n"
        "from donjon.cli.main import main\n"
        "code = main(['run', 'a.wasm', '--backend', 'nil', '--log-filter', 'debug'])\n"
        "print(code, *sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True, env=_environment()
    )
    code, *imported = done.stdout.split()
    assert (code, done.stderr) == ("0", "donjon: ready\n")
    assert not HEAVY & set(imported)


def _donjon(*words: str | bytes, stdout: int | IO[str], **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "donjon", *words]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=_environment(**environ)
    )


def _environment(**more: str) -> dict[str, str]:
    """Without what could change a message, and with the package found even where it is not installed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DONJON_", "ENARX_"))}
    return {**own, "PYTHONPATH": str(Path(donjon.__file__).parents[1]), **more}
