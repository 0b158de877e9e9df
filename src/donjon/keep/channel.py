"""What a Keep's process and its owner say to each other, over a socket pair.

The owner sends one message: 8 bytes length (little-endian), then a marshalled dictionary, the orders. The Keep answers
with records, one line each: fields of UTF-8 separated by NUL, with \\b, \\n and \\0 for backslash, line break and NUL.

    pid, NUMBER                          the process that is the Keep
    listening, NAME, HOST, PORT          a listener is bound
    log, LEVEL, TARGET, TEXT
    ready                                the guest starts; no pid and no listening after that
    exit, CODE                           it ended by itself
    error, FAMILY, TEXT, HINT, CODE, FRAME...     or could not start, or trapped
    signal, NUMBER                       a signal ended it; from the warm parent, which is the one to know

The owner reads records as hostile: the guest might have taken its process over.
"""

from __future__ import annotations

import errno
import os
import select

from donjon import errors
from donjon.log import WARN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from donjon.keep.launch import Launch

__all__ = [
    "LONGEST", "Reporter", "error_from", "launch_from", "number_in", "orders_for", "out_of_processor_time", "parse",
    "receive",
]  # fmt: skip

LONGEST = 1 << 16
"""Bytes of one record."""
LAST_WORDS = ("exit", "error")


def orders_for(
    launch: Launch | None, module: object, log: str, warm: bool = False, sandbox: str = "auto", backend: str = "nil"
) -> bytes:
    """The message that makes a process the Keep of `launch`, or (warm) the parent of such Keeps."""
    import marshal
    import pickle
    import sys

    orders: dict[str, object] = {"path": sys.path, "warm": warm, "log": log, "module": module}
    orders |= {"sandbox": sandbox, "backend": backend}
    if launch is not None:
        orders |= {
            "args": launch.args,
            "env": launch.env,
            "config": pickle.dumps(launch.config) if _special(launch) else b"",
            "toml": launch.toml,
            "attest": launch.attest,
            "sim": launch.sim,
            "tsm": launch.tsm,
            "output": launch.output,
        }
    data = marshal.dumps(orders)
    return len(data).to_bytes(8, "little") + data


def _special(launch: Launch) -> bool:
    """Is the configuration another than the default? Most tests' is, and unpickling costs a millisecond."""
    from donjon.config.models import Config

    return launch.config != Config()


def launch_from(orders: dict[str, Any]) -> Launch:
    """The launch that orders describe."""
    from donjon.keep.launch import TSM, Launch

    config = None
    if orders.get("config"):
        import pickle

        config = pickle.loads(orders["config"])  # noqa: S301 - from the process that started this one
    return Launch(
        orders["module"],
        config,
        orders.get("args", ()),
        orders.get("env"),
        orders.get("attest", "auto"),
        orders.get("sim"),
        orders.get("tsm", TSM),
        orders.get("toml"),
        orders.get("output", False),
    )


class Reporter:
    """The Keep's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped = 0
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLOUT)

    def end_with_peer(self) -> None:
        """Have the kernel end this process when the other end is closed."""
        import fcntl

        fcntl.fcntl(self._descriptor, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
        if any(events & select.POLLHUP for _, events in self._poller.poll(0)):
            os._exit(0)  # it was closed before that

    def send(self, *fields: str) -> None:
        """Send a record; if nobody listens any more, there is nothing left to do.

        A field is cut to its share of LONGEST. A record waits for room here: the kernel takes a write that waits for
        one that wants to hear of room, and tells it by the very signal that `end_with_peer` asks for. The last word
        does not wait, as its reader may be waiting for the end of our stdout first; logs leave it room.
        """
        most = (LONGEST // len(fields) - 1) // 4  # a character takes at most 4 bytes
        line = b"\0".join(_escape(field[:most]) for field in fields) + b"\n"
        if fields[0] not in LAST_WORDS:
            self._poller.poll()
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            os._exit(0)

    def send_log(self, level: int, target: str, message: str) -> None:
        """A log record; dropped while the other end has not read the last ones, as logging must not stop the guest."""
        if not self._poller.poll(0):
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.send("log", str(WARN), "donjon.keep", f"{dropped} messages dropped: nobody read them in time")
        self.send("log", str(level), target, message)

    def send_error(self, error: BaseException) -> None:
        """How it failed."""
        if not isinstance(error, errors.DonjonError):
            error = errors.BugError(f"internal error: {type(error).__name__}: {error}")
        frames = getattr(error, "frames", ())
        family = next(kind.__name__ for kind in type(error).__mro__ if FAMILIES.get(kind.__name__) is kind)
        self.send("error", family, error.message, error.hint or "", getattr(error, "code", ""), *frames)


def parse(line: bytes) -> list[str]:
    """The fields of a record.

    Raises:
        ParseError: it is not one.
    """
    try:
        return [_unescape(field) for field in line.split(b"\0")]
    except (UnicodeDecodeError, KeyError):
        raise errors.ParseError(f"record of a Keep: expected escaped UTF-8, got {line[:20].hex(' ')}") from None


ESCAPES = {b"b": b"\\", b"n": b"\n", b"0": b"\0"}


def _escape(field: str) -> bytes:
    data = field.encode("utf-8", "surrogatepass")
    for letter, byte in ESCAPES.items():
        data = data.replace(byte, b"\\" + letter)
    return data


def _unescape(field: bytes) -> str:
    head, *rest = field.split(b"\\")
    return (head + b"".join(ESCAPES[part[:1]] + part[1:] for part in rest)).decode("utf-8", "surrogatepass")


def number_in(field: str, most: int) -> int:
    """The number in a field, 0 to `most`.

    Raises:
        ParseError: there is none, or a larger one.
    """
    if len(field) > 10 or not (field.isascii() and field.isdigit()) or int(field) > most:
        raise errors.ParseError(f'record of a Keep: expected a number from 0 to {most}, got "{field[:20]}"')
    return int(field)


FAMILIES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.DonjonError)
}


def error_from(fields: list[str]) -> errors.DonjonError:
    """The error that an error record tells of; one of no known family becomes a BugError."""
    family = FAMILIES.get(fields[1] if len(fields) > 1 else "", errors.BugError)
    message, hint, code = [*fields[2:5], "", "", ""][:3]
    if family is errors.TrapError:
        return errors.TrapError(message, code, tuple(fields[5:]), hint or None)
    made: errors.DonjonError = family(message or "a Keep failed without saying why", hint or None)
    return made


def out_of_processor_time() -> errors.TrapError:
    """How a Keep has ended whose process was ended by SIGPROF: the kernel counts, see `nil`."""
    return errors.TrapError(
        "the guest has used the processor time that it may have",
        "processor time",
        hint="raise `cpu` in [limits] of Enarx.toml",
    )


def receive(held: bytearray) -> bytes | None:
    """The next line that is complete in `held`, without its end; None: more must be read.

    Raises:
        ParseError: a line is longer than LONGEST.
    """
    end = held.find(b"\n")
    if end > LONGEST or (end < 0 and len(held) > LONGEST):
        raise errors.ParseError(f"record of a Keep: expected at most {LONGEST} bytes")
    if end < 0:
        return None
    line = bytes(held[:end])
    del held[: end + 1]
    return line
