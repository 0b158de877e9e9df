"""Which modules a program needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.errors import ParseError
from donjon.image import recipe
from donjon.image.reach import reach


def names(root: Path, denied: tuple[str, ...] = (), hidden: dict[str, tuple[str, ...]] | None = None) -> set[str]:
    return set(reach(["main"], [str(root)], denied, hidden or {}))


def tree(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / (name.replace("__", "/").replace("/init/", "__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def package(root: Path, name: str, init: str = "", **modules: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "__init__.py").write_text(init)
    for module, text in modules.items():
        (root / name / f"{module}.py").write_text(text)


def test_imports_are_followed_to_the_end(tmp_path: Path) -> None:
    tree(tmp_path, main="import a", a="from b import thing", b="thing = 1", c="")
    assert names(tmp_path) == {"main", "a", "b"}


def test_an_import_in_a_function_counts_and_one_for_types_does_not(tmp_path: Path) -> None:
    tree(
        tmp_path,
        main="if TYPE_CHECKING:\n import a\nelse:\n import b\ndef f():\n if x:\n  import c\n"
        "if typing.TYPE_CHECKING:\n import a",
        a="", b="", c="",
    )  # fmt: skip
    assert names(tmp_path) == {"main", "b", "c"}


def test_a_package_comes_with_its_module_and_relative_imports_are_resolved(tmp_path: Path) -> None:
    tree(tmp_path, main="import p.one")
    package(tmp_path, "p", "from . import two", one="from .three import x", two="", three="x = 1", four="")
    assert names(tmp_path) == {"main", "p", "p.one", "p.two", "p.three"}


def test_what_is_denied_stays_out_with_what_is_below(tmp_path: Path) -> None:
    tree(tmp_path, main="import p.one, a", a="import p.two")
    package(tmp_path, "p", one="", two="")
    assert names(tmp_path, denied=("p",)) == {"main", "a"}
    assert names(tmp_path, denied=("p.two",)) == {"main", "a", "p", "p.one"}


def test_what_is_loaded_by_a_computed_name_comes_from_the_table(tmp_path: Path) -> None:
    tree(tmp_path, main="import a", a="", late="import b", b="")
    assert names(tmp_path, hidden={"a": ("late",)}) == {"main", "a", "late", "b"}


def test_the_first_directory_wins(tmp_path: Path) -> None:
    tree(tmp_path / "one", main="import a")
    tree(tmp_path / "two", main="import b", a="", b="")
    found = reach(["main"], [str(tmp_path / "one"), str(tmp_path / "two")], (), {})
    assert {name: module.root for name, module in found.items()} == {
        "main": str(tmp_path / "one"), "a": str(tmp_path / "two"),
    }  # fmt: skip


def test_neighbours_of_a_package_are_not_taken(tmp_path: Path) -> None:
    tree(tmp_path / "one", cffi="")
    package(tmp_path / "one", "donjon", main="import cffi")
    tree(tmp_path / "two", cffi="")
    roots = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert reach(["donjon.main"], roots, (), {}, {roots[0]: "donjon"})["cffi"].root == roots[1]
    assert reach(["donjon.main"], roots, (), {})["cffi"].root == roots[0]


def test_what_the_interpreter_has_built_in_is_no_mistake(tmp_path: Path) -> None:
    tree(tmp_path, main="import sys, _winreg")
    assert names(tmp_path) == {"main"}


@pytest.mark.parametrize("text", ["import donjon.lost", "from donjon.lost import x", "def f():\n from .lost import x"])
def test_a_module_of_ours_that_is_nowhere_is_told_with_who_wants_it(tmp_path: Path, text: str) -> None:
    tree(tmp_path, main="import donjon.a")
    package(tmp_path, "donjon", a=text)
    with pytest.raises(ParseError, match=r"^donjon\.lost, which donjon\.a imports: expected this module below "):
        names(tmp_path)


def test_an_entry_and_a_name_of_the_table_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match=r"^main, which what is asked for imports: expected"):
        names(tmp_path)
    tree(tmp_path, main="")
    with pytest.raises(ParseError, match=r"^late, which main imports: expected"):
        names(tmp_path, hidden={"main": ("late",)})


def test_a_module_that_is_no_python_is_told(tmp_path: Path) -> None:
    tree(tmp_path, main="import a", a="def f(:")
    with pytest.raises(ParseError, match=r"^a\.py: expected Python 3\.11: "):
        names(tmp_path)


def test_every_denial_has_its_reason() -> None:
    for name, reason in {**recipe.DENIED, **recipe.UNREAL}.items():
        assert len(reason.split()) > 1, name
