"""Requirements on versions, as Rust's package manager reads them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.tee.snp.abi import VersionRequirement


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("*", [(0, 0), (255, 255)], []),
        (">=1.51", [(1, 51), (1, 52), (2, 0)], [(1, 50), (0, 99)]),
        (">= 1.51", [(1, 51)], [(1, 50)]),
        (">1.51", [(1, 52), (2, 0)], [(1, 51)]),
        (">1", [(2, 0)], [(1, 255)]),
        ("<=1.51", [(1, 51), (0, 99)], [(1, 52), (2, 0)]),
        ("<=1", [(1, 255)], [(2, 0)]),
        ("<1.51", [(1, 50), (0, 99)], [(1, 51)]),
        ("=1.51", [(1, 51)], [(1, 52), (1, 50)]),
        ("=1", [(1, 0), (1, 255)], [(2, 0), (0, 9)]),
        ("1.51", [(1, 51), (1, 99)], [(2, 0), (1, 50)]),
        ("1.51.0", [(1, 51), (1, 99)], [(2, 0), (1, 50)]),
        ("1.51.1", [(1, 52)], [(1, 51)]),
        ("^1.51", [(1, 51), (1, 99)], [(2, 0)]),
        ("^0.31", [(0, 31)], [(0, 32), (1, 0)]),
        ("^0.0", [(0, 0)], [(0, 1)]),
        ("0", [(0, 0), (0, 99)], [(1, 0)]),
        ("~1.51", [(1, 51)], [(1, 52)]),
        ("~1", [(1, 0), (1, 99)], [(2, 0)]),
        ("1.*", [(1, 0), (1, 99)], [(2, 0)]),
        ("=1.51.*", [(1, 51)], [(1, 52)]),
        (">=1.49, <1.53", [(1, 49), (1, 52)], [(1, 48), (1, 53)]),
        (">254.0", [(254, 1)], [(1, 51)]),
    ],
)
def test_allows_what_it_should(text: str, yes: list[tuple[int, int]], no: list[tuple[int, int]]) -> None:
    requirement = VersionRequirement.read(text)
    assert all(requirement.allows(*version) for version in yes)
    assert not any(requirement.allows(*version) for version in no)
    assert str(requirement) == text


@pytest.mark.parametrize(
    "text", ["", "x.", "1.2.3.4", "v1", "==1", ">=", "1.0-beta", "1,,2", ">=*", "~1.*", "*.1", "1.*.2", "1" * 201, "²"]
)
def test_refuses_what_is_no_requirement(text: str) -> None:
    with pytest.raises(ValueError, match="expected "):
        VersionRequirement.read(text)


def test_requirements_compare_by_what_they_mean() -> None:
    assert VersionRequirement.read("1.51") == VersionRequirement.read("^1.51.0")
    assert len({VersionRequirement.read("1"), VersionRequirement.read("1.*")}) == 1
    assert VersionRequirement.read("1") != VersionRequirement.read("2")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[<>=~^*x0-9., ]{0,20}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        VersionRequirement.read(text).allows(1, 51)
    except ValueError:
        pass
