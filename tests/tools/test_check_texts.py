"""tools/check_texts.py: what it finds, and that the project has none of it.

The banned words are put together here, so that this file may be checked too.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.check_texts import EXCEPTIONS, ROOT, check, main, tracked

BANNED = {
    "the Python registry": "see https://pypi" + ".org/simple",
    "its files": "https://files.python" + "hosted.org/packages/x.whl",
    "the JavaScript registry in a lock file": '"resolved": "https://registry.npmjs' + '.org/x/-/x-1.0.0.tgz"',
    "a mirror of Debian": "deb http://deb.debian" + ".org/debian bookworm main",
    "the same in capitals": "DEB.DEBIAN" + ".ORG",
    "Rust's registry": "https://index.crates" + ".io",
    "Go's proxy": "GOPROXY=https://proxy.golang" + ".org",
    "a choice of index": "pip install --index" + "-url https://example.com/simple",
    "a folder of wheels": "--find" + "-links wheels",
    "a path of the machine": "open('/work" + "/main/x')",
    "root's home": "/root" + "/.cache",
    "somebody's home": "/home/" + "peter/src",
    "somebody's home on a Mac": "/Users/" + "peter/src",
    "a conflict": "<" * 7 + " HEAD",
    "a note for later": "# TO" + "DO: write this",
    "a debugger": "    break" + "point()",
    "spaces at the end": "x = 1" + " ",
}

FINE = {
    "a package's name": "pip install donjon, from PyPI or npm",
    "an address that only looks like it": "https://example.org/pypi/notorg",
    "a place for documentation": "/home/you/app and ~/work/app",
    "a guest's path": 'guest = "/data"',
    "a word that contains one": "mastodon, hackathon, TODOS",
    "a setting of tools/pins.py": "--no-emit-index-url --no-emit",
    "an underline in a text": "========== short test summary",
}


@pytest.mark.parametrize("case", BANNED)
def test_finds(case: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"first line\n{BANNED[case]}\nlast line\n")
    found = list(check(tmp_path, "file"))
    assert [finding for finding in found if finding.startswith("file:2: ")], found
    assert all(finding.startswith("file:2: ") for finding in found)


@pytest.mark.parametrize("case", FINE)
def test_lets_pass(case: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(FINE[case])
    assert list(check(tmp_path, "file")) == []


def test_passes_over_what_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0asm" + BANNED["its files"].encode())
    assert list(check(tmp_path, "file")) == []


def test_lets_markdown_end_a_line_with_spaces(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("first  \nsecond")
    (tmp_path / "a.py").write_text("first  \nsecond")
    assert list(check(tmp_path, "a.md")) == []
    assert len(list(check(tmp_path, "a.py"))) == 1


def test_looks_at_files_of_git_and_at_new_ones_but_not_at_ignored_ones(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("known", "new", "ignored", "gone"):
        (tmp_path / name).write_text(BANNED["root's home"])
    subprocess.run(["git", "add", "known", "gone"], cwd=tmp_path, check=True)
    (tmp_path / "gone").unlink()
    assert tracked(tmp_path) == [".gitignore", "known", "new"]
    assert main([str(tmp_path)]) == 1


def test_every_exception_has_its_reason() -> None:
    assert all(reason for *_, reason in EXCEPTIONS)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: git cannot say which files are ours")
def test_the_project_has_none_of_it() -> None:
    assert [finding for name in tracked(ROOT) for finding in check(ROOT, name)] == []
