"""The attestation report of AMD SEV-SNP, byte for byte: report versions 2, 3, 4 and 5.

A report has 1184 bytes. Bytes 000h to 29Fh are signed; the rest is the signature. What the versions differ in:

    188h to 19Fh    2: zero                          3, 4, 5: CPUID family, model and stepping
    1F8h to 207h    2, 3: zero                       5: mitigation vectors       4: see below

Version 4 was never described to the public (revision 1.57 of SNP-ABI has 3, revision 1.58 has 5), but firmware sends
it: its reports are read as version 3, and the 16 bytes that version 5 gives to the mitigation vectors may hold
anything; no check believes them.

Security version numbers come as 8 bytes whose order depends on the processor: see `Tcb`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self

from donjon.errors import ParseError
from donjon.wire import layout, pack, raw, u8, u32, u64, unpack, unpack_part, zero

SIZE = 0x4A0
SIGNED = 0x2A0
"""Bytes that the signature covers."""
VERSIONS = (2, 3, 4, 5)


class GuestPolicy(IntFlag):
    """POLICY: what the guest's owner lets the host do. [SNP-ABI, Guest Policy]"""

    ABI_MINOR = 0xFF
    ABI_MAJOR = 0xFF00
    SMT = 1 << 16
    RESERVED_17 = 1 << 17
    """Always 1."""
    MIGRATE_MA = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL_ALLOW = 1 << 21
    MEM_AES_256_XTS = 1 << 22
    RAPL_DIS = 1 << 23
    CIPHERTEXT_HIDING_DRAM = 1 << 24
    PAGE_SWAP_DISABLE = 1 << 25

    @property
    def abi(self) -> tuple[int, int]:
        """The lowest firmware interface that may run the guest: major, minor."""
        return int(self) >> 8 & 0xFF, int(self) & 0xFF


class PlatformInfo(IntFlag):
    """PLATFORM_INFO: how the machine is set up. Unknown bits are kept: Turin sets bit 6. [SNP-ABI, PLATFORM_INFO]"""

    SMT_EN = 1 << 0
    TSME_EN = 1 << 1
    ECC_EN = 1 << 2
    RAPL_DIS = 1 << 3
    CIPHERTEXT_HIDING_DRAM_EN = 1 << 4
    ALIAS_CHECK_COMPLETE = 1 << 5
    TIO_EN = 1 << 7


class SignerInfo(IntFlag):
    """Which keys took part. [SNP-ABI, ATTESTATION_REPORT, offset 48h]"""

    AUTHOR_KEY_EN = 1 << 0
    MASK_CHIP_KEY = 1 << 1
    SIGNING_KEY = 0b111 << 2

    @property
    def signing_key(self) -> int:
        """Which key has signed; compare with `SigningKey`."""
        return int(self) >> 2 & 0b111


class SigningKey(IntEnum):
    """The key that has signed the report."""

    VCEK = 0
    VLEK = 1
    NONE = 7


# fmt: off
@layout(size=0x050, spec="SNP-ABI, ATTESTATION_REPORT, first rows")
class ReportHead:
    """Which report this is, and of what guest."""

    version:        int          = u32(0x000, only=VERSIONS)
    guest_svn:      int          = u32(0x004)
    policy:         GuestPolicy  = u64(0x008, GuestPolicy)
    family_id:      bytes        = raw(0x010, 16)
    image_id:       bytes        = raw(0x020, 16)
    vmpl:           int          = u32(0x030)
    signature_algo: int          = u32(0x034, only=(1,))      # ECDSA P-384 with SHA-384
    current_tcb:    bytes        = raw(0x038, 8)
    platform_info:  PlatformInfo = u64(0x040, PlatformInfo, unknown="kept")
    signer_info:    SignerInfo   = u32(0x048, SignerInfo)
    reserved_04c                 = zero(0x04C, 4)


@layout(start=0x050, size=0x138, spec="SNP-ABI, ATTESTATION_REPORT, REPORT_DATA to REPORTED_TCB")
class ReportGuest:
    """What the guest is and says."""

    report_data:       bytes = raw(0x050, 64)
    measurement:       bytes = raw(0x090, 48)
    host_data:         bytes = raw(0x0C0, 32)
    id_key_digest:     bytes = raw(0x0E0, 48)
    author_key_digest: bytes = raw(0x110, 48)
    report_id:         bytes = raw(0x140, 32)
    report_id_ma:      bytes = raw(0x160, 32)
    reported_tcb:      bytes = raw(0x180, 8)


@layout(start=0x188, size=0x018, spec="SNP-ABI revision 1.55, ATTESTATION_REPORT")
class NoCpuid:
    """Version 2 does not say what processor it comes from."""

    reserved_188 = zero(0x188, 24)


@layout(start=0x188, size=0x018, spec="SNP-ABI, ATTESTATION_REPORT, CPUID rows")
class Cpuid:
    """The processor, as CPUID leaf 1 gives it: family and model each with their extension added."""

    family:   int = u8(0x188)
    model:    int = u8(0x189)
    stepping: int = u8(0x18A)
    reserved_18b  = zero(0x18B, 21)


@layout(start=0x1A0, size=0x058, spec="SNP-ABI, ATTESTATION_REPORT, CHIP_ID to LAUNCH_TCB")
class ReportPlatform:
    """The chip and its firmware."""

    chip_id:         bytes = raw(0x1A0, 64)
    committed_tcb:   bytes = raw(0x1E0, 8)
    current_build:   int   = u8(0x1E8)
    current_minor:   int   = u8(0x1E9)
    current_major:   int   = u8(0x1EA)
    reserved_1eb           = zero(0x1EB, 1)
    committed_build: int   = u8(0x1EC)
    committed_minor: int   = u8(0x1ED)
    committed_major: int   = u8(0x1EE)
    reserved_1ef           = zero(0x1EF, 1)
    launch_tcb:      bytes = raw(0x1F0, 8)


@layout(start=0x1F8, size=0x0A8, spec="SNP-ABI, ATTESTATION_REPORT, end of the signed part")
class NoMitigations:
    """Versions 2 and 3."""

    reserved_1f8 = zero(0x1F8, 168)


@layout(start=0x1F8, size=0x0A8, spec="unpublished; see the module")
class UnknownMitigations:
    """Version 4."""

    undescribed_1f8: bytes = raw(0x1F8, 16)
    reserved_208           = zero(0x208, 152)


@layout(start=0x1F8, size=0x0A8, spec="SNP-ABI, ATTESTATION_REPORT, LAUNCH_MIT_VECTOR to the end of the signed part")
class Mitigations:
    """Version 5: which mitigations the firmware has verified, a bit each; what a bit means depends on the processor."""

    launch_mit_vector:  int = u64(0x1F8)
    current_mit_vector: int = u64(0x200)
    reserved_208            = zero(0x208, 152)


@layout(start=0x2A0, size=0x200, spec="SNP-ABI, Signature Formats, ECDSA P-384 with SHA-384")
class ReportSignature:
    """r and s with the least significant byte first. Nobody signs the reserved bytes, so they have to be zero."""

    r:           bytes = raw(0x2A0, 72)
    s:           bytes = raw(0x2E8, 72)
    reserved_330       = zero(0x330, 368)


@layout(size=0x008, spec="SNP-ABI, TCB_VERSION, before Turin")
class TcbRowsMilan:
    """Milan and Genoa."""

    bootloader: int = u8(0x0)
    tee:        int = u8(0x1)
    reserved_2      = zero(0x2, 4)
    snp:        int = u8(0x6)
    microcode:  int = u8(0x7)


@layout(size=0x008, spec="SNP-ABI, TCB_VERSION, from Turin on")
class TcbRowsTurin:
    """Turin."""

    fmc:        int = u8(0x0)
    bootloader: int = u8(0x1)
    tee:        int = u8(0x2)
    snp:        int = u8(0x3)
    reserved_4      = zero(0x4, 3)
    microcode:  int = u8(0x7)
# fmt: on

_CPUID: dict[int, type[NoCpuid | Cpuid]] = {2: NoCpuid, 3: Cpuid, 4: Cpuid, 5: Cpuid}
_TAIL: dict[int, type[NoMitigations | UnknownMitigations | Mitigations]] = {
    2: NoMitigations,
    3: NoMitigations,
    4: UnknownMitigations,
    5: Mitigations,
}


class Product(IntEnum):
    """A generation of processors that has a root of its own. The names are those of AMD's certificates."""

    Milan = 0x19_00
    Genoa = 0x19_10
    Turin = 0x1A_00

    @classmethod
    def of_cpuid(cls, cpuid: Cpuid) -> Product | None:
        """The product of a processor; None for one that we do not know.

        Source: VCEK-KDS, table of products; Genoa's root also serves Bergamo and Siena (models A0h to AFh).
        """
        for product, family, first, last in (
            (cls.Milan, 0x19, 0x00, 0x0F),
            (cls.Genoa, 0x19, 0x10, 0x1F),
            (cls.Genoa, 0x19, 0xA0, 0xAF),
            (cls.Turin, 0x1A, 0x00, 0x11),
        ):
            if cpuid.family == family and first <= cpuid.model <= last:
                return product
        return None

    @property
    def chip_id_size(self) -> int:
        """How many bytes of CHIP_ID name the chip; the others are zero."""
        return 8 if self is Product.Turin else 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """Security version numbers, one for each part of the firmware; higher is newer.

    Args:
        fmc: first mutable code; there from Turin on, else None.
    """

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    @classmethod
    def read(cls, data: bytes, product: Product) -> Self:
        """Read the 8 bytes of a TCB_VERSION.

        Raises:
            ParseError: a reserved byte is set.
        """
        if product is Product.Turin:
            turin = unpack(TcbRowsTurin, data)
            return cls(
                fmc=turin.fmc, bootloader=turin.bootloader, tee=turin.tee, snp=turin.snp, microcode=turin.microcode
            )
        rows = unpack(TcbRowsMilan, data)
        return cls(bootloader=rows.bootloader, tee=rows.tee, snp=rows.snp, microcode=rows.microcode)

    def write(self) -> bytes:
        """The 8 bytes; in Turin's order when there is an `fmc`."""
        if self.fmc is not None:
            return pack(
                TcbRowsTurin(
                    fmc=self.fmc, bootloader=self.bootloader, tee=self.tee, snp=self.snp, microcode=self.microcode
                )
            )
        return pack(TcbRowsMilan(bootloader=self.bootloader, tee=self.tee, snp=self.snp, microcode=self.microcode))

    def parts(self) -> dict[str, int]:
        """Name → number, as they are written in policies; without `fmc` where there is none."""
        fmc = {} if self.fmc is None else {"fmc": self.fmc}
        return {
            **fmc,
            "bootloader": self.bootloader,
            "tee": self.tee,
            "snp": self.snp,
            "microcode": self.microcode,
        }

    def __str__(self) -> str:
        return " ".join(f"{name}={number}" for name, number in self.parts().items())


@dataclass(frozen=True, slots=True)
class Report:
    """A well formed report. Nothing is known yet about whether it is genuine.

    Args:
        cpuid: None in version 2.
        mitigations: None before version 5.
        signed: the bytes that the signature covers.
    """

    head: ReportHead
    guest: ReportGuest
    cpuid: Cpuid | None
    platform: ReportPlatform
    mitigations: Mitigations | None
    signature: ReportSignature
    signed: bytes

    @property
    def current_version(self) -> tuple[int, int, int]:
        """Of the firmware that runs: major, minor, build."""
        return self.platform.current_major, self.platform.current_minor, self.platform.current_build

    @property
    def committed_version(self) -> tuple[int, int, int]:
        """Of the firmware below which the machine cannot be taken back: major, minor, build."""
        return self.platform.committed_major, self.platform.committed_minor, self.platform.committed_build


def read_report(data: bytes) -> Report:
    """Read a report of any version that we know.

    Args:
        data: exactly 1184 bytes.
    Raises:
        ParseError: another size, an unknown version, a reserved byte or bit is set.
    Source: SNP-ABI, ATTESTATION_REPORT.
    """
    if len(data) != SIZE:
        raise ParseError(f"SNP report: expected {SIZE} bytes, got {len(data)}")
    head = unpack_part(ReportHead, data)
    cpuid = unpack_part(_CPUID[head.version], data)
    tail = unpack_part(_TAIL[head.version], data)
    if not head.policy & GuestPolicy.RESERVED_17:
        raise ParseError("ReportHead.policy at 0x008: expected bit 17 to be 1, got 0")
    return Report(
        head,
        unpack_part(ReportGuest, data),
        cpuid if isinstance(cpuid, Cpuid) else None,
        unpack_part(ReportPlatform, data),
        tail if isinstance(tail, Mitigations) else None,
        unpack_part(ReportSignature, data),
        bytes(data[:SIGNED]),
    )
