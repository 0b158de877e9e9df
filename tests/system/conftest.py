"""Servers that several tests speak to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.keep import guests
from tests.system.command import Running, config, file, listens

Serve = Callable[[str, str], Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start an echo server: "blocking" (one connection after another), or a program that serves many at once."""
    started: list[Running] = []

    def start(kind: str, prot: str) -> Running:
        module = file(tmp_path, guests.SERVES) if kind == "blocking" else programs.path(kind)
        toml = config(tmp_path, listens("echo", prot))
        started.append(Running("run", module, "--wasmcfgfile", toml, "--log-filter", "debug", listeners=1))
        return started[-1]

    yield start
    for running in started:
        running.__exit__(None, None, None)
