"""clock_*: the time.   [WASI-P1]

Whoever owns the machine sets its clocks: a guest must not rest a decision about security on them alone.
"""

import time

from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import U64, ClockId, Timestamp

NOW = (time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns)
"""The clocks in the order of Clock's numbers; each gives nanoseconds."""

_NAMES = ("CLOCK_REALTIME", "CLOCK_MONOTONIC", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID")


@wasi()
def clock_res_get(guest: Guest, id: ClockId) -> Timestamp:
    """The smallest step of a clock, in nanoseconds, at least 1.   [WASI-P1 clock_res_get]

    inval: there is no such clock.
    """
    return max(1, round(time.clock_getres(getattr(time, _NAMES[id])) * 1e9))


@wasi()
def clock_time_get(guest: Guest, id: ClockId, precision: U64) -> Timestamp:
    """A clock's time in nanoseconds, as exact as the host has it whatever `precision` says.   [WASI-P1 clock_time_get]

    inval: there is no such clock.
    """
    return NOW[id]()
