"""The ID block of an SNP guest and its signatures: what the firmware demands of the guest before it starts.

    IdBlock   96 bytes: the launch digest that it has to have, names and a version for it, its POLICY
    IdAuth  4096 bytes: the block signed by the ID key, the ID key signed by the author key, both keys

A guest whose launch digest or POLICY differs does not start, and reports carry ID_KEY_DIGEST and AUTHOR_KEY_DIGEST: a
policy can name the keys, by which new images are accepted without a change of the policy. Both keys are of P-384; the
author's signs ID keys and can stay in a drawer. Signatures are deterministic (RFC 6979), so the same image and keys
give the same bytes, and those that Enarx writes.

Source: SNP-ABI, SNP_LAUNCH_FINISH, tables ID_BLOCK and ID_AUTH; Public Key Formats, Signature Formats.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from donjon.errors import ParseError, VerifyError
from donjon.tee.snp.layout import GuestPolicy
from donjon.wire import Cursor, layout, offset_of, pack, raw, u32, u64, unpack, zero

__all__ = [
    "AUTHORIZATION_SIZE",
    "POLICY",
    "IdAuth",
    "IdBlock",
    "authorize",
    "check",
    "key_digest",
    "sign",
]

AUTHORIZATION_SIZE = 1540
"""Bytes of what `authorize` gives: a signature and the author's public key."""
POLICY = GuestPolicy.RESERVED_17 | GuestPolicy.SMT
"""What Donjon starts guests with: several threads of a core may be used; no debugging, no migration."""
_P384 = 2
_ECDSA_P384_SHA384 = 1


# fmt: off
@layout(size=0x060, spec="SNP-ABI, SNP_LAUNCH_FINISH, ID_BLOCK")
class IdBlock:
    """What the guest has to be; `family_id` and `image_id` are names of the author's choice."""

    launch_digest: bytes       = raw(0x000, 48)
    family_id:     bytes       = raw(0x030, 16)
    image_id:      bytes       = raw(0x040, 16)
    version:       int         = u32(0x050, only=(1,))
    guest_svn:     int         = u32(0x054)
    policy:        GuestPolicy = u64(0x058, GuestPolicy)


@layout(size=0x404, spec="SNP-ABI, Public Key Formats, ECDSA P-384")
class PublicKey:
    """A point; its coordinates with the least significant byte first."""

    curve:        int   = u32(0x000, only=(_P384,))
    x:            bytes = raw(0x004, 72)
    y:            bytes = raw(0x04C, 72)
    reserved_094        = zero(0x094, 880)


@layout(size=0x200, spec="SNP-ABI, Signature Formats, ECDSA P-384 with SHA-384")
class Signature:
    """r and s with the least significant byte first."""

    r:            bytes = raw(0x000, 72)
    s:            bytes = raw(0x048, 72)
    reserved_090        = zero(0x090, 368)


@layout(size=0x1000, spec="SNP-ABI, SNP_LAUNCH_FINISH, ID_AUTH")
class IdAuth:
    """Who vouches for an ID block."""

    id_key_algo:     int   = u32(0x000, only=(_ECDSA_P384_SHA384,))
    author_key_algo: int   = u32(0x004, only=(_ECDSA_P384_SHA384,))
    reserved_008           = zero(0x008, 56)
    id_block_sig:    bytes = raw(0x040, 512)
    id_key:          bytes = raw(0x240, 1028)
    reserved_644           = zero(0x644, 60)
    id_key_sig:      bytes = raw(0x680, 512)
    author_key:      bytes = raw(0x880, 1028)
    reserved_c84           = zero(0xC84, 892)
# fmt: on


def key_digest(key: ec.EllipticCurvePublicKey) -> bytes:
    """ID_KEY_DIGEST or AUTHOR_KEY_DIGEST of reports, 48 bytes: SHA-384 over the key as SNP has it."""
    return hashlib.sha384(_public(key)).digest()


def authorize(author: ec.EllipticCurvePrivateKey, id_key: ec.EllipticCurvePublicKey) -> bytes:
    """The author's word for an ID key, 1540 bytes: its signature over the key, and the author's own public key."""
    return _sign(author, _public(id_key)) + _public(author.public_key())


def sign(
    launch_digest: bytes,
    id_key: ec.EllipticCurvePrivateKey,
    authorization: bytes,
    *,
    policy: GuestPolicy = POLICY,
    guest_svn: int = 1,
    family_id: bytes = bytes(16),
    image_id: bytes = bytes(16),
) -> tuple[bytes, bytes]:
    """Make an ID block for a launch digest, and sign it.

    Args:
        authorization: what `authorize` gave for this ID key.
    Returns:
        The ID block, 96 bytes, and the ID authentication information, 4096 bytes.
    Raises:
        ParseError: the authorization is malformed. VerifyError: it is not for this key.
        UsageError: a value does not fit.
    """
    block = pack(
        IdBlock(
            launch_digest=launch_digest,
            family_id=family_id,
            image_id=image_id,
            version=1,
            guest_svn=guest_svn,
            policy=policy,
        )
    )
    if len(authorization) != AUTHORIZATION_SIZE:
        raise ParseError(f"signature of the ID key: expected {AUTHORIZATION_SIZE} bytes, got {len(authorization)}")
    cursor = Cursor(authorization, "signature of the ID key")
    auth = pack(
        IdAuth(
            id_key_algo=_ECDSA_P384_SHA384,
            author_key_algo=_ECDSA_P384_SHA384,
            id_block_sig=_sign(id_key, block),
            id_key=_public(id_key.public_key()),
            id_key_sig=cursor.take(512, "signature"),
            author_key=cursor.take(1028, "author key"),
        )
    )
    check(block, auth)
    return block, auth


def check(block: bytes, auth: bytes) -> IdBlock:
    """Check what the processor's firmware will check of an ID block, before QEMU is asked to start with it.

    Returns:
        The block, read. Both signatures hold; whether the keys are trusted is for a policy to say.
    Raises:
        ParseError: malformed. VerifyError: a signature does not hold.
    """
    found = unpack(IdBlock, block)
    rows = unpack(IdAuth, auth)
    for name, key, signed in (("id_block_sig", rows.id_key, block), ("id_key_sig", rows.author_key, rows.id_key)):
        signature: bytes = getattr(rows, name)
        if not _holds(key, signature, signed):
            place = f"IdAuth.{name} at {offset_of(IdAuth, name):#05x}"
            raise VerifyError(f"{place}: expected a signature of its key, got another's")
    return found


def _public(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return pack(PublicKey(curve=_P384, x=numbers.x.to_bytes(72, "little"), y=numbers.y.to_bytes(72, "little")))


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA384(), deterministic_signing=True)))
    return pack(Signature(r=r.to_bytes(72, "little"), s=s.to_bytes(72, "little")))


def _holds(key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `data` is signed by `key`, both as SNP has them; raises ParseError when either is malformed."""
    point, numbers = unpack(PublicKey, key), unpack(Signature, signature)
    x, y, r, s = (int.from_bytes(part, "little") for part in (point.x, point.y, numbers.r, numbers.s))
    try:
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
    except ValueError as error:
        raise ParseError("public key: expected a point of P-384, got another") from error
    try:
        public.verify(encode_dss_signature(r, s), data, ec.ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True
