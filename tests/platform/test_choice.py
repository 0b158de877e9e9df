"""`donjon.platform.choice`: every pair of --backend and --require, on each kind of machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from donjon.errors import PlatformError, UsageError
from donjon.platform import choice
from donjon.platform.machine import Recorded
from tests.platform.machines import write

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


def test_a_plain_virtual_machine_needs_nothing_that_knows_tees() -> None:
    """It is on the way to each start with --backend kvm."""
    code = (
        "import sys; from donjon.platform.choice import choose; print(choose('kvm').backend);"
        "print([m for m in sys.modules if m.startswith(('donjon.tee', 'donjon.image', 'cryptography'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "kvm\n[]\n"
