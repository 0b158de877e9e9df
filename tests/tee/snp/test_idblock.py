"""ID blocks: Enarx's known answers byte for byte, and each way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from donjon.errors import ParseError, VerifyError
from donjon.tee.snp import idblock
from donjon.tee.snp.layout import GuestPolicy

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "enarx"


def vector(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def key(name: str) -> ec.EllipticCurvePrivateKey:
    found = load_pem_private_key(vector(name), None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


AUTHOR, ID_KEY = key("sev-author.key"), key("sev-id.key")
BLOCK, AUTH = vector("id-block.bin"), vector("id-auth.bin")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (
            "sev-author.key",
            "0dd83a8c088945ea8577ff94c29ddda82488ddf8b5723299b5b01ef28f10be5388be7af8aa00b06dd9deaeddc74b487a",
        ),
        (
            "sev-id.key",
            "0ea04f87205f95585f8037850f37104470ac2d79ca42033057fa56926a8ee3f06313f6da3742e2115222d1205ca0a1fe",
        ),
    ],
)
def test_digests_of_keys_are_those_of_enarx(name: str, digest: str) -> None:
    assert idblock.key_digest(key(name).public_key()).hex() == digest


def test_the_author_s_signature_is_that_of_enarx() -> None:
    assert idblock.authorize(AUTHOR, ID_KEY.public_key()) == vector("sev-id-key-signature.blob")


def test_block_and_signatures_are_those_of_enarx() -> None:
    read = idblock.check(BLOCK, AUTH)
    assert read.policy == GuestPolicy.SMT | GuestPolicy.RESERVED_17
    made = idblock.sign(
        read.launch_digest,
        ID_KEY,
        vector("sev-id-key-signature.blob"),
        family_id=read.family_id,
        image_id=read.image_id,
    )
    assert made == (BLOCK, AUTH)


@pytest.mark.parametrize(
    ("which", "at", "message"),
    [
        ("block", 0x00, "IdAuth.id_block_sig at 0x040: expected a signature of its key"),
        ("auth", 0x040, "IdAuth.id_block_sig at 0x040: expected a signature of its key"),
        ("auth", 0x680, "IdAuth.id_key_sig at 0x680: expected a signature of its key"),
    ],
)
def test_a_changed_byte_is_found(which: str, at: int, message: str) -> None:
    parts = {"block": bytearray(BLOCK), "auth": bytearray(AUTH)}
    parts[which][at] ^= 1
    with pytest.raises(VerifyError, match=message):
        idblock.check(bytes(parts["block"]), bytes(parts["auth"]))


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0x000, "IdAuth.id_key_algo"),
        (0x008, "IdAuth.reserved_008"),
        (0x240, "PublicKey.curve"),
        (0x244, "expected a point of P-384"),
        (0x2D8, "PublicKey.reserved_094"),
        (0x0D0, "Signature.reserved_090"),
        (0xFFF, "IdAuth.reserved_c84"),
    ],
)
def test_a_malformed_one_is_refused(at: int, message: str) -> None:
    auth = bytearray(AUTH)
    auth[at] ^= 4
    with pytest.raises(ParseError, match=message):
        idblock.check(BLOCK, bytes(auth))


def test_a_word_for_another_key_does_not_do() -> None:
    with pytest.raises(VerifyError, match="id_key_sig"):
        idblock.sign(bytes(48), AUTHOR, vector("sev-id-key-signature.blob"))


def test_a_word_of_another_size_is_refused() -> None:
    with pytest.raises(ParseError, match="expected 1540 bytes, got 3"):
        idblock.sign(bytes(48), ID_KEY, b"abc")
