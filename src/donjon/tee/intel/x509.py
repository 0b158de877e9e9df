"""Certificates and CRLs of Intel's PKI: chains of two or three P-256 certificates that end in a pinned root.

What holds at any time (who signed whom, what a certificate may do) is answered once for the same bytes and remembered,
for a few hundred of them and only when it holds; what depends on the time or on a CRL is asked each time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from donjon.errors import ParseError

MAX_CERTIFICATES = 10
MAX_CERTIFICATE = 4 * 1024
MAX_CRL = 1024 * 1024

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\r\n]*)-----END CERTIFICATE-----")
# What we know how to respect; any other critical extension makes a certificate or CRL unusable, as RFC 5280 demands.
_KNOWN = {ExtensionOID.KEY_USAGE, ExtensionOID.BASIC_CONSTRAINTS}

# What cryptography raises for what it cannot read; warnings where an application has made errors of them.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    Warning,
)


class BadChainError(Exception):
    """Why certificates do not make a chain; the text says which rule, what it demands and what came."""


@dataclass(frozen=True, slots=True)
class Crl:
    """A revocation list; its entries are handed out by `revoked`.

    Args:
        issuer: the raw Name, as in the subject of who signed it; `issuer_name` for humans.
        next_update: None where the list names no end; such a list is never fresh.
    """

    der: bytes
    issuer: bytes
    issuer_name: str
    this_update: datetime
    next_update: datetime | None


@lru_cache(maxsize=64)
def certificates(pem: bytes, where: str) -> tuple[bytes, ...]:
    """Take the certificates out of PEM text.

    Args:
        pem: nothing but certificates and white space; one zero byte at the end is allowed, as quotes of Linux have it.
    Returns:
        DER, in the order of the text, 1 to MAX_CERTIFICATES.
    Raises:
        ParseError: it is anything else.
    """
    text = pem.removesuffix(b"\0")
    found: list[bytes] = []
    at = 0
    for block in _PEM.finditer(text):
        if text[at : block.start()].strip() or len(found) == MAX_CERTIFICATES:
            break
        try:
            found.append(base64.b64decode(block[1].replace(b"\n", b"").replace(b"\r", b""), validate=True))
        except binascii.Error as error:
            raise ParseError(f"{where}: certificate {len(found) + 1}: expected base64, got {error}") from error
        at = block.end()
    if not found or text[at:].strip():
        raise ParseError(
            f"{where} at byte {at}: expected 1 to {MAX_CERTIFICATES} PEM certificates and nothing else, "
            f"got {text[at : at + 30].decode('ascii', 'replace')!r}"
        )
    return tuple(found)


def pem(ders: Sequence[bytes]) -> str:
    """Write certificates as PEM text."""
    return "".join(f"-----BEGIN CERTIFICATE-----\n{_lines(der)}-----END CERTIFICATE-----\n" for der in ders)


def certificate(der: bytes, where: str = "certificate") -> x509.Certificate:
    """Read a certificate.

    Raises:
        ParseError: it is none, too large, or has a key or extensions that cannot be read.
    """
    if len(der) > MAX_CERTIFICATE:
        raise ParseError(f"{where}: expected at most {MAX_CERTIFICATE} bytes, got {len(der)}")
    try:
        return _load(der)
    except _UNREADABLE as error:
        raise ParseError(f"{where}: expected an X.509 certificate of version 3, got {_short(error)}") from error


@lru_cache(maxsize=256)
def _load(der: bytes) -> x509.Certificate:
    parsed = x509.load_der_x509_certificate(der)
    parsed.public_key()
    # All of these are read lazily, and each of them can be malformed.
    _ = parsed.extensions, parsed.subject, parsed.issuer, parsed.not_valid_before_utc, parsed.not_valid_after_utc
    if parsed.version is not x509.Version.v3:
        raise ValueError(f"version {parsed.version.name}")
    return parsed


def crl(der: bytes, where: str = "CRL") -> Crl:
    """Read a CRL.

    Raises:
        ParseError: it is none, too large, or has critical extensions (it would not be a whole list).
    """
    if len(der) > MAX_CRL:
        raise ParseError(f"{where}: expected at most {MAX_CRL} bytes, got {len(der)}")
    # Long ones, which nobody real has, are not worth the memory: anybody can send them.
    return _read_crl(der, where) if len(der) <= 32 * 1024 else _read_crl.__wrapped__(der, where)


@lru_cache(maxsize=32)
def _read_crl(der: bytes, where: str) -> Crl:
    try:
        parsed = x509.load_der_x509_crl(der)
        critical = [item.oid.dotted_string for item in parsed.extensions if item.critical]
        made = Crl(
            der=der,
            issuer=parsed.issuer.public_bytes(),
            issuer_name=common_name(parsed.issuer),
            this_update=parsed.last_update_utc,
            next_update=parsed.next_update_utc,
        )
    except _UNREADABLE as error:
        raise ParseError(f"{where}: expected an X.509 CRL, got {_short(error)}") from error
    if critical:
        raise ParseError(f"{where}: expected no critical extension, got {', '.join(critical)}")
    return made


@lru_cache(maxsize=32)
def revoked(der: bytes, issuer_der: bytes) -> frozenset[int]:
    """The serial numbers in a CRL that this issuer signed. Remembered, so that long lists are read once.

    Raises:
        BadChainError: it is not signed by this issuer, with ECDSA and SHA-256, or the issuer may not sign CRLs.
    """
    issuer = certificate(issuer_der)
    key = issuer.public_key()
    parsed = x509.load_der_x509_crl(der)
    if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise BadChainError(f"expected ecdsa-with-SHA256, got {parsed.signature_algorithm_oid.dotted_string}")
    if not _usage(issuer).crl_sign:
        raise BadChainError(f'"{common_name(issuer.subject)}": expected a CA that may sign CRLs, got none')
    if not isinstance(key, EllipticCurvePublicKey) or not parsed.is_signature_valid(key):
        raise BadChainError(f'expected the signature of "{common_name(issuer.subject)}", got another')
    return frozenset(entry.serial_number for entry in parsed)  # entries have been checked when it was read


def common_name(name: x509.Name) -> str:
    """The last common name of a Name; "" without one. Of strange ones only a part, fit to be shown."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(found[-1].value) if found else ""
    return text if text.isascii() and text.isprintable() and len(text) <= 64 else ascii(text[:40])


@dataclass(frozen=True, slots=True)
class Chain:
    """What is true of some certificates, leaf first, root last, whatever the time and whoever trusts the root.

    Args:
        names: their common names. problem: why they are no chain, "" if they are. start, end: when all are valid.
        key: the leaf's; None where it is of another kind than P-256.
        root: SHA-256 of the last, in hex. root_name, issuer_name: raw Names, the last's own and the leaf's issuer's.
    """

    names: tuple[str, ...]
    problem: str
    start: datetime
    end: datetime
    key: EllipticCurvePublicKey | None
    root: str
    root_name: bytes
    issuer_name: bytes


def chain(ders: tuple[bytes, ...]) -> Chain:
    """Look at certificates.

    Raises:
        ParseError: one of them cannot be read.
    """
    try:
        return _good_chain(ders)
    except BadChainError as error:
        return _facts(ders, str(error))


@lru_cache(maxsize=256)
def _good_chain(ders: tuple[bytes, ...]) -> Chain:
    """Remembered, as only an error leaves without being one."""
    if len(ders) < 2:
        raise BadChainError(f"{len(ders)} certificate")
    check_leaf(ders[0])
    for depth, (child, issuer) in enumerate(zip(ders, (*ders[1:], ders[-1]), strict=True)):
        # The root, as its own issuer, must allow no more than it does for the certificate below.
        check_issued(child, issuer, min(depth, len(ders) - 2))
    return _facts(ders, "")


def _facts(ders: tuple[bytes, ...], problem: str) -> Chain:
    found = [certificate(der) for der in ders]
    key = found[0].public_key()
    p256 = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    return Chain(
        names=tuple(common_name(item.subject) for item in found),
        problem=problem,
        start=max(item.not_valid_before_utc for item in found),
        end=min(item.not_valid_after_utc for item in found),
        key=key if p256 and isinstance(key, EllipticCurvePublicKey) else None,
        root=hashlib.sha256(ders[-1]).hexdigest(),
        root_name=found[-1].subject.public_bytes(),
        issuer_name=found[0].issuer.public_bytes(),
    )


def check_issued(child: bytes, issuer: bytes, depth: int) -> None:
    """Demand that one certificate was issued by another that may issue: names, signature, what each may do.

    Args:
        child: DER; for a root, the root itself is its issuer.
        depth: how many certificates stand below `issuer` beside the leaf; its path length must allow them.
    Raises:
        BadChainError: it was not.
    """
    below, above = certificate(child), certificate(issuer)
    name = common_name(below.subject) or "?"
    if below.issuer.public_bytes() != above.subject.public_bytes():
        raise BadChainError(
            f'"{name}": expected to be issued by "{common_name(above.subject)}", got "{common_name(below.issuer)}"'
        )
    for each in (below, above):
        key = each.public_key()
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise BadChainError(f'"{common_name(each.subject)}": expected a P-256 key, got {type(key).__name__}')
        unknown = [item.oid.dotted_string for item in each.extensions if item.critical and item.oid not in _KNOWN]
        if unknown:
            raise BadChainError(f'"{common_name(each.subject)}": critical extensions unknown here: {unknown}')
    if below.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise BadChainError(f'"{name}": expected ecdsa-with-SHA256, got {below.signature_algorithm_oid.dotted_string}')
    _check_authority(above, depth)
    try:
        below.verify_directly_issued_by(above)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise BadChainError(
            f'"{name}": expected the key of "{common_name(above.subject)}", got another signature'
        ) from error


def check_leaf(der: bytes) -> None:
    """Demand that a certificate is no CA and may sign.

    Raises:
        BadChainError: it is or may not.
    """
    leaf = certificate(der)
    name = common_name(leaf.subject)
    if _constraints(leaf).ca:
        raise BadChainError(f'"{name}": expected no CA, got one')
    usage = _usage(leaf)
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise BadChainError(f'"{name}": expected the key usage digitalSignature and no signing of certificates')


def _check_authority(issuer: x509.Certificate, depth: int) -> None:
    name = common_name(issuer.subject)
    constraints = _constraints(issuer)
    if not constraints.ca or not _usage(issuer).key_cert_sign:
        raise BadChainError(f'"{name}": expected a CA that may sign certificates, got none')
    if constraints.path_length is not None and constraints.path_length < depth:
        raise BadChainError(f'"{name}": expected a path length of at least {depth}, got {constraints.path_length}')


def _constraints(of: x509.Certificate) -> x509.BasicConstraints:
    try:
        return of.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound as error:
        raise BadChainError(f'"{common_name(of.subject)}": expected basic constraints, got none') from error


def _usage(of: x509.Certificate) -> x509.KeyUsage:
    try:
        return of.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise BadChainError(f'"{common_name(of.subject)}": expected a key usage, got none') from error


def _short(error: Exception) -> str:
    text = str(error)
    return text[:200] if text.isprintable() else ascii(text[:200])


def _lines(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    return "".join(f"{text[at : at + 64]}\n" for at in range(0, len(text), 64))
