"""What comes in lines from a machine, beside the sallyport: QEMU's monitor, and the console of the image for debugging.

The monitor says why a machine has ended: a guest that powers off and one that panics look the same from outside, as
`-no-reboot` ends both. Nothing else is asked of it. A QEMU that its guest has taken over may say here what it likes:
that changes one message.

Source: QEMU, docs/interop/qmp-spec.rst, and qapi/run-state.json, SHUTDOWN and ShutdownCause.
"""

from __future__ import annotations

import contextlib
import json
import socket

from donjon.keep.vm.loop import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.keep.vm.loop import Loop

__all__ = ["Lines", "Monitor"]

LONGEST = 4096
"""Bytes of a line; of a longer one the rest is dropped."""
AT_ONCE = 65536
MOST = 16
"""Reads at the end."""


class Lines:
    """Reads lines from a socket, which it closes.

    Args:
        call: gets each without its end, and without what is too long.
    """

    def __init__(self, connection: socket.socket, loop: Loop, call: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._loop = loop
        self._call = call
        self._held = b""
        self._watched = True
        connection.setblocking(False)
        loop.watch(connection.fileno(), IN, self._read)

    def _read(self, _events: int) -> None:
        self.read()

    def read(self) -> bool:
        """Take what has come; False: nothing has."""
        try:
            data = self._connection.recv(AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.forget()
            return False
        *lines, rest = (self._held + data).split(b"\n")
        self._held = rest[:LONGEST]
        for line in lines:
            self._call(line[:LONGEST].rstrip(b"\r"))
        return True

    def forget(self) -> None:
        """Read no more."""
        if self._watched:
            self._watched = False
            self._loop.forget(self._connection.fileno())

    def close(self) -> None:
        """Read what is left, and close."""
        for _ in range(MOST):
            if not self.read():
                break
        self.forget()
        if self._held:
            self._call(self._held)
        self._connection.close()


class Monitor:
    """QEMU's monitor.

    Attributes:
        reason: why the machine has ended, in QEMU's words; "" as long as it says nothing.
    """

    def __init__(self, connection: socket.socket, loop: Loop) -> None:
        self.reason = ""
        with contextlib.suppress(OSError):  # it has ended already, and reading tells
            connection.sendall(b'{"execute":"qmp_capabilities"}\n')  # without which it tells of no events
        self._lines = Lines(connection, loop, self._take)

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            if said["event"] == "SHUTDOWN" and not self.reason:
                self.reason = str(said["data"]["reason"])[:40]
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # an answer, another event, or nonsense

    def close(self) -> None:
        """Read what is left."""
        self._lines.close()
