"""The PCK certificate: Intel's word for one platform at one TCB, and the extension that says which.

A chain is leaf, Intel's Processor or Platform CA, root. The leaf's key signs the report of the quoting enclave.
Source: "Intel SGX PCK Certificate and Certificate Revocation List Profile Specification", revision 1.5 [SGX-PCK].
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography import x509

from donjon.errors import ParseError
from donjon.tee.intel.x509 import certificate
from donjon.wire.der import ENUMERATED, Der

EXTENSION = "1.2.840.113741.1.13.1"
LEAF_NAME = "Intel SGX PCK Certificate"
CA_NAMES = ("Intel SGX PCK Processor CA", "Intel SGX PCK Platform CA")
ROOT_NAME = "Intel SGX Root CA"
TCB_SIGNER_NAME = "Intel SGX TCB Signing"
COMPONENTS = 16
"""How many numbers a CPUSVN has."""


class SgxType(StrEnum):
    """How the platform protects enclaves' memory; in the certificate 0, 1, 2."""

    STANDARD = "Standard"
    """Integrity and freshness by a tree: a replayed or changed line is noticed."""
    SCALABLE = "Scalable"
    """Encrypted only (servers with more than one package): who can change DRAM cells is not noticed."""
    SCALABLE_WITH_INTEGRITY = "ScalableWithIntegrity"
    """Encrypted, and changes are noticed."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What the SGX extension says.

    Args:
        ppid: 16 bytes that name the processor package or, on servers of several packages, the platform; personal.
        components: 16 numbers of 0 to 255, the SVNs that the certificate was issued for.
        pcesvn: of the provisioning certification enclave.
        cpusvn: 16 bytes, the components as the processor has them.
        pceid: 2 bytes. fmspc: 6 bytes, family, model, stepping, platform type and custom SKU.
        platform_instance: 16 bytes that name a platform of several packages; None on others. Personal.
        dynamic_platform: packages may be added and removed. cached_keys: Intel keeps the platform's root keys.
        smt: hyper-threads are on. All three are None on platforms of one package, where Intel says nothing.
    """

    ppid: bytes
    components: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt: bool | None


@lru_cache(maxsize=256)
def platform(leaf: bytes) -> Platform:
    """Read the SGX extension of a PCK certificate.

    Args:
        leaf: DER of the certificate.
    Raises:
        ParseError: there is no such extension, a field is missing, twice there, or of another form.
    Source: SGX-PCK, table 5.1.
    """
    found = certificate(leaf, "PCK certificate")
    try:
        value = found.extensions.get_extension_for_oid(x509.ObjectIdentifier(EXTENSION)).value.public_bytes()
    except x509.ExtensionNotFound as error:
        raise ParseError(f"PCK certificate: expected the SGX extension {EXTENSION}, got none") from error
    return parse(value)


def parse(extension: bytes) -> Platform:
    """Read the extension's value; see `platform`. Fields that are unknown here are passed over."""
    outer = Der(extension, "SGX extension")
    fields = _fields(outer.sequence(), EXTENSION)
    outer.end()
    tcb = _fields(_field(fields, 2, "TCB").sequence(), f"{EXTENSION}.2")
    settings = _fields(_field(fields, 7, "Configuration").sequence(), f"{EXTENSION}.7") if 7 in fields else {}
    return Platform(
        ppid=_octets(fields, 1, "PPID", 16),
        components=tuple(
            _number(_field(tcb, index, f"SVN {index}").integer(""), 0xFF, f"SVN {index}")
            for index in range(1, COMPONENTS + 1)
        ),
        pcesvn=_number(_field(tcb, 17, "PCESVN").integer(""), 0xFFFF, "PCESVN"),
        cpusvn=_octets(tcb, 18, "CPUSVN", 16),
        pceid=_octets(fields, 3, "PCEID", 2),
        fmspc=_octets(fields, 4, "FMSPC", 6),
        sgx_type=_sgx_type(_field(fields, 5, "SGXType").take(ENUMERATED, "")),
        platform_instance=_octets(fields, 6, "PlatformInstanceID", 16) if 6 in fields else None,
        dynamic_platform=_flag(settings, 1, "DynamicPlatform"),
        cached_keys=_flag(settings, 2, "CachedKeys"),
        smt=_flag(settings, 3, "SMTEnabled"),
    )


def _fields(members: Der, prefix: str) -> dict[int, bytes]:
    """Read SEQUENCE OF SEQUENCE { identifier, value } into last arc → the value's element."""
    found: dict[int, bytes] = {}
    while members.left:
        member = members.sequence()
        before, _, arc = member.oid("identifier").rpartition(".")
        value = member.whole(0, "value")
        member.end()
        if before != prefix or int(arc) in found:
            raise member.refuse("identifier", f"each field of {prefix} once", f"{before}.{arc}")
        found[int(arc)] = value
    return found


def _field(fields: dict[int, bytes], arc: int, name: str) -> Der:
    """A reader for one field."""
    if arc not in fields:
        raise ParseError(f"SGX extension.{name}: expected the field {arc}, got none")
    return Der(fields[arc], f"SGX extension.{name}")


def _octets(fields: dict[int, bytes], arc: int, name: str, size: int) -> bytes:
    value = _field(fields, arc, name).octets("")
    if len(value) != size:
        raise ParseError(f"SGX extension.{name}: expected {size} bytes, got {len(value)}")
    return value


def _number(value: int, maximum: int, name: str) -> int:
    if not 0 <= value <= maximum:
        raise ParseError(f"SGX extension.{name}: expected 0 to {maximum}, got {value:#x}")
    return value


def _sgx_type(content: bytes) -> SgxType:
    if content not in (b"\0", b"\1", b"\2"):
        raise ParseError(f"SGX extension.SGXType: expected 0, 1 or 2, got {content[:8].hex() or 'nothing'}")
    return tuple(SgxType)[content[0]]


def _flag(settings: dict[int, bytes], arc: int, name: str) -> bool | None:
    return _field(settings, arc, name).boolean("") if arc in settings else None
