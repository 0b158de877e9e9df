"""Connections out: the guest asks, this side decides, resolves and connects.

What may be reached is what Enarx.toml names: its `connect` entries and its Steward, by the very words that stand there.
A name may lead anywhere but back: addresses of the host's loopback, link-local and unspecified ones are reached only
where Enarx.toml itself has such an address, or `localhost`. Else whoever answers a DNS question would open to a guest
what the host keeps for itself.

Names are resolved in a fork, as getaddrinfo() waits and there is one thread.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import signal
import socket
import time

from donjon.errors import DonjonError, PlatformError, UsageError, words_of
from donjon.keep.files import CONNECT_SECONDS
from donjon.keep.vm.loop import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.config.models import Config
    from donjon.keep.vm.loop import Loop

    Done = Callable[[socket.socket | DonjonError], None]

__all__ = ["Dialer", "allowed", "harmless"]

RESOLVE_SECONDS = 20.0
MOST_ADDRESSES = 16
MOST_ANSWER = 16384
"""Bytes of a resolver's answer: 16 addresses take 1 KiB."""


def allowed(config: Config) -> dict[tuple[str, int], str]:
    """What may be reached: host and port -> what a message says it is for."""
    found = {}
    if config.steward is not None:
        from urllib.parse import urlsplit

        parts = urlsplit(config.steward)
        if parts.hostname:
            found[parts.hostname, parts.port or 443] = "the Steward"
    for file in config.files:
        if file.kind == "connect":
            found[file.host, file.port] = f'"{file.name}"'
    return found


def harmless(named: str, address: str) -> bool:
    """Whether an address may be what a name leads to.

    Args:
        named: as Enarx.toml has it; a literal address means itself.
    """
    ip = _plain(address)
    try:
        literal = _plain(named)
    except ValueError:
        if named == "localhost":
            return ip.is_loopback
    else:
        return ip == literal and not ip.is_multicast
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without its zone; an IPv4 address in IPv6's clothes is an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


class Dialer:
    """Makes the connections that a guest asks for.

    Args:
        targets: from `allowed`.
    """

    def __init__(self, targets: dict[tuple[str, int], str], loop: Loop) -> None:
        self._targets = targets
        self._loop = loop
        self._open: set[Call] = set()

    def dial(self, host: str, port: int, done: Done) -> None:
        """Connect; `done` gets the socket, or why there is none."""
        purpose = self._targets.get((host, port))
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if purpose is None:
            done(UsageError(f"cannot connect to {where}: Enarx.toml names no such peer"))
            return
        call = Call(self._loop, host, port, f"cannot connect to {where} for {purpose}", self._open, done)
        self._open.add(call)
        call.begin()

    def close(self) -> None:
        """Give up what is under way."""
        for call in tuple(self._open):
            call.end()


class Call:
    """One connection on its way."""

    def __init__(self, loop: Loop, host: str, port: int, what: str, open_calls: set[Call], done: Done) -> None:
        self._loop = loop
        self._named = host
        self._host = "127.0.0.1" if host == "localhost" else host  # as nil, and Enarx
        self._port = port
        self._what = what
        self._calls = open_calls
        self._done = done
        self._addresses: list[tuple[int, str, int]] = []
        self._problem: OSError = OSError("no address")
        self._give_up = 0.0
        self._socket: socket.socket | None = None
        self._resolver: Resolver | None = None
        self._timer = loop.after(RESOLVE_SECONDS, self._too_slow)

    def begin(self) -> None:
        """Resolve, unless it is an address already."""
        try:
            ip = ipaddress.ip_address(self._host)
        except ValueError:
            try:
                self._resolver = Resolver(self._loop, self._host, self._port, self._resolved)
            except OSError as error:
                self._fail(PlatformError(f"{self._what}: {words_of(error)}"))
            return
        self._resolved([(socket.AF_INET if ip.version == 4 else socket.AF_INET6, self._host, 0)])

    def _resolved(self, found: list[tuple[int, str, int]] | str) -> None:
        if isinstance(found, str):
            self._fail(PlatformError(f"{self._what}: the name {self._named} cannot be resolved: {found}"))
            return
        self._addresses = [one for one in found if harmless(self._named, one[1])]
        if found and not self._addresses:
            self._fail(
                PlatformError(
                    f"{self._what}: it leads to {found[0][1]}, where this machine keeps what is its own",
                    "name the address itself in Enarx.toml, if that is meant",
                )
            )
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
        hint = None
        if isinstance(self._problem, ConnectionRefusedError):
            hint = "start the peer first: a Keep connects before its guest runs"
        self._fail(PlatformError(f"{self._what}: {words_of(self._problem)}", hint))

    def _miss(self, problem: int) -> None:
        self._problem = OSError(problem, os.strerror(problem)) if problem != errno.ETIMEDOUT else TimeoutError("timed out")
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
        self._resolved("nobody answered in time")

    def _fail(self, error: DonjonError) -> None:
        self.end()
        self._done(error)

    def end(self) -> None:
        """Give back what is held."""
        self._calls.discard(self)
        self._timer.cancel()
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None


class Resolver:
    """A fork that asks for a name's addresses and ends.

    Args:
        found: called with family, address and scope of each, or with words that say why there are none.
    """

    def __init__(
        self, loop: Loop, host: str, port: int, found: Callable[[list[tuple[int, str, int]] | str], None]
    ) -> None:
        self._loop = loop
        self._found = found
        self._answer = b""
        self._reader, writer = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if self._pid == 0:
            _resolve(host, port, writer)
        os.close(writer)
        loop.watch(self._reader, IN, self._read)

    def _read(self, _events: int) -> None:
        data = os.read(self._reader, MOST_ANSWER)
        self._answer += data
        if data and len(self._answer) < MOST_ANSWER:
            return
        answer = self._answer
        self.close()
        try:
            found = json.loads(answer)
        except ValueError:
            found = "the resolver broke off"
        self._found([(family, address, scope) for family, address, scope in found] if isinstance(found, list) else found)

    def close(self) -> None:
        """End the fork."""
        if self._reader < 0:
            return
        self._loop.forget(self._reader)
        os.close(self._reader)
        self._reader = -1
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _resolve(host: str, port: int, writer: int) -> None:
    """The fork: it writes what it finds and ends. The kernel ends it, if nobody else does."""
    try:
        signal.alarm(int(RESOLVE_SECONDS) + 5)
        found: object
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:MOST_ADDRESSES]
            found = [
                (int(family), str(address[0]), int(address[3]) if len(address) == 4 else 0)
                for family, _, _, _, address in answers
            ]
        except (OSError, UnicodeError) as error:
            found = words_of(error)
        os.write(writer, json.dumps(found).encode())
    finally:
        os._exit(0)
