"""One form of JSON, the same with the interpreter's C alone and with `json`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.workload import canonical as module

BOTH = pytest.mark.parametrize("way", [module._in_c, module._in_python], ids=["in C", "in Python"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_both_ways_write_and_read_the_same(value: Any) -> None:
    c, python = module._in_c(), module._in_python()
    assert (
        c[0](value) == python[0](value) == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    )
    for text in (c[0](value), json.dumps(value, indent=2), f" \n{json.dumps(value)}\t"):
        assert c[1](text) == python[1](text) == value


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        "{1:2}",
        "nul",
        "1 2",
        "[] []",
        '"\n"',
        "NaN",
        "-Infinity",
        "[Infinity]",
        "\ufeff1",
        "\xa01",
    ],
)
def test_what_is_no_json_is_refused(way: Any, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of many kinds
        way()[1](text)


@BOTH
def test_what_is_too_deep_is_refused(way: Any) -> None:
    with pytest.raises(RecursionError):
        way()[1]("[" * 100_000)


@BOTH
def test_what_json_does_not_have_is_not_written(way: Any) -> None:
    with pytest.raises(TypeError):
        way()[0]({"a": b""})


def test_bytes_that_are_no_text_are_written_as_escapes() -> None:
    assert module.canonical({"b": "\udc80", "a": "é"}) == '{"a":"é","b":"\\udc80"}'.encode()
    assert module.parse(b'{"b":"\\udc80"}') == {"b": "\udc80"}
