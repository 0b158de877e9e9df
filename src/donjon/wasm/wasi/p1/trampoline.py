"""From a declaration next to its witx to a callback that the engine can call.

    @wasi(rights=Rights.FD_READ)
    def fd_read(guest: Guest, fd: Fd, iovs: Iovecs) -> Size: ...

`@wasi` records the function. `source` makes the text of its trampoline, one flat Python function, from the `load` and
`store` lines of the types in the declaration; all of them stand in `_trampolines.py`, and `bind` makes one for a guest
at link time. Nothing generic runs per call; a call with four arguments costs half a microsecond. The wasm signature
follows from the same types.

What a trampoline does: fetch the arguments (the engine passes the address of an array of 16-byte values; the address
repeats, so a view per address is kept), check the result's address, load the parameters, call the body, store the
result, put the errno into the first value. No exception leaves it: WasiError and OSError become errnos, everything
else is kept in `guest.pending` and becomes a trap, and whoever called into wasm raises it again.
"""

from __future__ import annotations

import ctypes

from donjon.wasm.engine import _capi
from donjon.wasm.wasi.p1.errno import Errno, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from donjon.wasm.wasi.p1.guest import Guest

    Body = Callable[..., Any]

__all__ = ["FUNCTIONS", "Function", "bind", "generate", "traced", "wasi"]

VALUE = 16  # bytes of a wasmtime_val_raw_t
MOST_VALUES = 10  # more than any function has parameters (path_open: 9)
MOST_VIEWS = 512  # views kept; calls from deep recursion come with ever new addresses


class Function:
    """One function of preview 1.

    Attributes:
        name: as the specification spells it.
        params: the core wasm parameters, a letter each: i (i32) or I (i64).
        results: "i" (errno), or "" for proc_exit.
    """

    __slots__ = ("body", "inputs", "name", "output", "params", "results", "rights")

    def __init__(self, body: Body, rights: int | dict[str, int]) -> None:
        annotations = dict(body.__annotations__)
        self.output = annotations.pop("return")
        annotations.pop("guest")
        self.name: str = body.__name__
        self.body = body
        self.inputs: dict[str, Any] = annotations
        self.params: str = "".join(kind.wasm for kind in annotations.values()) + getattr(self.output, "wasm", "")
        self.results = "" if self.name == "proc_exit" else "i"
        self.rights = rights

    def right(self, parameter: str) -> int:
        """The rights that the descriptor in this parameter must have."""
        if isinstance(self.rights, dict):
            return self.rights.get(parameter, 0)
        return self.rights


FUNCTIONS: dict[str, Function] = {}
"""Every function whose family has been imported."""


def wasi(rights: int | dict[str, int] = 0) -> Callable[[Body], Body]:
    """Declare a function of preview 1.

    Args:
        rights: what its descriptor must allow, or what each of several must, by parameter name.
    """

    def declare(body: Body) -> Body:
        FUNCTIONS[body.__name__] = Function(body, rights)
        return body

    return declare


def bind(function: Function, guest: Guest) -> Body:
    """Make the callback of a function for one guest.

    Returns:
        A function of (env, caller, address of the values) that returns 0, or the address of a trap.
    """
    from donjon.wasm.wasi.p1 import _trampolines

    make = getattr(_trampolines, function.name)
    memory = guest.memory
    made: Body = make(
        guest, function.body, guest.fds, memory, memory.known.get, guest.views, guest.new_view, guest.log_error
    )
    return made


def traced(function: Function, call: Body, guest: Guest) -> Body:
    """Make a callback that also logs each call, as strace does for a native program: name(arguments) = errno."""

    def trampoline(env: int, caller: int, address: int) -> int:
        view = guest.views.get(address) or guest.new_view(address)
        given = [
            f"{view[4 * i] | view[4 * i + 1] << 32 if letter == 'I' else view[4 * i]:#x}"
            for i, letter in enumerate(function.params)
        ]
        trap: int = call(env, caller, address)
        came = "ends the guest" if trap else name_of(guest.views[address][0])
        guest.log.trace(f"{function.name}({', '.join(given)}) = {came}", "donjon.wasi")
        return trap

    return trampoline


def source(function: Function) -> str:
    """The text of a function's trampoline, inside the function that makes one for a guest.

    It holds nothing but lines of `types.py`, names of parameters, and numbers.
    """
    lines: list[str] = []
    word = 0
    for name, kind in function.inputs.items():
        right = function.right(name)
        lacks = f"{name}.rights & {right} != {right}" if right & (right - 1) else f"not {name}.rights & {right}"
        check = f"if {lacks}: v[0] = {Errno.NOTCAPABLE}; return 0" if right else ""
        slots = [(word + i) * 4 for i in range(len(kind.wasm))]
        lines += kind.load.format(*slots, x=name, rights=check).splitlines()
        word += len(kind.wasm)
    call = f"body(guest{''.join(', ' + name for name in function.inputs)})"
    if function.output is None:
        lines.append(call)
    else:
        out = function.output
        head = []
        for i in range(len(out.wasm)):
            size, align = (2, 2) if i and out.__name__ == "SizeRoflags" else (out.size, out.align)
            o = f"o{i}"
            head.append(f"{o} = v[{(word + i) * 4}]")
            head.append(f"if {o} & {align - 1}: v[0] = {Errno.INVAL}; return 0")
            head.append(
                f"if {o} + {size} > mem.size and not mem.reaches({o} + {size}, caller): v[0] = {Errno.FAULT}; return 0"
            )
        lines = [*head, *lines, out.store.format(o="o0", o2="o1", r=call)]
    inner = "".join(f"            {line}\n" for line in lines if line.strip())
    return (
        f"def {function.name}(guest, body, fds, mem, known, views, new_view, log_error):\n"
        "    def trampoline(env, caller, a):\n"
        "        v = views.get(a) or new_view(a)\n"
        "        try:\n"
        f"{inner}"
        "            v[0] = 0\n"
        "        except WasiError as error:\n"
        f"            v[0] = error.errno; log_error('{function.name}', error)\n"
        "        except OSError as error:\n"
        f"            v[0] = from_os_error(error); log_error('{function.name}', error)\n"
        "        except BaseException as error:\n"
        "            return guest.trap(error)\n"
        "        return 0\n"
        "    return trampoline\n"
    )


HEAD = '''"""The trampolines of preview 1, written by `python tools/trampolines.py`: change the declarations, not this.

A file, since compiling the text of those that a module needs took 4 ms of every start. A test compares it with its
source.
"""

from donjon.wasm.wasi.p1.errno import WasiError, from_os_error
'''


def generate() -> str:
    """The text of `_trampolines.py`."""
    from donjon.wasm.wasi.p1 import FAMILIES

    for family in FAMILIES:
        __import__(f"donjon.wasm.wasi.p1.{family}")
    return "\n\n".join([HEAD, *(source(FUNCTIONS[name]) for name in sorted(FUNCTIONS))])


class Views(dict[int, memoryview]):
    """Address of a call's values -> those values as 32-bit words; four words a value, the lower half first."""

    def new(self, address: int) -> memoryview:
        """Make the view for an address that was not met before."""
        if len(self) >= MOST_VIEWS:
            self.clear()
        raw = (ctypes.c_char * (VALUE * MOST_VALUES)).from_address(address)
        view = self[address] = memoryview(raw).cast("B").cast("I")
        return view


def new_trap(message: bytes) -> int:
    """A trap that a callback can return. The engine takes it over."""
    trap: int = _capi.api.wasmtime_trap_new(message, len(message))
    return trap
