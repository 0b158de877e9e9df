"""Is a genuine report acceptable? The table `[snp]` of a policy file, and the questions that it asks.

Enarx's keys keep their names and meaning: signer, hash, hash_blacklist, id_key_digest, id_key_digest_blacklist, abi,
policy_flags (which Enarx reads and never asks; here it is asked), platform_info_flags. The others are Donjon's.

Every default is the safe one. What is asked on top of it needs reference values that only the operator has: without
`hash`, `signer` or `id_key_digest` any guest passes, and the verdict says so.

What no policy can ask, because no report shows it: interposers on the memory bus, aliases that appear after the boot
check (Battering RAM), what other tenants of the machine do, where the machine stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Literal, Self

import msgspec

from donjon.tee.contract import Check, Checks, Hex16, Hex32, Hex48, Hex64, Model, VerifiedReport
from donjon.tee.snp import floors
from donjon.tee.snp.abi import VersionRequirement
from donjon.tee.snp.layout import GuestPolicy, PlatformInfo, SignerInfo, SigningKey, Tcb
from donjon.tee.snp.verify import ABI, KDS, Genuine

POLICY = "SNP-ABI, Guest Policy"
TCB = "SNP-ABI, TCB_VERSION"
NO_AGENT = b"\xff" * 32
"""REPORT_ID_MA of a guest that has no migration agent."""

ProductName = Literal["Milan", "Genoa", "Turin"]
Spl = Annotated[int, msgspec.Meta(ge=0, le=255)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
GuestFlag = Literal[
    "SMT",
    "SingleSocket",
    "Debug",
    "MIGRATE_MA",
    "DEBUG",
    "SINGLE_SOCKET",
    "CXL_ALLOW",
    "MEM_AES_256_XTS",
    "RAPL_DIS",
    "CIPHERTEXT_HIDING_DRAM",
    "PAGE_SWAP_DISABLE",
]
PlatformFlag = Literal[
    "SMT_EN",
    "TSME_EN",
    "ECC_EN",
    "RAPL_DIS",
    "CIPHERTEXT_HIDING_DRAM_EN",
    "ALIAS_CHECK_COMPLETE",
    "TIO_EN",
]

# Words of Enarx for bits of POLICY, and the others as the specification spells them.
_ENARX_FLAGS = {"SingleSocket": "SINGLE_SOCKET", "Debug": "DEBUG"}
# What Enarx calls SME is the bit that the specification calls SMT_EN.
_ENARX_PLATFORM = {"SME": PlatformInfo.SMT_EN, "TSME": PlatformInfo.TSME_EN}

BROKEN = {
    "Milan": "Milan: software on the host can extract the keys and forge reports (arXiv 2605.12990); its memory can be "
    "aliased after the boot check (Battering RAM)",
}
"""Products that a policy accepts only by name, and why. Every verdict on one of them says so."""


class Firmware:
    """A version of the SNP firmware: major, minor, and build if it matters."""

    __slots__ = ("numbers",)

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    @classmethod
    def read(cls, text: object) -> Self:
        """Read "1.55" or "1.55.29".

        Raises:
            ValueError: it is no such text.
        """
        parts = text.split(".") if isinstance(text, str) else []
        if len(parts) not in {2, 3} or not all(
            part.isascii() and part.isdigit() and len(part) < 4 and int(part) < 256 for part in parts
        ):
            raise ValueError('expected a version such as "1.55" or "1.55.29"')
        return cls(*map(int, parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Firmware) and other.numbers == self.numbers

    def __hash__(self) -> int:
        return hash(self.numbers)

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers))


class MinimumTcb(Model, frozen=True):
    """The table `[snp.minimum_tcb.<product>]`: a number given here replaces the shipped one."""

    fmc: Spl | None = None
    bootloader: Spl | None = None
    tee: Spl | None = None
    snp: Spl | None = None
    microcode: Spl | None = None


class Policy(Model, frozen=True):
    """The table `[snp]`."""

    # The guest
    signer: tuple[Hex48, ...] = ()
    """Accepted AUTHOR_KEY_DIGESTs; empty asks nothing. (Enarx)"""
    hash: tuple[Hex48, ...] = ()
    """Accepted MEASUREMENTs; empty asks nothing. (Enarx)"""
    hash_blacklist: tuple[Hex48, ...] = ()
    """MEASUREMENTs that are refused. (Enarx)"""
    id_key_digest: tuple[Hex48, ...] = ()
    """Accepted ID_KEY_DIGESTs; empty asks nothing. (Enarx)"""
    id_key_digest_blacklist: tuple[Hex48, ...] = ()
    """ID_KEY_DIGESTs that are refused. (Enarx)"""
    family_id: tuple[Hex16, ...] = ()
    image_id: tuple[Hex16, ...] = ()
    host_data: tuple[Hex32, ...] = ()
    """Accepted FAMILY_IDs, IMAGE_IDs and HOST_DATAs; empty asks nothing."""
    guest_svn: U32 = 0
    """The lowest GUEST_SVN."""
    vmpl: tuple[Annotated[int, msgspec.Meta(ge=0, le=3)], ...] = (0,)
    """Privilege levels from which the report may have been asked."""

    # What the guest lets the host do
    allow_debug: bool = False
    allow_migration: bool = False
    abi: VersionRequirement = VersionRequirement.read("*")
    """What POLICY's ABI version has to satisfy. (Enarx)"""
    policy_flags: tuple[GuestFlag, ...] = ()
    """Bits of POLICY that have to be set. (Enarx, which never asks them)"""
    policy_flags_forbidden: tuple[GuestFlag, ...] = ()
    """Bits of POLICY that have to be clear."""

    # The machine
    products: tuple[ProductName, ...] = ("Genoa", "Turin")
    """Accepted products. Milan is known to be broken: it has to be named."""
    platform_info_flags: Literal["SME", "TSME"] | None = None
    """Which one of the two lowest bits of PLATFORM_INFO is set, and the other not. (Enarx)"""
    platform_info: tuple[PlatformFlag, ...] = ()
    platform_info_forbidden: tuple[PlatformFlag, ...] = ()
    """Bits of PLATFORM_INFO that have to be set, or clear."""
    alias_check: bool = True
    """Reports of version 3 and later have to say that memory was checked for aliases at boot (BadRAM)."""
    report_version: Annotated[int, msgspec.Meta(ge=2, le=5)] = 2
    """The lowest version of the report; from 3 on it names its processor and the alias check."""
    chip_id: tuple[Hex64, ...] = ()
    chip_id_blacklist: tuple[Hex64, ...] = ()
    """Accepted and refused CHIP_IDs, e.g. those of one's own data centre; an empty first list asks nothing."""
    allow_masked_chip_id: bool = False
    """Whether a host may hide CHIP_ID from a report that a VCEK has signed."""

    # Its firmware and keys
    tcb_floor: Literal["shipped", "none"] = "shipped"
    """Whether the shipped table of lowest version numbers is asked."""
    minimum_tcb: dict[ProductName, MinimumTcb] = {}
    """Lowest version numbers for each product."""
    allow_provisional: bool = False
    """Whether firmware may run that the machine can still be taken back from."""
    firmware: Firmware | None = None
    """The lowest version of the firmware, committed and current."""
    mitigations: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    """Bits that have to be set in both mitigation vectors (version 5)."""
    signing_keys: tuple[Literal["VCEK", "VLEK"], ...] = ("VCEK", "VLEK")
    """Accepted kinds of keys."""
    csp_id: tuple[str, ...] = ()
    """Accepted cloud providers of VLEKs, as their certificates name them; empty asks nothing."""
    crl: Literal["required", "if given"] = "required"
    """Whether there has to be a revocation list. One that is there is always checked."""
    crl_max_age_days: Annotated[int, msgspec.Meta(ge=0, le=3660)] | None = None
    """How old the revocation list may be; AMD's own are valid for a year."""
    stale_collateral_days: Annotated[int, msgspec.Meta(ge=0, le=3660)] = 0
    """How long past its end the revocation list may be used, where AMD's service cannot be reached; 0 is not at all."""

    def __post_init__(self) -> None:
        for one, other in (
            ("hash", "hash_blacklist"),
            ("id_key_digest", "id_key_digest_blacklist"),
            ("chip_id", "chip_id_blacklist"),
            ("platform_info", "platform_info_forbidden"),
            ("policy_flags", "policy_flags_forbidden"),
        ):
            if both := set(getattr(self, one)) & set(getattr(self, other)):
                item = both.pop()
                text = item.hex() if isinstance(item, bytes) else item
                raise ValueError(f"{text} is in both {one} and {other}")
        demanded = guest_flags(self.policy_flags)
        if demanded & GuestPolicy.DEBUG and not self.allow_debug:
            raise ValueError("policy_flags demands Debug, which allow_debug = false refuses")
        if demanded & GuestPolicy.MIGRATE_MA and not self.allow_migration:
            raise ValueError("policy_flags demands MIGRATE_MA, which allow_migration = false refuses")


def guest_flags(names: Iterable[str]) -> GuestPolicy:
    """The bits of POLICY with these names."""
    flags = GuestPolicy(0)
    for name in names:
        flags |= GuestPolicy[_ENARX_FLAGS.get(name, name)]
    return flags


def platform_flags(names: Iterable[str]) -> PlatformInfo:
    """The bits of PLATFORM_INFO with these names."""
    flags = PlatformInfo(0)
    for name in names:
        flags |= PlatformInfo[name]
    return flags


def judge(report: VerifiedReport[Genuine], policy: Policy) -> tuple[Check, ...]:
    """Ask everything that the policy asks of a genuine report.

    Returns:
        Every finding, in order; the report is acceptable when none has failed.
    """
    # Acceptable is a report of (1) an accepted product, key and chip; (2) of firmware that is new enough;
    # (3) on a machine that is set up well; (4) of a guest whose owner allowed nothing dangerous; (5) of a known guest.
    checks = Checks("snp")
    genuine = report.report
    judge_key(checks, report, policy)  # (1)
    judge_firmware(checks, genuine, policy)  # (2)
    judge_platform(checks, genuine, policy)  # (3)
    judge_permissions(checks, genuine, policy)  # (4)
    judge_guest(checks, genuine, policy)  # (5)
    return checks.all


def judge_key(checks: Checks, report: VerifiedReport[Genuine], policy: Policy) -> None:
    """(1) Whose hardware is it?"""
    genuine = report.report
    name = genuine.product.name
    checks.one_of("policy.products", name, policy.products, KDS, note=BROKEN.get(name, ""))
    checks.one_of("policy.signing_keys", genuine.vek.kind.name, policy.signing_keys, ABI)
    spec = f"{KDS}, cspID"
    if not policy.csp_id or genuine.vek.csp_id is None:
        checks.skip("policy.csp_id", "no VLEK" if genuine.vek.csp_id is None else "the policy names no provider", spec)
    else:
        checks.one_of("policy.csp_id", genuine.vek.csp_id, policy.csp_id, spec)
    chip = genuine.report.platform.chip_id
    spec = f"{ABI}, CHIP_ID"
    masked = not any(chip)
    if genuine.vek.kind is SigningKey.VLEK:
        checks.skip("policy.allow_masked_chip_id", "a VLEK belongs to no chip", spec)
    else:
        wanted = "any CHIP_ID" if policy.allow_masked_chip_id else "a CHIP_ID that is not masked"
        checks.that(
            "policy.allow_masked_chip_id",
            policy.allow_masked_chip_id or not masked,
            "masked" if masked else "not masked",
            wanted,
            spec,
        )
    _listed(checks, "policy.chip_id", chip, policy.chip_id, spec, shown=chip[:4].hex())
    _not_listed(checks, "policy.chip_id_blacklist", chip, policy.chip_id_blacklist, spec, shown=chip[:4].hex())
    spec = f"{KDS}, CRL"
    date = genuine.crl_date
    if policy.crl == "required":
        checks.that("policy.crl", date is not None, date, "a revocation list", spec)
    else:
        checks.skip("policy.crl", "the policy goes without a revocation list if none is given", spec)
    if policy.crl_max_age_days is None or date is None:
        checks.skip("policy.crl_max_age_days", "no list" if date is None else "the policy sets no age", spec)
    else:
        limit = timedelta(days=policy.crl_max_age_days)
        age = report.judged_at - date
        demanded = f"at most {policy.crl_max_age_days} days"
        checks.that("policy.crl_max_age_days", age <= limit, f"{age.days} days", demanded, spec)
    stale = genuine.stale
    checks.that(
        "policy.stale_collateral_days",
        stale <= timedelta(days=policy.stale_collateral_days),
        f"{stale.days} days and {stale.seconds // 3600} hours past its end" if stale else "in its time",
        f"at most {policy.stale_collateral_days} days past its end",
        spec,
    )


def judge_firmware(checks: Checks, genuine: Genuine, policy: Policy) -> None:
    """(2) Can the firmware be trusted?

    All four TCBs are asked: the reported one is what the key proves, below the committed one the machine cannot go
    back, the current one runs now, and the launch one ran when the guest's memory was measured.
    """
    minimum = minimum_tcb(genuine, policy)
    tcbs = {
        "reported": genuine.reported,
        "committed": genuine.committed,
        "current": genuine.current,
        "launch": genuine.launch,
    }
    for which, tcb in tcbs.items():
        name = f"tcb.{which}_minimum"
        if minimum:
            found = tcb.parts()
            ok = all(found.get(part, -1) >= number for part, number in minimum.items())
            wanted = " ".join(f"{part}={number}" for part, number in minimum.items())
            checks.that(name, ok, tcb, f"at least {wanted}", TCB)
        else:
            # Said once, of the first.
            note = f"no lowest version numbers are asked of {genuine.product.name}: any firmware passes"
            note = note if which == "reported" else ""
            checks.skip(name, "neither the shipped table nor the policy has a number", TCB, note=note)
    checks.that(
        "tcb.order",
        _not_above(genuine.reported, genuine.committed) and _not_above(genuine.committed, genuine.current),
        f"{genuine.reported}; {genuine.committed}; {genuine.current}",
        "reported, committed and current TCB each not above the next",
        TCB,
    )
    report = genuine.report
    settled = report.current_version == report.committed_version and _same_but_microcode(
        genuine.current, genuine.committed
    )
    spec = "SNP-ABI, SNP_COMMIT"
    if policy.allow_provisional:
        checks.skip("policy.allow_provisional", "the policy allows it", spec)
    else:
        # Microcode may be newer than what was committed: operating systems load it at every start.
        checks.that(
            "policy.allow_provisional",
            settled,
            f"{_dotted(report.current_version)} with {genuine.current}",
            f"the committed {_dotted(report.committed_version)} with {genuine.committed}",
            spec,
        )
    spec = f"{ABI}, CURRENT_MAJOR, COMMITTED_MAJOR"
    if policy.firmware is None:
        checks.skip("policy.firmware", "the policy sets no version", spec)
    else:
        lowest = min(report.current_version, report.committed_version)
        new_enough = lowest >= policy.firmware.numbers
        checks.that("policy.firmware", new_enough, _dotted(lowest), f"at least {policy.firmware}", spec)
    spec = f"{ABI}, LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR"
    if not policy.mitigations:
        checks.skip("policy.mitigations", "the policy demands none", spec)
    else:
        vectors = report.mitigations
        both = vectors.launch_mit_vector & vectors.current_mit_vector if vectors else 0
        found_text = f"{both:#x}" if vectors else f"none in a report of version {report.head.version}"
        ok = both & policy.mitigations == policy.mitigations
        checks.that("policy.mitigations", ok, found_text, f"all bits of {policy.mitigations:#x}", spec)


def judge_platform(checks: Checks, genuine: Genuine, policy: Policy) -> None:
    """(3) How is the machine set up?"""
    info = genuine.report.head.platform_info
    spec = "SNP-ABI, PLATFORM_INFO"
    version = genuine.report.head.version
    checks.at_least("policy.report_version", version, policy.report_version, ABI)
    if not policy.alias_check:
        checks.skip("policy.alias_check", "the policy does not ask it", spec)
    elif version < 3:
        note = "reports of version 2 do not show whether memory was checked for aliases (BadRAM)"
        checks.skip("policy.alias_check", "the report is of version 2", spec, note=note)
    else:
        _required(checks, "policy.alias_check", info, PlatformInfo.ALIAS_CHECK_COMPLETE, spec)
    if policy.platform_info_flags is None:
        checks.skip("policy.platform_info_flags", "the policy does not ask it", spec)
    else:
        found = info & (PlatformInfo.SMT_EN | PlatformInfo.TSME_EN)
        wanted = _ENARX_PLATFORM[policy.platform_info_flags]
        checks.that("policy.platform_info_flags", found == wanted, _bits(found), f"{_bits(wanted)} alone", spec)
    _required(checks, "policy.platform_info", info, platform_flags(policy.platform_info), spec)
    _forbidden(checks, "policy.platform_info_forbidden", info, platform_flags(policy.platform_info_forbidden), spec)


def judge_permissions(checks: Checks, genuine: Genuine, policy: Policy) -> None:
    """(4) What may the host do to the guest?"""
    report = genuine.report
    flags = report.head.policy
    debug = bool(flags & GuestPolicy.DEBUG)
    note = "the host can read and change this guest" if debug and policy.allow_debug else ""
    checks.that(
        "policy.allow_debug",
        policy.allow_debug or not debug,
        f"POLICY.DEBUG {int(debug)}",
        "any" if policy.allow_debug else "POLICY.DEBUG 0",
        POLICY,
        note,
    )
    agent = bool(flags & GuestPolicy.MIGRATE_MA)
    checks.that(
        "policy.allow_migration",
        policy.allow_migration or not agent,
        f"POLICY.MIGRATE_MA {int(agent)}",
        "any" if policy.allow_migration else "POLICY.MIGRATE_MA 0",
        POLICY,
    )
    if policy.allow_migration:
        checks.skip("report.report_id_ma", "the policy allows a migration agent", ABI)
    else:
        checks.equal("report.report_id_ma", report.guest.report_id_ma, NO_AGENT, ABI)
    abi = flags.abi
    checks.that("policy.abi", policy.abi.allows(*abi), _dotted(abi), policy.abi, POLICY)
    # Firmware refuses to start a guest that wants a newer one; major and minor count as a pair.
    supported = report.current_version[:2]
    checks.that("report.abi", abi <= supported, _dotted(abi), f"at most {_dotted(supported)}", POLICY)
    _required(checks, "policy.policy_flags", flags, guest_flags(policy.policy_flags), POLICY)
    _forbidden(checks, "policy.policy_flags_forbidden", flags, guest_flags(policy.policy_flags_forbidden), POLICY)


def judge_guest(checks: Checks, genuine: Genuine, policy: Policy) -> None:
    """(5) Which guest is it?"""
    report = genuine.report
    guest = report.guest
    checks.one_of("policy.vmpl", report.head.vmpl, policy.vmpl, ABI)
    checks.at_least("policy.guest_svn", report.head.guest_svn, policy.guest_svn, ABI)
    known = policy.hash or policy.signer or policy.id_key_digest
    note = "" if known else "the policy names no guest: any passes"
    _listed(checks, "policy.hash", guest.measurement, policy.hash, f"{ABI}, MEASUREMENT", note=note)
    _not_listed(checks, "policy.hash_blacklist", guest.measurement, policy.hash_blacklist, f"{ABI}, MEASUREMENT")
    spec = f"{ABI}, AUTHOR_KEY_DIGEST"
    # The digest counts only when the report says that there is an author key.
    author = guest.author_key_digest if report.head.signer_info & SignerInfo.AUTHOR_KEY_EN else b""
    _listed(checks, "policy.signer", author, policy.signer, spec)
    spec = f"{ABI}, ID_KEY_DIGEST"
    _listed(checks, "policy.id_key_digest", guest.id_key_digest, policy.id_key_digest, spec)
    _not_listed(checks, "policy.id_key_digest_blacklist", guest.id_key_digest, policy.id_key_digest_blacklist, spec)
    _listed(checks, "policy.family_id", report.head.family_id, policy.family_id, f"{ABI}, FAMILY_ID")
    _listed(checks, "policy.image_id", report.head.image_id, policy.image_id, f"{ABI}, IMAGE_ID")
    _listed(checks, "policy.host_data", guest.host_data, policy.host_data, f"{ABI}, HOST_DATA")


def minimum_tcb(genuine: Genuine, policy: Policy) -> Mapping[str, int]:
    """The lowest version numbers, by part: the shipped ones, and over them the policy's."""
    numbers: dict[str, int] = {}
    if policy.tcb_floor == "shipped":
        numbers = floors.minimum(genuine.product, genuine.report.cpuid)
    own = {str(name): table for name, table in policy.minimum_tcb.items()}.get(genuine.product.name)
    if own is not None:
        given = {part: getattr(own, part) for part in ("fmc", "bootloader", "tee", "snp", "microcode")}
        numbers |= {part: number for part, number in given.items() if number is not None}
    return numbers


def _not_above(lower: Tcb, upper: Tcb) -> bool:
    above = upper.parts()
    return all(number <= above[part] for part, number in lower.parts().items())


def _same_but_microcode(current: Tcb, committed: Tcb) -> bool:
    return {**current.parts(), "microcode": 0} == {**committed.parts(), "microcode": 0}


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


@lru_cache(maxsize=256, typed=True)
def _bits(flags: GuestPolicy | PlatformInfo) -> str:
    """Names of the bits that are set."""
    single = [item for item in type(flags).__members__.values() if int(item).bit_count() == 1]
    return " ".join(str(item.name) for item in single if flags & item) or "none"


def _required(
    checks: Checks,
    name: str,
    flags: GuestPolicy | PlatformInfo,
    wanted: GuestPolicy | PlatformInfo,
    spec: str,
) -> None:
    """Bits that have to be set."""
    if not wanted:
        checks.skip(name, "the policy demands none", spec)
    else:
        checks.that(name, int(flags) & int(wanted) == int(wanted), _bits(flags), f"{_bits(wanted)} to be set", spec)


def _forbidden(
    checks: Checks,
    name: str,
    flags: GuestPolicy | PlatformInfo,
    refused: GuestPolicy | PlatformInfo,
    spec: str,
) -> None:
    """Bits that have to be clear."""
    if not refused:
        checks.skip(name, "the policy forbids none", spec)
    else:
        checks.that(name, not int(flags) & int(refused), _bits(flags), f"{_bits(refused)} to be clear", spec)


def _listed(
    checks: Checks, name: str, found: bytes, allowed: tuple[bytes, ...], spec: str, shown: str = "", note: str = ""
) -> None:
    """One of a list that is empty when nobody asks."""
    if not allowed:
        checks.skip(name, "the policy does not ask it", spec, note=note)
    else:
        checks.that(name, found in allowed, shown or found, _one_of(allowed), spec)


def _not_listed(
    checks: Checks, name: str, found: bytes, refused: tuple[bytes, ...], spec: str, shown: str = ""
) -> None:
    """None of a list."""
    if not refused:
        checks.skip(name, "the policy refuses none", spec)
    else:
        checks.that(name, found not in refused, shown or found, f"not {_one_of(refused)}", spec)


def _one_of(items: tuple[bytes, ...]) -> str:
    """The listed values, or how many when there are many."""
    return " or ".join(item.hex() for item in items) if len(items) <= 2 else f"one of {len(items)} listed values"
