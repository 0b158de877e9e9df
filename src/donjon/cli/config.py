"""`donjon config init`: a commented Enarx.toml to start from."""

from __future__ import annotations

import os

from donjon.cli import tui
from donjon.config import TEMPLATE
from donjon.errors import PlatformError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["init"]

NAME = "Enarx.toml"


def init(_options: Options) -> int:
    """Write the template to the current directory; leave a file that is there as it is, and say so, as Enarx does.

    Returns:
        0, or 1 when the file exists.
    Raises:
        PlatformError: it cannot be written; nothing is left behind.
    """
    try:
        descriptor = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        tui.error(f'"{NAME}" does already exist.', "edit it, or move it away first")
        return 1
    except OSError as error:
        raise _refused(error) from error
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except OSError as error:
        os.unlink(NAME)
        raise _refused(error) from error
    tui.note(f"wrote {NAME}; to use it: `donjon run MODULE --wasmcfgfile {NAME}`")
    return 0


def _refused(error: OSError) -> PlatformError:
    return PlatformError(f"cannot write {NAME} in the current directory: {words_of(error)}")
