"""Keys that sign images: made, kept in files, read again. A private key's file is made for its owner alone.

A file that is there is never overwritten by a key, and a key that others can read is not used.
"""

from __future__ import annotations

import os
import stat

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.log import printable
from donjon.tee.sgx.sigstruct import KEY_BITS

__all__ = ["new_sev_key", "new_sgx_key", "read", "read_sev_key", "read_sgx_key", "write_private", "write_public"]

MAX_FILE = 64 * 1024


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


def read(path: str, most: int = MAX_FILE, private: bool = False) -> bytes:
    """A file of at most `most` bytes.

    Raises:
        UsageError: it is missing; others can read it, and it is private. PlatformError: it cannot be read.
        ParseError: it is longer.
    """
    try:
        with open(path, "rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if private and mode & 0o077:
                raise UsageError(
                    f"{printable(path)}: expected a key that its owner alone can read, got the mode {mode:o}",
                    f"chmod 600 {printable(path)}",
                )
            data = stream.read(most + 1)
    except ValueError as error:
        raise UsageError(f"cannot read {printable(path)}: not a path", "check the path") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"cannot read {printable(path)}: {words_of(error)}", "check the path") from error
    except OSError as error:
        raise PlatformError(f"cannot read {printable(path)}: {words_of(error)}", "check who may read it") from error
    if len(data) > most:
        raise ParseError(f"{printable(path)}: expected at most {most} bytes, got more")
    return data


def write_private(path: str, data: bytes) -> None:
    """Write a key into a file that is not there yet, for its owner alone.

    Raises:
        UsageError: something is there. PlatformError: it cannot be written; nothing is left behind.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{printable(path)} is there already: a key is not overwritten", "choose another name"
        ) from error
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
    except OSError as error:
        os.unlink(path)
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
    data = read(path, private=True)
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParseError(f"{printable(path)}: expected a private key in PEM, without a password") from error


def _cannot_write(path: str, error: OSError | ValueError) -> PlatformError:
    said = words_of(error) if isinstance(error, OSError) else "not a path"
    return PlatformError(f"cannot write {printable(path)}: {said}", "check the path and who may write there")
