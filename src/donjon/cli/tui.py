"""The terminal: the only module that prints.

Text goes straight to the descriptors 1 and 2, whole and unbuffered: nothing is left to flush at the end, a closed pipe
shows at once, and lines of ours and of the guest keep their order. Colours only on a terminal, and never with NO_COLOR.
What comes from outside passes `printable` first.
"""

from __future__ import annotations

import os
import sys

from donjon.errors import PlatformError, words_of
from donjon.log import Logger, line, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "STDERR", "STDOUT", "bold", "colours", "columns", "details", "error", "green", "logger", "mark", "note", "red",
    "table", "width", "write",
]  # fmt: skip

STDOUT, STDERR = 1, 2

WIDEST = 110
"""Longer lines are hard to read, however wide the terminal."""


def write(text: str) -> None:
    """Print a result on stdout.

    Raises:
        BrokenPipeError: the reader has gone; `main` ends quietly.
        PlatformError: stdout cannot be written (closed, disk full).
    """
    try:
        _write(STDOUT, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PlatformError(f"cannot write to standard output: {words_of(error)}") from error


def error(message: str, hint: str | None = None, frames: Sequence[str] = ()) -> None:
    """Say on stderr what was wrong, then what to do; `frames` are functions of the guest, innermost first.

    Lines after the first are indented, so no text from outside can look like a message of ours.
    """
    word = red("error:", STDERR) if colours(STDERR) else "error:"
    lines = [f"donjon: {word} {_lines(message)}", *(f"  at {printable(frame)}" for frame in frames)]
    if hint:
        lines.append(f"donjon: {bold('hint:', STDERR)} {_lines(hint)}")
    _say("".join(f"{line}\n" for line in lines))


def note(text: str) -> None:
    """Tell a person on stderr that it worked; programs that call us hear nothing."""
    if os.isatty(STDERR):
        _say(f"donjon: {printable(text)}\n")


def details(text: str) -> None:
    """Print text as it is on stderr, such as a traceback that was asked for."""
    _say(text)


def logger(levels: str, target: str) -> Logger:
    """A logger as --log-filter and --log-target ask for; its lines never fail a run, whatever becomes of the stream."""
    descriptor = STDOUT if target == "stdout" else STDERR
    return Logger(lambda level, where, message: _say(line(level, where, message), descriptor), levels)


def table(rows: Sequence[tuple[str, str]], indent: int = 2, gap: int = 2, wide: int | None = None) -> str:
    """Two columns, the second wrapped beside the first, line by line, and never narrower than 24 characters.

    A name that is too long for its column stands on a line of its own.
    """
    wide = width() if wide is None else wide
    first = min(max((len(name) for name, _ in rows), default=0), 24)
    return "".join(_row(name, text, indent, first + gap, wide) for name, text in rows)


def columns(text: str, indent: int = 0, wide: int | None = None) -> str:
    """Wrap paragraphs, which empty lines separate."""
    import textwrap

    wide = width() if wide is None else wide
    space = " " * indent
    wrapper = textwrap.TextWrapper(
        wide, initial_indent=space, subsequent_indent=space, break_on_hyphens=False, break_long_words=False
    )
    return "\n\n".join(map(wrapper.fill, text.split("\n\n"))) + "\n"


def width() -> int:
    """Columns to write in: COLUMNS, else the terminal's, else 80; at most WIDEST."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return min(int(asked), WIDEST)
    try:
        return min(os.get_terminal_size(STDOUT).columns or 80, WIDEST)
    except OSError:
        return 80


def colours(descriptor: int) -> bool:
    """Is this a terminal that shows colours, and nobody asked for none?   [https://no-color.org]"""
    environ = os.environ
    return not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb" and os.isatty(descriptor)


def bold(text: str, descriptor: int = STDOUT) -> str:
    """Text that stands out, where colours are shown."""
    return f"\x1b[1m{text}\x1b[0m" if colours(descriptor) else text


def green(text: str, descriptor: int = STDOUT) -> str:
    """Text that says yes, where colours are shown."""
    return f"\x1b[32m{text}\x1b[0m" if colours(descriptor) else text


def red(text: str, descriptor: int = STDOUT) -> str:
    """Text that says no, where colours are shown."""
    return f"\x1b[31m{text}\x1b[0m" if colours(descriptor) else text


def mark(passed: bool) -> str:
    """A tick or a cross, in the letters that stdout has."""
    sign = "✔" if passed else "✗"
    try:
        sign.encode(_encoding())
    except UnicodeEncodeError:
        sign = "+" if passed else "-"
    return green(sign) if passed else red(sign)


def _row(name: str, text: str, indent: int, first: int, wide: int) -> str:
    import textwrap

    start = indent + first
    room = max(wide - start, 24)
    parts = (textwrap.wrap(part, room, break_on_hyphens=False, break_long_words=False) for part in text.split("\n"))
    lines = [line for part in parts for line in part] or [""]
    head = " " * indent + name
    if len(name) > first - 1:
        return f"{head}\n" + "".join(f"{' ' * start}{line}\n" for line in lines)
    rest = "".join(f"{' ' * start}{line}\n" for line in lines[1:])
    return f"{head:{start}}{lines[0]}".rstrip() + "\n" + rest


def _lines(text: str) -> str:
    return "\n  ".join(printable(part) for part in text.split("\n"))


def _say(text: str, descriptor: int = STDERR) -> None:
    try:
        _write(descriptor, text)
    except OSError:
        pass  # nobody listens: what we were asked to do goes on


def _write(descriptor: int, text: str) -> None:
    data = memoryview(text.encode(_encoding(), "backslashreplace"))
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # a guest or a parent made the shared pipe non-blocking
            import select

            select.select([], [descriptor], [], 1)


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"
