"""The record of every decision, written before the answer leaves: who got a certificate, who did not, and why.

Each entry is a line of JSON, and its hash covers it and the hash of the entry before:

    hash(n) = SHA-256(domain || hash(n - 1) || body(n))            hash(0) is 32 zero bytes

So an entry that is changed, taken out, put in or moved shows. What does not show by itself is an end that was cut off:
whoever keeps the newest hash elsewhere (the service hands it out) can see that too, with `verify(head=...)`.

It is in a file or in a PostgreSQL database (`postgres`); `open_book` tells by the name. In a file: SQLite in WAL mode
with synchronous=FULL. When `append` returns, its entries survive kill -9 and a loss of power. It takes many entries at
once, because the disk's time is spent for each commit and not for each entry. Several processes may append to one
record; the lock is held from reading the last hash to writing the next.

No evidence is kept, only its digest, and no chip is named except where the reason of a refusal quotes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import quote

from donjon.errors import PlatformError, UsageError, VerifyError
from donjon.steward.authority import Issued
from donjon.steward.procedure import Decision
from donjon.tee.contract import shown

T = TypeVar("T")

DOMAIN = b"donjon steward record v1\0"
START = bytes(32)
FORMAT = 1
MAX_REASONS = 20
MAX_REASON = 300
"""Characters."""
BUSY_SECONDS = 10.0

_SCHEMA = (
    "CREATE TABLE decisions (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash BLOB NOT NULL, serial TEXT UNIQUE)",
    *(
        f"CREATE TRIGGER no_{word} BEFORE {word} ON decisions "
        "BEGIN SELECT RAISE(ABORT, 'the record is not changed'); END"
        for word in ("UPDATE", "DELETE")
    ),
)


class Head(NamedTuple):
    """The end of the record: how many entries there are, and the hash of the last one."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is read back."""

    seq: int
    body: str
    hash: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """What it says; nothing, if that is no object of JSON."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def describe(decision: Decision, issued: Issued | None) -> dict[str, Any]:
    """What is recorded of a decision, and of the certificate that goes out with it."""
    reasons = [str(check)[:MAX_REASON] for check in decision.failures[:MAX_REASONS]]
    found: dict[str, Any] = {
        "at": shown(decision.now),
        "request": decision.request.hex(),
        "evidence": decision.evidence.hex(),
        "policy": decision.policy.hex(),
        "tee": decision.tee,
        "verdict": "accepted" if decision.accepted else "refused",
        "ground": decision.ground.value if decision.ground else "",
        "reasons": reasons,
        "notes": list(decision.notes),
    }
    if decision.grant is not None and issued is not None:
        report = decision.grant.report
        found |= {
            "key": sha256(decision.grant.spki).hexdigest(),
            "product": report.product,
            "measurement": report.measurement.hex(),
            "workload": report.workload.hex(),
            **({"signer": decision.grant.signer} if decision.grant.signer else {}),
            "markers": list(decision.grant.markers),
            "serial": f"{issued.serial:032x}",
            "certificate": sha256(issued.der).hexdigest(),
            "not_after": shown(issued.not_after),
        }
    return found


class Book(Protocol):
    """A record, wherever it is; `Record` says what its methods do."""

    path: str

    def append(self, entries: Sequence[dict[str, Any]]) -> tuple[Head, ...]: ...  # noqa: D102 - see Record
    def head(self) -> Head: ...  # noqa: D102
    def read(self, after: int = 0, limit: int = 100) -> tuple[Entry, ...]: ...  # noqa: D102
    def of_serial(self, serial: int) -> Entry | None: ...  # noqa: D102
    def verify(self, head: bytes | None = None) -> Head: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def open_book(where: str, read_only: bool = False) -> Book:
    """Open a record.

    Args:
        where: a file's path, or the address of a database, `postgresql://...`.
        read_only: never waits for those who write, and makes nothing.
    Raises:
        PlatformError: it cannot be opened or made, or a package is missing. UsageError: it is something else.
    """
    if not is_database(where):
        return Record(where, read_only)
    try:
        from donjon.steward.record.postgres import PostgresRecord
    except ImportError as error:
        hint = 'install it: pip install "psycopg[binary]"'
        raise PlatformError(f"a record in PostgreSQL needs the package {error.name}", hint) from error
    return PostgresRecord(where, read_only)


def is_database(where: str) -> bool:
    """Whether it is the address of a database and not a path."""
    return where.startswith(("postgresql://", "postgres://"))


class Row(NamedTuple):
    """An entry as databases take it; its serial number is None where no certificate was issued."""

    seq: int
    body: str
    hash: bytes
    serial: str | None


def link(last: Head, entries: Sequence[dict[str, Any]]) -> list[Row]:
    """Make the rows that follow `last`."""
    rows: list[Row] = []
    for fields in entries:
        seq = last.seq + 1
        body = json.dumps({"seq": seq, **fields}, ensure_ascii=False, separators=(",", ":"))
        last = Head(seq, chain(last.hash, body))
        rows.append(Row(seq, body, last.hash, fields.get("serial")))
    return rows


def check_chain(where: str, entries: Iterable[Entry], head: bytes | None = None) -> Head:
    """Compute the chain of a whole record anew.

    Args:
        head: a hash that was kept elsewhere, which must be that of some entry.
    Raises:
        VerifyError: an entry is not what it was; its number is in the text.
    """
    last = Head(0, START)
    seen = head is None or head == START
    for entry in entries:
        if entry.seq != last.seq + 1:
            raise VerifyError(f"{where}: expected entry {last.seq + 1}, got {entry.seq}")
        if chain(last.hash, entry.body) != entry.hash:
            raise VerifyError(f"{where}: entry {entry.seq} was changed: its hash does not fit")
        said = entry.fields.get("seq")
        if said != entry.seq:
            raise VerifyError(f"{where}: entry {entry.seq} says that it is {said}")
        last = Head(entry.seq, entry.hash)
        seen = seen or entry.hash == head
    if head is not None and not seen:
        raise VerifyError(f"{where}: no entry has the hash {head.hex()}: the end was cut off, or it is another record")
    return last


class Record:
    """The record in a file; a connection of its own for each thread that uses it.

    Args:
        read_only: never waits for those who write, and makes no file.
    Raises:
        PlatformError: the file cannot be opened or made. UsageError: it is something else.
    """

    def __init__(self, path: str, read_only: bool = False) -> None:
        self.path = path
        try:
            if not read_only:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(
                f"file:{quote(os.path.abspath(path))}?mode={'ro' if read_only else 'rw'}", uri=True,
                timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=16,
            )  # fmt: skip
            with contextlib.ExitStack() as failed:
                failed.callback(self._database.close)
                if read_only:
                    self._check_format(self._database.execute("PRAGMA user_version").fetchone()[0])
                else:
                    self._database.execute("PRAGMA journal_mode=WAL")
                    self._database.execute("PRAGMA synchronous=FULL")
                    self._prepare()
                failed.pop_all()
        except (OSError, sqlite3.OperationalError) as error:
            raise PlatformError(f"cannot open the record {path}: {_words(error)}", "check who may write it") from error
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{path}: expected a record, got another file") from error

    def _prepare(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            (tables,) = self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if version == 0 and tables == 0:
                for statement in _SCHEMA:
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version={FORMAT}")
            else:
                self._check_format(version)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _check_format(self, version: int) -> None:
        if version != FORMAT:
            raise UsageError(f"{self.path}: expected a record of format {FORMAT}, got {version}")

    def close(self) -> None:
        """Give the file back."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, entries: Sequence[dict[str, Any]]) -> tuple[Head, ...]:
        """Write entries; when this returns they are on disk, all of them.

        Returns:
            For each, its number and hash.
        Raises:
            PlatformError: they could not be written, none of them; nothing may be answered.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                rows = link(self._head(), entries)
                self._database.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?)", rows)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise PlatformError(f"cannot write the record {self.path}: {_words(error)}") from error
        return tuple(Head(row.seq, row.hash) for row in rows)

    def head(self) -> Head:
        """The end of the record.

        Raises:
            PlatformError: it cannot be read.
        """
        return self._query(self._head)

    def read(self, after: int = 0, limit: int = 100) -> tuple[Entry, ...]:
        """Entries in order, those after the number `after`."""
        found = self._query(
            lambda: self._database.execute(
                "SELECT seq, body, hash FROM decisions WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        )
        return tuple(Entry(*row) for row in found)

    def of_serial(self, serial: int) -> Entry | None:
        """The entry of a certificate."""
        row = self._query(
            lambda: self._database.execute(
                "SELECT seq, body, hash FROM decisions WHERE serial = ?", (f"{serial:032x}",)
            ).fetchone()
        )
        return Entry(*row) if row else None

    def verify(self, head: bytes | None = None) -> Head:
        """Compute the whole chain anew.

        Args:
            head: a hash that was kept elsewhere, which must be that of some entry.
        Returns:
            The end.
        Raises:
            VerifyError: an entry is not what it was; its number is in the text. PlatformError: it cannot be read.
        """
        return check_chain(self.path, self._entries(), head)

    def _entries(self) -> Iterator[Entry]:
        try:
            for row in self._database.execute("SELECT seq, body, hash FROM decisions ORDER BY seq"):
                yield Entry(*row)
        except sqlite3.Error as error:
            raise PlatformError(f"cannot read the record {self.path}: {_words(error)}") from error

    def _head(self) -> Head:
        row = self._database.execute("SELECT seq, hash FROM decisions ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(*row) if row else Head(0, START)

    def _query(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except sqlite3.Error as error:
            raise PlatformError(f"cannot read the record {self.path}: {_words(error)}") from error


def chain(last: bytes, body: str) -> bytes:
    """The hash of an entry."""
    return sha256(DOMAIN + last + body.encode()).digest()


def verify_entries(entries: Iterable[Entry], last: bytes = START) -> bytes:
    """Compute the chain of entries that somebody handed over, e.g. the service; for those who keep a copy.

    Args:
        last: the hash of the entry before the first.
    Returns:
        The hash of the last.
    Raises:
        VerifyError: they do not follow each other.
    """
    for entry in entries:
        last = chain(last, entry.body)
        if last != entry.hash:
            raise VerifyError(f"record: entry {entry.seq} does not follow the one before it")
    return last


def _words(error: OSError | sqlite3.Error) -> str:
    return str(getattr(error, "strerror", None) or error).lower()
