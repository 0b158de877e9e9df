"""Markdown pages as data: their blocks of code, their headings and their links.

What a block's info string may hold after the language:

    skip=REASON     the block is not executed; REASON is one of SKIPS
    needs=A,B       it is executed where these programs (or `ziglang`, a package) are; see NEEDS
    file=NAME       the block is the content of this file, for the blocks after it on the page
    stdio           (toml) the entries for stdin, stdout and stderr stand before what is shown
    output          (text) what the Python block before it prints
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BOOTS",
    "NEEDS",
    "PAGES",
    "ROOT",
    "SKIPS",
    "Block",
    "Command",
    "anchors",
    "blocks",
    "commands",
    "links",
    "matches",
]

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md"), *ROOT.glob("bench/*.md")]
)

SKIPS = {
    "install": "gets packages from a network; `make` and `.ci/run` set up the same on a new machine",
    "hardware": "needs a machine with a TEE, or firmware that belongs to one",
    "ci": "`.ci/run` runs it; here it would run itself",
}
BOOTS = "qemu-system-x86_64"
"""Blocks that need this start virtual machines; the images are built beforehand."""
NEEDS = ("openssl", "curl", "ziglang", "fusermount3", BOOTS)

STDIO = "".join(f'[[files]]\nkind = "{kind}"\n' for kind in ("stdin", "stdout", "stderr"))


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: of its first line of content, from 1.
        words: the info string's words after the language, as name -> value ("" without one).
    """

    page: Path
    line: int
    language: str
    words: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What one types, and the lines that one then sees. `text` has several lines where `> ` continues it."""

    line: int
    text: str
    output: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a fence that is not closed, or a block that names no language.
    """
    lines = page.read_text(encoding="utf-8").split("\n")
    at = 0
    while at < len(lines):
        if lines[at].startswith("```"):
            language, *words = lines[at][3:].split() or [""]
            if not language:
                raise ValueError(f"{page}:{at + 1}: a block of code needs a language: console, python, toml, text, ...")
            end = lines.index("```", at + 1)
            pairs = (word.partition("=") for word in words)
            inside = "\n".join(lines[at + 1 : end]) + "\n"
            yield Block(page, at + 2, language, {name: value for name, _, value in pairs}, inside)
            at = end
        at += 1


def commands(block: Block) -> list[Command]:
    """The commands of a console block: lines that begin with `$ `, each continued by lines that begin with `> `.

    Raises:
        ValueError: the block begins with something else.
    """
    found: list[Command] = []
    text: str | None = None
    output: list[str] = []
    first = block.line
    for number, line in enumerate(block.text.split("\n")[:-1], block.line):
        if line.startswith("$ "):
            if text is not None:
                found.append(Command(first, text, tuple(output)))
            text, output, first = line[2:], [], number
        elif text is None:
            raise ValueError(f"{block.place}: a console block begins with a line `$ command`")
        elif line.startswith("> ") and not output:
            text += "\n" + line[2:]
        else:
            output.append(line)
    if text is not None:
        found.append(Command(first, text, tuple(output)))
    return found


def matches(expected: tuple[str, ...], came: str) -> bool:
    """Is this the output that a page shows? A line `...` stands for any lines, `...` in a line for any text in it."""
    parts = []
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append("[^\n]*?".join(map(re.escape, line.rstrip().split("..."))) + r"[ ]*\n")
    text = came if came.endswith("\n") or not came else came + "\n"
    return re.fullmatch("".join(parts), text) is not None


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of the links in a page's prose."""
    return re.findall(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "``", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def spoken_commands(page: Path) -> list[str]:
    """The commands between backticks in a page's prose."""
    return re.findall(r"`(donjon [\w.-][^`\n]*)`", prose(page))
