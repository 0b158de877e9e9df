"""From the bytes of a CCA token to what both of its parts say. Well formed only: no key has been asked yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import cbor2

from donjon.errors import ParseError
from donjon.tee.cca import layout
from donjon.tee.cca._cbor import kind, read, read_map
from donjon.tee.cca._claims import Claims
from donjon.tee.cca.layout import CoseKey, PlatformClaims, Point, ProtectedHeader, RealmClaims, UnprotectedHeader

C = TypeVar("C", bound=Claims)


@dataclass(frozen=True, slots=True)
class Signed(Generic[C]):
    """A COSE_Sign1 and the claims in it.

    Args:
        protected: the signed header as it came.
        algorithm: what that header names; a key decides whether it may.
        payload: the claims as they came.
        signature: as it came, of any length.
    """

    protected: bytes
    algorithm: int
    payload: bytes
    signature: bytes
    claims: C

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over.

        Source: STD96 (RFC 9052), 4.4: Sig_structure without external data.
        """
        return cbor2.dumps(["Signature1", self.protected, b"", self.payload])


@dataclass(frozen=True, slots=True)
class Evidence:
    """A token that is well formed.

    Args:
        tag: 399 or 907.
        realm_key: the RAK that the realm token carries; nobody vouches for it yet.
    """

    tag: int
    platform: Signed[PlatformClaims]
    realm: Signed[RealmClaims]
    realm_key: Point


def parse(token: bytes) -> Evidence:
    """Read a token.

    Raises:
        ParseError: too large, not strict CBOR, or a part lacks or is not what its table in `layout` says.
    Source: CCA-TOKEN 4.1 (tag 907); its revision -00, "top level wrapper" (tag 399).
    """
    if len(token) > layout.MAX_TOKEN:
        raise ParseError(f"CCA token: expected at most {layout.MAX_TOKEN} bytes, got {len(token)}")
    outer = read(token, "CCA token", (layout.COLLECTION_TAG, layout.CMW_TAG))
    if not isinstance(outer, cbor2.CBORTag):
        raise ParseError(
            f"CCA token: expected tag {layout.CMW_TAG} or {layout.COLLECTION_TAG} around all, got {kind(outer)}"
        )
    platform_bytes, realm_bytes = _collection(outer.tag, outer.value)
    platform = _signed(platform_bytes, "platform token", PlatformClaims)
    realm = _signed(realm_bytes, "realm token", RealmClaims)
    _check_platform(platform.claims)
    _check_realm(realm.claims)
    return Evidence(outer.tag, platform, realm, realm_key(realm.claims))


def _collection(tag: int, value: object) -> tuple[bytes, bytes]:
    """The byte strings of both tokens; a collection holds nothing else."""
    where = f"CCA token, tag {tag}"
    if not isinstance(value, Mapping):
        raise ParseError(f"{where}: expected a map, got {kind(value)}")
    names = {layout.PLATFORM_LABEL: "platform token", layout.REALM_LABEL: "realm token"}
    for key in value:
        if type(key) is not int or key not in names:
            raise ParseError(f"{where}: expected the keys {' and '.join(map(str, names))}, got {kind(key)}")
    found = []
    for key, name in names.items():
        if key not in value:
            raise ParseError(f"{where}: the {name} ({key}) is missing")
        record = value[key]
        if tag == layout.CMW_TAG:
            if not isinstance(record, tuple) or len(record) != 2:
                raise ParseError(f"{name}: expected an array of 2, type and value, got {kind(record)}")
            if type(record[0]) is not int or record[0] != layout.EAT_CWT:
                raise ParseError(f"{name}: expected the content format {layout.EAT_CWT}, got {kind(record[0])}")
            record = record[1]
        if not isinstance(record, bytes):
            raise ParseError(f"{name}: expected bytes, got {kind(record)}")
        found.append(record)
    return found[0], found[1]


def _signed(data: bytes, name: str, claims: type[C]) -> Signed[C]:
    """Read one COSE_Sign1.

    Source: STD96 (RFC 9052), 4.2; always with its tag, says CCA-TOKEN 4.11.1.
    """
    sign1 = read(data, name, (layout.SIGN1_TAG,))
    if not isinstance(sign1, cbor2.CBORTag):
        raise ParseError(f"{name}: expected tag {layout.SIGN1_TAG} (COSE_Sign1), got {kind(sign1)}")
    parts = sign1.value
    if not isinstance(parts, tuple) or len(parts) != 4:
        raise ParseError(f"{name}: expected an array of 4, got {kind(parts)}")
    protected, unprotected, payload, signature = parts
    for value, part in ((protected, "protected header"), (payload, "payload"), (signature, "signature")):
        if not isinstance(value, bytes):
            raise ParseError(f"{name}, {part}: expected bytes, got {kind(value)}")
    where = f"{name}, protected header"
    header = ProtectedHeader.read(read_map(protected, where), where, strict=True)
    UnprotectedHeader.read(unprotected, f"{name}, unprotected header", strict=True)
    return Signed(protected, header.algorithm, payload, signature, claims.read(read_map(payload, name), name))


def _check_platform(claims: PlatformClaims) -> None:
    """What one claim says about another."""
    _check_demanded(claims, claims.profile, "platform token")
    for number, component in enumerate(claims.sw_components):
        algorithm = component.hash_algo_id or claims.hash_algo_id
        where = f"platform token, arm-platform-sw-components (2399) [{number}], measurement value (2)"
        if algorithm in layout.HASHES:  # elsewhere the name is a hint: nothing here is computed with it
            _check_digest(component.measurement, algorithm, where)


def _check_realm(claims: RealmClaims) -> None:
    _check_demanded(claims, claims.profile, "realm token")
    measurements = (claims.initial_measurement, *claims.extensible_measurements)
    names = (
        "cca-realm-initial-measurement (44238)",
        *(f"cca-realm-extensible-measurements (44239) [{n}]" for n in range(4)),
    )
    for name, measurement in zip(names, measurements, strict=True):
        _check_digest(measurement, claims.hash_algo_id, f"realm token, {name}")


def _check_demanded(claims: Claims, profile: str | None, where: str) -> None:
    for field in layout.DEMANDED.get(profile, ()):
        if getattr(claims, field) is None:
            row = claims.ROWS[field]
            raise ParseError(f"{where}: {row.name} ({row.key}) is missing, which profile {profile} has")


def _check_digest(digest: bytes, algorithm: str, where: str) -> None:
    size = layout.HASHES[algorithm]
    if len(digest) != size:
        raise ParseError(f"{where}: expected {size} bytes, as of {algorithm}, got {len(digest)} bytes")


def realm_key(claims: RealmClaims) -> Point:
    """The RAK: a bare point in the legacy profile, otherwise a COSE_Key.

    Raises:
        ParseError: neither; whether the point is on its curve is asked when it is used.
    Source: CCA-TOKEN 4.8.7; for the bare point DEN0137 1.0-eac, A7.2.3: 04, x, y (SEC 1, 2.3.3).
    """
    where = "realm token, cca-realm-public-key (44237)"
    data = claims.public_key
    if claims.profile is layout.LEGACY_REALM:
        for curve in layout.CURVES:
            if len(data) == 1 + 2 * curve.size and data[0] == 0x04:
                return Point(curve, data[1 : 1 + curve.size], data[1 + curve.size :])
        raise ParseError(
            f"{where}: expected 04 and 64, 96 or 132 bytes, got {len(data)} bytes that begin with {data[:1].hex()}"
        )
    key = CoseKey.read(read_map(data, where), where, strict=True)
    curve = layout.CURVES[key.curve - 1]
    for name, value in (("x", key.x), ("y", key.y)):
        if len(value) != curve.size:
            raise ParseError(
                f"{where}, {name}: expected {curve.size} bytes, as on {curve.name}, got {len(value)} bytes"
            )
    if key.algorithm not in (None, curve.algorithm):
        raise ParseError(f"{where}, alg (3): expected {curve.algorithm}, as on {curve.name}, got {key.algorithm}")
    if key.operations is not None and layout.VERIFY not in key.operations:
        raise ParseError(f"{where}, key_ops (4): expected {layout.VERIFY} (verify) among them, got {key.operations}")
    return Point(curve, key.x, key.y)


def claimed(evidence: Evidence) -> tuple[bytes, bytes]:
    """What it says that it binds, before anybody has verified it: report data, and the personalization value."""
    realm = evidence.realm.claims
    return realm.challenge, realm.personalization_value
