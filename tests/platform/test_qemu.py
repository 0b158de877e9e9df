"""Finding QEMU: programs that say what a QEMU may say, and how to get one on each system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from donjon.errors import PlatformError
from donjon.platform import qemu
from donjon.platform.qemu import find, how_to_get


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same system everywhere, with QEMU in PATH or not at all."""
    monkeypatch.setattr(qemu, "_release", lambda: {"ID": "debian"})
    monkeypatch.setattr(qemu, "NAMES", qemu.NAMES[:1])


def program(folder: Path, script: str) -> str:
    """A directory with a QEMU that does this."""
    path = folder / "qemu-system-x86_64"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", (7, 2, 22)),
        ("QEMU emulator version 10.0.2", (10, 0, 2)),
        ("QEMU emulator version 9.1", (9, 1, 0)),
        ("warning: something\nQEMU emulator version 8.2.2 (qemu-8.2.2-1.fc40)", (8, 2, 2)),
    ],
)
def test_reads_the_version(tmp_path: Path, said: str, version: tuple[int, int, int]) -> None:
    found = find(program(tmp_path, f"printf '%s\\n' '{said}'"))
    assert (found.version, found.path) == (version, f"{tmp_path}/qemu-system-x86_64")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'QEMU emulator version 6.2.0'", "expected QEMU 7.2 or later, got 6.2.0"),
        ("echo hello", '--version: expected "QEMU emulator version ...", got "hello"'),
        ("printf '\\033[2J'", '--version: expected "QEMU emulator version ...", got "\\x1b[2J"'),
        ("exit 1", '--version: expected "QEMU emulator version ...", got ""'),
        ("kill -9 $$", '--version: expected "QEMU emulator version ...", got ""'),
        ("echo 'QEMU emulator version 99999.1'", '--version: expected "QEMU emulator version ...", got "QEMU emul'),
    ],
)
def test_what_will_not_do_is_told_with_how_to_get_another(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(PlatformError) as raised:
        find(program(tmp_path, script))
    assert message in raised.value.message
    assert "sudo apt-get install qemu-system-x86" in str(raised.value.hint)


def test_one_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "SECONDS", 0.2)
    with pytest.raises(PlatformError, match=r"expected an answer within 0\.2 s, got none"):
        find(program(tmp_path, "exec sleep 60"))


def test_one_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    path = Path(program(tmp_path, "")) / "qemu-system-x86_64"
    path.write_bytes(b"\x7fELF, cut off")
    with pytest.raises(PlatformError, match=r"cannot run .*: exec format error"):
        find(str(tmp_path))


class Programs:
    """A program of the processor's own kind in a folder, and how often one was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.path = Path(program(folder, "")) / "qemu-system-x86_64"
        self.path.write_bytes(b"\x7fELF and so on")
        self.memory = folder / "cache" / "qemu.json"
        self.asked = 0
        self.version = (7, 2, 22)
        monkeypatch.setattr(qemu, "_ask", self.ask)

    def ask(self, path: str) -> tuple[int, int, int]:
        assert path == str(self.path)
        self.asked += 1
        return self.version

    def find(self) -> tuple[int, int, int]:
        return find(str(self.folder), str(self.memory)).version


def test_what_it_said_is_remembered_until_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(tmp_path, monkeypatch)
    assert [programs.find(), programs.find()] == [(7, 2, 22)] * 2
    assert programs.asked == 1
    programs.version = (9, 0, 1)
    programs.path.write_bytes(b"\x7fELF and others")
    assert [programs.find(), programs.find()] == [(9, 0, 1)] * 2
    assert programs.asked == 2
    programs.version = (6, 0, 0)
    programs.path.write_bytes(b"\x7fELF, old")
    for _ in range(2):
        with pytest.raises(PlatformError, match=r"or later, got 6\.0\.0"):
            programs.find()
    assert programs.asked == 3


def test_a_script_is_asked_each_time_as_it_may_start_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(tmp_path, monkeypatch)
    programs.path.write_text("#!/bin/sh\nexec /usr/bin/qemu-system-x86_64 $*\n")
    assert [programs.find(), programs.find()] == [(7, 2, 22)] * 2
    assert programs.asked == 2


@pytest.mark.parametrize(
    "change",
    [
        {"version": [7, 2]},
        {"version": [7, 2, "22"]},
        {"version": [7, 2, True]},
        {"version": "7.2"},
        {"version": None},
        {"key": "another"},
        {"key": None},
    ],
)
def test_a_damaged_memory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]) -> None:
    programs = Programs(tmp_path, monkeypatch)
    programs.find()
    programs.memory.write_text(json.dumps({**json.loads(programs.memory.read_text()), **change}))
    assert programs.find() == (7, 2, 22)
    assert programs.asked == 2


@pytest.mark.parametrize("content", ["", "[]", "7", "{}", "[" * 100000, "\udc80"])
def test_a_memory_of_another_shape_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    programs = Programs(tmp_path, monkeypatch)
    programs.find()
    programs.memory.write_text(content, errors="surrogateescape")
    assert programs.find() == (7, 2, 22)
    assert programs.asked == 2


def test_a_memory_that_is_a_link_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(tmp_path, monkeypatch)
    programs.find()
    programs.memory.rename(tmp_path / "elsewhere")
    programs.memory.symlink_to(tmp_path / "elsewhere")
    assert programs.find() == (7, 2, 22)
    assert programs.asked == 2


def test_none_has_a_hint_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as raised:
        find(str(tmp_path))
    assert raised.value.message == "cannot start a virtual machine: there is no qemu-system-x86_64 in PATH"
    assert raised.value.hint == "sudo apt-get install qemu-system-x86"


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian"}, "sudo apt-get install qemu-system-x86"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "sudo apt-get install qemu-system-x86"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install qemu-kvm"),
        ({"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, "sudo zypper install qemu-x86"),
        ({"ID": "opensuse-leap"}, "sudo zypper install qemu-x86"),
        ({"ID": "alpine"}, "sudo apk add qemu-system-x86_64"),
        ({"ID": "something"}, "install QEMU 7.2 or later with qemu-system-x86_64"),
        ({}, "install QEMU 7.2 or later with qemu-system-x86_64"),
    ],
)
def test_each_system_has_its_command(release: dict[str, str], command: str) -> None:
    assert how_to_get(release) == command


def test_os_release_is_read_with_quotes_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(qemu, "RELEASE", (str(tmp_path / "none"), str(tmp_path / "os-release")))
    assert how_to_get() == "install QEMU 7.2 or later with qemu-system-x86_64"
    (tmp_path / "os-release").write_bytes(b'# a comment\n\nNAME="\xff"\nID="fedora"\nID_LIKE=\'x\'\n')
    assert how_to_get() == "sudo dnf install qemu-system-x86-core"
