"""Evidence of this enclave: a quote from the pseudo-files of Gramine, the library operating system that it runs under.

    /dev/attestation/attestation_type      "dcap"; the manifest's sgx.remote_attestation
    /dev/attestation/user_report_data      64 bytes to bind; taken when the file is closed
    /dev/attestation/quote                 made when it is opened

There is one set of them for the whole enclave, and nobody keeps its threads and processes apart: so the quote is asked
whether it binds what was written, and all is done once more when it does not.

Source: Gramine, libos/src/fs/dev/attestation.c.
"""

from __future__ import annotations

import os
import stat
from functools import partial

from donjon.errors import PlatformError, UsageError, words_of
from donjon.tee import tsm
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.evidence import encode_evidence
from donjon.tee.intel.layout import MAX_QUOTE
from donjon.tee.sgx.evidence import parse_quote

__all__ = ["ROOT", "collect"]

ROOT = "/dev/attestation"
ATTEMPTS = 8


def collect(report_data: bytes, root: str = ROOT) -> bytes:
    """Have the quoting enclave sign `report_data`.

    Args:
        report_data: 64 bytes.
    Returns:
        The value of a certificate request's extension.
    Raises:
        UsageError: the report data has another length. PlatformError: this machine cannot do it, or did something else.
    """
    if len(report_data) != 64:
        raise UsageError(f"report data: expected 64 bytes, got {len(report_data)}")
    kind = _read(root, "attestation_type", 64).rstrip(b"\n\0")
    if kind != b"dcap":
        raise PlatformError(
            f'{root}/attestation_type: expected "dcap", got {kind[:20]!a}',
            'the manifest needs sgx.remote_attestation = "dcap"',
        )
    for _ in range(ATTEMPTS):
        _write(root, "user_report_data", report_data)
        quote = tsm.understood("sgx", partial(parse_quote, _read(root, "quote", MAX_QUOTE)))
        if quote.body.report_data == report_data:
            return encode_evidence(quote.raw, Collateral())
    raise PlatformError(
        f"{root}/quote: expected it to bind what was asked for, got other report data, {ATTEMPTS} times in a row",
        "something else in this enclave asks for quotes all the time",
    )


def _read(root: str, name: str, most: int) -> bytes:
    path = f"{root}/{name}"
    try:
        with open(_open(path, os.O_RDONLY), "rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise _failure(path, error) from error
    if len(data) > most:
        raise PlatformError(f"{path}: expected at most {most} bytes, got more")
    return data


def _write(root: str, name: str, data: bytes) -> None:
    path = f"{root}/{name}"
    try:
        with open(_open(path, os.O_WRONLY), "wb", buffering=0) as stream:
            if stream.write(data) != len(data):
                raise PlatformError(f"{path}: expected it to take {len(data)} bytes at once, got fewer")
    except OSError as error:
        raise _failure(path, error) from error


def _open(path: str, mode: int) -> int:
    # Not blocking: what looks like a file might be a pipe.
    descriptor = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise PlatformError(f"{path}: expected a plain file, got something else")


def _failure(path: str, error: OSError) -> PlatformError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = 'this has to run under Gramine in an enclave, with sgx.remote_attestation = "dcap" in the manifest'
    elif isinstance(error, PermissionError):
        hint = "the quoting enclave has failed: look after the host's AESM service and its collateral cache (PCCS)"
    else:
        hint = "see Gramine's log, loader.log_level in the manifest"
    return PlatformError(f"{path}: {words_of(error)}", hint)
