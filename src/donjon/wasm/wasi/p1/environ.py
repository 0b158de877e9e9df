"""environ_*: the environment, which is what the configuration says and nothing of the host's.   [WASI-P1]"""

from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.strings import sizes, write
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import Pointer, Sizes


@wasi()
def environ_get(guest: Guest, environ: Pointer, environ_buf: Pointer) -> None:
    """Write the variables, as NAME=value, and pointers to them.   [WASI-P1 environ_get]

    fault: the room reaches outside memory. inval: environ is not aligned to 4 bytes.
    """
    write(guest.memory, guest.env, environ, environ_buf)


@wasi()
def environ_sizes_get(guest: Guest) -> Sizes:
    """How many variables, and how many bytes they take with their NULs.   [WASI-P1 environ_sizes_get]"""
    return sizes(guest.env)
