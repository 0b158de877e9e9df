"""Is a CCA token genuine? One numbered list; what is acceptable stands in policy.py."""

from __future__ import annotations

from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from donjon.tee.cca._claims import Claims
from donjon.tee.cca.collateral import (
    EARLIEST,
    LATEST,
    Collateral,
    ECKey,
    Notice,
    anchor_name,
    digest,
    load_anchor,
    public_key,
    replay,
)
from donjon.tee.cca.evidence import Evidence, Signed
from donjon.tee.cca.layout import PROFILES, Curve, PlatformClaims, RealmClaims
from donjon.tee.contract import Checks, Roots, VerifiedReport, utc

SPEC = "CCA-TOKEN"  # draft-ffm-rats-cca-token-04

MAX_UNKNOWN = 16  # claims that are named

HASH_OBJECTS: dict[str, hashes.HashAlgorithm] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
}


def verify(evidence: Evidence, collateral: Collateral, roots: Roots, now: datetime) -> VerifiedReport[Evidence]:
    """Say whether the token is genuine.

    Raises:
        EvidenceError: it is not.
        UsageError: an anchor is no key, or `now` has no zone.
    """
    # A token is genuine when
    # (1) the profiles of its parts belong together;
    # (2) `roots` has a key for the platform that it names, and (3) that key is good at `now`;
    # (4) the platform token is signed by that key, with the key's own algorithm;
    # (5) the platform token's challenge is the hash of the realm's key, as carried;
    # (6) the realm token is signed by the realm's key, with the key's own algorithm;
    # (7) the event log, where there is one, leads to the realm's measurements.
    # Not asked here: whose challenge the realm token answers (contract.py); two tokens of one boot share the realm's
    # key, so their realm parts can be exchanged, and only the challenge tells. Nothing in a token is dated.
    now = utc(now)
    checks = Checks("cca")
    platform, realm = evidence.platform.claims, evidence.realm.claims
    name = anchor_name(platform.implementation_id, platform.instance_id)
    notice = collateral.notices.get(name, Notice())

    # fmt: off
    check_profiles(checks, platform, realm)                                                    # (1)
    anchor = check_anchor(checks, name, roots)                                                 # (2)
    check_notice(checks, anchor is not None, notice, now)                                      # (3)
    check_signature(checks, "platform", evidence.platform, anchor)                             # (4)
    check_binding(checks, platform, realm)                                                     # (5)
    check_signature(checks, "realm", evidence.realm, check_realm_key(checks, evidence))        # (6)
    check_events(checks, realm, collateral)                                                    # (7)
    # fmt: on
    return checks.verified(
        product=notice.product,
        measurement=realm.initial_measurement,
        report_data=realm.challenge,
        workload=realm.personalization_value,
        report=evidence,
        claims=facts(evidence),
        tcb=tcb(platform),
        judged_at=now,
        valid_from=notice.not_before,
        valid_until=notice.not_after,
        simulated=roots.simulated,
    )


def check_profiles(checks: Checks, platform: PlatformClaims, realm: RealmClaims) -> None:
    """Both parts are of one generation; a profile says how they are bound, so an unknown one cannot be judged."""
    spec = f"{SPEC} 4.3.3, 4.5.1, 4.8.2"
    if checks.one_of("platform.profile", platform.profile, PROFILES, spec):
        allowed = PROFILES[platform.profile]
        words = " or ".join(profile or "a token without a profile" for profile in allowed)
        checks.that("realm.profile", realm.profile in allowed, realm.profile or "a token without one", words, spec)
    else:
        checks.skip("realm.profile", "the platform's profile is not known", spec)


def check_anchor(checks: Checks, name: str, roots: Roots) -> tuple[Curve, ECKey] | None:
    """The platform's key; None when it is not known."""
    known = name in roots.anchors
    found = name.partition("/")[0] if known else name  # a known machine is not named further: verdicts are kept
    checks.that("platform.anchor", known, found, "a platform whose key is known", f"{SPEC} 7")
    return load_anchor(roots.anchors[name], f"anchor {name}") if known else None


def check_notice(checks: Checks, known: bool, notice: Notice, now: datetime) -> None:
    """Nobody took the key back, and it may be used at `now`."""
    spec = f"{SPEC} 7"
    if not known:
        for name in ("platform.key_validity", "platform.key_revocation"):
            checks.skip(name, "the platform's key is not known", spec)
        return
    if (notice.not_before, notice.not_after) == (EARLIEST, LATEST):
        checks.skip("platform.key_validity", "the key has no dates", spec)
    else:
        checks.within("platform.key_validity", notice.not_before, notice.not_after, now, spec)
    found = f"revoked: {notice.revoked}" if notice.revoked else "not revoked"
    checks.equal("platform.key_revocation", found, "not revoked", spec)


def check_realm_key(checks: Checks, evidence: Evidence) -> tuple[Curve, ECKey] | None:
    """The realm's key as a key; None when it is a point beside its curve."""
    point = evidence.realm_key
    key = public_key(point)
    checks.that(
        "realm.key",
        key is not None,
        f"{point.x.hex()}, {point.y.hex()}",
        f"a point on {point.curve.name}",
        "SEC 1, 3.2.2",
    )
    return (point.curve, key) if key else None


def check_signature(
    checks: Checks, part: str, signed: Signed[PlatformClaims] | Signed[RealmClaims], key: tuple[Curve, ECKey] | None
) -> None:
    """One part is signed by `key`. The key's curve chooses the algorithm; the header may only say the same."""
    if key is None:
        for name in ("algorithm", "signature"):
            checks.skip(f"{part}.{name}", "there is no key to ask", "STD96 4.4")
        return
    curve, public = key
    if not checks.that(
        f"{part}.algorithm",
        signed.algorithm == curve.algorithm,
        _algorithm(signed.algorithm),
        f"{_algorithm(curve.algorithm)}, as the key is on {curve.name}",
        "RFC 9053 2.1",
    ):
        checks.skip(f"{part}.signature", "it is of another algorithm than the key's", "STD96 4.4")
        return
    good = _is_signature(signed.signature, signed.signed_bytes, curve, public)
    found = "a signature by the key" if good else f"{len(signed.signature)} bytes that are no signature by the key"
    checks.that(f"{part}.signature", good, found, f"{2 * curve.size} bytes, signed by the key", "STD96 4.4")


def _algorithm(number: int) -> str:
    names = {-7: "ES256", -35: "ES384", -36: "ES512"}
    return f"{number} ({names[number]})" if number in names else str(number)


def _is_signature(signature: bytes, data: bytes, curve: Curve, key: ECKey) -> bool:
    """Source: RFC 9053, 2.1: r and s, big endian, as long as a coordinate."""
    if len(signature) != 2 * curve.size:
        return False
    r, s = int.from_bytes(signature[: curve.size], "big"), int.from_bytes(signature[curve.size :], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(HASH_OBJECTS[curve.hash]))
    except InvalidSignature:
        return False
    return True


def check_binding(checks: Checks, platform: PlatformClaims, realm: RealmClaims) -> None:
    """The platform vouches for the realm's key: nothing else connects the parts."""
    expected = digest(realm.public_key_hash_algo_id, realm.public_key)
    checks.that(
        "platform.challenge",
        platform.challenge == expected,
        platform.challenge,
        f"{expected.hex()}, the {realm.public_key_hash_algo_id} of the realm's key",
        f"{SPEC} 4.10",
    )


def check_events(checks: Checks, realm: RealmClaims, collateral: Collateral) -> None:
    """The log tells how the measurements came about; a log that leads elsewhere tells a story."""
    spec = "DEN0137 RSI_MEASUREMENT_EXTEND"
    if collateral.events is None:
        checks.skip("realm.event_log", "no event log is at hand", spec)
        return
    checks.equal("realm.event_log", realm.extensible_measurements, replay(collateral.events, realm.hash_algo_id), spec)


# What is told about it


def facts(evidence: Evidence) -> dict[str, str | int | bool]:
    """For people, JSON and certificates. Left out: the platform's instance id, which names one machine."""
    platform, realm = evidence.platform.claims, evidence.realm.claims
    found: dict[str, str | int | bool] = {
        "platform_profile": platform.profile,
        "implementation_id": platform.implementation_id.hex(),
        "platform_config": platform.config.hex(),
        "lifecycle": f"{platform.lifecycle:#06x} ({platform.state})",
        "realm_profile": realm.profile or "none",
        "hash_algorithm": realm.hash_algo_id,
    }
    for number, measurement in enumerate(realm.extensible_measurements):
        found[f"extensible_measurement_{number}"] = measurement.hex()
    if realm.memory is not None:
        found["memory_encryption"] = realm.memory
    if realm.lfa_policy is not None:
        found["live_firmware_activation"] = bool(realm.lfa_policy)
    if realm.devices_token_hash is not None:
        found["devices_token_hash"] = realm.devices_token_hash.hex()
    unknown = unknown_claims(evidence)
    if unknown:
        found["unknown_claims"] = ", ".join(unknown)
    return found


def tcb(platform: PlatformClaims) -> dict[str, str]:
    """The firmware: name → version where the token has one, otherwise its measurement."""
    found: dict[str, str] = {"lifecycle": str(platform.state)}
    for number, component in enumerate(platform.sw_components):
        name = component.component_type or f"component {number}"
        found[name if name not in found else f"{name} ({number})"] = component.version or component.measurement.hex()
    return found


def unknown_claims(evidence: Evidence) -> list[str]:
    """Claims that no table has, as "platform 65000"; the first ones, as there can be thousands."""
    parts: list[tuple[str, Claims]] = [("platform", evidence.platform.claims), ("realm", evidence.realm.claims)]
    for number, component in enumerate(evidence.platform.claims.sw_components):
        parts.append((f"component {number}", component))
    found = [(part, key) for part, claims in parts for key in claims.others]
    names = [f"{part} {key if isinstance(key, int) else repr(key[:40])}" for part, key in found[:MAX_UNKNOWN]]
    return names + ([f"{len(found) - MAX_UNKNOWN} more"] if len(found) > MAX_UNKNOWN else [])
