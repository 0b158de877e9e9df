"""args_*: the command line.   [WASI-P1]"""

from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.strings import sizes, write
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import Pointer, Sizes


@wasi()
def args_get(guest: Guest, argv: Pointer, argv_buf: Pointer) -> None:
    """Write the arguments and pointers to them; the guest has made room as args_sizes_get told it.   [WASI-P1 args_get]

    fault: the room reaches outside memory. inval: argv is not aligned to 4 bytes.
    """
    write(guest.memory, guest.args, argv, argv_buf)


@wasi()
def args_sizes_get(guest: Guest) -> Sizes:
    """How many arguments, and how many bytes they take with their NULs.   [WASI-P1 args_sizes_get]"""
    return sizes(guest.args)
