"""Moves bytes between a descriptor and a machine, for both ends of a sallyport.

A virtio-serial port as a guest has it (/dev/vportNpM) is no socket. Linux, drivers/char/virtio_console.c:

- while the host's end is not connected, reading gives b"", writing EAGAIN, and poll says POLLHUP at once, each time.
  The host's end connects a moment after ours is opened, so `connect` waits for that; from then on all three mean that
  the host is gone
- one write takes at most 32 KiB, whatever is offered

A socket whose other end died refuses what is written (EPIPE, ECONNRESET) while its last words may still be read:
the end is what reading says.
"""

from __future__ import annotations

import os
import select
import time

from donjon.errors import PlatformError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.sallyport.machine import Event, Machine

__all__ = ["Port", "connect"]

PIECE = 1 << 16
NAP = 0.002
"""Seconds between two looks at a port that is not connected: there is nothing to wait for it with."""


class Port:
    """A descriptor and its machine.

    Args:
        descriptor: of a socket or a virtio port; it becomes non-blocking, and is closed by `close` alone.
        virtio: it is a virtio port, to which `connect` has found the host connected.
    """

    def __init__(self, descriptor: int, machine: Machine, virtio: bool = False) -> None:
        self._descriptor = descriptor
        self.machine = machine
        self.virtio = virtio
        self.ended = False
        """The other end is gone, and everything that it said was read."""
        self._deaf = False  # nothing that is written arrives
        self._rest = b""
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """The descriptor, for `poll`."""
        return self._descriptor

    @property
    def mask(self) -> int:
        """What to wait for; 0: nothing, though poll still tells of the end, each time, until `receive` is called."""
        found = 0
        if not self.ended and not self.machine.congested:
            found |= select.POLLIN
        if not self._deaf and (self._rest or self.machine.pending):
            found |= select.POLLOUT
        return found

    def receive(self) -> list[Event]:
        """Read once and say what came.

        Raises:
            ParseError: the other end broke the protocol.
        """
        if self.ended or (self.machine.congested and not self._hung_up()):
            return []
        try:
            data = os.read(self._descriptor, PIECE)
        except BlockingIOError:
            return []
        except OSError:  # ECONNRESET; ENODEV or EIO of a port that was unplugged
            data = b""
        if not data:
            self.ended = self._deaf = True
            return self.machine.eof()
        return self.machine.feed(data)

    def send(self) -> None:
        """Write what goes without waiting. What cannot arrive any more is not kept."""
        if self._deaf:
            self.machine.discard()
        while not self._deaf:
            if not self._rest:
                self._rest = self.machine.take(PIECE)
                if not self._rest:
                    return
            try:
                count = os.write(self._descriptor, self._rest)
            except BlockingIOError:
                return
            except OSError:  # the end shows when reading
                self._deaf = True
                self._rest = b""
                self.machine.discard()
                return
            self._rest = self._rest[count:]

    def _hung_up(self) -> bool:
        """Whether the other end is gone: what it has left is little, and to be read, however much waits for it."""
        waiting = select.poll()
        waiting.register(self._descriptor, 0)
        return bool(waiting.poll(0))

    def step(self, timeout: float | None) -> list[Event]:
        """Wait up to `timeout` seconds for this port alone, then read and write."""
        self.send()
        mask = self.mask
        waiting = select.poll()
        waiting.register(self._descriptor, mask)
        ready = waiting.poll(None if timeout is None else max(0, round(timeout * 1000)))
        events: list[Event] = []
        if ready and ready[0][1] & ~select.POLLOUT:
            events = self.receive()
        self.send()
        return events

    def flush(self, seconds: float) -> bool:
        """Write all that is pending, reading nothing.

        Returns:
            False: the other end took it not in time, or is gone.
        """
        deadline = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        while True:
            self.send()
            if self._deaf:
                return False
            if not self._rest and not self.machine.pending:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = waiting.poll(round(left * 1000) + 1)
            if ready and not ready[0][1] & select.POLLOUT:  # POLLHUP alone: it would come back at once
                return False

    def close(self) -> None:
        """Close the descriptor."""
        self.ended = self._deaf = True
        os.close(self._descriptor)


def connect(descriptor: int, seconds: float) -> None:
    """Wait until the host's end of a virtio port is open.

    Raises:
        PlatformError: it was not in time, or the port cannot be polled.
    """
    deadline = time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    try:
        while any(events & select.POLLHUP for _, events in waiting.poll(0)):
            if time.monotonic() >= deadline:
                raise PlatformError(f"sallyport: the host did not open its end within {seconds:g} s")
            time.sleep(NAP)
    except OSError as error:
        raise PlatformError(f"sallyport: cannot wait for the host: {words_of(error)}") from error
