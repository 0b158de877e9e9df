"""Projects in languages that compile to WebAssembly: what stands behind `donjon new` and `donjon build`.

A project is a directory with one program and its Enarx.toml. Its language is told by a file that every project in that
language has (`languages.py`), the compiler is one that is installed already (`toolchains.py`): nothing is downloaded.
"""

from donjon.project.building import build
from donjon.project.creating import new
from donjon.project.languages import LANGUAGES

__all__ = ["LANGUAGES", "build", "new"]
