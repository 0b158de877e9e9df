"""Dropping debugging data from modules.

Invariant: any bytes come back as a module without `.debug_` sections, or as they were.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from donjon.project.sections import without_debug_sections

MAGIC = b"\0asm\x01\0\0\0"


def leb128(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb128(len(content)) + content


def custom(name: bytes, content: bytes = b"...") -> bytes:
    return section(0, leb128(len(name)) + name + content)


CODE = section(10, b"\0" * 300)
NAMES = custom(b"name", b"main" * 100)


def test_debugging_sections_go_and_all_others_stay_in_order() -> None:
    module = MAGIC + custom(b".debug_info", b"d" * 1000) + CODE + custom(b".debug_line") + NAMES + custom(b"producers")
    assert without_debug_sections(module) == MAGIC + CODE + NAMES + custom(b"producers")


def test_a_module_without_debugging_sections_stays_as_it_is() -> None:
    assert without_debug_sections(MAGIC + CODE + NAMES) == MAGIC + CODE + NAMES
    assert without_debug_sections(MAGIC) == MAGIC
    assert without_debug_sections(b"") == b""


def test_a_section_that_only_mentions_debugging_stays() -> None:
    module = MAGIC + section(11, b"\x06.debug_x") + custom(b"x.debug_info")
    assert without_debug_sections(module) == module


def test_a_module_that_is_cut_off_stays_as_it_is() -> None:
    module = MAGIC + CODE + custom(b".debug_info", b"d" * 200)
    for length in range(len(MAGIC) + 1, len(module)):
        cut = module[:length]
        if length == len(MAGIC + CODE):
            continue
        assert without_debug_sections(cut) == cut


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(data: bytes) -> None:
    assert len(without_debug_sections(data)) <= len(data)


@given(st.lists(st.tuples(st.integers(0, 13), st.binary(max_size=300))))
def test_what_is_left_is_a_subset_of_the_sections(parts: list[tuple[int, bytes]]) -> None:
    sections = [section(number, content) for number, content in parts]
    result = without_debug_sections(MAGIC + b"".join(sections))
    assert result.startswith(MAGIC)
    for one in sections:
        if one[0] != 0:
            assert one in result
