"""Simulated Intel hardware: a root, platforms and quotes in the real formats, made on the spot.

    intel = SimulatedIntel.new(now)
    platform = intel.platform()
    quote = platform.sgx_quote(enclave(report_data=...))
    collateral = intel.collateral(platform, "sgx", now, TcbStatus.SW_HARDENING_NEEDED)
    sgx.verify(sgx.parse(quote)[0], collateral, intel.roots(), now)

Everything is as Intel makes it, but for keys and for what names the QE, so verification runs the same code; every state
of the TCB can be had by asking for it. Tests take the pieces apart, change one thing and sign again: certificates are
made by `Authority.issue`, lists by `tcb_info`, `qe_identity` and `SimulatedIntel.sign`, CRLs by `Authority.crl`.

It proves nothing to anybody who has not put `roots()` among their anchors, and says so: `Roots.simulated`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from donjon.errors import ParseError, UsageError
from donjon.tee.contract import Roots
from donjon.tee.intel import pck
from donjon.tee.intel import x509 as pki
from donjon.tee.intel.collateral import Collateral, Signed, to_json
from donjon.tee.intel.layout import (
    INTEL_QE,
    PCK_CHAIN,
    Attributes,
    EnclaveReport,
    MiscSelect,
    Signature,
    write_signature,
)
from donjon.tee.intel.p256 import point, sign
from donjon.tee.intel.pck import Platform, SgxType
from donjon.tee.intel.tcb import TcbStatus
from donjon.tee.intel.verify import ROOT
from donjon.tee.simulated import State, Word
from donjon.wire import pack
from donjon.wire.der import (
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    encode,
    integer_content,
    oid_content,
)

TeeName = Literal["sgx", "tdx"]

LIFETIME = timedelta(days=7 * 365)
FRESH = timedelta(days=30)
"""How long CRLs and lists hold, as Intel's do."""
EVALUATION = 20
ADVISORY = "SIMULATED-SA-00001"
"""Applies where a platform is not up to date; MODULE_ADVISORY where its TDX module, QE_ADVISORY where its QE is not."""
MODULE_ADVISORY = "SIMULATED-SA-00002"
QE_ADVISORY = "SIMULATED-SA-00003"
QE_SIGNER = hashlib.sha256(b"the signer of simulated quoting enclaves").digest()
QE_PRODUCTS: Mapping[TeeName, int] = {"sgx": 1, "tdx": 2}
MODULE_VERSION = 1
MODULE_SVN = 6
_RELAUNCH = (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)


@dataclass(frozen=True)
class Authority:
    """A certificate with its key.

    Args:
        der: the certificate. chain: it and those above it, the root last.
    """

    key: EllipticCurvePrivateKey
    der: bytes
    chain: tuple[bytes, ...]

    def issue(
        self,
        name: str,
        start: datetime,
        *,
        key: EllipticCurvePrivateKey | None = None,
        path_length: int | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
        end: datetime | None = None,
        **changes: Any,
    ) -> Authority:
        """Issue a certificate below this one.

        Args:
            name: its common name. path_length: makes it a CA; None makes it a leaf.
            changes: for tests, see `certificate`.
        """
        key = key or generate_private_key(SECP256R1())
        der = certificate(
            name,
            key,
            self.name,
            self.key,
            start,
            end or start + LIFETIME,
            path_length=path_length,
            extensions=extensions,
            **changes,
        )
        return Authority(key, der, (der, *self.chain))

    def crl(
        self, start: datetime, revoked: Sequence[int] = (), *, end: datetime | None = None, **changes: Any
    ) -> bytes:
        """Sign a revocation list.

        Args:
            revoked: serial numbers. end: 30 days later by default.
            changes: for tests: `signer` (another key), `issuer` (another name), `extensions`, `algorithm`.
        """
        signer: EllipticCurvePrivateKey = changes.pop("signer", self.key)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(changes.pop("issuer", self.name))
            .last_update(start)
            .next_update(end or start + FRESH)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for value, critical in changes.pop("extensions", ()):
            builder = builder.add_extension(value, critical=critical)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
            builder = builder.add_revoked_certificate(entry.build())
        algorithm = changes.pop("algorithm", SHA256())
        _refuse(changes)
        return builder.sign(signer, algorithm).public_bytes(Encoding.DER)

    @property
    def name(self) -> x509.Name:
        """Its subject."""
        return pki.certificate(self.der).subject

    @property
    def serial(self) -> int:
        """Its serial number."""
        return pki.certificate(self.der).serial_number


@dataclass(frozen=True)
class SimulatedIntel:
    """The root, its CAs, and who signs the lists."""

    root: Authority
    processor_ca: Authority
    platform_ca: Authority
    tcb_signer: Authority

    @classmethod
    def new(cls, now: datetime) -> SimulatedIntel:
        """Make keys and certificates, valid from a day before `now` on."""
        return cls._made([generate_private_key(SECP256R1()) for _ in range(4)], now)

    def signed_anew(self, now: datetime) -> SimulatedIntel:
        """The same keys with new certificates."""
        return self._made([authority.key for authority in self.authorities().values()], now)

    @classmethod
    def _made(cls, keys: Sequence[EllipticCurvePrivateKey], now: datetime) -> SimulatedIntel:
        start = now - timedelta(days=1)
        key, processor, platform, signer = keys
        name = subject(pck.ROOT_NAME)
        der = certificate(pck.ROOT_NAME, key, name, key, start, start + LIFETIME, path_length=1)
        root = Authority(key, der, (der,))
        return cls(
            root,
            root.issue(pck.CA_NAMES[0], start, key=processor, path_length=0),
            root.issue(pck.CA_NAMES[1], start, key=platform, path_length=0),
            root.issue(pck.TCB_SIGNER_NAME, start, key=signer),
        )

    def roots(self) -> Roots:
        """The anchor to verify with."""
        return Roots({ROOT: self.root.der}, simulated=True)

    def platform(self, numbers: Platform | None = None, *, ca: str = "platform", **changes: Any) -> SimulatedPlatform:
        """Make a machine.

        Args:
            numbers: what its PCK certificate says; `platform_numbers()` by default. ca: "platform" or "processor".
            changes: for tests: `start` and whatever `Authority.issue` takes.
        """
        authority = self.platform_ca if ca == "platform" else self.processor_ca
        numbers = numbers or platform_numbers()
        start = changes.pop("start", pki.certificate(self.root.der).not_valid_before_utc)
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(pck.EXTENSION), sgx_extension(numbers))
        leaf = authority.issue(
            changes.pop("name", pck.LEAF_NAME), start, extensions=changes.pop("extensions", (extension,)), **changes
        )
        return SimulatedPlatform(numbers, leaf, generate_private_key(SECP256R1()))

    def sign(self, body: Mapping[str, Any] | bytes, signer: Authority | None = None) -> Signed:
        """Sign one of the lists, written as Intel writes it."""
        signer = signer or self.tcb_signer
        data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        return Signed(data, sign(data, signer.key), signer.chain)

    def collateral(
        self,
        platform: SimulatedPlatform,
        tee: TeeName,
        now: datetime,
        status: TcbStatus = TcbStatus.UP_TO_DATE,
        *,
        qe_status: TcbStatus = TcbStatus.UP_TO_DATE,
        module_status: TcbStatus = TcbStatus.UP_TO_DATE,
    ) -> Collateral:
        """Everything that verification needs, published a day before `now`.

        Args:
            status: the state that all quotes of this platform shall have, as long as QE and module are up to date. The
                relaunch states need a TD report 1.5 as `td_report` makes it, and bring their own `module_status`.
            qe_status: UpToDate, OutOfDate, Revoked, or NotSupported; module_status likewise.
        """
        start = now - timedelta(days=1)
        if status in _RELAUNCH:
            module_status = TcbStatus.OUT_OF_DATE
            settings = status is TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
            status = TcbStatus.CONFIGURATION_NEEDED if settings else TcbStatus.UP_TO_DATE
        return Collateral(
            (self.root.crl(start), self.processor_ca.crl(start), self.platform_ca.crl(start)),
            self.sign(tcb_info(platform.numbers, tee, start, status, module_status)),
            self.sign(qe_identity(tee, start, qe_status)),
        )

    def dump(self) -> dict[str, bytes]:
        """Keys and certificates as PEM, by names, for keeping; whoever keeps them keeps the keys from others."""
        found = {}
        for name, authority in self.authorities().items():
            private = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            found[f"{name}.pem"] = pki.pem(authority.chain[:1]).encode() + private
        return found

    @classmethod
    def load(cls, kept: Mapping[str, bytes]) -> SimulatedIntel:
        """Read what `dump` gave.

        Raises:
            ParseError: a name is missing, or does not hold a certificate and its P-256 key.
        """
        made: dict[str, Authority] = {}
        for name in ("root", "processor_ca", "platform_ca", "tcb_signer"):
            text, mark, private = kept.get(f"{name}.pem", b"").partition(b"-----BEGIN PRIVATE KEY-----")
            (der, *more) = pki.certificates(text, name)
            try:
                key = load_pem_private_key(mark + private, None)
            except ValueError as error:
                raise ParseError(f"{name}.pem: expected a private key, got {error}") from error
            held = pki.certificate(der, name).public_key()
            if more or not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != held:
                raise ParseError(f"{name}.pem: expected one certificate and its P-256 key, got others")
            above = made["root"].chain if made else ()
            made[name] = Authority(key, der, (der, *above))
        return cls(**made)

    def authorities(self) -> dict[str, Authority]:
        """All of them, the root first."""
        return {
            "root": self.root,
            "processor_ca": self.processor_ca,
            "platform_ca": self.platform_ca,
            "tcb_signer": self.tcb_signer,
        }


@dataclass(frozen=True)
class SimulatedPlatform:
    """A machine with its PCK and a quoting enclave with an attestation key."""

    numbers: Platform
    pck: Authority
    attestation_key: EllipticCurvePrivateKey
    authentication_data: bytes = field(default=bytes(range(32)))

    def sgx_quote(self, body: EnclaveReport, **changes: Any) -> bytes:
        """A quote of version 3 for an enclave; `changes` as in `quote`."""
        header = b"".join(
            (
                (3).to_bytes(2, "little"),
                (2).to_bytes(2, "little"),
                bytes(4),
                (8).to_bytes(2, "little"),
                self.numbers.pcesvn.to_bytes(2, "little"),
                INTEL_QE,
                bytes(20),
            )
        )
        return self.quote("sgx", header + pack(body), wrapped=False, **changes)

    def tdx_quote(self, report: bytes, version: Literal[4, 5] = 5, **changes: Any) -> bytes:
        """A quote for a TD.

        Args:
            report: the TD report's bytes: 584 for 1.0, 648 for 1.5, which needs version 5.
            changes: as in `quote`.
        """
        if len(report) != 584 and (len(report) != 648 or version == 4):
            raise UsageError(f"TD report: expected 584 bytes, or 648 in version 5, got {len(report)}")
        header = b"".join((version.to_bytes(2, "little"), b"\2\0\x81\0\0\0", bytes(4), INTEL_QE, bytes(20)))
        if version == 5:
            body_type = 2 if len(report) == 584 else 3
            header += body_type.to_bytes(2, "little") + len(report).to_bytes(4, "little")
        return self.quote("tdx", header + report, wrapped=True, **changes)

    def quote(self, tee: TeeName, signed: bytes, *, wrapped: bool, **changes: Any) -> bytes:
        """Sign a quote's header and body.

        Args:
            changes: for tests: `qe` (fields of the QE report, before it is signed), `qe_signer` (another key than the
                PCK), `signer` (another than the attestation key), `certification` (bytes), `certification_type`.
        """
        key = point(self.attestation_key.public_key())
        digest = hashlib.sha256(key + self.authentication_data).digest()
        qe = enclave(
            mr_signer=QE_SIGNER,
            mr_enclave=hashlib.sha256(b"the simulated quoting enclave").digest(),
            isv_prod_id=QE_PRODUCTS[tee],
            isv_svn=8,
            attributes=Attributes.INIT | Attributes.MODE64BIT | Attributes.PROVISION_KEY,
            report_data=digest + bytes(32),
        )
        qe = replace(qe, **changes.pop("qe", {}))
        qe_bytes = pack(qe)
        signature = Signature(
            quote_signature=sign(signed, changes.pop("signer", self.attestation_key)),
            attestation_key=key,
            key=self.attestation_key.public_key(),
            qe_report_signed=qe_bytes,
            qe_report=qe,
            qe_signature=sign(qe_bytes, changes.pop("qe_signer", self.pck.key)),
            authentication_data=self.authentication_data,
            certification_type=changes.pop("certification_type", PCK_CHAIN),
            chain=self.pck.chain,
        )
        certification = changes.pop("certification", pki.pem(self.pck.chain).encode() + b"\0")
        _refuse(changes)
        return signed + write_signature(signature, certification, wrapped=wrapped)


def platform_numbers(**changes: Any) -> Platform:
    """What a machine's PCK certificate says, with changes."""
    numbers = Platform(
        ppid=os.urandom(16),
        components=(4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0),
        pcesvn=13,
        cpusvn=bytes((4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)),
        pceid=bytes(2),
        fmspc=bytes.fromhex("d017d017d017"),
        sgx_type=SgxType.SCALABLE,
        platform_instance=os.urandom(16),
        dynamic_platform=True,
        cached_keys=True,
        smt=True,
    )
    return replace(numbers, **changes)


def enclave(**changes: Any) -> EnclaveReport:
    """An enclave in its production mode, with KSS, with changes."""
    report = EnclaveReport(
        cpu_svn=bytes((4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)),
        misc_select=MiscSelect(0),
        isv_ext_prod_id=bytes(16),
        attributes=Attributes.INIT | Attributes.MODE64BIT | Attributes.KSS,
        xfrm=0xE7,
        mr_enclave=hashlib.sha256(b"a simulated enclave").digest(),
        mr_signer=hashlib.sha256(b"the signer of simulated enclaves").digest(),
        config_id=bytes(64),
        isv_prod_id=0,
        isv_svn=1,
        config_svn=0,
        isv_family_id=bytes(16),
        report_data=bytes(64),
    )
    return replace(report, **changes)


def tcb_info(
    numbers: Platform,
    tee: TeeName,
    start: datetime,
    status: TcbStatus = TcbStatus.UP_TO_DATE,
    module_status: TcbStatus = TcbStatus.UP_TO_DATE,
    **changes: Any,
) -> dict[str, Any]:
    """TCB info in which a platform with these numbers has this status.

    Args:
        start: its issue date; it holds for 30 days.
        changes: members that replace those made here.
    """
    tdx = tee == "tdx"
    own = _level(numbers, status, start, tdx)
    newer = _level(numbers, TcbStatus.UP_TO_DATE, start, tdx)
    newer["tcb"]["pcesvn"] = numbers.pcesvn + 1
    levels = {TcbStatus.UP_TO_DATE: [own], TcbStatus.NOT_SUPPORTED: [newer]}.get(status, [newer, own])
    made: dict[str, Any] = {
        "id": tee.upper(),
        "version": 3,
        "issueDate": _time(start),
        "nextUpdate": _time(start + FRESH),
        "fmspc": numbers.fmspc.hex().upper(),
        "pceId": numbers.pceid.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": EVALUATION,
    }
    if tdx:
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        levels_of_module = _enclave_levels(MODULE_SVN, module_status, start, MODULE_ADVISORY)
        identity = {"id": f"TDX_{MODULE_VERSION:02X}", **module, "tcbLevels": levels_of_module}
        made |= {"tdxModule": module, "tdxModuleIdentities": [identity]}
    return made | {"tcbLevels": levels} | changes


def qe_identity(
    tee: TeeName, start: datetime, status: TcbStatus = TcbStatus.UP_TO_DATE, **changes: Any
) -> dict[str, Any]:
    """The QE identity in which the simulated QE has this status; `changes` as in `tcb_info`."""
    return {
        "id": "QE" if tee == "sgx" else "TD_QE",
        "version": 2,
        "issueDate": _time(start),
        "nextUpdate": _time(start + FRESH),
        "tcbEvaluationDataNumber": EVALUATION,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": QE_PRODUCTS[tee],
        "tcbLevels": _enclave_levels(8, status, start, QE_ADVISORY),
    } | changes


def certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
    *,
    path_length: int | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    **changes: Any,
) -> bytes:
    """Make a certificate as Intel's look.

    Args:
        path_length: how many CAs may stand below; None for a leaf.
        changes: for tests: `constraints`, `usage` (these extensions, or None to leave them out), `critical` (a further
            extension), `public_key`, `algorithm`, `serial`.
    """
    ca = path_length is not None
    constraints = changes.pop("constraints", x509.BasicConstraints(ca, path_length))
    usage = changes.pop("usage", key_usage(ca=ca))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(name))
        .issuer_name(issuer)
        .public_key(changes.pop("public_key", key.public_key()))
        .serial_number(changes.pop("serial", None) or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for value in (usage, constraints, changes.pop("critical", None)):
        if value is not None:
            builder = builder.add_extension(value, critical=True)
    for value in extensions:
        builder = builder.add_extension(value, critical=False)
    algorithm = changes.pop("algorithm", SHA256())
    _refuse(changes)
    return builder.sign(issuer_key, algorithm).public_bytes(Encoding.DER)


def key_usage(*, ca: bool, **changes: bool) -> x509.KeyUsage:
    """What a CA's key may do, or that of a leaf."""
    usage: dict[str, bool] = {
        "digital_signature": not ca,
        "content_commitment": not ca,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": ca,
        "crl_sign": ca,
        "encipher_only": False,
        "decipher_only": False,
    }
    return x509.KeyUsage(**(usage | changes))


def subject(name: str) -> x509.Name:
    """A Name as Intel writes it."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Simulated"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "CA"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


def sgx_extension(numbers: Platform) -> bytes:
    """The SGX extension of a PCK certificate; the opposite of `pck.parse`."""
    tcb = [
        *(_member(f"2.{index}", INTEGER, integer_content(svn)) for index, svn in enumerate(numbers.components, 1)),
        _member("2.17", INTEGER, integer_content(numbers.pcesvn)),
        _member("2.18", OCTET_STRING, numbers.cpusvn),
    ]
    fields = [
        _member("1", OCTET_STRING, numbers.ppid),
        _member("2", SEQUENCE, *tcb),
        _member("3", OCTET_STRING, numbers.pceid),
        _member("4", OCTET_STRING, numbers.fmspc),
        _member("5", ENUMERATED, bytes([tuple(SgxType).index(numbers.sgx_type)])),
    ]
    if numbers.platform_instance is not None:
        fields.append(_member("6", OCTET_STRING, numbers.platform_instance))
    settings = (numbers.dynamic_platform, numbers.cached_keys, numbers.smt)
    members = [
        _member(f"7.{index}", BOOLEAN, b"\xff" if value else b"\0")
        for index, value in enumerate(settings, 1)
        if value is not None
    ]
    if members:
        fields.append(_member("7", SEQUENCE, *members))
    return encode(SEQUENCE, *fields)


def _member(arc: str, tag: int, *contents: bytes) -> bytes:
    identifier = encode(OID, oid_content(f"{pck.EXTENSION}.{arc}"))
    return encode(SEQUENCE, identifier, encode(tag, *contents))


def _level(numbers: Platform, status: TcbStatus, start: datetime, tdx: bool) -> dict[str, Any]:
    """The level that these numbers reach exactly."""
    tcb: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn} for svn in numbers.components], "pcesvn": numbers.pcesvn}
    if tdx:
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in TDX_COMPONENTS]
    level: dict[str, Any] = {"tcb": tcb, "tcbDate": _time(start - timedelta(days=200)), "tcbStatus": str(status)}
    if status is not TcbStatus.UP_TO_DATE:
        level["advisoryIDs"] = [ADVISORY]
    return level


TDX_COMPONENTS = (MODULE_SVN, 0, 2, *bytes(13))
"""What a level demands of TEE_TCB_SVN: the module's ISVSVN (where it has no version), nothing, microcode."""
TEE_TCB_SVN = bytes((MODULE_SVN, MODULE_VERSION, 2, *bytes(13)))
NEWER_TEE_TCB_SVN = bytes((MODULE_SVN + 1, MODULE_VERSION, 2, *bytes(13)))
"""Of a machine whose TDX module has been updated since."""


def _enclave_levels(svn: int, status: TcbStatus, start: datetime, advisory: str) -> list[dict[str, Any]]:
    """Levels in which an enclave or module of this ISVSVN has this status."""

    def level(isv_svn: int, named: TcbStatus) -> dict[str, Any]:
        made: dict[str, Any] = {
            "tcb": {"isvsvn": isv_svn},
            "tcbDate": _time(start - timedelta(days=200)),
            "tcbStatus": str(named),
        }
        return made if named is TcbStatus.UP_TO_DATE else made | {"advisoryIDs": [advisory]}

    if status is TcbStatus.UP_TO_DATE:
        return [level(svn, status)]
    newer = level(svn + 1, TcbStatus.UP_TO_DATE)
    return [newer] if status is TcbStatus.NOT_SUPPORTED else [newer, level(svn, status)]


def _time(value: datetime) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}"


def _refuse(changes: Mapping[str, Any]) -> None:
    """Unknown names of changes are mistakes of the caller."""
    if changes:
        raise UsageError(f"simulated Intel: expected known changes, got {', '.join(changes)}")


# For donjon.sim, see donjon.tee.simulated


@dataclass(frozen=True)
class Maker:
    """Simulated Intel, and the keys of one machine of its making."""

    intel: SimulatedIntel
    pck_key: EllipticCurvePrivateKey
    attestation_key: EllipticCurvePrivateKey

    def machine(self, state: State, now: datetime) -> SimulatedPlatform:
        """The machine in a state; its numbers are always the same, its PCK certificate is new."""
        name = hashlib.sha256(self.intel.root.der).digest()
        several = state["packages"] == "platform-ca"
        numbers = platform_numbers(
            ppid=name[:16],
            platform_instance=name[16:] if several else None,
            sgx_type=SgxType.SCALABLE if several else SgxType.STANDARD,
            dynamic_platform=True if several else None,
            cached_keys=True if several else None,
            smt=True if several else None,
        )
        start = now - timedelta(days=1)
        end = start
        if state["pck"] == "pck-expired":
            start -= LIFETIME
        else:
            end += LIFETIME
        ca = "platform" if several else "processor"
        made = self.intel.platform(numbers, ca=ca, key=self.pck_key, start=start, end=end)
        return replace(made, attestation_key=self.attestation_key)

    def collateral(self, state: State, machine: SimulatedPlatform, tee: TeeName, now: datetime) -> Collateral:
        """What Intel has published about the machine, and a request brings along."""
        if state["collateral"] == "no-collateral":
            return Collateral()
        at = now - timedelta(days=60) if state["collateral"] == "stale" else now
        states = {key: TcbStatus(state.get(key, "").partition("-")[2] or "UpToDate") for key in ("qe", "module")}
        made = self.intel.collateral(
            machine,
            tee,
            at,
            TcbStatus(state["tcb"]),
            qe_status=states["qe"],
            module_status=states["module"],
        )
        start = at - timedelta(days=1)
        if state["pck"] == "pck-revoked":
            above = self.intel.platform_ca if state["packages"] == "platform-ca" else self.intel.processor_ca
            made = replace(made, crls=(made.crls[0], above.crl(start, [machine.pck.serial])))
        elif state["pck"] == "ca-revoked":
            serials = [self.intel.platform_ca.serial, self.intel.processor_ca.serial]
            made = replace(made, crls=(self.intel.root.crl(start, serials), *made.crls[1:]))
        return replace(made, qe_identity=None) if state["collateral"] == "no-qe-identity" else made


MAKER = "intel"
# fmt: off
_TCB = {
    TcbStatus.UP_TO_DATE: "Intel's lists know nothing against the platform",
    TcbStatus.SW_HARDENING_NEEDED: "the guest must have been built with mitigations",
    TcbStatus.CONFIGURATION_NEEDED: "the machine's owner must have switched something",
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: "both",
    TcbStatus.OUT_OF_DATE: "known weaknesses are not fixed",
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: "they are not, and something must be switched",
    TcbStatus.REVOKED: "keys of this level may be known to others",
    TcbStatus.NOT_SUPPORTED: "below every level",
}
TCB_WORDS = tuple(
    Word("tcb", str(status), about, "" if status is TcbStatus.UP_TO_DATE else "tcb.status")
    for status, about in _TCB.items()
)
QE_WORDS = (
    Word("qe", "qe-UpToDate", "the quoting enclave is current"),
    Word("qe", "qe-OutOfDate", "it has known weaknesses", "tcb.status"),
    Word("qe", "qe-Revoked", "its keys may be known to others", "tcb.status"),
    Word("qe", "qe-NotSupported", "it is below every level", "tcb.status"),
)
MODULE_WORDS = (
    Word("module", "module-UpToDate", "the TDX module is current"),
    Word("module", "module-OutOfDate", "it has known weaknesses", "tcb.status"),
    Word("module", "module-Revoked", "nobody should rely on it", "tcb.status"),
    Word("module", "module-NotSupported", "it is below every level", "tcb.status"),
)
MACHINE_WORDS = (
    Word("pck", "pck-certified", "the platform's certificate is good"),
    Word("pck", "pck-expired", "it has ended", "pck.validity"),
    Word("pck", "pck-revoked", "its issuer's list names it", "pck.not_revoked"),
    Word("pck", "ca-revoked", "the root's list names its issuer", "pck_ca.not_revoked"),
    Word("packages", "platform-ca", "a server, certified by the Platform CA"),
    Word("packages", "processor-ca", "a machine with one processor, certified by the Processor CA"),
    Word("collateral", "fresh", "evidence brings all that Intel has published about it"),
    Word("collateral", "stale", "lists and CRLs have ended", "root_ca_crl.validity"),
    Word("collateral", "no-qe-identity", "as Enarx's requests: without QE identity", "qe_identity.present"),
    Word("collateral", "no-collateral", "the quote alone", "root_ca_crl.present"),
)
# fmt: on
_KEYS = ("pck", "attestation")


def make(now: datetime) -> dict[str, bytes]:
    """Keys and certificates of a new maker."""
    keys = (generate_private_key(SECP256R1()), generate_private_key(SECP256R1()))
    return dump(Maker(SimulatedIntel.new(now), *keys))


def dump(maker: Maker) -> dict[str, bytes]:
    """Its files, PEM."""
    found = {f"intel-{name}": data for name, data in maker.intel.dump().items()}
    for name, key in zip(_KEYS, (maker.pck_key, maker.attestation_key), strict=True):
        found[f"intel-{name}.key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return found


def open_maker(files: Mapping[str, bytes]) -> Maker:
    """The maker again.

    Raises:
        ParseError: a file is missing, or is not what `dump` gave.
    """
    intel = SimulatedIntel.load({name.removeprefix("intel-"): data for name, data in files.items()})
    keys = []
    for name in _KEYS:
        try:
            key = load_pem_private_key(files.get(f"intel-{name}.key", b""), None)
        except (ValueError, TypeError) as error:
            raise ParseError(f"intel-{name}.key: expected a private key: {error}") from error
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ParseError(f"intel-{name}.key: expected a key on P-256")
        keys.append(key)
    return Maker(intel, *keys)


def renew(maker: Maker, now: datetime) -> Maker:
    """The maker with certificates that hold at `now` and a year on, for the same keys."""
    held = [pki.certificate(authority.der) for authority in maker.intel.authorities().values()]
    start = max(item.not_valid_before_utc for item in held)
    end = min(item.not_valid_after_utc for item in held)
    if start <= now <= end - timedelta(days=365):
        return maker
    return replace(maker, intel=maker.intel.signed_anew(now))


def roots(maker: Maker) -> Roots:
    """What somebody has to trust in order to believe it."""
    return maker.intel.roots()


def published(maker: Maker, state: State, tee: TeeName, now: datetime) -> bytes:
    """What Intel has published about the machine, as a QuoteCollateralV3 in JSON.

    Raises:
        UsageError: the state leaves out a part of it.
    """
    machine = maker.machine(state, now)
    found = maker.collateral(state, machine, tee, now)
    if not (found.tcb_info and found.qe_identity):
        raise UsageError(f"Intel: not all collateral is there in the state {state['collateral']}")
    return to_json(found, machine.pck.chain).encode()
