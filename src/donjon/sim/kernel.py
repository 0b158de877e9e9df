"""What a kernel, or Gramine, does with the files of its evidence interface: rules without a file system under them.

`ConfigFs` keeps the rules of Linux's configfs-tsm, `Gramine` those of Gramine's /dev/attestation. They know paths,
handles and bytes, and raise OSError with the number that the real one gives; `donjon.sim.mount` puts them under a
mount point. What they hand out, a guest of simulated hardware makes, or another machine (`donjon.sim.port`).

Of Gramine's files only those are here that quotes need; local attestation and keys are not simulated.

Sources: Linux, drivers/virt/coco/guest/report.c, fs/configfs/file.c, and the drivers sev-guest, tdx-guest,
arm-cca-guest; Gramine, libos/src/fs/dev/attestation.c.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field
from typing import Protocol

from donjon.sim.port import Hardware
from donjon.tee.simulated import Blobs
from donjon.tee.tsm import PROVIDERS

__all__ = ["ConfigFs", "Gramine", "Rules", "rules"]

MAX_INBLOB = 64
MAX_OUTBLOB = 32 * 1024
MAX_PRIVLEVEL = 3
MAX_ENTRIES = 1024
"""The kernel has no such limit; a stand-in that somebody forgot shall not fill memory."""

_BINARY = ("inblob", "outblob", "auxblob", "manifestblob")
_MODES = {
    "inblob": 0o200,
    "outblob": 0o400,
    "auxblob": 0o400,
    "manifestblob": 0o400,
    "generation": 0o444,
    "provider": 0o444,
    "privlevel": 0o200,
    "privlevel_floor": 0o444,
    "service_provider": 0o200,
    "service_guid": 0o200,
    "service_manifest_version": 0o200,
}
_COMMON = ("generation", "provider", "inblob", "outblob")
_ATTRIBUTES = {
    "sev_guest": (*_COMMON, "auxblob", "privlevel", "privlevel_floor"),
    "tdx_guest": _COMMON,
    "arm_cca_guest": tuple(_MODES),
}
"""Which files a driver shows: of SNP those of an SVSM only where there is one; Arm's driver leaves out none, and uses
but the common ones."""
_LEAST = {"sev_guest": 64, "tdx_guest": 64, "arm_cca_guest": 32}
"""How many bytes a driver wants to bind, at least; Arm's fills up to 64 with zeros."""

_GUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\n?")
_UINT = re.compile(rb"\+?(0x[0-9a-fA-F]{1,8}|[1-9][0-9]{0,9}|0)\n?", re.IGNORECASE)


class Rules(Protocol):
    """What is put under a mount point. Paths are "/a/b"; handles are numbers; everything raises OSError."""

    def mode(self, path: str) -> int:
        """Kind and permissions, as `st_mode`."""

    def names(self, path: str) -> list[str]:
        """What a directory holds."""

    def make(self, path: str) -> None:
        """Make a directory."""

    def remove(self, path: str) -> None:
        """Remove one."""

    def open(self, path: str, flags: int) -> int:
        """Open a file; gives a handle."""

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Read from a handle."""

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Write to a handle; gives how many bytes were taken."""

    def flush(self, handle: int) -> None:
        """Somebody closes it."""

    def release(self, handle: int) -> None:
        """Nobody has it any more."""


@dataclass
class _Item:
    """One entry."""

    inblob: bytes = b""
    privlevel: int | None = None
    written: int = 0
    read: int = -1
    """The generation of the blobs that were made last."""
    blobs: Blobs = field(default_factory=lambda: Blobs(b""))
    gone: bool = False


@dataclass
class _Handle:
    """One open file.

    Args:
        content: what is read, once it is known; of a binary file that is written, what came so far.
        dirty: something was written that the kernel has not taken yet.
    """

    item: _Item
    name: str
    content: bytes | None = None
    dirty: bool = False


class ConfigFs:
    """configfs-tsm: an entry is a directory that comes with its files.

    Args:
        guest: whose evidence it is.
    """

    def __init__(self, guest: Hardware) -> None:
        self.guest = guest
        self.provider = next(name for name, tee in PROVIDERS.items() if tee == guest.tee)
        self.attributes = _ATTRIBUTES[self.provider]
        self._items: dict[str, _Item] = {}
        self._handles: dict[int, _Handle] = {}
        self._next = 1

    def mode(self, path: str) -> int:
        """Of the root, an entry, or a file."""
        name, attribute = self._split(path)
        if not attribute:
            if name:
                self._item(name)
            return 0o040755
        self._item(name)
        self._known(attribute)
        return 0o100000 | _MODES[attribute]

    def names(self, path: str) -> list[str]:
        """The entries, or the files of one."""
        name, attribute = self._split(path)
        if attribute:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not name:
            return list(self._items)
        self._item(name)
        return list(self.attributes)

    def make(self, path: str) -> None:
        """An entry, below the root only."""
        name, attribute = self._split(path)
        if attribute:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if name in self._items:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if len(self._items) == MAX_ENTRIES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._items[name] = _Item()

    def remove(self, path: str) -> None:
        """An entry with its files; those that are open stay open and say that it is gone."""
        name, attribute = self._split(path)
        item = self._item(name)
        if attribute:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        item.gone = True
        del self._items[name]

    def open(self, path: str, flags: int) -> int:
        """A file; not even root may read what is only written, as there is nothing that could answer."""
        name, attribute = self._split(path)
        item = self._item(name)
        self._known(attribute)
        access = flags & os.O_ACCMODE
        readable, writable = bool(_MODES[attribute] & 0o444), bool(_MODES[attribute] & 0o222)
        if (access != os.O_WRONLY and not readable) or (access != os.O_RDONLY and not writable):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        handle, self._next = self._next, self._next + 1
        self._handles[handle] = _Handle(item, attribute)
        return handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """What the file held when it was first read through this handle."""
        held = self._handles[handle]
        if held.content is None:
            if held.item.gone:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            content = self.content(held.item, held.name)
            if not content:
                return b""
            if held.name in _BINARY and len(content) > MAX_OUTBLOB:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            held.content = content
        return held.content[offset : offset + size]

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """A binary file takes pieces and acts when it is closed; others act at once."""
        held = self._handles[handle]
        if held.name not in _BINARY:
            if held.item.gone:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            self.store(held.item, held.name, data)
            return len(data)
        if offset + len(data) > MAX_INBLOB:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        before = held.content or b""
        held.content = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]
        held.dirty = True
        return len(data)

    def flush(self, handle: int) -> None:
        """Take what was written. The real one does so when the last descriptor is closed, and before close returns."""
        held = self._handles[handle]
        if held.dirty and not held.item.gone:
            held.dirty = False
            self.store(held.item, held.name, held.content or b"")

    def release(self, handle: int) -> None:
        """Forget the handle."""
        del self._handles[handle]

    # What the kernel's report.c does

    def content(self, item: _Item, name: str) -> bytes:
        """What reading a file gives."""
        match name:
            case "generation":
                return b"%d\n" % item.written
            case "provider":
                return self.provider.encode() + b"\n"
            case "privlevel_floor":
                return b"0\n"
            case _:
                made = self.made(item)
                return {"outblob": made.report, "auxblob": made.auxiliary}.get(name, b"")

    def store(self, item: _Item, name: str, data: bytes) -> None:
        """What writing a file does."""
        match name:
            case "inblob":
                item.inblob = data
            case "privlevel":
                level = _number(data)
                if level > MAX_PRIVLEVEL:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                item.privlevel = level
            case "service_manifest_version":
                _number(data)
            case "service_guid":
                item.written += 1  # counts even when it is none
                if not _GUID.fullmatch(data):
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                return
        item.written += 1

    def made(self, item: _Item) -> Blobs:
        """The report of this generation, made when it is first asked for."""
        if not item.inblob:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if item.read != item.written:
            if len(item.inblob) < _LEAST[self.provider]:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            item.blobs = self.guest.blobs(item.inblob.ljust(64, b"\0"), item.privlevel)
            item.read = item.written
        return item.blobs

    def _split(self, path: str) -> tuple[str, str]:
        """Entry and attribute; both empty for the root."""
        name, _, attribute = path.strip("/").partition("/")
        if "/" in attribute:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return name, attribute

    def _item(self, name: str) -> _Item:
        if name not in self._items:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._items[name]

    def _known(self, attribute: str) -> None:
        if attribute not in self.attributes:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _number(data: bytes) -> int:
    """As the kernel's kstrtouint reads it: decimal, or hexadecimal after 0x; a line break may follow."""
    match = _UINT.fullmatch(data)
    value = int(match[1], 0) if match else -1
    if not 0 <= value < 1 << 32:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return value


class Gramine:
    """Gramine's /dev/attestation: one set of files.

    Args:
        guest: whose evidence it is.
    """

    FILES = {"attestation_type": 0o444, "user_report_data": 0o644, "quote": 0o444}

    def __init__(self, guest: Hardware) -> None:
        self.guest = guest
        self.report_data = bytes(64)
        self._handles: dict[int, tuple[str, bytes]] = {}
        self._next = 1

    def mode(self, path: str) -> int:
        """Of the root or a file."""
        if path == "/":
            return 0o040755
        return 0o100000 | self.FILES[self._known(path)]

    def names(self, path: str) -> list[str]:
        """The files."""
        if path != "/":
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return list(self.FILES)

    def make(self, path: str) -> None:
        """Nobody makes anything here."""
        del path
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    remove = make

    def open(self, path: str, flags: int) -> int:
        """A file; the quote is made now."""
        name = self._known(path)
        if flags & os.O_ACCMODE != os.O_RDONLY and not self.FILES[name] & 0o222:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        content = {"attestation_type": b"dcap", "user_report_data": b""}.get(name)
        if content is None:
            content = self.guest.blobs(self.report_data).report
        handle, self._next = self._next, self._next + 1
        self._handles[handle] = (name, content)
        return handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """As it was when it was opened."""
        return self._handles[handle][1][offset : offset + size]

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Gather what is written, no more than any report data has."""
        name, before = self._handles[handle]
        if offset + len(data) > 4096:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._handles[handle] = (name, before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :])
        return len(data)

    def flush(self, handle: int) -> None:
        """Take what was written: too little is filled up with zeros, too much cut off."""
        name, content = self._handles[handle]
        if name == "user_report_data" and content:
            self.report_data = content[:64].ljust(64, b"\0")

    def release(self, handle: int) -> None:
        """Forget the handle."""
        del self._handles[handle]

    def _known(self, path: str) -> str:
        name = path.removeprefix("/")
        if name not in self.FILES:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return name


def rules(guest: Hardware) -> Rules:
    """The interface through which a guest of this TEE gets its evidence."""
    return Gramine(guest) if guest.tee == "sgx" else ConfigFs(guest)
