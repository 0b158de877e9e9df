"""Every preview 1 test of WebAssembly/wasi-testsuite, in a process each and on a copy of the directory it works on.

The suite is not part of this project. Its tests come as compiled modules on a branch of its own:

    git clone --depth 1 --branch prod/testsuite-base https://github.com/WebAssembly/wasi-testsuite
    WASI_TESTSUITE=$PWD/wasi-testsuite pytest tests/conformance/test_wasi_testsuite.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = os.environ.get("WASI_TESTSUITE")
RUNNER = Path(__file__).with_name("run_module.py")
SOURCES = Path(__file__).parents[2] / "src"
SECONDS = 60
AT_LEAST = 72
"""Tests that the suite had in August 2026; fewer would mean that it was not found whole."""

MODULES = sorted(Path(SUITE).glob("tests/*/testsuite/wasm32-wasip1/*.wasm")) if SUITE else []

pytestmark = pytest.mark.skipif(
    SUITE is None,
    reason="WASI_TESTSUITE is not set: clone WebAssembly/wasi-testsuite, branch prod/testsuite-base, and name it",
)


def test_the_suite_is_whole() -> None:
    assert len(MODULES) >= AT_LEAST


@pytest.mark.parametrize("module", MODULES, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_runs_as_the_suite_expects(module: Path, tmp_path: Path) -> None:
    described = module.with_suffix(".json")
    expected = json.loads(described.read_text()) if described.exists() else {}
    assert set(expected) <= {"args", "env", "exit_code", "root", "stderr", "stdout"}, "the suite has words new to us"
    command = [sys.executable, str(RUNNER)]
    if "root" in expected:
        root = tmp_path / "root"
        shutil.copytree(module.parent / expected["root"], root, symlinks=True)
        command.append(f"--dir={root}::/")
    command += [f"--env={name}={value}" for name, value in expected.get("env", {}).items()]
    result = subprocess.run(
        [*command, str(module), *expected.get("args", [])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCES), *filter(None, sys.path)])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == expected.get("exit_code", 0), result.stdout + result.stderr
    for stream in ("stdout", "stderr"):
        if stream in expected:
            assert getattr(result, stream) == expected[stream]
