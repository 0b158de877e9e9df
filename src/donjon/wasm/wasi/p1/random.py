"""random_get: bytes nobody can foretell.   [WASI-P1]"""

import os

from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import Buffer

PIECE = 1 << 20
"""Bytes fetched at once, so that a guest that asks for its whole memory does not double ours."""


@wasi()
def random_get(guest: Guest, buf: Buffer) -> None:
    """Fill the buffer from the operating system's generator.   [WASI-P1 random_get]

    fault: the buffer reaches outside memory.
    """
    for at in range(0, len(buf), PIECE):
        part = buf[at : at + PIECE]
        part[:] = os.urandom(len(part))
