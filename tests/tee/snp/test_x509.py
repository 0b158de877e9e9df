"""Certificates and revocation lists: read as cryptography reads them, and stricter; simulated ones are real in form."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import certificate, name, number, sign, time
from donjon.tee.snp.x509 import (
    MAX_CERTIFICATE,
    MAX_CRL,
    PSS_SHA384,
    is_ca,
    p384_key,
    read_certificate,
    read_crl,
    rsa_key,
    signed_by,
)
from donjon.wire import der
from tests.tee.snp.machines import NOW, YEAR, Machines


def test_simulated_certificates_are_what_cryptography_takes_them_for(machines: Machines) -> None:
    vendor = machines.vendor
    for kind in ("ARK", "ASK", "ASVK"):
        data = vendor.anchor(Product.Turin, kind)
        theirs = x509.load_der_x509_certificate(data)
        assert theirs.serial_number == read_certificate(data).serial
        parameters = theirs.signature_algorithm_parameters
        assert isinstance(parameters, padding.PSS)
        assert theirs.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert theirs.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    crl = x509.load_der_x509_crl(vendor.crl(Product.Turin, NOW, revoked=[5, 0x30001]))
    assert [item.serial_number for item in crl] == [5, 0x30001]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert x509.load_der_x509_certificate(machines.turin.vek).serial_number == 0


def test_names_times_and_keys(machines: Machines) -> None:
    ark = read_certificate(machines.vendor.anchor(Product.Milan, "ARK"))
    vek = read_certificate(machines.milan.vek)
    assert (ark.subject.common_name, ark.issuer) == ("ARK-Milan", ark.subject)
    assert ark.not_after == ark.not_before + 25 * YEAR
    assert ark.not_after.year >= 2050, "GeneralizedTime is read too"
    assert is_ca(ark)
    assert not is_ca(vek)
    assert rsa_key(ark) is not None
    assert rsa_key(vek) is None
    assert p384_key(vek) is not None
    assert p384_key(ark) is None
    assert signed_by(ark, ark)
    assert not signed_by(vek, ark)
    assert not signed_by(vek, vek)


def test_two_common_names_are_none(machines: Machines) -> None:
    two = der.encode(der.SEQUENCE, name("A")[2:], name("B")[2:])
    assert read_certificate(machines.genoa.changed(issuer=two).vek).issuer.common_name == ""


def test_a_key_that_is_none_is_no_key(machines: Machines) -> None:
    broken = der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content("1.2.3")))
    assert p384_key(read_certificate(machines.genoa.changed(spki=broken).vek)) is None


def pieces(machines: Machines, **changes: bytes) -> bytes:
    """A certificate put together by hand, so that any part of it can be wrong."""
    key = machines.vendor.keys["ASK"]
    usual = machines.vendor.usual(Product.Genoa, "ASK")
    parts = {
        "version": der.encode(der.context(0), number(2)),
        "serial": number(1),
        "algorithm": PSS_SHA384,
        "issuer": usual.issuer,
        "validity": der.encode(der.SEQUENCE, time(NOW), time(NOW + YEAR)),
        "subject": usual.subject,
        "spki": usual.spki,
        "extensions": b"",
        "after": b"",
    }
    outer = changes.pop("outer", PSS_SHA384)
    return sign(der.encode(der.SEQUENCE, *(parts | changes).values()), outer, key)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": der.encode(der.context(0), number(1))}, "expected 2 (X.509 v3), got 1"),
        ({"version": b""}, "expected [0], got INTEGER"),
        ({"version": der.encode(der.context(0), number(2), b"\5\0")}, "expected no more bytes, got 2"),
        ({"outer": der.encode(der.SEQUENCE)}, "expected the algorithm outside, 3000, got 30"),
        ({"validity": der.encode(der.SEQUENCE, time(NOW))}, "notAfter"),
        ({"validity": der.encode(der.SEQUENCE, time(NOW), time(NOW), b"\5\0")}, "expected no more bytes, got 2"),
        ({"after": b"\5\0"}, "expected no more bytes, got 2"),
        ({"subject": b"\5\0"}, "expected SEQUENCE, got NULL"),
        ({"subject": der.encode(der.SEQUENCE, b"\5\0")}, "expected SET, got NULL"),
        (
            {"extensions": der.encode(der.context(3), der.encode(der.SEQUENCE), b"\5\0")},
            "expected no more bytes, got 2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_certificates_that_are_not_well_formed(
    machines: Machines, changes: dict[str, bytes], text: str
) -> None:
    with pytest.raises(ParseError) as caught:
        read_certificate(pieces(machines, **changes))
    assert text in caught.value.message
    assert caught.value.message.startswith("certificate.")


def test_refuses_an_extension_twice(machines: Machines) -> None:
    usual = machines.vendor.usual(Product.Genoa, "ASK")
    twice = replace(usual, extensions=(*usual.extensions, usual.extensions[0]))
    with pytest.raises(ParseError, match=r"expected each extension once, got 2\.5\.29\.19 twice"):
        read_certificate(certificate(twice, machines.vendor.keys["ARK"]))


def test_limits_sizes() -> None:
    with pytest.raises(ParseError, match=f"expected at most {MAX_CERTIFICATE} bytes"):
        read_certificate(bytes(MAX_CERTIFICATE + 1))
    with pytest.raises(ParseError, match=f"expected at most {MAX_CRL} bytes"):
        read_crl(bytes(MAX_CRL + 1))


def test_a_long_list_counts_like_a_short_one(machines: Machines) -> None:
    ark = read_certificate(machines.vendor.anchor(Product.Genoa, "ARK"))
    crl = read_crl(machines.vendor.crl(Product.Genoa, NOW, revoked=range(1000, 2000)))
    assert len(crl.tbs) > MAX_CERTIFICATE
    assert signed_by(crl, ark)
    assert not signed_by(replace(crl, tbs=crl.tbs + b"\0"), ark)
    assert 1999 in crl.revoked


def test_refuses_a_list_of_another_version_and_entries_with_critical_extensions(machines: Machines) -> None:
    key = machines.vendor.keys["ARK"]
    issuer = machines.vendor.usual(Product.Genoa, "ARK").subject

    def made(version: int, entries: bytes) -> bytes:
        return sign(der.encode(der.SEQUENCE, number(version), PSS_SHA384, issuer, time(NOW), entries), PSS_SHA384, key)

    with pytest.raises(ParseError, match=r"expected 1 \(v2\), got 0"):
        read_crl(made(0, b""))
    critical = der.encode(
        der.SEQUENCE,
        der.encode(der.OID, der.oid_content("2.5.29.29")),
        der.encode(der.BOOLEAN, b"\xff"),
        der.encode(der.OCTET_STRING, b""),
    )
    for extensions, refused in ((critical, True), (critical.replace(b"\x01\x01\xff", b""), False)):
        if not refused:
            extensions = der.encode(
                der.SEQUENCE, der.encode(der.OID, der.oid_content("2.5.29.21")), der.encode(der.OCTET_STRING, b"")
            )
        entry = der.encode(der.SEQUENCE, number(7), time(NOW), der.encode(der.SEQUENCE, extensions))
        data = made(1, der.encode(der.SEQUENCE, entry))
        if refused:
            with pytest.raises(ParseError, match=r"crl entry: expected no critical extension, got 2\.5\.29\.29"):
                read_crl(data)
        else:
            assert read_crl(data).revoked == {7}
            assert read_crl(data).next_update is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_we_read_cryptography_reads_the_same(machines: Machines, data: st.DataObject) -> None:
    original = data.draw(
        st.sampled_from([machines.genoa.vek, machines.vendor.roots.anchors["Milan/ASK"]]), label="certificate"
    )
    at = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[at] = data.draw(st.integers(0, 255))
    try:
        ours = read_certificate(bytes(changed))
    except ParseError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = x509.load_der_x509_certificate(bytes(changed))
        except ValueError:
            return  # it knows more, e.g. what a name may hold; the signature would not hold either
        assert theirs.tbs_certificate_bytes == ours.tbs
        assert theirs.signature == ours.signature
        assert theirs.serial_number == ours.serial
