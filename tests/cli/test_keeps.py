"""`donjon logs` beside a log that is written meanwhile; the commands as users type them are in tests/system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.cli import keeps
from donjon.keep.detached import Log
from donjon.keep.registry import Directory


def test_what_is_written_just_before_a_log_is_turned_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    more = [b"67890abc"]

    def turned(reader: keeps._Log, look: Callable[[keeps._Log], bool] = keeps._Log._turned) -> bool:
        if more:
            log.write(more.pop())  # after the reader has come to the end of what was there
        return look(reader)

    with Directory() as directory, open(tmp_path / "shown", "wb") as shown:
        log = Log(directory, "web", most=10)
        log.write(b"12345")
        monkeypatch.setattr(keeps._Log, "_turned", turned)
        reader = keeps._Log(directory, "web")
        reader.show(shown.fileno())
        reader.close()
        log.close()
    assert (tmp_path / "shown").read_bytes() == b"1234567890abc"
