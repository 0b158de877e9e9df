"""What was found out about this machine, kept in the user's cache: small JSON files that nobody else can put there.

    path = file("kvm.json")
    found = recall(path)        # None: nothing is remembered, or somebody else has put it there
    remember(path, found)       # whole, or not at all

What is read has to be judged: it may be damaged.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat

from donjon import files

__all__ = ["LONGEST", "file", "recall", "remember"]

LONGEST = 4096
"""Bytes of a file."""


def file(name: str) -> str:
    """The user's; "" where there is no home."""
    caches = files.caches()
    return f"{caches}/{name}" if caches else ""


def recall(path: str) -> tuple[object, float] | None:
    """What it holds, and when that was written."""
    if not path:
        return None
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as opened:
            about = os.fstat(opened.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                return None  # somebody else has put it there
            return json.loads(opened.read(LONGEST)), about.st_mtime
    except (OSError, ValueError, RecursionError):
        return None


def remember(path: str, found: object) -> None:
    """Write it whole; whatever is wrong costs the next one the time to find it out."""
    if not path:
        return
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with files.replacing(path) as opened:
            opened.write(json.dumps(found).encode())
