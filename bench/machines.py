"""Simulated machines of every TEE, and the requests that Keeps on them send: what the Steward is loaded with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.tee import cca, sgx, snp, tdx
from donjon.tee.cca.simulate import SimulatedPlatform as CcaPlatform
from donjon.tee.cca.simulate import SimulatedRealm
from donjon.tee.contract import Roots
from donjon.tee.intel.evidence import encode_evidence
from donjon.tee.intel.simulate import SimulatedIntel, enclave
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Vendor
from donjon.tee.tdx.simulate import td_report

__all__ = ["TEES", "World", "request"]

TEES = ("snp", "sgx", "tdx", "cca")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class World:
    """Makers of hardware with roots of their own, and machines.

    Args:
        roots: TEE to what has to be trusted.
        evidence: TEE to a function that takes a machine's number and the key's SubjectPublicKeyInfo, and gives the
            value of the extension: evidence and, but for CCA, the collateral that goes with it.
    """

    roots: dict[str, Roots]
    evidence: dict[str, Callable[[int, bytes], bytes]]

    @classmethod
    def make(cls, now: datetime, machines: int = 4) -> World:
        """Make keys and machines; a second or more, as AMD's keys are RSA of 4096 bits."""
        vendor = Vendor.make(now - 2 * DAY)
        chips = [vendor.chip(Product.Genoa, now - DAY, seed=bytes([number])) for number in range(machines)]
        crl = vendor.crl(Product.Genoa, now - DAY)
        intel = SimulatedIntel.new(now)
        platforms = [intel.platform() for _ in range(machines)]
        collateral = {name: intel.collateral(platforms[0], name, now) for name in ("sgx", "tdx")}
        arm = [CcaPlatform.new() for _ in range(machines)]
        realm = SimulatedRealm(bytes(32), b"")
        anchors = {name: key for each in arm for name, key in each.roots().anchors.items()}

        def of_snp(number: int, spki: bytes) -> bytes:
            chip = chips[number % machines]
            return snp.encode(chip.report(report_data=snp.key_binding(spki)), chip.vek, [("", crl)])

        def of_sgx(number: int, spki: bytes) -> bytes:
            body = enclave(report_data=sgx.key_binding(spki))
            return encode_evidence(platforms[number % machines].sgx_quote(body), collateral["sgx"])

        def of_tdx(number: int, spki: bytes) -> bytes:
            report = td_report(report_data=tdx.key_binding(spki))
            return encode_evidence(platforms[number % machines].tdx_quote(report), collateral["tdx"])

        def of_cca(number: int, spki: bytes) -> bytes:
            return cca.wrap(arm[number % machines].token(realm, cca.key_binding(spki)))

        return cls(
            {"snp": vendor.roots, "sgx": intel.roots(), "tdx": intel.roots(), "cca": Roots(anchors, simulated=True)},
            {"snp": of_snp, "sgx": of_sgx, "tdx": of_tdx, "cca": of_cca},
        )

    def request(self, tee: str, number: int) -> bytes:
        """A Keep's certificate request: key and signature as Enarx's on that TEE, P-384 on SNP and P-256 elsewhere."""
        key = ec.generate_private_key(ec.SECP384R1() if tee == "snp" else ec.SECP256R1())
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return request(OIDS[tee], self.evidence[tee](number, spki), key)


OIDS = {"snp": snp.OID, "sgx": sgx.OID, "tdx": tdx.OID, "cca": cca.OID}


def request(oid: str, value: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A certificate request that carries this extension."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    digest: Any = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    return builder.sign(key, digest).public_bytes(Encoding.DER)
