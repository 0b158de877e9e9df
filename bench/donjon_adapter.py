"""The only place that knows how Donjon is started: the commands and the configuration that the suites use."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.setting import BenchError, Setting

__all__ = ["run", "serve", "steward"]


def run(setting: Setting, module: Path, *arguments: str) -> list[str]:
    """The command that runs a module with our standard descriptors and these arguments."""
    return [str(setting.donjon), "run", str(module), *(["--", *arguments] if arguments else [])]


def serve(setting: Setting, protocol: str) -> list[str]:
    """The command that runs the echo guest with one listener on a free port of 127.0.0.1.

    Args:
        protocol: "tcp" or "tls".
    """
    module = setting.program("echo-c.wasm")
    if module is None:
        raise BenchError(f"{setting.programs / 'echo-c.wasm'} is missing: `make programs` builds it")
    config = setting.build / f"echo-{protocol}.toml"
    config.write_text(
        'files = [{ kind = "stdin" }, { kind = "stdout" }, { kind = "stderr" },\n'
        f'  {{ kind = "listen", name = "echo", prot = "{protocol}", addr = "127.0.0.1", port = 0 }}]\n'
    )
    return [str(setting.donjon), "run", str(module), "--wasmcfgfile", str(config)]


def steward(roots: Path, state: Path) -> list[str]:
    """The command that runs a Steward on a free port of 127.0.0.1; see `bench.steward`."""
    return [sys.executable, "-m", "bench.steward", str(roots), str(state)]
