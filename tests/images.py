"""Guest images for tests that start virtual machines: built once into .build/cache.

python -m tests.images      build all variants; where that cannot be, say why and what follows
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from donjon.image import VARIANTS, Image, store

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".build" / "cache"
QEMU = "qemu-system-x86_64"
GET_QEMU = "apt-get install qemu-system-x86, dnf install qemu-kvm, pacman -S qemu-base"
TIMEOUT = 900  # seconds, with 60 MB to be fetched


@cache
def image(variant: str) -> Image:
    """An image of these very sources; a test that needs it is skipped where it cannot be built, but not in CI."""
    done = _build(variant, capture=True)
    if done.returncode == 3 and not os.environ.get("DONJON_CI"):
        pytest.skip(f"no guest image (make image): {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    directory = next(line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if "Directory" in line)
    return store.find_in(directory)


def _build(variant: str, capture: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "donjon", "image", "build", "--variant", variant]
    environment = {**os.environ, "XDG_CACHE_HOME": str(CACHE)}
    environment.pop("DONJON_IMAGE", None)
    out = subprocess.PIPE if capture else subprocess.DEVNULL
    err = subprocess.PIPE if capture else None
    return subprocess.run(command, env=environment, stdout=out, stderr=err, text=True, check=False, timeout=TIMEOUT)


def qemu() -> str:
    """The emulator; a test that needs it is skipped where there is none, but not in CI."""
    path = shutil.which(QEMU)
    if path is None:
        reason = f"no QEMU: {GET_QEMU}"
        assert not os.environ.get("DONJON_CI"), reason
        pytest.skip(reason)
    return path


def main() -> int:
    """Build what tests will ask for, where progress can be seen; only in CI is it a failure that it cannot be."""
    if shutil.which(QEMU) is None:
        sys.stdout.write(f"no QEMU, so tests that boot a Keep are skipped: {GET_QEMU}\n")
    for variant in VARIANTS:
        code = _build(variant, capture=False).returncode
        if code == 3 and not os.environ.get("DONJON_CI"):
            sys.stdout.write("no guest image, so tests that boot one are skipped\n")
            return 0
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
