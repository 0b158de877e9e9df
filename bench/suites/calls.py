"""What one WASI call costs, as the guest itself sees it: the same module on Donjon and on the engine's own WASI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import donjon_adapter
from bench.calls_wat import CALLS
from bench.results import OURS, Row, Sample, Target
from bench.rounds import interleave
from bench.setting import HERE, BenchError, Setting

__all__ = ["measure", "parse"]

ENGINE = "engine's own WASI"
TARGETS = {"fd_write": 1.8}
WHAT = {
    "fd_write": "fd_write, 64 B to /dev/null",
    "fd_read": "fd_read, 64 B from /dev/zero",
    "random_get": "random_get, 16 B",
    "poll_oneoff": "poll_oneoff, 1 descriptor, ready",
}


def measure(setting: Setting) -> Sequence[Row]:
    """One row a function, in microseconds for a call."""
    count = 1000 if setting.quick else 100_000
    module = setting.calls(count)
    contenders: dict[str, Callable[[], dict[str, float]]] = {}
    if setting.donjon:
        contenders[OURS] = lambda: on_donjon(setting, module, count)
    contenders[ENGINE] = lambda: on_engine(setting, module, count)
    results = interleave(contenders, setting.rounds, warm_up=1)
    return [
        Row(
            "calls",
            WHAT.get(name, name),
            "us",
            "less",
            {who: [Sample(result[name]) for result in found] for who, found in results.items()},
            [Target(TARGETS[name], ENGINE)] if name in TARGETS else [],
        )
        for name in CALLS
    ]


def on_donjon(setting: Setting, module: Path, count: int) -> dict[str, float]:
    with open("/dev/zero", "rb") as zero:
        done = subprocess.run(
            donjon_adapter.run(setting, module),
            stdin=zero,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=setting.environment(),
            text=True,
            check=False,
        )
    return parse(done.stderr, count)


def on_engine(setting: Setting, module: Path, count: int) -> dict[str, float]:
    report = setting.build / "calls.txt"
    script = HERE / "peers" / "wasmtime_calls.py"
    done = subprocess.run(
        [sys.executable, str(script), str(module), str(report)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{script.name} failed: {done.stderr[-500:]}")
    return parse(report.read_text(), count)


def parse(report: str, count: int) -> dict[str, float]:
    """Microseconds for one call, by function, from what the module reported.

    Raises:
        BenchError: a function is missing, or one of its calls failed.
    """
    found = {}
    for words in map(str.split, report.splitlines()):
        if len(words) == 3 and words[0] in CALLS:
            if words[2] != "0":
                raise BenchError(f"{words[0]} failed with errno {words[2]}")
            found[words[0]] = int(words[1]) / count / 1e3
    if missing := CALLS.keys() - found.keys():
        raise BenchError(f"no time for {', '.join(sorted(missing))}; the guest said: {report[-500:]}")
    return found
