"""What a process of the workload's asks the agent for, over a socket pair that it was born with.

It is SOCK_SEQPACKET: a request is a message, and brings a socket of the same kind that one answer comes to. So a fork
asks beside the process that it is of, and neither gets the other's answer. Fields are UTF-8, separated by NUL:

    listening, NAME, PROT, ADDR, PORT, GUEST PORT    from the Keep    -> bound, HOST, PORT: where clients find it
    reach, HOST, PORT                                from both        -> reached, with the connection as a descriptor
    peer, GUEST PORT, SOURCE PORT                    from the Keep    -> peer, HOST, PORT: who it is, as the host says
    identity                                         from the Keep    -> making, with the pipe that a maker writes to
    evidence, HEX                                    from a maker     -> evidence, and behind the NUL the bytes
    collateral, NAME                                 from what makes  -> collateral, and behind the NUL the bytes
    unfit, TEXT                                      evidence         -> noted: it was not that; the text is a warning
                                                     any              -> failed, FAMILY, MESSAGE, HINT

The Keep itself cannot ask for evidence: what it can get is a fresh key with a certificate, made by a process that is
another user's. So code that has broken out of the engine cannot have the hardware sign what it likes; what it can do is
what the workload can do, for as long as that runs.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it is not used here, and takes a fortieth of a machine's start to load
import os
import sys

from donjon.errors import BugError, DonjonError, PlatformError
from donjon.keep.channel import FAMILIES

__all__ = ["LONGEST", "Asker", "answer", "failed", "failure", "pair", "receive", "send"]

LONGEST = 160 << 10
"""Bytes of a message: evidence with a kernel's three blobs fits."""


def answer(*fields: str) -> bytes:
    """A message of these fields."""
    return "\0".join(fields).encode("utf-8", "replace")


def failure(error: BaseException) -> bytes:
    """The answer that it could not be had."""
    if not isinstance(error, DonjonError):
        error = BugError(f"internal error: {type(error).__name__}: {error}")
    family = next(kind.__name__ for kind in type(error).__mro__ if FAMILIES.get(kind.__name__) is kind)
    parts = (family, error.message, error.hint or "")
    return answer("failed", *(part.replace("\0", "")[:8192] for part in parts))


def failed(rest: bytes) -> DonjonError:
    """The error that such an answer tells of, from behind its first NUL."""
    family, message, hint = (part.decode("utf-8", "replace") for part in rest.split(b"\0"))
    made: DonjonError = FAMILIES[family](message, hint or None)
    return made


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Both ends of a way for messages."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def send(channel: _socket.socket, data: bytes, descriptor: int = -1, flags: int = 0) -> None:
    """Send a message, and a descriptor with it."""
    given = descriptor.to_bytes(4, sys.byteorder) if descriptor >= 0 else b""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, given)] if given else []
    channel.sendmsg([data], rights, flags)


def receive(channel: _socket.socket, most: int = LONGEST, flags: int = 0) -> tuple[bytes, int]:
    """A message of at most so many bytes, b"" at the end, and the descriptor that came with it, or -1."""
    data, rights, _, _ = channel.recvmsg(most, _socket.CMSG_LEN(4), flags)
    found = -1
    for level, kind, given in rights:
        if (level, kind, len(given)) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, 4):
            found = int.from_bytes(given, sys.byteorder)
    if found >= 0 and not data:
        os.close(found)
        found = -1
    return data, found


class Asker:
    """The end of the processes that ask, one question after the other.

    Answers come to a socket that is made here: a process that is confined later can make none. A fork makes its own.
    """

    def __init__(self, channel: _socket.socket) -> None:
        self._channel = channel
        self._process = 0
        self._prepare()

    def _prepare(self) -> None:
        if self._process != os.getpid():
            self._ours, self._theirs = pair()
            self._process = os.getpid()

    def ask(self, *fields: str) -> tuple[bytes, int]:
        """The rest of the answer, and the descriptor that came with it, or -1.

        Raises:
            DonjonError: what was asked for cannot be had.
        """
        try:
            self._prepare()
            send(self._channel, answer(*fields), self._theirs.fileno())
            data, descriptor = receive(self._ours)
        except OSError as error:
            raise PlatformError("the Keep's agent does not answer") from error
        kind, _, rest = data.partition(b"\0")
        if kind == b"failed":
            raise failed(rest)
        if not kind:
            raise PlatformError("the Keep's agent does not answer")
        return rest, descriptor
