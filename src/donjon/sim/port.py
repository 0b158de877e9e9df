"""What a virtual machine and the processor that is simulated for it say to each other, over a port of its own.

    guest                                   processor
    Request WHO                      ->
                                     <-     Answer, "snp"
    Request REPORT, report data      ->
                                     <-     Answer, report, certificates

One request at a time, each of 72 bytes; an answer says how long it is, and what comes with it is at most 32 KiB each.
There is no order to keep and nothing to remember: an answer follows from its request and from how the machine was
started. Each side takes the other for hostile. What is not a request ends the port; so does an answer that is none, or
that does not come in time. That a report is for this guest and no replay, the guest sees as it would see it of
hardware: the report binds what was asked for.

    Device   the processor's side: bytes in, bytes out
    Far      the guest's side, on the descriptor of the port: what `donjon.sim.kernel` takes for hardware
"""

from __future__ import annotations

import errno
import os
import select
import time
from enum import IntEnum
from typing import Protocol

from donjon.errors import DonjonError, ParseError
from donjon.tee.simulated import Blobs
from donjon.wire import layout, pack, raw, size_of, u8, u16, u32, unpack

__all__ = ["NAME", "Device", "Far", "Hardware"]

NAME = "donjon.simulated-tee"
"""Of the virtio-serial port."""
MAGIC = b"DSTP"
VERSION = 1
MAX_BLOB = 32 * 1024
"""Bytes; Linux hands out no more."""
MAX_NAME = 16
NO_LEVEL = 0xFF
SECONDS = 30.0
"""How long a guest waits for an answer. A real quote of TDX may take seconds, too."""


class Kind(IntEnum):
    """What is asked."""

    WHO = 0
    REPORT = 1


# fmt: off
@layout(size=0x48, spec="donjon.sim.port, Request")
class Request:
    """A question."""

    magic:       bytes = raw(0x00, 4, only=(MAGIC,))
    version:     int   = u16(0x04, only=(VERSION,))
    kind:        Kind  = u8(0x06, Kind)
    privlevel:   int   = u8(0x07, only=(0, 1, 2, 3, NO_LEVEL))
    report_data: bytes = raw(0x08, 64)


@layout(size=0x10, spec="donjon.sim.port, Answer")
class Answer:
    """What comes before the blobs."""

    magic:     bytes = raw(0x00, 4, only=(MAGIC,))
    version:   int   = u16(0x04, only=(VERSION,))
    error:     int   = u16(0x06)                     # an errno; 0: here it is
    report:    int   = u32(0x08)                     # bytes of the report, or of the name
    auxiliary: int   = u32(0x0C)                     # bytes of the certificates
# fmt: on


class Hardware(Protocol):
    """Who makes reports: a guest of `donjon.sim`, or `Far`."""

    @property
    def tee(self) -> str:
        """Short name of the TEE."""

    def blobs(self, report_data: bytes, privlevel: int | None = None) -> Blobs:
        """What a kernel would hand out."""


class Device:
    """The processor's side of one port.

    Args:
        hardware: whose reports it hands out.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._waiting = b""

    def feed(self, data: bytes) -> bytes:
        """Take what the guest has sent, in pieces of whatever size.

        Returns:
            What it gets: an answer to each request that is whole now.
        Raises:
            ParseError: that is no request. The port is of no use any more.
        """
        self._waiting += data
        size, answers = size_of(Request), []
        while len(self._waiting) >= size:
            request, self._waiting = unpack(Request, self._waiting[:size]), self._waiting[size:]
            answers.append(self._answer(request))
        return b"".join(answers)

    def _answer(self, request: Request) -> bytes:
        if request.kind is Kind.WHO:
            return _packed(0, Blobs(self._hardware.tee.encode("ascii")))
        level = None if request.privlevel == NO_LEVEL else request.privlevel
        try:
            return _packed(0, self._hardware.blobs(request.report_data, level))
        except (DonjonError, OSError):
            return _packed(errno.EIO, Blobs(b""))


def _packed(error: int, blobs: Blobs) -> bytes:
    head = Answer(magic=MAGIC, version=VERSION, error=error, report=len(blobs.report), auxiliary=len(blobs.auxiliary))
    return pack(head) + blobs.report + blobs.auxiliary


class Far:
    """A guest's side of the port: hardware that is somewhere else.

    Args:
        port: a descriptor that is read and written; it stays the caller's.
        seconds: how long an answer may take.
    Raises:
        OSError: nobody answers, or somebody with something else.

    Attributes:
        tee: short name of the TEE that it simulates.
    """

    def __init__(self, port: int, seconds: float = SECONDS) -> None:
        self._port = port
        self._seconds = seconds
        self._dead = False
        os.set_blocking(port, False)
        name = self._ask(Kind.WHO, bytes(64), NO_LEVEL).report
        if not (0 < len(name) <= MAX_NAME and name.isalpha() and name.islower()):
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        self.tee = name.decode("ascii")

    def blobs(self, report_data: bytes, privlevel: int | None = None) -> Blobs:
        """What a kernel would hand out.

        Raises:
            OSError: as a driver that has lost its firmware.
        """
        return self._ask(Kind.REPORT, report_data, NO_LEVEL if privlevel is None else privlevel)

    def _ask(self, kind: Kind, report_data: bytes, privlevel: int) -> Blobs:
        if self._dead:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        asked = Request(magic=MAGIC, version=VERSION, kind=kind, privlevel=privlevel, report_data=report_data)
        self._dead = True  # until all of the answer is here: the rest of one would be taken for the next
        end = time.monotonic() + self._seconds
        self._write(pack(asked), end)
        try:
            head = unpack(Answer, self._read(size_of(Answer), end))
        except ParseError as error:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from error
        if head.report > MAX_BLOB or head.auxiliary > MAX_BLOB:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        blobs = Blobs(self._read(head.report, end), self._read(head.auxiliary, end))
        self._dead = False
        if head.error:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return blobs

    def _write(self, data: bytes, end: float) -> None:
        while data:
            self._wait(select.POLLOUT, end)
            try:
                data = data[os.write(self._port, data) :]
            except BlockingIOError:
                pass

    def _read(self, size: int, end: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(select.POLLIN, end)
            try:
                more = os.read(self._port, size - len(data))
            except BlockingIOError:
                continue
            if not more:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            data += more
        return bytes(data)

    def _wait(self, events: int, end: float) -> None:
        poll = select.poll()
        poll.register(self._port, events)
        left = end - time.monotonic()
        found = poll.poll(max(left, 0) * 1000)
        if not found:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        if not found[0][1] & events:  # nobody holds the other end
            raise OSError(errno.EIO, os.strerror(errno.EIO))
