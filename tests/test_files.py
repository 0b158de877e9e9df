"""donjon.files: what is read, what is refused, and what a file looks like that was made or could not be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from donjon import files
from donjon.errors import ParseError, PlatformError, UsageError


def test_reads_as_much_as_is_allowed_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert files.read(str(path), 8) == b"12345678"
    with pytest.raises(ParseError) as caught:
        files.read(str(path), 7)
    assert caught.value.message == f"{path}: expected at most 7 bytes, got more"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "cannot read none: no such file or directory"),
        (".", "cannot read .: is a directory"),
        ("file/below", "cannot read file/below: not a directory"),
        ("a\0b", "not a path"),
    ],
)
def test_what_is_no_file_is_the_user_s_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        files.read(name, 8)
    assert message in caught.value.message
    assert "\0" not in caught.value.message


def test_a_device_that_fails_is_the_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", broken)
    with pytest.raises(PlatformError, match="cannot read key: input/output error"):
        files.read("key", 8)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_reach_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    assert files.read(str(path), 8) == b"secret"
    with pytest.raises(UsageError) as caught:
        files.read(str(path), 8, private=True)
    assert caught.value.message == f"{path}: expected a key that its owner alone can read, got the mode {mode:o}"
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    assert files.read(str(path), 8, private=True) == b"secret"


def test_a_secret_of_another_user_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    files.create(str(path), b"secret")
    if path.stat().st_uid == 0:
        os.chown(path, 4712, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UsageError, match="expected a key of this user's, got one of user"):
        files.read(str(path), 8, private=True)


def test_what_is_made_is_its_owner_s_alone_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        files.create(str(path), b"secret")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        files.create(str(path), b"other")
    assert path.read_bytes() == b"secret"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        files.create(str(tmp_path / "link"), b"secret")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.create(str(tmp_path / "key"), b"secret")
    assert list(tmp_path.iterdir()) == []
