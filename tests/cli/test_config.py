"""`config init` writes the template, and never over a file."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from donjon import config
from donjon.cli import config as command
from donjon.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "Enarx.toml"


def test_writes_the_template_silently(here: Path, capfd: Captured) -> None:
    assert main(["config", "init"]) == 0
    assert here.read_text(encoding="utf-8") == config.TEMPLATE
    assert capfd.readouterr() == ("", "")
    assert config.load(str(here)) == config.default()


def test_leaves_a_file_as_it_is(here: Path, capfd: Captured) -> None:
    here.write_text("mine")
    assert main(["config", "init"]) == 1
    assert here.read_text() == "mine"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith('donjon: error: "Enarx.toml" does already exist.\ndonjon: hint: ')


def test_does_not_follow_a_link_out(here: Path, tmp_path: Path) -> None:
    here.symlink_to(tmp_path / "elsewhere")
    assert main(["config", "init"]) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_says_why_it_cannot_create_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["config", "init"]) == 3
    assert capfd.readouterr().err == (
        "donjon: error: cannot write Enarx.toml in the current directory: no such file or directory\n"
    )


def test_leaves_nothing_behind_on_a_full_disk(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    class Full(io.StringIO):
        def __init__(self, descriptor: int, *_: object, **__: object) -> None:
            super().__init__()
            os.close(descriptor)

        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command, "open", Full, raising=False)
    assert main(["config", "init"]) == 3
    assert not here.exists()
    assert capfd.readouterr().err.endswith("no space left on device\n")
