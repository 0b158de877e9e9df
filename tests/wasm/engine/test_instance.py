"""Instances: entry points, memory and its limit, traps and their backtraces."""

from __future__ import annotations

import os
import resource
import sys

import pytest

from donjon.config.models import Config, Limits
from donjon.errors import ParseError, PlatformError, TrapError
from donjon.keep.launch import Launch
from donjon.keep.nil import prepare, run
from donjon.log import Logger
from donjon.wasm.engine import Instance, compiler, load

WASI = '(import "wasi_snapshot_preview1"'
EXIT = f'{WASI} "proc_exit" (func $exit (param i32)))'
MEMORY = '(memory (export "memory") 1)'


def outcome(text: str, config: Config | None = None, args: tuple[str, ...] = ()) -> int:
    launch = Launch(text.encode(), config or Config(), args)
    return run(launch, prepare(launch, None))


def nothing(space: str, name: str) -> None:
    return None


# ---- names


def test_long_names_are_shortened_in_messages() -> None:
    long = "n" * 90_000
    with pytest.raises(TrapError) as caught:
        outcome(f'(module (func ${long} unreachable) (func (export "_start") (call ${long})))')
    assert caught.value.frames[0] == "n" * 255 + "…"
    with pytest.raises(ParseError, match="n…") as refused:
        outcome(f'(module (import "{long}" "{long}" (func)) (func (export "_start")))')
    assert len(refused.value.message) < 1000


# ---- where it begins


def test_start_that_returns_is_success() -> None:
    assert outcome('(module (func (export "_start")))') == 0


@pytest.mark.parametrize("code", [0, 1, 42, 134, 255])
def test_exit_codes_pass_through(code: int) -> None:
    assert outcome(f'(module {EXIT} {MEMORY} (func (export "_start") (call $exit (i32.const {code}))))') == code


def test_the_function_without_a_name_comes_first_as_in_enarx() -> None:
    both = '(func (export "") (call $exit (i32.const 1))) (func (export "_start") (call $exit (i32.const 2)))'
    assert outcome(f"(module {EXIT} {MEMORY} {both})") == 1


@pytest.mark.parametrize("result", ["i32", "i64", "f32", "f64", "v128", "funcref", "externref", "i32 i64 v128 f32", ""])
def test_what_start_returns_is_dropped(result: str) -> None:
    values = {
        "i32": "i32.const 1", "i64": "i64.const 1", "f32": "f32.const 1", "f64": "f64.const 1",
        "v128": "v128.const i64x2 1 1", "funcref": "ref.null func", "externref": "ref.null extern",
    }  # fmt: skip
    body = " ".join(f"({values[each]})" for each in result.split())
    gives = f"(result {result})" if result else ""
    for name in ("_start", ""):
        assert outcome(f'(module (func (export "{name}") {gives} {body}))') == 0


def test_a_reactor_is_initialised_with_everything_open_and_the_user_is_told() -> None:
    said: list[str] = []
    launch = Launch(
        f"""(module {EXIT}
            {WASI} "args_sizes_get" (func $args (param i32 i32) (result i32)))
            {WASI} "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
            {WASI} "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))
            {MEMORY}
            (func (export "_initialize")
              (if (call $args (i32.const 0) (i32.const 4)) (then unreachable))
              (if (i32.ne (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))
              (if (call $environ (i32.const 0) (i32.const 4)) (then unreachable))
              (if (i32.ne (i32.load (i32.const 0)) (i32.const 3)) (then unreachable))
              (if (call $fdstat (i32.const 0) (i32.const 8)) (then unreachable))
              (if (call $fdstat (i32.const 2) (i32.const 8)) (then unreachable))
              (if (i32.ne (call $fdstat (i32.const 3) (i32.const 8)) (i32.const 8)) (then unreachable))
              (call $exit (i32.const 7))))""".encode(),
        args=("a", "b"),
        env={"A": "1"},
    )
    log = Logger(lambda _level, _target, message: said.append(message))
    assert run(launch, prepare(launch, None), log) == 7
    assert said == ["the module is a reactor: it has no _start, so it is initialised and that is all"]


def test_a_command_is_not_initialised_as_a_reactor_too() -> None:
    assert outcome('(module (func (export "_start")) (func (export "_initialize") unreachable))') == 0


def test_a_reactor_with_enarxs_entry_is_initialised_before_that_is_called() -> None:
    assert (
        outcome(
            f"""(module {EXIT} {MEMORY} (global $ready (mut i32) (i32.const 3))
              (func (export "_initialize") (global.set $ready (i32.const 4)))
              (func (export "") (call $exit (global.get $ready))))"""
        )
        == 4
    )


def test_a_reactor_that_exits_while_it_is_initialised_is_not_called() -> None:
    assert (
        outcome(
            f"""(module {EXIT} {MEMORY}
              (func (export "_initialize") (call $exit (i32.const 0)))
              (func (export "") unreachable))"""
        )
        == 0
    )


def test_a_start_function_can_exit_before_instantiation_ends() -> None:
    assert outcome(f"(module {EXIT} (func $init (call $exit (i32.const 9))) (start $init) {MEMORY})") == 9


def test_a_module_that_exports_nothing_has_nothing_to_run() -> None:
    with pytest.raises(ParseError, match=r"^the module exports no _start: there is nothing to run$"):
        outcome("(module)")


def test_a_function_is_called_by_its_name_only() -> None:
    instance = Instance(load(b'(module (func (export "f")) (global (export "g") i32 (i32.const 1)))'), nothing)
    assert [instance.has(name) for name in ("f", "g", "h", "")] == [True, False, False, False]
    with pytest.raises(ParseError, match=r'^the module exports no function "g"$'):
        instance.call("g")
    instance.close()


# ---- memory and what else there is to fill


GROW = f"""(module {EXIT} {MEMORY} (func (export "_start")
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (i32.store (i32.const 65532) (i32.const 1))
    (call $exit (memory.size))))"""


@pytest.mark.parametrize("pages", [1, 2, 100])
def test_memory_grows_to_its_limit_and_the_guest_is_told_at_the_end(pages: int) -> None:
    assert outcome(GROW, Config(limits=Limits(memory=pages << 16))) == pages


def test_a_limit_between_two_pages_counts_whole_pages() -> None:
    assert outcome(GROW, Config(limits=Limits(memory=(5 << 16) + 65535))) == 5


def test_memory_that_is_all_there_is_does_not_end_the_host() -> None:
    # Pages that nobody touches cost nothing, so this is 4 GiB of addresses only.
    code = f"""(module {EXIT} {MEMORY} (func (export "_start")
        (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1024)) (i32.const -1))))
        (call $exit (i32.shr_u (memory.size) (i32.const 10)))))"""
    assert outcome(code) == 63


@pytest.mark.parametrize(("elements", "grows"), [(1000, 1), (1 << 20, 0), (4_000_000_000, 0)])
def test_a_table_does_not_grow_beyond_what_programs_need(elements: int, grows: int) -> None:
    code = f"""(module {EXIT} {MEMORY} (table 10 funcref) (func (export "_start")
        (call $exit (i32.ne (i32.const -1) (table.grow (ref.null func) (i32.const {elements}))))))"""
    assert outcome(code) == grows


def test_a_module_that_wants_less_than_its_limit_is_not_disturbed() -> None:
    assert (
        outcome(
            '(module (memory (export "memory") 16) (func (export "_start")))', Config(limits=Limits(memory=1 << 20))
        )
        == 0
    )


# ---- traps


def test_a_trap_says_where_from_the_innermost_function_on() -> None:
    with pytest.raises(TrapError) as caught:
        outcome('(module (func $inner unreachable) (func $outer (call $inner)) (export "_start" (func $outer)))')
    error = caught.value
    assert (error.message, error.code, error.frames) == (
        "the guest trapped: unreachable",
        "unreachable",
        ("inner", "outer"),
    )


def test_a_function_without_a_name_has_its_number() -> None:
    with pytest.raises(TrapError) as caught:
        outcome(f'(module {EXIT} {MEMORY} (func unreachable) (func $named (export "_start") (call 1)))')
    assert caught.value.frames == ("function 1", "named")


def test_an_instance_can_go_on_after_a_trap() -> None:
    instance = Instance(load(b'(module (func (export "bad") unreachable) (func (export "good")))'), nothing)
    for _ in range(3):
        with pytest.raises(TrapError):
            instance.call("bad")
        instance.call("good")
    instance.close()


def test_endless_recursion_ends_though_each_level_calls_the_host() -> None:
    code = f"""(module {WASI} "sched_yield" (func $yield (result i32))) {MEMORY}
        (func $deeper (export "_start") (drop (call $yield)) (call $deeper)))"""
    with pytest.raises(TrapError) as caught:
        outcome(code)
    assert caught.value.code == "call stack exhausted"


def test_many_instances_of_one_module_are_independent() -> None:
    module = load(f'(module {MEMORY} (func (export "f") (i32.store (i32.const 0) (i32.const 1))))'.encode())
    instances = [Instance(module, nothing) for _ in range(20)]
    for instance in instances:
        instance.call("f")
    for instance in instances:
        instance.close()


def test_a_module_says_what_it_wants_and_offers() -> None:
    module = load(
        f'(module {EXIT} {EXIT.replace("$exit", "$again")} (memory (export "memory") 1) (func (export "f")))'.encode()
    )
    assert module.imports() == [("wasi_snapshot_preview1", "proc_exit", 0)] * 2
    assert module.exports() == {"memory": 3, "f": 0}


# ---- compiling in a process of its own


def bomb(size: int) -> bytes:
    """A module whose one function has 50,000 locals, and `size` bytes of branches that each change one of them."""

    def leb(number: int) -> bytes:
        out = b""
        while number > 127:
            out += bytes([number & 127 | 128])
            number >>= 7
        return out + bytes([number])

    def section(kind: int, body: bytes) -> bytes:
        return bytes([kind]) + leb(len(body)) + body

    count, code, step = 50_000, b"", 0
    while len(code) < size:
        target, source, choice = leb(step * 13 % count), leb(step * 7 % count), leb(step % count)
        code += b"\x20" + choice + b"\x04\x40\x20" + source + b"\x41\x01\x6a\x21" + target + b"\x0b"
        step += 1
    body = b"\x01" + leb(count) + b"\x7f" + code + b"\x0b"
    return (
        b"\0asm\x01\0\0\0"
        + section(1, b"\x01\x60\0\0")
        + section(3, b"\x01\0")
        + section(7, b"\x01\x06_start\0\0")
        + section(10, b"\x01" + leb(len(body)) + body)
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS bounds neither data nor address space")
def test_a_module_that_costs_too_much_to_compile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "working_memory", lambda _: 300 << 20)
    with pytest.raises(ParseError, match=r"big\.wasm: compiling its 1000\d\d bytes ended early: .* at most 300 MiB"):
        load(bomb(100_000), None, "big.wasm")


def test_what_compiling_one_module_took_is_not_kept() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load(bomb(20_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB; the compiler took twice that


def test_no_process_can_be_started_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(PlatformError, match="cannot start a process that compiles x: resource temporarily unavailable"):
        load(b"\0asm\x01\0\0\0", None, "x")
