"""What the workload's processes ask for, and the host gives or the agent makes: connections, addresses, identities.

Every request brings the socket that its answer goes to, so that forks of the Keep can ask at the same time. Who asks is
hostile, and so is who answers:

- nothing here waits for either. An answer that its asker does not read is lost, a host that does not answer has a time
- what is kept for both is counted: dials and listeners by the sallyport's own limits, peers, connections that arrived
  and nobody waits for, makers, and requests for evidence
- a connection out comes by the network, its announcement by the port, in any order; likewise a peer's name and its
  connection. Each waits for the other. What comes in at the gate comes from the host: inside, nobody can play it
- evidence is had one at a time, in a process that ends, however many ask
- of collateral the host has one request at a time. One that it answers too late holds up nobody again: until it has,
  there is no other. What has come is kept for the next evidence, unless whoever got it says that it is not fit
"""

from __future__ import annotations

import _socket
import os
import select
import time

from donjon.errors import DonjonError, ParseError, PlatformError, words_of
from donjon.guest.evidence import SECONDS as EVIDENCE_SECONDS
from donjon.guest.evidence import begin
from donjon.guest.requests import answer, failure, pair, receive, send
from donjon.log import WARN
from donjon.sallyport import frames
from donjon.sallyport.machine import DIALS, Fetched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from donjon.guest.agent import Place
    from donjon.guest.workload import Workload
    from donjon.sallyport.machine import GuestMachine

    Watch = Callable[[int, int, Callable[[int], None]], None]
    Forget = Callable[[int], None]

__all__ = ["Broker"]

DIAL_SECONDS = 60.0
"""For the host to connect, or to listen."""
PEER_SECONDS = 2.0
"""For the host to say who has connected."""
MOST_PEERS, LONGEST_HOST = 8192, 64
"""Of connections that the workload has not accepted yet, and bytes of an address with its zone."""
MOST_ARRIVED, MOST_MAKERS = 64, 2
LONGEST = 4096
"""Bytes of a request."""
COLLATERAL_SECONDS = 20.0
"""For the host to fetch it, within what evidence may take, and the making of an identity."""
LONGEST_COLLATERAL = 16 << 10
"""Bytes: a certificate has a tenth."""
KEEP, MAKER, EVIDENCE = range(3)
"""Who asks."""


class Broker:
    """One for a session.

    Args:
        watch, forget: have descriptors watched by the agent's loop; what it forgets, it does not close.
    """

    def __init__(self, machine: GuestMachine, place: Place, workload: Workload, watch: Watch, forget: Forget) -> None:
        self._machine, self._place, self._workload = machine, place, workload
        self._watch, self._forget = watch, forget
        self._waiting: dict[int, tuple[_socket.socket, float]] = {}  # number of a dial -> who asks, until
        self._binding: dict[int, tuple[_socket.socket, float]] = {}  # number of a listener -> who asks, until
        self._expected: dict[int, tuple[_socket.socket, float]] = {}  # source port -> who asks, until
        self._arrived: dict[int, tuple[int, float]] = {}  # source port -> connection, until
        self._curious: dict[tuple[int, int], tuple[_socket.socket, float]] = {}  # guest and source port -> who asks
        self._peers: dict[tuple[int, int], tuple[str, int]] = {}
        self._forgotten = False  # whether the host has said more than is kept: not to be waited for again
        self._makers = 0
        self._wanted: list[tuple[_socket.socket, bytes]] = []
        self._collecting: tuple[int, float, _socket.socket] | None = None  # process, until, who asks
        self._fetching = ""  # the name of what the host is asked for; "" when nothing is open
        self._requester: tuple[_socket.socket, float] | None = None  # who waits for it, until
        self._fetched: dict[str, bytes] = {}  # the last answer
        self._gate: _socket.socket | None = None
        if place.network:  # before there is another process that could take its port
            self._gate = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            self._gate.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            self._gate.bind((place.address, place.gate_port))
            self._gate.listen(MOST_ARRIVED)
            self._gate.setblocking(False)
            watch(self._gate.fileno(), select.POLLIN, lambda _: self._arrive())

    def serve(self, asked: _socket.socket, who: int = KEEP) -> None:
        """Answer what comes over this socket, until its other ends are closed."""

        def act(_events: int) -> None:
            try:
                data, descriptor = receive(asked, LONGEST, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data, descriptor = b"", -1
            if not data:
                self._forget(asked.fileno())
                asked.close()
                self._makers -= who == MAKER
                return
            asker = _asker(descriptor)
            if asker is None:
                return
            try:
                self._asked(asker, who, data.decode().split("\0"))
            except DonjonError as error:
                _send(asker, failure(error))
            except (ValueError, OSError) as error:
                _send(asker, failure(PlatformError(f"cannot do that: {error}")))

        self._watch(asked.fileno(), select.POLLIN, act)

    # ---- the host's events

    def take(self, event: object) -> None:
        """What the host answers, or tells.

        Raises:
            ParseError: it is not what it can be.
        """
        if isinstance(event, frames.Dialed):
            if event.id not in self._waiting:
                return  # its time was over
            if event.source_port in self._expected:
                raise ParseError(
                    f"sallyport: Dialed.source_port: expected one that no other connection has, got {event.source_port}"
                )
            self._expected[event.source_port] = self._waiting.pop(event.id)
            self._deliver(event.source_port)
        elif isinstance(event, frames.Bound):
            self._answer(self._binding, event.id, answer("bound", event.host, str(event.port)))
        elif isinstance(event, frames.DialFailed):
            self._answer(self._waiting, event.id, failure(event.error()))
        elif isinstance(event, Fetched | frames.CollateralFailed):
            self._have_fetched(event)
        elif isinstance(event, frames.BindFailed):
            self._answer(self._binding, event.id, failure(event.error()))
        elif isinstance(event, frames.Peer):
            key = event.guest_port, event.source_port
            if key in self._curious:
                _send(self._curious.pop(key)[0], answer("peer", event.host, str(event.port)))
                return
            if len(self._peers) >= MOST_PEERS:
                del self._peers[next(iter(self._peers))]
                self._forgotten = True
            self._peers[key] = (event.host[:LONGEST_HOST], event.port)

    def _answer(self, waiting: dict[int, tuple[_socket.socket, float]], number: int, data: bytes) -> None:
        if number in waiting:
            _send(waiting.pop(number)[0], data)

    def look_after(self, now: float) -> None:
        """What has waited for too long."""
        _expire(self._waiting, now, "the host does not answer")
        _expire(self._binding, now, "the host does not answer")
        _expire(self._expected, now, "the host has not delivered the connection")
        _expire(self._curious, now, "the host has not said who that is")
        if self._requester is not None and now > self._requester[1]:
            _send(self._requester[0], failure(PlatformError("the host does not answer")))
            self._requester = None
        for port, (connection, end) in list(self._arrived.items()):
            if now > end:
                del self._arrived[port]
                os.close(connection)
        if self._collecting is not None and now > self._collecting[1]:
            os.kill(self._collecting[0], 9)
            _send(self._collecting[2], failure(PlatformError("the TEE gave no evidence in time")))

    # ---- requests

    def _asked(self, asker: _socket.socket, who: int, fields: list[str]) -> None:
        now = time.monotonic()
        match fields:
            case ["reach", host, port] if who != EVIDENCE:
                if self._gate is None:
                    raise PlatformError("the machine has no network card")
                if len(self._waiting) + len(self._expected) >= DIALS:
                    raise PlatformError(f"cannot connect to {host}:{port}: {DIALS} other connections are being made")
                self._waiting[self._machine.dial(host, int(port))] = (asker, now + DIAL_SECONDS)
            case ["listening", name, prot, host, port, guest_port] if who == KEEP:
                number = self._machine.listening(name, prot, host, int(port), int(guest_port))
                self._binding[number] = (asker, now + DIAL_SECONDS)
            case ["peer", guest_port, source_port] if who == KEEP:
                key = int(guest_port), int(source_port)
                if key in self._peers:
                    host, outside = self._peers.pop(key)
                    _send(asker, answer("peer", host, str(outside)))
                elif self._forgotten or key in self._curious or len(self._curious) >= MOST_ARRIVED:
                    raise PlatformError("the host has not said who that is")
                else:
                    self._curious[key] = (asker, now + PEER_SECONDS)
            case ["identity"] if who == KEEP:
                self._make(asker)
            case ["evidence", text] if who == MAKER:
                self._want(asker, bytes.fromhex(text))
            case ["collateral", name] if who == EVIDENCE:
                self._fetch(asker, name)
            case ["unfit", text] if who == EVIDENCE:
                self._fetched.clear()
                self._machine.log(WARN, "donjon.guest", text)
                _send(asker, answer("noted"))
            case _:
                raise ParseError("request of a Keep: expected one that it may make")

    def _make(self, asker: _socket.socket) -> None:
        """Start a maker, and give the Keep the end of its pipe."""
        from donjon.guest.keep import maker_of
        from donjon.identity.apart import Apart

        if self._makers >= MOST_MAKERS:
            raise PlatformError(f"{MOST_MAKERS} identities are being made already")
        ours, theirs = pair()
        try:
            making = Apart(maker_of(self._workload, self._place, theirs), keep=(theirs.fileno(),))
        finally:
            theirs.close()
        _, reader = making.give_away()
        self._makers += 1
        self.serve(ours, MAKER)
        _send(asker, b"making\0", reader)
        os.close(reader)

    def _want(self, asker: _socket.socket, report_data: bytes) -> None:
        """Have evidence made: TDX's takes seconds, so in another process, and by one at a time."""
        if self._place.tee is None:
            raise PlatformError("this machine has no TEE that could give evidence")
        if len(self._wanted) >= MOST_MAKERS:
            raise PlatformError(f"{MOST_MAKERS} other pieces of evidence are being made")
        self._wanted.append((asker, report_data))
        self._collect()

    def _collect(self) -> None:
        if self._collecting is not None or not self._wanted:
            return
        asker, report_data = self._wanted.pop(0)
        try:
            ours, theirs = pair()
            try:
                pid = begin(self._place, report_data, asker, theirs)
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            _send(asker, failure(PlatformError(f"cannot start a process for evidence: {words_of(error)}")))
            self._collect()
            return
        self.serve(ours, EVIDENCE)
        descriptor = os.pidfd_open(pid)
        self._collecting = (pid, time.monotonic() + EVIDENCE_SECONDS, asker)

        def ended(_events: int) -> None:
            self._forget(descriptor)
            os.close(descriptor)
            asker.close()
            self._collecting = None
            self._collect()

        self._watch(descriptor, select.POLLIN, ended)

    def _fetch(self, asker: _socket.socket, name: str) -> None:
        """Have the host fetch what the TEE's vendor publishes under this name."""
        if name in self._fetched:
            _send(asker, b"collateral\0" + self._fetched[name])
            return
        if self._fetching:
            raise PlatformError("the host has not answered an earlier request")
        self._machine.collateral(f"{self._place.tee} {name}")
        self._fetching, self._requester = name, (asker, time.monotonic() + COLLATERAL_SECONDS)

    def _have_fetched(self, event: Fetched | frames.CollateralFailed) -> None:
        """Pass it on as it is: whoever asked verifies it."""
        name, self._fetching = self._fetching, ""
        if isinstance(event, frames.CollateralFailed):
            data = failure(PlatformError(f"the host cannot fetch it: {event.message}"))
        elif len(event.data) > LONGEST_COLLATERAL:
            text = f"expected at most {LONGEST_COLLATERAL} bytes, got {len(event.data)}"
            data = failure(ParseError(f"the host's answer: {text}"))
        else:
            self._fetched = {name: event.data}
            data = b"collateral\0" + event.data
        if self._requester is not None:
            _send(self._requester[0], data)
            self._requester = None

    # ---- connections that come in through the gate

    def _arrive(self) -> None:
        assert self._gate is not None  # noqa: S101 - it is what is watched
        try:
            connection, (host, port) = self._gate._accept()  # type: ignore[attr-defined]  # what `socket` makes `accept` of
        except OSError:
            return
        if host != self._place.gateway:
            os.close(connection)  # a process inside, which would take the host's part
            return
        if port in self._arrived:
            os.close(self._arrived.pop(port)[0])
        elif len(self._arrived) >= MOST_ARRIVED:
            os.close(self._arrived.pop(next(iter(self._arrived)))[0])
        self._arrived[port] = (connection, time.monotonic() + DIAL_SECONDS)
        self._deliver(port)

    def _deliver(self, port: int) -> None:
        """Hand a connection over, once the host has both announced and made it."""
        if port in self._arrived and port in self._expected:
            connection, _ = self._arrived.pop(port)
            _send(self._expected.pop(port)[0], b"reached\0", connection)
            os.close(connection)


def _asker(descriptor: int) -> _socket.socket | None:
    """Where an answer goes; None: what came is no such socket, and nobody is answered."""
    if descriptor < 0:
        return None
    try:
        found = _socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
    if (found.family, found.type) == (_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
        return found
    found.close()
    return None


def _send(asker: _socket.socket, data: bytes, descriptor: int = -1) -> None:
    """Answer; it is lost where nobody takes it."""
    try:
        send(asker, data, descriptor, _socket.MSG_DONTWAIT)
    except OSError:
        pass  # who asked has ended
    finally:
        asker.close()


def _expire(waiting: dict[Any, tuple[_socket.socket, float]], now: float, why: str) -> None:
    for key, (asker, end) in list(waiting.items()):
        if now > end:
            del waiting[key]
            _send(asker, failure(PlatformError(why)))
