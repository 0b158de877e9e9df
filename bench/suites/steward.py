"""Certificates of one Steward process over HTTP, its record on disk; how long answers take; whether it grows."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench import donjon_adapter, machine
from bench.floor import OPENSSL, SERVICE, Speed, speed, total
from bench.results import OURS, Row, Sample, Target
from bench.rounds import turned
from bench.servers import Server, running
from bench.setting import BenchError, Setting
from bench.suites.echo import places

__all__ = ["measure"]

TITLES = {"snp": "SEV-SNP", "sgx": "SGX", "tdx": "TDX", "cca": "CCA"}
BODIES = 32
"""Different requests, in turn."""
MACHINES = 8
HALF = 0.5
ALL = "everything"


@dataclass(frozen=True)
class Seen:
    """What a load generator saw: requests a second, milliseconds of latency; CPU time of the service in us for each."""

    rate: float
    p50: float
    p99: float
    cpu: float | None


def measure(setting: Setting) -> Sequence[Row]:
    """Capacity with eight clients, then latency at half of it, then memory over many requests."""
    if not setting.donjon:
        return []
    from bench.machines import TEES, World

    world = World.make(datetime.now(UTC), MACHINES)
    roots = setting.build / "roots.pickle"
    roots.write_bytes(pickle.dumps({name: dict(item.anchors) for name, item in world.roots.items()}))
    tees = TEES[:1] if setting.quick else TEES
    everything: list[bytes] = []
    for tee in tees:
        made = [world.request(tee, number) for number in range(2 if setting.quick else BODIES)]
        (setting.build / f"{tee}.pickle").write_bytes(pickle.dumps(made))
        everything += made
    (setting.build / f"{ALL}.pickle").write_bytes(pickle.dumps(everything))
    seconds = 0.3 if setting.quick else 2.0
    cpu, other = places(2)
    found: dict[str, dict[str, list[Any]]] = {tee: {OURS: [], OPENSSL: []} for tee in tees}
    late: dict[str, list[Seen]] = {tee: [] for tee in tees}
    for number in range(setting.rounds):
        known = speed(cpu)
        with serving(setting, cpu) as server:
            for tee in turned(list(tees), number):
                load(setting, server, tee, other, mode="closed", connections=8, count=50)
                seen = load(setting, server, tee, other, mode="closed", connections=8, seconds=seconds)
                found[tee][OURS].append(Sample(seen.rate, seen.cpu))
                if known is not None:
                    found[tee][OPENSSL].append(floor(tee, known))
                half = {"rate": HALF * seen.rate, "seed": number}
                late[tee].append(
                    load(setting, server, tee, other, mode="open", connections=64, seconds=2 * seconds, **half)
                )
    rows = []
    for tee in tees:
        samples = {who: measured for who, measured in found[tee].items() if measured}
        targets = [Target(0.4, OPENSSL)] if OPENSSL in samples else []
        rows.append(Row("steward", f"certificates for {TITLES[tee]}", "1/s", "more", samples, targets))
        p50 = {OURS: [Sample(seen.p50) for seen in late[tee]]}
        p99 = {OURS: [Sample(seen.p99) for seen in late[tee]]}
        rows.append(Row("steward", f"certificates for {TITLES[tee]}, half load: p50", "ms", "less", p50))
        rows.append(
            Row("steward", f"certificates for {TITLES[tee]}, half load: p99", "ms", "less", p99, [Target(25.0)])
        )
    return [*rows, *growth(setting, cpu, other)]


def floor(tee: str, known: Speed) -> Sample:
    needed = total(SERVICE[tee], known)
    return Sample(1 / needed, needed * 1e6)


def growth(setting: Setting, cpu: int | None, other: int | None) -> Sequence[Row]:
    """What is resident when the service is warm, half way, and at the end; requests of all TEEs in turn."""
    count = setting.requests or (100 if setting.quick else 4_000)
    weighed = []
    with serving(setting, cpu) as server:
        load(setting, server, ALL, other, mode="closed", connections=8, count=min(1_000, count))
        for part in (0, count // 2, count - count // 2):
            if part:
                load(setting, server, ALL, other, mode="closed", connections=8, count=part)
            resident = machine.resident(server.process.pid)
            if resident is None:
                setting.note("the Steward's memory was not measured: this system has no /proc/PID/statm")
                return []
            weighed.append(resident)
    start, middle, end = weighed
    setting.note(
        f"the Steward held {start:.1f} MB when warm, {middle:.1f} after half, {end:.1f} after all {count:,} requests"
    )
    samples = {OURS: [Sample(end - start)]}
    return [Row("steward", f"memory that {count:,} certificates cost for good", "MB", "less", samples, [Target(2.0)])]


@contextmanager
def serving(setting: Setting, cpu: int | None) -> Iterator[Server]:
    """A Steward with a new record."""
    state = setting.build / "steward"
    shutil.rmtree(state, ignore_errors=True)
    command = donjon_adapter.steward(setting.build / "roots.pickle", state)
    with running(setting, "steward", command, cpu) as server:
        yield server


def load(setting: Setting, server: Server, bodies: str, cpu: int | None, **options: Any) -> Seen:
    """Send requests and wait until all are answered with 200.

    Args:
        bodies: which, by the name of their file. options: of `bench.peers.post`.
    Raises:
        BenchError: an answer was another one, or none came.
    """
    path = setting.build / f"{bodies}.pickle"
    command = [sys.executable, "-m", "bench.peers.post", str(server.port), str(path), json.dumps(options)]
    before = machine.cpu_seconds(server.process.pid)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    machine.on_cpu(process.pid, cpu)
    output, errors = process.communicate()
    if process.returncode:
        raise BenchError(f"load on the Steward: {errors.decode(errors='replace').strip()[-600:]}")
    answer = json.loads(output)
    after = machine.cpu_seconds(server.process.pid)
    used = (after - before) / answer["count"] * 1e6 if before is not None and after is not None else None
    return Seen(answer["count"] / answer["seconds"], answer["p50"], answer["p99"], used)
