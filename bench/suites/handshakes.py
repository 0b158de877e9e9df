"""Connect, full TLS 1.3 handshake, echo one message, close: how many a second.

A client's half of a handshake costs more than a server's, so the rate says more about the load generator than about the
service; the service's own CPU time for a connection is therefore a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bench.results import Row, Sample, Target
from bench.rounds import turned
from bench.servers import NATIVE, Measured, all_running, drive, services
from bench.setting import Setting
from bench.suites.echo import places

__all__ = ["measure"]

AT_ONCE = (1, 16)


def measure(setting: Setting) -> Sequence[Row]:
    """Rates, and the CPU time of one connection, each one at a time and 16 at once."""
    seconds = 0.1 if setting.quick else 1.0
    names = list(services(setting, tls=True))
    results: dict[int, dict[str, list[Measured]]] = {count: {name: [] for name in names} for count in AT_ONCE}
    for number in range(setting.rounds):
        with all_running(setting, places(1)[0], tls=True) as servers:
            for count in AT_ONCE:
                for name in turned(names, number):
                    seen = drive(setting, servers[name], "churn", 64, count, seconds, places(count)[1], tls=True)
                    results[count][name].append(seen)
    rows = []
    for count, found in results.items():
        title = "TLS 1.3 connections, one at a time" if count == 1 else f"TLS 1.3 connections, {count} at once"
        rate = {name: [Sample(each.rate, each.cpu) for each in seen] for name, seen in found.items()}
        cpu = {name: [Sample(each.cpu) for each in seen if each.cpu is not None] for name, seen in found.items()}
        rows.append(row(title, "conn/s", "more", rate, [Target(0.85, NATIVE)]))
        if all(len(seen) == setting.rounds for seen in cpu.values()):
            rows.append(row(f"{title}: CPU", "us", "less", cpu, []))
    return rows


def row(
    title: str, unit: str, better: Literal["less", "more"], samples: dict[str, list[Sample]], targets: list[Target]
) -> Row:
    return Row("handshakes", title, unit, better, samples, targets)
