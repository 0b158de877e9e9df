"""Requests that are meant to hurt: of the largest size that is read, with as much to do in them as their format allows.

Each is signed by its sender, so that it gets as far as it can; evidence in them is genuine where that leads further.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.machines import World, request
from donjon.steward.request import MAX_REQUEST
from donjon.tee import cca, sgx, snp, tdx
from donjon.tee.cca.layout import CMW_TAG, MAX_TOKEN
from donjon.tee.cca.simulate import collect
from donjon.tee.contract import Roots
from donjon.tee.intel import strictjson
from donjon.tee.intel.collateral import Collateral, Signed
from donjon.tee.intel.evidence import MAX_EVENT_LOG, encode_evidence
from donjon.tee.intel.simulate import SimulatedIntel, enclave
from donjon.tee.snp.evidence import MAX_EVIDENCE
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Vendor
from donjon.tee.tdx.simulate import td_report
from donjon.wire import der

__all__ = ["hostile"]

ROOM = 1024
"""Bytes of a request beside its evidence."""


def hostile(now: datetime) -> tuple[World, dict[str, bytes]]:
    """Make them, by what is wrong with each, and the world in which their genuine parts are genuine."""
    vendor, intel = Vendor.make(now - timedelta(days=2)), SimulatedIntel.new(now)
    world = World(
        {"snp": vendor.roots, "sgx": intel.roots(), "tdx": intel.roots(), "cca": Roots({}, simulated=True)}, {}
    )
    made: dict[str, Callable[[], bytes]] = {
        "SEQUENCEs in each other": lambda: request(snp.OID, nested(MAX_EVIDENCE)),
        "a length of 4 GiB": lambda: request(snp.OID, b"\x30\x84\xff\xff\xff\xff" + bytes(MAX_EVIDENCE - 6)),
        "many extensions": many_extensions,
        "SNP: a long CRL, genuine": lambda: long_crl(vendor, now),
        "SNP: a certificate of many extensions": lambda: many_in_a_certificate(vendor, now),
        "TDX: a long event log": lambda: bound(tdx, lambda key: event_log(intel, now, key)),
        "TDX: lists of many levels": lambda: bound(tdx, lambda key: long_lists(intel, now, key)),
        "TDX: lists of brackets": lambda: bound(tdx, lambda key: brackets(intel, now, key)),
        "SGX: long CRLs of others": lambda: bound(sgx, lambda key: long_crls(now, key)),
        "SGX: ten certificates of 2 KiB": lambda: bound(sgx, lambda key: long_chain(intel, now, key)),
        "CCA: thousands of claims": lambda: request(cca.OID, cca.wrap(claims())),
        "CCA: arrays in each other": lambda: request(cca.OID, cca.wrap(b"\x81" * (MAX_TOKEN - 1) + b"\x00")),
    }
    return world, {name: make() for name, make in made.items()}


def bound(tee: Any, make: Callable[[bytes], bytes]) -> bytes:
    """A request whose key its evidence binds."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return request(tee.OID, make(tee.key_binding(spki)), key)


def nested(size: int) -> bytes:
    """SEQUENCEs within each other, in so many bytes."""
    heads: list[bytes] = []
    length = 0
    while length < size - 5:
        head = der.encode(der.SEQUENCE, bytes(length))[: -length or None]
        heads.append(head)
        length += len(head)
    return b"".join(reversed(heads))


def many_extensions() -> bytes:
    """An extension request with more than anybody asks for."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    one = der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content(snp.OID)), der.encode(der.OCTET_STRING))
    wanted = der.encode(der.SEQUENCE, one * ((MAX_REQUEST - ROOM) // len(one)))
    kind = der.encode(der.OID, der.oid_content("1.2.840.113549.1.9.14"))
    attribute = der.encode(der.SEQUENCE, kind, der.encode(der.SET, wanted))
    info = der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, b"\0"),
        der.encode(der.SEQUENCE),
        spki,
        der.encode(der.context(0), attribute),
    )
    algorithm = der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content("1.2.840.10045.4.3.2")))
    return der.encode(der.SEQUENCE, info, algorithm, der.encode(der.BIT_STRING, bytes(72)))


def long_crl(vendor: Vendor, now: datetime) -> bytes:
    """The product's own list, as long as fits; what it names, nobody has."""
    chip = vendor.chip(Product.Genoa, now - timedelta(days=1))
    crl = vendor.crl(Product.Genoa, now - timedelta(days=1), revoked=range(1 << 20, (1 << 20) + 2400))
    return bound(snp, lambda key: snp.encode(chip.report(report_data=key), chip.vek, [("", crl)]))


def many_in_a_certificate(vendor: Vendor, now: datetime) -> bytes:
    """A VCEK with as many extensions as go into 8 KiB."""
    chip = vendor.chip(Product.Genoa, now - timedelta(days=1))
    extra = tuple((f"1.2.{number}", False, b"") for number in range(600))
    vek = chip.with_extensions(extra=extra).vek

    def evidence(report_data: bytes) -> bytes:
        return snp.encode(chip.report(report_data=report_data), vek)

    return bound(snp, evidence)


def event_log(intel: SimulatedIntel, now: datetime, report_data: bytes) -> bytes:
    """A genuine quote, and a log of the smallest events."""
    platform = intel.platform()
    collateral = intel.collateral(platform, "tdx", now)
    head = (1).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(20)
    spec = b"Spec ID Event03\0" + bytes(8) + (1).to_bytes(4, "little") + b"\x0c\0\x30\0\0"
    first = head + len(spec).to_bytes(4, "little") + spec
    one = b"".join(
        (
            (1).to_bytes(4, "little"),
            (5).to_bytes(4, "little"),
            (1).to_bytes(4, "little"),
            b"\x0c\0",
            hashlib.sha384(b"").digest(),
            bytes(4),
        )
    )
    log = first + one * ((MAX_EVENT_LOG - len(first)) // len(one))
    return encode_evidence(platform.tdx_quote(td_report(report_data=report_data)), collateral, log)


def long_lists(intel: SimulatedIntel, now: datetime, report_data: bytes) -> bytes:
    """Lists as Intel's, signed as they should be, of as many levels as fit: only Intel could send them."""
    platform = intel.platform()
    collateral = intel.collateral(platform, "tdx", now)
    signed = collateral.tcb_info
    if signed is None:
        raise ValueError("simulated collateral without TCB info")
    info = json.loads(signed.body)
    level = info["tcbLevels"][-1]
    size = len(json.dumps(level, separators=(",", ":")))
    for number in range((strictjson.MAX_BYTES - len(signed.body) - ROOM) // (size + 10)):
        more = json.loads(json.dumps(level))
        more["tcb"]["pcesvn"] = number % 60_000
        more["tcb"]["sgxtcbcomponents"][0]["svn"] = 0
        info["tcbLevels"].append(more)
    quote = platform.tdx_quote(td_report(report_data=report_data))
    return encode_evidence(quote, Collateral(collateral.crls, intel.sign(info), collateral.qe_identity))


def brackets(intel: SimulatedIntel, now: datetime, report_data: bytes) -> bytes:
    """Lists of lists, nowhere too deep, that are not what they should be."""
    platform = intel.platform()
    collateral = intel.collateral(platform, "tdx", now)
    body = b'{"a":[' + b",".join([b"[]"] * ((strictjson.MAX_BYTES - ROOM) // 3)) + b"]}"
    signer = intel.tcb_signer
    junk = Signed(body, bytes(64), signer.chain)
    return encode_evidence(
        platform.tdx_quote(td_report(report_data=report_data)), Collateral(collateral.crls, junk, junk)
    )


def long_crls(now: datetime, report_data: bytes) -> bytes:
    """CRLs signed by a stranger, eight of them, as long as fits."""
    stranger = SimulatedIntel.new(now)
    platform = stranger.platform()
    collateral = stranger.collateral(platform, "sgx", now)
    start = now - timedelta(days=1)
    crls = [
        authority.crl(start, revoked=range(1 + 10_000 * number, 1 + 10_000 * number + 1_500))
        for number, authority in enumerate((stranger.root, stranger.platform_ca) * 4)
    ]
    quote = platform.sgx_quote(enclave(report_data=report_data))
    return encode_evidence(quote, Collateral(tuple(crls), collateral.tcb_info, collateral.qe_identity))


def long_chain(intel: SimulatedIntel, now: datetime, report_data: bytes) -> bytes:
    """A chain of ten certificates, each issued by the next one, as far as anybody can see before looking closer."""
    from cryptography import x509

    from donjon.tee.intel import x509 as pki

    platform = intel.platform()
    collateral = intel.collateral(platform, "sgx", now)
    oid = x509.ObjectIdentifier("1.2.3.4")
    filler = x509.UnrecognizedExtension(oid, bytes(1_500))
    start = now - timedelta(days=1)
    chain = [intel.platform_ca.issue(f"A {number}", start, extensions=(filler,)).der for number in range(8)]
    certification = pki.pem([platform.pck.der, *chain, intel.root.der]).encode()
    quote = platform.sgx_quote(enclave(report_data=report_data), certification=certification)
    return encode_evidence(quote, collateral)


def claims() -> bytes:
    """A token whose parts hold thousands of claims that nobody knows."""
    part = cbor2.dumps({number: number for number in range(100_000, 101_550)})
    sign1 = cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps({1: -35}), {}, part, bytes(96)]))
    return collect(sign1, sign1, CMW_TAG)
