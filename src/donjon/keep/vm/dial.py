"""Connections out: the guest asks, this side decides, resolves and connects.

What may be reached is what Enarx.toml names: its `connect` entries and its Steward, by the very words that stand there.
A literal address means itself, and `localhost` the loopback. Every other name may lead anywhere but back: not to
loopback, link-local, unspecified, broadcast or multicast addresses, nor to addresses of IPv6 that have one of those
inside (`inside_of`). Else whoever answers a DNS question would open to a guest what the host keeps for itself. Of
several addresses those that may not be are left out. What was judged is what is connected to: nothing is resolved
twice.

Private networks are not refused, as that is where a company's services are. Nor is an address of this machine's that
others can reach as well: services that share a machine call each other by its name. So what only this machine may reach
has to listen on the loopback; a firewall in front of another address does not see a connection that begins behind it.

Names are resolved in a fork, as getaddrinfo() waits and there is one thread.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import time
from collections import deque

from donjon.errors import DonjonError, PlatformError, UsageError, words_of
from donjon.keep.network import CONNECT_SECONDS, REFUSED
from donjon.keep.vm.apart import Apart
from donjon.keep.vm.loop import OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from donjon.config.models import Config
    from donjon.keep.vm.loop import Loop
    from donjon.keep.vm.relay import Door, Relay
    from donjon.log import Logger
    from donjon.sallyport.frames import Dial
    from donjon.sallyport.machine import HostMachine

    Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
    Address = tuple[int, str, int]
    Found = Callable[[list[Address] | str], None]

    class Asked(Protocol):
        """A question about a name, under way."""

        def close(self) -> None:
            """Give it up."""

    Resolve = Callable[[Loop, str, int, Found], Asked]

__all__ = ["Dialer", "allowed", "harmless", "resolve"]

RESOLVE_SECONDS = 20.0
MOST_RESOLVERS = 4
"""Forks at one time: a guest may have 64 questions open."""
MOST_ADDRESSES = 16
MOST_ANSWER = 16384
"""Bytes of a resolver's answer: 16 addresses take 1 KiB."""
MOST_COMPLAINTS = 8
NO_PEER = "Enarx.toml names no such peer"


def allowed(config: Config) -> frozenset[tuple[str, int]]:
    """What may be reached, as host and port."""
    found = {(file.host, file.port) for file in config.files if file.kind == "connect"}
    if config.steward is not None:
        from urllib.parse import urlsplit

        parts = urlsplit(config.steward)
        if parts.hostname:
            found.add((parts.hostname, parts.port or 443))
    return frozenset(found)


def harmless(named: str, address: str) -> bool:
    """Whether an address may be what a name leads to.

    Args:
        named: as Enarx.toml has it.
        address: as the resolver has it.
    Raises:
        ValueError: that is none.
    """
    ip = _parsed(address)
    meant = inside_of(ip)
    literal = _literal(named)
    if literal is not None:
        return ip == literal and not any(one.is_unspecified or one.is_multicast for one in meant)
    if _is_localhost(named):
        return ip.is_loopback
    return not any(map(_is_kept, meant))


def inside_of(ip: Ip) -> list[Ip]:
    """An address, and those of IPv4 that stand in it.

    Some kernel, router or translator takes the outer one for the inner one: mapped (::ffff:a.b.c.d), compatible
    (::a.b.c.d) and translated (::ffff:0:a.b.c.d) addresses, NAT64 (64:ff9b::/96, and 64:ff9b:1::/48 with the address at
    its end), 6to4 (2002::/16), Teredo (2001::/32: server and client), ISATAP (interface 0:5efe or 200:5efe).

    Source: RFC 4291 2.5.5, RFC 6145, RFC 6052, RFC 8215, RFC 3056, RFC 4380, RFC 5214.
    """
    found: list[Ip] = [ip]
    if not isinstance(ip, ipaddress.IPv6Address):
        return found
    number = int(ip)
    last = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    front = number >> 32
    if (front in _FRONTS and number > 1) or number >> 80 == _LOCAL_NAT64 or front & 0xFFFFFFFF in (0x5EFE, 0x0200_5EFE):
        found.append(last)
    if ip.sixtofour is not None:
        found.append(ip.sixtofour)
    if ip.teredo is not None:
        found += ip.teredo
    return found


_FRONTS = (0, 0xFFFF, 0xFFFF_0000, 0x0064_FF9B << 64)
"""The 96 bits before an IPv4 address: compatible, mapped, translated, NAT64."""
_LOCAL_NAT64 = 0x0064_FF9B_0001
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def _is_kept(ip: Ip) -> bool:
    """Whether what is there is this machine's or this wire's own, or nobody's."""
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return True
    return isinstance(ip, ipaddress.IPv4Address) and (ip in _THIS_NETWORK or ip == _BROADCAST)


def _parsed(address: str) -> Ip:
    """An address without its zone, which is a matter of how to get there."""
    return ipaddress.ip_address(address.partition("%")[0])


def _literal(named: str) -> Ip | None:
    """The address that a text is; None where it is a name, which an address in any unusual form is too."""
    try:
        return _parsed(named)
    except ValueError:
        return None


def _is_localhost(named: str) -> bool:
    return named.removesuffix(".").lower() == "localhost"


class Dialer:
    """Makes the connections that a guest asks for.

    Args:
        targets: from `allowed`.
        gate: where they enter the guest; None where it has no network.
        machine: told how each went.
        resolver: asks for a name's addresses; `resolve` otherwise.
    """

    def __init__(
        self,
        targets: frozenset[tuple[str, int]],
        loop: Loop,
        relay: Relay,
        gate: Door | None,
        machine: HostMachine,
        log: Logger,
        resolver: Resolve | None = None,
    ) -> None:
        self._targets = targets
        self._loop = loop
        self._relay = relay
        self._gate = gate
        self._machine = machine
        self._log = log
        self._resolve = resolver or resolve
        self._complaints = 0
        self._calls: set[Call] = set()
        self._unasked: deque[Call] = deque()
        self._asking = 0

    def take(self, asked: Dial) -> None:
        """Connect, and say so, or say why not."""
        gate = self._gate
        if gate is None or (asked.host, asked.port) not in self._targets:
            self._complain(asked)
            self._machine.dial_failed(asked.id, UsageError(NO_PEER))
            return
        if self._relay.full():
            self._machine.dial_failed(asked.id, PlatformError("too many connections are open"))
            return

        def entered(port: int | DonjonError) -> None:
            if isinstance(port, int):
                self._machine.dialed(asked.id, port)
            else:
                self._machine.dial_failed(asked.id, port)

        def done(connection: socket.socket | DonjonError) -> None:
            if isinstance(connection, socket.socket):
                self._relay.enter(connection, gate, entered)
            else:
                self._machine.dial_failed(asked.id, connection)

        call = Call(self._loop, asked.host, asked.port, self._ended, done)
        self._calls.add(call)
        if call.needs_asking():
            self._unasked.append(call)
            self._ask()
        else:
            call.go()

    def close(self) -> None:
        """Give up what is under way."""
        self._unasked.clear()
        for call in tuple(self._calls):
            call.end()

    def _complain(self, asked: Dial) -> None:
        """Only a guest that was taken over asks for what its own Enarx.toml does not have."""
        if self._complaints < MOST_COMPLAINTS:
            self._complaints += 1
            where = f"[{asked.host}]:{asked.port}" if ":" in asked.host else f"{asked.host}:{asked.port}"
            self._log.warn(f"the guest asks for a connection to {where}: {NO_PEER}", "donjon.keep")

    def _ask(self) -> None:
        while self._unasked and self._asking < MOST_RESOLVERS:
            call = self._unasked.popleft()
            if call in self._calls:  # else its time is over
                self._asking += 1
                call.ask(self._resolve, self._asked)

    def _asked(self) -> None:
        self._asking -= 1
        self._ask()

    def _ended(self, call: Call) -> None:
        self._calls.discard(call)


class Call:
    """One connection on its way.

    Args:
        ended: called with this when it is over.
        done: called before that with the socket, or with why there is none; not if it is given up.
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        ended: Callable[[Call], None],
        done: Callable[[socket.socket | DonjonError], None],
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._ended = ended
        self._done = done
        self._addresses: list[Address] = []
        self._problem: OSError = OSError("no address")
        self._give_up = 0.0
        self._socket: socket.socket | None = None
        self._question: Asked | None = None
        self._asked: Callable[[], None] | None = None
        self._timer = loop.after(RESOLVE_SECONDS, self._too_slow)

    def needs_asking(self) -> bool:
        """Whether it is a name that somebody else knows."""
        return _literal(self._host) is None and not _is_localhost(self._host)

    def go(self) -> None:
        """Connect to what needs no asking."""
        if _is_localhost(self._host):
            self._resolved([(socket.AF_INET, "127.0.0.1", 0), (socket.AF_INET6, "::1", 0)])
            return
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
        except (OSError, UnicodeError) as error:  # a zone that this machine does not have
            self._fail(PlatformError(words_of(error)))
            return
        self._resolved(_addresses_in(found))

    def ask(self, resolve: Resolve, asked: Callable[[], None]) -> None:
        """Ask for the name's addresses, and connect.

        Args:
            asked: called once the question is closed.
        """
        self._asked = asked
        try:
            self._question = resolve(self._loop, self._host, self._port, self._answer)
        except OSError as error:
            self._resolved(words_of(error))

    def _answer(self, found: list[Address] | str) -> None:
        self._close_question()
        self._resolved(found)

    def _close_question(self) -> None:
        question, self._question = self._question, None
        asked, self._asked = self._asked, None
        if question is not None:
            question.close()
        if asked is not None:
            asked()

    def _resolved(self, found: list[Address] | str) -> None:
        if isinstance(found, str):
            self._fail(PlatformError(f"the name {self._host} cannot be resolved: {found}"))
            return
        self._addresses = [one for one in found if harmless(self._host, one[1])]
        if found and not self._addresses:
            self._fail(_refusal(self._host, found[0][1]))
            return
        self._give_up = time.monotonic() + 3 * CONNECT_SECONDS
        self._next()

    def _next(self) -> None:
        """Try the next address."""
        self._timer.cancel()
        while self._addresses and time.monotonic() < self._give_up:
            family, address, scope = self._addresses.pop(0)
            try:
                self._socket = socket.socket(family, socket.SOCK_STREAM)
                self._socket.setblocking(False)
                at = (address, self._port, 0, scope) if family == socket.AF_INET6 else (address, self._port)
                problem = self._socket.connect_ex(at)
            except OSError as error:
                problem = error.errno or errno.EIO
            if problem == errno.EINPROGRESS and self._socket is not None:
                self._timer = self._loop.after(CONNECT_SECONDS, self._expire)
                self._loop.watch(self._socket.fileno(), OUT, self._answered)
                return
            if problem == 0:
                self._answered(0)
                return
            self._miss(problem)
        hint = REFUSED if isinstance(self._problem, ConnectionRefusedError) else None
        self._fail(PlatformError(words_of(self._problem), hint))

    def _miss(self, problem: int) -> None:
        self._problem = (
            OSError(problem, os.strerror(problem)) if problem != errno.ETIMEDOUT else TimeoutError("timed out")
        )
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _expire(self) -> None:
        self._miss(errno.ETIMEDOUT)
        self._next()

    def _answered(self, _events: int) -> None:
        connection = self._socket
        if connection is None:
            return
        problem = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            self._miss(problem)
            self._next()
            return
        self._loop.forget(connection.fileno())
        self._socket = None
        self.end()
        self._done(connection)

    def _too_slow(self) -> None:
        self._close_question()
        self._resolved("nobody answered in time")

    def _fail(self, error: DonjonError) -> None:
        self.end()
        self._done(error)

    def end(self) -> None:
        """Give back what is held."""
        self._ended(self)
        self._timer.cancel()
        self._close_question()
        self._drop()


def _refusal(named: str, address: str) -> DonjonError:
    if _literal(named) is not None:
        return UsageError(f"{named} is nobody's address", "name the peer's own in Enarx.toml")
    return PlatformError(
        f"the name {named} leads to {address}, where this machine keeps what is its own",
        "name the address itself in Enarx.toml, if that is meant",
    )


def resolve(loop: Loop, host: str, port: int, found: Found) -> Apart:
    """Ask for a name's addresses.

    Args:
        found: called with family, address and scope of each, or with words that say why there are none.
    Raises:
        OSError: there is no fork to be had.
    """

    def ask() -> bytes:
        answer: object
        try:
            answer = _addresses_in(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:MOST_ADDRESSES])
        except (OSError, UnicodeError) as error:
            answer = words_of(error)
        return json.dumps(answer).encode()

    def answered(data: bytes) -> None:
        try:
            said = json.loads(data)
        except ValueError:
            said = "the resolver broke off"
        found([(family, address, scope) for family, address, scope in said] if isinstance(said, list) else said)

    return Apart(loop, ask, answered, RESOLVE_SECONDS + 5, MOST_ANSWER)


def _addresses_in(found: Sequence[tuple[int, int, int, str, tuple[Any, ...]]]) -> list[Address]:
    """Of what getaddrinfo() gives: family, address without its zone, and zone as a number."""
    return [
        (int(family), str(address[0]).partition("%")[0], int(address[3]) if len(address) == 4 else 0)
        for family, _, _, _, address in found
    ]
