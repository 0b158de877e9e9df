"""sched_yield: let others run.   [WASI-P1]"""

import os

from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.trampoline import wasi

_yield = getattr(os, "sched_yield", lambda: None)  # macOS has none in Python; there, a call of ours is pause enough


@wasi()
def sched_yield(guest: Guest) -> None:
    """Give the processor to whoever else wants it.   [WASI-P1 sched_yield]"""
    if guest.reactor.tasks:
        guest.reactor.sleep(0)
    _yield()
