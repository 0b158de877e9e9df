"""A relying party's policy: what it demands of Keeps, in a file.

    steward_root = "root.pem"          # whom to believe; without it, evidence in the certificate itself
    workload = ["5e3f..."]
    max_age = "24h"

    [tcb.snp]                          # the least that a TCB must have
    microcode = 84

    [snp]                              # for evidence itself: the TEE's policy, as in steward.toml
    hash = ["ff71..."]

The words are those of `donjon verify`'s options. Nothing here does I/O: whoever has the text hands it over, and reads
the files that it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self

from donjon import tee
from donjon.errors import ParseError, UsageError
from donjon.steward.policy import read_table
from donjon.steward.procedure import Trust
from donjon.steward.toml import Problem, locate, read_toml, refusal
from donjon.tee.contract import Hex32, Model
from donjon.verify.demands import LARGEST, MAX_VALUES, Demands

MAX_FILE = 1_000_000
"""Bytes."""
MAX_NAME = 512
HINT = "docs/verify.md shows such a file"
NONE = "expected at least one, got none"
NONE_HINT = "leave it out to ask nothing"
"""A list without an entry is a mistake, often a program's that had nothing to fill in: it would demand nothing."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Age(timedelta):
    """A time like "90s", "5m", "24h", "7d"."""

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('expected a time like "90s", "5m", "24h" or "7d"')
        return cls(**{_UNITS[match[2]]: int(match[1])})


class Measurement(bytes):
    """A launch digest in hex, of whatever length the TEE's have."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        if isinstance(value, str) and 2 <= len(value) <= 2 * LARGEST and re.fullmatch(r"([0-9a-fA-F]{2})+", value):
            return cls(bytes.fromhex(value))
        raise ValueError(f"expected 2 to {2 * LARGEST} hex digits")


class Word(str):
    """A name or a product: printable, not too long."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        if isinstance(value, str) and 1 <= len(value) <= MAX_NAME and value.isprintable():
            return cls(value)
        raise ValueError(f"expected 1 to {MAX_NAME} printable letters")


class Tcb:
    """What a TCB must have at least: TEE → part → a number, or a text that it must be."""

    __slots__ = ("least",)

    def __init__(self, least: Mapping[str, Mapping[str, int | str]]) -> None:
        self.least = MappingProxyType({name: MappingProxyType(dict(parts)) for name, parts in least.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tcb) and self.least == other.least

    def __hash__(self) -> int:
        return hash(tuple(self.least))

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from tables; ValueError says what was expected."""
        if not isinstance(value, dict):
            raise ValueError("expected tables such as [tcb.snp]")
        for name, parts in value.items():
            if name not in tee.ALL or not isinstance(parts, dict):
                raise ValueError(f"expected tables for {', '.join(tee.ALL)}, got {name[:40]}")
            for part, least in parts.items():
                if isinstance(least, bool) or not isinstance(least, int | str):
                    raise ValueError(f"{name}.{part[:40]}: expected a number or a text, got {type(least).__name__}")
        return cls(value)


class Asked(Model, frozen=True, kw_only=True):
    """What a policy file has above its tables for TEEs; its words are options too.

    Args:
        steward_root: files with roots of Stewards, PEM; relative to the policy.
        roots: a file with roots for evidence beside the vendors' own.
        tee, product, measurement, workload, names: one of these.
        max_age: of the Steward's judgement.
        tcb: TEE → part → the least number, or the text.
    """

    steward_root: tuple[Word, ...] = ()
    roots: Word | None = None
    tee: tuple[str, ...] = ()
    product: tuple[Word, ...] = ()
    measurement: tuple[Measurement, ...] = ()
    workload: tuple[Hex32, ...] = ()
    names: tuple[Word, ...] = ()
    max_age: Age | None = None
    accept_unattested: bool = False
    tcb: Tcb = Tcb({})

    def __post_init__(self) -> None:
        for name in self.tee:
            if name not in tee.ALL:
                raise ValueError(f"tee: expected one of {', '.join(tee.ALL)}, got {name[:40]!r}")
        if any(not any(digest) for digest in self.workload):
            raise ValueError("workload: expected a digest, got zeros, which evidence without a workload has")
        for name in ("steward_root", "product", "measurement", "workload", "names"):
            if len(getattr(self, name)) > MAX_VALUES:
                raise ValueError(f"{name}: expected at most {MAX_VALUES}")


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file.

    Args:
        tables: TEE → its own policy.
    """

    asked: Asked = field(default_factory=Asked)
    tables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def joined(self, asked: Asked) -> Policy:
        """This policy, and what was asked beside it.

        Raises:
            UsageError: both ask the same.
        """
        empty = Asked()
        changes: dict[str, Any] = {}
        for name in Asked.__struct_fields__:
            value = getattr(asked, name)
            if value != getattr(empty, name):
                if getattr(self.asked, name) != getattr(empty, name):
                    raise UsageError(f"{name}: the policy demands it, and so does an option: which one counts?")
                changes[name] = value
        fields = {name: getattr(self.asked, name) for name in Asked.__struct_fields__}
        return Policy(Asked(**{**fields, **changes}), self.tables)

    def demands(self, anchors: Sequence[bytes] = (), roots: Mapping[str, Trust] | None = None) -> Demands:
        """Make demands of it, with the content of the files that it names.

        Raises:
            UsageError: they contradict each other.
        """
        asked = self.asked
        return Demands(
            anchors=tuple(anchors),
            tees=asked.tee,
            products=asked.product,
            measurements=asked.measurement,
            workloads=asked.workload,
            names=asked.names,
            max_age=asked.max_age,
            tcb=asked.tcb.least,
            accept_unattested=asked.accept_unattested,
            roots=roots or {},
            tables=self.tables,
        )


def parse(text: str, source: str = "verify.toml") -> Policy:
    """Read the text of a policy file.

    Args:
        source: what messages call it.
    Raises:
        ParseError: it is too long, not TOML, or not a policy; a line `source:line:column: what` for each mistake.
    """
    data = text.encode(errors="surrogatepass")
    if len(data) > MAX_FILE:
        raise ParseError(f"{source}: expected at most {MAX_FILE} bytes, got {len(data)}")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    document = read_toml(text, source, HINT)
    problems: list[Problem] = []

    def read(make: Callable[[], Any], at: tuple[str | int, ...], where: str) -> Any:
        try:
            return make()
        except ParseError as error:
            problems.append(locate(error, at, where))
            return None

    tables = {
        name: read(lambda: read_table(document, name), (name,), f"[{name}]")  # noqa: B023 - called at once
        for name in tee.ALL
        if name in document
    }
    rest = {key: several(key, value) for key, value in document.items() if key not in tee.ALL}
    problems += [Problem((key,), False, f"{key}: {NONE}", NONE_HINT) for key in _LISTS if rest.get(key) == []]
    asked = read(lambda: Asked.read(rest, "policy"), (), "policy")
    if problems:
        raise refusal(problems, text, source)
    return Policy(asked, MappingProxyType(tables))


def asked(**words: Any) -> Asked:
    """Make it from options: text, of which commas separate several values, or sequences; None is what nobody gave.

    Raises:
        UsageError: a value is wrong.
    """
    given = {key: several(key, value) for key, value in words.items() if value is not None and value is not False}
    for key in _LISTS:
        if given.get(key) == []:
            raise UsageError(f"{key}: {NONE}", NONE_HINT)
    try:
        return Asked.read(given, "demands")
    except ParseError as error:
        raise UsageError(error.message, error.hint) from error


def several(key: str, value: object) -> object:
    """One value where several may stand: the list of it."""
    if key not in _LISTS:
        return value
    if isinstance(value, str):
        return value.split(",")
    return list(value) if isinstance(value, tuple) else value


_LISTS = frozenset({"steward_root", "tee", "product", "measurement", "workload", "names"})
