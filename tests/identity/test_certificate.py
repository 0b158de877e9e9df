"""The self-signed certificate is Enarx's, with alternative names and a start that forgives slow clocks."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import UsageError
from donjon.identity import self_signed
from donjon.identity.certificate import subject_names

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    return x509.load_der_x509_certificate(self_signed(["keep.example", "10.0.0.7", "::"], NOON).certificate)


def test_subject_and_issuer_are_localhost(certificate: x509.Certificate) -> None:
    assert certificate.subject.rfc4514_string() == certificate.issuer.rfc4514_string() == "CN=localhost"
    assert certificate.version is x509.Version.v3
    certificate.verify_directly_issued_by(certificate)


def test_it_begins_five_minutes_ago_and_lasts_365_days(certificate: x509.Certificate) -> None:
    assert certificate.not_valid_before_utc == NOON - timedelta(minutes=5)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=365)


def test_extensions_are_enarx_own_and_the_alternative_names(certificate: x509.Certificate) -> None:
    found = {extension.oid._name: (extension.critical, extension.value) for extension in certificate.extensions}
    assert list(found) == ["keyUsage", "basicConstraints", "extendedKeyUsage", "subjectAltName"]
    critical, usage = found["keyUsage"]
    assert critical
    assert isinstance(usage, x509.KeyUsage)
    assert usage.digital_signature
    assert usage.key_encipherment
    assert not any([usage.key_cert_sign, usage.crl_sign, usage.key_agreement, usage.data_encipherment])
    assert found["basicConstraints"] == (True, x509.BasicConstraints(ca=False, path_length=None))
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found["extendedKeyUsage"] == (False, x509.ExtendedKeyUsage(purposes))
    critical, names = found["subjectAltName"]
    assert not critical
    assert isinstance(names, x509.SubjectAlternativeName)
    assert [name.value for name in names] == [
        "localhost",
        ip_address("127.0.0.1"),
        ip_address("::1"),
        "keep.example",
        ip_address("10.0.0.7"),
    ]


def test_key_is_p_256_and_fresh_each_time() -> None:
    one, two = (x509.load_der_x509_certificate(self_signed().certificate) for _ in range(2))
    key = one.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key != two.public_key()
    assert one.serial_number != two.serial_number
    assert one.serial_number.bit_length() <= 128


def test_the_machines_own_name_stays_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> str:
        raise AssertionError("nobody may ask")

    monkeypatch.setattr(socket, "gethostname", asked)
    monkeypatch.setattr(socket, "getfqdn", asked)
    self_signed()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Keep.Example.", "keep.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("10.0.0.7", ip_address("10.0.0.7")),
        ("fe80::1%eth0", ip_address("fe80::1")),
        ("2001:DB8::0:1", ip_address("2001:db8::1")),
    ],
)
def test_names_are_written_as_certificates_do(name: str, expected: object) -> None:
    assert subject_names([name, name])[3:] == [expected]


@pytest.mark.parametrize("name", ["::", "0.0.0.0", "localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"])
def test_what_means_all_or_is_there_already_adds_nothing(name: str) -> None:
    assert len(subject_names([name])) == 3


@pytest.mark.parametrize(
    "name", ["", ".", "a b", "a/b", "a..b", "x" * 64, "a." * 127 + "a", "a\0b", "*.example", "a:1"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected a host name or an IP address, got "):
        subject_names([name])


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_any_text_is_a_name_or_is_refused(name: str) -> None:
    try:
        found = subject_names([name])
    except UsageError:
        return
    assert all(str(one).isascii() for one in found)


def test_importing_the_package_does_not_import_cryptography() -> None:
    code = "import sys, donjon.identity; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
