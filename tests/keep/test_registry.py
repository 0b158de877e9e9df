"""Entries of Keeps that run: written, read, refused, and gone when their Keep is; logs of bounded size."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.errors import ParseError, PlatformError, UsageError
from donjon.keep import registry
from donjon.keep.detached import Log
from donjon.keep.registry import Directory, Entry, birth_of, check_name, fresh_name, parse, register, stop

MINE = birth_of(os.getpid())
GOOD: dict[str, object] = {
    "name": "web", "pid": os.getpid(), "born": MINE, "backend": "nil", "workload": "ab" * 32,
    "listeners": [{"name": "in", "host": "::1", "port": 80}], "since": 1_700_000_000, "detached": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries are in these tests."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "donjon" / "keeps"


@pytest.fixture
def directory(place: Path) -> Iterator[Directory]:
    with Directory() as made:
        yield made


def entry(name: str = "web", pid: int | None = None, born: str = MINE) -> Entry:
    return Entry(name, pid or os.getpid(), born, "nil", "00" * 32, (("in", "127.0.0.1", 8080),), 1, True)


# ---- entries


def test_an_entry_is_read_as_it_was_written(directory: Directory, place: Path) -> None:
    directory.add(entry())
    (found,) = directory.entries()
    assert found.fields() == entry().fields()
    assert directory.find("web").pid == os.getpid()
    assert [oct(path.stat().st_mode & 0o777) for path in (place, place.parent)] == ["0o700", "0o700"]
    assert [(path.name, oct(path.stat().st_mode & 0o777)) for path in place.iterdir()] == [("web.json", "0o600")]


def test_a_process_registers_itself() -> None:
    register("me", "kvm", "cd" * 32, (), detached=False)
    with Directory() as directory:
        found = directory.find("me")
    assert (found.pid, found.backend, found.detached, found.listeners) == (os.getpid(), "kvm", False, ())
    assert abs(found.since - time.time()) < 60


def test_a_name_is_taken_while_its_keep_runs(directory: Directory) -> None:
    directory.add(entry())
    with pytest.raises(UsageError, match='a Keep named "web" runs already'):
        directory.add(entry())
    directory.remove(entry())
    directory.add(entry())


def test_a_keep_that_has_ended_is_none_any_more_and_its_entry_goes(directory: Directory, place: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    directory.add(entry("gone", process.pid, birth_of(process.pid)))
    assert [found.name for found in directory.entries()] == ["gone"]
    process.kill()
    end = time.monotonic() + 10
    while directory.entries() and time.monotonic() < end:  # before it is waited for: a zombie runs no more
        time.sleep(0.01)
    assert directory.entries() == []
    assert list(place.iterdir()) == []
    process.wait()


def test_another_process_with_the_number_is_not_the_keep(directory: Directory, place: Path) -> None:
    directory.add(entry("old", os.getpid(), MINE[:-1] + ("0" if MINE[-1] != "0" else "1")))
    assert directory.entries() == []
    assert list(place.iterdir()) == []
    directory.add(entry("unborn", os.getpid(), ""))
    assert directory.entries() == []


def test_the_name_of_one_that_has_ended_is_free(directory: Directory) -> None:
    directory.add(entry(born="then"))
    directory.add(entry())
    directory.remove(entry(born="then"))  # by who still means the old one
    assert [found.born for found in directory.entries()] == [MINE]


def test_who_is_not_there_is_not_found(directory: Directory) -> None:
    with pytest.raises(UsageError, match='no Keep named "web" runs'):
        directory.find("web")


# ---- hostile contents


def test_links_and_what_is_no_plain_file_are_not_looked_at(directory: Directory, place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({**GOOD, "name": "link"}))
    (place / "link.json").symlink_to(elsewhere)
    (place / "folder.json").mkdir()
    os.mkfifo(place / "pipe.json", 0o600)
    os.mkfifo(place / "web.log", 0o600)
    refused: list[str] = []
    begun = time.monotonic()
    assert directory.entries(refused.append) == []
    assert time.monotonic() - begun < 5  # a pipe is not waited for
    assert [text.rpartition("keeps/")[2].partition(" is not")[0] for text in refused] == [
        "folder.json",
        "link.json",
        "pipe.json",
    ]
    assert "expected a file of this user's with mode 600" in refused[0]
    with pytest.raises(ParseError, match="expected a file of this user's"):
        directory.open("web.log")
    with pytest.raises(UsageError, match="no Keep named"):
        directory.find("link")


def test_a_file_that_others_can_write_is_not_looked_at(directory: Directory, place: Path) -> None:
    (place / "web.json").write_text(json.dumps(GOOD))
    (place / "web.json").chmod(0o622)
    refused: list[str] = []
    assert directory.entries(refused.append) == []
    assert len(refused) == 1


def test_an_entry_under_another_name_is_not_looked_at(directory: Directory, place: Path) -> None:
    (place / "other.json").write_text(json.dumps(GOOD))
    (place / "other.json").chmod(0o600)
    refused: list[str] = []
    assert directory.entries(refused.append) == []
    assert 'expected the name of its file, got "web"' in refused[0]


def test_links_in_the_place_of_a_new_entry_or_log_are_not_followed(directory: Directory, place: Path) -> None:
    outside = place.parent / "outside"
    outside.write_text("stays")
    for name in ("web.json", "web.log", "web.log.1", f".web.{os.getpid()}"):
        (place / name).symlink_to(outside)
    directory.check_free("web")
    directory.add(entry())
    log = Log(directory, "web")
    log.write(b"text")
    log.close()
    assert outside.read_text() == "stays"
    assert directory.find("web").pid == os.getpid()


def test_a_directory_that_is_a_link_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "donjon").symlink_to(tmp_path / "mine")
    with pytest.raises(PlatformError, match=r"cannot use .*donjon for entries of Keeps"):
        Directory()


def test_a_directory_that_others_can_enter_is_refused(place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    place.mkdir()
    place.chmod(0o755)
    with pytest.raises(PlatformError, match=r"expected a directory of this user's with mode 700, got .* with mode 755"):
        Directory()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory another user's")
def test_a_directory_of_another_user_is_refused(place: Path) -> None:
    place.mkdir(parents=True)
    place.parent.chmod(0o700)
    place.chmod(0o700)
    os.chown(place, 65534, 65534)
    with pytest.raises(PlatformError, match="got one of user 65534"):
        Directory()


def test_without_a_runtime_directory_it_is_in_tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = (f"/tmp/donjon-{os.geteuid()}", "keeps")
    for value in ("", "relative", str(tmp_path / "missing")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert registry._steps() == expected


# ---- the form of an entry


def test_a_good_entry_is_read() -> None:
    assert parse(json.dumps(GOOD).encode()).fields() == GOOD


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "../web"}, "name: expected one"),
        ({"name": ".web"}, "name: expected one"),
        ({"name": "w" * 49}, "name: expected one"),
        ({"name": "\x1b[2J"}, "name: expected one"),
        ({"name": 1}, "name: expected short text"),
        ({"pid": 1}, "pid, since: expected numbers that can be"),
        ({"pid": -5}, "pid, since: expected"),
        ({"pid": True}, "pid: expected a number"),
        ({"pid": 1 << 40}, "pid, since: expected"),
        ({"since": 1.5}, "since: expected a number"),
        ({"since": 1 << 41}, "pid, since: expected"),
        ({"detached": 1}, "detached: expected true or false"),
        ({"backend": "x" * 513}, "backend: expected short text"),
        ({"listeners": {}}, "listeners: expected a list"),
        ({"listeners": [1]}, "listeners.: expected objects with name, host, port"),
        ({"listeners": [{"name": "a", "host": "b"}]}, "listeners.: expected objects"),
        ({"listeners": [{"name": "a", "host": "b", "port": 0}]}, "listeners.port: expected 1 to 65535"),
        ({"listeners": [{"name": "a", "host": "b", "port": 1}] * 1025}, "listeners: expected at most 1024"),
        ({"more": 1}, "top: expected an object with name, pid"),
    ],
)
def test_an_entry_in_another_form_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(json.dumps({**GOOD, **changes}).encode())
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"[" * 60_000, "expected JSON"),
        (b"[]", "top: expected an object"),
        (b"null", "top: expected an object"),
        (b"9" * 60_000, ""),
        (b" " * 65_537, "expected at most 65536 bytes"),
    ],
)
def test_what_is_no_entry_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert text in caught.value.message


@pytest.mark.parametrize("name", ["", "-x", ".x", "a/b", "a b", "ä", "x" * 49, "a\n"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name: expected a name of 1 to 48 letters"):
        check_name(name)


@pytest.mark.parametrize("module", ["web.wasm", "/a/b/web.wat", "-.wasm", "ä.wasm", "x" * 300, "..", ""])
def test_a_made_up_name_can_be_one(module: str) -> None:
    names = {fresh_name(module) for _ in range(20)}
    for name in names:
        check_name(name)
    assert len(names) > 15


# ---- stopping


def _child(script: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"x"
    return process


def test_a_keep_that_ends_is_not_killed() -> None:
    with _child("import os, time; os.write(1, b'x'); time.sleep(60)") as process:
        assert stop(entry("web", process.pid, birth_of(process.pid)), 10) is False
        assert process.wait(10) == -signal.SIGTERM


def test_a_keep_that_does_not_end_is_killed() -> None:
    script = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.write(1, b'x'); time.sleep(60)"
    with _child(script) as process:
        begun = time.monotonic()
        assert stop(entry("web", process.pid, birth_of(process.pid)), 0.3) is True
        assert process.wait(10) == -signal.SIGKILL
        assert time.monotonic() - begun >= 0.3


def test_another_process_with_its_number_is_left_alone() -> None:
    with _child("import os, time; os.write(1, b'x'); time.sleep(60)") as process:
        assert stop(entry("web", process.pid, "then"), 10) is False
        assert process.poll() is None
        process.kill()


def test_one_that_has_ended_needs_no_signal() -> None:
    with _child("import os; os.write(1, b'x')") as process:
        process.wait()
    assert stop(entry("web", process.pid, "then"), 10) is False


# ---- logs


def test_a_log_keeps_the_newest_and_is_nobody_elses(directory: Directory, place: Path) -> None:
    log = Log(directory, "web", most=1000)
    for number in range(1000):
        log.write(b"%04d\n" % number)
    log.write(b"x" * 2500)
    log.close()
    older, newest = (place / "web.log.1").read_bytes(), (place / "web.log").read_bytes()
    assert (len(older), len(newest)) == (1000, 500)
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
    assert older + newest == b"x" * 1500


def test_a_new_keep_of_a_name_has_a_log_of_its_own(directory: Directory, place: Path) -> None:
    for text in (b"first", b"second"):
        log = Log(directory, "web", most=3)
        log.write(text)
        log.close()
    assert (place / "web.log.1").read_bytes() + (place / "web.log").read_bytes() == b"second"


def test_logs_of_the_last_that_have_ended_are_kept(directory: Directory, place: Path) -> None:
    for number in range(registry.OLD_LOGS + 5):
        Log(directory, f"k{number}").close()
        os.utime(place / f"k{number}.log", (number, number))
    directory.add(entry("k0"))  # the oldest, and it runs
    directory.forget_old_logs()
    kept = {path.name for path in place.glob("*.log")}
    assert kept == {"k0.log", *(f"k{number}.log" for number in range(5, registry.OLD_LOGS + 5))}
    assert {path.name for path in place.glob("*.log.1")} == {f"{name}.1" for name in kept}
