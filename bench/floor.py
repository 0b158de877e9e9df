"""The floor: the signature operations that nobody can leave out, and what they cost on this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from bench.setting import BenchError

__all__ = ["COLD", "OPENSSL", "SERVICE", "WARM", "Speed", "speed", "total"]

OPENSSL = "openssl speed"

P256, P384, RSA = "verify P-256", "verify P-384", "verify RSA-4096"
SIGN = "sign P-256"

WARM: Mapping[str, Mapping[str, int]] = {
    "snp": {P384: 1},  # the report
    "sgx": {P256: 2},  # the quote; the quoting enclave's report, which certifies the key of the quote
    "tdx": {P256: 2},
    "cca": {P384: 2},  # platform token, realm token
}
"""TEE to operations of one verification by someone who has seen the platform's certificates and the vendor's lists."""

COLD: Mapping[str, Mapping[str, int]] = {
    "snp": {P384: 1, RSA: 3},  # and ASK or ASVK, VCEK or VLEK, CRL
    "sgx": {P256: 9},  # and PCK, its CA, two CRLs, the signer of the lists, TCB info, QE identity
    "tdx": {P256: 9},
    "cca": {P384: 2},
}
"""The same by someone who has seen nothing. Roots are pinned, so nobody has to ask who signed them."""

SERVICE: Mapping[str, Mapping[str, int]] = {
    "snp": {P384: 2, SIGN: 1},  # a Keep's key on SNP is P-384, as Enarx's
    "sgx": {P256: 3, SIGN: 1},
    "tdx": {P256: 3, SIGN: 1},
    "cca": {P384: 2, P256: 1, SIGN: 1},
}
"""Operations of one certificate: `WARM`, the request's own signature, and the certificate's."""


@dataclass(frozen=True)
class Speed:
    """CPU seconds of each operation."""

    seconds: Mapping[str, float]


def speed(cpu: int | None, seconds: int = 1) -> Speed | None:
    """Ask `openssl speed`, which counts CPU time; None where there is no openssl.

    Raises:
        BenchError: it says something else than it does today.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    pin = ["taskset", "-c", str(cpu)] if cpu is not None and shutil.which("taskset") else []
    command = [*pin, openssl, "speed", "-seconds", str(seconds), "-mr", "ecdsap256", "ecdsap384", "rsa4096"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        fields = line.split(":")
        if len(fields) == 5 and fields[0] in ("+F2", "+F4"):
            name = {"256": "P-256", "384": "P-384", "4096": "RSA-4096"}[fields[2]]
            found[f"sign {name}"], found[f"verify {name}"] = 1 / float(fields[3]), 1 / float(fields[4])
    if not {P256, P384, RSA, SIGN} <= found.keys():
        raise BenchError(
            f"`{' '.join(command)}` did not say what was expected: {done.stdout[-300:]}{done.stderr[-300:]}"
        )
    return Speed(found)


def total(operations: Mapping[str, int], known: Speed) -> float:
    """CPU seconds of all of them."""
    return sum(count * known.seconds[name] for name, count in operations.items())
