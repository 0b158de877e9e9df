"""A listening socket with TLS: the guest accepts connections whose handshake is done, and sees plain streams.

Until then a connection is a background task of the reactor's: it gets on whenever the guest waits for anything, and
costs the guest nothing when its peer is slow, silent, or speaks no TLS.

Where clients have to prove something beside a certificate, `judge` is asked once the handshake is done, within the same
task: until it has said yes, the guest does not see the connection. What it says no to is logged, and the peer gets an
alert.
"""

from __future__ import annotations

import errno
import select
import time
from collections import deque

from donjon.errors import VerifyError
from donjon.log import DEBUG, QUIET
from donjon.tls.pipe import FEED, TlsError, TlsPipe, Unproven
from donjon.tls.streams import TlsStream, receive
from donjon.wasm.wasi.descriptors.socket import Budget, Listener, set_nodelay
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.types import Eventtype, Fdflag
from donjon.wasm.wasi.reactor import POLLIN, POLLOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl

    from donjon.log import Logger
    from donjon.tls.streams import Judge
    from donjon.wasm.wasi.descriptors.base import Descriptor, Event
    from donjon.wasm.wasi.reactor import Reactor

__all__ = ["HANDSHAKE_SECONDS", "MOST_HANDSHAKES", "TlsListener"]

HANDSHAKE_SECONDS = 10.0
"""A peer that has not finished its handshake by then is dropped."""
MOST_HANDSHAKES = 512
"""Handshakes under way at one listener; one more, and the oldest is dropped, so that silent peers keep nobody out."""
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept(2) says when the process, or the system, has no room for one more."""
MOST_TOLD, TOLD_SECONDS = 60, 60.0
"""So many refusals are logged one by one in so many seconds; of more, their number is. Anybody can be refused."""
MOST_UNREAD = 4
"""Reads of what a refused peer has sent already: what is left unread makes the kernel take back what was sent to it."""
MOST_WAITING = 128
"""Connections that are ready and not yet accepted; further ones wait in the kernel."""


class TlsListener(Listener):
    """A listening socket that hands out connections whose handshake is done.

    Args:
        listener: bound and listening; it belongs to this descriptor from now on.
        context: from `server_context`.
        judge: called with the chain of each client, as it was verified; a VerifyError refuses the client.
    """

    __slots__ = ("_context", "_done", "_judge", "_log", "_refusals", "_refusals_since", "_under_way")
    buffers = True

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        reactor: Reactor,
        budget: Budget,
        log: Logger = QUIET,
        judge: Judge | None = None,
    ) -> None:
        super().__init__(listener, reactor, budget)
        self._context = context
        self._log = log
        self._judge = judge
        self._refusals, self._refusals_since = 0, 0.0
        self._done: deque[TlsStream] = deque()
        self._under_way: dict[_Handshake, None] = {}  # in the order of their start

    def accept(self) -> Descriptor:
        if not self._done:
            self._take_new()
        if not self._done:
            if self.flags & Fdflag.NONBLOCK:
                if self._under_way:  # a guest that only ever calls this must get them done too
                    self._reactor.poll(select.poll(), 0)
                if not self._done:
                    raise WasiError(Errno.AGAIN, "would block")
            else:
                self._wait()
        stream = self._done.popleft()
        if not self._done:
            self._reactor.eager.discard(self)
        return stream

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self.host, POLLIN)
        try:
            while not self._done:
                if self._reactor.poll(poller, None):
                    self._take_new()
        finally:
            self._reactor.watch(None)

    def _take_new(self) -> None:
        """Accept what the kernel has, and begin the handshakes."""
        while len(self._done) < MOST_WAITING:
            try:
                connection, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in NO_ROOM or not self._under_way:
                    raise
                if not self._somebody_waits():  # Linux looks for room first
                    return
                next(iter(self._under_way)).give_up("no descriptor is free")  # it may be a silent peer
                continue
            if not self._budget.take():
                if not self._under_way:
                    connection.close()
                    continue
                next(iter(self._under_way)).give_up("limits.connections is reached")  # it may be a silent peer
                self._budget.take()
            if len(self._under_way) >= MOST_HANDSHAKES:
                next(iter(self._under_way)).give_up("there are too many handshakes under way")
            self._under_way[_Handshake(self, connection, address)] = None

    def _somebody_waits(self) -> bool:
        poller = select.poll()
        poller.register(self.host, POLLIN)
        return bool(poller.poll(0))

    def _tell(self, refusal: str) -> None:
        """Log that a peer was refused, or only count it."""
        now = time.monotonic()
        if now - self._refusals_since >= TOLD_SECONDS:
            if self._refusals > MOST_TOLD:
                self._log.warn(f"{self._refusals - MOST_TOLD} more connections refused", "donjon.tls")
            self._refusals, self._refusals_since = 0, now
        self._refusals += 1
        if self._refusals <= MOST_TOLD:
            self._log.warn(refusal, "donjon.tls")
        else:
            self._log.debug(refusal, "donjon.tls")

    def _finished(self, handshake: _Handshake) -> None:
        self._under_way.pop(handshake, None)

    def close(self) -> None:
        super().close()
        self._reactor.eager.discard(self)
        for handshake in list(self._under_way):
            handshake.give_up("the listener is closed")
        while self._done:
            self._done.popleft().close()

    def ready(self, kind: int) -> Event | None:
        return (Errno.SUCCESS, 1, 0) if self._done and kind == Eventtype.FD_READ else None

    def woken(self, kind: int, events: int) -> Event | None:
        if kind == Eventtype.FD_READ and events:
            try:
                self._take_new()
            except OSError:
                return (Errno.SUCCESS, 1, 0)  # out of descriptors, perhaps: sock_accept says it
        return self.ready(kind)


class _Handshake:
    """A connection on its way from a listener to the guest."""

    __slots__ = ("_judged", "_listener", "_mask", "_out", "_peer", "_pipe", "_socket")

    def __init__(self, listener: TlsListener, connection: socket.socket, address: tuple[object, ...]) -> None:
        connection.setblocking(False)
        set_nodelay(connection)
        self._listener = listener
        self._socket = connection
        self._peer = f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
        self._pipe = TlsPipe(listener._context, server_side=True)
        self._out = b""
        self._judged = listener._judge is None
        self._mask = POLLIN
        listener._reactor.add(connection.fileno(), POLLIN, self._step, time.monotonic() + HANDSHAKE_SECONDS)

    def _step(self, events: int) -> None:
        """Go on: the socket is ready, or (no events) the time is over."""
        if not events:
            self.give_up(f"no handshake within {HANDSHAKE_SECONDS:g} s")
            return
        try:
            if events & ~POLLOUT:
                receive(self._socket.fileno(), self._pipe)
            done = self._pipe.handshake()
            if done and not self._judged:
                self._ask()
            self._out += self._pipe.take()
            self._send()
        except BlockingIOError:
            return
        except TlsError as error:
            self._send_alert()
            self.give_up(error.message, isinstance(error, Unproven))
        except OSError as error:
            self.give_up(str(error))
        else:
            if done and not self._out:
                self._hand_over()

    def _ask(self) -> None:
        """Have the peer judged, once.

        Raises:
            Unproven: it is not what it must be; the pipe has an alert for it.
        """
        self._judged = True
        judge = self._listener._judge
        assert judge is not None  # noqa: S101 - or `_judged` would be true
        try:
            judge(self._pipe.peer_chain)
        except VerifyError as error:
            self._pipe.refuse(error.message)
            raise Unproven(error.message, error.hint) from None

    def _send_alert(self) -> None:
        """Tell the peer why, if it still listens."""
        try:
            self._socket.send(self._out + self._pipe.take())
            for _ in range(MOST_UNREAD):
                self._socket.recv(FEED)
        except OSError:
            pass

    def _send(self) -> None:
        if self._out:
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except BlockingIOError:
                pass
        mask = POLLIN | POLLOUT if self._out else POLLIN
        if mask != self._mask:
            self._mask = mask
            reactor = self._listener._reactor
            _, task, deadline = reactor.tasks[self._socket.fileno()]
            reactor.add(self._socket.fileno(), mask, task, deadline)

    def _hand_over(self) -> None:
        listener = self._listener
        listener._reactor.remove(self._socket.fileno())
        listener._finished(self)
        stream = TlsStream(self._socket, self._pipe, listener._reactor, listener._budget)
        stream._mark()  # its first data may have come with the end of the handshake
        listener._done.append(stream)
        listener._reactor.eager.add(listener)

    def give_up(self, reason: str, unproven: bool = False) -> None:
        """Drop the connection; that of a peer whose certificate is not accepted, somebody wants to know about."""
        listener = self._listener
        listener._reactor.remove(self._socket.fileno())
        listener._finished(self)
        listener._budget.give()
        self._socket.close()
        if unproven:
            listener._tell(f"connection from {self._peer} refused: {reason}")
        elif listener._log.enabled(DEBUG, "donjon.tls"):
            listener._log.debug(f"connection from {self._peer} dropped: {reason}", "donjon.tls")
