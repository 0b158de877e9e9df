"""Roots that no kernel would show, for the collectors to stand up to: one mount, a directory for each sort.

    python -m tests.sim.stand_in LAB MOUNTPOINT

Below `<mountpoint>/<tee>/<sort>` everything is as configfs-tsm of that TEE, but for what the sort says.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping

from donjon import sim
from donjon.sim.kernel import ConfigFs, Rules, _Item
from donjon.sim.mount import mount
from donjon.tee.simulated import Blobs
from donjon.tee.snp.certtable import read_table, write_table
from tests.sim.labs import NOW

S_IFLNK, S_IFIFO = 0o120777, 0o010666


class Fine(ConfigFs):
    """The real thing."""


class Fails(ConfigFs):
    """Reading or writing a file gives an errno."""

    file, number, times = "outblob", errno.EIO, 1 << 30

    def content(self, item: _Item, name: str) -> bytes:
        self._fail(name)
        return super().content(item, name)

    def _fail(self, name: str) -> None:
        if name == self.file and self.times:
            self.times -= 1
            raise OSError(self.number, "")


class FailsToOpen(ConfigFs):
    file, number = "inblob", errno.EACCES

    def open(self, path: str, flags: int) -> int:
        if path.endswith(self.file):
            raise OSError(self.number, "")
        return super().open(path, flags)


class NoEntries(ConfigFs):
    number = errno.ENXIO

    def make(self, path: str) -> None:
        del path
        raise OSError(self.number, "")


class NotRemovable(ConfigFs):
    def remove(self, path: str) -> None:
        del path
        raise OSError(errno.EBUSY, "")


class Lacks(ConfigFs):
    """A file is not there."""

    file = "outblob"

    def _known(self, attribute: str) -> None:
        super()._known("" if attribute == self.file else attribute)


class Moves(ConfigFs):
    """The generation moves each time it is asked for; so often."""

    times = 1 << 30

    def content(self, item: _Item, name: str) -> bytes:
        if name == "generation" and self.times:
            self.times -= 1
            item.written += 1
        return super().content(item, name)


class Says(ConfigFs):
    """A file says something else, from the second time on if `later`."""

    file, data, later, asked = "provider", b"", False, 0

    def content(self, item: _Item, name: str) -> bytes:
        if name == self.file:
            self.asked += 1
            if not self.later or self.asked > 1:
                return self.data
        return super().content(item, name)


class Endless(ConfigFs):
    """A file has no end."""

    file = "outblob"

    def read(self, handle: int, size: int, offset: int) -> bytes:
        if self._handles[handle].name == self.file:
            return b"0" * size
        return super().read(handle, size, offset)


class IsNoFile(ConfigFs):
    """What should be a file is a link or a pipe."""

    file, kind = "outblob", S_IFLNK

    def mode(self, path: str) -> int:
        return self.kind if path.endswith(self.file) else super().mode(path)


class TakesLess(ConfigFs):
    """Of what is written only a part is taken."""

    def write(self, handle: int, data: bytes, offset: int) -> int:
        return super().write(handle, data[:10], offset)


class Answers(ConfigFs):
    """The blobs are others."""

    change: Callable[[Blobs], Blobs]

    def made(self, item: _Item) -> Blobs:
        return type(self).change(super().made(item))


class BindsOther(ConfigFs):
    """The report binds something else than was asked for."""

    def made(self, item: _Item) -> Blobs:
        item.inblob = bytes(64)
        return super().made(item)


def sort(base: type[ConfigFs], **changes: object) -> type[ConfigFs]:
    return type(base.__name__, (base,), changes)


def errno_sorts() -> dict[str, type[ConfigFs]]:
    numbers = ("EINVAL", "EIO", "ENXIO", "ENOTTY", "ETIMEDOUT", "EFBIG", "ENODEV", "EPERM")
    return {name.lower(): sort(Fails, number=getattr(errno, name)) for name in numbers}


def with_aux(data: Callable[[bytes], bytes]) -> Callable[[Blobs], Blobs]:
    return lambda blobs: Blobs(blobs.report, data(blobs.auxiliary))


def with_report(data: Callable[[bytes], bytes]) -> Callable[[Blobs], Blobs]:
    return lambda blobs: Blobs(data(blobs.report), blobs.auxiliary)


SORTS: Mapping[str, type[ConfigFs]] = {
    "fine": Fine,
    **errno_sorts(),
    "busy-twice": sort(Fails, number=errno.EBUSY, times=2),
    "again-once": sort(Fails, number=errno.EAGAIN, times=1),
    "busy": sort(Fails, number=errno.EBUSY),
    "closed-inblob": FailsToOpen,
    "no-entries": NoEntries,
    "forbidden": sort(NoEntries, number=errno.EACCES),
    "full": sort(NoEntries, number=errno.ENOSPC),
    "not-removable": NotRemovable,
    "no-outblob": Lacks,
    "no-auxblob": sort(Lacks, file="auxblob"),
    "no-inblob": sort(Lacks, file="inblob"),
    "moves": Moves,
    "moves-once": sort(Moves, times=2),
    "unknown-provider": sort(Says, data=b"sgx_guest\n"),
    "provider-of-bytes": sort(Says, data=b"sev\0guest\n"),
    "long-provider": sort(Says, data=b"x" * 4096),
    "provider-moves": sort(Says, data=b"tdx_guest\n", later=True),
    "generation-of-words": sort(Says, file="generation", data=b"one\n"),
    "generation-below-zero": sort(Says, file="generation", data=b"-1\n"),
    "huge-generation": sort(Says, file="generation", data=b"9" * 100 + b"\n"),
    "endless": Endless,
    "endless-aux": sort(Endless, file="auxblob"),
    "endless-provider": sort(Endless, file="provider"),
    "link": IsNoFile,
    "pipe": sort(IsNoFile, kind=S_IFIFO),
    "inblob-pipe": sort(IsNoFile, file="inblob", kind=S_IFIFO),
    "takes-less": TakesLess,
    "empty": sort(Answers, change=with_report(lambda _: b"")),
    "largest": sort(Answers, change=with_report(lambda report: report.ljust(32768, b"\0"))),
    "binds-other": BindsOther,
    "noise": sort(Answers, change=with_report(lambda report: b"\xa5" * len(report))),
    "more": sort(Answers, change=with_report(lambda report: report + b"\1")),
    "no-certificates": sort(Answers, change=with_aux(lambda _: b"")),
    "bad-certificates": sort(Answers, change=with_aux(lambda table: table[:100])),
    "bad-certificate": sort(Answers, change=with_aux(lambda t: t.replace(b"SEV-VCEK", b"SEV-VCEX"))),
    "bad-list": sort(Answers, change=with_aux(lambda t: write_table({**read_table(t), "CRL": b"\x30\x00"}))),
    "masked-key": sort(Answers, change=with_report(lambda r: r[:0x48] + b"\x1c\0\0\0" + r[0x4C:])),
}


class Choice:
    """All of them: the first two parts of a path say which."""

    def __init__(self, lab: sim.Lab) -> None:
        guests = {tee: lab.guest(tee, bytes(range(32))) for tee in ("snp", "tdx", "cca")}
        self._all = {f"{tee}/{name}": kind(guest) for tee, guest in guests.items() for name, kind in SORTS.items()}
        self._open: dict[int, tuple[ConfigFs, int]] = {}

    def mode(self, path: str) -> int:
        parts = path.strip("/").split("/")
        return 0o040755 if len(parts) < 3 else self._of(path)[0].mode(self._of(path)[1])

    def names(self, path: str) -> list[str]:
        return self._of(path)[0].names(self._of(path)[1])

    def make(self, path: str) -> None:
        self._of(path)[0].make(self._of(path)[1])

    def remove(self, path: str) -> None:
        self._of(path)[0].remove(self._of(path)[1])

    def open(self, path: str, flags: int) -> int:
        one, rest = self._of(path)
        handle = one.open(rest, flags)
        mine = len(self._open) and max(self._open) + 1
        self._open[mine] = one, handle
        return mine

    def read(self, handle: int, size: int, offset: int) -> bytes:
        one, own = self._open[handle]
        return one.read(own, size, offset)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        one, own = self._open[handle]
        return one.write(own, data, offset)

    def flush(self, handle: int) -> None:
        one, own = self._open[handle]
        one.flush(own)

    def release(self, handle: int) -> None:
        one, own = self._open.pop(handle)
        one.release(own)

    def _of(self, path: str) -> tuple[ConfigFs, str]:
        tee, name, *rest = path.strip("/").split("/", 2)
        if f"{tee}/{name}" not in self._all:
            raise OSError(errno.ENOENT, "")
        return self._all[f"{tee}/{name}"], "/" + "".join(rest)


def main(lab: str, where: str) -> None:
    rules: Rules = Choice(sim.load(lab, NOW))
    mount(rules, where, lambda: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
