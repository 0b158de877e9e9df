"""The guest's standard streams, to and from ours.

Ours are shared with other processes, so their mode stays as it is, and nothing here waits: a pipe or terminal that is
ready takes PIPE_BUF bytes without waiting, and a file always does. What the guest has sent and nobody has read yet is
bounded by the credit that it has for each stream, given back as bytes leave.
"""

from __future__ import annotations

import os
import select
import stat

from donjon.keep.vm.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.keep.vm.loop import Loop
    from donjon.sallyport.machine import HostMachine

__all__ = ["Input", "Output"]

AT_ONCE = 65536


class Output:
    """What the guest writes, to one descriptor of ours.

    Args:
        stream: its number in the sallyport.
    """

    def __init__(self, descriptor: int, stream: int, loop: Loop, machine: HostMachine) -> None:
        self._descriptor = descriptor
        self._stream = stream
        self._loop = loop
        self._machine = machine
        # One buffer, as a guest may send each byte by itself, and objects are larger than that.
        self._held = bytearray()
        self._broken = False
        # The kernel lets nobody wait for a file, and a file has no reader who could be slow.
        self._piece = AT_ONCE if _is_file(descriptor) else select.PIPE_BUF

    def add(self, data: bytes) -> None:
        """Write it, as soon as there is room."""
        if self._broken:
            self._machine.consumed(self._stream, len(data))
            return
        if data and not self._held:
            try:
                self._loop.watch(self._descriptor, OUT, self._ready)
            except OSError:  # it was closed before we were started
                self._held += data
                self._break()
                return
        self._held += data

    @property
    def idle(self) -> bool:
        """Whether all of it has been written."""
        return not self._held

    def _ready(self, _events: int) -> None:
        """Write one piece: more could have to wait for a reader."""
        try:
            count = os.write(self._descriptor, self._held[: self._piece])
        except BlockingIOError:  # whoever gave us the descriptor made it non-blocking
            return
        except OSError:
            self._break()
            return
        del self._held[:count]
        if not self._held:
            self._loop.forget(self._descriptor)
        self._machine.consumed(self._stream, count)

    def _break(self) -> None:
        """Nobody reads: the guest finds its stream broken, as it would a pipe."""
        self._broken = True
        self._loop.forget(self._descriptor)
        self._machine.consumed(self._stream, len(self._held))
        self._held.clear()
        self._machine.gone(self._stream)


class Input:
    """What comes in here, to the guest, as far as it has room."""

    def __init__(self, descriptor: int, stream: int, loop: Loop, machine: HostMachine) -> None:
        self._descriptor = descriptor
        self._stream = stream
        self._loop = loop
        self._machine = machine
        self._ended = False

    def refresh(self) -> None:
        """Read while the guest takes more, and not otherwise."""
        wanted = not self._ended and self._machine.room(self._stream) > 0
        try:
            self._loop.watch(self._descriptor, IN if wanted else 0, self._ready)
        except OSError:  # it was closed before we were started
            self._end()

    def stop(self) -> None:
        """The guest wants no more."""
        self._ended = True
        self._loop.forget(self._descriptor)

    def _ready(self, _events: int) -> None:
        room = min(AT_ONCE, self._machine.room(self._stream))
        if room <= 0:  # since this turn began; reading nothing would look like the end
            return
        try:
            data = os.read(self._descriptor, room)
        except BlockingIOError:
            return
        except OSError:  # it cannot be read: closed, a directory, a terminal that has hung up
            data = b""
        if data:
            self._machine.write(self._stream, data)
        else:
            self._end()

    def _end(self) -> None:
        self.stop()
        self._machine.end(self._stream)


def _is_file(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False  # writing will tell
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)
