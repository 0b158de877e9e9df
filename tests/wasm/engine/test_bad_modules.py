"""Every module in `corpus/` is refused, or stopped, with exactly the words that its own first lines promise.

A file begins with `;; expect: ` for the message, then `;; hint: ` and `;; frames: ` where there are any, and
`;; memory: ` for a limit in bytes. Bytes that no text can express are cases of this file.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from donjon.config.models import Config, Limits
from donjon.errors import DonjonError, ParseError, TrapError, UsageError
from donjon.keep.launch import Launch
from donjon.keep.nil import prepare, run
from donjon.wasm.engine import load, read
from donjon.wasm.engine import module as module_file

CORPUS = Path(__file__).parent.parent / "corpus"
FILES = sorted(CORPUS.glob("*.wat"))
COMPONENT_HINT = "build a command for WASI preview 1: target wasm32-wasip1, without a step that makes it a component"
HINT = "build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_bad_module_ends_as_it_promises(path: Path) -> None:
    text = path.read_text("utf-8")
    limit = promised(text, "memory")
    config = Config(limits=Limits(memory=int(limit[0]) if limit else None))
    launch = Launch(text.encode(), config)
    with pytest.raises(DonjonError) as caught:
        run(launch, prepare(launch, None))
    error = caught.value
    assert error.message.replace("\n", " | ") == " ".join(promised(text, "expect"))
    assert ([error.hint] if error.hint else []) == promised(text, "hint")
    frames = promised(text, "frames")
    assert ", ".join(getattr(error, "frames", ())) == (frames[0] if frames else "")


def promised(text: str, what: str) -> list[str]:
    start = f";; {what}: "
    return [line.removeprefix(start) for line in text.split("\n") if line.startswith(start)]


def test_the_corpus_is_there() -> None:
    assert len(FILES) >= 30


# ---- what is no module at all

NOT_EXPECTED = "expected a WebAssembly module (00 61 73 6d), got"
OTHERS = {
    "an ELF program": (b"\x7fELF\x02\x01\x01" + bytes(9), f"app: {NOT_EXPECTED} a native Linux program (ELF)"),
    "a Mach-O program": (b"\xcf\xfa\xed\xfe" + bytes(9), f"app: {NOT_EXPECTED} a native macOS program (Mach-O)"),
    "a Windows program": (b"MZ\x90\0", f"app: {NOT_EXPECTED} a Windows program"),
    "a script": (b"#!/bin/sh\necho", f"app: {NOT_EXPECTED} a script"),
    "a zip archive": (b"PK\x03\x04\x14\0", f"app: {NOT_EXPECTED} a zip archive"),
    "a gzip file": (b"\x1f\x8b\x08\0", f"app: {NOT_EXPECTED} a gzip file"),
    "a zstd file": (b"\x28\xb5\x2f\xfd\0", f"app: {NOT_EXPECTED} a zstd file"),
    "HTML": (b"<!DOCTYPE html><title>404</title>", f"app: {NOT_EXPECTED} HTML or XML"),
    "LLVM bitcode": (b"BC\xc0\xde\0", f"app: {NOT_EXPECTED} LLVM bitcode"),
    "text": (b"hello", f"app: {NOT_EXPECTED} something that starts with 68 65 6c 6c"),
    "one byte": (b"\0", f"app: {NOT_EXPECTED} something that starts with 00"),
    "half a magic number": (b"\0as", f"app: {NOT_EXPECTED} something that starts with 00 61 73"),
    "nothing": (b"", "app is empty: expected a WebAssembly module"),
    "only a magic number": (b"\0asm", "app: expected WebAssembly version 01 00 00 00, got only 4 bytes"),
    "half a version": (b"\0asm\x01\0", "app: expected WebAssembly version 01 00 00 00, got only 6 bytes"),
    "version 0": (b"\0asm\0\0\0\0", "app: expected WebAssembly version 01 00 00 00, got version 00 00 00 00"),
    "version 2": (b"\0asm\x02\0\0\0", "app: expected WebAssembly version 01 00 00 00, got version 02 00 00 00"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_says_what_came_instead_of_a_module(case: str) -> None:
    data, message = OTHERS[case]
    with pytest.raises(ParseError) as caught:
        load(data, None, "app")
    assert (caught.value.message, caught.value.hint) == (message, HINT)


@pytest.mark.parametrize("data", [b"\0asm\x0d\0\x01\0", b"\0asm\x0d\0\x01\0" + b"\x01\x00" * 9, b"(component)"])
def test_says_that_components_are_not_supported_yet(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        load(data, None, "app")
    assert caught.value.message == "app is a component: expected a core module, components are not supported yet"
    assert caught.value.hint == COMPONENT_HINT


# ---- what begins like one


def leb(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


HEAD = b"\0asm\x01\0\0\0"
SECTIONS = [
    section(1, b"\x02\x60\0\0\x60\0\x01\x7f"),  # types
    section(3, b"\x02\0\x01"),  # functions
    section(4, b"\x01\x70\0\x01"),  # a table
    section(5, b"\x01\0\x01"),  # a memory
    section(6, b"\x01\x7f\x01\x41\x00\x0b"),  # a global
    section(7, b"\x01\x06_start\0\0"),  # exports
    section(9, b"\x01\0\x41\0\x0b\x01\0"),  # elements
    section(10, b"\x02\x02\0\x0b\x04\0\x41\x01\x0b"),  # code
    section(11, b"\x01\0\x41\0\x0b\x01x"),  # data
]
WHOLE = HEAD + b"".join(SECTIONS)


def test_the_module_that_is_cut_below_is_good() -> None:
    load(WHOLE)


@pytest.mark.parametrize("kept", range(len(SECTIONS)))
def test_a_module_that_is_cut_inside_a_section_is_not_valid(kept: int) -> None:
    boundary = len(HEAD + b"".join(SECTIONS[:kept]))
    for end in range(boundary + 1, boundary + len(SECTIONS[kept])):
        with pytest.raises(ParseError, match=r"^app is not a valid module: ") as caught:
            load(WHOLE[:end], None, "app")
        assert caught.value.hint == HINT
        assert "\n" not in caught.value.message
        assert len(caught.value.message) < 700


@pytest.mark.parametrize("kept", range(len(SECTIONS)))
def test_a_module_that_is_cut_between_sections_is_not_valid_or_has_nothing_to_run(kept: int) -> None:
    launch = Launch(HEAD + b"".join(SECTIONS[:kept]))
    if 2 <= kept < 8:
        with pytest.raises(ParseError, match=r"^module is not a valid module: .*code section is absent"):
            prepare(launch, None)
    elif kept < 8:
        with pytest.raises(ParseError, match=r"^the module exports no _start: there is nothing to run$"):
            run(launch, prepare(launch, None))
    else:
        assert run(launch, prepare(launch, None)) == 0


HUGE = {
    "types": section(1, leb(2**32 - 1)),
    "functions": SECTIONS[0] + section(3, leb(2**32 - 1)),
    "functions, really there": SECTIONS[0] + section(3, leb(1_000_001) + bytes(1_000_001)),
    "imports": section(2, leb(10_000_000)),
    "exports": section(7, leb(2**31)),
    "a section as long as nothing is": b"\x0a" + leb(2**32 - 1),
    "a length that does not end": b"\x0a" + b"\xff" * 20,
    "locals": SECTIONS[0]
    + section(3, b"\x01\0")
    + section(10, b"\x01" + leb(9) + b"\x01" + leb(2**32 - 1) + b"\x7f\x0b\0"),
    "a name": section(0, leb(2**32 - 1) + b"name"),
    "sections out of order": SECTIONS[3] + SECTIONS[0],
    "a section twice": SECTIONS[0] * 2,
    "a section of no known kind": section(99, b""),
}


@pytest.mark.parametrize("case", HUGE)
def test_a_module_with_too_much_of_something_is_not_valid(case: str) -> None:
    with pytest.raises(ParseError, match=r"^app is not a valid module: "):
        load(HEAD + HUGE[case], None, "app")


@pytest.mark.parametrize("seed", range(60))
def test_random_bytes_are_refused_in_one_line(seed: int) -> None:
    chance = random.Random(seed)
    head = chance.choice([b"", b"\0asm", HEAD, b"(module ", b";;", WHOLE[: chance.randrange(8, len(WHOLE))]])
    data = head + chance.randbytes(chance.randrange(1, 300))
    with pytest.raises(ParseError) as caught:
        load(data, None, "app")
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("app")
    assert len(caught.value.message) < 700


@pytest.mark.parametrize("at", range(8, len(WHOLE)))
def test_a_module_with_one_byte_changed_runs_or_is_refused(at: int) -> None:
    for bit in (0x01, 0x80, 0xFF):
        data = bytearray(WHOLE)
        data[at] ^= bit
        launch = Launch(bytes(data), Config(limits=Limits(memory=1 << 20)))
        try:
            run(launch, prepare(launch, None))
        except (ParseError, TrapError):
            continue


BAD_TEXTS = {
    b"(": "app.wat:1:2: not valid WebAssembly text: expected valid module field",
    b"(module\n (func $x) (func $x))": "app.wat:2:18: not valid WebAssembly text: duplicate func identifier",
    b"(module (func (i32.const)))": "app.wat:1:25: not valid WebAssembly text: expected a i32",
    b"(module \xff)": "app.wat: not valid WebAssembly text: input was not valid utf-8",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_says_where_text_is_not_webassembly(text: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        load(text, None, "app.wat")
    assert caught.value.message == BAD_TEXTS[text]


@pytest.mark.parametrize(
    "text", [b"(module)", b"\n\t (module)", b";; hello\n(module)", b"\xef\xbb\xbf(module)", b"(; a ;) (module)"]
)
def test_text_is_known_by_its_beginning(text: bytes) -> None:
    assert load(text).exports() == {}


# ---- files


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(f"{tmp_path}/app.wasm")
    assert caught.value.message == f"no module {tmp_path}/app.wasm: no such file"
    assert caught.value.hint == "give the path of a .wasm or .wat file"


def test_a_directory_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(str(tmp_path))
    assert caught.value.message == f"cannot read the module {tmp_path}: is a directory"
    assert caught.value.hint == "give the path of a .wasm or .wat file"


def test_a_file_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_file, "LARGEST", 2 << 20)
    with pytest.raises(UsageError) as caught:
        read("/dev/zero")
    assert caught.value.message == "module /dev/zero: expected at most 2 MiB, got more"


def test_numbers_of_the_sections_are_written_as_the_format_says() -> None:
    assert leb(624485) == b"\xe5\x8e\x26"
    assert struct.unpack("<I", HEAD[4:]) == (1,)
