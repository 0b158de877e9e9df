"""The certification authority: its keys on disk, and the certificates that it issues.

Two tiers: a root that signs nothing but issuing certificates, and an issuing key that the service uses. Relying parties
keep the root; when the issuing key is replaced, they notice nothing. The root's key may be taken away from the machine
once the issuing certificate is made; it is only read to make the next one.

    <directory>/root.key  root.crt  issuing.pem        keys 0600, refused when others can read them

The issuing key and its certificate are one file, so that a renewal replaces both or neither.

An operator with an authority already hands over its key and certificates instead (`from_files`, Enarx's --key and
--crt). How the authority was made never decides what is accepted.

A certificate holds: a serial number with 120 random bits, which is a UUID of version 4; the instance's URN made from it
as subject and as a name; names that the policy gives; the workload's digest as a URI; the judgement (`result`); and
markers where something is not real. Nothing of the request goes in but its key.

Source: RFC 5280, section 4; ITU-T X.509 (2019), 9.2, for PkiPath.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from donjon import __version__, files
from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.steward import result
from donjon.steward.procedure import Grant
from donjon.tee.contract import shown
from donjon.wire.der import SEQUENCE, encode

ROOT_LIFE = timedelta(days=3653)
ISSUING_LIFE = timedelta(days=397)
RENEW = timedelta(days=30)
"""An issuing certificate that ends sooner is replaced at the next start."""
LEEWAY = timedelta(minutes=5)
"""By which the clock of a relying party may be behind."""
MAX_FILE = 64 * 1024
BUILD = f"donjon-steward {__version__}"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_NAMES = ("root.key", "root.crt", "issuing.pem")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate.

    Args:
        der: the certificate. serial: its serial number. instance: the UUID that is its subject.
    """

    der: bytes
    serial: int
    instance: str
    not_after: datetime


class Authority:
    """An issuing key with its chain.

    Args:
        key: it shows in no text.
        chain: the issuing certificate first, each signed by the next; the last is what relying parties trust.
    Raises:
        UsageError: key and certificates do not belong together, or the first may not issue.
    """

    def __init__(self, key: PrivateKey, chain: tuple[x509.Certificate, ...]) -> None:
        _check(key, chain)
        self._key = key
        self._hash = _hash(key)
        self.chain = chain
        self.certificate = chain[0]
        self._usual = (
            x509.CertificateBuilder()
            .issuer_name(chain[0].subject)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(_NO_AUTHORITY, critical=True)
            .add_extension(_BOTH_ENDS, critical=False)
        )  # what every certificate has; builders never change
        self.not_after = min(item.not_valid_after_utc for item in chain)
        """When nothing can be issued any more."""
        self._not_before = max(item.not_valid_before_utc for item in chain)
        path = [item for item in chain[1:] if item.issuer != item.subject]
        self.path = tuple(item.public_bytes(Encoding.DER) for item in (*reversed(path), chain[0]))
        """What is sent with a certificate, in PkiPath's order: towards the root first; the root only if it issues."""

    @property
    def anchor(self) -> x509.Certificate:
        """What relying parties trust."""
        return self.chain[-1]

    def secret(self, purpose: bytes) -> bytes:
        """32 bytes that all services with this key share and nobody else knows; another purpose, other bytes."""
        private = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return HKDF(hashes.SHA256(), 32, None, b"donjon steward v1\0" + purpose).derive(private)

    def issue(self, grant: Grant, now: datetime) -> Issued:
        """Make the certificate that a judgement grants.

        Raises:
            PlatformError: the authority's own certificate is not valid now.
        """
        start = now - LEEWAY
        end = min(now + grant.lifetime, self.not_after)
        if end <= now or start < self._not_before - LEEWAY:
            raise PlatformError(
                f"the authority's certificate is not valid now: it ends {shown(self.not_after)}, now is {shown(now)}",
                "replace it; an authority of this program renews itself when it starts and root.key is there",
            )
        number = secrets.randbits(127) | 1 << 126  # as a serial number positive, and 16 bytes long
        number = uuid.UUID(int=number, version=4).int  # RFC 9562, 5.4
        instance = str(uuid.UUID(int=number))
        builder = (
            self._usual.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, instance)]))
            .serial_number(number)
            .public_key(_public(grant.spki))
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(alternatives(grant, instance)), critical=False)
            .add_extension(_unknown(result.CMW, result.write_cmw(result.ear(grant, BUILD))), critical=False)
        )
        if grant.markers:
            builder = builder.add_extension(
                _unknown(result.MARKERS, result.write_markers(grant.markers)), critical=False
            )
        certificate = builder.sign(self._key, self._hash)
        return Issued(certificate.public_bytes(Encoding.DER), number, instance, end)

    def pki_path(self, issued: Issued) -> bytes:
        """What Enarx's client expects: SEQUENCE OF Certificate, the leaf last."""
        return encode(SEQUENCE, *self.path, issued.der)

    def output(self, issued: tuple[Issued, ...]) -> bytes:
        """What it expects for a bundle: SEQUENCE { chain SEQUENCE OF Certificate, issued SEQUENCE OF Certificate }."""
        return encode(SEQUENCE, encode(SEQUENCE, *self.path), encode(SEQUENCE, *(item.der for item in issued)))


def alternatives(grant: Grant, instance: str) -> list[x509.GeneralName]:
    """The certificate's names: the instance's own ones first."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"urn:uuid:{instance}")]
    if grant.domain:
        names.append(x509.DNSName(f"{instance}.{grant.domain}"))
    for name in grant.names:
        try:
            names.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    if grant.workload_uri:
        names.append(x509.UniformResourceIdentifier(grant.workload_uri))
    return names


# On disk


def create(directory: str, now: datetime, name: str = "Donjon Steward") -> Authority:
    """Make an authority in a directory that has none.

    Args:
        directory: made with mode 0700 if it is missing.
        name: of the authority, in both certificates.
    Raises:
        UsageError: there is one already. PlatformError: it cannot be written; nothing is left behind.
    """
    written: list[str] = []
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if any(os.path.lexists(os.path.join(directory, item)) for item in _NAMES):
            rest = ", ".join(item for item in _NAMES if os.path.lexists(os.path.join(directory, item)))
            hint = "use it" if exists(directory) else f"its making was broken off: remove what is there ({rest})"
            raise UsageError(f"{directory}: there is an authority already", f"{hint}, or name another directory")
        root_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
        root = _certify(f"{name} Root", f"{name} Root", root_key, root_key, now, now + ROOT_LIFE, 1)
        issuing = _certify(f"{name} Issuing", f"{name} Root", key, root_key, now, now + ISSUING_LIFE, 0)
        contents = (_key_pem(root_key), _pem(root), _key_pem(key) + _pem(issuing))
        for item, content in zip(_NAMES, contents, strict=True):
            path = os.path.join(directory, item)
            files.create(path, content)
            written.append(path)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise PlatformError(f"cannot make an authority in {directory}: {words_of(error)}") from error
    return Authority(key, (issuing, root))


def exists(directory: str) -> bool:
    """Whether there is an authority in it."""
    return os.path.lexists(os.path.join(directory, "issuing.pem"))


def load(directory: str, now: datetime) -> Authority:
    """Read an authority, and give it a new issuing key when the old one's certificate is near its end.

    Raises:
        UsageError: a file is missing, or a key can be read by others. ParseError: a file is not what it should be.
        PlatformError: a file cannot be read, or the new one not written.
    """
    root_key_path, root_path, path = (os.path.join(directory, item) for item in _NAMES)
    root = _certificates(root_path, _read(root_path))[0]
    pair = _read(path, private=True)
    authority = Authority(_key(path, pair), (*_certificates(path, pair), root))
    if authority.certificate.not_valid_after_utc - now > RENEW or not os.path.lexists(root_key_path):
        return authority
    root_key = _key(root_key_path, _read(root_key_path, private=True))
    key = ec.generate_private_key(ec.SECP256R1())
    subject, issuer = (str(next(iter(item.subject)).value) for item in (authority.certificate, root))
    end = min(now + ISSUING_LIFE, root.not_valid_after_utc)
    issuing = _certify(subject, issuer, key, root_key, now, end, 0)
    renewed = Authority(key, (issuing, root))
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        files.create(f"{path}.new", _key_pem(key) + _pem(issuing))
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise PlatformError(f"cannot renew the authority in {directory}: {words_of(error)}") from error
    return renewed


def from_files(key: str, certificates: str) -> Authority:
    """An authority that somebody else has made.

    Args:
        key: PEM, PKCS#8: P-256, P-384 or Ed25519; readable by its owner alone.
        certificates: PEM: the issuing certificate, then those above it, if there are.
    Raises:
        UsageError: a file is missing, a key can be read by others, they do not fit. ParseError: they are malformed.
    """
    return Authority(read_key(key), _certificates(certificates, _read(certificates)))


def read_key(path: str) -> PrivateKey:
    """A private key in PEM, PKCS#8: P-256, P-384 or Ed25519; readable by its owner alone.

    Raises:
        UsageError: it is missing, or can be read by others. ParseError: it is no such key.
    """
    return _key(path, _read(path, private=True))


def _certify(
    subject: str, issuer: str, key: PrivateKey, signer: PrivateKey, start: datetime, end: datetime, below: int
) -> x509.Certificate:
    """A certificate of an authority; `below` is how many may stand between it and a leaf."""
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .not_valid_before(start - LEEWAY)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(usage, critical=True)
        .sign(signer, _hash(signer))
    )


def _check(key: PrivateKey, chain: tuple[x509.Certificate, ...]) -> None:
    der, info = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if chain[0].public_key().public_bytes(der, info) != key.public_key().public_bytes(der, info):
        raise UsageError("the authority's key and certificate do not belong together")
    try:
        constraints = chain[0].extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = chain[0].extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise UsageError(
            "the authority's certificate may not issue: it has no basic constraints or key usage"
        ) from error
    if not constraints.ca or not usage.key_cert_sign:
        raise UsageError("the authority's certificate may not issue: it is not that of an authority")
    for lower, upper in pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise UsageError("the authority's certificates: expected each to be issued by the next") from error


def _key(path: str, data: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParseError(f"{path}: expected a private key in PEM, without a password") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    raise ParseError(f"{path}: expected a key of P-256, P-384 or Ed25519")


def _certificates(path: str, data: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise ParseError(f"{path}: expected certificates in PEM") from error


def _read(path: str, private: bool = False) -> bytes:
    try:
        with open(path, "rb") as stream:
            if private:
                files.check_private(path, os.fstat(stream.fileno()))
            data = stream.read(MAX_FILE + 1)
    except FileNotFoundError as error:
        raise UsageError(f"cannot read {path}: {words_of(error)}", "check the path") from error
    except OSError as error:
        raise PlatformError(f"cannot read {path}: {words_of(error)}", "check who may read it") from error
    if len(data) > MAX_FILE:
        raise ParseError(f"{path}: expected at most {MAX_FILE} bytes, got more")
    return data


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()


def _public(spki: bytes) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    key = load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise ParseError("a grant with a key of another kind")
    return key


def _unknown(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
_NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
_BOTH_ENDS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
