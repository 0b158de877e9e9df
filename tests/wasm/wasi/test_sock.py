"""sock_*, and fd_read and fd_write on sockets: what a native socket would do, with TLS below it or without."""

from __future__ import annotations

import errno
import os
import resource
import socket
import ssl
import struct
import time

import pytest

from donjon.tls import listener as tls_listener
from donjon.tls import streams
from tests.wasm.wasi.lab import FREE, PAGE, Lab
from tests.wasm.wasi.net import NONBLOCK, Net, eventually, meanwhile, receive_all, reset, write_full

PEEK, WAITALL = 1, 2
RD, WR = 1, 2
BOTH = pytest.mark.parametrize("kind", ["tcp", "tls"])


def connection(net: Net, kind: str, flags: int = 0) -> tuple[int, socket.socket]:
    opened: tuple[int, socket.socket] = getattr(net, kind)(flags)
    return opened


def recv(lab: Lab, fd: int, length: int, flags: int = 0) -> bytes:
    """sock_recv into one buffer."""
    array, count = lab.put_buffers(512, (PAGE, length))
    with lab.writes_only((PAGE, length), (600, 4), (608, 2)):
        errno = lab.call("sock_recv", fd, array, count, flags, 600, 608)
    if errno:
        raise OSError(errno)
    assert lab.get(608, 2) == b"\0\0"
    return lab.get(PAGE, lab.u32(600))


def arrived(lab: Lab, fd: int) -> None:
    """Wait until the kernel has something for a descriptor."""
    assert lab.guest.reactor.wait(lab.guest.fds[fd].host, 1, 10.0)


# ---- data


@BOTH
@pytest.mark.parametrize("name", ["fd_read", "sock_recv"])
def test_reads_what_the_peer_sends(net: Net, kind: str, name: str) -> None:
    fd, peer = connection(net, kind)
    peer.sendall(b"hello")
    assert net.lab.read(fd, 4096, name) == b"hello"


@BOTH
@pytest.mark.parametrize("name", ["fd_write", "sock_send"])
def test_writes_what_the_peer_gets(net: Net, kind: str, name: str) -> None:
    fd, peer = connection(net, kind)
    assert net.lab.write(fd, b"hello", name) == 5
    assert peer.recv(10) == b"hello"


@BOTH
def test_reads_on_where_the_last_read_ended(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    peer.sendall(b"abcdef")
    assert net.lab.read(fd, 2) == b"ab"
    assert net.lab.read(fd, 1) == b"c"
    assert net.lab.read(fd, 10) == b"def"


@BOTH
def test_reads_into_several_buffers(net: Net, kind: str) -> None:
    lab = net.lab
    fd, peer = connection(net, kind)
    peer.sendall(b"abcdef")
    array, count = lab.put_buffers(512, (PAGE, 1), (PAGE + 9, 2), (PAGE + 20, 9))
    with lab.writes_only((PAGE, 1), (PAGE + 9, 2), (PAGE + 20, 3), (600, 4), (608, 2)):
        lab.ok("sock_recv", fd, array, count, 0, 600, 608)
    assert (lab.u32(600), lab.get(PAGE + 9, 2), lab.get(PAGE + 20, 3)) == (6, b"bc", b"def")


@BOTH
def test_writes_from_several_buffers_in_order(net: Net, kind: str) -> None:
    lab = net.lab
    fd, peer = connection(net, kind)
    lab.put(PAGE, b"world hello")
    array, count = lab.put_buffers(512, (PAGE + 6, 5), (PAGE + 5, 1), (PAGE, 5))
    lab.ok("sock_send", fd, array, count, 0, 600)
    assert lab.u32(600) == 11
    eventually(lambda: peer.recv(20) == b"hello world" if kind == "tcp" else b"hello world".startswith(peer.recv(20)))


@BOTH
def test_nothing_there_is_again_for_a_guest_that_does_not_wait(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind, NONBLOCK)
    for name in ("fd_read", "sock_recv"):
        with pytest.raises(OSError, match=r"^again$"):
            net.lab.read(fd, 10, name)
    peer.sendall(b"x")
    arrived(net.lab, fd)
    assert net.lab.read(fd) == b"x"


@BOTH
def test_a_blocking_read_waits_for_data(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    with meanwhile(lambda: peer.sendall(b"late"), after=0.05):
        assert net.lab.read(fd) == b"late"


# ---- flags of sock_recv


@BOTH
def test_peeking_leaves_the_data(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    peer.sendall(b"abc")
    assert recv(net.lab, fd, 2, PEEK) == b"ab"
    assert recv(net.lab, fd, 10, PEEK) == b"abc"
    assert recv(net.lab, fd, 10, PEEK | WAITALL) == b"abc"
    assert recv(net.lab, fd, 10) == b"abc"


@BOTH
def test_peeking_at_nothing_is_again_or_waits(net: Net, kind: str) -> None:
    lab = net.lab
    fd, peer = connection(net, kind, NONBLOCK)
    with pytest.raises(OSError, match=r"^6$"):
        recv(lab, fd, 10, PEEK)
    lab.ok("fd_fdstat_set_flags", fd, 0)
    with meanwhile(lambda: peer.sendall(b"late"), after=0.02):
        assert recv(lab, fd, 10, PEEK) == b"late"


@BOTH
def test_waiting_for_all_waits_for_all(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)

    def send() -> None:
        for part in (b"ab", b"cd", b"ef"):
            time.sleep(0.01)
            peer.sendall(part)

    with meanwhile(send):
        assert recv(net.lab, fd, 5, WAITALL) == b"abcde"
    assert recv(net.lab, fd, 5) == b"f"


@BOTH
def test_waiting_for_all_ends_with_the_data(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    peer.sendall(b"ab")
    end_data(peer)
    assert recv(net.lab, fd, 5, WAITALL) == b"ab"
    assert recv(net.lab, fd, 5, WAITALL) == b""


@BOTH
def test_waiting_for_all_does_not_make_a_guest_wait_that_does_not_want_to(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind, NONBLOCK)
    with pytest.raises(OSError, match=r"^6$"):
        recv(net.lab, fd, 5, WAITALL)
    peer.sendall(b"ab")
    arrived(net.lab, fd)
    assert recv(net.lab, fd, 5, WAITALL) == b"ab"


@BOTH
@pytest.mark.parametrize("flags", [4, 8, 256, 0x10001, 2**31])
def test_refuses_flags_of_receiving_that_do_not_exist(net: Net, kind: str, flags: int) -> None:
    fd, _ = connection(net, kind)
    assert net.lab.fails("sock_recv", fd, 512, 0, flags, 600, 608) == "inval"


@BOTH
@pytest.mark.parametrize("flags", [1, 2, 2**31])
def test_there_are_no_flags_of_sending(net: Net, kind: str, flags: int) -> None:
    fd, _ = connection(net, kind)
    assert net.lab.fails("sock_send", fd, 512, 0, flags, 600) == "inval"


# ---- full


def test_a_write_into_a_full_socket_is_partial_and_then_again(net: Net) -> None:
    fd, peer = net.tcp(NONBLOCK, room=8192)
    sent = write_full(net.lab, fd, 30_000)
    assert sent
    net.lab.ok("sock_shutdown", fd, WR)
    assert receive_all(peer) == sent


def test_a_blocking_write_of_much_ends_when_all_is_on_its_way(net: Net) -> None:
    fd, peer = net.tcp(room=8192)
    data = bytes(range(256)) * 240
    got = bytearray()

    def read() -> None:
        time.sleep(0.02)
        while len(got) < 10 * len(data):
            got.extend(peer.recv(65536))

    with meanwhile(read):
        for _ in range(10):
            assert net.lab.write(fd, data) == len(data)
    assert bytes(got) == data * 10


def test_a_blocking_tls_write_of_much_arrives_whole(net: Net) -> None:
    fd, peer = net.tls()
    data = bytes(range(256)) * 250
    got = bytearray()

    def read() -> None:
        time.sleep(0.02)
        while len(got) < 60 * len(data):
            got.extend(peer.recv(65536))

    with meanwhile(read):
        for _ in range(60):
            assert net.lab.write(fd, data) == len(data)
        net.lab.ok("sock_shutdown", fd, WR)  # what the kernel has no room for is sent by the reactor
        net.lab.guest.reactor.drain(10)
    assert bytes(got) == data * 60


def test_a_tls_write_into_a_full_socket_is_again_and_nothing_is_lost(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tls(NONBLOCK)
    sent = write_full(lab, fd, 50_000)
    lab.ok("sock_shutdown", fd, WR)
    with meanwhile(lambda: receive_all(peer)) as reader:
        lab.guest.reactor.drain(10)
    assert reader.result() == sent


def test_what_was_written_before_closing_arrives_even_when_the_peer_is_slow(net: Net) -> None:
    lab = net.lab
    fd, peer = net.tls(NONBLOCK)
    sent = write_full(lab, fd, 60_000)
    lab.ok("fd_close", fd)
    with meanwhile(lambda: receive_all(peer)) as reader:
        lab.guest.reactor.drain(10)
    assert len(reader.result()) == len(sent)


def test_what_is_still_being_sent_counts_as_a_connection(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINGER_SECONDS", 0.05)  # and this peer reads nothing
    fd, _ = net.tls(NONBLOCK)
    write_full(net.lab, fd, 60_000)
    net.lab.ok("fd_close", fd)
    assert net.budget.used == 1
    net.lab.guest.reactor.drain(10)
    assert net.budget.used == 0


@pytest.mark.parametrize("end", ["sock_shutdown", "fd_close"])
def test_without_a_free_descriptor_on_the_host_nothing_of_a_tls_write_is_lost(
    net: Net, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    lab = net.lab
    fd, peer = net.tls(NONBLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", refuse)
        sent = write_full(lab, fd, 60_000)
    with meanwhile(lambda: receive_all(peer)) as reader:
        lab.ok(end, fd, *([WR] if end == "sock_shutdown" else []))
        lab.guest.reactor.drain(10)
    assert len(reader.result()) == len(sent)


# ---- ends


def end_data(peer: socket.socket) -> None:
    """The peer sends no more, but reads on."""
    if isinstance(peer, ssl.SSLSocket):
        # Python has no half-close; what its unwrap sends first is the close_notify, for whose answer it then waits.
        peer.settimeout(0)
        try:
            peer.unwrap()
        except (ssl.SSLWantReadError, OSError):
            pass
        peer.settimeout(10)
    else:
        peer.shutdown(socket.SHUT_WR)


@BOTH
def test_the_end_of_the_peers_data_is_no_bytes_again_and_again(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    peer.sendall(b"bye")
    end_data(peer)
    assert net.lab.read(fd) == b"bye"
    assert [net.lab.read(fd) for _ in range(3)] == [b"", b"", b""]


def test_after_the_end_of_the_peers_data_ours_still_arrives(net: Net) -> None:
    fd, peer = net.tcp()
    peer.shutdown(socket.SHUT_WR)
    assert net.lab.read(fd) == b""
    net.lab.write(fd, b"answer")
    net.lab.ok("fd_close", fd)
    assert receive_all(peer) == b"answer"


@BOTH
def test_half_closing_ends_our_data_and_not_the_peers(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    net.lab.write(fd, b"question")
    net.lab.ok("sock_shutdown", fd, WR)
    with pytest.raises(OSError, match=r"^pipe$"):
        net.lab.write(fd, b"more")
    assert peer.recv(100) == b"question"
    assert peer.recv(100) == b""
    if kind == "tcp":
        peer.sendall(b"answer")
        assert net.lab.read(fd) == b"answer"


@BOTH
def test_closing_our_reading_side_makes_reads_end(net: Net, kind: str) -> None:
    fd, _ = connection(net, kind)
    net.lab.ok("sock_shutdown", fd, RD)
    assert net.lab.read(fd) == b""
    net.lab.write(fd, b"still")


@BOTH
def test_closing_both_sides(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    net.lab.ok("sock_shutdown", fd, RD | WR)
    assert peer.recv(10) == b""
    assert net.lab.read(fd) == b""
    with pytest.raises(OSError, match=r"^pipe$"):
        net.lab.write(fd, b"x")


@BOTH
@pytest.mark.parametrize("how", [0, 4, 7, 255, 2**31])
def test_shutdown_names_at_least_one_direction_and_no_other(net: Net, kind: str, how: int) -> None:
    fd, peer = connection(net, kind)
    assert net.lab.fails("sock_shutdown", fd, how) == "inval"
    net.lab.write(fd, b"x")
    assert peer.recv(1) == b"x"


@BOTH
def test_a_reset_is_told_to_a_reader(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    reset(peer)
    with pytest.raises(OSError, match=r"^connreset$"):
        net.lab.read(fd)


@BOTH
def test_a_reset_is_told_to_a_writer_as_pipe_or_connreset(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    reset(peer)

    def refused() -> bool:
        try:
            net.lab.write(fd, b"x" * 1000)
        except OSError as error:
            if str(error) not in ("connreset", "pipe"):
                raise
            return True
        return False

    eventually(refused)


def test_tls_that_ends_without_saying_so_is_connreset_and_no_clean_end(net: Net) -> None:
    fd, peer = net.tls()
    peer.sendall(b"part")
    raw = socket.socket(fileno=peer.detach())
    raw.close()
    assert net.lab.read(fd) == b"part"
    for _ in range(2):
        with pytest.raises(OSError, match=r"^connreset$"):
            net.lab.read(fd)


def test_tls_data_that_was_altered_is_io(net: Net) -> None:
    fd, peer = net.tls()
    raw = net.keep(socket.socket(fileno=peer.detach()))
    raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(OSError, match=r"^io$"):
        net.lab.read(fd)


@BOTH
def test_closing_tells_the_peer_that_it_is_the_end(net: Net, kind: str) -> None:
    fd, peer = connection(net, kind)
    net.lab.write(fd, b"last words")
    net.lab.ok("fd_close", fd)
    assert receive_all(peer) == b"last words"  # a cut of TLS would be an error
    assert net.budget.used == 0


# ---- accepting


@pytest.mark.parametrize("flags", [0, NONBLOCK])
@BOTH
def test_the_flags_of_accept_are_those_of_the_connection(net: Net, kind: str, flags: int) -> None:
    lab = net.lab
    if kind == "tcp":
        listener, address = net.tcp_listener(NONBLOCK)
        net.connect(address)
        arrived(lab, listener)
        with lab.writes_only((FREE, 4)):
            lab.ok("sock_accept", listener, flags, FREE)
        fd = lab.u32(FREE)
    else:
        fd, _ = net.tls(flags)
    lab.ok("fd_fdstat_get", fd, FREE)
    filetype, has, rights, inheriting = struct.unpack("<BxH4xQQ", lab.get(FREE, 24))
    assert (filetype, has, inheriting) == (6, flags, 0)
    assert rights & (1 << 1 | 1 << 6 | 1 << 28 | 1 << 29) == 1 << 1 | 1 << 6 | 1 << 28


@pytest.mark.parametrize("flags", [1, 2, 8, 16, 5, 32, 2**31])
@pytest.mark.parametrize("kind", ["tcp_listener", "tls_listener"])
def test_accept_takes_no_flag_but_nonblock(net: Net, kind: str, flags: int) -> None:
    fd, address = getattr(net, kind)(NONBLOCK)
    net.connect(address)
    with net.lab.writes_only():
        assert net.lab.fails("sock_accept", fd, flags, FREE) == "inval"


@pytest.mark.parametrize("kind", ["tcp_listener", "tls_listener"])
def test_nobody_there_is_again_for_a_guest_that_does_not_wait(net: Net, kind: str) -> None:
    fd, _ = getattr(net, kind)(NONBLOCK)
    with net.lab.writes_only():
        assert net.lab.fails("sock_accept", fd, 0, FREE) == "again"


@pytest.mark.parametrize("kind", ["tcp_listener", "tls_listener"])
def test_a_blocking_accept_waits(net: Net, kind: str) -> None:
    fd, address = getattr(net, kind)()
    connect = net.connect if kind == "tcp_listener" else net.tls_connect
    with meanwhile(lambda: connect(address), after=0.03):
        net.lab.ok("sock_accept", fd, 0, FREE)
    assert net.lab.u32(FREE) in net.lab.guest.fds


def test_only_a_listener_accepts(net: Net) -> None:
    from donjon.wasm.wasi.descriptors.stdio import Null

    lab = net.lab
    assert lab.fails("sock_accept", net.tcp()[0], 0, FREE) == "inval"
    assert lab.fails("sock_accept", net.tls()[0], 0, FREE) == "inval"
    assert lab.fails("sock_accept", net.stdin()[0], 0, FREE) == "notsock"
    assert lab.fails("sock_accept", lab.add(Null()), 0, FREE) == "notsock"


@pytest.mark.parametrize("kind", ["tcp_listener", "tls_listener"])
def test_a_listener_is_no_connection(net: Net, kind: str) -> None:
    lab = net.lab
    fd, _ = getattr(net, kind)(NONBLOCK)
    with pytest.raises(OSError, match=r"^notconn$"):
        lab.read(fd)
    with pytest.raises(OSError, match=r"^notconn$"):
        lab.read(fd, 10, "sock_recv")
    with pytest.raises(OSError, match=r"^notconn$"):
        lab.write(fd, b"x", "sock_send")
    assert lab.fails("sock_shutdown", fd, WR) == "notconn"


@pytest.mark.parametrize("kind", ["stdin", "stdout"])
def test_what_is_no_socket_is_notsock(net: Net, kind: str) -> None:
    lab = net.lab
    fd, _ = getattr(net, kind)()
    assert lab.fails("sock_recv", fd, 512, 0, 0, 600, 608) == "notsock"
    assert lab.fails("sock_send", fd, 512, 0, 0, 600) == "notsock"
    assert lab.fails("sock_shutdown", fd, WR) == "notsock"


def test_a_full_table_is_mfile_and_the_peer_keeps_waiting(net: Net) -> None:
    from donjon.wasm.wasi.descriptors.stdio import Null

    lab = net.lab
    fd, address = net.tcp_listener(NONBLOCK)
    peer = net.connect(address)
    while len(lab.guest.fds) < lab.guest.limit:
        lab.add(Null())
    assert lab.fails("sock_accept", fd, 0, FREE) == "mfile"
    lab.ok("fd_close", lab.guest.limit - 1)
    lab.ok("sock_accept", fd, 0, FREE)
    lab.write(lab.u32(FREE), b"welcome")
    assert peer.recv(20) == b"welcome"


def test_one_connection_too_many_is_turned_away_at_once(net: Net) -> None:
    net.budget.limit = 1
    fd, address = net.tcp_listener(NONBLOCK)
    first, second = net.connect(address), net.connect(address)
    arrived(net.lab, fd)
    net.lab.ok("sock_accept", fd, 0, FREE)
    assert net.lab.fails("sock_accept", fd, 0, FREE + 8) == "again"
    assert second.recv(1) == b""
    net.lab.ok("fd_close", net.lab.u32(FREE))
    assert first.recv(1) == b""
    third = net.connect(address)
    arrived(net.lab, fd)
    net.lab.ok("sock_accept", fd, 0, FREE)
    net.lab.write(net.lab.u32(FREE), b"x")
    assert third.recv(1) == b"x"


# ---- handshakes


@pytest.fixture
def silent(net: Net) -> tuple[int, tuple[str, int]]:
    """A TLS listener with a client that connected and says nothing."""
    fd, address = net.tls_listener()
    net.connect(address)
    return fd, address


def test_a_silent_client_keeps_nobody_waiting(net: Net, silent: tuple[int, tuple[str, int]]) -> None:
    fd, peer = net.tls(0, silent)
    net.lab.write(fd, b"served")
    assert peer.recv(10) == b"served"


def test_plain_http_to_a_tls_port_is_refused_and_others_are_served(
    net: Net, silent: tuple[int, tuple[str, int]]
) -> None:
    plain = net.connect(silent[1])
    plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    fd, peer = net.tls(0, silent)
    net.lab.write(fd, b"served")
    assert peer.recv(10) == b"served"
    try:
        assert plain.recv(100) in (b"", b"\x15\x03\x03\x00\x02\x02\x32")
    except ConnectionResetError:
        pass
    assert net.budget.used == 2  # the silent one and the one that is served


def test_a_client_that_hangs_up_during_its_handshake_costs_nothing(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    for _ in range(5):
        net.connect(address).close()
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 0)
    assert not net.lab.guest.reactor.tasks


def test_a_handshake_that_takes_too_long_is_given_up(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKE_SECONDS", 0.02)
    fd, address = net.tls_listener(NONBLOCK)
    slow = net.connect(address)
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 1)
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 0)
    assert slow.recv(1) == b""


def test_too_many_handshakes_drop_the_oldest(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_listener, "MOST_HANDSHAKES", 3)
    fd, address = net.tls_listener(NONBLOCK)
    clients = [net.connect(address) for _ in range(5)]
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 3)
    assert clients[0].recv(1) == clients[1].recv(1) == b""


def test_where_no_descriptor_is_free_the_oldest_handshake_gives_up_its_own(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    clients = [net.connect(address) for _ in range(2)]
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients.append(net.connect(address))
    free = os.dup(0)  # the lowest number that is free: it becomes the first that may not be used
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        for _ in range(2):  # the second time nobody is there who needs room
            assert net.lab.fails("sock_accept", fd, 0, FREE) == "again"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert net.budget.used == 2
    assert clients[0].recv(1) == b"", "the oldest made room for the newest"


def test_a_closed_listener_drops_its_handshakes(net: Net) -> None:
    fd, address = net.tls_listener(NONBLOCK)
    client = net.connect(address)
    eventually(lambda: net.lab.fails("sock_accept", fd, 0, FREE) == "again" and net.budget.used == 1)
    net.lab.ok("fd_close", fd)
    assert client.recv(1) == b""
    assert net.budget.used == 0
    assert not net.lab.guest.reactor.tasks


def test_a_handshake_gets_on_while_the_guest_reads_from_another_connection(net: Net) -> None:
    listener, address = net.tls_listener()
    fd, peer = net.tls(0, (listener, address))
    net.lab.ok("fd_fdstat_set_flags", listener, NONBLOCK)
    late = net.connect(address)
    eventually(lambda: net.lab.fails("sock_accept", listener, 0, FREE) == "again" and net.budget.used == 2)

    def shake_hands() -> None:
        net.client.wrap_socket(late, server_hostname="localhost").close()
        peer.sendall(b"done")

    with meanwhile(shake_hands):
        assert net.lab.read(fd) == b"done"
