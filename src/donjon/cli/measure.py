"""`donjon image measure`: what hardware will report of an image, as lines for a Steward's policy."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec

from donjon import files, tee
from donjon.cli import tui
from donjon.errors import UsageError
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from donjon.cli.parse import Options

__all__ = ["TEES", "measure"]

TEES = tuple(name for name in tee.ALL if find_spec(f"donjon.tee.{name}.backend"))
"""Those that hold virtual machines."""
MAX_IMAGE = 1 << 30


def measure(options: Options) -> int:
    """Print the policy's table, or (--json) one object.

    Raises:
        UsageError: the firmware would boot any kernel; a value does not fit. ParseError: a file is malformed.
    """
    backend = tee.load_backend(options.tee)
    assert backend is not None  # noqa: S101 - `TEES` lists those that have one
    found = backend.expect(
        files.read(options.kernel, MAX_IMAGE),
        files.read(options.initrd, MAX_IMAGE),
        options.append,
        vcpus=[_count(word) for word in options.vcpus.split(",")],
        cpus=options.cpu.split(","),
        given=options.firmware,
    )
    digest = sha256(found.data).hexdigest()
    if options.json:
        import json

        firmware = {"path": found.firmware, "sha256": digest}
        facts = {"tee": options.tee, "firmware": firmware, "policy": found.policy, "note": found.note or None}
        tui.write(json.dumps(facts, indent=2) + "\n")
        return 0
    tui.write(f"# {printable(found.firmware)}, SHA-256 {digest}\n# {found.about}\n")
    tui.write("".join(f"# {line}\n" for line in tui.columns(found.note, wide=100).splitlines() if line))
    tui.write(f"[{options.tee}]\n" + "".join(_line(name, values) for name, values in found.policy.items()))
    return 0


def _line(name: str, values: Sequence[str]) -> str:
    listed = ",\n".join(f'    "{value}"' for value in values)
    return f"{name} = [\n{listed},\n]\n"


def _count(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 4):
        raise UsageError(f'--vcpus: expected numbers with commas, as in 1,2, got "{printable(word[:20])}"')
    return int(word)
