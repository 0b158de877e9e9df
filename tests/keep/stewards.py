"""A Steward for tests that use the clock: certificates around now, with whatever a test wants in them."""

from __future__ import annotations

import ssl
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from donjon.identity import Identity
from donjon.tls.context import show
from donjon.verify.result import uri
from tests.verify.chains import NAME, OTHER, WORKLOAD, Chain, Entity, authority, claims

__all__ = ["MEASUREMENT", "NAME", "OTHER", "WORKLOAD", "Steward", "client", "pem", "server"]

MEASUREMENT = "ab" * 48
HOUR = timedelta(hours=1)


class Steward:
    """Root and issuing key, and the certificates below them."""

    def __init__(self, name: str = "Test") -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.root = self._around_now(authority(f"{name} Root", 1))
        self.issuing = self._around_now(authority(f"{name} Issuing", 0))
        self.anchor = self.root.signed(self.root)

    def _around_now(self, entity: Entity) -> Entity:
        entity.start, entity.end = self.now - 48 * HOUR, self.now + 48 * HOUR
        return entity

    def file(self, folder: Path, name: str = "keeps.pem") -> Path:
        """Its root as relying parties have it."""
        path = folder / name
        path.write_text(pem(self.anchor))
        return path

    def keep(
        self,
        workload: bytes = WORKLOAD,
        names: tuple[str, ...] = (NAME,),
        age: timedelta = timedelta(minutes=1),
        life: timedelta = HOUR,
        judged: bool = True,
        extra: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Identity:
        """A Keep that it has judged `age` ago, on real SNP hardware unless `changes` to what it tells say otherwise.

        Args:
            life: of the certificate, from now on; it may be over.
            judged: whether the certificate says anything about that.
            extra: further extensions.
        """
        told = claims(
            workload=workload.hex(), valid_until=(self.now + 48 * HOUR).strftime("%Y-%m-%dT%H:%M:%SZ"), **changes
        )
        told["iat"] = int((self.now - age).timestamp())
        markers = tuple(
            word for word, true in (("simulated", changes.get("simulated")),
                                    ("unprotected", changes.get("protected") is False)) if true
        )  # fmt: skip
        if markers:
            told["submods"]["snp"]["ear_status"] = "none"
        leaf = Entity(str(uuid.uuid4()), start=self.now - age - timedelta(minutes=5), end=self.now + life)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives.append(x509.UniformResourceIdentifier(f"urn:uuid:{leaf.subject}"))
        alternatives.append(x509.UniformResourceIdentifier(uri(workload)))
        chain = Chain(self.root, self.issuing, leaf, told if judged else None, markers, alternatives)
        chain.leaf.extensions |= extra or {}
        secret = leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return Identity(secret, chain.built())


def pem(*certificates: bytes) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in certificates)


def client(identity: Identity | None = None) -> ssl.SSLContext:
    """An ordinary client, which may have a certificate and believes everything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        show(context, identity)
    return context


def server(identity: Identity) -> ssl.SSLContext:
    """An ordinary server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    show(context, identity)
    return context
