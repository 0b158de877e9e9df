"""A guest of a few instructions, run on /dev/kvm: `kvm.py` starts this file as a process of its own.

    python -IS _trial.py DEVICE          prints one JSON object, see `main`

It is a file that stands alone, as it is run without the rest of Donjon: whatever KVM does to it, nobody else hangs.

The guest starts where a kernel soon is: in 64-bit mode, with page tables and an interrupt table of its own. It counts
in memory, says over a port that it has come so far, is interrupted once, says so too, and halts. A real virtual machine
does that at the processor's speed, in less than a millisecond. Where KVM has no hardware beneath it, each instruction
is emulated by the host's kernel: then a HLT alone still works, every ioctl answers as it should, and an operating
system would take hours. Time is that of the processor, so it does not matter how busy the machine is.

Sources: Linux, Documentation/virt/kvm/api.rst, include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h;
AMD64 Architecture Programmer's Manual, volume 2, long mode.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys
import time

TURNS = 200_000
"""Of the loop; three instructions each. A processor takes less than a millisecond."""

# ioctl numbers: _IO(0xAE, n), _IOR and _IOW with a size.
GET_API_VERSION, CREATE_VM, CHECK_EXTENSION, GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE03, 0xAE04
GET_SUPPORTED_CPUID = 0xC008AE05
CREATE_VCPU, SET_TSS_ADDR, SET_USER_MEMORY_REGION = 0xAE41, 0xAE47, 0x4020AE46
RUN, SET_REGS, GET_SREGS, SET_SREGS, SET_CPUID2 = 0xAE80, 0x4090AE82, 0x8138AE83, 0x4138AE84, 0x4008AE90
EXIT_IO, EXIT_HLT = 2, 5
EXIT_REASON, IO_PORT = 8, 34
"""Offsets in struct kvm_run: exit_reason, io.port."""

MEMORY = 0x10000
TABLES, IDT, GDT, COUNT, HANDLER, CODE, STACK = 0x1000, 0x4000, 0x5000, 0x6000, 0x7000, 0x8000, 0xF000
PORT = 0x10


def main(device: str) -> dict[str, object]:
    """Run the guest.

    Returns:
        `api`: the version. `step`: the last thing that was begun. `seconds`: of the processor, for the loop.
        `error`: what went wrong, if something did.
    """
    found: dict[str, object] = {"step": "open"}
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        found["step"] = "api"
        found["api"] = fcntl.ioctl(kvm, GET_API_VERSION, 0)
        if found["api"] != 12:
            return found
        _run(kvm, found)
    except OSError as error:
        found["error"] = (error.strerror or str(error)).lower()
        found["errno"] = error.errno
    return found


def _run(kvm: int, found: dict[str, object]) -> None:
    found["step"] = "vm"
    vm = fcntl.ioctl(kvm, CREATE_VM, 0)
    fcntl.ioctl(vm, SET_TSS_ADDR, 0x7FFBD000)  # any place without memory
    memory = mmap.mmap(-1, MEMORY)
    _fill(memory)
    address = _address(memory)
    fcntl.ioctl(vm, SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, MEMORY, address))
    found["step"] = "vcpu"
    vcpu = fcntl.ioctl(vm, CREATE_VCPU, 0)
    cpuid = bytearray(struct.pack("<II", 100, 0) + bytes(40 * 100))
    fcntl.ioctl(kvm, GET_SUPPORTED_CPUID, cpuid)
    fcntl.ioctl(vcpu, SET_CPUID2, cpuid)
    shared = mmap.mmap(vcpu, fcntl.ioctl(kvm, GET_VCPU_MMAP_SIZE, 0))
    fcntl.ioctl(vcpu, SET_SREGS, _special(vcpu))
    registers = [0] * 18
    registers[6], registers[16], registers[17] = STACK, CODE, 2  # rsp, rip, rflags
    fcntl.ioctl(vcpu, SET_REGS, struct.pack("<18Q", *registers))
    found["step"] = "loop"
    begun = time.process_time()
    fcntl.ioctl(vcpu, RUN, 0)
    found["seconds"] = time.process_time() - begun
    reason, port = _at(shared, EXIT_REASON, "<I"), _at(shared, IO_PORT, "<H")
    if (reason, port) != (EXIT_IO, PORT):
        found["error"] = f"the guest ended with KVM's exit reason {reason}, not by writing to its port"
        return
    found["step"] = "interrupt"
    for expected in (EXIT_IO, EXIT_HLT):
        fcntl.ioctl(vcpu, RUN, 0)
        if (reason := _at(shared, EXIT_REASON, "<I")) != expected:
            found["error"] = f"the guest ended with KVM's exit reason {reason}, not {expected}"
            return
    counted = _at(memory, COUNT, "<Q"), _at(memory, COUNT + 8, "<Q")
    if counted != (TURNS, 1):
        found["error"] = f"the guest counted {counted[0]} turns and {counted[1]} interrupts, not {TURNS} and 1"
        return
    found["step"] = "done"


def _fill(memory: mmap.mmap) -> None:
    """Page tables that map the first 2 MiB to themselves, one interrupt gate, segments, code."""
    struct.pack_into("<Q", memory, TABLES, TABLES + 0x1000 | 3)
    struct.pack_into("<Q", memory, TABLES + 0x1000, TABLES + 0x2000 | 3)
    struct.pack_into("<Q", memory, TABLES + 0x2000, 0x83)
    struct.pack_into("<HHBBHII", memory, IDT + 3 * 16, HANDLER, 8, 0, 0x8E, 0, 0, 0)
    struct.pack_into("<3Q", memory, GDT, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    handler = b"\x48\xff\x04\x25" + struct.pack("<I", COUNT + 8) + b"\x48\xcf"  # inc qword [COUNT+8]; iretq
    memory[HANDLER : HANDLER + len(handler)] = handler
    code = (
        b"\xb9" + struct.pack("<I", TURNS)  # mov ecx, TURNS
        + b"\x48\xff\x04\x25" + struct.pack("<I", COUNT)  # again: inc qword [COUNT]
        + b"\xff\xc9\x75\xf4"  # dec ecx; jnz again
        + b"\xe6" + bytes((PORT,))  # out PORT, al
        + b"\xcc\xe6" + bytes((PORT,))  # int3; out PORT, al
        + b"\xf4"  # hlt
    )  # fmt: skip
    memory[CODE : CODE + len(code)] = code


def _special(vcpu: int) -> bytes:
    """What is in struct kvm_sregs for 64-bit mode: eight segments of 24 bytes, two tables of 16, control registers."""
    registers = bytearray(312)
    fcntl.ioctl(vcpu, GET_SREGS, registers)
    # base, limit, selector, type, present, dpl, db, s, l, g, avl, unusable, padding
    code = struct.pack("<QIH10B", 0, 0xFFFFFFFF, 8, 11, 1, 0, 0, 1, 1, 1, 0, 0, 0)
    data = struct.pack("<QIH10B", 0, 0xFFFFFFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0)
    for index in range(6):  # cs, ds, es, fs, gs, ss
        registers[24 * index : 24 * index + 24] = data if index else code
    struct.pack_into("<QH", registers, 192, GDT, 23)
    struct.pack_into("<QH", registers, 208, IDT, 0xFFF)
    struct.pack_into("<4Q", registers, 224, 0x80050033, 0, TABLES, 0x20)  # cr0, cr2, cr3, cr4: paging, PAE
    struct.pack_into("<Q", registers, 264, 0x500)  # efer: long mode, enabled and active
    return bytes(registers)


def _at(memory: mmap.mmap, offset: int, form: str) -> int:
    return int(struct.unpack_from(form, memory, offset)[0])


def _address(memory: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


if __name__ == "__main__":
    import json

    sys.stdout.write(json.dumps(main(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # what is mapped is still referred to: the kernel takes it apart
