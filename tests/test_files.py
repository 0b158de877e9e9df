"""donjon.files: what is read, what is refused, and what a file looks like that was made or could not be."""

from __future__ import annotations

import os
import stat
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


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files.replacing(str(path)) as stream:
        stream.write(b"new, and ")
        stream.flush()
        assert path.read_bytes() == b"old"
        (draft,) = set(tmp_path.iterdir()) - {path}
        assert draft.name.startswith("file.")
        assert draft.suffix == ".new"
        stream.write(b"whole")
    assert path.read_bytes() == b"new, and whole"
    assert list(tmp_path.iterdir()) == [path]


def test_two_who_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replacing(str(path)) as one, files.replacing(str(path)) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one"  # whoever ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("umask", "asked", "expected"), [(0o022, 0o600, 0o600), (0, 0o600, 0o600), (0o022, 0o666, 0o644)]
)
def test_what_replaces_has_the_mode_asked_for_whatever_was_there(
    tmp_path: Path, umask: int, asked: int, expected: int
) -> None:
    path = tmp_path / "file"
    path.touch(0o640)
    before = os.umask(umask)
    try:
        with files.replacing(str(path), asked):
            (draft,) = set(tmp_path.iterdir()) - {path}
            assert draft.stat().st_mode & 0o777 == expected, "from the beginning"
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == expected


class Broken(BaseException):
    """As KeyboardInterrupt is: no Exception."""


@pytest.mark.parametrize("error", [ValueError, OSError, Broken])
def test_no_draft_is_left_of_a_block_that_raises_and_the_old_file_stays(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with files.replacing(str(path), sync=True) as stream:
            stream.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_no_draft_is_left_where_the_name_is_taken_by_something_else(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError), files.replacing(str(tmp_path / "taken")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "link").symlink_to("other")
    with files.replacing(str(tmp_path / "link")) as stream:
        stream.write(b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"other"


@pytest.mark.parametrize(
    ("sync", "expected"), [(False, ["rename"]), (True, ["fsync 3 bytes", "rename", "fsync the directory"])]
)
def test_a_file_is_on_disk_before_it_has_its_name_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, expected: list[str]
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        about = os.fstat(descriptor)
        done.append("fsync the directory" if stat.S_ISDIR(about.st_mode) else f"fsync {about.st_size} bytes")
        fsync(descriptor)

    def noted_rename(old: str, new: str) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    with files.replacing(str(tmp_path / "file"), sync=sync) as stream:
        stream.write(b"new")
    assert done == expected


@pytest.mark.parametrize(
    ("caches", "home", "expected"),
    [
        ("/caches", "/home/ada", "/caches/donjon"),
        ("", "/home/ada", "/home/ada/.cache/donjon"),
        ("relative", "/home/ada", "/home/ada/.cache/donjon"),
        ("/caches", "", "/caches/donjon"),
        ("", "", ""),
        ("", "relative", ""),
    ],
)
def test_caches_are_the_user_s_and_nowhere_without_a_home(
    monkeypatch: pytest.MonkeyPatch, caches: str, home: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", caches)
    monkeypatch.setenv("HOME", home)
    assert files.caches() == expected
