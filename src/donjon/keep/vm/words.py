"""The words of QEMU's command line, computed and nothing else.

The machine is a bare q35: one virtio-serial port, the sallyport; a network card where something needs the network; no
disk, no display, nothing that a guest could probe beside these; QEMU's monitor is a wire to us, of which a guest sees
nothing. `-nodefaults -no-user-config` keep what others configured out, `-sandbox` has QEMU give up what it never needs.

Software emulation (TCG) has rules of its own: `-cpu max`, as smaller ones lack instructions that the engine is built
with; without `cx16`: QEMU 7.2 spoils the flags after `cmpxchg16b`, of which kernels die now and then; without `erms`:
what the kernel copies with it goes byte by byte, and a start takes 0.3 s longer.
"""

from __future__ import annotations

from donjon.keep.network import GUEST_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MIB", "PROCESSOR", "common", "console", "kvm", "monitor", "network", "port"]

MIB = 1 << 20
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
PROCESSOR = {"kvm": "host", "tcg": "max,-cx16,-erms"}


def kvm(accel: str, memory: int, firmware: str | None) -> list[str]:
    """A plain virtual machine: the kernel's ELF file is entered through PVH, which spares it unpacking itself.

    Args:
        accel: "kvm" or "tcg".
        memory: bytes.
        firmware: a file, or a name that QEMU knows; None, QEMU's own default.
    """
    return [
        "-M", "q35,graphics=off,usb=off,vmport=off",
        "-accel", accel,
        "-cpu", PROCESSOR[accel],
        "-smp", "1",
        "-m", f"{memory // MIB}M",
        *(("-bios", firmware) if firmware is not None else ()),
    ]  # fmt: skip


def common(kernel: str, initrd: str, cmdline: str) -> list[str]:
    """What every machine has, whatever protects it."""
    return [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",  # a kernel that panics asks for a restart: QEMU ends instead
        "-display", "none",
        "-sandbox", SANDBOX,
        "-kernel", kernel,
        "-initrd", initrd,
        "-append", cmdline,
    ]  # fmt: skip


def port(name: str, descriptor: int, first: bool, confidential: bool) -> list[str]:
    """A virtio-serial port whose other end is a socket that QEMU inherits.

    Args:
        first: the controller comes with the first.
        confidential: the guest's memory is encrypted, so devices see only what it puts into bounce buffers.
    """
    tag = f"port{descriptor}"
    controller = ["-device", "virtio-serial-pci,id=ports,max_ports=4" + (_DMA if confidential else "")]
    return [
        *(controller if first else ()),
        "-chardev", f"socket,id={tag},fd={descriptor}",
        "-device", f"virtserialport,bus=ports.0,chardev={tag},name={name}",
    ]  # fmt: skip


_DMA = ",disable-legacy=on,iommu_platform=on"


def monitor(descriptor: int) -> list[str]:
    """QEMU's monitor, which says why a machine has ended."""
    return ["-chardev", f"socket,id=monitor,fd={descriptor}", "-mon", "chardev=monitor,mode=control"]


def console(descriptor: int) -> list[str]:
    """The first serial line, where the debug image has its console."""
    return ["-chardev", f"socket,id=console,fd={descriptor}", "-serial", "chardev:console"]


def network(forwards: Sequence[tuple[int, int]], confidential: bool) -> list[str]:
    """A network card that leads nowhere (`restrict=on`), but for private ports of ours that lead to ports of the guest.

    Args:
        forwards: port on 127.0.0.1, port of the guest.
    """
    rules = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-{GUEST_ADDRESS}:{theirs}" for ours, theirs in forwards)
    return [
        "-netdev", f"user,id=net,restrict=on,ipv6=off{rules}",
        "-device", "virtio-net-pci,netdev=net,romfile=" + (_DMA if confidential else ""),
    ]  # fmt: skip
