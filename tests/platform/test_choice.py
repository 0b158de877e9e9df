"""`donjon.platform.choice`: every pair of --backend and --require, on each kind of machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from donjon.errors import PlatformError, UsageError
from donjon.platform import choice
from donjon.platform.machine import Recorded
from tests.platform.machines import write
from tests.system.command import donjon_run

CAN = ("nil", "kvm", "snp", "tdx")
DEMANDS = (None, "tee", "snp", "tdx", "sgx", "cca")
GUESTS = {"snp-guest": "snp", "tdx-guest": "tdx"}

# A row for each --backend, a column for each of DEMANDS. "snp:snp" is the backend and what keeps the host out, @ in
# place, ! with a warning; "-" is refused by the machine, "x" by the words themselves.
TABLE = {
    "snp-host": """
        auto  snp:snp   snp:snp   snp:snp   -         -  -
        nil   nil       -         -         -         -  -
        kvm   kvm       x         x         x         x  x
        snp   snp:snp   snp:snp   snp:snp   x         x  x
        sev   snp:snp   snp:snp   snp:snp   x         x  x
        tdx   -         -         x         -         x  x
    """,
    "tdx-host": """
        auto  tdx:tdx   tdx:tdx   -         tdx:tdx   -  -
        nil   nil       -         -         -         -  -
        kvm   kvm       x         x         x         x  x
        snp   -         -         -         x         x  x
        sev   -         -         -         x         x  x
        tdx   tdx:tdx   tdx:tdx   x         tdx:tdx   x  x
    """,
    "snp-guest": """
        auto  nil:snp@  nil:snp@  nil:snp@  -         -  -
        nil   nil:snp@  nil:snp@  nil:snp@  -         -  -
        kvm   kvm       x         x         x         x  x
        snp   -         -         -         x         x  x
        sev   -         -         -         x         x  x
        tdx   -         -         x         -         x  x
    """,
    "tdx-guest": """
        auto  nil:tdx@  nil:tdx@  -         nil:tdx@  -  -
        nil   nil:tdx@  nil:tdx@  -         nil:tdx@  -  -
        kvm   kvm       x         x         x         x  x
        snp   -         -         -         x         x  x
        sev   -         -         -         x         x  x
        tdx   -         -         x         -         x  x
    """,
    "laptop": """
        auto  nil       -         -         -         -  -
        nil   nil       -         -         -         -  -
        kvm   kvm       x         x         x         x  x
        snp   -         -         -         x         x  x
        sev   -         -         -         x         x  x
        tdx   -         -         x         -         x  x
    """,
    "snp-forbidden": """
        auto  nil!      -         -         -         -  -
        nil   nil       -         -         -         -  -
        kvm   kvm       x         x         x         x  x
        snp   -         -         -         x         x  x
        sev   -         -         -         x         x  x
        tdx   -         -         x         -         x  x
    """,
}
TABLE.update(dict.fromkeys(("sgx-host", "raspberry-pi", "mac", "container", "nested"), TABLE["laptop"]))
TABLE["snp-old-kernel"] = TABLE["snp-forbidden"]
PAIRS = [
    pytest.param(host, backend, demand, expected, id=f"{host}: {backend}, {demand}")
    for host, rows in TABLE.items()
    for backend, *cells in (row.split() for row in rows.strip().splitlines())
    for demand, expected in zip(DEMANDS, cells, strict=True)
]


@pytest.mark.parametrize(("host", "backend", "demand", "expected"), PAIRS)
def test_every_pair(tmp_path: Path, host: str, backend: str, demand: str | None, expected: str) -> None:
    machine = Recorded(write(tmp_path / "m", host))
    said: list[str] = []

    def choose() -> choice.Choice:
        return choice.choose(backend, demand, said.append, machine, provider=lambda: GUESTS.get(host), can=CAN)

    if expected == "x":
        with pytest.raises(UsageError) as mistaken:
            choose()
        assert mistaken.value.hint
    elif expected == "-":
        with pytest.raises(PlatformError) as refused:
            choose()
        assert "donjon doctor" in str(refused.value.hint) or host in GUESTS
    else:
        chosen = choose()
        tee = f":{chosen.tee}" if chosen.tee else ""
        assert f"{chosen.backend}{tee}{'@' if chosen.in_place else ''}{'!' if said else ''}" == expected
        assert demand in (None, "tee") or choice.name_of(demand) == chosen.tee
        assert demand is None or chosen.tee


@pytest.mark.parametrize(
    ("brought", "changes"),
    [
        ("Firmware", {"firmware": {"snp": [None, "there is none", "get it"]}}),
        ("Guest image", {"image": [None, "there is none", "`donjon image build` makes it"]}),
    ],
)
@pytest.mark.parametrize("word", ["auto", "snp"])
def test_what_the_caller_brings_along_need_not_be_here(
    tmp_path: Path, brought: str, changes: dict[str, Any], word: str
) -> None:
    machine = Recorded(write(tmp_path / "m", "snp-host", **changes))
    assert choice.choose(word, "snp", None, machine, can=CAN, brought=(brought,)).backend == "snp"
    with pytest.raises(PlatformError):
        choice.choose(word, "snp", None, machine, can=CAN)
    lacking = Recorded(write(tmp_path / "other", "snp-host", **changes, may={"/dev/sev": ""}))
    with pytest.raises(PlatformError):
        choice.choose(word, "snp", None, lacking, can=CAN, brought=(brought,))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--sim lab", "--sim: simulated hardware is not what --require tee demands"),
        ("--tsm tsm", "--tsm: a directory of anybody's is not what --require tee demands"),
        ("--debug", "--debug: a machine that the host can look into is not what --require tee demands"),
    ],
)
def test_what_would_weaken_it_is_refused_where_a_tee_is_demanded(words: str, problem: str) -> None:
    done = donjon_run("run", "--require", "tee", *words.split(), "none.wasm")
    assert done.returncode == 2
    assert f"donjon: error: {problem}\n".encode() in done.stderr


@pytest.mark.parametrize("variable", ["DONJON_BACKEND", "ENARX_BACKEND"])
def test_the_environment_chooses_as_the_option_does(tmp_path: Path, variable: str) -> None:
    done = donjon_run("run", "--require", "snp", "none.wasm", env={variable: "kvm"})
    assert b"--backend kvm protects nobody from the host, and --require snp demands that" in done.stderr
    done = donjon_run("run", "--require", "tdx", "none.wasm", env={variable: "sev"})
    assert b"--backend snp is not what --require tdx demands" in done.stderr


def test_a_plain_virtual_machine_needs_nothing_that_knows_tees() -> None:
    """It is on the way to each start with --backend kvm."""
    code = (
        "import sys; from donjon.platform.choice import choose; print(choose('kvm').backend);"
        "print([m for m in sys.modules if m.startswith(('donjon.tee', 'donjon.image', 'cryptography'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "kvm\n[]\n"
