"""A relay between real sockets, where the test plays both clients and the machine behind QEMU's forwarded port."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from donjon.keep.vm.loop import Loop
from donjon.keep.vm.relay import Door, Relay
from tests.system.said import Said

SECONDS = 20.0


class Yard:
    """A listener outside, a relay, and a listener as QEMU has it, with room for one.

    Attributes:
        announced: our port, and the peer's host and port, of each connection in the order of entering.
        congested: what the guest's side of the sallyport says of itself.
    """

    def __init__(self, most: int = 100) -> None:
        self.loop = Loop()
        self.said = Said()
        self.congested = False
        self.relay = Relay(self.loop, most, self.said.logger, lambda: self.congested)
        self.qemu = socket.create_server(("127.0.0.1", 0), backlog=1)
        self.outside = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address: tuple[str, int] = self.outside.getsockname()
        self.door = Door(self.loop, self.qemu.getsockname()[1])
        self.announced: list[tuple[int, str, int]] = []
        self.relay.listen(self.outside, self.door, lambda *words: self.announced.append(words))
        self._sockets: list[socket.socket] = []

    def client(self) -> socket.socket:
        """Connect, without waiting for anybody to accept."""
        made = socket.create_connection(self.address, SECONDS)
        self._sockets.append(made)
        return made

    def inside(self) -> socket.socket:
        """Accept as QEMU would."""
        self.until(lambda: select.select([self.qemu], [], [], 0)[0])
        made, _ = self.qemu.accept()
        made.settimeout(SECONDS)
        self._sockets.append(made)
        return made

    def both(self) -> tuple[socket.socket, socket.socket]:
        """A connection from end to end, both ends without waiting."""
        client = self.client()
        inside = self.inside()
        self.until(lambda: len(self.relay._pairs) + len(self.relay._callers) and not self.relay._callers)
        client.setblocking(False)
        inside.setblocking(False)
        return client, inside

    def until(self, over: Callable[[], object]) -> None:
        """Turn until something is so."""
        end = time.monotonic() + SECONDS
        while not over():
            assert time.monotonic() < end, "it does not happen"
            self.loop.turn(0.002)

    def turns(self, count: int = 20) -> None:
        """Do what there is to do."""
        for _ in range(count):
            self.loop.turn(0)

    def settle(self, seconds: float = 0.05) -> None:
        """Turn for a while: long enough for what should not happen to happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.loop.turn(0.002)

    def received(self, who: socket.socket, size: int) -> bytes:
        """So many bytes, or fewer at the end."""
        got = b""

        def over() -> bool:
            nonlocal got
            try:
                part = who.recv(size - len(got))
            except BlockingIOError:
                return False
            got += part
            return not part or len(got) == size

        if size:
            self.until(over)
        return got

    def ended(self, who: socket.socket, poke: bool = False) -> str:
        """How a socket ends: "end" or "reset"; what comes before is thrown away.

        Args:
            poke: send now and then, as a reset that a full receiver does not take is not sent again.
        """
        found = ""

        def over() -> bool:
            nonlocal found
            try:
                if poke:
                    who.send(b"x")
                found = "" if who.recv(65536) else "end"
            except BlockingIOError:
                return False
            except ConnectionError:
                found = "reset"
            return bool(found)

        who.setblocking(False)
        self.until(over)
        return found

    def fill(self, who: socket.socket) -> int:
        """Send until nothing more goes; how much that was."""
        sent, idle = 0, 0
        while idle < 50:
            try:
                sent += who.send(bytes(65536))
                idle = 0
            except BlockingIOError:
                idle += 1
                self.loop.turn(0.001)
        return sent

    @property
    def open(self) -> int:
        """How many connections the relay has."""
        return len(self.relay._pairs) + len(self.relay._callers)

    def close(self) -> None:
        self.relay.close()
        for one in (*self._sockets, self.qemu, self.outside):
            one.close()
        self.loop.close()
