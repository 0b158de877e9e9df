"""A Keep's identity with evidence: a fresh key, evidence that binds it, and who vouches for both.

    with a Steward      the evidence goes into a certificate request (PKCS#10, Enarx's extensions); a chain comes back
    without one         the evidence goes into the certificate that the Keep signs for itself, so that whoever connects
                        can judge it; its report data binds the key as Enarx binds it

The order matters: the workload's digest is there before the key is made, and evidence that names another workload, or
binds another key, is refused here, before anybody else sees it. The key is P-384 where the evidence is SNP's and P-256
otherwise, as Enarx has it.

All of this happens in a process of its own (`apart`): what is imported here costs tens of megabytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon import tee
from donjon.errors import ParseError, PlatformError, VerifyError
from donjon.identity.certificate import private_bytes, self_signed
from donjon.identity.chain import Identity
from donjon.identity.path import check_path
from donjon.steward.client import Client
from donjon.steward.nonce import binding
from donjon.tee.contract import Tee

__all__ = ["Source", "certified", "make_request", "proven"]


class Source(Protocol):
    """Where evidence comes from: this machine's hardware, or simulated hardware."""

    @property
    def tee(self) -> str:
        """Short name of the TEE."""

    def collect(self, report_data: bytes) -> bytes:
        """Evidence that binds these 64 bytes, as the value of the TEE's extension in a request.

        Raises:
            PlatformError: there is none to be had here and now.
        """


def certified(
    source: Source,
    workload: bytes,
    client: Client,
    clock: Callable[[], float] = time.time,
    descriptor: bytes | None = None,
) -> Identity:
    """Have a Steward certify a fresh key.

    Args:
        workload: the digest that the evidence has to name, or nothing at all.
        descriptor: of which that is the digest, where the Steward may see it.
    Returns:
        The identity, which says when it expires.
    Raises:
        PlatformError: no evidence, or no Steward that answers.
        VerifyError: the evidence, the Steward, or what it sent is not what it should be.
        ParseError: the Steward answered with something else than its protocol.
    """
    kind = tee.load(source.tee)
    key = fresh_key(kind)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def request(nonce: bytes | None) -> bytes:
        report_data = kind.key_binding(spki)
        if report_data and nonce is not None:  # where evidence has no report data (KVM), nothing binds a nonce either
            report_data = binding(nonce, spki)
        return make_request(key, kind.OID, evidence(source, kind, report_data, workload))

    chain = client.certify(request, descriptor)
    try:
        end = check_path(chain, spki, workload, datetime.fromtimestamp(clock(), UTC))
    except VerifyError as error:
        raise VerifyError(f"{client.name} sent a certificate that is none for this Keep: {error.message}", error.hint)
    except ParseError as error:
        raise ParseError(f"{client.name} answered with something else than certificates: {error.message}", error.hint)
    return Identity(private_bytes(key), chain, end.timestamp())


def proven(source: Source, workload: bytes, names: Iterable[str]) -> Identity:
    """Sign a certificate that holds the evidence itself.

    Raises:
        PlatformError: there is no evidence. VerifyError: it names another workload, or binds another key.
        UsageError: a name cannot stand in a certificate.
    """
    kind = tee.load(source.tee)
    key = fresh_key(kind)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    value = evidence(source, kind, kind.key_binding(spki), workload)
    return self_signed(names, key=key, extension=(kind.OID, value))


def fresh_key(kind: Tee) -> ec.EllipticCurvePrivateKey:
    """A key as Enarx makes it for this TEE."""
    return ec.generate_private_key(ec.SECP384R1() if kind.NAME == "snp" else ec.SECP256R1())


def evidence(source: Source, kind: Tee, report_data: bytes, workload: bytes) -> bytes:
    """Collect evidence, and see that it binds what it has to.

    Raises:
        PlatformError: there is none, or it is not of this TEE's form.
        VerifyError: it binds other report data, or names another workload than ours.
    """
    value = source.collect(report_data)
    try:
        found, _ = kind.parse(value)
    except ParseError as error:
        raise PlatformError(f"this machine's evidence is none of {kind.TITLE}: {error.message}") from error
    bound, named = kind.claimed(found)
    if bound != report_data:
        raise VerifyError(f"{kind.TITLE}: expected evidence that binds {_start(report_data)}, got {_start(bound)}")
    if any(named) and named != workload.ljust(len(named), b"\0"):
        raise VerifyError(
            f"{kind.TITLE}: expected evidence for this workload, {workload.hex()}, got evidence for {named.hex()}",
            "this Keep was launched for another workload: compare with `donjon workload digest`, and launch it with "
            "that digest",
        )
    return value


def make_request(key: ec.EllipticCurvePrivateKey, oid: str, value: bytes) -> bytes:
    """A certificate request, DER: an empty subject, the key, and the evidence as an extension that is asked for."""
    digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
        .sign(key, digest)
        .public_bytes(Encoding.DER)
    )


def _start(data: bytes) -> str:
    return f"{data[:16].hex()}…" if data else "nothing"
