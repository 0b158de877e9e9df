"""What arrives: a report, the certificate of the key that has signed it, and what helps to judge that certificate.

Two encodings. Enarx's, in the extension 1.3.6.1.4.1.58270.1.3 of a certificate request:

    Evidence      ::= SEQUENCE { certificates  Certificates,  report  OCTET STRING }
    Certificates  ::= SEQUENCE { vek  Certificate,  crls  SEQUENCE { list  SEQUENCE OF Entry } }
    Entry         ::= SEQUENCE { url  UTF8String,  crl  CertificateList }

and plain pieces: the report as the firmware gave it, and certificates in any order. A report may also come alone, as it
is or in an OCTET STRING (from machines whose host hands out no certificates): then whoever judges has to have the
certificate of its key. The addresses in Enarx's encoding are never followed: evidence does not say where we connect to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha384

from donjon.errors import ParseError
from donjon.tee.snp.collateral import Collateral
from donjon.tee.snp.layout import SIZE, VERSIONS, Report, read_report
from donjon.tee.snp.vek import Vek, read_vek
from donjon.tee.snp.x509 import MAX_CERTIFICATE, MAX_CRL, read_certificate
from donjon.wire import der
from donjon.wire.der import Der

MAX_EVIDENCE = 64 * 1024
MAX_CRLS = 8
MAX_CERTIFICATES = 10
MAX_URL = 1024


@dataclass(frozen=True, slots=True)
class Evidence:
    """A report and the certificate of its key, both well formed and no more.

    Args:
        vek: None where the report came alone; then the certificate is among the collateral, or missing.
    """

    report: Report
    vek: Vek | None


def parse(data: bytes) -> tuple[Evidence, Collateral]:
    """Read Enarx's encoding, or a report that came alone.

    Args:
        data: DER, at most 64 KiB; or the 1184 bytes of a report.
    Raises:
        ParseError: too long, not this structure, or a report or certificate in it is not well formed.
    Source: enarx/steward, crates/attestation/src/snp/mod.rs, Evidence.
    """
    if len(data) > MAX_EVIDENCE:
        raise ParseError(f"SNP evidence: expected at most {MAX_EVIDENCE} bytes, got {len(data)}")
    if len(data) == SIZE:
        return Evidence(read_report(data), None), Collateral()
    whole = Der(data, "Evidence")
    if whole.tag == der.OCTET_STRING:
        alone = whole.octets("report")
        whole.end()
        return Evidence(read_report(alone), None), Collateral()
    evidence = whole.sequence()
    whole.end()
    certificates = evidence.sequence("certificates")
    vek = certificates.whole(der.SEQUENCE, "vek")
    crls = _crls(certificates.sequence("crls"))
    certificates.end()
    report = evidence.octets("report")
    evidence.end()
    return Evidence(read_report(report), read_vek(vek)), Collateral(crls=crls)


def _crls(source: Der) -> tuple[bytes, ...]:
    entries = source.sequence("list")
    source.end()
    crls: list[bytes] = []
    while entries.left:
        if len(crls) == MAX_CRLS:
            raise entries.refuse("entry", f"at most {MAX_CRLS} revocation lists", "more")
        entry = entries.sequence("entry")
        if len(entry.text(der.UTF8_STRING, "url")) > MAX_URL:
            raise entry.refuse("url", f"at most {MAX_URL} characters", "more")
        crls.append(entry.whole(der.SEQUENCE, "crl"))
        entry.end()
    return tuple(crls)


def is_evidence(data: bytes) -> bool:
    """Whether a file seems to hold a report, alone or as `parse` reads it."""
    if len(data) == SIZE:
        return data[0] in VERSIONS and not any(data[1:4])
    if data[:4] == bytes((der.OCTET_STRING, 0x82, *SIZE.to_bytes(2, "big"))):
        return len(data) == SIZE + 4 and data[4] in VERSIONS
    try:
        return data[:1] == bytes((der.SEQUENCE,)) and Der(data, "file").sequence().sequence().tag == der.SEQUENCE
    except ParseError:
        return False


def wrap(report: bytes) -> bytes:
    """The value of a certificate request's extension that carries a report alone; `parse` reads it."""
    return der.encode(der.OCTET_STRING, report)


def encode(report: bytes, vek: bytes, crls: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """Write Enarx's encoding; the opposite of `parse`.

    Args:
        crls: where each came from, and its DER.
    """
    entries = [der.encode(der.SEQUENCE, der.encode(der.UTF8_STRING, url.encode()), crl) for url, crl in crls]
    crl_list = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *entries))
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, vek, crl_list), der.encode(der.OCTET_STRING, report))


def assemble(report: bytes, certificates: Iterable[bytes], crls: Iterable[bytes] = ()) -> tuple[Evidence, Collateral]:
    """Put plain pieces together.

    Args:
        report: 1184 bytes, as the firmware gave it.
        certificates: DER, in any order; exactly one is a VCEK or VLEK, the others are its chain.
        crls: DER.
    Raises:
        ParseError: a piece is not well formed, too long, one too many; or no certificate is a VCEK or VLEK, or two are.
    """
    certificates, crls = tuple(certificates), tuple(crls)
    for what, pieces, count, size in (
        ("certificates", certificates, MAX_CERTIFICATES, MAX_CERTIFICATE),
        ("revocation lists", crls, MAX_CRLS, MAX_CRL),
    ):
        if len(pieces) > count:
            raise ParseError(f"SNP evidence: expected at most {count} {what}, got {len(pieces)}")
        if any(len(piece) > size for piece in pieces):
            raise ParseError(f"SNP evidence: expected {what} of at most {size} bytes each")
    if len(report) != SIZE:
        raise ParseError(f"SNP report: expected {SIZE} bytes, got {len(report)}")
    parsed = read_report(report)
    leaves = [data for data in certificates if read_certificate(data).subject.common_name in {"SEV-VCEK", "SEV-VLEK"}]
    if len(leaves) != 1:
        raise ParseError(f"SNP evidence: expected one certificate of SEV-VCEK or SEV-VLEK, got {len(leaves)}")
    chain = tuple(data for data in certificates if data is not leaves[0])
    return Evidence(parsed, read_vek(leaves[0])), Collateral(chain, crls)


def key_binding(spki: bytes) -> bytes:
    """The REPORT_DATA by which Enarx's Keeps bind their key.

    Args:
        spki: the key's SubjectPublicKeyInfo in DER.
    Returns:
        64 bytes: SHA-384 and 16 zeros.
    Source: enarx/steward, crates/attestation/src/snp/mod.rs.
    """
    return sha384(spki).digest().ljust(64, b"\0")


def claimed(evidence: Evidence) -> tuple[bytes, bytes]:
    """What it says that it binds, before anybody has verified it: report data, and the launcher's HOST_DATA."""
    return evidence.report.guest.report_data, evidence.report.guest.host_data
