"""The machine of a simulated confidential VM: it measures what a virtual machine is started with, and signs for it.

On real hardware the processor measures the firmware, and firmware and hypervisor between them what they start: kernel,
initial file system and command line. Here a virtual machine without protection boots these, and this module is what
the processor, its firmware and the launcher would have been:

    processor = Processor.start("lab", "snp", workload, kernel, initrd, cmdline, vcpus=1)
    processor.feed(data)            what the guest sent to the port, and what it gets (`donjon.sim.port`)

Who starts the machine gives the very bytes that the machine gets, not names of files, which may have changed when it
opens them. The firmware is the lab's: a file in the format of a real one, whose code nobody runs. The machine's own
firmware (SeaBIOS) is not measured, as the hypervisor is not: both are stand-ins for the processor.
"""

from __future__ import annotations

from donjon.sim.lab import Guest, load
from donjon.sim.port import Device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.tee.simulated import Measured

__all__ = ["Processor"]


class Processor:
    """A simulated machine with one guest on it.

    Args:
        guest: what it hands out.
        measured: fields of its reports -> values.

    Attributes:
        tee: short name of its TEE.
    """

    def __init__(self, guest: Guest, measured: Measured) -> None:
        self.tee = guest.tee
        self.measured = measured
        self._device = Device(guest)

    @classmethod
    def start(
        cls, directory: str, tee: str, workload: bytes, *, kernel: bytes, initrd: bytes, cmdline: str, vcpus: int = 1
    ) -> Processor:
        """Measure, and be ready.

        Args:
            directory: of the lab.
            tee: short name.
            workload: what the launcher puts into the report: the digest of the launch descriptor.
        Raises:
            UsageError: it is no lab, guests of the TEE are no virtual machines, or its firmware would not do.
            ParseError, PlatformError: a file of the lab is not what it was, or cannot be read.
        """
        lab = load(directory)
        measured = lab.measure(tee, kernel, initrd, cmdline, vcpus)
        return cls(lab.guest(tee, workload, measured=measured), measured)

    def feed(self, data: bytes) -> bytes:
        """What the guest has sent to the port; gives what it gets.

        Raises:
            ParseError: that is no request. The port is of no use any more.
        """
        return self._device.feed(data)
