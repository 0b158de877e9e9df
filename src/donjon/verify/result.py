"""What a Steward says in a certificate: its attestation result, read strictly, and whether it is at one with the rest.

`donjon.steward.result` says how it is written. A result is believed because the certificate's signature covers it, so
this runs only when the chain leads to an anchor. Fields that are not known are passed over, as later Stewards may say
more; those that are known have one type, one form and a bound.

Source: RFC 9999, section 4; draft-ietf-rats-ear-04, section 3.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from donjon import tee
from donjon.errors import ParseError
from donjon.steward.procedure import bound_digest
from donjon.steward.result import CMW, MARKERS, read_cmw, read_markers
from donjon.tee.contract import Checks, shown
from donjon.verify.certificates import Certificate

LEEWAY = timedelta(minutes=5)
"""By which the clocks of Steward and relying party may differ."""
MAX_TEXT = 1000
MAX_NOTES = 64
MAX_ITEMS = 64
"""In `tcb` and `claims`."""
MAX_NUMBER = 2**64
DIGEST = "ni:///sha-256;"

SPEC = "draft-ietf-rats-ear-04 section 3"


@dataclass(frozen=True, slots=True)
class Result:
    """A Steward's judgement, well formed.

    Args:
        judged_at: when. verifier: which program, and its version.
        status: "affirming", "warning", or "none" for what proves nothing.
        workload: digest of the workload, 32 bytes, or empty.
        valid_until: when the evidence's certificates and collateral end.
        markers: what stands beside it, "simulated" and "unprotected".
    """

    tee: str
    judged_at: datetime
    verifier: str
    status: str
    product: str
    measurement: bytes
    workload: bytes
    tcb: Mapping[str, Any]
    claims: Mapping[str, Any]
    nonce: bool
    notes: tuple[str, ...]
    simulated: bool
    protected: bool
    valid_until: datetime
    markers: tuple[str, ...]


def read_result(certificate: Certificate) -> Result:
    """Read the two extensions of a certificate that a Steward has issued.

    Raises:
        ParseError: the result is missing, or something is not of its form.
    """
    value = certificate.unknown.get(CMW)
    if value is None:
        raise ParseError(f"attestation result: expected the extension id-pe-cmw ({CMW}), got none")
    told = read_cmw(value)
    submods = _Table(told, "result").table("submods")
    if len(submods.items) != 1:
        raise ParseError(f"result submods: expected one, got {len(submods.items)}")
    name = next(iter(submods.items))
    if name not in tee.ALL:
        raise ParseError(f"result submods: expected one of {', '.join(tee.ALL)}, got {name[:40]!r}")
    whole, appraisal = _Table(told, "result"), submods.table(name)
    verifier, claims = whole.table("ear_verifier_id"), appraisal.table("ear_attester_claims")
    marked = certificate.unknown.get(MARKERS)
    return Result(
        tee=name,
        judged_at=whole.time("iat"),
        verifier=f"{verifier.text('developer')}, {verifier.text('build')}",
        status=appraisal.text("ear_status"),
        product=claims.text("product"),
        measurement=claims.hex("measurement"),
        workload=bound_digest(claims.hex("workload")),
        tcb=claims.plain("tcb"),
        claims=claims.plain("claims"),
        nonce=claims.flag("nonce"),
        notes=claims.texts("notes"),
        simulated=claims.flag("simulated"),
        protected=claims.flag("protected"),
        valid_until=claims.date("valid_until"),
        markers=() if marked is None else read_markers(marked),
    )


def check_result(checks: Checks, result: Result, leaf: Certificate, now: datetime) -> None:
    """Ask whether a result fits its certificate, itself, and the time."""
    start, end = leaf.not_before - LEEWAY, min(leaf.not_after, now + LEEWAY)
    checks.within("result.time", start, end, result.judged_at, SPEC)
    real = result.protected and not result.simulated
    checks.one_of("result.status", result.status, ("affirming", "warning") if real else ("none",), SPEC)
    checks.that(
        "result.protected", result.tee != "kvm" or not result.protected,
        f"{result.tee}, {'protected' if result.protected else 'unprotected'}", "kvm protects nobody", SPEC,
    )  # fmt: skip
    weak = (("simulated", result.simulated), ("unprotected", not result.protected))
    demanded = tuple(word for word, true in weak if true)
    checks.equal("result.markers", tuple(sorted(result.markers)), demanded, f"extension {MARKERS}")
    digests = tuple(name for name in leaf.names if name.lower().startswith("ni:"))
    checks.equal("result.workload", digests, (uri(result.workload),) if result.workload else (), "RFC 6920 section 3")


def uri(digest: bytes) -> str:
    """A workload's digest as certificates name it.

    Source: RFC 6920, section 3.
    """
    return DIGEST + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class _Table:
    """A JSON object whose fields are asked for with their type."""

    items: Mapping[str, Any]
    where: str

    def _refuse(self, field: str, expected: str) -> ParseError:
        value = self.items.get(field)
        got = "nothing" if field not in self.items else f"{type(value).__name__} {str(value)[:40]!r}"
        return ParseError(f"{self.where} {field}: expected {expected}, got {got}")

    def table(self, field: str) -> _Table:
        value = self.items.get(field)
        if not isinstance(value, dict):
            raise self._refuse(field, "an object")
        return _Table(value, f"{self.where} {field}")

    def text(self, field: str) -> str:
        value = self.items.get(field)
        if not _is_text(value):
            raise self._refuse(field, f"at most {MAX_TEXT} printable letters")
        return str(value)

    def flag(self, field: str) -> bool:
        value = self.items.get(field)
        if not isinstance(value, bool):
            raise self._refuse(field, "true or false")
        return value

    def hex(self, field: str) -> bytes:
        value = self.items.get(field)
        if isinstance(value, str) and len(value) <= 128 and value == value.lower():
            try:
                data = bytes.fromhex(value)
            except ValueError:
                data = b""
            if data.hex() == value:  # no spaces either
                return data
        raise self._refuse(field, "at most 64 bytes in hex")

    def time(self, field: str) -> datetime:
        value = self.items.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 253402300800:
            raise self._refuse(field, "seconds since 1970, until the year 9999")
        return datetime.fromtimestamp(value, UTC)

    def date(self, field: str) -> datetime:
        value = self.items.get(field)
        if isinstance(value, str) and len(value) == 20:
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                found = None
            if found is not None and found.tzinfo is not None and shown(found) == value:
                return found
        raise self._refuse(field, "a time such as 2026-06-01T12:00:00Z")

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.items.get(field)
        if not isinstance(value, list) or len(value) > MAX_NOTES or not all(map(_is_text, value)):
            raise self._refuse(field, f"at most {MAX_NOTES} texts of at most {MAX_TEXT} printable letters")
        return tuple(value)

    def plain(self, field: str) -> dict[str, Any]:
        value = self.items.get(field)
        if (
            not isinstance(value, dict)
            or len(value) > MAX_ITEMS
            or not all(_is_text(name) and _is_plain(item) for name, item in value.items())
        ):
            raise self._refuse(field, f"at most {MAX_ITEMS} numbers, texts, true or false, by name")
        return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def _is_plain(value: object) -> bool:
    """What stands in a TCB or among claims; text there may be long, as it lists advisories."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return -MAX_NUMBER <= value <= MAX_NUMBER  # no infinity, no NaN
    return isinstance(value, str) and len(value) <= 4 * MAX_TEXT and value.isprintable()
