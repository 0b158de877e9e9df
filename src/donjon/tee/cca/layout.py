"""What a CCA token is made of: the claims of both tokens, the headers of their signatures, keys, curves, profiles.

A token is a collection of two signed claim sets. The platform's hardware signs what it is and what firmware it booted
(platform token, key CPAK); the Realm Management Monitor signs what the realm is (realm token, key RAK). The platform
token's challenge is the hash of the RAK's public half, and so the two belong together.

    907({44234: [263, << 18([headers, {}, << platform claims >>, signature]) >>],
         44241: [263, << 18([headers, {}, << realm claims >>, signature]) >>]})

The older tag 399 has the byte strings without the arrays. Names are those of CCA-TOKEN (draft-ffm-rats-cca-token-04);
the Realm Management Monitor specification (DEN0137, A7.2) has the same claims with underscores.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from donjon.errors import ParseError
from donjon.tee.cca._cbor import kind
from donjon.tee.cca._claims import Claims, claim, claims, data, either, flag, many, table, text, whole

MAX_TOKEN = 32 * 1024  # bytes; what configfs-tsm hands out at most

COLLECTION_TAG = 399  # draft-ffm-rats-cca-token-00
CMW_TAG = 907  # -01 and later
PLATFORM_LABEL = 44234  # 0xACCA
REALM_LABEL = 44241  # 0xACD1
EAT_CWT = 263  # CoAP content format of application/eat+cwt
SIGN1_TAG = 18

MAX_COMPONENTS = 128
HASHES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # name in IANA's registry → bytes
DIGEST = data(*HASHES.values())


class Lifecycle(StrEnum):
    """State of the platform, the upper byte of its lifecycle claim. Source: CCA-TOKEN 4.5.2."""

    UNKNOWN = "unknown"
    ASSEMBLY_AND_TEST = "assembly_and_test"
    PROVISIONING = "platform_rot_provisioning"
    SECURED = "secured"
    REALM_DEBUG = "non_platform_rot_debug"  # the Realm Management Monitor can be debugged, and so every realm
    ROOT_DEBUG = "recoverable_platform_rot_debug"  # everything can be debugged
    DECOMMISSIONED = "decommissioned"


LIFECYCLES = {number << 4: state for number, state in enumerate(Lifecycle)}  # 0x00, 0x10, ... 0x60


def lifecycle(value: object, where: str) -> int:
    """The integer as it came, its upper byte is one of `LIFECYCLES`, its lower byte the implementation's own."""
    if type(value) is not int or not 0 <= value <= 0xFFFF or value >> 8 not in LIFECYCLES:
        got = f"{value:#06x}" if type(value) is int else kind(value)
        raise ParseError(f"{where}: expected 0x00nn, 0x10nn, ... or 0x60nn, got {got}")
    return value


# Profiles: which claims a token has, and how it is bound.

LEGACY_PLATFORM = "http://arm.com/CCA-SSD/1.0.0"
PLATFORM_1_0 = "tag:arm.com,2023:cca_platform#1.0.0"
PLATFORM_2_0 = "tag:arm.com,2024:cca_platform#2.0.0"
LEGACY_REALM = None  # the claim is absent; the realm's key is a bare point, not a COSE_Key
REALM_1_0 = "tag:arm.com,2023:realm#1.0.0"
REALM_2_0 = "tag:arm.com,2024:realm#2.0.0"

# Platform profile → realm profiles that go with it. All of them bind by the platform's challenge, as here is verified;
# the profiles that end in ";direct" bind otherwise, and draft -04 contradicts itself on those of 2026.
PROFILES: dict[str, tuple[str | None, ...]] = {
    LEGACY_PLATFORM: (LEGACY_REALM,),
    PLATFORM_1_0: (REALM_1_0, REALM_2_0),
    PLATFORM_2_0: (REALM_2_0,),
}

# Claims that only some profiles demand: profile → fields.
DEMANDED: dict[str | None, tuple[str, ...]] = {
    PLATFORM_2_0: ("client_id",),
    REALM_2_0: ("instance_id", "mec_policy"),
}


# fmt: off
@claims
class SwComponent(Claims):
    """One measured piece of firmware.

    Source: CCA-TOKEN 4.6.1, arm-platform-sw-component.
    """

    component_type: str | None               = claim(1, "component type", text(), default=None)
    measurement:    bytes                    = claim(2, "measurement value", DIGEST)
    version:        str | None               = claim(4, "version", text(), default=None)
    signer_id:      bytes                    = claim(5, "signer id", DIGEST)
    hash_algo_id:   str | None               = claim(6, "hash algorithm identifier", text(), default=None)
    live_activated: bool | None              = claim(7, "live firmware activation supported", flag, default=None)
    countersigners: tuple[bytes, ...] | None = claim(8, "countersigner ids", many(DIGEST, 1, 16), default=None)


@claims
class PlatformClaims(Claims):
    """What the platform's hardware says.

    Args:
        challenge: hash of the realm's public key as its claim carries it.
        implementation_id: which kind of platform; the maker's number.
        instance_id: which one of that kind, and so which key; identifies the machine.
        hash_algo_id: of measurements; any name, as nobody but the platform computes with it.
    Source: CCA-TOKEN 4.2 to 4.7, arm-platform-claims.
    """

    profile:              str                     = claim(265, "arm-platform-profile", text())
    challenge:            bytes                   = claim(10, "arm-platform-challenge", DIGEST)
    implementation_id:    bytes                   = claim(2396, "arm-platform-implementation-id", data(32))
    instance_id:          bytes                   = claim(256, "arm-platform-instance-id", data(33, first=0x01))
    config:               bytes                   = claim(2401, "arm-platform-config", data(most=1024))
    lifecycle:            int                     = claim(2395, "arm-platform-lifecycle", lifecycle)
    hash_algo_id:         str                     = claim(2402, "arm-platform-hash-algo-id", text())
    sw_components:        tuple[SwComponent, ...] = claim(2399, "arm-platform-sw-components",
                                                          many(table(SwComponent), 1, MAX_COMPONENTS))
    client_id:            int | None              = claim(2394, "arm-platform-client-id", whole(1, 1), default=None)
    verification_service: str | None              = claim(2400, "arm-platform-verification-service", text(),
                                                          default=None)

    @property
    def state(self) -> Lifecycle:
        """The lifecycle without the implementation's own byte."""
        return LIFECYCLES[self.lifecycle >> 8]


@claims
class RealmClaims(Claims):
    """What the Realm Management Monitor says about one realm.

    Args:
        challenge: the 64 bytes that the guest asked to have signed.
        personalization_value: 64 bytes that the launcher chose; Donjon puts the workload's digest there.
        initial_measurement: RIM, what the realm was started from.
        extensible_measurements: REM 0 to 3, what the guest added while it ran.
        public_key: the RAK: a COSE_Key, in the legacy profile a bare point (04, x, y).
        mec_policy: 0 or "shared", 1 or "private": whether the realm's memory is encrypted under a key of its own.
    Source: CCA-TOKEN 4.8, cca-realm-claims; the text forms of mec_policy are from its revisions before -03.
    """

    profile:                 str | None        = claim(265, "cca-realm-profile", text(), default=None)
    challenge:               bytes             = claim(10, "cca-realm-challenge", data(64))
    instance_id:             bytes | None      = claim(256, "cca-realm-instance-id", data(33, first=0x01),
                                                       default=None)
    hash_algo_id:            str               = claim(44236, "cca-realm-hash-algo-id", text(*HASHES))
    public_key_hash_algo_id: str               = claim(44240, "cca-realm-public-key-hash-algo-id", text(*HASHES))
    personalization_value:   bytes             = claim(44235, "cca-realm-personalization-value", data(64))
    public_key:              bytes             = claim(44237, "cca-realm-public-key", data(most=512))
    initial_measurement:     bytes             = claim(44238, "cca-realm-initial-measurement", DIGEST)
    extensible_measurements: tuple[bytes, ...] = claim(44239, "cca-realm-extensible-measurements", many(DIGEST, 4, 4))
    mec_policy:              int | str | None  = claim(44243, "cca-realm-mec-policy",
                                                       either(whole(0, 1), text("shared", "private")), default=None)
    lfa_policy:              int | None        = claim(44244, "cca-realm-lfa-policy", whole(0, 1), default=None)
    devices_token_hash:      bytes | None      = claim(44257, "cca-realm-devices-token-hash", DIGEST, default=None)

    @property
    def memory(self) -> str | None:
        """The memory encryption context: "shared", "private", or None where the token does not say."""
        return ("shared", "private")[self.mec_policy] if isinstance(self.mec_policy, int) else self.mec_policy


@claims
class ProtectedHeader(Claims):
    """The signed header of a COSE_Sign1: the algorithm, and hints that are not used.

    Source: STD96 (RFC 9052), 3.1; "crit" and certificates are not in the profiles, and so are refused.
    """

    algorithm:    int              = claim(1, "alg", whole(-(1 << 63), (1 << 63) - 1))
    content_type: int | str | None = claim(3, "content type", either(whole(0, 65535), text()), default=None)
    key_id:       bytes | None     = claim(4, "kid", data(most=256), default=None)
    type:         int | str | None = claim(16, "typ", either(whole(0, 65535), text()), default=None)


@claims
class UnprotectedHeader(Claims):
    """The header that nothing signs: a key's name may stand there, and is not used."""

    key_id: bytes | None = claim(4, "kid", data(most=256), default=None)


@claims
class CoseKey(Claims):
    """A public key on an elliptic curve.

    Source: STD96 (RFC 9052) 7; RFC 9053 7.1.1. A compressed y (true or false) is not in the profiles.
    """

    key_type:   int                    = claim(1, "kty", whole(2, 2))  # EC2
    key_id:     bytes | None           = claim(2, "kid", data(most=256), default=None)
    algorithm:  int | None             = claim(3, "alg", whole(-(1 << 63), (1 << 63) - 1), default=None)
    operations: tuple[int, ...] | None = claim(4, "key_ops", many(whole(1, 10), 1, 10), default=None)
    curve:      int                    = claim(-1, "crv", whole(1, 3))
    x:          bytes                  = claim(-2, "x", data(32, 48, 66))
    y:          bytes                  = claim(-3, "y", data(32, 48, 66))
# fmt: on

VERIFY = 2  # the key operation


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve and the one algorithm that goes with it; an algorithm is never taken from a token alone.

    Args:
        number: in a COSE_Key.
        algorithm: in a COSE header.
        hash: the algorithm's, by IANA's name.
        size: of a coordinate, in bytes; a signature has twice as many.
    Source: RFC 9053, 2.1 and 7.1.
    """

    name: str
    number: int
    algorithm: int
    algorithm_name: str
    hash: str
    size: int


CURVES = (
    Curve("P-256", 1, -7, "ES256", "sha-256", 32),
    Curve("P-384", 2, -35, "ES384", "sha-384", 48),
    Curve("P-521", 3, -36, "ES512", "sha-512", 66),
)


@dataclass(frozen=True, slots=True)
class Point:
    """A public key: curve and coordinates, big endian, `curve.size` bytes each."""

    curve: Curve
    x: bytes
    y: bytes
