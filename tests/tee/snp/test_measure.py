"""Launch digests: the same three ways (ours, the library's own command, a computation here), and what is refused.

The computation here knows nothing of the code that it checks: PAGE_INFO as SNP-ABI has it, the state of a processor at
the offsets of the AMD64 manual (volume 2, table B-4), the values as the processor has them after reset.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from donjon.errors import ParseError, PlatformError, UsageError
from donjon.sim import firmware as simulated
from donjon.tee.snp import measure
from donjon.tee.snp.firmware import Firmware, Section, SectionType, parse
from tests.tee.snp.machines import Case, Machines, failed

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


# EDK2's AmdSevX64 of edk2-stable202405, of which sev-snp-measure keeps the last 4 KiB: its page's digest, its sections,
# and launch digests with an empty kernel and initrd. Source: virtee/sev-snp-measure, tests/test_guest.py, commit
# 8f2b337e38bc83f87cd30f3253cdfe8e3e12cc3a.
PUBLISHED_PAGE = "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74"
PUBLISHED_SECTIONS = (
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 4),
    (0x810000, 0x1000, 16),
    (0x811000, 0xF000, 1),
)


@pytest.mark.parametrize(
    ("cmdline", "vcpus", "features", "published"),
    [
        (
            "console=ttyS0 loglevel=7",
            1,
            0x21,
            "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
        ),
        (
            "console=ttyS0 loglevel=7",
            1,
            0x1,
            "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
        ),
        (
            "",
            1,
            0x21,
            "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
        ),
        (
            "",
            4,
            0x21,
            "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
        ),
        (
            "",
            4,
            0x1,
            "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
        ),
    ],
)
def test_published_digests_come_out(cmdline: str, vcpus: int, features: int, published: str) -> None:
    from sevsnpmeasure.gctx import GCTX

    sections = tuple(Section(gpa=gpa, size=size, type=SectionType(kind)) for gpa, size, kind in PUBLISHED_SECTIONS)
    firmware = Firmware(bytes(4096), sections, EIP, 0x810C00)
    chain = GCTX(seed=bytes.fromhex(PUBLISHED_PAGE))
    measure.add_guest(chain, firmware, measure.hash_page(firmware, b"", b"", cmdline), vcpus, 0x800F12, features)
    assert chain.ld().hex() == published


@pytest.mark.skipif("DONJON_OVMF_AMDSEV" not in os.environ, reason="DONJON_OVMF_AMDSEV names no firmware")
def test_debian_s_firmware_measures_the_kernel() -> None:
    """OVMF.amdsev.fd of Debian's package ovmf-amdsev 2026.08+ds-2; the digest is of what this file calls a kernel."""
    data = Path(os.environ["DONJON_OVMF_AMDSEV"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f"
    assert tuple((item.gpa, item.size, int(item.type)) for item in parse(data).sections) == simulated.SNP_SECTIONS
    digest = "d3f5f1749f8358ae1d2962b38c557cfe1b8df54ce6f0af6a51cb5fc18ad7882458d9aa7d7356ddb02b24369d8b2fd034"
    assert measure.launch_digest(data, b"kernel" * 1000, b"initrd" * 1000, CMDLINE, 3, "EPYC-Turin").hex() == digest


def test_a_report_with_the_computed_digest_passes_and_another_does_not(machines: Machines) -> None:
    policy = {"hash": [digest().hex()]}
    case = Case(machines.genoa, rows={"measurement": digest()}, policy=policy)
    assert "policy.hash" not in failed(case.judge())
    tampered = measure.launch_digest(simulated.write(), KERNEL + b"!", INITRD, CMDLINE, 1)
    case = Case(machines.genoa, rows={"measurement": tampered}, policy=policy)
    assert "policy.hash" in failed(case.judge())
