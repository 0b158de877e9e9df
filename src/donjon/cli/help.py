"""What --help prints, from the table alone.

-h prints what one looks up (usage, arguments, options), --help also what one reads once (details, exit codes,
examples).
"""

from __future__ import annotations

from donjon.cli import tui
from donjon.cli.parse import load
from donjon.cli.table import COMMANDS, GLOBAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from donjon.cli.table import Argument, Command, Option

__all__ = ["of_command", "of_group", "overview", "render", "usage"]

SUMMARY = "Donjon runs WebAssembly programs in Keeps: alone with the files and sockets you give them, TLS included."
EXAMPLES = (
    ("donjon new hello --lang c", "make a project"),
    ("donjon build hello", "compile it"),
    ("donjon hello.wasm", "run a program, the short form of `donjon run`"),
)


def render(name: str, command: Command | None, brief: bool) -> str:
    """The help for the words given so far: all of donjon, a group such as "config", or one command."""
    if command is not None:
        return of_command(command, brief)
    return of_group(name) if name else overview(brief)


def overview(brief: bool = False) -> str:
    """What `donjon --help` prints."""
    text = tui.columns(SUMMARY)
    text += _section("Usage", "  donjon COMMAND [OPTIONS]\n  donjon MODULE.wasm [-- ARG...]\n")
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        text += _section(group, _summaries(command for command in COMMANDS.values() if command.group == group))
    text += _section("Options of every command", _options(GLOBAL))
    if not brief:
        text += _section("Examples", _examples(EXAMPLES))
    return text + "\n" + tui.columns("`donjon COMMAND --help` explains a command.")


def of_group(name: str) -> str:
    """What `donjon config --help` prints: the commands that begin with this word."""
    below = [command for command in COMMANDS.values() if command.name.startswith(name + " ")]
    usages = "".join(f"  {usage(command)}\n" for command in below)
    return _section("Usage", usages).lstrip("\n") + _section("Commands", _summaries(below))


def of_command(command: Command, brief: bool = False) -> str:
    """What `donjon run --help` prints."""
    forms = f"  {usage(command)}\n"
    if command.name == "run":
        forms += "  donjon MODULE.wasm [-- ARG...]\n"
    text = tui.columns(command.summary + ".") + _section("Usage", forms)
    arguments = [_argument(argument) for argument in command.arguments]
    if command.rest:
        arguments.append(("ARG...", command.rest))
    if arguments:
        text += _section("Arguments", tui.table(arguments))
    if command.options:
        text += _section("Options", _options(command.options))
    text += _section("Options of every command", _options(GLOBAL))
    if brief:
        return text + "\n" + tui.columns(f"`donjon {command.name} --help` tells more.")
    if command.details:
        text += "\n" + tui.columns(command.details)
    if command.exits:
        text += _section("Exit codes", tui.table(command.exits))
    return text + _section("Examples", _examples(command.examples))


def usage(command: Command) -> str:
    """One line: the command, what it must have, what it may have."""
    parts = ["donjon", command.name]
    parts += [f"{option.name} {option.value}" for option in command.options if option.required]
    parts.append("[OPTIONS]")
    for argument in command.arguments:
        name = f"{argument.name}..." if argument.several else argument.name
        parts.append(name if argument.default is None else f"[{name}]")
    if command.rest:
        parts.append("[-- ARG...]")
    return " ".join(parts)


def _section(title: str, body: str) -> str:
    return f"\n{tui.bold(title + ':')}\n{body}"


def _summaries(commands: Iterable[Command]) -> str:
    return _aligned((command.name, command.summary) for command in commands)


def _aligned(rows: Iterable[tuple[str, str]]) -> str:
    """Every list of commands has its second column at the same place."""
    longest = max(map(len, COMMANDS))
    return tui.table([(f"{name:{longest}}", text) for name, text in rows])


def _options(options: Iterable[Option]) -> str:
    rows = []
    for option in options:
        name = f"{option.short}, {option.name}" if option.short else option.name
        words = load(option.words) if isinstance(option.words, str) else option.words
        facts = [f"[one of: {', '.join(words)}]"] if words else []
        facts += ["[required]"] if option.required else []
        facts += [f"[default: {option.default}]"] if option.default is not None else []
        facts += [f"[env: {', '.join(option.variables)}]"] if option.variables else []
        rows.append((f"{name} {option.value}".rstrip(), f"{option.about}\n{' '.join(facts)}"))
    return tui.table(rows)


def _argument(argument: Argument) -> tuple[str, str]:
    default = "" if argument.default is None else f" [default: {argument.default}]"
    return argument.name, argument.about + default


def _examples(examples: Iterable[tuple[str, str]]) -> str:
    """Each example is a line that can be copied; what it does stands above it."""
    return "".join(f"  # {what}\n  {line}\n" for line, what in examples)
