"""Signals that end a process end its machine first.

While the block lasts they are only noted, and a descriptor says so. When everything is put away, the signal does what
it does by default, so that whoever started this process sees it ended by the signal, as they would see any other.
"""

from __future__ import annotations

import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["Signals"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Notes signals, where Python lets us: in the main thread. One that is ignored stays so (nohup).

    Attributes:
        number: the last one that came; 0, none.
        count: how many came.
        descriptor: readable when one has come; -1 outside the main thread.
    """

    def __init__(self) -> None:
        self.number = self.count = 0
        self.descriptor = self._writer = -1
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self.descriptor, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self.count += 1
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass  # it is readable anyway

    def heard(self) -> int:
        """Take note of what came; how many signals there were in all."""
        try:
            os.read(self.descriptor, 4096)
        except BlockingIOError:
            pass
        return self.count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what it was
        if self.descriptor >= 0:
            os.close(self.descriptor)
            os.close(self._writer)
            self.descriptor = -1
        if self.number:
            signal.signal(self.number, signal.SIG_DFL)
            os.kill(os.getpid(), self.number)
