"""The lock: every package that the image is made from, with the digest of its bytes.

`lock.json` lies beside this file and is part of Donjon; `tools/image_lock.py` writes a new one. What it names is all
that a build takes from outside, and nothing is used before it was compared with it.
"""

from __future__ import annotations

import json
import os
import re

from donjon.errors import ParseError, PlatformError, words_of
from donjon.log import printable
from donjon.sums import sha256

__all__ = ["ARCHIVES", "FORMAT", "Lock", "Package", "load", "parse"]

FORMAT = 1
LIMIT = 256 * 1024  # bytes
MAX_PACKAGES = 200
MAX_SIZE = 512 << 20  # bytes of a package
ARCHIVES = ("debian", "debian-security")
KINDS = ("deb", "wheel")
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:!-]*")
PATH = re.compile(r"pool/(?:[A-Za-z0-9._+~-]+/)+[A-Za-z0-9._+~%-]+\.deb")
TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
DIGEST = re.compile(r"[0-9a-f]{64}")

_FIELDS = {
    "deb": {"kind", "name", "version", "archive", "path", "size", "sha256", "use"},
    "wheel": {"kind", "name", "version", "file", "size", "sha256", "use"},
}


class Package:
    """One package.

    Args:
        kind: "deb" or "wheel".
        use: "image", or "build" for what only makes it.
        file: its name where it is kept.
        archive, path: of a deb, where Debian has it.
    """

    __slots__ = ("archive", "file", "kind", "name", "path", "sha256", "size", "use", "version")

    def __init__(
        self, kind: str, name: str, version: str, file: str, size: int, sha256: str, use: str = "image",
        archive: str = "", path: str = "",
    ) -> None:  # fmt: skip
        self.kind = kind
        self.name = name
        self.version = version
        self.file = file
        self.size = size
        self.sha256 = sha256
        self.use = use
        self.archive = archive
        self.path = path

    def __repr__(self) -> str:
        return f"{self.name} {self.version}"


class Lock:
    """All `packages`, the `digest` (SHA-256, hex) of the lock itself, and a time when Debian had all its packages.

    Args:
        snapshot: the time, as Debian's archive of old states writes it: `20250102T030405Z`.
    """

    __slots__ = ("digest", "packages", "snapshot")

    def __init__(self, packages: tuple[Package, ...], digest: str, snapshot: str) -> None:
        self.packages = packages
        self.digest = digest
        self.snapshot = snapshot


def load(path: str | None = None) -> Lock:
    """The lock that is part of Donjon, or one in another file.

    Raises:
        PlatformError: it cannot be read. ParseError: it is malformed.
    """
    path = path or f"{os.path.dirname(os.path.abspath(__file__))}/lock.json"
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise PlatformError(f"cannot read {path}: {words_of(error)}", "reinstall donjon") from error
    return parse(data, os.path.basename(path))


def parse(data: bytes, name: str = "lock.json") -> Lock:
    """Read a lock.

    Raises:
        ParseError: it is malformed; the text says where.
    """
    if len(data) > LIMIT:
        raise ParseError(f"{name}: expected at most {LIMIT} bytes")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{name}: expected JSON: {error}", "reinstall donjon") from error
    if not isinstance(whole, dict) or set(whole) != {"format", "packages", "snapshot"} or whole["format"] != FORMAT:
        raise ParseError(f"{name}: expected format {FORMAT} with its packages and snapshot")
    if not isinstance(whole["snapshot"], str) or not TIME.fullmatch(whole["snapshot"]):
        raise ParseError(f"{name} snapshot: expected a time such as 20250102T030405Z")
    rows = whole["packages"]
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_PACKAGES:
        raise ParseError(f"{name}: expected 1 to {MAX_PACKAGES} packages")
    packages = tuple(_package(row, f"{name} packages[{index}]") for index, row in enumerate(rows))
    files = [package.file for package in packages]
    if len(set(files)) < len(files):
        raise ParseError(f"{name}: expected each package once")
    return Lock(packages, sha256(data).hex(), whole["snapshot"])


def _package(row: object, where: str) -> Package:
    if not isinstance(row, dict) or row.get("kind") not in KINDS:
        raise ParseError(f"{where}: expected a package of kind {' or '.join(KINDS)}")
    kind = row["kind"]
    if set(row) != _FIELDS[kind]:
        got = printable(", ".join(sorted(row))[:200])
        raise ParseError(f"{where}: expected exactly {', '.join(sorted(_FIELDS[kind]))}, got {got}")
    size = row["size"]
    if type(size) is not int or not 0 < size <= MAX_SIZE:
        raise ParseError(f"{where}.size: expected 1 to {MAX_SIZE}")
    for key, form in (("name", WORD), ("version", VERSION), ("sha256", DIGEST)):
        if not isinstance(row[key], str) or not form.fullmatch(row[key]):
            raise ParseError(f"{where}.{key}: expected {form.pattern}")
    if row["use"] not in ("image", "build"):
        raise ParseError(f"{where}.use: expected image or build")
    if kind == "wheel":
        file = row["file"]
        if not isinstance(file, str) or not WORD.fullmatch(file) or not file.endswith(".whl"):
            raise ParseError(f"{where}.file: expected the name of a wheel")
        return Package(kind, row["name"], row["version"], file, size, row["sha256"], row["use"])
    path = row["path"]
    if row["archive"] not in ARCHIVES:
        raise ParseError(f"{where}.archive: expected {' or '.join(ARCHIVES)}")
    if not isinstance(path, str) or not PATH.fullmatch(path) or ".." in path.split("/"):
        raise ParseError(f"{where}.path: expected {PATH.pattern}")
    file = path.rpartition("/")[2]
    return Package(kind, row["name"], row["version"], file, size, row["sha256"], row["use"], row["archive"], path)
