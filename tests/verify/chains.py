"""Chains of certificates for tests: right ones as a Steward makes them, and wrong ones with one thing changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from donjon.steward import result
from donjon.steward.policy import parse
from donjon.steward.procedure import Trust, decide
from donjon.tee import cca
from donjon.tee.contract import Roots
from donjon.verify import Demands
from donjon.verify.result import uri
from tests.steward.requests import NOW, Realm

WORKLOAD = bytes(range(1, 33))
OTHER = bytes(range(2, 34))
NAME = "shop.example.com"
DAY = timedelta(days=1)
LEEWAY = timedelta(minutes=5)

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Extension = tuple[x509.ExtensionType, bool]
Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | hashes.SHA224

SIGNS = {"digital_signature": True}
ISSUES = {"key_cert_sign": True, "crl_sign": True}


def usage(**allowed: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Entity:
    """A certificate to be made, with its key."""

    subject: str
    key: Key = field(default_factory=new_key)
    start: datetime = NOW - LEEWAY
    end: datetime = NOW + DAY
    extensions: dict[str, Extension] = field(default_factory=dict)
    digest: Digest | None = field(default_factory=hashes.SHA256)
    issuer: str = ""

    def signed(self, by: Entity) -> bytes:
        """In DER."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(self.subject))
            .issuer_name(_name(self.issuer or by.subject))
            .serial_number(x509.random_serial_number())
            .public_key(self.key.public_key())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
        )
        for value, critical in self.extensions.values():
            builder = builder.add_extension(value, critical)
        digest = None if isinstance(by.key, ed25519.Ed25519PrivateKey) else self.digest
        return builder.sign(by.key, digest).public_bytes(Encoding.DER)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def unknown(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def authority(subject: str, below: int | None) -> Entity:
    """As `donjon.steward.authority` makes them."""
    found = Entity(subject, end=NOW + 365 * DAY)
    found.extensions = {
        "constraints": (x509.BasicConstraints(ca=True, path_length=below), True),
        "usage": (usage(**ISSUES), True),
    }
    return found


def claims(**changes: Any) -> dict[str, Any]:
    """What a Steward says of a real SNP machine; `changes` are made to the attester's claims."""
    told = {
        "product": "Genoa",
        "measurement": "ab" * 48,
        "workload": WORKLOAD.hex(),
        "tcb": {"snp": 24, "microcode": 84, "name": "x"},
        "claims": {"vmpl": 0, "debug": False},
        "valid_until": "2026-06-20T00:00:00Z",
        "simulated": False,
        "protected": True,
        "nonce": True,
        "notes": [],
    }
    return {
        "eat_profile": result.PROFILE,
        "iat": int(NOW.timestamp()),
        "ear_verifier_id": {"developer": "Donjon", "build": "test 1"},
        "submods": {"snp": {"ear_status": "affirming", "ear_attester_claims": {**told, **changes}}},
    }


def appraisal(told: dict[str, Any]) -> dict[str, Any]:
    """The part about the one TEE."""
    found: dict[str, Any] = next(iter(told["submods"].values()))
    return found


@dataclass
class Chain:
    """Root, issuing authority and leaf: right as they are; a test changes one thing and asks for `built`."""

    root: Entity = field(default_factory=lambda: authority("Test Root", 1))
    issuing: Entity = field(default_factory=lambda: authority("Test Issuing", 0))
    leaf: Entity = field(default_factory=lambda: Entity(str(uuid.uuid4())))
    told: dict[str, Any] | None = field(default_factory=claims)
    markers: tuple[str, ...] = ()
    names: list[x509.GeneralName] = field(
        default_factory=lambda: [
            x509.UniformResourceIdentifier("urn:uuid:5a3c3d26-7a4b-4d2c-9b58-2d6a4c5f0e11"),
            x509.DNSName(NAME),
            x509.UniformResourceIdentifier(uri(WORKLOAD)),
        ]
    )

    def __post_init__(self) -> None:
        self.leaf.extensions = {
            "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
            "usage": (usage(**SIGNS), True),
            "purposes": (
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False,
            ),
        }  # fmt: skip

    @property
    def anchor(self) -> bytes:
        """Its root in DER; each call makes another one of the same key."""
        return self.root.signed(self.root)

    def built(self) -> tuple[bytes, bytes]:
        """Leaf and issuing certificate."""
        extra: dict[str, Extension] = {}
        if self.names:
            extra["names"] = (x509.SubjectAlternativeName(self.names), False)
        if self.told is not None:
            extra["result"] = (unknown(result.CMW, result.write_cmw(self.told)), False)
        if self.markers:
            extra["markers"] = (unknown(result.MARKERS, result.write_markers(self.markers)), False)
        leaf = replace(self.leaf, extensions={**extra, **self.leaf.extensions})
        return leaf.signed(self.issuing), self.issuing.signed(self.root)

    def demands(self, **more: Any) -> Demands:
        return Demands(anchors=(self.anchor,), **more)


@cache
def realm() -> Realm:
    """A simulated machine whose launcher names the workload."""
    return Realm(WORKLOAD)


def simulated_trust() -> Mapping[str, Trust]:
    """What believes it."""
    return {"cca": Trust((Roots({}), realm().roots))}


def with_evidence(
    key: Key | None = None,
    bound: Key | None = None,
    change: Callable[[Entity], None] = lambda _: None,
    oids: Iterable[str] = (cca.OID,),
    now: datetime = NOW,
) -> bytes:
    """A certificate that a Keep signs for itself, with simulated evidence.

    Args:
        bound: the key that the evidence binds, if it is another one.
        oids: of the extensions in which the evidence stands.
    """
    keep = Entity("localhost", key or new_key(), now - LEEWAY, now + DAY)
    keep.extensions = {
        "usage": (usage(**SIGNS), True),
        "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
        "names": (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),
    }
    subject = bound or keep.key
    public = subject.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    token = cca.wrap(realm().platform.token(realm().realm, cca.key_binding(public)))
    for oid in oids:
        keep.extensions[oid] = (unknown(oid, token), False)
    change(keep)
    return keep.signed(keep)


def granted(key: ec.EllipticCurvePrivateKey, workload: bytes = WORKLOAD, now: datetime = NOW) -> Any:
    """What a real Steward's procedure grants to a Keep with this key on simulated hardware."""
    source = realm() if workload == WORKLOAD else Realm(workload)
    text = f'accept_unattested = true\n[[workload]]\ndigest = ["{workload.hex()}"]\nnames = ["{NAME}"]\n'
    return decide(source.request(key=key), source.trust, parse(text), now).require()


def status_none(chain: Chain, **changes: bool) -> None:
    """Make of a real machine one that is simulated, or not protected, and said to be."""
    chain.told = claims(**changes)
    appraisal(chain.told)["ear_status"] = "none"
    chain.markers = ("simulated",) if changes.get("simulated") else ("unprotected",)
