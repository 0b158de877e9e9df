"""What the quotes of SGX and TDX have in common, as tables: the report of an enclave, and what signs a quote.

The quoting enclave (QE) signs a quote with its attestation key; its own report names that key and is signed with the
platform's PCK. Version 3 puts the parts one after the other; versions 4 and 5 wrap all but the first two once more:

    version 3        signature 64 | key 64 | QE report 384 | its signature 64 | u16 n | n bytes | u16 type | u32 m |
                     m bytes
    versions 4, 5    signature 64 | key 64 | u16 6 | u32 length | the same from the QE report on

The n bytes are authentication data that the QE added to the hash of its key; the m bytes are certification data, with
type 5 the PCK chain in PEM. Types 1 to 4 name a PCK certificate that somebody else would have to look up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from donjon.tee.intel.p256 import public_key
from donjon.tee.intel.x509 import certificates
from donjon.wire import Cursor, layout, raw, u16, u32, u64, unpack, zero

MAX_QUOTE = 32 * 1024
"""Bytes of a quote that are read at all; what Linux's configfs hands out at most."""
INTEL_QE = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""QE vendor id."""
ECDSA_P256 = 2
"""Attestation key type: ECDSA over P-256 with SHA-256, the only one in use."""
PCK_CHAIN = 5
QE_REPORT = 6


class Attributes(IntFlag):
    """ATTRIBUTES.FLAGS of an enclave. Source: SDM volume 3D, table "Layout of ATTRIBUTES"."""

    INIT = 0x001
    DEBUG = 0x002
    MODE64BIT = 0x004
    PROVISION_KEY = 0x010
    EINITTOKEN_KEY = 0x020
    CET = 0x040
    KSS = 0x080
    AEXNOTIFY = 0x400


class MiscSelect(IntFlag):
    """MISCSELECT of an enclave. Source: SDM volume 3D, table "Layout of MISCSELECT"."""

    EXINFO = 0x1
    CPINFO = 0x2


# fmt: off
@layout(size=0x180, spec="SGX-QUOTE3, A.4 Enclave Report Body; SDM volume 3D, REPORT")
class EnclaveReport:
    """What the processor says of an enclave: of the workload's in a quote of SGX, and always of the QE.

    Unknown flags stay in the values; who judges refuses them.
    """

    cpu_svn:         bytes      = raw(0x000, 16)
    misc_select:     MiscSelect = u32(0x010, MiscSelect, unknown="kept")
    reserved_014                = zero(0x014, 12)
    isv_ext_prod_id: bytes      = raw(0x020, 16)                 # the next five are set where KSS is
    attributes:      Attributes = u64(0x030, Attributes, unknown="kept")
    xfrm:            int        = u64(0x038)                     # as in XCR0
    mr_enclave:      bytes      = raw(0x040, 32)
    reserved_060                = zero(0x060, 32)
    mr_signer:       bytes      = raw(0x080, 32)
    reserved_0a0                = zero(0x0A0, 32)
    config_id:       bytes      = raw(0x0C0, 64)
    isv_prod_id:     int        = u16(0x100)
    isv_svn:         int        = u16(0x102)
    config_svn:      int        = u16(0x104)
    reserved_106                = zero(0x106, 42)
    isv_family_id:   bytes      = raw(0x130, 16)
    report_data:     bytes      = raw(0x140, 64)
# fmt: on


@dataclass(frozen=True, slots=True)
class Signature:
    """What signs a quote, read.

    Args:
        quote_signature: 64 bytes over header and body. attestation_key: x || y; `key` is the same, for use.
        qe_report_signed: the QE's report as it was signed, 384 bytes; `qe_report` is the same, read.
        qe_signature: 64 bytes, of the PCK over the QE's report.
        certification_type: 1 to 5; `chain` holds certificates for 5, leaf first, and nothing otherwise.
    """

    quote_signature: bytes
    attestation_key: bytes
    key: EllipticCurvePublicKey
    qe_report_signed: bytes
    qe_report: EnclaveReport
    qe_signature: bytes
    authentication_data: bytes
    certification_type: int
    chain: tuple[bytes, ...]


def read_signature(cursor: Cursor, *, wrapped: bool) -> Signature:
    """Read what follows a quote's body: a length and that many bytes.

    Args:
        wrapped: as of version 4.
    Raises:
        ParseError: lengths that do not fit exactly, a key that is no point of the curve, an unknown type, bad PEM.
    Source: SGX-QUOTE3, A.4; TDX-QUOTE, A.3.
    """
    data = cursor.nested(cursor.u32("signature data length"), "signature data")
    quote_signature = data.take(64, "signature")
    point = data.take(64, "attestation key")
    key = public_key(point, f"{data.name}.attestation key")
    if wrapped:
        outer = data.u16("certification data type")
        if outer != QE_REPORT:
            raise data.refuse("certification data type", str(QE_REPORT), str(outer), data.at - 2)
        inner = data.nested(data.u32("certification data length"), "QE report certification data")
        data.end()
        data = inner
    qe_report = data.take(0x180, "QE report")
    qe_signature = data.take(64, "QE report signature")
    authentication_data = data.take(data.u16("QE authentication data length"), "QE authentication data")
    kind = data.u16("certification data type")
    if not 1 <= kind <= PCK_CHAIN:
        raise data.refuse("certification data type", "1 to 5", str(kind), data.at - 2)
    certification = data.take(data.u32("certification data length"), "certification data")
    data.end()
    return Signature(
        quote_signature=quote_signature,
        attestation_key=point,
        key=key,
        qe_report_signed=qe_report,
        qe_report=unpack(EnclaveReport, qe_report),
        qe_signature=qe_signature,
        authentication_data=authentication_data,
        certification_type=kind,
        chain=certificates(certification, f"{data.name}.certification data") if kind == PCK_CHAIN else (),
    )


def write_signature(signature: Signature, certification: bytes, *, wrapped: bool) -> bytes:
    """Write it, length first; the opposite of `read_signature`.

    Args:
        certification: the certification data's bytes, for type 5 PEM.
    """
    inner = b"".join(
        (
            signature.qe_report_signed,
            signature.qe_signature,
            len(signature.authentication_data).to_bytes(2, "little"),
            signature.authentication_data,
            signature.certification_type.to_bytes(2, "little"),
            len(certification).to_bytes(4, "little"),
            certification,
        )
    )
    if wrapped:
        inner = QE_REPORT.to_bytes(2, "little") + len(inner).to_bytes(4, "little") + inner
    data = signature.quote_signature + signature.attestation_key + inner
    return len(data).to_bytes(4, "little") + data
