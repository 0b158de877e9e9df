"""The log of what was measured into a TD's four RTMRs, and a replay of it. A log is no proof; a quote over the same is.

Firmware and boot loader append an event for each measurement; each extends one register:
RTMR = SHA-384(RTMR || digest). So a log whose replay gives the quote's registers says what they stand for.

    Spec ID event in the form of TPM 1.2, then events: u32 register | u32 type | u32 n | n of (u16 algorithm, digest) |
                                                       u32 m | m bytes

Source: TCG PC Client Platform Firmware Profile, 1.06, section 10 [TCG-PFP]; UEFI 2.10, section 38.4.1 for the numbers
of registers: 1 to 4 are RTMR0 to RTMR3, 0 is MRTD, which no event extends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from donjon.errors import ParseError
from donjon.wire import Cursor

MAX_EVENT_LOG = 256 * 1024
SHA384 = 0x000C
EV_NO_ACTION = 3
_SIGNATURE = b"Spec ID Event03\0"
_SIZES = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}  # SHA-1, SHA-256, -384, -512, SM3


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement.

    Args:
        register: 0 to 4; kind: the event's type; digest: 48 bytes that extend the register.
        data: what was measured or a description of it; nothing proves it but a digest that somebody can work out.
    """

    register: int
    kind: int
    digest: bytes
    data: bytes


def parse(data: bytes) -> tuple[Event, ...]:
    """Read a log.

    Args:
        data: at most 256 KiB; what follows the last event is FF, or zero.
    Raises:
        ParseError: not such a log; no SHA-384; an event for another register.
    """
    if len(data) > MAX_EVENT_LOG:
        raise ParseError(f"event log: expected at most {MAX_EVENT_LOG} bytes, got {len(data)}")
    cursor = Cursor(data, "event log")
    sizes = _first(cursor)
    events: list[Event] = []
    # The last event may itself end with bytes that look like fill: then it is read beyond this.
    used = min(len(data.rstrip(b"\xff")), len(data.rstrip(b"\0")))
    while cursor.at < used:
        events.append(_event(cursor, sizes))
    return tuple(events)


def replay(events: tuple[Event, ...]) -> tuple[bytes, bytes, bytes, bytes]:
    """The registers RTMR0 to RTMR3 as these events leave them, from zero."""
    registers = [bytes(48)] * 4
    for event in events:
        if event.kind != EV_NO_ACTION and event.register:
            index = event.register - 1
            registers[index] = hashlib.sha384(registers[index] + event.digest).digest()
    return registers[0], registers[1], registers[2], registers[3]


def _first(cursor: Cursor) -> dict[int, int]:
    """The first event, which says which algorithms the others have: algorithm → size."""
    cursor.u32("register")
    kind = cursor.u32("type")
    digest = cursor.take(20, "digest")
    body = cursor.nested(cursor.u32("size"), "Spec ID")
    if kind != EV_NO_ACTION or any(digest) or body.peek(16) != _SIGNATURE:
        raise body.refuse("signature", _SIGNATURE[:15].decode(), body.peek(16).hex() or "nothing")
    body.take(16, "signature")
    body.take(8, "platform class, version, errata, size of numbers")
    count = body.u32("number of algorithms")
    sizes: dict[int, int] = {}
    for _ in range(min(count, len(_SIZES) + 1)):
        algorithm, size = body.u16("algorithm"), body.u16("digest size")
        if _SIZES.get(algorithm) != size or algorithm in sizes:
            raise body.refuse("algorithm", "a known one with its size, once", f"{algorithm:#x} of {size} bytes")
        sizes[algorithm] = size
    body.take(body.u8("vendor size"), "vendor information")
    body.end()
    if len(sizes) != count or SHA384 not in sizes:
        raise cursor.refuse("algorithms", "SHA-384 among up to five", f"{count} others" if count else "none")
    return sizes


def _event(cursor: Cursor, sizes: dict[int, int]) -> Event:
    register = cursor.u32("register")
    if register > 4:
        raise cursor.refuse("register", "0 to 4", str(register), cursor.at - 4)
    kind = cursor.u32("type")
    count = cursor.u32("number of digests")
    if not 1 <= count <= len(sizes):
        raise cursor.refuse("number of digests", f"1 to {len(sizes)}", str(count), cursor.at - 4)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = cursor.u16("algorithm")
        if algorithm not in sizes or algorithm in digests:
            raise cursor.refuse("algorithm", "one that the log announces, once", f"{algorithm:#x}", cursor.at - 2)
        digests[algorithm] = cursor.take(sizes[algorithm], "digest")
    if SHA384 not in digests:
        raise cursor.refuse("digests", "one of SHA-384", ", ".join(f"{item:#x}" for item in digests))
    return Event(register, kind, digests[SHA384], cursor.take(cursor.u32("size"), "data"))
