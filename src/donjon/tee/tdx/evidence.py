"""A quote of TDX, read, and the bytes in which it travels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from donjon.errors import ParseError
from donjon.tee.intel import evidence as wrapping
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.layout import MAX_QUOTE, Signature, read_signature
from donjon.tee.tdx import eventlog
from donjon.tee.tdx.eventlog import Event
from donjon.tee.tdx.layout import BodyDescriptor, BodyType, QuoteHeader, TdReport10, TdReport15
from donjon.wire import Cursor, size_of
from donjon.wire.der import SEQUENCE


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote, version 4 or 5, and the event log that came with it.

    Args:
        raw: the whole quote, without what follows it. body_end: how many of its bytes are signed.
        newer: what a TD report 1.5 adds; None in a report 1.0.
        trailing: bytes after the quote, without zeros at the end. Linux hands out quotes in a larger buffer; anything
            but zeros is nobody's word, and policy refuses it.
        events: None where no log came along.
    """

    raw: bytes
    body_end: int
    header: QuoteHeader
    body: TdReport10
    newer: TdReport15 | None
    signature: Signature
    trailing: bytes
    events: tuple[Event, ...] | None = None

    @property
    def signed(self) -> bytes:
        """What the attestation key signs: everything up to the body's end."""
        return self.raw[: self.body_end]


def parse_quote(data: bytes) -> Evidence:
    """Read a quote.

    Raises:
        ParseError: larger than 32 KiB, of another version or TEE, not of Intel's QE, with lengths that do not fit.
    """
    if len(data) > MAX_QUOTE:
        raise ParseError(f"Quote: expected at most {MAX_QUOTE} bytes, got {len(data)}")
    cursor = Cursor(data, "Quote")
    header = cursor.part(QuoteHeader, "header")
    body_type = BodyType.TD_REPORT_10
    if header.version == 5:
        descriptor = cursor.part(BodyDescriptor, "body descriptor")
        body_type = descriptor.body_type
        wanted = size_of(TdReport10) + (size_of(TdReport15) if body_type is BodyType.TD_REPORT_15 else 0)
        if descriptor.size != wanted:
            raise cursor.refuse("body descriptor size", str(wanted), str(descriptor.size), cursor.at - 4)
    body = cursor.part(TdReport10, "body")
    newer = cursor.part(TdReport15, "body 1.5") if body_type is BodyType.TD_REPORT_15 else None
    body_end = cursor.at
    signature = read_signature(cursor, wrapped=True)
    end = cursor.at
    return Evidence(bytes(data[:end]), body_end, header, body, newer, signature, data[end:].rstrip(b"\0"))


def parse(data: bytes) -> tuple[Evidence, Collateral]:
    """Read the value of a certificate request's extension; or a bare quote.

    Returns:
        evidence, and the collateral that came with it; none with a bare quote.
    Raises:
        ParseError: it is neither, or too large.
    Source: `donjon.tee.intel.evidence`.
    """
    if data[:1] != bytes([SEQUENCE]):  # no quote begins so: there it would be version 48
        return parse_quote(data), Collateral()
    quote, collateral, log = wrapping.decode(data)
    evidence = parse_quote(quote)
    return evidence if log is None else with_event_log(evidence, log), collateral


def with_event_log(evidence: Evidence, log: bytes) -> Evidence:
    """The same with an event log that came by another way.

    Raises:
        ParseError: it is none.
    """
    return replace(evidence, events=eventlog.parse(log))


def claimed(evidence: Evidence) -> tuple[bytes, bytes]:
    """What it says that it binds, before anybody has verified it: report data, and the launcher's MRCONFIGID."""
    return evidence.body.report_data, evidence.body.mr_config_id
