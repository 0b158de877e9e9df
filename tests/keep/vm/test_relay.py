"""Connections through the relay: whole, half, cut, slow, too many, and when there is nothing left to have them with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import select
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from donjon.errors import DonjonError, PlatformError
from donjon.keep.vm import relay as module
from donjon.keep.vm.relay import BUFFER, PENDING, Door, reset
from tests.keep.vm.yard import Yard

Make = Callable[..., Yard]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Yard] = []

    def begin(most: int = 100) -> Yard:
        made.append(Yard(most))
        return made[-1]

    yield begin
    for yard in made:
        yard.close()


@pytest.fixture
def yard(make: Make) -> Yard:
    return make()


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """`most` is what a relay is told, and no more."""
    monkeypatch.setattr(module, "PENDING", 0)


# ---- one connection


def test_the_guest_is_told_who_comes_and_from_which_port(yard: Yard) -> None:
    client, inside = yard.both()
    assert yard.announced == [(inside.getpeername()[1], *client.getsockname())]
    assert inside.getpeername()[0] == "127.0.0.1"


def test_nobody_else_can_come_from_the_port_that_the_guest_is_told(yard: Yard) -> None:
    """Another user who knows it, and is quicker, would be taken for the peer that was asked for."""
    came: list[str] = []

    def entered(port: int | DonjonError) -> None:
        assert isinstance(port, int)
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                stranger.bind(("127.0.0.1", port))
                stranger.connect(yard.qemu.getsockname())
                came.append("a stranger")
            except OSError:
                came.append("nobody")

    ours, peer = socket.socketpair()
    with peer:
        yard.relay.enter(ours, yard.door, entered)
        yard.until(lambda: came)
    assert came == ["nobody"]


def test_a_peer_of_ipv6_is_announced_as_such(yard: Yard) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    yard.relay.listen(listener, yard.door, lambda *words: yard.announced.append(words))
    with socket.create_connection(listener.getsockname()[:2], 20) as client:
        inside = yard.inside()
        assert yard.announced == [(inside.getpeername()[1], *client.getsockname()[:2])]


def test_bytes_go_both_ways(yard: Yard) -> None:
    client, inside = yard.both()
    for data in (b"a", b"longer", os.urandom(100_000)):
        client.sendall(data)
        assert yard.received(inside, len(data)) == data
        inside.sendall(data[::-1])
        assert yard.received(client, len(data)) == data[::-1]


@pytest.mark.parametrize("first", [0, 1], ids=["the client", "the guest"])
def test_half_of_a_connection_ends_and_the_other_half_goes_on(yard: Yard, first: int) -> None:
    both = yard.both()
    one, other = both[first], both[1 - first]
    one.send(b"question")
    one.shutdown(socket.SHUT_WR)
    assert yard.received(other, 9) == b"question"
    for _ in range(3):
        other.send(b"answer")
        assert yard.received(one, 6) == b"answer"
    assert yard.open == 1
    other.close()
    assert yard.ended(one) == "end"
    yard.until(lambda: not yard.open)


def test_what_was_sent_before_an_end_arrives_however_slow_the_reader_is(yard: Yard) -> None:
    client, inside = yard.both()
    data = os.urandom(2_000_000)
    at = 0
    while at < len(data):
        try:
            at += inside.send(data[at : at + 100_000])
        except BlockingIOError:
            yard.turns(1)
            if not select.select([inside], [inside], [], 0)[1]:  # everything is full: take a little
                assert client.recv(5000) == data[:5000]
                data, at = data[5000:], at - 5000
    inside.close()
    yard.turns()
    assert yard.received(client, len(data) + 1) == data
    client.close()
    yard.until(lambda: not yard.open)


@pytest.mark.parametrize("first", [0, 1], ids=["the client", "the machine"])
def test_a_reset_is_a_reset_on_the_other_side(yard: Yard, first: int) -> None:
    both = yard.both()
    reset(both[first])
    assert yard.ended(both[1 - first]) == "reset"
    assert yard.open == 0


@pytest.mark.parametrize("first", [0, 1], ids=["the client", "the machine"])
def test_a_reset_while_nobody_reads_is_found_when_somebody_writes(yard: Yard, first: int) -> None:
    both = yard.both()
    one, other = both[first], both[1 - first]
    assert yard.fill(one) > BUFFER
    reset(one)
    assert yard.ended(other, poke=True) == "reset"
    assert yard.open == 0


def test_urgent_data_does_no_harm(yard: Yard) -> None:
    client, inside = yard.both()
    client.send(b"!", socket.MSG_OOB)
    client.send(b"after")
    got = yard.received(inside, 5)
    assert got.endswith(b"after")


# ---- much


@pytest.mark.parametrize("first", [0, 1], ids=["to the guest", "from the guest"])
def test_who_does_not_read_stops_who_writes(yard: Yard, first: int) -> None:
    both = yard.both()
    one, other = both[first], both[1 - first]
    for who in (*both, *(side.socket for pair in yard.relay._pairs for side in pair._sides)):
        who.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        who.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sent = yard.fill(one)
    assert BUFFER < sent < 4 << 20
    held = [len(side.held or b"") for pair in yard.relay._pairs for side in pair._sides]
    assert held[first] == 0
    assert 0 < held[1 - first] <= BUFFER
    other.send(b"the other way is free")
    assert yard.received(one, 21) == b"the other way is free"
    assert len(yard.received(other, sent)) == sent
    one.send(b"more")
    assert yard.received(other, 4) == b"more"


def test_a_slow_connection_holds_up_no_other(yard: Yard) -> None:
    slow, _ = yard.both()
    yard.fill(slow)
    for _ in range(3):
        client, inside = yard.both()
        client.send(b"quick")
        assert yard.received(inside, 5) == b"quick"


def test_megabytes_both_ways_at_once_in_pieces_of_any_size(yard: Yard) -> None:
    chance = random.Random(4)
    both = yard.both()
    data = [chance.randbytes(8 << 20), chance.randbytes(8 << 20)]
    at, got = [0, 0], [hashlib.sha256(), hashlib.sha256()]
    have = [0, 0]
    while min(have) < len(data[0]):
        for index, who in enumerate(both):
            size = chance.choice((1, 7, 1000, 65536, 65537, 400_000))
            try:
                at[index] += who.send(data[index][at[index] : at[index] + size])
            except BlockingIOError:
                pass
            try:
                part = who.recv(chance.choice((1, 1000, 65536, 400_000)))
                got[index].update(part)
                have[index] += len(part)
            except BlockingIOError:
                pass
        yard.turns(1)
    assert [one.hexdigest() for one in got] == [hashlib.sha256(one).hexdigest() for one in reversed(data)]


# ---- many


def test_connections_that_come_at_once_all_get_in_one_after_another(yard: Yard) -> None:
    """The machine has room for one; what the kernel would drop, and try a second later, is tried again at once."""
    clients = [yard.client() for _ in range(60)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    for number, client in enumerate(clients):
        inside = yard.inside()
        inside.setblocking(False)
        text = b"%d" % number
        assert yard.received(inside, len(text)) == text
        assert yard.announced[number] == (inside.getpeername()[1], *client.getsockname())
    assert len({port for port, _, _ in yard.announced}) == 60
    assert yard.open == 60


def test_each_is_announced_once_however_often_it_is_tried(yard: Yard) -> None:
    for _ in range(5):
        yard.client()
    yard.settle(0.2)
    assert len(yard.announced) == 2, "so many wait at the machine's, and no other has a port"
    accepted = [yard.inside() for _ in range(5)]
    assert [port for port, _, _ in yard.announced] == [inside.getpeername()[1] for inside in accepted]


def test_who_waits_at_the_door_counts(make: Make, exact: None) -> None:
    """A machine that accepts nothing: no more descriptors are taken than there may be connections."""
    yard = make(most=10)
    before = len(os.listdir("/proc/self/fd"))
    clients = [yard.client() for _ in range(40)]
    yard.settle()
    assert yard.open == 10
    taken = len(os.listdir("/proc/self/fd")) - before - len(clients)
    assert taken <= 10 + 3, "what waits, and what the machine's queue has"
    clients[0].send(b"x")
    inside = [yard.inside() for _ in range(10)]
    yard.settle()
    assert yard.open == 10
    for one in inside:
        one.close()
    for one in clients[:10]:
        one.close()
    for _ in range(30):
        yard.inside()
        next(iter(yard.relay._pairs), None)
        if len(yard.announced) == 20:
            break
    assert yard.open <= 10


def test_beyond_the_limit_connections_wait_outside_and_come_in_later(make: Make, exact: None) -> None:
    yard = make(most=3)
    clients = [yard.client() for _ in range(5)]
    inside = [yard.inside() for _ in range(3)]
    yard.settle()
    assert yard.open == 3
    assert not select.select([yard.qemu], [], [], 0)[0]
    clients[0].close()
    inside[0].close()
    inside.append(yard.inside())
    assert yard.announced[3][2] == clients[3].getsockname()[1]
    yard.settle()
    assert yard.open == 3


def test_a_relay_lets_in_a_few_more_than_the_guest_may_have(make: Make) -> None:
    yard = make(most=1)
    for _ in range(PENDING + 5):
        yard.client()
    yard.settle(0.2)
    assert yard.open == PENDING + 1


def test_what_the_guest_has_given_up_gives_way_to_others(
    make: Make, exact: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that never hang up, though the guest has: they would fill the relay for ever."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    yard = make(most=2)
    (idle, ended), (slow, filled) = yard.both(), yard.both()
    ended.close()
    yard.fill(filled)
    filled.close()
    waiting = yard.client()
    yard.settle()
    assert len(yard.announced) == 2, "they may be waiting for half of an answer"
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    inside = yard.inside()
    assert yard.announced[2] == (inside.getpeername()[1], *waiting.getsockname())
    assert yard.ended(slow, poke=True) == "reset"
    assert yard.ended(idle) == "end"
    assert yard.open == 1


def test_what_the_guest_still_has_gives_way_to_nobody(make: Make, exact: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    yard = make(most=2)
    client, inside = yard.both()
    client.shutdown(socket.SHUT_WR)  # half of it, but the guest may answer
    yard.both()
    yard.client()
    yard.settle(0.1)
    assert len(yard.announced) == 2
    inside.send(b"late")
    assert yard.received(client, 4) == b"late"


def test_nobody_is_let_in_while_the_guest_is_behind_with_what_it_was_told(yard: Yard) -> None:
    yard.congested = True
    yard.client()
    yard.settle()
    assert yard.open == 0
    yard.relay.wake()
    yard.settle()
    assert yard.open == 0
    yard.congested = False
    yard.relay.wake()
    yard.inside()
    assert len(yard.announced) == 1


# ---- from inside


def test_a_connection_that_the_guest_asked_for_enters_like_any_other(yard: Yard) -> None:
    ours, peer = socket.socketpair()
    with peer:
        said: list[int | DonjonError] = []
        yard.relay.enter(ours, yard.door, said.append)
        inside = yard.inside()
        assert said == [inside.getpeername()[1]]
        inside.send(b"hello")
        yard.until(lambda: select.select([peer], [], [], 0)[0])
        assert peer.recv(10) == b"hello"


def test_too_many_from_inside_are_refused(make: Make, exact: None) -> None:
    yard = make(most=1)
    yard.both()
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        said: list[int | DonjonError] = []
        yard.relay.enter(connection, yard.door, said.append)
        assert [str(one) for one in said] == ["too many connections are open"]
        assert yard.ended(peer) == "reset"
        peer.close()


# ---- a machine that does not take them


def test_a_machine_that_has_gone_lets_its_clients_down(yard: Yard) -> None:
    yard.qemu.close()
    assert yard.ended(yard.client()) == "reset"
    assert yard.open == 0
    said: list[int | DonjonError] = []
    ours, peer = socket.socketpair()
    yard.relay.enter(ours, yard.door, said.append)
    assert [str(one) for one in said] == ["the machine takes no connection"]
    assert yard.ended(peer) == "end"
    peer.close()


def test_one_that_was_not_announced_is_told_why_it_was_let_down(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    said: list[int | DonjonError] = []
    peers = []
    for _ in range(5):
        ours, peer = socket.socketpair()
        peers.append(peer)
        yard.relay.enter(ours, yard.door, said.append)
    yard.until(lambda: len(said) == 5)
    assert [isinstance(one, int) for one in said] == [True, True, False, False, False]
    assert isinstance(said[4], PlatformError)
    assert said[4].message == "the machine takes no connection"
    for peer in peers:
        peer.close()


def test_patience_with_a_machine_ends(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    clients = [yard.client() for _ in range(6)]
    yard.until(lambda: len(yard.relay._pairs) == yard.open == 2)  # in the machine's queue
    assert [yard.ended(client) for client in clients[2:]] == ["reset"] * 4


def test_a_client_that_leaves_before_it_was_let_in_does_no_harm(yard: Yard) -> None:
    for _ in range(4):
        reset(yard.client())
    client = yard.client()
    client.send(b"still here")
    inside = [yard.inside() for _ in range(5)][4]
    inside.setblocking(False)
    assert yard.received(inside, 10) == b"still here"
    yard.until(lambda: yard.open == 1)


def test_no_descriptor_left_is_said_once_and_waited_for(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    clients = [yard.client() for _ in range(3)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fill: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fill.append(os.dup(0))
        yard.settle(0.2)
        assert yard.open == 0, "of three"
        texts = [text for _, text in yard.said.lines]
        assert texts == ["cannot accept a connection: too many open files"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in fill:
            os.close(number)
    for client in clients:
        client.send(b"x")
        inside = yard.inside()
        inside.setblocking(False)
        assert yard.received(inside, 1) == b"x"


def test_no_descriptor_left_for_our_half_is_waited_for(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [3]

    class Scarce(socket.socket):
        def __init__(self, *words: int, fileno: int | None = None) -> None:
            if fileno is None and left[0]:
                left[0] -= 1
                raise OSError(24, "Too many open files")
            super().__init__(*words, fileno=fileno)  # type: ignore[misc]

    client = yard.client()
    client.send(b"x")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Scarce)
        yard.until(lambda: yard.announced)
    assert not left[0]
    inside = yard.inside()
    inside.setblocking(False)
    assert yard.received(inside, 1) == b"x"


# ---- the end


def test_nothing_stays_open_when_the_end_comes_while_some_wait(yard: Yard) -> None:
    clients = [yard.client() for _ in range(6)]
    yard.settle(0.1)
    assert yard.relay._callers
    yard.relay.close()
    assert yard.open == 0
    yard.qemu.close()
    yard.settle(0.3)
    assert yard.open == 0
    assert [yard.ended(client) for client in clients] == ["reset"] * 6
    ours, peer = socket.socketpair()
    said: list[int | DonjonError] = []
    yard.relay.enter(ours, yard.door, said.append)  # a peer has answered meanwhile
    assert (said, ours.fileno()) == ([], -1)
    peer.close()


def test_what_a_guest_has_said_before_it_ended_is_delivered(yard: Yard) -> None:
    client, inside = yard.both()
    idle, _ = yard.both()
    size = yard.fill(inside)
    yard.relay.close_listeners()
    assert yard.relay.busy()
    yard.qemu.close()
    inside.shutdown(socket.SHUT_WR)
    for pair in yard.relay._pairs:  # the machine ends: its sockets do
        assert pair.owes
    yard._sockets[3].close()
    half = yard.received(client, size // 2)
    assert yard.relay.busy()
    got = len(half) + len(yard.received(client, size - len(half)))
    yard.until(lambda: not yard.relay.busy())
    yard.relay.close()
    assert got == size
    assert yard.ended(client) == "end"
    assert yard.ended(idle) == "end"


def test_what_is_whole_is_not_cut_at_the_end(yard: Yard) -> None:
    """Everything is in the kernel's hands: a reset would take it from there."""
    client, inside = yard.both()
    data = os.urandom(200_000)
    inside.settimeout(20)
    inside.sendall(data)
    inside.shutdown(socket.SHUT_WR)
    yard.until(lambda: not yard.relay.busy())
    yard.relay.close()
    client.settimeout(20)
    got = b""
    while part := client.recv(65536):
        got += part
    assert got == data


def test_what_is_not_whole_is_cut_at_the_end(yard: Yard) -> None:
    client, inside = yard.both()
    inside.send(b"half of")
    assert yard.received(client, 7) == b"half of"
    yard.relay.close()
    assert yard.ended(client) == "reset"


def test_a_peer_that_takes_nothing_does_not_hold_up_the_end(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    client, inside = yard.both()
    yard.fill(inside)
    inside.close()
    yard.relay.close_listeners()
    assert yard.relay.busy()
    monkeypatch.setattr(module, "STALL_SECONDS", 0.05)
    yard.until(lambda: not yard.relay.busy())
    monkeypatch.setattr(module, "STALL_SECONDS", 1000.0)
    assert yard.relay.busy()
    monkeypatch.setattr(module, "FINISH_SECONDS", 0.0)
    assert not yard.relay.busy()
    yard.relay.close()
    assert yard.ended(client) == "reset"


def test_after_the_end_nobody_is_let_in(yard: Yard) -> None:
    yard.relay.close_listeners()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(yard.address, 5)


def test_the_kernels_way_of_naming_states_is_what_we_think(yard: Yard) -> None:
    client, inside = yard.both()
    (pair,) = yard.relay._pairs
    states = [pair.given_up]
    client.shutdown(socket.SHUT_WR)
    yard.settle()
    states.append(pair.given_up)
    inside.close()
    states.append(pair.given_up)
    assert states == [False, False, True]
    assert struct.calcsize("ii") == 8


def test_doors_are_independent(yard: Yard) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as stuck:
        door = Door(yard.loop, stuck.getsockname()[1])
        said: list[int | DonjonError] = []
        peers = []
        for _ in range(5):
            ours, peer = socket.socketpair()
            peers.append(peer)
            yard.relay.enter(ours, door, said.append)
        client, inside = yard.client(), yard.inside()
        client.send(b"x")
        inside.setblocking(False)
        assert yard.received(inside, 1) == b"x"
        yard.relay.close()
        for peer in peers:
            peer.close()
