"""A shell in which a page's commands are typed, one after the other, in a directory of its own.

What differs from a reader's shell: `donjon` and `python` are the ones under test; the directory holds a copy of
`examples/`; and the ports that the pages name stand for free ones, in Enarx.toml files, commands and output alike.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.pages import ROOT, matches
from tests.system.command import command, environment

__all__ = ["Ports", "Shell"]

SECONDS = 100.0
"""The longest that a command may take; the first build of all compiles a C library."""
START_SECONDS = 60.0
"""The longest until one in the background says what the page shows."""
MARK = "-- end of command, status"
JOBS = re.compile(r"^(?:\S*bash|\S*sh): line \d+: +\d+ (?:Terminated|Killed).*\n|^\[\d+\].*\n", re.MULTILINE)
"""What a shell says of its jobs: that differs from shell to shell, and pages do not show it."""


class Ports:
    """Stands free ports in for those that pages name."""

    def __init__(self) -> None:
        self._free: dict[str, str] = {}
        self._held: list[socket.socket] = []

    def free_for(self, shown: str) -> str:
        """The port that is used where a page shows this one."""
        if shown not in self._free:
            held = socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("", 0))
            self._free[shown] = str(held.getsockname()[1])
            if sys.platform == "linux":  # a port that is bound and not listened on can be bound again, by us alone
                self._held.append(held)
            else:
                held.close()
        return self._free[shown]

    def settle(self, folder: Path) -> None:
        """Write free ports into all Enarx.toml files of a directory."""
        for file in folder.rglob("Enarx.toml"):
            text = file.read_text()
            used = set(self._free.values())

            def swap(found: re.Match[str], used: set[str] = used) -> str:
                return found[0] if found[2] in used or found[2] == "0" else found[1] + self.free_for(found[2])

            changed = re.sub(r"^( *port *= *)(\d+)", swap, text, flags=re.MULTILINE)
            changed = re.sub(r'^(steward = "https://\w+:)(\d+)', swap, changed, flags=re.MULTILINE)
            if changed != text:
                file.write_text(changed)

    def hide(self, text: str) -> str:
        """Free ports where the page has its own."""
        return self._swap(text, self._free)

    def show(self, text: str) -> str:
        """The page's ports where there are free ones."""
        return self._swap(text, {free: shown for shown, free in self._free.items()})

    def close(self) -> None:
        for held in self._held:
            held.close()

    @staticmethod
    def _swap(text: str, by: dict[str, str]) -> str:
        return re.sub(r"\b\d{2,5}\b", lambda found: by.get(found[0], found[0]), text)


class Shell:
    """A bash that lives as long as the block; with it end all commands that it started.

    Args:
        folder: an empty directory.
        caches: where to find guest images, as XDG_CACHE_HOME; None, where the user has them.
    """

    def __init__(self, folder: Path, caches: Path | None = None) -> None:
        self.folder = folder / "donjon"
        self.ports = Ports()
        ignored = shutil.ignore_patterns("*.wasm", "target", "node_modules", "__pycache__")
        shutil.copytree(ROOT / "examples", self.folder / "examples", ignore=ignored)
        programs = folder / "bin"
        programs.mkdir()
        for name, words in (("donjon", command()), ("python", [sys.executable]), ("python3", [sys.executable])):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            script.chmod(0o755)
        self.environment = environment({"COLUMNS": "80", "LC_ALL": "C.UTF-8"})
        self.environment["PATH"] = f"{programs}:{os.environ.get('PATH', os.defpath)}"
        self.environment["PYTHONIOENCODING"] = "utf-8"
        (folder / "run").mkdir()
        self.environment["XDG_RUNTIME_DIR"] = str(folder / "run")  # `donjon ps` lists what the page has started
        if caches is not None:
            self.environment["XDG_CACHE_HOME"] = str(caches)
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def enter(self, text: str, expected: tuple[str, ...]) -> tuple[str, int]:
        """Type a command, and read what comes: to its end, or for one that ends in `&` until what is expected is there.

        Returns:
            Output (stdout and stderr as they come) and status.
        """
        self.ports.settle(self.folder)
        text = self.ports.hide(text)
        background = text.endswith("&")
        self._send(f"{{ {text}\n}} </dev/null\n")
        if text.startswith("kill "):
            self._send(f"wait {text.removeprefix('kill ')} 2> /dev/null || :\n")  # it may have been noticed already
        self._send(f"printf '\\n{MARK} %d\\n' $?\n")
        came, status = "", None
        end = time.monotonic() + (START_SECONDS if background else SECONDS)
        while status is None or (background and not matches(expected, self._tidy(came))):
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if line.startswith(MARK):
                status = 0 if text.startswith("kill ") else int(line.split()[-1])
                came = came.removesuffix("\n")  # the line break that the mark came with
            elif line:
                came += line
            else:
                break
        return self._tidy(came), -1 if status is None else status

    def _tidy(self, came: str) -> str:
        return JOBS.sub("", self.ports.show(came))

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def _read(self) -> None:
        assert self._process.stdout is not None
        held = b""
        while part := self._process.stdout.read(65536):
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                self._lines.put(line.decode("utf-8", "replace") + "\n")
        self._lines.put("")

    def python(self, source: str) -> subprocess.CompletedProcess[str]:
        """Run a program in Python, in the directory where the page's commands began."""
        self.ports.settle(self.folder)
        return subprocess.run(
            [sys.executable, "-c", self.ports.hide(source)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self.ports.close()
