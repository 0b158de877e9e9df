"""Is a genuine CCA token acceptable? The table `[cca]` of a policy file, and its questions.

    [cca]
    lifecycle = ["secured"]
    hash = ["311314ab..."]                    # realm initial measurements that may run

    [[cca.platforms]]                         # firmware that may run below; without any table it is not judged
    implementation_id = "7f454c46..."
    config = "cfcfcfcf"
    [[cca.platforms.components]]
    type = "RMM"
    measurement = "a1fb50e6..."
    signer = "53787963..."

A list that is empty asks nothing. All findings are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from donjon.tee.cca.evidence import Evidence
from donjon.tee.cca.layout import HASHES, LEGACY_PLATFORM, Lifecycle, PlatformClaims, RealmClaims, SwComponent
from donjon.tee.cca.verify import SPEC, unknown_claims
from donjon.tee.contract import Check, Checks, Hex32, Hex64, Model, Outcome, VerifiedReport

MAX_CONFIG = 1024  # bytes


class Digest(bytes):
    """The value of a hash function that tokens use: 32, 48 or 64 bytes, in hex."""

    __slots__ = ()

    @classmethod
    def read(cls, text: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        value = _bytes(text)
        if len(value) not in HASHES.values():
            sizes = " or ".join(str(2 * size) for size in HASHES.values())
            raise ValueError(f"expected {sizes} hex digits, got {2 * len(value)}")
        return cls(value)


class Config(bytes):
    """A platform's configuration, in hex."""

    __slots__ = ()

    @classmethod
    def read(cls, text: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        value = _bytes(text)
        if not 1 <= len(value) <= MAX_CONFIG:
            raise ValueError(f"expected 2 to {2 * MAX_CONFIG} hex digits, got {2 * len(value)}")
        return cls(value)


def _bytes(text: object) -> bytes:
    """Bytes from hex digits without spaces between them."""
    if not isinstance(text, str):
        raise ValueError(f"expected hex digits, got {type(text).__name__}")  # which msgspec turns into its own error
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if 2 * len(value) != len(text):
        raise ValueError("expected hex digits, two a byte")
    return value


class Component(Model, frozen=True, kw_only=True):
    """Reference value of one piece of firmware; what is left out may be anything.

    Args:
        measurement: of the component, with the hash that the platform uses.
        type: its role as the token names it, e.g. "RMM".
        signer: its signer id.
    """

    measurement: Digest
    type: str | None = None
    signer: Digest | None = None
    version: str | None = None

    def fits(self, component: SwComponent) -> bool:
        """Whether this is the reference value of `component`."""
        return component.measurement == self.measurement and all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.type, component.component_type),
                (self.signer, component.signer_id),
                (self.version, component.version),
            )
        )


class Platform(Model, frozen=True, kw_only=True):
    """Reference values of one release of a platform's firmware; several tables for one platform are alternatives.

    Args:
        config: the platform's configuration; left out, it may be anything.
        config_mask: which bits of `config` count; as long as it; left out, all.
        components: all of the firmware: each reported one fits one of these, and each of these is reported.
    """

    implementation_id: Hex32
    config: Config | None = None
    config_mask: Config | None = None
    components: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        if self.config_mask is not None and (self.config is None or len(self.config) != len(self.config_mask)):
            raise ValueError("config_mask: expected as many hex digits as config has")

    def fits_config(self, config: bytes) -> bool:
        """Whether the configuration is the one that is meant."""
        if self.config is None:
            return True
        mask = self.config_mask or b"\xff" * len(self.config)
        return len(config) == len(self.config) and all(
            (found ^ wanted) & bits == 0 for found, wanted, bits in zip(config, self.config, mask, strict=True)
        )

    def fits_components(self, components: Iterable[SwComponent]) -> bool:
        """Whether exactly this firmware runs."""
        components = tuple(components)
        return all(any(wanted.fits(found) for wanted in self.components) for found in components) and all(
            any(wanted.fits(found) for found in components) for wanted in self.components
        )


class Policy(Model, frozen=True, kw_only=True):
    """The table `[cca]`; `Policy()` is the safe default.

    Args:
        lifecycle: states of the platform that may pass. Every other than "secured" lets somebody look into realms, or
            says that the platform is not in use; the verdict notes it.
        allow_legacy_profile: tokens of before 2023 may pass; deprecated, but what some firmware still makes.
        allow_unknown_claims: tokens may hold claims that this version does not know, as RFC 9711 wants it; they are
            listed in the verdict.
        allow_live_activation: firmware may be replaced while the realm runs, so what was measured may be gone.
        allow_devices: devices may be assigned to the realm, and so reach its memory; their evidence is not judged here.
        require_private_memory: the realm's memory is encrypted under a key that no other realm has.
        require_event_log: the realm's event log is at hand (that it fits is always asked).
        platforms: reference values for platforms; when there is one, other platforms do not pass.
        signers: every piece of firmware has one of these signer ids.
        hash: realm initial measurements (RIM) that may run.
        hash_blacklist: and those that may not.
        rem0, rem1, rem2, rem3: what each extensible measurement may be.
        personalization_value: what the realm personalization value (RPV) may be.
    """

    lifecycle: tuple[Lifecycle, ...] = (Lifecycle.SECURED,)
    allow_legacy_profile: bool = True
    allow_unknown_claims: bool = True
    allow_live_activation: bool = False
    allow_devices: bool = False
    require_private_memory: bool = False
    require_event_log: bool = False
    platforms: tuple[Platform, ...] = ()
    signers: tuple[Digest, ...] = ()
    hash: tuple[Digest, ...] = ()
    hash_blacklist: tuple[Digest, ...] = ()
    rem0: tuple[Digest, ...] = ()
    rem1: tuple[Digest, ...] = ()
    rem2: tuple[Digest, ...] = ()
    rem3: tuple[Digest, ...] = ()
    personalization_value: tuple[Hex64, ...] = ()


def judge(report: VerifiedReport[Evidence], policy: Policy) -> tuple[Check, ...]:
    """Ask everything that the policy asks; every finding, failed ones too."""
    checks = Checks("cca")
    platform, realm = report.report.platform.claims, report.report.realm.claims
    judge_lifecycle(checks, platform, policy)
    judge_formats(checks, report.report, policy)
    judge_firmware(checks, platform, policy)
    judge_exposure(checks, realm, policy)
    judge_measurements(checks, report, policy)
    return checks.all


def judge_lifecycle(checks: Checks, platform: PlatformClaims, policy: Policy) -> None:
    """Whether anybody can look into the platform."""
    note = "" if platform.state is Lifecycle.SECURED else f"the platform is in the state {platform.state}, not secured"
    checks.one_of("platform.lifecycle", platform.state, policy.lifecycle, f"{SPEC} 4.5.2", note)


def judge_formats(checks: Checks, evidence: Evidence, policy: Policy) -> None:
    """Old profiles and claims from the future."""
    profile = evidence.platform.claims.profile
    legacy = profile == LEGACY_PLATFORM
    checks.that(
        "platform.legacy_profile",
        policy.allow_legacy_profile or not legacy,
        profile,
        "any known profile" if policy.allow_legacy_profile else "a profile of 2023 or later",
        f"{SPEC} 4.5.1",
        "the platform's profile is deprecated" if legacy else "",
    )
    unknown = unknown_claims(evidence)
    if policy.allow_unknown_claims and unknown:
        checks.skip("token.unknown_claims", f"claims that nobody here knows are ignored: {', '.join(unknown)}", SPEC)
    else:
        checks.equal("token.unknown_claims", ", ".join(unknown) or "none", "none", f"{SPEC} 4.11.3")


def judge_firmware(checks: Checks, platform: PlatformClaims, policy: Policy) -> None:
    """The firmware is one that somebody vouched for."""
    spec = f"{SPEC} 7"
    names = ("platform.implementation", "platform.config", "platform.components")
    if not policy.platforms:
        for name in names:
            note = "no reference values: nobody judged the platform's firmware" if name == names[-1] else ""
            checks.skip(name, "the policy has no reference values for platforms", spec, note=note)
    else:
        known = [entry for entry in policy.platforms if entry.implementation_id == platform.implementation_id]
        allowed = sorted({entry.implementation_id for entry in policy.platforms})
        if not checks.one_of(names[0], platform.implementation_id, allowed, spec):
            for name in names[1:]:
                checks.skip(name, "there are no reference values for this platform", spec)
        else:
            _judge_release(checks, platform, known, spec)
    if policy.signers:
        strangers = sorted({item.signer_id for item in platform.sw_components} - set(policy.signers))
        checks.that("platform.signers", not strangers, strangers or "known signers only", "known signers only", spec)
    else:
        checks.skip("platform.signers", "the policy asks for no signers", spec)


def _judge_release(checks: Checks, platform: PlatformClaims, known: list[Platform], spec: str) -> None:
    """One of the known releases fits in configuration and components together."""
    fitting = [entry for entry in known if entry.fits_config(platform.config)]
    wanted = " or ".join(_config(entry) for entry in known)
    if not checks.that("platform.config", bool(fitting), platform.config, wanted, spec):
        checks.skip("platform.components", "no release has this configuration", spec)
    elif all(not entry.components for entry in fitting):
        checks.skip("platform.components", "the policy has no reference values for components", spec)
    else:
        good = any(not entry.components or entry.fits_components(platform.sw_components) for entry in fitting)
        found = "a known release" if good else _difference(platform.sw_components, fitting)
        checks.that("platform.components", good, found, "the components of one known release", spec)


def _config(entry: Platform) -> str:
    if entry.config is None:
        return "anything"
    return entry.config.hex() + (f" under {entry.config_mask.hex()}" if entry.config_mask else "")


def _difference(found: tuple[SwComponent, ...], releases: list[Platform]) -> str:
    """What is wrong, told about the release that comes nearest."""

    def odd(entry: Platform) -> list[str]:
        extra = [item for item in found if not any(wanted.fits(item) for wanted in entry.components)]
        lacking = [wanted for wanted in entry.components if not any(wanted.fits(item) for item in found)]
        return [
            *(f"unknown {item.component_type or 'component'} {item.measurement.hex()}" for item in extra),
            *(f"no {wanted.type or 'component'} {wanted.measurement.hex()}" for wanted in lacking),
        ]

    differences = [odd(entry) for entry in releases]
    nearest = min(differences, key=len)
    return "; ".join(nearest)


def judge_exposure(checks: Checks, realm: RealmClaims, policy: Policy) -> None:
    """Who else can reach the realm's memory, and whether what was measured stays."""
    silent = "the token does not say"
    if not policy.require_private_memory:
        checks.skip("realm.memory_encryption", "the policy does not ask", f"{SPEC} 4.8.9")
    else:
        checks.equal("realm.memory_encryption", realm.memory or silent, "private", f"{SPEC} 4.8.9")
    if realm.lfa_policy is None:
        checks.skip("realm.live_activation", silent, f"{SPEC} 4.8.10")
    else:
        allowed = (False, True) if policy.allow_live_activation else (False,)
        note = "firmware can be replaced while the realm runs" if realm.lfa_policy else ""
        checks.one_of("realm.live_activation", bool(realm.lfa_policy), allowed, f"{SPEC} 4.8.10", note)
    if realm.devices_token_hash is None:
        checks.that("realm.devices", True, "no devices", "no devices", f"{SPEC} 4.8.12")
    else:
        wanted = "any devices" if policy.allow_devices else "no devices"
        note = "devices reach the realm's memory, and were not judged"
        found = f"devices, of digest {realm.devices_token_hash.hex()}"
        checks.that("realm.devices", policy.allow_devices, found, wanted, f"{SPEC} 4.8.12", note)


def judge_measurements(checks: Checks, report: VerifiedReport[Evidence], policy: Policy) -> None:
    """What runs in the realm."""
    realm = report.report.realm.claims
    note = "the policy names no realm: any passes"
    _ask_one_of(checks, "realm.initial_measurement", realm.initial_measurement, policy.hash, f"{SPEC} 4.8.4", note)
    if policy.hash_blacklist:
        listed = realm.initial_measurement in policy.hash_blacklist
        found = f"{realm.initial_measurement.hex()}, which is listed" if listed else "not listed"
        checks.equal("realm.initial_measurement_denied", found, "not listed", f"{SPEC} 4.8.4")
    else:
        checks.skip("realm.initial_measurement_denied", "the policy denies none", f"{SPEC} 4.8.4")
    registers = (policy.rem0, policy.rem1, policy.rem2, policy.rem3)
    for number, (value, allowed) in enumerate(zip(realm.extensible_measurements, registers, strict=True)):
        _ask_one_of(checks, f"realm.extensible_measurement_{number}", value, allowed, f"{SPEC} 4.8.5")
    value, values = realm.personalization_value, policy.personalization_value
    _ask_one_of(checks, "realm.personalization_value", value, values, f"{SPEC} 4.8.3")
    if policy.require_event_log:
        there = any(check.name == "realm.event_log" and check.outcome is Outcome.PASSED for check in report.checks)
        found = "an event log that fits" if there else "no event log"
        checks.that("realm.event_log_present", there, found, "an event log that fits", f"{SPEC} 4.8.5")
    else:
        checks.skip("realm.event_log_present", "the policy does not ask", f"{SPEC} 4.8.5")


def _ask_one_of(checks: Checks, name: str, value: bytes, allowed: tuple[bytes, ...], spec: str, note: str = "") -> None:
    """One of a list that is empty when nobody asks; `note` is for who has to know that."""
    if allowed:
        checks.one_of(name, value, allowed, spec)
    else:
        checks.skip(name, "the policy allows any", spec, note=note)


# For attestation results


def trust_vector(checks: Iterable[Check]) -> dict[str, dict[str, int]]:
    """The judgement in the words of attestation results: claim → tier, apart for platform and realm.

    Tiers: 2 to 31 affirm, 32 to 95 warn, 96 to 127 speak against; what was not asked is left out.

    Args:
        checks: of `verify` and `judge` together, as a verdict has them.
    Source: draft-ietf-rats-ar4si-10, 2.3; which check speaks for which claim: CCA-TOKEN 7.2.
    """
    outcome = {check.name: check.outcome for check in checks}

    def one(*names: str) -> Outcome:
        """Failed when one failed, passed when one passed."""
        found = {outcome.get(name, Outcome.NOT_APPLICABLE) for name in names}
        return next((word for word in (Outcome.FAILED, Outcome.PASSED) if word in found), Outcome.NOT_APPLICABLE)

    platform: dict[str, int] = {}
    realm: dict[str, int] = {}
    if one("platform.anchor") is Outcome.FAILED:
        return {"platform": {"instance-identity": 97}, "realm": {}}  # not recognized
    signed = one("platform.algorithm", "platform.signature")
    if signed is not Outcome.PASSED:
        return {"platform": {"instance-identity": 99}, "realm": {}}  # cryptographic validation failed
    taken_back = one("platform.key_revocation", "platform.key_validity") is Outcome.FAILED
    platform["instance-identity"] = 96 if taken_back else 2  # recognized, but not to be trusted; trustworthy
    firmware = one("platform.implementation", "platform.config", "platform.components")
    if firmware is Outcome.FAILED:
        platform["hardware"] = 97  # not recognized
    elif firmware is Outcome.PASSED:
        platform |= {"hardware": 2, "configuration": 2}  # genuine; approved
        if one("platform.components") is Outcome.PASSED:
            platform["executables"] = 3  # approved, as of boot
    secured = one("platform.lifecycle") is Outcome.PASSED
    platform["runtime-opaque"] = 32 if secured else 96  # isolated; visible
    if one("platform.challenge", "realm.key", "realm.algorithm", "realm.signature") is not Outcome.PASSED:
        return {"platform": platform, "realm": {"instance-identity": 99}}
    realm["instance-identity"] = 2
    started = one("realm.initial_measurement", "realm.initial_measurement_denied")
    running = one(*(f"realm.extensible_measurement_{number}" for number in range(4)))
    if Outcome.FAILED in (started, running):
        realm["executables"] = 33 if started is Outcome.FAILED else 96  # not recognized; contraindicated
    elif one("realm.initial_measurement") is Outcome.PASSED:
        realm["executables"] = 2 if running is Outcome.PASSED else 3  # approved while running; as of boot
    return {"platform": platform, "realm": realm}
