"""The whole judgement of one peer. No I/O, no clock: the same question, the same answer.

    proof = judge(chain, demands, now)

With a Steward's root a peer is believed when

    (1) its chain leads to that root by the rules of X.509, and its own certificate is no authority;
    (2) the certificate holds a Steward's result that fits it, itself, and the time;
    (3) real hardware was judged, or the demands say in so many words that it need not be (`accept_unattested`);
    (4) what the result says is what is demanded.

Without one, when

    (1) the one certificate is signed by its own key, strong, and valid now;
    (2) it carries evidence of exactly one TEE, which is genuine by the vendor's roots or others that were given, and
        acceptable to the TEE's policy;
    (3) as above;
    (4) the evidence binds the certificate's key;
    (5) what it says is what is demanded.

Questions go on after a failed one only among those of one number: what stands in a certificate that nobody believes is
not worth telling.

Not asked: whether the peer has the key. That is TLS's business, and done when its handshake is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from donjon.errors import BugError, ParseError, UsageError, VerifyError
from donjon.steward import procedure
from donjon.steward.answer import plain
from donjon.steward.policy import General, Policy
from donjon.steward.procedure import Trust, bound_digest, by_oid
from donjon.steward.request import parse_request
from donjon.tee import contract
from donjon.tee.contract import Check, Checks, Outcome, Tee, first_failure, shown, utc
from donjon.verify.certificates import (
    Certificate,
    check_basics,
    check_leaf,
    check_path,
    read_certificate,
    read_chain,
    signed_itself,
)
from donjon.verify.demands import Demands
from donjon.verify.result import check_result, read_result

SPEC = "RFC 9334 section 8"
NOBODY_ASKED = "nobody asked what runs: no workload was demanded"
AGE_UNKNOWN = "evidence of unknown age: no nonce"
ITSELF = "the evidence itself"
SIGNED_BY = {"chain.vek_signature", "pck.root", "platform.anchor"}
"""The checks that fail when nobody known has signed the evidence: of SNP, of SGX and TDX, of CCA."""
UNKNOWN_ROOT = "it leads to no known root: for simulated hardware name those of its lab, --roots lab/roots.toml"

_SEAL = object()


class RefusedError(VerifyError):
    """A peer is not what was demanded. The message names the first check that failed.

    Args:
        checks: every check that was made, in order; at least one has failed.
    """

    def __init__(self, checks: Iterable[Check], hint: str | None = None) -> None:
        self.checks = tuple(checks)
        failed = [check for check in self.checks if check.outcome is Outcome.FAILED]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        super().__init__(f"peer refused: {failed[0]}{more}" if failed else "peer refused: no check was made", hint)

    @property
    def failure(self) -> Check | None:
        """The first check that failed."""
        return first_failure(self.checks)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a peer has proven. Only `judge` makes one.

    Args:
        tee: short name. product: as the vendor names it; empty where unknown.
        measurement: the launch digest. workload: its digest, 32 bytes; empty where the evidence binds none.
        tcb: the platform's state, in the TEE's own words.
        judged_by: the Steward's root and program, or "the evidence itself".
        anchor: SHA-256 of the root's SubjectPublicKeyInfo; empty for the evidence itself.
        judged_at: when: for the evidence itself, now.
        valid_until: when the first certificate ends on which this rests.
        simulated, protected: whether the roots were a vendor's, and whether hardware keeps the host out.
        nonce: whether evidence bound a fresh nonce when it was judged.
        names: of the certificate; a Steward's, or empty.
        key: SHA-256 of the peer's SubjectPublicKeyInfo. certificate: SHA-256 of its certificate.
        notes: what a reader must know. checks: all that was asked.
    """

    tee: str
    product: str
    tcb: Mapping[str, Any]
    measurement: bytes
    workload: bytes
    judged_by: str
    anchor: bytes
    judged_at: datetime
    valid_until: datetime
    simulated: bool
    protected: bool
    nonce: bool
    names: tuple[str, ...]
    key: bytes
    certificate: bytes
    notes: tuple[str, ...]
    checks: tuple[Check, ...]
    seal: InitVar[object] = field(default=None, kw_only=True)

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise BugError("a Proof is made by judge and by nothing else")


def judge(chain: Sequence[bytes], demands: Demands, now: datetime) -> Proof:
    """Judge one peer.

    Args:
        chain: its certificates in DER, the leaf first, as TLS gives them.
        now: with its time zone.
    Raises:
        RefusedError: the peer is not what was demanded; malformed certificates included.
        ParseError: an anchor among the demands is malformed. UsageError: `now` has no time zone.
    """
    now = utc(now)
    anchors = tuple(read_certificate(data, f"root[{number}]") for number, data in enumerate(demands.anchors))
    checks = Checks("peer")
    demanded = "certificates as RFC 5280 has them"
    try:
        certificates = read_chain(chain)
    except ParseError as error:
        checks.that("chain.format", False, str(error), demanded, "RFC 5280 section 4.1")
        raise RefusedError(checks.all) from error
    checks.that("chain.format", True, f"{len(certificates)} certificates", demanded, "RFC 5280 section 4.1")
    if anchors:
        return _by_steward(checks, certificates, anchors, demands, now)
    return _by_evidence(checks, certificates, demands, now)


def _by_steward(
    checks: Checks,
    certificates: tuple[Certificate, ...],
    anchors: tuple[Certificate, ...],
    demands: Demands,
    now: datetime,
) -> Proof:
    leaf = certificates[0]
    path = check_path(checks, certificates, anchors, demands.purpose, now)  # (1)
    _settle(checks, _hint_for(leaf))
    demanded = "a Steward's attestation result"
    try:
        result = read_result(leaf)
    except ParseError as error:
        checks.that("result.format", False, str(error), demanded, "RFC 9999 section 4")
        raise RefusedError(checks.all) from error
    checks.that("result.format", True, f"of {shown(result.judged_at)}", demanded, "RFC 9999 section 4")
    check_result(checks, result, leaf, now)  # (2)
    _settle(checks)
    check_attested(checks, result.simulated, result.protected, demands)  # (3)
    notes = list(result.notes)
    if result.valid_until < now:
        notes.append(
            f"the vendor's certificates and lists that the Steward judged by ended {shown(result.valid_until)}"
        )
    proof = Proof(
        tee=result.tee,
        product=result.product,
        tcb=MappingProxyType(dict(result.tcb)),
        measurement=result.measurement,
        workload=result.workload,
        judged_by=f"{path[-1].subject} ({result.verifier})",
        anchor=sha256(path[-1].spki).digest(),
        judged_at=result.judged_at,
        valid_until=min(item.not_after for item in path),
        simulated=result.simulated,
        protected=result.protected,
        nonce=result.nonce,
        names=leaf.names,
        key=sha256(leaf.spki).digest(),
        certificate=sha256(leaf.der).digest(),
        notes=tuple(notes),
        checks=(),
        seal=_SEAL,
    )
    return _against(checks, proof, demands, now)  # (4)


def _by_evidence(checks: Checks, certificates: tuple[Certificate, ...], demands: Demands, now: datetime) -> Proof:
    leaf = certificates[0]
    alone = len(certificates) == 1 and signed_itself(leaf)
    found = (
        f"{len(certificates)} certificates" if len(certificates) != 1 else "checked" if alone else "another's signature"
    )
    hint = None
    if not alone and not _carried(leaf):
        hint = "if a Steward has issued it, name the Steward's root"
    checks.that("leaf.signature", alone, found, "one certificate, signed by its own key", "RFC 5280 section 4.1.1.3")
    check_basics(checks, (leaf,), now)
    check_leaf(checks, leaf, demands.purpose)  # (1)
    _settle(checks, hint)
    carried = _carried(leaf)
    demanded = "one extension with evidence"
    if not checks.that("evidence.carried", len(carried) == 1, f"{len(carried)} extensions", demanded, SPEC):
        raise RefusedError(checks.all, hint or "this Keep proves nothing: it was started without evidence")
    kind = carried[0]
    trust = demands.roots.get(kind.NAME) or Trust((kind.vendor_roots(),))
    proof = _of_evidence(
        checks, kind, lambda: kind.parse(leaf.unknown[kind.OID]), trust, kind.key_binding(leaf.spki), demands, now
    )  # (2) to (4)
    proof = replace(
        proof,
        valid_until=min(leaf.not_after, proof.valid_until),
        key=sha256(leaf.spki).digest(),
        certificate=sha256(leaf.der).digest(),
        seal=_SEAL,
    )
    return _against(checks, proof, demands, now)  # (5)


def judge_evidence(
    kind: Tee,
    parse: Callable[[], tuple[Any, Any]],
    trust: Trust,
    demands: Demands,
    now: datetime,
    report_data: bytes | None = None,
) -> Proof:
    """Judge evidence that came without a certificate: (2), (3) and (5) of the module's list.

    Args:
        parse: gives evidence and the collateral that came with it, as the TEE's `parse` does.
        trust: what it is verified with.
        report_data: what it has to bind; None leaves open whose it is.
    Raises:
        RefusedError: it is not what was demanded. UsageError: the demands are those of a Steward's certificate.
    """
    if demands.anchors:
        raise UsageError("a Steward's root judges certificates, and this is evidence", "leave the root out")
    now = utc(now)
    checks = Checks("peer")
    return _against(checks, _of_evidence(checks, kind, parse, trust, report_data, demands, now), demands, now)


def judge_request(data: bytes, trust: Mapping[str, Trust], demands: Demands, now: datetime) -> Proof:
    """Judge a certificate request as a Steward would: the evidence in it, which must bind its key.

    Args:
        data: in DER. trust: TEE → what its evidence is verified with.
    Raises:
        RefusedError: it is not what was demanded. ParseError: it is no request. UsageError: see `judge_evidence`.
    """
    request = parse_request(data)
    if demands.anchors:
        raise UsageError("a Steward's root judges certificates, and this is a request", "leave the root out")
    now = utc(now)
    checks = Checks("peer")
    checks.that("request.signature", request.is_signed(), "checked", "a signature by the key", "RFC 2986 section 4")
    found = procedure.check_evidence(checks, request, trust, Policy())
    _settle(checks)
    if found is None:
        raise BugError("a request without evidence has passed")
    kind, value = found
    binding = kind.key_binding(request.spki)
    proof = _of_evidence(checks, kind, lambda: kind.parse(value), trust[kind.NAME], binding, demands, now)
    proof = replace(proof, key=sha256(request.spki).digest(), seal=_SEAL)
    return _against(checks, proof, demands, now)


def _of_evidence(
    checks: Checks,
    kind: Tee,
    parse: Callable[[], tuple[Any, Any]],
    trust: Trust,
    report_data: bytes | None,
    demands: Demands,
    now: datetime,
) -> Proof:
    """Genuine, acceptable, real or said not to be, and binding what it has to."""
    verdict = procedure.judge(
        kind,
        parse,
        trust,
        Policy(General(accept_unattested=demands.accept_unattested), demands.tables),
        contract.Demands(report_data=report_data, accept_unattested=demands.accept_unattested),
        now,
    )
    for check in verdict.checks:
        if check.name != "evidence.workload":  # asked with the demands, of both ways in the same words
            checks.record(check)
    strange = any(check.name in SIGNED_BY and check.outcome is Outcome.FAILED for check in checks.all)
    _settle(checks, UNKNOWN_ROOT if strange else None)
    report = verdict.require()
    if report.protected and report_data is not None and not checks.passed("evidence.binding"):
        raise BugError(f"{kind.NAME}: accepted without a check of what it binds")
    return Proof(
        tee=report.tee,
        product=report.product,
        tcb=MappingProxyType({name: plain(value) for name, value in report.tcb.items()}),
        measurement=report.measurement,
        workload=bound_digest(report.workload),
        judged_by=ITSELF,
        anchor=b"",
        judged_at=now,
        valid_until=report.valid_until,
        simulated=report.simulated,
        protected=report.protected,
        nonce=False,
        names=(),
        key=b"",
        certificate=b"",
        notes=(*(check.note for check in checks.all if check.note), AGE_UNKNOWN),
        checks=(),
        seal=_SEAL,
    )


def check_attested(checks: Checks, simulated: bool, protected: bool, demands: Demands) -> None:
    """The question of `donjon.tee.contract.check_demands`, asked of a Steward's result."""
    weak = " and ".join(word for word, true in (("unprotected", not protected), ("simulated", simulated)) if true)
    checks.that(
        "evidence.attested",
        demands.accept_unattested or not weak,
        weak or "signed by real hardware",
        "any evidence, also what proves nothing" if demands.accept_unattested and weak else "evidence of real hardware",
        "RFC 9334 section 7",
        note=f"{weak}: proves nothing about the host" if weak else "",
    )


def _against(checks: Checks, proof: Proof, demands: Demands, now: datetime) -> Proof:
    """Put what was proven against what was demanded."""
    check_demands(checks, proof, demands, now)
    _settle(checks)
    notes = dict.fromkeys((*proof.notes, *(check.note for check in checks.all if check.note)))
    return replace(proof, notes=tuple(notes), checks=checks.all, seal=_SEAL)


def check_demands(checks: Checks, proof: Proof, demands: Demands, now: datetime) -> None:
    """Every demand, one question each; an empty one is noted as not asked."""
    for name, found, allowed in (
        ("demand.tee", proof.tee, demands.tees),
        ("demand.product", proof.product, demands.products),
        ("demand.measurement", proof.measurement, demands.measurements),
        ("demand.workload", proof.workload, demands.workloads),
    ):
        note = NOBODY_ASKED if name == "demand.workload" and not demands.asks_what_runs else ""
        if allowed:
            checks.one_of(name, found, allowed, SPEC)
        else:
            checks.skip(name, "nobody asks", SPEC, note=note)
    if demands.names:
        wanted = set(map(canonical, demands.names))
        checks.that(
            "demand.name", not wanted.isdisjoint(map(canonical, proof.names)),
            proof.names, f"one of {shown(demands.names)}", "RFC 5280 section 4.2.1.6",
        )  # fmt: skip
    else:
        checks.skip("demand.name", "nobody asks", SPEC)
    if demands.max_age is not None:
        age = now - proof.judged_at
        found = f"judged {shown(proof.judged_at)}, {age} before {shown(now)}"
        checks.that("demand.max_age", age <= demands.max_age, found, f"at most {demands.max_age}", SPEC)
    else:
        checks.skip("demand.max_age", "nobody asks", SPEC)
    least = demands.tcb.get(proof.tee, {})
    if least:
        short = {name: proof.tcb.get(name) for name, value in least.items() if not _enough(proof.tcb.get(name), value)}
        checks.that("demand.tcb", not short, short or proof.tcb, f"at least {shown(least)}", SPEC)
    else:
        checks.skip("demand.tcb", "nobody asks", SPEC)


def canonical(name: str) -> str:
    """A name as it is compared: addresses in their one form, host names in lower case, URIs as they are."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name if ":" in name else name.lower().rstrip(".")


def _enough(found: object, least: int | str) -> bool:
    if isinstance(least, str):
        return found == least
    return isinstance(found, int) and not isinstance(found, bool) and found >= least


def _carried(leaf: Certificate) -> list[Tee]:
    return [kind for oid, kind in by_oid().items() if oid in leaf.unknown]


def _hint_for(leaf: Certificate) -> str | None:
    if _carried(leaf):
        return "the peer shows evidence itself: without a Steward's root it is judged by that"
    return None


def _settle(checks: Checks, hint: str | None = None) -> None:
    """Go no further when a check has failed."""
    if not checks.ok:
        raise RefusedError(checks.all, hint)
