"""`donjon image measure`: what hardware will report of an image, as lines for a Steward's policy."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from typing import NamedTuple

from donjon import files, image, tee
from donjon.cli import tui
from donjon.errors import UsageError
from donjon.image import store
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from donjon.cli.parse import Options

__all__ = ["TEES", "Subject", "count", "measure", "of_variant"]

TEES = tuple(name for name in tee.ALL if find_spec(f"donjon.tee.{name}.backend"))
"""Those that hold virtual machines."""
MAX_IMAGE = 1 << 30


class Subject(NamedTuple):
    """What is measured."""

    kernel: bytes
    initrd: bytes
    cmdline: str
    name: str
    debug: bool


def measure(options: Options) -> int:
    """Print the policy's table, or (--json) one object.

    Raises:
        UsageError: the firmware would boot any kernel; a value does not fit. ParseError: a file is malformed.
        PlatformError: there is no image, or no firmware. VerifyError: the image is damaged.
    """
    backend = tee.load_backend(options.tee)
    assert backend is not None  # noqa: S101 - `TEES` lists those that have one
    subject = _subject(options)
    found = backend.expect(
        subject.kernel,
        subject.initrd,
        subject.cmdline,
        vcpus=[count("--vcpus", word, "numbers with commas, as in 1,2") for word in options.vcpus.split(",")],
        cpus=options.cpu.split(","),
        given=options.firmware,
        debug=subject.debug,
    )
    digest = sha256(found.data).hexdigest()
    if options.json:
        import json

        firmware = {"path": found.firmware, "sha256": digest}
        facts = {
            "tee": options.tee,
            "image": subject.name,
            "firmware": firmware,
            "policy": found.policy,
            "note": found.note or None,
        }
        tui.write(json.dumps(facts, indent=2) + "\n")
        return 0
    tui.write(f"# {printable(subject.name)}\n# {printable(found.firmware)}, SHA-256 {digest}\n# {found.about}\n")
    tui.write("".join(f"# {line}\n" for line in tui.columns(found.note, wide=100).splitlines() if line))
    tui.write(f"[{options.tee}]\n" + "".join(_line(name, values) for name, values in found.policy.items()))
    return 0


def of_variant(variant: str) -> Subject:
    """The image that was built; raises as `donjon.image.find`."""
    found = image.find(variant)
    kernel, initrd = store.read(found, "bzImage"), store.read(found, "initrd.zst")
    name = f"image {found.variant}, digest {found.digest}"
    return Subject(kernel, initrd, found.cmdline, name, found.variant == "debug")


def _subject(options: Options) -> Subject:
    """The files that are named, or the image that was built."""
    words = {"--kernel": options.kernel, "--initrd": options.initrd, "--append": options.append}
    given = [name for name, value in words.items() if value is not None]
    if not given:
        return of_variant(options.variant)
    if len(given) < len(words):
        raise UsageError(f"expected --kernel, --initrd and --append together, got {', '.join(given)} alone")
    if options.variant != "production":
        raise UsageError(f"expected --variant, or --kernel, --initrd and --append, got {', '.join(given)} with it")
    kernel, initrd = files.read(options.kernel, MAX_IMAGE), files.read(options.initrd, MAX_IMAGE)
    name = f"kernel {options.kernel}, initramfs {options.initrd}"
    return Subject(kernel, initrd, options.append, name, debug=False)


def _line(name: str, values: Sequence[str] | bool) -> str:
    if isinstance(values, bool):
        return f"{name} = {str(values).lower()}\n"
    listed = ",\n".join(f'    "{value}"' for value in values)
    return f"{name} = [\n{listed},\n]\n"


def count(option: str, word: str, expected: str = "a number") -> int:
    """A number of processors, of at most three digits."""
    if not (word.isascii() and word.isdigit() and len(word) < 4):
        raise UsageError(f'{option}: expected {expected}, got "{printable(word[:20])}"')
    return int(word)
