"""What a Steward accepts and what it gives: the policy file, which extends Enarx's `steward.toml`.

    lifetime = "24h"

    [snp]                      # one table for each TEE; what its keys mean, donjon/tee/<name>/policy.py says
    hash = ["ff717ae7..."]

    [[workload]]
    digest = ["5e3f..."]
    names = ["shop.example.com"]

Without a file, or without a table, the safe defaults hold. A file is refused with the first mistake of each table and
the place where each stands. Nothing here does I/O: whoever has the text hands it over.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from hashlib import sha256
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from donjon import tee
from donjon.config._positions import Positions
from donjon.errors import ParseError, printable
from donjon.tee.contract import Hex32, Model

MAX_FILE = 1_000_000
"""Bytes."""
MAX_WORKLOADS = 10_000
MAX_NAMES = 64
"""Of one workload."""
SHORTEST = timedelta(minutes=5)
LONGEST = timedelta(days=7)
DAY = timedelta(hours=24)
"""How long a certificate lives unless the policy says otherwise."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Duration(timedelta):
    """A time like "90m", "24h", "7d"."""

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('expected a time like "90m", "24h" or "7d"')
        result = cls(**{_UNITS[match[2]]: int(match[1])})
        if not SHORTEST <= result <= LONGEST:
            raise ValueError('expected a time between "5m" and "7d"')
        return result


class Name(str):
    """A host name in lower case, or an IP address, for a certificate."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        if isinstance(value, str):
            try:
                return cls(ip_address(value))
            except ValueError:
                pass
            labels = value.split(".")
            number = labels[-1].isdigit()  # 10.0.0.256 is no name
            if len(value) <= 253 and not number and all(map(_LABEL.fullmatch, labels)):
                return cls(value)
        raise ValueError("expected a host name in lower case or an IP address, without wildcards")


class Domain(Name):
    """A host name in lower case."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        name = super().read(value)
        if ":" in name or name.rpartition(".")[2].isdigit() or len(name) > 200:
            raise ValueError("expected a host name in lower case of at most 200 letters")
        return name


class Workload(Model, frozen=True, kw_only=True):
    """A table `[[workload]]`: what may run, and under which names.

    Args:
        digest: of its launch descriptor, any of them: what the launcher puts into the evidence, filled up with zeros.
        names: host names and addresses that its certificates have.
        title: for people.
    """

    digest: tuple[Hex32, ...]
    names: tuple[Name, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if not self.digest:
            raise ValueError("digest: expected at least one")
        if len(self.names) > MAX_NAMES:
            raise ValueError(f"names: expected at most {MAX_NAMES}")

    def is_named(self, bound: bytes) -> bool:
        """Whether evidence with `bound` in its workload field speaks of this workload."""
        return len(bound) >= 32 and any(bound == digest.ljust(len(bound), b"\0") for digest in self.digest)


class General(Model, frozen=True, kw_only=True):
    """The keys that stand above all tables.

    Args:
        lifetime: of certificates.
        accept_unattested: evidence that proves nothing may pass: KVM, and whatever simulated hardware has signed.
        require_nonce: evidence must bind a fresh nonce. Enarx's Keeps cannot do that.
        keys: kinds of keys that requests may have.
        tees: whose evidence may pass; without it all that are known.
        domain: every certificate gets a name of its own below this one, beside its URN.
    """

    lifetime: Duration = Duration(hours=24)
    accept_unattested: bool = False
    require_nonce: bool = False
    keys: tuple[Literal["P-256", "P-384", "Ed25519"], ...] = ("P-256", "P-384", "Ed25519")
    tees: tuple[str, ...] = tee.ALL
    domain: Domain | None = None

    def __post_init__(self) -> None:
        for name in self.tees:
            if name not in tee.ALL:
                raise ValueError(f"tees: expected some of {', '.join(tee.ALL)}")


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file. `Policy()` is the safe default.

    Args:
        tables: TEE → its own policy; what is missing is the TEE's default.
        digest: SHA-256 of the file's text, for records and certificates; of nothing for the default.
    """

    general: General = field(default_factory=General)
    tables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    workloads: tuple[Workload, ...] = ()
    digest: bytes = sha256(b"").digest()

    def of(self, name: str) -> Any:
        """The policy for one TEE."""
        return self.tables[name] if name in self.tables else _default(name)

    def workload(self, bound: bytes) -> Workload | None:
        """The workload that evidence with `bound` in its workload field speaks of."""
        return next((item for item in self.workloads if item.is_named(bound)), None)


@cache
def _default(name: str) -> Any:
    return tee.load(name).Policy()


def parse(text: str, source: str = "steward.toml") -> Policy:
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
    document = _toml(text, source)
    problems: list[Problem] = []

    def read(make: Callable[[], Any], at: tuple[str | int, ...], where: str) -> Any:
        try:
            return make()
        except ParseError as error:
            problems.append(_problem(error, at, where))
            return None

    tables: dict[str, Any] = {}
    for name in tee.ALL:
        if name in document:
            tables[name] = read(lambda: _table(document, name), (name,), f"[{name}]")  # noqa: B023 - called at once
    workloads = _workloads(document.get("workload"), read, problems)
    rest = {key: value for key, value in document.items() if key not in (*tee.ALL, "workload")}
    for key in [key for key in rest if key not in General.__struct_fields__]:
        rest.pop(key)
        problems.append(_unknown(key))
    general = read(lambda: General.read(rest, "policy"), (), "policy")
    if problems:
        raise _refusal(problems, text, source)
    return Policy(general, MappingProxyType(tables), workloads, sha256(data).digest())


class Problem(NamedTuple):
    """A mistake: `path` leads there; `on_key` says that the key is wrong and not its value."""

    path: tuple[str | int, ...]
    on_key: bool
    text: str
    hint: str


def _table(document: Mapping[str, Any], name: str) -> Any:
    table = document[name]
    if not isinstance(table, dict):
        raise ParseError(f"[{name}]: expected a table, got {type(table).__name__}", f"write [{name}] on a line")
    return tee.load(name).Policy.read(table, f"[{name}]")


def _workloads(
    value: object, read: Callable[[Callable[[], Any], tuple[str | int, ...], str], Any], problems: list[Problem]
) -> tuple[Workload, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        hint = "write [[workload]], with two brackets, above each entry"
        problems.append(Problem(("workload",), False, "workload: expected an array of tables", hint))
        return ()
    if len(value) > MAX_WORKLOADS:
        text = f"workload: expected at most {MAX_WORKLOADS}, got {len(value)}"
        problems.append(Problem(("workload", MAX_WORKLOADS), False, text, ""))
        return ()
    found: list[Workload] = []
    seen: dict[bytes, int] = {}
    for number, table in enumerate(value):
        where = f"workload[{number}]"
        item = read(lambda: Workload.read(table, where), ("workload", number), where)  # noqa: B023 - called at once
        for digest in item.digest if item is not None else ():
            if seen.setdefault(digest, number) != number:
                text = f"{where} digest: expected each digest once, got one of workload[{seen[digest]}]"
                problems.append(Problem(("workload", number, "digest"), False, text, "put all names into one table"))
        if item is not None:
            found.append(item)
    return tuple(found)


def _unknown(key: str) -> Problem:
    known = (*General.__struct_fields__, *tee.ALL, "workload")
    near = difflib.get_close_matches(key, known, 1)
    owner = next((name for name in tee.ALL if key in tee.load(name).Policy.__struct_fields__), None)
    text = f'unknown key "{printable(key[:60])}": expected one of {", ".join(known)}'
    if near:
        return Problem((key,), True, text, f'did you mean "{near[0]}"?')
    return Problem(
        (key,), True, text, f'"{printable(key)}" belongs into a table such as [{owner}]' if owner else "remove it"
    )


_PART = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d+)\]")
_UNKNOWN = re.compile(r'unknown key "(.*?)": ')


def _problem(error: ParseError, at: tuple[str | int, ...], where: str) -> Problem:
    """Find the place that a model's message speaks of: "[snp] hash[0]: expected 96 hex digits, got ..."."""
    rest = error.message.removeprefix(where)
    inside, _, what = rest.partition(": ")
    path = list(at)
    for word in inside.split():
        path += [name or int(number) for name, number in _PART.findall(word)]
    unknown = _UNKNOWN.match(what)
    if unknown:
        path.append(unknown[1])
    elif not inside and (field := re.match(r"(\w+): ", what)):  # from a __post_init__
        path.append(field[1])
    text = error.message.removeprefix("policy: ").removeprefix("policy ")
    return Problem(tuple(path), unknown is not None, text, error.hint or "")


def _refusal(problems: list[Problem], text: str, source: str) -> ParseError:
    spots = Positions(text, depth=8).spots

    def offset(problem: Problem) -> int:
        path = problem.path
        while path not in spots:  # a missing key stands where its table does
            path = path[:-1]
        return spots[path][0 if problem.on_key and path == problem.path else 1]

    problems = sorted(problems, key=offset)[:20]
    places = [_line_column(text, offset(problem)) for problem in problems]
    lines = [f"{source}:{place}: {problem.text}" for place, problem in zip(places, problems, strict=True)]
    hints = [
        f"{place}: {problem.hint}" if len(problems) > 1 else problem.hint
        for place, problem in zip(places, problems, strict=True)
        if problem.hint
    ]
    return ParseError("\n".join(lines), "\n".join(hints) or None)


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        numbers = re.fullmatch(r"line (\d+), column (\d+)\)", where)
        place = ":".join(numbers.groups()) if numbers else _line_column(text, len(text))
        hint = "`donjon steward init` writes a file that shows how each setting is written"
        raise ParseError(f"{source}:{place}: {what[:1].lower()}{printable(what[1:120])}", hint) from error
    except RecursionError as error:
        raise ParseError(f"{source}: nested too deeply", "no setting is more than four levels deep") from error
    except ValueError as error:  # Python's bound on the digits of an integer
        raise ParseError(
            f"{source}: expected integers of at most {sys.get_int_max_str_digits()} digits, got a longer one"
        ) from error


def _line_column(text: str, offset: int) -> str:
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"
