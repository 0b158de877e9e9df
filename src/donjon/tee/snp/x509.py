"""Certificates and revocation lists of AMD, read strictly: as much of X.509 as they use.

Why not `cryptography.x509` here, which Donjon uses elsewhere:
- AMD gives every VCEK and VLEK the serial number 0. RFC 5280 forbids that, and `cryptography` warns that it will refuse
  such certificates. A Steward must not stop working on the day it is updated. (A canary test says when that day comes.)
- It cannot check the chain: its verifier refuses RSASSA-PSS; and who takes the PSS parameters from a certificate lets
  the signer choose them. Here they are compared with the one set that AMD uses.
- Names are compared as bytes, and unknown critical extensions are refused, both without asking twice.

Signatures are checked by `cryptography` all the same. The tests compare what is read here with what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_der_public_key

from donjon.errors import ParseError
from donjon.wire import der
from donjon.wire.der import Der

MAX_CERTIFICATE = 8 * 1024
MAX_CRL = 1024 * 1024
SALT = 48
RSA_BITS = 4096

_SHA384 = der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content("2.16.840.1.101.3.4.2.2")), der.encode(der.NULL))
_MGF1 = der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content("1.2.840.113549.1.1.8")), _SHA384)
_PSS_OID = der.encode(der.OID, der.oid_content("1.2.840.113549.1.1.10"))
_PARAMETERS = (
    der.encode(der.context(0), _SHA384),
    der.encode(der.context(1), _MGF1),
    der.encode(der.context(2), der.encode(der.INTEGER, der.integer_content(SALT))),
)
_TRAILER = der.encode(der.context(3), der.encode(der.INTEGER, der.integer_content(1)))

PSS_SHA384 = der.encode(der.SEQUENCE, _PSS_OID, der.encode(der.SEQUENCE, *_PARAMETERS))
"""The AlgorithmIdentifier that AMD uses: SHA-384, MGF1 with SHA-384, a salt of 48 bytes."""
PSS_SHA384_TRAILER = der.encode(der.SEQUENCE, _PSS_OID, der.encode(der.SEQUENCE, *_PARAMETERS, _TRAILER))
"""The same with the default trailer written out. DER forbids that; AMD's older VCEKs have it."""

COMMON_NAME = "2.5.4.3"
BASIC_CONSTRAINTS = "2.5.29.19"
KEY_USAGE = "2.5.29.15"
CRL_NUMBER = "2.5.29.20"
AUTHORITY_KEY_ID = "2.5.29.35"


@dataclass(frozen=True, slots=True)
class Name:
    """A distinguished name.

    Args:
        encoded: its DER, by which names are compared.
        common_name: the one CN; "" where there is none or several.
    """

    encoded: bytes
    common_name: str


@dataclass(frozen=True, slots=True)
class Extension:
    """A value and whether those who do not know it have to refuse."""

    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """What certificates and revocation lists have in common.

    Args:
        encoded: the whole, in DER.
        tbs: the part that is signed.
        algorithm: the AlgorithmIdentifier, the same inside and outside.
    """

    encoded: bytes
    tbs: bytes
    algorithm: bytes
    signature: bytes
    issuer: Name


@dataclass(frozen=True, slots=True)
class Certificate(Signed):
    """A certificate of version 3."""

    serial: int
    not_before: datetime
    not_after: datetime
    subject: Name
    spki: bytes
    extensions: dict[str, Extension]


@dataclass(frozen=True, slots=True)
class Crl(Signed):
    """A revocation list.

    Args:
        next_update: None where the list does not say when it ends; such a list is never fresh.
        revoked: serial numbers.
    """

    this_update: datetime
    next_update: datetime | None
    revoked: frozenset[int]
    extensions: dict[str, Extension]


@lru_cache(maxsize=256)
def read_certificate(data: bytes, name: str = "certificate") -> Certificate:
    """Read one certificate.

    Args:
        data: DER; at most 8 KiB.
        name: what it is, for errors.
    Raises:
        ParseError: it is too long or not well formed.
    Source: RFC 5280, 4.1.
    """
    if len(data) > MAX_CERTIFICATE:
        raise ParseError(f"{name}: expected at most {MAX_CERTIFICATE} bytes, got {len(data)}")
    tbs_bytes, tbs, algorithm, signature = _signed(data, name)
    version = tbs.inside(der.context(0), "version")
    if (number := version.integer("version")) != 2:
        raise version.refuse("version", "2 (X.509 v3)", str(number), 0)
    version.end()
    serial = tbs.integer("serialNumber")
    _same_algorithm(tbs, algorithm)
    issuer = read_name(tbs, "issuer")
    validity = tbs.sequence("validity")
    not_before, not_after = validity.time("notBefore"), validity.time("notAfter")
    validity.end()
    subject = read_name(tbs, "subject")
    spki = tbs.whole(der.SEQUENCE, "subjectPublicKeyInfo")
    extensions = _extensions(tbs, der.context(3))
    tbs.end()
    return Certificate(
        encoded=data,
        tbs=tbs_bytes,
        algorithm=algorithm,
        signature=signature,
        issuer=issuer,
        serial=serial,
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        spki=spki,
        extensions=extensions,
    )


@lru_cache(maxsize=16)
def read_crl(data: bytes, name: str = "crl") -> Crl:
    """Read one revocation list.

    Args:
        data: DER; at most 1 MiB.
    Raises:
        ParseError: it is too long or not well formed, or has a critical extension (a delta or partial list, say).
    Source: RFC 5280, 5.1.
    """
    if len(data) > MAX_CRL:
        raise ParseError(f"{name}: expected at most {MAX_CRL} bytes, got {len(data)}")
    tbs_bytes, tbs, algorithm, signature = _signed(data, name)
    if (number := tbs.integer("version")) != 1:
        raise tbs.refuse("version", "1 (v2)", str(number), 0)
    _same_algorithm(tbs, algorithm)
    issuer = read_name(tbs, "issuer")
    this_update = tbs.time("thisUpdate")
    next_update = tbs.time("nextUpdate") if tbs.tag in {der.UTC_TIME, der.GENERALIZED_TIME} else None
    revoked: set[int] = set()
    if tbs.tag == der.SEQUENCE:
        entries = tbs.sequence("revokedCertificates")
        while entries.left:
            entry = entries.sequence("entry")
            revoked.add(entry.integer("userCertificate"))
            entry.time("revocationDate")
            if entry.left:
                _refuse_critical(_extension_list(entry.sequence("crlEntryExtensions")), f"{name} entry")
            entry.end()
    extensions = _extensions(tbs, der.context(0))
    _refuse_critical(extensions, name)
    tbs.end()
    return Crl(
        encoded=data,
        tbs=tbs_bytes,
        algorithm=algorithm,
        signature=signature,
        issuer=issuer,
        this_update=this_update,
        next_update=next_update,
        revoked=frozenset(revoked),
        extensions=extensions,
    )


def _signed(data: bytes, name: str) -> tuple[bytes, Der, bytes, bytes]:
    """The three parts of everything that is signed; the first as bytes and to be read."""
    whole = Der(data, name)
    outer = whole.sequence()
    whole.end()
    tbs_bytes = outer.whole(der.SEQUENCE, "tbs")
    algorithm = outer.whole(der.SEQUENCE, "signatureAlgorithm")
    signature = outer.bits("signature")
    outer.end()
    return tbs_bytes, Der(tbs_bytes, f"{name}.tbs").sequence(), algorithm, signature


def _same_algorithm(tbs: Der, outer: bytes) -> None:
    """The algorithm stands inside and outside the signed part; what is outside nobody has signed."""
    inner = tbs.whole(der.SEQUENCE, "signature")
    if inner != outer:
        raise tbs.refuse("signature", f"the algorithm outside, {outer.hex()}", inner.hex())


def read_name(source: Der, field: str) -> Name:
    """Read a distinguished name."""
    encoded = source.whole(der.SEQUENCE, field)
    found: list[str] = []
    sets = Der(encoded, f"{source.name}.{field}").sequence()
    while sets.left:
        attributes = sets.set()
        while attributes.left:
            attribute = attributes.sequence()
            kind = attribute.oid("type")
            if kind == COMMON_NAME and attribute.tag in {der.UTF8_STRING, der.PRINTABLE_STRING}:
                found.append(attribute.text(attribute.tag, "value"))
            else:
                attribute.take(0, "value")
            attribute.end()
    return Name(encoded, found[0] if len(found) == 1 else "")


def _extensions(tbs: Der, tag: int) -> dict[str, Extension]:
    """The extensions in [tag], if they are there."""
    if tbs.tag != tag:
        return {}
    tagged = tbs.inside(tag, "extensions")
    result = _extension_list(tagged.sequence())
    tagged.end()
    return result


def _extension_list(source: Der) -> dict[str, Extension]:
    result: dict[str, Extension] = {}
    while source.left:
        entry = source.sequence()
        oid = entry.oid("extnID")
        critical = entry.tag == der.BOOLEAN and entry.boolean("critical")
        value = entry.octets("extnValue")
        entry.end()
        if oid in result:
            raise source.refuse("extension", "each extension once", f"{oid} twice")
        result[oid] = Extension(critical, value)
    return result


def _refuse_critical(extensions: dict[str, Extension], name: str) -> None:
    for oid, extension in extensions.items():
        if extension.critical:
            raise ParseError(f"{name}: expected no critical extension, got {oid}")


def is_ca(certificate: Certificate) -> bool:
    """Whether the certificate says that its key may sign others."""
    extension = certificate.extensions.get(BASIC_CONSTRAINTS)
    if extension is None:
        return False
    whole = Der(extension.value, "basicConstraints")
    constraints = whole.sequence()
    return constraints.tag == der.BOOLEAN and constraints.boolean("cA")


def rsa_key(certificate: Certificate) -> rsa.RSAPublicKey | None:
    """The key of a CA; None when it is no RSA key of 4096 bits."""
    key = _public_key(certificate.spki)
    return key if isinstance(key, rsa.RSAPublicKey) and key.key_size == RSA_BITS else None


def p384_key(certificate: Certificate) -> ec.EllipticCurvePublicKey | None:
    """The key of a VCEK or VLEK; None when it is no key on P-384."""
    key = _public_key(certificate.spki)
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1) else None


@lru_cache(maxsize=256)
def _public_key(spki: bytes) -> object:
    try:
        return load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        return None


def signed_by(document: Signed, issuer: Certificate) -> bool:
    """Whether the issuer's RSA key has signed the document, with AMD's PSS parameters and no others."""
    if document.algorithm not in {PSS_SHA384, PSS_SHA384_TRAILER} or rsa_key(issuer) is None:
        return False
    # A long revocation list is not remembered: whoever sends them could fill the memory.
    check = _signed_by if len(document.tbs) <= MAX_CERTIFICATE else _signed_by.__wrapped__
    return check(document.tbs, document.signature, issuer.spki)


@lru_cache(maxsize=1024)
def _signed_by(tbs: bytes, signature: bytes, spki: bytes) -> bool:
    """Does not depend on time or policy, and holds for ever: so it is remembered."""
    key = cast("rsa.RSAPublicKey", _public_key(spki))
    try:
        key.verify(signature, tbs, padding.PSS(padding.MGF1(SHA384()), SALT), SHA384())
    except InvalidSignature:
        return False
    return True
