"""From the text of an Enarx.toml to a `Config`, or to one message about everything that is wrong with it.

The standard library reads the TOML; then each table is checked for keys it may not have and keys it must have, and
each value by its rule (`_rules`). Only when something is wrong, the text is walked again to find out where.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tomllib

from donjon.config import _rules as rules
from donjon.config._rules import MAX_LEVELS, Problem, escape, got, nearest, path_text, quote
from donjon.config.models import (
    STDIO,
    Config,
    Connect,
    Dir,
    File,
    Limits,
    Listen,
    Null,
    Stderr,
    Stdin,
    Stdout,
    Verify,
)
from donjon.errors import ParseError, PlatformError, UsageError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_SIZE = 1_000_000  # bytes, as Enarx

KINDS: dict[str, type[File]] = {kind.kind: kind for kind in (Null, Stdin, Stdout, Stderr, Listen, Connect, Dir)}

KEYS = ("args", "env", "files", "limits", "roots", "steward", "steward_ca")

REQUIRED = {"listen": ("name",), "connect": ("host",), "dir": ("host", "guest")}


def read_file(path: str | os.PathLike[str]) -> tuple[Config, bytes]:
    source = escape(os.fsdecode(path))
    data = _bytes(path, source)
    _refuse_size(len(data), source)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        place = line_column(before, len(before))
        raise ParseError(
            f"{source}:{place}: expected UTF-8, got the byte {data[error.start]:02x}",
            "save the file with the encoding UTF-8",
        ) from error
    return parse_text(text, source, os.path.dirname(os.path.abspath(os.fsdecode(path)))), data


def parse_text(text: str, source: str, base: str = "") -> Config:
    """Make the configuration; `base` is the directory that relative directories are found from."""
    _refuse_size(len(text.encode(errors="surrogatepass")), source)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")  # some editors begin with a byte order mark
    document = _toml(text, source)
    problems: list[Problem] = []
    known(document, KEYS, (), "at the top level", problems)
    given = {
        "args": (),
        "env": {},
        "steward": None,
        "steward_ca": None,
        **document,
        "roots": roots(document.get("roots", {}), base),
        "files": files(document.get("files"), base, problems),
        "limits": limits(document.get("limits"), problems),
    }
    fields = rules.config(given, (), problems)
    for problem in problems:
        problem.path = _as_written(problem.path, document)
        if problem.path[0] == "env" and problem.path[1:] and problem.path[1] in KEYS and not problem.on_key:
            problem.hint = _about_key(str(problem.path[1]), (), ("env",))  # args = [...] below [env], likely
    if problems:
        raise _refusal(problems, text, source)
    return Config(**fields)


def _as_written(path: rules.Path, document: Mapping[str, Any]) -> rules.Path:
    """Where the text has what a configuration has at `path`: ca = { custom = [...] } is one level deeper there."""
    if len(path) == 4 and path[0] == "files" and path[2] == "ca" and path[3] != "custom":
        entry = document["files"][path[1]]["ca"]
        if rules.is_mapping(entry):
            return (*path[:3], "custom", path[3])
    return path


def roots(value: object, base: str) -> object:
    """Have relative paths start at the file's directory; whatever is wrong, the rules tell."""
    if not isinstance(value, dict):
        return value
    return {
        name: os.path.join(base, path) if isinstance(path, str) and path and rules.PEM not in path else path
        for name, path in value.items()
    }


def known(
    table: Mapping[str, object], keys: tuple[str, ...], at: rules.Path, where: str, problems: list[Problem]
) -> None:
    """Refuse the keys that the table may not have."""
    for key in table:
        if key not in keys:
            text = f"unknown key {quote(key)} {where}: expected one of {', '.join(sorted(keys))}"
            problems.append(Problem((*at, key), text, _about_key(key, keys, at), on_key=True))


def _about_key(key: str, keys: tuple[str, ...], at: rules.Path) -> str:
    """Say what was probably meant: a key that belongs elsewhere, one of another kind, or one with a typing error."""
    if key in KEYS:  # at the top level it would have been known
        return f'"{key}" belongs at the top level: move it above the first line that begins with "["'
    if key in rules.FIELDS["limits"]:
        return f'"{key}" belongs in the section [limits]'
    if key in rules.FIELDS["verify"] and "verify" in keys:
        return f'"{key}" belongs in `verify`: verify = {{ {key} = ... }}'
    if key == "type" and at:
        return 'the key is "kind"'
    if key == "host" and "addr" in keys:
        return 'a listener\'s own address is "addr"; leave it out to listen on every address'
    if key == "addr" and "host" in keys:
        return 'the peer\'s address is "host"'
    if not at and (key == "kind" or any(key in fields for fields in rules.FIELDS.values())):
        return f'"{key}" belongs to a file: put it below a line [[files]]'
    near = nearest(key, keys)
    return f'did you mean "{near}"?' if near else "remove it"


def files(value: object, base: str, problems: list[Problem]) -> object:
    """Make the models of all entries that are right; without `files`, the standard streams."""
    if value is None:
        return STDIO
    if not isinstance(value, list):
        hint = "write [[files]], with two brackets, above each entry"
        problems.append(Problem(("files",), f"files: expected an array of tables, got {got(value)}", hint))
        return ()
    if len(value) > rules.MAX_FILES:
        text = f"files: expected at most {rules.MAX_FILES} files, got {len(value)}"
        problems.append(Problem(("files", rules.MAX_FILES), text, "remove some"))
        return ()
    entries = (file(entry, ("files", number), base, problems) for number, entry in enumerate(value))
    return tuple(entry for entry in entries if entry is not None)


def file(table: object, at: rules.Path, base: str, problems: list[Problem]) -> File | None:
    if not isinstance(table, dict):
        text = f"{path_text(at)}: expected a table, got {got(table)}"
        problems.append(Problem(at, text, 'write { kind = "stdin" }, or a line [[files]] above each entry'))
        return None
    before = len(problems)
    kind = table.get("kind")
    if kind is None:
        every = dict.fromkeys(["kind", *(key for fields in rules.FIELDS.values() for key in fields)])
        own = tuple(key for key in every if key not in rules.FIELDS["limits"] and key not in rules.FIELDS["verify"])
        known(table, own, at, f"in {path_text(at)}", problems)
        hint = f'add kind = "stdin", or another of {", ".join(KINDS)}'
        problems.append(Problem(at, f'{path_text(at)}: missing key "kind"', hint))
        return None
    if rules.attempt(_kind, kind, (*at, "kind"), problems) is None:
        return None
    fields = rules.FIELDS[kind]
    known(table, ("kind", *fields), at, f'in {path_text(at)} of kind "{kind}"', problems)
    for key in REQUIRED.get(kind, ()):
        if key not in table:
            text = f'{path_text(at)}: missing key "{key}", which kind "{kind}" needs'
            problems.append(Problem(at, text, f'add {key} = "..."'))
    host = table.get("host")
    if kind == "dir" and isinstance(host, str) and host:
        table = {**table, "host": os.path.join(base, host)}
    if "verify" in fields and table.get("verify") is not None:
        table = {**table, "verify": verify(table["verify"], (*at, "verify"), problems)}
    given = rules.record(kind, table, at, problems)
    return KINDS[kind](**given) if len(problems) == before else None


_one_kind = rules.word(*KINDS)


def _kind(value: object) -> object:
    try:
        return _one_kind(value)
    except rules.RuleError as refused:
        if value in ("tls", "tcp"):
            raise rules.RuleError(
                refused.text, f'write kind = "listen" or kind = "connect", and prot = "{value}"'
            ) from None
        raise


def verify(value: object, at: rules.Path, problems: list[Problem]) -> Verify | None:
    """Make the model of what a peer must prove; None, with problems, when it is not right."""
    if not isinstance(value, dict):
        text = f"{path_text(at)}: expected a table, got {got(value)}"
        hint = 'write { names = ["..."] }, or a section [files.verify] below the entry'
        problems.append(Problem(at, text, hint))
        return None
    before = len(problems)
    known(value, tuple(rules.FIELDS["verify"]), at, f"in {path_text(at)}", problems)
    given = rules.record("verify", value, at, problems)
    return Verify(**given) if len(problems) == before else None


def limits(value: object, problems: list[Problem]) -> object:
    if value is None:
        return Limits()
    if not isinstance(value, dict):
        text = f"limits: expected a table, got {got(value)}"
        hint = 'write it as a section: [limits], and below it lines like memory = "256 MiB"'
        problems.append(Problem(("limits",), text, hint))
        return Limits()
    before = len(problems)
    known(value, tuple(rules.FIELDS["limits"]), ("limits",), "in limits", problems)
    given = rules.apply(rules.FIELDS["limits"], value, ("limits",), problems)
    return Limits(**given) if len(problems) == before else Limits()


# Reading the bytes and the TOML


def _bytes(path: str | os.PathLike[str], source: str) -> bytes:
    """Read the file, or one byte more than it may have."""
    try:
        with open(path, "rb") as stream:
            return stream.read(MAX_SIZE + 1)
    except ValueError as error:
        raise UsageError(f"cannot open {source}: not a path", "check the path") from error
    except OSError as error:
        text = f"cannot read {source}: {words_of(error)}"
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise UsageError(text, "check the path; `donjon config init` writes a file to start from") from error
        if error.errno == errno.EISDIR:
            raise UsageError(text, f"name the file in it: {source.rstrip('/')}/Enarx.toml") from error
        raise PlatformError(text, "check who may read it: ls -l") from error


def _refuse_size(size: int, source: str) -> None:
    if size > MAX_SIZE:
        raise ParseError(
            f"{source}: expected at most {MAX_SIZE} bytes, got more",
            'is it the right file? put data into a file that the guest opens (kind "dir")',
        )


def _toml(text: str, source: str) -> dict[str, Any]:
    """Read the TOML, and turn each way in which the library refuses a text into `ParseError`."""
    if any(line.count(".") >= MAX_LEVELS for line in text.split("\n")):
        _refuse_depth(text, source)  # beforehand, as the library's time grows with the square of a key's parts
    elif text.count("[") + text.count("{") > MAX_LEVELS:
        _refuse_depth(text, source)  # as it recurses, and who wrote the file must not choose how deep
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text, source) from error
    except RecursionError as error:  # whoever called us is deep already
        raise ParseError(f"{source}: nested too deeply for this call stack", "remove levels of nesting") from error
    except ValueError as error:  # Python's bound on the digits of an integer
        digits = max(re.finditer(r"[0-9_]*", text), key=lambda match: len(match.group()))
        raise ParseError(
            f"{source}:{line_column(text, digits.start())}: "
            f"expected an integer of at most {sys.get_int_max_str_digits()} digits, got more",
            "shorten it",
        ) from error


def _refuse_depth(text: str, source: str) -> None:
    from donjon.config._positions import Positions

    offset = Positions(text).too_deep
    if offset is not None:
        raise ParseError(
            f"{source}:{line_column(text, offset)}: expected at most {MAX_LEVELS} levels, got more",
            "no setting is more than five levels deep",
        )


SYNTAX_HINTS = {
    "invalid value": 'put text in quotes: key = "value"; other values are numbers, true, false, [...] and {...}',
    "expected '=' after a key": 'a line reads key = "value"; a section starts with [name] or [[files]]',
    "invalid statement": 'a line reads key = "value"; a section starts with [name] or [[files]]',
    "cannot overwrite": "give each key once",
    "duplicate inline table key": "give each key once",
    "cannot declare": "give each section once; only [[files]], with two brackets, may come again",
    "cannot mutate": "what stands in {...} or [...] is complete: add to it between its brackets",
    "unescaped": "write two backslashes for one, or use single quotes: 'a\\b'",
    "expected \"'": "close the string with the quotes that it began with",
    "unterminated": "close the string with the quotes that it began with",
    "unclosed": "close every [ with ] and every { with }",
    "": "the file that `donjon config init` writes shows how each setting is written",
}


def _syntax_error(message: str, text: str, source: str) -> ParseError:
    """Bring the library's "Invalid value (at line 1, column 5)" into our form."""
    what, _, where = message.rpartition(" (at ")
    numbers = re.fullmatch(r"line (\d+), column (\d+)\)", where)
    place = ":".join(numbers.groups()) if numbers else line_column(text, len(text))
    what = re.sub(
        r"\(('[\w-]+'(?:, '[\w-]+')*),?\)", lambda path: path[1].replace("', '", "."), what
    )  # a key as a tuple
    what = escape(what[:1].lower() + what[1:]) + ("" if numbers else " at the end of the file")
    hint = next(hint for start, hint in SYNTAX_HINTS.items() if what.startswith(start))
    return ParseError(f"{source}:{place}: {what if len(what) <= 120 else what[:119] + '…'}", hint)


def _refusal(problems: list[Problem], text: str, source: str) -> ParseError:
    """Put all problems into one error, in the order of the text."""
    from donjon.config._positions import Positions

    spots = Positions(text).spots

    def offset(problem: Problem) -> int:
        return spots.get(problem.path, spots[()])[0 if problem.on_key else 1]  # every path is there, says the fuzz test

    problems = sorted(problems, key=offset)
    places = [line_column(text, offset(problem)) for problem in problems[: rules.MAX_PROBLEMS]]
    lines = [f"{source}:{place}: {problem.text}" for place, problem in zip(places, problems, strict=False)]
    hints = [f"{place}: {problem.hint}" for place, problem in zip(places, problems, strict=False)]
    hint = problems[0].hint if len(problems) == 1 else "\n".join(hints)
    return ParseError(rules.listing(lines, len(problems)), hint)


def line_column(text: str, offset: int) -> str:
    """Write an offset as "line:column", both counted from 1, a column a character."""
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"
