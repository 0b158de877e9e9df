"""From the words of a command line to an exit code.

`donjon run` has to start in 20 ms, half of which Python takes: what is imported here at the top, everybody waits for.
"""

from __future__ import annotations

import os
import sys

from donjon.cli.parse import load, parse
from donjon.errors import DonjonError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["entry", "main"]

SIGINT_CODE = 130
"""What a shell shows for a process that Ctrl-C ended: 128 + SIGINT."""
SIGPIPE_CODE = 141
"""The same for one whose reader went away, as in `donjon platform info | head -1`."""


def entry() -> None:
    """The command `donjon`: run `main` on the process's own words and end the process.

    It ends by os._exit, as taking the interpreter apart costs milliseconds and gives back what the kernel takes anyway.
    Whoever has something to do at the end must do it before `main` returns: atexit handlers do not run.
    """
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = code or 1
    os._exit(code)


def main(argv: Sequence[str]) -> int:
    """Do what the words after `donjon` ask for; errors are printed on stderr.

    Returns:
        The exit code: what the command returned (for `run`, what its guest did), or that of the error's family.
    """
    try:
        request = parse(argv, os.environ)
        if request.asks == "call" and request.command is not None:
            return int(load(request.command.handler)(request.options))
        from donjon.cli import tui

        if request.asks == "version":
            from donjon import __version__

            tui.write(f"donjon {__version__}\n")
        else:
            from donjon.cli import help as pages

            tui.write(pages.render(request.name, request.command, request.options.brief))
        return 0
    except KeyboardInterrupt:
        return SIGINT_CODE
    except BrokenPipeError:
        return SIGPIPE_CODE
    except DonjonError as error:
        return _report(error)
    except Exception as error:
        return _report_bug(error)


def _report(error: DonjonError) -> int:
    from donjon.cli import tui

    tui.error(error.message, error.hint, getattr(error, "frames", ()))
    if _traceback_wanted():
        _print_traceback(error)
    return error.exit_code


def _report_bug(error: Exception) -> int:
    from donjon.cli import tui
    from donjon.errors import BugError

    wanted = _traceback_wanted()
    tui.error(
        f"internal error: {type(error).__name__}: {error}",
        "this is a mistake in donjon, not yours: please report it as CONTRIBUTING.md describes, with this message and "
        "what `donjon platform info` prints"
        + ("" if wanted else "; with DONJON_TRACEBACK=1 it says where it happened"),
    )
    if wanted:
        _print_traceback(error)
    return BugError.exit_code


def _traceback_wanted() -> bool:
    return os.environ.get("DONJON_TRACEBACK", "0") not in ("", "0")


def _print_traceback(error: Exception) -> None:
    import traceback

    from donjon.cli import tui

    tui.details("".join(traceback.format_exception(error)))
