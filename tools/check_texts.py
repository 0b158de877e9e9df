"""What no file of the project may hold: a package registry's host, a path of somebody's machine, something left over.

    python -m tools.check_texts

Looked at are the files that git tracks or would track. Files that are not text are passed over.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Ban(NamedTuple):
    """A pattern, and why it has no place here."""

    pattern: str
    reason: str


# The patterns are written so that none of them matches its own text.
HOSTS = (
    r"pypi\.(?:python\.)?org",
    r"pythonhosted\.org",
    r"npmjs\.(?:org|com)",
    r"yarnpkg\.com",
    r"(?:deb|security|snapshot|ftp|archive|httpredir)\.(?:\w+\.)?debian\.org",
    r"(?:archive|ports|security)\.ubuntu\.com",
    r"(?:static\.|index\.)?crates\.io",
    r"(?:proxy|sum)\.golang\.org",
    r"rubygems\.org",
    r"anaconda\.org",
)
BANS = (
    *(
        Ban(rf"(?i)(?<![\w-]){host}(?![\w-])", "a registry's host: whoever installs decides where packages come from")
        for host in HOSTS
    ),
    Ban(
        r"(?i)(?:extra-)?index[-_]url\s*[= ]\s*[^\s-]|--find[-]links",
        "a choice of index: it belongs into the machine's settings",
    ),
    Ban(r"(?<![\w.:~-])/(?:root|work|workspace|builds|opt/pyp[i])/[\w.]", "a path of one machine"),
    Ban(
        r"(?<![\w.:~-])/(?:home|Users)/(?!(?:you|me|user|ada|alice|bob)\b)[a-z][\w-]*/",
        "a path in somebody's home folder",
    ),
    Ban(r"(?<!\w)file:///(?:home|root|Users|work)[/]", "a path of one machine"),
    Ban(r"^(?:<{7}|>{7}|\|{7})(?: |$)|^={7}$", "a conflict that git marked"),
    Ban(r"(?<!\w)(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])(?!\w)", "something left for later: do it, or open an issue"),
    Ban(r"(?<![\w.`])(?:breakpoin[t]\(\)|(?:i?pdb|pudb)\.set_trac[e]\()", "a debugger's stop"),
    Ban(r"[ \t]+$", "spaces at the end of a line"),
)
# Path (as git prints it), reason of the ban, why it is right there.
EXCEPTIONS = (
    ("*.md", "spaces at the end of a line", "two of them break a line in Markdown"),
    ("*.txt", "spaces at the end of a line", "expected output is what it is"),
    ("tests/fuzz/corpus/*/*", "spaces at the end of a line", "a fuzzer made them"),
)
TEXT_LIMIT = 4_000_000
"""Bytes; what is longer is data."""


def main(arguments: list[str]) -> int:
    """Print every line that holds something banned.

    Returns:
        0 when there is none, 1 otherwise.
    """
    root = Path(arguments[0]) if arguments else ROOT
    findings = [finding for name in tracked(root) for finding in check(root, name)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def tracked(root: Path) -> list[str]:
    """The files below `root` that git tracks, or would with `git add .`; paths with slashes, sorted."""
    # safe.directory: CI may run as another user than the one who cloned.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    return sorted({name for name in output.decode().split("\0") if name and (root / name).is_file()})


def check(root: Path, name: str) -> Iterator[str]:
    """One line for each banned thing in the file `name` below `root`, or in its name."""
    path = root / name
    if path.stat().st_size > TEXT_LIMIT:
        return
    data = path.read_bytes()
    if b"\0" in data:
        return
    bans = [ban for ban in BANS if not excused(name, ban)]
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        for ban in bans:
            if match := re.search(ban.pattern, line.rstrip("\r")):
                yield f"{name}:{number}: {match.group(0).strip()!r}: {ban.reason}"


def excused(name: str, ban: Ban) -> bool:
    """Whether EXCEPTIONS let `ban` pass in the file `name`."""
    return any(Path(name).match(path) and ban.reason == reason for path, reason, _ in EXCEPTIONS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
