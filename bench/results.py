"""From samples to ratios and verdicts. Nothing here measures anything.

In every round each contender is measured once, one right after the other, so that what disturbs a machine disturbs all
of them alike. Ratios are therefore taken inside a round and only then summed up by their median.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

__all__ = ["OURS", "Ratio", "Row", "Sample", "Target", "summary"]

OURS = "donjon"
"""The contender that every other one is compared with."""


@dataclass(frozen=True)
class Sample:
    """One contender, measured once.

    Args:
        value: in the unit of its row.
        cpu: CPU time of the contender for one message, start or call, in the row's `cpu_unit`; None if not known.
    """

    value: float
    cpu: float | None = None


@dataclass(frozen=True)
class Target:
    """What a row should reach.

    Args:
        bound: the number; "at most" where less is better, "at least" where more is.
        peer: whose measure the bound is a multiple of; None if the bound is in the unit of the row.
    """

    bound: float
    peer: str | None = None


@dataclass(frozen=True)
class Ratio:
    """Ours divided by a peer's, over the rounds in which both were measured."""

    middle: float
    least: float
    most: float


@dataclass(frozen=True)
class Row:
    """One thing that was measured, for all contenders.

    Args:
        suite: short name of the suite, as `--only` takes it.
        name: what was measured, for the table.
        unit: unit of the samples' values.
        better: which direction is good.
        samples: contender to samples, in order of rounds; the order of contenders is that of the table.
        targets: what to reach; none means that the row is only recorded.
        cpu_unit: unit of the samples' CPU time.
    """

    suite: str
    name: str
    unit: str
    better: Literal["less", "more"]
    samples: Mapping[str, Sequence[Sample]]
    targets: Sequence[Target] = field(default=())
    cpu_unit: str = "us"

    def ratio(self, peer: str) -> Ratio | None:
        """Ours divided by `peer`'s, pair by pair; None for ours itself, or if one of the two was not measured."""
        pairs = zip(self.samples.get(OURS, ()), self.samples.get(peer, ()), strict=False)
        ratios = [ours.value / other.value for ours, other in pairs if other.value]
        if peer == OURS or not ratios:
            return None
        return Ratio(median(ratios), min(ratios), max(ratios))

    def target(self, contender: str) -> Target | None:
        """The target that belongs on the contender's line: absolute ones on ours, relative ones on the peer's."""
        wanted = None if contender == OURS else contender
        return next((target for target in self.targets if target.peer == wanted), None)

    def verdict(self, contender: str) -> str:
        """ "reached by 0.12" or "missed by 0.03", and whether single rounds say otherwise; empty without a target."""
        target = self.target(contender)
        if target is None:
            return ""
        if target.peer is None:
            values = [sample.value for sample in self.samples.get(OURS, ())]
            measured = Ratio(median(values), min(values), max(values)) if values else None
        else:
            measured = self.ratio(target.peer)
        if measured is None:
            return "not measured"
        sign = 1 if self.better == "more" else -1
        margin = sign * (measured.middle - target.bound)
        worst, best = sorted(sign * (value - target.bound) for value in (measured.least, measured.most))
        words = f"{'reached' if margin >= 0 else 'missed'} by {abs(margin):.3g}"
        return words + (", rounds disagree" if worst < 0 <= best else "")


def summary(samples: Sequence[Sample]) -> tuple[float, float, float, float | None]:
    """Median, least and most of the values, and the median CPU time (None if any round lacks it).

    Raises:
        statistics.StatisticsError: there are no samples.
    """
    values = [sample.value for sample in samples]
    cpu = [sample.cpu for sample in samples if sample.cpu is not None]
    return median(values), min(values), max(values), median(cpu) if len(cpu) == len(values) else None
