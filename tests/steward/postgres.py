"""A PostgreSQL server for tests: a real one, on a socket in a directory of its own, as a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """Where initdb is: on the PATH, or where Debian puts it."""
    found = shutil.which("initdb")
    places = (
        [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    )
    return next((place for place in places if (place / "initdb").exists()), None)


def demand() -> Path:
    """The programs; skips the test without them, or fails where DONJON_CI is set."""
    place = binaries()
    if place is None:
        reason = "needs PostgreSQL's server (Debian: postgresql)"
        if os.environ.get("DONJON_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return place


class Server:
    """One server with the database `steward`."""

    def __init__(self, place: Path, directory: Path) -> None:
        self.place = place
        self.directory = directory
        self.data = directory / "data"
        self.owner = (
            next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.getuid() == 0 else None
        )
        if self.owner:
            entry = pwd.getpwnam(self.owner)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        self.run("initdb", "-D", str(self.data), "-U", "steward", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        self.start()
        self.run("createdb", "-h", str(directory), "-U", "steward", "steward")

    @property
    def url(self) -> str:
        return f"postgresql:///steward?host={self.directory}&user=steward"

    def run(self, program: str, *words: str, check: bool = True) -> int:
        entry = pwd.getpwnam(self.owner) if self.owner else None
        with tempfile.TemporaryFile() as said:
            code = subprocess.run(
                [str(self.place / program), *words], stdout=said, stderr=said, stdin=subprocess.DEVNULL,
                cwd=self.directory, check=False, user=entry.pw_uid if entry else None,
                group=entry.pw_gid if entry else None, extra_groups=[] if entry else None,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C.UTF-8"},
            ).returncode  # fmt: skip
            said.seek(0)
            assert not (check and code), said.read().decode()
        return code

    def start(self, *settings: str) -> None:
        """Begin to serve; after kill -9 the old processes may need a moment to go."""
        words = [
            "-c",
            "listen_addresses=",
            "-k",
            str(self.directory),
            *(word for item in settings for word in ("-c", item)),
        ]
        command = ["-D", str(self.data), "-w", "-t", "30", "-l", str(self.directory / "log"), "-o", " ".join(words)]
        deadline = time.monotonic() + 20
        while self.run("pg_ctl", "start", *command, check=time.monotonic() > deadline):
            time.sleep(0.1)

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-D", str(self.data), "-m", "immediate", "-w", check=False)

    def kill(self) -> None:
        """End all of it at once, as a loss of power would."""
        (number, *_) = (self.data / "postmaster.pid").read_text().split()
        children = Path(f"/proc/{number}/task/{number}/children")
        others = children.read_text().split() if children.exists() else []
        for process in (number, *others):
            try:
                os.kill(int(process), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def statement(self, text: str, database: str = "steward") -> None:
        words = ["-h", str(self.directory), "-U", "steward", "-d", database, "-q", "-v", "ON_ERROR_STOP=1", "-c", text]
        self.run("psql", *words)

    def clear(self) -> None:
        """Take the record away."""
        drop = (
            "DROP TABLE IF EXISTS donjon_decisions, donjon_record CASCADE; DROP FUNCTION IF EXISTS donjon_unchanged()"
        )
        self.statement(drop)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextmanager
def serving() -> Iterator[Server]:
    """A server as long as it is needed. Its directory's name is short, as sockets' names have to be."""
    place = demand()
    directory = Path(tempfile.mkdtemp(prefix="donjon-pg-", dir="/tmp"))
    server = Server(place, directory)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
