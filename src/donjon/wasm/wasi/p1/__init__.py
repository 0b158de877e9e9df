"""WASI preview 1, `wasi_snapshot_preview1`: one file a family, each function declared next to the specification's text.

`lookup` finds a function and imports its family when a module asks for it, so a start pays for what the guest uses.
"""

from donjon.wasm.wasi.p1.trampoline import FUNCTIONS, Function, bind, traced

__all__ = ["FAMILIES", "MODULE", "Function", "bind", "lookup", "traced"]

MODULE = "wasi_snapshot_preview1"
FAMILIES = ("args", "clock", "environ", "fd", "path", "poll", "proc", "random", "sched", "sock")


def lookup(name: str) -> Function | None:
    """The function of this name, None if preview 1 has none."""
    family = name.partition("_")[0]
    if name not in FUNCTIONS and family in FAMILIES:
        __import__(f"donjon.wasm.wasi.p1.{family}")
    return FUNCTIONS.get(name)
