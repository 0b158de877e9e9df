"""Starts the echo services and drives load at them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import donjon_adapter, machine
from bench.results import OURS
from bench.setting import BenchError, Setting

__all__ = ["NATIVE", "PYTHON", "Measured", "Server", "all_running", "drive", "hold", "running", "services"]

NATIVE = "native C"
PYTHON = "pure Python"
START_SECONDS = 60
"""A first start compiles the guest; more than this is an error."""


@dataclass
class Server:
    """A running service: its contender's name, its process, and the port of 127.0.0.1 that it listens on."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        return machine.descendants(self.process.pid)


@dataclass(frozen=True)
class Measured:
    """What a load generator saw.

    Args:
        rate: messages (churn: connections) a second.
        cpu: microseconds of the service's CPU time for each; None if not known.
        p50: median latency in microseconds.
    """

    rate: float
    cpu: float | None
    p50: float


def services(setting: Setting, *, tls: bool) -> dict[str, list[str]]:
    """The echo services that can be run here: name to command."""
    files = [str(path) for path in setting.certificate] if tls else []
    commands: dict[str, list[str]] = {}
    if setting.donjon:
        commands[OURS] = donjon_adapter.serve(setting, "tls" if tls else "tcp")
    if native := setting.native("echo", tls=tls):
        commands[NATIVE] = [str(native), *files]
    commands[PYTHON] = [sys.executable, "-m", "bench.peers.echo", *files]
    return commands


@contextmanager
def running(setting: Setting, name: str, command: list[str], cpu: int | None = None) -> Iterator[Server]:
    """Start a service, wait until it says where it listens, and stop it at the end.

    Args:
        cpu: where to keep it; None lets the system choose.
    Raises:
        BenchError: it ended, or did not say so in time; its last words are in the text.
    """
    log = setting.build / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=setting.environment()
        )
    try:
        machine.on_cpu(process.pid, cpu)
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"listening on \S+:(\d+)", log.read_text(errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{name} does not listen: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.005)
        yield Server(name, process, int(found[1]))
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def all_running(setting: Setting, cpu: int | None, *, tls: bool) -> Iterator[dict[str, Server]]:
    """All services at once, on one CPU. Those that nobody talks to sleep."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(setting, name, command, cpu))
            for name, command in services(setting, tls=tls).items()
        }


def generator(setting: Setting, server: Server, mode: str, size: int, connections: int, *, tls: bool) -> list[str]:
    """The command of the load generator, to be completed with seconds and process ids."""
    native = setting.native("load", tls=tls)
    command = [str(native)] if native else [sys.executable, "-m", "bench.peers.load", *(["--tls"] if tls else [])]
    if not native:
        setting.note("load came from peers/load.py, which is slower than the services: ratios are too near to 1")
    return [*command, mode, str(server.port), str(size), str(connections)]


def drive(
    setting: Setting,
    server: Server,
    mode: str,
    size: int,
    connections: int,
    seconds: float,
    cpu: int | None,
    *,
    tls: bool,
) -> Measured:
    """Load a service for a while.

    Args:
        mode: "echo" or "churn", see native/load.c.
        cpu: where to keep the load generator.
    """
    command = generator(setting, server, mode, size, connections, tls=tls)
    process = subprocess.Popen(
        [*command, str(seconds), ",".join(map(str, server.pids))], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    machine.on_cpu(process.pid, cpu)
    try:
        output, errors = process.communicate(timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise BenchError(f"load on {server.name} did not end: {mode} {size} B x {connections}") from None
    if process.returncode:
        raise BenchError(f"load on {server.name}: {errors.decode(errors='replace').strip()}")
    answer = json.loads(output)
    if not answer["count"]:
        raise BenchError(f"load on {server.name}: no message came back ({mode} {size} B x {connections})")
    cpu_time = answer["cpu"] / answer["count"] * 1e6 if answer["cpu"] >= 0 else None
    return Measured(answer["count"] / answer["seconds"], cpu_time, answer["p50_us"])


def hold(setting: Setting, server: Server, size: int, connections: int, then: Callable[[], None]) -> float:
    """Open TLS connections, be served on each in turn, and call `then` while all are open.

    Returns:
        Messages a second while they were served in turn.
    """
    process = subprocess.Popen(
        generator(setting, server, "hold", size, connections, tls=True),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None  # it is a pipe
    line = process.stdout.readline()
    try:
        if not line:
            _, errors = process.communicate(timeout=10)
            raise BenchError(f"load on {server.name}: {errors.decode(errors='replace').strip()}")
        then()
    finally:
        process.communicate()
    answer = json.loads(line)
    return float(answer["count"] / answer["seconds"])
