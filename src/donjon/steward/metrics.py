"""Counters and times of the service, in the text format that Prometheus reads.

    metrics = Metrics()
    metrics.count("requests_total", route="/", status="200")
    metrics.observe("decision_seconds", 0.002, tee="snp")

Labels come from fixed sets (routes, statuses, TEEs, names of checks), never from requests, so the number of series has
a bound; MAX_SERIES is the net below. For one thread, that of the event loop.

Source: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left

PREFIX = "donjon_steward_"
MAX_SERIES = 2000
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds."""
HELP = {
    "requests_total": "Requests answered, by route and status.",
    "decisions_total": "Decisions, by TEE, verdict and the check that failed first.",
    "certificates_total": "Certificates issued, by TEE and what they are marked as.",
    "decision_seconds": "Time that a judgement takes, without the record.",
    "record_seconds": "Time until a decision is on disk.",
    "collateral_age_seconds": "Age of the oldest collateral at hand, since its vendor made it, by TEE and kind.",
    "collateral_pieces": "Pieces of collateral in memory.",
    "collateral_fetches_total": "Questions to vendors, by how they ended.",
    "reloads_total": "Times that SIGHUP had the policy read anew, by how it ended.",
    "record_entries": "Entries in the record.",
    "authority_expiry_seconds": "Time until the authority's certificate ends.",
    "accept_unattested": "1 when evidence that proves nothing is accepted.",
    "build_info": "Version of the program.",
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """All that is counted."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Labels], float] = {}
        self._times: dict[tuple[str, Labels], list[float]] = {}

    def count(self, name: str, **labels: str) -> None:
        """One more."""
        key = (name, tuple(labels.items()))
        if key in self._values or len(self._values) < MAX_SERIES:
            self._values[key] = self._values.get(key, 0) + 1

    def put(self, name: str, value: float, **labels: str) -> None:
        """This many now."""
        self._values[name, tuple(labels.items())] = value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """It took so long."""
        key = (name, tuple(labels.items()))
        if key not in self._times:
            if len(self._times) >= MAX_SERIES:
                return
            self._times[key] = [0.0] * (len(BUCKETS) + 2)  # one for each bucket, above all of them, and the sum
        times = self._times[key]
        times[bisect_left(BUCKETS, seconds)] += 1
        times[-1] += seconds

    def text(self) -> str:
        """Everything, as it is scraped."""
        lines: list[str] = []
        for name in sorted({name for name, _ in self._values}):
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {PREFIX}{name} {HELP[name]}", f"# TYPE {PREFIX}{name} {kind}"]
            series = ((labels, value) for (other, labels), value in self._values.items() if other == name)
            lines += [f"{PREFIX}{name}{_labels(labels)} {value:.17g}" for labels, value in series]
        for name in sorted({name for name, _ in self._times}):
            lines += [f"# HELP {PREFIX}{name} {HELP[name]}", f"# TYPE {PREFIX}{name} histogram"]
            for (other, labels), times in self._times.items():
                if other == name:
                    lines += _histogram(name, labels, times)
        return "\n".join(lines) + "\n"


def _histogram(name: str, labels: Labels, times: list[float]) -> list[str]:
    lines, total = [], 0.0
    for limit, number in zip((*map(str, BUCKETS), "+Inf"), times, strict=False):
        total += number
        lines.append(f"{PREFIX}{name}_bucket{_labels((*labels, ('le', limit)))} {total:.17g}")
    lines.append(f"{PREFIX}{name}_sum{_labels(labels)} {times[-1]:.17g}")
    lines.append(f"{PREFIX}{name}_count{_labels(labels)} {total:.17g}")
    return lines


def _labels(labels: Labels) -> str:
    quoted = (
        '{}="{}"'.format(name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels
    )
    return f"{{{','.join(quoted)}}}" if labels else ""
