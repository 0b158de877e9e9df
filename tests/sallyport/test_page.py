"""docs/sallyport.md says what the code does: its tables are those of the code, and so are its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.sallyport import frames as f
from donjon.sallyport import machine as m

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sallyport.md").read_text(encoding="utf-8")


def frame_rows() -> Iterator[str]:
    """The table of frames."""
    yield "| type | frame | payload | bytes |"
    yield "| --- | --- | --- | --- |"
    for number, kind in sorted(f.TYPES.items()):
        fields = ", ".join(f"{name} {words(field)}" for name, field in kind.FIELDS.items())
        size = f"{kind.LEAST}" if kind.LEAST == kind.MOST else f"{kind.LEAST} to {kind.MOST}"
        yield f"| `{number:#04x}` | {kind.__name__} | {fields or 'nothing'} | {size} |"


def words(field: f.Field) -> str:
    """A field, in short."""
    if isinstance(field, f.Number):
        full = (field.low, field.high) == (0, (1 << 8 * field.size) - 1)
        top = "" if field.high == (1 << 8 * field.size) - 1 else f" to {field.high}"
        return f"u{8 * field.size}" + ("" if full else f" from {field.low}{top}")
    if isinstance(field, f.Raw):
        return f"{field.most} bytes"
    if isinstance(field, f.Rest):
        return "to the end"
    if isinstance(field, f.Several):
        return f"(several: u8 count from {field.fewest} to {field.top}, then each {words(field.field)})"
    assert isinstance(field, f.Words)
    return "one of six" if field.only else f"{'text' if field.breaks else 'line'} {field.shortest} to {field.longest}"


def state_rows() -> Iterator[str]:
    """The table of states."""
    yield "| state | the host may send | the guest may send |"
    yield "| --- | --- | --- |"
    for state in m.STATES:
        yield f"| {state.value} | {sends(m.HOST, state)} | {sends(m.GUEST, state)} |"


def sends(table: dict[m.State, dict[type[f.Frame], m.State]], state: m.State) -> str:
    """A cell."""
    found = []
    for kind, after in sorted(table[state].items(), key=lambda item: item[0].TYPE):
        arrow = "" if after is state else f" → {after.value}"
        if kind is f.Chunk:
            arrow = f" (the last → {m.END[state].value})"
        found.append(kind.__name__ + arrow)
    return ", ".join(found) or "nothing"


@pytest.mark.parametrize("rows", [frame_rows, state_rows])
def test_the_tables_are_those_of_the_code(rows: object) -> None:
    assert "\n".join(rows()) in PAGE  # type: ignore[operator]


def test_the_numbers_are_those_of_the_code() -> None:
    named = dict(re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", PAGE, re.MULTILINE))
    assert len(named) == 10
    for name, number in named.items():
        assert getattr(m, name, None) == int(number) or getattr(f, name, None) == int(number), name


def test_the_families_are_those_of_the_code() -> None:
    assert ", ".join(f"`{name}`" for name in sorted(f.FAMILIES)) in " ".join(PAGE.split())
    assert len(f.FAMILIES) == 6
