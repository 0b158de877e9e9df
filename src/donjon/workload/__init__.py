"""Which workload a Keep runs, as one number that hardware can sign and anybody can compute. No I/O.

    tree         a package's digest, as Drawbridge has it
    descriptor   what was launched: package, options, roots; the workload's digest

    donjon workload digest main.wasm --wasmcfgfile Enarx.toml

The launcher puts the digest where each TEE lets it put one (SNP HOST_DATA, TDX MRCONFIGID, SGX CONFIGID, CCA
personalization value); a verifier compares it with the one that it computed from the same files.
"""

from __future__ import annotations

from donjon.workload.descriptor import Descriptor
from donjon.workload.tree import File, digest, directory, package

__all__ = ["Descriptor", "File", "digest", "directory", "package"]
