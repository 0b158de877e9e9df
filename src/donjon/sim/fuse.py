"""Puts `Rules` under a mount point by the kernel's own protocol: /dev/fuse and mount(2), no library.

It is what the simulated variant of the guest image has, where there is nothing but Python's standard library and the
one who mounts is process 1. Everywhere else there is `donjon.sim.mount`, which needs libfuse and no privilege.

The kernel asks by numbers of nodes that it got from us; `Rules` know paths. A node stays known until the kernel forgets
it. One whose entry was removed has no path any more: a new entry of the same name gets new numbers. Nothing is cached:
times of validity are zero, and files are read past the page cache, as their sizes are not known before.

Requests come one by one, each whole, in one read. What is not here is answered with ENOSYS.

Source: Linux, include/uapi/linux/fuse.h (protocol 7.31, which all later kernels speak too) [LINUX-FUSE].
"""

from __future__ import annotations

import errno
import os
import stat
from enum import IntEnum

from donjon import linux
from donjon.wire import layout, pack, size_of, u16, u32, u64, unpack, zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.sim.kernel import Rules

__all__ = ["DEVICE", "mount", "serve"]

DEVICE = "/dev/fuse"
MAJOR, MINOR = 7, 31
MAX_WRITE = 4096
BUFFER = 64 * 1024
"""Bytes for one request. The kernel wants room for 8 KiB, and for the largest write."""
ROOT = 1
DIRECT_IO = 1


class Op(IntEnum):
    """What the kernel can ask, as far as it is answered here."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


# fmt: off
@layout(size=0x28, spec="LINUX-FUSE, fuse_in_header")
class InHead:
    """Before every request."""

    length:  int = u32(0x00)
    op:      int = u32(0x04)
    unique:  int = u64(0x08)
    node:    int = u64(0x10)
    uid:     int = u32(0x18)
    gid:     int = u32(0x1C)
    pid:     int = u32(0x20)
    padding: int = u32(0x24)


@layout(size=0x10, spec="LINUX-FUSE, fuse_out_header")
class OutHead:
    """Before every answer."""

    length: int = u32(0x00)
    error:  int = u32(0x04)                          # minus an errno, as 32 bits
    unique: int = u64(0x08)


@layout(size=0x40, spec="LINUX-FUSE, fuse_init_out")
class InitOut:
    """What we speak."""

    major:         int = u32(0x00)
    minor:         int = u32(0x04)
    max_readahead: int = u32(0x08)
    flags:         int = u32(0x0C)
    background:    int = u16(0x10)
    congestion:    int = u16(0x12)
    max_write:     int = u32(0x14)
    time_gran:     int = u32(0x18)
    max_pages:     int = u16(0x1C)
    alignment:     int = u16(0x1E)
    unused_20          = zero(0x20, 0x20)


@layout(size=0x58, spec="LINUX-FUSE, fuse_attr")
class Attr:
    """What stat(2) shows."""

    node:      int = u64(0x00)
    size:      int = u64(0x08)
    blocks_10      = zero(0x10, 8)
    times_18       = zero(0x18, 36)
    mode:      int = u32(0x3C)
    links:     int = u32(0x40)
    uid:       int = u32(0x44)
    gid:       int = u32(0x48)
    rdev_4c        = zero(0x4C, 4)
    blksize:   int = u32(0x50)
    flags_54       = zero(0x54, 4)


@layout(size=0x28, spec="LINUX-FUSE, fuse_entry_out, before its fuse_attr")
class EntryOut:
    """A node; for how long it holds is zero."""

    node:         int = u64(0x00)
    generation:   int = u64(0x08)
    validity_10       = zero(0x10, 24)


@layout(size=0x10, spec="LINUX-FUSE, fuse_attr_out, before its fuse_attr")
class AttrOut:
    """For how long attributes hold: not at all."""

    validity_00 = zero(0x00, 16)


@layout(size=0x10, spec="LINUX-FUSE, fuse_open_out")
class OpenOut:
    """An open file."""

    handle:     int = u64(0x00)
    flags:      int = u32(0x08)
    padding_0c      = zero(0x0C, 4)


@layout(size=0x28, spec="LINUX-FUSE, fuse_read_in and fuse_write_in")
class Transfer:
    """What to read or write."""

    handle:     int = u64(0x00)
    offset:     int = u64(0x08)
    size:       int = u32(0x10)
    flags:      int = u32(0x14)
    lock_owner: int = u64(0x18)
    open_flags: int = u32(0x20)
    padding:    int = u32(0x24)


@layout(size=0x8, spec="LINUX-FUSE, fuse_write_out")
class WriteOut:
    """How much was taken."""

    size:       int = u32(0x00)
    padding_04      = zero(0x04, 4)


@layout(size=0x18, spec="LINUX-FUSE, fuse_dirent")
class Dirent:
    """Before a name in a directory."""

    node:   int = u64(0x00)
    offset: int = u64(0x08)
    length: int = u32(0x10)
    kind:   int = u32(0x14)


@layout(size=0x50, spec="LINUX-FUSE, fuse_kstatfs")
class StatfsOut:
    """What statfs(2) shows: no room for anything."""

    blocks_00          = zero(0x00, 40)
    block_size:    int = u32(0x28)
    name_length:   int = u32(0x2C)
    fragment_size: int = u32(0x30)
    padding_34         = zero(0x34, 28)
# fmt: on


def mount(where: str) -> int:
    """Mount on a directory.

    Returns:
        A descriptor for `serve`; when the last copy of it is closed, the mount is dead.
    Raises:
        OSError: the kernel refuses.
    """
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    # As the kernel's own files are, these are for whomever their modes let, not only for who mounts them.
    who = f"user_id={os.getuid()},group_id={os.getgid()}"
    options = f"fd={device},rootmode=40755,{who},default_permissions,allow_other"
    try:
        linux.mount("donjon-sim", where, "fuse", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, options)
    except OSError:
        os.close(device)
        raise
    return device


def serve(rules: Rules, device: int) -> None:
    """Answer the kernel until somebody unmounts."""
    server = Server(rules)
    while True:
        try:
            request = os.read(device, BUFFER)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # it was taken back; a signal
                continue
            if error.errno == errno.ENODEV:  # unmounted
                return
            raise
        answer = server.answer(request)
        if answer is not None:
            try:
                os.write(device, answer)
            except FileNotFoundError:  # who asked does not wait any more
                pass


class Server:
    """Requests in, answers out.

    Args:
        rules: what a request does.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._paths: dict[int, str | None] = {ROOT: "/"}
        """Of each node that the kernel knows; None: its entry was removed."""
        self._nodes = {"/": ROOT}
        self._known = {ROOT: 1}
        """How often the kernel was told of a node, less what it has forgotten."""
        self._next = ROOT + 1
        self._listed: dict[int, list[str]] = {}
        """What a directory held when it was opened."""

    def answer(self, request: bytes) -> bytes | None:
        """Do what the kernel asks; None where it wants no answer."""
        head = unpack(InHead, request[: size_of(InHead)])
        body = request[size_of(InHead) : head.length]
        if head.op in (Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT):
            self._forget(head, body)
            return None
        try:
            found, number = self._do(head, body), 0
        except OSError as error:
            found, number = b"", error.errno or errno.EIO
        out = OutHead(length=size_of(OutHead) + len(found), error=-number & 0xFFFF_FFFF, unique=head.unique)
        return pack(out) + found

    def _do(self, head: InHead, body: bytes) -> bytes:
        match head.op:
            case Op.INIT:
                return pack(
                    InitOut(
                        major=MAJOR, minor=MINOR, max_readahead=0, flags=0, background=8, congestion=6,
                        max_write=MAX_WRITE, time_gran=1, max_pages=0, alignment=0,
                    )
                )  # fmt: skip
            case Op.LOOKUP:
                return self._entry(self._below(head.node, body))
            case Op.GETATTR | Op.SETATTR:
                # Shells open with O_TRUNC; attributes take it and keep what they hold.
                return pack(AttrOut()) + self._attr(head.node)
            case Op.MKDIR:
                path = self._below(head.node, body[8:])
                self._rules.make(path)
                return self._entry(path)
            case Op.RMDIR:
                path = self._below(head.node, body)
                self._rules.remove(path)
                self._removed(path)
                return b""
            case Op.UNLINK:
                raise OSError(errno.EPERM, "")
            case Op.MKNOD | Op.CREATE:
                raise OSError(errno.EACCES, "")
            case Op.OPEN:
                handle = self._rules.open(self._path(head.node), int.from_bytes(body[:4], "little"))
                return pack(OpenOut(handle=handle, flags=DIRECT_IO))
            case Op.READ:
                wanted = unpack(Transfer, body)
                return self._rules.read(wanted.handle, wanted.size, wanted.offset)
            case Op.WRITE:
                given, data = unpack(Transfer, body[: size_of(Transfer)]), body[size_of(Transfer) :]
                return pack(WriteOut(size=self._rules.write(given.handle, data[: given.size], given.offset)))
            case Op.FLUSH | Op.RELEASE:
                handle = int.from_bytes(body[:8], "little")
                (self._rules.flush if head.op == Op.FLUSH else self._rules.release)(handle)
                return b""
            case Op.OPENDIR:
                names = self._rules.names(self._path(head.node))
                handle, self._next = self._next, self._next + 1
                self._listed[handle] = names
                return pack(OpenOut(handle=handle, flags=0))
            case Op.READDIR:
                return self._names(self._path(head.node), unpack(Transfer, body))
            case Op.RELEASEDIR:
                self._listed.pop(int.from_bytes(body[:8], "little"), None)
                return b""
            case Op.STATFS:
                return pack(StatfsOut(block_size=4096, name_length=255, fragment_size=4096))
            case Op.DESTROY:
                return b""
            case _:
                raise OSError(errno.ENOSYS, "")

    def _names(self, path: str, wanted: Transfer) -> bytes:
        """As many entries as the kernel has room for; `offset` counts those that it has."""
        found = bytearray()
        for index, name in enumerate(self._listed.get(wanted.handle, ())):
            if index < wanted.offset:
                continue
            try:
                kind = stat.S_IFMT(self._rules.mode(f"{path.rstrip('/')}/{name}")) >> 12
            except OSError:  # it is gone by now
                continue
            data = os.fsencode(name)
            # A number that is not zero is needed, and none that stat(2) would show: nobody was told of a node yet.
            item = pack(Dirent(node=index + 2, offset=index + 1, length=len(data), kind=kind)) + data
            item += bytes(-len(item) % 8)
            if len(found) + len(item) > wanted.size:
                break
            found += item
        return bytes(found)

    def _below(self, node: int, name: bytes) -> str:
        return f"{self._path(node).rstrip('/')}/{os.fsdecode(name.rstrip(bytes(1)))}"

    def _path(self, node: int) -> str:
        path = self._paths.get(node)
        if path is None:
            raise OSError(errno.ENOENT, "")
        return path

    def _entry(self, path: str) -> bytes:
        """Tell the kernel of a node."""
        self._rules.mode(path)  # whether it is there
        node = self._nodes.get(path)
        if node is None:
            node, self._next = self._next, self._next + 1
            self._nodes[path], self._paths[node], self._known[node] = node, path, 0
        self._known[node] += 1
        return pack(EntryOut(node=node, generation=0)) + self._attr(node)

    def _attr(self, node: int) -> bytes:
        mode = self._rules.mode(self._path(node))
        file = stat.S_ISREG(mode)
        # The kernel says 4096 for every attribute, whatever it holds.
        return pack(
            Attr(
                node=node,
                size=4096 if file else 0,
                mode=mode,
                links=1 if file else 2,
                uid=os.getuid(),
                gid=os.getgid(),
                blksize=4096,
            )
        )

    def _removed(self, path: str) -> None:
        for known in [one for one in self._nodes if one == path or one.startswith(f"{path}/")]:
            self._paths[self._nodes.pop(known)] = None

    def _forget(self, head: InHead, body: bytes) -> None:
        if head.op == Op.FORGET:
            self._less(head.node, int.from_bytes(body[:8], "little"))
        elif head.op == Op.BATCH_FORGET:
            for start in range(8, 8 + 16 * int.from_bytes(body[:4], "little"), 16):
                node, count = body[start : start + 8], body[start + 8 : start + 16]
                self._less(int.from_bytes(node, "little"), int.from_bytes(count, "little"))

    def _less(self, node: int, count: int) -> None:
        if node == ROOT or node not in self._known:
            return
        self._known[node] -= count
        if self._known[node] <= 0:
            path = self._paths.pop(node)
            del self._known[node]
            if path is not None:
                self._nodes.pop(path, None)
