"""The lab's files: 0600 in a directory of 0700, written whole or not at all, refused when others can read them."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.files import replacing

MAX_FILE = 256 * 1024
"""Bytes. The largest are the roots: some 20 KiB."""
MAX_FILES = 64


def make_directory(path: str) -> None:
    """Make the directory, or take an empty one.

    Raises:
        UsageError: there is something in it, or it is no directory. PlatformError: it cannot be made.
    """
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        if held := os.listdir(path):
            hint = f"it is a lab already: use it with --sim {path}" if "lab.toml" in held else "choose another"
            raise UsageError(f"{path}: expected an empty directory, got one with files", hint)
        os.chmod(path, 0o700)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{path}: expected a directory, got a file", "choose another name") from error
    except OSError as error:
        raise PlatformError(f"cannot make {path}: {words_of(error)}", "check who may write there") from error


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep out others who ask for the same.

    Raises:
        PlatformError: the directory cannot be opened.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PlatformError(f"cannot open {path}: {words_of(error)}", "check who may read it") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_all(directory: str, files: Mapping[str, bytes]) -> None:
    """Write files by name; each whole or not at all."""
    for name, content in files.items():
        write(directory, name, content)


def write(directory: str, name: str, content: bytes) -> None:
    """Write one file, 0600; what had its name before is there until the new one is whole on disk.

    Raises:
        PlatformError: it cannot be written.
    """
    path = os.path.join(directory, name)
    try:
        with replacing(path, sync=True) as stream:
            stream.write(content)
    except OSError as error:
        raise PlatformError(f"cannot write {path}: {words_of(error)}", "check who may write there") from error


def read_all(directory: str, prefix: str) -> dict[str, bytes]:
    """Read all files whose names begin so.

    Raises:
        as `read`.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.startswith(prefix))
    except OSError as error:
        raise PlatformError(f"cannot read {directory}: {words_of(error)}", "check who may read it") from error
    wanted = [name for name in names if name.endswith((".key", ".pem"))]
    if len(wanted) > MAX_FILES:
        raise UsageError(f"{directory}: expected at most {MAX_FILES} files of {prefix[:-1]}, got {len(wanted)}")
    return {name: read(directory, name) for name in wanted}


def read(directory: str, name: str) -> bytes:
    """Read one file that nobody else can.

    Raises:
        UsageError: it is missing, is no file, or others can read it. ParseError: it is too long.
        PlatformError: it cannot be read.
    """
    path = os.path.join(directory, name)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            about = os.fstat(stream.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise UsageError(f"{path}: expected a file")
            if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = stat.S_IMODE(about.st_mode)
                raise UsageError(
                    f"{path}: expected a file that its owner alone can read, got the mode {mode:o}", f"chmod 600 {path}"
                )
            if about.st_uid not in (0, os.geteuid()):
                raise UsageError(f"{path}: expected a file of this user's, got one of user {about.st_uid}")
            data = stream.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f"donjon sim init {directory}"
        raise UsageError(f"{directory} is no lab: {name} is missing", hint) from error
    except OSError as error:
        raise PlatformError(f"cannot read {path}: {words_of(error)}", "check who may read it") from error
    if len(data) > MAX_FILE:
        raise ParseError(f"{path}: expected at most {MAX_FILE} bytes, got more")
    return data
