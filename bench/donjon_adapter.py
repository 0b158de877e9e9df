"""The only place that knows how Donjon is started: the commands and the configuration that the suites use."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.setting import BenchError, Setting

__all__ = ["GREETED", "MARK", "STARTED", "from_snapshot", "machine", "run", "serve", "steward"]

STARTED = re.compile(r"virtual machine: ")
GREETED = re.compile(r"the machine greets")
MARK = re.compile(r"the machine's clock: (\w+) ([0-9.]+) s")
"""What `machine` says on stderr: it starts QEMU; the machine has greeted; moments by the machine's own clock."""


def run(setting: Setting, module: Path, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command that runs a module with our standard descriptors, these arguments, and these options of `run`."""
    return [str(setting.donjon), "run", *options, str(module), *(["--", *arguments] if arguments else [])]


def from_snapshot(module: Path, directory: Path, memory: int) -> list[str]:
    """The command that runs a module in an emulated machine that goes on from a snapshot; the first makes that.

    Args:
        memory: MiB.
    """
    script = (
        "import sys; from donjon.keep.launch import Launch; from donjon.keep.vm import run; "
        "sys.exit(run(Launch(sys.argv[1]), accel='tcg', memory=int(sys.argv[3]) << 20, snapshot_for_tests=sys.argv[2]))"
    )
    return [sys.executable, "-c", script, str(module), str(directory), str(memory)]


def machine(accel: str, memory: int | None = None) -> list[str]:
    """The options of `run` that put the Keep into a virtual machine, and say when what happens there.

    Args:
        accel: "kvm" or "tcg".
        memory: MiB; None leaves that to Donjon.
    """
    size = [] if memory is None else ["--memory", str(memory), "--boot-seconds", "30"]
    return ["--backend", "kvm", "--accel", accel, "--log-filter", "debug", *size]


def serve(setting: Setting, protocol: str, options: Sequence[str] = ()) -> list[str]:
    """The command that runs the echo guest with one listener on a free port of 127.0.0.1.

    Args:
        protocol: "tcp" or "tls".
        options: of `run`, beside.
    """
    module = setting.program("echo-c.wasm")
    if module is None:
        raise BenchError(f"{setting.programs / 'echo-c.wasm'} is missing: `make programs` builds it")
    config = setting.build / f"echo-{protocol}.toml"
    config.write_text(
        'files = [{ kind = "stdin" }, { kind = "stdout" }, { kind = "stderr" },\n'
        f'  {{ kind = "listen", name = "echo", prot = "{protocol}", addr = "127.0.0.1", port = 0 }}]\n'
    )
    return [str(setting.donjon), "run", *options, str(module), "--wasmcfgfile", str(config)]


def steward(roots: Path, state: Path) -> list[str]:
    """The command that runs a Steward on a free port of 127.0.0.1; see `bench.steward`."""
    return [sys.executable, "-m", "bench.steward", str(roots), str(state)]
