"""Both ends meet in memory, fed whole, byte by byte and cut at random; and each meets what is no peer at all."""

from __future__ import annotations

import random
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon import errors
from donjon.errors import BugError, ParseError, PlatformError, TrapError, UsageError, VerifyError
from donjon.sallyport import frames as f
from donjon.sallyport import machine as m
from donjon.sallyport.machine import (
    GUEST,
    HOST,
    STATES,
    STDERR,
    STDIN,
    STDOUT,
    WINDOW,
    Fetched,
    FileDone,
    GuestMachine,
    HostMachine,
    Launched,
    Lost,
    State,
    Violation,
)  # fmt: skip
from tests.sallyport.ends import DESCRIPTOR, OPTIONS, SAMPLES, Ends, move, raw

STEPS = pytest.mark.parametrize("step", [None, 1, random.Random(4)], ids=["whole", "byte by byte", "at random"])
ALIVE = [state for state in STATES if state not in (State.ENDED, State.BROKEN)]


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


def refused(machine: m.Machine, data: bytes) -> str:
    with pytest.raises(Violation) as caught:
        machine.feed(data)
    assert machine.state is State.BROKEN
    with pytest.raises(Violation) as again:
        machine.feed(b"")
    assert again.value is caught.value
    return caught.value.message


# A session


@STEPS
def test_a_whole_session(step: Any) -> None:
    ends = Ends(step)
    files = {"main.wasm": bytes(range(256)) * 300, "Enarx.toml": b"", "roots/a b": b"pem"}
    ends.reach(State.STARTING, files)
    assert kinds(ends.heard_outside) == ["Hello", "Accept"]
    assert ends.heard_outside[0].variant == "production"
    launched = ends.heard_inside[0]
    assert (launched.version, launched.descriptor, launched.options) == (1, DESCRIPTOR, OPTIONS)
    assert [event.name for event in ends.heard_inside if isinstance(event, FileDone)] == list(files)
    got: dict[str, bytes] = {}
    name = ""
    for event in ends.heard_inside:
        if isinstance(event, f.File):
            name = event.name
            got[name] = b""
            assert event.digest == sha256(files[name]).digest()
        elif isinstance(event, f.Chunk):
            got[name] += event.data
    assert got == files
    assert kinds(ends.heard_inside)[-1] == "Start"
    ends.heard_outside.clear()
    ends.heard_inside.clear()

    ends.guest.log(3, "donjon.keep", "compiled\x1b[31m")
    ends.guest.mark("python", 12)
    assert ends.guest.listening("web", "tls", "::", 443, 10_003) == 1
    assert ends.guest.dial("example.com", 80) == 1
    assert ends.guest.dial("example.com", 81) == 2
    assert ends.guest.collateral("snp vcek") == 1
    assert ends.guest.collateral("snp crl") == 2
    ends.pump()
    assert kinds(ends.heard_outside) == ["Log", "Mark", "Listening", "Dial", "Dial", "Collateral", "Collateral"]
    assert ends.heard_outside[0] == f.Log(level=3, target="donjon.keep", message="compiled\\x1b[31m")
    ends.host.bound(1, "127.0.0.1", 443)
    ends.host.peer(10_003, 5000, "192.0.2.1", 7)
    ends.host.dial_failed(2, PlatformError("cannot connect", "try again"))
    ends.host.dialed(1, 999)
    ends.host.reply(2, bytes(100_000))
    ends.host.collateral_failed(1, "no network\nat all")
    ends.guest.started()
    ends.pump()
    assert sorted(kinds(ends.heard_inside)) == ["Bound", "CollateralFailed", "DialFailed", "Dialed", "Fetched", "Peer"]
    fetched = next(event for event in ends.heard_inside if isinstance(event, Fetched))
    assert (fetched.id, fetched.data) == (2, bytes(100_000))
    failed = next(event for event in ends.heard_inside if isinstance(event, f.DialFailed)).error()
    assert isinstance(failed, PlatformError)
    assert (failed.message, failed.hint) == ("cannot connect", "try again")
    ends.heard_outside.clear()
    ends.heard_inside.clear()

    assert ends.host.write(STDIN, b"in") == 2
    assert ends.guest.write(STDOUT, b"out") == 3
    assert ends.guest.write(STDERR, b"err") == 3
    ends.host.end(STDIN)
    ends.host.end(STDIN)
    ends.guest.end(STDOUT)
    ends.host.stop()
    ends.host.stop()
    ends.guest.exit(7)
    ends.pump()
    assert kinds(ends.heard_inside) == []  # it had its last word before it listened
    assert kinds(ends.heard_outside) == ["Stdout", "Stderr", "End", "Exit"]
    assert ends.heard_outside[-1].code == 7
    assert ends.host.eof() == ends.guest.eof() == []


def test_stop_and_stdin_reach_a_guest_that_runs() -> None:
    ends = Ends().reach(State.RUNNING)
    ends.host.write(STDIN, b"in")
    ends.host.end(STDIN)
    ends.host.stop()
    ends.heard_inside.clear()
    ends.pump()
    assert ends.heard_inside == [f.Stdin(data=b"in"), f.End(stream=STDIN), f.Stop()]


@pytest.mark.parametrize("last", ["refuse", "fail", "trap"])
def test_last_words_are_errors_outside(last: str) -> None:
    ends = Ends().reach(State.CHECKING if last == "refuse" else State.RUNNING)
    error = TrapError("unreachable", "unreachable", ("f", "g\x07"), "hint")
    if last == "trap":
        ends.guest.trap(error)
    else:
        getattr(ends.guest, last)(VerifyError("first\nsecond\x07", "hint"))
    ends.guest.fail(BugError("not heard"))
    ends.pump()
    told = ends.heard_outside[-1].error()
    assert ends.host.state is ends.guest.state is State.ENDED
    if last == "trap":
        assert isinstance(told, TrapError)
        assert (told.message, told.code, told.frames, told.hint) == (
            "unreachable",
            "unreachable",
            ("f", "g\\x07"),
            "hint",
        )
    else:
        assert type(told) is VerifyError
        assert (told.message, told.hint) == ("first\nsecond\\x07", "hint")


def test_an_internal_error_of_the_keep_is_a_bug_error_outside() -> None:
    ends = Ends().reach(State.STARTING)
    ends.guest.fail(ValueError("x"))
    ends.pump()
    told = ends.heard_outside[-1].error()
    assert type(told) is BugError
    assert told.message == "internal error: ValueError: x"


def test_a_host_goes_on_with_a_guest_that_greeted_before_a_snapshot() -> None:
    ends = Ends().reach(State.LAUNCHING)
    host = HostMachine(ends.heard_outside[0])
    host.launch(DESCRIPTOR, OPTIONS)
    assert kinds(move(host, ends.guest)) == ["Launched"]


# Every pair of a state and a frame


def test_there_is_a_sample_of_each_frame() -> None:
    assert set(SAMPLES) == set(f.TYPES.values())


@pytest.mark.parametrize("state", ALIVE, ids=lambda state: state.value)
@pytest.mark.parametrize("side", ["host", "guest"])
def test_every_frame_that_the_table_lacks_is_refused(side: str, state: State) -> None:
    """And each that it has is not refused for the state."""
    table = HOST if side == "guest" else GUEST
    for kind, data in SAMPLES.items():
        ends = Ends().reach(state)
        machine: m.Machine = getattr(ends, side)
        place = f"sallyport: {machine.THEM} while {state.value}: expected "
        if kind in table[state]:
            problem = ""
            try:
                machine.feed(data)
            except Violation as error:
                problem = error.message
            assert not problem.startswith(place)
        else:
            message = refused(machine, data[:1])  # the type is enough
            assert message.startswith(place)
            assert message.endswith(f"got {kind.__name__}")


@pytest.mark.parametrize("state", ALIVE, ids=lambda state: state.value)
@pytest.mark.parametrize("side", ["host", "guest"])
def test_an_end_sends_nothing_that_its_table_lacks(side: str, state: State) -> None:
    """What the table lacks is our own mistake: BugError."""
    calls: dict[type[f.Frame], Any] = {
        f.Launch: lambda e: e.host.launch(b"a", b"b"), f.File: lambda e: e.host.file("n", b""),
        f.Start: lambda e: e.host.start(), f.End: lambda e: getattr(e, side).end(STDIN if side == "host" else STDOUT),
        f.Gone: lambda e: getattr(e, side).gone(STDOUT if side == "host" else STDIN),
        f.CollateralReply: lambda e: e.host.reply(1, b""), f.Dialed: lambda e: e.host.dialed(1, 1),
        f.CollateralFailed: lambda e: e.host.collateral_failed(1, ""),
        f.DialFailed: lambda e: e.host.dial_failed(1, UsageError("")), f.Bound: lambda e: e.host.bound(1, "::", 1),
        f.BindFailed: lambda e: e.host.bind_failed(1, UsageError("")), f.Peer: lambda e: e.host.peer(1, 1, "::", 1),
        f.Hello: lambda e: e.guest.hello("x"), f.Accept: lambda e: e.guest.accept(),
        f.Refuse: lambda e: e.guest.refuse(UsageError("")), f.Started: lambda e: e.guest.started(),
        f.Collateral: lambda e: e.guest.collateral("r"), f.Dial: lambda e: e.guest.dial("h", 1),
        f.Listening: lambda e: e.guest.listening("n", "tcp", "", 0, 1), f.Exit: lambda e: e.guest.exit(0),
        f.Trap: lambda e: e.guest.trap(TrapError("")),
    }  # fmt: skip
    table = HOST if side == "host" else GUEST
    for kind, call in calls.items():
        if kind not in {one for row in table.values() for one in row} or kind in table[state]:
            continue
        if state is State.RECEIVING and kind in (f.File, f.Start):
            continue  # these are queued behind the file
        ends = Ends().reach(state)
        with pytest.raises(BugError):
            call(ends)


def test_after_the_last_word_the_host_takes_nothing_and_the_guest_drops_everything() -> None:
    ends = Ends().reach(State.ENDED)
    assert "expected nothing after its last word, got more" in refused(ends.host, b"\x4c")
    for data in SAMPLES.values():
        assert ends.guest.feed(data + b"\xff" * 99) == []
    assert ends.guest.state is State.ENDED


@pytest.mark.parametrize("how", ["exit", "violation", "lost"])
def test_what_the_host_still_sends_when_the_session_is_over_goes_nowhere(how: str) -> None:
    """The guest's end crosses with answers, ends of streams and connections: none of these is a mistake."""
    ends = Ends().reach(State.RUNNING)
    host = ends.host
    host.feed(SAMPLES[f.Dial] + SAMPLES[f.Collateral] + SAMPLES[f.Listening])
    host.feed(f.Dial(id=2, host="h", port=1).encode() + f.Collateral(id=2, request="r").encode())
    if how == "exit":
        host.feed(SAMPLES[f.Exit])
    elif how == "lost":
        host.eof()
    else:
        refused(host, b"\xff")
    assert host.over
    host.dialed(1, 1)
    host.dial_failed(2, UsageError(""))
    host.bound(1, "::", 1)
    host.bind_failed(1, UsageError(""))
    host.reply(1, b"")
    host.collateral_failed(2, "")
    host.peer(1, 1, "::", 1)
    host.end(STDIN)
    host.gone(STDOUT)
    host.stop()
    assert host.write(STDIN, b"x") == 0
    assert not host.pending


@pytest.mark.parametrize("state", ALIVE, ids=lambda state: state.value)
@pytest.mark.parametrize("side", ["host", "guest"])
@pytest.mark.parametrize("partial", [b"", b"\x81"], ids=["between frames", "within a frame"])
def test_the_end_of_the_stream_is_an_event_once(side: str, state: State, partial: bytes) -> None:
    ends = Ends().reach(state)
    machine: m.Machine = getattr(ends, side)
    if not partial or f.End in machine.TAKES[state]:
        machine.feed(partial)
    (event,) = machine.eof()
    assert isinstance(event, Lost)
    assert event.state is state
    assert machine.eof() == []
    assert machine.take() == b"" or machine.backlog == 0
    assert machine.feed(b"\xff" * 1000) == []


def test_unknown_types_and_lengths_are_refused_by_the_header() -> None:
    assert refused(HostMachine(), b"\x00") == "sallyport: guest while greeting: expected Hello, Failed, got type 0x00"
    assert "Hello: expected 37 to 115 bytes, got 65537" in refused(HostMachine(), b"\x41\x01\x00\x01\x00")
    ends = Ends().reach(State.RUNNING)
    assert "Stdin: expected 1 to 65536 bytes, got 0" in refused(ends.guest, raw(0x05))


def test_what_was_said_before_a_violation_comes_with_it() -> None:
    ends = Ends().reach(State.RUNNING)
    with pytest.raises(Violation) as caught:
        ends.host.feed(SAMPLES[f.Log] + SAMPLES[f.Stdout] + b"\x99")
    assert kinds(caught.value.events) == ["Log", "Stdout"]


def test_a_guest_whose_host_is_at_fault_has_a_last_word() -> None:
    ends = Ends().reach(State.RUNNING)
    ends.guest.write(STDOUT, bytes(1000))
    begun = ends.guest.take(100)
    with pytest.raises(ParseError) as caught:
        ends.guest.feed(b"\x99")
    ends.guest.fail(caught.value)
    heard = ends.host.feed(begun) + move(ends.guest, ends.host)
    assert kinds(heard) == ["Stdout", "Failed"]
    assert isinstance(heard[1].error(), ParseError)


# Replays and numbers


def test_launch_start_and_stop_come_once() -> None:
    ends = Ends().reach(State.RUNNING)
    assert "got Launch" in refused(ends.guest, SAMPLES[f.Launch])
    ends = Ends().reach(State.RUNNING)
    assert ends.guest.feed(SAMPLES[f.Stop]) == [f.Stop()]
    assert "Stop: expected one, got another" in refused(ends.guest, SAMPLES[f.Stop])
    ends = Ends().reach(State.LAUNCHING)
    ends.host.launch(b"a", b"b")
    with pytest.raises(BugError, match="sent before"):
        ends.host.launch(b"a", b"b")


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda g: g.dial("h", 1), f.Dialed), (lambda g: g.dial("h", 1), f.DialFailed),
        (lambda g: g.listening("n", "tcp", "", 0, 1), f.Bound),
        (lambda g: g.listening("n", "tcp", "", 0, 1), f.BindFailed),
        (lambda g: g.collateral("r"), f.CollateralFailed),
    ],
)  # fmt: skip
def test_an_answer_comes_once_and_to_a_question(ask: Any, answer: type[f.Frame]) -> None:
    message = f"{answer.__name__}.id: expected one that was asked for, got 1"
    ends = Ends().reach(State.RUNNING)
    assert message in refused(ends.guest, SAMPLES[answer])
    ends = Ends().reach(State.RUNNING)
    assert ask(ends.guest) == 1
    assert kinds(ends.guest.feed(SAMPLES[answer])) == [answer.__name__]
    assert message in refused(ends.guest, SAMPLES[answer])


@pytest.mark.parametrize("kind", [f.Dial, f.Collateral, f.Listening])
def test_numbers_count_up(kind: type[f.Frame]) -> None:
    ends = Ends().reach(State.RUNNING)
    ends.host.feed(SAMPLES[kind])
    assert f"{kind.__name__}.id: expected 2, got 1" in refused(ends.host, SAMPLES[kind])


def test_the_host_answers_only_what_was_asked() -> None:
    ends = Ends().reach(State.RUNNING)
    with pytest.raises(BugError, match="waits for no answer 1"):
        ends.host.dialed(1, 1)
    ends.host.feed(SAMPLES[f.Collateral])
    ends.host.reply(1, b"")
    with pytest.raises(BugError, match="waits for no answer 1"):
        ends.host.reply(1, b"")


def test_a_peer_comes_to_a_listener() -> None:
    ends = Ends().reach(State.RUNNING)
    assert "Peer.guest_port: expected that of a listener, got 1" in refused(ends.guest, SAMPLES[f.Peer])


# Files


def file(name: str, size: int, data: bytes = b"") -> bytes:
    return f.File(name=name, size=size, digest=sha256(data).digest()).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file("a", 1, b"x") + SAMPLES[f.Chunk] + file("a", 1), 'File.name: expected another than "a", which came'),
        (file("a", 2**40), "File.size: expected at most 1000 bytes, got 1099511627776"),
        (file("a", 600) + raw(2, bytes(600)), 'file "a": expected SHA-256 e3b0c442'),
        (file("a", 600, bytes(600)) + raw(2, bytes(600)) + file("b", 401), "expected at most 400 bytes, got 401"),
        (file("a", 0) + file("b", 0) + file("c", 0), "File: expected at most 2, got one more"),
        (file("a", 3) + raw(2, bytes(4)), "Chunk: expected at most 3 bytes, got 4"),
        (file("a", 1, b"y") + SAMPLES[f.Chunk], "got 2d711642"),
        (file("a", 0, b"y"), "got e3b0c442"),
        (file("a", 3) + SAMPLES[f.Start], "expected Chunk, Stop, Credit, got Start"),
        (raw(3, b"\x01\x00\n" + bytes(40)), "File.name at 0x000: expected printable text, got '\\n'"),
        (raw(3, b"\x00\x00" + bytes(41)), "File.name at 0x000: expected text of 1 to 4096 bytes, got 0"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_that_is_not_as_announced_is_refused(data: bytes, message: str) -> None:
    ends = Ends(most_files=2, most_bytes=1000).reach(State.CHECKING)
    ends.guest.accept()
    assert message in refused(ends.guest, data)


def test_the_host_cannot_begin_before_the_guest_has_all() -> None:
    ends = Ends().reach(State.CHECKING)
    ends.guest.accept()
    ends.pump()
    ends.host.file("a", bytes(1 << 20))
    ends.host.start()
    with pytest.raises(BugError):
        ends.host.file("b", b"")
    ends.host.take(100)
    assert "expected Log, Mark, Failed, got Started" in refused(ends.host, SAMPLES[f.Started])


def test_launch_has_limits() -> None:
    ends = Ends().reach(State.LAUNCHING)
    with pytest.raises(UsageError, match=r"Launch\.descriptor: expected a number from 1 to 1048576, got 1048577"):
        ends.host.launch(bytes((1 << 20) + 1), b"{}")
    head = b"\x01" + (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
    assert "Chunk: expected at most 3 bytes, got 4" in refused(ends.guest, raw(1, head) + raw(2, bytes(4)))
    ends = Ends().reach(State.LAUNCHING)
    assert "Launch.version: expected 1, got 2" in refused(ends.guest, raw(1, b"\x02" + head[1:]))
    assert "Hello.versions: expected 1 among them, got 2, 9" in refused(
        HostMachine(), f.Hello(versions=(2, 9), variant="x", image=bytes(32)).encode()
    )


# Streams


def test_a_writer_stops_at_the_credit_and_goes_on_when_the_reader_has_read() -> None:
    ends = Ends().reach(State.RUNNING)
    sent = 0
    while took := ends.guest.write(STDOUT, bytes(100_000)):
        sent += took
        ends.pump()
    assert sent == WINDOW
    assert ends.guest.room(STDOUT) == 0
    assert ends.guest.room(STDERR) == WINDOW
    ends.host.consumed(STDOUT, WINDOW // 2 - 1)
    assert not ends.host.pending
    ends.host.consumed(STDOUT, 1)
    ends.pump()
    assert ends.guest.room(STDOUT) == WINDOW // 2
    with pytest.raises(BugError, match="are held"):
        ends.host.consumed(STDOUT, WINDOW)


def test_a_writer_that_is_not_read_stops_at_the_room() -> None:
    ends = Ends().reach(State.RUNNING)
    for stream in (STDOUT, STDERR):
        while ends.guest.write(stream, bytes(50_000)):
            pass
    for _ in range(1000):
        ends.guest.log(3, "donjon", "x" * 500)
    assert ends.guest.backlog <= m.ROOM + m.LOG_WINDOW
    assert not ends.guest.congested


@pytest.mark.parametrize("stream", [STDIN, STDOUT, STDERR])
def test_data_without_credit_is_refused(stream: int) -> None:
    ends = Ends().reach(State.RUNNING)
    machine: m.Machine = ends.guest if stream == STDIN else ends.host
    number = (0x05, 0x45, 0x46)[stream]
    for _ in range(4):
        machine.feed(raw(number, bytes(1 << 16)))
    assert "expected at most 0 bytes of credit, got 1" in refused(machine, raw(number, b"x"))


@pytest.mark.parametrize(
    ("side", "data", "message"),
    [
        ("guest", f.Credit(stream=0, size=1), "Credit.stream: expected one that the guest writes, got 0"),
        ("host", f.Credit(stream=1, size=1), "Credit.stream: expected one that the host writes, got 1"),
        ("guest", f.Credit(stream=1, size=1), "Credit.size: expected at most 262144 bytes, got 262145"),
        ("guest", f.Credit(stream=3, size=1 << 20), "Credit.size: expected at most 65536 bytes, got"),
        ("guest", f.End(stream=1), "End.stream: expected one that is open, got 1"),
        ("host", f.End(stream=0), "End.stream: expected one that is open, got 0"),
        ("guest", f.Gone(stream=0), "Gone.stream: expected one that is read, got 0"),
        ("host", f.Gone(stream=2), "Gone.stream: expected one that is read, got 2"),
    ],
)
def test_streams_have_a_direction(side: str, data: f.Frame, message: str) -> None:
    ends = Ends().reach(State.RUNNING)
    assert message in refused(getattr(ends, side), data.encode())


def test_streams_end_once_and_then_have_nothing() -> None:
    for after in (f.End(stream=1), f.Stdout(data=b"x")):
        ends = Ends().reach(State.RUNNING)
        assert kinds(ends.host.feed(f.End(stream=1).encode())) == ["End"]
        assert "End" in refused(ends.host, after.encode())
    ends = Ends().reach(State.RUNNING)
    assert kinds(ends.guest.feed(f.Gone(stream=1).encode())) == ["Gone"]
    assert "Gone.stream" in refused(ends.guest, f.Gone(stream=1).encode())


def test_what_nobody_reads_is_swallowed() -> None:
    ends = Ends().reach(State.RUNNING)
    ends.guest.write(STDOUT, b"on its way")
    ends.host.gone(STDOUT)
    ends.host.gone(STDOUT)
    ends.heard_outside.clear()
    ends.pump()
    assert ends.heard_outside == []
    assert ends.heard_inside[-1] == f.Gone(stream=STDOUT)
    assert ends.guest.write(STDOUT, bytes(1 << 20)) == 1 << 20
    assert not ends.guest.pending
    ends.host.consumed(STDOUT, 5)  # of what it held when it gave up
    ends.guest.end(STDOUT)
    ends.pump()
    assert ends.heard_outside == []
    with pytest.raises(BugError):
        ends.host.gone(STDIN)
    with pytest.raises(BugError):
        ends.guest.end(STDIN)


# Floods


def test_logs_are_dropped_and_counted_while_nobody_reads() -> None:
    ends = Ends().reach(State.RUNNING)
    for number in range(1000):
        ends.guest.log(9, "donjon.wasi", f"{number} " + "x" * 1000)
    ends.heard_outside.clear()
    ends.pump()
    few = len(ends.heard_outside)
    assert 40 < few < 66
    assert {event.level for event in ends.heard_outside} == {5}
    ends.guest.log(1, "donjon", "again")
    ends.pump()
    told = [event.message for event in ends.heard_outside[few:]]
    assert told == [f"{1000 - few} messages dropped: nobody read them in time", "again"]


def test_a_guest_that_logs_without_credit_is_refused() -> None:
    ends = Ends().reach(State.RUNNING)
    record = f.Log(level=1, target="t", message="x" * 8000).encode()
    with pytest.raises(Violation, match=r"Log: expected at most [0-9]+ bytes of credit"):
        ends.host.feed(record * 9)


def test_long_texts_are_cut_not_refused() -> None:
    ends = Ends().reach(State.STARTING)
    ends.guest.log(1, "é" * 500, "é" * 50_000)
    ends.guest.log(1, "", "")
    ends.guest.fail(errors.UsageError("é\n" * 50_000, "\udc80" * 5000))
    ends.pump()
    log, empty, failed = ends.heard_outside[-3:]
    assert (len(log.target.encode()), len(log.message.encode())) == (128, 8192)
    assert empty.target == "donjon"
    assert len(failed.message.encode()) <= 8192
    assert failed.hint.startswith("\\x80\\x80")


def test_marks_are_few() -> None:
    ends = Ends().reach(State.RUNNING)
    for number in range(100):
        ends.guest.mark("m", number)
    ends.heard_outside.clear()
    ends.pump()
    assert len(ends.heard_outside) == m.MARKS
    assert "Mark: expected at most 64, got one more" in refused(ends.host, SAMPLES[f.Mark])


@pytest.mark.parametrize(("kind", "most"), [(f.Dial, m.DIALS), (f.Collateral, m.REQUESTS)])
def test_so_many_may_be_unanswered(kind: Any, most: int) -> None:
    ends = Ends().reach(State.RUNNING)

    def ask() -> int:
        return ends.guest.dial("h", 1) if kind is f.Dial else ends.guest.collateral("r")

    for _ in range(most):
        ask()
    with pytest.raises(errors.DonjonError, match=f"{most}"):
        ask()
    ends.pump()
    more = kind(id=most + 1, host="h", port=1) if kind is f.Dial else kind(id=most + 1, request="r")
    assert f"expected at most {most} without an answer" in refused(ends.host, more.encode())


def test_collateral_that_is_not_read_counts_as_unanswered() -> None:
    ends = Ends().reach(State.RUNNING)
    for number in range(1, m.REQUESTS + 1):
        ends.host.feed(f.Collateral(id=number, request="r").encode())
        ends.host.reply(number, b"x")
    last = f.Collateral(id=m.REQUESTS + 1, request="r").encode()
    assert "without an answer" in refused(ends.host, last)


def test_a_listener_too_many_is_refused() -> None:
    ends = Ends().reach(State.RUNNING)
    for number in range(1, m.LISTENERS + 1):
        assert ends.guest.listening("n", "tcp", "", 0, 1) == number
    with pytest.raises(UsageError, match="at most 1024 listeners"):
        ends.guest.listening("n", "tcp", "", 0, 1)
    ends.pump()
    more = f.Listening(id=m.LISTENERS + 1, name="n", prot="tcp", host="", port=0, guest_port=1)
    assert "Listening.id: expected at most 1024, got 1025" in refused(ends.host, more.encode())


def test_a_reply_is_whole_and_within_its_limit() -> None:
    def asked() -> GuestMachine:
        ends = Ends().reach(State.RUNNING)
        for _ in range(2):
            ends.guest.collateral("r")
        return ends.guest

    assert "CollateralReply.size at 0x004: expected" in refused(asked(), raw(6, bytes((1, 0, 0, 0, 1, 0, 0x10, 0))))
    assert "CollateralData: expected at most 0 bytes, got 1" in refused(asked(), SAMPLES[f.CollateralData])
    two = f.CollateralData(data=b"xy").encode()
    assert "CollateralData: expected at most 1 bytes, got 2" in refused(asked(), SAMPLES[f.CollateralReply] + two)
    other = f.CollateralReply(id=2, size=1).encode()
    assert "expected the rest of 1 first, got 2" in refused(asked(), SAMPLES[f.CollateralReply] + other)
    assert "got 1" in refused(asked(), f.CollateralReply(id=1, size=0).encode() + SAMPLES[f.CollateralReply])


def test_a_guest_that_asks_and_never_reads_makes_the_host_congested_not_larger() -> None:
    ends = Ends().reach(State.RUNNING)
    number = 0
    while not ends.host.congested:
        number += 1
        ends.host.feed(f.Dial(id=number, host="h", port=1).encode())
        ends.host.dial_failed(number, PlatformError("x" * 9000))
    assert ends.host.backlog < m.CONGESTED + 9000
    ends.host.take(1 << 20)
    assert not ends.host.congested


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_streams_arrive_as_they_were_written_whatever_the_order(data: Any) -> None:
    """A model: what each end wrote, and what the other has heard."""
    ends = Ends().reach(State.RUNNING)
    ends.heard_inside.clear()
    ends.heard_outside.clear()
    wrote = {STDIN: b"", STDOUT: b"", STDERR: b""}
    heard = {STDIN: b"", STDOUT: b"", STDERR: b""}
    fresh = {STDIN: 0, STDOUT: 0, STDERR: 0}
    kind = {f.Stdin: STDIN, f.Stdout: STDOUT, f.Stderr: STDERR}
    for _ in range(data.draw(st.integers(1, 30))):
        stream = data.draw(st.sampled_from([STDIN, STDOUT, STDERR]))
        writer, reader = (ends.host, ends.guest) if stream == STDIN else (ends.guest, ends.host)
        match data.draw(st.integers(0, 3)):
            case 0 | 1:
                piece = bytes((data.draw(st.integers(0, 255)),)) * data.draw(st.integers(0, 200_000))
                room = writer.room(stream)
                took = writer.write(stream, piece)
                assert took == min(room, len(piece))
                wrote[stream] += piece[:took]
            case 2:
                for event in reader.feed(writer.take(data.draw(st.integers(1, 200_000)))):
                    number = kind[type(event)]  # type: ignore[index]
                    heard[number] += event.data  # type: ignore[union-attr]
                    fresh[number] += len(event.data)  # type: ignore[union-attr]
            case _:
                size = data.draw(st.integers(0, fresh[stream]))
                reader.consumed(stream, size)
                fresh[stream] -= size
        assert wrote[stream].startswith(heard[stream])
        assert len(wrote[stream]) - len(heard[stream]) + fresh[stream] <= WINDOW
    for event in move(ends.host, ends.guest) + move(ends.guest, ends.host):
        heard[kind[type(event)]] += event.data
    assert heard == wrote


def test_the_tables_lead_from_the_greeting_to_the_end() -> None:
    for table in (HOST, GUEST):
        assert set(table) == set(STATES)
    reached = {State.GREETING}
    for _ in STATES:
        for state, row in product(list(reached), (HOST, GUEST)):
            reached |= set(row[state].values())
        reached |= {m.END[state] for state in reached & set(m.END)}
    assert reached == set(STATES) - {State.BROKEN}
    assert all(State.ENDED in GUEST[state].values() for state in ALIVE)


def test_launched_is_given_whole() -> None:
    ends = Ends().reach(State.LAUNCHING)
    ends.host.launch(b"d" * 200_000, b"o" * 5)
    ends.pump()
    (launched,) = (event for event in ends.heard_inside if isinstance(event, Launched))
    assert (launched.descriptor, launched.options) == (b"d" * 200_000, b"o" * 5)
