"""`new` and `build` call donjon.project and say what comes next, in commands that work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from donjon import project
from donjon.cli.main import main
from donjon.cli.parse import parse

Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_makes_a_project_and_says_what_comes_next(monkeypatch: Patch, here: Path, capfd: Captured) -> None:
    monkeypatch.setattr(project, "new", lambda name, lang: str(here / name) if lang == "c" else "")
    assert main(["new", "my app", "--lang", "c"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("Made 'my app'. Next:\n\n  cd 'my app'\n  donjon build\n")


@pytest.mark.parametrize("configured", [True, False])
def test_build_says_how_to_run_it(configured: bool, monkeypatch: Patch, here: Path, capfd: Captured) -> None:
    (here / "app").mkdir()
    if configured:
        (here / "app" / "Enarx.toml").touch()
    monkeypatch.setattr(project, "build", lambda directory: str(here / directory / "out.wasm"))
    assert main(["build", "app"]) == 0
    out, err = capfd.readouterr()
    assert (out.splitlines()[0], err) == ("Built app/out.wasm. Run it:", "")
    words = shlex.split(re.findall(r"donjon .*", out)[-1])
    options = parse(words[1:], {}).options
    assert (options.module, options.wasmcfgfile) == ("app/out.wasm", "app/Enarx.toml" if configured else None)


def test_languages_are_words_that_can_be_typed() -> None:
    assert project.LANGUAGES
    assert all(re.fullmatch(r"[a-z][a-z0-9+-]*", language) for language in project.LANGUAGES)
