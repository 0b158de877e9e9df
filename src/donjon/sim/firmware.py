"""Simulated firmware: OVMF as a measurement sees it, with the tables and sections of the real one and no code.

    data = firmware.write()                                       measures the kernel, for SNP and TDX
    data = firmware.write(kernel_hashes=False)                    as most builds of OVMF: boots any kernel

Whoever computes launch digests, or plays the processor that does, needs a firmware file, and the real one belongs to
the machine that has it. This one has numbers from the layout of Debian's OVMF.amdsev.fd; where that has code, this has
bytes drawn from a seed, and its reset vector halts. Nothing boots with it.
"""

from __future__ import annotations

import hashlib

from donjon.errors import UsageError
from donjon.tee import ovmf

__all__ = ["SNP_SECTIONS", "write"]

SIZE = 256 * 1024
RESET_BLOCK = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
SECRETS = "4c2eb361-7d9b-4cc3-8081-127c90d3d294"
HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454"
SEV_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
TDX_METADATA = "e47a6535-984a-4798-865e-4685a7bf8ec2"
TDVF = "e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae"

_HASHES = (0x810000, 0x1000, 0x10)
SNP_SECTIONS = (
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 4),
    (0x811000, 0x1F000, 1),
    _HASHES,
)
"""Address, size, type; the last is left out without `kernel_hashes`."""
# Address, size, type; in front of these come the two parts of the file.
_TDX_MEMORY = (
    (0x814000, 0xC000, 3),
    (0x80B000, 0x2000, 3),
    (0x809000, 0x2000, 2),
    (0x800000, 0x6000, 3),
    (0x820000, 0x10000, 3),
)
_VARIABLES = 0x4000
_AP_EIP = 0x80B004
_HASH_AREA = (0x810C00, 0x400)


def write(
    *, size: int = SIZE, seed: bytes = b"", snp: bool = True, kernel_hashes: bool = True, tdx: bool = True
) -> bytes:
    """Make a firmware file; the same arguments give the same bytes.

    Args:
        size: in bytes, a multiple of 4096, 32 KiB or more.
        seed: of what stands where code would: another seed is another firmware.
        snp, tdx: with the metadata of these. kernel_hashes: with a page for the hashes of the kernel.
    Raises:
        UsageError: the size is none.
    """
    if size % ovmf.PAGE or not 0x8000 <= size <= ovmf.MAX_FIRMWARE:
        raise UsageError(f"size: expected a multiple of 4096 from {0x8000} to {ovmf.MAX_FIRMWARE}, got {size}")
    sections = SNP_SECTIONS if kernel_hashes else SNP_SECTIONS[:-1]
    sev = b"ASEV" + _numbers(16 + 12 * len(sections), 1, len(sections)) + b"".join(_numbers(*item) for item in sections)
    tdvf = _tdvf(size)
    # From the end: reset vector, table, TDX metadata, SEV metadata. Entries have 18 bytes beside their data.
    table_size = 18 + 22 + 26 + 26 + 22 * (snp + tdx)
    tdx_at = ovmf.RESET_VECTOR + table_size + len(tdvf)
    sev_at = tdx_at + 16 + len(sev)
    entries = [
        *([(TDX_METADATA, _numbers(tdx_at))] if tdx else []),
        *([(SEV_METADATA, _numbers(sev_at))] if snp else []),
        (HASH_TABLE, _numbers(*(_HASH_AREA if kernel_hashes else (0, 0)))),
        (SECRETS, _numbers(0x810000, 0xC00) if kernel_hashes else _numbers(0, 0)),
        (RESET_BLOCK, _numbers(_AP_EIP)),
    ]
    table = b"".join(_entry(name, data) for name, data in entries)
    footer = (len(table) + 18).to_bytes(2, "little") + ovmf.FOOTER
    end = sev + ovmf.guid(TDVF) + tdvf + table + footer + bytes(16) + b"\xf4\xeb\xfd".ljust(16, b"\0")  # hlt; jmp to it
    body = hashlib.shake_256(b"donjon simulated firmware" + seed).digest(size - _VARIABLES - len(end))
    return bytes(_VARIABLES) + body + end


def _tdvf(size: int) -> bytes:
    code = size - _VARIABLES
    parts = [_tdx_section(_VARIABLES, code, ovmf.FOUR_GIB - code, 0, 1)]
    parts.append(_tdx_section(0, _VARIABLES, ovmf.FOUR_GIB - size, 1, 0))
    parts += [_tdx_section(0, 0, address, kind, 0, memory) for address, memory, kind in _TDX_MEMORY]
    return b"TDVF" + _numbers(16 + 32 * len(parts), 1, len(parts)) + b"".join(parts)


def _tdx_section(offset: int, raw: int, address: int, kind: int, attributes: int, memory: int | None = None) -> bytes:
    """A section: what of the file it is, where it goes in memory, and whether its content is measured."""
    size = raw if memory is None else memory
    return (
        _numbers(offset, raw) + address.to_bytes(8, "little") + size.to_bytes(8, "little") + _numbers(kind, attributes)
    )


def _entry(name: str, data: bytes) -> bytes:
    return data + (len(data) + 18).to_bytes(2, "little") + ovmf.guid(name)


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)
