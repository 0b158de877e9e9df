"""The functions that work with files, for a lab's guest, as a C library would offer them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from donjon.wasm.wasi.descriptors.directory import preopen
from donjon.wasm.wasi.p1.fd import DIRENT, FDSTAT, FILESTAT
from donjon.wasm.wasi.p1.rights import ALL, Rights
from tests.wasm.wasi.lab import PAGE, Lab, error_name

RESULT = 512
TEXT = 1024  # what is put into memory for a call
BUFFER = PAGE
FOLLOW = 1
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8  # oflags
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16  # fdflags
READ, WRITE = Rights.FD_READ, Rights.FD_WRITE
OTHERS = ALL & ~READ & ~WRITE
"""All rights but the two that say how a file is opened; those that make no sense are dropped by the call."""


class Refused(Exception):  # noqa: N818 - it is what a test asks for as often as not
    """A call gave an errno, whose name is `errno`."""

    def __init__(self, errno: str) -> None:
        super().__init__(errno)
        self.errno = errno


class Files:
    """See the module."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def preopen(self, host: Path, mode: str = "rw", guest: str = "/") -> int:
        return self.lab.guest.add(preopen(str(host), guest, writable=mode == "rw"))

    def do(self, name: str, *values: int | str | bytes) -> None:
        """Call a function; text is put into memory and passed as address and length, numbers as they are.

        Raises:
            Refused: it gave an errno.
        """
        numbers: list[int] = []
        at = TEXT
        for value in values:
            if isinstance(value, int):
                numbers.append(value)
                continue
            data = value.encode() if isinstance(value, str) else value
            numbers += [at, self.lab.put(at, data)]
            at += len(data) + 1
        errno = self.lab.call(name, *numbers)
        if errno:
            raise Refused(error_name(errno))

    def errno(self, name: str, *values: int | str | bytes) -> str:
        """The name of what a call gives, "success" too."""
        try:
            self.do(name, *values)
        except Refused as refused:
            return refused.errno
        return "success"

    def open(
        self,
        fd: int,
        path: str | bytes,
        rights: int = OTHERS | READ,
        oflags: int = 0,
        follow: int = FOLLOW,
        fdflags: int = 0,
        inheriting: int = ALL,
    ) -> int:
        self.do("path_open", fd, follow, path, oflags, rights, inheriting, fdflags, RESULT)
        return self.lab.u32(RESULT)

    def close(self, fd: int) -> None:
        self.do("fd_close", fd)

    def stat(self, fd: int, path: str | bytes, follow: int = FOLLOW) -> dict[str, int]:
        self.do("path_filestat_get", fd, follow, path, RESULT)
        return self._filestat()

    def fstat(self, fd: int) -> dict[str, int]:
        self.do("fd_filestat_get", fd, RESULT)
        return self._filestat()

    def _filestat(self) -> dict[str, int]:
        names = ("dev", "ino", "filetype", "nlink", "size", "atim", "mtim", "ctim")
        return dict(zip(names, FILESTAT.unpack(self.lab.get(RESULT, 64)), strict=True))

    def fdstat(self, fd: int) -> tuple[int, int, int, int]:
        """Filetype, flags, rights, inheriting rights."""
        self.do("fd_fdstat_get", fd, RESULT)
        filetype, flags, rights, inheriting = FDSTAT.unpack(self.lab.get(RESULT, 24))
        return filetype, flags, rights, inheriting

    def readlink(self, fd: int, path: str, room: int = 1000) -> bytes:
        with self.lab.writes_only((TEXT, len(path)), (BUFFER, room), (RESULT, 4)):
            self.do("path_readlink", fd, path, BUFFER, room, RESULT)
        return self.lab.get(BUFFER, self.lab.u32(RESULT))

    def read(self, fd: int, room: int = 1000, at: int | None = None) -> bytes:
        self.lab.put_buffers(TEXT, (BUFFER, room))
        with self.lab.writes_only((BUFFER, room), (RESULT, 4)):
            if at is None:
                self.do("fd_read", fd, TEXT, 1, RESULT)
            else:
                self.do("fd_pread", fd, TEXT, 1, at, RESULT)
        return self.lab.get(BUFFER, self.lab.u32(RESULT))

    def write(self, fd: int, data: bytes, at: int | None = None) -> int:
        self.lab.put_buffers(TEXT, (BUFFER, self.lab.put(BUFFER, data)))
        with self.lab.writes_only((RESULT, 4)):
            if at is None:
                self.do("fd_write", fd, TEXT, 1, RESULT)
            else:
                self.do("fd_pwrite", fd, TEXT, 1, at, RESULT)
        return self.lab.u32(RESULT)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        self.do("fd_seek", fd, offset, whence, RESULT)
        return self.lab.u64(RESULT)

    def content(self, fd: int, path: str) -> bytes:
        """What is in a file."""
        file = self.open(fd, path)
        try:
            return self.read(file)
        finally:
            self.close(file)

    def readdir(self, fd: int, cookie: int, room: int) -> bytes:
        """What one fd_readdir writes; with less than `room` bytes it is at the end."""
        with self.lab.writes_only((BUFFER, room), (RESULT, 4)):
            self.do("fd_readdir", fd, BUFFER, room, cookie, RESULT)
        return self.lab.get(BUFFER, self.lab.u32(RESULT))

    def listing(self, fd: int, room: int = 4096) -> list[tuple[bytes, int, int]]:
        """Name, inode and filetype of all entries, read as wasi-libc does, with a buffer of `room` bytes."""
        found: list[tuple[bytes, int, int]] = []
        cookie = 0
        while True:
            data = self.readdir(fd, cookie, room)
            place = 0
            while place + DIRENT.size <= len(data):
                following, inode, length, filetype = DIRENT.unpack_from(data, place)
                name = data[place + DIRENT.size : place + DIRENT.size + length]
                if len(name) < length:
                    break
                found.append((name, inode, filetype))
                cookie = following
                place += DIRENT.size + length
            if len(data) < room:
                return found
            assert place, "the buffer is too small for one entry"


def host_descriptors() -> set[int]:
    """The open descriptors of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the one that listed the folder
            continue
        found.add(int(name))
    return found


def snapshot(root: Path) -> dict[str, object]:
    """Everything below a directory: names, kinds, contents, modification times and numbers of names."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for name in [".", *folders, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            what: object = None
            if os.path.islink(path):
                what = os.readlink(path)
            elif os.path.isfile(path):
                what = Path(path).read_bytes()
            found[os.path.relpath(path, root)] = (status.st_mode, status.st_nlink, status.st_mtime_ns, what)
    return found
