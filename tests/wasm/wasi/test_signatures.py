"""All of preview 1 is there, with the specification's signatures, through wasm and by the front door."""

from __future__ import annotations

from pathlib import Path

import pytest

import donjon
from donjon.errors import TrapError
from donjon.wasm.engine import HostFunction, Instance, load
from donjon.wasm.wasi.p1 import MODULE, bind, lookup
from donjon.wasm.wasi.p1.guest import Exit, Guest
from donjon.wasm.wasi.p1.trampoline import FUNCTIONS, generate
from tests.wasm.wasi.lab import FREE, SIZE, Lab
from tests.wasm.wasi.witx import ALIGNMENT, DESCRIPTORS, ERRNO, RESULTS, RIGHTS, SIGNATURES

NO_FD = 60000


def test_preview_1_has_46_functions() -> None:
    assert len(SIGNATURES) == 46


@pytest.mark.parametrize("name", SIGNATURES)
def test_has_the_signature_of_the_specification(name: str) -> None:
    function = lookup(name)
    assert function is not None
    assert (function.params, function.results) == SIGNATURES[name]


def test_declares_nothing_else() -> None:
    for name in SIGNATURES:
        lookup(name)
    assert set(FUNCTIONS) == set(SIGNATURES)


@pytest.mark.parametrize(
    "name", ["", "fd", "fd_", "fd_read_", "sock_open", "thread_spawn", "__init__", "guest", "args_"]
)
def test_has_no_function_of_another_name(name: str) -> None:
    assert lookup(name) is None


def test_numbers_errors_and_rights_as_the_specification() -> None:
    from donjon.wasm.wasi.p1.errno import Errno
    from donjon.wasm.wasi.p1.rights import ALL, Rights

    ours = {name.lower(): value for name, value in vars(Errno).items() if name.isupper()}
    assert ours == {("toobig" if name == "2big" else name): value for name, value in ERRNO.items()}
    assert len(ERRNO) == 77
    assert {name.lower(): value for name, value in vars(Rights).items() if name.isupper()} == RIGHTS
    assert sum(RIGHTS.values()) == ALL


def test_the_generated_trampolines_are_those_of_the_declarations() -> None:
    path = Path(donjon.__file__).parent / "wasm/wasi/p1/_trampolines.py"
    assert path.read_text("utf-8") == generate(), "run tools/trampolines.py"


@pytest.mark.parametrize("name", [name for name in SIGNATURES if name != "proc_exit"])
def test_wasm_gets_the_same_errno_as_a_direct_call(lab: Lab, name: str) -> None:
    # Pointers are as bad as they can be and descriptors are closed, so that a call ends in the same error twice.
    args = [0xFFFFFFF8] * len(SIGNATURES[name][0])
    for index in DESCRIPTORS.get(name, ()):
        args[index] = NO_FD
    assert lab.call(name, *args) == lab.through_wasm(name, *args)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_closed_descriptor_is_badf(lab: Lab, name: str) -> None:
    args = [FREE] * len(SIGNATURES[name][0])
    for index, value in sane_arguments(name).items():
        args[index] = value
    for index in DESCRIPTORS[name]:
        args[index] = NO_FD
    with lab.writes_only():
        assert lab.fails(name, *args) == "badf"


def sane_arguments(name: str) -> dict[int, int]:
    """Numbers for what is checked before a descriptor is: flags, sizes and enumerations."""
    return {
        "fd_advise": {3: 0},
        "fd_fdstat_set_flags": {1: 0},
        "fd_filestat_set_times": {3: 0},
        "fd_pread": {2: 0},
        "fd_pwrite": {2: 0},
        "fd_read": {2: 0},
        "fd_write": {2: 0},
        "fd_seek": {2: 0},
        "sock_accept": {1: 0},
        "sock_recv": {2: 0, 3: 0},
        "sock_send": {2: 0, 3: 0},
        "sock_shutdown": {1: 1},
        "path_create_directory": {2: 0},
        "path_filestat_get": {1: 0, 3: 0},
        "path_filestat_set_times": {1: 0, 3: 0, 6: 0},
        "path_link": {1: 0, 3: 0, 6: 0},
        "path_open": {1: 0, 3: 0, 4: 0, 7: 0},
        "path_readlink": {2: 0, 4: 0},
        "path_remove_directory": {2: 0},
        "path_rename": {2: 0, 5: 0},
        "path_symlink": {1: 0, 4: 0},
        "path_unlink_file": {2: 0},
    }.get(name, {})


POINTERS = [(name, index, size) for name, results in RESULTS.items() for index, size in results]


@pytest.mark.parametrize(("name", "index", "size"), POINTERS)
def test_a_result_that_reaches_outside_memory_is_a_fault_and_nothing_happens(
    lab: Lab, name: str, index: int, size: int
) -> None:
    alignment = 4 if name == "fd_prestat_get" else ALIGNMENT[size]
    for address in (SIZE, SIZE - size + alignment, 1 << 31, (1 << 32) - alignment):
        args = [FREE] * len(SIGNATURES[name][0])
        args[index] = address
        if size == alignment and address == SIZE - size + alignment:
            assert address == SIZE
        with lab.writes_only():
            assert lab.fails(name, *args) == "fault"


@pytest.mark.parametrize(("name", "index", "size"), POINTERS)
def test_an_unaligned_result_is_invalid_and_nothing_happens(lab: Lab, name: str, index: int, size: int) -> None:
    alignment = 4 if name == "fd_prestat_get" else ALIGNMENT[size]
    for wrong in range(1, alignment):
        args = [FREE] * len(SIGNATURES[name][0])
        args[index] = FREE + wrong
        with lab.writes_only():
            assert lab.fails(name, *args) == "inval"


def test_memory_that_has_grown_is_used_without_being_told() -> None:
    lab = Lab(("x",))
    try:
        assert lab.fails("args_sizes_get", SIZE, SIZE + 4) == "fault"
        lab.instance.call("grow")
        lab.ok("args_sizes_get", SIZE, SIZE + 4)
        assert (lab.u32(SIZE), lab.u32(SIZE + 4)) == (1, 2)
        assert lab.fails("args_sizes_get", SIZE, SIZE + 65536) == "fault"
    finally:
        lab.close()


def one(text: str) -> tuple[Guest, Instance]:
    guest = Guest(("main.wasm",))

    def resolve(space: str, name: str) -> HostFunction | None:
        function = lookup(name) if space == MODULE else None
        return None if function is None else HostFunction(function.params, function.results, bind(function, guest))

    return guest, Instance(load(text.encode()), resolve)


CALL = '(func (export "_start") (drop (call $f (i32.const 0) (i32.const 0))))'
IMPORT = f'(import "{MODULE}" "args_sizes_get" (func $f (param i32 i32) (result i32)))'


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "(memory 1)",
        '(memory (export "Memory") 1)',
        '(global (export "memory") i32 (i32.const 0))',
        '(func (export "memory"))',
    ],
    ids=["none", "not exported", "under another name", "a global", "a function"],
)
def test_a_guest_without_its_memory_is_stopped_and_told_why(rest: str) -> None:
    guest, instance = one(f"(module {IMPORT} {rest} {CALL})")
    with pytest.raises(TrapError):
        instance.call("_start")
    assert isinstance(guest.pending, TrapError)
    assert guest.pending.message == 'the module uses WASI but exports no memory called "memory"'
    instance.close()


def test_a_memory_of_no_pages_is_a_memory() -> None:
    guest, instance = one(
        f'(module {IMPORT} (memory (export "memory") 0) (func (export "_start") '
        "(if (i32.ne (call $f (i32.const 0) (i32.const 0)) (i32.const 21)) (then unreachable))))"
    )
    instance.call("_start")
    assert guest.pending is None
    instance.close()


def test_a_function_that_is_imported_twice_is_one_function() -> None:
    guest, instance = one(
        f'(module {IMPORT} (import "{MODULE}" "args_sizes_get" (func $g (param i32 i32) (result i32))) '
        f'(memory (export "memory") 1) {CALL})'
    )
    instance.call("_start")
    assert guest.pending is None
    instance.close()


def test_proc_exit_ends_the_guest_from_any_depth(lab: Lab) -> None:
    with pytest.raises(Exit) as caught:
        lab.through_wasm("proc_exit", 0xFFFFFFFF)
    assert caught.value.code == 0xFFFFFFFF
