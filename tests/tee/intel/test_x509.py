"""Certificates and CRLs are read in the forms that Intel uses, and refused in others."""

import base64
from datetime import timedelta

import pytest

from donjon.errors import ParseError
from donjon.tee.intel import x509
from donjon.tee.intel.simulate import certificate as make
from donjon.wire.der import SEQUENCE, Der, encode
from tests.tee.intel.simulated import NOW, intel, platform
from tests.tee.intel.vectors import named

CHAIN = platform().pck.chain
PEM = x509.pem(CHAIN).encode()


def test_pem_is_read_and_written() -> None:
    assert x509.certificates(PEM, "chain") == CHAIN
    assert x509.certificates(PEM + b"\0", "chain") == CHAIN
    assert x509.certificates(b" \n" + PEM.replace(b"\n", b"\r\n") + b"\n\n", "chain") == CHAIN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "chain at byte 0: expected 1 to 10 PEM certificates and nothing else, got ''"),
        (b"\0", "expected 1 to 10 PEM certificates"),
        (b"words " + PEM, "chain at byte 0: expected 1 to 10 PEM certificates and nothing else, got 'words -----BEGIN"),
        (PEM + b"words", "and nothing else"),
        (PEM + b"\0\0", "and nothing else"),
        (PEM[:-20], "and nothing else"),
        (PEM * 4, "expected 1 to 10 PEM certificates"),
        (PEM.replace(b"CERTIFICATE", b"X509 CRL"), "expected 1 to 10 PEM certificates"),
        (b"-----BEGIN CERTIFICATE-----A-----END CERTIFICATE-----", "chain: certificate 1: expected base64"),
        (b"-----BEGIN CERTIFICATE-----AA=A-----END CERTIFICATE-----", "chain: certificate 1: expected base64"),
        (b"-----BEGIN CERTIFICATE-----A*AA-----END CERTIFICATE-----", "expected 1 to 10 PEM certificates"),
    ],
)
def test_refuses_other_pem(text: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        x509.certificates(text, "chain")
    assert message in caught.value.message


def test_pem_of_an_empty_certificate_is_refused_when_it_is_read() -> None:
    (der,) = x509.certificates(b"-----BEGIN CERTIFICATE----------END CERTIFICATE-----", "chain")
    with pytest.raises(ParseError, match=r"certificate: expected an X\.509 certificate of version 3, got "):
        x509.certificate(der)


def test_pem_is_what_other_tools_write() -> None:
    text = named("sgx/phala-xeon-e").read("collateral").decode()
    import json

    chain = json.loads(text)["tcb_info_issuer_chain"]
    assert x509.pem(x509.certificates(chain.encode(), "chain")).split() == chain.split()
    assert base64.b64decode("".join(PEM.decode().split("-----")[2].split())) == CHAIN[0]


@pytest.mark.parametrize("der", [b"", b"\x30\x00", CHAIN[0][:-1], CHAIN[0] + b"\0", CHAIN[0][::-1]])
def test_refuses_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(ParseError, match=r"leaf: expected an X\.509 certificate of version 3, got "):
        x509.certificate(der, "leaf")


def test_refuses_a_certificate_of_version_1() -> None:
    whole = Der(CHAIN[2], "certificate").sequence()
    tbs = whole.sequence("tbs")
    parts = [tbs.whole(0, "part") for _ in iter(lambda: tbs.left, 0)]
    first = encode(SEQUENCE, encode(SEQUENCE, *parts[1:-1]), whole.whole(0, "algorithm"), whole.whole(0, "signature"))
    with pytest.raises(ParseError, match=r"root: expected an X\.509 certificate of version 3, got version v1"):
        x509.certificate(first, "root")


def test_refuses_a_certificate_that_is_too_large() -> None:
    with pytest.raises(ParseError, match="leaf: expected at most 4096 bytes, got 4097"):
        x509.certificate(bytes(4097), "leaf")


@pytest.mark.parametrize("der", [b"", b"\x30\x00", CHAIN[0]])
def test_refuses_what_is_no_crl(der: bytes) -> None:
    with pytest.raises(ParseError, match=r"CRL: expected an X\.509 CRL, got "):
        x509.crl(der)


def test_refuses_a_crl_that_is_too_large() -> None:
    with pytest.raises(ParseError, match="CRL: expected at most 1048576 bytes, got 1048577"):
        x509.crl(bytes(1024 * 1024 + 1))


def test_a_long_crl_is_read_too() -> None:
    der = intel().platform_ca.crl(NOW, range(1, 3000))
    assert len(der) > 32 * 1024
    assert x509.crl(der).issuer_name == "Intel SGX PCK Platform CA"
    assert x509.revoked(der, intel().platform_ca.der) == frozenset(range(1, 3000))


def test_a_strange_name_is_shown_in_part() -> None:
    key = intel().root.key
    for name in ("evil\nname", "n" * 64 + "é", "\x1b[2J"):
        der = make(name[:64], key, intel().root.name, key, NOW, NOW + timedelta(days=1))
        shown = x509.common_name(x509.certificate(der).subject)
        assert shown.isprintable()
        assert shown.isascii()


def test_a_chain_is_looked_at_as_a_whole() -> None:
    found = x509.chain(CHAIN)
    assert found.names == ("Intel SGX PCK Certificate", "Intel SGX PCK Platform CA", "Intel SGX Root CA")
    assert found.problem == ""
    assert x509.chain(CHAIN[:1]).problem == "1 certificate"
    assert x509.chain(CHAIN[1:]).problem == '"Intel SGX PCK Platform CA": expected no CA, got one'
    assert x509.chain((CHAIN[0], CHAIN[2])).problem == (
        '"Intel SGX PCK Certificate": expected to be issued by "Intel SGX Root CA", got "Intel SGX PCK Platform CA"'
    )
