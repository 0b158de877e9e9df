"""Who vouches for a workload: statements that its maker has signed, so that a policy need not list every release.

A policy names keys (`[[workload]] signers`). A statement names one digest, of a launch descriptor or of a package, and
an end; it is an in-toto Statement in a DSSE envelope, JSON both, as tools for releases write them:

    {"payloadType": "application/vnd.in-toto+json", "payload": base64 of the statement,
     "signatures": [{"keyid": SHA-256 of the key in hex, "sig": base64}]}

    {"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "shop", "digest": {"sha256": "5e3f..."}}],
     "predicateType": "urn:oid:1.3.6.1.4.1.58270.1.17",
     "predicate": {"notBefore": "2026-06-01T00:00:00Z", "notAfter": "2026-12-01T00:00:00Z"}}

ECDSA with SHA-256 on P-256, with SHA-384 on P-384, or Ed25519, over DSSE's PAE. `keyid` is of the key's
SubjectPublicKeyInfo: it says which key to try, and which keys count, the policy says. Statements come with a request or
from the operator's directory; it does not matter from whom, as they are signed. One is taken back by its end, or by
taking its key out of the policy.

A package is proven through the launch descriptor, whose digest is what evidence binds:

    SHA-256("donjon launch descriptor v1" 00 || descriptor)       descriptor: JSON, `package` a SHA-256 in hex

Whoever lists or endorses a package, and not a launch, accepts whatever arguments and variables it was started with. Not
whatever roots: whom a workload trusts decides whom it obeys, so the policy lists these files, or there are none.

Source: DSSE v1.0.2, protocol.md; in-toto attestation framework, Statement v1.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from donjon.errors import ParseError, UsageError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:oid:1.3.6.1.4.1.58270.1.17"
DESCRIPTOR_DOMAIN = b"donjon launch descriptor v1\0"
MAX_ENVELOPE = 16 * 1024
MAX_DESCRIPTOR = 64 * 1024
MAX_SENT = 8
"""Statements with one request."""
MAX_SIGNATURES = 4
MAX_TITLE = 200

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_HASHES: dict[str, SHA256 | SHA384] = {"secp256r1": SHA256(), "secp384r1": SHA384()}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Signer(bytes):
    """A key that a policy names: its SubjectPublicKeyInfo in DER."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from PEM; ValueError says what was expected."""
        wanted = "expected a public key of P-256, P-384 or Ed25519 in PEM"
        if not isinstance(value, str) or len(value) > 2000:
            raise ValueError(wanted)
        try:
            key = load_pem_public_key(value.strip().encode())
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(wanted) from error
        curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else ""
        if curve not in _HASHES and not isinstance(key, ed25519.Ed25519PublicKey):
            raise ValueError(wanted)
        return cls(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def name(self) -> str:
        """SHA-256 of the key, in hex."""
        return sha256(self).hexdigest()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A statement with its signatures, well formed and no more.

    Args:
        signed: what the signatures are over. signatures: name of the key → signature.
        digest: of a launch descriptor or a package. title: for people.
    """

    signed: bytes
    signatures: Mapping[str, bytes]
    digest: bytes
    title: str
    not_before: datetime | None
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Proofs:
    """What speaks for a workload beside evidence.

    Args:
        descriptor: the launch descriptor, as it was hashed. sent: statements that came with the request.
        kept: digest → the operator's statements.
    """

    descriptor: bytes | None = None
    sent: tuple[Envelope, ...] = ()
    kept: Mapping[bytes, tuple[Envelope, ...]] = field(default_factory=dict)

    def about(self, digests: Iterable[bytes]) -> Iterable[Envelope]:
        """Statements about any of these."""
        for digest in digests:
            yield from self.kept.get(digest, ())
            yield from (item for item in self.sent if item.digest == digest)


def read(data: bytes | Mapping[str, Any], where: str = "endorsement") -> Envelope:
    """Read an envelope.

    Args:
        data: JSON, or what was read from it without a name twice.
    Raises:
        ParseError: it is too long, or not as the module shows.
    """
    found = _json(data, where, MAX_ENVELOPE) if isinstance(data, bytes) else data
    if not isinstance(found, Mapping) or found.get("payloadType") != PAYLOAD_TYPE:
        raise ParseError(f"{where}: expected a DSSE envelope of {PAYLOAD_TYPE}")
    signatures = found.get("signatures")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise ParseError(f"{where}.signatures: expected 1 to {MAX_SIGNATURES}")
    payload = _base64(found.get("payload"), f"{where}.payload")
    parts = dict(_signature(item, where) for item in signatures)
    statement = _json(payload, f"{where}.payload", MAX_ENVELOPE)
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT:
        raise ParseError(f"{where}._type: expected {STATEMENT}")
    if statement.get("predicateType") != PREDICATE:
        raise ParseError(f"{where}.predicateType: expected {PREDICATE}")
    title, digest = _subject(statement.get("subject"), where)
    predicate = statement.get("predicate")
    if not isinstance(predicate, dict) or not {"notAfter"} <= set(predicate) <= {"notBefore", "notAfter"}:
        raise ParseError(f"{where}.predicate: expected notAfter, and notBefore where there is one")
    start = _time(predicate["notBefore"], where) if "notBefore" in predicate else None
    return Envelope(pae(payload), parts, digest, title, start, _time(predicate["notAfter"], where))


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def is_by(envelope: Envelope, signer: Signer) -> bool:
    """Whether this key has signed it."""
    signature = envelope.signatures.get(signer.name)
    return signature is not None and _is_signed(envelope.signed, signature, bytes(signer))


def refusal(envelope: Envelope, now: datetime) -> str:
    """Why it does not hold at this time; empty when it does."""
    if envelope.not_before is not None and now < envelope.not_before:
        return f"a statement that holds from {envelope.not_before:%Y-%m-%dT%H:%M:%SZ} on"
    if now > envelope.not_after:
        return f"a statement that ended at {envelope.not_after:%Y-%m-%dT%H:%M:%SZ}"
    return ""


def make(digest: bytes, key: PrivateKey, until: datetime, since: datetime | None = None, title: str = "") -> str:
    """Make a statement and sign it; the opposite of `read`.

    Raises:
        UsageError: the digest has not 32 bytes, the key is of another kind, a time has no zone.
    """
    if len(digest) != 32 or len(title) > MAX_TITLE:
        raise UsageError(f"endorsement: expected a digest of 32 bytes and a title of at most {MAX_TITLE} characters")
    if until.tzinfo is None or (since is not None and since.tzinfo is None):
        raise UsageError("endorsement: expected times with their zones")
    times = {"notBefore": since, "notAfter": until}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": title, "digest": {"sha256": digest.hex()}}],
        "predicateType": PREDICATE,
        "predicate": {name: f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for name, at in times.items() if at is not None},
    }
    payload = json.dumps(statement, separators=(",", ":")).encode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(pae(payload))
    else:
        try:
            algorithm = _HASHES[key.curve.name]
        except KeyError as error:
            raise UsageError(f"endorsement: expected a key of P-256, P-384 or Ed25519, got {key.curve.name}") from error
        signature = key.sign(pae(payload), ec.ECDSA(algorithm))
    name = sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": name, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=2) + "\n"


def package_of(descriptor: bytes, bound: bytes) -> bytes:
    """The package in a launch descriptor, if that is the one that evidence binds.

    Args:
        bound: the 32 bytes in the evidence.
    Raises:
        ParseError: it is too long, another one, or has no package.
    """
    where = "descriptor"
    if len(descriptor) > MAX_DESCRIPTOR:
        raise ParseError(f"{where}: expected at most {MAX_DESCRIPTOR} bytes, got {len(descriptor)}")
    if sha256(DESCRIPTOR_DOMAIN + descriptor).digest() != bound:
        raise ParseError(f"{where}: expected the one that evidence binds, got another one")
    found = _json(descriptor, where, MAX_DESCRIPTOR)
    package = found.get("package") if isinstance(found, dict) else None
    return _digest(package, f"{where}.package")


def roots_of(descriptor: bytes) -> frozenset[bytes]:
    """The SHA-256 of each file that a launch trusts, `[roots]`: the files lie beside the package, which has but names.

    Raises:
        ParseError: it has none such.
    """
    found = _json(descriptor, "descriptor", MAX_DESCRIPTOR)
    roots = found.get("roots", {}) if isinstance(found, dict) else None
    if not isinstance(roots, dict):
        raise ParseError("descriptor.roots: expected an object")
    return frozenset(_digest(value, "descriptor.roots") for value in roots.values())


@lru_cache(maxsize=1024)
def _is_signed(signed: bytes, signature: bytes, spki: bytes) -> bool:
    key = load_der_public_key(spki)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(_HASHES[key.curve.name]))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _signature(value: object, where: str) -> tuple[str, bytes]:
    if not isinstance(value, dict):
        raise ParseError(f"{where}.signatures: expected objects, got {type(value).__name__}")
    return _digest(value.get("keyid"), f"{where}.keyid").hex(), _base64(value.get("sig"), f"{where}.sig")


def _subject(value: object, where: str) -> tuple[str, bytes]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        title, digest = value[0].get("name", ""), value[0].get("digest")
        named = isinstance(title, str) and len(title) <= MAX_TITLE and title.isprintable()
        if named and isinstance(digest, dict) and set(digest) == {"sha256"}:
            return title, _digest(digest["sha256"], f"{where}.subject")
    raise ParseError(f"{where}.subject: expected one, with a name and a sha256")


def _digest(value: object, where: str) -> bytes:
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return bytes.fromhex(value)
    raise ParseError(f"{where}: expected 64 hex digits in lower case")


def _time(value: object, where: str) -> datetime:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise ParseError(f"{where}.predicate: expected times like 2026-06-01T00:00:00Z")


def _base64(value: object, where: str) -> bytes:
    if isinstance(value, str) and len(value) <= MAX_ENVELOPE:
        try:
            return base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            pass
    raise ParseError(f"{where}: expected base64")


def _json(data: bytes, where: str, most: int) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ParseError(f"{where}: expected each name once in an object")
        return found

    if len(data) > most:
        raise ParseError(f"{where}: expected at most {most} bytes, got {len(data)}")
    try:
        return json.loads(data.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{where}: expected JSON in UTF-8") from error
