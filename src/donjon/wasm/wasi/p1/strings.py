"""How args_get and environ_get hand over a list of strings."""

from __future__ import annotations

from donjon.wasm.wasi.p1.errno import Errno, WasiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.wasm.wasi.p1.memory import Memory

__all__ = ["sizes", "write"]


def sizes(strings: tuple[bytes, ...]) -> tuple[int, int]:
    """How many strings, and how many bytes in all; each ends in its NUL already."""
    return len(strings), sum(map(len, strings))


def write(memory: Memory, strings: tuple[bytes, ...], pointers: int, buffer: int) -> None:
    """Write the strings one after another from `buffer` on, and the address of each from `pointers` on.

    Raises:
        WasiError: inval, `pointers` is not aligned to 4 bytes; fault, either reaches outside memory.
    """
    count, length = sizes(strings)
    if pointers & 3:
        raise WasiError(Errno.INVAL, f"array of pointers at {pointers:#x}: expected a multiple of 4")
    memory.span(pointers, 4 * count)
    memory.span(buffer, length)[:] = b"".join(strings)
    for index, text in enumerate(strings, pointers >> 2):
        memory.u32[index] = buffer
        buffer += len(text)
