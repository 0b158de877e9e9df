"""The suites: each module has `measure(setting)`, which returns rows in the order in which they are shown."""

from collections.abc import Callable, Sequence

from bench.results import Row
from bench.setting import Setting
from bench.suites import calls, echo, handshakes, hostile, memory, start, steward, verify, vm

__all__ = ["SUITES"]

SUITES: dict[str, Callable[[Setting], Sequence[Row]]] = {
    "start": start.measure,
    "calls": calls.measure,
    "tcp": echo.measure_tcp,
    "tls": echo.measure_tls,
    "handshakes": handshakes.measure,
    "memory": memory.measure,
    "verify": verify.measure,
    "steward": steward.measure,
    "hostile": hostile.measure,
    "vm": vm.measure,
    "vmnet": vm.measure_network,
}
"""Name, as `--only` takes it, to what measures it."""
