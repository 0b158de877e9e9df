"""Collateral is read from the three forms in which it travels, and says what is missing."""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from donjon.errors import ParseError
from donjon.tee import sgx, tdx
from donjon.tee.intel import x509
from donjon.tee.intel.collateral import Collateral, from_answer, from_json, join, split_crls, to_json
from donjon.tee.intel.simulate import platform_numbers
from tests.tee.intel.simulated import NOW, intel, platform, quote, signed
from tests.tee.intel.vectors import named

CHAIN = platform().pck.chain
GOOD = intel().collateral(platform(), "sgx", NOW)


def strings(**changes: Any) -> bytes:
    return json.dumps(json.loads(to_json(GOOD, CHAIN)) | changes).encode()


def test_nine_strings_are_written_and_read() -> None:
    found = from_json(to_json(GOOD, CHAIN).encode())
    assert (found.tcb_info, found.qe_identity) == (GOOD.tcb_info, GOOD.qe_identity)
    assert set(found.crls) == {GOOD.crls[0], GOOD.crls[2]}  # the processor CA's is not needed


def test_what_others_have_written_is_read_and_written_again() -> None:
    data = named("tdx/phala-v4-b0c06f").read("collateral")
    evidence, _ = tdx.parse(named("tdx/phala-v4-b0c06f").read("quote"))
    again = json.loads(to_json(from_json(data), evidence.signature.chain))
    original = json.loads(data)
    assert {name: again[name].split() for name in again} == {name: original[name].split() for name in again}


def test_what_is_null_or_left_out_is_missing() -> None:
    gone = dict.fromkeys(("qe_identity", "qe_identity_signature", "qe_identity_issuer_chain", "pck_crl"))
    found = from_json(strings(**gone))
    assert found.qe_identity is None
    assert found.crls == (GOOD.crls[0],)
    assert from_json(b"{}") == Collateral()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "collateral: expected an object with pck_crl_issuer_chain"),
        (strings(more=1), "collateral: expected an object with"),
        (strings(tcb_info=7), "collateral.tcb_info: expected a string, got int"),
        (strings(pck_crl="0"), "collateral.pck_crl: expected hex, got '0'"),
        (strings(tcb_info_signature="00"), "collateral.tcb_info signature: expected 128 hex digits, got '00'"),
        (strings(tcb_info_signature=None), "collateral.tcb_info: expected it with its signature and issuer chain"),
        (strings(qe_identity_issuer_chain="x"), "collateral.qe_identity_issuer_chain at byte 0: expected 1 to 10 PEM"),
        (strings(tcb_info="x" * 300_000), "collateral.tcb_info: expected at most 65536 bytes, got 300000"),
        (b'{"pck_crl":"00","pck_crl":"01"}', "expected each key once, got 'pck_crl' twice"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        from_json(data)
    assert message in caught.value.message


def test_nothing_is_written_where_something_is_missing() -> None:
    with pytest.raises(ParseError, match="expected TCB info and QE identity, got one or none"):
        to_json(replace(GOOD, tcb_info=None), CHAIN)
    with pytest.raises(ParseError, match="expected the CRLs of the root and of the PCK's issuer, got one or none"):
        to_json(replace(GOOD, crls=GOOD.crls[:1]), CHAIN)


def test_missing_pieces_are_filled_from_elsewhere() -> None:
    request = Collateral(GOOD.crls[:1], GOOD.tcb_info)
    found = join(request, GOOD)
    assert found == GOOD
    other = intel().collateral(platform(), "sgx", NOW)
    assert join(found, other).tcb_info is GOOD.tcb_info
    assert len(join(found, other).crls) == 6
    with pytest.raises(ParseError, match="at most 16 CRLs"):
        join(Collateral(tuple(bytes([n]) for n in range(17))), GOOD)


def test_of_two_lists_the_newer_one_counts_if_both_are_about_the_same() -> None:
    later = intel().collateral(platform(), "sgx", NOW + timedelta(days=1))
    for found in (join(GOOD, later), join(later, GOOD)):
        assert found.tcb_info is later.tcb_info
        assert found.qe_identity is later.qe_identity
    of_tdx = intel().collateral(platform(), "tdx", NOW + timedelta(days=1))
    assert join(GOOD, of_tdx).tcb_info is GOOD.tcb_info
    other = intel().platform(platform_numbers(fmspc=bytes(6)))
    assert join(GOOD, intel().collateral(other, "sgx", NOW + timedelta(days=1))).tcb_info is GOOD.tcb_info


def test_needs_are_named_by_what_they_are_about() -> None:
    evidence, _ = sgx.parse(quote("sgx"))
    names = [need.name for need in sgx.needs(evidence)]
    assert names == ["rootcacrl", "pckcrl-platform", "qe-sgx", "tcb-sgx-d017d017d017"]
    assert all(need.after for need in sgx.needs(evidence))
    td, _ = tdx.parse(quote("tdx"))
    assert [need.name for need in tdx.needs(td)][2:] == ["qe-tdx", "tcb-tdx-d017d017d017"]


def test_crls_are_found_by_their_issuer() -> None:
    root, issued = split_crls(GOOD, CHAIN)
    assert root
    assert issued
    assert (root.issuer_name, issued.issuer_name) == ("Intel SGX Root CA", "Intel SGX PCK Platform CA")
    assert split_crls(Collateral(), CHAIN) == (None, None)


# What to ask for


def test_a_quote_says_what_it_needs() -> None:
    need = sgx.need(signed("sgx")[0])
    assert (need.tee, need.fmspc.hex(), need.ca, need.update) == ("sgx", "d017d017d017", "platform", "standard")
    assert need.paths() == {
        "tcb_info": "/sgx/certification/v4/tcb?fmspc=D017D017D017&update=standard",
        "qe_identity": "/sgx/certification/v4/qe/identity?update=standard",
        "pck_crl": "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
    }
    machine = intel().platform(platform_numbers(), ca="processor")
    need = tdx.need(tdx.parse(quote("tdx", machine))[0], "early")
    assert need.paths() == {
        "tcb_info": "/tdx/certification/v4/tcb?fmspc=D017D017D017&update=early",
        "qe_identity": "/tdx/certification/v4/qe/identity?update=early",
        "pck_crl": "/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
    }


def test_a_quote_without_a_chain_of_intels_needs_what_nobody_can_say() -> None:
    data = quote("sgx", certification_type=3, certification=bytes(404))
    with pytest.raises(ParseError, match="quote: expected certification data of type 5, got 3"):
        sgx.need(sgx.parse(data)[0])
    chain = x509.pem([intel().tcb_signer.der, *CHAIN[1:]]).encode()
    with pytest.raises(ParseError, match=r'expected an issuer of .*, got "Intel SGX Root CA"'):
        sgx.need(sgx.parse(quote("sgx", certification=chain))[0])


def test_answers_of_intels_service_are_read() -> None:
    assert GOOD.tcb_info
    assert GOOD.qe_identity
    for name, member, header, piece in (
        ("tcb_info", b"tcbInfo", "TCB-Info-Issuer-Chain", GOOD.tcb_info),
        ("qe_identity", b"enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain", GOOD.qe_identity),
    ):
        body = b'{"%s":%s,"signature":"%s"}' % (member, piece.body, piece.signature.hex().encode())
        chain = urllib.parse.quote(x509.pem(piece.chain))
        assert from_answer(name, body, {"Content-Type": "application/json", header: chain}) == piece
        with pytest.raises(ParseError, match="expected 1 to 10 PEM certificates"):
            from_answer(name, body, {})
