"""Archives of the kind that Linux unpacks at boot: "newc" cpio, written so that equal content gives equal bytes.

A header is 110 bytes of ASCII: the magic number 070701 and thirteen numbers of eight hexadecimal digits. Name and
content follow, each filled up to a multiple of four. Everything in it that could tell one build from another is fixed:
names are sorted, inode numbers count from 1, owners, times and devices are 0. Linux takes several archives in a row,
each compressed by itself; a later one replaces files of an earlier one.   [INITRAMFS]
"""

from __future__ import annotations

import stat

from donjon.errors import BugError, ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LIMIT", "Entry", "directory", "file", "link", "node", "read", "write"]

LIMIT = 256 << 20
"""Bytes of an archive that `read` looks at: several times what an image has."""
MAGIC = b"070701"
HEADER = 110  # bytes
TRAILER = "TRAILER!!!"
ALIGNMENT = 512
"""An archive's length is a multiple of this, as cpio's own are, so that another can follow anywhere."""


class Entry:
    """One file, directory, link or device.

    Args:
        mode: kind and permissions, as in `st_mode`.
        data: a file's content, or a link's target.
        device: a device's two numbers.
    """

    __slots__ = ("data", "device", "mode")

    def __init__(self, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self.mode = mode
        self.data = data
        self.device = device


def file(data: bytes, executable: bool = False) -> Entry:
    """A file that root owns and everybody can read."""
    return Entry(stat.S_IFREG | (0o755 if executable else 0o644), data)


def directory(mode: int = 0o755) -> Entry:
    """A directory that root owns."""
    return Entry(stat.S_IFDIR | mode)


def link(target: str) -> Entry:
    """A symbolic link."""
    return Entry(stat.S_IFLNK | 0o777, target.encode())


def node(major: int, minor: int, mode: int) -> Entry:
    """A character device, by its numbers in the kernel's list."""
    return Entry(stat.S_IFCHR | mode, b"", (major, minor))


def write(entries: Mapping[str, Entry]) -> bytes:
    """The archive of `entries`, by path without a slash in front; directories above a path need not be given."""
    whole = dict(entries)
    for path in entries:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in path:
            raise BugError(f"{path!r}: expected a path from the root, without . and ..")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if not stat.S_ISDIR(whole.setdefault(parent, directory()).mode):
                raise BugError(f"{path}: {parent} is no directory")
    out = bytearray()
    for inode, path in enumerate(sorted(whole, key=str.encode), 1):
        _append(out, inode, path, whole[path])
    _append(out, 0, TRAILER, Entry(0))
    out += bytes(-len(out) % ALIGNMENT)
    return bytes(out)


def _append(out: bytearray, inode: int, path: str, entry: Entry) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    out += MAGIC + b"".join(b"%08X" % field for field in fields) + name
    out += bytes(-len(out) % 4) + entry.data
    out += bytes(-len(out) % 4)


def read(data: bytes | memoryview) -> Iterator[tuple[str, Entry]]:
    """Paths and entries of one archive, or of several in a row with nothing but zeros between them.

    Raises:
        ParseError: it is no archive of this kind, or ends early.
    """
    view = memoryview(data)
    if len(view) > LIMIT:
        raise ParseError(f"cpio: {len(view)} bytes, expected at most {LIMIT}")
    at = 0
    ended = True
    while at < len(view):
        if view[at] == 0 and at % 4 == 0 and ended:  # between two archives
            at += 4
            continue
        head = bytes(view[at : at + HEADER])
        if len(head) < HEADER or not head.startswith(MAGIC):
            raise ParseError(f"cpio at {at:#x}: expected a header that begins with 070701, got {head[:6]!r}")
        try:
            fields = [int(head[start : start + 8], 16) for start in range(6, HEADER, 8)]
        except ValueError:
            raise ParseError(f"cpio at {at:#x}: expected hexadecimal digits in the header") from None
        mode, size, length = fields[1], fields[6], fields[11]
        start = at + HEADER
        body = start + length + -(start + length) % 4
        if not length or body + size > len(view):
            raise ParseError(
                f"cpio at {at:#x}: expected {length} bytes of a name and {size} of content, the file ends early"
            )
        try:
            path = bytes(view[start : start + length - 1]).decode()
        except UnicodeDecodeError:
            raise ParseError(f"cpio at {at:#x}: expected a name in UTF-8") from None
        ended = path == TRAILER
        if not ended:
            yield path, Entry(mode, bytes(view[body : body + size]), (fields[9], fields[10]))
        at = body + size + -(body + size) % 4
    if not ended:
        raise ParseError(f"cpio at {at:#x}: expected {TRAILER} at the end")
