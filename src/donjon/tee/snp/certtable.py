"""The table of certificates that a host hands to its guests beside a report: what Linux gives as `auxblob`.

    entry: GUID (16 bytes, as text writes them) | offset u32 | length u32        offsets count from the table's start
    ...
    an entry of zeros
    certificates, DER

The host fills it, so it is hostile, and it proves nothing: certificates prove themselves. Entries of other GUIDs are
passed over, as the specification lets hosts add their own.

Source: GHCB (AMD 56421, 2.03), 4.1.8.1, MSG_REPORT_REQ.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from donjon.errors import ParseError
from donjon.tee.snp.x509 import MAX_CERTIFICATE, MAX_CRL
from donjon.wire import layout, pack, raw, size_of, u32, unpack_part

MAX_TABLE = 32 * 1024
"""Bytes: what Linux hands out at most."""
MAX_ENTRIES = 32

GUIDS = {
    "VCEK": bytes.fromhex("63da758de6644564adc5f4b93be8accd"),
    "VLEK": bytes.fromhex("a8074bc2a25a483eaae639c045a0b8a1"),
    "ASK": bytes.fromhex("4ab7b379bbac4fe4a02f05aef327c782"),
    "ARK": bytes.fromhex("c0b406a4a803495297433fb6014cd0ae"),
    "CRL": bytes.fromhex("92f81bc358114d3d97ffd19f88dc67ea"),
}
_NAMES = {guid: name for name, guid in GUIDS.items()}


# fmt: off
@layout(size=0x18, spec="GHCB, 4.1.8.1, certificate table entry")
class Entry:
    """Where one certificate is."""

    guid:   bytes = raw(0x00, 16)
    offset: int   = u32(0x10)
    length: int   = u32(0x14)
# fmt: on


def read_table(data: bytes) -> dict[str, bytes]:
    """Read a table.

    Returns:
        Name, as in GUIDS -> DER, unread. Nothing for no bytes, which is what hosts without certificates give.
    Raises:
        ParseError: too long, no entry of zeros at its end, a certificate twice, empty, too long, or not within the
            data behind the table.
    """
    if len(data) > MAX_TABLE:
        raise ParseError(f"certificate table: expected at most {MAX_TABLE} bytes, got {len(data)}")
    if not data:
        return {}
    step = size_of(Entry)
    entries: list[Entry] = []
    while True:
        start = len(entries) * step
        where = f"certificate table, entry {len(entries)}"
        if len(data) < start + step:
            raise ParseError(f"{where}: expected {step} bytes, got {len(data) - start}")
        entry = unpack_part(Entry, data[start : start + step])
        if entry == Entry(guid=bytes(16), offset=0, length=0):
            break
        if len(entries) == MAX_ENTRIES:
            raise ParseError(f"certificate table: expected at most {MAX_ENTRIES} entries, got more")
        entries.append(entry)
    header = (len(entries) + 1) * step
    found: dict[str, bytes] = {}
    for number, entry in enumerate(entries):
        where = f"certificate table, entry {number}"
        name = _NAMES.get(entry.guid, "")
        end = entry.offset + entry.length
        if not (header <= entry.offset < end <= len(data)):
            raise ParseError(f"{where}: expected bytes from {header} to {len(data)}, got {entry.offset} to {end}")
        if name in found:
            raise ParseError(f"{where}: expected one {name}, got a second one")
        most = MAX_CRL if name == "CRL" else MAX_CERTIFICATE
        if name and entry.length > most:
            raise ParseError(f"{where}: expected a {name} of at most {most} bytes, got {entry.length}")
        if name:
            found[name] = data[entry.offset : end]
    spans = sorted((entry.offset, entry.offset + entry.length) for entry in entries)
    if any(before[1] > after[0] for before, after in pairwise(spans)):
        raise ParseError("certificate table: expected each certificate at a place of its own, got two that overlap")
    return found


def write_table(certificates: Mapping[str, bytes]) -> bytes:
    """Write a table; the opposite of `read_table`."""
    offset = (len(certificates) + 1) * size_of(Entry)
    entries = []
    for name, der in certificates.items():
        entries.append(pack(Entry(guid=GUIDS[name], offset=offset, length=len(der))))
        offset += len(der)
    return b"".join((*entries, bytes(size_of(Entry)), *certificates.values()))
