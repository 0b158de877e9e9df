"""Resolve `requirements/*.in` into `requirements/*.txt`: every version pinned, every file's hash.

    python3 tools/pins.py [--upgrade]

Needs `uv` and a network. The machine's own settings for indexes are left out of the resolution and of the result: the
files must hold elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = (
    "--universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --quiet"
).split()
# In this order: the later ones take what `run` has pinned as given.
SOURCES = {
    "run": ["pyproject.toml", "requirements/run.in"],
    "steward": ["requirements/steward.in"],
    "image": ["requirements/image.in"],
    "test": ["requirements/test.in"],
    "lint": ["requirements/lint.in"],
    "fuzz": ["requirements/fuzz.in"],
}


def main(arguments: list[str]) -> int:
    """Write the files; `arguments` go to `uv pip compile` as they are."""
    drop = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_URL")
    env = {name: value for name, value in os.environ.items() if name not in drop}
    for group, sources in SOURCES.items():
        output = f"requirements/{group}.txt"
        command = ["uv", "--no-config", "pip", "compile", *FLAGS, "--custom-compile-command", "make pins", *arguments]
        subprocess.run([*command, *sources, "--output-file", output], check=True, cwd=ROOT, env=env)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
