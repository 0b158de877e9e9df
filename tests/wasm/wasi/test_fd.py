"""fd_* on what is no file: standard streams, null, sockets; and the table of descriptors itself."""

from __future__ import annotations

import os
import struct

import pytest

from donjon.wasm.wasi.descriptors.stdio import Null, Stdio
from tests.wasm.wasi.lab import FREE, PAGE, SIZE, Lab
from tests.wasm.wasi.net import NONBLOCK, Net, meanwhile, reset, write_full
from tests.wasm.wasi.witx import RIGHTS

ALL_KINDS = ["stdin", "stdout", "null", "tcp", "tcp listener", "tls", "tls listener"]


def open_kind(net: Net, kind: str) -> int:
    """One descriptor of a kind."""
    if kind == "null":
        return net.lab.add(Null())
    maker = getattr(net, kind.replace(" ", "_"))
    fd: int = maker()[0]
    return fd


def fdstat(lab: Lab, fd: int) -> tuple[int, int, int, int]:
    """filetype, flags, rights, inheriting rights"""
    with lab.writes_only((FREE, 24)):
        lab.ok("fd_fdstat_get", fd, FREE)
    found: tuple[int, int, int, int] = struct.unpack("<BxH4xQQ", lab.get(FREE, 24))
    return found


def rights(*names: str) -> int:
    return sum(RIGHTS[name] for name in names)


# ---- reading and writing


def test_reads_what_is_typed_and_then_its_end(net: Net) -> None:
    fd, typed = net.stdin()
    os.write(typed, b"hello")
    assert net.lab.read(fd, 3) == b"hel"
    assert net.lab.read(fd) == b"lo"
    net.hang_up(typed)
    assert net.lab.read(fd) == b""


def test_writes_what_is_printed(net: Net) -> None:
    fd, printed = net.stdout()
    assert net.lab.write(fd, b"hello") == 5
    assert os.read(printed, 100) == b"hello"


def test_reads_into_several_buffers_and_skips_empty_ones(net: Net) -> None:
    lab = net.lab
    fd, typed = net.stdin()
    os.write(typed, b"abcdefgh")
    array, count = lab.put_buffers(FREE, (PAGE, 3), (2**32 - 1, 0), (PAGE + 100, 2), (PAGE + 200, 10))
    with lab.writes_only((PAGE, 3), (PAGE + 100, 2), (PAGE + 200, 3), (128, 4)):
        lab.ok("fd_read", fd, array, count, 128)
    assert lab.u32(128) == 8
    assert (lab.get(PAGE, 3), lab.get(PAGE + 100, 2), lab.get(PAGE + 200, 3)) == (b"abc", b"de", b"fgh")


def test_writes_from_several_buffers(net: Net) -> None:
    lab = net.lab
    fd, printed = net.stdout()
    lab.put(PAGE, b"hello world")
    array, count = lab.put_buffers(FREE, (PAGE + 6, 5), (SIZE, 0), (PAGE, 5))
    with lab.writes_only((128, 4)):
        lab.ok("fd_write", fd, array, count, 128)
    assert os.read(printed, 100) == b"worldhello"


@pytest.mark.parametrize("count", [0, 1, 2, 3], ids=["no buffer", "one", "two", "three"])
@pytest.mark.parametrize("kind", ["stdin", "null", "tcp", "tls"])
def test_reading_into_no_room_is_no_bytes_and_does_not_wait(net: Net, kind: str, count: int) -> None:
    # One empty buffer may point anywhere, as with several.
    lab, fd = net.lab, open_kind(net, kind)
    if kind == "stdin":
        os.write(net._pipes[1], b"x")  # a pipe with nothing in it would be waited for, natively too
    array, _ = lab.put_buffers(FREE, *[(2**32 - 1, 0)] * count)
    with lab.writes_only((128, 4)):
        lab.ok("fd_read", fd, array, count, 128)
    assert lab.u32(128) == 0


def test_more_buffers_than_the_host_takes_are_a_short_read(net: Net) -> None:
    lab = net.lab
    fd, typed = net.stdin()
    os.write(typed, bytes(3000))
    array, _ = lab.put_buffers(FREE, *[(PAGE + i, 1) for i in range(2000)])
    lab.ok("fd_read", fd, array, 2000, 128)
    assert lab.u32(128) == 1024


BAD_ARRAYS = {
    "not aligned": (FREE + 2, 1, "inval"),
    "not aligned and empty": (FREE + 1, 0, "inval"),
    "behind memory": (SIZE, 1, "fault"),
    "across the end of memory": (SIZE - 8, 2, "fault"),
    "at the last address": (2**32 - 4, 1, "fault"),
    "with more buffers than there are numbers": (FREE, 2**32 - 1, "fault"),
}


@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite", "sock_recv", "sock_send"])
@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_refuses_an_array_of_buffers_that_is(net: Net, case: str, name: str) -> None:
    lab, (fd, _) = net.lab, net.tcp(NONBLOCK)
    array, count, errno = BAD_ARRAYS[case]
    lab.put_buffers(FREE, *[(SIZE - 1, 5)] * 4)
    lab.put_buffers(SIZE - 8, (PAGE, 1))
    rest = {"fd_read": (128,), "fd_write": (128,), "sock_recv": (0, 128, 136), "sock_send": (0, 128)}
    with lab.writes_only():
        assert lab.fails(name, fd, array, count, *rest.get(name, (0, 128))) == errno


# ---- flags


def test_a_read_that_would_wait_is_again_where_the_guest_asked_for_it(net: Net) -> None:
    fd, typed = net.stdin()
    net.lab.ok("fd_fdstat_set_flags", fd, NONBLOCK)
    with pytest.raises(OSError, match=r"^again$"):
        net.lab.read(fd)
    os.write(typed, b"x")
    assert net.lab.read(fd) == b"x"
    assert os.get_blocking(typed), "whoever shares the pipe must not notice"


def test_a_write_that_would_wait_is_partial_and_then_again(net: Net) -> None:
    fd, printed = net.stdout(NONBLOCK)
    total = len(write_full(net.lab, fd, 10_000))
    assert total >= 4096
    assert len(os.read(printed, 1 << 20)) == total


def test_a_blocking_read_waits(net: Net) -> None:
    fd, typed = net.stdin()
    with meanwhile(lambda: os.write(typed, b"late"), after=0.05):
        os.set_blocking(net._pipes[0], False)  # else the read keeps the interpreter, as it may in a Keep
        assert net.lab.read(fd) == b"late"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_flags_are_told_as_they_were_set(net: Net, kind: str) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    assert fdstat(lab, fd)[1] == 0
    lab.ok("fd_fdstat_set_flags", fd, NONBLOCK)
    assert fdstat(lab, fd)[1] == NONBLOCK
    lab.ok("fd_fdstat_set_flags", fd, 0)
    assert fdstat(lab, fd)[1] == 0


@pytest.mark.parametrize("flags", [32, 0x10000, 2**31])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_refuses_flags_that_do_not_exist(net: Net, kind: str, flags: int) -> None:
    assert net.lab.fails("fd_fdstat_set_flags", open_kind(net, kind), flags) == "inval"


@pytest.mark.parametrize("flags", [1, 2, 8, 16, 5])
@pytest.mark.parametrize("kind", ["tcp", "tcp listener", "tls", "tls listener"])
def test_a_socket_has_no_flag_but_nonblock(net: Net, kind: str, flags: int) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    assert lab.fails("fd_fdstat_set_flags", fd, flags) == "inval"
    assert fdstat(lab, fd)[1] == 0


# ---- what a descriptor is

FILETYPES = {"stdin": 0, "stdout": 0, "null": 0, "tcp": 6, "tcp listener": 6, "tls": 6, "tls listener": 6}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_tells_the_type_of_a_descriptor(net: Net, kind: str) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    assert fdstat(lab, fd)[0] == FILETYPES[kind]
    with lab.writes_only((FREE, 64)):
        lab.ok("fd_filestat_get", fd, FREE)
    assert lab.get(FREE + 16, 1)[0] == FILETYPES[kind]


def test_a_terminal_cannot_seek_for_that_is_how_libc_knows_one() -> None:
    lab = Lab()
    master, slave = os.openpty()
    try:
        fd = lab.add(Stdio(slave, True, lab.guest.reactor))
        filetype, _, has, _ = fdstat(lab, fd)
        assert filetype == 2
        assert not has & rights("fd_seek", "fd_tell")
    finally:
        os.close(master)
        os.close(slave)
        lab.close()


def test_standard_output_in_a_file_has_a_position(lab: Lab, tmp_path: object) -> None:
    with open(f"{tmp_path}/out", "w+b", buffering=0) as file:
        fd = lab.add(Stdio(file.fileno(), True, lab.guest.reactor), NONBLOCK)
        assert lab.write(fd, b"hello") == 5
        lab.ok("fd_tell", fd, FREE)
        assert lab.u64(FREE) == 5
        lab.ok("fd_seek", fd, -4 & (1 << 64) - 1, 2, FREE)
        assert lab.u64(FREE) == 1
        assert lab.write(fd, b"E") == 1
        lab.put_buffers(FREE, (PAGE, 1))
        lab.ok("fd_pwrite", fd, FREE, 1, 4, 128)
        lab.ok("fd_sync", fd)
        lab.ok("fd_datasync", fd)
        lab.ok("fd_advise", fd, 0, 0, 0)
        assert lab.fails("fd_seek", fd, -1 & (1 << 64) - 1, 0, FREE) == "inval"
        assert file.seek(0) == 0
        assert file.read() == b"hEllE"


STREAMS_REFUSE = {
    "fd_seek": (0, 0, FREE),
    "fd_tell": (FREE,),
    "fd_advise": (0, 0, 0),
    "fd_allocate": (0, 1),
}


@pytest.mark.parametrize("name", STREAMS_REFUSE)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_needs_a_position_is_spipe_on_a_stream(net: Net, kind: str, name: str) -> None:
    fd = open_kind(net, kind)
    with net.lab.writes_only():
        assert net.lab.fails(name, fd, *STREAMS_REFUSE[name]) == "spipe"


@pytest.mark.parametrize("kind", ["stdin", "null", "tcp", "tls", "tcp listener"])
def test_reading_at_a_place_is_spipe_on_a_stream_for_zig_asks(net: Net, kind: str) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    lab.put_buffers(FREE, (PAGE, 10))
    with lab.writes_only():
        assert lab.fails("fd_pread", fd, FREE, 1, 0, 128) == "spipe"


@pytest.mark.parametrize("kind", ["stdout", "null", "tcp", "tls"])
def test_writing_at_a_place_is_spipe_on_a_stream(net: Net, kind: str) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    lab.put_buffers(FREE, (PAGE, 10))
    assert lab.fails("fd_pwrite", fd, FREE, 1, 0, 128) == "spipe"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("fd_filestat_set_size", (0,)),
        ("fd_filestat_set_times", (0, 0, 0)),
        ("fd_readdir", (PAGE, 100, 0, 128)),
        ("path_create_directory", (PAGE, 1)),
        ("path_open", (0, PAGE, 1, 0, 0, 0, 0, 128)),
    ],
)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_only_files_and_directories_can_is_refused(net: Net, kind: str, name: str, args: tuple[int, ...]) -> None:
    net.lab.put(PAGE, b"x")
    fd = open_kind(net, kind)
    assert net.lab.fails(name, fd, *args) in ("notcapable", "notdir")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_only_a_directory_has_a_name_for_the_guest(net: Net, kind: str) -> None:
    fd = open_kind(net, kind)
    with net.lab.writes_only():
        assert net.lab.fails("fd_prestat_get", fd, FREE) == "badf"
        assert net.lab.fails("fd_prestat_dir_name", fd, PAGE, 100) == "badf"


def test_null_is_empty_and_takes_everything(lab: Lab) -> None:
    fd = lab.add(Null())
    with lab.writes_only((512, 8), (600, 4)):
        assert lab.read(fd) == b""
    assert lab.write(fd, b"x" * 5000) == 5000


def test_input_cannot_be_written_and_output_not_read(net: Net) -> None:
    with pytest.raises(OSError, match=r"^notcapable$"):
        net.lab.write(net.stdin()[0], b"x")
    with pytest.raises(OSError, match=r"^notcapable$"):
        net.lab.read(net.stdout()[0])


def test_output_that_nobody_reads_any_more_is_pipe(net: Net) -> None:
    fd, printed = net.stdout()
    net.hang_up(printed)
    with pytest.raises(OSError, match=r"^pipe$"):
        net.lab.write(fd, b"x")


def test_a_pipe_cannot_be_synchronised(net: Net) -> None:
    assert net.lab.fails("fd_sync", net.stdout()[0]) == "inval"
    assert net.lab.fails("fd_sync", net.stdin()[0]) == "notcapable"


# ---- rights


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_rights_can_be_given_up_and_not_gained(net: Net, kind: str) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    _, _, base, inheriting = fdstat(lab, fd)
    missing = ~base & (1 << 30) - 1
    assert lab.fails("fd_fdstat_set_rights", fd, base | missing & -missing, inheriting) == "notcapable"
    assert lab.fails("fd_fdstat_set_rights", fd, base | 1 << 63, inheriting) == "notcapable"
    assert lab.fails("fd_fdstat_set_rights", fd, base, inheriting | 1 << 30) == "notcapable"
    assert fdstat(lab, fd)[2:] == (base, inheriting)
    lab.ok("fd_fdstat_set_rights", fd, 0, 0)
    assert fdstat(lab, fd)[2:] == (0, 0)
    assert lab.fails("fd_fdstat_set_rights", fd, base & -base, 0) == "notcapable"


@pytest.mark.parametrize(
    ("right", "name", "args"),
    [
        ("fd_read", "fd_read", (FREE, 0, 128)),
        ("fd_read", "fd_pread", (FREE, 0, 0, 128)),
        ("fd_read", "sock_recv", (FREE, 0, 0, 128, 136)),
        ("fd_write", "fd_write", (FREE, 0, 128)),
        ("fd_write", "fd_pwrite", (FREE, 0, 0, 128)),
        ("fd_write", "sock_send", (FREE, 0, 0, 128)),
        ("fd_fdstat_set_flags", "fd_fdstat_set_flags", (0,)),
        ("fd_filestat_get", "fd_filestat_get", (FREE,)),
        ("sock_shutdown", "sock_shutdown", (3,)),
    ],
)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_right_that_was_given_up_is_missed(net: Net, kind: str, right: str, name: str, args: tuple[int, ...]) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    base = fdstat(lab, fd)[2]
    assert base & RIGHTS[right]
    lab.ok("fd_fdstat_set_rights", fd, base & ~RIGHTS[right], 0)
    with lab.writes_only():
        assert lab.fails(name, fd, *args) == "notcapable"


@pytest.mark.parametrize("kind", ["tcp listener", "tls listener"])
def test_a_listener_can_lose_its_right_to_accept(net: Net, kind: str) -> None:
    lab, fd = net.lab, open_kind(net, kind)
    lab.ok("fd_fdstat_set_rights", fd, fdstat(lab, fd)[2] & ~RIGHTS["sock_accept"], 0)
    assert lab.fails("sock_accept", fd, NONBLOCK, FREE) == "notcapable"


# ---- the table


def test_new_descriptors_get_the_lowest_free_number(lab: Lab) -> None:
    assert [lab.add(Null()) for _ in range(4)] == [0, 1, 2, 3]
    lab.ok("fd_close", 2)
    lab.ok("fd_close", 1)
    assert [lab.add(Null()) for _ in range(3)] == [1, 2, 4]


def test_a_closed_number_is_closed(lab: Lab) -> None:
    fd = lab.add(Null())
    lab.ok("fd_close", fd)
    assert lab.fails("fd_close", fd) == "badf"


@pytest.mark.parametrize("fd", [63, 64, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_number_that_was_never_open_is_badf(lab: Lab, fd: int) -> None:
    lab.add(Null())
    assert lab.fails("fd_close", fd) == "badf"
    assert lab.fails("fd_renumber", fd, 0) == "badf"
    assert lab.fails("fd_renumber", 0, fd) == "badf"


def test_renumbering_moves_and_closes_what_was_there(net: Net) -> None:
    lab = net.lab
    first, peer = net.tcp()
    second, other = net.tcp()
    lab.ok("fd_renumber", first, second)
    assert other.recv(1) == b""
    assert lab.fails("fd_close", first) == "badf"
    lab.write(second, b"moved")
    assert peer.recv(10) == b"moved"


def test_renumbering_to_itself_changes_nothing(net: Net) -> None:
    fd, peer = net.tcp()
    net.lab.ok("fd_renumber", fd, fd)
    net.lab.write(fd, b"still here")
    assert peer.recv(20) == b"still here"


def test_a_renumbered_descriptor_makes_its_old_number_free(net: Net) -> None:
    a, b = net.lab.add(Null()), net.lab.add(Null())
    net.lab.ok("fd_renumber", a, b)
    assert net.lab.add(Null()) == a


def test_closing_standard_output_leaves_the_hosts_open(net: Net) -> None:
    # Otherwise the next file that the Keep opens would get the number, and what a library prints would go there.
    fd, _ = net.stdout()
    net.lab.ok("fd_close", fd)
    assert os.fstat(net._pipes[1])


def test_a_guest_that_is_over_closes_everything_whatever_happens(net: Net) -> None:
    _, peer = net.tcp()
    fd, broken = net.tcp()
    reset(broken)
    _, last = net.tcp()
    assert fd in net.lab.guest.fds
    net.lab.guest.close()
    assert (peer.recv(1), last.recv(1)) == (b"", b"")
    assert not net.lab.guest.fds
