"""Bytes between descriptors and machines: sockets, and a virtio port whose rules are copied from Linux's driver."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from donjon.errors import ParseError, PlatformError
from donjon.sallyport import frames as f
from donjon.sallyport import io
from donjon.sallyport import machine as m
from donjon.sallyport.io import Port, connect
from donjon.sallyport.machine import STDOUT, GuestMachine, HostMachine, Lost, State

Pair = tuple[Any, Any]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    yield Port(one.fileno(), HostMachine()), Port(other.fileno(), GuestMachine())
    one.close()
    other.close()


def running(pair: Pair) -> Pair:
    host, guest = pair
    guest.machine.hello("production")
    for side, step, arguments in (
        (host, "launch", (b"a", b"b")),
        (guest, "accept", ()),
        (host, "file", ("m", bytes(300_000))),
        (host, "start", ()),
        (guest, "started", ()),
    ):
        exchange(host, guest)
        getattr(side.machine, step)(*arguments)
        assert side.machine.pending
    exchange(host, guest)
    assert host.machine.state is guest.machine.state is State.RUNNING
    return pair


def exchange(host: Any, guest: Any) -> list[Any]:
    events: list[Any] = []
    quiet = 0
    while quiet < 3:
        found = host.step(0) + guest.step(0)
        quiet = 0 if found or host.mask & select.POLLOUT or guest.mask & select.POLLOUT else quiet + 1
        events += found
    return events


def test_a_session_over_a_socket_pair(pair: Pair) -> None:
    host, guest = running(pair)
    assert not os.get_blocking(host.fileno())
    total = 0
    while total < 1_000_000:
        total += guest.machine.write(STDOUT, bytes(100_000))
        for event in exchange(host, guest):
            host.machine.consumed(STDOUT, len(event.data))
    guest.machine.exit(3)
    assert guest.flush(5)
    assert exchange(host, guest) == [f.Exit(code=3)]


def test_the_end_is_said_once_after_everything_was_read(pair: Pair) -> None:
    host, guest = running(pair)
    guest.machine.write(STDOUT, b"last words")
    assert guest.flush(1)
    host.machine.write(0, b"for nobody")
    with socket.socket(fileno=os.dup(guest.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
    host.send()
    assert host.step(1) == [f.Stdout(data=b"last words")]
    (event,) = host.step(1)
    assert isinstance(event, Lost)
    assert event.state is State.RUNNING
    assert host.ended
    assert host.mask == 0
    assert host.receive() == host.step(0) == []
    assert not host.flush(1)


def test_a_reset_is_an_end() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    port = Port(accepted.fileno(), HostMachine())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    (event,) = port.step(5)
    assert isinstance(event, Lost)
    accepted.close()
    server.close()


def test_a_violation_passes(pair: Pair) -> None:
    host, guest = pair
    os.write(guest.fileno(), b"\xff")
    with pytest.raises(ParseError, match="while greeting"):
        host.step(1)


def test_a_step_waits_no_longer_than_it_may(pair: Pair) -> None:
    began = time.monotonic()
    assert pair[0].step(0.05) == []
    assert 0.04 < time.monotonic() - began < 2


def flood(host: Any, guest: socket.socket, number: int) -> int:
    """Ask, and have the host answer at length; how many were asked for so far."""
    number += 1
    guest.setblocking(False)
    try:
        guest.send(f.Dial(id=number, host="h", port=1).encode())
    except BlockingIOError:
        number -= 1
    for event in host.receive():
        host.machine.dial_failed(event.id, PlatformError("x" * 8000))
    host.send()
    return number


def test_a_peer_that_asks_and_never_reads_is_read_no_more_and_its_death_is_seen(pair: Pair) -> None:
    host, guest = running(pair)
    peer = socket.socket(fileno=os.dup(guest.fileno()))
    number = 0
    while not host.machine.congested:
        number = flood(host, peer, number)
    for _ in range(50):  # what is behind that stays where it is
        number = flood(host, peer, number)
    assert not host.mask & select.POLLIN
    assert host.machine.backlog < m.CONGESTED + 100 * 9000
    peer.shutdown(socket.SHUT_RDWR)
    peer.close()
    events: list[Any] = []
    deadline = time.monotonic() + 5
    while not host.ended and time.monotonic() < deadline:
        events += host.step(1)
    assert isinstance(events[-1], Lost)
    assert host.machine.backlog == 0


def test_what_cannot_arrive_is_not_kept(pair: Pair) -> None:
    """A peer that shuts its reading side and asks on: EPIPE here, and the answers go nowhere."""
    host, guest = running(pair)
    peer = socket.socket(fileno=os.dup(guest.fileno()))
    peer.shutdown(socket.SHUT_RD)
    number = 0
    for _ in range(500):
        number = flood(host, peer, number)
    assert number == 500
    assert host.machine.backlog == 0
    assert not host.machine.congested
    assert not host.flush(1)
    peer.close()


def test_flush_gives_up_when_nobody_reads(pair: Pair) -> None:
    guest = running(pair)[1]
    while guest.machine.write(STDOUT, bytes(100_000)):
        guest.send()
    for number in range(200):
        guest.machine.log(1, "donjon", f"{number}" + "x" * 1000)
    began = time.monotonic()
    assert not guest.flush(0.05)
    assert time.monotonic() - began < 2
    port = Port(os.dup(guest.fileno()), GuestMachine())
    port.close()
    assert port.ended


class VirtioPort:
    """A virtio port's rules, for what `io` asks of the system: not connected, reading gives b"" and poll POLLHUP."""

    def __init__(self, real: int) -> None:
        self.real = real
        self.connected = False

    def read(self, descriptor: int, size: int) -> bytes:
        return os.read(descriptor, size) if self.connected or descriptor != self.real else b""

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.connected and descriptor == self.real:
            raise BlockingIOError
        return os.write(descriptor, data[: 32 << 10])

    def poll(self) -> Any:
        port, inner = self, select.poll()

        class Poll:
            def register(self, descriptor: int, mask: int) -> None:
                inner.register(descriptor, mask)

            def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
                return inner.poll(timeout) if port.connected else [(port.real, select.POLLHUP)]

        return Poll()


@pytest.fixture
def virtio(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> VirtioPort:
    port = VirtioPort(pair[1].fileno())

    class System:
        read, write = staticmethod(port.read), staticmethod(port.write)
        set_blocking, close = staticmethod(os.set_blocking), staticmethod(os.close)

    class Select:
        POLLIN, POLLOUT, POLLHUP = select.POLLIN, select.POLLOUT, select.POLLHUP
        poll = staticmethod(port.poll)

    monkeypatch.setattr(io, "os", System)
    monkeypatch.setattr(io, "select", Select)
    return port


def test_a_guest_waits_for_the_hosts_end_and_then_takes_its_absence_for_the_end(pair: Pair, virtio: VirtioPort) -> None:
    descriptor = pair[1].fileno()
    with pytest.raises(PlatformError, match=r"the host did not open its end within 0\.02 s"):
        connect(descriptor, 0.02)
    timer = threading.Timer(0.05, setattr, (virtio, "connected", True))
    timer.start()
    connect(descriptor, 10)
    timer.join()
    guest: Any = Port(descriptor, GuestMachine(), virtio=True)
    guest.machine.hello("production")
    assert guest.step(0) == []
    assert not guest.machine.pending
    virtio.connected = False
    guest.machine.mark("later", 1)
    assert not guest.flush(5), "POLLHUP alone ends it at once"
    (event,) = guest.step(1)
    assert isinstance(event, Lost)
    assert event.state is State.LAUNCHING


def test_a_port_that_cannot_be_polled_is_said(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    class Broken:
        POLLIN = 1

        @staticmethod
        def poll() -> Any:
            class Poll:
                def register(self, *_: int) -> None: ...

                def poll(self, _: float) -> Any:
                    raise OSError(19, "No such device")

            return Poll()

    monkeypatch.setattr(io, "select", Broken)
    with pytest.raises(PlatformError, match="cannot wait for the host: no such device"):
        connect(pair[1].fileno(), 1)
