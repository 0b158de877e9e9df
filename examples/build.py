"""Build the examples: `python examples/build.py` for all of them, or name some: `python examples/build.py echo/c`.

Each becomes a main.wasm beside its source, just as `donjon build` would do it. An example whose compiler is not
installed is left out, with a word on how to get it; the exit code is 1 when an example does not compile.
"""

import sys
import time
from pathlib import Path

from donjon.errors import DonjonError, PlatformError
from donjon.project import build

EXAMPLES = Path(__file__).parent


def main(names: list[str]) -> int:
    failed = False
    for name in names or sorted(f"{path.parent.relative_to(EXAMPLES)}" for path in EXAMPLES.glob("*/*/Enarx.toml")):
        started = time.monotonic()
        try:
            module = Path(build(str(EXAMPLES / name)))
        except PlatformError as error:
            print(f"{name:16} left out: {error.message} ({error.hint})")
        except DonjonError as error:
            print(f"{name:16} failed: {error.message}")
            failed = True
        else:
            print(f"{name:16} {module.stat().st_size:10,} bytes  {time.monotonic() - started:5.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
