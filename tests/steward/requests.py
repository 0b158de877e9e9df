"""Requests as Keeps make them, for tests: made with another library than the one that reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.steward.procedure import Trust
from donjon.tee import cca
from donjon.tee.cca.simulate import SimulatedPlatform, SimulatedRealm
from donjon.tee.contract import Roots

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
KVM = "1.3.6.1.4.1.58270.1.1"
VECTORS = Path(__file__).parent.parent / "vectors"
REAL = {
    "snp": VECTORS / "snp/steward-milan-v2/request.csr",
    "xeon": VECTORS / "sgx/steward-xeon-icelake/request.csr",
    "i5": VECTORS / "sgx/steward-i5-icelake/request.csr",
}
SNP_AT = datetime(2023, 1, 15, tzinfo=UTC)
SGX_AT = datetime(2023, 2, 1, tzinfo=UTC)

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def request(
    *extensions: tuple[str, bytes],
    key: Key | None = None,
    critical: bool = False,
    subject: str = "",
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
) -> bytes:
    """A request for these extensions."""
    key = key or new_key()
    name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name))
    for oid, value in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical)
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def kvm_request(key: Key | None = None) -> bytes:
    """What Enarx's Keeps send where there is no TEE."""
    return request((KVM, b""), key=key)


class Realm:
    """A simulated CCA realm that sends requests; its workload is named as a launcher would."""

    def __init__(self, workload: bytes = b"") -> None:
        self.platform = SimulatedPlatform.new()
        self.realm = SimulatedRealm(bytes(32), workload)

    def request(self, binding: Callable[[bytes], bytes] = cca.key_binding, key: Key | None = None) -> bytes:
        key = key or new_key()
        token = self.platform.token(self.realm, binding(spki(key)))
        return request((cca.OID, cca.wrap(token)), key=key)

    @property
    def roots(self) -> Roots:
        return self.platform.roots()

    @property
    def trust(self) -> dict[str, Trust]:
        """The vendor's roots and these."""
        return {"cca": Trust((Roots({}), self.roots))}
