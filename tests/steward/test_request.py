"""A request: what is read, what is refused, and that nothing but `ParseError` comes out."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.steward.request import MAX_BUNDLE, MAX_REQUEST, MAX_REQUESTS, parse_bundle, parse_request
from donjon.wire.der import BIT_STRING, INTEGER, OCTET_STRING, OID, SEQUENCE, encode, oid_content
from tests.steward.requests import KVM, REAL, Key, kvm_request, new_key, request, spki

KEYS: dict[str, Key] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_reads_a_request_of_every_kind_of_key(kind: str) -> None:
    found = parse_request(request((KVM, b"abc"), key=KEYS[kind]))
    assert found.key == kind
    assert found.spki == spki(KEYS[kind])
    assert [(item.oid, item.value) for item in found.extensions] == [(KVM, b"abc")]
    assert found.is_signed()


@pytest.mark.parametrize("name", REAL)
def test_reads_what_real_keeps_have_sent(name: str) -> None:
    found = parse_request(REAL[name].read_bytes())
    assert found.key == ("P-384" if name == "snp" else "P-256")
    assert len(found.extensions) == 1
    assert found.is_signed()


def test_passes_over_the_subject() -> None:
    assert parse_request(request((KVM, b""), subject="bank.example.com")).is_signed()


def test_accepts_a_request_for_nothing() -> None:
    assert parse_request(request()).extensions == ()


def test_takes_sha_384_from_any_curve() -> None:
    assert parse_request(request((KVM, b""), digest=hashes.SHA384())).is_signed()


def test_a_changed_last_byte_of_the_signature_shows() -> None:
    data = bytearray(kvm_request())
    data[-1] ^= 1
    try:
        assert not parse_request(bytes(data)).is_signed()
    except ParseError:
        pytest.fail("the request is still well formed")


def test_a_signature_of_another_kind_of_key_does_not_count() -> None:
    elliptic, edwards = parse_request(kvm_request()), parse_request(request((KVM, b""), key=KEYS["Ed25519"]))
    for one, other in ((elliptic, edwards), (edwards, elliptic)):
        mixed = type(one)(one.spki, one.public, one.key, one.extensions, one.signed, other.algorithm, other.signature)
        assert not mixed.is_signed()


def with_attribute() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")
    return builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def of_rsa() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def off_the_curve() -> bytes:
    data, key = kvm_request(KEYS["P-256"]), spki(KEYS["P-256"])
    return data.replace(key, key[:-1] + bytes([key[-1] ^ 1]))


def compressed() -> bytes:
    data, key = kvm_request(KEYS["P-256"]), spki(KEYS["P-256"])
    return (
        data.replace(key[-65:-64], b"\x02", 1)
        if data.count(key[-65:]) > 1
        else data.replace(key, key[:-65] + b"\x02" + key[-64:])
    )


def of_a_huge_version() -> bytes:
    info = encode(SEQUENCE, encode(INTEGER, b"\x7f" * 20_000))
    algorithm = encode(SEQUENCE, encode(OID, oid_content("1.3.101.112")))
    return encode(SEQUENCE, info, algorithm, encode(BIT_STRING, bytes(65)))


REFUSED = {
    "a version that no message can hold": (of_a_huge_version(), "expected an INTEGER of at most 64 bytes, got 20000"),
    "nothing": (b"", "request at 0x000: expected SEQUENCE, got 0 bytes"),
    "four bytes": (b"\1\2\3\4", "request at 0x000: expected SEQUENCE, got BOOLEAN"),
    "too much": (bytes(MAX_REQUEST + 1), "request: expected at most 524288 bytes, got 524289"),
    "a byte behind it": (kvm_request() + b"\0", "request.end"),
    "an attribute that is no extension request": (with_attribute(), "expected an extension request"),
    "a critical extension": (request((KVM, b""), critical=True), "expected an extension that is not critical"),
    "a key of RSA": (of_rsa(), "signatureAlgorithm"),
    "a hash that is not allowed": (request((KVM, b""), digest=hashes.SHA512()), "signatureAlgorithm"),
    "a curve that is not allowed": (
        request((KVM, b""), key=ec.generate_private_key(ec.SECP521R1())),
        "expected a key of P-256, P-384, Ed25519",
    ),
    "a point that is not on the curve": (off_the_curve(), "expected a point of the curve"),
    "a point that is compressed": (compressed(), "an uncompressed point"),
    "nine extensions": (request(*((f"1.2.3.{number}", b"") for number in range(9))), "expected at most 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    data, expected = REFUSED[name]
    with pytest.raises(ParseError) as caught:
        parse_request(data)
    assert expected in caught.value.message


def test_takes_a_bundle_apart_without_reading_what_is_in_it() -> None:
    one, other = kvm_request(), encode(SEQUENCE, b"")
    assert parse_bundle(encode(SEQUENCE, one, other)) == (one, other)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "expected SEQUENCE"),
        (bytes(MAX_BUNDLE + 1), "expected at most"),
        (encode(SEQUENCE), "expected at least 1 request"),
        (encode(SEQUENCE, *[encode(SEQUENCE)] * (MAX_REQUESTS + 1)), "expected at most 32 requests"),
        (encode(SEQUENCE, encode(OCTET_STRING)), "expected SEQUENCE, got OCTET STRING"),
        (encode(SEQUENCE, encode(SEQUENCE)) + encode(BIT_STRING), "expected no more bytes"),
    ],
)
def test_refuses_a_bundle_that_is_none(data: bytes, expected: str) -> None:
    with pytest.raises(ParseError, match=expected):
        parse_bundle(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_request(data)
    except ParseError:
        pass


SEED = kvm_request(KEYS["P-256"])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SEED) - 1), st.integers(1, 255), st.integers(0, len(SEED)))
def test_any_change_of_a_good_request_is_read_or_refused_and_never_signed(at: int, bits: int, cut: int) -> None:
    changed = bytearray(SEED)
    changed[at] ^= bits
    for data in (bytes(changed), SEED[:cut]):
        try:
            found = parse_request(data)
        except ParseError:
            continue
        assert data == SEED or not found.is_signed()
