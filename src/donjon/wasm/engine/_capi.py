"""The few functions of wasmtime's C API that Donjon uses, bound with ctypes to the library that the PyPI package
carries.

`import wasmtime` builds 744 prototypes and takes 40 ms; a prototype here is made when it is first used. Structures are
those of wasmtime 50 (`wasmtime.h`, `wasmtime/extern.h`, `wasmtime/val.h`), which is why `pyproject.toml` pins it.

The library is loaded with the interpreter lock kept (PyDLL): a call from wasm into Python is 3 to 18 % cheaper, and the
process of a Keep has no other Python thread that could want to run.
"""

from __future__ import annotations

import ctypes
import os
import sys

from donjon.errors import PlatformError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Callback", "Extern", "MemoryHandle", "Vec", "api", "library_path", "take_bytes"]

P = ctypes.c_void_p
SIZE = ctypes.c_size_t
STR = ctypes.c_char_p
I64 = ctypes.c_int64
BOOL = ctypes.c_bool
U8 = ctypes.c_uint8
U32 = ctypes.c_uint32
U64 = ctypes.c_uint64

EXTERN_FUNC, EXTERN_MEMORY = 0, 3  # wasmtime_extern_kind_t
EXTERNTYPE_FUNC, EXTERNTYPE_MEMORY = 0, 3  # wasm_externkind_t

Callback = ctypes.CFUNCTYPE(P, P, P, P)
"""wasmtime_func_unchecked_callback_t(env, caller, values, count), less its last argument, which no callback needs: the
caller cleans up, so it stays unread in its register, and each call is cheaper by one conversion."""


class Vec(ctypes.Structure):
    """wasm_*_vec_t: `size` items at `data`."""

    _fields_ = [("size", SIZE), ("data", P)]
    size: int
    data: int


class Extern(ctypes.Structure):
    """wasmtime_extern_t; `of` is a union of 24 bytes."""

    _fields_ = [("kind", U8), ("of", U64 * 3)]
    kind: int
    of: Any


MemoryHandle = U64 * 3  # wasmtime_memory_t: 8 + 4 + 4 bytes, then 4 and padding
FuncHandle = U64 * 2  # wasmtime_func_t
InstanceHandle = U64 * 2  # wasmtime_instance_t

# fmt: off
PROTOTYPES: dict[str, tuple[Any, ...]] = {  # name: result, parameters
    "wasm_config_new": (P,),
    "wasmtime_config_memory_reservation_set": (None, P, U64),
    "wasmtime_config_parallel_compilation_set": (None, P, BOOL),
    "wasmtime_config_wasm_memory64_set": (None, P, BOOL),
    "wasmtime_config_wasm_multi_memory_set": (None, P, BOOL),
    "wasmtime_config_wasm_threads_set": (None, P, BOOL),
    "wasmtime_config_wasm_exceptions_set": (None, P, BOOL),
    "wasm_engine_new_with_config": (P, P),
    "wasmtime_wat2wasm": (P, STR, SIZE, P),
    "wasmtime_module_new": (P, P, STR, SIZE, P),
    "wasmtime_module_serialize": (P, P, P),
    "wasmtime_module_deserialize_file": (P, P, STR, P),
    "wasmtime_module_imports": (None, P, P),
    "wasmtime_module_exports": (None, P, P),
    "wasm_importtype_module": (ctypes.POINTER(Vec), P),
    "wasm_importtype_name": (ctypes.POINTER(Vec), P),
    "wasm_importtype_type": (P, P),
    "wasm_importtype_vec_delete": (None, P),
    "wasm_exporttype_name": (ctypes.POINTER(Vec), P),
    "wasm_exporttype_type": (P, P),
    "wasm_exporttype_vec_delete": (None, P),
    "wasm_externtype_kind": (U8, P),
    "wasm_functype_params": (ctypes.POINTER(Vec), P),
    "wasm_functype_results": (ctypes.POINTER(Vec), P),
    "wasm_valtype_new": (P, U8),
    "wasm_valtype_vec_new": (None, P, SIZE, P),
    "wasm_functype_new": (P, P, P),
    "wasm_functype_delete": (None, P),
    "wasmtime_store_new": (P, P, P, P),
    "wasmtime_store_context": (P, P),
    "wasmtime_store_limiter": (None, P, I64, I64, I64, I64, I64),
    "wasmtime_store_delete": (None, P),
    "wasmtime_linker_new": (P, P),
    "wasmtime_linker_define_func_unchecked": (P, P, STR, SIZE, STR, SIZE, P, Callback, P, P),
    "wasmtime_linker_instantiate": (P, P, P, P, P, P),
    "wasmtime_linker_delete": (None, P),
    "wasmtime_instance_export_get": (BOOL, P, P, STR, SIZE, P),
    "wasmtime_caller_export_get": (BOOL, P, STR, SIZE, P),
    "wasmtime_caller_context": (P, P),
    "wasmtime_func_type": (P, P, P),
    "wasmtime_func_call": (P, P, P, P, SIZE, P, SIZE, P),
    "wasmtime_memory_data": (P, P, P),
    "wasmtime_memory_data_size": (SIZE, P, P),
    "wasmtime_error_message": (None, P, P),
    "wasmtime_error_wasm_trace": (None, P, P),
    "wasmtime_error_delete": (None, P),
    "wasmtime_trap_new": (P, STR, SIZE),
    "wasmtime_trap_code": (BOOL, P, P),
    "wasm_trap_message": (None, P, P),
    "wasm_trap_trace": (None, P, P),
    "wasm_trap_delete": (None, P),
    "wasm_frame_func_index": (U32, P),
    "wasmtime_frame_func_name": (ctypes.POINTER(Vec), P),
    "wasm_frame_vec_delete": (None, P),
    "wasm_byte_vec_delete": (None, P),
}
# fmt: on


class _Api:
    """`api.name(...)` calls the C function `name`; the prototype is bound at the first use and stays."""

    def load(self) -> None:
        """Load the library now, for a process that is forked later."""
        _ = self._library

    def bind_all(self) -> None:
        """Bind every prototype now, for a process that is forked later."""
        for name in PROTOTYPES:
            getattr(self, name)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    else:

        def __getattr__(self, name):
            if name == "_library":
                self._library = library = _load()
                return library
            if name not in PROTOTYPES:
                raise AttributeError(name)
            function = self._library[name]
            function.restype, *function.argtypes = PROTOTYPES[name]
            setattr(self, name, function)
            return function


api = _Api()


def library_path() -> str:
    """Where the engine's library is: inside the `wasmtime` package, found without importing it.

    Raises:
        PlatformError: no package, or none for this system and processor.
    """
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform)
    machine = os.uname().machine
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine)
    name = {"linux": "_libwasmtime.so", "darwin": "_libwasmtime.dylib"}.get(sys.platform, "")
    for folder in sys.path:
        path = f"{folder or '.'}/wasmtime/{system}-{machine}/{name}"
        if os.path.exists(path):
            return path
    raise PlatformError(
        f"no WebAssembly engine: the Python package wasmtime for {sys.platform} on {machine} is not installed",
        hint="pip install 'wasmtime>=50.0.1,<51'",
    )


def _load() -> ctypes.PyDLL:
    path = library_path()
    try:
        return ctypes.PyDLL(path)
    except OSError as error:
        raise PlatformError(
            f"cannot load the WebAssembly engine {path}: {error}", hint="reinstall the Python package wasmtime"
        ) from error


def take_bytes(vector: Vec) -> bytes:
    """Copy a byte vector that the engine gave us, and give it back."""
    data = ctypes.string_at(vector.data, vector.size) if vector.size else b""
    api.wasm_byte_vec_delete(ctypes.byref(vector))
    return data
