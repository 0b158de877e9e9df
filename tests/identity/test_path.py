"""Chains that come back from a Steward: the one that is ours, and each way to be another."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from donjon.errors import ParseError, VerifyError
from donjon.identity.path import MAX_CERTIFICATE, check_path
from tests.steward.https import Issuer, spki_of

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
WORKLOAD = bytes(range(32))
NI = "ni:///sha-256;" + base64.urlsafe_b64encode(WORKLOAD).rstrip(b"=").decode()
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
DAY = timedelta(days=1)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def check(*chain: bytes, now: datetime = NOW) -> datetime:
    return check_path(chain, spki_of(KEY), WORKLOAD, now)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(NOW, cert_sign=True, life=2 * DAY)


def test_a_chain_for_our_key_is_valid_until_its_first_end(issuer: Issuer) -> None:
    assert check(der(issuer.sign(KEY.public_key())), issuer.der) == NOW + DAY
    assert check(der(issuer.sign(KEY.public_key(), life=3 * DAY)), issuer.der) == NOW + 2 * DAY
    assert check(der(issuer.sign(KEY.public_key(), uris=("urn:uuid:1", NI), ca=False)), issuer.der) == NOW + DAY


def test_a_chain_may_have_an_authority_below_another(issuer: Issuer) -> None:
    below = Issuer(NOW)
    middle = issuer.sign(below.key.public_key(), subject=below.name, ca=True, path_length=0, cert_sign=True)
    assert check(der(below.sign(KEY.public_key())), der(middle), issuer.der) == NOW + DAY
    assert check(der(below.sign(KEY.public_key())), der(middle)) == NOW + DAY  # the root stays with who trusts it


def test_a_certificate_for_another_key_is_refused(issuer: Issuer) -> None:
    with pytest.raises(VerifyError, match=r"certificate\[0\]: expected a certificate for this Keep's key, got one for"):
        check(der(issuer.sign(OTHER.public_key())), issuer.der)


def test_a_leaf_without_who_has_signed_it_is_refused(issuer: Issuer) -> None:
    with pytest.raises(VerifyError, match="at least 2 certificates, got 1"):
        check(der(issuer.sign(KEY.public_key())))


def test_a_leaf_that_is_an_authority_is_refused(issuer: Issuer) -> None:
    with pytest.raises(VerifyError, match=r"certificate\[0\]: expected a certificate that signs no others"):
        check(der(issuer.sign(KEY.public_key(), ca=True)), issuer.der)


@pytest.mark.parametrize(
    "changes", [{"signer": OTHER}, {"issuer": x509.Name([])}], ids=["another key signed", "another issuer is named"]
)
def test_a_leaf_that_the_next_has_not_signed_is_refused(issuer: Issuer, changes: dict[str, object]) -> None:
    with pytest.raises(VerifyError, match=r"certificate\[0\]: expected a signature by the next certificate"):
        check(der(issuer.sign(KEY.public_key(), **changes)), issuer.der)  # type: ignore[arg-type]


def test_a_chain_in_the_wrong_order_is_refused(issuer: Issuer) -> None:
    with pytest.raises(VerifyError, match="for another key"):
        check(issuer.der, der(issuer.sign(KEY.public_key())))
    below = Issuer(NOW)
    middle = issuer.sign(below.key.public_key(), subject=below.name, ca=True)
    with pytest.raises(VerifyError, match=r"certificate\[0\]: expected a signature by the next"):
        check(der(below.sign(KEY.public_key())), issuer.der, der(middle))


@pytest.mark.parametrize("changes", [{"ca": False}, {"ca": None}], ids=["CA false", "no constraints"])
def test_an_issuer_that_is_no_authority_is_refused(changes: dict[str, object]) -> None:
    issuer = Issuer(NOW, **changes)
    with pytest.raises(VerifyError, match=r"certificate\[1\]: expected an authority's \(CA true\)"):
        check(der(issuer.sign(KEY.public_key())), issuer.der)


def test_an_issuer_that_may_sign_no_certificates_is_refused() -> None:
    issuer = Issuer(NOW, cert_sign=False)
    with pytest.raises(VerifyError, match=r"certificate\[1\]: expected a key that may sign certificates"):
        check(der(issuer.sign(KEY.public_key())), issuer.der)


def test_an_authority_below_one_that_allows_none_is_refused() -> None:
    issuer, below = Issuer(NOW, path_length=0), Issuer(NOW)
    middle = issuer.sign(below.key.public_key(), subject=below.name, ca=True)
    with pytest.raises(VerifyError, match=r"certificate\[2\]: expected room for 1 authorities below it, got 0"):
        check(der(below.sign(KEY.public_key())), der(middle), issuer.der)


@pytest.mark.parametrize(
    ("start", "life", "ok"),
    [
        (timedelta(minutes=5), DAY, True),
        (timedelta(minutes=5, seconds=1), DAY, False),
        (-DAY, timedelta(seconds=1), True),
        (-DAY, timedelta(0), False),
    ],
    ids=["our clock is five minutes behind", "not yet valid", "a second is left", "expired"],
)
def test_validity_is_asked_for_now(issuer: Issuer, start: timedelta, life: timedelta, ok: bool) -> None:
    leaf = der(issuer.sign(KEY.public_key(), start=start, life=life))
    if ok:
        check(leaf, issuer.der)
    else:
        with pytest.raises(VerifyError, match="expired" if life < DAY else "not yet valid") as caught:
            check(leaf, issuer.der)
        assert caught.value.hint == "compare this machine's clock with the Steward's"


def test_an_issuer_that_has_expired_is_refused() -> None:
    issuer = Issuer(NOW, start=-DAY, life=timedelta(seconds=-1))
    with pytest.raises(VerifyError, match=r"certificate\[1\]: expected one that is valid at 2026-06-01T12:00:00Z"):
        check(der(issuer.sign(KEY.public_key())), issuer.der)


def test_a_certificate_that_names_another_workload_is_refused(issuer: Issuer) -> None:
    other = "ni:///sha-256;" + base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()
    with pytest.raises(VerifyError, match=r"certificate\[0\]: expected the workload 000102.*, got a certificate for"):
        check(der(issuer.sign(KEY.public_key(), uris=(NI, other))), issuer.der)


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\x30\x00", bytes(MAX_CERTIFICATE + 1)])
def test_what_is_no_certificate_is_refused(issuer: Issuer, garbage: bytes) -> None:
    leaf = der(issuer.sign(KEY.public_key()))
    with pytest.raises(ParseError, match=r"certificate\[0\]: expected "):
        check(garbage, issuer.der)
    with pytest.raises(ParseError, match=r"certificate\[1\]: expected "):
        check(leaf, garbage)


def test_every_flipped_byte_of_what_is_signed_is_refused_in_one_family(issuer: Issuer) -> None:
    certificate = issuer.sign(KEY.public_key(), uris=(NI,))
    leaf, signed = der(certificate), certificate.tbs_certificate_bytes
    start = leaf.index(signed)
    for at, mask in product(range(len(leaf)), (0x01, 0x80)):
        flipped = leaf[:at] + bytes((leaf[at] ^ mask,)) + leaf[at + 1 :]
        try:
            check(flipped, issuer.der)
        except (ParseError, VerifyError):
            continue
        assert at >= start + len(signed), at  # how many bits of the signature's last byte count, nobody asks


def test_a_name_of_bits_is_no_name(issuer: Issuer) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "\0bits")])
    data = der(issuer.sign(KEY.public_key(), subject=name))
    changed = data.replace(b"\x55\x04\x03\x0c\x05\0bits", b"\x55\x04\x03\x03\x05\0bits")
    assert changed != data
    with pytest.raises(ParseError, match=r"^certificate\[0\]: expected a certificate in DER$"):
        check(changed, issuer.der)
