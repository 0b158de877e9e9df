"""From starting a process to its end, code cached, standard descriptors on /dev/null."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import donjon_adapter
from bench.results import OURS, Row, Sample, Target
from bench.rounds import interleave
from bench.servers import NATIVE
from bench.setting import HERE, BenchError, Setting

__all__ = ["launch", "measure"]

SCRIPT = "wasmtime script"
NODE = "node:wasi"
PYTHON = "python -c pass"


def measure(setting: Setting) -> Sequence[Row]:
    """Hello-world, and CPython (26 MB) doing nothing if it is there."""
    hello = setting.wasm("hello")
    native = setting.native("hello")
    contenders: dict[str, list[str]] = {}
    if setting.donjon:
        contenders[OURS] = donjon_adapter.run(setting, hello)
    if native:
        contenders[NATIVE] = [str(native)]
    contenders[PYTHON] = [sys.executable, "-c", "pass"]
    contenders |= runtimes(setting, hello)
    rows = [row(setting, "hello-world, start to exit", contenders, 8, [Target(0.5, SCRIPT), Target(0.4, NODE)])]
    if python := setting.program("python.wasm"):
        contenders = {OURS: donjon_adapter.run(setting, python, "-c", "pass")} if setting.donjon else {}
        contenders |= {PYTHON: [sys.executable, "-c", "pass"], **runtimes(setting, python, "-c", "pass")}
        rows.append(row(setting, "CPython as a 26 MB module, `-c pass`", contenders, 3, []))
    else:
        setting.note(f"CPython as a module was not started: {setting.programs / 'python.wasm'} is missing")
    return rows


def runtimes(setting: Setting, module: Path, *arguments: str) -> dict[str, list[str]]:
    """The commands of the other runtimes for a module."""
    cache = str(setting.build / f"{module.stem}.cwasm")
    commands = {SCRIPT: [sys.executable, str(HERE / "peers" / "wasmtime_script.py"), str(module), cache, *arguments]}
    if node := shutil.which("node"):
        commands[NODE] = [node, "--no-warnings", str(HERE / "peers" / "node_wasi.mjs"), str(module), *arguments]
    else:
        setting.note("node:wasi was not measured: node is not installed")
    return commands


def row(setting: Setting, name: str, commands: dict[str, list[str]], each: int, targets: list[Target]) -> Row:
    """Measure commands: `each` launches for every round that was asked for."""
    rounds = 2 if setting.quick else each * setting.rounds
    launches = {who: partial(launch, command, setting.environment()) for who, command in commands.items()}
    return Row("start", name, "ms", "less", interleave(launches, rounds, warm_up=2), targets, cpu_unit="ms")


def launch(command: list[str], environment: dict[str, str]) -> Sample:
    """Start a command and wait for its end.

    Returns:
        Wall-clock and CPU time in milliseconds.
    Raises:
        BenchError: it did not end with 0.
    """
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    begun = time.perf_counter()
    pid = os.posix_spawn(command[0], command, environment, file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    elapsed = time.perf_counter() - begun
    if status:
        raise BenchError(f"`{' '.join(command)}` failed with code {os.waitstatus_to_exitcode(status)}")
    return Sample(elapsed * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)
