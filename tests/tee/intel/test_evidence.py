"""The extension that carries a quote: Enarx's form and what we add to it, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from donjon.errors import ParseError
from donjon.tee import sgx, tdx
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.evidence import decode, encode_evidence
from donjon.wire.der import OCTET_STRING, SEQUENCE, UTF8_STRING, context, encode
from tests.tee.intel.simulated import NOW, intel, platform, quote

GOOD = intel().collateral(platform(), "sgx", NOW)
QUOTE = quote("sgx")
NOTHING = encode(SEQUENCE)
NO_CRLS = encode(SEQUENCE, NOTHING)
NO_JSON = encode(SEQUENCE, NOTHING, encode(OCTET_STRING))
CRL = encode(SEQUENCE, encode(UTF8_STRING, b"https://example.com/crl"), GOOD.crls[0])


def evidence(*parts: bytes) -> bytes:
    return encode(SEQUENCE, *parts)


@pytest.mark.parametrize(
    "collateral",
    [Collateral(), GOOD, replace(GOOD, qe_identity=None), replace(GOOD, tcb_info=None), replace(GOOD, crls=())],
    ids=["nothing", "everything", "as Enarx", "no TCB info", "no CRLs"],
)
@pytest.mark.parametrize("log", [None, b"", b"a log"])
def test_what_is_written_is_read(collateral: Collateral, log: bytes | None) -> None:
    assert decode(encode_evidence(QUOTE, collateral, log)) == (QUOTE, collateral, log)


def test_the_addresses_of_crls_are_passed_over() -> None:
    data = evidence(encode(OCTET_STRING, QUOTE), encode(SEQUENCE, encode(SEQUENCE, CRL)), NO_JSON)
    assert decode(data)[1].crls == GOOD.crls[:1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "evidence at 0x000: expected SEQUENCE, got 0 bytes"),
        (evidence(), "evidence.quote at 0x002: expected OCTET STRING"),
        (evidence(encode(OCTET_STRING, QUOTE)), "evidence.crls"),
        (evidence(encode(OCTET_STRING, QUOTE), NO_CRLS), "evidence.tcb"),
        (evidence(encode(OCTET_STRING, QUOTE), NO_CRLS, NO_JSON) + b"\0", "evidence.end"),
        (evidence(encode(OCTET_STRING, QUOTE), NO_CRLS, NO_JSON, b"\5\0"), "evidence.end"),
        (evidence(encode(OCTET_STRING, bytes(32769)), NO_CRLS, NO_JSON), "expected at most 32768 bytes, got 32769"),
        (
            evidence(encode(OCTET_STRING, QUOTE), encode(SEQUENCE, encode(SEQUENCE, *[CRL] * 9)), NO_JSON),
            "expected at most 8, got more",
        ),
        (
            evidence(encode(OCTET_STRING, QUOTE), encode(SEQUENCE, NOTHING, NOTHING), NO_JSON),
            "evidence.crls.end",
        ),
        (
            evidence(
                encode(OCTET_STRING, QUOTE),
                NO_CRLS,
                encode(SEQUENCE, encode(SEQUENCE, *[NOTHING] * 11), encode(OCTET_STRING)),
            ),
            "evidence.tcb.certificates.certificate",
        ),
        (
            evidence(encode(OCTET_STRING, QUOTE), NO_CRLS, encode(SEQUENCE, NOTHING, encode(OCTET_STRING, b"{}"))),
            "evidence.tcb",
        ),
        (
            evidence(
                encode(OCTET_STRING, QUOTE), NO_CRLS, NO_JSON, encode(context(1), encode(OCTET_STRING, bytes(262145)))
            ),
            "evidence.eventLog at",
        ),
        (
            evidence(encode(OCTET_STRING, QUOTE), NO_CRLS, NO_JSON, encode(context(1), encode(OCTET_STRING), b"\5\0")),
            "evidence.eventLog.end",
        ),
        (
            evidence(
                encode(OCTET_STRING, QUOTE),
                NO_CRLS,
                NO_JSON,
                encode(context(1), encode(OCTET_STRING)),
                encode(context(0), NOTHING, encode(OCTET_STRING)),
            ),
            "evidence.end",
        ),
        (bytes(4 * 1024 * 1024 + 1), "evidence: expected at most 4194304 bytes, got 4194305"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        decode(data)
    assert message in caught.value.message


def test_a_bare_quote_brings_no_collateral() -> None:
    assert sgx.parse(QUOTE)[1] == Collateral()
    assert tdx.parse(quote("tdx"))[1] == Collateral()


def test_sgx_has_no_event_log() -> None:
    with pytest.raises(ParseError, match=r"evidence\.eventLog: expected none, as SGX has no event log"):
        sgx.parse(encode_evidence(QUOTE, GOOD, b""))


def test_a_wrapped_td_quote_brings_everything() -> None:
    from tests.tee.intel.vectors import named

    log = named("tdx/lunal-v4-with-event-log").read("ccel_match")
    collateral = intel().collateral(platform(), "tdx", NOW)
    found, came = tdx.parse(tdx.wrap(quote("tdx"), collateral, log))
    assert came == collateral
    assert found.events is not None
    assert len(found.events) == 20
    assert tdx.parse(tdx.wrap(quote("tdx"), collateral))[0].events is None
