"""The bench itself: ratios, verdicts, rounds and reports on made-up numbers, and the guest that times its own calls."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from bench import bare, calls_wat, floor, machine, report
from bench.peers import post
from bench.results import OURS, Row, Sample, Target
from bench.rounds import interleave
from bench.setting import BenchError
from bench.suites import calls, verify, vm


def row(ours: list[float], theirs: list[float], better: Literal["less", "more"] = "more", *targets: Target) -> Row:
    samples = {OURS: [Sample(value, 1.5) for value in ours], "peer": [Sample(value) for value in theirs]}
    return Row("suite", "thing", "msg/s", better, samples, targets)


def test_a_ratio_is_taken_inside_a_round_and_not_between_medians() -> None:
    # The machine was twice as slow in the second round, for both alike.
    ratio = row([80, 40, 81], [100, 50, 90]).ratio("peer")
    assert ratio is not None
    assert (ratio.middle, ratio.least, ratio.most) == (0.8, 0.8, 0.9)


def test_we_have_no_ratio_to_ourselves() -> None:
    assert row([1], [1]).ratio(OURS) is None


@pytest.mark.parametrize(
    ("better", "bound", "verdict"),
    [
        ("more", 0.75, "reached by 0.05"),
        ("more", 0.95, "missed by 0.15"),
        ("less", 1.8, "reached by 1"),
        ("less", 0.5, "missed by 0.3"),
    ],
)
def test_a_verdict_says_by_how_much(better: Literal["less", "more"], bound: float, verdict: str) -> None:
    assert row([80, 80], [100, 100], better, Target(bound, "peer")).verdict("peer") == verdict


def test_a_verdict_says_when_single_rounds_disagree() -> None:
    noisy = row([80, 70, 82], [100, 100, 100], "more", Target(0.75, "peer"))
    assert noisy.verdict("peer") == "reached by 0.05, rounds disagree"


def test_an_absolute_target_stands_on_our_line() -> None:
    absolute = row([14, 12], [1, 1], "less", Target(15))
    assert absolute.verdict(OURS) == "reached by 2"
    assert absolute.verdict("peer") == ""


def test_a_peer_alone_is_not_judged() -> None:
    alone = Row("suite", "thing", "ms", "less", {"peer": [Sample(3)]}, [Target(0.5, "peer")])
    assert alone.verdict("peer") == "not measured"


def test_each_round_begins_with_another_contender_and_warm_up_is_dropped() -> None:
    order: list[str] = []

    def measure(name: str) -> int:
        order.append(name)
        return len(order)

    contenders = {name: partial(measure, name) for name in "abc"}
    results = interleave(contenders, 3, warm_up=1)
    assert "".join(order) == "cab" + "abc" + "bca" + "cab"
    assert results == {"a": [4, 9, 11], "b": [5, 7, 12], "c": [6, 8, 10]}


def test_the_table_names_a_row_once_and_puts_the_verdict_on_the_peers_line() -> None:
    lines = report.text([row([80], [100], "more", Target(0.75, "peer"))]).splitlines()
    assert [line.split()[0] for line in lines] == ["what", "thing", "peer"]
    assert lines[2].endswith("at least 0.75  reached by 0.05")


def test_json_has_every_sample() -> None:
    found = json.loads(report.as_json([row([80, 90], [100, 100])], {"python": "3"}, ["a note"]))
    assert [sample["value"] for sample in found["rows"][0]["contenders"][0]["samples"]] == [80, 90]
    assert found["notes"] == ["a note"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.07341, "0.0734"), (1.206, "1.21"), (58.31, "58.3"), (731.4, "731"), (66_837, "66,800")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert report.figure(value) == text


def test_the_timing_guest_calls_every_function_with_success(tmp_path: Path) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    engine = wasmtime.Engine()
    wasi = wasmtime.WasiConfig()
    wasi.stdin_file, wasi.stdout_file, wasi.stderr_file = "/dev/zero", "/dev/null", str(tmp_path / "report")
    store = wasmtime.Store(engine)
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    module = wasmtime.Module(engine, calls_wat.module(10))
    linker.instantiate(store, module).exports(store)["_start"](store)
    found = calls.parse((tmp_path / "report").read_text(), 10)
    assert found.keys() == calls_wat.CALLS.keys()
    assert all(microseconds > 0 for microseconds in found.values())


def test_a_call_that_failed_is_an_error_and_not_a_fast_call() -> None:
    with pytest.raises(BenchError, match="fd_write failed with errno 8"):
        calls.parse("fd_write 100 8\n", 10)


def test_a_function_that_was_not_timed_is_an_error() -> None:
    with pytest.raises(BenchError, match="no time for clock_time_get"):
        calls.parse("donjon: a log line\nfd_write 100 0\n", 10)


# Evidence and the Steward


def test_the_floor_is_read_from_openssl_and_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "openssl"
    fake.write_text("#!/bin/sh\necho '+F2:4:4096:200.0:16000.0'\necho '+F4:3:256:50000.0:20000.0'\n"
                    "echo '+F4:4:384:1000.0:1600.0'\n")  # fmt: skip
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    known = floor.speed(None)
    assert known is not None
    assert floor.total(floor.WARM["sgx"], known) == pytest.approx(2 / 20_000)
    assert floor.total(floor.COLD["snp"], known) == pytest.approx(1 / 1_600 + 3 / 16_000)
    assert floor.total(floor.SERVICE["snp"], known) == pytest.approx(2 / 1_600 + 1 / 50_000)


def test_an_openssl_that_says_something_else_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "openssl"
    fake.write_text("#!/bin/sh\necho '+F9:what'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BenchError, match="did not say what was expected: \\+F9:what"):
        floor.speed(None)


@pytest.mark.parametrize("tee", floor.WARM)
def test_who_has_seen_nothing_and_who_issues_have_more_to_do(tee: str) -> None:
    for more in (floor.COLD[tee], floor.SERVICE[tee]):
        assert all(more.get(name, 0) >= count for name, count in floor.WARM[tee].items())


def test_evidence_is_accepted_and_forgotten() -> None:
    from donjon.tee.intel import x509

    for case in verify.cases():
        assert case.judge().accepted
    assert x509._good_chain.cache_info().currsize
    verify.forget()
    assert not x509._good_chain.cache_info().currsize


def test_an_open_loop_does_not_wait_for_answers_and_a_closed_one_has_a_count() -> None:
    due = post.schedule({"mode": "open", "seconds": 100, "rate": 20.0, "seed": 3})
    times = list(iter(lambda: next(due), None))
    assert times == sorted(times)
    assert 1_800 < len(times) < 2_200
    due = post.schedule({"mode": "closed", "count": 3})
    assert [next(due) for _ in range(5)] == [0.0, 0.0, 0.0, None, None]


def answering(*answers: bytes) -> int:
    """A service that gives these answers on one connection, the body some time after the head; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            for answer in answers:
                connection.recv(65536)
                head, _, body = answer.partition(b"\r\n\r\n")
                connection.sendall(head + b"\r\n\r\n")
                time.sleep(0.02)
                connection.sendall(body)
            connection.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_load_counts_an_answer_when_all_of_it_has_come() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    found = post.main(answering(answer, answer), [b"x"], {"mode": "closed", "connections": 1, "count": 2})
    assert found["count"] == 2
    assert found["p50"] >= 20
    assert found["most"] >= found["p99"] >= found["p50"]


def test_load_ends_at_an_answer_that_is_not_200() -> None:
    port = answering(b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno")
    with pytest.raises(SystemExit, match="400 Bad"):
        post.main(port, [b"x"], {"mode": "closed", "connections": 1, "count": 1})


def test_our_own_process_has_memory_and_has_used_time() -> None:
    assert (machine.resident(os.getpid()) or 0) > 1
    assert (machine.cpu_seconds(os.getpid()) or 0) > 0
    assert machine.resident(2**22 + 1) is None
    before = machine.cpus()
    with machine.staying_on(before[0]):
        assert machine.cpus() == before[:1]
    assert machine.cpus() == before


# Virtual machines


SAID = (
    (40.0, "donjon: virtual machine: QEMU 7.2.22"),
    (1000.0, "donjon: debug: [donjon.keep] the machine greets: image production"),
    (1001.0, "donjon: debug: [donjon.keep] the machine's clock: kernel 0.500000 s"),
    (1001.0, "donjon: debug: [donjon.keep] the machine's clock: python 0.550000 s"),
    (1001.0, "donjon: debug: [donjon.keep] the machine's clock: port 0.650000 s"),
    (1001.0, "donjon: debug: [donjon.keep] the machine's clock: engine 0.800000 s"),
    (1200.0, "donjon: debug: [donjon.keep] the machine's clock: compile 1.000000 s"),
    (1250.0, vm.FIRST),
)


def test_the_steps_of_a_start_add_up_to_its_first_byte() -> None:
    steps = vm.itemise(SAID)
    assert steps == pytest.approx(
        {"host": 40, "machine": 160, "kernel": 500, "Python": 50, "init": 100, "engine": 150, "compile": 200, "run": 50}
    )
    assert sum(steps.values()) == pytest.approx(1250)
    assert steps.keys() <= set(vm.STEPS) == vm.WHAT.keys()


def test_a_start_that_did_not_say_all_has_no_steps() -> None:
    assert vm.itemise(SAID[:1] + SAID[2:]) == {}
    assert vm.itemise(SAID[:-1]) == {}


@pytest.mark.parametrize("least", [64, 72, 160, 504, 512])
def test_the_smallest_memory_is_found_in_few_starts(least: int) -> None:
    tried: list[int] = []

    def works(memory: int) -> bool:
        tried.append(memory)
        return memory >= least

    assert vm.smallest(works, 64, 512) == least
    assert len(tried) <= 8


def test_memory_that_never_suffices_is_an_error() -> None:
    with pytest.raises(BenchError, match="does not start with 512 MiB"):
        vm.smallest(lambda _: False, 64, 512)


def test_lines_and_the_first_byte_of_output_are_timed_as_they_come() -> None:
    (words, says), (output, writes) = os.pipe(), os.pipe()
    begun, first = time.perf_counter(), []

    def speak() -> None:
        os.write(says, b"one\ntw")
        time.sleep(0.05)
        os.write(writes, b"x")
        time.sleep(0.05)
        os.write(says, b"o\n")
        os.write(writes, b"y")
        os.close(says)
        os.close(writes)

    speaker = threading.Thread(target=speak)
    speaker.start()
    lines = vm.timed(words, output, begun, lambda: first.append(len(first)))
    speaker.join()
    os.close(words)
    os.close(output)
    assert [text for _, text in lines] == ["one", vm.FIRST, "two"]
    assert first == [0]
    assert lines[0][0] + 40 < lines[1][0] < lines[2][0] - 40


def test_a_program_that_asks_for_a_loader_is_not_static() -> None:
    def program(*kinds: int) -> bytes:
        header = b"\x7fELF\x02".ljust(32, b"\0") + (64).to_bytes(8, "little")
        header = header.ljust(54, b"\0") + (56).to_bytes(2, "little") + len(kinds).to_bytes(2, "little")
        return header.ljust(64, b"\0") + b"".join(kind.to_bytes(4, "little").ljust(56, b"\0") for kind in kinds)

    assert bare.static(program(1, 1))
    assert not bare.static(program(6, 3, 1))
    assert not bare.static(b"#!/bin/sh\n")


def test_a_bare_machine_is_a_keeps_but_for_its_initramfs(tmp_path: Path) -> None:
    from donjon.image import Image
    from donjon.keep.vm import words

    image = Image(str(tmp_path), {"variant": "production", "cmdline": "quiet"}, "")
    machine = bare.Machine("/usr/bin/qemu", "tcg", image, None)
    found = machine.words(tmp_path / "initrd", bare.PLAIN, 7, 5000)
    assert found[: 1 + len(words.kvm("tcg", 0, None))] == [
        "/usr/bin/qemu", *words.kvm("tcg", bare.MEMORY * words.MIB, None),
    ]  # fmt: skip
    assert found[found.index("-kernel") + 1] == image.vmlinux
    assert f"hostfwd=tcp:127.0.0.1:5000-10.0.2.15:{bare.PORT}" in " ".join(found)


def test_time_that_threads_have_used_is_summed_and_a_process_that_is_gone_has_none() -> None:
    assert (bare.used([os.getpid()]) or 0) > 0
    assert bare.used([2**22 + 1]) is None
