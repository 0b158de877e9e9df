"""QEMU as a process that cannot outlive this one, holds nothing of ours but what it is given, and may say little.

The kernel kills it when this process ends, however that comes (PR_SET_PDEATHSIG), and the guest powers off when its
port closes. It has a session of its own, so Ctrl-C reaches us alone; no variables of ours; no descriptor but those
named. What it says is kept, the first `KEPT` bytes of it, for a message.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import subprocess

from donjon.errors import PlatformError, words_of
from donjon.keep.vm.apart import end_with
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from donjon.keep.vm.loop import Loop

__all__ = ["Process"]

KEPT = 4096
"""Bytes of what QEMU says; a QEMU that a guest has taken over may say as much as it likes."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Process:
    """A QEMU.

    Args:
        words: program and arguments.
        descriptors: what it inherits, under the same numbers.
    Raises:
        PlatformError: it cannot be started.

    Attributes:
        ended: a descriptor that is readable once the process has ended.
    """

    def __init__(self, words: Sequence[str], descriptors: Sequence[int]) -> None:
        parent = os.getpid()

        def prepare() -> None:
            end_with(parent)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a guest's memory belongs in no file

        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                pass_fds=descriptors,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - there are no threads here
            )
        except OSError as error:
            os.close(reader)
            raise PlatformError(f"cannot start {words[0]}: {words_of(error)}") from error
        finally:
            os.close(writer)
        self._reader = reader
        os.set_blocking(reader, False)
        self._said = b""
        self.ended = os.pidfd_open(self._process.pid)
        self._loop: Loop | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def listen_in(self, loop: Loop) -> None:
        """Have the loop read what QEMU says, so that it never waits for a reader."""
        self._loop = loop
        loop.watch(self._reader, select.EPOLLIN, self._read)

    def _read(self, _events: int) -> None:
        try:
            data = os.read(self._reader, 65536)
        except BlockingIOError:
            return
        if not data:
            self._deafen()
        elif len(self._said) < KEPT:
            self._said += data[: KEPT - len(self._said)]

    def _deafen(self) -> None:
        if self._loop is not None:
            self._loop.forget(self._reader)
            self._loop = None

    def said(self) -> str:
        """What it said, as one printable line, without its own name; "" for nothing."""
        if self._reader >= 0:
            with contextlib.suppress(OSError):
                while len(self._said) < KEPT and (data := os.read(self._reader, KEPT)):
                    self._said += data
        lines = self._said[:KEPT].decode("utf-8", "replace").splitlines()
        parts = (line.partition(": ")[2] if line.startswith(("qemu", "/")) else line for line in lines)
        return printable("; ".join(part.strip() for part in parts if part.strip()))

    def wait(self, seconds: float) -> int | None:
        """How it ended: its exit code, or minus a signal; None, it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def poll(self) -> int | None:
        """As `wait`, without waiting."""
        return self._process.poll()

    def kill(self) -> int:
        """End it now; how it ended."""
        self._process.kill()
        return self._process.wait()

    def close(self) -> None:
        """Kill it if it runs, and give back what watched it."""
        self.kill()
        self._deafen()
        for descriptor in (self._reader, self.ended):
            if descriptor >= 0:
                os.close(descriptor)
        self._reader = self.ended = -1
