"""What `donjon run` imports: nothing but the list below, as every start pays for it.

    python -m tools.check_startup [--verbose]

Runs the installed command twice on examples/hello (the first run fills the cache of compiled modules, as it may import
more) and reads what `-X importtime` says of the second. What the bare interpreter imports by itself is taken off, so
neither the Python nor its site-packages matter.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "examples" / "hello" / "wat" / "hello.wat"
PYTHON = ROOT / ".venv" / "bin" / "python"
COMMAND = ROOT / ".venv" / "bin" / "donjon"

# Name (what lies below it is meant too), reason. Costs are of a cold import on a 3 GHz x86-64.
ALLOWED = (
    ("donjon", "our own: what they import in turn is judged here"),
    ("ctypes", "calls the engine: 1 to 3 ms, and the way in"),
    ("_ctypes", "the same"),
    ("types", "ctypes needs it: 0.4 ms"),
    ("struct", "ctypes needs it; built in"),
    ("_struct", "the same"),
    ("_weakrefset", "part of the interpreter's own machinery"),
    ("select", "poll_oneoff waits with it; an extension module, 0.1 ms"),
    ("mmap", "an extension module, 0.1 ms"),
    ("__future__", "annotations as text: 0.1 ms"),
    ("errno", "built in"),
    ("fcntl", "an extension module, 0.1 ms"),
    ("_signal", "built in: sets what SIGINT does, without the enums of `signal`"),
    ("marshal", "built in"),
    ("itertools", "built in"),
    ("_collections", "built in"),
    ("_blake2", "authenticates a cached module, without the 3.5 ms of `hashlib`"),
    ("_hmac", "the same, Python 3.14"),
    ("_sha2", "the same, Python 3.12 and later"),
    ("_sha256", "the same, Python 3.11"),
)
# Ours, but for other commands or for workloads that ask for it; name, reason.
HEAVY = (
    ("donjon.identity", "makes keys and certificates: 45 ms of x509"),
    ("donjon.tls", "a workload without TLS has no use for it: 16 ms of ssl"),
    ("donjon.verify", "judges peers: only a socket with `verify` needs it, and cryptography under it"),
    ("donjon.keep.peers", "the same"),
    ("donjon.config.roots", "reads what [roots] names"),
    ("donjon.keep.vm", "for virtual machines, and so are the next two"),
    ("donjon.image", "the image that these boot"),
    ("donjon.sallyport", "what is said to these"),
    ("donjon.keep.registry", "a Keep in the foreground without a name is not listed: entries are 1 ms of json"),
    ("donjon.keep.detached", "for --detach"),
    ("donjon.platform", "for `donjon platform`"),
    ("donjon.project", "for `donjon new` and `donjon build`"),
    ("donjon.cli.help", "for --help"),
    ("donjon.cli.completion", "for `donjon completion`"),
    ("donjon.config._reading", "reads Enarx.toml with tomllib, 14 ms; without one there is nothing to read"),
)
LINE = re.compile(r"import time:\s*\d+ \|\s*(\d+) \| ( *)(\S+)$")


class RunError(Exception):
    """The command did not run at all; the text is what it printed."""


def main(arguments: Sequence[str]) -> int:
    """Print every module that `donjon run` imports and may not; with --verbose everything that it imports.

    Returns:
        0 when there is none, 1 otherwise, 2 when the command did not run.
    """
    if not COMMAND.exists():
        print(f"check-startup: error: {COMMAND} is missing\ncheck-startup: hint: make venv", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as home:
            bare = imported(["-c", "pass"], home)
            command = [str(COMMAND), "run", str(MODULE)]
            imported(command, home)
            modules = [name for name in imported(command, home) if name not in bare]
    except RunError as error:
        print(f"check-startup: error: {error}", file=sys.stderr)
        return 2
    if "--verbose" in arguments:
        print("\n".join(modules))
    refused = findings(modules)
    for finding in refused:
        print(finding)
    if not refused:
        print(f"donjon run imports {len(modules)} modules beside Python's own, all of them allowed")
    return 1 if refused else 0


def imported(arguments: Sequence[str], home: str) -> list[str]:
    """Run this Python on `arguments` with an empty home; return the modules it imported, in order.

    Raises:
        RunError: it ended with something else than 0.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DONJON_", "ENARX_", "PYTHON", "COVERAGE_"))
    }
    env.update(HOME=home, XDG_CACHE_HOME=home)
    command = [str(PYTHON), "-X", "importtime", *arguments]
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RunError(f"{' '.join(arguments)} ended with {done.returncode}:\n{without_times(done.stderr)}")
    return parse(done.stderr)


def parse(report: str) -> list[str]:
    """The modules named in the lines of `-X importtime`, in their order."""
    return [match[3] for line in report.splitlines() if (match := LINE.match(line))]


def without_times(report: str) -> str:
    """What the command itself printed on stderr."""
    return "\n".join(line for line in report.splitlines() if not line.startswith("import time:"))


def findings(modules: Iterable[str]) -> list[str]:
    """One line for each of `modules` that is not allowed; of a package only the first."""
    found: dict[str, str] = {}
    for module in modules:
        heavy = [(name, reason) for name, reason in HEAVY if below(module, name)]
        if heavy:
            found.setdefault(heavy[0][0], f"{module} is imported by `donjon run`: {heavy[0][1]}")
        elif not any(below(module, name) for name, _ in ALLOWED):
            top = module.partition(".")[0]
            found.setdefault(top, f"{module} is imported by `donjon run` and not in ALLOWED of tools/check_startup.py")
    return list(found.values())


def below(module: str, name: str) -> bool:
    """Whether `module` is `name` or lies in it."""
    return module == name or module.startswith(f"{name}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
