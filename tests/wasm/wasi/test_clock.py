"""clock_*, random_get, sched_yield: functions that touch no descriptor."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.wasm.wasi.lab import FREE, PAGE, SIZE, Lab

CLOCKS: list[Callable[[], int]] = [time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns]


@pytest.mark.parametrize("clock", range(4))
def test_tells_the_time_of_the_host(lab: Lab, clock: int) -> None:
    before = CLOCKS[clock]()
    with lab.writes_only((FREE, 8)):
        lab.ok("clock_time_get", clock, 10**9, FREE)
    assert before <= lab.u64(FREE) <= CLOCKS[clock]()


@pytest.mark.parametrize("clock", range(4))
def test_tells_how_exact_a_clock_is(lab: Lab, clock: int) -> None:
    with lab.writes_only((FREE, 8)):
        lab.ok("clock_res_get", clock, FREE)
    assert 1 <= lab.u64(FREE) <= 10**8


@pytest.mark.parametrize("clock", [4, 5, 2**31, 2**32 - 1])
def test_there_are_four_clocks(lab: Lab, clock: int) -> None:
    with lab.writes_only():
        assert lab.fails("clock_time_get", clock, 0, FREE) == "inval"
        assert lab.fails("clock_res_get", clock, FREE) == "inval"


@pytest.mark.parametrize(("start", "length"), [(FREE, 64), (FREE + 1, 1), (0, SIZE), (SIZE - 1, 1), (SIZE, 0), (7, 0)])
def test_fills_a_buffer_with_random_bytes_and_nothing_else(lab: Lab, start: int, length: int) -> None:
    before = bytes(lab.memory)
    with lab.writes_only((start, length)):
        lab.ok("random_get", start, length)
    if length >= 64:
        assert bytes(lab.memory) != before
        first = lab.get(start, 64)
        lab.ok("random_get", start, length)
        assert lab.get(start, 64) != first


@pytest.mark.parametrize(
    ("start", "length"), [(SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (2**32 - 1, 2**32 - 1), (FREE, 2**31)]
)
def test_random_bytes_stay_inside_memory(lab: Lab, start: int, length: int) -> None:
    with lab.writes_only():
        assert lab.fails("random_get", start, length) == "fault"


def test_random_bytes_reach_the_end_of_a_large_buffer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.wasm.wasi.p1.random.PIECE", 1000)
    lab.memory[PAGE : 2 * PAGE] = bytes(PAGE)
    lab.ok("random_get", PAGE, PAGE)
    for start in range(PAGE, 2 * PAGE, 1024):
        assert any(lab.get(start, 1024))


def test_yielding_changes_nothing(lab: Lab) -> None:
    with lab.writes_only():
        lab.ok("sched_yield")
    assert lab.through_wasm("sched_yield") == 0


def test_yielding_lets_the_background_get_on(lab: Lab) -> None:
    ran: list[int] = []
    import os

    read, write = os.pipe()
    try:
        os.write(write, b"x")

        def task(events: int) -> None:
            ran.append(events)
            lab.guest.reactor.remove(read)

        lab.guest.reactor.add(read, 1, task, time.monotonic() + 60)
        for _ in range(3):
            lab.ok("sched_yield")
        assert ran == [1]
    finally:
        os.close(read)
        os.close(write)
