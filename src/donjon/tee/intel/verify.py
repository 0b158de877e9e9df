"""Is a quote genuine? The steps that SGX and TDX share; each TEE's `verify.py` adds what its own report needs.

    (1) the quote brings the certificates of its platform's key (PCK);
    (2) they are Intel's: pinned root, names, signatures, what each may do, valid at `now`;
    (3) the CRLs of root and PCK issuer are at hand, signed and fresh, and revoke nothing that is used;
    (4) the PCK signs the quoting enclave's (QE) report, and that report names the attestation key;
    (5) the QE is Intel's: its report is as the QE identity says, which is signed, fresh, and of this TEE. Without this
        anybody who is root on one genuine machine can have an enclave of their own certified, and sign what they like;
    (6) the attestation key signs the quote;
    (7) TCB info is signed, fresh, of this TEE, and about this kind of platform;
    (8) for TDX: the module that runs TDs is the one that TCB info describes.

What state the platform's TCB is in is found out here and judged by policy. Verification goes on after a failed check,
so that a refusal says everything; only what rests on bytes that nobody has signed is left out.

Not checked: the issuer chain that comes with a PCK CRL, as the quote's own chain has the issuer. QE SVN and PCE SVN in
the quote's header, as the PCK certificate and the QE report have them from who knows. The PCK certificate's CPUSVN,
which repeats the components.

Numbers 4.1.2.x are those of Intel's verification library [QVL].
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from donjon.errors import BugError
from donjon.tee.contract import Check, Checks, Outcome, Roots, shown
from donjon.tee.intel import pck, tcb, x509
from donjon.tee.intel.collateral import MAX_KEPT, Collateral, Signed, split_crls
from donjon.tee.intel.layout import PCK_CHAIN, Signature
from donjon.tee.intel.p256 import is_known, is_signed
from donjon.tee.intel.tcb import QeIdentity, State, TcbInfo, TcbStatus

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
BEGINNING = datetime.min.replace(tzinfo=UTC)
END = datetime.max.replace(tzinfo=UTC)
ROOT = "SGX Root CA"
"""The anchor's name in `Roots`."""
_PCK_NAMES = f"{pck.LEAF_NAME}, {' or '.join(pck.CA_NAMES)}, {pck.ROOT_NAME}"


@dataclass(frozen=True, slots=True)
class Td:
    """What the state of a TD's platform depends on, from the TD report; for SGX there is no such thing.

    Args:
        tee_tcb_svn: 16 numbers. tee_tcb_svn_2: the same for the module that is loaded now; None in a report 1.0.
    """

    tee_tcb_svn: bytes
    tee_tcb_svn_2: bytes | None
    mr_signer_seam: bytes
    seam_attributes: bytes


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote as far as these steps go.

    Args:
        tcb_id, qe_id: which lists of Intel's are about this TEE: "SGX" and "QE", or "TDX" and "TD_QE".
        signed: header and body, with whatever lies between.
    """

    tcb_id: str
    qe_id: str
    signed: bytes
    signature: Signature
    td: Td | None = None


@dataclass(slots=True)
class Findings:
    """What verification has found, for policy and for humans; None is what could not be found out.

    Args:
        status: of all together. platform_state: of the PCK certificate's numbers, for TDX with the TD report's;
            qe_state, module_state: of the QE and of the TDX module. module_id: "TDX_01", or "" for one without.
        advisories: Intel's ids, of all three, each once.
        evaluation: tcbEvaluationDataNumber, the lower of the two lists'.
        stale: how long ago the oldest collateral has ended; zero if none has.
        valid_from, valid_until: when all of it holds, with the grace of the collateral.
        missing: "root_ca_crl", "pck_crl", "tcb_info", "qe_identity".
    """

    platform: pck.Platform | None = None
    status: TcbStatus | None = None
    platform_state: State | None = None
    qe_state: State | None = None
    module_state: State | None = None
    module_id: str = ""
    advisories: tuple[str, ...] = ()
    evaluation: int | None = None
    stale: timedelta = timedelta(0)
    valid_from: datetime = BEGINNING
    valid_until: datetime = END
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Genuine(Generic[E_co]):
    """What a `VerifiedReport` of SGX or TDX carries for policy: the evidence, and what is known of the platform.

    Args:
        evidence: as parsed. The other fields are those of `Findings`, where all of them are known.
        collateral, roots: with which it was verified, for a second opinion.
    """

    evidence: E_co
    platform: pck.Platform
    status: TcbStatus
    platform_state: State
    qe_state: State
    module_state: State | None
    module_id: str
    advisories: tuple[str, ...]
    evaluation: int
    stale: timedelta
    collateral: Collateral
    roots: Roots

    def tcb(self) -> dict[str, object]:
        """The state in Intel's words, for verdicts and certificates."""
        shown: dict[str, object] = {
            "status": str(self.status),
            "platform_status": str(self.platform_state.status),
            "qe_status": str(self.qe_state.status),
            "date": f"{self.platform_state.date:%Y-%m-%d}" if self.platform_state.date else "",
            "evaluation": self.evaluation,
            "advisories": list(self.advisories),
            "components": list(self.platform.components),
            "pcesvn": self.platform.pcesvn,
        }
        if self.module_state is not None:
            shown |= {"tdx_module": self.module_id, "tdx_module_status": str(self.module_state.status)}
        return shown


def genuine(checks: Checks, evidence: E, found: Findings, collateral: Collateral, roots: Roots) -> Genuine[E]:
    """Put evidence and findings together.

    Raises:
        EvidenceError: a check has failed.
        BugError: none has, but something is not known.
    """
    if not checks.ok:
        raise checks.refusal()
    if (
        found.platform is None
        or found.status is None
        or found.platform_state is None
        or found.qe_state is None
        or found.evaluation is None
    ):
        raise BugError("a quote without a failed check, of which the state is unknown")
    return Genuine(
        evidence,
        found.platform,
        found.status,
        found.platform_state,
        found.qe_state,
        found.module_state,
        found.module_id,
        found.advisories,
        found.evaluation,
        found.stale,
        collateral,
        roots,
    )


def check_quote(checks: Checks, quote: Quote, collateral: Collateral, roots: Roots, now: datetime) -> Findings:
    """Take the steps above; see there.

    Args:
        now: with its zone.
    Returns:
        what was found; whether all is well, `checks` says.
    Raises:
        ParseError: a certificate, a CRL or a signed object cannot be read.
    """
    signature = quote.signature
    found = Findings()
    if not checks.equal(  # (1)
        "quote.certification_type", signature.certification_type, PCK_CHAIN, "SGX-QUOTE3 A.4"
    ):
        return found
    judgement = _Judgement(checks, collateral, roots, now, found, signature.chain)
    judgement.check_platform()  # (2), (3)
    found.platform = pck.platform(signature.chain[0])
    judgement.check_qe_report(signature)  # (4)
    identity = judgement.check_qe(quote)  # (5)
    checks.that(  # (6)
        "quote.signature",
        is_signed(quote.signed, signature.quote_signature, signature.key),
        signature.quote_signature,
        "the attestation key's over header and body",
        "QVL 4.1.2.4.16",
    )
    info = judgement.check_tcb_info(quote, found.platform)  # (7)
    if info and quote.td:
        judgement.check_tdx_module(info, quote.td)  # (8)
    judgement.settle(quote, info, identity)
    return found


@dataclass(frozen=True, slots=True)
class _Window:
    """A question about time, to be asked at each judgement: of collateral, whether it is in its time or the grace."""

    name: str
    start: datetime
    end: datetime | None
    collateral: bool


@dataclass(frozen=True, slots=True)
class _Standing:
    """What certificates and lists are at any time, whoever shows them: the same bytes, the same answers.

    Args:
        steps: in order, what was asked and what has to be asked at each judgement.
        missing: what nobody brought. root_crl: the root's list, where it can be believed.
        key: the PCK's. believed: whether the list was signed by whom it should be, down from the pinned root.
    """

    steps: tuple[Check | _Window, ...]
    missing: tuple[str, ...] = ()
    key: EllipticCurvePublicKey | None = None
    root_crl: x509.Crl | None = None
    believed: bool = False


class _RefusedError(Exception):
    """Carries a standing that is not to be remembered: anybody can send what has none."""

    def __init__(self, standing: _Standing) -> None:
        super().__init__()
        self.standing = standing


def _platform_standing(chain: tuple[bytes, ...], crls: tuple[bytes, ...], anchor: bytes) -> _Standing:
    """Of the PCK chain and the CRLs: steps (2) and (3)."""
    try:
        short = sum(map(len, crls)) <= MAX_KEPT
        return (_good_platform if short else _good_platform.__wrapped__)(chain, crls, anchor)
    except _RefusedError as refused:
        return refused.standing


@lru_cache(maxsize=256)
def _good_platform(chain: tuple[bytes, ...], crls: tuple[bytes, ...], anchor: bytes) -> _Standing:
    steps = _Steps(anchor)
    facts = steps.check_pck(chain)
    root_crl = steps.check_crls(chain, crls)
    return steps.standing(_Standing(tuple(steps.steps), steps.missing, facts.key, root_crl))


def _list_standing(name: str, signed: Signed, root: bytes, root_crl: x509.Crl | None, anchor: bytes) -> _Standing:
    """Of TCB info or QE identity, as signed by Intel.

    Args:
        root: the PCK chain's. Anybody can make one that is not pinned, and CRLs below it: then nothing is remembered.
    """
    try:
        short = root == anchor and len(signed.body) + (len(root_crl.der) if root_crl else 0) <= MAX_KEPT
        return (_good_list if short else _good_list.__wrapped__)(name, signed, root, root_crl, anchor)
    except _RefusedError as refused:
        return refused.standing


@lru_cache(maxsize=256)
def _good_list(name: str, signed: Signed, root: bytes, root_crl: x509.Crl | None, anchor: bytes) -> _Standing:
    steps = _Steps(anchor)
    believed = steps.check_signed(name, signed, root, root_crl)
    return steps.standing(_Standing(tuple(steps.steps), believed=believed))


class _Steps:
    """Makes a standing. Nothing here knows the time."""

    def __init__(self, anchor: bytes) -> None:
        self.anchor = anchor
        digest = hashlib.sha256(anchor).hexdigest() if anchor else "but none is pinned"
        self.pinned = f"the pinned root, {digest}"
        self.steps: list[Check | _Window] = []
        self.missing: tuple[str, ...] = ()

    def standing(self, made: _Standing) -> _Standing:
        """Hand it over.

        Raises:
            _RefusedError: a question has failed.
        """
        if any(isinstance(step, Check) and step.outcome is Outcome.FAILED for step in made.steps):
            raise _RefusedError(made)
        return made

    def that(self, name: str, ok: bool, found: object, demanded: object, spec: str) -> bool:
        """As `Checks.that`."""
        self.steps.append(Check(name, Outcome.PASSED if ok else Outcome.FAILED, shown(found), shown(demanded), spec))
        return ok

    def check_pck(self, chain: tuple[bytes, ...]) -> x509.Chain:
        """The PCK certificate, its issuer, the root."""
        facts = x509.chain(chain)
        names = facts.names
        self.that(
            "pck.names",
            len(names) == 3 and names[0] == pck.LEAF_NAME and names[1] in pck.CA_NAMES and names[2] == pck.ROOT_NAME,
            ", ".join(names),
            _PCK_NAMES,
            "QVL 4.1.2.4.4",
        )
        self.check_chain("pck", chain[-1], facts)
        return facts

    def check_chain(self, name: str, root: bytes, chain: x509.Chain) -> bool:
        """Whether a chain is one, and ends where it has to."""
        trusted = self.that(f"{name}.root", root == self.anchor, chain.root, self.pinned, "QVL 4.1.2.2")
        whole = self.that(
            f"{name}.chain",
            not chain.problem,
            chain.problem or f"{len(chain.names)} certificates",
            "each issued by the next",
            "RFC 5280 6.1",
        )
        self.steps.append(_Window(f"{name}.validity", chain.start, chain.end, collateral=False))
        return trusted and whole

    def check_crls(self, chain: tuple[bytes, ...], crls: tuple[bytes, ...]) -> x509.Crl | None:
        """The CRLs, and the PCK chain against them."""
        root, issued = split_crls(Collateral(crls), chain)
        root_crl = self.check_crl("root_ca_crl", root, chain[-1])
        pck_crl = self.check_crl("pck_crl", issued, chain[1] if len(chain) > 1 else chain[0])
        if len(chain) > 1:
            self.check_revoked("pck_ca.not_revoked", root_crl, chain[1], chain[-1])
            self.check_revoked("pck.not_revoked", pck_crl, chain[0], chain[1])
        return root_crl

    def check_crl(self, name: str, crl: x509.Crl | None, issuer: bytes) -> x509.Crl | None:
        """The CRL, if it is at hand and signed by its issuer."""
        if crl is None:
            self.missing += (name,)
            self.that(f"{name}.present", False, "nothing", "at hand", "PCS v4")
            return None
        self.that(f"{name}.present", True, crl.issuer_name, "at hand", "QVL 4.1.2.4.6")
        try:
            x509.revoked(crl.der, issuer)
            problem = ""
        except x509.BadChainError as error:
            problem = str(error)
        good = self.that(f"{name}.signature", not problem, problem or "signed", "its issuer's", "RFC 5280 6.3.3")
        self.steps.append(_Window(f"{name}.validity", crl.this_update, crl.next_update, collateral=True))
        return crl if good else None

    def check_revoked(self, name: str, crl: x509.Crl | None, der: bytes, issuer: bytes) -> None:
        """Whether a list that can be believed names a certificate."""
        serial = x509.certificate(der).serial_number
        if crl is None:
            why = "there is no CRL that could be believed"
            self.steps.append(Check(name, Outcome.NOT_APPLICABLE, why, "", "QVL 4.1.2.4.7"))
        else:
            revoked = serial in x509.revoked(crl.der, issuer)
            self.that(
                name, not revoked, f"{serial:x} {'in' if revoked else 'not in'} the CRL", "not listed", "QVL 4.1.2.4.7"
            )

    def check_signed(self, name: str, signed: Signed, root: bytes, root_crl: x509.Crl | None) -> bool:
        """Whether Intel signed the object."""
        self.that(f"{name}.present", True, f"{len(signed.body)} bytes", "at hand", "PCS v4")
        signer = x509.chain(signed.chain)
        expected = (pck.TCB_SIGNER_NAME, pck.ROOT_NAME)
        named = self.that(f"{name}_signer.names", signer.names == expected, signer.names, expected, "QVL 4.1.2.7")
        trusted = self.check_chain(f"{name}_signer", signed.chain[-1], signer)
        self.check_revoked(f"{name}_signer.not_revoked", root_crl, signed.chain[0], root)
        good = self.that(
            f"{name}.signature",
            signer.key is not None and is_known(signed.body, signed.signature, signer.key),
            signed.signature,
            "the TCB signer's over the object as it came",
            "QVL 4.1.2.7",
        )
        return named and trusted and good


class _Judgement:
    """The arguments that all steps need, and what they find."""

    def __init__(
        self,
        checks: Checks,
        collateral: Collateral,
        roots: Roots,
        now: datetime,
        found: Findings,
        chain: tuple[bytes, ...],
    ) -> None:
        self.checks = checks
        self.collateral = collateral
        self.anchor = roots.anchors.get(ROOT, b"")
        self.now = now
        self.found = found
        self.chain = chain
        self.platform = _platform_standing(chain, collateral.crls, self.anchor)

    def check_platform(self) -> None:
        """The PCK chain and the CRLs."""
        self._ask(self.platform)

    def _ask(self, standing: _Standing) -> None:
        """Take over what holds at any time, and ask about this one."""
        self.found.missing += standing.missing
        for step in standing.steps:
            if isinstance(step, Check):
                self.checks.record(step)
            elif step.collateral:
                self._check_fresh(step.name, step.start, step.end)
            elif step.end is not None:
                self._narrow(step.start, step.end)
                self.checks.within(step.name, step.start, step.end, self.now, "RFC 5280 4.1.2.5")

    def check_qe_report(self, signature: Signature) -> None:
        """The PCK signs the QE report, the QE report names the attestation key."""
        key = self.platform.key
        self.checks.that(
            "qe.signature",
            key is not None and is_signed(signature.qe_report_signed, signature.qe_signature, key),
            signature.qe_signature,
            "the PCK's over the QE report",
            "QVL 4.1.2.4.12",
        )
        digest = hashlib.sha256(signature.attestation_key + signature.authentication_data).digest()
        self.checks.equal("qe.key", signature.qe_report.report_data, digest + bytes(32), "QVL 4.1.2.4.13")

    def check_qe(self, quote: Quote) -> QeIdentity | None:
        """The QE identity, and the QE against it."""
        body = self._check_signed("qe_identity", self.collateral.qe_identity)
        if body is None:
            return None
        identity = tcb.qe_identity(body)
        self._check_fresh("qe_identity.validity", identity.issue_date, identity.next_update)
        if not self.checks.equal("qe_identity.id", identity.id, quote.qe_id, "QVL 4.1.2.4.14"):
            return None
        report = quote.signature.qe_report
        self.checks.equal("qe.mr_signer", report.mr_signer, bytes(identity.mrsigner), "QVL 4.1.2.9.7")
        self.checks.equal("qe.isv_prod_id", report.isv_prod_id, identity.isvprodid, "QVL 4.1.2.9.8")
        misc = int(report.misc_select).to_bytes(4, "little")
        self._check_masked("qe.misc_select", misc, identity.miscselect, identity.miscselect_mask, "QVL 4.1.2.9.5")
        attributes = int(report.attributes).to_bytes(8, "little") + report.xfrm.to_bytes(8, "little")
        self._check_masked("qe.attributes", attributes, identity.attributes, identity.attributes_mask, "QVL 4.1.2.9.6")
        return identity

    def _check_masked(self, name: str, found: bytes, demanded: bytes, mask: bytes, spec: str) -> None:
        masked, wanted = _masked(found, mask), _masked(demanded, mask)
        self.checks.that(name, masked == wanted, found, f"{wanted.hex()} under {mask.hex()}", spec)

    def check_tcb_info(self, quote: Quote, platform: pck.Platform) -> TcbInfo | None:
        """TCB info, and whether it is about this platform."""
        body = self._check_signed("tcb_info", self.collateral.tcb_info)
        if body is None:
            return None
        info = tcb.tcb_info(body)
        self._check_fresh("tcb_info.validity", info.issue_date, info.next_update)
        about = (
            self.checks.equal("tcb_info.id", info.id, quote.tcb_id, "QVL 4.1.2.4.9"),
            self.checks.equal("tcb_info.fmspc", bytes(info.fmspc), platform.fmspc, "QVL 4.1.2.4.10"),
            self.checks.equal("tcb_info.pceid", bytes(info.pce_id), platform.pceid, "QVL 4.1.2.4.10"),
        )
        return info if all(about) else None

    def _check_signed(self, name: str, signed: Signed | None) -> bytes | None:
        """The object's bytes, if Intel signed them."""
        if signed is None:
            self.found.missing += (name,)
            self.checks.that(f"{name}.present", False, "nothing", "at hand", "PCS v4")
            return None
        standing = _list_standing(name, signed, self.chain[-1], self.platform.root_crl, self.anchor)
        self._ask(standing)
        return signed.body if standing.believed else None

    def check_tdx_module(self, info: TcbInfo, td: Td) -> None:
        """The TDX module's signer and attributes."""
        version = td.tee_tcb_svn[1]
        expected: tcb.TdxModule | tcb.TdxModuleIdentity | None = info.tdx_module
        if version:
            self.found.module_id = f"TDX_{version:02X}"
            expected = identity = tcb.module_identity(info, version)
            known = ", ".join(module.id for module in info.tdx_module_identities) or "none"
            self.checks.that(
                "tdx_module.known", identity is not None, self.found.module_id, f"one of {known}", "QVL 4.1.2.4.11"
            )
            if identity is not None:
                self.found.module_state = tcb.enclave_state(identity.tcb_levels, td.tee_tcb_svn[0])
        else:
            self.checks.skip("tdx_module.known", "a module without a version of its own", "QVL 4.1.2.4.11")
        if expected is not None:
            self.checks.equal("tdx_module.mr_signer", td.mr_signer_seam, bytes(expected.mrsigner), "QVL 4.1.2.4.11.1")
            inside = _masked(td.seam_attributes, expected.attributes_mask)
            wanted = _masked(expected.attributes, expected.attributes_mask)
            self.checks.that(
                "tdx_module.attributes",
                inside == wanted and inside == td.seam_attributes,
                td.seam_attributes,
                f"{wanted.hex()} under {expected.attributes_mask.hex()}, and no other bit",
                "QVL 4.1.2.4.11.2",
            )

    def settle(self, quote: Quote, info: TcbInfo | None, identity: QeIdentity | None) -> None:
        """Work out the state of the TCB from what can be believed."""
        found = self.found
        numbers = [item.tcb_evaluation_data_number for item in (info, identity) if item is not None]
        found.evaluation = min(numbers, default=None)
        if identity is not None:
            found.qe_state = tcb.enclave_state(identity.tcb_levels, quote.signature.qe_report.isv_svn)
        if info is not None and found.platform is not None:
            td = quote.td
            numbers_of_td = td.tee_tcb_svn if td else None
            sgx, found.platform_state = tcb.platform_states(info, found.platform, numbers_of_td)
            status = found.platform_state.status
            if found.module_state is not None:
                status = tcb.converge(status, found.module_state.status)
                if td and td.tee_tcb_svn_2 is not None:
                    qe = found.qe_state.status if found.qe_state else None
                    module = found.module_state.status
                    status = tcb.relaunch(info, td.tee_tcb_svn_2, sgx.status, status, module, qe)
            if found.qe_state is not None:
                status = tcb.converge(status, found.qe_state.status)
            found.status = status
        states = (found.platform_state, found.module_state, found.qe_state)
        found.advisories = tcb.union(*(state.advisories for state in states if state is not None))

    def _check_fresh(self, name: str, start: datetime, end: datetime | None) -> None:
        """Whether collateral is in its time, or out of it by no more than the grace."""
        note = ""
        if end is not None:
            grace = min(self.collateral.grace, END - end)
            if end < self.now <= end + grace:
                late = self.now - end
                self.found.stale = max(self.found.stale, late)
                note = f"ended {late.days} days and {late.seconds // 3600} hours before"
            end += grace
            self._narrow(start, end)
        self.checks.within(name, start, end, self.now, "QVL 4.1.2.7", note)

    def _narrow(self, start: datetime, end: datetime) -> None:
        self.found.valid_from = max(self.found.valid_from, start)
        self.found.valid_until = min(self.found.valid_until, end)


def _masked(value: bytes, mask: bytes) -> bytes:
    """The bits of `value` that `mask` has; both are equally long."""
    if len(value) != len(mask):
        raise BugError(f"{len(value)} bytes under a mask of {len(mask)}")
    return (int.from_bytes(value, "big") & int.from_bytes(mask, "big")).to_bytes(len(mask), "big")
