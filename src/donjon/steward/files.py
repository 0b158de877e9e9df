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

where `simulated` is never left out, or in a form that a TEE has for itself: that of Arm's platforms is in the README of
its folder. No TEE is named here: each says which files are its own (`donjon.tee.contract.Tee`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from donjon import tee
from donjon.errors import ParseError, UsageError
from donjon.files import read
from donjon.log import printable
from donjon.steward import endorsement
from donjon.steward.endorsement import Envelope
from donjon.steward.procedure import Trust
from donjon.steward.request import MAX_REQUEST
from donjon.steward.toml import read_toml
from donjon.tee.contract import Roots, Tee
from donjon.wire.pki import path, shape

MAX_FILE = 8 * 1024 * 1024
"""Bytes. The largest is Intel's collateral with its CRLs in hex."""
MAX_FILES = 64
MAX_IN_DIRECTORY = 10_000
MAX_ROOTS = 1_000_000

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*?)-----END \1-----")


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
    """What the files hold, sorted; which file is whose, each TEE says.

    Args:
        certificates: in DER, in the order in which they stand, whosever they are.
        collateral: TEE → what helps. roots: TEE → what is believed beside the vendor.
    """

    subjects: list[Subject] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    collateral: dict[str, Any] = field(default_factory=dict)
    roots: dict[str, list[Roots]] = field(default_factory=dict)

    def add(self, name: str, data: bytes) -> None:
        """Sort in one file.

        Raises:
            ParseError: nobody knows what it is, or what it seems to be is not well formed.
        """
        if len(data) > MAX_FILE:
            raise ParseError(f"{name}: expected at most {MAX_FILE} bytes, got {len(data)}")
        if self._take(name, data):
            return
        blocks = _PEM.findall(data)
        if not blocks:
            raise _unknown(name)
        for label, body in blocks:
            self._block(name, label.decode(), body)

    def _block(self, name: str, label: str, body: bytes) -> None:
        if label not in ("CERTIFICATE", "X509 CRL", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"):
            hint = "keys of Arm platforms go into the file of --roots" if label == "PUBLIC KEY" else None
            raise ParseError(f"{name}: expected certificates, CRLs and requests, got PEM of {label}", hint)
        try:
            data = base64.b64decode(b"".join(body.split()), validate=True)
        except (ValueError, binascii.Error) as error:
            raise ParseError(f"{name}: expected base64 between the lines of PEM") from error
        if not self._take(name, data):
            raise _unknown(name)

    def _take(self, name: str, data: bytes) -> bool:
        """Find out whose it is: evidence, a request, what helps; False when it is nothing of that."""
        chain = path(data)
        if chain:
            return all(self._take(name, item) for item in chain)
        kinds = [tee.load(item) for item in tee.ALL]
        found = next((kind.NAME for kind in kinds if kind.is_evidence(data)), None)
        if found is None and shape(data)[0] == "request":
            if len(data) > MAX_REQUEST:
                raise ParseError(f"{name}: expected a request of at most {MAX_REQUEST} bytes, got {len(data)}")
            found = ""
        if found is not None:
            self.subjects.append(Subject(name, found, data))
            return True
        helps = shape(data)[0] == "certificate"
        if helps:
            self.certificates.append(data)
        for kind in kinds:
            try:
                collateral = kind.read_collateral(data)
                if collateral is not None:
                    self._help(kind, collateral)
                    helps = True
            except ParseError as error:
                raise ParseError(f"{name}: {error.message}", error.hint) from error
        return helps

    def _help(self, kind: Tee, collateral: Any) -> None:
        self.collateral[kind.NAME] = kind.join(self.collateral.get(kind.NAME, kind.Collateral()), collateral)

    def add_roots(self, name: str, text: str) -> None:
        """Believe what this file names, beside the vendors; see `read_roots`."""
        for kind, (roots, said) in read_roots(text, name).items():
            self.roots.setdefault(kind, []).append(roots)
            self._help(tee.load(kind), said)

    def trust(self) -> dict[str, Trust]:
        """What evidence is verified with: the vendors' roots first, those that were added, and this collateral."""
        return {name: self._trust(tee.load(name)) for name in tee.ALL}

    def _trust(self, kind: Tee) -> Trust:
        roots = (kind.vendor_roots(), *self.roots.get(kind.NAME, ()))
        mine = self.collateral.get(kind.NAME)
        return Trust(roots) if mine is None else Trust(roots, lambda _evidence, own: kind.join(own, mine))


def read_collateral(named: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Take an operator's files of collateral apart.

    Args:
        named: names of files, and what is in them.
    Returns:
        The same without PEM: DER and JSON, each of which helps to judge evidence of some TEE.
    Raises:
        ParseError: one is something else, or not well formed.
    """
    found: list[tuple[str, bytes]] = []
    for name, data in named:
        if len(data) > MAX_FILE:
            raise ParseError(f"{name}: expected at most {MAX_FILE} bytes, got {len(data)}")
        try:
            parts = [base64.b64decode(b"".join(body.split()), validate=True) for _, body in _PEM.findall(data)]
        except (ValueError, binascii.Error) as error:
            raise ParseError(f"{name}: expected base64 between the lines of PEM") from error
        for part in parts or [data]:
            pile = Pile()
            if not pile._take(name, part) or pile.subjects:
                raise ParseError(f"{name}: expected CRLs, VCEKs, or Intel's collateral in JSON, got something else")
            _check_sorted(name, part)
            found.append((name, part))
    return tuple(found)


def _check_sorted(name: str, data: bytes) -> None:
    """Whoever uses a file later must find nothing wrong with it: then it would be too late to leave all as it was."""
    for kind in tee.ALL:
        fetch = tee.load_fetch(kind)
        try:
            if fetch is not None:
                fetch.sort(data)
        except ParseError as error:
            raise ParseError(f"{name}: {error.message}", error.hint) from error


def read_endorsements(named: Iterable[tuple[str, bytes]]) -> dict[bytes, tuple[Envelope, ...]]:
    """Read an operator's statements about workloads.

    Args:
        named: names of files, and what is in them.
    Returns:
        Digest → what is said about it.
    Raises:
        ParseError: one is not well formed.
    """
    found: dict[bytes, tuple[Envelope, ...]] = {}
    for name, data in named:
        envelope = endorsement.read(data, name)
        found[envelope.digest] = (*found.get(envelope.digest, ()), envelope)
    return found


def read_roots(text: str, source: str = "roots") -> dict[str, tuple[Roots, Any]]:
    """Read a file of roots; the form is shown at the top of this module.

    Returns:
        TEE → roots, and what their issuers say about them, as collateral.
    Raises:
        ParseError: it is not as shown.
    """
    if len(text) > MAX_ROOTS:
        raise ParseError(f"{source}: expected at most {MAX_ROOTS} characters, got {len(text)}")
    document = read_toml(text, source, "`donjon sim init` writes such a file, and the page about Stewards shows one")
    for name in tee.ALL:
        own = tee.load(name).read_roots(document, source)
        if own is not None:
            return {name: own}
    simulated = document.pop("simulated", None)
    if not isinstance(simulated, bool):  # nor is it left out: whose roots these are has to be said
        got = "nothing" if simulated is None else type(simulated).__name__
        raise ParseError(
            f"{source}: simulated: expected true or false, got {got}",
            "write `simulated = true` above all tables, or false for roots that stand for hardware",
        )
    found: dict[str, tuple[Roots, Any]] = {}
    for name, table in document.items():
        if name not in tee.ALL or not isinstance(table, dict):
            raise ParseError(
                f"{source}: expected simulated and tables {', '.join(tee.ALL)}, got {printable(name[:40])}"
            )
        anchors = {key: _root(f"{source}: [{name}] {printable(key[:80])}", value) for key, value in table.items()}
        found[name] = Roots(anchors, simulated), tee.load(name).Collateral()
    return found


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


def _unknown(name: str) -> ParseError:
    kinds: Iterable[str] = (
        "a certificate request", "an SNP report", "an SGX or TDX quote", "a CCA token", "certificates and CRLs",
        "Intel's collateral in JSON",
    )  # fmt: skip
    return ParseError(f"{name}: nobody knows what this is", f"what can be read: {', '.join(kinds)}")


def read_text(path: str, most: int) -> str:
    """A file of text."""
    try:
        return read(path, most).decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"{printable(path)}: expected UTF-8, got the byte {error.object[error.start]:02x}") from error
