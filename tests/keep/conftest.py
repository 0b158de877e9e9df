"""Every test here leaves the process as it found it: no descriptor, no child, no thread more than before."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before, threads = descriptors(), threading.active_count()
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while (descriptors() != before or children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors() == before
    assert not children()
    assert threading.active_count() == threads


def descriptors() -> set[str]:
    return {name for name in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{name}")}


def children() -> bool:
    """Has this process a child, running or waiting to be reaped?"""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None or True
    except ChildProcessError:
        return False
