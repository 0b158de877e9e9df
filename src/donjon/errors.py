"""The families of errors, by whose fault it is. Every error a user can cause is one of these.

Each family has the exit code that the command line ends with; `hint` is one sentence that says what to do.
A guest's own exit code passes through unchanged, so codes can coincide: the message on stderr tells them apart.
"""

from __future__ import annotations

__all__ = [
    "BugError", "DonjonError", "ParseError", "PlatformError", "TrapError", "UsageError", "VerifyError", "words_of",
]  # fmt: skip


class DonjonError(Exception):
    """The root of the families; raised only as one of them.

    Args:
        message: what was wrong, where, what was expected, what came; lower case, no period.
        hint: what the user can do about it, as a command where there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ParseError(DonjonError):
    """Bytes from outside (a module, a configuration, evidence, a frame) are not what their format demands."""


class UsageError(DonjonError):
    """The caller asked for something that cannot be: an unknown option, a missing file, a value out of range."""

    exit_code = 2


class PlatformError(DonjonError):
    """This machine cannot do it: no such device, port taken, out of descriptors, no permission."""

    exit_code = 3


class VerifyError(DonjonError):
    """A peer is not what it claims to be."""

    exit_code = 4


class TrapError(DonjonError):
    """The guest broke a rule of WebAssembly or of its limits, and was stopped.

    `code` is the trap's name ("unreachable", "memory access out of bounds", ...);
    `frames` the guest's functions, innermost first.
    """

    exit_code = 134

    def __init__(self, message: str, code: str = "", frames: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code
        self.frames = frames


class BugError(DonjonError):
    """Our own mistake: something happened that this program holds to be impossible."""

    exit_code = 70


def words_of(error: OSError | UnicodeError) -> str:
    """What the system said was wrong, for the end of a message: "no such file or directory", "connection refused"."""
    words: str = getattr(error, "strerror", None) or str(error)
    return words[:1].lower() + words[1:]
