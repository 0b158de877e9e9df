"""ELF files: what is cut off, what a library needs, what a kernel module says."""

from __future__ import annotations

import struct

import pytest

from donjon.errors import ParseError
from donjon.image import elf
from tests.image.elves import HEADER, SEGMENT, library, module


def test_what_lies_behind_the_last_loaded_byte_is_cut_off() -> None:
    short, long = library(("libc.so.6",), b""), library(("libc.so.6",), b"symbols" * 100)
    assert elf.cut(long, "libx.so") == elf.cut(short, "libx.so")
    assert len(elf.cut(long, "libx.so")) == len(short)


def test_a_file_that_was_cut_has_no_table_of_sections() -> None:
    found = HEADER.unpack_from(elf.cut(library(), "libx.so"))
    assert (found[6], found[11], found[12], found[13]) == (0, 0, 0, 0)


def test_cutting_twice_is_cutting_once() -> None:
    once = elf.cut(library(("a", "b")), "libx.so")
    assert elf.cut(once, "libx.so") == once


def test_a_library_needs_what_it_names_in_that_order() -> None:
    assert elf.needed(library(("libc.so.6", "libm.so.6")), "libx.so") == ["libc.so.6", "libm.so.6"]
    assert elf.needed(elf.cut(library(("libc.so.6",)), "libx.so"), "libx.so") == ["libc.so.6"]
    assert elf.needed(library(), "libx.so") == []


def test_a_kernel_module_says_what_it_depends_on() -> None:
    assert elf.modinfo(module(("license=GPL", "depends=configfs,tsm")), "x.ko") == [
        ("license", "GPL"),
        ("depends", "configfs,tsm"),
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "expected an ELF file of 64 bits, little-endian, got "),
        (b"\x7fELF\x01\x01\x01" + bytes(80), "expected an ELF file of 64 bits, little-endian, got 7f454c46010101"),
        (b"MZ" + bytes(80), "expected an ELF file"),
    ],
)
def test_what_is_no_elf_file_is_refused(data: bytes, text: str) -> None:
    for read in (elf.cut, elf.needed, elf.modinfo):
        with pytest.raises(ParseError, match=text):
            read(data, "x")


def test_every_file_that_ends_early_is_refused_or_read() -> None:
    for whole, read in ((library(("libc.so.6",), b""), elf.needed), (module(("depends=a",)), elf.modinfo)):
        for end in range(len(whole)):
            try:
                read(whole[:end], "x")
            except ParseError:
                continue
            pytest.fail(f"the first {end} bytes were taken for a whole file")


@pytest.mark.parametrize("field", range(40))
def test_numbers_out_of_range_give_our_own_errors(field: int) -> None:
    for whole, read in ((library(("libc.so.6",)), elf.needed), (library(), elf.cut), (module(("a=b",)), elf.modinfo)):
        data = bytearray(whole)
        at = 16 + field * 4
        if at + 4 > len(data):
            continue
        data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
        try:
            read(bytes(data), "x")
        except ParseError:
            pass


@pytest.mark.parametrize(
    ("data", "at", "form", "value", "text"),
    [
        (library(), 0x36, "<H", 55, "expected a table of 2 segments at 0x40"),
        (library(), HEADER.size, "<I", 0, "expected a segment that is loaded"),
        (library(("a",)), HEADER.size + 2 * SEGMENT.size + 8, "<Q", 99, "expected a name at 0x63 of its table"),
        (library(("a",), b""), -1, "<B", 98, "expected a name at 0x1 of its table"),
        (module(("a=b",)), 0x3A, "<H", 63, "expected a table of 3 sections at "),
        (module(("a=b",)), 0x3E, "<H", 3, "expected a table of 3 sections at "),
    ],
)
def test_a_table_that_is_out_of_form_is_refused(data: bytes, at: int, form: str, value: int, text: str) -> None:
    changed = bytearray(data)
    struct.pack_into(form, changed, at % len(data), value)
    read = elf.modinfo if "section" in text else elf.cut if "segment" in text else elf.needed
    with pytest.raises(ParseError, match=f"^x: {text}"):
        read(bytes(changed), "x")


def test_a_module_without_the_section_is_refused() -> None:
    with pytest.raises(ParseError, match=r"x\.ko: expected a section \.modinfo"):
        elf.modinfo(module(("a=b",)).replace(b".modinfo", b".mydinfo"), "x.ko")
