"""The lab: makers of simulated hardware, their keys in a directory, and guests on machines of theirs.

    <directory>/lab.toml       what this is; written last, so a lab without it was never finished
    <directory>/roots.toml     what a Steward has to trust: `donjon steward serve --roots FILE`
    <directory>/<maker>-*      keys, PKCS#8 in PEM, and long-lived certificates
    <directory>/firmware.fd    with which virtual machines start: the tables of a real one, and no code

The directory is 0700 and every file 0600; files that others can read are refused. Certificates of machines, revocation
lists and Intel's lists are not kept: they are signed when evidence is made, and so are never out of date. What has to
stay the same, because others keep copies of it, are the roots; when one nears its end it is signed anew with the same
key, at loading, and `roots.toml` is written anew.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from typing import Any, cast

from donjon import tee
from donjon.errors import ParseError, UsageError
from donjon.sim import _files, firmware
from donjon.steward.files import write_roots
from donjon.tee.simulated import Blobs, Hardware, Launching, Measured, Simulation, Started, State, Word, read_state

TEES = tuple(name for name in tee.ALL if name != "kvm")
"""What can be simulated. KVM's evidence is empty: there is nothing to simulate."""
MARK = "lab.toml"
ROOTS = "roots.toml"
FIRMWARE = "firmware.fd"
_ABOUT = """\
# Simulated hardware of Donjon: keys that prove nothing to anybody who does not choose to believe roots.toml.
version = 1
"""

Clock = Callable[[], datetime]


class Guest:
    """A source of evidence: one guest on a simulated machine.

    Args:
        tee: short name of the TEE.
        state: of the machine, group -> word.
    """

    def __init__(self, tee_name: str, state: State, hardware: Hardware, clock: Clock) -> None:
        self.tee = tee_name
        self.state = state
        self._hardware = hardware
        self._clock = clock

    def collect(self, report_data: bytes) -> bytes:
        """Evidence that binds `report_data`, with its collateral: the value of a request's extension.

        Raises:
            UsageError: it has not 64 bytes.
        """
        return self._hardware.evidence(_checked(report_data), self._clock())

    def blobs(self, report_data: bytes, privlevel: int | None = None) -> Blobs:
        """What a kernel would hand out.

        Args:
            privlevel: what the kernel asks for, where the TEE has such a thing (SNP's VMPL).
        Raises:
            UsageError: it has not 64 bytes.
        """
        return self._hardware.blobs(_checked(report_data), self._clock(), privlevel)

    def collateral(self) -> bytes:
        """What the maker publishes about the machine: of AMD a revocation list, of Intel the nine strings in JSON.

        Raises:
            UsageError: there is none, or not all of it in this state.
        """
        return self._hardware.collateral(self._clock())


class Lab:
    """Makers with their keys.

    Args:
        directory: where they are kept.
        clock: tells the time at which evidence is made.
    """

    def __init__(self, directory: str, makers: Mapping[str, Any], clock: Clock) -> None:
        self.directory = directory
        self._makers = makers
        self._clock = clock

    def guest(self, tee: str, workload: bytes = b"", state: str = "", measured: Measured | None = None) -> Guest:
        """Start a guest.

        Args:
            tee: short name, one of TEES.
            workload: what the launcher puts into the evidence; filled up with zeros.
            state: words with commas, e.g. "genoa,out-of-date"; empty is the best there is.
            measured: what `measure` gave; without it measurements are constants.
        Raises:
            UsageError: there is no such TEE or state, or the workload is too long.
        """
        part = simulation(tee)
        said = read_state(part.WORDS, state, f"{tee}, state")
        maker = self._makers[part.MAKER]
        if measured is None:
            return Guest(tee, said, part.guest(maker, said, workload), self._clock)
        return Guest(tee, said, _launching(tee).guest(maker, said, workload, measured), self._clock)

    def measure(self, tee: str, kernel: bytes, initrd: bytes, cmdline: str, vcpus: int = 1) -> Measured:
        """What a processor of this lab measures when a virtual machine starts.

        Args:
            tee: short name, "snp" or "tdx".
            kernel: a bzImage. initrd: b"" for none. cmdline: of the kernel.
        Returns:
            Fields of the report.
        Raises:
            UsageError: guests of that TEE are no virtual machines, or the firmware would not measure the kernel.
            ParseError, PlatformError: the firmware cannot be read; a library is missing.
        """
        return _launching(tee).measure(Started(self.firmware(), kernel, initrd, cmdline, vcpus))

    def firmware(self) -> bytes:
        """The firmware with which guests start: a file of the lab's, in the format of a real one.

        Raises:
            UsageError: the lab has none, or others can read it. PlatformError: it cannot be read.
        """
        return _files.read(self.directory, FIRMWARE)

    @property
    def roots(self) -> str:
        """Where the roots are that a Steward needs."""
        return f"{self.directory}/{ROOTS}"


def create(directory: str, now: datetime) -> Lab:
    """Make a lab; it takes a second or two.

    Args:
        directory: made if it is not there; what is there has to be empty.
    Raises:
        UsageError: it is not empty. PlatformError: it cannot be made.
    """
    _files.make_directory(directory)
    makers = {}
    for part in _parts().values():
        files = part.make(now)
        _files.write_all(directory, files)
        makers[part.MAKER] = part.open_maker(files)
    _files.write(directory, FIRMWARE, firmware.write())
    _files.write(directory, ROOTS, _roots(makers))
    _files.write(directory, MARK, _ABOUT.encode())
    return Lab(directory, makers, lambda: now)


def load(directory: str, now: datetime | None = None) -> Lab:
    """Open a lab.

    Args:
        now: the time at which evidence is made; without it, the clock's.
    Raises:
        UsageError: it is no lab, or others can read its keys. ParseError: a file is not what it was.
        PlatformError: it cannot be read.
    """
    about = _files.read(directory, MARK)
    try:
        version = tomllib.loads(about.decode()).get("version")
    except ValueError as error:
        raise ParseError(f"{directory}/{MARK}: expected TOML: {error}") from error
    if version != 1:
        raise UsageError(f"{directory}/{MARK}: expected a lab of version 1, got {str(version)[:20]}")
    clock: Clock = (lambda: datetime.now(UTC)) if now is None else (lambda: now)
    makers, wrong = _open(directory, clock())
    if wrong:
        with _files.locked(directory):  # others may load it too, and have done it meanwhile
            makers, wrong = _open(directory, clock())
            _files.write_all(directory, wrong)
    return Lab(directory, makers, clock)


def _open(directory: str, now: datetime) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The makers with certificates that hold at `now`, and the files that are not, or no longer, as they should be."""
    makers: dict[str, Any] = {}
    wrong: dict[str, bytes] = {}
    for part in _parts().values():
        try:
            found = part.open_maker(_files.read_all(directory, f"{part.MAKER}-"))
        except ParseError as error:
            raise ParseError(f"{directory}: {part.MAKER}: {error.message}", "make another lab") from error
        makers[part.MAKER] = maker = part.renew(found, now)
        if maker is not found:
            wrong |= part.dump(maker)
    roots = _roots(makers)
    if wrong or _files.read(directory, ROOTS) != roots:
        wrong[ROOTS] = roots
    if not os.path.lexists(os.path.join(directory, FIRMWARE)):  # a lab from before there were any
        wrong[FIRMWARE] = firmware.write()
    return makers, wrong


def words(tee: str) -> tuple[Word, ...]:
    """What can be said about the state of a TEE's hardware.

    Raises:
        UsageError: it cannot be simulated.
    """
    return simulation(tee).WORDS


@cache
def simulation(name: str) -> Simulation:
    """What simulates a TEE.

    Raises:
        UsageError: it cannot be simulated.
    """
    if name not in TEES:
        raise UsageError(f'simulated TEE: expected one of {", ".join(TEES)}, got "{name[:20]}"')
    return cast("Simulation", import_module(f"donjon.tee.{name}.simulate"))


def _launching(name: str) -> Launching:
    part = simulation(name)
    if not hasattr(part, "measure"):
        known = ", ".join(tee for tee in TEES if hasattr(simulation(tee), "measure"))
        raise UsageError(f"simulated virtual machine: expected {known}, got {name}")
    return cast("Launching", part)


def _parts() -> dict[str, Simulation]:
    """One for each maker."""
    found: dict[str, Simulation] = {}
    for name in TEES:
        found.setdefault(simulation(name).MAKER, simulation(name))
    return found


def _roots(makers: Mapping[str, Any]) -> bytes:
    found = {name: simulation(name).roots(makers[simulation(name).MAKER]) for name in TEES}
    return write_roots(found).encode()


def _checked(report_data: bytes) -> bytes:
    if len(report_data) != 64:
        raise UsageError(f"report data: expected 64 bytes, got {len(report_data)}")
    return report_data
