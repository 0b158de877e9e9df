"""Guests that a compiler makes, and servers that several tests speak to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.keep import guests
from tests.system.command import ROOT, Running, config, file, listens

Serve = Callable[[str, str], Running]


def compiled(name: str) -> Path:
    """A module in .build/programs, which `make programs` fills; skipped without it, except where DONJON_CI=1."""
    path = ROOT / ".build" / "programs" / f"{name}.wasm"
    if not path.exists():
        if os.environ.get("DONJON_CI") == "1":
            pytest.fail(f"{path} is missing: make programs")
        pytest.skip(f"{name}.wasm is not built: make programs")
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start an echo server: "blocking" (one connection after another) or "polling" (many at once, in C)."""
    started: list[Running] = []

    def start(kind: str, prot: str) -> Running:
        module = file(tmp_path, guests.SERVES) if kind == "blocking" else compiled("echo-c")
        toml = config(tmp_path, listens("echo", prot))
        started.append(Running("run", module, "--wasmcfgfile", toml, "--log-filter", "debug", listeners=1))
        return started[-1]

    yield start
    for running in started:
        running.__exit__(None, None, None)
