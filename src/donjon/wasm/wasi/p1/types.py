"""The types of preview 1's parameters and results, and how each is read from or written to the guest.   [WASI-P1, witx]

A family's functions name these types in their signatures. For `trampoline.py` a type is a few lines of Python, its
`load` or `store`, that are put into the trampoline once at link time; for the type checker it is the Python value that
the body gets.

In `load`: {x} is the parameter's name; {0}, {1} the indices of its words in `v`, the call's arguments as 32-bit words.
In `store`: {o} is the guest address of the result, checked before the body runs, so that a call with a bad pointer has
no effect; {r} is the body's result.
"""

from __future__ import annotations

from donjon.wasm.wasi.p1.errno import Errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from donjon.wasm.wasi.descriptors.base import Descriptor

    Fd: TypeAlias = Descriptor
    FdNumber: TypeAlias = int
    U32: TypeAlias = int
    U64: TypeAlias = int
    S64: TypeAlias = int
    Pointer: TypeAlias = int
    Iovecs: TypeAlias = list[memoryview]
    Buffer: TypeAlias = memoryview
    Path: TypeAlias = str
    ClockId: TypeAlias = int
    Whence: TypeAlias = int
    Advice: TypeAlias = int
    Signal: TypeAlias = int
    Fdflags: TypeAlias = int
    Fstflags: TypeAlias = int
    Lookupflags: TypeAlias = int
    Oflags: TypeAlias = int
    Riflags: TypeAlias = int
    Siflags: TypeAlias = int
    Sdflags: TypeAlias = int
    RightsBits: TypeAlias = int
    Size: TypeAlias = int
    Timestamp: TypeAlias = int
    Filesize: TypeAlias = int
    NewFd: TypeAlias = int
    Fdstat: TypeAlias = bytes
    Filestat: TypeAlias = bytes
    Prestat: TypeAlias = bytes
    Sizes: TypeAlias = tuple[int, int]
    SizeRoflags: TypeAlias = int
else:

    class Type:
        """wasm: one letter a core parameter, i (i32) or I (i64)."""

        wasm = "i"
        load = "{x} = v[{0}]"

    class _Result:
        """size, align: bytes of what is written at the result's address, which is the last core parameter(s)."""

        wasm = "i"
        size = align = 4
        store = "mem.u32[{o} >> 2] = {r}"

    # ---- parameters

    class Fd(Type):
        """An open descriptor; its rights are checked here too."""

        load = f"{{x}} = fds.get(v[{{0}}])\nif {{x}} is None: v[0] = {Errno.BADF}; return 0\n{{rights}}"

    class FdNumber(Type):
        """The number of a descriptor that need not be open."""

    class U32(Type):
        """size, or any 32-bit number."""

    class Pointer(Type):
        """An address that the body checks itself, in a memory that is known by then."""

        load = "{x} = v[{0}]\nif not mem.size: mem.reaches(0, caller)"

    class U64(Type):
        """filesize, timestamp, dircookie."""

        wasm = "I"
        load = "{x} = v[{0}] | v[{0} + 1] << 32"

    class S64(Type):
        """filedelta."""

        wasm = "I"
        load = "{x} = v[{0}] | v[{0} + 1] << 32\nif {x} >> 63: {x} -= 1 << 64"

    class Iovecs(Type):
        """An array of buffers, iovec or ciovec; nearly always one, and one that was there before.

        Hence the short way: its 64 bits, address and length, are looked up among those that were found to lie in
        memory, which never shrinks.
        """

        wasm = "ii"
        load = (
            "p = v[{0}]\n"
            "if v[{1}] == 1 and not p & 7 and p + 8 <= mem.size:\n"
            "    p >>= 3; {x} = known(mem.u64[p]) or mem.learn(p, caller)\n"
            "else: {x} = mem.buffers(p, v[{1}], caller)"
        )

    class Buffer(Type):
        """Address and length of bytes to be filled."""

        wasm = "ii"
        load = "{x} = mem.span(v[{0}], v[{1}], caller)"

    class Path(Type):
        """A string."""

        wasm = "ii"
        load = "{x} = mem.text(v[{0}], v[{1}], caller)"

    def _below(limit, name):
        """An enumeration: numbers from 0 to limit - 1."""
        load = f"{{x}} = v[{{0}}]\nif {{x}} >= {limit}: v[0] = {Errno.INVAL}; return 0"
        return type(name, (Type,), {"load": load, "__doc__": f"{name}: 0 to {limit - 1}."})

    def _flags(mask, name):
        """A set of bits; others are refused."""
        load = f"{{x}} = v[{{0}}]\nif {{x}} & ~{mask}: v[0] = {Errno.INVAL}; return 0"
        return type(name, (Type,), {"load": load, "__doc__": f"{name}: bits of {mask:#x}."})

    ClockId = _below(4, "ClockId")
    Whence = _below(3, "Whence")
    Advice = _below(6, "Advice")
    Signal = _below(31, "Signal")
    Fdflags = _flags(0x1F, "Fdflags")
    Fstflags = _flags(0xF, "Fstflags")
    Lookupflags = _flags(0x1, "Lookupflags")
    Oflags = _flags(0xF, "Oflags")
    Riflags = _flags(0x3, "Riflags")
    Siflags = _flags(0x0, "Siflags")
    Sdflags = _flags(0x3, "Sdflags")

    class RightsBits(U64):
        """rights; bits that no revision defines are kept out by the body."""

    # ---- results

    class Size(_Result):
        """size."""

    class NewFd(_Result):
        """fd."""

    class Timestamp(_Result):
        """timestamp."""

        size = align = 8
        store = "mem.u64[{o} >> 3] = {r}"

    class Filesize(Timestamp):
        """filesize."""

    class Fdstat(_Result):
        """fdstat, as 24 bytes."""

        size, align = 24, 8
        store = "mem.u8[{o}:{o} + 24] = {r}"

    class Filestat(_Result):
        """filestat, as 64 bytes."""

        size, align = 64, 8
        store = "mem.u8[{o}:{o} + 64] = {r}"

    class Prestat(_Result):
        """prestat, as 8 bytes."""

        size, align = 8, 4
        store = "mem.u8[{o}:{o} + 8] = {r}"

    class Sizes(_Result):
        """Two sizes, each with an address of its own."""

        wasm = "ii"
        store = "mem.u32[{o} >> 2], mem.u32[{o2} >> 2] = {r}"

    class SizeRoflags(_Result):
        """size and roflags (16 bits), each with an address of its own; roflags are 0, as only datagrams are cut."""

        wasm = "ii"
        store = "mem.u32[{o} >> 2] = {r}; mem.u16[{o2} >> 1] = 0"


class Fdflag:
    """fdflags."""

    APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16


class Oflag:
    """oflags."""

    CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8


class Fstflag:
    """fstflags."""

    ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8


class Lookupflag:
    """lookupflags."""

    SYMLINK_FOLLOW = 1


class Filetype:
    """filetype."""

    UNKNOWN, BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, REGULAR_FILE, SOCKET_DGRAM, SOCKET_STREAM, SYMBOLIC_LINK = (
        range(8)
    )


class Clock:
    """clockid."""

    REALTIME, MONOTONIC, PROCESS_CPUTIME_ID, THREAD_CPUTIME_ID = range(4)


class Riflag:
    """riflags."""

    RECV_PEEK, RECV_WAITALL = 1, 2


class Sdflag:
    """sdflags."""

    RD, WR = 1, 2


class Eventtype:
    """eventtype."""

    CLOCK, FD_READ, FD_WRITE = 0, 1, 2
