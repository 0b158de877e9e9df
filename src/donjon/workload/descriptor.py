"""What was launched, whole: the package, what was given beside it, and the roots that it trusts.

The launch descriptor is canonical JSON (names sorted, no whitespace, UTF-8):

    {"args":[...],"env":{...},"package":"<hex>","roots":{"<name>":"<hex>"}}

    args, env   those given beside Enarx.toml: arguments of the command line, variables of `Keep.start`
    package     the package's digest, see `tree`
    roots       name in [roots] -> SHA-256 of the file: the files lie beside the package, so it does not pin them

and the workload's digest is SHA-256("donjon launch descriptor v1" 00 || descriptor). The domain keeps it apart from
hashes that were made of other things; the hash of a file can never pass for it.
"""

from __future__ import annotations

from hashlib import sha256

from donjon.workload.tree import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Descriptor"]

DOMAIN = b"donjon launch descriptor v1\0"


class Descriptor:
    """A launch, described.

    Args:
        package: the package's digest, 32 bytes.
        args, env: those given beside Enarx.toml.
        roots: name in `[roots]` -> SHA-256 of the file, 32 bytes.
    """

    __slots__ = ("args", "env", "package", "roots")

    def __init__(
        self,
        package: bytes,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        roots: Mapping[str, bytes] | None = None,
    ) -> None:
        self.package = package
        self.args = tuple(args)
        self.env = dict(env or {})
        self.roots = dict(roots or {})

    def fields(self) -> dict[str, object]:
        """The parts, as JSON has them."""
        return {
            "args": list(self.args),
            "env": self.env,
            "package": self.package.hex(),
            "roots": {name: found.hex() for name, found in self.roots.items()},
        }

    def json(self) -> bytes:
        """The descriptor itself."""
        return canonical(self.fields())

    def digest(self) -> bytes:
        """The workload's digest: 32 bytes."""
        return sha256(DOMAIN + self.json()).digest()
