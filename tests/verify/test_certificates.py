"""Certificates are read strictly: what is too much, too odd or of another kind is malformed."""

from __future__ import annotations

import warnings
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.errors import ParseError
from donjon.tee.contract import Checks
from donjon.verify.certificates import MAX_EXTENSIONS, MAX_NAMES, check_path, read_certificate, read_chain
from donjon.wire import der
from donjon.wire.der import Der
from tests.steward.requests import NOW
from tests.verify.chains import Chain, Entity, authority, new_key, unknown


def signed(**extensions: x509.ExtensionType) -> bytes:
    entity = Entity("Keep", extensions={name: (value, False) for name, value in extensions.items()})
    return entity.signed(entity)


def test_reads_what_is_asked_about() -> None:
    chain = Chain()
    leaf, issuing = (read_certificate(item) for item in chain.built())
    assert leaf.spki == chain.leaf.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert [name.partition(":")[0] for name in leaf.names] == ["urn", "shop.example.com", "ni"]
    assert (leaf.is_authority, issuing.is_authority) == (False, True)
    assert issuing.subject == "CN=Test Issuing"
    assert (leaf.not_before, leaf.not_after) == (NOW - timedelta(minutes=5), NOW + timedelta(days=1))
    assert leaf.may("server")
    assert leaf.may("client")


def test_names_of_other_kinds_are_passed_over() -> None:
    names = [x509.RFC822Name("a@example.com"), x509.DNSName("A.example.com"), x509.DirectoryName(x509.Name([]))]
    assert read_certificate(signed(names=x509.SubjectAlternativeName(names))).names == ("a.example.com",)


def changed(part: int, value: bytes) -> bytes:
    """A certificate with one part of its TBSCertificate exchanged; its signature is nobody's."""
    outer = Der(signed(), "x").sequence()
    tbs = outer.sequence()
    rest = [outer.whole(0, "part") for _ in range(2)]
    parts = []
    while tbs.left:
        parts.append(tbs.whole(0, "part"))
    parts[part] = value
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *parts), *rest)


def spki_of(key: x25519.X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


STRANGE_KEY = der.encode(
    der.SEQUENCE,
    der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content("1.2.3.4"))),
    der.encode(der.BIT_STRING, b"\0\1"),
)
MANY = {f"x{number}": unknown(f"1.2.{number}", b"") for number in range(MAX_EXTENSIONS + 1)}
X400 = der.encode(der.SEQUENCE, der.encode(0xA3, b""))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(0, der.encode(der.context(0), der.encode(der.INTEGER, b"\1"))), "version"),
        (changed(1, der.encode(der.INTEGER, b"\0")), "serialNumber.*expected a positive number"),
        (changed(4, der.encode(der.SEQUENCE)), "expected a certificate as RFC 5280 has it"),
        (changed(6, STRANGE_KEY), "expected a certificate as RFC 5280 has it"),
        (signed(**MANY), "at most 32 extensions"),
        (signed(n=x509.SubjectAlternativeName([x509.DNSName("a")] * (MAX_NAMES + 1))), "at most 128 names"),
        (signed(n=unknown("2.5.29.17", X400)), "expected names of known kinds"),
        (signed(n=unknown("2.5.29.19", b"\x30\x03\x01\x01\x01")), "expected a certificate as RFC 5280"),
    ],
    ids=["version 2", "serial number 0", "no dates", "a strange key", "33 extensions", "129 names", "an X.400 name",
         "a boolean of 1"],
)  # fmt: skip
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        read_certificate(data)


def test_a_version_1_certificate_is_none() -> None:
    outer = Der(signed(), "x").sequence()
    tbs = outer.sequence()
    rest = [outer.whole(0, "part") for _ in range(2)]
    parts = [tbs.whole(0, "part") for _ in range(7)][1:]
    with pytest.raises(ParseError, match="version"):
        read_certificate(der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *parts), *rest))


def test_a_warning_that_is_an_error_is_a_refusal() -> None:
    """`cryptography` warns of some names; a program may have made errors of warnings."""
    country = der.encode(der.OID, der.oid_content("2.5.4.6")), der.encode(der.UTF8_STRING, b"long")
    name = der.encode(der.SEQUENCE, der.encode(der.SET, der.encode(der.SEQUENCE, *country)))
    data = changed(3, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ParseError):
            read_certificate(data)


def test_a_key_that_cannot_sign_is_weak() -> None:
    """A certificate for X25519 can be issued, and its holder can prove nothing in a handshake."""
    issuer = authority("Test Root", 0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Root")]))
        .serial_number(1)
        .public_key(x25519.X25519PrivateKey.generate().public_key())
        .not_valid_before(NOW - timedelta(1))
        .not_valid_after(NOW + timedelta(1))
    )
    key = new_key()
    issuer.key = key
    leaf = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    checks = Checks("peer")
    check_path(checks, read_chain([leaf]), [read_certificate(issuer.signed(issuer))], "server", NOW)
    assert not checks.passed("chain.algorithms")


@pytest.mark.parametrize("count", [0, 9])
def test_a_chain_has_one_to_eight(count: int) -> None:
    with pytest.raises(ParseError, match="expected 1 to 8 certificates"):
        read_chain([b"x"] * count)


def test_a_chain_is_not_too_long() -> None:
    with pytest.raises(ParseError, match="expected at most 262144 bytes"):
        read_chain([bytes(100_000)] * 3)
    with pytest.raises(ParseError, match=r"certificate\[0\]: expected at most 131072 bytes"):
        read_chain([bytes(140_000)])
