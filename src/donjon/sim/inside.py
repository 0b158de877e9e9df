"""The guest's end of a simulated confidential VM: a stand-in for configfs-tsm whose reports come over a port.

Only the image's variant "simulated" has this module, and the others of `donjon.sim` that it needs. Its process 1 calls
`attach` when it has mounted what it mounts; the production image's has nothing to call. What it attaches looks to the
rest of the Keep as the kernel's own interface does on real hardware, and is at the same place.
"""

from __future__ import annotations

import os

from donjon import linux
from donjon.sim import fuse
from donjon.sim.kernel import ConfigFs
from donjon.sim.port import NAME, Far
from donjon.tee.tsm import ROOT

__all__ = ["attach"]

CONFIGFS = "/sys/kernel/config"
MODULE = "/lib/modules/configfs.ko"


def attach() -> None:
    """Put the stand-in where collectors look, if the machine has the port; else do nothing.

    A process stays behind, which serves it until the machine ends.

    Raises:
        OSError: nobody answers at the port, or nothing can be mounted.
    """
    path = linux.virtio_port(NAME)
    if path is None:
        return
    port = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    rules = ConfigFs(Far(port))
    if not os.path.isdir(ROOT):
        make_place()
    device = fuse.mount(ROOT)
    if os.fork() == 0:
        try:
            fuse.serve(rules, device)
        finally:
            os._exit(1)
    os.close(device)
    os.close(port)


def make_place() -> None:
    """A directory to mount on, where the kernel has none: no driver has registered."""
    if not os.path.isdir(CONFIGFS):  # that of the kernel's module, which is signed as all are
        linux.load_module(MODULE)
    nothing = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("tmpfs", CONFIGFS, "tmpfs", nothing, "size=64k,mode=755")
    os.makedirs(ROOT)
