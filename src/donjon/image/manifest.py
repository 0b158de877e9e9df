"""What an image is: its files with their digests, what is in them and which package each is from.

The manifest has no time, host or path of a machine in it: equal images have equal manifests, and an image's digest is
that of its manifest.
"""

from __future__ import annotations

import json
import stat

from donjon.errors import ParseError
from donjon.image.recipe import VARIANTS
from donjon.sums import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from donjon.image.cpio import Entry

__all__ = ["FILES", "FORMAT", "LIMIT", "canonical", "make", "parse"]

FORMAT = 1
FILES = ("bzImage", "vmlinux", "initrd.zst", "initrd.cpio")
LIMIT = 4 << 20  # bytes
MOST = 1 << 40
"""Bytes of a file, or of a part: a number above it is a mistake."""


def make(
    variant: str, cmdline: str, lock: str, files: Mapping[str, bytes], segments: Mapping[str, Mapping[str, Entry]],
    raws: Mapping[str, bytes], packed: Mapping[str, bytes], origins: Mapping[str, str],
    packages: Iterable[Mapping[str, object]],
    purposes: Iterable[Mapping[str, object]],
) -> dict[str, Any]:  # fmt: skip
    """The manifest as an object for JSON.

    Args:
        files: the image's, by name. segments: what the initramfs consists of, and `raws` and `packed` its bytes.
        origins: path inside -> name of a package. packages: rows of the lock.
        purposes: what the bytes are for.
    """
    return {
        "format": FORMAT,
        "variant": variant,
        "cmdline": cmdline,
        "lock": lock,
        "files": {name: _sized(data) for name, data in files.items()},
        "segments": [
            {
                "name": name,
                "raw": _sized(raws[name]),
                "zstd": _sized(packed[name]),
                "content": {path: _content(entry, origins.get(path)) for path, entry in sorted(entries.items())},
            }
            for name, entries in segments.items()
        ],
        "packages": [dict(package) for package in packages],
        "purposes": [dict(purpose) for purpose in purposes],
    }


def _sized(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": sha256(data).hex()}


def _content(entry: Entry, origin: str | None) -> dict[str, object]:
    found: dict[str, object] = {"mode": f"{stat.S_IMODE(entry.mode):04o}"}
    if stat.S_ISREG(entry.mode):
        found |= _sized(entry.data)
    elif stat.S_ISLNK(entry.mode):
        found["link"] = entry.data.decode()
    elif stat.S_ISCHR(entry.mode):
        found["device"] = list(entry.device)
    else:
        found["directory"] = True
    return found | ({"package": origin} if origin else {})


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """The one way to write it: keys in order, a line each, a newline at the end."""
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def parse(data: bytes, name: str) -> dict[str, Any]:
    """Read a manifest that `canonical` wrote.

    Raises:
        ParseError: it is malformed; nothing but what is needed to use an image and to describe it is looked at.
    """
    if len(data) > LIMIT:
        raise ParseError(f"{name}: expected at most {LIMIT} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{name}: expected JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ParseError(f"{name}: expected a manifest of format {FORMAT}")
    for key in ("variant", "cmdline", "lock"):
        if not isinstance(found.get(key), str):
            raise ParseError(f"{name}: expected {key}, a text")
    if found["variant"] not in VARIANTS:
        raise ParseError(f"{name}: expected a variant of {', '.join(VARIANTS)}")
    if not found["cmdline"].isprintable():
        raise ParseError(f"{name}: expected cmdline to be one line of characters that can be printed")
    files = found.get("files")
    if not isinstance(files, dict) or set(files) != set(FILES):
        raise ParseError(f"{name}: expected files {', '.join(FILES)}")
    for file, about in files.items():
        if not _has(about, size=int, sha256=str):
            raise ParseError(f"{name}: files.{file}: expected size and sha256")
    for key, fields in _ROWS.items():
        rows = found.get(key)
        if not isinstance(rows, list) or not all(_has(row, **fields) for row in rows):
            raise ParseError(f"{name}: expected {key}, a list of objects with {', '.join(fields)}")
    return found


_ROWS: dict[str, dict[str, type]] = {
    "segments": {"name": str, "content": dict},
    "packages": {"name": str, "version": str, "use": str},
    "purposes": {"purpose": str, "raw": int, "zstd": int},
}


def _has(row: object, **fields: type) -> bool:
    """Whether `row` has these fields of these types; a number is one of bytes."""
    if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in fields.items()):
        return False
    return all(0 <= row[key] < MOST for key, kind in fields.items() if kind is int)
