"""Why a machine has ended without a word, and what to do: from how QEMU ended, and what it said.

One message each. What a guest might have made QEMU say is quoted, never believed: it picks a hint at most.
"""

from __future__ import annotations

import re

from donjon.errors import PlatformError
from donjon.keep.vm.boot import MIB, SMALLEST

__all__ = ["explain"]

OUT_OF_MEMORY = re.compile(r"cannot allocate memory|cannot set up guest memory|insufficient .*memory", re.IGNORECASE)
NO_PERMISSION = re.compile(r"(/dev/\w[\w-]*)\W.*permission denied", re.IGNORECASE)
NO_KVM = re.compile(r"could not access kvm kernel module: permission denied", re.IGNORECASE)
PORT_TAKEN = re.compile(r"could not set up host forwarding rule", re.IGNORECASE)
DAMAGED = re.compile(
    r"(could not open kernel file|error (opening|reading)|could not load|unable to load)", re.IGNORECASE
)
ENOUGH = SMALLEST // MIB
RESET, POWERED_OFF = "guest-reset", "guest-shutdown"
SIGKILL = 9
CHECK = "`donjon image info --check` finds out whether the image is damaged"
SHOW = "--log-filter debug shows how QEMU was started"


def explain(status: int | None, said: str, reason: str, state: str, memory: int) -> PlatformError:
    """The error that tells.

    Args:
        status: QEMU's exit code, or minus the signal that ended it; None, it runs and has hung up.
        said: by QEMU, one printable line.
        reason: why the machine has ended, in the words of QEMU's monitor.
        state: of the sallyport, when it ended.
        memory: of the machine, MiB.
    """
    while_it = f" while {state}" if state else ""
    if OUT_OF_MEMORY.search(said):
        return PlatformError(
            f"this machine has no memory left for a virtual one of {memory} MiB: {said}",
            "give it less with --memory, or end something else",
        )
    if NO_KVM.search(said):
        return PlatformError(f"cannot use KVM: {said}", "sudo usermod -aG kvm $USER, then log in again")
    device = NO_PERMISSION.search(said)
    if device is not None:
        return PlatformError(f"cannot open {device[1]}: permission denied", f"join the group that owns {device[1]}")
    if PORT_TAKEN.search(said):
        return PlatformError(f"a port of this machine was taken while QEMU started: {said}", "run it again")
    if status is not None and status < 0:
        hint = "the kernel may have run out of memory: see dmesg" if -status == SIGKILL else None
        return PlatformError(f"QEMU was ended by signal {-status}{while_it}{f': {said}' if said else ''}", hint)
    if status:
        hint = CHECK if DAMAGED.search(said) else SHOW
        return PlatformError(f"QEMU has failed{while_it}: {said or f'it ended with code {status}'}", hint)
    enough = f", {ENOUGH} for a small program" if memory < ENOUGH else ""
    hint = f"it has {memory} MiB of memory: give it more with --memory{enough}; --debug shows what its kernel says"
    if reason == RESET:
        return PlatformError(f"the virtual machine's kernel panicked{while_it}", hint)
    if reason == POWERED_OFF:
        return PlatformError(f"the virtual machine has switched itself off{while_it}, without a word", hint)
    return PlatformError(f"the virtual machine has ended{while_it}, without a word{f': {said}' if said else ''}")
