"""An SNP guest as QEMU starts it: its firmware, and the words that make a virtual machine confidential.

    path, data = firmware(None)                        found, read, and sure to measure the kernel
    requirements(version)
    words = machine(memory=..., vcpus=1, host_data=digest, firmware=path, ...)
    + -kernel, -initrd, -append, and devices that each have DEVICE_PROPERTIES

The launch digest (`measure`) is of exactly these words with exactly these files. Nothing here has been run on such
hardware yet; QEMU's own list of properties is what the tests compare with.

Source: QEMU, docs/system/i386/amd-memory-encryption.rst and qapi/qom.json, SevSnpGuestProperties; APM volume 3, CPUID
leaf 8000001Fh.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from donjon.errors import UsageError
from donjon.tee import firmware as files
from donjon.tee.backend import DEVICE_PROPERTIES, MIB, Cpuid, Measured, check_version
from donjon.tee.signatures import Signatures
from donjon.tee.snp import firmware as fw
from donjon.tee.snp.idblock import POLICY
from donjon.tee.snp.idblock import check as check_id_block
from donjon.tee.snp.layout import GuestPolicy
from donjon.tee.snp.measure import CPU, launch_digest

__all__ = [
    "DEVICE_PROPERTIES",
    "FIRMWARE",
    "MIN_QEMU",
    "encryption",
    "expect",
    "firmware",
    "machine",
    "requirements",
    "start",
]

MIN_QEMU = (9, 1)
FIRMWARE = ("/usr/share/ovmf/OVMF.amdsev.fd", "/usr/share/edk2/ovmf/OVMF.amdsev.fd")
"""Where Debian's package ovmf-amdsev and Fedora's edk2-ovmf put it."""
ENCRYPTION, CBITPOS = 0x8000001F, 51
"""The leaf of CPUID that says where the bit of encryption is, and where it is on all processors so far."""
MACHINE = (
    "q35,confidential-guest-support=sev0,memory-backend=ram0,kernel-irqchip=split,"
    "graphics=off,usb=off,vmport=off,smm=off"
)


def machine(
    *,
    memory: int,
    vcpus: int,
    host_data: bytes,
    firmware: str,
    id_block: bytes | None = None,
    id_auth: bytes | None = None,
    debug: bool = False,
    cpu: str = CPU,
    cbitpos: int = CBITPOS,
    reduced_phys_bits: int = 1,
) -> list[str]:
    """QEMU's words for the machine; not those for kernel and devices.

    Args:
        memory: in bytes. vcpus, cpu: they are in the launch digest.
        host_data: 32 bytes that reports carry: the workload's digest.
        firmware: a path; see `firmware`.
        id_block, id_auth: signed by `idblock.sign`; both or none.
        debug: POLICY lets the host read the guest, and reports say so.
        cbitpos, reduced_phys_bits: of the host's processor, see `encryption`.
    Raises:
        UsageError: a value does not fit. ParseError, VerifyError: the ID block is none that a guest would start with.
    """
    if len(host_data) != 32:
        raise UsageError(f"host_data: expected 32 bytes, got {len(host_data)}")
    if (id_block is None) != (id_auth is None):
        missing = "id_block" if id_block is None else "id_auth"
        raise UsageError(f"id_block and id_auth: expected both or none, got no {missing}")
    policy = POLICY | GuestPolicy.DEBUG if debug else POLICY
    guest = (
        f"sev-snp-guest,id=sev0,cbitpos={cbitpos},reduced-phys-bits={reduced_phys_bits},policy={int(policy):#x},"
        f"kernel-hashes=on,host-data={_base64(host_data)}"
    )
    if id_block is not None and id_auth is not None:
        signed = check_id_block(id_block, id_auth)
        if signed.policy != policy:
            raise UsageError(
                f"IdBlock.policy: expected {int(policy):#x}, with which this guest starts, got {int(signed.policy):#x}",
                "sign again with `donjon sign`",
            )
        guest += f",id-block={_base64(id_block)},id-auth={_base64(id_auth)},author-key-enabled=on"
    return [
        "-accel", "kvm",
        "-cpu", cpu,
        "-smp", str(vcpus),
        "-m", f"{memory // MIB}M",
        "-M", MACHINE,
        "-object", f"memory-backend-memfd,id=ram0,size={memory // MIB}M,share=on",
        "-object", guest,
        "-bios", firmware,
    ]  # fmt: skip


def start(
    *, memory: int, workload: bytes, given: str | None, debug: bool, signatures: Signatures | None, cpuid: Cpuid
) -> list[str]:
    """As `donjon.tee.backend.Backend`: `machine` with what this processor and the file of signatures say."""
    path, _ = firmware(given)
    block = auth = None
    if signatures is not None:
        if signatures.sev is None:
            raise UsageError("signatures: expected those of SNP, got none", "`donjon sign --sev-id-key ...` makes them")
        block, auth = bytes(signatures.sev.id_block), bytes(signatures.sev.id_auth)
    found = cpuid(ENCRYPTION)
    cbitpos = CBITPOS if found is None else encryption(found[1])[0]
    return machine(
        memory=memory, vcpus=1, host_data=workload, firmware=path, id_block=block, id_auth=auth, debug=debug,
        cbitpos=cbitpos,
    )  # fmt: skip


def requirements(version: tuple[int, ...]) -> None:
    """Check QEMU's version.

    Raises:
        PlatformError: it is too old for SNP guests.
    """
    check_version(
        version,
        MIN_QEMU,
        "SNP guests",
        "on Debian 12, install qemu-system-x86 from bookworm-backports; or use a newer distribution",
    )


def expect(
    kernel: bytes,
    initrd: bytes,
    cmdline: str,
    *,
    vcpus: Sequence[int],
    cpus: Sequence[str],
    given: str | None,
    debug: bool = False,
) -> Measured:
    """As `donjon.tee.backend.Backend`: a launch digest for each pair of number and model."""
    path, data = firmware(given)
    digests = [launch_digest(data, kernel, initrd, cmdline, count, cpu).hex() for cpu in cpus for count in vcpus]
    policy: dict[str, Sequence[str] | bool] = {"hash": digests}
    if debug:
        policy["allow_debug"] = True  # POLICY.DEBUG of reports, which the launch digest does not cover
    return Measured(policy, path, data, f"{','.join(map(str, vcpus))} x {','.join(cpus)}")


def firmware(given: str | None) -> tuple[str, bytes]:
    """Find the firmware, read it, and see that it measures the kernel.

    Args:
        given: what the user named; else DONJON_FIRMWARE, else where packages put it.
    Returns:
        Its path and its bytes.
    Raises:
        PlatformError: there is none. UsageError: it would boot any kernel. ParseError: it is malformed.
    """
    path = files.find(given, FIRMWARE, f"install {fw.NEEDED}, or name one with --firmware or {files.VARIABLE}")
    data = files.read(path)
    fw.check_measures_kernel(fw.parse(data))
    return path, data


def encryption(ebx: int) -> tuple[int, int]:
    """`cbitpos` and `reduced_phys_bits` from CPUID.

    Args:
        ebx: register EBX of leaf 8000001Fh.
    """
    return ebx & 0x3F, ebx >> 6 & 0x3F


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
