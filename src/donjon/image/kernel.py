"""A Linux kernel file for x86: where its compressed part is; and in which order modules are loaded.   [LINUX-BOOT]"""

from __future__ import annotations

import struct

from donjon.errors import ParseError
from donjon.image import elf
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["VMLINUX_LIMIT", "load_order", "payload"]

SETUP_SECTS, MAGIC, VERSION, PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
SECTOR = 512  # bytes
ZSTD = b"\x28\xb5\x2f\xfd"
VMLINUX_LIMIT = 256 << 20
"""Bytes of an unpacked kernel: four times what Debian's has."""


def payload(image: bytes, name: str) -> bytes:
    """The compressed kernel inside a bzImage: one zstd frame, and then its length in four bytes.

    Raises:
        ParseError: it is no bzImage, or compressed in another way.
    """
    if len(image) < PAYLOAD + 8 or image[MAGIC : MAGIC + 4] != b"HdrS":
        raise ParseError(f"{name}: expected a Linux kernel (bzImage), with HdrS at {MAGIC:#x}")
    (version,) = struct.unpack_from("<H", image, VERSION)
    if version < 0x208:
        raise ParseError(f"{name}: expected boot protocol 2.08 or later, got {version >> 8}.{version & 0xFF:02}")
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = (image[SETUP_SECTS] + 1) * SECTOR + offset
    packed = image[start : start + length]
    if len(packed) != length or not packed.startswith(ZSTD):
        raise ParseError(f"{name}: expected {length} bytes of zstd at {start:#x}")
    return packed


def load_order(wanted: Iterable[str], read: Callable[[str], bytes | None]) -> list[tuple[str, bytes]]:
    """The modules `wanted` and those that they depend on, each after what it needs.

    Args:
        read: name, with _ for -, to the file's bytes; None where there is no such module.
    Raises:
        ParseError: a module is missing or malformed, or they depend on each other.
    """
    loaded: dict[str, bytes] = {}
    path: list[str] = []  # what waits for what, outermost first
    contents: dict[str, bytes] = {}
    for first in wanted:
        path.append(first.replace("-", "_"))
        while path:
            name = path[-1]
            if name in loaded:
                path.pop()
                continue
            if name not in contents:
                data = read(name)
                if data is None:
                    by = f", which {printable(path[-2])} depends on" if len(path) > 1 else ""
                    raise ParseError(f"kernel module {printable(name)}{by}: there is none in the package")
                contents[name] = data
            depends = dict(elf.modinfo(contents[name], name)).get("depends", "")
            missing = [other for other in depends.replace("-", "_").split(",") if other and other not in loaded]
            if not missing:
                loaded[name] = contents[name]
                path.pop()
            elif missing[0] in path:
                other = printable(missing[0])
                raise ParseError(f"kernel module {printable(name)}: {other} depends on it, and it on {other}")
            else:
                path.append(missing[0])
    return list(loaded.items())
