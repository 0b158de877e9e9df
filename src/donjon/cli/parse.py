"""Reads the words of a command line by `table`.

Our own because importing argparse takes 8 of the 20 ms in which `donjon run` has to start. It knows what the table
needs and no more: `--name value`, `--name=value`, flags, one-letter flags, arguments by position, `--` before words
that are not ours, environment variables in place of options, and `donjon app.wasm` for `donjon run app.wasm`. Options
are never abbreviated (a new option would change the meaning of old scripts) and never repeated (which one counts?).
"""

from __future__ import annotations

from donjon.cli.table import COMMANDS, GLOBAL, GROUPS, RUN
from donjon.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from donjon.cli.table import Command, Option

__all__ = ["MODULES", "Options", "Request", "load", "parse"]

MODULES = (".wasm", ".wat")


class Options:
    """What the user chose, by attribute or by key: "--log-filter" is `log_filter`, "MODULE" is `module`.

    Flags are bool, `args` (after `--`) is a tuple, the rest str; None is an option without default that was not given.
    """

    __slots__ = ("_given", "_values")

    def __init__(self, values: dict[str, Any], given: Iterable[str] = ()) -> None:
        self._values = values
        self._given = frozenset(given)

    def given(self, name: str) -> bool:
        """Whether "--option" stands on the command line: variables and defaults are nobody's wish for this run."""
        return name in self._given

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raise AttributeError(key) from None

    def __repr__(self) -> str:
        return f"Options({self._values!r})"


class Request:
    """What a command line asks for.

    Args:
        asks: "call", "help" (with "-h" in `options` when the short form was asked for) or "version".
        name: the words of the command as far as they were given: "", "config", "config init".
        command: the entry, or None where `name` is not a whole command.
    """

    __slots__ = ("asks", "command", "name", "options")

    def __init__(
        self, asks: str, name: str, command: Command | None, values: dict[str, Any], given: Iterable[str] = ()
    ) -> None:
        self.asks = asks
        self.name = name
        self.command = command
        self.options = Options(values, given)


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Request:
    """Read the words after `donjon`.

    Args:
        argv: the words, without the program's name.
        environ: where DONJON_X and ENARX_X are looked up.
    Raises:
        UsageError: the words are not a command line of the table; the hint names the nearest that is.
    """
    if not argv:
        return Request("help", "", None, {"brief": False})
    name, command = "", None
    given: dict[str, tuple[Option, Any]] = {}
    words: list[str] = []
    rest: list[str] | None = None
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            rest = list(argv[at:])
            break
        if word[:1] == "-" and word != "-":
            written, equals, value = word.partition("=")
            # Before the command is known it may still become `run`, by its short form; `_refuse_strangers` looks again.
            option = _option(written, command or RUN)
            if option is None:
                raise _unknown_option(written, name, command)
            if option.name == "--help":
                return Request("help", name, command, {"brief": written == "-h"})
            if option.name == "--version":
                return Request("version", name, command, {})
            if option.name in given:
                raise UsageError(f"{option.name}: expected once, got twice")
            if not option.value:
                if equals:
                    raise UsageError(f'{option.name}: expected no value, got "{value}"')
                given[option.name] = option, True
                continue
            if not equals:
                if at == len(argv) or (argv[at][:1] == "-" and argv[at] != "-"):
                    raise _no_value(option, argv[at] if at < len(argv) else None)
                value = argv[at]
                at += 1
            given[option.name] = option, _checked(option, value, option.name)
        elif command is not None:
            words.append(word)
        elif not name and word.lower().endswith(MODULES):
            name, command = RUN.name, RUN
            words.append(word)
        else:
            wanted = f"{name} {word}".lstrip()
            command = COMMANDS.get(wanted)
            if command is None and wanted not in GROUPS:
                raise _unknown_command(wanted, name)
            name = wanted
    if command is None:
        raise _no_command(name, rest)
    _refuse_strangers(given.values(), command)
    values: dict[str, Any] = {}
    for option in (*command.options, *GLOBAL):
        values[option.key] = given[option.name][1] if option.name in given else _fallback(option, environ)
        if option.required and values[option.key] is None:
            raise UsageError(f"{option.name} is missing", _usage_hint(command))
    _place(command, words, rest, values)
    return Request("call", name, command, values, given)


def load(reference: str) -> Any:
    """Import what "module:name" names."""
    module, _, name = reference.partition(":")
    return getattr(__import__(module, fromlist=(name,)), name)


def _option(written: str, command: Command) -> Option | None:
    for option in (*command.options, *GLOBAL):
        if written in (option.name, option.short):
            return option
    return None


def _checked(option: Option, value: str, where: str) -> str:
    if option.check:
        load(option.check)(value, where)
    if option.words:
        words: Iterable[str] = load(option.words) if isinstance(option.words, str) else option.words
        return _one_of(value, tuple(words), where)
    return value


def _one_of(value: str, words: tuple[str, ...], where: str) -> str:
    if value.lower() not in words:
        raise UsageError(f'{where}: expected {_either(words)}, got "{value}"', _nearest(value, words))
    return value.lower()


def _fallback(option: Option, environ: Mapping[str, str]) -> Any:
    """What stands in for an option that was not given."""
    if not option.value:
        return False
    for variable in option.variables:
        if environ.get(variable):
            return _checked(option, environ[variable], variable)
    return option.default


def _place(command: Command, words: list[str], rest: list[str] | None, values: dict[str, Any]) -> None:
    """Put the words that are not options where they belong."""
    if command.rest:
        values["args"] = tuple(rest or ())
    else:
        words = words + (rest or [])
    for argument in command.arguments:
        if words and argument.several:
            values[argument.key] = tuple(words)
            words = []
        elif words:
            word = words.pop(0)
            values[argument.key] = _one_of(word, argument.words, argument.name) if argument.words else word
        elif argument.default is None:
            raise UsageError(f"{argument.name} is missing", _usage_hint(command))
        else:
            values[argument.key] = argument.default
    if words:
        hint = _usage_hint(command)
        if command is RUN:
            line = f"`donjon run {_quoted(values['module'])} -- {_quoted(words[0])}`"
            hint = f"words for the program go after --, as in: {line}"
        raise UsageError(f'unexpected argument "{words[0]}" after "donjon {command.name}"', hint)


def _refuse_strangers(given: Iterable[tuple[Option, Any]], command: Command) -> None:
    for option, _ in given:
        if _option(option.name, command) is None:
            raise _unknown_option(option.name, command.name, command)


def _no_value(option: Option, got: str | None) -> UsageError:
    if got is None:
        return UsageError(f"{option.name}: expected {option.value}, got nothing")
    hint = f"a value that begins with a dash is written {option.name}={option.value}"
    return UsageError(f'{option.name}: expected {option.value}, got "{got}"', hint)


def _unknown_option(written: str, name: str, command: Command | None) -> UsageError:
    known = [option.name[2:] for option in (*(command.options if command else ()), *GLOBAL)]
    place = f"donjon {name}".rstrip()
    hint = _nearest(written.lstrip("-"), known, 'did you mean "--{}"?') or f"see `{place} --help`"
    return UsageError(f'unknown option "{written}" of "{place}"', hint)


def _unknown_command(wanted: str, name: str) -> UsageError:
    import os

    place = f"donjon {name}".rstrip()
    below = [command[len(name) :].lstrip() for command in COMMANDS if command.startswith(name)]
    hint = _nearest(wanted[len(name) :].lstrip(), below, f"did you mean `{place} {{}}`?")
    if hint is None and not name and (os.sep in wanted or os.path.isfile(wanted)):
        hint = f"to run a file: `donjon run {_quoted(wanted)}`"
    return UsageError(f'unknown command "donjon {wanted}"', hint or f"see `{place} --help`")


def _no_command(name: str, rest: list[str] | None) -> UsageError:
    if name:
        below = " or ".join(f'"{command}"' for command in COMMANDS if command.startswith(name + " "))
        return UsageError(f'"donjon {name}" is not a whole command: expected {below}', f"see `donjon {name} --help`")
    if rest is not None:
        return UsageError("a command is missing", "the module comes before --, as in: `donjon run app.wasm -- ARG`")
    return UsageError("a command is missing", "see `donjon --help`")


def _usage_hint(command: Command) -> str:
    from donjon.cli.help import usage

    return f"usage: {usage(command)}"


def _either(words: Sequence[str]) -> str:
    """The words as a choice: "a", "a or b", "a, b or c"."""
    return " or ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _nearest(word: str, known: Iterable[str], hint: str = 'did you mean "{}"?') -> str | None:
    import difflib  # only ever on the way to an error: it costs 3 ms

    found = difflib.get_close_matches(word, list(known), n=1)
    return hint.format(found[0]) if found else None


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
