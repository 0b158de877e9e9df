"""A quote of SGX, read, and the bytes in which it travels."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.errors import ParseError
from donjon.tee.intel import evidence as wrapping
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.layout import MAX_QUOTE, Signature, read_signature
from donjon.tee.sgx.layout import Attributes, EnclaveReport, QuoteHeader
from donjon.wire import Cursor, size_of
from donjon.wire.der import SEQUENCE

SIGNED = size_of(QuoteHeader) + size_of(EnclaveReport)
"""Bytes of a quote that its signature covers."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote, version 3.

    Args:
        raw: the whole quote. body: the report of the enclave that is attested.
    """

    raw: bytes
    header: QuoteHeader
    body: EnclaveReport
    signature: Signature

    @property
    def signed(self) -> bytes:
        """What the attestation key signs: header and body."""
        return self.raw[:SIGNED]


def parse_quote(data: bytes) -> Evidence:
    """Read a quote.

    Raises:
        ParseError: larger than 32 KiB, of another version or TEE, not of Intel's QE, with reserved bytes set, with
            lengths that do not fit exactly.
    """
    if len(data) > MAX_QUOTE:
        raise ParseError(f"Quote: expected at most {MAX_QUOTE} bytes, got {len(data)}")
    cursor = Cursor(data, "Quote")
    header = cursor.part(QuoteHeader, "header")
    body = cursor.part(EnclaveReport, "body")
    signature = read_signature(cursor, wrapped=False)
    cursor.end()
    return Evidence(bytes(data), header, body, signature)


def parse(data: bytes) -> tuple[Evidence, Collateral]:
    """Read the value of a certificate request's extension, as Enarx writes it; or a bare quote.

    Returns:
        evidence, and the collateral that came with it; none with a bare quote.
    Raises:
        ParseError: it is neither, or too large.
    """
    if data[:1] != bytes([SEQUENCE]):  # no quote begins so: there it would be version 48
        return parse_quote(data), Collateral()
    quote, collateral, event_log = wrapping.decode(data)
    if event_log is not None:
        raise ParseError("evidence.eventLog: expected none, as SGX has no event log")
    return parse_quote(quote), collateral


def claimed(evidence: Evidence) -> tuple[bytes, bytes]:
    """What it says that it binds, before anybody has verified it: report data, and the launcher's CONFIGID."""
    return evidence.body.report_data, evidence.body.config_id if Attributes.KSS in evidence.body.attributes else b""
