"""What simulated hardware of every TEE has in common: words for its states, and what it hands out.

The module `simulate` of a TEE's folder makes keys, roots and evidence in the TEE's own formats. For `donjon.sim`, which
keeps them on disk and knows no TEE, it offers

    MAKER                    whose keys these are; TEEs of one maker share them ("intel")
    WORDS                    what can be said about a guest's state
    make(now)                keys and certificates of a new maker, as files: name -> content
    open_maker(files)        the maker again
    renew(maker, now)        the same maker with certificates that hold at `now`; itself when nothing ends
    dump(maker)              its files
    roots(maker)             what somebody has to trust in order to believe it
    guest(maker, state, workload)         -> `Hardware`

and, if its guests are virtual machines that start from a firmware, a kernel and a command line (`Launching`),

    measure(started)                      what its reports say of such a machine, as fields of the report
    guest(..., measured)                  a guest in whose reports these stand

A state is said in words, each of one group ("firmware", "product"); of a group one word holds, and its first is what
holds when nothing is said. So `genoa,vlek,out-of-date` is a state of SNP hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from donjon.errors import UsageError
from donjon.tee.contract import Roots

__all__ = ["Blobs", "Hardware", "Launching", "Measured", "Simulation", "Started", "State", "Word", "read_state"]


@dataclass(frozen=True, slots=True)
class Word:
    """One thing that can be said about simulated hardware.

    Args:
        group: what it is about; two words of one group exclude each other.
        about: what it means, for a list, lower case.
        fails: the check by which the safe defaults of a policy refuse such evidence; empty where they accept it.
    """

    group: str
    word: str
    about: str
    fails: str = ""


State = Mapping[str, str]
"""Group -> word; every group of the TEE is there."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a virtual machine is started with: the very bytes, as its processor would see them.

    Args:
        firmware: in the format of the real one. kernel: a bzImage. initrd: b"" for none.
        cmdline: of the kernel.
        vcpus: how many processors it has; their model is the one for which measurements are published.
    """

    firmware: bytes
    kernel: bytes
    initrd: bytes
    cmdline: str
    vcpus: int


Measured = Mapping[str, bytes]
"""Fields of a report, as its layout calls them -> what stands there."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """What the hardware hands out for one report.

    Args:
        report: report, quote or token, as the kernel's `outblob` holds it.
        auxiliary: certificates beside it, as its `auxblob` holds them.
    """

    report: bytes
    auxiliary: bytes = b""


class Hardware(Protocol):
    """One guest's view of the hardware."""

    def blobs(self, report_data: bytes, now: datetime, privlevel: int | None = None) -> Blobs:
        """What the kernel would hand out.

        Args:
            privlevel: who asks, where the TEE has such a thing; None leaves it to the state.
        """

    def evidence(self, report_data: bytes, now: datetime) -> bytes:
        """The value of the request's extension, with all collateral that its format has room for."""

    def collateral(self, now: datetime) -> bytes:
        """What the maker publishes about the machine, in the form in which `donjon steward judge FILE` takes it.

        Raises:
            UsageError: there is none, or not all of it in this state.
        """


class Simulation(Protocol):
    """What `donjon.tee.<name>.simulate` offers; see above."""

    MAKER: str
    WORDS: tuple[Word, ...]

    def make(self, now: datetime) -> dict[str, bytes]:
        """Keys and certificates of a new maker."""

    def open_maker(self, files: Mapping[str, bytes]) -> Any:
        """The maker again.

        Raises:
            ParseError: a file is missing, or is not what it was.
        """

    def renew(self, maker: Any, now: datetime) -> Any:
        """The maker, with certificates that hold at `now`; the same object when all do."""

    def dump(self, maker: Any) -> dict[str, bytes]:
        """Its files."""

    def roots(self, maker: Any) -> Roots:
        """What somebody has to trust in order to believe it."""

    def guest(self, maker: Any, state: State, workload: bytes) -> Hardware:
        """A guest.

        Args:
            workload: at most as many bytes as the TEE has room for; filled up with zeros.
        """


class Launching(Simulation, Protocol):
    """The same of a TEE whose guests are virtual machines."""

    def measure(self, started: Started) -> Measured:
        """What reports of a machine that is started so say of it.

        Raises:
            ParseError, UsageError: the firmware is malformed, or does not measure what it starts.
            PlatformError: a library is missing.
        """

    def guest(self, maker: Any, state: State, workload: bytes, measured: Measured | None = None) -> Hardware:
        """A guest.

        Args:
            measured: fields of the report that are not the usual constants.
        Raises:
            UsageError: there is no such field.
        """


def read_state(words: Sequence[Word], said: str, where: str) -> State:
    """Read `genoa,vlek,out-of-date`. Capitals and hyphens make no difference: `UpToDate` is `up-to-date`.

    Raises:
        UsageError: an unknown word, or two of one group.
    """
    known = {_plain(item.word): item for item in words}
    state: dict[str, str] = {}
    for text in filter(None, (part.strip() for part in said.split(","))):
        item = known.get(_plain(text))
        if item is None:
            import difflib

            near = difflib.get_close_matches(_plain(text), known, 1)
            hint = f'did you mean "{known[near[0]].word}"?' if near else "`donjon sim states` lists them"
            raise UsageError(f'{where}: unknown state "{text[:40]}"', hint)
        if item.group in state:
            raise UsageError(f'{where}: expected one word about {item.group}, got "{state[item.group]}" and "{text}"')
        state[item.group] = item.word
    return {**_defaults(words), **state}


def _defaults(words: Iterable[Word]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in words:
        found.setdefault(item.group, item.word)
    return found


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
