"""poll_oneoff: clocks and descriptors, and what the kernel does not know."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from donjon.wasm.wasi.descriptors.stdio import Null
from tests.wasm.wasi.lab import FREE, PAGE, SIZE, Lab, on_clock, on_fd
from tests.wasm.wasi.net import NONBLOCK, Net, eventually, meanwhile, reset, write_full
from tests.wasm.wasi.witx import RIGHTS

READ, WRITE = 1, 2
REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU = range(4)
ABSTIME = 1
MS = 10**6
HOUR = 3600 * 10**9
HANGUP = 1


def names(events: list[tuple[int, str, int, int, int]]) -> list[tuple[int, str]]:
    """Userdata and errno of each event."""
    return sorted((user, error) for user, error, _, _, _ in events)


# ---- clocks


@pytest.mark.parametrize("clock", [REALTIME, MONOTONIC])
def test_a_relative_clock_rings_after_its_time(lab: Lab, clock: int) -> None:
    start = time.monotonic_ns()
    assert lab.poll(on_clock(7, clock, 20 * MS)) == [(7, "success", 0, 0, 0)]
    assert 20 * MS <= time.monotonic_ns() - start < 1000 * MS


@pytest.mark.parametrize(("clock", "now"), [(REALTIME, time.time_ns), (MONOTONIC, time.monotonic_ns)])
def test_an_absolute_clock_rings_at_its_time(lab: Lab, clock: int, now: object) -> None:
    assert callable(now)
    at = now() + 20 * MS
    assert lab.poll(on_clock(7, clock, at, ABSTIME)) == [(7, "success", 0, 0, 0)]
    assert at - MS <= now() < at + 1000 * MS


@pytest.mark.parametrize("clock", [REALTIME, MONOTONIC])
@pytest.mark.parametrize(("timeout", "flags"), [(0, 0), (0, ABSTIME), (1, ABSTIME)])
def test_a_time_that_is_past_rings_at_once(lab: Lab, clock: int, timeout: int, flags: int) -> None:
    start = time.monotonic_ns()
    assert lab.poll(on_clock(1, clock, timeout, flags)) == [(1, "success", 0, 0, 0)]
    assert time.monotonic_ns() - start < 1000 * MS


def test_only_the_clocks_ring_whose_time_has_come(lab: Lab) -> None:
    clocks = [on_clock(1, MONOTONIC, HOUR), on_clock(2, MONOTONIC, 5 * MS), on_clock(3, REALTIME, 2 * HOUR)]
    assert names(lab.poll(*clocks)) == [(2, "success")]


def test_a_relative_clock_does_not_ring_with_an_absolute_one_that_is_earlier(lab: Lab) -> None:
    clocks = [on_clock(1, MONOTONIC, HOUR), on_clock(2, MONOTONIC, time.monotonic_ns() + 5 * MS, ABSTIME)]
    assert names(lab.poll(*clocks)) == [(2, "success")]


def test_clocks_with_the_same_time_ring_together(lab: Lab) -> None:
    assert names(lab.poll(on_clock(1, MONOTONIC, 0), on_clock(2, REALTIME, 0))) == [(1, "success"), (2, "success")]


@pytest.mark.parametrize("timeout", [2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("flags", [0, ABSTIME])
def test_a_clock_may_be_set_to_the_end_of_time(net: Net, timeout: int, flags: int) -> None:
    fd, typed = net.stdin()
    os.write(typed, b"x")
    assert names(net.lab.poll(on_clock(1, MONOTONIC, timeout, flags), on_fd(2, fd))) == [(2, "success")]


def test_waiting_for_the_end_of_time_is_no_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class WokenError(BaseException):
        pass

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise WokenError

    monkeypatch.setattr("donjon.wasm.wasi.reactor.time.sleep", sleep)
    with pytest.raises(WokenError):
        lab.poll(on_clock(1, MONOTONIC, 2**64 - 1))
    assert max(slept) <= 3600


@pytest.mark.parametrize(
    ("clock", "error"), [(PROCESS_CPU, "notsup"), (THREAD_CPU, "notsup"), (4, "inval"), (2**32 - 1, "inval")]
)
def test_a_clock_that_cannot_ring_says_so_at_once(lab: Lab, clock: int, error: str) -> None:
    assert lab.poll(on_clock(9, MONOTONIC, HOUR), on_clock(5, clock, 0)) == [(5, error, 0, 0, 0)]


# ---- lists


@pytest.mark.parametrize("count", [0, 16385, 2**31, 2**32 - 1])
def test_there_is_at_least_one_subscription_and_not_too_many(lab: Lab, count: int) -> None:
    with lab.writes_only():
        assert lab.fails("poll_oneoff", FREE, PAGE, count, 128) == "inval"


def test_a_guest_that_may_have_many_descriptors_can_poll_them_all(lab: Lab) -> None:
    lab.guest.limit = 10_000  # twice that is looked at, and found not to fit into this memory
    assert lab.fails("poll_oneoff", FREE, PAGE, 20_000, 128) == "fault"
    assert lab.fails("poll_oneoff", FREE, PAGE, 20_001, 128) == "inval"


@pytest.mark.parametrize(
    ("subscriptions", "events", "errno"),
    [
        (FREE + 4, PAGE, "inval"),
        (FREE, PAGE + 4, "inval"),
        (SIZE - 40, PAGE, "fault"),
        (SIZE, PAGE, "fault"),
        (2**32 - 8, PAGE, "fault"),
        (FREE, SIZE - 24, "fault"),
        (FREE, 2**32 - 8, "fault"),
    ],
)
def test_lists_lie_inside_memory_and_are_aligned(lab: Lab, subscriptions: int, events: int, errno: str) -> None:
    lab.put(FREE, on_clock(1, MONOTONIC, 0))
    with lab.writes_only():
        assert lab.fails("poll_oneoff", subscriptions, events, 1, 128) == errno


def test_a_subscription_of_no_known_type_is_invalid(lab: Lab) -> None:
    lab.put(FREE, on_clock(1, MONOTONIC, 0) + on_fd(1, 0, 3))
    with lab.writes_only():
        assert lab.fails("poll_oneoff", FREE, PAGE, 2, 128) == "inval"


def test_events_are_written_and_nothing_else(lab: Lab) -> None:
    lab.put(FREE, on_clock(0x1122334455667788, MONOTONIC, 0))
    with lab.writes_only((PAGE, 32), (128, 4)):
        lab.ok("poll_oneoff", FREE, PAGE, 1, 128)
    assert lab.get(PAGE, 32) == bytes.fromhex("8877665544332211") + bytes(24)


def test_events_may_lie_over_the_subscriptions(lab: Lab) -> None:
    for _ in range(2):
        lab.put(FREE, on_clock(1, MONOTONIC, 0))
        lab.ok("poll_oneoff", FREE, FREE, 1, 128)
        assert lab.get(FREE, 8) == (1).to_bytes(8, "little")


def test_a_bad_descriptor_has_its_event_and_the_rest_is_polled_too(net: Net) -> None:
    fd, typed = net.stdin()
    os.write(typed, b"x")
    events = net.lab.poll(on_fd(1, 50), on_fd(2, fd), on_fd(3, 2**32 - 1, WRITE))
    assert names(events) == [(1, "badf"), (2, "success"), (3, "badf")]


def test_a_descriptor_without_the_right_has_its_event(net: Net) -> None:
    fd, typed = net.stdin()
    os.write(typed, b"x")
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    net.lab.ok("fd_fdstat_set_rights", fd, RIGHTS["fd_read"], 0)
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "notcapable")]


# ---- descriptors


def test_input_is_ready_when_something_was_typed_and_at_its_end(net: Net) -> None:
    fd, typed = net.stdin()
    both = (on_fd(1, fd), on_clock(2, MONOTONIC, 0))
    assert names(net.lab.poll(*both)) == [(2, "success")]
    os.write(typed, b"x")
    assert names(net.lab.poll(*both)) == [(1, "success"), (2, "success")]
    net.lab.read(fd)
    net.hang_up(typed)
    (event,) = net.lab.poll(on_fd(1, fd))
    assert (event[1], event[4]) == ("success", HANGUP)


def test_output_is_ready_until_the_pipe_is_full(net: Net) -> None:
    fd, _ = net.stdout(NONBLOCK)
    both = (on_fd(1, fd, WRITE), on_clock(2, MONOTONIC, 0))
    assert names(net.lab.poll(*both)) == [(1, "success"), (2, "success")]
    write_full(net.lab, fd, 4096)
    assert names(net.lab.poll(*both)) == [(2, "success")]


def test_null_is_always_ready(lab: Lab) -> None:
    fd = lab.add(Null())
    assert names(lab.poll(on_fd(1, fd), on_fd(2, fd, WRITE), on_clock(3, MONOTONIC, HOUR))) == [
        (1, "success"),
        (2, "success"),
    ]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_connection_is_ready_to_write_at_once_and_to_read_when_data_came(net: Net, kind: str) -> None:
    fd, peer = getattr(net, kind)()
    both = (on_fd(1, fd), on_fd(2, fd, WRITE), on_clock(3, MONOTONIC, 0))
    assert names(net.lab.poll(*both)) == [(2, "success"), (3, "success")]
    peer.sendall(b"x")
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    assert names(net.lab.poll(*both)) == [(1, "success"), (2, "success"), (3, "success")]
    assert net.lab.read(fd) == b"x"
    assert names(net.lab.poll(*both)) == [(2, "success"), (3, "success")]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_wait_ends_when_data_comes(net: Net, kind: str) -> None:
    fd, peer = getattr(net, kind)()
    for waited in (on_fd(1, fd), on_fd(1, fd)):
        with meanwhile(lambda: peer.sendall(b"x"), after=0.02):
            assert names(net.lab.poll(waited, on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        net.lab.read(fd)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_of_several_connections_those_with_data_are_told(net: Net, kind: str) -> None:
    opened = [getattr(net, kind)() for _ in range(4)]
    everyone = [on_fd(number, fd) for number, (fd, _) in enumerate(opened)]
    for talking in ([2], [0, 3], [1], [0, 1, 2, 3]):
        for number in talking:
            opened[number][1].sendall(b"x")
        eventually(lambda talking=talking: names(net.lab.poll(*everyone)) == [(n, "success") for n in talking])  # type: ignore[misc]
        for number in talking:
            assert net.lab.read(opened[number][0]) == b"x"


def test_the_end_of_a_connection_is_a_hangup(net: Net) -> None:
    fd, peer = net.tcp()
    reset(peer)
    (event,) = net.lab.poll(on_fd(1, fd))
    assert (event[1], event[4]) == ("success", HANGUP)
    with pytest.raises(OSError, match="connreset"):
        net.lab.read(fd)


def test_a_half_closed_connection_is_ready_to_read_its_end(net: Net) -> None:
    fd, peer = net.tcp()
    net.lab.ok("sock_shutdown", fd, 2)
    peer.close()
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    assert net.lab.read(fd) == b""


# ---- the same list again


def test_a_number_that_is_used_again_is_polled_anew(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tcp()
    subscription = on_fd(1, fd)
    peer.sendall(b"old")
    assert names(lab.poll(subscription)) == [(1, "success")]
    lab.ok("fd_close", fd)
    again, other = net.tcp()
    assert again == fd
    assert names(lab.poll(subscription, on_clock(2, MONOTONIC, 0))) == [(2, "success")]
    other.sendall(b"new")
    assert names(lab.poll(subscription)) == [(1, "success")]
    assert lab.read(fd) == b"new"


def test_a_closed_descriptor_is_badf_in_the_same_list(net: Net) -> None:
    fd, peer = net.tcp()
    peer.sendall(b"x")
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    net.lab.ok("fd_close", fd)
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "badf")]


def test_a_descriptor_that_was_badf_is_found_once_it_is_open(net: Net) -> None:
    assert names(net.lab.poll(on_fd(1, 0))) == [(1, "badf")]
    fd, peer = net.tcp()
    assert fd == 0
    peer.sendall(b"x")
    assert names(net.lab.poll(on_fd(1, 0))) == [(1, "success")]


def test_a_renumbered_descriptor_is_polled_under_its_new_number(net: Net) -> None:
    lab = net.lab
    first, peer = net.tcp()
    second, other = net.tcp()
    other.sendall(b"x")
    assert names(lab.poll(on_fd(1, second))) == [(1, "success")]
    lab.ok("fd_renumber", first, second)
    assert names(lab.poll(on_fd(1, second), on_clock(2, MONOTONIC, 0))) == [(2, "success")]
    peer.sendall(b"y")
    assert names(lab.poll(on_fd(1, second))) == [(1, "success")]
    assert lab.read(second) == b"y"


def test_the_same_list_at_another_place_answers_there(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tcp()
    peer.sendall(b"x")
    for at, out in ((FREE, PAGE), (FREE + 48, PAGE + 64), (FREE, PAGE)):
        lab.fill()
        lab.put(at, on_fd(1, fd))
        with lab.writes_only((out, 32), (128, 4)):
            lab.ok("poll_oneoff", at, out, 1, 128)
        assert lab.u32(128) == 1


# ---- listeners


def test_a_listener_is_ready_when_somebody_came(net: Net) -> None:
    fd, address = net.tcp_listener(NONBLOCK)
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 0))) == [(2, "success")]
    net.connect(address)
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    net.lab.ok("sock_accept", fd, 0, FREE)
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 0))) == [(2, "success")]


def test_a_tls_listener_is_ready_when_a_handshake_is_done(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    net.connect(address)  # says nothing
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 20 * MS))) == [(2, "success")]
    with meanwhile(lambda: net.tls_connect(address)):
        assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    net.lab.ok("sock_accept", fd, 0, FREE)
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 0))) == [(2, "success")]


def test_a_handshake_gets_on_while_the_guest_polls_something_else(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    stdin, typed = net.stdin()
    late = net.connect(address)
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 1)

    def shake_hands() -> ssl.SSLSocket:
        wrapped = net.client.wrap_socket(late, server_hostname="localhost")
        os.write(typed, b"done")
        return wrapped

    with meanwhile(shake_hands) as client:
        assert names(net.lab.poll(on_fd(1, stdin))) == [(1, "success")]
    net.keep(client.result())
    net.lab.ok("sock_accept", fd, 0, FREE)


def test_a_handshake_gets_on_while_the_guest_sleeps(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    late = net.connect(address)
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 1)
    with meanwhile(lambda: net.client.wrap_socket(late, server_hostname="localhost")) as client:
        for _ in range(100):
            net.lab.poll(on_clock(1, MONOTONIC, 10 * MS))
            if not net.lab.guest.reactor.tasks:
                break
    net.keep(client.result())
    net.lab.ok("sock_accept", fd, 0, FREE)


def test_a_peer_that_speaks_no_tls_wakes_nobody(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    net.connect(address).sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 50 * MS))) == [(2, "success")]
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 0)


# ---- what TLS knows and the kernel does not


def test_data_that_tls_has_decrypted_is_ready(net: Net) -> None:
    fd, peer = net.tls()
    peer.sendall(b"a" * 1000)
    assert net.lab.read(fd, 10) == b"a" * 10
    for _ in range(3):  # the kernel has nothing any more
        assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
    assert len(net.lab.read(fd, 5000)) == 990
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 0))) == [(2, "success")]


def test_several_records_that_came_together_are_ready_one_after_another(net: Net) -> None:
    fd, peer = net.tls()
    for part in (b"one", b"two", b"three"):
        peer.sendall(part)
    got = b""
    while got != b"onetwothree":
        assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        got += net.lab.read(fd, 2)
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, 0))) == [(2, "success")]


def test_data_that_was_only_peeked_at_is_ready(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tls()
    peer.sendall(b"abc")
    lab.put_buffers(512, (PAGE, 2))
    lab.ok("sock_recv", fd, 512, 1, 1, 600, 608)
    assert lab.get(PAGE, 2) == b"ab"
    for _ in range(2):
        assert names(lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
    assert lab.read(fd) == b"abc"


def test_what_polling_has_decrypted_is_not_lost(net: Net) -> None:
    fd, peer = net.tls()
    peer.sendall(b"abc")
    for _ in range(3):
        assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
    assert net.lab.read(fd) == b"abc"


def test_data_that_came_with_the_end_of_the_handshake_is_ready(net: Net) -> None:
    fd, address = net.tls_listener()

    def hello() -> ssl.SSLSocket:
        client = net.tls_connect(address)
        client.sendall(b"early")
        return client

    with meanwhile(hello):
        net.lab.ok("sock_accept", fd, 0, FREE)
    stream = net.lab.u32(FREE)
    assert names(net.lab.poll(on_fd(1, stream), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
    assert net.lab.read(stream) == b"early"


def test_half_a_record_is_not_ready(net: Net) -> None:
    lab = net.lab
    # A client in memory, so that its records can be cut.
    outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    listener, address = net.tls_listener(NONBLOCK)
    raw = net.connect(address)
    client = net.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    raw.settimeout(0.05)
    accepted = False
    for _ in range(200):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        if outgoing.pending:
            raw.sendall(outgoing.read())
        if not lab.call("sock_accept", listener, 0, FREE):
            accepted = True
            break
        try:
            incoming.write(raw.recv(65536))
        except TimeoutError:
            continue
    assert accepted
    stream = lab.u32(FREE)
    client.write(b"a whole message")
    record = outgoing.read()
    raw.sendall(record[:10])
    assert names(lab.poll(on_fd(1, stream), on_clock(2, MONOTONIC, 20 * MS))) == [(2, "success")]
    raw.sendall(record[10:-1])
    assert names(lab.poll(on_fd(1, stream), on_clock(2, MONOTONIC, 20 * MS))) == [(2, "success")]
    raw.sendall(record[-1:])
    got = b""
    while got != b"a whole message":  # a read may be short, as any may
        assert names(lab.poll(on_fd(1, stream), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        got += lab.read(stream)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="nothing else here can send a KeyUpdate")
def test_a_key_update_is_not_data(net: Net) -> None:
    fd, address = net.tls_listener()
    command = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-servername", "localhost"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert client.stdin is not None
        net.lab.ok("sock_accept", fd, NONBLOCK, FREE)
        stream = net.lab.u32(FREE)
        for letter in (b"k", b"K"):  # with "K" the client asks for ours too
            client.stdin.write(letter + b"\n")
            client.stdin.flush()
            net.lab.guest.reactor.wait(net.lab.guest.fds[stream].host, 1, 10.0)
            assert names(net.lab.poll(on_fd(1, stream), on_clock(2, MONOTONIC, 20 * MS))) == [(2, "success")]
            with pytest.raises(OSError, match="again"):
                net.lab.read(stream)
        assert net.lab.write(stream, b"with new keys") == 13
        client.stdin.write(b"still here\n")
        client.stdin.flush()
        assert names(net.lab.poll(on_fd(1, stream), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        assert net.lab.read(stream) == b"still here\n"
    finally:
        client.kill()
        client.communicate()


def test_the_end_of_tls_data_is_ready_and_stays_so(net: Net) -> None:
    fd, peer = net.tls()
    peer.settimeout(0)
    with pytest.raises((ssl.SSLWantReadError, OSError)):
        peer.unwrap()  # sends close_notify, and would wait for ours
    for _ in range(3):
        assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        assert net.lab.read(fd) == b""


def test_a_cut_of_tls_is_ready_and_then_an_error(net: Net) -> None:
    fd, peer = net.tls()
    peer.sendall(b"part")
    socket.socket(fileno=peer.detach()).close()
    assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
    assert net.lab.read(fd) == b"part"
    for _ in range(2):
        assert names(net.lab.poll(on_fd(1, fd))) == [(1, "success")]
        with pytest.raises(OSError, match="connreset"):
            net.lab.read(fd)


def test_an_altered_record_is_ready_and_then_an_error_again_and_again(net: Net) -> None:
    fd, peer = net.tls()
    raw = net.keep(socket.socket(fileno=peer.detach()))
    raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(OSError, match="io"):
        net.lab.read(fd)
    assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
    with pytest.raises(OSError, match="io"):
        net.lab.read(fd)


def test_a_tls_connection_that_was_closed_with_data_unread_is_forgotten(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tls()
    peer.sendall(b"unread")
    assert names(lab.poll(on_fd(1, fd))) == [(1, "success")]
    lab.ok("fd_close", fd)
    assert not lab.guest.reactor.eager
    again, other = net.tls()
    assert names(lab.poll(on_fd(1, again), on_clock(2, MONOTONIC, 0))) == [(2, "success")]
    other.sendall(b"new")
    assert names(lab.poll(on_fd(1, again))) == [(1, "success")]


@pytest.mark.parametrize("how", [1, 3])
def test_a_tls_connection_whose_reading_side_we_closed_is_ready(net: Net, how: int) -> None:
    fd, _ = net.tls()
    net.lab.ok("sock_shutdown", fd, how)
    for _ in range(2):
        assert names(net.lab.poll(on_fd(1, fd), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        assert net.lab.read(fd) == b""


def test_a_tls_connection_that_was_written_full_is_ready_when_there_is_room(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tls(NONBLOCK)
    total = len(write_full(lab, fd, 60_000))
    assert names(lab.poll(on_fd(1, fd, WRITE), on_clock(2, MONOTONIC, 0))) == [(2, "success")]

    def read_all() -> int:
        got = 0
        while got < total:
            got += len(peer.recv(1 << 20))
        return got

    with meanwhile(read_all) as reader:
        assert names(lab.poll(on_fd(1, fd, WRITE), on_clock(2, MONOTONIC, HOUR))) == [(1, "success")]
        lab.guest.reactor.drain(10)
    assert reader.result() == total
