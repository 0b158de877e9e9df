"""The record: nothing that was answered is missing, and nothing that is there can be changed unseen."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from donjon.errors import PlatformError, UsageError, VerifyError
from donjon.steward import authority, record
from donjon.steward.policy import Policy, parse
from donjon.steward.procedure import Trust, decide
from donjon.steward.record import START, Entry, Head, Record
from donjon.tee.contract import Roots
from tests.steward.requests import NOW, kvm_request

TRUST = {"kvm": Trust((Roots({}),))}
LAX = parse("accept_unattested = true\n")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "record.sqlite")


def fill(path: str, count: int = 5) -> Head:
    with Record(path) as book:
        return book.append([{"number": number} for number in range(count)])[-1]


def change(path: str, statement: str) -> None:
    """What somebody with the file and another program can do."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TRIGGER no_update")
        database.execute("DROP TRIGGER no_delete")
        database.execute(statement)
    database.close()


# What is written


def test_begins_with_nothing(path: str) -> None:
    with Record(path) as book:
        assert book.head() == book.verify() == Head(0, START)
        assert book.read() == ()


def test_belongs_to_its_user_alone(path: str) -> None:
    fill(path)
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_reads_what_was_written_in_order(path: str) -> None:
    last = fill(path)
    with Record(path) as book:
        entries = book.read()
        assert [entry.fields["number"] for entry in entries] == [0, 1, 2, 3, 4]
        assert [entry.seq for entry in book.read(after=2, limit=2)] == [3, 4]
        assert book.head() == book.verify() == last == Head(5, entries[-1].hash)
        assert record.verify_entries(entries) == last.hash


def test_goes_on_where_it_stopped(path: str) -> None:
    fill(path, 2)
    fill(path, 3)
    with Record(path) as book:
        assert book.verify().seq == 5


def test_records_what_was_granted_and_for_what(path: str, tmp_path: Path) -> None:
    ca = authority.create(str(tmp_path / "ca"), NOW)
    decision = decide(kvm_request(), TRUST, LAX, NOW)
    issued = ca.issue(decision.require(), NOW)
    with Record(path) as book:
        book.append([record.describe(decision, issued)])
        entry = book.of_serial(issued.serial)
        assert entry is not None
        assert book.of_serial(issued.serial + 1) is None
    found = entry.fields
    assert found["verdict"] == "accepted"
    assert found["reasons"] == []
    assert found["markers"] == ["unprotected"]
    assert found["policy"] == LAX.digest.hex()
    assert found["request"] == decision.request.hex()
    assert found["serial"] == f"{issued.serial:032x}"


def test_records_why_something_was_refused(path: str) -> None:
    found = record.describe(decide(kvm_request(), TRUST, Policy(), NOW), None)
    assert (found["verdict"], found["ground"]) == ("refused", "refused")
    assert found["reasons"][0].startswith("evidence.attested: expected evidence of real hardware, got unprotected")
    assert "serial" not in found


def test_all_of_a_batch_is_written_or_nothing(path: str) -> None:
    with Record(path) as book:
        with pytest.raises(PlatformError, match="cannot write the record"):
            book.append([{"serial": "a"}, {"serial": "a"}])
        assert book.head().seq == 0
        assert book.append([{"serial": "a"}])[0].seq == 1


def test_several_threads_and_files_make_one_chain(path: str) -> None:
    def write() -> None:
        with Record(path) as book:
            for number in range(20):
                book.append([{"number": number}])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Record(path) as book:
        assert book.verify().seq == 80


# What shows


CHANGES = {
    "a changed entry": ("UPDATE decisions SET body = replace(body, '2', '7') WHERE seq = 3", "entry 3 was changed"),
    "a changed hash": ("UPDATE decisions SET hash = zeroblob(32) WHERE seq = 3", "entry 3 was changed"),
    "an entry taken out": ("DELETE FROM decisions WHERE seq = 3", "expected entry 3, got 4"),
    "two entries exchanged": (
        "UPDATE decisions SET body = (SELECT body FROM decisions WHERE seq = 5) WHERE seq = 4", "entry 4 was changed"
    ),
    "a first entry taken out": ("DELETE FROM decisions WHERE seq = 1", "expected entry 1, got 2"),
    "an entry put in": ("INSERT INTO decisions VALUES (6, '{\"seq\":6}', zeroblob(32), NULL)", "entry 6 was changed"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_shows(path: str, name: str) -> None:
    statement, message = CHANGES[name]
    fill(path)
    change(path, statement)
    with Record(path) as book, pytest.raises(VerifyError, match=message):
        book.verify()


def test_an_end_that_was_cut_off_shows_to_whoever_kept_its_hash(path: str) -> None:
    last = fill(path)
    change(path, "DELETE FROM decisions WHERE seq = 5")
    with Record(path) as book:
        assert book.verify().seq == 4
        assert book.verify(START).seq == 4
        with pytest.raises(VerifyError, match="the end was cut off"):
            book.verify(last.hash)


def test_an_entry_that_lies_about_its_number_shows(path: str) -> None:
    fill(path, 0 + 1)
    body = '{"seq":7}'
    with Record(path) as book:
        forged = record.chain(book.head().hash, body).hex()
    change(path, f"INSERT INTO decisions VALUES (2, '{body}', x'{forged}', NULL)")
    with Record(path) as book, pytest.raises(VerifyError, match="entry 2 says that it is 7"):
        book.verify()


@pytest.mark.parametrize("body", ["[]", "{"])
def test_an_entry_that_says_nothing_shows(path: str, body: str) -> None:
    with Record(path):
        pass
    change(path, f"INSERT INTO decisions VALUES (1, '{body}', x'{record.chain(START, body).hex()}', NULL)")
    with Record(path) as book, pytest.raises(VerifyError, match="entry 1 says that it is None"):
        book.verify()


def test_entries_that_do_not_follow_each_other_show() -> None:
    with pytest.raises(VerifyError, match="entry 9 does not follow"):
        record.verify_entries([Entry(9, "{}", START)])


@pytest.mark.parametrize("statement", ["UPDATE decisions SET body = ''", "DELETE FROM decisions"])
def test_the_file_itself_refuses_accidents(path: str, statement: str) -> None:
    fill(path)
    with (
        closing(sqlite3.connect(path)) as database,
        pytest.raises(sqlite3.IntegrityError, match="not changed"),
    ):
        database.execute(statement)
    database.close()


# What goes wrong


@pytest.mark.parametrize("read_only", [False, True])
def test_refuses_a_file_that_is_no_record(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "text").write_text("hello, this is no database, and it is long enough to be looked at" * 30)
    with pytest.raises(UsageError, match="expected a record"):
        Record(str(tmp_path / "text"), read_only)


def test_reads_no_empty_file_as_a_record(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="expected a record of format 1, got 0"):
        Record(str(tmp_path / "empty"), read_only=True)


@pytest.mark.parametrize("read_only", [False, True])
def test_refuses_the_database_of_another_program(tmp_path: Path, read_only: bool) -> None:
    with closing(sqlite3.connect(tmp_path / "other")) as database, database:
        database.execute("CREATE TABLE a (b)")
    database.close()
    with pytest.raises(UsageError, match="expected a record of format 1, got 0"):
        Record(str(tmp_path / "other"), read_only)


def test_says_when_there_is_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="cannot open the record"):
        Record(str(tmp_path / "missing" / "record"))


def test_says_when_it_cannot_be_read(path: str) -> None:
    fill(path)
    change(path, "DROP TABLE decisions")
    with Record(path) as book:
        for ask in (book.head, book.read, book.verify, lambda: book.of_serial(1)):
            with pytest.raises(PlatformError, match="cannot read the record"):
                ask()
        with pytest.raises(PlatformError, match="cannot write the record"):
            book.append([{}])


def test_says_when_somebody_else_holds_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "BUSY_SECONDS", 0.05)
    with Record(path) as book:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PlatformError, match="locked"):
            book.append([{}])
        other.execute("ROLLBACK")
        other.close()
        assert book.append([{}])[0].seq == 1


WRITER = """
import sys
from donjon.steward.record import Record

book = Record(sys.argv[1])
number = 0
while True:
    heads = book.append([{"number": number + more} for more in range(1 + number % 3)])
    for head in heads:
        print(head.seq, head.hash.hex(), flush=True)
    number += len(heads)
"""


def test_kill_9_loses_nothing_that_was_answered(path: str) -> None:
    for lap in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), path], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.01 * lap)
        os.kill(process.pid, signal.SIGKILL)
        answered = [first, *process.stdout.read().split("\n")]
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        whole = [line.split() for line in answered if len(line.split()) == 2 and len(line.split()[1]) == 64]
        assert whole
        with Record(path) as book:
            assert book.verify(bytes.fromhex(whole[-1][1])).seq >= int(whole[-1][0])
            kept = {entry.seq: entry.hash.hex() for entry in book.read(limit=1_000_000)}
        assert all(kept[int(seq)] == digest for seq, digest in whole)
