"""The record in PostgreSQL, against a real server: the same chain, several who append, and kill -9 of either side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.cli.main import main
from donjon.errors import PlatformError, UsageError, VerifyError
from donjon.steward import record
from donjon.steward.record import START, Head, Record, open_book
from donjon.steward.record.postgres import PostgresRecord
from tests.steward.postgres import Server, serving
from tests.steward.requests import kvm_request
from tests.steward.test_serve import Process, leaf_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def server(running: Server) -> Server:
    running.clear()
    return running


def fill(server: Server, count: int = 5) -> Head:
    with open_book(server.url) as book:
        return book.append([{"number": number, "serial": f"{number:032x}"} for number in range(count)])[-1]


def test_the_chain_is_the_one_that_a_file_has(server: Server, tmp_path: Path) -> None:
    entries = [{"number": number, "reason": "a\0b ü"} for number in range(3)]
    with open_book(server.url) as book, Record(str(tmp_path / "file")) as file:
        assert book.head() == book.verify() == Head(0, START)
        assert book.append(entries) == file.append(entries)
        assert book.append(entries[:1]) == file.append(entries[:1])
        assert book.head() == book.verify() == file.verify()
        assert [entry.body for entry in book.read()] == [entry.body for entry in file.read()]
        assert record.verify_entries(book.read()) == file.head().hash
        assert [entry.seq for entry in book.read(after=2, limit=1)] == [3]


def test_finds_the_entry_of_a_certificate(server: Server) -> None:
    fill(server)
    with open_book(server.url, read_only=True) as book:
        found = book.of_serial(3)
        assert found
        assert found.fields["number"] == 3
        assert book.of_serial(99) is None
        with pytest.raises(PlatformError, match="read-only transaction"):
            book.append([{}])


def test_many_stewards_write_one_chain(server: Server) -> None:
    def write() -> None:
        with open_book(server.url) as book:
            for number in range(40):
                book.append([{"number": number}] * (1 + number % 3))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_book(server.url, read_only=True) as book:
        assert book.verify().seq == 4 * sum(1 + number % 3 for number in range(40))


@pytest.mark.parametrize(
    "statement", ["UPDATE donjon_decisions SET body = ''", "DELETE FROM donjon_decisions", "TRUNCATE donjon_decisions"]
)
def test_what_is_there_is_not_changed(server: Server, statement: str) -> None:
    fill(server)
    with pytest.raises(AssertionError, match="the record is not changed"):
        server.statement(statement)


def test_whoever_serves_needs_to_read_and_to_append_and_no_more(server: Server) -> None:
    fill(server)
    server.statement("CREATE ROLE clerk LOGIN; GRANT SELECT, INSERT ON donjon_decisions, donjon_record TO clerk")
    try:
        with open_book(server.url.replace("user=steward", "user=clerk")) as book:
            assert book.append([{"number": 5}])[0].seq == 6
            assert book.verify().seq == 6
    finally:
        server.statement("DROP OWNED BY clerk; DROP ROLE clerk")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE donjon_decisions SET body = replace(body, '2', '7') WHERE seq = 3", "entry 3 was changed"),
        ("DELETE FROM donjon_decisions WHERE seq = 2", "expected entry 2, got 3"),
    ],
)
def test_a_change_by_force_shows(server: Server, statement: str, message: str) -> None:
    fill(server)
    server.statement(f"DROP TRIGGER donjon_unchanged ON donjon_decisions; {statement}")
    with open_book(server.url, read_only=True) as book, pytest.raises(VerifyError, match=message):
        book.verify()


def test_an_end_that_was_cut_off_shows_to_who_has_a_hash(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    last = fill(server)
    assert main(["steward", "check-record", server.url, "--head", last.hash.hex()]) == 0
    assert capfd.readouterr().out == f"5 entries\n{last.hash.hex()}\n"
    server.statement("DROP TRIGGER donjon_unchanged ON donjon_decisions; DELETE FROM donjon_decisions WHERE seq = 5")
    assert main(["steward", "check-record", server.url]) == 0
    assert main(["steward", "check-record", server.url, "--head", last.hash.hex()]) == 4


def test_a_server_that_was_started_anew_costs_no_entry(server: Server) -> None:
    with open_book(server.url) as book:
        book.append([{"number": 1}])
        server.stop()
        with pytest.raises(PlatformError, match="cannot write the record"):
            book.append([{"number": 2}])
        server.start()
        assert book.append([{"number": 3}])[0].seq == 2


def test_says_when_somebody_else_holds_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from donjon.steward.record import postgres

    fill(server)
    monkeypatch.setattr(postgres, "BUSY_SECONDS", 0.2)
    with PostgresRecord(server.url) as book, PostgresRecord(server.url) as other:
        assert other._connection
        with other._connection.transaction():
            other._connection.execute("SELECT pg_advisory_xact_lock(%s)", (postgres.LOCK,))
            with pytest.raises(PlatformError, match="lock timeout"):
                book.append([{}])
        assert book.append([{}])[0].seq == 6


def test_commits_wait_for_the_disk_whatever_the_server_is_set_to(server: Server) -> None:
    server.statement("ALTER DATABASE steward SET synchronous_commit = off")
    try:
        with PostgresRecord(server.url) as book:
            assert book._connection
            assert book._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        server.statement("ALTER DATABASE steward RESET synchronous_commit")


def test_a_server_that_promises_nothing_is_refused(server: Server) -> None:
    server.stop()
    server.start("fsync=off")
    try:
        with pytest.raises(UsageError, match="expected a server with fsync on, got off"):
            open_book(server.url)
    finally:
        server.stop()
        server.start()


def test_a_database_in_another_encoding_is_refused(server: Server) -> None:
    server.statement("CREATE DATABASE other ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(UsageError, match="expected a database in UTF8, got SQL_ASCII"):
        open_book(server.url.replace("/steward?", "/other?"))
    server.statement("DROP DATABASE other")


def test_another_format_is_refused(server: Server) -> None:
    with pytest.raises(UsageError, match="expected a record, got a database without one"):
        open_book(server.url, read_only=True)
    fill(server)
    server.statement("UPDATE donjon_record SET format = 9")
    with pytest.raises(UsageError, match="expected a record of format 1, got 9"):
        open_book(server.url)


def test_a_password_in_an_address_that_cannot_be_read_is_not_shown_either() -> None:
    with pytest.raises(UsageError, match=r"^record: expected the address of a database: ") as caught:
        open_book("postgresql://u:secret@[::1/d")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@h/d",
        "postgres://h/d?password=secret",
        "postgres://h/d?sslpassword=secret",
        "postgres://h/d?scram_client_key=secret",
        "postgres://h/d?oauth_client_secret=secret",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_book(url)
    assert "secret" not in str(caught.value)
    assert caught.value.hint
    assert "PGPASSFILE" in caught.value.hint


def test_an_address_that_leads_nowhere_is_said() -> None:
    with pytest.raises(UsageError, match="expected the address of a database"):
        open_book("postgresql://h/d?nonsense=1")
    with pytest.raises(PlatformError, match="cannot open the record"):
        open_book("postgresql:///d?host=/nowhere/at/all")


# kill -9

WRITER = """
import sys
from donjon.steward.record import open_book

book = open_book(sys.argv[1])
number = 0
while True:
    heads = book.append([{"number": number + more} for more in range(1 + number % 3)])
    for head in heads:
        print(head.seq, head.hash.hex(), flush=True)
    number += len(heads)
"""


@pytest.mark.parametrize("victim", ["the Steward", "the server"])
def test_kill_9_loses_nothing_that_was_answered(server: Server, victim: str) -> None:
    for lap in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), server.url],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.05 + 0.03 * lap)
        if victim == "the server":
            server.kill()
        else:
            os.kill(process.pid, signal.SIGKILL)
        answered = [first, *process.stdout.read().split("\n")]
        process.wait()
        process.stdout.close()
        if victim == "the server":
            server.start()
        whole = [line.split() for line in answered if len(line.split()) == 2 and len(line.split()[1]) == 64]
        assert whole
        with open_book(server.url) as book:
            assert book.verify(bytes.fromhex(whole[-1][1])).seq >= int(whole[-1][0])
            kept = {entry.seq: entry.hash.hex() for entry in book.read(limit=1_000_000)}
        assert all(kept[int(seq)] == digest for seq, digest in whole)


def test_two_stewards_serve_with_one_record(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = Process(tmp_path / "a", "--record", server.url)
    second = Process(tmp_path / "b", "--record", server.url)
    serials = []
    for process in (first, second, first):
        status, body = process.post(kvm_request())
        assert status == 200
        serials.append(leaf_of(body).serial_number)
    entries = second.get("/v1/record?after=0&limit=10")[1]["entries"]
    assert [json.loads(entry["body"])["serial"] for entry in entries] == [f"{serial:032x}" for serial in serials]
    assert first.end() == 0
    assert second.end() == 0
    assert not (tmp_path / "a/state/record.sqlite").exists()
    with open_book(server.url, read_only=True) as book:
        assert book.verify().seq == 3
