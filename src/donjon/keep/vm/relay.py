"""Carries bytes between connections outside and the guest's network, each direction by itself.

A connection that comes in, to a listener that this process has bound where Enarx.toml says, is continued by one of ours
to a private port of QEMU's, which leads to the listener inside. One that the guest asked for is continued to its gate.
A direction holds `BUFFER` bytes at most, and its source is not read while they wait; what one side ends, the other sees
ended; what is cut is cut on the other side too, by a reset, so that nobody takes half of an answer for the whole. There
is one exception, and it is QEMU's: a reset inside reaches us as an end.

Whose a connection is, the guest knows by the port that ours comes from. It is told once we are connected, and our port
is one that `connect` has picked: nobody can come from there but us. One that is bound before could be shared by another
user of this machine, who is then quicker, and taken for the peer.

QEMU's listeners have room for one connection that it has not yet accepted. The kernel drops what is too much, and its
caller would try again after a second; here such a call is given up at once and repeated after `AGAIN_SECONDS`.

How many connections there may be, `limits.connections` says. One that the guest has given up is closed inside, but may
still be open outside, where its peer is slow or silent; nobody can tell that from a connection of which half goes on.
Where there is room both stay. Where there is none, those where nothing has moved for `LINGER_SECONDS` give way, if the
guest has ended its direction or the peer does not take what waits for it.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections import deque

from donjon.errors import DonjonError, PlatformError, words_of
from donjon.keep.network import have_descriptors
from donjon.keep.vm.loop import IN, OUT, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.keep.vm.loop import Loop
    from donjon.log import Logger

    Announce = Callable[[int, str, int], None]
    Entered = Callable[[int | DonjonError], None]

__all__ = ["Door", "Relay", "reset"]

BUFFER = 64 * 1024
AGAIN_SECONDS, LONGEST_AGAIN = 0.002, 0.1
PATIENCE_SECONDS = 30.0
"""How long QEMU may take to accept a connection; a busy machine takes long."""
PAUSE_SECONDS = 0.1
"""How long a listener rests when this process has no descriptor left."""
LINGER_SECONDS = 60.0
LOOK_SECONDS = 1.0
"""How often connections that could give way are looked for."""
STALL_SECONDS, FINISH_SECONDS = 5.0, 30.0
"""Once the guest has ended: how long a peer may take nothing of what waits for it, and all of them together."""
PENDING = 64
"""Connections beyond `limits.connections` that are let in: those that the guest has not accepted yet."""
AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: nothing is waited for, and the peer gets a reset."""
ALIVE = (1, 4, 5)
"""States of TCP in which the peer may still send: ESTABLISHED, FIN_WAIT1, FIN_WAIT2 of <linux/tcp.h>."""
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ROOM = memoryview(bytearray(BUFFER))
"""What all connections read into: there is one thread, and what cannot be passed on at once is copied."""


class Relay:
    """All connections of one Keep.

    Args:
        most: how many may be open at one time, by `limits.connections`.
        congested: whether the guest is behind with what it was told, so that it should not be told of more peers.
    """

    def __init__(self, loop: Loop, most: int, log: Logger, congested: Callable[[], bool]) -> None:
        self.loop = loop
        self._most = most + PENDING
        self._log = log
        self._congested = congested
        self._pairs: set[Pair] = set()
        self._callers: set[Caller] = set()
        self._listeners: dict[socket.socket, tuple[Door, Announce]] = {}
        self._resting: set[socket.socket] = set()
        self._again = Timer(0.0, None)
        self._starved = False
        self._closed = False
        self._looked = 0.0
        self._ended = 0.0
        self.delivered = time.monotonic()

    def prepare(self) -> None:
        """Let this process open as many descriptors as the connections need, as far as the system allows."""
        have_descriptors(2 * self._most)

    def listen(self, listener: socket.socket, door: Door, announce: Announce) -> None:
        """Take connections from now on.

        Args:
            listener: bound and listening; it belongs to the relay from now on.
            announce: called with our port at QEMU, and the peer's address and port, once QEMU has the connection.
        """
        listener.setblocking(False)
        self._listeners[listener] = door, announce
        self.loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener))

    def enter(self, connection: socket.socket, door: Door, entered: Entered) -> None:
        """Continue a connection through a door.

        Args:
            connection: it belongs to the relay from now on.
            entered: called once: with our port at QEMU once QEMU has the connection, or why it is let down.
        """
        if self._closed or self.full():
            reset(connection)
            if not self._closed:
                entered(PlatformError("too many connections are open", "raise limits.connections in Enarx.toml"))
            return
        connection.setblocking(False)
        _hurry(connection)
        caller = Caller(self, connection, entered)
        self._callers.add(caller)
        door.call(caller)

    def full(self) -> bool:
        """Whether no more connections are let in for now."""
        if len(self._pairs) + len(self._callers) < self._most:
            return False
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            for pair in tuple(self._pairs):
                if now - pair.moved >= LINGER_SECONDS and (pair.stuck or pair.given_up):
                    pair.cut()
        return len(self._pairs) + len(self._callers) >= self._most

    def joined(self, caller: Caller, inside: socket.socket) -> None:
        """A caller was let in."""
        self._callers.discard(caller)
        self._pairs.add(Pair(self, caller.connection, inside))

    def gone(self, which: Pair | Caller) -> None:
        """It has ended."""
        if isinstance(which, Pair):
            self._pairs.discard(which)
        else:
            self._callers.discard(which)
        self.wake()

    def wake(self) -> None:
        """Accept again where that was put off; to be called whenever the guest may have caught up."""
        if self._resting and not self._congested() and not self.full():
            resting, self._resting = self._resting, set()
            for listener in resting:
                self.loop.watch(listener.fileno(), IN, lambda _events, mine=listener: self._accept(mine))  # type: ignore[misc]

    def _accept(self, listener: socket.socket) -> None:
        if self._congested() or self.full():
            self._rest(listener, LOOK_SECONDS)
            return
        try:
            connection, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                if not self._starved:  # said once, not ten times a second
                    self._log.warn(f"cannot accept a connection: {words_of(error)}", "donjon.keep")
                self._starved = True
                self._rest(listener, PAUSE_SECONDS)
            return  # else the peer has gone already
        self._starved = False
        door, announce = self._listeners[listener]

        def entered(port: int | DonjonError) -> None:
            if isinstance(port, int):
                announce(port, address[0], address[1])

        self.enter(connection, door, entered)

    def _rest(self, listener: socket.socket, seconds: float) -> None:
        self.loop.forget(listener.fileno())
        self._resting.add(listener)
        self._again.cancel()
        self._again = self.loop.after(seconds, self._look)

    def _look(self) -> None:
        self.wake()
        if self._resting:
            self._again = self.loop.after(LOOK_SECONDS, self._look)

    def close_listeners(self) -> None:
        """Let nobody in any more: the guest has ended."""
        for listener in self._listeners:
            self.loop.forget(listener.fileno())
            listener.close()
        self._listeners.clear()
        self._resting.clear()
        self._again.cancel()
        for caller in tuple(self._callers):
            caller.let_down(PlatformError("the Keep has ended"))

    def busy(self) -> bool:
        """Once the guest has ended: whether peers still take what it has sent them. Soon it says no in any case."""
        now = time.monotonic()
        self._ended = self._ended or now
        if now - max(self.delivered, self._ended) > STALL_SECONDS or now - self._ended > FINISH_SECONDS:
            return False
        self._again.cancel()
        self._again = self.loop.after(LOOK_SECONDS, lambda: None)  # so that somebody who waits asks again
        return any(pair.owes for pair in self._pairs)

    def close(self) -> None:
        """End everything: what is whole is closed, what is not is cut."""
        self._closed = True
        self.close_listeners()
        for pair in tuple(self._pairs):
            pair.end()


class Caller:
    """A connection that waits to be let in.

    Attributes:
        waits: whether somebody still wants it to be.
    """

    __slots__ = ("_entered", "_relay", "connection", "until", "waits")

    def __init__(self, relay: Relay, connection: socket.socket, entered: Entered) -> None:
        self._relay = relay
        self._entered: Entered | None = entered
        self.connection = connection
        self.until = time.monotonic() + PATIENCE_SECONDS
        self.waits = True

    def _say(self, what: int | DonjonError) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:  # else it was said already
            entered(what)

    def announce(self, port: int) -> None:
        """Say what port it comes from."""
        self._say(port)

    def let_in(self, inside: socket.socket) -> None:
        """QEMU has it."""
        self.waits = False
        self._relay.joined(self, inside)

    def let_down(self, error: DonjonError) -> None:
        """Nobody takes it."""
        self.waits = False
        reset(self.connection)
        self._relay.gone(self)
        self._say(error)


class Door:
    """One private port of QEMU's, through which connections enter the guest one after another.

    Args:
        port: on 127.0.0.1.
    """

    def __init__(self, loop: Loop, port: int) -> None:
        self._loop = loop
        self._port = port
        self._callers: deque[Caller] = deque()
        self._pause = AGAIN_SECONDS
        self._trying = False

    def call(self, caller: Caller) -> None:
        """Let it in when those before it are."""
        self._callers.append(caller)
        if not self._trying:
            self._try()

    def _try(self) -> None:
        self._trying = True  # until nobody waits: what happens here may bring further callers
        while self._callers:
            caller = self._callers[0]
            inside, problem = None, None
            if caller.waits and time.monotonic() < caller.until:
                inside, problem = self._connect()
                if problem is not None and problem != errno.ECONNREFUSED:
                    self._loop.after(self._pause, self._try)
                    self._pause = min(2 * self._pause, LONGEST_AGAIN)
                    return
            self._callers.popleft()
            self._pause = AGAIN_SECONDS
            if inside is not None:
                caller.announce(inside.getsockname()[1])
                caller.let_in(inside)
            elif caller.waits:
                caller.let_down(PlatformError("the machine takes no connection"))
        self._trying = False

    def _connect(self) -> tuple[socket.socket | None, int | None]:
        """A connection, if QEMU's queue has room now: on the loopback the handshake is over when `connect` returns."""
        try:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            return None, error.errno  # out of descriptors: later
        try:
            connection.setblocking(False)
            problem = connection.connect_ex(("127.0.0.1", self._port))
            if problem == errno.EINPROGRESS:
                problem = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                raise OSError(problem, "")
            connection.getpeername()
            _hurry(connection)
        except OSError as error:
            connection.close()
            return None, error.errno
        return connection, None


class Pair:
    """Two connected sockets and what goes on between them.

    Attributes:
        moved: when bytes went through last.
    """

    __slots__ = ("_relay", "_sides", "moved")

    def __init__(self, relay: Relay, outside: socket.socket, inside: socket.socket) -> None:
        self._relay = relay
        self._sides = (Side(outside), Side(inside))
        self.moved = time.monotonic()
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
        if count:
            self.moved = time.monotonic()
            if index == 0:
                self._relay.delivered = self.moved
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
        """Whether something from inside waits for the peer outside, or may still come: once the guest has ended, its
        last bytes are at QEMU's or here."""
        return bool(self._sides[0].held) or not self._sides[1].ended

    @property
    def stuck(self) -> bool:
        """Whether the peer outside does not take what the guest has sent it."""
        return bool(self._sides[0].held)

    @property
    def given_up(self) -> bool:
        """Whether the guest has ended its direction, read here or not."""
        inside = self._sides[1]
        return inside.ended or inside.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in ALIVE

    def end(self) -> None:
        """Close both if nothing is lost by that, else cut."""
        self._close(reset if self.owes else socket.socket.close)

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


def _hurry(connection: socket.socket) -> None:
    """Send small messages at once."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # the peer has gone, and reading will tell so
