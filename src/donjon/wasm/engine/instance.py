"""A module linked with host functions and its own memory, and what became of a call into it."""

from __future__ import annotations

import ctypes

from donjon.errors import BugError, ParseError, PlatformError, TrapError
from donjon.wasm.engine import _capi
from donjon.wasm.engine._capi import Vec, api, take_bytes
from donjon.wasm.engine.module import Module, _items, _text, engine, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Host = Callable[[int, int, int], int]

__all__ = ["HostFunction", "Instance"]

# fmt: off
TRAPS = (  # wasmtime_trap_code_enum, in its order; the names are the specification's where it has one
    "call stack exhausted", "out of bounds memory access", "misaligned memory access", "out of bounds table access",
    "uninitialized element", "indirect call type mismatch", "integer overflow", "integer divide by zero",
    "invalid conversion to integer", "unreachable", "interrupt", "out of fuel",
)
# fmt: on
MOST_FRAMES = 16
LONGEST_NAME = 256
"""Characters of a name in a message; a module may have names of 100,000."""
TABLE_ELEMENTS, TABLES = 1 << 20, 8
"""What a guest may have at most: an element takes 8 bytes of ours, which no limit of memory counts. Programs with a
hundred thousand functions, all of them called through pointers, have one table with as many elements."""
KINDS = {"i": 0, "I": 1}  # wasm_valkind_t: i32, i64


class HostFunction:
    """What the host gives for one import.

    Attributes:
        params, results: core types, a letter each: i (i32) or I (i64).
        call: takes (env, caller, address of the values) and returns 0, or the address of a trap; lets no exception out.
    """

    __slots__ = ("call", "params", "results")

    def __init__(self, params: str, results: str, call: Host) -> None:
        self.params = params
        self.results = results
        self.call = call


class Instance:
    """An instance in a store of its own.

    Args:
        resolve: gives the host function for (module, name), or None when the host has none.
        memory: bytes that linear memory may grow to; None: what wasm allows, 4 GiB.
    Raises:
        ParseError: an import has nobody who offers it, or another signature than the offer.
        PlatformError: this process may not have as many addresses as a linear memory needs.
        TrapError: the module's start function trapped, or its memory is larger than the limit from the first.
    """

    def __init__(
        self, module: Module, resolve: Callable[[str, str], HostFunction | None], memory: int | None = None
    ) -> None:
        self._keep: list[object] = []  # callbacks live as long as the store that can call them
        self._store = api.wasmtime_store_new(engine(), None, None)
        self._context = api.wasmtime_store_context(self._store)
        api.wasmtime_store_limiter(self._store, -1 if memory is None else memory, TABLE_ELEMENTS, -1, TABLES, -1)
        linker = api.wasmtime_linker_new(engine())
        try:
            self._link(linker, module, resolve)
            self._instance = _capi.InstanceHandle()
            trap = ctypes.c_void_p()
            error = api.wasmtime_linker_instantiate(
                linker, self._context, module.handle, self._instance, ctypes.byref(trap)
            )
        finally:
            api.wasmtime_linker_delete(linker)
        if trap.value:
            raise _from_trap(trap.value)
        if error:
            frames = _error_frames(error)
            reason = reason_of(error)
            if frames:
                raise _stopped(reason, frames)
            if "memory" in reason and "limit" in reason:
                raise TrapError(
                    f"the module wants more memory than it may have: {reason}",
                    hint="raise `memory` in [limits] of Enarx.toml",
                )
            if "mmap failed" in reason:
                raise PlatformError(
                    f"no address space for the guest: {reason}",
                    hint="a Keep needs some 5 GiB of addresses, though not of memory: see `ulimit -v`",
                )
            raise ParseError(f"the module cannot be linked: {reason}")

    def _link(self, linker: int, module: Module, resolve: Callable[[str, str], HostFunction | None]) -> None:
        missing = []
        types: dict[tuple[str, str], int] = {}
        for space, name, kind in dict.fromkeys(module.imports()):  # Go imports a function more than once
            host = resolve(space, name) if kind == _capi.EXTERNTYPE_FUNC else None
            if host is None:
                missing.append(f"{_short(space)}.{_short(name)}")
                continue
            signature = (host.params, host.results)
            if signature not in types:
                types[signature] = api.wasm_functype_new(_valtypes(host.params), _valtypes(host.results))
            callback = _capi.Callback(host.call)
            self._keep.append(callback)
            where, what = space.encode(), name.encode()
            error = api.wasmtime_linker_define_func_unchecked(
                linker, where, len(where), what, len(what), types[signature], callback, None, None
            )
            if error:
                raise BugError(f"cannot define {space}.{name}: {reason_of(error)}")
        for functype in types.values():
            api.wasm_functype_delete(functype)
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ParseError(
                f"the module imports what Donjon does not have: {', '.join(missing[:5])}{more}",
                hint="Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else",
            )

    def has(self, name: str) -> bool:
        """Does the instance export a function of this name?"""
        return self._function(name) is not None

    def _function(self, name: str) -> object | None:
        found, key = _capi.Extern(), name.encode()
        if not api.wasmtime_instance_export_get(self._context, self._instance, key, len(key), ctypes.byref(found)):
            return None
        return _capi.FuncHandle.from_buffer_copy(found.of) if found.kind == _capi.EXTERN_FUNC else None

    def call(self, name: str) -> None:
        """Call an exported function that takes nothing; results are dropped.

        Raises:
            TrapError: it trapped; also what a host function's trap stands for, so ask the host function's owner first.
            ParseError: there is no such function, or it takes parameters.
        """
        function = self._function(name)
        if function is None:
            raise ParseError(f'the module exports no function "{name}"')
        functype = api.wasmtime_func_type(self._context, function)
        takes = api.wasm_functype_params(functype).contents.size
        gives = api.wasm_functype_results(functype).contents.size
        api.wasm_functype_delete(functype)
        if takes:
            raise ParseError(f'function "{name}": expected no parameters, got {takes}')
        trap = ctypes.c_void_p()
        results = (ctypes.c_char * (32 * gives))()  # a wasmtime_val_t has 24 bytes, 32 where v128 is aligned to 16
        error = api.wasmtime_func_call(self._context, function, None, 0, results, gives, ctypes.byref(trap))
        if error:
            frames = _error_frames(error)
            raise _stopped(reason_of(error), frames)
        if trap.value:
            raise _from_trap(trap.value)

    def close(self) -> None:
        """Give the instance and its memory back."""
        api.wasmtime_store_delete(self._store)
        self._keep.clear()


def _valtypes(letters: str) -> ctypes._CArgObject:
    kinds = (ctypes.c_void_p * len(letters))(*[api.wasm_valtype_new(KINDS[letter]) for letter in letters])
    vector = Vec()
    api.wasm_valtype_vec_new(ctypes.byref(vector), len(letters), kinds)
    return ctypes.byref(vector)


def _from_trap(trap: int) -> TrapError:
    """A trap as our error: its name, and the guest's functions from the innermost on; the trap is given back."""
    code = ctypes.c_uint8()
    known = api.wasmtime_trap_code(trap, ctypes.byref(code)) and code.value < len(TRAPS)
    if known:
        name = TRAPS[code.value]
    else:
        vector = Vec()
        api.wasm_trap_message(trap, ctypes.byref(vector))
        lines = take_bytes(vector).rstrip(b"\0").decode("utf-8", "replace").strip().splitlines()
        name = lines[-1].strip() if lines else "unknown trap"
    trace = Vec()
    api.wasm_trap_trace(trap, ctypes.byref(trace))
    frames = _frames(trace)
    api.wasm_trap_delete(trap)
    return TrapError(f"the guest trapped: {name}", code=name, frames=frames)


def _error_frames(error: int) -> tuple[str, ...]:
    """Where in the guest an error came up; empty, it did not come from running code."""
    trace = Vec()
    api.wasmtime_error_wasm_trace(error, ctypes.byref(trace))
    return _frames(trace)


def _stopped(reason: str, frames: tuple[str, ...]) -> TrapError:
    """The engine could not go on: nothing was forbidden, but there is no room for garbage-collected objects."""
    name = reason.rpartition(", ")[2]  # what comes before is the backtrace as text
    return TrapError(f"the guest was stopped: {name}", code=name, frames=frames)


def _frames(trace: Vec) -> tuple[str, ...]:
    """The guest's functions in a backtrace, from the innermost on, many ones shortened; it is given back."""
    found = []
    for frame in _items(trace):
        pointer = api.wasmtime_frame_func_name(frame)
        found.append(_short(_text(pointer)) if pointer else f"function {api.wasm_frame_func_index(frame)}")
    api.wasm_frame_vec_delete(ctypes.byref(trace))
    if len(found) > MOST_FRAMES:
        half = MOST_FRAMES // 2
        found[half:-half] = ["..."]  # the engine itself counts no more than 20
    return tuple(found)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
