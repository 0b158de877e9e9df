"""VM Keeps: how long one takes to its first byte of output and what of it is what; its memory; its network.

The machines are virtual: emulated where KVM does not work, which `donjon platform info` tells, and a note here.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench import bare, donjon_adapter
from bench.machine import descendants
from bench.results import OURS, Row, Sample, Target
from bench.rounds import interleave, turned
from bench.servers import NATIVE, Server, drive, running
from bench.setting import BenchError, Setting

__all__ = ["STEPS", "itemise", "measure", "measure_network", "smallest"]

BARE = "bare kernel, busybox"
SAME = "the same, our command line"
STEPS = ("host", "machine", "kernel", "Python", "init", "engine", "attest", "hand-over", "compile", "run")
WHAT = {
    "host": "`donjon run`, until it starts QEMU",
    "machine": "QEMU, firmware, loading",
    "kernel": "kernel, until it starts process 1",
    "Python": "Python, until our first line",
    "init": "process 1: mounts, modules, port",
    "engine": "our modules, the engine's library",
    "attest": "evidence that names the workload",
    "hand-over": "package and descriptor, the Keep's fork",
    "compile": "compile the module",
    "run": "link and run, first byte out",
}
MARKS = {"kernel": "kernel", "Python": "python", "init": "port", "engine": "engine", "attest": "attest",
         "hand-over": "launch", "compile": "compile"}  # fmt: skip
"""Step -> the mark at its end."""
FIRST = "first byte"
"""A line that no Keep writes: its output has begun."""
ATTESTED = "attestation:"
"""How an image's manifest begins what bytes are for that only evidence needs; see `donjon.image.recipe`."""
CASES = ((64, 1), (64, 16), (65536, 1))


def measure(setting: Setting) -> Sequence[Row]:
    """From `posix_spawn` to the first byte, itemised; the smallest memory; the image's size."""
    machine = bare.machine(setting)
    if machine.accel == "tcg":
        setting.note("virtual machines were emulated (TCG), as KVM does not work here: `donjon platform info` says why")
    found: list[dict[str, float]] = []

    def ours() -> Sample:
        sample, steps = start(setting, machine)
        found.append(steps)
        return sample

    contenders: dict[str, Callable[[], Sample]] = {OURS: ours}
    if initrd := bare.busybox(setting):
        contenders[BARE] = lambda: bare.first_byte(setting, machine, initrd, bare.PLAIN)
        contenders[SAME] = lambda: bare.first_byte(setting, machine, initrd, machine.image.cmdline)
    rounds = 1 if setting.quick else 2 * setting.rounds
    samples = interleave(contenders, rounds, warm_up=0 if setting.quick else 1)
    found = found[-rounds:]
    targets = [Target(1.4, BARE)]
    if machine.accel == "tcg":
        targets.append(Target(2900))
    rows = [Row("vm", "hello-world in a VM, spawn to first byte", "ms", "less", samples, targets, cpu_unit="ms")]
    for step in STEPS:
        steps = [Sample(one[step]) for one in found if step in one]
        if steps:
            rows.append(Row("vm", f"… of that: {WHAT[step]}", "ms", "less", {OURS: steps}))
    if machine.accel == "tcg":
        resumed = interleave(
            {OURS: lambda: resume(setting)}, 1 if setting.quick else setting.rounds, warm_up=1
        )  # the first makes the snapshot
        rows.append(
            Row("vm", "the same from a snapshot, for tests", "ms", "less", resumed, [Target(800)], cpu_unit="ms")
        )
    size = os.path.getsize(machine.image.initrd) / 1e6
    rows.append(Row("vm", "initramfs, compressed", "MB", "less", {OURS: [Sample(size)]}))
    size = sum(part["zstd"] for part in machine.image.manifest["purposes"] if not part["purpose"].startswith(ATTESTED))
    rows.append(Row("vm", "… of that, without attestation", "MB", "less", {OURS: [Sample(size / 1e6)]}, [Target(13.0)]))
    if not setting.quick:
        least = smallest(lambda memory: starts(setting, machine, memory), 64, 512)
        rows.append(Row("vm", "smallest memory that works", "MiB", "less", {OURS: [Sample(least)]}, [Target(160)]))
    return rows


def start(setting: Setting, machine: bare.Machine) -> tuple[Sample, dict[str, float]]:
    """One start: until the first byte, and its steps; all in milliseconds."""
    command = donjon_adapter.run(
        setting, setting.wasm("hello"), options=donjon_adapter.machine(machine.accel, bare.MEMORY)
    )
    reader, writer = os.pipe()
    begun = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, env=setting.environment(), text=True
    ) as process:
        os.close(writer)
        assert process.stderr is not None  # it is a pipe
        lines: list[tuple[float, str]] = []
        try:
            with open(reader, "rb", buffering=0) as output:
                spent: list[float | None] = []
                lines = timed(
                    process.stderr.fileno(), output.fileno(), begun,
                    lambda: spent.append(bare.used(descendants(process.pid))),
                )  # fmt: skip
        finally:
            process.terminate()
    first = next((moment for moment, text in lines if text == FIRST), None)
    if first is None:
        raise BenchError(f"a VM Keep said nothing: {' '.join(text for _, text in lines)[-500:]}")
    return Sample(first, spent[0]), itemise(lines)


def resume(setting: Setting) -> Sample:
    """One start from a snapshot, until the first byte; in milliseconds."""
    command = donjon_adapter.from_snapshot(setting.wasm("hello"), setting.build / "snapshots", bare.MEMORY)
    reader, writer = os.pipe()
    begun = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL, env=setting.environment()
    ) as process:
        os.close(writer)
        with open(reader, "rb", buffering=0) as output:
            first = output.read(1)
            sample = Sample((time.perf_counter() - begun) * 1e3, bare.used(descendants(process.pid)))
            while output.read(65536):
                pass
    if not first:
        raise BenchError("a VM Keep from a snapshot said nothing")
    return sample


def timed(words: int, output: int, begun: float, at_first: Callable[[], None]) -> list[tuple[float, str]]:
    """Read both until their ends: when each line of `words` came, in milliseconds, and when the output's first byte.

    Args:
        at_first: called when that has come.
    """
    found: list[tuple[float, str]] = []
    held = b""
    poller = select.poll()
    for descriptor in (words, output):
        poller.register(descriptor, select.POLLIN)
    left = {words, output}
    while left:
        ready = poller.poll(bare.SECONDS * 1e3)
        moment = (time.perf_counter() - begun) * 1e3
        if not ready:
            raise BenchError(f"a VM Keep did not end in {bare.SECONDS:g} s")
        for descriptor, _ in ready:
            data = os.read(descriptor, 65536)
            if not data:
                left.discard(descriptor)
                poller.unregister(descriptor)
            elif descriptor == words:
                *whole, held = (held + data).split(b"\n")
                found += [(moment, line.decode(errors="replace")) for line in whole]
            elif all(text != FIRST for _, text in found):
                found.append((moment, FIRST))
                at_first()
    return found


def itemise(lines: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Steps and their milliseconds, of what a start said and when.

    The machine's clock begins with its kernel. What was before follows from the greeting, which both clocks saw: it was
    sent when the engine was loaded, and takes less than a millisecond.
    """
    marks = {
        match[1]: float(match[2]) * 1e3 for _, text in lines if (match := donjon_adapter.MARK.search(text)) is not None
    }
    host = next((moment for moment, text in lines if donjon_adapter.STARTED.search(text)), None)
    greeted = next((moment for moment, text in lines if donjon_adapter.GREETED.search(text)), None)
    first = next((moment for moment, text in lines if text == FIRST), None)
    if host is None or greeted is None or first is None or "engine" not in marks:
        return {}
    before = greeted - marks["engine"]
    steps = {"host": host, "machine": before - host}
    last = 0.0
    for step, name in MARKS.items():
        if name in marks:
            steps[step] = marks[name] - last
            last = marks[name]
    steps["run"] = first - before - last
    return steps


def starts(setting: Setting, machine: bare.Machine, memory: int) -> bool:
    """Whether hello-world runs in a machine of so many MiB."""
    command = donjon_adapter.run(setting, setting.wasm("hello"), options=donjon_adapter.machine(machine.accel, memory))
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=setting.environment(),
        check=False, timeout=3 * bare.SECONDS,
    )  # fmt: skip
    return done.returncode == 0 and bool(done.stdout)


def smallest(works: Callable[[int], bool], least: int, most: int, step: int = 8) -> int:
    """The smallest multiple of `step` between these that works, where what works with less works with more.

    Raises:
        BenchError: not even the most works.
    """
    low, high = least // step, most // step
    if not works(high * step):
        raise BenchError(f"a VM Keep does not start with {high * step} MiB")
    while low < high:
        middle = (low + high) // 2
        if works(middle * step):
            high = middle
        else:
            low = middle + 1
    return high * step


def measure_network(setting: Setting) -> Sequence[Row]:
    """Echo through a VM Keep's network, plain and TLS, beside a C server in the same kernel and the same QEMU."""
    machine = bare.machine(setting)
    seconds = 0.2 if setting.quick else 1.5
    cases = CASES[:1] if setting.quick else CASES
    rows: list[Row] = []
    for tls in (False, True):
        results: dict[tuple[int, int], dict[str, list[Sample]]] = {case: {} for case in cases}
        options = donjon_adapter.machine(machine.accel, bare.MEMORY)
        command = donjon_adapter.serve(setting, "tls" if tls else "tcp", options)
        with ExitStack() as stack:
            servers: dict[str, Server] = {OURS: stack.enter_context(running(setting, OURS, command))}
            native = stack.enter_context(bare.serving(setting, machine, tls=tls))
            if native is not None:
                servers[NATIVE] = native
            for number in range(setting.rounds):
                for size, connections in cases:
                    for name in turned(list(servers), number):
                        seen = drive(setting, servers[name], "echo", size, connections, seconds, None, tls=tls)
                        value = seen.rate if size < 65536 else seen.rate * size / 1e6
                        results[size, connections].setdefault(name, []).append(Sample(value, seen.cpu))
        title = "TLS 1.3 echo" if tls else "TCP echo"
        for (size, connections), samples in results.items():
            text, unit = ("64 KiB", "MB/s") if size == 65536 else (f"{size} B", "msg/s")
            rows.append(Row("vmnet", f"{title} in a VM, {text} x {connections}", unit, "more", samples))
    return rows
