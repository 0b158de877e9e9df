"""Simulated Intel hardware looks as the real one does, and says everywhere that it is none."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from donjon import tee
from donjon.errors import ParseError, UsageError
from donjon.tee import sgx
from donjon.tee.contract import Demands, appraise
from donjon.tee.intel import pck, vendor_roots, x509
from donjon.tee.intel.collateral import from_json
from donjon.tee.intel.simulate import (
    SimulatedIntel,
    TeeName,
    certificate,
    enclave,
    qe_identity,
    sgx_extension,
    tcb_info,
)
from donjon.tee.intel.verify import ROOT
from tests.tee.intel.simulated import NOW, failures, intel, platform, quote, signed
from tests.tee.intel.vectors import named

REAL = {"sgx": named("sgx/automata-icelake"), "tdx": named("tdx/google-v5-90c06f")}
START = NOW - timedelta(days=1)


def test_the_root_that_is_shipped_is_intels() -> None:
    found = vendor_roots()
    assert not found.simulated
    assert hashlib.sha256(found.anchors[ROOT]).hexdigest() == (
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    )


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_certificates_have_the_extensions_of_real_ones(name: str) -> None:
    module: Any = tee.load(name)
    real = module.parse(REAL[name].read("quote"))[0].signature.chain
    left_out = "2.5.29.31"  # where CRLs can be fetched: nowhere here
    for simulated, genuine in zip(platform().pck.chain, real, strict=True):
        found, wanted = x509.certificate(simulated), x509.certificate(genuine)
        for field in ("subject", "issuer"):
            assert x509.common_name(getattr(found, field)) == x509.common_name(getattr(wanted, field))
        assert {(item.oid.dotted_string, item.critical) for item in found.extensions} == {
            (item.oid.dotted_string, item.critical) for item in wanted.extensions if item.oid.dotted_string != left_out
        }


def test_the_sgx_extension_is_written_as_intel_writes_it() -> None:
    for vector in REAL.values():
        module: Any = tee.load(vector.tee)
        leaf = module.parse(vector.read("quote"))[0].signature.chain[0]
        found = x509.certificate(leaf)
        value = next(item.value for item in found.extensions if item.oid.dotted_string == pck.EXTENSION)
        assert sgx_extension(pck.platform(leaf)) == value.value


def shape(value: object) -> object:
    """JSON without its values and without what is optional."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in ("advisoryIDs", "category", "type")}
    if isinstance(value, list):
        return [shape(value[0])]
    return type(value).__name__


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_lists_have_the_members_of_real_ones(name: TeeName) -> None:
    real = from_json(REAL[name].read("collateral"))
    assert real.tcb_info
    assert real.qe_identity
    assert shape(json.loads(real.tcb_info.body)) == shape(tcb_info(platform().numbers, name, START))
    assert shape(json.loads(real.qe_identity.body)) == shape(qe_identity(name, START))


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_quotes_are_as_long_as_real_ones_but_for_the_certificates(name: TeeName) -> None:
    module: Any = tee.load(name)
    sizes = []
    for data in (REAL[name].read("quote"), quote(name)):
        evidence = module.parse(data)[0]
        assert len(evidence.signature.authentication_data) == 32
        sizes.append(len(data) - len(x509.pem(evidence.signature.chain)))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_nobody_who_has_not_asked_for_it_takes_simulated_evidence(name: TeeName) -> None:
    assert failures(name, *signed(name), roots=vendor_roots()).keys() >= {"pck.root"}
    module: Any = tee.load(name)
    evidence, collateral = signed(name)
    verdict = appraise(
        module, lambda: module.verify(evidence, collateral, intel().roots(), NOW), module.Policy(), Demands()
    )
    assert not verdict.accepted
    assert verdict.failure
    assert str(verdict.failure) == (
        "evidence.attested: expected evidence of real hardware, got simulated "
        "(simulated: proves nothing about the host)"
    )
    verdict = appraise(
        module,
        lambda: module.verify(evidence, collateral, intel().roots(), NOW),
        module.Policy(),
        Demands(accept_unattested=True),
    )
    assert verdict.accepted
    assert verdict.notes[0] == "simulated: proves nothing about the host"
    assert len(verdict.notes) == 2
    assert verdict.notes[1].startswith("the policy names no ")


def test_what_is_kept_is_the_same_later() -> None:
    kept = intel().dump()
    again = SimulatedIntel.load(kept)
    assert again.dump() == kept
    machine = again.platform()
    collateral = again.collateral(machine, "sgx", NOW)
    assert failures("sgx", machine.sgx_quote(enclave()), collateral) == {}


def _rsa() -> bytes:
    return generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root.pem": b""}, "root at byte 0: expected 1 to 10 PEM certificates"),
        (
            {"platform_ca.pem": intel().dump()["root.pem"].split(b"-----BEGIN PRIVATE")[0]},
            "platform_ca.pem: expected a",
        ),
        (
            {
                "tcb_signer.pem": intel().dump()["tcb_signer.pem"].split(b"-----BEGIN PRIVATE")[0]
                + b"-----BEGIN PRIVATE"
                + intel().dump()["root.pem"].split(b"-----BEGIN PRIVATE")[1]
            },
            "tcb_signer.pem: expected one certificate and its P-256 key, got others",
        ),
        (
            {"root.pem": intel().dump()["root.pem"].split(b"-----BEGIN PRIVATE")[0] + _rsa()},
            "root.pem: expected one certificate and its P-256 key, got others",
        ),
    ],
    ids=["nothing", "no key", "another's key", "an RSA key"],
)
def test_what_was_not_kept_by_dump_is_refused(change: dict[str, bytes], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        SimulatedIntel.load(intel().dump() | change)
    assert message in caught.value.message


def test_changes_that_nobody_knows_are_refused() -> None:
    key = intel().root.key
    with pytest.raises(UsageError, match="expected known changes, got colour"):
        quote("sgx", colour="red")
    with pytest.raises(UsageError, match="expected known changes, got colour"):
        intel().root.crl(NOW, colour="red")
    with pytest.raises(UsageError, match="expected known changes, got colour"):
        certificate("name", key, intel().root.name, key, NOW, NOW, colour="red")


@pytest.mark.parametrize(("size", "version"), [(583, 4), (648, 4), (649, 5)])
def test_td_reports_of_other_sizes_are_refused(size: int, version: Any) -> None:
    with pytest.raises(UsageError, match="TD report: expected 584 bytes, or 648 in version 5, got "):
        platform().tdx_quote(bytes(size), version)


def test_two_platforms_are_two() -> None:
    first, second = intel().platform(), intel().platform()
    assert first.numbers.ppid != second.numbers.ppid
    assert first.pck.serial != second.pck.serial
    assert sgx.parse(first.sgx_quote(enclave()))[0].signature.chain[0] != second.pck.der
