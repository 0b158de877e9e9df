"""Colours, columns, and a log that never fails a run."""

from __future__ import annotations

import os

import pytest

from donjon.cli import tui
from donjon.errors import UsageError


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all descriptors were a terminal with colours."""
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("terminal")
def test_colours_on_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    tui.error("no", "yes")
    assert capfd.readouterr().err == "donjon: \x1b[31merror:\x1b[0m no\ndonjon: \x1b[1mhint:\x1b[0m yes\n"
    assert tui.mark(passed=True) == "\x1b[32m✔\x1b[0m"
    assert tui.mark(passed=False) == "\x1b[31m✗\x1b[0m"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colours_when_asked_for_none(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert tui.bold("x") == tui.red("x") == tui.green("x") == "x"


def test_no_colours_where_no_terminal_is() -> None:
    reader, writer = os.pipe()
    assert not tui.colours(writer)
    os.close(reader)
    os.close(writer)
    assert not tui.colours(writer)


@pytest.mark.usefixtures("terminal")
def test_a_note_is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    tui.note("done")
    assert capfd.readouterr() == ("", "donjon: done\n")


def test_a_note_is_not_for_programs(capfd: pytest.CaptureFixture[str]) -> None:
    tui.note("done")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param("60", 60, id="COLUMNS counts"),
        pytest.param("500", tui.WIDEST, id="lines stay readable"),
        pytest.param("0", 80, id="none is not a width"),
        pytest.param("x", 80, id="a word is not a width"),
    ],
)
def test_width(columns: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: os.terminal_size((80, 24)))
    assert tui.width() == expected


def test_table_wraps_its_second_column_and_gives_long_names_a_line() -> None:
    rows = [
        ("a", "one two three four five six seven"),
        ("a name that is much too long for its column", "x"),
        ("b", "l1\nl2"),
        ("c", ""),
    ]
    assert tui.table(rows, wide=50) == (
        "  a                         one two three four five\n"
        "                            six seven\n"
        "  a name that is much too long for its column\n"
        "                            x\n"
        "  b                         l1\n"
        "                            l2\n"
        "  c\n"
    )


def test_logger_writes_to_its_target(capfd: pytest.CaptureFixture[str]) -> None:
    tui.logger("info", "stderr").info("a")
    tui.logger("debug", "stdout").debug("b", "donjon.tls")
    assert capfd.readouterr() == ("donjon: debug: [donjon.tls] b\n", "donjon: a\n")


def test_logger_refuses_a_filter_that_is_none() -> None:
    with pytest.raises(UsageError):
        tui.logger("loud", "stderr")


def test_a_log_nobody_reads_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(tui, "STDERR", writer)
    tui.logger("info", "stderr").info("lost")
    os.close(writer)
    tui.logger("info", "stderr").info("lost too")


def test_all_of_a_text_arrives_though_the_pipe_is_full_and_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got = b""
    real = os.write

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal got
        try:
            return real(descriptor, data)
        except BlockingIOError:
            got += os.read(reader, 1 << 20)
            raise

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(tui, "STDOUT", writer)
    text = "line\n" * 100_000
    tui.write(text)
    os.close(writer)
    while part := os.read(reader, 1 << 20):
        got += part
    os.close(reader)
    assert got.decode() == text
