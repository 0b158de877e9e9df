"""What Intel publishes beside a quote, as it arrives: CRLs, TCB info, QE identity, with signatures and their chains.

None of it is trusted here, and none is fetched: collateral comes with the evidence, from a cache, or from files. The
same things travel in three forms, all of which are read here: as nine strings (`QuoteCollateralV3`, of most tools),
as answers of Intel's service (PCS), and inside Enarx's evidence (`evidence.py`).
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from donjon.errors import ParseError
from donjon.tee import contract
from donjon.tee.contract import Roots
from donjon.tee.intel import strictjson, tcb, x509
from donjon.tee.intel.layout import Signature
from donjon.tee.intel.pck import CA_NAMES, platform
from donjon.wire.der import OCTET_STRING, SEQUENCE, Der
from donjon.wire.pki import shape

_STRINGS = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
)
MAX_CRLS = 8
_HEADER = 48
"""Bytes of a quote's header."""
_ECDSA = "1.2.840.10045.4.3.2"
"""With SHA-256: how Intel signs."""
MAX_KEPT = 64 * 1024
"""Bytes of collateral that are remembered once they are read, and what they are worth. Today's have about 20 KiB."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A JSON object of Intel with what proves it.

    Args:
        body: the object's bytes exactly as they were signed.
        signature: 64 bytes, r and s. chain: certificates in DER, the signer first, the root last.
    """

    body: bytes
    signature: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Collateral:
    """All that verification needs beside quote and roots; what nobody has is missing, and verification says so.

    Args:
        crls: DER; found by their issuer, so order and number do not matter. Of two by one issuer the newer counts.
        grace: how long after its end (nextUpdate) the last good collateral may still be used because newer cannot be
            had. Whoever sets it says so to the policy as well, which has to allow what was really used.
    """

    crls: tuple[bytes, ...] = ()
    tcb_info: Signed | None = None
    qe_identity: Signed | None = None
    grace: timedelta = field(default=timedelta(0))


def join(own: Collateral, other: Collateral) -> Collateral:
    """Collateral that came with a quote, and somebody's own: of each list the newer one, by the date in it.

    What was sent may lie about its date: then its signature does not hold, and the quote is refused for it.

    Raises:
        ParseError: a list cannot be read; there are too many CRLs.
    """
    crls = (*own.crls, *(crl for crl in other.crls if crl not in own.crls)) if own.crls else other.crls
    if len(crls) > 2 * MAX_CRLS:
        raise ParseError(f"collateral: expected at most {2 * MAX_CRLS} CRLs, got {len(crls)}")
    return Collateral(
        crls,
        _newer(own.tcb_info, other.tcb_info, tcb.tcb_info),
        _newer(own.qe_identity, other.qe_identity, tcb.qe_identity),
        max(own.grace, other.grace),
    )


def _newer(
    own: Signed | None, other: Signed | None, read: Callable[[bytes], tcb.TcbInfo | tcb.QeIdentity]
) -> Signed | None:
    """The newer one; of two of the same date, or about different things, the one that came with the evidence."""
    if own is None or other is None or own.body == other.body:
        return own or other
    (mine, since), (theirs, later) = _about(own.body, read), _about(other.body, read)
    return other if mine == theirs and later > since else own


@lru_cache(maxsize=32)
def _about(body: bytes, read: Callable[[bytes], tcb.TcbInfo | tcb.QeIdentity]) -> tuple[tuple[str, bytes], datetime]:
    """What a list is about, and since when."""
    found = read(body)
    return (found.id, bytes(getattr(found, "fmspc", b""))), found.issue_date


def read_collateral(data: bytes) -> Collateral | None:
    """The nine strings in JSON, or a CRL in DER. A certificate of Intel's adds nothing: a quote brings its own."""
    if data.lstrip()[:1] == b"{":
        return from_json(data)
    kind, algorithm = shape(data)
    if algorithm != _ECDSA or kind not in ("certificate", "crl"):
        return None
    return Collateral(crls=(data,)) if kind == "crl" else Collateral()


def read_roots(document: Mapping[str, Any], source: str) -> tuple[Roots, Collateral] | None:
    """There is no form of Intel's own."""
    del document, source
    return None


def from_json(data: bytes) -> Collateral:
    """Read the nine strings of a QuoteCollateralV3: CRLs and signatures in hex, chains in PEM, objects verbatim.

    Args:
        data: at most 6 MiB, as CRLs may have 1 MiB each and are written in hex.
    Raises:
        ParseError: not such an object; a string that is needed with another is null or missing.
    """
    where = "collateral"
    found = strictjson.read(data, where, 6 * x509.MAX_CRL)
    if not isinstance(found, dict) or not set(found) <= {*_STRINGS, "pck_certificate_chain"}:
        raise ParseError(f"{where}: expected an object with {', '.join(_STRINGS)}")
    strings: dict[str, str] = {}
    for name in _STRINGS:
        value = found.get(name)
        if value is not None and not isinstance(value, str):
            raise ParseError(f"{where}.{name}: expected a string, got {type(value).__name__}")
        if value:
            strings[name] = value
    return Collateral(
        crls=tuple(_hex(strings[name], name) for name in ("root_ca_crl", "pck_crl") if name in strings),
        tcb_info=_signed(strings, "tcb_info"),
        qe_identity=_signed(strings, "qe_identity"),
    )


def to_json(collateral: Collateral, chain: tuple[bytes, ...]) -> str:
    """Write the nine strings; the opposite of `from_json`.

    Args:
        chain: the PCK chain of the quote; its last two certificates are the issuer chain of the PCK CRL.
    Raises:
        ParseError: a piece is missing, or a CRL cannot be read.
    """
    if not (collateral.tcb_info and collateral.qe_identity):
        raise ParseError("collateral: expected TCB info and QE identity, got one or none")
    root, issued = split_crls(collateral, chain)
    if root is None or issued is None:
        raise ParseError("collateral: expected the CRLs of the root and of the PCK's issuer, got one or none")
    return json.dumps(
        {
            "pck_crl_issuer_chain": x509.pem(chain[1:]),
            "root_ca_crl": root.der.hex(),
            "pck_crl": issued.der.hex(),
            "tcb_info_issuer_chain": x509.pem(collateral.tcb_info.chain),
            "tcb_info": collateral.tcb_info.body.decode(),
            "tcb_info_signature": collateral.tcb_info.signature.hex(),
            "qe_identity_issuer_chain": x509.pem(collateral.qe_identity.chain),
            "qe_identity": collateral.qe_identity.body.decode(),
            "qe_identity_signature": collateral.qe_identity.signature.hex(),
        }
    )


def split_crls(collateral: Collateral, chain: tuple[bytes, ...]) -> tuple[x509.Crl | None, x509.Crl | None]:
    """The CRLs of the chain's root and of its leaf's issuer, the newest where there are more.

    Raises:
        ParseError: one of the CRLs cannot be read; there are too many.
    """
    if len(collateral.crls) > 2 * MAX_CRLS:
        raise ParseError(f"collateral: expected at most {2 * MAX_CRLS} CRLs, got {len(collateral.crls)}")
    newest: dict[bytes, x509.Crl] = {}
    for der in collateral.crls:
        crl = x509.crl(der)
        if crl.issuer not in newest or newest[crl.issuer].this_update < crl.this_update:
            newest[crl.issuer] = crl
    facts = x509.chain(chain)
    return newest.get(facts.root_name), newest.get(facts.issuer_name)


# What to ask Intel's service, or a cache of the same interface (PCCS), for


PCS = "https://api.trustedservices.intel.com"
"""Intel's Provisioning Certification Service. No address is ever taken from evidence."""
ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


@dataclass(frozen=True, slots=True)
class Need:
    """Which collateral a quote needs; the same for all quotes of one kind of machine: a key for caches.

    Args:
        tee: "sgx" or "tdx". fmspc: 6 bytes. ca: "processor" or "platform".
        update: "standard", or "early" for lists that already know fixes which vendors have not delivered everywhere.
    """

    tee: str
    fmspc: bytes
    ca: str
    update: str = "standard"

    def paths(self) -> dict[str, str]:
        """Paths below PCS for "tcb_info", "qe_identity" and "pck_crl". Source: PCS API v4."""
        return {
            "tcb_info": f"/{self.tee}/certification/v4/tcb?fmspc={self.fmspc.hex().upper()}&update={self.update}",
            "qe_identity": f"/{self.tee}/certification/v4/qe/identity?update={self.update}",
            "pck_crl": f"/sgx/certification/v4/pckcrl?ca={self.ca}&encoding=der",
        }


def need(tee: str, signature: Signature, update: str = "standard") -> Need:
    """Say what a quote needs.

    Raises:
        ParseError: it carries no PCK chain, or one that is not Intel's in form.
    """
    if not signature.chain:
        raise ParseError(f"quote: expected certification data of type 5, got {signature.certification_type}")
    issuer = x509.common_name(x509.certificate(signature.chain[0]).issuer)
    if issuer not in CA_NAMES:
        raise ParseError(f'PCK certificate: expected an issuer of {", ".join(CA_NAMES)}, got "{issuer[:60]}"')
    ca = "processor" if issuer == CA_NAMES[0] else "platform"
    return Need(tee, platform(signature.chain[0]).fmspc, ca, update)


CONSISTENT = ("pck.root", "pck.chain", "qe.signature", "qe.key", "quote.signature")
"""Checks that a quote passes without any collateral; one that fails them asks nobody for more."""


def needs(tee: str, signature: Signature) -> tuple[contract.Need, ...]:
    """The same as names: the CRLs of root and PCK issuer, TCB info, QE identity.

    Raises:
        ParseError: the PCK certificate cannot be read.
    """
    if not signature.chain:
        return ()
    issuer = x509.common_name(x509.certificate(signature.chain[0]).issuer)
    if issuer not in CA_NAMES:
        return ()
    wanted = need(tee, signature)
    names = ("rootcacrl", f"pckcrl-{wanted.ca}", f"qe-{tee}", f"tcb-{tee}-{wanted.fmspc.hex()}")
    return tuple(contract.Need(name, CONSISTENT) for name in names)


def is_quote(data: bytes, version: tuple[int, ...], tee_type: int) -> bool:
    """Whether a file begins as a quote of this TEE, or as one in the encoding of `evidence.py`."""
    if data[:1] == bytes((SEQUENCE,)):
        try:
            body = Der(data, "file").sequence()
            data = body.octets("quote") if body.tag == OCTET_STRING else b""
        except ParseError:
            return False
    if len(data) < _HEADER or data[0] not in version or data[1] or data[2:4] != b"\x02\x00":
        return False
    return int.from_bytes(data[4:8], "little") == tee_type


def from_answer(name: str, body: bytes, headers: Mapping[str, str]) -> Signed:
    """Read one of Intel's answers.

    Args:
        name: "tcb_info" or "qe_identity".
        headers: names in any case; the issuer chain is there, as PEM with percent signs.
    Raises:
        ParseError: the body is not the signed object, or there is no chain.
    Source: PCS API v4.
    """
    member, header = {
        "tcb_info": ("tcbInfo", "tcb-info-issuer-chain"),
        "qe_identity": ("enclaveIdentity", "sgx-enclave-identity-issuer-chain"),
    }[name]
    chain = next((value for key, value in headers.items() if key.lower() == header), "")
    signed, signature = strictjson.split(body, member, name)
    return Signed(signed, signature, x509.certificates(urllib.parse.unquote_to_bytes(chain), f"header {header}"))


def _signed(strings: Mapping[str, str], name: str) -> Signed | None:
    parts = [strings.get(name), strings.get(f"{name}_signature"), strings.get(f"{name}_issuer_chain")]
    if parts == [None, None, None]:
        return None
    body, signature, chain = parts
    if body is None or signature is None or chain is None:
        raise ParseError(f"collateral.{name}: expected it with its signature and issuer chain, or none of them")
    if len(body) > strictjson.MAX_BYTES:
        raise ParseError(f"collateral.{name}: expected at most {strictjson.MAX_BYTES} bytes, got {len(body)}")
    return Signed(
        body.encode(),
        strictjson.signature(signature, f"collateral.{name}"),
        x509.certificates(chain.encode(), f"collateral.{name}_issuer_chain"),
    )


def _hex(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ParseError(f"collateral.{name}: expected hex, got {text[:20]!a}") from error
