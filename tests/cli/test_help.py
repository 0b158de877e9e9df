"""Help is what the files in `help/` say; `python tests/cli/test_help.py` writes them anew: read what changed.

It also brings docs/cli.md up to date where that shows help; headings for new commands are yours to write.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from donjon.cli import help as pages
from donjon.cli.parse import load, parse
from donjon.cli.table import COMMANDS, GROUPS

GOLDEN = Path(__file__).parent / "help"
LINES = ("", "-h", *(f"{name} --help" for name in (*GROUPS, *COMMANDS)), "run -h", "build -h")


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns, no colours, and languages that do not change."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(pages, "load", _load)


def helped(line: str) -> str:
    request = parse(line.split(), {})
    assert request.asks == "help"
    return pages.render(request.name, request.command, request.options.brief)


def file_of(line: str) -> Path:
    return GOLDEN / f"{'-'.join(('donjon', *line.replace('-', '').split()))}.txt"


@pytest.mark.parametrize("line", LINES)
def test_help_reads_as_agreed(line: str) -> None:
    assert helped(line) == file_of(line).read_text(encoding="utf-8")


def test_no_file_is_left_over() -> None:
    assert set(GOLDEN.iterdir()) == {file_of(line) for line in LINES}


@pytest.mark.parametrize("columns", ["20", "50", "80", "500"])
def test_help_fits_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    longest = max(len(part) for line in LINES for part in helped(line).splitlines() if "  donjon" not in part)
    assert longest <= max(48 + 8, min(int(columns), 110))  # two columns need that much


def test_every_example_has_a_purpose_and_there_are_at_most_three() -> None:
    for command in COMMANDS.values():
        assert 1 <= len(command.examples) <= 3
        assert all(line.startswith("donjon ") and what for line, what in command.examples)


def test_run_documents_every_exit_code_of_the_families() -> None:
    from donjon import errors

    documented = " ".join(codes for codes, _ in COMMANDS["run"].exits)
    families = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.DonjonError)
    ]
    assert {str(family.exit_code) for family in families} <= set(documented.replace(",", "").split())


def _load(reference: str) -> Any:
    return ("c", "zig") if reference == "donjon.project:LANGUAGES" else load(reference)


def _shown(text: str) -> str:
    """A page with the help of today where it shows help."""
    lines = iter([*text.split("\n"), ""])
    made: list[str] = []
    for line in lines:
        made.append(line)
        words = line.removeprefix("$ donjon ").removesuffix("--help").rstrip()
        if (
            line.startswith("$ donjon ")
            and line.endswith("--help")
            and f"{words} --help".lstrip() in ("--help", *LINES)
        ):
            made.extend(helped(f"{words} --help" if words else "").rstrip("\n").split("\n"))
            while not (line := next(lines)).startswith(("```", "$ ")):
                pass
            made.append(line)
    return "\n".join(made[:-1])


if __name__ == "__main__":
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    page = GOLDEN.parents[2] / "docs" / "cli.md"
    page.write_text(_shown(page.read_text(encoding="utf-8")), encoding="utf-8")
    setattr(pages, "load", _load)  # noqa: B010 - the name is not for others, except here
    for each in LINES:
        file_of(each).write_text(helped(each), encoding="utf-8")
        sys.stdout.write(f"{file_of(each)}\n")
