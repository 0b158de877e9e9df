"""Files that an operator has: requests, evidence, collateral, roots. What each is, its content says.

    pile = Pile()
    pile.add("request.csr", data)
    pile.trust()                       TEE -> roots and collateral, for `procedure.decide`

Requests and evidence are judged; certificates, CRLs and Intel's collateral help with that. Roots are another matter:
who adds one changes what is believed, so they are asked for by a name of their own (`read_roots`) and never found in
a heap of files.

Roots are written as

    simulated = true

    [snp]
    "Milan/ARK" = "MIIGYzCC..."            # DER in base64; what names there are, each TEE says

or, for makers of Arm platforms, as `donjon.tee.cca.collateral` shows.
"""

from __future__ import annotations

import base64
import binascii
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from donjon import tee
from donjon.errors import ParseError, UsageError, printable
from donjon.steward.procedure import Trust
from donjon.steward.request import MAX_REQUEST
from donjon.tee import cca, snp
from donjon.tee.contract import Roots
from donjon.tee.intel import collateral as intel
from donjon.wire.der import INTEGER, OCTET_STRING, SEQUENCE, Der, context

MAX_FILE = 8 * 1024 * 1024
"""Bytes. The largest is Intel's collateral with its CRLs in hex."""
MAX_FILES = 64
MAX_ROOTS = 1_000_000

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*?)-----END \1-----")
_PSS = "1.2.840.113549.1.1.10"
_REPORT = 1184
_CCA_TAGS = (b"\xd9\x01\x8f", b"\xd9\x03\x8b")  # 399 and 907
_HEADER = 48
_TEE_TYPES = {0: "sgx", 0x81: "tdx"}


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to be judged.

    Args:
        name: of its file. tee: empty for a request.
    """

    name: str
    tee: str
    data: bytes


@dataclass
class Pile:
    """What the files hold, sorted."""

    subjects: list[Subject] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    amd_crls: list[bytes] = field(default_factory=list)
    intel: intel.Collateral = field(default_factory=intel.Collateral)
    roots: dict[str, list[Roots]] = field(default_factory=dict)
    notices: cca.Collateral = field(default_factory=cca.Collateral)

    def add(self, name: str, data: bytes) -> None:
        """Sort in one file.

        Raises:
            ParseError: nobody knows what it is, or what it seems to be is not well formed.
        """
        if len(data) > MAX_FILE:
            raise ParseError(f"{name}: expected at most {MAX_FILE} bytes, got {len(data)}")
        kind = quote_kind(data)
        if len(data) == _REPORT and data[:1] in (b"\x02", b"\x03", b"\x04", b"\x05") and data[1:4] == bytes(3):
            self.subjects.append(Subject(name, "snp", data))
        elif kind:
            self.subjects.append(Subject(name, kind, data))
        elif data[:3] in _CCA_TAGS:
            self.subjects.append(Subject(name, "cca", data))
        elif data[:1] == bytes((SEQUENCE,)):
            self._der(name, data)
        elif data.lstrip()[:1] == b"{":
            self.intel = self.intel.filled(_named(name, lambda: intel.from_json(data)))
        elif blocks := _PEM.findall(data):
            for label, body in blocks:
                self._block(name, label.decode(), body)
        else:
            raise _unknown(name)

    def _block(self, name: str, label: str, body: bytes) -> None:
        if label not in ("CERTIFICATE", "X509 CRL", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"):
            raise ParseError(f"{name}: expected certificates, CRLs and requests, got PEM of {label}")
        try:
            data = base64.b64decode(b"".join(body.split()), validate=True)
        except (ValueError, binascii.Error) as error:
            raise ParseError(f"{name}: expected base64 between the lines of PEM") from error
        self._der(name, data)

    def _der(self, name: str, data: bytes) -> None:
        """Tell by the first tags: certificates, CRLs, requests, and evidence as requests carry it."""
        outer = Der(data, name).sequence()
        if outer.tag == OCTET_STRING:
            self._wrapped(name, data, outer.octets("quote"))
            return
        inner = outer.sequence()
        if inner.tag == context(0):
            self.certificates.append(data)
        elif inner.tag == SEQUENCE:
            self.subjects.append(Subject(name, "snp", data))
        elif inner.tag == INTEGER and inner.integer("version") == 0:
            if len(data) > MAX_REQUEST:
                raise ParseError(f"{name}: expected a request of at most {MAX_REQUEST} bytes, got {len(data)}")
            self.subjects.append(Subject(name, "", data))
        else:
            self._crl(name, data, outer.sequence("algorithm").oid("algorithm"))

    def _wrapped(self, name: str, data: bytes, quote: bytes) -> None:
        kind = quote_kind(quote)
        if not kind:
            raise _unknown(name)
        self.subjects.append(Subject(name, kind, data))

    def _crl(self, name: str, data: bytes, algorithm: str) -> None:
        if algorithm == _PSS:
            self.amd_crls.append(data)
        elif len(self.intel.crls) >= intel.MAX_CRLS:
            raise ParseError(f"{name}: expected at most {intel.MAX_CRLS} CRLs of Intel, got one more")
        else:
            self.intel = self.intel.filled(intel.Collateral(crls=(data,)))

    def add_roots(self, name: str, text: str) -> None:
        """Believe what this file names, beside the vendors; see `read_roots`."""
        found, notices = read_roots(text, name)
        for kind, roots in found.items():
            self.roots.setdefault(kind, []).append(roots)
        self.notices = cca.Collateral({**self.notices.notices, **notices.notices}, self.notices.events)

    def trust(self) -> dict[str, Trust]:
        """What evidence is verified with: the vendors' roots first, those that were added, and this collateral."""
        complete: dict[str, Callable[[Any], Any]] = {
            "snp": lambda own: own.joined(snp.Collateral(crls=tuple(self.amd_crls))),
            "sgx": lambda own: own.filled(self.intel),
            "tdx": lambda own: own.filled(self.intel),
            "cca": lambda own: cca.Collateral({**own.notices, **self.notices.notices}, own.events),
        }
        return {
            name: Trust((tee.load(name).vendor_roots(), *self.roots.get(name, ())), complete.get(name, lambda own: own))
            for name in tee.ALL
        }

    def parser(self, subject: Subject) -> Callable[[], tuple[Any, Any]]:
        """How to read a piece of evidence: as the TEE does, and a bare report together with its certificates."""
        if subject.tee == "snp" and len(subject.data) == _REPORT:
            return lambda: snp.assemble(subject.data, self.certificates)
        kind = tee.load(subject.tee)
        return lambda: kind.parse(subject.data)


def quote_kind(data: bytes) -> str:
    """Whose quote it is, "sgx" or "tdx", by its header; empty for anything else."""
    if len(data) < _HEADER or data[0] not in (3, 4, 5) or data[1] or data[2:4] != b"\x02\x00":
        return ""
    return _TEE_TYPES.get(int.from_bytes(data[4:8], "little"), "")


def read_roots(text: str, source: str = "roots") -> tuple[dict[str, Roots], cca.Collateral]:
    """Read a file of roots; the form is shown at the top of this module.

    Returns:
        TEE → roots, and what issuers of Arm platforms say about their keys.
    Raises:
        ParseError: it is not as shown.
    """
    if len(text) > MAX_ROOTS:
        raise ParseError(f"{source}: expected at most {MAX_ROOTS} characters, got {len(text)}")
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{source}: expected TOML: {printable(str(error)[:120])}") from error
    if "anchor" in document:
        roots, notices = cca.read_anchors(text, source)
        return {"cca": roots}, notices
    simulated = document.pop("simulated", False)
    if not isinstance(simulated, bool):
        raise ParseError(f"{source}: simulated: expected true or false, got {type(simulated).__name__}")
    found: dict[str, Roots] = {}
    for name, table in document.items():
        if name not in tee.ALL or not isinstance(table, dict):
            raise ParseError(
                f"{source}: expected simulated and tables {', '.join(tee.ALL)}, got {printable(name[:40])}"
            )
        found[name] = Roots(
            {key: _root(f"{source}: [{name}] {printable(key[:80])}", value) for key, value in table.items()}, simulated
        )
    return found, cca.Collateral()


def write_roots(roots: Mapping[str, Roots]) -> str:
    """Write roots as `read_roots` reads them; all simulated, or none.

    Raises:
        UsageError: some are simulated and some not.
    """
    if len({item.simulated for item in roots.values()}) > 1:
        raise UsageError("roots: expected all simulated or none, got both: write two files")
    simulated = any(item.simulated for item in roots.values())
    lines = [f"simulated = {str(simulated).lower()}"]
    for name, item in roots.items():
        lines += ["", f"[{name}]"]
        lines += [f'"{key}" = "{base64.b64encode(data).decode()}"' for key, data in item.anchors.items()]
    return "\n".join(lines) + "\n"


def _root(where: str, value: object) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            pass
    raise ParseError(f"{where}: expected DER in base64, got {type(value).__name__}")


def _named(name: str, read: Callable[[], intel.Collateral]) -> intel.Collateral:
    try:
        return read()
    except ParseError as error:
        raise ParseError(f"{name}: {error.message}", error.hint) from error


def _unknown(name: str) -> ParseError:
    kinds: Iterable[str] = (
        "a certificate request", "an SNP report", "an SGX or TDX quote", "a CCA token", "certificates and CRLs",
        "Intel's collateral in JSON",
    )  # fmt: skip
    return ParseError(f"{name}: nobody knows what this is", f"what can be read: {', '.join(kinds)}")
