"""A fork that is asked one thing: what it holds, what it may say, and what ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.keep.vm.apart import AT_ONCE, Apart
from donjon.keep.vm.loop import Loop
from tests.keep.vm.yard import Yard


def hang() -> bytes:
    time.sleep(600)
    return b""


def ignore(_answer: bytes) -> None:
    pass


def breaks() -> bytes:
    raise RuntimeError


@pytest.mark.parametrize(
    ("find", "seconds", "wanted"),
    [
        pytest.param(lambda: b"7" * 100, 20.0, b"7" * 100, id="as much as there may be"),
        pytest.param(lambda: b"7" * 101, 20.0, b"", id="too much"),
        pytest.param(lambda: bytes(8 << 20), 20.0, b"", id="more than anybody wants to read"),
        pytest.param(breaks, 20.0, b"", id="it breaks off"),
        pytest.param(hang, 0.05, b"", id="its time is over"),
    ],
)
def test_it_answers_once_and_is_gone(yard: Yard, find: Callable[[], bytes], seconds: float, wanted: bytes) -> None:
    found: list[bytes] = []
    asked = Apart(yard.loop, find, found.append, seconds, 100)
    yard.until(lambda: found)
    assert found == [wanted]
    assert len(asked._answer) <= 100 + AT_ONCE
    assert not Path(f"/proc/{asked.pid}").exists()
    asked.close()


def test_it_keeps_nothing_of_ours_open(yard: Yard) -> None:
    """Else what is closed here would stay open for others while it works."""
    client, _ = yard.both()
    asked = Apart(yard.loop, hang, ignore, 60.0, 1)
    folder = Path(f"/proc/{asked.pid}/fd")
    yard.until(lambda: len(list(folder.iterdir())) == 4)
    shown = {os.readlink(one) for one in folder.iterdir()}
    assert shown == {os.devnull, os.readlink(f"/proc/self/fd/{asked._reader}")}
    yard.relay.close()
    assert yard.ended(client) == "reset"
    asked.close()
    assert not folder.exists()


def test_it_ends_with_its_parent(yard: Yard) -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        Apart(Loop(), hang, ignore, 60.0, 1)
        os.write(writer, b"x")
        time.sleep(600)
        os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"x"
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        assert len(children) == 1
    finally:
        os.kill(parent, 9)
        os.waitpid(parent, 0)
        os.close(reader)
    yard.until(lambda: not is_running(int(children[0])))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_where_there_is_none_nothing_is_left_open(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        Apart(yard.loop, hang, ignore, 60.0, 1)
    assert os.listdir("/proc/self/fd") == before
