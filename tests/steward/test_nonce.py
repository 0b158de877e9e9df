"""Nonces: known by their maker alone, each with its time; and what binds them to a key."""

from datetime import UTC, datetime
from hashlib import sha512

import pytest

from donjon.errors import UsageError
from donjon.steward import nonce

SECRET = bytes(range(32))
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def test_knows_its_own_nonce_and_when_it_was_made() -> None:
    value = nonce.make(SECRET, NOW, bytes(16))
    assert len(value) == nonce.SIZE
    assert nonce.read(SECRET, value) == nonce.Age(True, NOW)


def test_refuses_every_change_of_a_single_byte() -> None:
    value = nonce.make(SECRET, NOW, bytes(16))
    for at in range(len(value)):
        changed = bytearray(value)
        changed[at] ^= 1
        assert not nonce.read(SECRET, bytes(changed)).genuine


@pytest.mark.parametrize("value", [b"", b"\1", bytes(57), bytes(1000)])
def test_refuses_what_it_did_not_make(value: bytes) -> None:
    assert not nonce.read(SECRET, value).genuine


def test_refuses_the_nonce_of_another_service() -> None:
    assert not nonce.read(bytes(32), nonce.make(SECRET, NOW, bytes(16))).genuine


def test_two_nonces_of_one_second_differ() -> None:
    assert nonce.make(SECRET, NOW, bytes(16)) != nonce.make(SECRET, NOW, b"\1" * 16)


def test_binds_nonce_and_key_so_that_bytes_cannot_move_from_one_to_the_other() -> None:
    assert nonce.binding(b"ab", b"c") != nonce.binding(b"a", b"bc")
    assert nonce.binding(b"ab", b"c") == sha512(b"donjon attestation binding v1\0\x02abc").digest()


def test_wants_a_secret_that_nobody_guesses() -> None:
    with pytest.raises(UsageError, match="at least 32 bytes"):
        nonce.make(b"short", NOW, bytes(16))
    with pytest.raises(UsageError, match="at least 32 bytes"):
        nonce.read(b"", b"")


def test_wants_16_random_bytes() -> None:
    with pytest.raises(UsageError, match="16 random bytes"):
        nonce.make(SECRET, NOW, b"")
