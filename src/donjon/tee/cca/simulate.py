"""A simulated Arm CCA platform: real formats, keys made on the spot. It protects nothing, and its roots say so.

    platform = SimulatedPlatform.new()
    realm = SimulatedRealm(initial_measurement=rim, personalization_value=workload)
    realm.extend(0, digest_of_something_loaded_later)
    token = platform.token(realm, challenge)             # as configfs-tsm's outblob gives it
    roots, collateral = read_anchors(platform.anchors(), simulated=True)

The roles are those of the hardware: `SimulatedPlatform` is the hardware-enforced security block and the Realm
Management Monitor, with the CPAK and the RAK that it derives at boot; `SimulatedRealm` is one realm's measurements.
Every state of a platform can be reached by its claims: another lifecycle, another firmware, an older profile. `sign`
and `collect` make the parts of a token from whatever bytes they are given, for tests of what no platform would make.

Not simulated: where measurements come from. The initial measurement is handed over; the monitor would compute it from
each page that it loads.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from donjon.errors import ParseError, UsageError
from donjon.tee.cca import layout
from donjon.tee.cca.collateral import EC_CURVES, Event, anchor_name, digest, replay
from donjon.tee.cca.layout import CURVES, HASHES, Curve, PlatformClaims, RealmClaims, SwComponent
from donjon.tee.cca.verify import HASH_OBJECTS
from donjon.tee.contract import Roots
from donjon.tee.simulated import Blobs, State, Word
from donjon.wire import der

PRODUCT = "Donjon simulated CCA platform"
IMPLEMENTATION_ID = b"donjon.simulated.cca.platform".ljust(32, b"\0")
CONFIG = bytes.fromhex("00000001")
SECURED = 0x3000
FIRMWARE = ("BL1", "BL2", "BL31", "RMM", "HW_CONFIG")


def firmware(version: str = "1.0", algorithm: str = "sha-256") -> tuple[SwComponent, ...]:
    """Components as a platform measures them at boot; another version has other measurements.

    Args:
        algorithm: "sha-256", "sha-384" or "sha-512".
    """
    signer = hashlib.sha256(b"donjon.simulated.cca.signer").digest()
    return tuple(
        SwComponent(
            component_type=name,
            measurement=digest(algorithm, f"{name} {version}".encode()),
            version=version,
            signer_id=signer,
            hash_algo_id=algorithm,
        )
        for name in FIRMWARE
    )


@dataclass
class SimulatedRealm:
    """One realm, as the Realm Management Monitor sees it.

    Args:
        initial_measurement: RIM, as long as values of `algorithm`.
        personalization_value: RPV, 64 bytes; shorter ones are filled up with zeros.
        algorithm: of all measurements: "sha-256", "sha-384" or "sha-512".
        profile: of the realm token; None is the legacy one.
        events: what `extend` did, in order.
    Raises:
        UsageError: a value has another length.
    """

    initial_measurement: bytes
    personalization_value: bytes = b""
    algorithm: str = "sha-256"
    profile: str | None = layout.REALM_2_0
    mec_policy: int = 1
    instance_id: bytes = field(default_factory=lambda: b"\x01" + secrets.token_bytes(32))
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.initial_measurement) != HASHES[self.algorithm]:
            raise UsageError(
                f"initial measurement: expected {HASHES[self.algorithm]} bytes, got {len(self.initial_measurement)}"
            )
        if len(self.personalization_value) > 64:
            raise UsageError(f"personalization value: expected 64 bytes, got {len(self.personalization_value)}")
        self.personalization_value = self.personalization_value.ljust(64, b"\0")

    def extend(self, register: int, data: bytes) -> None:
        """Add to one of the four extensible measurements.

        Source: DEN0137, RSI_MEASUREMENT_EXTEND.
        """
        self.events.append(Event(register, data))

    def claims(self, challenge: bytes, public_key: bytes, public_key_hash: str) -> RealmClaims:
        """What the realm token says. The challenge has 64 bytes."""
        new = self.profile == layout.REALM_2_0
        return RealmClaims(
            profile=self.profile,
            challenge=challenge,
            instance_id=self.instance_id if new else None,
            hash_algo_id=self.algorithm,
            public_key_hash_algo_id=public_key_hash,
            personalization_value=self.personalization_value,
            public_key=public_key,
            initial_measurement=self.initial_measurement,
            extensible_measurements=replay(self.events, self.algorithm),
            mec_policy=self.mec_policy if new else None,
        )


@dataclass(frozen=True)
class SimulatedPlatform:
    """A platform with its keys.

    Args:
        cpak: the platform's attestation key.
        rak: the realm attestation key of this boot.
        claims: what the platform token says; its challenge is put in when a token is made.
    """

    cpak: ec.EllipticCurvePrivateKey
    rak: ec.EllipticCurvePrivateKey
    claims: PlatformClaims

    @classmethod
    def new(cls, curve: str = "P-384", realm_curve: str = "P-384", **claims: Any) -> SimulatedPlatform:
        """Make the keys, and a platform in the best of states.

        Args:
            curve, realm_curve: "P-256", "P-384" or "P-521".
            claims: fields of `PlatformClaims` that shall be otherwise, e.g. `lifecycle=0x5000`.
        """
        return cls.of(
            ec.generate_private_key(EC_CURVES[curve]()), ec.generate_private_key(EC_CURVES[realm_curve]()), **claims
        )

    @classmethod
    def of(cls, cpak: ec.EllipticCurvePrivateKey, rak: ec.EllipticCurvePrivateKey, **claims: Any) -> SimulatedPlatform:
        """The same with keys that are there."""
        best = PlatformClaims(
            profile=layout.PLATFORM_1_0,
            challenge=bytes(32),
            implementation_id=IMPLEMENTATION_ID,
            instance_id=b"\x01" + hashlib.sha256(_spki(cpak)).digest(),
            config=CONFIG,
            lifecycle=SECURED,
            hash_algo_id="sha-256",
            sw_components=firmware(),
        )
        return cls(cpak, rak, replace(best, **claims))

    def token(
        self,
        realm: SimulatedRealm,
        challenge: bytes,
        tag: int = layout.CMW_TAG,
        public_key_hash: str = "sha-256",
        platform_changes: Mapping[str, Any] | None = None,
        realm_changes: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Make a token.

        Args:
            challenge: 64 bytes.
            tag: 907, or 399 for the older collection.
            public_key_hash: how the platform names the realm's key.
            platform_changes, realm_changes: fields of the claims that shall be otherwise, put in before signing; the
                platform's challenge is made from the realm's claims as changed.
        """
        said = realm.claims(challenge, self.realm_key(realm.profile), public_key_hash)
        said = replace(said, **(realm_changes or {}))
        bound = digest(said.public_key_hash_algo_id, said.public_key)
        platform = replace(self.claims, challenge=bound)
        platform = replace(platform, **(platform_changes or {}))
        return collect(sign(platform.map(), self.cpak), sign(said.map(), self.rak), tag)

    def realm_key(self, profile: str | None) -> bytes:
        """The public half of the RAK as a realm token of `profile` carries it."""
        numbers, curve = self.rak.public_key().public_numbers(), curve_of(self.rak)
        x, y = numbers.x.to_bytes(curve.size, "big"), numbers.y.to_bytes(curve.size, "big")
        if profile is layout.LEGACY_REALM:
            return b"\x04" + x + y
        return cbor2.dumps(layout.CoseKey(key_type=2, curve=curve.number, x=x, y=y).map())

    def roots(self) -> Roots:
        """The roots that know this platform; simulated ones."""
        name = anchor_name(self.claims.implementation_id, self.claims.instance_id)
        return Roots({name: _spki(self.cpak)}, simulated=True)

    def anchors(
        self, not_before: datetime | None = None, not_after: datetime | None = None, revoked: str | None = None
    ) -> str:
        """The same as a file of anchors, see `donjon.tee.cca.collateral`.

        Args:
            not_before, not_after: with their zone.
            revoked: a reason without quotes.
        """
        pem = self.cpak.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        lines = [
            "[[anchor]]",
            f'product = "{PRODUCT}"',
            f'implementation_id = "{self.claims.implementation_id.hex()}"',
            f'instance_id = "{self.claims.instance_id.hex()}"',
            f'key = """\n{pem}"""',
        ]
        lines += [f"not_before = {not_before.isoformat()}"] if not_before else []
        lines += [f"not_after = {not_after.isoformat()}"] if not_after else []
        lines += [f'revoked = "{revoked}"'] if revoked else []
        return "\n".join(lines) + "\n"


def sign(
    claims: Mapping[int | str, object] | bytes,
    key: ec.EllipticCurvePrivateKey,
    algorithm: int | None = None,
    protected: bytes | None = None,
    unprotected: Mapping[int, object] | None = None,
) -> bytes:
    """Make a COSE_Sign1.

    Args:
        claims: a map to be written, or the payload itself.
        algorithm: what the header names; left out, that of the key's curve. The signature is always by the latter.
        protected: the header itself.
    Source: STD96 (RFC 9052), 4.4.
    """
    payload = claims if isinstance(claims, bytes) else cbor2.dumps(dict(claims))
    curve = curve_of(key)
    if protected is None:
        protected = cbor2.dumps({1: curve.algorithm if algorithm is None else algorithm})
    structure = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(structure, ec.ECDSA(HASH_OBJECTS[curve.hash])))
    signature = r.to_bytes(curve.size, "big") + s.to_bytes(curve.size, "big")
    return cbor2.dumps(cbor2.CBORTag(layout.SIGN1_TAG, [protected, dict(unprotected or {}), payload, signature]))


def collect(platform: bytes, realm: bytes, tag: int = layout.CMW_TAG) -> bytes:
    """Put two signed parts into a token."""
    parts = {layout.PLATFORM_LABEL: platform, layout.REALM_LABEL: realm}
    if tag == layout.CMW_TAG:
        return cbor2.dumps(cbor2.CBORTag(tag, {key: [layout.EAT_CWT, part] for key, part in parts.items()}))
    return cbor2.dumps(cbor2.CBORTag(tag, parts))


def curve_of(key: ec.EllipticCurvePrivateKey) -> Curve:
    """The curve of a key made here."""
    return next(curve for curve in CURVES if isinstance(key.curve, EC_CURVES[curve.name]))


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# For donjon.sim, see donjon.tee.simulated

MAKER = "arm"
_LIFECYCLES = {
    layout.Lifecycle.SECURED: "nobody can look into the platform",
    layout.Lifecycle.UNKNOWN: "the platform does not say",
    layout.Lifecycle.ASSEMBLY_AND_TEST: "it is being made",
    layout.Lifecycle.PROVISIONING: "it is being given its keys",
    layout.Lifecycle.REALM_DEBUG: "who manages the realms can be debugged",
    layout.Lifecycle.ROOT_DEBUG: "everything can be debugged",
    layout.Lifecycle.DECOMMISSIONED: "it is out of use",
}
_NUMBERS = {str(state): number << 8 for number, state in layout.LIFECYCLES.items()}
# fmt: off
WORDS = (
    *(Word("lifecycle", str(state), about, "" if state is layout.Lifecycle.SECURED else "platform.lifecycle")
      for state, about in _LIFECYCLES.items()),
    Word("profile", "platform-1.0-realm-2.0", "the platform's profile of 2023, the realm's of 2024"),
    Word("profile", "platform-2.0", "both of 2024"),
    Word("profile", "platform-1.0", "both of 2023"),
    Word("profile", "legacy", "of before 2023: deprecated, which the verdict notes"),
    Word("tag", "tag-907", "the collection of today"),
    Word("tag", "tag-399", "the older collection"),
    Word("anchor", "known", "the platform's key is among the roots"),
    Word("anchor", "unknown-platform", "it is not", "platform.anchor"),
    Word("memory", "private", "encrypted under a key that no other realm has"),
    Word("memory", "shared", "under one that others have too; legacy and 2023 do not say"),
    Word("exposure", "alone", "nothing beside the processor reaches the realm's memory, firmware stays as measured"),
    Word("exposure", "live-activation", "firmware may be replaced while the realm runs", "realm.live_activation"),
    Word("exposure", "devices", "devices are assigned to the realm", "realm.devices"),
)
# fmt: on
_PROFILES = {
    "platform-1.0-realm-2.0": (layout.PLATFORM_1_0, layout.REALM_2_0),
    "platform-2.0": (layout.PLATFORM_2_0, layout.REALM_2_0),
    "platform-1.0": (layout.PLATFORM_1_0, layout.REALM_1_0),
    "legacy": (layout.LEGACY_PLATFORM, layout.LEGACY_REALM),
}
_EXPOSURE: Mapping[str, Mapping[str, Any]] = {
    "alone": {},
    "live-activation": {"lfa_policy": 1},
    "devices": {"devices_token_hash": hashlib.sha256(b"the evidence of simulated devices").digest()},
}


def make(now: datetime) -> dict[str, bytes]:
    """Keys of a new platform; they have no dates."""
    del now
    return dump(SimulatedPlatform.new())


def dump(platform: SimulatedPlatform) -> dict[str, bytes]:
    """Its keys, PEM."""
    return {
        f"arm-{name}.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for name, key in (("cpak", platform.cpak), ("rak", platform.rak))
    }


def open_maker(files: Mapping[str, bytes]) -> SimulatedPlatform:
    """The platform again.

    Raises:
        ParseError: a file is missing, or is not what `dump` gave.
    """
    keys = []
    for name in ("arm-cpak.key", "arm-rak.key"):
        try:
            key = load_pem_private_key(files.get(name, b""), None)
        except (ValueError, TypeError) as error:
            raise ParseError(f"{name}: expected a private key: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
            raise ParseError(f"{name}: expected a key on P-384")
        keys.append(key)
    return SimulatedPlatform.of(*keys)


def renew(platform: SimulatedPlatform, now: datetime) -> SimulatedPlatform:
    """The same: nothing of it ends."""
    del now
    return platform


def roots(platform: SimulatedPlatform) -> Roots:
    """What somebody has to trust in order to believe it."""
    return platform.roots()


def guest(platform: SimulatedPlatform, state: State, workload: bytes) -> Guest:
    """A realm on a platform in this state.

    Args:
        workload: the realm personalization value, at most 64 bytes.
    """
    if len(workload) > 64:
        raise UsageError(f"personalization value: expected at most 64 bytes, got {len(workload)}")
    return Guest(platform, state, workload)


@dataclass(frozen=True)
class Guest:
    """What a realm can ask of its hardware."""

    platform: SimulatedPlatform
    state: State
    workload: bytes

    def blobs(self, report_data: bytes, now: datetime, privlevel: int | None = None) -> Blobs:
        """The token."""
        del now, privlevel
        state = self.state
        platform, realm = _PROFILES[state["profile"]]
        changes: dict[str, Any] = {"profile": platform, "lifecycle": _NUMBERS[state["lifecycle"]]}
        if platform == layout.PLATFORM_2_0:
            changes["client_id"] = 1
        if state["anchor"] == "unknown-platform":
            changes["instance_id"] = b"\x01" + hashlib.sha256(b"another platform").digest()
        mec = 1 if state["memory"] == "private" else 0
        # The realm's id is always the same, as a realm that starts again from the same image keeps it.
        id_ = b"\x01" + hashlib.sha256(self.platform.claims.instance_id + b"realm").digest()
        return Blobs(
            self.platform.token(
                SimulatedRealm(REALM, self.workload, profile=realm, mec_policy=mec, instance_id=id_),
                report_data,
                layout.COLLECTION_TAG if state["tag"] == "tag-399" else layout.CMW_TAG,
                platform_changes=changes,
                realm_changes=_EXPOSURE[state["exposure"]],
            )
        )

    def evidence(self, report_data: bytes, now: datetime) -> bytes:
        """The token, wrapped."""
        return der.encode(der.OCTET_STRING, self.blobs(report_data, now).report)

    def collateral(self, now: datetime) -> bytes:
        """There is none."""
        del now
        raise UsageError("Arm: nothing is published about a platform beside its key, which is among the roots")


REALM = hashlib.sha256(b"a simulated realm").digest()
