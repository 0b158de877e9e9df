"""What a relying party demands of a Keep. Empty means: nobody asks.

Several values of one demand are alternatives; several demands must all hold. Whom to believe is part of it:

    with `anchors`      the chain ends in one of these roots of Stewards, and what the Steward says is believed
    without             the certificate carries the evidence itself, which is verified by the vendors' roots and `roots`

Both at once would leave open which of the two has decided, so they exclude each other: TEE policies (`tables`) and
`roots` are for evidence, and a Steward has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from donjon import tee
from donjon.errors import UsageError
from donjon.steward.procedure import Trust

MAX_VALUES = 1000
"""Of one demand."""
LARGEST = 64
"""Bytes of a measurement."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What has to hold.

    Args:
        anchors: certificates of Stewards' roots, in DER.
        tees: short names, of which the Keep's must be one.
        products: processors or platforms as the vendor names them, e.g. "Genoa".
        measurements: launch digests: MEASUREMENT, MRTD, MRENCLAVE, realm initial measurement.
        workloads: workload digests, 32 bytes each.
        names: host names, addresses or URIs that a Steward may have given to the certificate; only with anchors.
        max_age: how long ago a Steward may have judged; only with anchors, as bare evidence does not say when.
        tcb: TEE → part of its TCB → a number that it must have at least, or a text that it must have:
            {"snp": {"microcode": 72}, "tdx": {"status": "UpToDate"}}. A TEE that is not named is not asked.
        accept_unattested: KVM, and simulated hardware whose roots are trusted, may pass.
        roots: TEE → what evidence is verified with; a TEE that is not named is verified with its vendor's roots.
        tables: TEE → its policy, as in steward.toml; what is missing is the TEE's default.
        purpose: what the peer uses its certificate for: it serves, or it is a client that shows one.
    Raises:
        UsageError: they contradict each other, or could never hold.
    """

    anchors: tuple[bytes, ...] = ()
    tees: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    measurements: tuple[bytes, ...] = ()
    workloads: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
    max_age: timedelta | None = None
    tcb: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    accept_unattested: bool = False
    roots: Mapping[str, Trust] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    purpose: Literal["server", "client"] = "server"

    def __post_init__(self) -> None:
        for name in ("anchors", "tees", "products", "measurements", "workloads", "names"):
            values = getattr(self, name)
            if isinstance(values, str | bytes):
                raise UsageError(f"{name}: expected several values, got one: write a tuple")
            if len(values) > MAX_VALUES:
                raise UsageError(f"{name}: expected at most {MAX_VALUES}, got {len(values)}")
            object.__setattr__(self, name, tuple(values))
        for name in ("tcb", "roots", "tables"):
            given = getattr(self, name)
            for word in given:
                tee.load(word)
            object.__setattr__(self, name, MappingProxyType(dict(given)))
        for word in self.tees:
            tee.load(word)
        for digest in self.workloads:
            if len(digest) != 32 or not any(digest):
                raise UsageError(f"workloads: expected digests of 32 bytes, not all zero, got {digest[:40].hex()}")
        for digest in self.measurements:
            if not 1 <= len(digest) <= LARGEST:
                raise UsageError(f"measurements: expected digests of 1 to {LARGEST} bytes, got {len(digest)}")
        self._check_trust()

    def _check_trust(self) -> None:
        if self.anchors and (self.tables or self.roots):
            what = f"a policy for {next(iter(self.tables))}" if self.tables else "roots for evidence"
            raise UsageError(
                f"demands: a Steward's root and {what} exclude each other: one believes the Steward or judges evidence",
                "with a Steward's root, demand measurements, products and TCB of its result",
            )
        if not self.anchors and self.names:
            raise UsageError(
                "demands: names need a Steward's root: a Keep that signs its own certificate can take any name",
                "demand a workload",
            )
        if not self.anchors and self.max_age is not None:
            raise UsageError(
                "demands: an age needs a Steward's root: evidence by itself does not say when it was made",
                "let a Steward judge it, which asks for a fresh nonce",
            )

    @property
    def asks_what_runs(self) -> bool:
        """Whether something is demanded that only one workload can have."""
        return bool(self.workloads or self.names)
