"""What a keeper starts; Keeps that go on by themselves are in tests/system/test_keeps.py, logs in test_registry.py."""

from __future__ import annotations

import os
import sys

import pytest

from donjon.keep import detached


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_nothing_is_started_for_a_keeper_that_has_ended_already() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        detached._become(["--version"], os.getpid(), writer, writer)  # another than who forked it, as an orphan's
    os.close(writer)
    with open(reader, "rb") as output:
        said = output.read()
    assert (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said) == (1, b"")
