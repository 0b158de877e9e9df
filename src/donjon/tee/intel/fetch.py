"""What Intel's service (PCS, API v4) publishes, or a cache of its interface (PCCS). Nothing is connected to here.

    rootcacrl                     the root's CRL
    pckcrl-processor, -platform   the CRL of a CA that issues PCK certificates
    qe-sgx, qe-tdx                the QE identity
    tcb-sgx-<fmspc>, tcb-tdx-... TCB info

Chains come in headers of the answers, so an answer is kept as JSON: body in base64, and chain.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Mapping

from donjon.errors import ParseError, VerifyError
from donjon.tee.contract import Need, Piece, Roots
from donjon.tee.intel import collateral as lists
from donjon.tee.intel import pck, tcb, x509
from donjon.tee.intel.collateral import CONSISTENT, PCS, ROOT_CRL, Collateral
from donjon.tee.intel.p256 import is_known
from donjon.tee.intel.verify import ROOT

VENDOR = "intel"
BASE = PCS

_NAME = re.compile(r"rootcacrl|pckcrl-(processor|platform)|qe-(sgx|tdx)|tcb-(sgx|tdx)-([0-9a-f]{12})")
_CHAINS = {
    "tcb": ("tcb-info-issuer-chain",),
    "qe": ("sgx-enclave-identity-issuer-chain",),
    "pckcrl": ("sgx-pck-crl-issuer-chain",),
    "rootcacrl": (),
}
_IDS = {"tcb": {"sgx": "SGX", "tdx": "TDX"}, "qe": {"sgx": "QE", "tdx": "TD_QE"}}
MAX_CHAIN = 32 * 1024


def need(name: str) -> Need:
    """The need of this name."""
    if not _NAME.fullmatch(name):
        raise ParseError(f"Intel publishes nothing of the name {name[:40]!a}")
    return Need(name, CONSISTENT)


def address(need: Need, base: str) -> str:
    """Where it is. Intel has the root's CRL at another address than the rest; a cache has all of it at one.

    Source: PCS API v4; PCCS API v4, rootcacrl.
    """
    kind, _, about = need.name.partition("-")
    if kind == "rootcacrl":
        return ROOT_CRL if base == PCS else f"{base}/sgx/certification/v4/rootcacrl"
    if kind == "pckcrl":
        return base + lists.Need("sgx", b"", about).paths()["pck_crl"]
    tee, _, fmspc = about.partition("-")
    paths = lists.Need(tee, bytes.fromhex(fmspc), "platform").paths()
    return base + paths["tcb_info" if kind == "tcb" else "qe_identity"]


def keep(need: Need, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Body and chain in one."""
    kind = need.name.partition("-")[0]
    chain = ""
    for header in _CHAINS[kind]:
        chain = headers.get(header, "")
        if not chain or len(chain) > MAX_CHAIN:
            raise ParseError(f"{need.name}: expected the header {header} of at most {MAX_CHAIN} characters")
    data = _der(body, need.name) if kind.endswith("crl") else body
    return _keep(data, urllib.parse.unquote(chain))


def _keep(body: bytes, chain: str) -> bytes:
    return json.dumps({"body": base64.b64encode(body).decode(), "chain": urllib.parse.quote(chain)}).encode()


def sort(data: bytes) -> Mapping[str, bytes]:
    """The nine strings in JSON; of CRLs in DER the root's, as the chain of the others is not in them."""
    found = lists.read_collateral(data)
    if found is None:
        return {}
    kept: dict[str, bytes] = {}
    strings = json.loads(data) if data.lstrip()[:1] == b"{" else {}
    above = strings.get("pck_crl_issuer_chain") or ""
    for der in found.crls:
        issuer = x509.crl(der).issuer_name
        if issuer == pck.ROOT_NAME:
            kept["rootcacrl"] = _keep(der, "")
        elif issuer in pck.CA_NAMES and above:
            kept[f"pckcrl-{('processor', 'platform')[pck.CA_NAMES.index(issuer)]}"] = _keep(der, above)
    tees = {name: tee for ids in _IDS.values() for tee, name in ids.items()}
    for member, signed in (("tcbInfo", found.tcb_info), ("enclaveIdentity", found.qe_identity)):
        if signed is not None:
            body = b'{"%s":%s,"signature":"%s"}' % (member.encode(), signed.body, signed.signature.hex().encode())
            about = tcb.tcb_info(signed.body) if member == "tcbInfo" else tcb.qe_identity(signed.body)
            if about.id not in tees:
                raise ParseError(f"{member}.id: expected one of {', '.join(tees)}, got {about.id[:20]!a}")
            name = f"qe-{tees[about.id]}"
            if isinstance(about, tcb.TcbInfo):
                name = f"tcb-{tees[about.id]}-{bytes(about.fmspc).hex()}"
            kept[name] = _keep(body, x509.pem(signed.chain))
    return kept


def piece(need: Need, kept: bytes, roots: Roots) -> Piece:
    """Read an answer, and verify that Intel's root stands behind it."""
    kind, _, about = need.name.partition("-")
    body, chain = _kept(kept, need.name)
    root = roots.anchors.get(ROOT)
    if root is None:
        raise VerifyError(f"{need.name}: expected a pinned root, got none")
    if kind.endswith("crl"):
        return _crl(need.name, body, root, about, chain)
    name, header = ("tcb_info", "tcb-info-issuer-chain") if kind == "tcb" else ("qe_identity", _CHAINS["qe"][0])
    signed = lists.from_answer(name, body, {header: chain})
    facts = x509.chain(signed.chain)
    expected = (pck.TCB_SIGNER_NAME, pck.ROOT_NAME)
    if facts.problem or facts.names != expected or signed.chain[-1] != root or facts.key is None:
        raise VerifyError(f"{need.name}: expected {', '.join(expected)}, got {facts.problem or 'another chain'}")
    if not is_known(signed.body, signed.signature, facts.key):
        raise VerifyError(f"{need.name}: expected a signature by {expected[0]}, got another one")
    tee, _, fmspc = about.partition("-")
    info = tcb.tcb_info(signed.body) if kind == "tcb" else tcb.qe_identity(signed.body)
    found = (info.id, bytes(info.fmspc).hex() if isinstance(info, tcb.TcbInfo) else "")
    if found != (_IDS[kind][tee], fmspc):
        raise VerifyError(f"{need.name}: expected it to be about this, got {' '.join(found)}")
    alone = Collateral(tcb_info=signed) if kind == "tcb" else Collateral(qe_identity=signed)
    return Piece(alone, info.issue_date, info.next_update)


def _crl(name: str, body: bytes, root: bytes, ca: str, chain: str) -> Piece:
    try:
        issuer = root
        if ca:
            issuer, *above = x509.certificates(urllib.parse.unquote_to_bytes(chain), f"{name}, chain")
            wanted = pck.CA_NAMES[("processor", "platform").index(ca)]
            if x509.common_name(x509.certificate(issuer).subject) != wanted or above != [root]:
                raise VerifyError(f"{name}: expected a chain of {wanted} and the pinned root, got another one")
            x509.check_issued(issuer, root, 1)
        crl = x509.crl(body, name)
        x509.revoked(body, issuer)
    except x509.BadChainError as error:
        raise VerifyError(f"{name}: {error}") from error
    if crl.next_update is None:
        raise VerifyError(f"{name}: expected a list that says when it ends, got one that does not")
    return Piece(Collateral(crls=(body,)), crl.this_update, crl.next_update)


def _der(body: bytes, name: str) -> bytes:
    """DER, as Intel sends it; caches send hex or PEM too."""
    if len(body) > 2 * x509.MAX_CRL + 4096:
        raise ParseError(f"{name}: expected at most {x509.MAX_CRL} bytes of DER, got more")
    text = body.strip()
    try:
        if text.startswith(b"-----BEGIN X509 CRL-----"):
            lines = text.removeprefix(b"-----BEGIN X509 CRL-----").partition(b"-----END")[0]
            return base64.b64decode(b"".join(lines.split()), validate=True)
        return bytes.fromhex(text.decode("ascii")) if text[:2] == b"30" else body
    except (ValueError, binascii.Error) as error:
        raise ParseError(f"{name}: expected a CRL in DER, hex or PEM, got something else") from error


def _kept(kept: bytes, name: str) -> tuple[bytes, str]:
    try:
        found = json.loads(kept)
        return base64.b64decode(found["body"], validate=True), str(found["chain"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ParseError(f"{name}: expected an answer as it is kept, got something else") from error
