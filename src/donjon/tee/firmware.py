"""Firmware files of confidential virtual machines: which one, and its bytes. What is in them, `ovmf` and each TEE read.

Looked for are, in this order: the file that was asked for, that of the variable DONJON_FIRMWARE, those that packages of
Linux distributions install. Only the last may be passed over: a file that somebody names and that does not do is an
error, never a reason to take another one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from donjon import files
from donjon.errors import PlatformError
from donjon.tee.ovmf import MAX_FIRMWARE

__all__ = ["VARIABLE", "find", "read"]

VARIABLE = "DONJON_FIRMWARE"


def find(given: str | None, known: Sequence[str], hint: str) -> str:
    """The path of the firmware to use.

    Args:
        given: what the user named. known: where packages put it. hint: how to get it.
    Raises:
        PlatformError: there is none.
    """
    if given:
        return given
    if named := os.environ.get(VARIABLE):
        return named
    for path in known:
        if os.path.isfile(path):
            return path
    raise PlatformError(f"no firmware for confidential guests: none of {', '.join(known)} is there", hint)


def read(path: str) -> bytes:
    """The file's bytes, at most 16 MiB.

    Raises:
        UsageError: it is missing or a directory. PlatformError: it cannot be read. ParseError: it is longer.
    """
    return files.read(path, MAX_FIRMWARE)
