"""The record in PostgreSQL: the same chain and the same promises, for several Stewards at once.

Appending takes an advisory lock that is held until its transaction has ended, and only then reads the last hash: so
each entry follows the one before, whoever wrote it. `synchronous_commit` is on for these connections, whatever the
server's default is: when `append` returns, the server's disk has the entries. A server with `fsync` off is refused, as
it promises nothing.

A connection that was lost (the server was started anew) is made again, once for each call; a commit whose answer was
lost counts as not written, so nothing is issued for it, although its entry may be there.

No password is taken from the address, as everybody on a machine can read how a program was started: PGPASSFILE, or a
service file, or what else libpq knows (PGSERVICE, peer authentication, client certificates).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from donjon.errors import PlatformError, UsageError
from donjon.steward.record import BUSY_SECONDS, FORMAT, START, Entry, Head, check_chain, link

T = TypeVar("T")

LOCK = 0x646F6E6A6F6E
"""The advisory lock: "donjon". """
CONNECT_SECONDS = 10
READ_SECONDS = 30

_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
"""What libpq takes and nobody else may see."""

_SCHEMA = """
CREATE TABLE donjon_record (format integer NOT NULL);
INSERT INTO donjon_record VALUES (1);
CREATE TABLE donjon_decisions (seq bigint PRIMARY KEY, body text NOT NULL, hash bytea NOT NULL, serial text UNIQUE);
CREATE FUNCTION donjon_unchanged() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN RAISE EXCEPTION ''the record is not changed''; END';
CREATE TRIGGER donjon_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON donjon_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION donjon_unchanged();
"""


class PostgresRecord:
    """The record in a database; the methods are those of `donjon.steward.record.Record`.

    Args:
        where: `postgresql://...`, without a password.
        read_only: makes nothing, and its connection cannot write.
    Raises:
        PlatformError: the database cannot be reached, or its tables not made.
        UsageError: the address is wrong; it is something else; the server does not keep what it promises to.
    """

    def __init__(self, where: str, read_only: bool = False) -> None:
        self.path = where
        self._read_only = read_only
        try:
            parts = conninfo_to_dict(where)
        except psycopg.Error as error:
            said = str(error).replace(where, "it").strip()[:200]  # libpq quotes what it cannot read, with a password
            raise UsageError(f"record: expected the address of a database: {said}") from None
        if _SECRETS & set(parts):
            hint = "put it into the file that PGPASSFILE names, or into a service file"
            raise UsageError("record: expected an address without a password, as others can read it", hint)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        try:
            self._connected()
            if not read_only:
                self._prepare()
            self._check_format()
        except psycopg.Error as error:
            self.close()
            raise PlatformError(f"cannot open the record {where}: {_words(error)}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, entries: Sequence[dict[str, Any]]) -> tuple[Head, ...]:
        """Write entries; when this returns they are on the server's disk, all of them."""

        def write(connection: psycopg.Connection[tuple[Any, ...]]) -> tuple[Head, ...]:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                rows = link(_head(cursor), entries)
                cursor.executemany("INSERT INTO donjon_decisions VALUES (%s, %s, %s, %s)", rows)
            return tuple(Head(row.seq, row.hash) for row in rows)

        return self._do(write, "write")

    def head(self) -> Head:
        """The end of the record."""

        def ask(connection: psycopg.Connection[tuple[Any, ...]]) -> Head:
            with connection.cursor() as cursor:
                return _head(cursor)

        return self._do(ask, "read")

    def read(self, after: int = 0, limit: int = 100) -> tuple[Entry, ...]:
        """Entries in order, those after the number `after`."""
        query = "SELECT seq, body, hash FROM donjon_decisions WHERE seq > %s ORDER BY seq LIMIT %s"
        rows = self._do(lambda connection: connection.execute(query, (after, limit)).fetchall(), "read")
        return tuple(Entry(*row) for row in rows)

    def of_serial(self, serial: int) -> Entry | None:
        """The entry of a certificate."""
        query = "SELECT seq, body, hash FROM donjon_decisions WHERE serial = %s"
        row = self._do(lambda connection: connection.execute(query, (f"{serial:032x}",)).fetchone(), "read")
        return Entry(*row) if row else None

    def verify(self, head: bytes | None = None) -> Head:
        """Compute the whole chain anew; see `check_chain`."""
        return check_chain(self.path, self._entries(), head)

    def _entries(self) -> Iterator[Entry]:
        try:
            connection = self._connected()
            with connection.transaction(), connection.cursor("donjon_verify") as cursor:
                cursor.itersize = 1000
                for row in cursor.execute("SELECT seq, body, hash FROM donjon_decisions ORDER BY seq"):
                    yield Entry(*row)
        except psycopg.Error as error:
            raise PlatformError(f"cannot read the record {self.path}: {_words(error)}") from error

    def _do(self, work: Callable[[psycopg.Connection[tuple[Any, ...]]], T], what: str) -> T:
        try:
            try:
                connection = self._connected()
                connection.execute("SELECT 1")  # does it still live; nothing is lost if not
            except psycopg.OperationalError:
                self.close()
                connection = self._connected()
            return work(connection)
        except psycopg.Error as error:
            raise PlatformError(f"cannot {what} the record {self.path}: {_words(error)}") from error

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = psycopg.connect(
            self.path, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="donjon-steward"
        )
        try:
            for name, value in (
                ("synchronous_commit", "on"),
                ("lock_timeout", f"{BUSY_SECONDS}s"),
                ("statement_timeout", f"{READ_SECONDS}s"),
                ("idle_in_transaction_session_timeout", "60s"),
                ("default_transaction_isolation", "read committed"),
                ("default_transaction_read_only", "on" if self._read_only else "off"),
                ("client_encoding", "UTF8"),
            ):
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            shown = {
                name: (connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",))[0]
                for name in ("fsync", "server_encoding")
            }
            if shown["server_encoding"] != "UTF8":
                raise UsageError(f"{self.path}: expected a database in UTF8, got {shown['server_encoding']}")
            if shown["fsync"] != "on" and not self._read_only:
                raise UsageError(f"{self.path}: expected a server with fsync on, got {shown['fsync']}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self) -> None:
        connection = self._connected()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if not _is_there(cursor):
                cursor.execute(_SCHEMA)

    def _check_format(self) -> None:
        with self._connected().cursor() as cursor:
            if not _is_there(cursor):
                raise UsageError(f"{self.path}: expected a record, got a database without one")
            row = cursor.execute("SELECT format FROM donjon_record").fetchone()
        if row != (FORMAT,):
            raise UsageError(f"{self.path}: expected a record of format {FORMAT}, got {row[0] if row else 'none'}")


def _is_there(cursor: psycopg.Cursor[tuple[Any, ...]]) -> bool:
    row = cursor.execute("SELECT to_regclass('donjon_record') IS NOT NULL").fetchone()
    return bool(row and row[0])


def _head(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Head:
    row = cursor.execute("SELECT seq, hash FROM donjon_decisions ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(*row) if row else Head(0, START)


def _words(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].lower() if lines else type(error).__name__
