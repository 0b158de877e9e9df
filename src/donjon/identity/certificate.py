"""The certificate that a Keep signs for itself when no Steward vouches for it."""

from __future__ import annotations

import os

from donjon.errors import UsageError
from donjon.identity.chain import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from ipaddress import IPv4Address, IPv6Address

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ALWAYS = ("localhost", "127.0.0.1", "::1")
DAYS = 365
LEEWAY_MINUTES = 5  # by which a client's clock may be behind; Enarx gives none, and fails on such a client


def self_signed(
    names: Iterable[str] = (),
    now: datetime | None = None,
    key: EllipticCurvePrivateKey | None = None,
    extension: tuple[str, bytes] | None = None,
) -> Identity:
    """Make a key and a certificate for it, signed by itself.

    The certificate is Enarx's (subject and issuer CN=localhost, a random serial number, 365 days, key usage, basic
    constraints, extended key usage), with two differences: it has subject alternative names, without which no client
    accepts it even when told to trust it; and it begins 5 minutes ago, for clients whose clock is behind.
    The machine's own name is not put in: it would tell every client what the host is called.

    Args:
        names: the host names and IP addresses that clients connect to. "localhost", "127.0.0.1" and "::1" are always
            there. An address that means "all" ("::", "0.0.0.0") names nobody and is left out; so is an IPv6 zone.
        now: the time to count from, with a time zone; by default the clock's.
        key: the key; by default a fresh one, P-256.
        extension: object identifier and value of one more extension, not critical: evidence that binds the key.
    Raises:
        UsageError: a name is neither an IP address nor a host name.
    Source: RFC 5280, sections 4.1.2.5 and 4.2.1.
    """
    # `cryptography` takes 45 ms to import: only who needs a certificate pays.
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = (now or datetime.now(UTC)) - timedelta(minutes=LEEWAY_MINUTES)
    alternatives: list[x509.GeneralName] = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in subject_names(names)
    ]
    usage = {
        "digital_signature": True,
        "key_encipherment": True,
        "content_commitment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": False,
        "crl_sign": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .serial_number(int.from_bytes(os.urandom(16), "big"))
        .public_key(key.public_key())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=DAYS))
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    if extension is not None:
        oid, value = extension
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    certificate = builder.sign(key, hashes.SHA384() if key.curve.key_size > 256 else hashes.SHA256())
    return Identity(private_bytes(key), (certificate.public_bytes(serialization.Encoding.DER),))


def private_bytes(key: EllipticCurvePrivateKey) -> bytes:
    """A private key as `Identity` keeps it: PKCS#8 in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def subject_names(names: Iterable[str]) -> list[str | IPv4Address | IPv6Address]:
    """What goes into the subject alternative names: `ALWAYS` and `names`, each once, addresses as addresses."""
    from ipaddress import ip_address

    found: dict[str | IPv4Address | IPv6Address, None] = {}  # a set that keeps its order
    for name in (*ALWAYS, *names):
        try:
            address = ip_address(name.partition("%")[0])
        except ValueError:
            found[_host_name(name)] = None
        else:
            if not address.is_unspecified:
                found[address] = None
    return list(found)


def _host_name(name: str) -> str:
    """`name` in ASCII and lower case, as certificates write it; names in other scripts become xn--...."""
    try:
        plain = name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        plain = ""
    if not plain or len(plain) > 253 or not plain.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise UsageError(f"expected a host name or an IP address, got {name!r}")
    return plain
