"""What a simulated confidential VM has inside, on this machine: the stand-in without a library; its reports come from
another process, at the end of a socket.

    python -m tests.sim.raw_mount LAB MOUNTPOINT TEE WORKLOAD
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from donjon import sim
from donjon.sim import fuse, kernel
from donjon.sim.port import Device, Far


def main(lab: str, where: str, tee: str, workload: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    inside, outside = socket.socketpair()
    device = fuse.mount(where)
    if os.fork() == 0:
        os.close(device)
        inside.close()
        machine = Device(sim.load(lab).guest(tee, bytes.fromhex(workload)))
        while data := outside.recv(13):  # in pieces, so that nobody can count on whole requests
            outside.sendall(machine.feed(data))
        os._exit(0)
    outside.close()
    far = Far(inside.detach())
    fuse.serve(kernel.Gramine(far) if far.tee == "sgx" else kernel.ConfigFs(far), device)


if __name__ == "__main__":
    main(*sys.argv[1:])
