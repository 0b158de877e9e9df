"""A package's digest: that of its root directory, as Drawbridge writes directories.

    directory   JSON object, name -> entry; names sorted by their bytes, no whitespace
    entry       {"digest": {"sha-224": ..., "sha-256": ..., "sha-384": ..., "sha-512": ...}, "length": n, "type": "..."}

Digests are base64 with padding. An entry describes a file's content, or the JSON of a directory; so one number pins the
whole tree, and a package's digest in a registry is the one that hardware signs.

Source: enarx/drawbridge 0.4.3, crates/type: TreeDirectory, ContentDigest, Meta; its golden vectors are our tests'.
"""

from __future__ import annotations

from binascii import b2a_base64

from donjon.sums import new
from donjon.workload.canonical import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONFIG", "DIRECTORY", "MAIN", "File", "canonical", "digest", "directory", "package"]

ALGORITHMS = ("sha-224", "sha-256", "sha-384", "sha-512")
DIRECTORY = "application/vnd.drawbridge.directory.v1+json"
TYPES = {"wasm": "application/wasm", "toml": "application/toml"}
OTHER = "application/octet-stream"
MAIN, CONFIG = "main.wasm", "Enarx.toml"
"""The two files of a package."""


class File:
    """What a directory says about a file or a directory in it.

    Args:
        content: of the file, or the JSON of the directory. It is not kept: its digests are.
        kind: media type.
    """

    __slots__ = ("_hashes", "kind", "length")

    def __init__(self, content: bytes, kind: str) -> None:
        self._hashes = tuple(_hashed(name.replace("-", ""), content) for name in ALGORITHMS)
        self.length = len(content)
        self.kind = kind

    @classmethod
    def named(cls, name: str, content: bytes) -> File:
        """A file whose media type follows from its name, as when Enarx publishes it."""
        return cls(content, TYPES.get(name.rpartition(".")[2], OTHER))

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the content."""
        return self._hashes[1]

    def entry(self) -> dict[str, object]:
        """As it stands in a directory, keys in their order."""
        hashes = {name: _base64(found) for name, found in zip(ALGORITHMS, self._hashes, strict=True)}
        return {"digest": hashes, "length": self.length, "type": self.kind}


def directory(entries: Mapping[str, File]) -> bytes:
    """The JSON of a directory with these entries."""
    return canonical({name: file.entry() for name, file in entries.items()})


def digest(entries: Mapping[str, File]) -> bytes:
    """SHA-256 of a directory: 32 bytes."""
    return File(directory(entries), DIRECTORY).sha256


def package(main: File, config: bytes | None = None) -> bytes:
    """The digest of a package: 32 bytes.

    Args:
        main: from `File.named(MAIN, ...)`.
        config: what Enarx.toml holds; None for a package without one.
    """
    return digest({MAIN: main} if config is None else {MAIN: main, CONFIG: File.named(CONFIG, config)})


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _hashed(name: str, content: bytes) -> bytes:
    made = new(name, len(content))
    made.update(content)
    return made.digest()
