"""A TLS stream and a peer that keeps the rules of TLS, but sends nothing else than work for us."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest

from donjon.tls.pipe import FEED, STARVED, TlsPipe
from donjon.tls.streams import MOST_FRUITLESS, MOST_KEPT, TlsStream
from donjon.wasm.wasi.descriptors.socket import Budget
from donjon.wasm.wasi.p1.errno import WasiError
from donjon.wasm.wasi.p1.types import Eventtype, Fdflag
from donjon.wasm.wasi.reactor import POLLIN, Reactor


class KeyUpdates:
    """What a `TlsPipe` does when all that is fed to it are key updates that want an answer of the same length."""

    def __init__(self) -> None:
        self.backlog = 0

    def feed(self, data: memoryview) -> int:
        self.backlog += len(data)
        return len(data)

    def take(self) -> bytes:
        data, self.backlog = bytes(self.backlog), 0
        return data

    def read_into(self, _: memoryview) -> int:
        return STARVED

    peek_into = read_into

    def prefetch(self) -> bool:
        return False

    def close_notify(self) -> None:
        pass


@pytest.fixture
def ends() -> Iterator[tuple[TlsStream, socket.socket]]:
    """A stream whose guest does not wait, and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    budget = Budget(1)
    budget.take()
    stream = TlsStream(ours, cast("TlsPipe", KeyUpdates()), Reactor(), budget)
    stream.set_flags(Fdflag.NONBLOCK)
    yield stream, theirs
    stream.close()
    theirs.close()


def offer(peer: socket.socket, size: int) -> int:
    try:
        return peer.send(bytes(size))
    except BlockingIOError:
        return 0


def test_a_read_ends_although_key_updates_come_without_end(
    ends: tuple[TlsStream, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, peer = ends
    fill = TlsStream._fill

    def fill_after_the_peer(self: TlsStream) -> bool:  # it is always faster than we are
        offer(peer, 2 * FEED)
        while True:
            try:
                peer.recv(1 << 20)
            except BlockingIOError:
                return fill(self)

    monkeypatch.setattr(TlsStream, "_fill", fill_after_the_peer)
    with pytest.raises(ConnectionAbortedError, match="no data"):
        stream.readv([memoryview(bytearray(100))])
    assert stream.ready(Eventtype.FD_READ), "a poller hears of it too"


def test_a_little_without_data_is_no_offence(ends: tuple[TlsStream, socket.socket]) -> None:
    stream, peer = ends
    for _ in range(4 * MOST_FRUITLESS // FEED):  # much in all, but not in one go
        offer(peer, FEED)
        with pytest.raises(WasiError, match="would block"):
            stream.readv([memoryview(bytearray(100))])
        peer.recv(1 << 20)


def test_answers_that_a_peer_does_not_take_are_bounded(ends: tuple[TlsStream, socket.socket]) -> None:
    stream, peer = ends
    most = sent = 0
    while stream._failed is None and sent < 100 * MOST_KEPT:
        sent += offer(peer, FEED)
        stream.woken(Eventtype.FD_READ, POLLIN)
        most = max(most, len(stream._out) + stream._pipe.backlog)
    with pytest.raises(ConnectionAbortedError, match="takes none"):
        stream.readv([memoryview(bytearray(100))])
    assert most <= MOST_KEPT + 2 * FEED
    assert not stream._out, "and given back"
