"""The protocol of /dev/fuse without a kernel: what a mount does not show. All else is in test_mount."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from donjon import sim
from donjon.sim.fuse import InHead, Op, Server
from donjon.sim.kernel import ConfigFs
from donjon.wire import pack


@pytest.fixture
def server(lab: sim.Lab) -> Server:
    return Server(ConfigFs(lab.guest("snp")))


def asked(op: int, node: int = 1, body: bytes = b"") -> bytes:
    return pack(InHead(length=40 + len(body), op=op, unique=7, node=node, uid=0, gid=0, pid=0, padding=0)) + body


def ask(server: Server, op: int, node: int = 1, body: bytes = b"") -> tuple[int, bytes]:
    """The errno and what came."""
    said = server.answer(asked(op, node, body))
    assert said is not None
    length, error, unique = struct.unpack_from("<IiQ", said)
    assert (length, unique) == (len(said), 7)
    return -error, said[16:]


def make(server: Server, name: bytes = b"a") -> int:
    """An entry; the number of its node."""
    error, said = ask(server, Op.MKDIR, body=bytes(8) + name + b"\0")
    assert error == 0
    return int.from_bytes(said[:8], "little")


def test_it_says_what_it_speaks(server: Server) -> None:
    error, said = ask(server, Op.INIT, body=struct.pack("<IIII", 7, 38, 131072, 0xFFFF))
    assert error == 0
    assert struct.unpack_from("<II", said) == (7, 31)
    assert len(said) == 64


@pytest.mark.parametrize("op", [0, 5, 12, 21, 39, 99])
def test_what_it_does_not_do_it_says(server: Server, op: int) -> None:
    assert ask(server, op) == (errno.ENOSYS, b"")


def test_a_node_that_nobody_was_told_of_is_not_there(server: Server) -> None:
    assert ask(server, Op.GETATTR, 99)[0] == errno.ENOENT
    assert ask(server, Op.OPEN, 99, bytes(8))[0] == errno.ENOENT


@pytest.mark.parametrize("op", [Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT])
def test_some_requests_have_no_answer(server: Server, op: Op) -> None:
    assert server.answer(asked(op, 99, bytes(16))) is None


def test_a_new_entry_of_an_old_name_is_another_node(server: Server) -> None:
    first = make(server)
    assert ask(server, Op.LOOKUP, first, b"inblob\0")[0] == 0
    assert ask(server, Op.RMDIR, body=b"a\0") == (0, b"")
    second = make(server)
    assert second != first
    assert ask(server, Op.GETATTR, first)[0] == errno.ENOENT
    assert ask(server, Op.GETATTR, second)[0] == 0


def test_what_the_kernel_forgets_is_forgotten(server: Server) -> None:
    node = make(server)
    assert ask(server, Op.LOOKUP, body=b"a\0")[0] == 0
    server.answer(asked(Op.FORGET, node, struct.pack("<Q", 1)))
    assert ask(server, Op.GETATTR, node)[0] == 0  # it was told twice
    server.answer(asked(Op.BATCH_FORGET, 0, struct.pack("<IIQQQQ", 2, 0, node, 1, 1, 5)))
    assert ask(server, Op.GETATTR, node)[0] == errno.ENOENT
    assert ask(server, Op.GETATTR, 1)[0] == 0  # the root stays
    assert len(server._paths) == len(server._nodes) == len(server._known) == 1
    again = int.from_bytes(ask(server, Op.LOOKUP, body=b"a\0")[1][:8], "little")
    assert again not in (0, node)


def test_a_directory_is_listed_in_pieces(server: Server) -> None:
    for number in range(20):
        make(server, b"entry-%d" % number)
    handle = int.from_bytes(ask(server, Op.OPENDIR, body=bytes(8))[1][:8], "little")
    found, offset = [], 0
    while said := ask(server, Op.READDIR, body=struct.pack("<QQIIQII", handle, offset, 100, 0, 0, 0, 0))[1]:
        assert len(said) <= 100
        while said:
            _, offset, length, kind = struct.unpack_from("<QQII", said)
            found.append(said[24 : 24 + length])
            assert kind == 4
            said = said[24 + length + -(24 + length) % 8 :]
    assert found == [b"entry-%d" % number for number in range(20)]
    assert ask(server, Op.RELEASEDIR, body=struct.pack("<QIIQ", handle, 0, 0, 0)) == (0, b"")
    assert server._listed == {}


def test_files_are_read_past_the_cache(server: Server) -> None:
    entry = make(server)
    node = int.from_bytes(ask(server, Op.LOOKUP, entry, b"provider\0")[1][:8], "little")
    error, said = ask(server, Op.OPEN, node, struct.pack("<II", os.O_RDONLY, 0))
    handle, flags = struct.unpack_from("<QI", said)
    assert (error, flags) == (0, 1)
    read = struct.pack("<QQIIQII", handle, 0, 100, 0, 0, 0, 0)
    assert ask(server, Op.READ, node, read) == (0, b"sev_guest\n")
    assert ask(server, Op.RELEASE, node, struct.pack("<QIIQ", handle, 0, 0, 0)) == (0, b"")


def test_there_is_no_room_for_other_things(server: Server) -> None:
    assert ask(server, Op.CREATE, body=bytes(16) + b"x\0")[0] == errno.EACCES
    assert ask(server, Op.MKNOD, body=bytes(16) + b"x\0")[0] == errno.EACCES
    assert ask(server, Op.UNLINK, body=b"x\0")[0] == errno.EPERM
    assert ask(server, Op.STATFS)[0] == 0
    assert ask(server, Op.DESTROY) == (0, b"")
