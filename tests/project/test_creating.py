"""`donjon new`: what it makes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon import config, project
from donjon.errors import PlatformError, UsageError
from donjon.project.building import language_of


@pytest.mark.parametrize("lang", project.LANGUAGES)
def test_a_project_tells_its_language_and_has_what_it_needs(lang: str, tmp_path: Path) -> None:
    made = Path(project.new("my-service", lang, str(tmp_path)))

    assert made == tmp_path / "my-service"
    assert language_of(made) == lang
    settings = config.load(str(made / "Enarx.toml"))
    assert [file.name for file in settings.files] == ["stdin", "stdout", "stderr", "my-service"]
    assert "main.wasm" in (made / ".gitignore").read_text().split()
    assert (made / "README.md").read_text().startswith("# my-service\n")


@pytest.mark.parametrize("lang", project.LANGUAGES)
def test_no_file_of_a_project_has_a_blank_left_to_fill_in(lang: str, tmp_path: Path) -> None:
    made = Path(project.new("x", lang, str(tmp_path)))
    assert [
        file.name for file in made.iterdir() if "{{name}}" in file.read_text() or "{{title}}" in file.read_text()
    ] == []


@pytest.mark.parametrize("name", ["a", "service", "a1", "a-b_c", "z" * 64])
def test_takes_a_name_that_is_good_everywhere(name: str, tmp_path: Path) -> None:
    assert Path(project.new(name, "wat", str(tmp_path))).is_dir()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "try hello"),
        ("My Service", "try my-service"),
        ("1st", "try st"),
        ("-rf", "try rf"),
        (".", "try hello"),
        ("..", "try hello"),
        ("a/b", "try a-b"),
        ("../up", "try up"),
        ("a\0b", "try a-b"),
        ("naïve", "try na-ve"),
        ("x" * 65, "try " + "x" * 64),
        ('a"]', "try a"),
        ("{{name}}", "try name"),
    ],
)
def test_refuses_a_name_that_some_language_would_stumble_over(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="project name") as caught:
        project.new(name, "c", str(tmp_path))
    assert caught.value.hint == hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lang", "meant"),
    [
        ("rsut", "rust"),
        ("Rust", "rust"),
        ("C++", "cpp"),
        ("golang", "go"),
        ("assemblyscrpt", "assemblyscript"),
        ("ts", "assemblyscript"),
        ("zigg", "zig"),
        ("wast", "wat"),
    ],
)
def test_names_the_language_that_was_probably_meant(lang: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="language: expected one of") as caught:
        project.new("x", lang, str(tmp_path))
    assert caught.value.hint == f'did you mean "{meant}"?'


def test_lists_the_languages_when_none_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of c, cpp, zig, rust, go, assemblyscript, wat") as caught:
        project.new("x", "cobol", str(tmp_path))
    assert caught.value.hint is None


def test_refuses_a_directory_that_is_there_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/precious").write_text("data")
    with pytest.raises(UsageError, match="exists already"):
        project.new("x", "c", str(tmp_path))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["precious"]


def test_refuses_a_parent_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in ("nowhere", "file"):
        with pytest.raises(UsageError, match=f"{parent} is no directory"):
            project.new("x", "c", str(tmp_path / parent))


def test_says_so_when_the_host_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PlatformError, match=r"cannot make .*: permission denied"):
        project.new("x", "c", str(tmp_path))
