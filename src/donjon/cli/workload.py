"""`donjon workload digest`: the number by which hardware, certificates and policies name a workload."""

from __future__ import annotations

from donjon.cli import tui
from donjon.keep.launch import Launch
from donjon.workload import File
from donjon.workload.tree import CONFIG, MAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["digest"]


def digest(options: Options) -> int:
    """Print the digest of what `donjon run` with the same words would launch, or (--json) all that goes into it.

    Raises:
        DonjonError: a file is missing or malformed, as `donjon run` says it.
    """
    from donjon.wasm.engine import read

    launch = Launch(options.module, options.wasmcfgfile, options.args)
    launch.main = File.named(MAIN, read(options.module))
    descriptor = launch.describe()
    found = descriptor.digest().hex()
    if not options.json:
        tui.write(f"{found}\n")
        return 0
    import json

    files = {MAIN: launch.main} | ({} if launch.toml is None else {CONFIG: File.named(CONFIG, launch.toml)})
    parts = {
        "workload": found,
        "descriptor": descriptor.fields(),
        "files": {name: file.entry() for name, file in files.items()},
    }
    tui.write(json.dumps(parts, indent=2) + "\n")
    return 0
