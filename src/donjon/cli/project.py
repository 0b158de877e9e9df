"""`donjon new` and `donjon build`: a project in a language that compiles to WebAssembly."""

from __future__ import annotations

import os
import shlex

from donjon import project
from donjon.cli import tui

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["build", "new"]


def new(options: Options) -> int:
    """Make the project and say what comes next."""
    directory = project.new(options.name, options.lang)
    tui.write(f"Made {shown(directory)}. Next:\n\n  cd {shown(directory)}\n  donjon build\n")
    return 0


def build(options: Options) -> int:
    """Compile the project and say how to run it, from where the user is."""
    module = project.build(options.dir)
    command = f"donjon run {shown(module)}"
    settings = os.path.join(options.dir, "Enarx.toml")
    if os.path.exists(settings):
        command += f" --wasmcfgfile {shown(settings)}"
    tui.write(f"Built {shown(module)}. Run it:\n\n  {command}\n")
    return 0


def shown(path: str) -> str:
    """The path as one can type it: relative where that is shorter, quoted where it must be."""
    near = os.path.relpath(path)
    return shlex.quote(min(near, path, key=len))
