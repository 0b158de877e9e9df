"""README and docs do what they say: commands are run, programs too, configurations are read, links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from donjon.cli.parse import parse
from donjon.cli.table import COMMANDS
from donjon.config import _rules as rules
from donjon.config import parse as parse_config
from donjon.config._reading import KEYS
from donjon.errors import UsageError
from donjon.project.languages import TABLE
from donjon.wasm.wasi.p1 import FAMILIES, lookup
from donjon.wasm.wasi.p1.trampoline import FUNCTIONS
from tests import images
from tests.docs import pages
from tests.docs.pages import BOOTS, NEEDS, PAGES, ROOT, SKIPS, STDIO, Block, matches
from tests.docs.shell import Shell

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LANGUAGES = {"console", "python", "toml", "text", "c", "wat", "make", "sh"}
FIRST_SCREEN = 25
each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def runnable(page: Path) -> list[Block]:
    return [block for block in pages.blocks(page) if block.language in ("console", "python") or "file" in block.words]


def boots(page: Path) -> bool:
    return any(BOOTS in block.words.get("needs", "") for block in pages.blocks(page))


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.timeout(600) if boots(page) else ()) for page in PAGES if runnable(page)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path) -> None:
    printed = ""
    booted = any(BOOTS in block.words.get("needs", "") and can_run(block) for block in pages.blocks(page))
    if booted:
        images.image("production")
    with Shell(tmp_path, images.CACHE if booted else None) as shell:
        for block in pages.blocks(page):
            if "file" in block.words:
                file = shell.folder / block.words["file"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text((STDIO if "stdio" in block.words else "") + block.text)
            if not can_run(block):
                continue
            if block.language == "console":
                type_in(shell, block)
            elif block.language == "python" and "file" not in block.words:
                done = shell.python(block.text)
                assert done.returncode == 0, f"{block.place}: {done.stderr}"
                printed = done.stdout
            elif "output" in block.words:
                assert matches(tuple(block.text.splitlines()), printed), f"{block.place}: it printed\n{printed}"


def type_in(shell: Shell, block: Block) -> None:
    """Type a block's commands and compare; one that a page shows failing says `donjon: error`, the others succeed."""
    for command in pages.commands(block):
        came, status = shell.enter(command.text, command.output)
        where = f"{block.page.relative_to(ROOT)}:{command.line}: $ {command.text}"
        assert matches(command.output, came), f"{where}\nexpected\n" + "\n".join(command.output) + f"\ncame\n{came}"
        if not any("error:" in line for line in command.output):
            assert status == 0, f"{where}\nended with {status}"


def can_run(block: Block) -> bool:
    """Whether this machine has what the block needs; a machine for which DONJON_CI is set has to."""
    if "skip" in block.words:
        return False
    wanted = filter(None, block.words.get("needs", "").split(","))
    missing = [name for name in wanted if not (shutil.which(name) or importlib.util.find_spec(name))]
    assert not (missing and os.environ.get("DONJON_CI")), f"{block.place} needs {missing}"
    return not missing


@each_page
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in pages.blocks(page):
        assert block.language in LANGUAGES, block.place
        assert block.words.keys() <= {"skip", "needs", "file", "stdio", "output"}, block.place
        assert block.words.get("skip", "ci") in SKIPS, block.place
        assert all(name in NEEDS for name in block.words.get("needs", "openssl").split(",")), block.place
        if block.language == "console":
            assert pages.commands(block), block.place


@each_page
def test_configurations_are_valid(page: Path) -> None:
    for block in pages.blocks(page):
        if block.language == "toml":
            parse_config((STDIO if "stdio" in block.words else "") + block.text, block.place)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in pages.anchors(target), link


@each_page
def test_commands_in_prose_parse(page: Path) -> None:
    for line in pages.spoken_commands(page):
        words = [re.sub(r"^[A-Z]+$", "filled.wasm", word) for word in shlex.split(line)[1:]]
        if " ".join(words[:2]) in COMMANDS or words[0] in COMMANDS or words[0].endswith((".wasm", ".wat")):
            try:
                parse(words, {})
            except UsageError as error:
                if not error.message.endswith("is missing"):  # "`donjon run` …" speaks of the command
                    pytest.fail(f"{line}: {error}")
        else:
            assert words[0].startswith("-") or any(name.startswith(words[0] + " ") for name in COMMANDS), line


@each_page
def test_make_targets_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", page.read_text())) <= targets
    assert set(re.findall(r"^\$ make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)) <= targets


@each_page
def test_paths_in_backticks_are_there(page: Path) -> None:
    for path in re.findall(r"`((?:src|tests|tools|examples|bench|docs|requirements)/[\w./-]*)`", pages.prose(page)):
        assert (ROOT / path).exists(), path


def test_the_first_screen_of_the_readme_has_something_to_run() -> None:
    first = next(block for block in pages.blocks(ROOT / "README.md") if block.language == "console")
    assert first.line < FIRST_SCREEN
    ran = [block for block in pages.blocks(ROOT / "README.md") if block.language == "console" and can_run(block)]
    assert ran[0].line + ran[0].text.count("\n") <= FIRST_SCREEN
    assert pages.commands(ran[0])[0].output


def test_every_key_of_enarx_toml_is_explained() -> None:
    text = (ROOT / "docs/enarx-toml.md").read_text()
    top, kinds = KEYS, [kind for kind in rules.FIELDS if kind not in rules.SECTIONS]
    for word in (*top, *kinds, *(key for fields in rules.FIELDS.values() for key in fields)):
        assert f"`{word}`" in text, word


def test_every_command_has_its_help_in_the_docs() -> None:
    consoles = [block for block in pages.blocks(ROOT / "docs/cli.md") if block.language == "console"]
    shown = {command.text for block in consoles for command in pages.commands(block)}
    assert {f"donjon {name} --help" for name in COMMANDS} <= shown


def test_every_function_of_preview_1_is_in_the_docs() -> None:
    for family in FAMILIES:
        lookup(f"{family}_")
    text = (ROOT / "docs/wasi.md").read_text()
    assert [name for name in FUNCTIONS if f"`{name}`" not in text] == []


def test_every_language_is_in_the_docs() -> None:
    rows = (ROOT / "docs/languages.md").read_text().splitlines()
    for name, language in TABLE.items():
        row = next((row for row in rows if row.startswith(f"| {language.title} |")), "")
        assert f"`{name}`" in row, name
        assert f"`{language.marker}`" in row, name


def test_every_specification_that_is_named_is_listed() -> None:
    listed = set(re.findall(r"^\| `([A-Z0-9-]+)` \|", (ROOT / "docs/spec/index.md").read_text(), flags=re.MULTILINE))
    for file in sorted((ROOT / "src").rglob("*.py")):
        text = re.sub(r"\b(STD\d+) \(RFC \d+\)", r"\1", file.read_text())  # two names of one thing
        named = set(re.findall(r"\[((?:WASI|WASM)-[A-Z0-9]+)\b", text))
        named |= {f"RFC{number}" for number in re.findall(r"\bRFC (\d+)", text)}
        documents = r"SNP-ABI|VCEK-KDS|SGX-[A-Z0-9]+|TDX-[A-Z]{3,}|TCG-PFP|CCA-TOKEN|DEN\d+|STD\d+"
        named |= set(re.findall(rf"\b(?:{documents})\b", text))
        assert named <= listed, file


@pytest.mark.parametrize(
    ("expected", "came", "same"),
    [
        (("a",), "a\n", True),
        (("a",), "a", True),
        (("a",), "a\nb\n", False),
        (("a", "..."), "a\nb\nc\n", True),
        (("...", "c"), "a\nb\nc\n", True),
        (("...", "d"), "a\nb\nc\n", False),
        (("port ... of 3",), "port 10 of 3\n", True),
        (("port ... of 3",), "port 10 of 4\n", False),
        ((), "", True),
        ((), "a\n", False),
        (("...",), "", True),
    ],
)
def test_dots_stand_for_what_differs(expected: tuple[str, ...], came: str, same: bool) -> None:
    assert matches(expected, came) is same


def test_a_page_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    page = ROOT / "README.md"
    with Shell(tmp_path) as shell:
        with pytest.raises(AssertionError, match="wrong\n  came\n  right"):
            type_in(shell, Block(page, 1, "console", {}, "$ echo right\nwrong\n"))
        with pytest.raises(AssertionError, match="ended with 3"):
            type_in(shell, Block(page, 1, "console", {}, "$ (exit 3)\n"))
        right = "$ cd examples\n$ printf 'a\\nb'\na\nb\n$ basename $PWD\nexamples\n"
        type_in(shell, Block(page, 1, "console", {}, right))


def test_every_why_of_the_rationale_is_a_question() -> None:
    titles = re.findall(r"^### (.*)$", (ROOT / "RATIONALE.md").read_text(), flags=re.MULTILINE)
    assert len(titles) > 30
    assert all(title.startswith("Why ") and title.endswith("?") for title in titles)
