"""Directories: the ones that the configuration opens for the guest, and those that the guest opens below them."""

from __future__ import annotations

import os

from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.descriptors.file import set_times, sync
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.fd import filetype_of
from donjon.wasm.wasi.p1.rights import DIRECTORY, FILE, Rights
from donjon.wasm.wasi.p1.types import Filetype

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from donjon.wasm.wasi.descriptors.base import Buffers, Event

__all__ = ["MOST_ENTRIES", "WRITING", "Directory", "is_proc", "preopen"]

WRITING = (
    Rights.FD_ALLOCATE
    | Rights.FD_FILESTAT_SET_SIZE
    | Rights.FD_FILESTAT_SET_TIMES
    | Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE  # a second name, in a directory that may be written to, would make the file writable
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_FILESTAT_SET_SIZE
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
)
"""What a directory with mode "ro" has not and does not pass on.

FD_WRITE is missing here on purpose: no descriptor below such a directory gets it, path_open sees to that by
`writable`, but `inheriting` goes on naming it. wasi-libc asks for no right that `inheriting` lacks, so without it
open(O_RDWR) would succeed, and the program would learn only from its first write, as EBADF, that it cannot.
"""

MOST_ENTRIES = 1 << 20
"""Entries of one picture, and of all that are kept: some 200 MB of the host's memory, two seconds of its time. A guest
that reads a directory with more gets `nomem`."""


class Directory(Descriptor):
    """A directory.

    Args:
        handle: the host's descriptor, which becomes this one's. `Descriptor.host` stays -1: nothing needs to be polled.
        rights, inheriting: of this descriptor, and of what is opened through it; what makes no sense is dropped.
        writable: may anything below be changed?
        guest: the name under which the guest finds it, if the configuration opened it.
    """

    __slots__ = ("_guest", "_picture", "handle", "writable")
    asks = True

    def __init__(
        self,
        handle: int,
        rights: int = DIRECTORY,
        inheriting: int = DIRECTORY | FILE,
        writable: bool = True,
        flags: int = 0,
        guest: str | None = None,
    ) -> None:
        dropped = 0 if writable else WRITING
        rights &= (DIRECTORY | Rights.FD_READ) & ~dropped
        super().__init__(-1, Filetype.DIRECTORY, rights, inheriting & (DIRECTORY | FILE) & ~dropped, flags)
        self.handle = handle
        self.writable = writable
        self._guest = guest
        self._picture: list[tuple[str, int, int]] | None = None

    def readv(self, buffers: Buffers) -> int:
        raise WasiError(Errno.ISDIR, "is a directory")

    def stat(self) -> os.stat_result:
        return os.fstat(self.handle)

    def sync(self, data_only: bool) -> None:
        sync(self.handle, data_only)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        set_times(self.handle, atime, mtime)

    def entries(self, cookie: int) -> Iterator[tuple[str, int, int]]:
        """As base.Descriptor says; the picture is kept until the directory is closed or others need the room.

        A picture that had to make room is taken again when the guest reads on, so what was made or removed meanwhile
        may repeat or hide an entry, as it may natively.
        """
        if not cookie or self._picture is None:
            self._forget()
            self._picture = self._taken()
            _pictured[self] = None
            _forget_old_pictures()
        picture = self._picture
        return map(picture.__getitem__, range(cookie, len(picture)))

    def _taken(self) -> list[tuple[str, int, int]]:
        inode = os.fstat(self.handle).st_ino
        # The parent may be outside, where not even its inode is the guest's business.
        picture = [(".", inode, Filetype.DIRECTORY), ("..", inode, Filetype.DIRECTORY)]
        with os.scandir(self.handle) as found:
            for entry in found:
                if len(picture) == MOST_ENTRIES:
                    raise WasiError(Errno.NOMEM, f"over {MOST_ENTRIES} entries")
                name = os.fsencode(entry.name).decode("utf-8", "surrogateescape")
                picture.append((name, entry.inode(), _filetype(entry)))
        return picture

    def _forget(self) -> None:
        self._picture = None
        _pictured.pop(self, None)

    def preopened(self) -> str | None:
        return self._guest

    def ready(self, kind: int) -> Event | None:
        return (Errno.SUCCESS, 0, 0)

    def close(self) -> None:
        self._forget()
        os.close(self.handle)


def preopen(host: str, guest: str, writable: bool) -> Directory:
    """Open a directory of the host's for the guest.

    Args:
        host: its path outside; symbolic links in it are followed, for the path is the configuration's, not the guest's.
        guest: the name inside.
        writable: may the guest change what is below it?
    Raises:
        OSError: it is not there, not a directory, or may not be read.
    """
    import fcntl  # noqa: F401 - which a File may need when no descriptor is free to load it with

    return Directory(os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), writable=writable, guest=guest)


def is_proc(found: os.stat_result) -> bool:
    """Is it in /proc? There memory is a file: the Keep's own, its key included, and that of the user's other processes.
    Whoever gives a guest "/" does not mean these."""
    return found.st_dev == _PROC


def _device(path: str) -> int:
    try:
        return os.stat(path).st_dev
    except OSError:  # macOS has none
        return -1


_PROC = _device("/proc/self/mem")

_pictured: dict[Directory, None] = {}
"""The directories that have a picture, the oldest first."""


def _forget_old_pictures() -> None:
    """Until all that are kept have MOST_ENTRIES together; one alone never has more."""
    kept = sum(len(directory._picture or ()) for directory in _pictured)
    while kept > MOST_ENTRIES:
        oldest = next(iter(_pictured))
        kept -= len(oldest._picture or ())
        oldest._forget()


def _filetype(entry: os.DirEntry[str]) -> int:
    """The filetype of an entry; what the kernel told with the name is enough for the common kinds."""
    try:
        if entry.is_symlink():
            return Filetype.SYMBOLIC_LINK
        if entry.is_file(follow_symlinks=False):
            return Filetype.REGULAR_FILE
        if entry.is_dir(follow_symlinks=False):
            return Filetype.DIRECTORY
        return filetype_of(entry.stat(follow_symlinks=False).st_mode)
    except OSError:  # it is gone by now
        return Filetype.UNKNOWN
