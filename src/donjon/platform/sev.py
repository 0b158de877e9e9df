"""/dev/sev: what AMD's secure processor says of itself. Two questions, both harmless, of the kernel's driver `ccp`.

    device = Device("/dev/sev")
    status = device.platform_status()        # SNP's firmware: its state, its TCB
    chip = device.chip_id()                  # 64 bytes (8 and zeros on Turin), which AMD's certificates name

The driver takes one structure that names a command and points to a buffer, and says in the structure what the firmware
answered. Root may ask always, others as the device's permissions have it. A command's answer is 0 for success.

Sources: Linux, include/uapi/linux/psp-sev.h, drivers/crypto/ccp/sev-dev.c;
SNP-ABI, SNP_PLATFORM_STATUS; SEV API, GET_ID.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from donjon.errors import PlatformError, words_of

__all__ = ["DEVICE", "GET_ID2", "SNP_PLATFORM_STATUS", "Device", "IssueCmd", "PlatformStatus"]

DEVICE = "/dev/sev"
ISSUE = 0xC0105300
"""_IOWR('S', 0, struct sev_issue_cmd): the structure is packed and has 16 bytes."""
SNP_PLATFORM_STATUS, GET_ID2 = 9, 8
"""From enum sev_cmd: after FACTORY_RESET = 0 come PLATFORM_STATUS, PEK_GEN, PEK_CSR, PDH_GEN, PDH_CERT_EXPORT,
PEK_CERT_IMPORT, GET_ID, GET_ID2, SNP_PLATFORM_STATUS."""
CHIP_ID = 64
VLEK = 1 << 2
"""In the features of SNP_PLATFORM_STATUS: VLEK_EN."""
STATES = {0: "uninitialized", 1: "initialized"}


class IssueCmd(ctypes.Structure):
    """What the driver takes: a command's number, the address of its buffer, and room for the firmware's answer."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("cmd", ctypes.c_uint32), ("data", ctypes.c_uint64), ("error", ctypes.c_uint32))


class Status(ctypes.Structure):
    """The buffer of SNP_PLATFORM_STATUS: struct sev_user_data_snp_status, 32 bytes."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("api_major", ctypes.c_uint8),
        ("api_minor", ctypes.c_uint8),
        ("state", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("build_id", ctypes.c_uint32),
        ("features", ctypes.c_uint32),
        ("guest_count", ctypes.c_uint32),
        ("current_tcb", ctypes.c_uint8 * 8),
        ("reported_tcb", ctypes.c_uint8 * 8),
    )


class GetId2(ctypes.Structure):
    """The buffer of GET_ID2: where the id goes and how long that place is; the driver writes the length it needs."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("address", ctypes.c_uint64), ("length", ctypes.c_uint32))


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    """SNP's firmware.

    Args:
        version: of the interface, major and minor, and the build.
        state: "initialized" when SNP guests can be started; a number in words where it is another.
        guests: how many there are. current_tcb, reported_tcb: 8 bytes, as in a report.
        vlek: a key that AMD has given to the machine's provider signs reports, in place of the chip's own.
    """

    version: tuple[int, int, int]
    state: str
    guests: int
    current_tcb: bytes
    reported_tcb: bytes
    vlek: bool = False


class Device:
    """The driver.

    Args:
        path: of the device.
        ioctl: as fcntl.ioctl; tests have one that keeps the driver's rules.
    """

    def __init__(self, path: str = DEVICE, ioctl: Callable[[int, int, IssueCmd], int] | None = None) -> None:
        self.path = path
        self._ioctl = ioctl

    def platform_status(self) -> PlatformStatus:
        """Ask SNP's firmware for its state.

        Raises:
            PlatformError: there is no such device, no permission, or the firmware refuses.
        """
        status = Status()
        self._issue("SNP_PLATFORM_STATUS", SNP_PLATFORM_STATUS, status)
        return PlatformStatus(
            (status.api_major, status.api_minor, status.build_id),
            STATES.get(status.state, f"state {status.state}"),
            status.guest_count,
            bytes(status.current_tcb),
            bytes(status.reported_tcb),
            status.features & VLEK != 0,
        )

    def chip_id(self) -> bytes:
        """CHIP_ID, padded with zeros to 64 bytes as in a report.

        Raises:
            PlatformError: as above; or the id has another length than any processor's that we know.
        """
        place = (ctypes.c_uint8 * CHIP_ID)()
        request = GetId2(ctypes.addressof(place), CHIP_ID)
        self._issue("GET_ID2", GET_ID2, request)
        if not 0 < request.length <= CHIP_ID:
            raise PlatformError(f"{self.path}: GET_ID2: expected at most {CHIP_ID} bytes, got {request.length}")
        found = bytes(place)[: request.length].ljust(CHIP_ID, b"\0")
        if not any(found):
            raise PlatformError(f"{self.path}: GET_ID2: expected the chip's id, got zeros")
        return found

    def _issue(self, name: str, number: int, buffer: ctypes.Structure) -> None:
        import fcntl

        call = self._ioctl or fcntl.ioctl
        command = IssueCmd(number, ctypes.addressof(buffer), 0)
        try:
            device = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise PlatformError(f"cannot open {self.path}: {words_of(error)}", _hint(error)) from error
        try:
            call(device, ISSUE, command)
        except OSError as error:
            answer = f", the firmware says {command.error:#x}" if command.error not in (0, 0xFFFFFFFF) else ""
            raise PlatformError(f"{self.path}: {name}: {words_of(error)}{answer}", _hint(error)) from error
        finally:
            os.close(device)
        if command.error:
            raise PlatformError(f"{self.path}: {name}: the firmware says {command.error:#x}", "see dmesg")


def _hint(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "run it as root"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "an SEV machine with the module ccp has it: sudo modprobe ccp; SEV is switched on in the BIOS"
    if error.errno in (errno.EINVAL, errno.ENOTTY):
        return "a Linux 6.11 or later host with SNP switched on knows this command"
    return "see dmesg"
