"""What the backends of TEEs for virtual machines have in common: a module `donjon.tee.<name>.backend` each.

`donjon.tee.load_backend` imports one, so that nothing outside has to know which TEEs there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from donjon.errors import PlatformError
from donjon.tee.signatures import Signatures

__all__ = ["DEVICE_PROPERTIES", "MIB", "Backend", "Cpuid", "Measured", "check_version"]

DEVICE_PROPERTIES = "disable-legacy=on,iommu_platform=on"
"""What every virtio device needs: it sees only the memory that the guest shares with it."""
MIB = 1 << 20
Cpuid = Callable[[int], tuple[int, int, int, int] | None]
"""Leaf -> EAX, EBX, ECX, EDX; None where it is not to be had."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What reports of guests from an image will hold.

    Args:
        policy: key of the TEE's table in a policy → values in hex, each of which is one such guest's; or whether it
            allows something.
        firmware: the file; data: its bytes.
        about: which guests, or which programs, this holds for.
        note: what is not here, and why; empty where nothing is missing.
    """

    policy: Mapping[str, Sequence[str] | bool]
    firmware: str
    data: bytes
    about: str
    note: str = ""


class Backend(Protocol):
    """What each such module offers to who knows no TEE by name; what makes it start guests is its own."""

    def expect(
        self,
        kernel: bytes,
        initrd: bytes,
        cmdline: str,
        *,
        vcpus: Sequence[int],
        cpus: Sequence[str],
        given: str | None,
        debug: bool = False,
    ) -> Measured:
        """Compute what guests from these files will report.

        Args:
            vcpus, cpus: numbers of virtual processors and models, every pair of them; ignored where they are not
                measured.
            given: the path of firmware; else DONJON_FIRMWARE, else where packages put it.
            debug: the guest can be looked into, where hardware tells such guests apart.
        Raises:
            PlatformError, UsageError, ParseError: there is no firmware, or none that will do; a value does not fit.
        """

    def requirements(self, version: tuple[int, ...]) -> None:
        """Check QEMU's version.

        Raises:
            PlatformError: it is too old for such guests.
        """

    def start(
        self,
        *,
        memory: int,
        workload: bytes,
        given: str | None,
        debug: bool,
        signatures: Signatures | None,
        cpuid: Cpuid,
    ) -> list[str]:
        """QEMU's words for a machine with one virtual processor; not those for kernel and devices.

        Args:
            memory: in bytes.
            workload: 32 bytes that its reports will carry.
            given: the path of firmware, as for `expect`.
            debug: the host may read the guest, and reports say so.
            signatures: of the image.
            cpuid: asks this machine's processor.
        Raises:
            DonjonError: there is no firmware, or none that will do; something does not fit.
        """


def check_version(version: tuple[int, ...], least: tuple[int, int], guests: str, hint: str) -> None:
    """Refuse a QEMU that is too old to start such guests.

    Raises:
        PlatformError: it is.
    """
    if version[:2] < least:
        found, expected = (".".join(map(str, parts)) for parts in (version, least))
        raise PlatformError(f"QEMU {found} cannot start {guests}: expected {expected} or later", hint)
