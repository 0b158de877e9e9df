"""fd_*: what can be done with an open descriptor.   [WASI-P1]"""

import os
import stat as host_stat
import time
from struct import Struct

from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.rights import Rights
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import (
    S64,
    U64,
    Advice,
    Buffer,
    Fd,
    Fdflags,
    FdNumber,
    Fdstat,
    Filesize,
    Filestat,
    Filetype,
    Fstflag,
    Fstflags,
    Iovecs,
    Prestat,
    RightsBits,
    Size,
    Whence,
)

# fmt: off
FDSTAT = Struct("<BxH4xQQ")         # fs_filetype fs_flags fs_rights_base fs_rights_inheriting      [WASI-P1 fdstat]
FILESTAT = Struct("<QQB7xQQQQQ")    # dev ino filetype nlink size atim mtim ctim                    [WASI-P1 filestat]
PRESTAT = Struct("<B3xI")           # tag (0: directory) name length                                [WASI-P1 prestat]
DIRENT = Struct("<QQIB3x")          # d_next d_ino d_namlen d_type                                  [WASI-P1 dirent]
# fmt: on


@wasi()
def fd_advise(guest: Guest, fd: Fd, offset: U64, len: U64, advice: Advice) -> None:
    """Hint at how a part of a file will be used.   [WASI-P1 fd_advise]

    spipe: fd has no position. inval: no such advice, or a range that no file can have.
    """
    _check_place(fd, Rights.FD_ADVISE)
    _check_range(offset, len)
    fd.advise(offset, len, advice)


@wasi()
def fd_allocate(guest: Guest, fd: Fd, offset: U64, len: U64) -> None:
    """Make room in a file, which grows if it has to.   [WASI-P1 fd_allocate]

    spipe: fd has no position. notsup: the host's file system cannot. inval: len is 0. fbig, nospc: too much.
    """
    _check_place(fd, Rights.FD_ALLOCATE)
    _check_range(offset, len)
    if not len:
        raise WasiError(Errno.INVAL, "len 0: expected at least 1")
    fd.allocate(offset, len)


@wasi()
def fd_close(guest: Guest, fd: FdNumber) -> None:
    """Close a descriptor; a TLS peer is told by close_notify.   [WASI-P1 fd_close]

    badf: fd is not open.
    """
    guest.remove(fd).close()


@wasi(rights=Rights.FD_DATASYNC)
def fd_datasync(guest: Guest, fd: Fd) -> None:
    """Bring a file's data to the disk.   [WASI-P1 fd_datasync]

    inval: fd is nothing that is on a disk. io: the host could not.
    """
    fd.sync(data_only=True)


@wasi()
def fd_fdstat_get(guest: Guest, fd: Fd) -> Fdstat:
    """Type, flags and rights of a descriptor.   [WASI-P1 fd_fdstat_get]"""
    return FDSTAT.pack(fd.filetype, fd.flags, fd.rights, fd.inheriting)


@wasi(rights=Rights.FD_FDSTAT_SET_FLAGS)
def fd_fdstat_set_flags(guest: Guest, fd: Fd, flags: Fdflags) -> None:
    """Replace the flags of a descriptor.   [WASI-P1 fd_fdstat_set_flags]

    inval: a flag that this kind of descriptor has not. notsup: one that cannot be changed while it is open.
    """
    fd.set_flags(flags)


@wasi()
def fd_fdstat_set_rights(guest: Guest, fd: Fd, fs_rights_base: RightsBits, fs_rights_inheriting: RightsBits) -> None:
    """Give up rights for good.   [WASI-P1 fd_fdstat_set_rights]

    notcapable: a right that fd does not have.
    """
    if fs_rights_base & ~fd.rights or fs_rights_inheriting & ~fd.inheriting:
        raise WasiError(Errno.NOTCAPABLE, "rights can only be given up")
    fd.rights, fd.inheriting = fs_rights_base, fs_rights_inheriting
    guest.generation += 1  # poll_oneoff asks for a right too


@wasi(rights=Rights.FD_FILESTAT_GET)
def fd_filestat_get(guest: Guest, fd: Fd) -> Filestat:
    """Attributes of what is open.   [WASI-P1 fd_filestat_get]"""
    found = fd.stat()
    if found is None:
        return FILESTAT.pack(0, 0, fd.filetype, 0, 0, 0, 0, 0)
    return pack_filestat(found, fd.filetype)


@wasi(rights=Rights.FD_FILESTAT_SET_SIZE)
def fd_filestat_set_size(guest: Guest, fd: Fd, size: U64) -> None:
    """Cut or extend a file; what is new reads as zeros.   [WASI-P1 fd_filestat_set_size]

    inval: fd is not a file. fbig: larger than any file can be.
    """
    if size >> 63:
        raise WasiError(Errno.FBIG, f"size {size:#x}: expected less than 2**63")
    fd.set_size(size)


@wasi(rights=Rights.FD_FILESTAT_SET_TIMES)
def fd_filestat_set_times(guest: Guest, fd: Fd, atim: U64, mtim: U64, fst_flags: Fstflags) -> None:
    """Set the times of what is open.   [WASI-P1 fd_filestat_set_times]

    inval: a time is to be both given and now.
    """
    fd.set_times(*chosen_times(atim, mtim, fst_flags))


@wasi(rights=Rights.FD_READ)
def fd_pread(guest: Guest, fd: Fd, iovs: Iovecs, offset: U64) -> Size:
    """Read at a place, without moving the position.   [WASI-P1 fd_pread]

    spipe: fd has no position (Zig's standard library asks, and relies on this answer). isdir: fd is a directory.
    """
    _check_place(fd, Rights.FD_SEEK)
    _check_range(offset, 0)
    return fd.preadv(iovs, offset)


@wasi()
def fd_prestat_get(guest: Guest, fd: Fd) -> Prestat:
    """Is it a directory that was opened for the guest, and how long is its name?   [WASI-P1 fd_prestat_get]

    badf: it is not. That is how C libraries find the end of the directories.
    """
    return PRESTAT.pack(0, len(_preopen_name(fd)))


@wasi()
def fd_prestat_dir_name(guest: Guest, fd: Fd, path: Buffer) -> None:
    """The name of a directory that was opened for the guest, without NUL.   [WASI-P1 fd_prestat_dir_name]

    badf: it is none. nametoolong: the buffer is shorter than the name.
    """
    name = _preopen_name(fd)
    if len(path) < len(name):
        raise WasiError(Errno.NAMETOOLONG, f"buffer of {len(path)} bytes: expected at least {len(name)}")
    path[: len(name)] = name


@wasi(rights=Rights.FD_WRITE)
def fd_pwrite(guest: Guest, fd: Fd, iovs: Iovecs, offset: U64) -> Size:
    """Write at a place, without moving the position.   [WASI-P1 fd_pwrite]

    spipe: fd has no position.
    """
    _check_place(fd, Rights.FD_SEEK)
    _check_range(offset, 0)
    return fd.pwritev(iovs, offset)


@wasi(rights=Rights.FD_READ)
def fd_read(guest: Guest, fd: Fd, iovs: Iovecs) -> Size:
    """Read into the buffers; 0 bytes are the end of data.   [WASI-P1 fd_read]

    again: nothing is there and fd is non-blocking. fault: a buffer reaches outside memory. io: the host could not read.
    """
    return fd.readv(iovs)


@wasi(rights=Rights.FD_READDIR)
def fd_readdir(guest: Guest, fd: Fd, buf: Buffer, cookie: U64) -> Size:
    """Write entries of a directory, from the one that `cookie` names on; a full buffer cuts the last.

    Cookie 0 starts afresh and takes a picture of the directory, so that what changes meanwhile neither repeats nor
    loses an entry. notdir: fd is not a directory.   [WASI-P1 fd_readdir]
    """
    used = 0
    for number, (name, inode, filetype) in enumerate(fd.entries(cookie), cookie + 1):
        text = name.encode("utf-8", "surrogateescape")
        entry = DIRENT.pack(number, inode, len(text), filetype) + text
        part = entry[: len(buf) - used]
        buf[used : used + len(part)] = part
        used += len(part)
        if used == len(buf):
            break
    return used


@wasi()
def fd_renumber(guest: Guest, fd: FdNumber, to: FdNumber) -> None:
    """Move a descriptor onto another, which is closed.   [WASI-P1 fd_renumber]

    badf: either is not open.
    """
    if fd not in guest.fds or to not in guest.fds:
        raise WasiError(Errno.BADF, f"descriptor {fd if fd not in guest.fds else to} is not open")
    if fd != to:
        old = guest.fds[to]
        guest.fds[to] = guest.remove(fd)
        old.close()


@wasi()
def fd_seek(guest: Guest, fd: Fd, offset: S64, whence: Whence) -> Filesize:
    """Move the position; the new one, in bytes from the start.   [WASI-P1 fd_seek]

    spipe: fd has no position. inval: before the start, or no such whence.
    """
    _check_place(fd, Rights.FD_SEEK)
    return fd.seek(offset, whence)


@wasi(rights=Rights.FD_SYNC)
def fd_sync(guest: Guest, fd: Fd) -> None:
    """Bring a file's data and attributes to the disk.   [WASI-P1 fd_sync]

    inval: fd is nothing that is on a disk. io: the host could not.
    """
    fd.sync(data_only=False)


@wasi()
def fd_tell(guest: Guest, fd: Fd) -> Filesize:
    """The position, in bytes from the start.   [WASI-P1 fd_tell]

    spipe: fd has no position.
    """
    _check_place(fd, Rights.FD_TELL)
    return fd.seek(0, 1)


@wasi(rights=Rights.FD_WRITE)
def fd_write(guest: Guest, fd: Fd, iovs: Iovecs) -> Size:
    """Write the buffers, perhaps only a part.   [WASI-P1 fd_write]

    again: no room and fd is non-blocking. pipe: nobody reads any more. fault: a buffer reaches outside memory.
    """
    return fd.writev(iovs)


# ---- what the functions above and those of path.py share


def pack_filestat(found: os.stat_result, filetype: int) -> bytes:
    """A host's stat as filestat.

    The guest sees device and inode, for it tells files apart by them; owner and permissions have no place in preview 1.
    """
    mask = (1 << 64) - 1
    return FILESTAT.pack(
        found.st_dev & mask,
        found.st_ino & mask,
        filetype,
        found.st_nlink,
        found.st_size,
        found.st_atime_ns & mask,
        found.st_mtime_ns & mask,
        found.st_ctime_ns & mask,
    )


def filetype_of(mode: int) -> int:
    """The filetype for a host's st_mode."""
    kind = host_stat.S_IFMT(mode)
    return _FILETYPES.get(kind, Filetype.UNKNOWN)


_FILETYPES = {
    host_stat.S_IFBLK: Filetype.BLOCK_DEVICE,
    host_stat.S_IFCHR: Filetype.CHARACTER_DEVICE,
    host_stat.S_IFDIR: Filetype.DIRECTORY,
    host_stat.S_IFREG: Filetype.REGULAR_FILE,
    host_stat.S_IFSOCK: Filetype.SOCKET_STREAM,
    host_stat.S_IFLNK: Filetype.SYMBOLIC_LINK,
}


def chosen_times(atim: int, mtim: int, flags: int) -> tuple[int | None, int | None]:
    """What fstflags choose: for each time a value in nanoseconds, or None to leave it.   [WASI-P1 fstflags]"""
    now = time.time_ns()
    chosen: list[int | None] = []
    for value, given, is_now in ((atim, Fstflag.ATIM, Fstflag.ATIM_NOW), (mtim, Fstflag.MTIM, Fstflag.MTIM_NOW)):
        if flags & given and flags & is_now:
            raise WasiError(Errno.INVAL, f"fstflags {flags:#x}: a time is to be both given and now")
        if value >> 63:
            value = (1 << 63) - 1
        chosen.append(value if flags & given else now if flags & is_now else None)
    return chosen[0], chosen[1]


def _check_place(fd: Fd, right: int) -> None:
    """Refuse what lacks a right to positions: as a stream if it is one, which programs rely on to find out."""
    if not fd.rights & right:
        if fd.filetype in (Filetype.SOCKET_STREAM, Filetype.CHARACTER_DEVICE, Filetype.UNKNOWN):
            raise WasiError(Errno.SPIPE, "has no position")
        raise WasiError(Errno.NOTCAPABLE, f"lacks right {right:#x}")


def _check_range(offset: int, length: int) -> None:
    if offset + length >> 63:
        raise WasiError(Errno.INVAL, f"offset {offset:#x}, length {length:#x}: expected less than 2**63 in all")


def _preopen_name(fd: Fd) -> bytes:
    name = fd.preopened()
    if name is None:
        raise WasiError(Errno.BADF, "was not opened for the guest as a directory")
    return name.encode()
