"""The README's first command: what `pip install .` makes of this tree has a command that works.

The build back end is a package of its own (requirements/run.txt pins it); where it is missing there is nothing to try.
Nothing is fetched: the dependencies are those of the Python that runs the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("uv_build") and find_spec("pip")) and not os.environ.get("DONJON_CI"),
        reason="needs pip and uv_build, which `make venv` installs",
    ),
]


def environment(**more: str) -> dict[str, str]:
    """Ours, with the programs beside this Python found first: the back end is one."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def test_what_pip_installs_runs_the_first_example(tmp_path: Path) -> None:
    into = tmp_path / "installed"
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(into), str(ROOT)],
        env=environment(),
        check=True,
        timeout=100,
    )
    done = subprocess.run(
        [str(into / "bin/donjon"), "run", str(ROOT / "examples/hello/wat/hello.wat")],
        env=environment(PYTHONPATH=os.pathsep.join([str(into), *filter(None, sys.path)])),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello from WebAssembly\n", b"")


def test_the_wheel_has_everything_that_is_not_python_too(tmp_path: Path) -> None:
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", str(tmp_path), str(ROOT)],
        env=environment(),
        check=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("donjon-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in (source / "donjon").rglob("*") if path.is_file()}
    missing = {name for name in files if "__pycache__" not in name} - names
    assert not missing
    assert not {name for name in names if name.endswith((".pyc", ".wasm"))}
