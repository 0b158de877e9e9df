"""Which evidence a Keep has, and what it is used for.

`auto` takes the TEE that this machine speaks for: what configfs-tsm names (SNP, TDX, CCA), or SGX where Gramine gives
/dev/attestation. If that fails, the Keep does not start: nothing falls back to a weaker TEE, or to none. Enarx's empty
evidence (`kvm`) is only taken where there is no such device at all, and only for a Steward, which decides about it.

Everything here but `maker` runs in the process that makes the identity, see `donjon.identity.apart`.
"""

from __future__ import annotations

import os

from donjon.errors import PlatformError
from donjon.keep import network
from donjon.keep.launch import DEVICES, GRAMINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from donjon.identity import Identity
    from donjon.identity.attested import Source
    from donjon.keep.launch import Launch
    from donjon.workload import Descriptor

    Say = Callable[[str], None]

__all__ = ["choose", "maker"]

MAX_DESCRIPTOR = 64 * 1024
"""Bytes that a Steward takes."""


def maker(launch: Launch, names: Sequence[str]) -> Callable[[Say], Identity]:
    """What makes the identity of an attested launch, each time with a fresh key and fresh evidence.

    The workload's digest is fixed here, before there is any key.

    Args:
        names: for a certificate that the Keep signs itself.
    """
    described = launch.describe()  # which reads the roots, so that later renewals trust the same ones
    workload = described.digest()
    shown = descriptor_for_steward(described)

    def make(say: Say) -> Identity:
        steward = launch.config.steward
        if steward is None:
            source, made = _proven(launch, workload, names)
            say(f"the certificate holds evidence of {about(launch, source)} for workload {workload.hex()}")
            return made
        from donjon.identity.attested import certified
        from donjon.steward.client import Client
        from donjon.tls.context import client_context

        name = launch.config.steward_ca
        roots = None if name is None else launch.roots()[name].certificates
        client = Client(steward, client_context(None, roots), say, dial=network.current().dial)
        source = network.current().source(launch, workload)
        made = certified(source, workload, client, descriptor=shown)
        say(f"certified by {client.name} for {about(launch, source)} and workload {workload.hex()}")
        return made

    return make


def descriptor_for_steward(described: Descriptor) -> bytes | None:
    """The launch descriptor, in which a policy that names packages finds them.

    None where it must not leave, as variables given beside Enarx.toml may be secrets, and where it is longer than a
    Steward takes. Then such a policy has to name the workload's digest instead.
    """
    text = b"" if described.env else described.json()
    return text if 0 < len(text) <= MAX_DESCRIPTOR else None


def _proven(launch: Launch, workload: bytes, names: Sequence[str]) -> tuple[Source, Identity]:
    from donjon.identity.attested import proven

    try:
        source = network.current().source(launch, workload)
        return source, proven(source, workload, names)
    except PlatformError as error:
        if launch.attest == "auto" and launch.sim is None:
            without = "`donjon run --attest none` runs the program without evidence"
            error.hint = f"{error.hint}; {without}" if error.hint else without
        raise


def choose(launch: Launch, workload: bytes) -> Source:
    """Where this launch's evidence comes from.

    Raises:
        PlatformError: there is none of the kind that is asked for, or of the kind that this machine should have.
    """
    if launch.sim is not None:
        from donjon.sim import load

        return load(launch.sim).guest("snp" if launch.attest == "auto" else launch.attest, workload)
    return Machine(detect(launch.tsm) if launch.attest == "auto" else launch.attest, launch.tsm)


def about(launch: Launch, source: Source) -> str:
    """The TEE, and whether it is real, for a message."""
    if source.tee == "kvm":
        return "kvm (no TEE: the host can read and change it)"
    return f"{'simulated ' if launch.sim is not None or network.current().simulated else ''}{source.tee}"


def detect(tsm: str) -> str:
    """The TEE that this machine speaks for; "kvm" where there is none.

    Raises:
        PlatformError: it has one, and no way to evidence.
    """
    from donjon.tee.tsm import provider

    name = provider(tsm)
    if name is not None:
        return name
    if os.path.isdir(GRAMINE):
        return "sgx"
    found = next(filter(os.path.exists, DEVICES), None)
    if found is not None:
        raise PlatformError(
            f"this machine has {found}, but no configfs-tsm at {tsm}: there is no way to its evidence",
            "Linux 6.7 has it: modprobe tsm; mount -t configfs none /sys/kernel/config; or choose with --attest",
        )
    return "kvm"


class Machine:
    """Evidence of this machine's hardware, or (kvm) Enarx's of a machine that has none."""

    def __init__(self, tee: str, tsm: str) -> None:
        self.tee = tee
        self._tsm = tsm

    def collect(self, report_data: bytes) -> bytes:
        """As `donjon.identity.attested.Source`."""
        from importlib import import_module

        collect: Callable[..., bytes] = import_module(f"donjon.tee.{self.tee}.collect").collect
        return collect(report_data) if self.tee == "sgx" else collect(report_data, root=self._tsm)
