"""Simulated AMD hardware: roots made on the spot, chips under them that sign reports. All formats are the real ones.

    vendor = Vendor.make(now)                          # three RSA-4096 keys: takes a second or two
    chip = vendor.chip(Product.Turin, now)
    report = chip.report(report_data=binding)          # 1184 bytes, signed
    evidence, collateral = snp.assemble(report, [chip.vek], [vendor.crl(Product.Turin, now)])
    snp.verify(evidence, collateral, vendor.roots, now)

`vendor.roots` says that it is simulated, and so does everything that is verified with it. The names in certificates are
AMD's but for the organization. One set of RSA keys serves all products: making them takes long, and nobody is deceived.

Everything can be changed before it is signed, so that each check can be violated alone. There is no randomness here
beyond that of making keys and of signing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha512
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from donjon.errors import ParseError, UsageError
from donjon.tee.contract import Roots
from donjon.tee.simulated import Blobs, Measured, Started, State, Word
from donjon.tee.snp import collateral as addresses
from donjon.tee.snp import floors
from donjon.tee.snp import vek as names
from donjon.tee.snp.certtable import write_table
from donjon.tee.snp.evidence import encode, wrap
from donjon.tee.snp.layout import (
    SIGNED,
    Cpuid,
    GuestPolicy,
    Mitigations,
    NoCpuid,
    NoMitigations,
    PlatformInfo,
    Product,
    ReportGuest,
    ReportHead,
    ReportPlatform,
    ReportSignature,
    SignerInfo,
    SigningKey,
    Tcb,
    UnknownMitigations,
)
from donjon.tee.snp.policy import NO_AGENT
from donjon.tee.snp.x509 import BASIC_CONSTRAINTS, COMMON_NAME, CRL_NUMBER, KEY_USAGE, PSS_SHA384, RSA_BITS, SALT
from donjon.wire import der, pack

ORGANIZATION = "Donjon simulated hardware"
YEAR = timedelta(days=365)

CPUIDS = {
    Product.Milan: (0x19, 0x01, 1),
    Product.Genoa: (0x19, 0x11, 1),
    Product.Turin: (0x1A, 0x02, 1),
}
TCBS = {
    Product.Milan: Tcb(bootloader=4, tee=0, snp=24, microcode=219),
    Product.Genoa: Tcb(bootloader=10, tee=0, snp=23, microcode=84),
    Product.Turin: Tcb(fmc=1, bootloader=1, tee=1, snp=4, microcode=81),
}
"""What a machine with current firmware has: the shipped minimum or more."""
VERSIONS = {Product.Milan: 3, Product.Genoa: 3, Product.Turin: 5}
SERIALS = {"ARK": 0, "ASK": 1, "ASVK": 0x101}


@dataclass(frozen=True, slots=True)
class CertificateFields:
    """What goes into a certificate; the defaults of a VEK are made by `Chip`.

    Args:
        extensions: OID, critical, value.
    """

    serial: int
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: tuple[tuple[str, bool, bytes], ...]
    algorithm: bytes = PSS_SHA384


def name(common_name: str) -> bytes:
    """A distinguished name as AMD writes them, but for the organization."""
    attributes = (
        ("2.5.4.11", der.UTF8_STRING, "Engineering"),
        ("2.5.4.6", der.PRINTABLE_STRING, "US"),
        ("2.5.4.10", der.UTF8_STRING, ORGANIZATION),
        (COMMON_NAME, der.UTF8_STRING, common_name),
    )
    return der.encode(
        der.SEQUENCE,
        *(
            der.encode(
                der.SET,
                der.encode(
                    der.SEQUENCE, der.encode(der.OID, der.oid_content(oid)), der.encode(tag, text.encode("ascii"))
                ),
            )
            for oid, tag, text in attributes
        ),
    )


def time(moment: datetime) -> bytes:
    """A time as RFC 5280 wants it: UTCTime until 2049."""
    moment = moment.astimezone(UTC)
    if moment.year < 2050:
        return der.encode(der.UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return der.encode(der.GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%SZ}".encode())


def number(value: int) -> bytes:
    """An INTEGER."""
    return der.encode(der.INTEGER, der.integer_content(value))


def extension(oid: str, critical: bool, value: bytes) -> bytes:
    """One extension."""
    flag = der.encode(der.BOOLEAN, b"\xff") if critical else b""
    return der.encode(
        der.SEQUENCE, der.encode(der.OID, der.oid_content(oid)), flag, der.encode(der.OCTET_STRING, value)
    )


def sign(tbs: bytes, algorithm: bytes, key: rsa.RSAPrivateKey, salt: int = SALT) -> bytes:
    """Put the signature around the part that is signed."""
    signature = key.sign(tbs, padding.PSS(padding.MGF1(SHA384()), salt), SHA384())
    return der.encode(der.SEQUENCE, tbs, algorithm, der.encode(der.BIT_STRING, b"\0", signature))


def certificate(fields: CertificateFields, key: rsa.RSAPrivateKey, salt: int = SALT) -> bytes:
    """Make a certificate and sign it."""
    tbs = der.encode(
        der.SEQUENCE,
        der.encode(der.context(0), number(2)),
        number(fields.serial),
        fields.algorithm,
        fields.issuer,
        der.encode(der.SEQUENCE, time(fields.not_before), time(fields.not_after)),
        fields.subject,
        fields.spki,
        der.encode(der.context(3), der.encode(der.SEQUENCE, *(extension(*item) for item in fields.extensions))),
    )
    return sign(tbs, fields.algorithm, key, salt)


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """The key's SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Vendor:
    """Three keys, and under them the certificates of every product.

    Args:
        keys: "ARK", "ASK" and "ASVK".
        since: from when on its certificates are valid; they are for 25 years, as AMD's.
        fields: anchors whose certificate is not the usual one: "Milan/ASK" → fields.
        kept: the anchors as they were made before; else they are made when they are asked for.
        vek: the key of every chip; else each chip gets its own.
    """

    keys: Mapping[str, rsa.RSAPrivateKey]
    since: datetime
    fields: Mapping[str, CertificateFields] = field(default_factory=dict)
    kept: Roots | None = None
    vek: ec.EllipticCurvePrivateKey | None = None

    @classmethod
    def make(cls, since: datetime) -> Vendor:
        """Make the keys."""
        return cls({kind: rsa.generate_private_key(65537, RSA_BITS) for kind in SERIALS}, since)

    def usual(self, product: Product, kind: str) -> CertificateFields:
        """The fields of an ARK, ASK or ASVK."""
        subject = {"ARK": f"ARK-{product.name}", "ASK": f"SEV-{product.name}", "ASVK": f"SEV-VLEK-{product.name}"}
        path = b"" if kind == "ARK" else number(0)
        ca = der.encode(der.SEQUENCE, der.encode(der.BOOLEAN, b"\xff"), path)
        usage = der.encode(der.BIT_STRING, b"\x01\x06" if kind == "ARK" else b"\x02\x04")  # keyCertSign, cRLSign
        return CertificateFields(
            serial=(list(Product).index(product) + 1) << 16 | SERIALS[kind],
            issuer=name(subject["ARK"]),
            subject=name(subject[kind]),
            not_before=self.since,
            not_after=self.since + 25 * YEAR,
            spki=public(self.keys[kind]),
            extensions=((BASIC_CONSTRAINTS, True, ca), (KEY_USAGE, True, usage)),
        )

    def anchor(self, product: Product, kind: str) -> bytes:
        """The certificate of an ARK, ASK or ASVK, made anew."""
        fields = self.fields.get(f"{product.name}/{kind}") or self.usual(product, kind)
        return certificate(fields, self.keys["ARK"])

    @cached_property
    def roots(self) -> Roots:
        """What somebody has to trust in order to believe this vendor."""
        if self.kept is not None:
            return self.kept
        anchors = {f"{product.name}/{kind}": self.anchor(product, kind) for product in Product for kind in SERIALS}
        return Roots(anchors, simulated=True)

    def crl(
        self,
        product: Product,
        this_update: datetime,
        next_update: datetime | None = None,
        revoked: Iterable[int] = (),
        extensions: tuple[tuple[str, bool, bytes], ...] = ((CRL_NUMBER, False, b"\x02\x01\x01"),),
        key: rsa.RSAPrivateKey | None = None,
        ends: bool = True,
    ) -> bytes:
        """A revocation list of the product's ARK.

        Args:
            next_update: a year later, if not given.
            revoked: serial numbers.
            key: another one than the ARK's.
            ends: False leaves `next_update` out.
        """
        entries = [der.encode(der.SEQUENCE, number(serial), time(this_update)) for serial in revoked]
        tbs = der.encode(
            der.SEQUENCE,
            number(1),
            PSS_SHA384,
            self.usual(product, "ARK").subject,
            time(this_update),
            time(next_update or this_update + YEAR) if ends else b"",
            der.encode(der.SEQUENCE, *entries) if entries else b"",
            der.encode(der.context(0), der.encode(der.SEQUENCE, *(extension(*item) for item in extensions)))
            if extensions
            else b"",
        )
        return sign(tbs, PSS_SHA384, key or self.keys["ARK"])

    def chip(self, product: Product, since: datetime, kind: SigningKey = SigningKey.VCEK, seed: bytes = b"") -> Chip:
        """A machine with current firmware; its id follows from `seed`, its key is new."""
        size = product.chip_id_size
        identity = sha512(b"simulated chip" + product.name.encode() + seed).digest()[:size]
        return Chip(
            self,
            product,
            kind,
            self.vek or ec.generate_private_key(ec.SECP384R1()),
            identity.ljust(64, b"\0"),
            TCBS[product],
            since,
        )


@dataclass(frozen=True)
class Chip:
    """A machine.

    Args:
        chip_id: 64 bytes.
        tcb: what its key is derived from.
        since: from when on its certificate is valid: 7 years, a VLEK 1.
        changes: fields of its certificate that are not the usual ones.
        without: OIDs of extensions that its certificate lacks.
        extra: extensions that it has instead or beside.
    """

    vendor: Vendor
    product: Product
    kind: SigningKey
    key: ec.EllipticCurvePrivateKey
    chip_id: bytes
    tcb: Tcb
    since: datetime
    changes: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    extra: tuple[tuple[str, bool, bytes], ...] = ()

    def changed(self, **changes: Any) -> Chip:
        """The same machine with other fields in its certificate."""
        return replace(self, changes={**self.changes, **changes})

    def with_extensions(self, *without: str, extra: tuple[tuple[str, bool, bytes], ...] = ()) -> Chip:
        """The same machine with other extensions in its certificate."""
        return replace(self, without=without, extra=extra)

    @cached_property
    def vek(self) -> bytes:
        """The certificate of its key."""
        vlek = self.kind is SigningKey.VLEK
        issuer = self.vendor.usual(self.product, "ASVK" if vlek else "ASK")
        fields = CertificateFields(
            serial=0,
            issuer=issuer.subject,
            subject=name(f"SEV-{self.kind.name}"),
            not_before=self.since,
            not_after=self.since + (YEAR if vlek else 7 * YEAR),
            spki=public(self.key),
            extensions=(*(item for item in self.extensions() if item[0] not in self.without), *self.extra),
        )
        return certificate(replace(fields, **self.changes), self.vendor.keys["ASVK" if vlek else "ASK"])

    def extensions(self) -> tuple[tuple[str, bool, bytes], ...]:
        """Everything that AMD says about a key."""
        turin = self.tcb.fmc is not None
        values = [
            (names.STRUCT_VERSION, number(int(turin))),
            (names.PRODUCT_NAME, der.encode(der.IA5_STRING, self.product.name.encode())),
            *((names.SPL[part], number(spl)) for part, spl in self.tcb.parts().items() if part != "fmc"),
            *((oid, number(0)) for oid in names.SPL_RESERVED[int(turin) :]),
        ]
        if self.tcb.fmc is not None:
            values.append((names.SPL_FMC, number(self.tcb.fmc)))
        if self.kind is SigningKey.VLEK:
            values.append((names.CSP_ID, der.encode(der.IA5_STRING, b"CN=cloud.example")))
        else:
            values.append((names.HW_ID, self.chip_id[: self.product.chip_id_size]))
        return tuple((oid, False, value) for oid, value in values)

    def report(
        self, *, version: int | None = None, key: ec.EllipticCurvePrivateKey | None = None, **rows: Any
    ) -> bytes:
        """A signed report.

        Args:
            version: that of the product's current firmware, if not given.
            key: another one than the machine's.
            rows: rows of the report's tables by name, e.g. report_data=..., policy=..., vmpl=1.
        Raises:
            UsageError: there is no such row, or it cannot have that value.
        """
        version = version or VERSIONS[self.product]
        family, model, stepping = CPUIDS[self.product]
        tcb = self.tcb.write()
        usual: dict[str, Any] = {
            "version": version,
            "guest_svn": 0,
            "policy": GuestPolicy.SMT | GuestPolicy.RESERVED_17,
            "family_id": bytes(16),
            "image_id": bytes(16),
            "vmpl": 0,
            "signature_algo": 1,
            "current_tcb": tcb,
            "platform_info": PlatformInfo.SMT_EN | PlatformInfo.ECC_EN | PlatformInfo.ALIAS_CHECK_COMPLETE,
            "signer_info": SignerInfo(self.kind.value << 2),
            "report_data": bytes(64),
            "measurement": sha512(b"simulated guest").digest()[:48],
            "host_data": bytes(32),
            "id_key_digest": bytes(48),
            "author_key_digest": bytes(48),
            "report_id": sha512(b"simulated report").digest()[:32],
            "report_id_ma": NO_AGENT,
            "reported_tcb": tcb,
            "family": family,
            "model": model,
            "stepping": stepping,
            "chip_id": self.chip_id if self.kind is SigningKey.VCEK else bytes(64),
            "committed_tcb": tcb,
            "current_build": 40,
            "current_minor": 55,
            "current_major": 1,
            "committed_build": 40,
            "committed_minor": 55,
            "committed_major": 1,
            "launch_tcb": tcb,
            "launch_mit_vector": 0x3F,
            "current_mit_vector": 0x3F,
            "undescribed_1f8": bytes(16),
        }
        if unknown := set(rows) - set(usual):
            raise UsageError(f"simulated report: no row of the name {min(unknown)}")
        values = usual | rows
        parts = (
            ReportHead,
            ReportGuest,
            NoCpuid if version == 2 else Cpuid,
            ReportPlatform,
            {4: UnknownMitigations, 5: Mitigations}.get(version, NoMitigations),
        )
        signed = b"".join(pack(_table(part, values)) for part in parts)
        return signed + self.signature(signed, key)

    def signature(self, signed: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """The last 512 bytes of a report."""
        if len(signed) != SIGNED:
            raise UsageError(f"simulated report: expected {SIGNED} bytes to sign, got {len(signed)}")
        r, s = decode_dss_signature((key or self.key).sign(signed, ec.ECDSA(SHA384())))
        return pack(ReportSignature(r=r.to_bytes(72, "little"), s=s.to_bytes(72, "little")))


def _table(part: Any, values: Mapping[str, Any]) -> object:
    """A part of the report, from the rows that are its."""
    return part(**{row: value for row, value in values.items() if row in part.__dataclass_fields__})


# For donjon.sim, see donjon.tee.simulated

MAKER = "amd"
# fmt: off
WORDS = (
    Word("product", "turin", "a processor of the Turin generation"),
    Word("product", "genoa", "of the Genoa generation"),
    Word("product", "milan", "of the Milan generation, which is known to be broken", "policy.products"),
    Word("key", "vcek", "the chip's own key has signed"),
    Word("key", "vlek", "a key of a cloud provider has signed"),
    Word("report", "report-usual", "of the version that the product's current firmware makes"),
    Word("report", "report-2", "of version 2, which does not name its processor"),
    Word("report", "report-3", "of version 3"),
    Word("report", "report-5", "of version 5, with mitigation vectors"),
    Word("firmware", "up-to-date", "firmware at the shipped minimum or above"),
    Word("firmware", "out-of-date", "version numbers one below the shipped minimum", "tcb.reported_minimum"),
    Word("firmware", "provisional", "newer firmware runs that is not committed yet", "policy.allow_provisional"),
    Word("certificate", "key-certified", "the key's certificate is for this chip and TCB"),
    Word("certificate", "key-expired", "it has ended", "chain.vek_validity"),
    Word("certificate", "key-of-other-tcb", "it is for older microcode than is reported", "vek.microcode"),
    Word("certificate", "key-of-other-chip", "it is for another chip", "vek.chip_id"),
    Word("crl", "not-revoked", "a fresh revocation list, with nothing that matters"),
    Word("crl", "revoked", "AMD's list names the ASK, or the ASVK", "crl.revoked"),
    Word("crl", "crl-stale", "the list has ended", "crl.validity"),
    Word("crl", "crl-missing", "there is no list", "policy.crl"),
    Word("sent", "certificates-sent", "the host sends its certificates along with a report"),
    Word("sent", "report-alone", "it sends none, so whoever judges has to have that of the key", "vek.present"),
    Word("guest", "sealed", "a guest whose owner allowed the host nothing"),
    Word("guest", "debug", "the host may read and change it", "policy.allow_debug"),
    Word("guest", "migratable", "a migration agent may move it", "policy.allow_migration"),
    Word("guest", "vmpl-1", "the report was asked for by less privileged code", "policy.vmpl"),
    Word("machine", "checked", "memory was checked for aliases at boot"),
    Word("machine", "unchecked", "it was not (BadRAM)", "policy.alias_check"),
    Word("machine", "masked", "the host hides the chip's id", "policy.allow_masked_chip_id"),
)
# fmt: on
_KINDS = {"vcek": SigningKey.VCEK, "vlek": SigningKey.VLEK}
_USUAL = GuestPolicy.SMT | GuestPolicy.RESERVED_17
_GUESTS: Mapping[str, Mapping[str, Any]] = {
    "sealed": {},
    "debug": {"policy": _USUAL | GuestPolicy.DEBUG},
    "migratable": {"policy": _USUAL | GuestPolicy.MIGRATE_MA, "report_id_ma": bytes(32)},
    "vmpl-1": {"vmpl": 1},
}
_MACHINES: Mapping[str, Mapping[str, Any]] = {
    "checked": {},
    "unchecked": {"platform_info": PlatformInfo.SMT_EN | PlatformInfo.ECC_EN},
    "masked": {"chip_id": bytes(64)},
}
_CRL_LIFE = timedelta(days=30)


def make(now: datetime) -> dict[str, bytes]:
    """Keys and certificates of a new vendor: RSA keys, which take a second or two, and the key of its chips."""
    new = Vendor.make(now - timedelta(days=1))
    return dump(replace(new, vek=ec.generate_private_key(ec.SECP384R1())))


def dump(vendor: Vendor) -> dict[str, bytes]:
    """Its files, PEM."""
    if vendor.vek is None:
        raise UsageError("simulated vendor: expected one with a key for its chips")
    keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {**vendor.keys, "VEK": vendor.vek}
    found = {
        f"amd-{kind.lower()}.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for kind, key in keys.items()
    }
    anchors = (x509.load_der_x509_certificate(der) for der in vendor.roots.anchors.values())
    return {**found, "amd-roots.pem": b"".join(item.public_bytes(Encoding.PEM) for item in anchors)}


def open_maker(files: Mapping[str, bytes]) -> Vendor:
    """The vendor again.

    Raises:
        ParseError: a file is missing, or is not what `dump` gave.
    """
    keys = {kind: _key(files, kind) for kind in (*SERIALS, "VEK")}
    rsa_keys = {kind: key for kind, key in keys.items() if isinstance(key, rsa.RSAPrivateKey)}
    vek = keys["VEK"]
    names = [f"{product.name}/{kind}" for product in Product for kind in SERIALS]
    try:
        anchors = x509.load_pem_x509_certificates(files.get("amd-roots.pem", b""))
    except ValueError as error:
        raise ParseError(f"amd-roots.pem: expected certificates: {error}") from error
    if set(rsa_keys) != set(SERIALS) or not isinstance(vek, ec.EllipticCurvePrivateKey) or len(anchors) != len(names):
        raise ParseError(f"amd-*: expected three RSA keys, one of P-384, and {len(names)} certificates, got others")
    der = (item.public_bytes(Encoding.DER) for item in anchors)
    kept = Roots(dict(zip(names, der, strict=True)), simulated=True)
    return Vendor(rsa_keys, anchors[0].not_valid_before_utc, kept=kept, vek=vek)


def renew(vendor: Vendor, now: datetime) -> Vendor:
    """The vendor with anchors that hold at `now` and a year on."""
    if vendor.since <= now <= vendor.since + 24 * YEAR:
        return vendor
    return replace(vendor, since=now - timedelta(days=1), kept=None)


def roots(vendor: Vendor) -> Roots:
    """What somebody has to trust in order to believe it."""
    return vendor.roots


_OF_LAUNCH = frozenset({"measurement", "family_id", "image_id", "id_key_digest", "author_key_digest"})


def measure(started: Started) -> Measured:
    """The launch digest, as QEMU, the firmware and the processor between them make it."""
    from donjon.tee.snp.measure import launch_digest

    files = started.firmware, started.kernel, started.initrd
    return {"measurement": launch_digest(*files, started.cmdline, started.vcpus)}


def guest(vendor: Vendor, state: State, workload: bytes, measured: Measured | None = None) -> Guest:
    """A guest on a machine in this state.

    Args:
        workload: HOST_DATA, at most 32 bytes.
        measured: rows of the report that the launch decides.
    """
    if len(workload) > 32:
        raise UsageError(f"HOST_DATA: expected at most 32 bytes, got {len(workload)}")
    if unknown := set(measured or {}) - _OF_LAUNCH:
        raise UsageError(f"simulated report: no launch decides about {min(unknown)}")
    return Guest(vendor, state, workload.ljust(32, b"\0"), measured or {})


@dataclass(frozen=True)
class Guest:
    """What a guest can ask of its hardware."""

    vendor: Vendor
    state: State
    workload: bytes
    measured: Measured

    def blobs(self, report_data: bytes, now: datetime, privlevel: int | None = None) -> Blobs:
        """Report and certificate table, as Linux hands them out."""
        report, chip, crl = self._all(report_data, now, privlevel)
        if self.state["sent"] == "report-alone":
            return Blobs(report)
        anchors = self.vendor.roots.anchors
        issuer = "ASVK" if chip.kind is SigningKey.VLEK else "ASK"
        product = chip.product.name
        table = {
            chip.kind.name: chip.vek,
            "ASK": anchors[f"{product}/{issuer}"],
            "ARK": anchors[f"{product}/ARK"],
        }
        if crl is not None:
            table["CRL"] = crl
        return Blobs(report, write_table(table))

    def evidence(self, report_data: bytes, now: datetime) -> bytes:
        """Enarx's encoding, with the certificate of the key and the revocation list."""
        report, chip, crl = self._all(report_data, now)
        if self.state["sent"] == "report-alone":
            return wrap(report)
        lists = [] if crl is None else [(addresses.crl_address(chip.product, chip.kind), crl)]
        return encode(report, chip.vek, lists)

    def collateral(self, now: datetime) -> bytes:
        """The revocation list."""
        _, _, crl = self._all(bytes(64), now)
        if crl is None:
            raise UsageError("AMD: there is no revocation list in the state crl-missing")
        return crl

    def _all(self, report_data: bytes, now: datetime, vmpl: int | None = None) -> tuple[bytes, Chip, bytes | None]:
        """A report, the machine with its certificate, and the revocation list."""
        state, day = self.state, timedelta(days=1)
        product, kind = Product[state["product"].title()], _KINDS[state["key"]]
        chip = self.vendor.chip(product, now - day, kind)
        if state["firmware"] == "out-of-date":
            family, model, stepping = CPUIDS[product]
            least = floors.minimum(product, Cpuid(family=family, model=model, stepping=stepping))
            chip = replace(chip, tcb=replace(chip.tcb, **{part: number - 1 for part, number in least.items()}))
        rows: dict[str, Any] = {"report_data": report_data, "host_data": self.workload}
        if state["firmware"] == "provisional":
            rows |= {"current_build": 41, "current_tcb": replace(chip.tcb, snp=chip.tcb.snp + 1).write()}
        rows |= self.measured
        rows |= _GUESTS[state["guest"]]
        rows |= _MACHINES[state["machine"]]
        rows |= {} if vmpl is None else {"vmpl": vmpl}
        if state["report"] != "report-usual":
            rows["version"] = int(state["report"][-1])
        report = chip.report(**rows)
        match state["certificate"]:
            case "key-expired":
                chip = replace(chip, since=now - 8 * YEAR)
            case "key-of-other-tcb":
                chip = replace(chip, tcb=replace(chip.tcb, microcode=chip.tcb.microcode - 1))
            case "key-of-other-chip":
                chip = replace(chip, chip_id=self.vendor.chip(product, now - day, kind, b"other").chip_id)
        crl = None
        if state["crl"] != "crl-missing":
            issuer = "ASVK" if kind is SigningKey.VLEK else "ASK"
            serials = [self.vendor.usual(product, issuer).serial] if state["crl"] == "revoked" else []
            start = now - 60 * day if state["crl"] == "crl-stale" else now - day
            crl = self.vendor.crl(product, start, start + _CRL_LIFE, serials)
        return report, chip, crl


def _key(files: Mapping[str, bytes], kind: str) -> object:
    name = f"amd-{kind.lower()}.key"
    try:
        # Asking RSA keys whether they are sound takes most of a second, and these are ours.
        return load_pem_private_key(files.get(name, b""), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError) as error:
        raise ParseError(f"{name}: expected a private key: {error}") from error
