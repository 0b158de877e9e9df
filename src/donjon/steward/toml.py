"""A policy in TOML with all its mistakes at once, each with its place: `steward.toml:3:8: ...`.

The models that read a table (`donjon.tee.contract.Model`) name the key that is wrong; here is where it stands.
"""

from __future__ import annotations

import re
import sys
import tomllib
from typing import Any, NamedTuple

from donjon.config._positions import Positions
from donjon.config._rules import MAX_LEVELS
from donjon.errors import ParseError
from donjon.log import printable


class Problem(NamedTuple):
    """A mistake: `path` leads there; `on_key` says that the key is wrong and not its value."""

    path: tuple[str | int, ...]
    on_key: bool
    text: str
    hint: str


_PART = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d+)\]")
_UNKNOWN = re.compile(r'unknown key "(.*?)": ')


def locate(error: ParseError, at: tuple[str | int, ...], where: str) -> Problem:
    """Find the place that a model's message speaks of: "[snp] hash[0]: expected 96 hex digits, got ..."."""
    rest = error.message.removeprefix(where)
    inside, _, what = rest.partition(": ")
    path = list(at)
    for word in inside.split():
        path += [name or int(number) for name, number in _PART.findall(word)]
    unknown = _UNKNOWN.match(what)
    if unknown:
        path.append(unknown[1])
    elif not inside and (field := re.match(r"(\w+): ", what)):  # from a __post_init__
        path.append(field[1])
    text = error.message.removeprefix("policy: ").removeprefix("policy ")
    return Problem(tuple(path), unknown is not None, text, error.hint or "")


def refusal(problems: list[Problem], text: str, source: str) -> ParseError:
    """The error that tells of them in the order in which they stand, the first twenty."""
    spots = Positions(text, depth=8).spots

    def offset(problem: Problem) -> int:
        path = problem.path
        while path not in spots:  # a missing key stands where its table does
            path = path[:-1]
        return spots[path][0 if problem.on_key and path == problem.path else 1]

    problems = sorted(problems, key=offset)[:20]
    places = [_line_column(text, offset(problem)) for problem in problems]
    lines = [f"{source}:{place}: {printable(problem.text)}" for place, problem in zip(places, problems, strict=True)]
    hints = [
        f"{place}: {problem.hint}" if len(problems) > 1 else problem.hint
        for place, problem in zip(places, problems, strict=True)
        if problem.hint
    ]
    return ParseError("\n".join(lines), "\n".join(hints) or None)


def read_toml(text: str, source: str, hint: str) -> dict[str, Any]:
    """Read a document.

    Args:
        source: what messages call it. hint: where one sees how it is written.
    Raises:
        ParseError: it is not TOML, or nested deeper than any setting; the text has the place.
    """
    if text.count("[") + text.count("{") + text.count(".") > MAX_LEVELS:
        offset = Positions(text).too_deep  # beforehand: the library recurses, and is slow with a key of many parts
        if offset is not None:
            raise ParseError(
                f"{source}:{_line_column(text, offset)}: expected at most {MAX_LEVELS} levels, got more",
                "no setting is more than four levels deep",
            )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        numbers = re.fullmatch(r"line (\d+), column (\d+)\)", where)
        place = ":".join(numbers.groups()) if numbers else _line_column(text, len(text))
        raise ParseError(f"{source}:{place}: {what[:1].lower()}{printable(what[1:120])}", hint) from error
    except RecursionError as error:  # whoever called us is deep already
        raise ParseError(f"{source}: nested too deeply", "no setting is more than four levels deep") from error
    except ValueError as error:  # Python's bound on the digits of an integer
        raise ParseError(
            f"{source}: expected integers of at most {sys.get_int_max_str_digits()} digits, got a longer one"
        ) from error


def _line_column(text: str, offset: int) -> str:
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"
