"""The surroundings of a workload in a virtual machine: all that it has of the world, it asks the agent for."""

from __future__ import annotations

import socket

from donjon.errors import DonjonError, PlatformError
from donjon.guest.requests import Asker
from donjon.keep.network import BACKLOG, FIRST_PORT, GUEST_ADDRESS, REFUSED, Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.config.models import Connect, Listen
    from donjon.identity.apart import Making
    from donjon.identity.attested import Source
    from donjon.keep.launch import Launch
    from donjon.keep.network import Begin, Make, Say

__all__ = ["Enclosed"]


class Listener(socket.socket):
    """A listening socket whose connections say whom the host has them from."""

    asker: Asker
    port: int

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """As usual; the address is the peer's as the host says, or the host's own where it says nothing."""
        connection, address = super().accept()
        try:
            rest, _ = self.asker.ask("peer", str(self.port), str(address[1]))
            host, port = rest.decode().split("\0")
        except (DonjonError, ValueError):
            return connection, address
        return connection, (host, int(port))


class Enclosed(Surroundings):
    """The surroundings of a workload's processes in a virtual machine.

    Args:
        address, first_port: where listeners bind.
        tee: whose hardware this machine is, where the agent has found out; "" leaves it to what the kernel says.

    Attributes:
        files: of the configuration, whose order gives ports; set before anything is bound.
    """

    def __init__(self, asker: Asker, address: str = GUEST_ADDRESS, first_port: int = FIRST_PORT, tee: str = "") -> None:
        self._asker = asker
        self._address = address
        self._first_port = first_port
        self._tee = tee
        self.files: tuple[object, ...] = ()

    def bind(self, file: Listen) -> tuple[socket.socket, str, int]:
        """Listen inside, and have the host listen outside."""
        index = next(index for index, entry in enumerate(self.files) if entry is file)
        listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
        listener.asker, listener.port = self._asker, self._first_port + index
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._address, listener.port))
            listener.listen(BACKLOG)
            rest, _ = self._asker.ask("listening", file.name, file.prot, file.addr, str(file.port), str(listener.port))
        except OSError as error:
            listener.close()
            raise PlatformError(f'cannot listen for "{file.name}": the machine has no network card') from error
        except BaseException:
            listener.close()
            raise
        host, port = rest.decode().split("\0")
        return listener, host, int(port)

    def reach(self, file: Connect, peer: str, seconds: float) -> socket.socket:
        """Have the host connect, to what the configuration names."""
        del seconds  # the host's business
        try:
            _, descriptor = self._asker.ask("reach", file.host, str(file.port))
        except DonjonError as error:
            text = f'cannot connect to {peer} for "{file.name}": {error.message}'
            hint = error.hint or (REFUSED if "refused" in error.message else None)
            raise type(error)(text, hint) from error
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        return connection

    def dial(self, host: str, port: int, left: Callable[[], float]) -> socket.socket:
        """Have the host connect to a Steward."""
        left()
        try:
            _, descriptor = self._asker.ask("reach", host, str(port))
        except DonjonError as error:
            raise ConnectionError(None, error.message) from error
        return socket.socket(fileno=descriptor)

    def begin(self, launch: Launch) -> Begin | None:
        """With evidence, another process of another user makes the key; without, a fork of this one."""
        if not launch.attested():
            return None

        def begin(make: Make, say: Say) -> Making:
            del make  # which could not have evidence here
            from donjon.identity.apart import Making

            _, descriptor = self._asker.ask("identity")
            return Making(descriptor, say)

        return begin

    def source(self, launch: Launch, workload: bytes) -> Source:
        """The machine's evidence, by the agent's hands."""
        del workload  # the hardware knows
        from donjon.keep.attest import detect

        return _Source(self._asker, (self._tee or detect(launch.tsm)) if launch.attest == "auto" else launch.attest)


class _Source:
    def __init__(self, asker: Asker, tee: str) -> None:
        self._asker = asker
        self.tee = tee

    def collect(self, report_data: bytes) -> bytes:
        if self.tee == "kvm":
            return b""
        data, _ = self._asker.ask("evidence", report_data.hex())
        return data
