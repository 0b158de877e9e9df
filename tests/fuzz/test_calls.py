"""Any call of preview 1 with any arguments ends in an errno or in the guest's end, and changes only what it may.

The calls are made in a process of their own, `calls.py`: a crash is then a failed test and not the end of all tests.
The examples are the same each time; DONJON_FUZZ=n makes n times as many, and other ones each time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from donjon.wasm.wasi.p1 import FAMILIES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("family", [*FAMILIES, "pointers", "sequences"])
def test_any_call_ends_well_and_changes_only_what_it_may(family: str, tmp_path: Path) -> None:
    times = int(os.environ.get("DONJON_FUZZ", "0"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.calls", family, str(tmp_path), str(times)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100 * max(1, times),
        check=False,
    )
    assert done.returncode == 0, f"{family}: ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    assert done.stdout.endswith("done\n")
