"""Launch digests: the same three ways (ours, the library's own command, a computation here), and what is refused.

The computation here knows nothing of the code that it checks: PAGE_INFO as SNP-ABI has it, the state of a processor at
the offsets of the AMD64 manual (volume 2, table B-4), the values as the processor has them after reset.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from donjon.errors import ParseError, PlatformError, UsageError
from donjon.sim import firmware as simulated
from donjon.tee.snp import measure
from donjon.tee.snp.firmware import parse

KERNEL, INITRD, CMDLINE = b"a kernel" * 1000, b"an initrd" * 1000, "quiet rdinit=/init"
EIP = 0x80B004


def fold(digest: bytes, kind: int, gpa: int, contents: bytes) -> bytes:
    """PAGE_INFO: DIGEST_CUR, CONTENTS, LENGTH, PAGE_TYPE, IMI_PAGE and permissions, GPA."""
    info = digest + contents + struct.pack("<HB5xQ", 0x70, kind, gpa)
    assert len(info) == 0x70
    return hashlib.sha384(info).digest()


def state(eip: int, signature: int, features: int = 1) -> bytes:
    """A processor after reset, as KVM and QEMU have it."""
    page = bytearray(4096)
    for at, selector, attributes, base in (
        (0x00, 0, 0x93, 0),
        (0x10, 0xF000, 0x9B, eip & 0xFFFF0000),
        (0x20, 0, 0x93, 0),
        (0x30, 0, 0x93, 0),
        (0x40, 0, 0x93, 0),
        (0x50, 0, 0x93, 0),
        (0x60, 0, 0, 0),
        (0x70, 0, 0x82, 0),
        (0x80, 0, 0, 0),
        (0x90, 0, 0x8B, 0),
    ):
        struct.pack_into("<HHIQ", page, at, selector, attributes, 0xFFFF, base)
    for at, value in (
        (0x0D0, 0x1000),  # EFER.SVME
        (0x148, 0x40),  # CR4.MCE
        (0x158, 0x10),  # CR0.ET
        (0x160, 0x400),  # DR7
        (0x168, 0xFFFF0FF0),  # DR6
        (0x170, 0x2),  # RFLAGS
        (0x178, eip & 0xFFFF),  # RIP
        (0x268, 0x0007040600070406),  # PAT
        (0x310, signature),  # RDX: family, model, stepping
        (0x3B0, features),  # SEV_FEATURES
        (0x3E8, 1),  # XCR0
    ):
        struct.pack_into("<Q", page, at, value)
    struct.pack_into("<I", page, 0x408, 0x1F80)  # MXCSR
    struct.pack_into("<H", page, 0x410, 0x37F)  # FCW
    return bytes(page)


def hashes(offset: int, kernel: bytes, initrd: bytes, cmdline: str) -> bytes:
    """QEMU's table of hashes, in its page."""
    table = bytes.fromhex("06d63894224fc94cb479a793d411fd21") + struct.pack("<H", 168)
    for name, data in (
        ("d82dd09720bd944caa78e7714d36ab2a", cmdline.encode() + b"\0"),
        ("31f7ba442f3ad74b9af141e29169781d", initrd),
        ("3794e74dd2ab7f42b835d5b172d2045b", kernel),
    ):
        table += bytes.fromhex(name) + struct.pack("<H", 50) + hashlib.sha256(data).digest()
    return (bytes(offset) + table).ljust(4096, b"\0")


def expected(firmware: bytes, vcpus: int, signature: int, features: int = 1) -> bytes:
    """The launch digest of a guest with simulated firmware."""
    digest = bytes(48)
    base = (1 << 32) - len(firmware)
    for at in range(0, len(firmware), 4096):
        digest = fold(digest, 1, base + at, hashlib.sha384(firmware[at : at + 4096]).digest())
    for gpa, size, kind in simulated.SNP_SECTIONS:
        for page in range(gpa, gpa + size, 4096):
            if kind == 0x10:
                content = hashlib.sha384(hashes(0xC00, KERNEL, INITRD, CMDLINE)).digest()
                digest = fold(digest, 1, page, content)
            else:
                digest = fold(digest, {1: 3, 4: 3, 2: 5, 3: 6}[kind], page, bytes(48))
    for index in range(vcpus):
        eip = 0xFFFFFFF0 if index == 0 else EIP
        digest = fold(digest, 2, 0xFFFFFFFFF000, hashlib.sha384(state(eip, signature, features)).digest())
    return digest


def digest(firmware: bytes | None = None, vcpus: int = 1, cpu: str = "EPYC-v4", features: int = 1) -> bytes:
    firmware = simulated.write() if firmware is None else firmware
    return measure.launch_digest(firmware, KERNEL, INITRD, CMDLINE, vcpus, cpu, features)


@pytest.mark.parametrize(
    ("cpu", "signature"),
    [("EPYC-v4", 0x800F12), ("EPYC-Rome", 0x830F10), ("EPYC-Milan", 0xA00F11), ("EPYC-Genoa", 0xA10F10)],
)
@pytest.mark.parametrize("vcpus", [1, 2, 5])
def test_the_digest_is_the_chain_over_page_info(cpu: str, signature: int, vcpus: int) -> None:
    assert digest(vcpus=vcpus, cpu=cpu) == expected(simulated.write(), vcpus, signature)


def test_features_stand_in_the_state_of_the_processors() -> None:
    assert digest(features=0x21) == expected(simulated.write(), 1, 0x800F12, 0x21)


@pytest.mark.parametrize("vcpus", [1, 4])
def test_the_library_s_own_command_says_the_same(tmp_path: Path, vcpus: int) -> None:
    from sevsnpmeasure import guest, vcpu_types
    from sevsnpmeasure.sev_mode import SevMode

    files = {"firmware": simulated.write(), "kernel": KERNEL, "initrd": INITRD}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    firmware, kernel, initrd = (str(tmp_path / name) for name in files)
    for cpu, signature in vcpu_types.CPU_SIGS.items():
        theirs = guest.calc_launch_digest(SevMode.SEV_SNP, vcpus, signature, firmware, kernel, initrd, CMDLINE, 1)
        assert digest(vcpus=vcpus, cpu=cpu) == theirs, cpu
    assert measure.cpus() == tuple(vcpu_types.CPU_SIGS)


def test_each_input_changes_the_digest() -> None:
    firmware = simulated.write()
    found = {
        digest(),
        digest(simulated.write(seed=b"another")),
        digest(vcpus=2),
        digest(cpu="EPYC-Milan"),
        digest(features=0x21),
        measure.launch_digest(firmware, KERNEL + b"\0", INITRD, CMDLINE, 1),
        measure.launch_digest(firmware, KERNEL, INITRD + b"\0", CMDLINE, 1),
        measure.launch_digest(firmware, KERNEL, b"", CMDLINE, 1),
        measure.launch_digest(firmware, KERNEL, INITRD, CMDLINE + " ", 1),
    }
    assert len(found) == 9


def test_refuses_firmware_that_boots_any_kernel() -> None:
    with pytest.raises(UsageError, match="does not measure the kernel") as error:
        digest(simulated.write(kernel_hashes=False))
    assert "ovmf-amdsev" in str(error.value.hint)
    assert not parse(simulated.write(kernel_hashes=False)).measures_kernel


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpu": "host"}, 'cpu: expected one of EPYC, .*, got "host"'),
        ({"vcpus": 0}, "vcpus: expected 1 to 512, got 0"),
        ({"vcpus": 513}, "vcpus: expected 1 to 512, got 513"),
        ({"features": -1}, "features: expected a number of 8 bytes, got -1"),
    ],
)
def test_refuses_what_no_guest_can_have(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        digest(**arguments)  # type: ignore[arg-type]


def test_firmware_is_read_by_our_parser_first() -> None:
    with pytest.raises(ParseError, match="expected OVMF's table"):
        digest(bytes(4096))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sevsnpmeasure.vcpu_types", None)
    with pytest.raises(PlatformError, match="sev-snp-measure") as error:
        digest()
    assert error.value.hint == 'pip install "donjon[image]"'
