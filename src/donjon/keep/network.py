"""What a Keep has of the world around it: listeners, connections, evidence, and who makes its key.

A Keep that is a process of this machine has all of that itself: `Surroundings`. One inside a virtual machine
(`donjon.guest`) has none of it: an address that nobody knows, no name service, no right to touch the device that gives
evidence. It puts an object of its own in the place of this one, by `use`, before it runs a workload; nothing else in
`donjon.keep` has to know.

    bind        a listener of Enarx.toml       also the host's side of one in a virtual machine: the same errors
    reach       a connection of Enarx.toml
    dial        a connection to a Steward
    begin       makes an identity, in a process of its own
    source      where evidence comes from
"""

from __future__ import annotations

import errno
import time

from donjon.errors import PlatformError, UsageError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from donjon.config.models import Connect, Listen
    from donjon.identity import Identity
    from donjon.identity.apart import Making
    from donjon.identity.attested import Source
    from donjon.keep.launch import Launch

    Say = Callable[[str], None]
    Make = Callable[[Say], Identity]
    Begin = Callable[[Make, Say], Making]

__all__ = [
    "CONNECT_SECONDS",
    "FIRST_PORT",
    "GATE_PORT",
    "GUEST_ADDRESS",
    "Surroundings",
    "current",
    "have_descriptors",
    "use",
]

CONNECT_SECONDS = 10.0
"""How long reaching one address of a peer may take, and then the TLS handshake with it."""

GUEST_ADDRESS, GUEST_GATEWAY = "10.0.2.15", "10.0.2.2"
"""The only addresses on the wire of a virtual machine: the Keep's, and what every connection seems to come from."""
FIRST_PORT = 10_000
"""In a virtual machine, the port of a listener that is the first of `files`; at index i it is FIRST_PORT + i."""
GATE_PORT = 9_999
"""There, where the host delivers the connections that the Keep has asked it to make."""

BACKLOG = 1024
"""Connections that the kernel keeps for a listener; it cuts this to its own limit."""
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class Surroundings:
    """Those of a Keep that is a process of this machine.

    Attributes:
        simulated: its TEE is, for messages: a machine that runs the image with simulated hardware.
    """

    simulated = False

    def bind(self, file: Listen) -> tuple[socket.socket, str, int]:
        """A listening socket, and the host and port under which clients find it.

        Raises:
            UsageError: there is no such address. PlatformError: it is taken, or not allowed.
        """
        listener = listen(file)
        host, port = listener.getsockname()[:2]
        return listener, host, port

    def reach(self, file: Connect, peer: str, seconds: float) -> socket.socket:
        """Connect to the first of the peer's addresses that answers.

        Args:
            peer: what messages call it.
            seconds: for each of them.
        Raises:
            PlatformError: none does, or the name has none.
        """
        return connect(file, peer, seconds)

    def dial(self, host: str, port: int, left: Callable[[], float]) -> socket.socket:
        """Connect to a Steward.

        Args:
            left: how many seconds there are; it raises TimeoutError when there are none.
        Raises:
            OSError, UnicodeError: it cannot be reached.
        """
        from donjon.steward.client import dial

        return dial(host, port, left)

    def begin(self, launch: Launch) -> Begin | None:
        """What starts the process that makes an identity; None: it is a fork of this one."""
        del launch  # whichever
        return None

    def source(self, launch: Launch, workload: bytes) -> Source:
        """Where a launch's evidence comes from; as `donjon.keep.attest.choose`."""
        from donjon.keep.attest import choose

        return choose(launch, workload)


_current = Surroundings()


def current() -> Surroundings:
    """The surroundings of the Keep that this process is."""
    return _current


def use(surroundings: Surroundings) -> None:
    """From now on they are others."""
    global _current
    _current = surroundings


def listen(file: Listen) -> socket.socket:
    """A listening socket of this machine; "::" takes IPv4 too, and is 0.0.0.0 where there is no IPv6.

    Raises:
        UsageError, PlatformError: as `Surroundings.bind`.
    """
    import socket

    where = f"[{file.addr}]:{file.port}" if ":" in file.addr else f"{file.addr}:{file.port}"
    try:
        found = socket.getaddrinfo(file.addr or None, file.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(
            f'cannot listen on {where} for "{file.name}": {words_of(error)}',
            hint='`addr` is an address or name of this machine, such as "127.0.0.1", or "::" for all',
        ) from error
    if file.addr == "::":
        found.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("0.0.0.0", file.port)))  # noqa: S104 - as "::" says
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            problem = error
            continue
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(file.addr != "::"))
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            problem = error
            if error.errno not in _NO_SUCH_FAMILY:
                break
            continue
        return listener
    assert problem is not None  # noqa: S101 - getaddrinfo gives at least one address or raises
    hint = {
        errno.EADDRINUSE: f"stop what uses port {file.port}, or choose another `port` (0: any free one)",
        errno.EACCES: f"ports below 1024 need a privilege: choose another `port` than {file.port}",
        errno.EADDRNOTAVAIL: "`addr` must be an address of this machine",
    }.get(problem.errno or 0)
    raise PlatformError(f'cannot listen on {where} for "{file.name}": {words_of(problem)}', hint=hint) from problem


def connect(file: Connect, peer: str, seconds: float) -> socket.socket:
    """Connect from this machine; the socket does not block.

    Raises:
        PlatformError: as `Surroundings.reach`.
    """
    import socket

    what = f'cannot connect to {peer} for "{file.name}"'
    host = "127.0.0.1" if file.host == "localhost" else file.host  # as Enarx
    try:
        found = socket.getaddrinfo(host, file.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise PlatformError(f"{what}: the name {file.host} cannot be resolved: {words_of(error)}") from error
    problem: OSError = OSError("no address")
    end = time.monotonic() + 3 * seconds
    for family, kind, protocol, _, address in found:
        if time.monotonic() > end:
            break
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:
            problem = error
            continue
        try:
            connection.settimeout(seconds)
            connection.connect(address)
        except OSError as error:
            connection.close()
            problem = error
            continue
        connection.setblocking(False)
        return connection
    hint = REFUSED if isinstance(problem, ConnectionRefusedError) else None
    raise PlatformError(f"{what}: {words_of(problem)}", hint=hint) from problem


REFUSED = "start the peer first: a Keep connects before its guest runs"


def have_descriptors(most: int) -> None:
    """Let this process open so many files, and what it needs itself, as far as the system allows."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + 64
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return
