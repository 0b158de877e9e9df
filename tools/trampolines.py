"""Writes `src/donjon/wasm/wasi/p1/_trampolines.py` from the declarations of preview 1's functions.

Run it after a change to a declaration, to `types.py` or to `trampoline.py`; a test fails until it was.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "src/donjon/wasm/wasi/p1/_trampolines.py"


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(ROOT / "src"))
    from donjon.wasm.wasi.p1.trampoline import generate

    TARGET.write_text(generate(), encoding="utf-8")


if __name__ == "__main__":
    main()
