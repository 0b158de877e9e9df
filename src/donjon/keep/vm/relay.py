"""Carries bytes between connections outside and the guest's network, each direction by itself.

A connection that comes in, to a listener that this process has bound where Enarx.toml says, is continued by one of ours
to a private port of QEMU's, which leads to the listener inside. One that the guest asked for is continued to its gate. A
direction holds `BUFFER` bytes at most, and its source is not read while they wait; what one side ends, the other sees
ended; what is cut is cut on the other side too, by a reset, so that nobody takes half of an answer for the whole.

QEMU's listeners have room for one connection that it has not yet accepted. The kernel drops what is too much, and its
caller would try again after a second; here such a call is given up at once and repeated after `AGAIN_SECONDS`.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections import deque

from donjon.errors import words_of
from donjon.keep.vm.loop import IN, OUT
from donjon.wasm.wasi.descriptors.socket import set_nodelay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.keep.vm.loop import Loop
    from donjon.log import Logger

__all__ = ["Door", "Pair", "Relay", "reset"]

BUFFER = 64 * 1024
AGAIN_SECONDS = 0.002
PATIENCE_SECONDS = 30.0
"""How long QEMU may take to accept a connection; a busy machine takes long."""
PAUSE_SECONDS = 0.1
"""How long a listener rests when this process has no descriptor left."""
PENDING = 64
"""Connections beyond `limits.connections` that are let in: those that the guest has not accepted yet."""
AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: nothing is waited for, and the peer gets a reset."""
_ROOM = memoryview(bytearray(BUFFER))
"""What all connections read into: there is one thread, and what cannot be passed on at once is copied."""


class Relay:
    """All connections of one Keep.

    Args:
        most: how many may be open at one time.
        congested: whether the guest is behind with what it was told, so that it should not be told of more peers.
    """

    def __init__(self, loop: Loop, most: int, log: Logger, congested: Callable[[], bool]) -> None:
        self.loop = loop
        self._most = most + PENDING
        self._log = log
        self._congested = congested
        self._pairs: set[Pair] = set()
        self._listeners: dict[socket.socket, tuple[Door, Callable[[int, str, int], None]]] = {}
        self._resting: set[socket.socket] = set()

    def listen(self, listener: socket.socket, door: Door, announce: Callable[[int, str, int], None]) -> None:
        """Take connections from now on.

        Args:
            listener: bound and listening; it belongs to the relay from now on.
            announce: called with our port at QEMU, and the peer's address and port, before the peer's first byte.
        """
        listener.setblocking(False)
        self._listeners[listener] = door, announce
        self.loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener))

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """Carry bytes between two connected sockets, which belong to the relay from now on."""
        self._pairs.add(Pair(self, one, other))

    def full(self) -> bool:
        """Whether no more connections are let in for now."""
        return len(self._pairs) >= self._most

    def gone(self, pair: Pair) -> None:
        """A pair has ended."""
        self._pairs.discard(pair)
        self.wake()

    def wake(self) -> None:
        """Accept again where that was put off."""
        if self._resting and not self.full() and not self._congested():
            resting, self._resting = self._resting, set()
            for listener in resting:
                self.loop.watch(listener.fileno(), IN, lambda _events, mine=listener: self._accept(mine))  # type: ignore[misc]

    def _accept(self, listener: socket.socket) -> None:
        if self.full() or self._congested():
            self._rest(listener)
            return
        try:
            connection, address = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._log.warn(f"cannot accept a connection: {words_of(error)}", "donjon.keep")
                self._rest(listener)
                self.loop.after(PAUSE_SECONDS, self.wake)
            return  # else the peer has gone already
        connection.setblocking(False)
        set_nodelay(connection)
        door, announce = self._listeners[listener]

        def opened(inside: socket.socket | None) -> None:
            if inside is None:
                reset(connection)
                return
            announce(inside.getsockname()[1], address[0], address[1])
            self.join(connection, inside)

        door.open(opened)

    def _rest(self, listener: socket.socket) -> None:
        self.loop.forget(listener.fileno())
        self._resting.add(listener)

    def close_listeners(self) -> None:
        """Let nobody in any more."""
        for listener in self._listeners:
            self.loop.forget(listener.fileno())
            listener.close()
        self._listeners.clear()
        self._resting.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing that came from inside waits for a slow peer outside."""
        return not any(pair.owes for pair in self._pairs)

    def close(self) -> None:
        """Cut everything."""
        self.close_listeners()
        for pair in tuple(self._pairs):
            pair.cut()


class Door:
    """One private port of QEMU's, through which connections enter the guest one after another.

    Args:
        port: on 127.0.0.1.
    """

    def __init__(self, loop: Loop, port: int) -> None:
        self._loop = loop
        self._port = port
        self._waiting: deque[tuple[float, Callable[[socket.socket | None], None]]] = deque()

    def open(self, opened: Callable[[socket.socket | None], None]) -> None:
        """Connect; `opened` gets the socket, or None if QEMU does not take it."""
        self._waiting.append((time.monotonic() + PATIENCE_SECONDS, opened))
        if len(self._waiting) == 1:
            self._try()

    def _try(self) -> None:
        while self._waiting:
            end, opened = self._waiting[0]
            connection = self._connect()
            if connection is None and time.monotonic() < end:
                self._loop.after(AGAIN_SECONDS, self._try)
                return
            self._waiting.popleft()
            opened(connection)

    def _connect(self) -> socket.socket | None:
        """A connection, if QEMU's queue has room now: on the loopback the handshake is over when `connect` returns."""
        try:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            return None  # out of descriptors: later
        connection.setblocking(False)
        problem = connection.connect_ex(("127.0.0.1", self._port))
        if problem == errno.EINPROGRESS:
            try:
                connection.getpeername()
                problem = 0
            except OSError:
                pass
        if problem:
            connection.close()
            return None
        set_nodelay(connection)
        return connection


class Pair:
    """Two connected sockets and what goes on between them."""

    __slots__ = ("_relay", "_sides")

    def __init__(self, relay: Relay, outside: socket.socket, inside: socket.socket) -> None:
        self._relay = relay
        self._sides = (Side(outside), Side(inside))
        for side in (0, 1):
            self._watch(side)

    def _watch(self, index: int) -> None:
        """Wait for what this side can do: be read while the other takes it, be written while something waits for it."""
        side, other = self._sides[index], self._sides[1 - index]
        mask = (0 if side.ended or other.held else IN) | (OUT if side.held else 0)
        if mask != side.mask:
            side.mask = mask
            self._relay.loop.watch(side.socket.fileno(), mask, lambda _events: self._ready(index))

    def _ready(self, index: int) -> None:
        side = self._sides[index]
        try:
            if side.held:
                self._send(index, side.held)
            if not side.ended and not self._sides[1 - index].held:
                self._read(index)
        except BlockingIOError:
            pass
        except OSError:
            self.cut()
            return
        if all(one.shut for one in self._sides):
            self._close(socket.socket.close)
            return
        self._watch(index)
        self._watch(1 - index)

    def _read(self, index: int) -> None:
        side, other = self._sides[index], 1 - index
        count = side.socket.recv_into(_ROOM)
        if not count:
            side.ended = True
            self._shut(other)
            return
        self._send(other, _ROOM[:count])

    def _send(self, index: int, data: memoryview) -> None:
        """Give a side what waits for it; what it does not take is kept, and its source waits."""
        side = self._sides[index]
        kept = data is side.held
        try:
            count = side.socket.send(data)
        except BlockingIOError:
            count = 0
        rest = data[count:]
        if not rest:
            side.held = None
            self._shut(index)
        else:
            side.held = rest if kept else memoryview(bytes(rest))

    def _shut(self, index: int) -> None:
        """Tell a side that nothing more comes, once its peer has ended and everything is on its way."""
        side = self._sides[index]
        if self._sides[1 - index].ended and not side.held and not side.shut:
            side.shut = True
            side.socket.shutdown(socket.SHUT_WR)

    @property
    def owes(self) -> bool:
        """Whether something from inside waits for the peer outside, or may still come: the guest has ended, so its
        last bytes are at QEMU's or here."""
        return bool(self._sides[0].held) or not self._sides[1].ended

    def cut(self) -> None:
        """End both by a reset."""
        self._close(reset)

    def _close(self, how: Callable[[socket.socket], None]) -> None:
        for side in self._sides:
            self._relay.loop.forget(side.socket.fileno())
            how(side.socket)
        self._relay.gone(self)


class Side:
    """One end of a pair.

    Attributes:
        held: what waits to be sent to it.
        ended: it has said that it sends no more.
        shut: it was told that nothing more comes.
    """

    __slots__ = ("ended", "held", "mask", "shut", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.held: memoryview | None = None
        self.ended = False
        self.shut = False
        self.mask = 0


def reset(connection: socket.socket) -> None:
    """Hang up so that it does not look like an end."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    except OSError:
        pass  # it is gone already
    connection.close()

