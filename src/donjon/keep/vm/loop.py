"""Where the host's side of a Keep waits: one thread, one epoll, descriptors and times with what to call.

The reactor of `donjon.wasm.wasi` waits for one thing and lets others happen meanwhile; here nothing is waited for, and
thousands of connections may be open, so what is ready is found without asking each.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IN", "OUT", "Loop", "Timer"]

IN, OUT = select.EPOLLIN, select.EPOLLOUT
AT_ONCE = 256
"""Descriptors that one turn takes up at most."""


class Timer:
    """Something to call when its time has come; `cancel` has it forgotten."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None] | None) -> None:
        self.when = when
        self.call = call

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Descriptors and timers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._always: set[int] = set()  # regular files, for which epoll has no use: they are ready at any time
        self._timers: list[Timer] = []

    def watch(self, descriptor: int, mask: int, call: Callable[[int], None]) -> None:
        """Call `call(events)` whenever the descriptor is ready for `mask`, or broken; 0 forgets it.

        What was said about the same descriptor before is replaced.
        """
        before = self._calls.get(descriptor)
        if not mask:
            self.forget(descriptor)
            return
        if before is None:
            try:
                self._epoll.register(descriptor, mask)
            except PermissionError:
                self._always.add(descriptor)
        elif before[0] != mask and descriptor not in self._always:
            self._epoll.modify(descriptor, mask)
        self._calls[descriptor] = mask, call

    def forget(self, descriptor: int) -> None:
        """Call nothing for it any more; to be done before it is closed."""
        if self._calls.pop(descriptor, None) is None:
            return
        if descriptor in self._always:
            self._always.discard(descriptor)
        else:
            self._epoll.unregister(descriptor)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call()` once, so many seconds from now."""
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    def turn(self, longest: float | None = None) -> None:
        """Wait until something is ready or due, and do all that is."""
        timers = self._timers
        while timers and timers[0].call is None:
            heapq.heappop(timers)
        seconds = longest
        if self._always:
            seconds = 0.0
        elif timers:
            left = max(0.0, timers[0].when - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        calls = self._calls
        ready = [
            (calls.get(descriptor), descriptor, events) for descriptor, events in self._epoll.poll(seconds, AT_ONCE)
        ]
        ready += [(calls[descriptor], descriptor, calls[descriptor][0]) for descriptor in self._always]
        for found, descriptor, events in ready:
            # An earlier call of this turn may have had it forgotten, closed, and its number given to another one. What
            # was only watched anew is ready in the next turn too.
            if found is not None and calls.get(descriptor) is found:
                found[1](events)
        now = time.monotonic()
        while timers and timers[0].when <= now:
            call = heapq.heappop(timers).call
            if call is not None:
                call()

    def close(self) -> None:
        """Give the epoll back; what was watched stays open."""
        self._epoll.close()
