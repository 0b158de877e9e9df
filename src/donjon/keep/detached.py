"""Keeps that go on when the command that started them has ended.

    donjon run --detach          forks the keeper, waits until the Keep has said that it runs, and ends
      └── keeper                 a session of its own; what comes through a pipe goes into the log; buries the Keep
            └── donjon run       the same command without --detach: the Keep, or what holds its virtual machine

The Keep registers itself, as every one that has a name. If the keeper ends, the kernel ends the Keep (on Linux):
nothing stays that nobody looks after.
"""

from __future__ import annotations

import os
import sys

from donjon.errors import PlatformError, words_of
from donjon.keep.registry import Directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["STARTED", "Log", "say_started", "start"]

STARTED = "DONJON_STARTED_FD"
"""The variable that names the pipe on which a Keep says that it runs."""
LOG_BYTES = 1 << 20
"""A log is at most twice as long: what is being written, and what was before."""
PR_SET_PDEATHSIG, SIGTERM = 1, 15


class Log:
    """What a Keep says, in two files of bounded size that are this user's alone; a full disk loses the rest."""

    def __init__(self, directory: Directory, name: str, most: int = LOG_BYTES) -> None:
        self._directory = directory
        self._name = f"{name}.log"
        self._most = most
        self._size = 0
        self._file = directory.create(self._name)
        try:
            os.close(directory.create(f"{self._name}.1"))
        except OSError:
            os.close(self._file)
            raise

    def write(self, data: bytes) -> None:
        """Add bytes."""
        while data:
            if self._size >= self._most:
                self._turn()
            part, data = data[: self._most - self._size], data[self._most - self._size :]
            self._size += len(part)
            try:
                while part:
                    part = part[os.write(self._file, part) :]
            except OSError:
                return

    def _turn(self) -> None:
        self._directory.rename(self._name, f"{self._name}.1")
        os.close(self._file)
        self._file = self._directory.create(self._name)
        self._size = 0

    def close(self) -> None:
        """No more comes."""
        os.close(self._file)


def start(words: Sequence[str], name: str) -> int | None:
    """Start a Keep that goes on without this process; returns when its guest is about to run.

    Args:
        words: after "donjon", of the command that is the Keep.
        name: of the Keep, in these words too.
    Returns:
        None when it runs; the exit code, if it could not be started. Its log says why.
    Raises:
        UsageError: one of this name runs. PlatformError: there is no process to be had.
    """
    with Directory() as directory:
        directory.check_free(name)
        directory.forget_old_logs()
        try:
            log = Log(directory, name)
            reader, writer = os.pipe()
            pid = os.fork()
        except OSError as error:
            raise PlatformError(f"cannot start a process that keeps the Keep: {words_of(error)}") from error
        if pid == 0:
            os.close(reader)
            _keep(words, log, writer)
        log.close()
    os.close(writer)
    answer = os.read(reader, 16)  # not to the end of the pipe, which the keeper holds open
    os.close(reader)
    if answer.startswith(b"started"):
        return None
    try:
        return int(answer)
    except ValueError:
        raise PlatformError("the process that keeps the Keep ended early") from None


def say_started() -> None:
    """In the Keep: tell who waits for it, if somebody does."""
    given = os.environ.pop(STARTED, "")
    if given.isascii() and given.isdigit():
        descriptor = int(given)
        try:
            os.write(descriptor, b"started")
            os.close(descriptor)
        except OSError:
            pass  # nobody waits any more


def _keep(words: Sequence[str], log: Log, answers: int) -> NoReturn:
    """In the keeper."""
    code = 70
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        reader, writer = os.pipe()
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(words, keeper, writer, answers)
        os.close(writer)
        os.chdir("/")
        code = _follow(pid, reader, log, answers)
    finally:
        os._exit(code)


def _become(words: Sequence[str], keeper: int, output: int, answers: int) -> NoReturn:
    """Be the command."""
    try:
        if sys.platform == "linux":
            import ctypes

            ctypes.PyDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0)
            if os.getppid() != keeper:  # it has ended before the kernel knew
                os._exit(1)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.set_inheritable(answers, True)
        environment = {**os.environ, STARTED: str(answers)}
        os.execve(sys.executable, [sys.executable, "-P", "-m", "donjon", *words], environment)  # noqa: S606
    except OSError as error:
        os.write(2, f"donjon: error: cannot start {sys.executable}: {words_of(error)}\n".encode())
    finally:
        os._exit(3)


def _follow(pid: int, reader: int, log: Log, answers: int) -> int:
    """Write down what the Keep says until it has ended; then how it ended, there and to who waits for its start."""
    import select

    poller = select.poll()
    poller.register(reader, select.POLLIN)
    if sys.platform == "linux":
        poller.register(os.pidfd_open(pid), select.POLLIN)
    silent = False
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(500)}
        if reader in ready:
            data = os.read(reader, 1 << 16)
            log.write(data)
            if data:
                continue  # all that it has said, before its end is looked at
            silent = True
            poller.unregister(reader)
        if silent and sys.platform != "linux":
            found, status = os.waitpid(pid, 0)
        else:
            found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
    code = os.waitstatus_to_exitcode(status)
    log.write(f"donjon: the Keep ended {f'with code {code}' if code >= 0 else f'by signal {-code}'}\n".encode())
    try:
        os.write(answers, b"%d" % (code if code >= 0 else 128 - code))
    except OSError:
        pass  # nobody waits any more: it had started
    return 0
