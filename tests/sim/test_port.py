"""The port of a simulated confidential VM: both ends, whole and in pieces, and what each does with a hostile other."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from donjon import sim
from donjon.errors import ParseError, PlatformError
from donjon.sim import port
from donjon.sim.port import Answer, Device, Far, Kind, Request
from donjon.tee.simulated import Blobs
from donjon.wire import pack, size_of, unpack

DATA = bytes(range(64))


class Fixed:
    """Hardware that notes what it is asked."""

    tee = "snp"

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, int | None]] = []

    def blobs(self, report_data: bytes, privlevel: int | None = None) -> Blobs:
        self.asked.append((report_data, privlevel))
        return Blobs(b"report of " + report_data, b"certificates")


class Broken(Fixed):
    def blobs(self, report_data: bytes, privlevel: int | None = None) -> Blobs:
        raise PlatformError(f"no more reports, not of {report_data.hex()} at {privlevel}")


def request(kind: Kind = Kind.REPORT, privlevel: int = port.NO_LEVEL) -> bytes:
    return pack(Request(magic=port.MAGIC, version=1, kind=kind, privlevel=privlevel, report_data=DATA))


def answer(report: bytes = b"", auxiliary: bytes = b"", error: int = 0) -> bytes:
    sizes = {"report": len(report), "auxiliary": len(auxiliary)}
    return pack(Answer(magic=port.MAGIC, version=1, error=error, **sizes)) + report + auxiliary


# The processor's side


def test_it_says_which_tee_it_is() -> None:
    assert Device(Fixed()).feed(request(Kind.WHO)) == answer(b"snp")


@pytest.mark.parametrize(("sent", "level"), [(port.NO_LEVEL, None), (0, 0), (3, 3)])
def test_it_hands_out_what_the_hardware_makes(sent: int, level: int | None) -> None:
    hardware = Fixed()
    assert Device(hardware).feed(request(privlevel=sent)) == answer(b"report of " + DATA, b"certificates")
    assert hardware.asked == [(DATA, level)]


def test_pieces_make_no_difference() -> None:
    both = request(Kind.WHO) + request()
    whole = Device(Fixed()).feed(both)
    device = Device(Fixed())
    assert b"".join(device.feed(both[at : at + 1]) for at in range(len(both))) == whole


def test_hardware_that_fails_is_an_answer() -> None:
    device = Device(Broken())
    assert device.feed(request()) == answer(error=errno.EIO)
    assert device.feed(request(Kind.WHO)) == answer(b"snp")


@pytest.mark.parametrize(
    ("at", "byte", "words"),
    [
        (0, 0, "Request.magic"),
        (4, 2, "Request.version"),
        (6, 2, "Request.kind"),
        (7, 4, "Request.privlevel"),
    ],
)
def test_what_is_no_request_is_refused(at: int, byte: int, words: str) -> None:
    data = bytearray(request())
    data[at] = byte
    with pytest.raises(ParseError, match=words):
        Device(Fixed()).feed(bytes(data))


# The guest's side


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def meet(ends: tuple[socket.socket, socket.socket]) -> Iterator[Callable[[Callable[[bytes], bytes]], int]]:
    """Give somebody the other end: bytes of a request in, bytes of an answer out; b"" hangs up."""
    threads = []

    def start(act: Callable[[bytes], bytes]) -> int:
        def run() -> None:
            while data := ends[1].recv(size_of(Request)):
                said = act(data)
                if not said:
                    ends[1].shutdown(socket.SHUT_RDWR)
                    return
                ends[1].sendall(said)

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return ends[0].fileno()

    yield start
    ends[0].shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def test_both_ends_make_hardware_far_away(meet: Callable[[Callable[[bytes], bytes]], int]) -> None:
    hardware = Fixed()
    far = Far(meet(Device(hardware).feed))
    assert far.tee == "snp"
    assert far.blobs(DATA) == Blobs(b"report of " + DATA, b"certificates")
    assert far.blobs(DATA, 2).report == b"report of " + DATA
    assert hardware.asked == [(DATA, None), (DATA, 2)]


def failing(number: int) -> Any:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


NOT_ANSWERS = {
    "another magic": (b"X" + answer(b"snp")[1:], errno.EPROTO),
    "another version": (answer(b"snp")[:4] + b"\2" + answer(b"snp")[5:], errno.EPROTO),
    "a longer report than any": (
        pack(Answer(magic=port.MAGIC, version=1, error=0, report=port.MAX_BLOB + 1, auxiliary=0)),
        errno.EPROTO,
    ),
    "longer certificates than any": (
        pack(Answer(magic=port.MAGIC, version=1, error=0, report=3, auxiliary=0xFFFF_FFFF)),
        errno.EPROTO,
    ),
    "no name": (answer(), errno.EPROTO),
    "a name that is none": (answer(b"../x"), errno.EPROTO),
    "a name that is too long": (answer(b"s" * 17), errno.EPROTO),
    "an error": (answer(error=errno.EIO), errno.EIO),
    "half an answer": (answer(b"snp")[:10], errno.ETIMEDOUT),
    "nothing": (b"", errno.EIO),
}


@pytest.mark.parametrize("name", NOT_ANSWERS)
def test_a_processor_that_answers_otherwise_is_none(meet: Callable[[Callable[[bytes], bytes]], int], name: str) -> None:
    said, number = NOT_ANSWERS[name]
    with failing(number):
        Far(meet(lambda _: said), seconds=0.2)


def test_nothing_is_believed_after_an_answer_that_broke_off(meet: Callable[[Callable[[bytes], bytes]], int]) -> None:
    said = [answer(b"snp"), answer(b"r" * 100)[:50], answer(b"never read")]
    far = Far(meet(lambda _: said.pop(0)), seconds=0.2)
    with failing(errno.ETIMEDOUT):
        far.blobs(DATA)
    with failing(errno.ENOTTY):
        far.blobs(DATA)
    assert said == [answer(b"never read")]


def test_an_error_is_no_reason_to_ask_no_more(meet: Callable[[Callable[[bytes], bytes]], int]) -> None:
    said = [answer(b"snp"), answer(error=5), answer(b"report")]
    far = Far(meet(lambda _: said.pop(0)), seconds=5)
    with failing(errno.EIO):
        far.blobs(DATA)
    assert far.blobs(DATA) == Blobs(b"report")


def test_a_processor_that_does_not_read_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    os.set_blocking(ends[0].fileno(), False)
    try:
        while True:
            ends[0].send(bytes(4096))
    except BlockingIOError:
        pass
    with failing(errno.ETIMEDOUT):
        Far(ends[0].fileno(), seconds=0.1)


def test_a_lab_guest_is_such_hardware(lab: sim.Lab) -> None:
    guest = lab.guest("tdx", bytes(32))
    said = Device(guest).feed(request())
    head = unpack(Answer, said[:16])
    assert (head.error, head.report, head.auxiliary) == (0, 8000, 0)
    assert len(said) == 16 + 8000
