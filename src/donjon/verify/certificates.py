"""A chain of certificates, read strictly, and the rules of X.509 that it has to keep.

    chain = read_chain(certificates)          leaf first, as TLS sends it
    path = check_path(checks, chain, anchors, purpose, now)

Nothing is built or guessed: each certificate is issued by the next one, and the last is an anchor or was issued by one.
Certificates behind an anchor are what the sender likes to send, and are not looked at.

Why not `cryptography.x509.verification`: it asks for a host name, which our certificates need not have; it follows the
Web PKI, whose roots are not what a Steward's is; versions before 45 cannot be told about other extensions; and it says
that a chain is bad, not everything that is. Names, signatures and encodings are `cryptography`'s business all the same.

Not checked: revocation. Certificates live hours, and a Steward that must take one back stops to issue.

Source: RFC 5280, sections 4.2 and 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from donjon.errors import ParseError
from donjon.tee.contract import Checks
from donjon.wire.der import SEQUENCE, Der, context

T = TypeVar("T")

MAX_CERTIFICATE = 128 * 1024
"""Bytes. A certificate may carry evidence; OpenSSL takes no longer list of certificates than 100 KiB."""
MAX_CHAIN = 8
MAX_BYTES = 256 * 1024
"""Of a whole chain."""
MAX_EXTENSIONS = 32
MAX_NAMES = 128
MAX_NAME = 512

SPEC = "RFC 5280 section 6.1"

SIGNATURES = frozenset({
    "1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3", "1.2.840.10045.4.3.4",  # ECDSA with SHA-256, -384, -512
    "1.3.101.112",  # Ed25519
    "1.2.840.113549.1.1.11", "1.2.840.113549.1.1.12", "1.2.840.113549.1.1.13",  # RSA, PKCS #1, the same digests
})  # fmt: skip
RSA_BITS = range(2048, 8193)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

# The critical extensions that are understood here; a Steward makes no others.
UNDERSTOOD = frozenset({
    ExtensionOID.BASIC_CONSTRAINTS.dotted_string,
    ExtensionOID.KEY_USAGE.dotted_string,
    ExtensionOID.EXTENDED_KEY_USAGE.dotted_string,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string,
})  # fmt: skip
_PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


@dataclass(frozen=True)
class Certificate:
    """One certificate, whose every part that is asked about can be read.

    Args:
        der: the whole.
        spki: the key, a SubjectPublicKeyInfo in DER.
        extensions: OID → whether it is critical.
        unknown: OID → value, of extensions that `cryptography` does not know.
        names: alternative names: host names in lower case, addresses, URIs.
    """

    der: bytes
    parsed: x509.Certificate
    spki: bytes
    extensions: dict[str, bool]
    unknown: dict[str, bytes]
    names: tuple[str, ...]
    constraints: x509.BasicConstraints | None
    usage: x509.KeyUsage | None
    purposes: x509.ExtendedKeyUsage | None

    @cached_property
    def subject(self) -> str:
        """For people."""
        return self.parsed.subject.rfc4514_string()[:200]

    @property
    def not_before(self) -> datetime:
        """When it begins to be valid."""
        return self.parsed.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """When it ends, that second included."""
        return self.parsed.not_valid_after_utc

    @property
    def is_authority(self) -> bool:
        """Whether it says that its key may sign certificates, in every place where that is said."""
        signs = self.usage is None or self.usage.key_cert_sign
        return self.constraints is not None and self.constraints.ca and signs

    def may(self, purpose: str) -> bool:
        """Whether it may be used for `purpose`; without the extension it may be used for all."""
        return self.purposes is None or _PURPOSES[purpose] in self.purposes or _ANY_PURPOSE in self.purposes


def read_chain(chain: Sequence[bytes]) -> tuple[Certificate, ...]:
    """Read the certificates of a chain.

    Raises:
        ParseError: there is none, there are too many, they are too long, or one is not well formed.
    """
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise ParseError(f"chain: expected 1 to {MAX_CHAIN} certificates, got {len(chain)}")
    total = sum(map(len, chain))
    if total > MAX_BYTES:
        raise ParseError(f"chain: expected at most {MAX_BYTES} bytes, got {total}")
    return tuple(read_certificate(data, f"certificate[{number}]") for number, data in enumerate(chain))


def read_certificate(data: bytes, name: str = "certificate") -> Certificate:
    """Read one certificate.

    Args:
        name: what messages call it.
    Raises:
        ParseError: it is too long, not DER, not of version 3, or a part of it is malformed.
    """
    if len(data) > MAX_CERTIFICATE:
        raise ParseError(f"{name}: expected at most {MAX_CERTIFICATE} bytes, got {len(data)}")
    _frame(data, name)
    parsed = _guarded(name, lambda: x509.load_der_x509_certificate(data))
    if _guarded(name, lambda: parsed.version) is not x509.Version.v3:
        raise ParseError(f"{name}: expected version 3")
    found = _guarded(name, lambda: tuple(parsed.extensions))
    if len(found) > MAX_EXTENSIONS:
        raise ParseError(f"{name}: expected at most {MAX_EXTENSIONS} extensions, got {len(found)}")

    def of(kind: type[T]) -> T | None:
        return next((item.value for item in found if isinstance(item.value, kind)), None)

    _guarded(name, lambda: (parsed.subject, parsed.issuer, parsed.not_valid_before_utc, parsed.not_valid_after_utc))
    return Certificate(
        der=data,
        parsed=parsed,
        spki=_guarded(name, lambda: parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        extensions={item.oid.dotted_string: item.critical for item in found},
        unknown={
            item.oid.dotted_string: item.value.value
            for item in found
            if isinstance(item.value, x509.UnrecognizedExtension)
        },
        names=_names(of(x509.SubjectAlternativeName), name),
        constraints=of(x509.BasicConstraints),
        usage=of(x509.KeyUsage),
        purposes=of(x509.ExtendedKeyUsage),
    )


def _frame(data: bytes, name: str) -> None:
    """The outline in DER, with nothing behind it: one certificate has one encoding, and one digest."""
    whole = Der(data, name)
    outer = whole.sequence()
    whole.end()
    tbs = outer.sequence("tbs")
    algorithm = outer.whole(SEQUENCE, "signatureAlgorithm")
    outer.bits("signature")
    outer.end()
    tbs.inside(context(0), "version")
    serial = tbs.integer("serialNumber")
    if not 0 < serial < 2**160:  # RFC 5280, 4.1.2.2
        raise tbs.refuse("serialNumber", "a positive number of at most 20 bytes", hex(serial)[:40])
    inner = tbs.whole(SEQUENCE, "signature")
    if inner != algorithm:  # what stands outside, nobody has signed
        raise tbs.refuse("signature", f"the algorithm outside, {algorithm.hex()[:40]}", inner.hex()[:40])


def _guarded(name: str, read: Callable[[], T]) -> T:
    """Read something with `cryptography`, which parses late and has many ways to say no."""
    try:
        return read()
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        Warning,  # where a user's filters make errors of warnings
    ) as error:
        raise ParseError(f"{name}: expected a certificate as RFC 5280 has it: {str(error)[:120]}") from error
    except x509.UnsupportedGeneralNameType as error:
        raise ParseError(f"{name}: expected names of known kinds: {str(error)[:120]}") from error


def _names(extension: x509.SubjectAlternativeName | None, where: str) -> tuple[str, ...]:
    names: list[str] = []
    for item in extension or ():
        if isinstance(item, x509.DNSName):
            text = item.value.lower()
        elif isinstance(item, x509.UniformResourceIdentifier | x509.IPAddress):
            text = str(item.value)
        else:
            continue  # mail addresses and the like name no Keep
        if len(text) > MAX_NAME or not text.isascii() or not text.isprintable():
            raise ParseError(f"{where}: expected names of at most {MAX_NAME} printable letters, got {text[:40]!r}")
        names.append(text)
    if len(names) > MAX_NAMES:
        raise ParseError(f"{where}: expected at most {MAX_NAMES} names, got {len(names)}")
    return tuple(names)


def check_path(
    checks: Checks, chain: tuple[Certificate, ...], anchors: Iterable[Certificate], purpose: str, now: datetime
) -> tuple[Certificate, ...]:
    """Ask whether the chain leads to an anchor, by the rules.

    Returns:
        The certificates from the leaf to the anchor, both included; without an anchor as far as they go.
    """
    path = _path(chain, tuple(anchors))
    certificates = path or chain
    twice = len({item.der for item in certificates}) != len(certificates)
    checks.that("chain.distinct", not twice, "one twice" if twice else "checked", "each certificate once", SPEC)
    check_basics(checks, certificates, now)
    broken = next((low for low, high in pairwise(chain) if not _issued(low, high)), None)
    demanded = "each certificate issued by the next"
    if path or broken is None:
        checks.that("chain.issued", True, f"{len(certificates)} certificates", demanded, SPEC)
    else:
        checks.that("chain.issued", False, f"{broken.subject} was not", demanded, SPEC)
    last = chain[-1].parsed.issuer.rfc4514_string()[:200]
    checks.that(
        "chain.anchor", bool(path), path[-1].subject if path else f"a chain that ends at {last}", "a given root", SPEC
    )
    above = certificates[1:]
    strange = [item.subject for item in above if not item.is_authority]
    checks.that("chain.authorities", not strange, strange or "checked", "authorities above the leaf", SPEC)
    deep = [item.subject for number, item in enumerate(above) if not _has_room(item, above[:number])]
    checks.that("chain.path_length", not deep, deep or "checked", "no more authorities than each allows", SPEC)
    unfit = [item.subject for item in above[:-1] if not item.may(purpose)]
    checks.that("chain.purpose", not unfit, unfit or "checked", f"authorities that may issue for a {purpose}", SPEC)
    check_leaf(checks, chain[0], purpose)
    return certificates


def check_basics(checks: Checks, certificates: tuple[Certificate, ...], now: datetime) -> None:
    """What is asked of each certificate alone, the anchor included."""
    weak = [item.subject for item in certificates if not is_strong(item)]
    checks.that(
        "chain.algorithms", not weak, weak or "checked",
        "ECDSA, Ed25519 or RSA of 2048 to 8192 bits, with SHA-256, -384 or -512", "RFC 5480; RFC 4055",
    )  # fmt: skip
    strange = [f"{oid} of {item.subject}" for item in certificates for oid in not_understood(item)]
    checks.that("chain.extensions", not strange, strange or "checked", "no critical extension that is unknown", SPEC)
    start, end = max(item.not_before for item in certificates), min(item.not_after for item in certificates)
    checks.within("chain.dates", start, end, now, "RFC 5280 section 4.1.2.5")


def check_leaf(checks: Checks, leaf: Certificate, purpose: str) -> None:
    """What is asked of the Keep's own certificate."""
    signs = (leaf.constraints is not None and leaf.constraints.ca) or (
        leaf.usage is not None and leaf.usage.key_cert_sign
    )
    checks.that("leaf.authority", not signs, "an authority" if signs else "none", "no authority", SPEC)
    usage = leaf.usage is None or leaf.usage.digital_signature
    checks.that(
        "leaf.usage", usage, "checked" if usage else "another use", "a key that signs", "RFC 5280 section 4.2.1.3"
    )
    purposes = [item.dotted_string for item in leaf.purposes] if leaf.purposes else "any"
    checks.that("leaf.purpose", leaf.may(purpose), purposes, f"a TLS {purpose}", "RFC 5280 section 4.2.1.12")


def is_strong(certificate: Certificate) -> bool:
    """Whether its key and the signature on it are of a kind that is believed."""
    if certificate.parsed.signature_algorithm_oid.dotted_string not in SIGNATURES:
        return False
    key = certificate.parsed.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, _CURVES)
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in RSA_BITS
    return isinstance(key, ed25519.Ed25519PublicKey)


def not_understood(certificate: Certificate) -> list[str]:
    """The critical extensions that nobody here knows; and name constraints, which to pass over would be to break."""
    constraints = ExtensionOID.NAME_CONSTRAINTS.dotted_string
    return [
        oid
        for oid, critical in certificate.extensions.items()
        if oid == constraints or (critical and oid not in UNDERSTOOD)
    ]


def signed_itself(certificate: Certificate) -> bool:
    """Whether the certificate names itself as issuer, and its own key has signed it."""
    return _issued(certificate, certificate)


def _path(chain: tuple[Certificate, ...], anchors: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """From the leaf up to an anchor, each issued by the next; empty when there is no such way."""
    known = {item.der: item for item in anchors}
    for number, certificate in enumerate(chain):
        if number and certificate.der in known:
            return chain[: number + 1]
        above = chain[number + 1] if number + 1 < len(chain) else None
        if above is not None and _issued(certificate, above):
            continue
        anchor = next((item for item in anchors if _issued(certificate, item)), None)
        return (*chain[: number + 1], anchor) if anchor is not None and above is None else ()
    return ()


def _issued(lower: Certificate, upper: Certificate) -> bool:
    if not is_strong(lower) or not is_strong(upper):
        return False
    try:
        lower.parsed.verify_directly_issued_by(upper.parsed)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _has_room(authority: Certificate, below: Iterable[Certificate]) -> bool:
    """Whether as many authorities may stand below as do; those that issued themselves do not count."""
    most = authority.constraints.path_length if authority.constraints else None
    count = sum(item.parsed.issuer != item.parsed.subject for item in below)
    return most is None or count <= most
