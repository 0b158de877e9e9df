"""The guest's end of a simulated confidential VM: a stand-in for configfs-tsm whose reports come over a port.

Only the image's variant "simulated" has this module, and the others of `donjon.sim` that it needs. Its process 1 calls
`attach` when it has mounted what it mounts; the production image's has nothing to call. What it attaches looks to the
rest of the Keep as the kernel's own interface does on real hardware, and is at the same place.
"""

from __future__ import annotations

import ctypes
import os
import re

from donjon.sim import fuse
from donjon.sim.kernel import ConfigFs
from donjon.sim.port import NAME, Far
from donjon.tee.tsm import ROOT

__all__ = ["attach"]

PORTS = "/sys/class/virtio-ports"
CONFIGFS = "/sys/kernel/config"
MODULE = "/lib/modules/configfs.ko"
FINIT_MODULE = 313
"""The number of the system call on x86-64; the C library has no function for it."""
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8


def attach(root: str = ROOT, ports: str = PORTS) -> None:
    """Put the stand-in where collectors look, if the machine has the port; else do nothing.

    A process stays behind, which serves it until the machine ends.

    Raises:
        OSError: nobody answers at the port, or nothing can be mounted.
    """
    path = find(ports)
    if path is None:
        return
    port = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    rules = ConfigFs(Far(port))
    if not os.path.isdir(root):
        make_place(root)
    device = fuse.mount(root)
    if os.fork() == 0:
        try:
            fuse.serve(rules, device)
        finally:
            os._exit(1)
    os.close(device)
    os.close(port)


def find(ports: str) -> str | None:
    """The device of the port; None where there is none of its name."""
    try:
        names = sorted(os.listdir(ports))
    except FileNotFoundError:
        return None
    for name in names:
        with open(f"{ports}/{name}/name", encoding="utf-8", errors="replace") as file:
            if re.fullmatch(r"vport\d+p\d+", name) and file.read(64).strip() == NAME:
                return f"/dev/{name}"
    return None


def make_place(root: str) -> None:
    """A directory to mount on, where the kernel has none: no driver has registered."""
    if not os.path.isdir(CONFIGFS):  # that of the kernel's module, which is signed as all are
        module = os.open(MODULE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            called("finit_module", ctypes.c_long(FINIT_MODULE), module, b"", 0)
        finally:
            os.close(module)
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    called("mount", b"tmpfs", CONFIGFS.encode(), b"tmpfs", flags, b"size=64k,mode=755")
    os.makedirs(root)


def called(name: str, *arguments: object) -> None:
    """Call the C library, or the kernel by a number.

    Raises:
        OSError: it fails.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, "syscall" if name == "finit_module" else name)
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
