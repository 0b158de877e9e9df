"""What every TEE's folder offers, and the words in which a verdict is given. Nothing here does I/O or knows a TEE.

Evidence is judged in three steps that stay apart:

    well formed   parse(data) -> Evidence                                 raises ParseError
    genuine       verify(evidence, collateral, roots, now)                -> VerifiedReport, or raises EvidenceError
    acceptable    judge(report, policy)                                   -> findings, all of them at once

Each single question is a `Check` with a name of its own; `Checks` records them in order. Verification goes on after a
failed check where that is sound, so that a verdict says everything there is to say; but the only way to a
`VerifiedReport` is `Checks.verified`, which raises when any check has failed.

A verifier writes

    checks = Checks("snp")
    checks.equal("report.vmpl", found=report.vmpl, demanded=0, spec="SNP-ABI ATTESTATION_REPORT")
    if checks.that("chain.root", ok, found=..., demanded=..., spec=...):       # True when it passed
        ...                                                                    # what makes sense only then
    return checks.verified(report=report, product="Genoa", ...)

How names are made: `thing.property`, lower case, dots between levels, underscores within a word; unique within one
judgement, the same for the same question in every judgement (a number or an address belongs into `found`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from donjon.errors import BugError, ParseError, UsageError, VerifyError
from donjon.log import printable

MAX_REASON = 1000
"""Characters of what is wrong with a key of a policy."""

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


# Asked for some hundred times in a judgement, and slower to get from the class.
_PASSED, _FAILED, _NOT_APPLICABLE = Outcome


class Check(msgspec.Struct, frozen=True, eq=False):
    """One question that was asked of a piece of evidence.

    There are some eighty in a judgement, and most pass unread: so what was found and demanded is kept as it is, and
    written when somebody reads it. To everybody else it is text: two checks are the same when they read the same.

    Args:
        name: `thing.property`; see the module.
        actual: what the evidence holds: text, or a value that cannot change; why, for a check that is not applicable.
        wanted: what would have passed, likewise.
        spec: where that is written: short id of the document and section, e.g. "SNP-ABI ATTESTATION_REPORT".
        note: what a reader must know although the check passed, e.g. that the platform is known to be broken.
    """

    name: str
    outcome: Outcome
    actual: object
    wanted: object
    spec: str
    note: str = ""

    @property
    def found(self) -> str:
        """What the evidence holds, as text: bytes in hex, times in UTC."""
        return shown(self.actual)

    @property
    def demanded(self) -> str:
        """What would have passed, as text."""
        return shown(self.wanted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Check) and self._read() == other._read()

    def __hash__(self) -> int:
        return hash(self._read())

    def _read(self) -> tuple[str, ...]:
        return self.name, self.outcome, self.found, self.demanded, self.spec, self.note

    def __str__(self) -> str:
        """One line; for a failed check the text of the error."""
        if self.outcome is Outcome.FAILED:
            text = f"{self.name}: expected {self.demanded}, got {self.found}"
        elif self.outcome is Outcome.PASSED:
            text = f"{self.name}: {self.found}"
        else:
            text = f"{self.name}: not applicable, {self.found}"
        return f"{text} ({self.note})" if self.note else text


class EvidenceError(VerifyError):
    """Evidence is not genuine, or not acceptable. The message names the first check that failed.

    Args:
        tee: the short name, e.g. "snp".
        checks: every check that was made, in order; at least one has failed.
    """

    def __init__(self, tee: str, checks: Iterable[Check], hint: str | None = None) -> None:
        self.tee = tee
        self.checks = tuple(checks)
        failed = [check for check in self.checks if check.outcome is Outcome.FAILED]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        super().__init__(f"{tee}: {failed[0]}{more}" if failed else f"{tee}: no check was made", hint)

    @property
    def failure(self) -> Check | None:
        """The first check that failed."""
        return first_failure(self.checks)


@dataclass(frozen=True, slots=True)
class Roots:
    """What is trusted without proof: pinned by the product, or handed over by an operator.

    Args:
        anchors: name → DER bytes. What a name and its bytes are, each TEE says: for AMD "Milan/ARK" → certificate, for
            Intel "SGX Root CA" → certificate, for Arm "<implementation id>/<instance id>" → SubjectPublicKeyInfo.
        simulated: these are no vendor's roots; everything verified by them says so.
    """

    anchors: Mapping[str, bytes]
    simulated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "anchors", MappingProxyType(dict(self.anchors)))


_SEAL = object()


@dataclass(frozen=True, slots=True)
class VerifiedReport(Generic[R_co]):
    """Evidence that is genuine. Only `Checks.verified` makes one.

    Args:
        tee: short name of the TEE, e.g. "snp".
        product: the processor or platform, as the vendor's certificates name it, e.g. "Milan"; "" where none is known.
        measurement: the launch digest: MEASUREMENT, MRENCLAVE, MRTD, realm initial measurement.
        report_data: 64 bytes that the guest chose; 0 bytes where the TEE has no such thing (KVM).
        workload: what the launcher put there to name the workload: HOST_DATA (32 bytes), MRCONFIGID (48),
            CONFIGID (64), realm personalization value (64); empty where there is no such thing.
        report: the parsed report, for the TEE's own policy.
        claims: further facts, name → text, number or bool; for humans, JSON and certificates. No personal or chip id.
        tcb: the platform's state as proven by its keys, in the TEE's own words, e.g. {"snp": 24, "microcode": 219}.
        checks: every check that was made, in order; none has failed.
        judged_at: the time for which all this holds.
        valid_from, valid_until: the window in which every certificate, CRL and collateral used holds, both included.
        simulated: the roots were not the vendor's.
        protected: False where no hardware keeps the host out (KVM): then nothing of all this is proven.
    """

    tee: str
    product: str
    measurement: bytes
    report_data: bytes
    workload: bytes
    report: R_co
    claims: Mapping[str, Any]
    tcb: Mapping[str, Any]
    checks: tuple[Check, ...]
    judged_at: datetime
    valid_from: datetime
    valid_until: datetime
    simulated: bool
    protected: bool
    seal: InitVar[object] = field(default=None, kw_only=True)

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise BugError("a VerifiedReport is made by Checks.verified and by nothing else")


class Checks:
    """Records checks in the order in which they are made.

    Args:
        tee: the short name, for messages.
        earlier: checks that were made before, e.g. those of a verified report when a policy goes on.
    """

    def __init__(self, tee: str, earlier: Iterable[Check] = ()) -> None:
        self.tee = tee
        self._all: dict[str, Check] = {}
        self._failed = False
        self.extend(earlier)

    def record(self, check: Check) -> bool:
        """Take one check; every question ends here.

        Returns:
            False when it failed.
        Raises:
            BugError: a check of this name was made before.
        """
        name = check.name
        if name in self._all:
            raise BugError(f"{self.tee}: the check {name} is made twice")
        self._all[name] = check
        if check.outcome is _FAILED:
            self._failed = True
            return False
        return True

    def extend(self, made: Iterable[Check]) -> None:
        """Take over checks that were made, and recorded, elsewhere.

        Raises:
            BugError: a check of this name was made before.
        """
        made = tuple(made)
        recorded = self._all
        before = len(recorded)
        for check in made:
            recorded[check.name] = check
            if check.outcome is _FAILED:
                self._failed = True
        if len(recorded) != before + len(made):
            raise BugError(f"{self.tee}: a check is made twice, one of {', '.join(check.name for check in made)}")

    def that(self, name: str, ok: bool, found: object, demanded: object, spec: str, note: str = "") -> bool:
        """Ask whatever `ok` says; `found` and `demanded` are written as by `shown`."""
        if type(found) not in _CONSTANT:
            found = kept(found)
        if type(demanded) not in _CONSTANT:
            demanded = kept(demanded)
        return self.record(Check(name, _PASSED if ok else _FAILED, found, demanded, spec, note))

    def equal(self, name: str, found: object, demanded: object, spec: str, note: str = "") -> bool:
        """Ask whether both are the same."""
        return self.that(name, found == demanded, found, demanded, spec, note)

    def one_of(self, name: str, found: object, allowed: Iterable[object], spec: str, note: str = "") -> bool:
        """Ask whether `found` is among `allowed`."""
        allowed = tuple(allowed)
        demanded = Words("one of ", kept(allowed)) if allowed else "nothing, as the list is empty"
        return self.that(name, found in allowed, found, demanded, spec, note)

    def at_least(self, name: str, found: Any, minimum: Any, spec: str, note: str = "") -> bool:
        """Ask whether `found` is not below `minimum`; both are of one ordered type."""
        return self.that(name, found >= minimum, found, Words("at least ", kept(minimum)), spec, note)

    def skip(self, name: str, why: str, spec: str, demanded: object = "", note: str = "") -> bool:
        """Note a question that does not arise; `why` is a clause, e.g. "the report is of version 2"."""
        return self.record(Check(name, _NOT_APPLICABLE, why, demanded and kept(demanded), spec, note))

    def within(
        self, name: str, start: datetime, end: datetime | None, now: datetime, spec: str, note: str = ""
    ) -> bool:
        """Ask whether `now` lies from `start` to `end`, both included; without an end nothing passes."""
        window = Words("", start, " to ", end or "no end", ", judged at ", now)
        return self.that(name, end is not None and start <= now <= end, window, "validity", spec, note)

    @property
    def all(self) -> tuple[Check, ...]:
        """The checks so far."""
        return tuple(self._all.values())

    @property
    def ok(self) -> bool:
        """Whether none has failed so far."""
        return not self._failed

    def passed(self, name: str) -> bool:
        """Whether a check of this name was made and passed: for what is sound only after it."""
        return name in self._all and self._all[name].outcome is _PASSED

    def refusal(self, hint: str | None = None) -> EvidenceError:
        """The error that carries all checks; to be raised where going on makes no sense.

        Raises:
            BugError: no check has failed, so there is nothing to refuse.
        """
        if self.ok:
            raise BugError(f"{self.tee}: refused without a failed check")
        return EvidenceError(self.tee, self.all, hint)

    def verified(
        self,
        *,
        product: str,
        measurement: bytes,
        report_data: bytes,
        report: R,
        judged_at: datetime,
        valid_from: datetime,
        valid_until: datetime,
        simulated: bool,
        workload: bytes = b"",
        claims: Mapping[str, Any] | None = None,
        tcb: Mapping[str, Any] | None = None,
        protected: bool = True,
    ) -> VerifiedReport[R]:
        """Make the report, for its fields see `VerifiedReport`.

        Raises:
            EvidenceError: a check has failed.
            BugError: no check passed; or the report data has neither 64 bytes nor none.
        """
        if not self.ok:
            raise self.refusal()
        if not any(check.outcome is _PASSED for check in self._all.values()):
            raise BugError(f"{self.tee}: verified without a check")
        if len(report_data) not in ((64,) if protected else (0, 64)):
            raise BugError(f"{self.tee}: report data of {len(report_data)} bytes")
        return VerifiedReport(
            tee=self.tee,
            product=product,
            measurement=bytes(measurement),
            report_data=bytes(report_data),
            workload=bytes(workload),
            report=report,
            claims=MappingProxyType(dict(claims or {})),
            tcb=MappingProxyType(dict(tcb or {})),
            checks=self.all,
            judged_at=judged_at,
            valid_from=valid_from,
            valid_until=valid_until,
            simulated=simulated,
            protected=protected,
            seal=_SEAL,
        )


def first_failure(checks: Iterable[Check]) -> Check | None:
    """The check that decides, if any failed."""
    return next((check for check in checks if check.outcome is _FAILED), None)


class Words:
    """A text that is put together when it is read: `Words("at least ", 3)`; parts are written as by `shown`."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __str__(self) -> str:
        return "".join(map(shown, self._parts))


# Values of these types never change, so they can be written later.
_CONSTANT = frozenset({str, int, bytes, bool, type(None), datetime, Words})


def kept(value: object) -> object:
    """What `shown` will write at any later time as it would now: the value itself if it cannot change, else text."""
    if type(value) in _CONSTANT or isinstance(value, Enum):
        return value
    if type(value) is tuple:
        for item in value:
            if type(item) not in _CONSTANT and not isinstance(item, Enum):
                return shown(value)
        return value
    return shown(value)


def shown(value: object) -> str:
    """Write a value as verdicts do: bytes in hex, times in UTC to the second, yes and no, lists with commas.

    Text is escaped where it is not printable: it goes into logs and to terminals, and a name in a certificate that some
    machine made is as hostile as the rest.
    """
    if type(value) is str:
        return printable(value)
    if type(value) is int:
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex() or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, Enum):
        return str(value.value) if isinstance(value, StrEnum) else value.name or hex(value.value)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={shown(item)}" for name, item in value.items()) or "nothing"
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        return ", ".join(shown(item) for item in value) or "nothing"
    return "nothing" if value is None else printable(str(value))


def utc(now: datetime) -> datetime:
    """The time to judge at, checked: every `verify` begins with this.

    Raises:
        UsageError: it has no time zone, so nobody can say when it is.
    """
    if now.tzinfo is None:
        raise UsageError(f"time of judgement: expected a time with its zone, got {now.isoformat()}")
    return now.astimezone(UTC)


# Policy


class Hex(bytes):
    """Bytes that a policy file writes in hex; subclasses say how many."""

    __slots__ = ()
    size: ClassVar[int]

    @classmethod
    def read(cls, text: object) -> Self:
        """Make it from text.

        Raises:
            ValueError: not text, not hex, or of another length.
        """
        if isinstance(text, cls):
            return text
        if isinstance(text, str):
            try:
                value = bytes.fromhex(text)
            except ValueError:
                value = b""
            if len(value) == cls.size and len(text) == 2 * cls.size:
                return cls(value)
            got = f'"{printable(text)}"' if len(text) <= 2 * cls.size else f"{len(text)} characters"
        else:
            got = type(text).__name__
        raise ValueError(f"expected {2 * cls.size} hex digits, got {got}")


class Hex16(Hex):
    """16 bytes."""

    __slots__ = ()
    size = 16


class Hex32(Hex):
    """32 bytes, as of SHA-256."""

    __slots__ = ()
    size = 32


class Hex48(Hex):
    """48 bytes, as of SHA-384."""

    __slots__ = ()
    size = 48


class Hex64(Hex):
    """64 bytes, as of SHA-512."""

    __slots__ = ()
    size = 64


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a policy file: each field is a key, each default is safe, unknown keys are errors.

    Digests are `tuple[Hex48, ...]` and the like. Other kinds of values are classes of the TEE's own with a classmethod
    `read(value)` that raises ValueError, as `Hex` does; not dataclasses, which msgspec takes for tables. A subclass
    repeats `frozen=True`, for mypy's sake.
    """

    @classmethod
    def read(cls, table: Mapping[str, object], where: str) -> Self:
        """Make it from a TOML table.

        Args:
            where: name of the table for messages, e.g. "[snp]".
        Raises:
            ParseError: a key is unknown or has a value of a wrong kind; the text gives the key.
        """
        _refuse_unknown(table, cls, where)
        try:
            return msgspec.convert(dict(table), cls, dec_hook=_read)
        except UnicodeEncodeError as error:  # half of a surrogate pair
            raise ParseError(f"{where}: expected text that can be written in UTF-8") from error
        except msgspec.ValidationError as error:
            reason, _, path = str(error).rpartition(" - at `$")
            path = path.strip("`.") if reason else path
            place = f"{where} {path}" if reason else where
            reason = _in_words(reason, cls, path) if reason else path
            raise ParseError(printable(f"{place}: {reason}"[:MAX_REASON])) from error


def _in_words(reason: str, model: type[Model], path: str) -> str:
    """Where one of several words was expected, which ones; msgspec says only that it was none of them."""
    got = reason.removeprefix("Invalid enum value ")
    if got == reason:
        return reason
    field = path.partition(".")[0].partition("[")[0]
    words = list(_choices(get_type_hints(model).get(field)))
    return f"expected one of {', '.join(words)}, got {got}" if words else reason


def _choices(kind: object) -> Iterable[str]:
    """The words that a field of this type can be, or be made of."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(item.value) for item in kind]
    if get_origin(kind) is Literal:
        return map(str, get_args(kind))
    return [word for part in get_args(kind) for word in _choices(part)]


def _read(kind: type, value: object) -> object:
    """Called by msgspec for types that it does not know."""
    read = getattr(kind, "read", None)
    if read is None:
        raise BugError(f"a policy field of type {kind.__name__}, which cannot be read from TOML")
    return read(value)


def _refuse_unknown(table: Mapping[str, object], model: type[Model], where: str) -> None:
    """Like `forbid_unknown_fields`, but with the nearest valid word, and also for tables within."""
    fields = {item.encode_name: item.name for item in msgspec.structs.fields(model)}
    hints: dict[str, object] | None = None
    for key, value in table.items():
        if key not in fields:
            import difflib  # for people who type; in a guest there are none

            near = difflib.get_close_matches(key, fields, 1)
            hint = f'did you mean "{near[0]}"?' if near else "remove it"
            raise ParseError(f'{where}: unknown key "{printable(key[:60])}": expected one of {", ".join(fields)}', hint)
        if isinstance(value, Mapping):
            hints = hints or get_type_hints(model)
            inner = hints[fields[key]]
            if isinstance(inner, type) and issubclass(inner, Model):
                _refuse_unknown(value, inner, f"{where} {key}")


# Collateral


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a vendor publishes and that judging a piece of evidence takes.

    Args:
        name: lower case letters, digits, "-"; for one TEE it says what it is: a key, and a file's name.
        after: checks that have to pass before it is worth asking a vendor: evidence that is not even consistent in
            itself must not make anybody ask.
        lasting: it never changes; all else is asked for again and again.
    """

    name: str
    after: tuple[str, ...] = ()
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What was published for a `Need`, signed by a vendor and so far verified: the time has not been asked.

    Args:
        collateral: of the TEE's own kind, with this alone in it.
        made: when the vendor issued it: of two the later one counts.
        ends: after which it is not fresh any more.
    """

    collateral: Any
    made: datetime
    ends: datetime


class Fetch(Protocol):
    """What the module `donjon.tee.<name>.fetch` offers; a TEE without a vendor's service has none. It computes, too."""

    VENDOR: str
    """The key of its address in the policy's table `[collateral]`."""
    BASE: str
    """The vendor's own address. None is ever taken from evidence."""

    def address(self, need: Need, base: str) -> str:
        """Where it is published, `base` being the vendor's service or a copy of it."""

    def keep(self, need: Need, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Make one string of an answer, for keeping; `piece` reads it. Names of headers are in lower case.

        Raises:
            ParseError: something is missing.
        """

    def piece(self, need: Need, kept: bytes, roots: Roots) -> Piece:
        """Read what was kept, which is as hostile as what was sent, and verify it.

        Raises:
            ParseError: it is not well formed. VerifyError: it is of something else, or `roots` have not signed it.
        """

    def sort(self, data: bytes) -> Mapping[str, bytes]:
        """A file that an operator has from somewhere: names of needs, and what to keep for each; empty for others.

        Args:
            data: DER or JSON; PEM was taken apart.
        Raises:
            ParseError: it is of this vendor, and not well formed.
        """

    def need(self, name: str) -> Need:
        """The need of this name, for what is found in a directory.

        Raises:
            ParseError: there is none.
        """


# A TEE


class Tee(Protocol):
    """What the package `donjon.tee.<name>` offers; all without I/O, except that `vendor_roots` reads package data.

    (It is not called `roots`: that is the folder with the data, and a package's module hides a function of its name.)

    `collect` (evidence on this machine), `fetch` (collateral from vendors, see `Fetch`) and `backend` are modules
    beside it that only those import who need them.
    """

    NAME: str
    """Short name: the folder's, the policy table's, the backend's."""
    TITLE: str
    """For humans, e.g. "AMD SEV-SNP"."""
    OID: str
    """Of the certificate request extension that carries the evidence."""
    MAX_EVIDENCE: int
    """Bytes of the extension's value that are read at all."""
    Policy: Any
    """A `Model`: the table `[<name>]` of the policy file; `Policy()` is the safe default."""

    def parse(self, data: bytes) -> Any:
        """Read the extension's value (Enarx's encoding where there is one) into (evidence, collateral from it).

        Raises:
            ParseError: it is not well formed, or larger than MAX_EVIDENCE.
        """

    def claimed(self, evidence: Any) -> tuple[bytes, bytes]:
        """What evidence says that it binds, before anybody has verified it: report data, and the launcher's field for
        the workload. For the Keep that made it: nobody else has a use for claims."""

    def verify(self, evidence: Any, collateral: Any, roots: Roots, now: datetime) -> VerifiedReport[Any]:
        """Say whether it is genuine; see style: a numbered list.

        Raises:
            EvidenceError: it is not; carries all checks.
            ParseError: something inside (a certificate, a CRL) is not well formed.
        """

    def judge(self, report: VerifiedReport[Any], policy: Any) -> tuple[Check, ...]:
        """Ask everything that the policy asks; every finding, failed ones too. Raises nothing."""

    def vendor_roots(self) -> Roots:
        """The vendor's roots that are shipped with this package."""

    def key_binding(self, spki: bytes) -> bytes:
        """The 64 bytes of report data by which Enarx binds a key, from its DER SubjectPublicKeyInfo; b"" for KVM."""

    # Files and collateral: whoever has some asks every TEE, and knows none by name.

    Collateral: Any
    """What helps to judge evidence; `Collateral()` has nothing in it."""

    def is_evidence(self, data: bytes) -> bool:
        """Whether a file seems to be this TEE's evidence, by its first bytes; `parse` then says what it is."""

    def read_collateral(self, data: bytes) -> Any:
        """A file that helps to judge this TEE's evidence, as `Collateral`; None when it is something else.

        Args:
            data: DER or JSON; PEM was taken apart.
        Raises:
            ParseError: it is for this TEE, and not well formed.
        """

    def read_roots(self, document: Mapping[str, Any], source: str) -> tuple[Roots, Any] | None:
        """Roots in a form of file that this TEE alone has, and what their issuers say; None when it is another form.

        Args:
            document: the file, parsed as TOML. source: what messages call it.
        Raises:
            ParseError: it is of that form, and wrong.
        """

    def join(self, own: Any, other: Any) -> Any:
        """Collateral that came with evidence, and somebody's own: what `own` lacks, and whatever is newer in `other`.

        Raises:
            ParseError: there is too much of it, or a part cannot be read.
        """

    def needs(self, evidence: Any) -> tuple[Need, ...]:
        """What a vendor publishes about this evidence; nothing where the evidence does not say enough.

        Raises:
            ParseError: a certificate inside cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole judgement of one piece of evidence.

    Args:
        checks: every check made, of all three steps, in order.
        report: there when the evidence is genuine, acceptable or not.
        failure: the first check that failed; None means accepted.
    """

    tee: str
    checks: tuple[Check, ...]
    report: VerifiedReport[Any] | None
    failure: Check | None

    @property
    def accepted(self) -> bool:
        """Whether nothing failed and the evidence is genuine."""
        return self.failure is None and self.report is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of an accepted verdict must know."""
        return tuple(dict.fromkeys(check.note for check in self.checks if check.note))

    def require(self) -> VerifiedReport[Any]:
        """Hand out the report for use, e.g. for issuing a certificate.

        Raises:
            EvidenceError: it was not accepted.
        """
        if self.report is None or not self.accepted:
            raise EvidenceError(self.tee, self.checks)
        return self.report


@dataclass(frozen=True, slots=True)
class Demands:
    """What is asked of evidence of any TEE, beside the TEE's own policy.

    Args:
        report_data: the 64 bytes that bind the peer's key (and nonce); None asks nothing.
        accept_unattested: evidence that proves nothing (KVM), or only to those who trust simulated roots, may pass.
        workloads: digests of which the workload field must be one, as long as the TEE's field; None asks nothing.
    """

    report_data: bytes | None = None
    accept_unattested: bool = False
    workloads: tuple[bytes, ...] | None = None


def appraise(
    tee: Tee,
    verify: Callable[[], VerifiedReport[Any]],
    policy: Any,
    demands: Demands,
) -> Verdict:
    """Take the three steps in order and put everything that was found into one verdict.

    Args:
        verify: parses and verifies: `lambda: snp.verify(*snp.parse(data), roots, now)` or with other collateral.
    """
    checks = Checks(tee.NAME)
    try:
        report = verify()
    except ParseError as error:
        checks.that("evidence.format", False, str(error), "what the format demands", tee.TITLE)
        return Verdict(tee.NAME, checks.all, None, first_failure(checks.all))
    except EvidenceError as error:
        return Verdict(tee.NAME, error.checks, None, error.failure)
    checks = Checks(tee.NAME, report.checks)
    check_demands(checks, report, demands)
    checks.extend(tee.judge(report, policy))
    return Verdict(tee.NAME, checks.all, report, None if checks.ok else first_failure(checks.all))


def check_demands(checks: Checks, report: VerifiedReport[Any], demands: Demands) -> None:
    """The questions that are the same for every TEE."""
    spec = "RFC 9334 section 7"
    weak = [word for word, true in (("unprotected", not report.protected), ("simulated", report.simulated)) if true]
    if weak:
        checks.that(
            "evidence.attested",
            demands.accept_unattested,
            " and ".join(weak),
            "any evidence, also what proves nothing" if demands.accept_unattested else "evidence of real hardware",
            spec,
            note=f"{' and '.join(weak)}: proves nothing about the host",
        )
    else:
        checks.that("evidence.attested", True, "signed by real hardware", "evidence of real hardware", spec)
    if demands.report_data is None or not report.report_data:
        why = "nobody asks for a key" if demands.report_data is None else "this evidence has no report data"
        checks.skip("evidence.binding", why, spec)
    else:
        checks.equal("evidence.binding", report.report_data, demands.report_data, spec)
    if demands.workloads is None:
        checks.skip("evidence.workload", "nobody asks for a workload", spec)
    else:
        checks.one_of("evidence.workload", report.workload, demands.workloads, spec)
