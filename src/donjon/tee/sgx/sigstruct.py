"""SIGSTRUCT: what an enclave's author signs with an RSA key, by whose digest a policy can name the author.

    128 bytes   header, vendor, date
    384 + 4     modulus, exponent 3
    384         signature over the first 128 bytes and the body
    128         body: which enclave it is
     12 + 768   reserved; q1 and q2, which spare the processor divisions

The processor starts no enclave without one, and reports SHA-256 of the modulus as MRSIGNER.

Source: SDM volume 3D, table "Layout of Enclave Signature Structure (SIGSTRUCT)"; EINIT for q1 and q2 [SDM].
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from donjon.errors import ParseError, UsageError, VerifyError
from donjon.tee.intel.layout import Attributes, MiscSelect
from donjon.tee.intel.policy import XFRM_KNOWN, XFRM_REQUIRED
from donjon.wire import layout, pack, raw, u8, u16, u32, u64, unpack_part, zero

__all__ = ["KEY_BITS", "SIZE", "Body", "body", "check", "key_digest", "sign"]

KEY_BITS = 3072
SIZE = 1808
_HEADER = bytes.fromhex("06000000e10000000000010000000000")
_HEADER_2 = bytes.fromhex("01010000600000006000000001000000")


# fmt: off
@layout(start=0x000, size=0x080, spec="SDM, SIGSTRUCT, header")
class Header:
    """The first part of what is signed."""

    header:       bytes = raw(0x000, 16, only=(_HEADER,))
    vendor:       int   = u32(0x010)                      # 8086h: Intel's own
    date:         int   = u32(0x014)                      # yyyymmdd, as digits
    header_2:     bytes = raw(0x018, 16, only=(_HEADER_2,))
    sw_defined:   int   = u32(0x028)
    reserved_02c        = zero(0x02C, 84)


@layout(start=0x080, size=0x304, spec="SDM, SIGSTRUCT, key and signature")
class Key:
    """Numbers with the least significant byte first."""

    modulus:   bytes = raw(0x080, 384)
    exponent:  int   = u32(0x200, only=(3,))
    signature: bytes = raw(0x204, 384)


@layout(start=0x384, size=0x080, spec="SDM, SIGSTRUCT, body")
class Body:
    """Which enclave it is; a bit of a mask that is clear leaves the enclave's own bit open."""

    misc_select:      MiscSelect = u32(0x384, MiscSelect)
    misc_mask:        int        = u32(0x388)
    cet_attributes:   int        = u8(0x38C)
    cet_mask:         int        = u8(0x38D)
    reserved_38e                 = zero(0x38E, 2)
    isv_family_id:    bytes      = raw(0x390, 16)
    attributes:       Attributes = u64(0x3A0, Attributes)
    xfrm:             int        = u64(0x3A8)
    attributes_mask:  int        = u64(0x3B0)
    xfrm_mask:        int        = u64(0x3B8)
    mr_enclave:       bytes      = raw(0x3C0, 32)
    reserved_3e0                 = zero(0x3E0, 16)
    isv_ext_prod_id:  bytes      = raw(0x3F0, 16)
    isv_prod_id:      int        = u16(0x400)
    isv_svn:          int        = u16(0x402)


@layout(start=0x404, size=0x30C, spec="SDM, SIGSTRUCT, end")
class End:
    """Not signed; the processor checks q1 and q2 by using them."""

    reserved_404       = zero(0x404, 12)
    q1:          bytes = raw(0x410, 384)
    q2:          bytes = raw(0x590, 384)
# fmt: on

_ALL = (1 << 64) - 1


def key_digest(key: rsa.RSAPublicKey) -> bytes:
    """MRSIGNER of enclaves signed with this key, 32 bytes: SHA-256 over the modulus as SIGSTRUCT has it.

    Raises:
        UsageError: SGX cannot use such a key.
    """
    return hashlib.sha256(_modulus(key)).digest()


def body(mr_enclave: bytes, *, product_id: int = 0, svn: int = 1) -> bytes:
    """What is signed of an enclave: it has to have this MRENCLAVE, 64 bits and no debugging.

    Returns:
        128 bytes.
    Raises:
        UsageError: a value does not fit.
    """
    return pack(
        Body(
            misc_select=MiscSelect(0),
            misc_mask=0xFFFF_FFFF & ~int(MiscSelect.EXINFO),
            cet_attributes=0,
            cet_mask=0,
            isv_family_id=bytes(16),
            attributes=Attributes.MODE64BIT,
            xfrm=XFRM_REQUIRED,
            attributes_mask=_ALL & ~int(Attributes.KSS | Attributes.AEXNOTIFY | Attributes.CET),
            xfrm_mask=_ALL & ~(XFRM_KNOWN & ~XFRM_REQUIRED),
            mr_enclave=mr_enclave,
            isv_ext_prod_id=bytes(16),
            isv_prod_id=product_id,
            isv_svn=svn,
        )
    )


def sign(enclave: bytes, key: rsa.RSAPrivateKey, *, date: int = 0) -> bytes:
    """Make a SIGSTRUCT.

    Args:
        enclave: a body, 128 bytes. key: of 3072 bits with the exponent 3. date: yyyymmdd as digits, 0x20260101.
    Returns:
        1808 bytes; the same for the same arguments.
    Raises:
        UsageError: SGX cannot use such a key. ParseError: the body is malformed.
    """
    if len(enclave) != 128:
        raise ParseError(f"SIGSTRUCT, body: expected 128 bytes, got {len(enclave)}")
    unpack_part(Body, bytes(0x384) + enclave)
    head = pack(Header(header=_HEADER, vendor=0, date=date, header_2=_HEADER_2, sw_defined=0))
    modulus = _modulus(key.public_key())
    signature = key.sign(head + enclave, padding.PKCS1v15(), SHA256())
    q1, q2 = _quotients(int.from_bytes(signature, "big"), int.from_bytes(modulus, "little"))
    middle = pack(Key(modulus=modulus, exponent=3, signature=signature[::-1]))
    return head + middle + enclave + pack(End(q1=q1.to_bytes(384, "little"), q2=q2.to_bytes(384, "little")))


def check(data: bytes) -> Body:
    """Check what the processor will check of a SIGSTRUCT.

    Returns:
        Its body, read. Whether the key is trusted is for a policy to say.
    Raises:
        ParseError: malformed. VerifyError: the signature does not hold, or q1 and q2 are not its quotients.
    """
    if len(data) != SIZE:
        raise ParseError(f"SIGSTRUCT: expected {SIZE} bytes, got {len(data)}")
    unpack_part(Header, data)
    key, found, end = unpack_part(Key, data), unpack_part(Body, data), unpack_part(End, data)
    modulus, number = int.from_bytes(key.modulus, "little"), int.from_bytes(key.signature, "little")
    try:
        public = rsa.RSAPublicNumbers(3, modulus).public_key()
    except ValueError as error:
        raise ParseError("SIGSTRUCT.modulus at 0x080: expected an RSA modulus, got another number") from error
    if public.key_size != KEY_BITS:
        raise ParseError(f"SIGSTRUCT.modulus at 0x080: expected {KEY_BITS} bits, got {public.key_size}")
    try:
        public.verify(key.signature[::-1], data[:0x080] + data[0x384:0x404], padding.PKCS1v15(), SHA256())
    except InvalidSignature as error:
        raise VerifyError("SIGSTRUCT.signature at 0x204: expected a signature of its key, got another's") from error
    quotients = tuple(value.to_bytes(384, "little") for value in _quotients(number, modulus))
    if quotients != (end.q1, end.q2):
        raise VerifyError("SIGSTRUCT.q1 at 0x410: expected the quotients of the signature, got others")
    return found


def _modulus(key: rsa.RSAPublicKey) -> bytes:
    numbers = key.public_numbers()
    if key.key_size != KEY_BITS or numbers.e != 3:
        raise UsageError(
            f"key: expected RSA of {KEY_BITS} bits with the exponent 3, got {key.key_size} bits with {numbers.e}",
            "donjon key sgx create",
        )
    return numbers.n.to_bytes(384, "little")


def _quotients(signature: int, modulus: int) -> tuple[int, int]:
    """What spares the processor two divisions of long numbers: s * s / n, and then the rest * s / n."""
    q1, rest = divmod(signature * signature, modulus)
    return q1, rest * signature // modulus
