"""What a CCA token is judged with: platform keys, what their issuers say about them later, and a realm's event log.

Arm has no certificate authority. Whoever makes a platform hands out the public half of its attestation key (CPAK)
together with two numbers, the implementation id (which kind) and the instance id (which one). An operator collects
them in a file; nothing is shipped, as no maker has published a key, and those in test tools have public private halves.

    [[anchor]]
    product = "Example SoC"            # a name for people; may be left out
    implementation_id = "7f45..."      # 64 hex digits
    instance_id = "0107..."            # 66 hex digits, the first two are 01
    key = '''
    -----BEGIN PUBLIC KEY-----
    ...
    -----END PUBLIC KEY-----
    '''
    not_before = 2026-01-01T00:00:00Z  # may be left out
    not_after = 2027-01-01T00:00:00Z   # may be left out
    revoked = "key found outside"      # the reason; leave it out for a good key
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from donjon.errors import ParseError, UsageError
from donjon.tee.cca.layout import CURVES, HASHES, Curve, Point
from donjon.tee.contract import Hex, Hex32, Model, Roots

MAX_FILE = 1024 * 1024  # bytes; about 2000 anchors
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)

ECKey = ec.EllipticCurvePublicKey
EC_CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}


@dataclass(frozen=True, slots=True)
class Notice:
    """What the issuer of an anchor says about it.

    Args:
        product: a name for people.
        not_before, not_after: both included.
        revoked: why the key is no longer good; empty for a good one.
    """

    product: str = ""
    not_before: datetime = EARLIEST
    not_after: datetime = LATEST
    revoked: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """The guest extended one of its measurements.

    Args:
        register: 0 to 3.
        data: 1 to 64 bytes that were hashed in, mostly a digest.
    """

    register: int
    data: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.register <= 3:
            raise UsageError(f"event: expected a register from 0 to 3, got {self.register}")
        if not 1 <= len(self.data) <= 64:
            raise UsageError(f"event: expected 1 to 64 bytes, got {len(self.data)}")


@dataclass(frozen=True, slots=True)
class Collateral:
    """What is known beside the token and the anchors.

    Args:
        notices: name of an anchor (see `anchor_name`) → what is said about it; one without a notice is always good.
        events: the realm's event log, in order; None where there is none.
    """

    notices: Mapping[str, Notice] = field(default_factory=dict)
    events: tuple[Event, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "notices", MappingProxyType(dict(self.notices)))


def anchor_name(implementation_id: bytes, instance_id: bytes) -> str:
    """The name under which `Roots.anchors` has a platform's key, as SubjectPublicKeyInfo in DER."""
    return f"{implementation_id.hex()}/{instance_id.hex()}"


def replay(events: Iterable[Event], algorithm: str) -> tuple[bytes, ...]:
    """The four extensible measurements after `events`.

    Args:
        algorithm: name of the realm's hash algorithm, e.g. "sha-256".
    Source: DEN0137, RSI_MEASUREMENT_EXTEND: new value = H(old value || data); all begin as zeros.
    """
    registers = [bytes(HASHES[algorithm])] * 4
    for event in events:
        registers[event.register] = digest(algorithm, registers[event.register] + event.data)
    return tuple(registers)


def digest(algorithm: str, data: bytes) -> bytes:
    """Hash by the name that IANA's registry gives: "sha-256", "sha-384", "sha-512"."""
    return hashlib.new(algorithm.replace("-", ""), data).digest()


# Keys


def public_key(point: Point) -> ECKey | None:
    """The key to verify with; None when the point is not on its curve."""
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(point.x, "big"), int.from_bytes(point.y, "big"), EC_CURVES[point.curve.name]()
    )
    try:
        return numbers.public_key()
    except ValueError:
        return None


def load_anchor(spki: bytes, where: str) -> tuple[Curve, ECKey]:
    """Read an anchor's bytes.

    Raises:
        UsageError: not a key on P-256, P-384 or P-521; whoever made the roots was wrong.
    """
    try:
        return _with_curve(load_der_public_key(spki))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{where}: expected the public key of a curve, in DER: {_first_line(error)}") from error


def _with_curve(key: object) -> tuple[Curve, ECKey]:
    if isinstance(key, ec.EllipticCurvePublicKey):
        for curve in CURVES:
            if isinstance(key.curve, EC_CURVES[curve.name]):
                return curve, key
    raise ValueError("not a key on P-256, P-384 or P-521")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# The file


class Hex33(Hex):
    """33 bytes, as of an instance id."""

    __slots__ = ()
    size = 33


class _Anchor(Model, frozen=True, kw_only=True):
    implementation_id: Hex32
    instance_id: Hex33
    key: str
    product: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: str | None = None


class _File(Model, frozen=True, kw_only=True):
    anchor: tuple[_Anchor, ...] = ()


def read_anchors(text: str, source: str = "anchors", simulated: bool = False) -> tuple[Roots, Collateral]:
    """Read a file of anchors; the form is shown at the top of this module.

    Args:
        source: name of the file for messages.
        simulated: the keys are not a maker's; everything verified by them says so.
    Returns:
        Roots with the keys, and Collateral with the notices.
    Raises:
        ParseError: not as shown, a key that is none, or two anchors for one platform.
    """
    if len(text) > MAX_FILE:
        raise ParseError(f"{source}: expected at most {MAX_FILE} characters, got {len(text)}")
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{source}: not TOML: {_first_line(error)}") from error
    return _anchors(document, source, simulated)


def read_roots(document: Mapping[str, Any], source: str) -> tuple[Roots, Collateral] | None:
    """Anchors of platforms are written in a form of their own, shown at the top of this module."""
    return _anchors(document, source, simulated=False) if "anchor" in document else None


def read_collateral(data: bytes) -> Collateral | None:
    """No file: a token needs nothing but anchors."""
    del data
    return None


def join(own: Collateral, other: Collateral) -> Collateral:
    """The notices of both, the event log that came with the token."""
    return Collateral({**own.notices, **other.notices}, own.events)


def _anchors(document: Mapping[str, Any], source: str, simulated: bool) -> tuple[Roots, Collateral]:
    anchors: dict[str, bytes] = {}
    notices: dict[str, Notice] = {}
    for number, anchor in enumerate(_File.read(document, source).anchor):
        where = f"{source}: anchor [{number}]"
        if anchor.instance_id[0] != 0x01:
            raise ParseError(f"{where}, instance_id: expected 01 first, got {anchor.instance_id[:1].hex()}")
        name = anchor_name(anchor.implementation_id, anchor.instance_id)
        if name in anchors:
            raise ParseError(f"{where}: expected one anchor for each platform, got a second one for {name}")
        anchors[name] = _spki(anchor.key, where)
        notices[name] = _notice(anchor, where)
    return Roots(anchors, simulated), Collateral(notices)


def _spki(pem: str, where: str) -> bytes:
    try:
        _, key = _with_curve(load_pem_public_key(pem.strip().encode()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ParseError(f"{where}, key: expected the public key of a curve, in PEM: {_first_line(error)}") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _notice(anchor: _Anchor, where: str) -> Notice:
    for name in ("not_before", "not_after"):
        time = getattr(anchor, name)
        if time is not None and time.tzinfo is None:
            raise ParseError(f"{where}, {name}: expected a time with its zone, got {time.isoformat()}")
    if anchor.revoked is not None and not anchor.revoked.strip():
        raise ParseError(f"{where}, revoked: expected a reason, got an empty text")
    return Notice(anchor.product, anchor.not_before or EARLIEST, anchor.not_after or LATEST, anchor.revoked or "")
