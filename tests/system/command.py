"""The installed command as a black box: words in, exit code and streams out."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import donjon

ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(rb'donjon: listening on (?:\[(.*)\]|([\d.]+)):(\d+) \((?:tls|tcp)\) as "(.*)"\n')


def command() -> list[str]:
    """The console script beside the running interpreter, or the module where donjon is not installed."""
    script = Path(sys.executable).with_name("donjon")
    return [str(script)] if script.exists() else [sys.executable, "-m", "donjon"]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what changes the command's behaviour, and `changes`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DONJON_", "ENARX_", "SSL_CERT"))}
    for name in (
        "DONJON_CACHE",
        "DONJON_CI",
        *(("DONJON_SANDBOX",) if "COVERAGE_PROCESS_CONFIG" in os.environ else ()),
    ):
        if name in os.environ:
            kept[name] = os.environ[name]
    return {**kept, "PYTHONPATH": str(Path(donjon.__file__).parents[1]), **(changes or {})}


def donjon_run(
    *words: str | Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = 60,
    **more: object,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [*command(), *map(str, words)],
        input=stdin,
        capture_output=True,
        env=environment(env),
        cwd=cwd,
        timeout=seconds,
        check=False,
        **more,  # type: ignore[call-overload]
    )
    return done


class Running:
    """`donjon run` that goes on; leaving the block kills it.

    Attributes:
        addresses: name -> (host, port) of each listener, as the log on stderr told them.
        stderr: what it wrote there so far.
    """

    def __init__(
        self,
        *words: str | Path,
        listeners: int = 0,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self.addresses: dict[str, tuple[str, int]] = {}
        self.stderr = b""
        self.process = subprocess.Popen(
            [*(program or command()), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            bufsize=0,
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            while len(self.addresses) < listeners:
                self._look(self._lines.get(timeout=60))
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _read(self) -> None:
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            self.stderr += line
            self._lines.put(line)
        self._lines.put(b"")

    def _look(self, line: bytes) -> None:
        assert line, f"it ended: {self.stderr.decode()}"
        if found := LISTENING.fullmatch(line):
            host, port, name = found[1] or found[2], int(found[3]), found[4].decode()
            self.addresses[name] = (host.decode(), port)

    def at(self, name: str) -> tuple[str, int]:
        """Where a client reaches the listener, which may be bound to all addresses."""
        host, port = self.addresses[name]
        return {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host), port

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit status, and the seconds until it was there."""
        begun = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - begun

    def wait(self, seconds: float = 30) -> int:
        return self.process.wait(seconds)

    def output(self) -> bytes:
        """All of stdout; waits for its end."""
        assert self.process.stdout is not None
        return self.process.stdout.read() or b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def file(folder: Path, module: bytes, name: str = "main.wat") -> Path:
    """Write a module."""
    path = folder / name
    path.write_bytes(module)
    return path


def config(folder: Path, *entries: str, before: str = "", stdio: bool = True, after: str = "") -> Path:
    """Write an Enarx.toml with the standard streams and `entries`, each the inside of a [[files]] table."""
    tables = [*(f'kind = "{kind}"' for kind in ("stdin", "stdout", "stderr") if stdio), *entries]
    path = folder / "Enarx.toml"
    path.write_text(before + "".join(f"[[files]]\n{table}\n" for table in tables) + after)
    return path


def listens(name: str, prot: str = "tcp", addr: str = "127.0.0.1", port: int = 0) -> str:
    return f'kind = "listen"\nname = "{name}"\nprot = "{prot}"\naddr = "{addr}"\nport = {port}'


def connects(port: int, prot: str = "tcp", host: str = "127.0.0.1", name: str = "stream") -> str:
    return f'kind = "connect"\nname = "{name}"\nprot = "{prot}"\nhost = "{host}"\nport = {port}'
