"""A TLS connection as the guest has it, a plain stream: what `pipe.py` decides, done with a real socket.

`connect` makes one as a client; `listener.py` makes those that a guest accepts.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from donjon.errors import VerifyError
from donjon.tls.pipe import BULK, FEED, RECORD, TlsError, TlsPipe, Truncated
from donjon.wasm.wasi.descriptors.base import EVENT_HANGUP, Descriptor
from donjon.wasm.wasi.descriptors.socket import Budget, check_socket_flags
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.rights import STREAM
from donjon.wasm.wasi.p1.types import Eventtype, Fdflag, Filetype, Riflag, Sdflag
from donjon.wasm.wasi.reactor import POLLIN, POLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import NoReturn

    from donjon.wasm.wasi.descriptors.base import Buffers, Event
    from donjon.wasm.wasi.reactor import Reactor

    Judge = Callable[[tuple[bytes, ...]], object]

__all__ = ["TlsStream", "connect", "receive"]

LINGER_SECONDS = 10.0
"""How long what the guest wrote before it closed is still being sent."""
PIECE = 1 << 16
"""Bytes that are encrypted at once."""
MOST_KEPT = 4 * PIECE
"""Bytes of ciphertext that wait for the peer to take them. The guest's own are at most a piece; what comes on top are
answers to key updates, which a peer can ask for as fast as it can send."""
MOST_FRUITLESS = 4 * FEED
"""Bytes that a peer may send in one go without data in them; a record has at most FEED."""

READABLE = (Errno.SUCCESS, 1, 0)

# One buffer for what comes off the wire, for all streams: the pipe copies it before anything else can be read.
_scratch = bytearray(FEED)
_arrived = memoryview(_scratch)
_READ = [_scratch]


class TlsStream(Descriptor):
    """A connection whose handshake is done, as the guest has it.

    Args:
        connection: connected, non-blocking; it belongs to the stream from now on.
        pipe: handshaken; what it has to send is sent.
        budget: where the connection was counted already; closing gives it back.
    """

    __slots__ = (
        "_budget",
        "_deaf",
        "_failed",
        "_fed",
        "_flusher",
        "_more",
        "_mute",
        "_out",
        "_pipe",
        "_reactor",
        "_socket",
    )
    buffers = True

    def __init__(self, connection: socket.socket, pipe: TlsPipe, reactor: Reactor, budget: Budget) -> None:
        super().__init__(connection.fileno(), Filetype.SOCKET_STREAM, STREAM)
        self._socket = connection
        self._pipe = pipe
        self._reactor = reactor
        self._budget = budget
        self._fed = 0  # bytes of ciphertext that came
        self._more = False  # the last read from the socket was as large as it could be, so that more is probably there
        self._out = b""  # ciphertext that the kernel has not taken yet
        self._flusher = -1  # a second descriptor of the socket, on which the reactor waits for room for _out
        self._failed: OSError | None = None  # what the socket said, for when everything that came before is read
        self._deaf = self._mute = False  # the guest closed its reading, its writing side

    # ---- reading

    def readv(self, buffers: Buffers) -> int:
        if not buffers or self._deaf:
            return 0
        first = buffers[0]
        if not first:
            return 0
        try:
            count = self._pipe.read_into(first)
            if count < 0:
                count = self._await(self._pipe.read_into, first)
            if self._more and BULK < count < len(first):
                count = self._read_on(first, count)
            if count == len(first) and len(buffers) > 1:
                count += self._read_more(buffers)
            self._mark()
        except TlsError as error:
            self._reactor.eager.add(self)  # which it stays, for a poller too
            raise _as_errno(error) from None
        return count

    def _read_on(self, buffer: memoryview, count: int) -> int:
        """A large message fills a large buffer at once, although a record holds only 16 KiB of it."""
        try:
            while self._more and count < len(buffer) and self._fill():
                more = self._pipe.read_into(buffer[count:])
                if more <= 0:
                    break
                count += more
        except OSError as error:
            self._fail(error)  # what was read comes first
        except TlsError:
            self._reactor.eager.add(self)  # the next read meets it again
        return count

    def _mark(self) -> None:
        """Let pollers know whether there is more to read than the kernel knows of."""
        eager = self._reactor.eager
        if self._pipe.prefetch():
            eager.add(self)
        elif eager and not (self._deaf or self._mute or self._failed):
            eager.discard(self)

    def _read_more(self, buffers: Buffers) -> int:
        """Go on with the second buffer, as long as something is there already."""
        total = 0
        for buffer in buffers[1:]:
            if not self._pipe.prefetch():
                break
            count = self._pipe.read_into(buffer)
            total += max(count, 0)
            if count < len(buffer):
                break
        return total

    recv = readv

    def recv_with(self, buffers: Buffers, flags: int) -> int:
        if not buffers or not buffers[0] or self._deaf:
            return 0
        if flags & Riflag.RECV_PEEK:
            try:
                count = self._pipe.peek_into(buffers[0])
                if count < 0:
                    count = self._await(self._pipe.peek_into, buffers[0])
                self._mark()
            except TlsError as error:
                self._reactor.eager.add(self)
                raise _as_errno(error) from None
            return count
        total = 0
        for buffer in buffers:
            at = 0
            while at < len(buffer):
                try:
                    count = self.readv([buffer[at:]])
                except (OSError, WasiError):
                    if total:
                        return total
                    raise
                if not count:
                    return total
                at += count
                total += count
        return total

    def _await(self, read: Callable[[memoryview], int], buffer: memoryview) -> int:
        """Read as soon as data is there. A peer that sends TLS messages without end and no data must not keep the guest
        in here, which has others to serve."""
        fed = self._fed
        while True:
            if not self._fill():
                if self.flags & Fdflag.NONBLOCK:
                    raise WasiError(Errno.AGAIN, "would block")
                self._reactor.wait(self.host, POLLIN)
                fed = self._fed
            elif self._fed - fed > MOST_FRUITLESS:
                self._abort("the peer sends TLS messages without end, and no data")
            count = read(buffer)
            if count >= 0:
                return count

    def _fill(self) -> bool:
        """Feed the pipe what has arrived; False: nothing has."""
        if self._failed is not None:
            raise self._failed
        if self._more and self._pipe.backlog:  # much arrives, and TLS itself has something to answer
            self._push(self._pipe.take())
        try:
            count = os.readv(self.host, _READ)
        except BlockingIOError:
            if self._pipe.backlog:  # an answer of TLS itself, such as to a key update
                self._push(self._pipe.take())
            return False
        self._more = count == FEED
        self._fed += count
        if count:
            self._pipe.feed(_arrived[:count])
        else:
            self._pipe.feed_eof()
        return True

    # ---- writing

    def writev(self, buffers: Buffers) -> int:
        if len(buffers) == 1 and not (self._out or self._mute) and len(buffers[0]) <= RECORD:
            try:
                data = self._pipe.seal(buffers[0])
            except TlsError as error:
                raise _as_errno(error) from None
            try:
                count = os.write(self.host, data)
            except BlockingIOError:
                count = 0
            if count != len(data):
                self._keep(data[count:])
                self._room()
            return len(buffers[0])
        if self._mute:
            raise WasiError(Errno.PIPE, "closed for writing")
        if self._out and not self._room():
            raise WasiError(Errno.AGAIN, "would block")
        pipe, done = self._pipe, 0
        try:
            for buffer in buffers:
                for at in range(0, len(buffer), PIECE):
                    part = buffer[at : at + PIECE]
                    self._push(pipe.seal(part))
                    done += len(part)
                    if self._out and not self._room():
                        return done
        except TlsError as error:
            raise _as_errno(error) from None
        except OSError:
            if not done:
                raise
        return done

    send = writev

    def _room(self) -> bool:
        """Is everything sent, so that more may be encrypted? A guest that blocks waits here until it is."""
        while not self._flush():
            if self.flags & Fdflag.NONBLOCK:
                return False
            self._reactor.wait(self.host, POLLOUT)
        return True

    def _push(self, data: bytes) -> None:
        """Send, and keep what the kernel does not take."""
        if self._out:
            self._keep(self._out + data)
            if len(self._out) > MOST_KEPT:
                self._abort("the peer wants answers of TLS without end, and takes none")
            return
        try:
            count = os.write(self.host, data)
        except BlockingIOError:
            count = 0
        if count < len(data):
            self._keep(data[count:])

    def _keep(self, rest: bytes) -> None:
        """Have the reactor see to what the kernel has not taken: the guest may never write again."""
        self._out = rest
        if self._flusher < 0:
            try:
                self._flusher = os.dup(self.host)
            except OSError:
                return  # no descriptor is free: the guest's next call that writes, polls or closes sends it
            self._reactor.add(self._flusher, POLLOUT, self._on_room, float("inf"))

    def _flush(self) -> bool:
        """Send what was kept; True: all of it."""
        while self._out:
            try:
                count = os.write(self.host, self._out)
            except BlockingIOError:
                return False
            self._out = self._out[count:]
        if self._flusher >= 0:
            self._reactor.remove(self._flusher)
            os.close(self._flusher)
            self._flusher = -1
            if self._mute:
                self._socket.shutdown(socket.SHUT_WR)
        return True

    def _on_room(self, events: int) -> None:
        try:
            self._flush()
        except OSError as error:
            self._fail(error)
            self._drop_rest()

    def _fail(self, error: OSError) -> None:
        """Keep what became of the socket until the guest has read what came before."""
        self._failed = self._failed or error
        self._reactor.eager.add(self)

    def _abort(self, reason: str) -> NoReturn:
        """Have no more to do with a peer that keeps the rules of TLS, but breaks ours."""
        problem = ConnectionAbortedError(errno.ECONNABORTED, reason)
        self._fail(problem)
        self._drop_rest()
        raise problem

    def _drop_rest(self) -> None:
        self._out = b""
        if self._flusher >= 0:
            self._reactor.remove(self._flusher)
            os.close(self._flusher)
            self._flusher = -1

    # ---- the end

    def shutdown(self, how: int) -> None:
        self._reactor.eager.add(self)
        if how & Sdflag.RD:
            self._deaf = True
        if how & Sdflag.WR and not self._mute:
            self._mute = True
            self._say_goodbye()
            if not self._out:
                self._socket.shutdown(socket.SHUT_WR)

    def _say_goodbye(self) -> None:
        self._pipe.close_notify()
        self._push(self._pipe.take())

    def close(self) -> None:
        self._reactor.eager.discard(self)
        try:
            if not self._mute:
                self._say_goodbye()
        except (OSError, TlsError):
            self._drop_rest()
        if not self._out:
            self._socket.close()
            self._budget.give()
            return
        if self._flusher >= 0:
            self._reactor.remove(self._flusher)
            os.close(self._flusher)
        _Linger(self._socket, self._out, self._reactor, self._budget)

    def set_flags(self, flags: int) -> None:
        self.flags = check_socket_flags(flags)

    # ---- waiting

    def ready(self, kind: int) -> Event | None:
        if kind == Eventtype.FD_READ:
            if self._deaf or self._failed is not None or self._pipe.prefetch():
                return READABLE
        elif self._mute:
            return (Errno.SUCCESS, 1, EVENT_HANGUP)
        return None

    def woken(self, kind: int, events: int) -> Event | None:
        if kind != Eventtype.FD_READ:
            try:
                return super().woken(kind, events) if self._flush() else None
            except OSError as error:
                self._fail(error)
                return (Errno.SUCCESS, 1, EVENT_HANGUP)
        if not events & ~POLLOUT:
            return None
        try:
            self._fill()
        except OSError as error:
            self._fail(error)
        else:
            if not self._pipe.prefetch():
                return None
            self._reactor.eager.add(self)
        return READABLE if events == POLLIN else (Errno.SUCCESS, 1, EVENT_HANGUP if events & select.POLLHUP else 0)


class _Linger:
    """What a closed stream still has to send. It counts as a connection until then, or peers that take nothing could
    have any number of them."""

    __slots__ = ("_budget", "_out", "_reactor", "_socket")

    def __init__(self, connection: socket.socket, out: bytes, reactor: Reactor, budget: Budget) -> None:
        self._socket = connection
        self._out = out
        self._reactor = reactor
        self._budget = budget
        reactor.add(connection.fileno(), POLLOUT, self._step, time.monotonic() + LINGER_SECONDS)

    def _step(self, events: int) -> None:
        if events:
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except BlockingIOError:
                return
            except OSError:
                self._out = b""
        if not events or not self._out:
            self._reactor.remove(self._socket.fileno())
            self._socket.close()
            self._budget.give()


def connect(
    connection: socket.socket,
    context: ssl.SSLContext,
    host: str,
    peer: str,
    reactor: Reactor,
    budget: Budget,
    seconds: float,
    judge: Judge | None = None,
) -> TlsStream:
    """Do the client's handshake on a connected socket.

    Args:
        host: the name or address that the peer's certificate must carry, if `context` checks names.
        peer: what messages call the peer.
        seconds: the most it may take.
        judge: called once when the handshake is done, with the chain that was verified; a VerifyError refuses the peer.
    Raises:
        VerifyError: the peer is not who it must be, or speaks no TLS 1.3. The socket stays the caller's.
        OSError: the connection broke, or (TimeoutError) took too long.
    """
    connection.setblocking(False)
    pipe = TlsPipe(context, server_side=False, server_hostname=host, peer=peer)
    end = time.monotonic() + seconds
    while True:
        try:
            done = pipe.handshake()
            if done and judge is not None:
                judge(pipe.peer_chain)
        except VerifyError as error:
            pipe.refuse(error.message)  # which does nothing if the handshake failed
            try:
                _send_all(connection, pipe.take(), reactor, end)
            except OSError:
                pass  # it does not want to know
            raise
        _send_all(connection, pipe.take(), reactor, end)
        if done:
            stream = TlsStream(connection, pipe, reactor, budget)
            stream._mark()  # the peer's first data may have come with the end of the handshake
            return stream
        left = end - time.monotonic()
        if left <= 0 or not reactor.wait(connection.fileno(), POLLIN, left):
            raise TimeoutError(f"no TLS handshake within {seconds:g} s")
        receive(connection.fileno(), pipe)


def receive(host: int, pipe: TlsPipe) -> int:
    """Feed a pipe what has arrived at a socket, or that its end has.

    Returns:
        Bytes; 0 at the end, FEED when there is probably more.
    Raises:
        OSError: nothing is there (BlockingIOError), or the connection broke.
    """
    count = os.readv(host, _READ)
    if count:
        pipe.feed(_arrived[:count])
    else:
        pipe.feed_eof()
    return count


def _send_all(connection: socket.socket, data: bytes, reactor: Reactor, end: float) -> None:
    while data:
        try:
            data = data[connection.send(data) :]
        except BlockingIOError:
            if not reactor.wait(connection.fileno(), POLLOUT, max(0.0, end - time.monotonic())):
                raise TimeoutError("the peer takes no data") from None


def _as_errno(error: TlsError) -> WasiError:
    """How the guest learns what went wrong below it: connreset where data may be missing, io for the rest."""
    return WasiError(Errno.CONNRESET if isinstance(error, Truncated) else Errno.IO, str(error))
