"""What packages hold: files of a Debian package (ar, tar, xz) and of a Python wheel (zip), as paths and bytes.

Every package was compared with the lock before it comes here; sizes are bounded all the same, and no path leaves the
directory that it is unpacked to.
"""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
import zlib

from donjon.errors import ParseError, PlatformError
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LIMIT", "Item", "deb", "wheel"]

LIMIT = 512 << 20
"""Bytes of all files of one package; the largest, a kernel, has 40 MB."""


WRONG = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, struct.error,
)  # fmt: skip
"""What Python's readers raise on files that are malformed, beside what `lzma` does, which not every Python has."""


class Item:
    """A file, with its `data`, or a link, with its target in `link`; `mode` is its permissions."""

    __slots__ = ("data", "link", "mode", "path")

    def __init__(self, path: str, data: bytes, mode: int, link: str = "") -> None:
        self.path = path
        self.data = data
        self.mode = mode
        self.link = link


def deb(data: bytes, name: str) -> Iterator[Item]:
    """The files of a Debian package, less directories and devices.   [DEB]

    Raises:
        ParseError: it is malformed.
        PlatformError: this Python has no xz.
    """
    packed = next((body for member, body in _members(data, name) if member.startswith("data.tar")), None)
    if packed is None:
        raise ParseError(f"{name}: expected a member data.tar")
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r|*") as archive:
            for member in archive:
                if not (member.isreg() or member.issym()):
                    continue
                path = _inside(member.name, name)
                if member.isreg():
                    total += member.size
                    if total > LIMIT:
                        raise ParseError(f"{name}: expected at most {LIMIT} bytes of files")
                    file = archive.extractfile(member)
                    yield Item(path, file.read() if file is not None else b"", member.mode & 0o777)
                else:
                    yield Item(path, b"", 0o777, member.linkname)
    except tarfile.CompressionError as error:
        raise PlatformError(
            f"cannot unpack {name}: this Python lacks the module lzma",
            hint="use a Python that was built with liblzma, as those of distributions are",
        ) from error
    except WRONG as error:
        raise ParseError(f"{name}: expected a tar archive: {_words(error)}") from error


def _members(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive."""
    if not data.startswith(b"!<arch>\n"):
        raise ParseError(f"{name}: expected a Debian package, which begins with !<arch>")
    at = 8
    while at < len(data):
        head = data[at : at + 60]
        size = head[48:58].strip()
        if head[58:] != b"`\n" or not size.isdigit() or at + 60 + int(size) > len(data):
            raise ParseError(f"{name} at {at:#x}: expected a member of the archive, the file ends early")
        yield head[:16].decode("latin-1").rstrip(" /"), data[at + 60 : at + 60 + int(size)]
        at += 60 + int(size) + int(size) % 2


def wheel(data: bytes, name: str) -> Iterator[Item]:
    """The files of a Python wheel.   [PEP427]

    Raises:
        ParseError: it is malformed.
    """
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.filename.endswith("/"):
                    continue
                total += info.file_size
                if total > LIMIT:
                    raise ParseError(f"{name}: expected at most {LIMIT} bytes of files")
                mode = stat.S_IMODE(info.external_attr >> 16) or 0o644
                yield Item(_inside(info.filename, name), archive.read(info), mode)
    except WRONG as error:
        raise ParseError(f"{name}: expected a wheel: {_words(error)}") from error


def _words(error: Exception) -> str:
    return printable(str(error)[:200]) or type(error).__name__


def _inside(path: str, name: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or path.startswith("/") or "\0" in path or "\\" in path:
        raise ParseError(f"{name}: {printable(path[:200])} leads out of the package")
    return "/".join(parts)
