"""The whole judgement of one certificate request. No I/O, no clock, no randomness: the same question, the same answer.

    decision = decide(request, trust, policy, now)
    decision.checks                      every question that was asked, with its answer
    decision.require()                   a `Grant`: what the certificate says; or an error

A request is granted when

    (1) it is well formed, of an allowed kind of key, and signed by that key;
    (2) it carries evidence of exactly one TEE, which the policy lets in;
    (3) the evidence is well formed and genuine: by the vendor's roots, or by others that the operator gave;
    (4) it was made by hardware, or the policy says in so many words that it need not be (`accept_unattested`);
    (5) its report data binds the request's key, and the nonce where there is one, which is ours and fresh;
    (6) its workload is one that the policy names, when it names any: by its digest, its package, or who signed it;
    (7) it satisfies the TEE's own policy.

Questions go on after a failed one where they can: an operator wants to see them all. How the authority was made has no
influence; in Enarx's Steward a self-signed issuer switched off (4) and (5).

Not asked: who sends the request. Whoever has evidence for a key may carry it here; only the key's holder can use what
comes back.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any

from donjon import tee
from donjon.errors import BugError, ParseError
from donjon.steward import nonce as nonces
from donjon.steward.endorsement import Proofs, is_by, package_of, refusal, roots_of
from donjon.steward.policy import Policy, Workload
from donjon.steward.request import Request, parse_request
from donjon.tee.contract import (
    Check,
    Checks,
    Demands,
    EvidenceError,
    Outcome,
    Roots,
    Tee,
    Verdict,
    VerifiedReport,
    appraise,
    first_failure,
    shown,
    utc,
)

SPEC = "RFC 2986 section 4"
NO_PROOFS = Proofs()
MAX_REASONS = 6
NONCE_SPEC = "draft-ietf-lamps-attestation-freshness-09 section 4"


class Ground(StrEnum):
    """Why a request was refused, by what the sender can do about it."""

    MALFORMED = "malformed"
    """It is not a request: send another one."""
    UNATTESTED = "unattested"
    """It has no evidence: attest first."""
    REFUSED = "refused"
    """The evidence is not genuine or not acceptable."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What evidence of one TEE is verified with.

    Args:
        roots: the vendor's, and others if the operator gave some; tried in this order.
        complete: takes evidence and the collateral that came with it; gives that with the Steward's own added.
    """

    roots: tuple[Roots, ...]
    complete: Callable[[Any, Any], Any] = lambda _evidence, own: own


def vendor_trust() -> dict[str, Trust]:
    """The roots that are shipped, for every TEE; nothing simulated."""
    return {name: Trust((tee.load(name).vendor_roots(),)) for name in tee.ALL}


_SEAL = object()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a certificate has to say. Only `decide` makes one, from a verdict that accepts.

    Args:
        spki: the key, a SubjectPublicKeyInfo in DER.
        report: the evidence's content, genuine and acceptable.
        names: host names and addresses that the policy gives to this workload.
        workload: digest of the workload that the evidence binds; empty where it binds none.
        lifetime: of the certificate.
        domain: below which the instance gets a name of its own; empty for none.
        nonce: whether the evidence bound a fresh nonce.
        notes: what a reader of the certificate must know.
        signer: SHA-256 of the key by whose statement the workload is accepted, in hex; empty where none was needed.
        policy: SHA-256 of the policy file.
    """

    spki: bytes
    report: VerifiedReport[Any]
    names: tuple[str, ...]
    workload: bytes
    lifetime: timedelta
    domain: str
    nonce: bool
    notes: tuple[str, ...]
    policy: bytes
    signer: str = ""
    seal: InitVar[object] = field(default=None, kw_only=True)

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise BugError("a Grant is made by decide and by nothing else")

    @property
    def markers(self) -> tuple[str, ...]:
        """`simulated` and `unprotected`, where true."""
        found = (("simulated", self.report.simulated), ("unprotected", not self.report.protected))
        return tuple(word for word, true in found if true)

    @property
    def workload_uri(self) -> str:
        """The workload as a URI, or nothing where evidence binds none.

        Source: RFC 6920, section 3.
        """
        digest = base64.urlsafe_b64encode(self.workload).rstrip(b"=").decode()
        return f"ni:///sha-256;{digest}" if self.workload else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request.

    Args:
        tee: short name, empty when that is not known.
        checks: all that was asked, in order.
        grant: there when nothing failed.
        ground: there when something did.
        request, evidence: SHA-256 of what came; empty for evidence that there was not.
        policy: SHA-256 of the policy file.
    """

    tee: str
    checks: tuple[Check, ...]
    grant: Grant | None
    ground: Ground | None
    now: datetime
    request: bytes
    evidence: bytes
    policy: bytes

    @property
    def accepted(self) -> bool:
        """Whether a certificate may be issued."""
        return self.grant is not None

    @property
    def failure(self) -> Check | None:
        """The check that decided, if the request was refused."""
        return first_failure(self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """All that failed."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of an accepted decision must know."""
        return tuple(check.note for check in self.checks if check.note)

    def require(self) -> Grant:
        """Hand out what may be issued.

        Raises:
            EvidenceError: the request was refused.
        """
        if self.grant is None:
            raise EvidenceError(self.tee or "request", self.checks)
        return self.grant


def decide(
    data: bytes,
    trust: Mapping[str, Trust],
    policy: Policy,
    now: datetime,
    nonce: bytes | None = None,
    secret: bytes = b"",
    proofs: Proofs = NO_PROOFS,
) -> Decision:
    """Judge one request.

    Args:
        data: a CertificationRequest in DER.
        trust: TEE → what its evidence is verified with; evidence of another TEE is refused.
        nonce: what the sender says the evidence binds beside the key.
        secret: by which nonces of ours are known; at least 32 bytes where there is a nonce.
        proofs: what speaks for the workload beside the evidence.
    Raises:
        UsageError: `now` has no time zone, or the secret is too short.
    """
    now = utc(now)
    checks = Checks("request")
    evidence = b""

    def refused(ground: Ground, name: str = "") -> Decision:
        return Decision(name, checks.all, None, ground, now, _digest(data), _digest(evidence), policy.digest)

    try:
        request = parse_request(data)
    except ParseError as error:
        checks.that("request.format", False, str(error), "a certificate request in DER", SPEC)
        return refused(Ground.MALFORMED)
    checks.that("request.format", True, f"{len(data)} bytes", "a certificate request in DER", SPEC)
    checks.one_of("request.key", request.key, policy.general.keys, "RFC 5480 section 2.1.1")  # (1)
    signed = checks.that("request.signature", request.is_signed(), "checked", "a signature by the key", SPEC)
    found = check_evidence(checks, request, trust, policy)  # (2)
    if found is None:
        strange = any(item.oid not in by_oid() for item in request.extensions)
        return refused(Ground.MALFORMED if strange else Ground.UNATTESTED)
    kind, evidence = found
    check_nonce(checks, nonce, secret, policy, now)  # (5)
    demands = Demands(
        report_data=kind.key_binding(request.spki) if nonce is None else nonces.binding(nonce, request.spki),
        accept_unattested=policy.general.accept_unattested,  # (4)
        workloads=None,
    )
    if not checks.passed("request.tee"):
        return refused(Ground.REFUSED if signed else Ground.MALFORMED, kind.NAME)
    verdict = judge(kind, lambda: kind.parse(evidence), trust[kind.NAME], policy, demands, now, proofs)  # (3) to (7)
    checks.extend(verdict.checks)
    if not checks.ok:
        return refused(Ground.REFUSED if signed else Ground.MALFORMED, kind.NAME)
    report = verdict.require()
    workload = find_workload(policy, report.workload, proofs, now)
    grant = Grant(
        spki=request.spki,
        report=report,
        names=workload.entry.names if workload.entry else (),
        workload=bound_digest(report.workload),
        lifetime=policy.general.lifetime,
        domain=policy.general.domain or "",
        nonce=nonce is not None and bool(report.report_data),
        notes=tuple(check.note for check in checks.all if check.note),
        policy=policy.digest,
        signer=workload.signer,
        seal=_SEAL,
    )
    return Decision(kind.NAME, checks.all, grant, None, now, _digest(data), _digest(evidence), policy.digest)


def check_evidence(
    checks: Checks, request: Request, trust: Mapping[str, Trust], policy: Policy
) -> tuple[Tee, bytes] | None:
    """The one extension with evidence, and whose it is; None when there is none to judge."""
    spec = "RFC 2985 section 5.4.2"
    known = by_oid()
    demanded = "one extension with evidence"
    strange = [item.oid for item in request.extensions if item.oid not in known]
    carried = [item for item in request.extensions if item.oid in known]
    if strange:
        checks.that("request.evidence", False, f"the unknown extension {strange[0]}", demanded, spec)
        return None
    if len(carried) != 1:
        checks.that("request.evidence", False, f"{len(carried)} extensions", demanded, spec)
        return None
    kind, value = known[carried[0].oid], carried[0].value
    checks.that("request.evidence", True, f"{kind.TITLE}, {len(value)} bytes", demanded, spec)
    allowed = [name for name in policy.general.tees if name in trust]
    checks.one_of("request.tee", kind.NAME, allowed, "policy, tees")
    return kind, value


def check_nonce(checks: Checks, nonce: bytes | None, secret: bytes, policy: Policy, now: datetime) -> None:
    """The nonce is one of ours, and fresh. That the evidence binds it, `evidence.binding` says."""
    if nonce is None and policy.general.require_nonce:
        checks.that("nonce.given", False, "none", "a nonce, as the policy requires it", NONCE_SPEC)
        return
    if nonce is None:
        checks.skip("nonce.given", "the request came without one", NONCE_SPEC, note="evidence of unknown age: no nonce")
        return
    checks.that("nonce.given", True, nonce[:8].hex(), "a nonce", NONCE_SPEC)
    age = nonces.read(secret, nonce)
    if checks.that("nonce.genuine", age.genuine, "checked", "a nonce that this service gave out", NONCE_SPEC):
        checks.within("nonce.age", age.issued - nonces.LEEWAY, age.issued + nonces.LIFE, now, NONCE_SPEC)


def judge(
    kind: Tee,
    parse: Callable[[], tuple[Any, Any]],
    trust: Trust,
    policy: Policy,
    demands: Demands,
    now: datetime,
    proofs: Proofs = NO_PROOFS,
) -> Verdict:
    """Take the TEE's three steps with each set of roots in turn, until one accepts.

    Args:
        parse: gives evidence and the collateral that came with it, as the TEE's `parse` does.
    Returns:
        The first verdict that accepts; else the one that came furthest, which says the most.
    Raises:
        BugError: there are no roots.
    """
    best: Verdict | None = None
    for roots in trust.roots:
        verdict = appraise(kind, _verifier(kind, parse, trust, roots, now), policy.of(kind.NAME), demands)
        verdict = with_workload(verdict, policy, proofs, now)
        if verdict.accepted:
            return verdict
        if best is None or (best.report is None and (verdict.report is not None or _passed(verdict) > _passed(best))):
            best = verdict
    if best is None:
        raise BugError(f"{kind.NAME}: judged without roots")
    return best


@dataclass(frozen=True, slots=True)
class Found:
    """Which workload of the policy evidence speaks of.

    Args:
        entry: None when it is none of them. why: what was found, for people. signer: see `Grant`.
    """

    entry: Workload | None
    why: str
    signer: str = ""


def find_workload(policy: Policy, bound: bytes, proofs: Proofs, now: datetime) -> Found:
    """The first entry that names the workload by its digest; else by its package; else by who signed for either."""
    entry = policy.workload(bound) if policy.workloads else None
    if entry is not None or not policy.workloads:
        return Found(entry, shown(bound))
    digest = bound_digest(bound)
    if not digest:
        return Found(None, "none" if not any(bound) else shown(bound))
    known, why = [digest], [shown(bound)]
    roots: frozenset[bytes] = frozenset()
    if proofs.descriptor is not None:
        try:
            package, roots = package_of(proofs.descriptor, digest), roots_of(proofs.descriptor)
        except ParseError as error:
            why.append(str(error))
        else:
            known.append(package)
            why.append(f"package {package.hex()}")
            for item in policy.workloads:
                if package not in item.package:
                    continue
                if roots <= set(item.roots):
                    return Found(item, ", ".join(why))
                why.append(_strange(roots, item))
    for envelope in proofs.about(known):
        for name in envelope.signatures:
            if name not in policy.signers:
                continue
            item, signer = policy.signers[name]
            if not is_by(envelope, signer):
                continue
            reason = refusal(envelope, now)
            if not reason and envelope.digest != digest and not roots <= set(item.roots):
                reason = f"a statement about the package, started {_strange(roots, item)}"
            if not reason:
                until = shown(envelope.not_after)
                return Found(item, ", ".join([*why, f"signed for by {name[:16]} until {until}"]), name)
            if len(why) < MAX_REASONS:
                why.append(reason)
    return Found(None, ", ".join(why))


def _strange(roots: frozenset[bytes], item: Workload) -> str:
    """A package that was started with other roots than the policy lists."""
    return f"with roots that the policy does not list: {shown(sorted(roots - set(item.roots)))}"


def with_workload(verdict: Verdict, policy: Policy, proofs: Proofs, now: datetime) -> Verdict:
    """Ask for the workload, when the policy names any; the question is the Steward's and not the TEE's."""
    if verdict.report is None:
        return verdict
    checks = Checks(verdict.tee, [check for check in verdict.checks if check.name != "evidence.workload"])
    spec = "policy, [[workload]]"
    bound = verdict.report.workload
    if not policy.workloads:
        note = "the policy names no workloads: any passes" if bound_digest(bound) else ""
        checks.skip("evidence.workload", "the policy names no workloads", spec, note=note)
    else:
        found = find_workload(policy, bound, proofs, now)
        demanded = f"one of {len(policy.workloads)} workloads of the policy"
        checks.that("evidence.workload", found.entry is not None, found.why, demanded, spec)
    return Verdict(verdict.tee, checks.all, verdict.report, None if checks.ok else first_failure(checks.all))


def bound_digest(bound: bytes) -> bytes:
    """The digest that a TEE's workload field holds: 32 bytes that are not zero, and only zeros after them; or nothing.

    What is not of this form was not put there by a launcher of ours, so nobody can say what it means.
    """
    digest, rest = bound[:32], bound[32:]
    return digest if len(digest) == 32 and any(digest) and not any(rest) else b""


@cache
def by_oid() -> Mapping[str, Tee]:
    """Every TEE, by the extension that carries its evidence."""
    return {kind.OID: kind for kind in map(tee.load, tee.ALL)}


def _verifier(
    kind: Tee, parse: Callable[[], tuple[Any, Any]], trust: Trust, roots: Roots, now: datetime
) -> Callable[[], VerifiedReport[Any]]:
    def verify() -> VerifiedReport[Any]:
        evidence, collateral = parse()
        return kind.verify(evidence, trust.complete(evidence, collateral), roots, now)

    return verify


def _passed(verdict: Verdict) -> int:
    return sum(check.outcome is Outcome.PASSED for check in verdict.checks)


def _digest(data: bytes) -> bytes:
    return sha256(data).digest() if data else b""
