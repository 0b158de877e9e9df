"""Keys that sign images: made, kept in files, read again. A private key's file is made for its owner alone.

A file that is there is never overwritten by a key, and a key that others can read is not used.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from donjon import files
from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.log import printable
from donjon.tee.sgx.sigstruct import KEY_BITS

__all__ = ["MAX_FILE", "new_sev_key", "new_sgx_key", "read_sev_key", "read_sgx_key", "write_private", "write_public"]

MAX_FILE = 64 * 1024
"""Bytes of a key, and of what an author says of one."""


def new_sev_key() -> bytes:
    """A key of P-384 for ID blocks, in PEM, PKCS#8."""
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_sgx_key() -> bytes:
    """An RSA key of 3072 bits with the exponent 3, as SGX demands it, in PEM, PKCS#1."""
    key = rsa.generate_private_key(3, KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def read_sev_key(path: str) -> ec.EllipticCurvePrivateKey:
    """A key as `new_sev_key` makes it.

    Raises:
        UsageError: the file is missing, or others can read it. ParseError: it holds no such key.
    """
    key = _key(path)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise ParseError(f"{printable(path)}: expected a key of P-384, got another")


def read_sgx_key(path: str) -> rsa.RSAPrivateKey:
    """A key as `new_sgx_key` makes it.

    Raises:
        UsageError: the file is missing, or others can read it. ParseError: it holds no such key.
    """
    key = _key(path)
    if isinstance(key, rsa.RSAPrivateKey):
        return key
    raise ParseError(f"{printable(path)}: expected an RSA key, got another")


def write_private(path: str, data: bytes) -> None:
    """Write a key into a file that is not there yet, for its owner alone.

    Raises:
        UsageError: something is there. PlatformError: it cannot be written; nothing is left behind.
    """
    try:
        files.create(path, data)
    except FileExistsError as error:
        raise UsageError(
            f"{printable(path)} is there already: a key is not overwritten", "choose another name"
        ) from error
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def write_public(path: str, data: bytes) -> None:
    """Write what is no secret.

    Raises:
        PlatformError: it cannot be written.
    """
    try:
        with open(path, "wb") as stream:
            stream.write(data)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def _key(path: str) -> object:
    data = files.read(path, MAX_FILE, private=True)
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParseError(f"{printable(path)}: expected a private key in PEM, without a password") from error


def _cannot_write(path: str, error: OSError | ValueError) -> PlatformError:
    said = words_of(error) if isinstance(error, OSError) else "not a path"
    return PlatformError(f"cannot write {printable(path)}: {said}", "check the path and who may write there")
