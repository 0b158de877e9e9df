"""Quotes of SGX: every field stands where the specification says, and what is no quote is refused."""

from __future__ import annotations

import pytest

from donjon.errors import ParseError
from donjon.tee import sgx
from donjon.tee.sgx.evidence import parse_quote
from donjon.wire import pack
from tests.tee.intel.simulated import quote
from tests.tee.intel.vectors import Vector, load

REAL = [vector for vector in load("sgx") if vector.entry["facts"] and vector.entry["failure"] != "format"]
GOOD = quote("sgx")


@pytest.mark.parametrize("vector", REAL, ids=str)
def test_fields_are_as_the_entry_says(vector: Vector) -> None:
    evidence = parse_quote(vector.read("quote"))
    facts = vector.entry["facts"]
    assert evidence.header.qe_svn == facts["qe_svn"]
    assert evidence.header.pce_svn == facts["pce_svn"]
    assert evidence.header.user_data.hex() == facts["user_data"]
    assert evidence.signature.certification_type == facts["cert_type"]
    for report, wanted in ((evidence.body, facts["body"]), (evidence.signature.qe_report, facts["qe_report"])):
        assert report.cpu_svn.hex() == wanted["cpu_svn"]
        assert report.misc_select == wanted["misc_select"]
        assert hex(report.attributes) == wanted["attributes_flags"]
        assert hex(report.xfrm) == wanted["xfrm"]
        assert report.mr_enclave.hex() == wanted["mrenclave"]
        assert report.mr_signer.hex() == wanted["mrsigner"]
        assert report.config_id.hex() == wanted["config_id"]
        assert report.isv_prod_id == wanted["isv_prod_id"]
        assert report.isv_svn == wanted["isv_svn"]
        assert report.config_svn == wanted["config_svn"]
        assert report.isv_family_id.hex() == wanted["isv_family_id"]
        assert report.isv_ext_prod_id.hex() == wanted["isv_ext_prod_id"]
        assert report.report_data.hex() == wanted["report_data"]


@pytest.mark.parametrize("vector", REAL, ids=str)
def test_tables_write_what_they_read(vector: Vector) -> None:
    evidence = parse_quote(vector.read("quote"))
    assert pack(evidence.header) + pack(evidence.body) == evidence.signed == evidence.raw[:432]
    assert pack(evidence.signature.qe_report) == evidence.signature.qe_report_signed


def changed(at: int, new: bytes) -> bytes:
    return GOOD[:at] + new + GOOD[at + len(new) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Quote.header at 0x000: expected 48 bytes, got 0"),
        (GOOD[:431], "Quote.body at 0x030: expected 384 bytes, got 383"),
        (GOOD[:-1], "Quote.signature data at 0x1b4"),
        (GOOD + b"\0", "Quote.end"),
        (bytes(32769), "Quote: expected at most 32768 bytes, got 32769"),
        (changed(0, b"\4\0"), "QuoteHeader.version at 0x000: expected 3, got 4"),
        (changed(2, b"\3\0"), "QuoteHeader.key_type at 0x002: expected 2, got 3"),
        (changed(4, b"\x81"), "QuoteHeader.tee_type at 0x004: expected 0, got 129"),
        (changed(12, b"\0"), "QuoteHeader.qe_vendor_id at 0x00c: expected 939a7233f79c4ca9940a0db3957f0607"),
        (changed(48 + 0x14, b"\1"), "EnclaveReport.reserved_014 at 0x014: expected 12 zero bytes"),
        (changed(48 + 0x60, b"\1"), "EnclaveReport.reserved_060 at 0x060: expected 32 zero bytes"),
        (changed(48 + 0xA0, b"\1"), "EnclaveReport.reserved_0a0 at 0x0a0: expected 32 zero bytes"),
        (changed(48 + 0x106, b"\1"), "EnclaveReport.reserved_106 at 0x106: expected 42 zero bytes"),
        (changed(432, b"\xff\xff\xff\x7f"), "Quote.signature data at 0x1b4: expected 2147483647 bytes"),
        (changed(436 + 64, bytes(64)), "Quote.signature data.attestation key: expected a point of P-256, got 0000"),
        (changed(436 + 128 + 0x60, b"\1"), "EnclaveReport.reserved_060"),
        (changed(436 + 128 + 448, b"\xff\xff"), "Quote.signature data.QE authentication data"),
        (
            changed(436 + 128 + 448 + 2 + 32, b"\6\0"),
            "Quote.signature data.certification data type at 0x416: expected 1 to 5, got 6",
        ),
        (changed(436 + 128 + 448 + 2 + 32, b"\0\0"), "expected 1 to 5, got 0"),
        (changed(436 + 128 + 448 + 2 + 34, b"\1\0\0\0"), "Quote.signature data.end"),
        (
            changed(436 + 128 + 448 + 2 + 38, b"?"),
            "Quote.signature data.certification data at byte 0: expected 1 to 10 PEM",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_quote(data)
    assert message in caught.value.message


def test_a_quote_of_tdx_is_none_of_sgx() -> None:
    with pytest.raises(ParseError, match="expected 3, got 5"):
        sgx.parse(quote("tdx"))


def test_enarx_binds_a_key_by_its_sha256() -> None:
    import hashlib

    assert sgx.key_binding(b"key") == hashlib.sha256(b"key").digest() + bytes(32)
