"""A certificate request (PKCS#10), read strictly: what it may hold is little, and anything else is refused.

    CertificationRequest ::= SEQUENCE { info CertificationRequestInfo,
                                        algorithm AlgorithmIdentifier, signature BIT STRING }
    CertificationRequestInfo ::= SEQUENCE { version INTEGER (0), subject Name, subjectPKInfo SubjectPublicKeyInfo,
                                            attributes [0] SET OF Attribute }

The only attribute is an extension request, and all that it asks for is one extension with evidence. Nothing is asked
for in vain: a name in the request would have to be ignored (names are the policy's to give), so it is refused. Only the
subject is passed over, as every request has to have one; Enarx's is empty.

Why not `cryptography.x509`: it accepts encodings that are not DER in places, so one key could have two hashes; and the
form above is so small that reading it takes less code than checking what a library made of it.

Source: RFC 2986, section 4; RFC 2985, section 5.4.2; enarx/steward, crates/attestation/src/crypto/certreq.rs.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from donjon.errors import ParseError
from donjon.wire.der import OID, SEQUENCE, SET, Der, context, oid_content

MAX_REQUEST = 512 * 1024
"""Bytes of a request. Enarx's have at most 15 KiB; an event log of a TDX guest may have 256 KiB."""
MAX_BUNDLE = 1024 * 1024
MAX_REQUESTS = 32
"""In a bundle."""
MAX_EXTENSIONS = 8

EXTENSION_REQUEST = "1.2.840.113549.1.9.14"

_EC_KEY = oid_content("1.2.840.10045.2.1")
_ED25519 = oid_content("1.3.101.112")
_CURVES = {oid_content("1.2.840.10045.3.1.7"): ("P-256", 65), oid_content("1.3.132.0.34"): ("P-384", 97)}
_ECDSA: dict[bytes, hashes.HashAlgorithm] = {
    oid_content("1.2.840.10045.4.3.2"): hashes.SHA256(),
    oid_content("1.2.840.10045.4.3.3"): hashes.SHA384(),
}
KEYS = ("P-256", "P-384", "Ed25519")
"""The kinds of keys that a request may have."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Extension:
    """What a request asks for: an object identifier with dots, and the extension's value."""

    oid: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is well formed, and no more.

    Args:
        spki: the key's SubjectPublicKeyInfo in DER, of which there is exactly one encoding; `public` is the same, read.
        key: its kind, one of KEYS.
        signed: the bytes that are signed. algorithm: the content of the signature algorithm's identifier.
    """

    spki: bytes
    public: PublicKey
    key: str
    extensions: tuple[Extension, ...]
    signed: bytes
    algorithm: bytes
    signature: bytes

    def is_signed(self) -> bool:
        """Whether the holder of the key made the request."""
        key = self.public
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                if self.algorithm != _ED25519:
                    return False
                key.verify(self.signature, self.signed)
            else:
                digest = _ECDSA.get(self.algorithm)
                if digest is None:
                    return False
                key.verify(self.signature, self.signed, ec.ECDSA(digest))
        except InvalidSignature:
            return False
        return True


def parse_request(data: bytes) -> Request:
    """Read one request.

    Raises:
        ParseError: it is longer than MAX_REQUEST, not DER, or holds something that it may not.
    """
    if len(data) > MAX_REQUEST:
        raise ParseError(f"request: expected at most {MAX_REQUEST} bytes, got {len(data)}")
    source = Der(data, "request")
    outer = source.sequence()
    source.end()
    signed = outer.whole(SEQUENCE, "info")
    algorithm = _algorithm(outer, "signatureAlgorithm")
    signature = outer.bits("signature")
    outer.end()
    info = Der(signed, "request.info").sequence()
    version = info.integer("version")
    if version != 0:
        raise info.refuse("version", "0", str(version), 0)
    info.whole(SEQUENCE, "subject")
    spki = info.whole(SEQUENCE, "subjectPKInfo")
    extensions = _attributes(info.inside(context(0), "attributes"))
    info.end()
    kind, public = _key(spki)
    return Request(spki, public, kind, extensions, signed, algorithm, signature)


def parse_bundle(data: bytes) -> tuple[bytes, ...]:
    """Take Enarx's bundle apart: a SEQUENCE OF CertificationRequest.

    Returns:
        1 to MAX_REQUESTS requests as they came, unread.
    Raises:
        ParseError: it is too long, not a SEQUENCE, empty, or has too many.
    """
    if len(data) > MAX_BUNDLE:
        raise ParseError(f"bundle: expected at most {MAX_BUNDLE} bytes, got {len(data)}")
    source = Der(data, "bundle")
    outer = source.sequence()
    source.end()
    requests: list[bytes] = []
    while outer.left:
        if len(requests) == MAX_REQUESTS:
            raise outer.refuse("request", f"at most {MAX_REQUESTS} requests", "more")
        requests.append(outer.whole(SEQUENCE, "request"))
    if not requests:
        raise outer.refuse("", "at least 1 request", "none")
    return tuple(requests)


def _attributes(attributes: Der) -> tuple[Extension, ...]:
    if not attributes.left:
        return ()
    attribute = attributes.sequence("attribute")
    oid = attribute.oid("type")
    if oid != EXTENSION_REQUEST:
        raise attribute.refuse("type", f"an extension request, {EXTENSION_REQUEST}", oid, 0)
    values = attribute.inside(SET, "values")
    attribute.end()
    attributes.end()
    wanted = values.sequence("extensions")
    values.end()
    found: list[Extension] = []
    while wanted.left:
        if len(found) == MAX_EXTENSIONS:
            raise wanted.refuse("extension", f"at most {MAX_EXTENSIONS}", "more")
        extension = wanted.sequence("extension")
        oid = extension.oid("extnID")
        if extension.tag == 0x01 and extension.boolean("critical"):
            raise extension.refuse("critical", "an extension that is not critical", "true", 0)
        found.append(Extension(oid, extension.octets("extnValue")))
        extension.end()
    return tuple(found)


def _algorithm(source: Der, field: str) -> bytes:
    """The content of the OID of an algorithm that has no parameters."""
    algorithm = source.sequence(field)
    content = algorithm.take(OID, "algorithm")
    algorithm.end()
    if content not in _ECDSA and content != _ED25519:
        raise source.refuse(field, "ECDSA with SHA-256 or SHA-384, or Ed25519", content.hex()[:40], 0)
    return content


def _key(spki: bytes) -> tuple[str, PublicKey]:
    """Which of KEYS it is, and the key: a point of its curve, written uncompressed."""
    body = Der(spki, "request.info.subjectPKInfo").sequence()
    algorithm = body.sequence("algorithm")
    oid = algorithm.take(OID, "algorithm")
    curve = algorithm.take(OID, "curve") if oid == _EC_KEY else b""
    algorithm.end()
    point = body.bits("subjectPublicKey")
    body.end()
    kind, size = ("Ed25519", 32) if oid == _ED25519 else _CURVES.get(curve, ("", 0))
    if not kind:
        raise body.refuse("algorithm", f"a key of {', '.join(KEYS)}", (curve or oid).hex()[:40], 0)
    if len(point) != size or (kind != "Ed25519" and point[0] != 4):
        raise body.refuse("subjectPublicKey", f"{size} bytes, an uncompressed point", f"{len(point)} bytes", 0)
    return kind, _load(spki)


def _load(spki: bytes) -> PublicKey:
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ParseError("request.info.subjectPKInfo: expected a point of the curve, got another") from error
    if not isinstance(key, PublicKey):
        raise ParseError(f"request.info.subjectPKInfo: expected a key of {', '.join(KEYS)}, got {type(key).__name__}")
    return key
