"""Fuzzes the targets, guided by what each input reaches.

    python -m tests.fuzz.run [--seconds N] [--total N] [--keep] [--list] [TARGET ...]

Every target runs in a process of its own, forked when all is imported and instrumented, for `--seconds` each or
`--total` together. Inputs that reach something new are kept in .build/fuzz/<target>, where the next run goes on.
`--keep` fuzzes nothing: it makes the corpus in the repository (tests/fuzz/corpus) anew, of what was kept there and of
itself, the small inputs that reach a line that no smaller one does.

An input for which the invariant does not hold ends the run with 1; it is kept in .build/fuzz/findings, and
`python -m tests.fuzz.run --try TARGET FILE` shows it again. It becomes a named case in the tests of what it broke.

Where no wheel of atheris is to be had, this says so and ends with 0; tests/fuzz/test_corpus.py needs none.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
KEPT = ROOT / ".build" / "fuzz"
FINDINGS = KEPT / "findings"
TOTAL = 40.0
"""Seconds for all targets, unless somebody says otherwise."""
MEGABYTES = 1024
SLOW = 6.0
"""By how much instrumented code may be slower than `targets.MOST` allows."""
SHORT = 1
"""The seed of the short run, which has to say the same of the same code; long ones look elsewhere each time."""
SMALL = 4096
"""Bytes of an input that may be kept in the repository, and of all of a target, times 8."""
COUNTED = (
    "donjon.wire",
    "donjon.sallyport",
    "donjon.sim.port",
    "donjon.tee",
    "donjon.steward",
    "donjon.config",
    "donjon.verify",
    "donjon.identity.path",
    "donjon.image",
    "donjon.platform",
)
# What `coverage by import` has to see before anybody else has imported it.
LATER = ("tests.fuzz.targets",)


def main(arguments: list[str]) -> int:
    """Returns 0 when every invariant held, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.run", description="Fuzzes what reads bytes from outside.")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, help="for each target")
    parser.add_argument("--total", type=float, default=TOTAL, help="for all of them")
    parser.add_argument("--keep", action="store_true", help="put what was found into the corpus, and fuzz nothing")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--try", dest="once", action="store_true", help="TARGET FILE: run one input")
    options = parser.parse_args(arguments)
    if options.once or options.list or options.keep:
        return without_atheris(options)
    if find_spec("atheris") is None:
        print("fuzzing by coverage needs atheris, of which there is no wheel for this Python and machine")
        return 0
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=list(COUNTED), enable_loader_override=False):
        targets: Any = import_module(LATER[0])
    unknown = [name for name in options.targets if name not in targets.TARGETS]
    if unknown:
        print(f"no target {unknown[0]}; there are {', '.join(targets.TARGETS)}", file=sys.stderr)
        return 2
    chosen = options.targets or list(targets.TARGETS)
    seconds = options.seconds or options.total / len(chosen)
    targets.MOST *= SLOW
    targets.world()
    findings = 0
    print(f"{'target':28}{'executions':>12}{'a second':>10}{'reached':>9}{'inputs':>8}", flush=True)
    for name in chosen:
        findings += fuzz(atheris, targets.TARGETS[name], seconds, 0 if options.seconds else SHORT)
    print(f"{findings} findings" + (f", kept in {FINDINGS.relative_to(ROOT)}" if findings else ""))
    return 1 if findings else 0


def without_atheris(options: argparse.Namespace) -> int:
    """List the targets, renew the corpus, or run one input, with the error as it comes."""
    from tests.fuzz.targets import TARGETS

    if options.list:
        for target in TARGETS.values():
            print(f"{target.name:28}{(target.act.__doc__ or '').splitlines()[0]}")
        return 0
    if options.keep:
        for name in options.targets or TARGETS:
            keep(TARGETS[name])
        return 0
    if len(options.targets) != 2:
        print("--try takes a target and a file", file=sys.stderr)
        return 2
    name, path = options.targets
    TARGETS[name].run(Path(path).read_bytes())
    return 0


def fuzz(atheris: Any, target: Any, seconds: float, seed: int) -> int:
    """Run one target in a process of its own; 1 when it found something. With the seed 0 each run is another."""
    folder = KEPT / target.name
    folder.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    seeds = KEPT / f"{target.name}.seeds"  # made by the keys of this run: those of another are of no use
    shutil.rmtree(seeds, ignore_errors=True)
    seeds.mkdir()
    for data in target.seeds():
        put(seeds, data)
    log = KEPT / f"{target.name}.log"
    flags = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed}",
        f"-max_len={target.longest}",
        f"-rss_limit_mb={MEGABYTES}",
        "-timeout=20",
        "-print_final_stats=1",
        f"-artifact_prefix={FINDINGS}/{target.name}-",
        "-verbosity=1",
    ]
    code = apart(atheris, target, [*flags, str(folder), str(seeds), *committed(target.name)], log)
    text = log.read_text(errors="replace")
    runs = number(r"stat::number_of_executed_units:\s*(\d+)", text) or number(r"Done (\d+) runs", text)
    reached = number(r"cov: (\d+) [^\n]*\n(?![\s\S]*cov: )", text)
    print(
        f"{target.name:28}{runs:>12}{runs / max(seconds, 1):>10.0f}{reached:>9}{len(list(folder.iterdir())):>8}"
        f"{'  FOUND' if code else ''}",
        flush=True,
    )
    if code:
        at = text.find("Uncaught Python exception")
        print(text[at if at >= 0 else -1000 :][:2500], flush=True)
    return 1 if code else 0


def keep(target: Any) -> None:
    """Put into the corpus in the repository what reaches lines that no smaller input reaches."""
    folder = CORPUS / target.name
    found = [*(KEPT / target.name).iterdir(), *(folder.iterdir() if folder.is_dir() else ())]
    inputs = sorted({path.read_bytes() for path in found}, key=lambda data: (len(data), data))
    shutil.rmtree(folder, ignore_errors=True)
    known: set[tuple[str, int]] = set()
    for seed in target.seeds():
        known |= lines(target, seed)
    room = 8 * SMALL
    for data in inputs:
        if 0 < len(data) <= min(SMALL, room) and (reached := lines(target, data)) - known:
            known |= reached
            room -= len(data)
            folder.mkdir(parents=True, exist_ok=True)
            put(folder, data)


def lines(target: Any, data: bytes) -> set[tuple[str, int]]:
    """The lines of Donjon that an input reaches."""
    reached: set[tuple[str, int]] = set()

    def trace(frame: Any, event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        if f"{os.sep}donjon{os.sep}" not in name or "site-packages" in name:
            return None
        if event == "line":
            reached.add((name, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        target.act(data)
    finally:
        sys.settrace(None)
    return reached


def apart(atheris: Any, target: Any, flags: list[str], log: os.PathLike[str] | str) -> int:
    """Fuzz in a fork: atheris ends its process."""
    from tests.fuzz.mutate import MUTATORS, bits

    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)

        def mutate(data: bytes, most: int, seed: int) -> bytes:
            dice = random.Random(seed)
            if target.form in ("bytes", "text") or dice.random() < 0.3:
                return bytes(atheris.Mutate(data, most))
            made = MUTATORS[target.form](data, dice)
            return (bits(data, dice) if made is None else made)[:most]

        atheris.Setup([sys.argv[0], *flags], target.run, custom_mutator=mutate, internal_libfuzzer=True)
        atheris.Fuzz()
    except BaseException as error:
        print(f"the fuzzer itself failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(3)
    os._exit(0)


def committed(name: str) -> list[str]:
    """The folder in the repository, if there is one."""
    return [str(CORPUS / name)] if (CORPUS / name).is_dir() else []


def put(folder: Path, data: bytes) -> Path:
    """Write an input under its digest."""
    path = folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]
    path.write_bytes(data)
    return path


def number(pattern: str, text: str) -> int:
    """The last number that the pattern finds; 0 for none."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    began = monotonic()
    code = main(sys.argv[1:])
    print(f"{monotonic() - began:.0f} s")
    sys.exit(code)
