"""Background tasks: those of a deadline are served in time, whatever the guest waits for meanwhile."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

import pytest

from donjon.wasm.wasi.reactor import POLLIN, Reactor

Pipe = tuple[int, int]


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made = [os.pipe() for _ in range(3)]
    yield made
    for ends in made:
        for end in ends:
            os.close(end)


def test_a_task_that_comes_later_and_is_due_earlier_is_served_in_time(pipes: list[Pipe]) -> None:
    reactor, served = Reactor(), list[str]()
    begun = time.monotonic()
    reactor.add(pipes[0][0], POLLIN, lambda _: served.append("late"), begun + 3600)
    poller = select.poll()
    assert reactor.poll(poller, 0.0) == []  # which finds out that an hour is left
    reactor.add(pipes[1][0], POLLIN, lambda _: served.append("early"), begun + 0.1)
    assert reactor.wait(pipes[2][0], POLLIN, 0.3) == 0
    assert served == ["early"]
    assert list(reactor.tasks) == [pipes[0][0]]


def test_a_task_that_is_due_is_served_although_the_guest_always_has_something(pipes: list[Pipe]) -> None:
    reactor, served = Reactor(), list[int]()
    reactor.add(pipes[0][0], POLLIN, served.append, time.monotonic() + 0.05)
    os.write(pipes[2][1], b"x")
    end = time.monotonic() + 5
    while not served and time.monotonic() < end:
        assert reactor.wait(pipes[2][0], POLLIN) == POLLIN
    assert served == [0]


def test_what_is_ready_in_the_background_is_served_and_not_reported(pipes: list[Pipe]) -> None:
    reactor, served = Reactor(), list[int]()

    def take(events: int) -> None:
        served.append(events)
        os.read(pipes[0][0], 1)
        reactor.remove(pipes[0][0])

    reactor.add(pipes[0][0], POLLIN, take, time.monotonic() + 3600)
    for number in (0, 2):
        os.write(pipes[number][1], b"x")
    poller = select.poll()
    poller.register(pipes[2][0], POLLIN)
    assert reactor.poll(poller, 1.0) == [(pipes[2][0], POLLIN)]
    assert served == [POLLIN]
    assert reactor.tasks == {}
    assert reactor.poll(poller, 1.0) == [(pipes[2][0], POLLIN)]


def test_a_task_may_take_its_place_anew_when_its_time_is_over(pipes: list[Pipe]) -> None:
    reactor, served = Reactor(), list[int]()

    def again(events: int) -> None:
        served.append(events)
        if len(served) < 3:
            reactor.add(pipes[0][0], POLLIN, again, time.monotonic() + 0.01)

    reactor.add(pipes[0][0], POLLIN, again, time.monotonic())
    reactor.drain(5.0)
    assert served == [0, 0, 0]
