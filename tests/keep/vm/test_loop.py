"""One thread's waiting: what is ready is called, what is forgotten is not."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.keep.vm.loop import IN, OUT, Loop


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


Pair = tuple[socket.socket, socket.socket]


def test_a_descriptor_is_called_while_it_is_ready(loop: Loop, pair: Pair) -> None:
    called: list[int] = []
    loop.watch(pair[0].fileno(), IN, called.append)
    loop.turn(0)
    assert called == []
    pair[1].send(b"x")
    loop.turn(5)
    loop.turn(5)
    assert called == [IN, IN]
    loop.watch(pair[0].fileno(), IN | OUT, called.append)
    loop.turn(5)
    assert called[2:] == [IN | OUT]
    loop.watch(pair[0].fileno(), 0, called.append)
    loop.turn(0)
    loop.forget(pair[0].fileno())
    assert len(called) == 3


def test_what_an_earlier_call_has_forgotten_is_not_called(loop: Loop, pair: Pair) -> None:
    called: list[int] = []

    def first(number: int) -> None:
        called.append(number)
        for one in pair:
            loop.forget(one.fileno())

    for index, one in enumerate(pair):
        loop.watch(one.fileno(), OUT, lambda _events, index=index: first(index))  # type: ignore[misc]
    loop.turn(5)
    assert len(called) == 1


def test_a_number_that_is_given_away_again_does_not_get_the_old_ones_events(loop: Loop, pair: Pair) -> None:
    """A connection is closed, and the next one has its number, all within one turn."""
    others = socket.socketpair()
    said: list[str] = []

    def close(which: socket.socket) -> None:
        loop.forget(which.fileno())
        os.dup2(others[0].fileno(), which.fileno())  # the same number, another file
        loop.watch(which.fileno(), IN, lambda _events: said.append("new"))

    def first(which: socket.socket) -> None:
        if not said:
            said.append("first")
            close(pair[1] if which is pair[0] else pair[0])

    with others[0], others[1]:
        for one in pair:
            one.send(b"x")
        for one in pair:
            loop.watch(one.fileno(), IN, lambda _events, one=one: first(one))  # type: ignore[misc]
        loop.turn(5)
        assert said == ["first"]
        others[1].send(b"x")
        loop.turn(5)
        assert said == ["first", "new"]


def test_what_is_watched_anew_within_a_turn_is_called_in_the_next(loop: Loop, pair: Pair) -> None:
    called: list[str] = []

    def anew(_events: int) -> None:
        called.append("first")
        for one in pair:
            loop.watch(one.fileno(), OUT, lambda _events: called.append("again"))

    for one in pair:
        loop.watch(one.fileno(), OUT, anew)
    loop.turn(5)
    assert called == ["first"]
    loop.turn(5)
    assert called == ["first", "again", "again"]


def test_a_file_is_always_ready(loop: Loop, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        called: list[int] = []
        loop.watch(file.fileno(), OUT, called.append)
        begun = time.monotonic()
        loop.turn(None)
        loop.turn(60)
        assert called == [OUT, OUT]
        assert time.monotonic() - begun < 30
        loop.forget(file.fileno())
        loop.turn(0)
        assert len(called) == 2


def test_timers_come_in_order_and_not_when_cancelled(loop: Loop) -> None:
    called: list[str] = []
    loop.after(0.02, lambda: called.append("second"))
    loop.after(0.0, lambda: called.append("first"))
    loop.after(0.01, lambda: called.append("never")).cancel()
    loop.after(3600, lambda: called.append("in an hour")).cancel()
    end = time.monotonic() + 10
    while len(called) < 2:
        assert time.monotonic() < end
        loop.turn(None)
    assert called == ["first", "second"]
