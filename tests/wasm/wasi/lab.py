"""A guest without a program: a real linear memory, and every function of preview 1 at hand.

Memory belongs to an instance of a module that imports all functions and exports one caller for each, which takes the
arguments from the first bytes of memory; so a call can go through wasm, the engine and ctypes (`through_wasm`), or
straight to the trampoline (`call`), as the engine would call it. Behind memory's end lies the engine's guard: who
touches it dies of SIGSEGV. Inside, everything is filled with a pattern, and `writes_only` says when a call changed
other bytes than it may.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
from collections.abc import Iterator

from donjon.errors import DonjonError
from donjon.wasm.engine import HostFunction, Instance, load
from donjon.wasm.engine._capi import api
from donjon.wasm.engine.module import Module
from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.p1 import FAMILIES, MODULE, bind, lookup
from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.trampoline import Function
from donjon.wasm.wasi.reactor import Reactor
from tests.wasm.wasi.witx import ERRNO, SIGNATURES

PAGE = 65536
PAGES = 2
SIZE = PAGES * PAGE
SLOTS, RESULT = 0, 160  # where callers find their arguments (16 bytes each, at most 9) and leave the result
FREE = 256  # from here on memory is the test's
PATTERN = bytes((7 * at + 3) & 0xFF for at in range(PAGE))

TYPES = {"i": "i32", "I": "i64"}


def offered() -> frozenset[str]:
    """The functions that exist; a family that cannot be imported yet has none."""
    return frozenset(name for name in SIGNATURES if find(name) is not None)


def find(name: str) -> Function | None:
    try:
        return lookup(name)
    except ModuleNotFoundError:
        return None


@functools.cache
def module() -> Module:
    """The module with a caller for each function."""
    imports, callers = [], []
    for name, (params, results) in SIGNATURES.items():
        if find(name) is None:
            continue
        takes = f"(param {' '.join(TYPES[letter] for letter in params)})" if params else ""
        gives = "(result i32)" if results else ""
        imports.append(f'(import "{MODULE}" "{name}" (func ${name} {takes} {gives}))')
        loads = " ".join(
            f"({TYPES[letter]}.load (i32.const {SLOTS + 16 * index}))" for index, letter in enumerate(params)
        )
        body = f"(call ${name} {loads})"
        if results:
            body = f"(i32.store (i32.const {RESULT}) {body})"
        callers.append(f'(func ${name}_caller (export "{name}") {body})')
    grow = f'(func (export "grow") (i32.store (i32.const {RESULT}) (memory.grow (i32.const 1))))'
    text = f'(module {" ".join(imports)} (memory (export "memory") {PAGES}) {grow} {" ".join(callers)})'
    return load(text.encode())


class Lab:
    """See the module."""

    def __init__(
        self,
        args: tuple[str, ...] = (),
        env: tuple[str, ...] = (),
        limit: int = 64,
        reactor: Reactor | None = None,
    ) -> None:
        for family in FAMILIES:
            with contextlib.suppress(ModuleNotFoundError):
                __import__(f"donjon.wasm.wasi.p1.{family}")
        self.guest = Guest(args, env, limit, reactor)
        self.trampolines = {name: bind(function, self.guest) for name in SIGNATURES if (function := find(name))}
        self.instance = Instance(module(), lambda _, name: self._host_function(name))
        self._values = (ctypes.c_uint32 * 40)()
        self.through_wasm("args_sizes_get", 0, 0)  # the first call finds the memory
        self.guest.pending = None
        self.memory = self.guest.memory.u8[:SIZE]
        self.fill()

    def _host_function(self, name: str) -> HostFunction:
        function = find(name)
        assert function is not None
        return HostFunction(function.params, function.results, self.trampolines[name])

    def close(self) -> None:
        self.guest.close()
        self.guest.views.clear()
        self.instance.close()

    def fill(self) -> None:
        """Put the pattern everywhere."""
        for start in range(0, SIZE, PAGE):
            self.memory[start : start + PAGE] = PATTERN

    # ---- calls

    def call(self, name: str, *args: int) -> int:
        """Call a trampoline as the engine does; the errno. What would end the guest is raised."""
        self._set(self._values, 0, name, args)
        trap = self.trampolines[name](0, 0, ctypes.addressof(self._values))
        if trap:
            api.wasm_trap_delete(trap)
            pending, self.guest.pending = self.guest.pending, None
            assert pending is not None
            raise pending
        return self._values[0]

    def through_wasm(self, name: str, *args: int) -> int:
        """Call from wasm; the errno. What would end the guest is raised. Uses the first FREE bytes of memory."""
        slots = bytearray(160)
        self._set(slots, SLOTS, name, args)
        if self.guest.memory.size:
            self.guest.memory.u8[: len(slots)] = bytes(slots)
        else:
            assert not any(args)  # nobody has told us yet where memory is; it holds zeros
        try:
            self.instance.call(name)
        except DonjonError:
            pending, self.guest.pending = self.guest.pending, None
            if pending is None:
                raise
            raise pending from None
        return self.u32(RESULT)

    @staticmethod
    def _set(values: object, at: int, name: str, args: tuple[int, ...]) -> None:
        params = SIGNATURES[name][0]
        assert len(args) == len(params), f"{name} takes {len(params)} arguments"
        for index, (letter, value) in enumerate(zip(params, args, strict=True)):
            # The upper half of an i32 is whatever was there: it must not be looked at.
            wide = value & 0xFFFFFFFF | 0xDEADBEEF << 32 if letter == "i" else value & (1 << 64) - 1
            struct.pack_into("<QQ", values, at + 16 * index, wide, 0x5A5A5A5A5A5A5A5A)  # type: ignore[arg-type]

    def ok(self, name: str, *args: int) -> None:
        """A call that must succeed."""
        errno = self.call(name, *args)
        assert errno == 0, f"{name}: expected success, got {error_name(errno)}"

    def fails(self, name: str, *args: int) -> str:
        """A call that must fail; the name of its errno."""
        errno = self.call(name, *args)
        assert errno, f"{name}: expected an error, got success"
        return error_name(errno)

    # ---- memory

    def u32(self, at: int) -> int:
        return int.from_bytes(self.guest.memory.u8[at : at + 4], "little")

    def u64(self, at: int) -> int:
        return int.from_bytes(self.guest.memory.u8[at : at + 8], "little")

    def put(self, at: int, data: bytes) -> int:
        """Write into memory; how many bytes that were."""
        self.memory[at : at + len(data)] = data
        return len(data)

    def get(self, at: int, length: int) -> bytes:
        return bytes(self.memory[at : at + length])

    def put_buffers(self, at: int, *buffers: tuple[int, int]) -> tuple[int, int]:
        """Write an array of iovec (address, length); its address and number, as calls take them."""
        self.put(at, b"".join(struct.pack("<II", *buffer) for buffer in buffers))
        return at, len(buffers)

    @contextlib.contextmanager
    def writes_only(self, *spans: tuple[int, int]) -> Iterator[None]:
        """Inside, memory must change nowhere but in these (address, length)."""
        before = bytes(self.memory)
        yield
        unexpected = [at for at in changed(before, bytes(self.memory)) if not inside(at, spans)]
        assert not unexpected, f"bytes changed at {[hex(at) for at in unexpected[:8]]}"

    # ---- shorthands of calls

    def read(self, fd: int, length: int = 4096, name: str = "fd_read") -> bytes:
        """Read at most `length` bytes; an errno is raised as OSError with its name."""
        self.put_buffers(512, (PAGE, length))
        extra = (0, 600, 608) if name == "sock_recv" else (600,)
        errno = self.call(name, fd, 512, 1, *extra)
        if errno:
            raise OSError(error_name(errno))
        return self.get(PAGE, self.u32(600))

    def write(self, fd: int, data: bytes, name: str = "fd_write") -> int:
        """Write; the number of bytes taken. An errno is raised as OSError with its name."""
        self.put(PAGE, data)
        self.put_buffers(512, (PAGE, len(data)))
        extra = (0, 600) if name == "sock_send" else (600,)
        errno = self.call(name, fd, 512, 1, *extra)
        if errno:
            raise OSError(error_name(errno))
        return self.u32(600)

    def add(self, descriptor: Descriptor, flags: int = 0) -> int:
        descriptor.flags |= flags
        return self.guest.add(descriptor)

    def poll(self, *subscriptions: bytes) -> list[tuple[int, str, int, int, int]]:
        """poll_oneoff: (userdata, name of the errno, type, bytes, flags) of each event."""
        self.put(FREE, b"".join(subscriptions))
        out = PAGE
        self.ok("poll_oneoff", FREE, out, len(subscriptions), 128)
        events = [struct.unpack("<QHB5xQH6x", self.get(out + 32 * i, 32)) for i in range(self.u32(128))]
        return [(user, error_name(errno), kind, size, flags) for user, errno, kind, size, flags in events]


def on_clock(userdata: int, clock: int, timeout: int, flags: int = 0) -> bytes:
    """A subscription to a clock."""
    return struct.pack("<QB7xI4xQQH6x", userdata, 0, clock, timeout, 0, flags)


def on_fd(userdata: int, fd: int, kind: int = 1) -> bytes:
    """A subscription to a descriptor; kind 1: to read, 2: to write."""
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def error_name(errno: int) -> str:
    return next(name for name, number in ERRNO.items() if number == errno)


def changed(before: bytes, after: bytes) -> list[int]:
    """The places where two memories differ."""
    if before == after:
        return []
    return [at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]


def inside(at: int, spans: tuple[tuple[int, int], ...]) -> bool:
    return any(start <= at < start + length for start, length in spans)
