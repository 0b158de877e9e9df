"""Event logs are read, replayed, and refused where they are none."""

from __future__ import annotations

import hashlib

import pytest

from donjon.errors import ParseError
from donjon.tee.tdx.eventlog import EV_NO_ACTION, Event, parse, replay
from tests.tee.intel.vectors import named

VECTOR = named("tdx/lunal-v4-with-event-log")
LOG = VECTOR.read("ccel_match")
HEAD = LOG[:65]
ONE = hashlib.sha384(b"one").digest()


def le(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


def event(
    register: int = 1, kind: int = 9, digests: tuple[tuple[int, bytes], ...] = ((12, ONE),), data: bytes = b"one"
) -> bytes:
    parts = [le(register), le(kind), le(len(digests))]
    parts += [le(algorithm, 2) + digest for algorithm, digest in digests]
    return b"".join((*parts, le(len(data)), data))


def head(
    *algorithms: tuple[int, int], signature: bytes = b"Spec ID Event03\0", vendor: bytes = b"", more: bytes = b""
) -> bytes:
    body = signature + bytes(4) + b"\0\2\0\2" + le(len(algorithms))
    body += b"".join(le(algorithm, 2) + le(size, 2) for algorithm, size in algorithms) + bytes([len(vendor)]) + vendor
    return le(1) + le(3) + bytes(20) + le(len(body + more)) + body + more


@pytest.mark.parametrize("name", ["ccel_match", "ccel_mismatch_rtmr2"])
def test_a_real_log_replays_to_the_registers_that_its_entry_has(name: str) -> None:
    events = parse(VECTOR.read(name))
    wanted = VECTOR.entry["event_log"][name]
    assert len(events) == wanted["events"]
    assert [item.hex() for item in replay(events)] == [wanted[f"rtmr{index}"] for index in range(4)]


def test_a_head_of_ours_is_as_the_real_one() -> None:
    assert head((12, 48)) == HEAD


@pytest.mark.parametrize("fill", [b"", b"\xff" * 100, bytes(100)])
def test_what_is_after_the_last_event_is_fill(fill: bytes) -> None:
    assert parse(HEAD + event() + fill) == (Event(1, 9, ONE, b"one"),)
    assert parse(HEAD + fill) == ()


def test_data_that_looks_like_fill_is_data() -> None:
    assert parse(HEAD + event(data=b"\xff" * 8))[0].data == b"\xff" * 8
    assert parse(HEAD + event(data=bytes(8)) + b"\xff" * 9)[0].data == bytes(8)


def test_events_extend_their_registers_in_order() -> None:
    two = hashlib.sha384(b"two").digest()
    events = parse(HEAD + event(3) + event(3, digests=((12, two),)) + event(4) + event(0) + event(1, EV_NO_ACTION))
    first = hashlib.sha384(bytes(48) + ONE).digest()
    assert replay(events) == (bytes(48), bytes(48), hashlib.sha384(first + two).digest(), first)


def test_other_algorithms_may_stand_beside() -> None:
    log = head((11, 32), (12, 48), vendor=b"abc") + event(digests=((11, bytes(32)), (12, ONE)))
    assert parse(log)[0].digest == ONE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "event log.register at 0x000: expected 4 bytes, got 0"),
        (bytes(262145), "event log: expected at most 262144 bytes, got 262145"),
        (head((12, 48), signature=b"Spec ID Event02\0"), "event log.Spec ID.signature"),
        (le(1) + le(4) + HEAD[8:], "event log.Spec ID.signature"),
        (HEAD[:8] + b"\1" + HEAD[9:], "event log.Spec ID.signature"),
        (head((12, 48), more=b"\0"), "event log.Spec ID.end"),
        (head(), "event log.algorithms at 0x03d: expected SHA-384 among up to five, got none"),
        (head((11, 32)), "expected SHA-384 among up to five, got 1 others"),
        (
            head((12, 47)),
            "event log.Spec ID.algorithm at 0x040: expected a known one with its size, once, got 0xc of 47 bytes",
        ),
        (head((12, 48), (12, 48)), "a known one with its size, once"),
        (head((99, 48)), "a known one with its size, once, got 0x63 of 48 bytes"),
        (HEAD[:56] + le(2**31) + HEAD[60:], "event log.Spec ID."),
        (HEAD + event(5), "event log.register at 0x041: expected 0 to 4, got 5"),
        (HEAD + event(digests=()), "event log.number of digests at 0x049: expected 1 to 1, got 0"),
        (HEAD + event(digests=((12, ONE), (12, ONE))), "expected 1 to 1, got 2"),
        (
            HEAD + event(digests=((11, bytes(32)),)),
            "event log.algorithm at 0x04d: expected one that the log announces, once, got 0xb",
        ),
        (head((11, 32), (12, 48)) + event(digests=((11, bytes(32)),)), "event log.digests at"),
        (head((11, 32), (12, 48)) + event(digests=((12, ONE), (12, ONE))), "one that the log announces, once, got 0xc"),
        (HEAD + event()[:-1], "event log.data"),
        (HEAD + event() + b"\xff" * 7 + b"\xfe", "event log.register"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert message in caught.value.message
