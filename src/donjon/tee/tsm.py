"""Evidence from Linux's configfs-tsm, the one interface for SNP, TDX and CCA.

    <root>/<name>/inblob        what the report has to bind, up to 64 bytes; taken when the file is closed
    <root>/<name>/outblob       report, quote or token, made when it is read
    <root>/<name>/auxblob       of SNP the host's certificates; manifestblob: of an SVSM
    <root>/<name>/provider      whose format that is: "sev_guest"
    <root>/<name>/generation    counts what is written to the entry
    <root>/<name>/privlevel     of SNP the VMPL to ask for

An entry is made with mkdir and is ours alone, under a random name; it is removed whatever happens, except when this
process is killed. Files of one entry can still be read at different states of it, as root can write to any: so the
generation is read before and after, and has to have moved by what we have written. If it has not, all is asked once
more, a bounded number of times. So it is when the kernel says that it is busy.

The directory is taken for hostile all the same (`--tsm` may name any): nothing is followed out of the entry, what is
not a plain file is not opened, and every file has a size limit. How long the kernel takes is the kernel's business:
a quote of TDX comes from the host and may take seconds.

Sources: Linux, Documentation/ABI/testing/configfs-tsm-report, drivers/virt/coco/guest/report.c, fs/configfs/file.c.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from donjon.errors import ParseError, PlatformError, UsageError, words_of

__all__ = ["ROOT", "Answer", "provider", "report", "understood"]

ROOT = "/sys/kernel/config/tsm/report"
PROVIDERS = {"sev_guest": "snp", "tdx_guest": "tdx", "arm_cca_guest": "cca"}
"""The kernel's name, which is that of the driver's module with underscores, -> ours."""
MAX_BLOB = 32 * 1024
"""Bytes of a blob, as of Linux 6.7. Later kernels would hand out more, for formats that nobody here reads."""
MAX_TEXT = 128
INBLOB = 64
MAX_PRIVLEVEL = 3
ATTEMPTS = 8
PAUSE = 0.01
"""Seconds before the second attempt; each further one waits twice as long, so all together 1.3 s."""

_MODULES = "modprobe sev-guest, tdx-guest or arm-cca-guest"
_HINTS = {
    errno.EACCES: "run as root, or let this user write there",
    errno.EPERM: "run as root, or let this user write there",
    errno.ENXIO: f"no TEE has registered with the kernel: {_MODULES}; only a confidential VM has one",
    errno.ENODEV: f"no TEE has registered with the kernel: {_MODULES}",
    errno.EINVAL: "the kernel's driver refuses the request: see dmesg; a privilege level may be too low",
    errno.EIO: "the firmware, or the host, has failed: see dmesg, and ask the host's operator",
    errno.ENOTTY: "the driver has shut off its channel to the firmware: see dmesg; starting the VM anew opens it again",
    errno.ETIMEDOUT: "the host did not answer: ask its operator, of TDX about the quote generation service (QGS)",
    errno.EFBIG: "the report is larger than this kernel takes: a newer kernel or other firmware is needed",
    errno.ENOSPC: "entries that nobody removed may be in the way: rmdir them",
    errno.ENOMEM: "give the VM more memory",
    errno.EROFS: "mount -o remount,rw /sys/kernel/config",
    errno.ELOOP: "nothing below the directory may be a link",
}
_BUSY = (errno.EAGAIN, errno.EBUSY)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel handed out, all of one report.

    Args:
        tee: our name, of the provider.
        auxiliary, manifest: empty where there is none.
    """

    tee: str
    report: bytes
    auxiliary: bytes
    manifest: bytes


def provider(root: str = ROOT) -> str | None:
    """Which TEE this machine's configfs-tsm speaks for.

    Returns:
        "snp", "tdx", "cca"; None when there is no such directory.
    Raises:
        PlatformError: it is there and cannot be asked, or speaks for a TEE that nobody here knows.
    """
    try:
        os.close(_open_root(root))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure(root, error) from error
    with _entry(root) as entry:
        return _provider(entry)


def report(report_data: bytes, tee: str, root: str = ROOT, privlevel: int | None = None) -> Answer:
    """Have the hardware sign `report_data`.

    Args:
        report_data: 64 bytes.
        tee: whose report it has to be.
        privlevel: SNP's VMPL, 0 to 3; None leaves it to the kernel.
    Raises:
        UsageError: the report data has another length, or there is no such privilege level.
        PlatformError: there is no such directory, the kernel speaks for another TEE, or it fails; with a hint.
    """
    if len(report_data) != INBLOB:
        raise UsageError(f"report data: expected {INBLOB} bytes, got {len(report_data)}")
    if privlevel is not None and not 0 <= privlevel <= MAX_PRIVLEVEL:
        raise UsageError(f"privilege level: expected 0 to {MAX_PRIVLEVEL}, got {privlevel}")
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            _wait(PAUSE * 2 ** (attempt - 1))
        with _entry(root) as entry:
            try:
                return _ask(entry, report_data, tee, privlevel)
            except _AgainError as error:
                problem = str(error)
    raise PlatformError(
        f"{root}: {problem}, {ATTEMPTS} times in a row", "something else on this machine asks for evidence all the time"
    )


def understood(tee: str, read: Callable[[], T]) -> T:
    """Read what the hardware gave; that it is not well formed is this machine's fault.

    Raises:
        PlatformError: it is not.
    """
    try:
        return read()
    except ParseError as error:
        raise PlatformError(
            f"this machine's {tee} evidence cannot be read: {error.message}",
            "it may be of a format that is newer than this version of donjon",
        ) from error


class _AgainError(Exception):
    """Worth another attempt."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry that is ours: its path for messages, its directory to open files in."""

    path: str
    descriptor: int

    def read(self, name: str, most: int) -> bytes:
        """A file's content.

        Raises:
            OSError: as the kernel says. PlatformError: it is no plain file, or is longer.
        """
        descriptor = self._open(name, os.O_RDONLY)
        data = bytearray()
        try:
            while len(data) <= most:
                more = os.read(descriptor, most + 1 - len(data))
                if not more:
                    return bytes(data)
                data += more
        finally:
            os.close(descriptor)
        raise PlatformError(f"{self.path}/{name}: expected at most {most} bytes, got more")

    def write(self, name: str, data: bytes) -> None:
        """Write a file in one piece; a configfs file takes nothing else, and a binary one acts when it is closed."""
        descriptor = self._open(name, os.O_WRONLY)
        try:
            if os.write(descriptor, data) != len(data):
                raise PlatformError(f"{self.path}/{name}: expected it to take {len(data)} bytes at once, got fewer")
        finally:
            os.close(descriptor)

    def _open(self, name: str, mode: int) -> int:
        # Not blocking: what looks like a file might be a pipe.
        flags = mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(name, flags, dir_fd=self.descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise PlatformError(f"{self.path}/{name}: expected a plain file, got something else")


@contextmanager
def _entry(root: str) -> Iterator[_Entry]:
    """Make an entry, and take it away again."""
    name = f"donjon-{secrets.token_hex(8)}"
    path = f"{root}/{name}"
    try:
        above = _open_root(root)
    except OSError as error:
        raise _failure(root, error) from error
    try:
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except OSError as error:
            raise _failure(path, error) from error
        descriptor = -1
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=above)
            yield _Entry(path, descriptor)
        except OSError as error:
            raise _failure(path, error) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            _remove(name, above)
    finally:
        os.close(above)


def _open_root(root: str) -> int:
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _remove(name: str, above: int) -> None:
    """Take the entry away. Where that fails there is nothing more to do, and the answer is as good as it is."""
    try:
        os.rmdir(name, dir_fd=above)
    except OSError:
        pass


def _ask(entry: _Entry, report_data: bytes, tee: str, privlevel: int | None) -> Answer:
    """One attempt.

    Raises:
        _AgainError: the kernel is busy, or somebody else wrote to the entry.
    """
    found = _provider(entry)
    if found != tee:
        raise PlatformError(f"{entry.path}/provider: expected evidence of {tee}, got that of {found}")
    start = _generation(entry)
    writes = 1
    if privlevel is not None:
        try:
            _step(entry, "privlevel", lambda: entry.write("privlevel", b"%d" % privlevel), missing=True)
        except FileNotFoundError as error:
            raise PlatformError(
                f"{entry.path}/privlevel: {words_of(error)}", "of SNP alone there are levels"
            ) from error
        writes += 1
    _step(entry, "inblob", lambda: entry.write("inblob", report_data))
    blobs = [_blob(entry, name) for name in ("outblob", "auxblob", "manifestblob")]
    moved = _generation(entry) - start
    if moved != writes:
        raise _AgainError(f"expected {writes} writes to the entry, got {moved}")
    if _provider(entry) != found:
        raise PlatformError(f"{entry.path}/provider: expected it to stay, got another")
    if not blobs[0]:
        raise PlatformError(f"{entry.path}/outblob: expected a report, got nothing", _HINTS[errno.EIO])
    return Answer(found, *blobs)


def _provider(entry: _Entry) -> str:
    name = _text(entry, "provider")
    if name not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise PlatformError(
            f'{entry.path}/provider: expected one of {known}, got "{name}"', "this version of donjon does not know it"
        )
    return PROVIDERS[name]


def _generation(entry: _Entry) -> int:
    text = _text(entry, "generation")
    if not (text.isdigit() and len(text) <= 20):
        raise PlatformError(f'{entry.path}/generation: expected a number, got "{text}"')
    return int(text)


def _text(entry: _Entry, name: str) -> str:
    """One line of printable ASCII."""
    data = _step(entry, name, lambda: entry.read(name, MAX_TEXT)).removesuffix(b"\n")
    if not all(0x20 < byte < 0x7F for byte in data):
        raise PlatformError(f"{entry.path}/{name}: expected a word, got {data[:20].hex()}")
    return data.decode("ascii")


def _blob(entry: _Entry, name: str) -> bytes:
    """A blob; the kernel leaves out files of those that a TEE does not have, but never the report."""
    try:
        return _step(entry, name, lambda: entry.read(name, MAX_BLOB), missing=name != "outblob")
    except FileNotFoundError:
        return b""


def _step(entry: _Entry, name: str, act: Callable[[], T], missing: bool = False) -> T:
    """Do one thing, and say what its errors mean.

    Args:
        missing: that there is no such file is for the caller to judge.
    """
    try:
        return act()
    except FileNotFoundError as error:
        if missing:
            raise
        raise _failure(f"{entry.path}/{name}", error) from error
    except OSError as error:
        if error.errno in _BUSY:
            raise _AgainError(f"{name}: {words_of(error)}") from error
        raise _failure(f"{entry.path}/{name}", error) from error


def _failure(path: str, error: OSError) -> PlatformError:
    if isinstance(error, FileNotFoundError):
        hint = f"a confidential VM with Linux 6.7 has it: mount -t configfs none /sys/kernel/config, and {_MODULES}"
    else:
        hint = _HINTS.get(error.errno or 0, "see dmesg")
    return PlatformError(f"{path}: {words_of(error)}", hint)


def _wait(seconds: float) -> None:
    time.sleep(seconds)
