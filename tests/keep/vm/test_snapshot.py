"""What may start from a snapshot, whose files are believed, and what a monitor may answer. Machines: tests/system."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from donjon.config import parse
from donjon.config.models import Config
from donjon.errors import PlatformError, UsageError
from donjon.keep.vm import snapshot
from donjon.log import QUIET


def machine(directory: Path, **more: Any) -> Any:
    """What a Boot says of itself."""
    program = directory / "qemu"
    if not program.exists():
        program.write_bytes(b"")
    return SimpleNamespace(**{
        "accel": "tcg", "confidential": False, "console": None, "ports": {}, "words": ["qemu", "-m", "256M"],
        "qemu": SimpleNamespace(path=str(program), version=(7, 2, 22)),
        "image": SimpleNamespace(digest="00", variant="production"), "resumed": [], **more,
    })  # fmt: skip


def use(boot: Any, directory: Path, config: Config | None = None, sim: str | None = None) -> object:
    def boots() -> Any:
        raise AssertionError("a machine boots")

    launch: Any = SimpleNamespace(config=config or Config(), sim=sim)
    return snapshot.use(launch, boot, boots, str(directory / "snapshots"), 1.0, QUIET)


STEWARD = b'steward = "https://attest.example"'
TLS = b'files = [{ kind = "listen", name = "a", prot = "tls", port = 0 }]'


@pytest.mark.parametrize(
    ("boot", "toml", "sim", "complaint"),
    [
        pytest.param({"confidential": True}, b"", None, "a machine that gives evidence", id="a TEE"),
        pytest.param({}, b"", "lab", "a machine that gives evidence", id="a simulated TEE"),
        pytest.param({"console": object()}, b"", None, "the image with a console", id="the image for debugging"),
        pytest.param({}, STEWARD, None, "copies of a machine make the same keys", id="a Steward"),
        pytest.param({"ports": {10000: 1}}, TLS, None, "copies of a machine make the same keys", id="TLS"),
        pytest.param({"ports": {10000: 1}}, b"", None, "a machine with a network", id="a network"),
    ],
)  # fmt: skip
def test_what_must_not_start_so_is_refused(
    boot: dict[str, Any], toml: bytes, sim: str | None, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=complaint):
        use(machine(tmp_path, **boot), tmp_path, parse(toml.decode()) if toml else None, sim)
    assert not (tmp_path / "snapshots").exists()


def test_a_machine_under_kvm_boots(tmp_path: Path) -> None:
    assert use(machine(tmp_path, accel="kvm"), tmp_path) is None
    assert not (tmp_path / "snapshots").exists()


def found(boot: Any, directory: Path) -> Path:
    """Where its snapshot would be."""
    return Path(snapshot._open(boot, str(directory / "snapshots"))[0])


def test_each_qemu_image_and_command_line_has_its_own(tmp_path: Path) -> None:
    one = found(machine(tmp_path), tmp_path)
    assert found(machine(tmp_path, words=["qemu", "-m", "320M"]), tmp_path) != one
    assert found(machine(tmp_path, image=SimpleNamespace(digest="01", variant="production")), tmp_path) != one
    other = machine(tmp_path)
    other.qemu.version = (7, 2, 23)
    assert found(other, tmp_path) != one
    numbers = [["-chardev", f"socket,id=port{fd},fd={fd}", f"virtserialport,chardev=port{fd},name=x"] for fd in (7, 19)]
    assert len({found(machine(tmp_path, words=words), tmp_path) for words in numbers}) == 1


def test_what_somebody_else_could_have_written_is_refused(tmp_path: Path) -> None:
    boot = machine(tmp_path)
    path = found(boot, tmp_path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.touch(0o600)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="expected what this user alone can write"):
        use(boot, tmp_path)
    path.chmod(0o600)
    path.parent.chmod(0o770)
    with pytest.raises(UsageError, match="expected what this user alone can write"):
        use(boot, tmp_path)
    path.parent.chmod(0o700)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlatformError, match="cannot read the snapshot"):
        use(boot, tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(UsageError, match="expected a file"):
        use(boot, tmp_path)


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        pytest.param(b'{"error": {"desc": "no \\u001b[2J"}}\n', r"QEMU's monitor: stop: .*no \\x1b\[2J", id="no"),
        pytest.param(b"[" * 60_000 + b"\n", "expected JSON, got something else", id="deep"),
        pytest.param(b"\xff\n", "expected JSON, got something else", id="bytes"),
        pytest.param(b"{" * 70_000, "has ended, or says too much", id="much"),
        pytest.param(b"", "has ended, or says too much", id="end"),
    ],
)
def test_a_monitor_that_does_not_answer_is_told(answers: bytes, complaint: str) -> None:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with theirs:
            theirs.recv(4096)
            theirs.sendall(answers)

    thread = threading.Thread(target=answer)
    with ours:
        thread.start()
        with pytest.raises(PlatformError, match=complaint):
            snapshot._Monitor(ours).ask("stop")
    thread.join()


def test_events_and_greetings_are_no_answers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"QMP": {}}\n{"event": "STOP"}\n7\n{"return": {"status": "completed"}}\n')
        assert snapshot._Monitor(ours).ask("query-migrate") == {"status": "completed"}


def test_the_command_line_has_no_option_for_it() -> None:
    from donjon.cli.table import RUN

    assert not [option.name for option in RUN.options if "snapshot" in option.name]
