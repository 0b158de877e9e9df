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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from hashlib import sha256
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import msgspec

from donjon import tee
from donjon.errors import ParseError
from donjon.log import printable
from donjon.steward.endorsement import Signer
from donjon.steward.toml import Problem, locate, read_toml, refusal
from donjon.tee.contract import Fetch, Hex32, Model

MAX_FILE = 1_000_000
"""Bytes."""
MAX_WORKLOADS = 10_000
MAX_SIGNERS = 32
MAX_NAMES = 64
"""Of one workload."""
SHORTEST = timedelta(minutes=5)
LONGEST = timedelta(days=7)
LONGEST_STALE = timedelta(days=30)
DAY = timedelta(hours=24)
"""How long a certificate lives unless the policy says otherwise."""

HINT = "`donjon steward init` writes a file that shows how each setting is written"

_TABLES = ("workload", "collateral")
_STALE = "stale_collateral_days"
"""The key by which a TEE's own table allows collateral that has ended."""
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
    """A table `[[workload]]`: what may run, and under which names. Any one of digest, package and signers will do.

    Args:
        digest: of its launch descriptor, any of them: what the launcher puts into the evidence, filled up with zeros.
        package: digests of packages, with whatever arguments; the request has to bring the launch descriptor.
        signers: keys, one of which has signed a statement about the launch descriptor or the package.
        roots: SHA-256 of the files that a package may have in `[roots]`, where it and not a launch is accepted.
        names: host names and addresses that its certificates have.
        title: for people.
    """

    digest: tuple[Hex32, ...] = ()
    package: tuple[Hex32, ...] = ()
    signers: tuple[Signer, ...] = ()
    roots: tuple[Hex32, ...] = ()
    names: tuple[Name, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if not (self.digest or self.package or self.signers):
            raise ValueError("expected at least one digest, package or signer")
        if not all(map(any, self.digest)):
            raise ValueError("digest: expected the digest of a workload, got zeros: evidence without one has these")
        if len(self.signers) > MAX_SIGNERS:
            raise ValueError(f"signers: expected at most {MAX_SIGNERS}")
        if len(self.names) > MAX_NAMES:
            raise ValueError(f"names: expected at most {MAX_NAMES}")

    def is_named(self, bound: bytes) -> bool:
        """Whether evidence with `bound` in its workload field speaks of this workload."""
        return len(bound) >= 32 and any(bound == digest.ljust(len(bound), b"\0") for digest in self.digest)


class Window(timedelta):
    """How long something may be out of date: "0" or a time like "12h", "7d"."""

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        match = re.fullmatch(r"(0|[1-9][0-9]{0,3})([mhd])?", value) if isinstance(value, str) else None
        if match is None or (match[1] != "0" and match[2] is None):
            raise ValueError('expected "0", or a time like "12h" or "7d"')
        result = cls(**{_UNITS[match[2] or "d"]: int(match[1])})
        if result > LONGEST_STALE:
            raise ValueError('expected a time of at most "30d"')
        return result


class Address(str):
    """The address of a service: https, or http on this machine; with a path, without anything else."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> Self:
        """Make it from text; ValueError says what was expected."""
        wanted = 'expected an address like "https://kds.example.com" (http only for this machine itself)'
        if not isinstance(value, str) or len(value) > 200 or not value.isascii() or not value.isprintable():
            raise ValueError(wanted)
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(wanted) from error
        local = host == "localhost" or (_is_ip(host) and ip_address(host).is_loopback)
        plain = not (parts.query or parts.fragment or parts.username is not None or parts.password is not None)
        if not host or not plain or " " in value or parts.scheme not in (("https", "http") if local else ("https",)):
            raise ValueError(wanted)
        return cls(value.rstrip("/"))


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Collateral(Model, frozen=True, kw_only=True):
    """The table `[collateral]`: what is fetched from vendors. Beside these keys it has one for each vendor's address.

    Args:
        offline: nobody is asked: what requests bring, and what is kept already, has to do.
        ca: a file of certificates to trust for TLS with these addresses, instead of the system's.
        stale: how long after its end collateral may still be used while its vendor cannot be reached.
        addresses: vendor → where to ask instead, e.g. a cache of one's own.
    """

    offline: bool = False
    ca: str | None = None
    stale: Window = Window(0)
    addresses: dict[str, Address] = {}

    def address(self, fetch: Fetch) -> str:
        """Where to ask a vendor."""
        return self.addresses.get(fetch.VENDOR, fetch.BASE)


def _vendors() -> tuple[str, ...]:
    """The keys of addresses: every TEE says whose its vendor's is."""
    found = (tee.load_fetch(name) for name in tee.ALL)
    return tuple(dict.fromkeys(item.VENDOR for item in found if item is not None))


def _collateral(table: object) -> Collateral:
    if not isinstance(table, dict):
        got = type(table).__name__
        raise ParseError(f"[collateral]: expected a table, got {got}", "write [collateral] on a line")
    vendors = _vendors()
    keys = ("offline", "ca", "stale", *vendors)
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            hint = f'did you mean "{near[0]}"?' if near else "remove it"
            text = f'[collateral]: unknown key "{printable(key[:60])}": expected one of {", ".join(keys)}'
            raise ParseError(text, hint)
    for key in vendors:
        try:
            Address.read(table.get(key, "https://example.com"))
        except ValueError as error:
            raise ParseError(f"[collateral] {key}: {error}") from error
    rest = {key: value for key, value in table.items() if key not in vendors}
    return Collateral.read({**rest, "addresses": {key: table[key] for key in vendors if key in table}}, "[collateral]")


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
        signers: name of a key → the workload that it may sign for, and the key.
    """

    general: General = field(default_factory=General)
    tables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    workloads: tuple[Workload, ...] = ()
    digest: bytes = sha256(b"").digest()
    collateral: Collateral = field(default_factory=Collateral)
    signers: Mapping[str, tuple[Workload, Signer]] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, name: str) -> Any:
        """The policy for one TEE."""
        return self.tables[name] if name in self.tables else _default(name)

    @property
    def open_to(self) -> tuple[str, ...]:
        """TEEs of which any genuine guest passes, as their tables name no code; its host says what workload it is."""
        keys = ("hash", "signer", "id_key_digest")
        tables = {name: self.of(name) for name in self.general.tees}
        named = {name for name, table in tables.items() if any(getattr(table, key, ()) for key in keys)}
        return tuple(name for name, table in tables.items() if hasattr(table, "hash") and name not in named)

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
    document = read_toml(text, source, HINT)
    problems: list[Problem] = []

    def read(make: Callable[[], Any], at: tuple[str | int, ...], where: str) -> Any:
        try:
            return make()
        except ParseError as error:
            problems.append(locate(error, at, where))
            return None

    tables: dict[str, Any] = {}
    for name in tee.ALL:
        if name in document:
            tables[name] = read(lambda: read_table(document, name), (name,), f"[{name}]")  # noqa: B023 - called at once
    workloads = _workloads(document.get("workload"), read, problems)
    collateral = Collateral()
    if "collateral" in document:
        collateral = read(lambda: _collateral(document["collateral"]), ("collateral",), "[collateral]") or collateral
    rest = {key: value for key, value in document.items() if key not in (*tee.ALL, *_TABLES)}
    for key in [key for key in rest if key not in General.__struct_fields__]:
        rest.pop(key)
        problems.append(_unknown(key))
    general = read(lambda: General.read(rest, "policy"), (), "policy")
    if problems:
        raise refusal(problems, text, source)
    tables = _with_stale(tables, collateral.stale)
    signers = {key.name: (item, key) for item in workloads for key in item.signers}
    digest = sha256(data).digest()
    return Policy(general, MappingProxyType(tables), workloads, digest, collateral, MappingProxyType(signers))


def _with_stale(tables: dict[str, Any], stale: timedelta) -> dict[str, Any]:
    """What may be out of date for every TEE, where its own table does not allow more."""
    if not stale:
        return tables
    days = -(-stale // timedelta(days=1))
    found = dict(tables)
    for name in tee.ALL:
        table = found.get(name, _default(name))
        if getattr(table, _STALE, days) < days:
            found[name] = msgspec.structs.replace(table, **{_STALE: days})
    return found


def read_table(document: Mapping[str, Any], name: str) -> Any:
    """The policy of one TEE, from its table."""
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
    if not value:
        text = "workload: expected at least one table, got none: any workload would pass"
        problems.append(Problem(("workload",), False, text, "leave it out if that is meant"))
    if len(value) > MAX_WORKLOADS:
        text = f"workload: expected at most {MAX_WORKLOADS}, got {len(value)}"
        problems.append(Problem(("workload", MAX_WORKLOADS), False, text, ""))
        return ()
    found: list[Workload] = []
    seen: dict[tuple[str, str], int] = {}
    for number, table in enumerate(value):
        where = f"workload[{number}]"
        item = read(lambda: Workload.read(table, where), ("workload", number), where)  # noqa: B023 - called at once
        for kind in ("digest", "package", "signers") if item is not None else ():
            values: tuple[bytes, ...] = getattr(item, kind)
            for value in values:
                other = seen.setdefault((kind, value.hex()), number)
                if other != number:
                    text = f"{where} {kind}: expected each {kind.removesuffix('s')} once, got one of workload[{other}]"
                    problems.append(Problem(("workload", number, kind), False, text, "put all names into one table"))
        if item is not None:
            found.append(item)
    return tuple(found)


def _unknown(key: str) -> Problem:
    known = (*General.__struct_fields__, *tee.ALL, *_TABLES)
    near = difflib.get_close_matches(key, known, 1)
    owner = next((name for name in tee.ALL if key in tee.load(name).Policy.__struct_fields__), None)
    text = f'unknown key "{printable(key[:60])}": expected one of {", ".join(known)}'
    if near:
        return Problem((key,), True, text, f'did you mean "{near[0]}"?')
    return Problem((key,), True, text, f'"{key}" belongs into a table such as [{owner}]' if owner else "remove it")
