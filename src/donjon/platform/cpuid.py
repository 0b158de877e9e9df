"""The processor's instruction CPUID: what it says of itself, straight from it.

The kernel's /proc/cpuinfo leaves out what it does not use, and /dev/cpu/*/cpuid needs root and a module that few load.
The instruction itself is allowed to everybody, so 27 bytes of machine code ask it: they are written into a page of our
own, which then becomes executable and can be written no more. Where a system forbids such pages (SELinux may), the
kernel's device is read instead; where neither can be had, nothing is known, which is no error.

Source: Intel SDM, volume 2, CPUID; AMD64 Architecture Programmer's Manual, volume 3, CPUID; System V ABI, AMD64.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys

__all__ = ["Registers", "cpuid"]

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""

CODE = bytes.fromhex(
    "53"  # push rbx: the caller's
    "4989d0"  # mov r8, rdx: where the answer goes
    "89f8"  # mov eax, edi: leaf
    "89f1"  # mov ecx, esi: subleaf
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
DEVICE = "/dev/cpu/0/cpuid"


def cpuid(leaf: int, subleaf: int = 0) -> Registers | None:
    """Ask this machine's processor.

    Returns:
        None where there is no such instruction, or no way to it; and for a leaf beyond the last one, for which
        processors of Intel answer something else.
    """
    if os.uname().machine not in ("x86_64", "amd64", "i686"):
        return None
    last = _ask(leaf & 0xC0000000, 0)
    return _ask(leaf, subleaf) if last is not None and leaf <= last[0] else None


def _ask(leaf: int, subleaf: int) -> Registers | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if os.uname().machine != "i686" and sys.platform in ("linux", "darwin", "freebsd"):
            return _run(leaf, subleaf)
    with contextlib.suppress(OSError, struct.error):
        device = os.open(DEVICE, os.O_RDONLY | os.O_CLOEXEC)
        try:  # the position is the leaf, with the subleaf above. Source: Linux, arch/x86/kernel/cpuid.c
            return struct.unpack("<4I", os.pread(device, 16, leaf | subleaf << 32))
        finally:
            os.close(device)
    return None


def _run(leaf: int, subleaf: int) -> Registers:
    """Run the code.

    Raises:
        OSError: there is no memory for it, or none that may hold code.
    """
    import ctypes
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    page.write(CODE)
    place = ctypes.c_char.from_buffer(page)
    try:
        address = ctypes.addressof(place)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if protect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError(ctypes.get_errno(), "mprotect")
        answer = (ctypes.c_uint32 * 4)()
        ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)(
            leaf, subleaf, ctypes.addressof(answer)
        )
        return answer[0], answer[1], answer[2], answer[3]
    finally:
        del place
        page.close()
