"""proc_*: how a guest ends itself.   [WASI-P1]"""

from donjon.wasm.wasi.p1.guest import Exit, Guest
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import U32, Signal

IGNORED = (0, 16, 17, 22, 27)
"""none, CHLD, CONT, URG, WINCH: what a process gets over without a handler; preview 1 has no handlers.   [WASI-P1
signal]"""

NATIVE = (*range(16), *range(17, 32))
"""Preview 1's signals, in its order, as Linux numbers them, so that a shell reads the exit code as it always does."""


@wasi()
def proc_exit(guest: Guest, rval: U32) -> None:
    """End the guest with this exit code; it does not return.   [WASI-P1 proc_exit]"""
    raise Exit(rval)


@wasi()
def proc_raise(guest: Guest, sig: Signal) -> None:
    """End the guest as the signal would end a process, with 128 plus its number; some signals do nothing.

    inval: there is no such signal.   [WASI-P1 proc_raise]
    """
    if sig not in IGNORED:
        raise Exit(128 + NATIVE[sig])
