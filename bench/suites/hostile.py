"""What the worst requests cost that anybody can send: CPU time and memory for one judgement, nothing remembered."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bench import machine
from bench.results import OURS, Row, Sample, Target
from bench.setting import Setting
from bench.suites.echo import places
from bench.suites.verify import forget

__all__ = ["measure"]

USUAL = "a usual request"


def measure(setting: Setting) -> Sequence[Row]:
    """A row for each kind of request, beside a usual one for SEV-SNP."""
    if not setting.donjon:
        return []
    from bench.hostile import hostile
    from bench.machines import World
    from donjon.steward.policy import parse
    from donjon.steward.procedure import Trust, decide

    now = datetime.now(UTC)
    policy = parse("accept_unattested = true\n")
    world, requests = hostile(now)
    usual = World.make(now, 1)
    trust = {name: Trust((roots,)) for name, roots in world.roots.items()}
    usual_trust = {name: Trust((roots,)) for name, roots in usual.roots.items()}
    one = usual.request("snp", 0)

    def judge_usual() -> object:
        return decide(one, usual_trust, policy, now)

    times: dict[str, dict[str, list[Sample]]] = {name: {OURS: [], USUAL: []} for name in requests}
    most = {OURS: [Sample(0.0)], USUAL: [Sample(peak(judge_usual))]}
    with machine.staying_on(places(1)[0]):
        for number in range(setting.rounds):
            for name, data in requests.items():

                def judge(data: bytes = data) -> object:
                    return decide(data, trust, policy, now)

                times[name][OURS].append(Sample(milliseconds(judge)))
                times[name][USUAL].append(Sample(milliseconds(judge_usual)))
                if not number:
                    most[OURS] = [max(most[OURS][0], Sample(peak(judge)), key=lambda sample: sample.value)]
    rows = [Row("hostile", f"hostile, {name}", "ms", "less", found, [Target(50.0)]) for name, found in times.items()]
    return [*rows, Row("hostile", "hostile, the most memory for one", "MB", "less", most, [Target(16.0)])]


def milliseconds(act: Callable[[], object]) -> float:
    """CPU time, the least of three."""
    return min(once(act) for _ in range(3)) * 1e3


def once(act: Callable[[], object]) -> float:
    forget()
    begun = time.process_time()
    act()
    return time.process_time() - begun


def peak(act: Callable[[], object]) -> float:
    """What Python has in memory for it at most, in MB; measured apart, as that takes time."""
    forget()
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
