"""What was launched, whole: the package, what was given beside it, and the roots that it trusts.

The launch descriptor is canonical JSON (names sorted, no whitespace, UTF-8):

    {"args":[...],"env":{...},"output":true,"package":"<hex>","roots":{"<name>":"<hex>"}}

    args, env   those given beside Enarx.toml: arguments of the command line, variables of `Keep.start`
    package     the package's digest, see `tree`
    roots       name in [roots] -> SHA-256 of the file: the files lie beside the package, so it does not pin them

    output      true where the host may see what the guest writes although the Keep is confidential; else absent

and the workload's digest is SHA-256("donjon launch descriptor v1" 00 || descriptor). The domain keeps it apart from
hashes that were made of other things; the hash of a file can never pass for it.
"""

from __future__ import annotations

from donjon.errors import ParseError
from donjon.log import printable
from donjon.sums import sha256
from donjon.workload.canonical import canonical, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

__all__ = ["Descriptor"]

DOMAIN = b"donjon launch descriptor v1\0"
LARGEST = 1 << 20
"""Bytes of a descriptor that is read."""
DIGITS = frozenset("0123456789abcdef")


class Descriptor:
    """A launch, described.

    Args:
        package: the package's digest, 32 bytes.
        args, env: those given beside Enarx.toml.
        roots: name in `[roots]` -> SHA-256 of the file, 32 bytes.
        output: whether a confidential Keep's host may see what the guest writes.
    """

    __slots__ = ("args", "env", "output", "package", "roots")

    def __init__(
        self,
        package: bytes,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        roots: Mapping[str, bytes] | None = None,
        output: bool = False,
    ) -> None:
        self.package = package
        self.args = tuple(args)
        self.env = dict(env or {})
        self.roots = dict(roots or {})
        self.output = output

    @classmethod
    def read(cls, data: bytes, where: str = "launch descriptor") -> Self:
        """The launch that a descriptor describes; there is one form of each, and any other is refused.

        Args:
            where: what messages call it.
        Raises:
            ParseError: it is none, or not in that form.
        """
        if len(data) > LARGEST:
            raise ParseError(f"{where}: expected at most {LARGEST} bytes, got {len(data)}")
        try:
            found = parse(data)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"{where}: expected JSON in UTF-8, got something else") from error
        if not isinstance(found, dict):
            raise ParseError(f"{where}: expected an object")
        names = {"args", "env", "package", "roots"}
        if set(found) - {"output"} != names or found.get("output", True) is not True:
            raise ParseError(f"{where}: expected args, env, package, roots, and output only where it is true")
        args, env, roots = found["args"], found["env"], found["roots"]
        if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
            raise ParseError(f"{where}: args: expected an array of strings")
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise ParseError(f"{where}: env: expected an object of strings")
        if not isinstance(roots, dict):
            raise ParseError(f"{where}: roots: expected an object")
        made = cls(
            _digest(found["package"], f"{where}: package"),
            args,
            env,
            {name: _digest(value, f"{where}: roots.{printable(name[:40])}") for name, value in roots.items()},
            "output" in found,
        )
        if made.json() != data:
            raise ParseError(f"{where}: expected its canonical form: names sorted and once, no whitespace")
        return made

    def fields(self) -> dict[str, object]:
        """The parts, as JSON has them."""
        fields: dict[str, object] = {
            "args": list(self.args),
            "env": self.env,
            "package": self.package.hex(),
            "roots": {name: found.hex() for name, found in self.roots.items()},
        }
        if self.output:
            fields["output"] = True
        return fields

    def json(self) -> bytes:
        """The descriptor itself."""
        return canonical(self.fields())

    def digest(self) -> bytes:
        """The workload's digest: 32 bytes."""
        return sha256(DOMAIN + self.json())


def _digest(value: object, where: str) -> bytes:
    if not isinstance(value, str) or len(value) != 64 or not DIGITS.issuperset(value):
        raise ParseError(f"{where}: expected 64 hexadecimal digits, in small letters")
    return bytes.fromhex(value)
