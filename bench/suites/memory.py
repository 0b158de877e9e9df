"""What an idle service and an idle connection weigh, and whether a thousand TLS connections are served in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench import machine
from bench.machine import Memory
from bench.results import Row, Sample, Target
from bench.rounds import interleave
from bench.servers import hold, running, services
from bench.setting import BenchError, Setting

__all__ = ["measure"]

SETTLE_SECONDS = 0.2


@dataclass
class Weighed:
    """One service in one round; memory in MB, and for a connection in kB."""

    pss: float
    private: float
    connection: float = 0
    rate: float = 0


def measure(setting: Setting) -> Sequence[Row]:
    """Each service alone, so that it shares pages with few others (this bench's own Python is one of them)."""
    connections = 20 if setting.quick else 1000
    machine.raise_descriptor_limit(connections + 200)
    rounds = min(setting.rounds, 3)
    plain = weigh_all(setting, rounds, 0, tls=False)
    tls = weigh_all(setting, rounds, connections, tls=True)
    if not plain:
        return []
    rows = []
    for title, weighed in (("TCP", plain), ("TLS", tls)):
        pss = {who: [Sample(each.pss) for each in found] for who, found in weighed.items()}
        private = {who: [Sample(each.private) for each in found] for who, found in weighed.items()}
        rows.append(Row("memory", f"idle {title} echo service, PSS", "MB", "less", pss, [Target(15.0)]))
        rows.append(Row("memory", f"idle {title} echo service, private", "MB", "less", private))
    each = {who: [Sample(one.connection) for one in found] for who, found in tls.items()}
    rate = {who: [Sample(one.rate) for one in found] for who, found in tls.items()}
    rows.append(Row("memory", f"one of {connections:,} idle TLS connections", "kB", "less", each))
    rows.append(Row("memory", f"{connections:,} TLS connections, served in turn", "msg/s", "more", rate))
    return rows


def weigh_all(setting: Setting, rounds: int, connections: int, *, tls: bool) -> dict[str, list[Weighed]]:
    commands = services(setting, tls=tls)
    one = next(iter(commands))
    with running(setting, one, commands[one]) as server:
        if machine.memory(server.process.pid) is None:
            setting.note("memory was not measured: this system has no /proc/PID/smaps_rollup")
            return {}
    contenders = {who: partial(weigh, setting, who, command, connections) for who, command in commands.items()}
    return interleave(contenders, rounds)


def weigh(setting: Setting, who: str, command: list[str], connections: int) -> Weighed:
    """Start a service, weigh it idle, open connections and weigh it again."""
    with running(setting, who, command) as server:
        idle = settled(server.process.pid)
        weighed = Weighed(idle.pss, idle.private)
        if connections:
            full: list[Memory] = []
            weighed.rate = hold(setting, server, 64, connections, lambda: full.append(settled(server.process.pid)))
            # Not PSS: the load generator maps the same libraries, which makes the service's share of them smaller.
            weighed.connection = (full[0].anonymous - idle.anonymous) * 1e3 / connections
    return weighed


def settled(pid: int) -> Memory:
    time.sleep(SETTLE_SECONDS)
    found = machine.memory(pid)
    if found is None:
        raise BenchError(f"process {pid} ended while it was weighed")
    return found
