"""The launch digest of an SNP guest, before there is one: MEASUREMENT of its reports, from files and a few numbers.

The processor folds every page that the host adds before the start into one SHA-384 value, PAGE_INFO by PAGE_INFO. In
QEMU's order these are: the firmware; its sections, one of which holds the SHA-256 of kernel, initrd and command line;
the state of each virtual processor. So the digest depends on

    the files and the command line     the number of processors     their model, which stands in a register at start
    SEV_FEATURES                       QEMU, whose initial state of a processor is its own

and not on memory size, devices, POLICY or HOST_DATA. The library sev-snp-measure (of the virtee project) knows the
processors' states and does the folding; firmware is read by `donjon.tee.snp.firmware`, which refuses what is malformed.

Source: SNP-ABI, SNP_LAUNCH_UPDATE, table PAGE_INFO; QEMU, target/i386/sev.c, for the table of hashes and the order.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from typing import Any

from donjon.errors import PlatformError, UsageError
from donjon.tee.ovmf import PAGE, guid
from donjon.tee.snp import firmware as fw
from donjon.tee.snp.firmware import SectionType
from donjon.wire import layout, pack, raw, u16, zero

__all__ = ["CPU", "FEATURES", "MAX_VCPUS", "add_guest", "cpus", "hash_page", "launch_digest"]

CPU = "EPYC-v4"
"""The model for which Donjon publishes digests: every machine with SNP can run it."""
FEATURES = 0x1
"""SEV_FEATURES as QEMU asks for them: SNP is active, and nothing else."""
MAX_VCPUS = 512

_TABLE = guid("9438d606-4f22-4cc9-b479-a793d411fd21")
_CMDLINE = guid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD = guid("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL = guid("4de79437-abd2-427f-b835-d5b172d2045b")


# fmt: off
@layout(size=0xB0, spec="QEMU, target/i386/sev.c, PaddedSevHashTable")
class HashTable:
    """What the host tells the firmware about kernel, initrd and command line."""

    name:           bytes = raw(0x00, 16, only=(_TABLE,))
    length:         int   = u16(0x10, only=(168,))
    cmdline_name:   bytes = raw(0x12, 16, only=(_CMDLINE,))
    cmdline_length: int   = u16(0x22, only=(50,))
    cmdline:        bytes = raw(0x24, 32)
    initrd_name:    bytes = raw(0x44, 16, only=(_INITRD,))
    initrd_length:  int   = u16(0x54, only=(50,))
    initrd:         bytes = raw(0x56, 32)
    kernel_name:    bytes = raw(0x76, 16, only=(_KERNEL,))
    kernel_length:  int   = u16(0x86, only=(50,))
    kernel:         bytes = raw(0x88, 32)
    padding_a8            = zero(0xA8, 8)
# fmt: on


def launch_digest(
    firmware: bytes, kernel: bytes, initrd: bytes, cmdline: str, vcpus: int, cpu: str = CPU, features: int = FEATURES
) -> bytes:
    """What reports of a guest from these files have as MEASUREMENT.

    Args:
        firmware: OVMF that measures the kernel, at most 16 MiB.
        kernel: the bzImage, as QEMU is given it; initrd: likewise, b"" for none.
        cmdline: of the kernel, without the zero byte that QEMU adds.
        vcpus: how many virtual processors; cpu: their model, as QEMU calls it, one of `cpus()`.
        features: SEV_FEATURES.
    Returns:
        48 bytes.
    Raises:
        ParseError: the firmware is malformed.
        UsageError: it does not measure the kernel; no such model or number.
        PlatformError: the library is not installed.
    """
    models = _library("vcpu_types").CPU_SIGS
    if cpu not in models:
        raise UsageError(f'cpu: expected one of {", ".join(models)}, got "{cpu}"')
    if not 1 <= vcpus <= MAX_VCPUS:
        raise UsageError(f"vcpus: expected 1 to {MAX_VCPUS}, got {vcpus}")
    if not 0 <= features < 1 << 64:
        raise UsageError(f"features: expected a number of 8 bytes, got {features}")
    found = fw.parse(firmware)
    fw.check_measures_kernel(found)
    chain = _library("gctx").GCTX()
    chain.update_normal_pages(found.base, found.data)
    add_guest(chain, found, hash_page(found, kernel, initrd, cmdline), vcpus, models[cpu], features)
    digest: bytes = chain.ld()
    return digest


def add_guest(chain: Any, firmware: fw.Firmware, hashes: bytes, vcpus: int, signature: int, features: int) -> None:
    """Fold what follows the firmware's own pages: its sections, then the processors.

    Args:
        chain: the library's, of the firmware's pages. hashes: the page of hashes.
        signature: of the processors, as CPUID leaf 1 gives it.
    """
    for section in firmware.sections:
        _add_section(chain, section, hashes)
    mode = _library("sev_mode").SevMode.SEV_SNP
    for state in _library("vmsa").VMSA(mode, firmware.reset_eip, signature, features).pages(vcpus):
        chain.update_vmsa_page(state)


def hash_page(firmware: fw.Firmware, kernel: bytes, initrd: bytes, cmdline: str) -> bytes:
    """The page of hashes, 4096 bytes, as QEMU makes it with `kernel-hashes=on`."""
    table = HashTable(
        name=_TABLE,
        length=168,
        cmdline_name=_CMDLINE,
        cmdline_length=50,
        cmdline=hashlib.sha256(cmdline.encode() + b"\0").digest(),
        initrd_name=_INITRD,
        initrd_length=50,
        initrd=hashlib.sha256(initrd).digest(),
        kernel_name=_KERNEL,
        kernel_length=50,
        kernel=hashlib.sha256(kernel).digest(),
    )
    at = (firmware.hash_table or 0) % PAGE
    return (bytes(at) + pack(table)).ljust(PAGE, b"\0")


def cpus() -> tuple[str, ...]:
    """The models of virtual processors that there are, as QEMU calls them.

    Raises:
        PlatformError: the library is not installed.
    """
    return tuple(_library("vcpu_types").CPU_SIGS)


def _add_section(chain: Any, section: fw.Section, hashes: bytes) -> None:
    match section.type:
        case SectionType.SNP_SEC_MEM | SectionType.SVSM_CAA:
            chain.update_zero_pages(section.gpa, section.size)
        case SectionType.SNP_SECRETS:
            chain.update_secrets_page(section.gpa)
        case SectionType.CPUID:
            chain.update_cpuid_page(section.gpa)
        case SectionType.SNP_KERNEL_HASHES:
            chain.update_normal_pages(section.gpa, hashes)


def _library(part: str) -> Any:
    """A module of sev-snp-measure, which is an optional dependency."""
    try:
        return import_module(f"sevsnpmeasure.{part}")
    except ImportError as error:
        raise PlatformError(
            "computing launch digests of SNP needs the package sev-snp-measure", 'pip install "donjon[image]"'
        ) from error
