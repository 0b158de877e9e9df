"""Every command that a message, a help text or a completion script names is one that works: it parses.

Commands in text stand between backticks: `donjon run app.wasm`. What a message fills in is taken as a file name.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import donjon
from donjon.cli import parse as parsing
from donjon.cli.help import EXAMPLES
from donjon.cli.parse import parse
from donjon.cli.table import COMMANDS, GROUPS

SOURCES = Path(donjon.__file__).parent
FILLED = "filled.wasm"
PLACES = {"COMMAND": "run", "NAME": "hello", "LANGUAGE": "c", "SHELL": "bash"}


def test_every_command_has_a_handler_that_is_there() -> None:
    for command in COMMANDS.values():
        assert callable(parsing.load(command.handler)), command.name


@pytest.mark.parametrize(
    "line", [line for command in COMMANDS.values() for line, _ in command.examples] + [e for e, _ in EXAMPLES]
)
def test_examples_of_the_help_parse(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "donjon"
    assert parse(words, {}).asks == "call"


def named() -> Iterator[tuple[str, str]]:
    """All commands between backticks in texts of the sources, docstrings included, and where they are."""
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for line in re.findall(r"`(donjon [^`]*)`", _text(node)):
                if "{" not in line:  # a text of `str.format`: tests of that message look at it
                    yield line, f"{file.relative_to(SOURCES)}:{getattr(node, 'lineno', 0)}"


def test_commands_that_messages_name_parse() -> None:
    found = list(named())
    assert len(found) > 10
    for line, where in found:
        words = [PLACES.get(word, word) for word in shlex.split(line.partition(" | ")[0])[1:]]
        name = " ".join(word for word in words if not word.startswith("-"))
        if name in GROUPS and "--help" not in words:
            continue  # "`donjon config` …" speaks of the group
        try:
            parse(words, {})
        except donjon.errors.UsageError as error:
            if not error.message.endswith("is missing"):  # "`donjon run` …" speaks of the command
                pytest.fail(f"{where}: `{line}`: {error}")


def _text(node: ast.AST) -> str:
    """The text of a literal, with FILLED in place of what an f-string fills in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)  # type: ignore[misc]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
