"""What comes from a Keep is hostile: any bytes are records that it may send, or end it with an error of ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.errors import BugError, DonjonError, ParseError, TrapError, VerifyError
from donjon.keep.channel import LONGEST, Reporter, error_from, number_in, parse, receive
from donjon.keep.process import MOST_LISTENERS, Keep
from donjon.log import Logger


@contextmanager
def pair() -> Iterator[tuple[Reporter, socket.socket]]:
    keeps, ours = socket.socketpair()
    with keeps, ours:
        yield Reporter(keeps.fileno()), ours


def sent(*fields: str) -> list[str]:
    with pair() as (reporter, ours):
        reporter.send(*fields)
        held = bytearray(ours.recv(2 * LONGEST))
    line = receive(held)
    assert line is not None
    assert not held
    return parse(line)


@given(st.lists(st.text(st.characters()), min_size=1, max_size=20))
def test_what_is_sent_is_what_arrives(fields: list[str]) -> None:
    assert sent(*fields) == fields


def test_text_that_is_not_unicode_arrives_too() -> None:
    assert sent("log", os.fsdecode(b"\xff\0\n\\")) == ["log", "\udcff\0\n\\"]


@pytest.mark.parametrize("character", ["a", "\\", "\n", "é", "名", "😀"])
def test_fields_are_cut_so_that_a_record_is_not_too_long(character: str) -> None:
    fields = sent("error", *[character * LONGEST] * 4)
    assert all(field and set(field) == {character} for field in fields[1:])


@given(st.binary())
def test_any_line_is_fields_or_a_parse_error(line: bytes) -> None:
    try:
        fields = parse(line)
    except ParseError:
        return
    assert all(isinstance(field, str) for field in fields)
    assert fields


@given(st.text())
def test_any_field_is_a_number_in_range_or_a_parse_error(field: str) -> None:
    try:
        assert 0 <= number_in(field, 255) <= 255
    except ParseError:
        pass


@pytest.mark.parametrize("field", ["", "-1", "+1", " 1", "1_0", "²", "٣", "256", "9" * 5000, "0x1"])
def test_a_number_is_decimal_digits_and_within_its_bounds(field: str) -> None:
    with pytest.raises(ParseError, match="expected a number from 0 to 255"):
        number_in(field, 255)


@given(st.lists(st.text(), min_size=1, max_size=8))
def test_any_error_record_is_some_error(fields: list[str]) -> None:
    assert isinstance(error_from(["error", *fields]), DonjonError)


def test_a_trap_keeps_its_code_its_hint_and_its_frames() -> None:
    with pair() as (reporter, ours):
        reporter.send_error(TrapError("it trapped", "unreachable", ("a", "b"), hint="do not"))
        error = error_from(parse(ours.recv(LONGEST).rstrip(b"\n")))
    assert isinstance(error, TrapError)
    assert (error.message, error.code, error.frames, error.hint) == ("it trapped", "unreachable", ("a", "b"), "do not")


def test_an_error_of_a_part_of_ours_arrives_as_its_family() -> None:
    class NarrowerError(VerifyError):
        """As the TLS pipe has."""

    with pair() as (reporter, ours):
        reporter.send_error(NarrowerError("the peer is another"))
        error = error_from(parse(ours.recv(LONGEST).rstrip(b"\n")))
    assert type(error) is VerifyError
    assert error.message == "the peer is another"


def test_an_error_that_is_none_of_ours_arrives_as_a_bug() -> None:
    with pair() as (reporter, ours):
        reporter.send_error(ZeroDivisionError("division by zero"))
        error = error_from(parse(ours.recv(LONGEST).rstrip(b"\n")))
    assert isinstance(error, BugError)
    assert error.message == "internal error: ZeroDivisionError: division by zero"


def test_logging_never_waits_for_a_reader_and_says_what_was_lost() -> None:
    with pair() as (reporter, ours):
        for _ in range(100_000):
            reporter.send_log(5, "donjon.x", "y" * 100)
        got = b""
        ours.setblocking(False)
        while b"dropped" not in got:
            try:
                got += ours.recv(1 << 20)
            except BlockingIOError:
                reporter.send_log(5, "donjon.x", "last")
    assert b"messages dropped: nobody read them in time" in got


# ---- a process that is no honest Keep


HOSTILE = """
import os, sys, time
channel = int(sys.argv[1])
{}
time.sleep(600)
"""


@contextmanager
def hostile(does: str, log: Logger | None = None) -> Iterator[Keep]:
    """A Keep that is ready, whose process is taken over by Python code; `say` sends bytes on its channel."""
    ours, theirs = socket.socketpair()
    say = "\ndef say(data):\n    while data: data = data[os.write(channel, data):]\n"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOSTILE.format(f"{say}say(b'ready\\n')\n{does}"), str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    keep = Keep(ours, process, log or Logger(None))
    with keep:
        keep._await_ready()
        yield keep
    assert process.poll() is not None, "it lives on after the block"


@pytest.mark.parametrize(
    "record",
    [
        pytest.param("b'hello\\n'", id="an unknown record"),
        pytest.param("b'\\n'", id="an empty record"),
        pytest.param("b'listening\\0x\\x00127.0.0.1\\x0080\\n'", id="a listener after the start"),
        pytest.param("b'pid\\x001\\n'", id="another process's number"),
        pytest.param("b'signal\\x009\\n'", id="the warm parent's record"),
        pytest.param("b'exit\\x00256\\n'", id="an exit code over 255"),
        pytest.param("'exit\\0²\\n'.encode()", id="a digit that is no number"),
        pytest.param("b'exit\\x00' + b'9' * 10000 + b'\\n'", id="a number of ten thousand digits"),
        pytest.param("b'log\\x0012\\x00donjon\\x00x\\n'", id="a log level that does not exist"),
        pytest.param("b'log\\x00\\x00donjon\\x00x\\n'", id="no log level"),
        pytest.param("b'log\\x001\\n'", id="a record that is too short"),
        pytest.param("b'log\\x001\\x00donjon\\x00\\xff\\n'", id="bytes that are not UTF-8"),
        pytest.param("b'log\\x001\\x00donjon\\x00\\\\x\\n'", id="an unknown escape"),
        pytest.param("b'log\\x001\\x00donjon\\x00' + b'x' * 100000", id="a record without end"),
        pytest.param("b'log\\x001\\x00donjon\\x00' + b'x' * 70000 + b'\\n'", id="a record that is too long"),
    ],
)
def test_a_keep_that_breaks_the_rules_is_killed(record: str) -> None:
    with hostile(f"say({record})") as keep:
        with pytest.raises(ParseError, match="record of a Keep: expected"):
            keep.wait(10)
        with pytest.raises(ParseError):
            keep.poll()


def test_a_keep_that_tells_of_listeners_without_end_is_stopped() -> None:
    ours, theirs = socket.socketpair()
    keep = Keep(ours, None, Logger(None))
    theirs.sendall(b"".join(b"listening\0%d\0::1\x0080\n" % number for number in range(2000)))
    with theirs, pytest.raises(ParseError, match="listening"):
        keep._await_ready()
    assert len(keep.listeners) == MOST_LISTENERS


def test_a_keep_that_floods_its_owner_can_be_polled_waited_for_and_stopped() -> None:
    seen = [0]

    def count(*_: object) -> None:
        seen[0] += 1

    with hostile("while True: say(b'log\\0005\\0donjon\\0x\\n' * 1000)", Logger(count, "trace")) as keep:
        begun = time.monotonic()
        assert keep.poll() is None
        with pytest.raises(TimeoutError):
            keep.wait(0.2)
        keep.stop()
        assert keep.wait(1) == 143
        assert time.monotonic() - begun < 2
    assert seen[0] > 1000


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        pytest.param("os.close(channel)", "the Keep's process ended by signal 9|137", id="closes its channel"),
        pytest.param("say(b'exit\\x007\\n')", "7", id="says that it ended"),
        pytest.param("say(b'error\\0TrapError\\0x\\n')", "x", id="says that it trapped"),
    ],
)
def test_a_keep_that_says_it_ended_and_does_not_is_killed(
    last: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("donjon.keep.process.FAREWELL_SECONDS", 0.2)
    with hostile(last) as keep:
        try:
            assert str(keep.wait(10)) in outcome.split("|")
        except DonjonError as error:
            assert error.message in outcome.split("|")  # noqa: PT017 - either is right, and hanging is not


def test_a_keep_that_ignores_every_signal_it_can_is_killed_at_the_end_of_the_block() -> None:
    deaf = "import _signal\nfor number in (2, 15, 29): _signal.signal(number, _signal.SIG_IGN)\nsay(b'pid\\n')"
    with hostile(deaf):
        time.sleep(0.2)


def test_log_text_of_a_keep_cannot_move_our_cursor() -> None:
    lines: list[str] = []
    log = Logger(lambda _level, _target, text: lines.append(text))
    with hostile("say(b'log\\x001\\0donjon\\0\\x1b[2J\\r\\n')", log) as keep, pytest.raises(TimeoutError):
        keep.wait(0.5)
    assert lines == ["\\x1b[2J\\r"]
