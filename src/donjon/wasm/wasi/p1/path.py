"""path_*: what can be done with a name beneath an open directory.   [WASI-P1]

Every function that takes a path resolves it with `Walk`, which cannot leave the directory, and gets a descriptor and
one name; what is done with these two follows no link. What any of them can answer because of its path, so that it is
not said each time: noent, notdir, acces, loop (over 40 links), nametoolong, ilseq (not UTF-8), inval (a NUL byte), and
notcapable where the path is absolute or leads out, or the directory lacks the right. notdir: fd is not a directory.

A link can be renamed, removed and read like any name. With a slash after its last component, a path means the
directory that is there, through a link if need be, as POSIX has it; where a name is made or removed, a link is never
looked through.
"""

import os
import stat as host_stat

from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.descriptors.directory import Directory, is_proc
from donjon.wasm.wasi.descriptors.file import Device, File, set_times
from donjon.wasm.wasi.descriptors.walk import NOT_OPENED, Walk
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.fd import chosen_times, filetype_of, pack_filestat
from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.rights import Rights
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import (
    U64,
    Buffer,
    Fd,
    Fdflag,
    Fdflags,
    Filestat,
    Filetype,
    Fstflags,
    Lookupflags,
    NewFd,
    Oflag,
    Oflags,
    Path,
    RightsBits,
    Size,
)


@wasi(rights=Rights.PATH_CREATE_DIRECTORY)
def path_create_directory(guest: Guest, fd: Fd, path: Path) -> None:
    """Make a directory.   [WASI-P1 path_create_directory]

    exist: the name is taken, be it by a link that leads nowhere.
    """
    with Walk(_directory(fd).handle, path) as walk:
        os.mkdir(walk.name, 0o777, dir_fd=walk.parent)


@wasi(rights=Rights.PATH_FILESTAT_GET)
def path_filestat_get(guest: Guest, fd: Fd, flags: Lookupflags, path: Path) -> Filestat:
    """Attributes of a name; of a link itself, unless `flags` say to follow it.   [WASI-P1 path_filestat_get]"""
    with Walk(_directory(fd).handle, path) as walk:
        found = _find(walk, flags)
    return pack_filestat(found, filetype_of(found.st_mode))


@wasi(rights=Rights.PATH_FILESTAT_SET_TIMES)
def path_filestat_set_times(
    guest: Guest, fd: Fd, flags: Lookupflags, path: Path, atim: U64, mtim: U64, fst_flags: Fstflags
) -> None:
    """Set the times of what has a name; of a link itself, unless `flags` say to follow it.

    inval: a time is to be both given and now.   [WASI-P1 path_filestat_set_times]
    """
    atime, mtime = chosen_times(atim, mtim, fst_flags)
    with Walk(_directory(fd).handle, path) as walk:
        _find(walk, flags)
        set_times(walk.name, atime, mtime, walk.parent)


@wasi(rights={"old_fd": Rights.PATH_LINK_SOURCE, "new_fd": Rights.PATH_LINK_TARGET})
def path_link(guest: Guest, old_fd: Fd, old_flags: Lookupflags, old_path: Path, new_fd: Fd, new_path: Path) -> None:
    """Give a file one more name; a link itself, unless `old_flags` say to follow it.   [WASI-P1 path_link]

    exist: the new name is taken. perm: the old one is a directory. xdev: they are on different file systems.
    """
    old_root, new_root = _directory(old_fd).handle, _directory(new_fd).handle
    with Walk(old_root, old_path) as old, Walk(new_root, new_path) as new:
        if old_flags or old.slash:
            _find(old, old_flags)
        _refuse_slash(new)
        os.link(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent, follow_symlinks=False)


@wasi(rights=Rights.PATH_OPEN)
def path_open(
    guest: Guest,
    fd: Fd,
    dirflags: Lookupflags,
    path: Path,
    oflags: Oflags,
    fs_rights_base: RightsBits,
    fs_rights_inheriting: RightsBits,
    fdflags: Fdflags,
) -> NewFd:
    """Open a file or a directory, or make a file and open it.   [WASI-P1 path_open]

    The new descriptor has what is asked for of the rights that `fd` passes on and that make sense for what was opened;
    but to ask for fd_read or fd_write in vain is an error: the descriptor would be of no use.

    notcapable: so asked; or creat without path_create_file, or trunc without path_filestat_set_size. exist: excl, and
    it is there. isdir: a directory is to be written, or made. notdir: directory is asked for and it is none. loop: it
    is a link and `dirflags` do not say to follow it. inval: creat and directory together. nxio: a named pipe that
    nobody reads, or a socket. mfile: the guest has as many descriptors open as it may.
    """
    directory = _directory(fd)
    _check_may_open(directory, oflags, fs_rights_base)
    if len(guest.fds) >= guest.limit:
        raise WasiError(Errno.MFILE, f"{guest.limit} descriptors are open, which is the limit")
    with Walk(directory.handle, path) as walk:
        handle = _open(walk, dirflags, _host_flags(oflags, fs_rights_base, fdflags))
    try:
        opened = _descriptor(guest, directory, handle, fs_rights_base, fs_rights_inheriting, fdflags)
    except BaseException:
        os.close(handle)
        raise
    return guest.add(opened)


def _check_may_open(directory: Directory, oflags: int, rights: int) -> None:
    if oflags & Oflag.CREAT:
        if oflags & Oflag.DIRECTORY:
            raise WasiError(Errno.INVAL, f"oflags {oflags:#x}: expected creat or directory, not both")
        if not directory.rights & Rights.PATH_CREATE_FILE:
            raise WasiError(Errno.NOTCAPABLE, "no right to make a file here")
    if oflags & Oflag.TRUNC and not directory.rights & Rights.PATH_FILESTAT_SET_SIZE:
        raise WasiError(Errno.NOTCAPABLE, "no right to cut a file here")
    passed_on = directory.inheriting if directory.writable else directory.inheriting & ~Rights.FD_WRITE
    if rights & (Rights.FD_READ | Rights.FD_WRITE) & ~passed_on:
        raise WasiError(Errno.NOTCAPABLE, "no right to read, or to write, what is opened here")


def _host_flags(oflags: int, rights: int, fdflags: int) -> int:
    """Flags for open(2).

    O_NONBLOCK: a named pipe or a device must not hold up the Keep; for files it means nothing. To cut a file takes the
    host's permission to write, whether or not the guest is going to.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    if rights & Rights.FD_WRITE or oflags & Oflag.TRUNC:
        flags |= os.O_RDWR if rights & Rights.FD_READ else os.O_WRONLY
    if oflags & Oflag.CREAT:
        flags |= os.O_CREAT
    if oflags & Oflag.DIRECTORY:
        flags |= os.O_DIRECTORY
    if oflags & Oflag.EXCL:
        flags |= os.O_EXCL
    if oflags & Oflag.TRUNC:
        flags |= os.O_TRUNC
    if fdflags & Fdflag.APPEND:
        flags |= os.O_APPEND
    return flags


def _open(walk: Walk, follow: int, flags: int) -> int:
    """The host's descriptor of what the walk leads to. A link is met as the error that O_NOFOLLOW gives."""
    while True:
        if walk.slash:
            if flags & os.O_CREAT:
                raise WasiError(Errno.ISDIR, "a slash after the name of a file that is to be made")
            flags |= os.O_DIRECTORY
        try:
            return os.open(walk.name, flags, 0o666, dir_fd=walk.parent)
        except OSError as error:
            if not (follow or walk.slash) or error.errno not in NOT_OPENED or not walk.follow():
                raise


def _descriptor(
    guest: Guest, directory: Directory, handle: int, rights: int, inheriting: int, fdflags: int
) -> Descriptor:
    """What the guest gets for something that is open."""
    rights &= directory.inheriting
    found = os.fstat(handle)
    if is_proc(found):
        raise WasiError(Errno.ACCES, "/proc holds the Keep's own memory")
    filetype = filetype_of(found.st_mode)
    if filetype == Filetype.DIRECTORY:
        return Directory(handle, rights, inheriting & directory.inheriting, directory.writable, fdflags)
    if filetype in (Filetype.REGULAR_FILE, Filetype.BLOCK_DEVICE):
        return File(handle, rights, fdflags, filetype)
    return Device(handle, rights, fdflags, guest.reactor)


@wasi(rights=Rights.PATH_READLINK)
def path_readlink(guest: Guest, fd: Fd, path: Path, buf: Buffer) -> Size:
    """Read where a link leads, without NUL; a buffer that is too short gets the beginning.   [WASI-P1 path_readlink]

    inval: it is not a link.
    """
    with Walk(_directory(fd).handle, path) as walk:
        if walk.slash:
            _find(walk, follow=True)
        text = os.readlink(walk.name, dir_fd=walk.parent)[: len(buf)]
    buf[: len(text)] = text
    return len(text)


@wasi(rights=Rights.PATH_REMOVE_DIRECTORY)
def path_remove_directory(guest: Guest, fd: Fd, path: Path) -> None:
    """Remove a directory.   [WASI-P1 path_remove_directory]

    notempty: something is in it. notdir: it is something else, or a link. inval: it is where the path starts, or ".".
    """
    with Walk(_directory(fd).handle, path) as walk:
        os.rmdir(walk.name, dir_fd=walk.parent)


@wasi(rights={"fd": Rights.PATH_RENAME_SOURCE, "new_fd": Rights.PATH_RENAME_TARGET})
def path_rename(guest: Guest, fd: Fd, old_path: Path, new_fd: Fd, new_path: Path) -> None:
    """Give something another name; what has that name already is replaced.   [WASI-P1 path_rename]

    isdir, notdir: a file would replace a directory, or a directory something else; notdir also: a slash after the name
    of something else. notempty: the directory to be replaced is not empty. inval: a directory would come to be below
    itself. xdev: they are on different file systems.
    """
    old_root, new_root = _directory(fd).handle, _directory(new_fd).handle
    with Walk(old_root, old_path) as old, Walk(new_root, new_path) as new:
        if old.slash or new.slash:
            _check_directory(old)
        os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)


@wasi(rights={"fd": Rights.PATH_SYMLINK})
def path_symlink(guest: Guest, old_path: Path, fd: Fd, new_path: Path) -> None:
    """Make a symbolic link with the text `old_path`, which need not lead anywhere.   [WASI-P1 path_symlink]

    exist: the name is taken. notcapable: old_path is absolute; no guest could follow it, but programs of the host
    would.
    """
    if old_path.startswith("/"):
        raise WasiError(Errno.NOTCAPABLE, f"link to {old_path!r}: expected a relative path")
    with Walk(_directory(fd).handle, new_path) as walk:
        _refuse_slash(walk)
        os.symlink(old_path.encode(), walk.name, dir_fd=walk.parent)


@wasi(rights=Rights.PATH_UNLINK_FILE)
def path_unlink_file(guest: Guest, fd: Fd, path: Path) -> None:
    """Remove a name that is not a directory's.   [WASI-P1 path_unlink_file]

    isdir: it is a directory's. notdir: a slash comes after the name of something else.
    """
    with Walk(_directory(fd).handle, path) as walk:
        if walk.slash:
            _check_directory(walk)
            raise WasiError(Errno.ISDIR, "is a directory")
        try:
            os.unlink(walk.name, dir_fd=walk.parent)
        except PermissionError:  # what macOS says of a directory, where Linux has EISDIR
            if host_stat.S_ISDIR(_status(walk).st_mode):
                raise WasiError(Errno.ISDIR, "is a directory") from None
            raise


# ---- what several of them need


def _directory(fd: Descriptor) -> Directory:
    if not isinstance(fd, Directory):
        raise WasiError(Errno.NOTDIR, "is not a directory")
    return fd


def _status(walk: Walk) -> os.stat_result:
    return os.stat(walk.name, dir_fd=walk.parent, follow_symlinks=False)


def _find(walk: Walk, follow: int) -> os.stat_result:
    """Walk on through links, if `follow` or a slash says so; the host's stat of what the walk then leads to."""
    while True:
        found = _status(walk)
        if host_stat.S_ISLNK(found.st_mode) and (follow or walk.slash):
            walk.follow()
        elif walk.slash and not host_stat.S_ISDIR(found.st_mode):
            raise WasiError(Errno.NOTDIR, "a slash comes after the name, and it is not a directory")
        else:
            return found


def _check_directory(walk: Walk) -> None:
    """For a name with a slash after it: it must be a directory itself."""
    if not host_stat.S_ISDIR(_status(walk).st_mode):
        raise WasiError(Errno.NOTDIR, "a slash comes after the name, and it is not a directory")


def _refuse_slash(walk: Walk) -> None:
    """For a name that will not be a directory."""
    if walk.slash:
        _check_directory(walk)  # noent is the answer where nothing is
        raise WasiError(Errno.EXIST, "the name is taken")
