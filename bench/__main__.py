"""The command line: `python -m bench`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench import machine, report
from bench.results import Row
from bench.setting import BenchError, Setting
from bench.suites import SUITES

ROOT = Path(__file__).parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write it to the build directory.

    Returns:
        0 when everything was measured, whatever the numbers; 1 when something could not be.
    """
    options = parser().parse_args(arguments)
    unknown = sorted(set(options.only) - SUITES.keys())
    if unknown:
        print(f"bench: error: no suite called {', '.join(unknown)}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    donjon = None if options.peers_only else options.donjon.absolute()
    if donjon and not donjon.exists():
        print(f"bench: error: {donjon} is missing", file=sys.stderr)
        print("bench: hint: `pip install .` makes it; --peers-only measures without it", file=sys.stderr)
        return 2
    rounds = options.rounds or (1 if options.quick else 5)
    setting = Setting(
        options.build.absolute(), options.programs.absolute(), donjon, rounds, options.quick, options.requests
    )
    setting.build.mkdir(parents=True, exist_ok=True)
    about = machine.describe(setting.compiler)
    busy = machine.busy()
    if busy > 0.2:
        setting.note(f"other programs kept {busy:.0%} of the CPUs busy before the run: read ratios and CPU, not rates")
    rows: list[Row] = []
    failed = False
    for name in options.only or SUITES:
        begun = time.monotonic()
        print(f"bench: {name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            rows += SUITES[name](setting)
            print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
        except BenchError as error:
            failed = True
            setting.note(f"{name} was not measured: {error}")
            print("failed", file=sys.stderr)
    if setting.quick:
        setting.note("a smoke run (--quick): these numbers mean nothing")
    print(report.text(rows))
    for note in setting.notes:
        print(f"note: {note}")
    (setting.build / "results.json").write_text(report.as_json(rows, about, setting.notes))
    (setting.build / "results.md").write_text(report.markdown(rows, about, setting.notes))
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    shape = argparse.ArgumentParser("python -m bench", description="Measures Donjon beside its peers, in one run.")
    shape.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="SUITE,...",
                       help=f"some of: {', '.join(SUITES)}")  # fmt: skip
    shape.add_argument("--rounds", type=int, help="how often to measure each contender (5)")
    shape.add_argument("--quick", action="store_true", help="a smoke run: everything runs, nothing is measured well")
    shape.add_argument("--requests", type=int, help="over how many the Steward's memory is watched (4000)")
    shape.add_argument("--peers-only", action="store_true", help="leave Donjon out")
    shape.add_argument("--donjon", type=Path, default=Path(sys.executable).parent / "donjon",
                       help="the installed command (the one beside this Python)")  # fmt: skip
    shape.add_argument("--build", type=Path, default=ROOT / ".build" / "bench", help="where results go")
    shape.add_argument("--programs", type=Path, default=ROOT / ".build" / "programs",
                       help="where echo-c.wasm and python.wasm are")  # fmt: skip
    return shape


if __name__ == "__main__":
    sys.exit(main())
