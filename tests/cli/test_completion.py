"""Completion scripts are tried in the shells themselves: bash always, zsh and fish where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from donjon.cli import completion
from donjon.cli.parse import load
from donjon.cli.table import COMMANDS, GLOBAL
from donjon.platform import BACKENDS

SCRIPTS = {"bash": completion.bash, "zsh": completion.zsh, "fish": completion.fish}
GLOBALS = {option.name for option in GLOBAL}
COMMAND_WORDS = {name.split()[0] for name in COMMANDS}

# Words before the cursor, the last one begun: what is offered apart from files.
CASES = [
    pytest.param("donjon ", COMMAND_WORDS, id="commands come first"),
    pytest.param("donjon r", {"run"}, id="a command begun"),
    pytest.param("donjon --", GLOBALS, id="options before a command"),
    pytest.param("donjon config ", {"init"}, id="the second word of a command"),
    pytest.param("donjon --log-target stderr pl", {"platform"}, id="a value is no command"),
    pytest.param("donjon --log-target ", {"stderr", "stdout"}, id="words that an option allows"),
    pytest.param("donjon run --backend ", {*BACKENDS}, id="names of backends"),
    pytest.param("donjon run --ba", {"--backend"}, id="an option begun"),
    pytest.param("donjon run --backend nil --was", {"--wasmcfgfile"}, id="an option after another's value"),
    pytest.param("donjon a.wasm --ba", {"--backend"}, id="options of the short form"),
    pytest.param("donjon run a.wasm -- --", set(), id="nothing of ours after --"),
    pytest.param("donjon run a.wasm -- --log-target ", set(), id="no values of ours after --"),
    pytest.param("donjon platform info --", GLOBALS | {"--json", "--recorded"}, id="flags"),
    pytest.param("donjon completion ", {"bash", "zsh", "fish"}, id="words that an argument allows"),
    pytest.param("donjon new x --lang ", {"c", "zig"}, id="languages"),
    pytest.param("donjon config init --ba", set(), id="no option of another command"),
]


@pytest.fixture(autouse=True)
def languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        completion, "load", lambda ref: ("c", "zig") if ref == "donjon.project:LANGUAGES" else load(ref)
    )


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_is_well_formed(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell](), encoding="utf-8")
    assert "@" not in script.read_text().replace('"$@"', "").replace("[@]", "")  # every mark is filled
    subprocess.run([_installed(shell), "-n", script], check=True, env=_environment(tmp_path))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_the_script(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    from donjon.cli.main import main

    assert main(["completion", shell]) == 0
    assert capfd.readouterr() == (SCRIPTS[shell](), "")


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_bash_offers(line: str, expected: set[str], tmp_path: Path) -> None:
    words = line.split(" ")
    assert _in_bash(words, tmp_path) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["donjon", "run", "--backend", "="], {*BACKENDS}, id="just behind the ="),
        pytest.param(["donjon", "run", "--backend", "=", "n"], {"nil"}, id="a value begun"),
        pytest.param(["donjon", "run", "--backend", "=", "nil", "--was"], {"--wasmcfgfile"}, id="an option afterwards"),
        pytest.param(["donjon", "--log-target", "=", "stderr", "pl"], {"platform"}, id="a command afterwards"),
    ],
)
def test_bash_offers_though_it_cuts_words_at_equals(words: list[str], expected: set[str], tmp_path: Path) -> None:
    assert _in_bash(words, tmp_path) == expected


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_fish_offers(line: str, expected: set[str], tmp_path: Path) -> None:
    (tmp_path / "donjon.fish").write_text(completion.fish(), encoding="utf-8")
    run = [_installed("fish"), "--no-config", "-c", f"source donjon.fish; rm donjon.fish; complete -C '{line}'"]
    done = subprocess.run(run, cwd=tmp_path, env=_environment(tmp_path), check=True, capture_output=True, text=True)
    offered = {offer.split("\t")[0] for offer in done.stdout.splitlines()}
    assert {word for word in offered if not word.endswith("/")} == expected


def _in_bash(words: list[str], directory: Path) -> set[str]:
    script = completion.bash() + 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _donjon; printf "%s\\n" "${COMPREPLY[@]}"'
    run = [_installed("bash"), "--norc", "-uc", script, "bash", *words]
    done = subprocess.run(run, env=_environment(directory), check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def _installed(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        reason = f"{shell} is not installed"
        assert shell != "bash", reason
        assert not os.environ.get("DONJON_CI"), reason
        pytest.skip(reason)
    return path


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "TERM": "dumb"}
