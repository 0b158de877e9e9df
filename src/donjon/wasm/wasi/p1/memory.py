"""The guest's linear memory: the one module that touches it.

The engine reserves 4 GiB of addresses for a memory and never moves it, so one view over the whole reservation serves
for ever; what changes is how much of it the guest may use. `size` is a copy of that, refreshed when a pointer lies
past it.

A pointer is checked before every use: behind an unchecked one there is no Python exception but a SIGSEGV.
"""

from __future__ import annotations

import ctypes

from donjon.errors import BugError, TrapError
from donjon.wasm.engine import _capi
from donjon.wasm.wasi.p1.errno import Errno, WasiError

__all__ = ["IOV_MAX", "RESERVATION", "Memory"]

RESERVATION = 1 << 32  # bytes; what module.py configures the engine with
IOV_MAX = 1024
"""Buffers that one call looks at; a call may always move less than asked for. The limit of Linux and macOS."""

MOST_KNOWN = 1024
"""Buffers that are remembered; a guest that reads into ever new ones has them looked at each time."""

_EMPTY = memoryview(b"")


class Memory:
    """The memory that the guest exports as "memory".

    Attributes:
        size: bytes that are known to be the guest's; 0 until the first pointer is looked at.
        known: buffers that were looked at before, by address (lower half) and length; each as a list of its own.
        u8, u16, u32, u64: the memory in units of 1, 2, 4 and 8 bytes.
    """

    __slots__ = ("_context", "_handle", "known", "size", "u8", "u16", "u32", "u64")

    def __init__(self) -> None:
        self.size = 0
        self.known: dict[int, list[memoryview]] = {}
        self.u8 = _EMPTY
        self.u16 = _EMPTY
        self.u32 = _EMPTY
        self.u64 = _EMPTY
        self._context: int | None = None
        self._handle: object = None

    def reaches(self, end: int, caller: int = 0) -> bool:
        """Ask the engine how large the memory is now: does it reach to `end`?

        Args:
            end: the first byte after what the guest means, at most 2**33.
            caller: the engine's handle of the running call; not needed once the memory is known, after the first call.
        Raises:
            TrapError: the guest has no memory under the name that preview 1 demands.
        """
        if self._context is None:
            self._attach(caller)
        self.size = _capi.api.wasmtime_memory_data_size(self._context, self._handle)
        return end <= self.size

    def _attach(self, caller: int) -> None:
        found = _capi.Extern()
        if (
            not _capi.api.wasmtime_caller_export_get(caller, b"memory", 6, ctypes.byref(found))
            or found.kind != _capi.EXTERN_MEMORY
        ):
            raise TrapError(
                'the module uses WASI but exports no memory called "memory"',
                hint="build it as a WASI command or reactor",
            )
        context = _capi.api.wasmtime_caller_context(caller)
        handle = _capi.MemoryHandle.from_buffer_copy(found.of)
        base = _capi.api.wasmtime_memory_data(context, handle)
        if base % 8:
            raise BugError(f"linear memory at {base:#x}: expected an address that is a multiple of 8")
        whole = memoryview((ctypes.c_char * RESERVATION).from_address(base)).cast("B")
        self.u8, self.u16, self.u32, self.u64 = whole, whole.cast("H"), whole.cast("I"), whole.cast("Q")
        self._context, self._handle = context, handle

    def span(self, start: int, length: int, caller: int = 0) -> memoryview:
        """The guest's bytes `start` to `start + length`, in place.

        Raises:
            WasiError: fault, they reach outside memory.
        """
        end = start + length
        if end > self.size and not self.reaches(end, caller):
            raise WasiError(Errno.FAULT, f"{length} bytes at {start:#x} reach outside memory ({self.size:#x} bytes)")
        return self.u8[start:end]

    def buffers(self, array: int, count: int, caller: int = 0) -> list[memoryview]:
        """The buffers of an array of iovec or ciovec, at most IOV_MAX of them.   [WASI-P1 iovec]

        Raises:
            WasiError: inval, the array is not aligned to 4 bytes; fault, it or a buffer reaches outside memory.
        """
        if array & 3:
            raise WasiError(Errno.INVAL, f"array of buffers at {array:#x}: expected a multiple of 4")
        if count > IOV_MAX:
            count = IOV_MAX
        end = array + 8 * count
        if end > self.size and not self.reaches(end, caller):
            raise WasiError(Errno.FAULT, f"array of {count} buffers at {array:#x} reaches outside memory")
        words, index, found = self.u32, array >> 2, []
        for at in range(index, index + 2 * count, 2):
            start, length = words[at], words[at + 1]
            if length:  # an empty buffer may point anywhere
                part = self.span(start, length, caller)
                found.append(part)
        return found or [self.u8[:0]]  # readv and writev of some systems refuse an empty list

    def learn(self, index: int, caller: int = 0) -> list[memoryview]:
        """The one buffer described by the 64 bits at `index` of `u64`, and remember it in `known`.

        Raises:
            WasiError: as `buffers`.
        """
        found = self.buffers(index << 3, 1, caller)
        if len(self.known) >= MOST_KNOWN:
            self.known.clear()
        self.known[self.u64[index]] = found
        return found

    def text(self, start: int, length: int, caller: int = 0) -> str:
        """A string of the guest.   [WASI-P1 string: UTF-8, not terminated]

        Raises:
            WasiError: fault, it reaches outside memory; nametoolong, over 65536 bytes; ilseq, not UTF-8; inval, it
                holds a NUL, which no name on the host can.
        """
        if length > 65536:
            raise WasiError(Errno.NAMETOOLONG, f"a path of {length} bytes: expected at most 65536")
        try:
            text = str(self.span(start, length, caller), "utf-8")
        except UnicodeDecodeError:
            raise WasiError(Errno.ILSEQ, "path: expected UTF-8") from None
        if "\0" in text:
            raise WasiError(Errno.INVAL, "path: expected no NUL byte")
        return text
