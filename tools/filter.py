"""Writes `src/donjon/keep/_filter.py`, the seccomp filters as bytes, from the table in `donjon.keep.syscalls`.

Run it after a change to that table; a test fails until it was.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "src/donjon/keep/_filter.py"

HEAD = '''"""The filters that `syscalls.py` describes, as the kernel takes them; written by tools/filter.py.

A start does not assemble them: that is 0.2 ms. Keys: machine, and whether the guest has a directory it may write to.
"""

from __future__ import annotations

__all__ = ["PROGRAMS"]

# fmt: off
PROGRAMS = {
'''


def generate() -> str:
    """The file's text."""
    from donjon.keep.syscalls import ARCHITECTURES, assemble

    lines = [HEAD]
    for machine in ARCHITECTURES:
        for writable in (False, True):
            program = assemble(machine, writable)
            lines.append(f'    ("{machine}", {writable}): (\n')
            for start in range(0, len(program), 24):
                escaped = "".join(f"\\x{byte:02x}" for byte in program[start : start + 24])
                lines.append(f'        b"{escaped}"\n')
            lines.append("    ),\n")
    return "".join(lines) + "}\n"


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(ROOT / "src"))
    TARGET.write_text(generate(), encoding="utf-8")


if __name__ == "__main__":
    main()
