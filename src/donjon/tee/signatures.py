"""Signatures of an image in a file, as Enarx writes them: JSON, bytes as lists of numbers.

    {"version": "0.1.0", "sev": {"id_block": [96 numbers], "id_auth": [4096 numbers]}, "sgx": [1808 numbers]}

Either part may be missing. What they hold is checked by who uses them: `snp.idblock.check`, `sgx.sigstruct.check`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from donjon.errors import ParseError

__all__ = ["MAX_FILE", "Sev", "Signatures", "parse", "write"]

MAX_FILE = 256 * 1024
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Sev(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For SNP."""

    id_block: Annotated[tuple[Byte, ...], msgspec.Meta(min_length=96, max_length=96)]
    id_auth: Annotated[tuple[Byte, ...], msgspec.Meta(min_length=4096, max_length=4096)]


class Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that a file holds; `version` is that of the program that made it."""

    version: str
    sev: Sev | None = None
    sgx: Annotated[tuple[Byte, ...], msgspec.Meta(min_length=1808, max_length=1808)] | None = None


def parse(data: bytes) -> Signatures:
    """Read a file of signatures.

    Raises:
        ParseError: it is longer than 256 KiB, or no such file.
    """
    if len(data) > MAX_FILE:
        raise ParseError(f"signatures: expected at most {MAX_FILE} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=Signatures)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise ParseError(
            f"signatures: expected JSON as `donjon sign` writes it, got other data ({error})"[:300]
        ) from error


def write(version: str, sev: tuple[bytes, bytes] | None = None, sgx: bytes | None = None) -> bytes:
    """The file's bytes.

    Args:
        sev: ID block and ID authentication information. sgx: a SIGSTRUCT.
    """
    parts = None if sev is None else Sev(tuple(sev[0]), tuple(sev[1]))
    return msgspec.json.encode(Signatures(version, parts, None if sgx is None else tuple(sgx)))
