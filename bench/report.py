"""Shows rows: one table for a terminal, the same in Markdown, and everything in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from bench.results import OURS, Row, summary

__all__ = ["as_json", "markdown", "text"]

HEADINGS = ("what", "who", "median", "least - most", "CPU each", "donjon / this", "(rounds)", "target", "verdict")
LEFT = {0, 1, 8}
"""Columns with words; the others hold numbers, which end at the right."""


def text(rows: Sequence[Row]) -> str:
    """The table in aligned columns; a row's name stands at its first contender only."""
    lines = [HEADINGS, *table(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row], machine: Mapping[str, str], notes: Sequence[str]) -> str:
    """The same table, with what it was measured on."""
    lines = [f"- {name}: {value}" for name, value in machine.items()] + [f"- note: {note}" for note in notes]
    rule = ["---" if column in LEFT else "---:" for column in range(len(HEADINGS))]
    cells = [HEADINGS, rule, *table(rows)]
    return "\n".join([*lines, "", *(f"| {' | '.join(line)} |" for line in cells)]) + "\n"


def as_json(rows: Sequence[Row], machine: Mapping[str, str], notes: Sequence[str]) -> str:
    """Every sample, in order of rounds, with the sums that the table shows."""
    return json.dumps({"machine": machine, "notes": notes, "rows": [whole(row) for row in rows]}, indent=1) + "\n"


def table(rows: Sequence[Row]) -> Iterable[tuple[str, ...]]:
    for row in rows:
        for number, (who, samples) in enumerate(row.samples.items()):
            middle, least, most, cpu = summary(samples)
            ratio, target = row.ratio(who), row.target(who)
            words = "at most" if row.better == "less" else "at least"
            yield (
                row.name if number == 0 else "",
                who,
                f"{figure(middle)} {row.unit}",
                f"{figure(least)} - {figure(most)}",
                f"{figure(cpu)} {row.cpu_unit}" if cpu is not None else "",
                f"{ratio.middle:.2f}" if ratio else "",
                f"{ratio.least:.2f} - {ratio.most:.2f}" if ratio else "",
                f"{words} {target.bound:g}{f' {row.unit}' if who == OURS else ''}" if target else "",
                row.verdict(who),
            )


def figure(value: float) -> str:
    """Three digits that mean something: 0.0734, 1.21, 58.3, 731, 66,800."""
    if abs(value) >= 1000:
        return f"{round(value, -2 if abs(value) >= 10_000 else -1):,.0f}"
    digits = next((digits for limit, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)) if abs(value) >= limit), 4)
    return f"{value:.{digits}f}"


def whole(row: Row) -> dict[str, object]:
    contenders = []
    for who, samples in row.samples.items():
        middle, least, most, cpu = summary(samples)
        ratio, target = row.ratio(who), row.target(who)
        contenders.append(
            {
                "who": who,
                "median": middle,
                "least": least,
                "most": most,
                "cpu": cpu,
                "samples": [asdict(sample) for sample in samples],
                "ratio": asdict(ratio) if ratio else None,
                "target": target.bound if target else None,
                "verdict": row.verdict(who),
            }
        )
    return {
        "suite": row.suite,
        "name": row.name,
        "unit": row.unit,
        "cpu_unit": row.cpu_unit,
        "better": row.better,
        "contenders": contenders,
    }
