"""Is a genuine SGX quote acceptable? The table `[sgx]` of a policy file, and its questions.

    [sgx]
    signer = ["7a49a07d..."]                  # Enarx's keys, with their meaning
    hash = ["4046ea25..."]
    hash_blacklist = []
    features = ["KSS"]
    enclave_security_version = 1
    enclave_product_id = 0
    misc_select = ["EXINFO"]
    allowed_advisories = ["INTEL-SA-00615"]
    allowed_statuses = ["UpToDate", "SWHardeningNeeded"]      # and ours, see `IntelPolicy`

Enarx checks `features` and `misc_select` only where the file has them; here, without them, the harmless ones may pass
and nothing else. All findings are reported at once.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Annotated

import msgspec

from donjon.tee.contract import Check, Checks, Hex16, Hex32, Hex64, VerifiedReport
from donjon.tee.intel.policy import XFRM_KNOWN, XFRM_REQUIRED, Count, IntelPolicy, judge_platform
from donjon.tee.intel.verify import Genuine
from donjon.tee.sgx.evidence import Evidence
from donjon.tee.sgx.layout import Attributes, EnclaveReport, MiscSelect

SPEC = "SDM volume 3D, ATTRIBUTES"
SPEC_REPORT = "SDM volume 3D, REPORT"


class Feature(StrEnum):
    """Flags of an enclave that need not be set, in Enarx's words."""

    CET = "CET"
    DEBUG = "Debug"
    EINIT_KEY = "EInitKey"
    KSS = "KSS"
    PROVISIONING_KEY = "ProvisioningKey"
    AEX_NOTIFY = "AEXNotify"


_BITS = {
    Feature.CET: Attributes.CET,
    Feature.DEBUG: Attributes.DEBUG,
    Feature.EINIT_KEY: Attributes.EINITTOKEN_KEY,
    Feature.KSS: Attributes.KSS,
    Feature.PROVISIONING_KEY: Attributes.PROVISION_KEY,
    Feature.AEX_NOTIFY: Attributes.AEXNOTIFY,
}
_BASE = Attributes.INIT | Attributes.MODE64BIT


class Misc(StrEnum):
    """Parts of an enclave's saved state beyond the basic one."""

    EXINFO = "EXINFO"
    CPINFO = "CPINFO"


class Policy(IntelPolicy, frozen=True, kw_only=True):
    """The table `[sgx]`; `Policy()` is the safe default.

    Args:
        signer: MRSIGNER, SHA-256 of who signed the enclave. hash: MRENCLAVE, of what is in it. Both are asked where
            both are given; an empty list asks nothing. hash_blacklist: MRENCLAVE that may not pass.
        features: flags that may be set beside INIT and MODE64BIT, which must be. "Debug" lets the host read the
            enclave; "ProvisioningKey" lets the enclave recognise the platform for ever.
        enclave_security_version: lowest ISVSVN. enclave_product_id: the ISVPRODID.
        misc_select: bits of MISCSELECT that may be set.
        allowed_xfrm: bits of XFRM, the processor's extensions, that the enclave may use.
        config_id, family_id, extended_product_id: what these may be; enclaves without KSS then do not pass.
        config_svn: lowest CONFIGSVN, likewise.
    """

    signer: tuple[Hex32, ...] = ()
    hash: tuple[Hex32, ...] = ()
    hash_blacklist: tuple[Hex32, ...] = ()
    features: tuple[Feature, ...] = (Feature.CET, Feature.KSS, Feature.AEX_NOTIFY)
    enclave_security_version: Count = 0
    enclave_product_id: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)] | None = None
    misc_select: tuple[Misc, ...] = tuple(Misc)
    allowed_xfrm: Count = XFRM_KNOWN
    config_id: tuple[Hex64, ...] = ()
    config_svn: Count = 0
    family_id: tuple[Hex16, ...] = ()
    extended_product_id: tuple[Hex16, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        both = set(self.hash) & set(self.hash_blacklist)
        if both:
            raise ValueError(f"hash and hash_blacklist: expected different ones, got {min(both).hex()} in both")


def judge(report: VerifiedReport[Genuine[Evidence]], policy: Policy) -> tuple[Check, ...]:
    """Ask everything that the policy asks; every finding, failed ones too."""
    checks = Checks("sgx")
    body = report.report.evidence.body
    _judge_flags(checks, body, policy)
    _judge_identity(checks, body, policy)
    _judge_kss(checks, body, policy)
    judge_platform(checks, report.report, policy, report.judged_at)
    return checks.all


def _judge_flags(checks: Checks, body: EnclaveReport, policy: Policy) -> None:
    attributes = body.attributes
    checks.that("enclave.base", attributes & _BASE == _BASE, attributes, _BASE, SPEC)
    debug = Attributes.DEBUG in attributes
    checks.that(
        "enclave.debug",
        not debug or Feature.DEBUG in policy.features,
        debug,
        "yes or no" if Feature.DEBUG in policy.features else False,
        SPEC,
        "the host can read and change this enclave" if debug else "",
    )
    allowed = _allowed(policy.features)
    more = int(attributes) & ~int(allowed)
    checks.that("enclave.features", not more, attributes, f"only {allowed.name}", SPEC)
    misc = 0
    for item in policy.misc_select:
        misc |= int(MiscSelect[item])  # a number: ~ of a flag forgets bits that have no name
    checks.that(
        "enclave.misc_select",
        not int(body.misc_select) & ~misc,
        hex(body.misc_select),
        f"only {misc:#x}",
        "SDM volume 3D, MISCSELECT",
    )
    checks.that(
        "enclave.xfrm",
        body.xfrm & XFRM_REQUIRED == XFRM_REQUIRED and not body.xfrm & ~policy.allowed_xfrm,
        hex(body.xfrm),
        f"{XFRM_REQUIRED:#x}, and only {policy.allowed_xfrm:#x}",
        "SDM volume 3D, XFRM",
    )


@lru_cache(maxsize=64)
def _allowed(features: tuple[Feature, ...]) -> Attributes:
    found = _BASE | Attributes.DEBUG  # which has been asked for
    for feature in features:
        found |= _BITS[feature]
    return found


def _judge_identity(checks: Checks, body: EnclaveReport, policy: Policy) -> None:
    _among(checks, "enclave.signer", body.mr_signer, policy.signer, "signers")
    note = "" if policy.hash or policy.signer else "the policy names no enclave: any passes"
    _among(checks, "enclave.hash", body.mr_enclave, policy.hash, "enclaves", note)
    denied = body.mr_enclave in policy.hash_blacklist
    checks.that("enclave.hash_blacklist", not denied, body.mr_enclave, "not on the list", SPEC_REPORT)
    if policy.enclave_product_id is None:
        checks.skip("enclave.product_id", "the policy names none", SPEC_REPORT)
    else:
        checks.equal("enclave.product_id", body.isv_prod_id, policy.enclave_product_id, SPEC_REPORT)
    checks.at_least("enclave.security_version", body.isv_svn, policy.enclave_security_version, SPEC_REPORT)


def _judge_kss(checks: Checks, body: EnclaveReport, policy: Policy) -> None:
    """What key separation and sharing adds: the processor vouches for these fields only where it is on."""
    kss = Attributes.KSS in body.attributes
    for name, found, allowed, what in (
        ("enclave.config_id", body.config_id, policy.config_id, "configurations"),
        ("enclave.family_id", body.isv_family_id, policy.family_id, "families"),
        ("enclave.extended_product_id", body.isv_ext_prod_id, policy.extended_product_id, "extended products"),
    ):
        if allowed and not kss:
            checks.that(name, False, "an enclave without KSS", "one with it", SPEC_REPORT)
        else:
            _among(checks, name, found, allowed, what)
    if policy.config_svn:
        found_svn = body.config_svn if kss else -1
        checks.at_least("enclave.config_svn", found_svn, policy.config_svn, SPEC_REPORT)
    else:
        checks.skip("enclave.config_svn", "the policy names none", SPEC_REPORT)


def _among(checks: Checks, name: str, found: bytes, allowed: tuple[bytes, ...], what: str, note: str = "") -> None:
    """One of a list that is empty when nobody asks; `note` is for who has to know that."""
    if allowed:
        checks.one_of(name, found, map(bytes, allowed), SPEC_REPORT)
    else:
        checks.skip(name, f"the policy names no {what}", SPEC_REPORT, note=note)
