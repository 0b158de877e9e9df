"""Guest images for tests that start virtual machines: built once into .build/cache, where `make image` puts them too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from donjon.image import Image, store

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".build" / "cache"
QEMU = "qemu-system-x86_64"


@cache
def image(variant: str) -> Image:
    """An image of these very sources; a test that needs it is skipped where it cannot be built, but not in CI."""
    command = [sys.executable, "-m", "donjon", "image", "build", "--variant", variant]
    environment = {**os.environ, "XDG_CACHE_HOME": str(CACHE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode == 3 and not os.environ.get("DONJON_CI"):
        pytest.skip(f"no guest image (make image): {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    directory = next(line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if "Directory" in line)
    return store.find_in(directory)


def qemu() -> str:
    """The emulator; a test that needs it is skipped where there is none, but not in CI."""
    path = shutil.which(QEMU)
    if path is None:
        reason = "no QEMU: apt-get install qemu-system-x86, dnf install qemu-kvm, pacman -S qemu-base"
        assert not os.environ.get("DONJON_CI"), reason
        pytest.skip(reason)
    return path
