"""The calls of `test_calls.py`, in a process that may crash. Usage: python -m tests.fuzz.calls FAMILY FOLDER TIMES

The world of a guest: standard streams over pipes, null, TCP and TLS listeners and connections, and, below FOLDER, a
directory with a file in it. What waits has a reactor that never waits: where a guest would have to, it ends.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import resource
import select
import socket
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from donjon.identity import self_signed
from donjon.tls import client_context, server_context
from donjon.tls.listener import TlsListener
from donjon.tls.pipe import TlsPipe
from donjon.tls.streams import TlsStream
from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.descriptors.directory import preopen
from donjon.wasm.wasi.descriptors.file import File
from donjon.wasm.wasi.descriptors.socket import Budget, TcpListener, TcpStream
from donjon.wasm.wasi.descriptors.stdio import Null, Stdio
from donjon.wasm.wasi.p1 import poll
from donjon.wasm.wasi.p1.guest import Exit
from donjon.wasm.wasi.p1.rights import FILE
from donjon.wasm.wasi.reactor import Reactor
from tests.wasm.wasi.lab import FREE, RESULT, SIZE, SLOTS, Lab, changed, inside, offered
from tests.wasm.wasi.witx import BUFFERS, DESCRIPTORS, FILLED_ARRAYS, PATHS, READ_ARRAYS, RESULTS, SIGNATURES

EXAMPLES = 25  # of each function; of sequences, half as many
NONBLOCK = 4
Span = tuple[int, int]


class WouldWaitError(BaseException):
    """The guest would have to wait. Not an Exception, like Exit."""


class Hasty(Reactor):
    """A reactor that looks, and does not wait."""

    __slots__ = ("patience",)

    def __init__(self) -> None:
        super().__init__()
        self.patience = 0

    def poll(self, poller: select.poll, seconds: float | None) -> list[tuple[int, int]]:
        ready = super().poll(poller, 0.0)
        if not ready and (seconds is None or seconds > 0):
            self.lose_patience()
        return ready

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.lose_patience()

    def lose_patience(self) -> None:
        self.patience -= 1
        if self.patience < 0:
            raise WouldWaitError


class HastyPoll:
    """What `select.poll()` makes, for those who ask the kernel without the reactor."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.unregister = self._poll.register, self._poll.unregister

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        ready = self._poll.poll(0)
        if not ready and (timeout is None or timeout > 0):
            raise WouldWaitError
        return ready


class World:
    """A lab with one of everything in its table of descriptors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = self_signed(["localhost"])
        self.server = server_context(self.identity)
        roots = folder / "roots.pem"
        roots.write_bytes(self.identity.chain_pem())
        self.client = client_context(None, str(roots))
        self.reactor = Hasty()
        self.lab = Lab(("main.wasm", "a", ""), ("A=1", "LONG=" + "x" * 100), limit=20, reactor=self.reactor)
        self.ends: list[socket.socket] = []
        self.ours: list[socket.socket] = []
        self.senders: list[Callable[[], None]] = []
        self.pipes: list[int] = []
        self.table: dict[int, tuple[Descriptor, int, int]] = {}
        self.open()

    def open(self) -> None:
        self.close()
        self.reactor.patience = 0
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        self.pipes = [stdin, to_stdin, from_stdout, stdout]
        for pipe in self.pipes:
            os.set_blocking(pipe, False)
        reactor, budget = self.reactor, Budget(64)
        for descriptor in (
            Stdio(stdin, False, reactor),
            Stdio(stdout, True, reactor),
            Null(),
            *self.directories(),
            *self.tcp(budget),
            *self.tls(budget),
        ):
            self.lab.guest.add(descriptor)
            descriptor.flags = NONBLOCK
        self.table = self.state()
        self.refill()

    def directories(self) -> list[Descriptor]:
        inner = self.folder / "inside"
        inner.mkdir(exist_ok=True)
        (inner / "file").write_bytes(b"content")
        (inner / "folder").mkdir(exist_ok=True)
        (inner / "link").unlink(missing_ok=True)
        (inner / "link").symlink_to("../outside")
        directory = preopen(str(inner), "/", writable=True)
        file = File(os.open(inner / "file", os.O_RDWR), FILE, 0)
        return [directory, preopen(str(inner), "/ro", writable=False), file]

    def tcp(self, budget: Budget) -> list[Descriptor]:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        streams = []
        for _ in range(2):
            ours = socket.create_connection(address)
            theirs, _ = listener.accept()
            self.ends.append(theirs)
            self.ours.append(ours)
            self.senders.append(functools.partial(theirs.sendall, b"hello"))
            budget.take()
            streams.append(TcpStream(ours, self.reactor, budget))
        self.ends.append(socket.create_connection(address))  # to be accepted
        return [TcpListener(listener, self.reactor, budget), *streams]

    def tls(self, budget: Budget) -> list[Descriptor]:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        theirs = socket.create_connection(address)
        ours, _ = listener.accept()
        ours.setblocking(False)
        server = TlsPipe(self.server, server_side=True)
        client = TlsPipe(self.client, server_side=False, server_hostname="localhost")
        while not (server.handshaken and client.handshaken):
            client.handshake()
            server.feed(client.take())
            server.handshake()
            client.feed(server.take())
        self.ours.append(ours)
        self.senders.append(lambda: theirs.sendall(client.seal(b"hello over TLS")))
        self.ends += [theirs, socket.create_connection(address)]
        self.ends[-1].sendall(b"GET / HTTP/1.0\r\n\r\n")
        budget.take()
        return [
            TlsListener(listener, self.server, self.reactor, budget),
            TlsStream(ours, server, self.reactor, budget),
        ]

    def state(self) -> dict[int, tuple[Descriptor, int, int]]:
        return {number: (each, each.rights, each.flags) for number, each in self.lab.guest.fds.items()}

    def restore(self) -> None:
        """Make everything as it was, if a call changed the table."""
        self.reactor.patience = 0
        if self.state() != self.table:
            self.open()
        self.refill()

    def refill(self) -> None:
        """Give the guest something to read, and room to write, wherever it used them up."""
        stdin, to_stdin, from_stdout, _ = self.pipes
        poller = select.poll()
        for host in (stdin, from_stdout, *(end.fileno() for end in self.ends), *(each.fileno() for each in self.ours)):
            poller.register(host, select.POLLIN)
        readable = {host for host, _ in poller.poll(0)}
        if stdin not in readable:
            os.write(to_stdin, b"typed")
        if from_stdout in readable:
            os.read(from_stdout, 1 << 20)
        for end in self.ends:
            if end.fileno() in readable:
                end.recv(1 << 20)
        for ours, send in zip(self.ours, self.senders, strict=True):
            if ours.fileno() not in readable:
                send()

    def close(self) -> None:
        self.lab.guest.close()
        for host in list(self.reactor.tasks):
            self.reactor.remove(host)
        for end in self.ends:
            end.close()
        for pipe in self.pipes:
            os.close(pipe)
        self.ends, self.pipes, self.ours, self.senders = [], [], [], []


# ---- what is put into memory and into arguments

EDGES = [0, 1, 2, 3, 4, 7, 8, 64, FREE, 1024, 4096, 65535, 65536, SIZE - 65, SIZE - 64, SIZE - 48, SIZE - 24, SIZE - 8]
EDGES += [SIZE - 4, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 2**31 - 1, 2**31, 2**32 - 48, 2**32 - 8, 2**32 - 4, 2**32 - 1]
WIDE_EDGES = [0, 1, 2, 7, 10**6, 10**9, SIZE, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]

word = st.one_of(st.sampled_from(EDGES), st.integers(0, SIZE), st.integers(0, 2**32 - 1))
wide = st.one_of(st.sampled_from(WIDE_EDGES), st.integers(0, 2**64 - 1))
# Places where the scene below puts what calls look for, some not aligned.
ARRAY, SUBSCRIPTIONS, STRINGS = 2048, 8192, 16384
place = st.sampled_from([ARRAY, ARRAY + 8, ARRAY + 1, SUBSCRIPTIONS, SUBSCRIPTIONS + 48, STRINGS, STRINGS + 300])
aligned = st.integers(FREE // 8, SIZE // 8 - 8).map(lambda at: 8 * at)
pointer = st.one_of(aligned, aligned, aligned, aligned, aligned, st.sampled_from(EDGES), word, place)
length = st.one_of(st.integers(0, 64), st.sampled_from([300, 1025, SIZE, 65537, 2**31, 2**32 - 1]), word)
ANY = st.integers(0, 11)
descriptor = st.one_of(ANY, ANY, ANY, ANY, ANY, st.integers(0, 21), word)
LIKELY = {"path": [3, 3, 3, 4], "sock": [6, 7, 8, 9, 10]}  # descriptors, by family
small = st.one_of(st.integers(0, 1), st.integers(0, 4), st.integers(0, 40), st.sampled_from([2**31, 2**32 - 1]))

TEXTS = [
    b"file",
    b"folder",
    b"link",
    b"link/secret",
    b".",
    b"..",
    b"../outside/secret",
    b"/",
    b"/etc/passwd",
    b"",
    b"new",
]
TEXTS += [
    b"folder/../file",
    b"folder/../../outside",
    b"a\0b",
    b"\xff\xfe",
    b"x" * 255,
    b"x" * 256,
    b"a/" * 200,
    b"file/",
]

buffer = st.tuples(pointer, st.one_of(st.integers(0, 64), st.integers(0, 64), length))
kind = st.integers(0, 2)
subscription = st.tuples(
    wide,
    st.one_of(kind, kind, kind, kind, st.integers(0, 255)),
    descriptor,
    wide,
    st.one_of(st.integers(0, 2), st.just(65535)),
)


@st.composite
def scenes(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """What lies in memory: (address, bytes)."""
    array = b"".join(struct.pack("<II", *each) for each in draw(st.lists(buffer, max_size=4)))
    subs = b"".join(
        struct.pack("<QB7xI4xQQH6x", user, tag, fd, timeout, 0, flags)
        for user, tag, fd, timeout, flags in draw(st.lists(subscription, min_size=1, max_size=4))
    )
    strings = [draw(st.sampled_from(TEXTS)) for _ in range(2)]
    return [(ARRAY, array), (SUBSCRIPTIONS, subs), (STRINGS, strings[0]), (STRINGS + 300, strings[1])]


def arguments(name: str, scene: list[tuple[int, bytes]]) -> st.SearchStrategy[tuple[int, ...]]:
    """Arguments of a function, mostly near to what it can use."""
    params = SIGNATURES[name][0]
    number = st.one_of(small, small, small, word)
    chosen: list[st.SearchStrategy[int]] = [wide if letter == "I" else number for letter in params]
    likely = LIKELY.get(name.partition("_")[0])
    for index in DESCRIPTORS.get(name, ()):
        chosen[index] = (
            st.one_of(st.sampled_from(likely), st.sampled_from(likely), descriptor) if likely else descriptor
        )
    for index, _ in RESULTS.get(name, ()):
        chosen[index] = pointer
    for index, count in ((index, index + 1) for index in arrays(name)):
        chosen[index] = st.one_of(st.just(ARRAY), st.sampled_from([ARRAY, ARRAY + 8]), pointer)
        chosen[count] = st.one_of(st.just(1), st.integers(0, 4), st.integers(0, 4), length)
    if name in BUFFERS:
        at, size = BUFFERS[name]
        chosen[at], chosen[size] = pointer, length
    for which, (at, size) in enumerate(PATHS.get(name, ())):
        start, text = scene[2 + which]
        right, size_right = st.just(start), st.just(len(text))
        chosen[at] = st.one_of(right, right, right, right, pointer)
        chosen[size] = st.one_of(size_right, size_right, size_right, size_right, length)
    if name == "poll_oneoff":
        chosen[0] = st.one_of(st.just(SUBSCRIPTIONS), st.just(SUBSCRIPTIONS), pointer)
        there = st.integers(1, len(scene[1][1]) // 48)
        chosen[1], chosen[2] = pointer, st.one_of(there, there, st.integers(0, 5), length)
    if name in ("args_get", "environ_get"):
        chosen[0] = chosen[1] = pointer
    return st.tuples(*chosen)


def arrays(name: str) -> list[int]:
    return [table[name] for table in (FILLED_ARRAYS, READ_ARRAYS) if name in table]


# ---- what a call may change


def spans(name: str, args: tuple[int, ...], before: bytes, errno: int, lab: Lab) -> list[Span]:
    """The bytes that this call may have changed."""
    found: list[Span] = []
    if name in FILLED_ARRAYS:
        at, count = args[FILLED_ARRAYS[name]], args[FILLED_ARRAYS[name] + 1]
        if at + 8 <= SIZE:
            found += [struct.unpack_from("<II", before, at + 8 * i) for i in range(min(count, (SIZE - at) // 8))]
    if name in BUFFERS:
        at, size = BUFFERS[name]
        found.append((args[at], args[size]))
    if errno:
        return found
    found += [(args[index], size) for index, size in RESULTS.get(name, ())]
    if name == "poll_oneoff":
        found.append((args[1], 32 * args[2]))
    for family, strings in (("args_get", lab.guest.args), ("environ_get", lab.guest.env)):
        if name == family:
            found += [(args[0], 4 * len(strings)), (args[1], sum(map(len, strings)))]
    return found


def check(world: World, name: str, scene: list[tuple[int, bytes]], args: tuple[int, ...], wasm: bool) -> int:
    """Make one call, and look at what it did; its errno."""
    lab = world.lab
    lab.fill()
    for at, data in scene:
        lab.put(at, data)
    if wasm:
        # The caller's own bytes are part of memory too; a call over them is as good as any other.
        for index, (letter, value) in enumerate(zip(SIGNATURES[name][0], args, strict=True)):
            lab.put(SLOTS + 16 * index, (value & (2**32 - 1 if letter == "i" else 2**64 - 1)).to_bytes(16, "little"))
        lab.put(RESULT, bytes(4))
    before = bytes(lab.memory)
    errno = 0
    try:
        errno = lab.through_wasm(name, *args) if wasm else lab.call(name, *args)
        assert 0 <= errno <= 76 or (wasm and inside(RESULT, tuple(spans(name, args, before, 0, lab))))
    except (Exit, WouldWaitError):
        if name == "proc_exit":
            errno = 1
    may = spans(name, args, before, errno, lab)
    if wasm:
        may += [(SLOTS, FREE)]
    bad = [at for at in changed(before, bytes(lab.memory)) if not inside(at, tuple(may))]
    assert not bad, f"{name}{args}: bytes changed at {[hex(at) for at in bad[:8]]}, errno {errno}"
    assert (world.folder / "outside" / "secret").read_bytes() == b"secret"
    return errno


def calls(world: World, name: str) -> Callable[[], None]:
    """One function, in a world where nothing has happened yet."""

    @given(st.data())
    def run(data: st.DataObject) -> None:
        world.restore()
        scene = data.draw(scenes(), label="memory")
        args = data.draw(arguments(name, scene), label=name)
        check(world, name, scene, args, data.draw(st.booleans(), label="through wasm"))

    return run


def sequences(world: World, names: list[str]) -> Callable[[], None]:
    """Several calls, each in the world that those before it have left."""

    @given(st.data())
    def run(data: st.DataObject) -> None:
        world.restore()
        for _ in range(data.draw(st.integers(2, 12))):
            scene = data.draw(scenes(), label="memory")
            name = data.draw(st.sampled_from(names))
            args = data.draw(arguments(name, scene), label=name)
            world.reactor.patience = 0
            check(world, name, scene, args, data.draw(st.booleans(), label="through wasm"))

    return run


BAD_SPANS = [
    (SIZE, 1),
    (SIZE - 1, 2),
    (FREE, SIZE),
    (0, 2**32 - 1),
    (2**32 - 1, 1),
    (2**32 - 8, 2**32 - 1),
    (2**31, 64),
]


def pointers(world: World) -> None:
    """Every buffer or array that reaches outside, on every descriptor: a fault, or refused for something else."""
    good = struct.pack("<II", STRINGS, 8)
    for name in [*FILLED_ARRAYS, *READ_ARRAYS, *BUFFERS, *PATHS]:
        for fd in world.table:
            for bad in BAD_SPANS:
                args = [FREE] * len(SIGNATURES[name][0])
                for index in DESCRIPTORS.get(name, ()):
                    args[index] = fd
                scene: list[tuple[int, bytes]] = []
                for index in arrays(name):
                    args[index], args[index + 1] = ARRAY, 1
                    scene = [(ARRAY, struct.pack("<II", *bad) + good)]
                    if name.startswith(("sock_", "fd_p")):
                        args[index + 2] = 0
                for at, size in (*((BUFFERS[name],) if name in BUFFERS else ()), *PATHS.get(name, ())):
                    args[at], args[size] = bad
                world.restore()
                errno = check(world, name, scene, tuple(args), wasm=False)
                assert errno, f"{name}{args} with {bad}: expected an error, got success"
                if arrays(name):
                    args[arrays(name)[0] + 1] = 2
                    scene = [(ARRAY, good + struct.pack("<II", *bad))]
                    world.restore()
                    errno = check(world, name, scene, tuple(args), wasm=False)
                    assert errno, f"{name}{args} with {bad} second: expected an error, got success"


def main(family: str, folder: str, times: int) -> None:
    faulthandler.enable()
    vars(poll)["select"] = types.SimpleNamespace(poll=HastyPoll)
    faulthandler.dump_traceback_later(90 * max(1, times), exit=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # a guest may ask for a file of any size
    top = Path(folder)
    (top / "outside").mkdir()
    (top / "outside" / "secret").write_bytes(b"secret")
    world = World(top)
    examples = EXAMPLES * max(1, times)
    how = settings(
        max_examples=examples,
        derandomize=not times,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    names = [name for name in sorted(offered()) if name.partition("_")[0] == family or family == "sequences"]
    if family == "pointers":
        pointers(world)
    if family == "sequences":
        settings(how, max_examples=examples // 2)(sequences(world, names))()
    for name in names if family not in ("sequences", "pointers") else ():
        print(name, flush=True)  # noqa: T201 - the last one is where a crash was
        how(calls(world, name))()
    world.close()
    print("done", flush=True)  # noqa: T201 - without it, something ended the process


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
