"""The extension of a certificate request that carries a quote with its collateral: Enarx's, and what we add to it.

    Evidence   ::= SEQUENCE { quote OCTET STRING, crls CrlList, tcb SignedJson,
                              qeIdentity [0] SignedJson OPTIONAL, eventLog [1] OCTET STRING OPTIONAL }
    CrlList    ::= SEQUENCE { SEQUENCE OF SEQUENCE { url UTF8String, crl CertificateList } }
    SignedJson ::= SEQUENCE { SEQUENCE OF Certificate, OCTET STRING }

The octets of a SignedJson are PCS's answer, `{"tcbInfo":{...},"signature":"..."}` or `{"enclaveIdentity":...}`, with
the signer's certificate first. Enarx writes quote, crls and tcb; a Keep of ours that talks to Enarx's Steward leaves
out the rest, else it adds the QE identity, without which nobody can say that a genuine quoting enclave signed. The
addresses in the CRL list are passed over: nothing is ever fetched from where evidence says. `crls` may be empty, and so
may both parts of `tcb`: then the Steward brings its own collateral.

Source: Enarx Steward, crates/attestation/src/sgx/quote/mod.rs, struct SgxEvidence.
"""

from __future__ import annotations

from functools import lru_cache

from donjon.errors import ParseError
from donjon.tee.intel import strictjson, x509
from donjon.tee.intel.collateral import MAX_CRLS, MAX_KEPT, Collateral, Signed
from donjon.tee.intel.layout import MAX_QUOTE
from donjon.wire import der
from donjon.wire.der import OCTET_STRING, SEQUENCE, UTF8_STRING, Der, encode

MAX_EVIDENCE = 4 * 1024 * 1024
"""Bytes of an extension's value. CRLs may have 1 MiB each; what Enarx sends has 13 KiB."""
MAX_EVENT_LOG = 256 * 1024

_QE_IDENTITY = der.context(0)
_EVENT_LOG = der.context(1)


def decode(data: bytes) -> tuple[bytes, Collateral, bytes | None]:
    """Take the extension's value apart.

    Returns:
        quote, collateral that came with it, event log.
    Raises:
        ParseError: it is not of this form, or a part is too large.
    """
    if len(data) > MAX_EVIDENCE:
        raise ParseError(f"evidence: expected at most {MAX_EVIDENCE} bytes, got {len(data)}")
    outer = Der(data, "evidence")
    body = outer.sequence()
    outer.end()
    quote = body.octets("quote")
    if len(quote) > MAX_QUOTE:
        raise body.refuse("quote", f"at most {MAX_QUOTE} bytes", str(len(quote)))
    # The same for all machines of one kind, for weeks: read once. What is long, which nobody real sends, is not kept.
    parts = [body.whole(SEQUENCE, "crls"), body.whole(SEQUENCE, "tcb")]
    if body.tag == _QE_IDENTITY:
        parts.append(body.whole(_QE_IDENTITY, "qeIdentity"))
    together = b"".join(parts)
    collateral = _collateral(together) if len(together) <= MAX_KEPT else _collateral.__wrapped__(together)
    event_log = None
    if body.tag == _EVENT_LOG:
        wrapped = body.inside(_EVENT_LOG, "eventLog")
        event_log = wrapped.octets("")
        wrapped.end()
        if len(event_log) > MAX_EVENT_LOG:
            raise body.refuse("eventLog", f"at most {MAX_EVENT_LOG} bytes", str(len(event_log)))
    body.end()
    return quote, collateral, event_log


@lru_cache(maxsize=64)
def _collateral(data: bytes) -> Collateral:
    """Read `crls`, `tcb` and `qeIdentity`; nothing of it is believed yet."""
    body = Der(data, "evidence")
    holder = body.sequence("crls")
    entries = holder.sequence()
    holder.end()
    crls: list[bytes] = []
    while entries.left:
        if len(crls) == MAX_CRLS:
            raise entries.refuse("crl", f"at most {MAX_CRLS}", "more")
        entry = entries.sequence()
        entry.text(UTF8_STRING, "url")
        crls.append(entry.whole(SEQUENCE, "crl"))
        entry.end()
    tcb_info = _signed(body.sequence("tcb"), "tcbInfo")
    qe_identity = _signed(body.inside(_QE_IDENTITY, "qeIdentity"), "enclaveIdentity") if body.left else None
    return Collateral(tuple(crls), tcb_info, qe_identity)


def encode_evidence(quote: bytes, collateral: Collateral, event_log: bytes | None = None) -> bytes:
    """Write the extension's value; the opposite of `decode`.

    Where QE identity and event log are missing this is what Enarx writes, but for the addresses, which are empty.
    """
    entries = (encode(SEQUENCE, encode(UTF8_STRING), crl) for crl in collateral.crls)
    parts = [
        encode(OCTET_STRING, quote),
        encode(SEQUENCE, encode(SEQUENCE, *entries)),
        encode(SEQUENCE, *_written(collateral.tcb_info, "tcbInfo")),
    ]
    if collateral.qe_identity:
        parts.append(encode(_QE_IDENTITY, *_written(collateral.qe_identity, "enclaveIdentity")))
    if event_log is not None:
        parts.append(encode(_EVENT_LOG, encode(OCTET_STRING, event_log)))
    return encode(SEQUENCE, *parts)


def _signed(body: Der, member: str) -> Signed | None:
    certificates = body.sequence("certificates")
    chain: list[bytes] = []
    while certificates.left:
        if len(chain) == x509.MAX_CERTIFICATES:
            raise certificates.refuse("certificate", f"at most {x509.MAX_CERTIFICATES}", "more")
        chain.append(certificates.whole(SEQUENCE, "certificate"))
    text = body.octets("json")
    body.end()
    if not text and not chain:
        return None
    signed, signature = strictjson.split(text, member, body.name)
    return Signed(signed, signature, tuple(chain))


def _written(signed: Signed | None, member: str) -> tuple[bytes, bytes]:
    if signed is None:
        return encode(SEQUENCE), encode(OCTET_STRING)
    text = b'{"%s":%s,"signature":"%s"}' % (member.encode(), signed.body, signed.signature.hex().encode())
    return encode(SEQUENCE, *signed.chain), encode(OCTET_STRING, text)
