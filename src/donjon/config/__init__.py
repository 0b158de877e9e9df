"""The workload's configuration: `Enarx.toml`, or the same built in Python.

    config = load("Enarx.toml")
    config.files[3].port

What each key means stands at the values (`donjon.config.models`), an example of every key in `TEMPLATE`.
A file is refused with all its mistakes at once, each with line, column, what was expected and what came.
"""

from __future__ import annotations

from donjon.config.models import (
    STDIO,
    Config,
    Connect,
    Dir,
    File,
    Limits,
    Listen,
    Null,
    Stderr,
    Stdin,
    Stdout,
    Verify,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from donjon.config._template import TEMPLATE

__all__ = [
    "STDIO",
    "TEMPLATE",
    "Config",
    "Connect",
    "Dir",
    "File",
    "Limits",
    "Listen",
    "Null",
    "Stderr",
    "Stdin",
    "Stdout",
    "Verify",
    "default",
    "load",
    "parse",
    "read",
]


def default() -> Config:
    """Give what runs a module that comes without a file: standard streams, no arguments, no variables."""
    return Config()


def parse(text: str, source: str = "Enarx.toml") -> Config:
    """Read the text of an Enarx.toml.

    Args:
        text: at most 1,000,000 bytes as UTF-8.
        source: what messages call it.
    Raises:
        ParseError: the text is not TOML or not a configuration; the message has a line for each of the first 20
            mistakes, `source:line:column: what`, in the order of the text.
    """
    from donjon.config._reading import parse_text

    return parse_text(text, source)


def load(path: str | os.PathLike[str]) -> Config:
    """Read an Enarx.toml; a relative `host` of a directory, or path of a root, means: beside that file.

    Args:
        path: a file, or a pipe that ends, of at most 1,000,000 bytes.
    Raises:
        ParseError: as `parse`, and for a file that is too long or not UTF-8.
        UsageError: there is no such file, or it is a directory.
        PlatformError: the file cannot be read.
    """
    return read(path)[0]


def read(path: str | os.PathLike[str]) -> tuple[Config, bytes]:
    """`load`, and what the file holds, for who has to know that it is the same: a workload's digest covers it."""
    from donjon.config._reading import read_file

    return read_file(path)


def __getattr__(name: str) -> object:
    if name == "TEMPLATE":  # only `donjon config init` needs it
        from donjon.config._template import TEMPLATE

        return TEMPLATE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
