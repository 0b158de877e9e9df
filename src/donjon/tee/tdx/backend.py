"""A TD as QEMU starts it: its firmware, and the words that make a virtual machine confidential.

    path, data = firmware(None)                        found and read
    requirements(version)
    words = machine(memory=..., vcpus=1, mr_config_id=digest, firmware=path)
    + -kernel, -initrd, -append, and devices that each have DEVICE_PROPERTIES

Quotes are made by a service on the host (Intel's qgsd), which QEMU asks for the guest. QEMU starts no TDs that can be
debugged. Nothing here has been run on such hardware yet; QEMU's own list of properties is what the tests compare with.

Source: QEMU, docs/system/i386/tdx.rst and qapi/qom.json, TdxGuestProperties.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Sequence

from donjon.errors import UsageError
from donjon.tee import firmware as files
from donjon.tee.backend import DEVICE_PROPERTIES, MIB, Cpuid, Measured, check_version
from donjon.tee.signatures import Signatures
from donjon.tee.tdx import measure

__all__ = [
    "DEVICE_PROPERTIES",
    "FIRMWARE",
    "MIN_QEMU",
    "expect",
    "firmware",
    "machine",
    "quote_service",
    "requirements",
    "start",
]

MIN_QEMU = (10, 1)
FIRMWARE = ("/usr/share/ovmf/OVMF.fd", "/usr/share/edk2/ovmf/OVMF.inteltdx.fd")
"""Where Debian's package ovmf and Fedora's edk2-ovmf put one that boots a kernel which nobody has signed."""
QUOTE_SOCKET = "/var/run/tdx-qgs/qgs.socket"
QUOTE_PORT = 4050
MACHINE = (
    "q35,confidential-guest-support=tdx0,memory-backend=ram0,kernel-irqchip=split,"
    "graphics=off,usb=off,vmport=off,smm=off,hpet=off"
)
RTMR0 = (
    "RTMR0 is not here: it holds ACPI tables and memory as QEMU gives them, and follows from no file. "
    "To pin it, take it from a first start that you trust."
)


def machine(
    *, memory: int, vcpus: int, mr_config_id: bytes, firmware: str, quotes: dict[str, str] | None = None
) -> list[str]:
    """QEMU's words for the machine; not those for kernel and devices.

    Args:
        memory: in bytes.
        mr_config_id: up to 48 bytes that quotes carry, zeros behind them: the workload's digest.
        firmware: a path; see `firmware`.
        quotes: where the quoting service is, in QEMU's words; else `quote_service()`.
    Raises:
        UsageError: a value does not fit.
    """
    if len(mr_config_id) > 48:
        raise UsageError(f"mr_config_id: expected at most 48 bytes, got {len(mr_config_id)}")
    guest = {
        "qom-type": "tdx-guest",
        "id": "tdx0",
        "mrconfigid": b64encode(mr_config_id.ljust(48, b"\0")).decode("ascii"),
        "quote-generation-socket": quote_service() if quotes is None else quotes,
    }
    return [
        "-accel", "kvm",
        "-cpu", "host",
        "-smp", str(vcpus),
        "-m", f"{memory // MIB}M",
        "-M", MACHINE,
        "-object", f"memory-backend-ram,id=ram0,size={memory // MIB}M",
        "-object", json.dumps(guest, separators=(",", ":")),
        "-bios", firmware,
    ]  # fmt: skip


def start(
    *,
    memory: int,
    workload: bytes,
    given: str | None,
    debug: bool,
    signatures: Signatures | None,
    cpuid: Cpuid,  # noqa: ARG001 - nothing here depends on the processor
) -> list[str]:
    """As `donjon.tee.backend.Backend`."""
    if signatures is not None:
        raise UsageError("signatures: TDs have none", "remove --signatures; a policy names the launch digests")
    if debug:
        raise UsageError("QEMU starts no TDs that can be debugged", "remove --debug")
    path, _ = firmware(given)
    return machine(memory=memory, vcpus=1, mr_config_id=workload, firmware=path)


def quote_service() -> dict[str, str]:
    """Where the host's quoting service listens: its Unix socket where there is one, else vsock port 4050."""
    if os.path.exists(QUOTE_SOCKET):
        return {"type": "unix", "path": QUOTE_SOCKET}
    return {"type": "vsock", "cid": "2", "port": str(QUOTE_PORT)}


def requirements(version: tuple[int, ...]) -> None:
    """Check QEMU's version.

    Raises:
        PlatformError: it is too old for TDs.
    """
    check_version(
        version,
        MIN_QEMU,
        "TDs",
        "on Debian 13, install qemu-system-x86 from trixie-backports; RTMR1 can be computed from 10.2 on",
    )


def expect(
    kernel: bytes,
    initrd: bytes,
    cmdline: str,
    *,
    vcpus: Sequence[int],  # noqa: ARG001 - neither is measured
    cpus: Sequence[str],  # noqa: ARG001
    given: str | None,
    debug: bool = False,  # noqa: ARG001 - QEMU starts no TDs that can be looked into
) -> Measured:
    """As `donjon.tee.backend.Backend`: MRTD, RTMR1 and RTMR2, which hold for any number of processors."""
    path, data = firmware(given)
    registers = {
        "hash": measure.mrtd(data),
        "rtmr1": measure.rtmr1(kernel),
        "rtmr2": measure.rtmr2(cmdline, initrd),
    }
    policy = {name: [value.hex()] for name, value in registers.items()}
    return Measured(policy, path, data, "QEMU 10.2 or later, OVMF 2025.05 or later", RTMR0)


def firmware(given: str | None) -> tuple[str, bytes]:
    """Find the firmware, read it, and see that it can start a TD.

    Args:
        given: what the user named; else DONJON_FIRMWARE, else where packages put it.
    Returns:
        Its path and its bytes.
    Raises:
        PlatformError: there is none. ParseError: it is malformed, or knows nothing of TDX.
    """
    hint = f"install the Debian package ovmf, or name one with --firmware or {files.VARIABLE}"
    path = files.find(given, FIRMWARE, hint)
    data = files.read(path)
    measure.parse(data)
    return path, data
