"""From bytes to compiled code: what they are, what to say when they are not a module, compiling or the cache."""

from __future__ import annotations

import ctypes
import os

from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.wasm.engine._capi import Vec, api, take_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.wasm.engine.cache import Cache

__all__ = ["LARGEST", "Module", "engine", "from_text", "load", "read"]

LARGEST = 512 << 20
"""Bytes of the largest module that is read; the largest known real one (Ruby with its library) has 31 MB."""

MAGIC = b"\0asm"
CORE, COMPONENT = b"\x01\0\0\0", b"\x0d\0\x01\0"
BOM = b"\xef\xbb\xbf"
ZSTD = b"\x28\xb5\x2f\xfd"  # begins with "(", as the text format does

OTHERS = (
    (b"\x7fELF", "a native Linux program (ELF)"),
    (b"\xcf\xfa\xed\xfe", "a native macOS program (Mach-O)"),
    (b"MZ", "a Windows program"),
    (b"#!", "a script"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (ZSTD, "a zstd file"),
    (b"<", "HTML or XML"),
    (b"BC\xc0\xde", "LLVM bitcode"),
)
HINT = "build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)"

FLAGS = "memory64=0 multi_memory=0 threads=0 exceptions=1 reservation=4GiB"
"""What `engine` sets, for the cache's key: change both together."""

_engine: int | None = None


def engine(alone: bool = False) -> int:
    """The one engine of this process.

    Args:
        alone: it compiles in the thread that calls it: threads of its own cost 2 ms, and large modules are worth that.
    """
    global _engine
    if _engine is None:
        config = api.wasm_config_new()
        api.wasmtime_config_parallel_compilation_set(config, not alone)
        api.wasmtime_config_memory_reservation_set(config, 1 << 32)  # memory.py rests on it
        api.wasmtime_config_wasm_memory64_set(config, False)
        api.wasmtime_config_wasm_multi_memory_set(config, False)  # the limit counts for each memory by itself
        api.wasmtime_config_wasm_threads_set(config, False)
        api.wasmtime_config_wasm_exceptions_set(config, True)
        _engine = api.wasm_engine_new_with_config(config)
        if not _engine:
            raise PlatformError("the WebAssembly engine does not start on this processor")
    return _engine


class Module:
    """Compiled code, ready for any number of instances. It lives as long as the process.

    Attributes:
        handle: the engine's.
        cached: it came from the cache.
    """

    __slots__ = ("cached", "handle")

    def __init__(self, handle: int, cached: bool) -> None:
        self.handle = handle
        self.cached = cached

    def imports(self) -> list[tuple[str, str, int]]:
        """Module, name and kind (wasm_externkind_t) of what the module wants, in its order; names may repeat."""
        vector = Vec()
        api.wasmtime_module_imports(self.handle, ctypes.byref(vector))
        found = [
            (
                _text(api.wasm_importtype_module(item)),
                _text(api.wasm_importtype_name(item)),
                api.wasm_externtype_kind(api.wasm_importtype_type(item)),
            )
            for item in _items(vector)
        ]
        api.wasm_importtype_vec_delete(ctypes.byref(vector))
        return found

    def exports(self) -> dict[str, int]:
        """Name and kind (wasm_externkind_t) of what the module offers."""
        vector = Vec()
        api.wasmtime_module_exports(self.handle, ctypes.byref(vector))
        found = {
            _text(api.wasm_exporttype_name(item)): api.wasm_externtype_kind(api.wasm_exporttype_type(item))
            for item in _items(vector)
        }
        api.wasm_exporttype_vec_delete(ctypes.byref(vector))
        return found


def read(path: str) -> bytes:
    """Read a module's file.

    Raises:
        UsageError: it is not there, not a file, may not be read, or is larger than LARGEST.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(f"no module {path}: no such file", hint="give the path of a .wasm or .wat file") from None
    except OSError as error:
        hint = "give the path of a .wasm or .wat file" if isinstance(error, IsADirectoryError) else None
        raise UsageError(f"cannot read the module {path}: {words_of(error)}", hint) from error
    if len(data) > LARGEST:
        raise UsageError(f"module {path}: expected at most {LARGEST >> 20} MiB, got more")
    return data


def load(data: bytes, cache: Cache | None = None, name: str = "module") -> Module:
    """Compile a module, or take what the cache has of it.

    Args:
        data: a core module, binary or (starting with "(" or ";;") in the text format.
        name: what messages call it.
    Raises:
        ParseError: it is something else, or not valid.
    """
    if data.removeprefix(BOM).lstrip()[:2].startswith((b"(", b";;")) and not data.startswith(ZSTD):
        data = from_text(data.removeprefix(BOM), name)
    _check_kind(data, name)
    entry = None
    if cache is not None:
        entry = cache.key(data, FLAGS)
        handle = cache.get(entry)
        if handle is not None:
            return Module(handle, cached=True)
    from donjon.wasm.engine.compiler import compile_apart

    code = compile_apart(data, name, HINT)
    try:
        handle = None
        if cache is not None and entry is not None and cache.put(entry, code):
            handle = cache.get(entry)
        return Module(handle or map_code(code), cached=False)
    finally:
        os.close(code)


def map_code(file: int) -> int:
    """Map machine code of the engine's from an open file, by its descriptor: what has its name by now may be another.

    Returns:
        The engine's handle of the module.
    Raises:
        ValueError: the engine does not take it: another version made it, or for another processor.
    """
    handle = ctypes.c_void_p()
    error = api.wasmtime_module_deserialize_file(engine(), f"/dev/fd/{file}".encode(), ctypes.byref(handle))
    if error:
        api.wasmtime_error_delete(error)
        raise ValueError("the engine does not take it")
    assert handle.value is not None  # noqa: S101 - the API gives an error or a module
    return handle.value


def from_text(data: bytes, name: str = "module") -> bytes:
    """Translate a module from the text format to the binary one.

    Raises:
        ParseError: it is not that; the message has `name`, line and column.
    """
    vector = Vec()
    error = api.wasmtime_wat2wasm(data, len(data), ctypes.byref(vector))
    if error:
        # What was wrong, then the place, then the line itself with a mark below it.
        what, _, place = reason_of(error).partition(", --> <anon>:")
        where = place.partition(",")[0]
        raise ParseError(f"{name}{where and ':' + where}: not valid WebAssembly text: {what}")
    return take_bytes(vector)


def _check_kind(data: bytes, name: str) -> None:
    if data[:8] == MAGIC + CORE:
        return
    if data[:8] == MAGIC + COMPONENT:
        raise ParseError(
            f"{name} is a component: expected a core module, components are not supported yet",
            hint="build a command for WASI preview 1: target wasm32-wasip1, without a step that makes it a component",
        )
    if not data:
        raise ParseError(f"{name} is empty: expected a WebAssembly module", hint=HINT)
    if data[:4] == MAGIC:
        came = f"version {data[4:8].hex(' ')}" if len(data) >= 8 else f"only {len(data)} bytes"
        raise ParseError(f"{name}: expected WebAssembly version 01 00 00 00, got {came}", hint=HINT)
    what = next(
        (text for magic, text in OTHERS if data.startswith(magic)), f"something that starts with {data[:4].hex(' ')}"
    )
    raise ParseError(f"{name}: expected a WebAssembly module (00 61 73 6d), got {what}", hint=HINT)


def reason_of(error: int) -> str:
    """The engine's message, in one line; the error is given back."""
    vector = Vec()
    api.wasmtime_error_message(error, ctypes.byref(vector))
    api.wasmtime_error_delete(error)
    text = take_bytes(vector).decode("utf-8", "replace")
    parts = [line.strip() for line in text.splitlines()]
    return ", ".join(part for part in parts if part and part != "Caused by:")[:600]


def _items(vector: Vec) -> list[int]:
    return list((ctypes.c_void_p * vector.size).from_address(vector.data)) if vector.size else []


def _text(pointer: ctypes._Pointer[Vec]) -> str:
    vector = pointer.contents
    return ctypes.string_at(vector.data, vector.size).decode("utf-8", "replace")
