"""`donjon ps`, `logs` and `stop`: the Keeps that run on this machine."""

from __future__ import annotations

import os
import time

from donjon.cli import tui
from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.keep import registry
from donjon.keep.registry import Directory
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options
    from donjon.keep.registry import Entry

__all__ = ["logs", "ps", "show", "stop"]

LOOK_SECONDS = 0.2
"""Between looks at a log that is followed."""
HEAD = ("NAME", "PID", "BACKEND", "SINCE", "WORKLOAD", "LISTENERS")


def ps(options: Options) -> int:
    """List the Keeps."""
    log = tui.logger(options.log_filter, options.log_target)
    with Directory() as directory:
        entries = directory.entries(log.warn)
    if options.json:
        import json

        kept = ("name", "pid", "backend", "workload", "listeners", "since", "detached")
        found = [{key: value for key, value in entry.fields().items() if key in kept} for entry in entries]
        tui.write(json.dumps(found, indent=2) + "\n")
        return 0
    rows = [HEAD, *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    tui.write("".join(f"{line}\n" for line in lines))
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.since))
    listeners = (f"{name}={f'[{host}]' if ':' in host else host}:{port}" for name, host, port in entry.listeners)
    cells = (entry.name, str(entry.pid), entry.backend, since, entry.workload[:12], " ".join(listeners))
    return tuple(map(printable, cells))


def logs(options: Options) -> int:
    """Print a log, and with --follow what is added to it."""
    registry.check_name(options.name, "NAME")
    with Directory() as directory:
        entry = next((entry for entry in directory.entries() if entry.name == options.name), None)
        if entry is not None and not entry.detached:
            raise UsageError(
                f'the Keep "{entry.name}" was not started with --detach: nobody keeps what it writes',
                "it goes where its command was started",
            )
        reader = _Log(directory, options.name)
        try:
            while True:
                runs = entry is not None and entry.runs()
                reader.show(tui.STDOUT)  # after that look: what it wrote last is there by then
                if not options.follow or not runs:
                    return 0
                time.sleep(LOOK_SECONDS)
        finally:
            reader.close()


def show(name: str, descriptor: int) -> None:
    """Print the log of a Keep, whole."""
    with Directory() as directory:
        reader = _Log(directory, name)
        reader.show(descriptor)
        reader.close()


class _Log:
    """A log that is read while it is written and turned."""

    def __init__(self, directory: Directory, name: str) -> None:
        self._directory = directory
        self._name = f"{name}.log"
        self._file = -1
        try:
            self._open(f"{self._name}.1")
            self._rest = True  # there is a newer file
        except UsageError:
            self._open(self._name)
            self._rest = False

    def _open(self, file: str) -> None:
        try:
            opened = self._directory.open(file)
        except FileNotFoundError as error:
            name = self._name.removesuffix(".log")
            raise UsageError(f'there is no log of a Keep named "{name}"', "`donjon ps` lists those that run") from error
        except ParseError as error:
            raise PlatformError(f"cannot read {self._directory.path}/{file}: {error.message}") from error
        except OSError as error:
            raise PlatformError(f"cannot read {self._directory.path}/{file}: {words_of(error)}") from error
        self.close()
        self._file = opened

    def show(self, descriptor: int) -> None:
        """Print what is there by now and was not shown yet."""
        while True:
            self._copy(descriptor)
            if not self._rest and not self._turned():
                return
            self._copy(descriptor)  # what was added to the older file before it was turned
            self._open(self._name)
            self._rest = False

    def _copy(self, descriptor: int) -> None:
        plain = not os.isatty(descriptor)
        while data := os.read(self._file, 1 << 16):
            _print(descriptor, data if plain else _shown(data))

    def _turned(self) -> bool:
        """Whether the file that is read is the older one by now."""
        try:
            newest = self._directory.open(self._name)
        except (OSError, ParseError):
            return False
        same = os.path.samestat(os.fstat(newest), os.fstat(self._file))
        os.close(newest)
        return not same

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _shown(data: bytes) -> bytes:
    """For a terminal: a program's bytes must not be its commands."""
    text = data.decode("utf-8", "replace")
    return "".join(
        letter if letter in "\n\t" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    ).encode()


def _print(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def stop(options: Options) -> int:
    """End a Keep."""
    registry.check_name(options.name, "NAME")
    seconds = _seconds(options.time)
    with Directory() as directory:
        entry = directory.find(options.name)
        killed = registry.stop(entry, seconds)
        directory.remove(entry)
    tui.note(
        f"{entry.name} was killed, as it had not ended after {options.time} s" if killed else f"{entry.name} ended"
    )
    return 0


def _seconds(text: str) -> float:
    if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) <= 6:
        return float(text)
    raise UsageError(f'--time: expected 0 to 9999 seconds, got "{printable(text[:20])}"', "for example 10, or 0.5")
