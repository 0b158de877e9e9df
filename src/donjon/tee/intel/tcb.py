"""Which state a platform's trusted computing base (TCB) is in: Intel's lists of levels, and how the answers combine.

A platform has SVNs (security version numbers): 16 components and the PCESVN in its PCK certificate, for TDX another 16
in the TD report. TCB info lists levels, the newest first, each with a status; the first level that the platform reaches
in every number is the platform's. The quoting enclave and the TDX module have levels of their own by their ISVSVN, and
the worst of all counts. Nothing here is refused: that is for policy.

Sources: PCS API v4, "Get TCB Info" and "Get Enclave Identity" [PCS]; Intel's verification library, steps 4.1.2.4.17
[QVL]. Where both are silent or Intel's code differs from its text, we do what the code does:
- levels are put in order by their numbers, whatever the order of the text;
- with a TDX module that has a version of its own (TEE_TCB_SVN[1] > 0), the first two TDX components of a level are not
  compared, as the module's own levels judge them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from donjon.errors import BugError, ParseError
from donjon.tee.contract import Hex, Hex16, Hex32, Hex48
from donjon.tee.intel import strictjson
from donjon.tee.intel.pck import COMPONENTS, Platform


class TcbStatus(StrEnum):
    """A state, in Intel's words, from good to bad.

    SWHardeningNeeded: the enclave must have been built with mitigations. ConfigurationNeeded: so must the machine's
    owner have switched something. OutOfDate: known weaknesses are not fixed. TDRelaunchAdvised: the TDX module has been
    updated, but the TD started before that. Revoked: keys of this level may be known to others. NotSupported (ours
    and QVL's, never in Intel's lists): below every level.
    """

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    NOT_SUPPORTED = "NotSupported"


_LISTED = frozenset(TcbStatus) - {
    TcbStatus.NOT_SUPPORTED,
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}
_ENCLAVE = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
CONFIGURATION = frozenset(status for status in TcbStatus if "Configuration" in status)
"""States that ask the machine's owner to change a setting."""


# What Intel sends. Fields that are unknown here are passed over: all of it is signed, and Intel adds some.


class Hex2(Hex):
    """2 bytes."""

    __slots__ = ()
    size = 2


class Hex4(Hex):
    """4 bytes."""

    __slots__ = ()
    size = 4


class Hex6(Hex):
    """6 bytes."""

    __slots__ = ()
    size = 6


class Hex8(Hex):
    """8 bytes."""

    __slots__ = ()
    size = 8


_Svn = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
_Svn16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Advisories = Annotated[
    tuple[Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9-]{1,40}$")], ...], msgspec.Meta(max_length=1000)
]


class Component(msgspec.Struct, frozen=True):
    """One number of a level."""

    svn: _Svn


class Numbers(msgspec.Struct, frozen=True):
    """What a platform must reach in every number."""

    sgxtcbcomponents: Annotated[tuple[Component, ...], msgspec.Meta(min_length=COMPONENTS, max_length=COMPONENTS)]
    pcesvn: _Svn16
    tdxtcbcomponents: Annotated[tuple[Component, ...], msgspec.Meta(max_length=COMPONENTS)] = ()

    @property
    def sgx(self) -> tuple[int, ...]:
        """The 16 components of SGX."""
        return tuple(item.svn for item in self.sgxtcbcomponents)

    @property
    def tdx(self) -> tuple[int, ...]:
        """The 16 components of TDX; none in a list for SGX."""
        return tuple(item.svn for item in self.tdxtcbcomponents)


class TcbLevel(
    msgspec.Struct, frozen=True, rename={"advisories": "advisoryIDs", "date": "tcbDate", "status": "tcbStatus"}
):
    """A level of the platform."""

    tcb: Numbers
    date: _Time
    status: TcbStatus
    advisories: _Advisories = ()


class IsvSvn(msgspec.Struct, frozen=True):
    """The number of a level of an enclave or module."""

    isvsvn: _Svn16


class EnclaveLevel(
    msgspec.Struct, frozen=True, rename={"advisories": "advisoryIDs", "date": "tcbDate", "status": "tcbStatus"}
):
    """A level of a quoting enclave or a TDX module."""

    tcb: IsvSvn
    date: _Time
    status: TcbStatus
    advisories: _Advisories = ()


class TdxModule(msgspec.Struct, frozen=True, rename="camel"):
    """How a TDX module without a version of its own looks."""

    mrsigner: Hex48
    attributes: Hex8
    attributes_mask: Hex8


class TdxModuleIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """How a TDX module of one version (the number in `id`, "TDX_01") looks, and its levels."""

    id: Annotated[str, msgspec.Meta(pattern="^TDX_[0-9A-Fa-f]{2}$")]
    mrsigner: Hex48
    attributes: Hex8
    attributes_mask: Hex8
    tcb_levels: Annotated[tuple[EnclaveLevel, ...], msgspec.Meta(min_length=1)]


class TcbInfo(msgspec.Struct, frozen=True, rename="camel"):
    """The levels of all platforms of one FMSPC, for one TEE ("SGX" or "TDX" in `id`)."""

    id: str
    version: int
    issue_date: _Time
    next_update: _Time
    fmspc: Hex6
    pce_id: Hex2
    tcb_type: int
    tcb_evaluation_data_number: Annotated[int, msgspec.Meta(ge=0)]
    tcb_levels: Annotated[tuple[TcbLevel, ...], msgspec.Meta(min_length=1)]
    tdx_module: TdxModule | None = None
    tdx_module_identities: tuple[TdxModuleIdentity, ...] = ()


class QeIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """How the quoting enclave looks ("QE" or "TD_QE" in `id`), and its levels."""

    id: str
    version: int
    issue_date: _Time
    next_update: _Time
    tcb_evaluation_data_number: Annotated[int, msgspec.Meta(ge=0)]
    miscselect: Hex4
    miscselect_mask: Hex4
    attributes: Hex16
    attributes_mask: Hex16
    mrsigner: Hex32
    isvprodid: _Svn16
    tcb_levels: Annotated[tuple[EnclaveLevel, ...], msgspec.Meta(min_length=1)]


@lru_cache(maxsize=64)
def tcb_info(body: bytes) -> TcbInfo:
    """Read TCB info, with its levels in order.

    Args:
        body: the object as it was signed; whoever calls has checked the signature.
    Raises:
        ParseError: not as PCS sends it; of a version or kind that is not known here; a level or module twice.
    Source: PCS, TcbInfoV3.
    """
    where = "TCB info"
    found = _model(TcbInfo, body, where)
    if found.version != 3 or found.tcb_type != 0 or found.id not in ("SGX", "TDX"):
        raise ParseError(
            f'{where}: expected id "SGX" or "TDX", version 3, tcbType 0, '
            f"got {found.id[:20]!a}, {found.version}, {found.tcb_type}"
        )
    wanted = COMPONENTS if found.id == "TDX" else 0
    for level in found.tcb_levels:
        if len(level.tcb.tdxtcbcomponents) != wanted:
            raise ParseError(
                f"{where} tcbLevels: expected {wanted} TDX components, got {len(level.tcb.tdxtcbcomponents)}"
            )
        _listed(level.status, _LISTED, where)
    if (found.tdx_module is not None) != (found.id == "TDX") or (found.tdx_module_identities and found.id == "SGX"):
        raise ParseError(f"{where}: expected tdxModule in the list for TDX and only there")
    names = [module.id.upper() for module in found.tdx_module_identities]
    if len(set(names)) != len(names):
        raise ParseError(f"{where} tdxModuleIdentities: expected each module once, got {', '.join(names)[:100]}")
    levels = sorted(found.tcb_levels, key=_rank, reverse=True)
    if len({_rank(level) for level in levels}) != len(levels):
        raise ParseError(f"{where} tcbLevels: expected each level once")
    modules = tuple(
        msgspec.structs.replace(module, tcb_levels=_in_order(module.tcb_levels, where))
        for module in found.tdx_module_identities
    )
    return msgspec.structs.replace(found, tcb_levels=tuple(levels), tdx_module_identities=modules)


@lru_cache(maxsize=64)
def qe_identity(body: bytes) -> QeIdentity:
    """Read a QE identity, with its levels in order; see `tcb_info`.

    Source: PCS, EnclaveIdentityV2.
    """
    where = "QE identity"
    found = _model(QeIdentity, body, where)
    if found.version != 2 or found.id not in ("QE", "TD_QE"):
        raise ParseError(
            f'{where}: expected id "QE" or "TD_QE" and version 2, got {found.id[:20]!a} and {found.version}'
        )
    return msgspec.structs.replace(found, tcb_levels=_in_order(found.tcb_levels, where))


@dataclass(frozen=True, slots=True)
class State:
    """One answer: a status, since when it is the latest, and the advisories that a level lists."""

    status: TcbStatus
    date: datetime | None = None
    advisories: tuple[str, ...] = ()


NOT_SUPPORTED = State(TcbStatus.NOT_SUPPORTED)


def enclave_state(levels: Iterable[EnclaveLevel], isv_svn: int) -> State:
    """The first level that an enclave or module of this ISVSVN reaches."""
    for level in levels:
        if isv_svn >= level.tcb.isvsvn:
            return State(level.status, level.date, level.advisories)
    return NOT_SUPPORTED


def platform_states(info: TcbInfo, platform: Platform, tee_tcb_svn: bytes | None = None) -> tuple[State, State]:
    """The level that the platform reaches by its SGX numbers, and the one by all its numbers.

    Args:
        tee_tcb_svn: 16 numbers from the TD report; None for SGX, where both answers are the same.
    Source: QVL, 4.1.2.4.17.1 to .3.
    """
    sgx: State | None = None
    for level in info.tcb_levels:
        if not _reaches(platform.components, level.tcb.sgx) or platform.pcesvn < level.tcb.pcesvn:
            continue
        state = State(level.status, level.date, level.advisories)
        sgx = sgx or state
        if tee_tcb_svn is None or _reaches(tee_tcb_svn, level.tcb.tdx, 2 if tee_tcb_svn[1] else 0):
            return sgx, state
    return sgx or NOT_SUPPORTED, NOT_SUPPORTED


def module_identity(info: TcbInfo, version: int) -> TdxModuleIdentity | None:
    """The identity of the TDX module with this version (TEE_TCB_SVN[1])."""
    wanted = f"TDX_{version:02X}"
    return next((module for module in info.tdx_module_identities if module.id.upper() == wanted), None)


def converge(state: TcbStatus, other: TcbStatus) -> TcbStatus:
    """Combine the platform's status with that of its QE or TDX module, which has no settings to change.

    Source: QVL, TcbLevelCheck.cpp and TdxModuleCheck.cpp.
    """
    if TcbStatus.REVOKED in (state, other):
        return TcbStatus.REVOKED
    if TcbStatus.NOT_SUPPORTED in (state, other):
        return TcbStatus.NOT_SUPPORTED
    if other is TcbStatus.OUT_OF_DATE:
        return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED if state in CONFIGURATION else TcbStatus.OUT_OF_DATE
    if other is not TcbStatus.UP_TO_DATE:
        raise BugError(f"a QE or TDX module is never {other}")
    return state


def relaunch(
    info: TcbInfo, tee_tcb_svn_2: bytes, sgx: TcbStatus, tdx: TcbStatus, module: TcbStatus, qe: TcbStatus | None
) -> TcbStatus:
    """Whether starting the TD anew would do: only the TDX module is behind, and a newer one is loaded by now.

    Args:
        tee_tcb_svn_2: the numbers of the module that is loaded now, from a TD report 1.5.
        sgx: the platform's status by its SGX numbers; tdx: by all numbers, converged with the module's.
        qe: None when nobody knows.
    Returns:
        `tdx`, or one of the two relaunch states.
    Source: QVL, 4.1.2.4.17.4.3, TDRelaunchCheck.cpp.
    """
    late = (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)
    sound = (
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    )
    behind = module is TcbStatus.OUT_OF_DATE and tdx in late
    if not behind or sgx not in sound or qe not in (None, TcbStatus.UP_TO_DATE):
        return tdx
    newest = info.tcb_levels[0].tcb.tdx
    needed = newest[0]
    if tee_tcb_svn_2[1]:
        identity = module_identity(info, tee_tcb_svn_2[1])
        if identity is None:
            return tdx
        needed = identity.tcb_levels[0].tcb.isvsvn
    if tee_tcb_svn_2[0] < needed or tee_tcb_svn_2[2] < newest[2]:
        return tdx
    if sgx in CONFIGURATION or tdx in CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def union(*lists: Iterable[str]) -> tuple[str, ...]:
    """All advisories, each once, in the order in which they come."""
    return tuple(dict.fromkeys(item for each in lists for item in each))


def _reaches(numbers: Sequence[int], level: Sequence[int], start: int = 0) -> bool:
    return all(have >= need for have, need in zip(numbers[start:], level[start:], strict=True))


def _rank(level: TcbLevel) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    return level.tcb.sgx, level.tcb.pcesvn, level.tcb.tdx


def _in_order(levels: Sequence[EnclaveLevel], where: str) -> tuple[EnclaveLevel, ...]:
    for level in levels:
        _listed(level.status, _ENCLAVE, where)
    if len({level.tcb.isvsvn for level in levels}) != len(levels):
        raise ParseError(f"{where}: expected each ISVSVN once")
    return tuple(sorted(levels, key=lambda level: level.tcb.isvsvn, reverse=True))


def _listed(status: TcbStatus, allowed: frozenset[TcbStatus], where: str) -> None:
    if status not in allowed:
        raise ParseError(f"{where} tcbStatus: expected one of {', '.join(sorted(allowed))}, got {status}")


T = TypeVar("T")


def _model(kind: type[T], body: bytes, where: str) -> T:
    try:
        return msgspec.convert(strictjson.read(body, where), kind, dec_hook=_hex)
    except msgspec.ValidationError as error:
        text = str(error)[:300]
        raise ParseError(f"{where}: {text if text.isprintable() else ascii(text)}") from error


def _hex(kind: Any, value: object) -> object:
    """Called by msgspec for types that it does not know, which are those of `Hex`."""
    return kind.read(value)
