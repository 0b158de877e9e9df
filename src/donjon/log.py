"""What we say while a Keep runs: levels, a filter as Enarx writes it, and one line per message.

The standard `logging` costs 11 ms to import, half of a whole start; this needs nothing. A `Logger` decides what passes
its filter and hands it to a sink, which the caller gives: the command line writes `line(...)` to stderr, a program
that uses the library gets level, target and message as they are. Nothing here prints.

Where a message is dear to make, ask first: `if log.enabled(DEBUG, "donjon.wasi"): log.debug(...)`.
"""

from __future__ import annotations

from donjon.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[[int, str, str], None]

__all__ = [
    "DEBUG", "DEFAULT", "ERROR", "INFO", "LEVELS", "OFF", "QUIET", "TRACE", "WARN",
    "Logger", "line", "parse_filter", "printable",
]  # fmt: skip

OFF, ERROR, WARN, INFO, DEBUG, TRACE = range(6)
LEVELS = ("off", "error", "warn", "info", "debug", "trace")
"""Names of the levels; the index is the level. A filter of level n passes the levels 1 to n."""

MOST_KNOWN = 1000
"""Targets of which it is remembered whether they pass; a guest may invent as many as it likes."""

DEFAULT = "info"
ROOT = "donjon"
PREFIXES = ("", "error: ", "warning: ", "", "debug: ", "trace: ")

# Filters written for Enarx (ENARX_LOG) name its crates: these are the parts of ours that do the same.
ENARX = {
    "enarx": "donjon",
    "enarx_exec_wasmtime": "donjon.wasm",
    "enarx_shim_kvm": "donjon.keep",
    "enarx_shim_sgx": "donjon.keep",
}


class Logger:
    """Passes what its filter lets through to its sink.

    Args:
        sink: called with level (1 to 5), target ("donjon.wasi") and message (one line, no control characters);
            None drops everything. What it raises reaches the caller of the logger.
        levels: the filter, see `parse_filter`.
    Raises:
        UsageError: the filter is malformed.
    """

    __slots__ = ("_filter", "_known", "_sink", "levels")

    def __init__(self, sink: Sink | None, levels: str = DEFAULT) -> None:
        self._sink = sink
        self.levels = "off" if sink is None else levels
        """The filter as it was given, for a Keep elsewhere."""
        self._filter = {ROOT: OFF} if sink is None else parse_filter(levels)
        self._known: dict[str, int] = {}

    def enabled(self, level: int, target: str = ROOT) -> bool:
        """Would a message of this level and target reach the sink?"""
        known = self._known.get(target)
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[target] = _level_of(target, self._filter)
        return level <= known

    def error(self, message: str, target: str = ROOT) -> None:
        """Something failed, and what was asked for does not happen."""
        self.log(ERROR, message, target)

    def warn(self, message: str, target: str = ROOT) -> None:
        """It goes on, but probably not as the user wants it."""
        self.log(WARN, message, target)

    def info(self, message: str, target: str = ROOT) -> None:
        """What everyone wants to know, such as the address of a listener."""
        self.log(INFO, message, target)

    def debug(self, message: str, target: str = ROOT) -> None:
        """What helps to find out why it does not work: a connection that was refused, a cache entry not used."""
        self.log(DEBUG, message, target)

    def trace(self, message: str, target: str = ROOT) -> None:
        """Every step, such as a call of the guest."""
        self.log(TRACE, message, target)

    def log(self, level: int, message: str, target: str = ROOT) -> None:
        """Log at a level (1 to 5) that the caller computed."""
        if self._sink is not None and self.enabled(level, target):
            self._sink(level, target, printable(message))


QUIET = Logger(None)
"""Says nothing: the default wherever a logger can be given."""


def line(level: int, target: str, message: str) -> str:
    """The line that the command line writes for a message, newline included; detail names its target."""
    where = f"[{target}] " if level >= DEBUG else ""
    return f"donjon: {PREFIXES[level]}{where}{message}\n"


def printable(text: str) -> str:
    r"""Escape what a terminal would act on: control characters, line breaks, reversed writing, undecodable bytes.

    Text from guests and peers lands in messages; it must not be able to move the cursor or to forge a line of ours.
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def parse_filter(text: str, where: str = "log filter") -> dict[str, int]:
    """Read a filter: parts between commas, each LEVEL, TARGET=LEVEL, or TARGET (which means all of it).

    LEVEL is off, error, warn, info, debug or trace. TARGET is `donjon` or a part of it, as `donjon.wasi`; it covers
    what is below it, and the longest one that fits decides. A level alone is for everything. What no part names stays
    at info.

    Args:
        text: the filter.
        where: what an error calls it.
    Returns:
        target -> level, always with "donjon".
    Raises:
        UsageError: the text has a part of another form.
    Source: the directives of Enarx's --log-filter (tracing's EnvFilter), without spans and fields.
    """
    levels = {ROOT: LEVELS.index(DEFAULT)}
    for part in map(str.strip, text.split(",")):
        if not part:
            continue
        target, equals, level = part.replace("::", ".").rpartition("=")
        target, level = target.strip(), level.strip().lower()
        if not equals:
            if level in LEVELS:
                target = ROOT
            else:
                target, level = part.replace("::", "."), "trace"
        top, dot, below = target.partition(".")
        target = ENARX.get(top, top) + dot + below
        if level not in LEVELS or (target != ROOT and not target.startswith(ROOT + ".")):
            raise UsageError(
                f'{where}: expected {", ".join(LEVELS)} or donjon.PART=LEVEL, got "{part}"',
                hint='for example "debug", or "warn,donjon.tls=trace"',
            )
        levels[target] = LEVELS.index(level)
    return levels


def _level_of(target: str, levels: dict[str, int]) -> int:
    while target not in levels:
        target = target.rpartition(".")[0] or ROOT
    return levels[target]
