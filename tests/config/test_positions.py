"""The scanner finds the paths that the library's reader finds, at places that hold what they should."""

import random
import tomllib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from donjon.config._positions import Path, Positions
from donjon.config._reading import line_column


def places(text: str) -> dict[str, tuple[str, str]]:
    spots = Positions(text, depth=9).spots
    return {
        ".".join(map(str, path)): (line_column(text, key), line_column(text, value))
        for path, (key, value) in spots.items()
        if path
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": ("1:1", "1:3")}),
        (" a  =  1 # c", {"a": ("1:2", "1:8")}),
        ("# a = 1\n\n\tb = 2", {"b": ("3:2", "3:6")}),
        ("\"a b\" = 1\n'c.d' = 2", {"a b": ("1:1", "1:9"), "c.d": ("2:1", "2:9")}),
        ('"\\u0061\\t" = 1', {"a\t": ("1:1", "1:14")}),
        ('"" = 1', {"": ("1:1", "1:6")}),
        ("a . \"b\" .'c' = 1", {"a": ("1:1", "1:1"), "a.b": ("1:5", "1:5"), "a.b.c": ("1:10", "1:16")}),
        ("a.b = 1\na.c = 2", {"a": ("1:1", "1:1"), "a.b": ("1:3", "1:7"), "a.c": ("2:3", "2:7")}),
        (
            "a = [1, 2,\n # , ]\n 3,\n]",
            {"a": ("1:1", "1:5"), "a.0": ("1:6",) * 2, "a.1": ("1:9",) * 2, "a.2": ("3:2",) * 2},
        ),
        ("a = []\nb = 1", {"a": ("1:1", "1:5"), "b": ("2:1", "2:5")}),
        (
            "a = [[], [1], {b = 2}]",
            {
                "a": ("1:1", "1:5"),
                "a.0": ("1:6",) * 2,
                "a.1": ("1:10",) * 2,
                "a.1.0": ("1:11",) * 2,
                "a.2": ("1:15",) * 2,
            }
            | {"a.2.b": ("1:16", "1:20")},
        ),
        (
            "a = { b.c = 1, 'd' = {} }\ne = 1",
            {"a": ("1:1", "1:5"), "a.b": ("1:7", "1:7"), "a.b.c": ("1:9", "1:13"), "a.d": ("1:16", "1:22")}
            | {"e": ("2:1", "2:5")},
        ),
        ('a = \'#\'\nb = "=\\"]" # x\nc = 1', {"a": ("1:1", "1:5"), "b": ("2:1", "2:5"), "c": ("3:1", "3:5")}),
        ('a = """\n"b" = 1\n\\""""\nc = 1', {"a": ("1:1", "1:5"), "c": ("4:1", "4:5")}),
        ('a = """x"""""\nc = 1', {"a": ("1:1", "1:5"), "c": ("2:1", "2:5")}),
        ('a = """"""\nc = 1', {"a": ("1:1", "1:5"), "c": ("2:1", "2:5")}),
        ("a = '''\n''b = 1\n'''''\nc = 1", {"a": ("1:1", "1:5"), "c": ("4:1", "4:5")}),
        ("a = 1979-05-27 07:32:00Z # x\nc = 1", {"a": ("1:1", "1:5"), "c": ("2:1", "2:5")}),
        ("a = [1979-05-27 07:32:00, -nan]", {"a": ("1:1", "1:5"), "a.0": ("1:6",) * 2, "a.1": ("1:27",) * 2}),
        (" [ a . 'b' ]\nc = 1", {"a": ("1:4", "1:4"), "a.b": ("1:2",) * 2, "a.b.c": ("2:1", "2:5")}),
        ("[a.b]\n[a]\nc = 1", {"a": ("2:1",) * 2, "a.b": ("1:1",) * 2, "a.c": ("3:1", "3:5")}),
        (
            "[[a]]\nb = 1\n[[ 'a' ]]\n[a.c]\nd = 1\n[[a.e]]\n[[a.e]]\n[a.e.f]",
            {
                "a": ("1:1",) * 2,
                "a.0": ("1:1",) * 2,
                "a.0.b": ("2:1", "2:5"),
                "a.1": ("3:1",) * 2,
                "a.1.c": ("4:1",) * 2,
            }
            | {"a.1.c.d": ("5:1", "5:5"), "a.1.e": ("6:1",) * 2, "a.1.e.0": ("6:1",) * 2, "a.1.e.1": ("7:1",) * 2}
            | {"a.1.e.1.f": ("8:1",) * 2},
        ),
    ],
)
def test_finds_the_place_of_every_key_and_value(text: str, expected: dict[str, tuple[str, str]]) -> None:
    tomllib.loads(text)
    assert places(text) == expected


def paths_of(value: object, at: Path = ()) -> set[Path]:
    below: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        below = list(value.items())
    elif isinstance(value, list):
        below = list(enumerate(value))
    return {at}.union(*(paths_of(item, (*at, key)) for key, item in below))


def value_at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def check(text: str) -> None:
    """Compare with the reader's result: the same paths, and at each place what belongs there."""
    document = tomllib.loads(text)
    spots = Positions(text, depth=99).spots
    assert set(spots) == paths_of(document)
    for path, (key_at, value_at_) in spots.items():
        value = value_at(document, path)
        if isinstance(value, str):
            assert text[value_at_] in "\"'"
        elif isinstance(value, int) and not isinstance(value, bool):
            assert text[value_at_].isdigit() or text[value_at_] in "+-"
        if path and isinstance(path[-1], str) and text[key_at] not in "\"'[":
            assert text.startswith(path[-1], key_at)
    for depth in (0, 1, 2):
        assert Positions(text, depth).spots == {path: spot for path, spot in spots.items() if len(path) <= depth}


KEYS = st.sampled_from(["a", "b-1", "7", "c d", "e.f", "", "ä", 'g"h', "i\\j", "k'l", "#", "]", "=", "\n"])
VALUES = st.recursive(
    st.integers(-9, 9) | st.sampled_from(["", "x", "a\nb", '"""', "'''", "] # }", "\\", "\x00", "é", "''", 'x"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.integers(0, 2**32))
def test_finds_what_the_reader_finds_in_any_shape_of_writing(document: dict[str, Any], seed: int) -> None:
    text = Writer(random.Random(seed)).document(document)
    assert tomllib.loads(text) == document
    check(text)


class Writer:
    """Writes values as TOML, each time choosing among the ways that TOML offers."""

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice

    def document(self, table: dict[str, Any]) -> str:
        return self.gap() + self.section(table, [])

    def section(self, table: dict[str, Any], prefix: list[str]) -> str:
        pairs, sections = "", ""
        for key, value in table.items():
            header = [*prefix, self.key(key)]
            name = self.dot().join(header)
            if value and isinstance(value, dict) and self.flip():
                sections += (
                    f"{self.space()}[{self.space()}{name}{self.space()}]{self.end()}{self.section(value, header)}"
                )
            elif value and isinstance(value, list) and all(isinstance(item, dict) for item in value) and self.flip():
                for item in value:
                    sections += f"[[{self.space()}{name}{self.space()}]]{self.end()}{self.section(item, header)}"
            else:
                for line in self.pairs(key, value):
                    pairs += self.space() + line + self.end()
        return pairs + sections

    def pairs(self, key: str, value: Any) -> list[str]:
        if value and isinstance(value, dict) and self.flip():
            inner = [line for name, item in value.items() for line in self.pairs(name, item)]
            return [self.key(key) + self.dot() + line for line in inner]
        return [f"{self.key(key)}{self.space()}={self.space()}{self.value(value)}"]

    def value(self, value: Any) -> str:
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, list):
            items = [self.gap() + self.value(item) + self.gap() for item in value]
            comma = "," + self.gap() if items and self.flip() else ""
            return f"[{','.join(items)}{comma}]" if items else f"[{self.gap()}]"
        if isinstance(value, dict):
            items = [line for key, item in value.items() for line in self.pairs(key, item)]
            return "{" + self.space() + f"{self.space()},{self.space()}".join(items) + self.space() + "}"
        return str(value)

    def string(self, text: str) -> str:
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04X}" for c in text)
        ways = [
            f'"{escaped}"',
            f'"""{escaped}"""',
            f'"""\\\n   {escaped}"""' if text.strip() == text else f'"{escaped}"',
        ]
        if text.isprintable() and "'" not in text:
            ways += [f"'{text}'", f"'''\n{text}'''"]
        if "'''" not in text and "\0" not in text:
            ways.append(f"'''\n{text}'''")
        if '"""' not in text and "\\" not in text and "\0" not in text:
            ways.append(f'"""\n{text}"""')
        return self.choice.choice(ways)

    def key(self, text: str) -> str:
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04X}" for c in text)
        ways = [f'"{escaped}"']
        if text.isprintable() and "'" not in text:
            ways.append(f"'{text}'")
        if text.isascii() and text.replace("-", "").isalnum():
            ways += [text] * 3
        return self.choice.choice(ways)

    def flip(self) -> bool:
        return self.choice.random() < 0.5

    def space(self) -> str:
        return self.choice.choice(["", " ", "\t "])

    def dot(self) -> str:
        return self.choice.choice([".", " . "])

    def end(self) -> str:
        return self.space() + self.choice.choice(["\n", "\n", "# [x]\n", "#'\"\n\n"])

    def gap(self) -> str:
        return self.choice.choice(["", "", " ", "\n", " # ], [\n", "#\n\n\t"])


PIECES = [
    *"a0.=,{}[]\"'#\\ \n\n",
    '"""',
    "'''",
    "[[a]]\n",
    "[a.b]\n",
    "a = 1\n",
    "b.c = [\n",
    "= {",
    '"x"',
    "1979-05-27 07:32:00",
]


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example('"\\q" = 1')
@example('"\\q".a.[')
@example("[")
@example("[[a]")
@example("a = [1 2")
@example("a = {b")
@example("a = ,")
@example("a = '")
@example('a = """\\')
def test_ends_quietly_on_any_text_and_agrees_where_the_reader_does(text: str) -> None:
    text = text.replace("\r\n", "\n")
    positions = Positions(text)
    assert positions.spots[()] == (0, 0)
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    check(text)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("a = " + "[" * 64, None),
        ("a = " + "[" * 65, 68),
        ("a = " + "[" * 500_000, 68),
        ("a = 1\nb = " + "{a=" * 70, 10 + 64 * 3),
        ("a = " + "[" * 65 + "]" * 65 + "\nb = " + "[" * 65, 68),
        (".".join("a" * 64) + " = 1", None),
        (".".join("a" * 65) + " = 1", 0),
        ("b = 1\n[" + ".".join("a" * 65) + "]", 7),
        ("b = 1\nc = {" + ".".join("a" * 65) + " = 1}", 11),
    ],
)
def test_tells_the_first_place_that_is_too_deep(text: str, offset: int | None) -> None:
    assert Positions(text).too_deep == offset


def test_keeps_no_more_of_a_deep_text_than_asked() -> None:
    assert set(Positions("a = [[[[1, 2], 3], 4], 5]", depth=2).spots) == {(), ("a",), ("a", 0), ("a", 1)}
    assert set(Positions("[[a.b.c]]\n[[a.b.c]]\n[a.b.c.d]\ne = 1", depth=2).spots) == {(), ("a",), ("a", "b")}
