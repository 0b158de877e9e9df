"""Where a Keep waits. While the guest waits for one thing, others get done in the background: TLS handshakes.

One thread, no locks: the guest is either computing or in a call of ours, and every call that has to wait waits here.
A background task is a host descriptor with a callback; it runs when the descriptor is ready or the task's time is over.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.wasm.wasi.descriptors.base import Descriptor

    Task = Callable[[int], None]

__all__ = ["POLLIN", "POLLOUT", "Reactor"]

POLLIN, POLLOUT = select.POLLIN, select.POLLOUT
LONGEST = 60 * 60.0
"""Seconds that one wait of the kernel's lasts at most; longer ones are waited for in pieces (poll counts in 32-bit
ms)."""


class Reactor:
    """Waits for host descriptors, and runs background tasks meanwhile.

    Attributes:
        tasks: host descriptor -> mask, callback, deadline.
        eager: the descriptors that have something for the guest which the kernel does not know of, such as decrypted
            data.
    """

    __slots__ = ("_poller", "_soonest", "eager", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[int, tuple[int, Task, float]] = {}
        self._soonest: float | None = None  # deadline of all, or None where that has to be found out
        self._poller: select.poll | None = None
        self.eager: set[Descriptor] = set()

    def add(self, host: int, mask: int, task: Task, deadline: float) -> None:
        """Run `task(events)` each time `host` is ready for `mask`, and once with 0 events when `deadline` has passed.

        Args:
            deadline: on the clock of time.monotonic, in seconds.
        A second call for the same descriptor replaces the first.
        """
        self.tasks[host] = (mask, task, deadline)
        self._soonest = None
        if self._poller is not None:
            self._poller.register(host, mask)

    def remove(self, host: int) -> None:
        """Forget a background task; the descriptor is not closed."""
        self._soonest = None
        if self.tasks.pop(host, None) is not None and self._poller is not None:
            self._poller.unregister(host)

    def watch(self, poller: select.poll | None) -> None:
        """From now on `poller` is the one that waits, so it must know the background's descriptors, and keep knowing
        them."""
        if poller is not self._poller:
            if self._poller is not None:
                for host in self.tasks:
                    self._poller.unregister(host)
            self._poller = poller
            if poller is not None:
                for host, (mask, _, _) in self.tasks.items():
                    poller.register(host, mask)

    def poll(self, poller: select.poll, seconds: float | None) -> list[tuple[int, int]]:
        """Wait until one of the poller's own descriptors is ready, something in the background was, or time is over.

        Args:
            poller: made the watched one if it is not.
            seconds: at most so long; None, without end.
        Returns:
            Descriptor and events of what is ready among those that are not the background's. It may be empty early.
        """
        if not self.tasks:
            self.watch(None)
            return poller.poll(None if seconds is None else min(seconds, LONGEST) * 1000)
        tasks = self.tasks
        if poller is not self._poller:
            self.watch(poller)
        soonest = self._soonest
        if soonest is None:
            soonest = self._soonest = min(deadline for _, _, deadline in tasks.values())
        if seconds != 0:  # most Keeps with tasks have one that waits for hours: it should cost next to nothing
            left = soonest - time.monotonic()
            if seconds is None or left < seconds:
                seconds = left if left > 0 else 0.0
        ready = poller.poll(min(seconds, LONGEST) * 1000)
        if len(ready) == 1 and ready[0][0] not in tasks:
            mine = ready
        else:
            mine = [(host, events) for host, events in ready if host not in tasks]
            if len(mine) != len(ready):
                for host, events in ready:
                    if host in tasks:
                        tasks[host][1](events)
        now = time.monotonic()
        if self._soonest is not None and now < self._soonest:
            return mine
        for host, (_, task, deadline) in list(tasks.items()):
            if deadline <= now:
                self.remove(host)
                task(0)
        return mine

    def wait(self, host: int, mask: int, seconds: float | None = None) -> int:
        """Wait for one descriptor.

        Returns:
            The events that came; 0 when time is over.
        """
        poller = select.poll()
        poller.register(host, mask)
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while True:
                left = None if end is None else end - time.monotonic()
                ready = self.poll(poller, None if left is None else max(0.0, left))
                if ready:
                    return ready[0][1]
                if left is not None and left <= 0:
                    return 0
        finally:
            self.watch(None)

    def sleep(self, seconds: float) -> None:
        """Wait for nothing but the clock."""
        end = time.monotonic() + seconds
        if not self.tasks:
            while seconds > LONGEST:
                time.sleep(LONGEST)  # which overflows for what a guest can ask for, 584 years
                seconds = end - time.monotonic()
            time.sleep(max(0.0, seconds))
            return
        poller = select.poll()
        try:
            self.poll(poller, max(0.0, seconds))  # no time at all is still a look at the background
            while (left := end - time.monotonic()) > 0:
                self.poll(poller, left)
        finally:
            self.watch(None)

    def drain(self, seconds: float) -> None:
        """Let the background finish, for at most so long."""
        end = time.monotonic() + seconds
        poller = select.poll()
        while self.tasks and (left := end - time.monotonic()) > 0:
            self.poll(poller, left)
