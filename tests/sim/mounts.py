"""Real mounts for tests: a process that serves one, until the block ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from donjon.sim.mount import missing
from tests.system.command import ROOT, command, environment


def need_fuse() -> None:
    """Skip where nothing can be mounted; where DONJON_CI is set something has to."""
    reason = missing()
    if reason is not None and os.environ.get("DONJON_CI"):
        pytest.fail(f"{reason.message}; {reason.hint}")
    if reason is not None:
        pytest.skip(reason.message)


@contextmanager
def mounted(words: Sequence[str | Path], where: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that mounts on `where`; wait until it has, and end it."""
    need_fuse()
    where.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*map(str, words)], env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30
        while not os.path.ismount(where):
            if process.poll() is not None:
                said = b"".join(process.communicate())
                # Containers may have the device and still forbid to mount.
                if os.environ.get("DONJON_CI") or not (b"not permitted" in said or b"denied" in said):
                    pytest.fail(said.decode())
                pytest.skip(said.decode())
            if time.monotonic() > deadline:
                pytest.fail("nothing was mounted in 30 s")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if str(where) in Path("/proc/self/mounts").read_text():  # it was killed; nobody can ask the directory itself
            subprocess.run(["umount", "-l", str(where)], check=False)


def sim_mount(lab: Path, where: Path, *more: str | Path) -> Sequence[str | Path]:
    """`donjon sim mount`."""
    return [*command(), "sim", "mount", where, "--sim", lab, *more]


def stand_in(lab: Path, where: Path) -> Sequence[str | Path]:
    """The roots that no kernel would show."""
    return [sys.executable, "-m", "tests.sim.stand_in", lab, where]


def raw_mount(lab: Path, where: Path, tee: str, workload: bytes) -> Sequence[str | Path]:
    """What a simulated confidential VM has inside."""
    return [sys.executable, "-m", "tests.sim.raw_mount", lab, where, tee, workload.hex()]
