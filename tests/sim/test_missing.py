"""A machine that cannot mount says what it lacks, and how to get it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon import sim
from donjon.errors import PlatformError, UsageError
from donjon.sim import kernel
from donjon.sim import mount as module


def refused(lab: sim.Lab, where: Path) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        module.mount(kernel.rules(lab.guest("cca")), str(where), lambda: None)
    found = module.missing()
    assert found is not None
    assert found.message == caught.value.message
    return caught.value


def test_no_device(lab: sim.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEVICE", str(tmp_path / "fuse"))
    error = refused(lab, tmp_path)
    assert error.message == f"cannot mount: there is no {tmp_path}/fuse"
    assert "modprobe fuse" in (error.hint or "")


def test_a_device_that_this_user_may_not_open(lab: sim.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEVICE", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refused(lab, tmp_path).message == f"cannot mount: this user may not open {tmp_path}"


@pytest.mark.parametrize(
    ("cause", "text", "hint"),
    [
        (ImportError("none"), "mounting needs the package mfusepy", "pip install mfusepy"),
        (OSError("Unable to find libfuse"), "mounting needs libfuse: unable to find libfuse", "apt-get install fuse3"),
        (AttributeError("too old"), "mounting needs libfuse: too old", "apt-get install fuse3"),
    ],
)
def test_no_library(
    lab: sim.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception, text: str, hint: str
) -> None:
    def fails(_: str) -> object:
        raise cause

    monkeypatch.setattr(module, "DEVICE", str(tmp_path))
    monkeypatch.setattr(module, "import_module", fails)
    error = refused(lab, tmp_path)
    assert (error.message, error.hint) == (text, hint)


@pytest.mark.parametrize("code", [4, 8])
def test_a_library_that_fails(lab: sim.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    class Library:
        @staticmethod
        def FUSE(*_: object, **__: object) -> None:
            raise RuntimeError(code)

    monkeypatch.setattr(module, "DEVICE", str(tmp_path))
    monkeypatch.setattr(module, "import_module", lambda _: Library)
    with pytest.raises(PlatformError, match=f"cannot mount on .*: libfuse says {code}"):
        module.mount(kernel.rules(lab.guest("cca")), str(tmp_path), lambda: None)


def test_no_directory_to_mount_on(lab: sim.Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a directory to mount on"):
        module.mount(kernel.rules(lab.guest("cca")), str(tmp_path / "none"), lambda: None)


def test_what_libfuse_asks_is_asked_of_the_rules(lab: sim.Lab) -> None:
    rules = kernel.rules(lab.guest("snp"))
    said: list[str] = []
    operations = module._Operations(rules, lambda: said.append("ready"))
    operations.init("/")
    assert (said, operations.mounted) == (["ready"], True)
    assert operations.mkdir("/a", 0o777) == 0
    assert operations.readdir("/", 0) == [".", "..", "a"]
    assert operations.getattr("/")["st_size"] == 0
    assert operations.getattr("/a/outblob")["st_size"] == 4096
    assert operations.truncate("/a/inblob", 0) == 0
    handle = operations.open("/a/inblob", os.O_WRONLY)
    assert operations.write("/a/inblob", bytes(64), 0, handle) == 64
    assert operations.flush("/a/inblob", handle) == 0
    assert operations.release("/a/inblob", handle) == 0
    handle = operations.open("/a/generation", os.O_RDONLY)
    assert operations.read("/a/generation", 10, 0, handle) == b"1\n"
    acts: tuple[tuple[int, Callable[[], int]], ...] = (
        (errno.EPERM, lambda: operations.unlink("/a/inblob")),
        (errno.EACCES, lambda: operations.create("/b", 0o644, 0)),
        (errno.ENOENT, lambda: operations.truncate("/b", 0)),
    )
    for number, act in acts:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is asked below
            act()
        assert caught.value.errno == number
    assert operations.rmdir("/a") == 0
