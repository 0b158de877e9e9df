"""`donjon image measure`: what hardware will report of an image, as lines for a Steward's policy."""

from __future__ import annotations

from hashlib import sha256

from donjon import signing
from donjon.cli import tui
from donjon.errors import UsageError
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["TEES", "measure"]

TEES = ("snp", "tdx")
MAX_IMAGE = 1 << 30
RTMR0 = (
    "RTMR0 is not here: it holds ACPI tables and memory as QEMU gives them, and follows from no file. "
    "To pin it, take it from a first start that you trust."
)


def measure(options: Options) -> int:
    """Print the policy's table, or (--json) one object.

    Raises:
        UsageError: the firmware would boot any kernel; a value does not fit. ParseError: a file is malformed.
    """
    kernel = signing.read(options.kernel, MAX_IMAGE)
    initrd = signing.read(options.initrd, MAX_IMAGE)
    counts = [_count(word) for word in options.vcpus.split(",")]
    if options.tee == "snp":
        from donjon.tee.snp import backend
        from donjon.tee.snp.measure import launch_digest

        path, firmware = backend.firmware(options.firmware)
        models = options.cpu.split(",")
        found = [launch_digest(firmware, kernel, initrd, options.append, n, cpu) for cpu in models for n in counts]
        policy = {"hash": [digest.hex() for digest in found]}
        about = f"{options.vcpus} x {options.cpu}"
        note = ""
    else:
        from donjon.tee.tdx import backend as tdx
        from donjon.tee.tdx.measure import mrtd, rtmr1, rtmr2

        path, firmware = tdx.firmware(options.firmware)
        registers = {"hash": mrtd(firmware), "rtmr1": rtmr1(kernel), "rtmr2": rtmr2(options.append, initrd)}
        policy = {name: [value.hex()] for name, value in registers.items()}
        about = "QEMU 10.2 or later, OVMF 2025.05 or later"
        note = RTMR0
    if options.json:
        import json

        firmware_facts = {"path": path, "sha256": sha256(firmware).hexdigest()}
        facts = {"tee": options.tee, "firmware": firmware_facts, "policy": policy, "note": note or None}
        tui.write(json.dumps(facts, indent=2) + "\n")
        return 0
    tui.write(f"# {printable(path)}, SHA-256 {sha256(firmware).hexdigest()}\n# {about}\n")
    tui.write("".join(f"# {line}\n" for line in tui.columns(note, wide=100).splitlines() if line))
    tui.write(f"[{options.tee}]\n" + "".join(_line(name, values) for name, values in policy.items()))
    return 0


def _line(name: str, values: list[str]) -> str:
    listed = ",\n".join(f'    "{value}"' for value in values)
    return f"{name} = [\n{listed},\n]\n"


def _count(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 4):
        raise UsageError(f'--vcpus: expected numbers with commas, as in 1,2, got "{printable(word[:20])}"')
    return int(word)
