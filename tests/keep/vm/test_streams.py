"""Standard streams between the sallyport and descriptors of ours, which may be slow, full, closed or files."""

from __future__ import annotations

import os
import select
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from donjon.keep.vm.lines import Monitor
from donjon.keep.vm.loop import Loop
from donjon.keep.vm.streams import Input, Output
from donjon.sallyport import frames
from donjon.sallyport.machine import STDIN, STDOUT, WINDOW, State
from tests.sallyport.ends import Ends, move


@pytest.fixture
def ends() -> Ends:
    made = Ends()
    made.reach(State.RUNNING)
    return made


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            try:
                os.close(descriptor)
            except OSError:
                pass


def until(loop: Loop, over: object, turns: int = 10_000) -> None:
    """Turn until `over()`."""
    assert callable(over)
    for _ in range(turns):
        if over():
            return
        loop.turn(0.001)
    raise AssertionError("it does not come to an end")


def write(ends: Ends, output: Output, data: bytes) -> int:
    """The guest writes what it may; how much that is."""
    taken = ends.guest.write(STDOUT, data)
    for event in move(ends.guest, ends.host):
        assert isinstance(event, frames.Stdout)
        output.add(event.data)
    return taken


def test_output_arrives_and_gives_credit(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        output = Output(writer, STDOUT, loop, ends.host)
        data = os.urandom(3 * WINDOW)
        at, got = 0, b""
        while len(got) < len(data):
            at += write(ends, output, data[at:])
            loop.turn(0.01)
            if select.select([reader], [], [], 0)[0]:
                got += os.read(reader, 65536)
            move(ends.host, ends.guest)
        assert got == data
        assert output.idle


def test_a_reader_that_takes_nothing_stops_the_guest_and_not_this_process(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        output = Output(writer, STDOUT, loop, ends.host)
        taken = 0
        for _ in range(200):
            taken += write(ends, output, bytes(65536))
            for _ in range(5):
                loop.turn(0)
            move(ends.host, ends.guest)
        assert ends.guest.room(STDOUT) == 0
        assert not output.idle
        assert WINDOW <= taken <= WINDOW + (1 << 20)  # and what the pipe holds
        assert os.get_blocking(writer), "others have it too"
        left = taken
        while left:
            left -= len(os.read(reader, 65536))
            loop.turn(0)
        assert output.idle


def test_single_bytes_take_no_more_memory_than_they_are(loop: Loop, ends: Ends) -> None:
    with pipe() as (_, writer):
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        output = Output(writer, STDOUT, loop, ends.host)
        tracemalloc.start()
        for _ in range(WINDOW // 8):
            output.add(b"x")
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < WINDOW


def test_a_reader_that_goes_away_breaks_the_guests_stream(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        output = Output(writer, STDOUT, loop, ends.host)
        os.close(reader)
        write(ends, output, b"first")
        until(loop, lambda: output.idle)
        assert [type(event) for event in move(ends.host, ends.guest)] == [frames.Gone]
        output.add(b"what was on its way")
        assert output.idle


def test_a_descriptor_that_was_closed_before_is_a_broken_stream(loop: Loop, ends: Ends) -> None:
    with pipe() as (_, writer):
        os.close(writer)
        output = Output(writer, STDOUT, loop, ends.host)
        write(ends, output, b"first")
        assert output.idle
        assert [type(event) for event in move(ends.host, ends.guest)] == [frames.Gone]


def test_a_file_takes_output_in_large_pieces(loop: Loop, ends: Ends, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        output = Output(file.fileno(), STDOUT, loop, ends.host)
        for _ in range(4):
            write(ends, output, bytes(65536))
        for _ in range(4):
            loop.turn(0)
        assert output.idle
    assert (tmp_path / "file").stat().st_size == 4 * 65536


def test_what_others_made_nonblocking_is_waited_for(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        os.set_blocking(writer, False)
        output = Output(writer, STDOUT, loop, ends.host)
        data = os.urandom(200_000)
        write(ends, output, data)
        for _ in range(100):
            loop.turn(0)
        assert not output.idle
        got = b""
        while len(got) < len(data):
            got += os.read(reader, 65536)
            for _ in range(20):
                loop.turn(0)
        assert got == data


def test_input_is_read_while_the_guest_has_room(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        given = Input(reader, STDIN, loop, ends.host)
        os.set_blocking(writer, False)
        sent, got = 0, 0
        for _ in range(50):
            try:
                sent += os.write(writer, bytes(65536))
            except BlockingIOError:
                pass
            given.refresh()
            loop.turn(0)
            got += sum(len(event.data) for event in move(ends.host, ends.guest))
        assert got == WINDOW, "so much is unread inside"
        assert WINDOW < sent <= WINDOW + (1 << 20)
        ends.guest.consumed(STDIN, got)
        move(ends.guest, ends.host)
        given.refresh()
        loop.turn(0)
        assert sum(len(event.data) for event in move(ends.host, ends.guest)) > 0


def test_the_end_of_input_is_said_once(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        given = Input(reader, STDIN, loop, ends.host)
        os.write(writer, b"last")
        os.close(writer)
        for _ in range(3):
            given.refresh()
            loop.turn(0)
        assert [type(event) for event in move(ends.host, ends.guest)] == [frames.Stdin, frames.End]


def test_input_that_cannot_be_read_has_ended(loop: Loop, ends: Ends, tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        given = Input(folder, STDIN, loop, ends.host)
        given.refresh()
        loop.turn(0)
        assert [type(event) for event in move(ends.host, ends.guest)] == [frames.End]
    finally:
        os.close(folder)


def test_input_that_was_closed_before_has_ended(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, _):
        os.close(reader)
        given = Input(reader, STDIN, loop, ends.host)
        given.refresh()
        given.refresh()
        assert [type(event) for event in move(ends.host, ends.guest)] == [frames.End]


def test_nothing_is_read_for_a_guest_that_has_ended_in_the_same_turn(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        given = Input(reader, STDIN, loop, ends.host)
        given.refresh()
        os.write(writer, b"too late")
        ends.guest.exit(0)
        move(ends.guest, ends.host)
        loop.turn(0)
        assert os.read(reader, 100) == b"too late"
        given.stop()


def test_a_guest_that_wants_no_more_input_gets_none(loop: Loop, ends: Ends) -> None:
    with pipe() as (reader, writer):
        given = Input(reader, STDIN, loop, ends.host)
        given.refresh()
        given.stop()
        os.write(writer, b"x")
        given.refresh()
        loop.turn(0)
        assert move(ends.host, ends.guest) == []


def test_a_monitor_that_has_hung_up_already_is_no_failure(loop: Loop) -> None:
    """A QEMU that has ended at once says why elsewhere."""
    ours, theirs = socket.socketpair()
    theirs.close()
    monitor = Monitor(ours, loop)
    loop.turn(0)
    monitor.close()
    assert monitor.reason == ""
