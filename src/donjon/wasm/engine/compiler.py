"""Compiles a module in a process of its own, which has limits and then ends.

What compiling costs is up to whoever made the module: 120 KB can be written that take 1.7 GB and 8 seconds. So a fork
compiles, with a bound on memory and processor time, and leaves the machine code in a file that has no name; this
process only maps it. That also keeps the compiler's memory, many times a module's size, out of a Keep that lives long.
"""

from __future__ import annotations

import ctypes
import os

from donjon.errors import ParseError, PlatformError, words_of
from donjon.wasm.engine._capi import Vec, api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["compile_apart", "processor_seconds", "working_memory"]

ALONE = 100_000
"""Bytes of a module that one thread compiles in less time than it takes to start others."""
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def working_memory(size: int) -> int:
    """Bytes that compiling a module of `size` bytes may take. CPython, 26 MB, takes 0.3 GB of the 1.9 GB it may."""
    return (1 << 30) + 32 * size


def processor_seconds(size: int) -> int:
    """Seconds of processor time it may take. CPython takes 7 s here, perhaps 70 on a small board, of 322."""
    return 60 + size // 100_000


def compile_apart(data: bytes, name: str, hint: str) -> int:
    """Compile a core module.

    Args:
        data: the module.
        name: what messages call it.
        hint: what to do where it is no module.
    Returns:
        A descriptor of a file with the machine code, which the caller closes.
    Raises:
        ParseError: it is not valid, or compiling takes more than any module should.
        PlatformError: no process or file could be had.
    """
    api.load()  # once, for the fork as well
    try:
        file = _nameless_file()
        reader, writer = os.pipe()
        pid = os.fork()
    except OSError as error:
        raise PlatformError(f"cannot start a process that compiles {name}: {words_of(error)}") from error
    if pid == 0:
        os.close(reader)
        _compile(data, file, writer)
    os.close(writer)
    with open(reader, "rb") as answers:
        reason = answers.read(4096).decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if status == 0:
        return file
    os.close(file)
    if reason:
        raise ParseError(f"{name} is not a valid module: {reason}", hint=hint)
    raise ParseError(
        f"{name}: compiling its {len(data)} bytes ended early: expected to need at most "
        f"{working_memory(len(data)) >> 20} MiB of memory and {processor_seconds(len(data))} s",
        hint="if this module is no attack, the machine is short of memory, or the module has one very large function",
    )


def _compile(data: bytes, file: int, writer: int) -> NoReturn:
    """In the other process: limit it, compile, leave the result or the reason, end."""
    from donjon.wasm.engine.module import engine, reason_of

    code = 1
    try:
        _limit(len(data))
        module = ctypes.c_void_p()
        alone = len(data) < ALONE or os.cpu_count() == 1
        error = api.wasmtime_module_new(engine(alone), data, len(data), ctypes.byref(module))
        vector = Vec()
        error = error or api.wasmtime_module_serialize(module.value, ctypes.byref(vector))
        if error:
            os.write(writer, reason_of(error).encode()[:4096])
        else:
            body = memoryview((ctypes.c_char * vector.size).from_address(vector.data)).cast("B")
            done = 0
            while done < len(body):
                done += os.write(file, body[done:])
            code = 0
    finally:
        os._exit(code)


def _limit(size: int) -> None:
    """Bound this process, let it end with the one that wants its result, and keep the engine's last words to itself."""
    import resource
    import sys

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    for name in ("RUST_BACKTRACE", "RUST_LIB_BACKTRACE"):
        os.environ[name] = "0"  # out of memory while telling that it is out of memory, the engine would hang
    if "faulthandler" in sys.modules:
        sys.modules["faulthandler"].disable()  # what kills this process is an answer, not a mistake to be traced
    memory = _data_in_use() + working_memory(size)
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, processor_seconds(size))):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, hard))
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.PyDLL(None).prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _data_in_use() -> int:
    """Bytes of data that this process, a fork, has from the one before it."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux
        return 0


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("donjon-code", os.MFD_CLOEXEC)
    import tempfile

    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor
