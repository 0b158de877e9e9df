"""What a machine of a simulated TEE has beside any other: its kernel and initramfs measured, and a processor at a port.

The files are read once. What was read is measured, and QEMU gets these very bytes: sealed memory without a name, which
nobody can change in between. They are the bzImage and the compressed initramfs, as those are what hardware measures.

Nothing that the machine says here is believed. One that asks without reading the answers is not heard until it does;
one that says what is no request has no port any more, and no evidence either; its workload goes on.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import ExitStack

from donjon.errors import ParseError, UsageError
from donjon.image.store import read
from donjon.keep.vm import words
from donjon.keep.vm.loop import IN, OUT
from donjon.sim.port import NAME
from donjon.sim.processor import Processor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.image import Image
    from donjon.keep.launch import Launch
    from donjon.keep.vm.loop import Loop
    from donjon.log import Logger

__all__ = ["TEES", "Attendant", "Simulated"]

TEES = ("snp", "tdx")
"""What can be, of virtual machines. The first is what nobody has to ask for."""
KERNEL, INITRD = "bzImage", "initrd.zst"
"""Of the image's files."""
PIECE = 4096
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Simulated:
    """One such machine, before it starts and while it runs.

    Args:
        launch: with a lab.
        digest: of its launch descriptor.
        image: the variant "simulated".
    Raises:
        UsageError: that is no lab, or guests of that TEE are no virtual machines.
        ParseError, VerifyError, PlatformError: a file of the lab or the image is not what it was, or cannot be read.

    Attributes:
        processor: who measures and signs.
        kernel, initrd: what QEMU is told to boot, as it sees them.
        inherited: descriptors that QEMU gets.
        words: of its command line, for the port.
    """

    def __init__(self, launch: Launch, digest: bytes, image: Image) -> None:
        assert launch.sim is not None  # noqa: S101 - who calls has asked
        tee = TEES[0] if launch.attest == "auto" else launch.attest
        if tee not in TEES:
            raise UsageError(
                f"simulated virtual machine: expected evidence of {' or '.join(TEES)}, got {tee}",
                "without --backend kvm, --sim has that of other TEEs too",
            )
        kernel, initrd = read(image, KERNEL), read(image, INITRD)
        self.processor = Processor.start(
            launch.sim, tee, digest, kernel=kernel, initrd=initrd, cmdline=image.cmdline, vcpus=1
        )
        with ExitStack() as stack:
            files = [_sealed(data) for data in (kernel, initrd)]
            for number in files:
                stack.callback(os.close, number)
            self._device, far = socket.socketpair()
            stack.enter_context(self._device)
            stack.enter_context(far)
            self._stack = stack.pop_all()
        self._far = far
        self.kernel, self.initrd = (f"/proc/self/fd/{number}" for number in files)
        self.inherited = [*files, far.fileno()]
        self.words = words.port(NAME, far.fileno(), first=False, confidential=False)

    def started(self) -> None:
        """QEMU has what it inherits: its end of the port is closed here."""
        self._far.close()

    def attend(self, loop: Loop, log: Logger) -> None:
        """Have the loop answer the port."""
        named = ", ".join(f"{field} {value.hex()}" for field, value in self.processor.measured.items())
        log.debug(f"simulated {self.processor.tee} has measured {named}", "donjon.keep")
        Attendant(self._device, self.processor, loop, log)

    def close(self) -> None:
        """Give back what is held; the loop has ended."""
        self._stack.close()


class Attendant:
    """Carries bytes between a machine's port and its processor.

    Args:
        device: our end of the port; it stays the caller's.
    """

    def __init__(self, device: socket.socket, processor: Processor, loop: Loop, log: Logger) -> None:
        self._device = device
        self._processor = processor
        self._loop = loop
        self._log = log
        self._answers = b""
        device.setblocking(False)
        loop.watch(device.fileno(), IN, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            if self._answers:
                self._answers = self._answers[self._device.send(self._answers) :]
            else:
                data = self._device.recv(PIECE)
                if not data:
                    self.end()
                    return
                self._answers = self._processor.feed(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # the machine has ended
            self.end()
            return
        except ParseError as error:
            self._log.warn(f"the simulated processor hears the machine no more: {error.message}", "donjon.keep")
            self.end()
            return
        self._loop.watch(self._device.fileno(), OUT if self._answers else IN, self._ready)

    def end(self) -> None:
        """Hear and say nothing more; the machine sees its port hang up."""
        self._loop.forget(self._device.fileno())
        try:
            self._device.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has hung up


def _sealed(data: bytes) -> int:
    """A file without a name that holds these bytes for good."""
    number = os.memfd_create("donjon", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(number, left) :]
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(number)
        raise
    return number
