"""proc_*: how a guest ends itself."""

from __future__ import annotations

import signal

import pytest

from donjon.wasm.wasi.p1.guest import Exit
from tests.wasm.wasi.lab import Lab

# Preview 1's signals in its order, by their names; the number that a native program's exit code would carry on Linux.
# fmt: off
SIGNALS = {
    "none": None, "hup": 1, "int": 2, "quit": 3, "ill": 4, "trap": 5, "abrt": 6, "bus": 7, "fpe": 8, "kill": 9,
    "usr1": 10, "segv": 11, "usr2": 12, "pipe": 13, "alrm": 14, "term": 15, "chld": None, "cont": None, "stop": 19,
    "tstp": 20, "ttin": 21, "ttou": 22, "urg": None, "xcpu": 24, "xfsz": 25, "vtalrm": 26, "prof": 27, "winch": None,
    "poll": 29, "pwr": 30, "sys": 31,
}
# fmt: on


@pytest.mark.parametrize("code", [0, 1, 42, 255, 256, 2**31, 2**32 - 1])
@pytest.mark.parametrize("way", ["call", "through_wasm"])
def test_exits_with_any_code(lab: Lab, code: int, way: str) -> None:
    with pytest.raises(Exit) as caught:
        getattr(lab, way)("proc_exit", code)
    assert caught.value.code == code


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_does_what_it_does_to_a_native_program(lab: Lab, name: str) -> None:
    number = list(SIGNALS).index(name)
    native = SIGNALS[name]
    if native is None:
        lab.ok("proc_raise", number)
    else:
        with pytest.raises(Exit) as caught:
            lab.call("proc_raise", number)
        assert caught.value.code == 128 + native


def test_the_numbers_are_those_of_this_machine_where_it_runs_linux() -> None:
    for name in ("INT", "KILL", "SEGV", "PIPE", "TERM"):  # the same everywhere
        assert SIGNALS[name.lower()] == signal.Signals[f"SIG{name}"]


@pytest.mark.parametrize("number", [31, 32, 64, 255, 2**31, 2**32 - 1])
def test_there_are_31_signals(lab: Lab, number: int) -> None:
    assert lab.fails("proc_raise", number) == "inval"
