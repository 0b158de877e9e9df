"""Files of anchors, event logs."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from donjon.errors import ParseError, UsageError
from donjon.tee.cca.collateral import EARLIEST, LATEST, Event, Notice, anchor_name, read_anchors, replay
from donjon.tee.cca.simulate import PRODUCT
from tests.tee.cca.simulated import NOW, failures, platform, token

ANCHORS = platform().anchors()
NAME = anchor_name(platform().claims.implementation_id, platform().claims.instance_id)


def test_reads_a_file_as_the_module_shows_it() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    roots, collateral = read_anchors(platform().anchors(start, end, "lost"))
    assert dict(roots.anchors) == dict(platform().roots().anchors)
    assert not roots.simulated
    assert dict(collateral.notices) == {NAME: Notice(PRODUCT, start, end, "lost")}
    assert collateral.events is None


def test_what_is_left_out_has_no_bounds() -> None:
    roots, collateral = read_anchors(ANCHORS, simulated=True)
    assert roots.simulated
    assert dict(collateral.notices) == {NAME: Notice(PRODUCT, EARLIEST, LATEST, "")}
    assert not failures(token(), roots, collateral)


def test_a_file_may_be_empty() -> None:
    assert dict(read_anchors("")[0].anchors) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[anchor]]", "[[anchor]", "ta: not TOML: "),
        ("[[anchor]]", "[[anker]]", 'ta: unknown key "anker": expected one of anchor'),
        ("product", "name", "ta anchor[0]: Object contains unknown field `name`"),
        ("instance_id = ", "# ", "ta anchor[0]: Object missing required field `instance_id`"),
        ('instance_id = "01', 'instance_id = "02', "ta: anchor [0], instance_id: expected 01 first, got 02"),
        ('instance_id = "01', 'instance_id = "', "ta anchor[0].instance_id: expected 66 hex digits, got "),
        ("BEGIN PUBLIC KEY", "BEGIN KEY", "ta: anchor [0], key: expected the public key of a curve, in PEM: "),
        ('product = "', 'not_before = 2026-01-01T00:00:00\nproduct = "',
         "ta: anchor [0], not_before: expected a time with its zone, got 2026-01-01T00:00:00"),
        ('product = "', 'revoked = ""\nproduct = "', "ta: anchor [0], revoked: expected a reason, got an empty text"),
        ('product = "', 'revoked = true\nproduct = "', "ta anchor[0].revoked: Expected `str | null`, got `bool`"),
    ],
)  # fmt: skip
def test_refuses_a_file_that_is_wrong(old: str, new: str, message: str) -> None:
    assert old in ANCHORS
    with pytest.raises(ParseError) as caught:
        read_anchors(ANCHORS.replace(old, new), "ta")
    assert caught.value.message.startswith(message)


def test_refuses_two_anchors_for_one_platform() -> None:
    with pytest.raises(ParseError, match=f"^ta: anchor \\[1\\]: expected one anchor for each platform, .* for {NAME}$"):
        read_anchors(ANCHORS + ANCHORS, "ta")


def test_refuses_a_file_that_is_too_large_or_too_deep() -> None:
    with pytest.raises(ParseError, match=r"^ta: expected at most 1048576 characters, got 1048577$"):
        read_anchors("#" * 1048577, "ta")
    with pytest.raises(ParseError, match=r"^ta: not TOML: "):
        read_anchors("a = " + "[" * 100_000, "ta")


def test_a_key_taken_back_in_the_file_no_longer_signs() -> None:
    roots, collateral = read_anchors(platform().anchors(revoked="found outside"), simulated=True)
    assert failures(token(), roots, collateral) == {
        "platform.key_revocation": "platform.key_revocation: expected not revoked, got revoked: found outside"
    }


def test_a_key_out_of_its_dates_in_the_file_no_longer_signs() -> None:
    roots, collateral = read_anchors(platform().anchors(not_after=NOW), simulated=True)
    assert not failures(token(), roots, collateral)
    assert list(failures(token(), roots, collateral, NOW.replace(year=2027))) == ["platform.key_validity"]


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
def test_replays_events_as_the_monitor_extends_measurements(algorithm: str) -> None:
    name = algorithm.replace("-", "")
    zeros = bytes(hashlib.new(name).digest_size)
    once = hashlib.new(name, zeros + b"a").digest()
    twice = hashlib.new(name, once + b"b").digest()
    other = hashlib.new(name, zeros + b"c").digest()
    assert replay((), algorithm) == (zeros,) * 4
    assert replay((Event(1, b"a"), Event(3, b"c"), Event(1, b"b")), algorithm) == (zeros, twice, zeros, other)


@pytest.mark.parametrize(
    ("register", "data", "message"),
    [
        (-1, b"a", "event: expected a register from 0 to 3, got -1"),
        (4, b"a", "event: expected a register from 0 to 3, got 4"),
        (0, b"", "event: expected 1 to 64 bytes, got 0"),
        (0, bytes(65), "event: expected 1 to 64 bytes, got 65"),
    ],
)
def test_refuses_an_event_that_no_monitor_would_take(register: int, data: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Event(register, data)
    assert caught.value.message == message
