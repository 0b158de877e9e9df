"""Makes an identity in a process of its own, which then ends.

The library that makes keys and certificates takes 50 ms to load and 12 MB as long as the process lives, as much as all
else in a Keep; asking a Steward takes more of both. So a fork loads it, makes what is asked for, and hands it back
through a pipe; it can begin before the result is needed. The key is never anywhere but in the memory of these two
processes, which trust each other.

A Keep that runs may neither fork nor connect any more (`donjon.keep.sandbox`), but has to renew its certificate. So a
process is forked before that, and does nothing but fork one that makes an identity whenever it is asked to: `Beside`.

The fork holds nothing of the Keep's but that pipe: a connection that the Keep closes meanwhile is closed, and whoever
reads the guest's output does not wait for it. It has a time after which the kernel ends it, whatever it hangs in.

    records     length of the rest, 4 bytes || parts, each with its length before it, 4 bytes
                say, TEXT                       while it works
                identity, EXPIRES, KEY, CERTIFICATE...
                error, FAMILY, TEXT, HINT
"""

from __future__ import annotations

import os
import time

from donjon import errors
from donjon.errors import BugError, DonjonError, PlatformError, words_of
from donjon.identity.chain import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Say = Callable[[str], None]
    Make = Callable[[Say], Identity]

__all__ = ["Apart", "Beside", "Making"]

SECONDS = 90.0
"""The longest that making an identity may take: a Steward's 60 s, and evidence."""


def _silent(_text: str) -> None:
    """Say nothing."""


class Making:
    """An identity that is being made, in a process that sends records.

    Args:
        reader: of the pipe; it belongs to this object from now on.
        say: gets what the other process tells, whenever the result is asked for.
        seconds: after which that process is ended.
    """

    def __init__(self, reader: int, say: Say = _silent, seconds: float = SECONDS) -> None:
        self._reader = reader
        self._say = say
        self._seconds = seconds
        self._late = time.monotonic() + 0.9 * seconds  # it may have begun before; so late it was ended, by its time
        self._held = bytearray()
        self._made: Identity | DonjonError | None = None

    def fileno(self) -> int:
        """The descriptor that can be read when `step` has something to do."""
        return self._reader

    def result(self) -> Identity:
        """Wait for it; call this once.

        Raises:
            DonjonError: of the family that it was in the other process, or a BugError where that one failed.
        """
        while (made := self.step()) is None:
            pass
        return made

    def step(self) -> Identity | None:
        """Take in what has come; waits only where nothing has.

        Returns:
            The identity when it is there; after that, or after an error, call this no more.
        Raises:
            DonjonError: as `result`.
        """
        data = os.read(self._reader, 1 << 16)
        self._held += data
        while len(self._held) >= 4 and len(self._held) >= (end := 4 + int.from_bytes(self._held[:4], "big")):
            self._take(_split(bytes(self._held[4:end])))
            del self._held[:end]
        if data:
            return None
        number = self._bury()
        late = number == 0 and time.monotonic() >= self._late
        if self._made is None and (number == _SIGALRM or late):
            self._made = PlatformError(f"the Keep's identity was not made within {self._seconds:g} s")
        if self._made is None:
            self._made = BugError("the process that makes the Keep's key ended early")
        if isinstance(self._made, DonjonError):
            raise self._made
        return self._made

    def cancel(self) -> None:
        """There is no result then; the other process hears of it when it sends one."""
        if self._reader >= 0:
            self._bury()

    def _bury(self) -> int:
        """Give everything back; the signal that ended the process, where that can be known, or 0."""
        os.close(self._reader)
        self._reader = -1
        return 0

    def _take(self, parts: list[bytes]) -> None:
        kind, *rest = parts
        if kind == b"say":
            self._say(rest[0].decode())
        elif kind == b"identity":
            self._made = Identity(rest[1], tuple(rest[2:]), float(rest[0]) if rest[0] else None)
        else:
            family = getattr(errors, rest[0].decode(), BugError)
            self._made = family(rest[1].decode(), rest[2].decode() or None)


class Apart(Making):
    """An identity that is being made in a fork of this process.

    Args:
        make: makes it, in the other process; what it tells its argument is said here.
        say: gets that, whenever the result is asked for.
        seconds: after which the other process is ended.
        keep: descriptors that it goes on to have.
    """

    def __init__(self, make: Make, say: Say = _silent, seconds: float = SECONDS, keep: tuple[int, ...] = ()) -> None:
        reader, writer = os.pipe()
        try:
            self._pid = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            raise PlatformError(f"cannot start a process that makes the Keep's key: {words_of(error)}") from error
        if self._pid == 0:
            _make(make, writer, seconds, keep)
        os.close(writer)
        super().__init__(reader, say, seconds)

    def cancel(self) -> None:
        """End the other process; there is no result then."""
        if self._reader >= 0:
            try:
                os.kill(self._pid, _SIGKILL)
            except ProcessLookupError:
                pass
            self._bury()

    def _bury(self) -> int:
        super()._bury()
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            return 0  # who started us has the kernel bury our children
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def give_away(self) -> tuple[int, int]:
        """The process, and the pipe that its records come through: for who hands it to another process, and buries
        the first. Nothing else of this object is used after that."""
        reader, self._reader = self._reader, -1
        return self._pid, reader


class Beside:
    """A process that waits beside the Keep, and forks one that makes an identity each time it is asked.

    It holds nothing of the Keep's but its end of a socket pair, over which it gets the pipe for each answer. When the
    Keep ends it ends too, and on Linux whatever it has started.

    Args:
        make: as for `Apart`; as it is now, not as it may become.
        seconds: after which what makes an identity is ended.
    Raises:
        PlatformError: there is no process to be had.
    """

    def __init__(self, make: Make, seconds: float = SECONDS) -> None:
        import socket

        self._seconds = seconds
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            raise PlatformError(f"cannot start a process that renews the Keep's key: {words_of(error)}") from error
        if pid == 0:
            _wait_beside(make, theirs.fileno(), seconds)
        theirs.close()
        self._pid = pid
        self._channel = ours

    def begin(self, say: Say = _silent) -> Making:
        """Have an identity made.

        Raises:
            PlatformError: the process is gone, or there are no descriptors left.
        """
        import socket

        try:
            reader, writer = os.pipe()
        except OSError as error:
            raise PlatformError(f"cannot have the Keep's key made: {words_of(error)}") from error
        try:
            socket.send_fds(self._channel, [b"?"], [writer])
        except OSError as error:
            os.close(reader)
            text = f"cannot have the Keep's key made: the process for it is gone: {words_of(error)}"
            raise PlatformError(text) from error
        finally:
            os.close(writer)
        return Making(reader, say, self._seconds)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass  # as in `Apart._bury`


def _wait_beside(make: Make, channel: int, seconds: float) -> NoReturn:
    """In the process beside the Keep."""
    import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enumerations, 3 ms
    import socket

    try:
        _let_go((channel,), None)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # the kernel buries them
        beside = os.getpid()
        asked = socket.socket(fileno=channel)
        while True:
            message, writers, _, _ = socket.recv_fds(asked, 1, 1)
            if not message or not writers:
                break
            if os.fork() == 0:
                _end_with(beside)
                asked.close()
                _make(make, writers[0], seconds, ())
            os.close(writers[0])
    finally:
        os._exit(0)


def _end_with(parent: int) -> None:
    """Have the kernel end this process with the one that forked it."""
    import sys

    if sys.platform == "linux":
        import ctypes

        ctypes.PyDLL(None).prctl(1, _SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG of <linux/prctl.h>
        if os.getppid() != parent:
            os._exit(0)


_SIGKILL, _SIGALRM = 9, 14  # the same on Linux and macOS; `signal` takes 3 ms


def _make(make: Make, writer: int, seconds: float, keep: tuple[int, ...]) -> NoReturn:
    """In the other process: make, send, end."""
    try:
        _let_go((writer, *keep), seconds)

        def say(text: str) -> None:
            os.write(writer, _record(b"say", text.encode("utf-8", "replace")))

        made = make(say)
        expires = b"" if made.expires is None else repr(made.expires).encode()
        record = _record(b"identity", expires, made._key, *made.chain)
    except DonjonError as error:
        record = _failure(error)
    except ImportError as error:
        hint = "reinstall the Python package cryptography"
        record = _failure(PlatformError(f"cannot load what makes the Keep's key: {error}", hint))
    except BaseException as error:  # this process must not go on as if it were the Keep
        record = _failure(BugError(f"internal error: {type(error).__name__}: {error}"))
    try:
        with open(writer, "wb") as file:
            file.write(record)
    finally:
        os._exit(0)


def _failure(error: DonjonError) -> bytes:
    family = next(kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    texts = (family, error.message, error.hint or "")
    return _record(b"error", *(text.encode("utf-8", "replace") for text in texts))


def _let_go(keep: tuple[int, ...], seconds: float | None) -> None:
    """Close what is the Keep's, keep what is made here from others, and set the time."""
    import _signal

    if seconds is not None:
        _signal.signal(_SIGALRM, _signal.SIG_DFL)
        _signal.setitimer(_signal.ITIMER_REAL, seconds)
    _hide()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")]
    except OSError:
        numbers = [*range(os.sysconf("SC_OPEN_MAX"))]
    for number in numbers:
        if number > 2 and number not in keep:
            try:
                os.close(number)
            except OSError:
                pass  # the directory's own, or none


def _hide() -> None:
    """Let no other process of this user look into this one: there will be a key in it."""
    import sys

    if sys.platform == "linux":
        import ctypes

        ctypes.PyDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE of <linux/prctl.h>


def _record(*parts: bytes) -> bytes:
    body = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return len(body).to_bytes(4, "big") + body


def _split(data: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at + 4 : end])
        at = end
    return parts
