"""Finds something out in a fork, while the loop goes on: what waits, and what takes in a stranger's answer.

The fork keeps nothing of ours open, as what is closed here has to be closed. It answers through a pipe and ends; the
kernel ends it with this process, and when its time is over, whatever it hangs in.
"""

from __future__ import annotations

import os
import signal

from donjon import linux
from donjon.keep.vm.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from donjon.keep.vm.loop import Loop

__all__ = ["Apart", "end_with"]

AT_ONCE = 65536


class Apart:
    """A fork that is asked one thing.

    Args:
        find: what it does; the answer.
        answered: called here with that, once the fork has ended; with nothing if it broke off or says too much.
        seconds: after which it is ended.
        most: bytes of an answer.
    Raises:
        OSError: there can be none.

    Attributes:
        pid: its number.
    """

    def __init__(
        self, loop: Loop, find: Callable[[], bytes], answered: Callable[[bytes], None], seconds: float, most: int
    ) -> None:
        self._loop = loop
        self._answered = answered
        self._most = most
        self._answer = bytearray()
        parent = os.getpid()
        self._reader, writer = os.pipe()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if self.pid == 0:
            _work(find, writer, seconds, parent)
        os.close(writer)
        loop.watch(self._reader, IN, self._read)

    def _read(self, _events: int) -> None:
        data = os.read(self._reader, AT_ONCE)
        self._answer += data
        whole = len(self._answer) <= self._most
        if data and whole:
            return
        self.close()
        self._answered(bytes(self._answer) if whole else b"")

    def close(self) -> None:
        """End it; nothing is answered after that."""
        if self._reader < 0:
            return
        self._loop.forget(self._reader)
        os.close(self._reader)
        self._reader = -1
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _work(find: Callable[[], bytes], writer: int, seconds: float, parent: int) -> NoReturn:
    """In the fork: let go, find, answer, end."""
    try:
        end_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        os.dup2(writer, 3)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        with os.fdopen(3, "wb") as out:
            out.write(find())
    finally:
        os._exit(0)


def end_with(parent: int) -> None:
    """In a fork: have the kernel end this process with the one that it comes from."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before the kernel knew that we want to go with it
        os._exit(1)
