"""Messages a second through an echo service: one message in flight on each connection.

With 16 connections the services have a CPU of their own and the load generator another. With one connection both share
a CPU: apart, each message would wait twice for a sleeping CPU to wake, which takes several times as long as the service
itself (60 us against 7 in a virtual machine) and would hide what is to be measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import machine
from bench.results import Row, Sample, Target
from bench.rounds import turned
from bench.servers import NATIVE, all_running, drive, services
from bench.setting import Setting

__all__ = ["measure_tcp", "measure_tls", "places"]

SIZES = {64: "64 B", 1024: "1 KiB", 65536: "64 KiB"}
CONNECTIONS = (1, 16)
TCP_TARGETS = {64: 0.75, 1024: 0.75, 65536: 0.88}
TLS_TARGETS = {64: 0.78, 65536: 0.85}


def measure_tcp(setting: Setting) -> Sequence[Row]:
    """Plain TCP."""
    return measure(setting, "tcp", "TCP echo", TCP_TARGETS, tls=False)


def measure_tls(setting: Setting) -> Sequence[Row]:
    """TLS 1.3, AES-256-GCM."""
    return measure(setting, "tls", "TLS 1.3 echo", TLS_TARGETS, tls=True)


def places(connections: int) -> tuple[int | None, int | None]:
    """The CPUs for service and load generator; None where the system does not let us choose."""
    available = machine.cpus()
    if not available:
        return None, None
    return available[-1], available[-1] if connections == 1 else available[0]


def measure(setting: Setting, suite: str, title: str, targets: dict[int, float], *, tls: bool) -> Sequence[Row]:
    """All sizes and numbers of connections; services are started anew in each round."""
    seconds = 0.1 if setting.quick else 0.6
    sizes = [64] if setting.quick else list(SIZES)
    cases = [(size, connections) for size in sizes for connections in CONNECTIONS]
    names = list(services(setting, tls=tls))
    results: dict[tuple[int, int], dict[str, list[Sample]]] = {case: {name: [] for name in names} for case in cases}
    for number in range(setting.rounds):
        with all_running(setting, places(1)[0], tls=tls) as servers:
            for size, connections in cases:
                cpu = places(connections)[1]
                for name in turned(names, number):
                    seen = drive(setting, servers[name], "echo", size, connections, seconds, cpu, tls=tls)
                    results[size, connections][name].append(Sample(seen.rate, seen.cpu))
    return [
        Row(
            suite,
            f"{title}, {SIZES[size]} x {connections}",
            "msg/s",
            "more",
            results[size, connections],
            [Target(targets[size], NATIVE)] if size in targets else [],
        )
        for size, connections in cases
    ]
