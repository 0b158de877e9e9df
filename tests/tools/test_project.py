"""Facts that are written down in two places: that both say the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import donjon

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\$")
GROUPS = ("run", "test", "lint")


def pins(group: str) -> dict[str, set[str]]:
    """Name and versions; there are several where a marker tells machines apart."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{group}.txt").read_text().splitlines():
        if match := PIN.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def test_the_version_is_the_same_in_the_package_and_in_its_metadata() -> None:
    assert donjon.__version__ == PROJECT["version"]


def test_every_dependency_is_pinned() -> None:
    names = {re.split(r"[<>=~ ]", dependency, maxsplit=1)[0] for dependency in PROJECT["dependencies"]}
    assert names <= pins("run").keys()


def test_the_build_back_end_is_pinned_to_what_pyproject_asks_for() -> None:
    assert [version.startswith("0.13.") for version in pins("run")["uv-build"]] == [True]


@pytest.mark.parametrize("group", GROUPS)
def test_every_pin_has_its_hashes_and_no_line_says_where_from(group: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / "requirements" / f"{group}.txt").read_text(), flags=re.MULTILINE)[
        1:
    ]
    assert blocks
    for block in blocks:
        head, *hashes = block.rstrip().split(" \\\n")
        assert re.fullmatch(r"[a-z0-9-]+==\S+(?: ; .+)?", head)
        assert hashes
        assert all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}", line) for line in hashes), head


def test_the_groups_do_not_contradict_each_other() -> None:
    first, *others = (pins(group) for group in GROUPS)
    for group in others:
        assert [name for name, versions in group.items() if versions != first.setdefault(name, versions)] == []


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    listed = subprocess.run(["make", "-s"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert targets == set(re.findall(r"^  make ([a-z-]+)", listed, flags=re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert targets == set(phony[1].split())
