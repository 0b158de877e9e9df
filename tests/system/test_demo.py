"""`make demo`: what a newcomer sees first."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.images import CACHE, image, qemu
from tests.system.command import ROOT, environment

DEMO = ROOT / "examples" / "demo.py"
PROVE = ROOT / "examples" / "prove.py"
SAID = {"Alice": "hello, is this thing on?", "Bob": "seven times seven is 49", "Chloé": "どんじょん"}


def test_the_demo_shows_who_says_what_and_stops_what_it_started() -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)], env=environment(), capture_output=True, encoding="utf-8", timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert text.startswith("A TLS echo server in a Keep\n")
    assert "no line of TLS\ncode" in text or "no line of TLS code" in text
    assert re.search(r"  Keep     started as process \d+, listens on 127\.0\.0\.1 port \d+\n", text)
    assert re.search(r"  Keep     shows a certificate that it made for itself, SHA-256 [0-9a-f]{16}…\n", text)
    for name, words in SAID.items():
        assert re.search(rf"  {name:8} connected with TLSv1\.3 \(TLS_\w+\), certificate verified\n", text)
        assert text.index(f"  {name:8} says   {words}\n") < text.index(f"  {name:8} hears  {words}\n")
    assert text.index("Chloé    says") < text.index("Alice    hears")  # they are connected at the same time
    assert "  Mallory  is turned away by the Keep; the guest never heard of it\n" in text
    assert text.index("Mallory  is turned away") < text.index("Alice    hears  still there?")
    assert "  Keep     stopped by SIGTERM\n" in text
    assert "protects nobody from the host" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_demo_ends_with_a_message_and_1_when_something_goes_wrong() -> None:
    """Here: the Keep gets no time to start."""
    script = (
        "import runpy, sys; import donjon.keep.process as process; process.START_SECONDS = 0.0\n"
        f"sys.argv = [{str(DEMO)!r}]; runpy.run_path({str(DEMO)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "\ndemo: error: the Keep did not start within 0 s\n"


def prove(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROVE), *words],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nil", "kvm"])
def test_the_second_demo_proves_what_runs_in_a_process_and_in_a_virtual_machine(backend: str) -> None:
    if backend == "kvm":
        qemu()
        image("simulated")
    done = prove("--backend", backend, XDG_CACHE_HOME=str(CACHE))
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout
    assert ("donjon: virtual machine: QEMU " in text) == (backend == "kvm")
    assert ("$ donjon image measure --tee snp --variant simulated " in text) == (backend == "kvm")
    for hexadecimal in re.findall(r"\b[0-9a-f]{96}\b", text):
        assert f"  measurement  {hexadecimal}\n" in text  # measured beforehand, and seen by who verifies
    order = [
        ": SIMULATED, accepted as demanded",
        "hears back: hello, proven Keep",
        "demand.workload",
        "evidence.attested",
    ]
    assert [*sorted(map(text.index, order))] == [*map(text.index, order)]
    assert "who holds the files in `lab` can make such evidence too" in text


def test_where_there_is_no_qemu_the_second_demo_says_so_and_is_no_failure() -> None:
    done = prove("--backend", "kvm", PATH="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  Left out: there is no QEMU here. apt-get install qemu-system-x86" in done.stdout
