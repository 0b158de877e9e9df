"""`donjon sim`: a lab of simulated hardware, its states, evidence of it, its files mounted."""

from __future__ import annotations

import json
from collections.abc import Iterable

from donjon import sim
from donjon.cli import tui
from donjon.cli.steward import read_report_data, read_time
from donjon.errors import PlatformError, UsageError, words_of
from donjon.files import read
from donjon.log import printable
from donjon.tee import load
from donjon.tee.contract import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options
    from donjon.tee.simulated import Word

__all__ = ["collateral", "evidence", "init", "mount", "states"]

MAX_KEY = 64 * 1024
YEARS = range(1951, 9951)
"""In which certificates can say of all of a lab when it begins and ends; X.509's own begin with 1950."""


def init(options: Options) -> int:
    """Make a lab.

    Raises:
        UsageError: there is something already. PlatformError: it cannot be made.
    """
    lab = sim.create(options.dir, read_time(None))
    tui.note(f"made {printable(lab.directory)}; what a Steward needs to believe it: --roots {printable(lab.roots)}")
    return 0


def states(options: Options) -> int:
    """List the words of a TEE, by group."""
    words = sim.words(options.tee)
    if options.json:
        found = [{"group": word.group, "word": word.word, "about": word.about, "fails": word.fails} for word in words]
        tui.write(json.dumps({"tee": options.tee, "states": found}, indent=2) + "\n")
        return 0
    groups = dict.fromkeys(word.group for word in words)
    parts = [_group(group, (word for word in words if word.group == group)) for group in groups]
    tui.write("\n".join(parts))
    return 0


def _group(name: str, words: Iterable[Word]) -> str:
    rows = [(word.word, word.about + (f"\nfails {word.fails}" if word.fails else "")) for word in words]
    return f"{tui.bold(name)}\n\n{tui.table(rows)}"


def evidence(options: Options) -> int:
    """Write evidence, or a request that carries it.

    Raises:
        UsageError: an option is wrong. PlatformError: the file cannot be written.
    """
    if (options.key is None) == (options.report_data is None):
        raise UsageError("expected one of --key and --report-data", "see donjon sim evidence --help")
    guest = _guest(options)
    if options.key is None:
        data = guest.collect(read_report_data(options.report_data) or b"")
    else:
        data = sim.request(guest, read(options.key, MAX_KEY))
    _write(options.file, data)
    tui.note(f"wrote {printable(options.file)}: {len(data)} bytes of simulated {load(guest.tee).TITLE}")
    return 0


def collateral(options: Options) -> int:
    """Write what the maker publishes about the machine.

    Raises:
        UsageError: there is none; an option is wrong. PlatformError: the file cannot be written.
    """
    guest = _guest(options)
    data = guest.collateral()
    _write(options.file, data)
    tui.note(f"wrote {printable(options.file)}: {len(data)} bytes of collateral for simulated {load(guest.tee).TITLE}")
    return 0


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as stream:
            stream.write(data)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        said = words_of(error) if isinstance(error, OSError) else "not a path"
        raise UsageError(f"cannot write {printable(path)}: {said}", "check the path") from error
    except OSError as error:
        raise PlatformError(f"cannot write {printable(path)}: {words_of(error)}") from error


def mount(options: Options) -> int:
    """Mount until a signal ends it.

    Raises:
        UsageError: there is no such directory. PlatformError: this machine cannot mount.
    """
    from donjon.sim import kernel
    from donjon.sim import mount as fuse

    log = tui.logger(options.log_filter, options.log_target)
    guest = _guest(options)
    interface = "Gramine's attestation files" if guest.tee == "sgx" else "configfs-tsm"
    where = printable(options.mountpoint)
    fuse.mount(
        kernel.rules(guest),
        options.mountpoint,
        lambda: log.info(f"{interface} of simulated {guest.tee} at {where}", target="donjon.sim"),
    )
    return 0


def _guest(options: Options) -> sim.Guest:
    given = getattr(options, "workload", None) or ""
    try:
        workload = bytes.fromhex(given)
    except ValueError as error:
        raise UsageError(f'--workload: expected hex digits, got "{printable(given[:40])}"') from error
    at = getattr(options, "at", None)  # a mount shows the hardware of now
    now = None if at is None else read_time(at)
    if now is not None and now.year not in YEARS:
        raise UsageError(f"--at: expected a time in the years {YEARS.start} to {YEARS.stop - 1}, got {shown(now)}")
    lab = sim.load(options.sim, now)
    return lab.guest(options.tee, workload, options.state or "")
