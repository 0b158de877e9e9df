"""Quotes of TDX: every field stands where the specification says, and what is no quote is refused."""

from __future__ import annotations

import pytest

from donjon.errors import ParseError
from donjon.tee import tdx
from donjon.tee.tdx.evidence import parse_quote
from donjon.tee.tdx.simulate import td_report
from donjon.wire import pack
from tests.tee.intel.simulated import platform, quote
from tests.tee.intel.vectors import Vector, load

REAL = [vector for vector in load("tdx") if vector.entry["facts"] and vector.entry["failure"] != "format"]
GOOD5 = quote("tdx")
GOOD4 = platform().tdx_quote(td_report(newer=False), 4)
DATA4 = 48 + 584 + 4
"""Where signature data starts in a quote of version 4."""
FIELDS = {
    "tee_tcb_svn": "tee_tcb_svn",
    "mr_seam": "mrseam",
    "mr_signer_seam": "mrsignerseam",
    "seam_attributes": "seam_attributes",
    "mr_td": "mrtd",
    "mr_config_id": "mrconfigid",
    "mr_owner": "mrowner",
    "mr_owner_config": "mrownerconfig",
    "rtmr0": "rtmr0",
    "rtmr1": "rtmr1",
    "rtmr2": "rtmr2",
    "rtmr3": "rtmr3",
    "report_data": "report_data",
}


@pytest.mark.parametrize("vector", REAL, ids=str)
def test_fields_are_as_the_entry_says(vector: Vector) -> None:
    evidence = parse_quote(vector.read("quote"))
    facts = vector.entry["facts"]
    wanted = facts["body"]
    assert evidence.header.version == facts["version"]
    assert evidence.header.user_data.hex() == facts["user_data"]
    for ours, theirs in FIELDS.items():
        assert getattr(evidence.body, ours).hex() == wanted[theirs], ours
    assert int(evidence.body.td_attributes).to_bytes(8, "little").hex() == wanted["td_attributes"]
    assert evidence.body.xfam.to_bytes(8, "little").hex() == wanted["xfam"]
    if "mrservicetd" in wanted:
        assert evidence.newer
        assert evidence.newer.tee_tcb_svn_2.hex() == wanted["tee_tcb_svn_2"]
        assert evidence.newer.mr_service_td.hex() == wanted["mrservicetd"]
    else:
        assert evidence.newer is None
    assert (evidence.trailing == b"") is facts["trailing_zero"]
    assert len(vector.read("quote")) - len(evidence.raw) == facts["trailing_bytes"]
    assert evidence.signature.qe_report.report_data.hex() == facts["qe_report"]["report_data"]


@pytest.mark.parametrize("vector", REAL, ids=str)
def test_tables_write_what_they_read(vector: Vector) -> None:
    evidence = parse_quote(vector.read("quote"))
    body = pack(evidence.body) + (pack(evidence.newer) if evidence.newer else b"")
    assert evidence.signed.startswith(pack(evidence.header))
    assert evidence.signed.endswith(body)
    assert len(evidence.signed) == 48 + len(body) + (6 if evidence.header.version == 5 else 0)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Quote.header at 0x000: expected 48 bytes, got 0"),
        (GOOD4[:600], "Quote.body at 0x030: expected 584 bytes, got 552"),
        (GOOD4[:-1], "Quote.signature data at 0x27c"),
        (bytes(32769), "Quote: expected at most 32768 bytes, got 32769"),
        (changed(GOOD4, 0, b"\3"), "QuoteHeader.version at 0x000: expected one of 4, 5, got 3"),
        (changed(GOOD4, 2, b"\3"), "QuoteHeader.key_type at 0x002: expected 2, got 3"),
        (changed(GOOD4, 4, b"\0"), "QuoteHeader.tee_type at 0x004: expected 129 (0x81), got 0"),
        (changed(GOOD4, 12, b"\0"), "QuoteHeader.qe_vendor_id"),
        (
            changed(GOOD5, 48, b"\1"),
            "BodyDescriptor.body_type at 0x000: expected one of 2 (TD_REPORT_10), 3 (TD_REPORT_15), got 1",
        ),
        (changed(GOOD5, 48, b"\4"), "BodyDescriptor.body_type at 0x000: expected one of"),
        (changed(GOOD5, 48, b"\2"), "Quote.body descriptor size at 0x032: expected 584, got 648"),
        (changed(GOOD5, 50, b"\xbc\2"), "Quote.body descriptor size at 0x032: expected 648, got 700"),
        (changed(GOOD4, DATA4 - 4, b"\xff\xff\xff\x7f"), "Quote.signature data at 0x27c: expected 2147483647 bytes"),
        (changed(GOOD4, DATA4 + 64, bytes(64)), "Quote.signature data.attestation key: expected a point of P-256"),
        (
            changed(GOOD4, DATA4 + 128, b"\5"),
            "Quote.signature data.certification data type at 0x2fc: expected 6, got 5",
        ),
        (changed(GOOD4, DATA4 + 130, b"\1\0\0\0"), "Quote.signature data.end"),
        (changed(GOOD4, DATA4 + 134 + 448, b"\xff\xff"), "QE report certification data.QE authentication data"),
        (changed(GOOD4, DATA4 + 134 + 448 + 34, b"\6"), "QE report certification data.certification data type"),
        (changed(GOOD4, DATA4 + 134 + 448 + 36, b"\1\0\0\0"), "QE report certification data.end"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_quote(data)
    assert message in caught.value.message


@pytest.mark.parametrize(("more", "trailing"), [(b"", b""), (bytes(9), b""), (b"\0x\0", b"\0x")])
def test_what_follows_a_quote_is_kept_apart(more: bytes, trailing: bytes) -> None:
    evidence = parse_quote(GOOD4 + more)
    assert (evidence.raw, evidence.trailing) == (GOOD4, trailing)


def test_a_quote_of_sgx_is_none_of_tdx() -> None:
    with pytest.raises(ParseError, match="expected one of 4, 5, got 3"):
        tdx.parse(quote("sgx"))


def test_a_key_is_bound_by_its_sha512() -> None:
    import hashlib

    assert tdx.key_binding(b"key") == hashlib.sha512(b"key").digest()
