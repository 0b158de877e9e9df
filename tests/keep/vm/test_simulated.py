"""The host's side of a machine with a simulated TEE, without the machine: what is measured, and who is at its port."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from donjon import sim
from donjon.config import parse
from donjon.errors import ParseError, UsageError, VerifyError
from donjon.image import Image
from donjon.keep.launch import Launch
from donjon.keep.vm.loop import Loop
from donjon.keep.vm.simulated import Attendant, Simulated
from donjon.sim.port import MAGIC, NO_LEVEL, Kind, Request
from donjon.sim.processor import Processor
from donjon.wire import pack
from tests.system.said import Said
from tests.system.stewards import lab_in

DIGEST = bytes(range(32))
REQUEST = pack(Request(magic=MAGIC, version=1, kind=Kind.REPORT, privlevel=NO_LEVEL, report_data=bytes(64)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lab_in(tmp_path_factory.mktemp("simulated") / "lab")


def launched(lab: str, attest: str = "auto") -> Launch:
    """A workload with TLS, which could show evidence."""
    return Launch(
        b"", parse('[[files]]\nkind = "listen"\nname = "x"\nprot = "tls"\nport = 1\n'), attest=attest, sim=lab
    )


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Not one that boots: nobody here does."""
    files = {}
    for name in ("bzImage", "initrd.zst"):
        data = f"the {name}".encode() * 5000
        (tmp_path / name).write_bytes(data)
        files[name] = {"size": len(data), "sha256": sha256(data).hexdigest()}
    return Image(str(tmp_path), {"variant": "simulated", "cmdline": "quiet", "files": files}, "")


@pytest.fixture
def machine(lab: str, image: Image) -> Iterator[Simulated]:
    made = Simulated(launched(lab), DIGEST, image)
    yield made
    made.close()


def test_what_is_measured_is_what_qemu_gets_whatever_becomes_of_the_files(
    lab: str, image: Image, machine: Simulated
) -> None:
    kernel, initrd = Path(image.kernel).read_bytes(), Path(image.initrd).read_bytes()
    assert machine.processor.measured == sim.load(lab).measure("snp", kernel, initrd, "quiet")
    Path(image.kernel).write_bytes(b"another")
    Path(image.initrd).unlink()
    assert Path(machine.kernel).read_bytes() == kernel
    assert Path(machine.initrd).read_bytes() == initrd
    assert {machine.kernel, machine.initrd} == {f"/proc/self/fd/{number}" for number in machine.inherited[:2]}


@pytest.mark.parametrize("part", ["kernel", "initrd"])
def test_nobody_changes_what_was_measured(machine: Simulated, part: str) -> None:
    number = os.open(getattr(machine, part), os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(number, b"X", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(number, 1)
    finally:
        os.close(number)


def test_qemu_is_told_of_one_more_port_which_it_inherits(machine: Simulated) -> None:
    far = machine.inherited[2]
    assert machine.words == [
        "-chardev", f"socket,id=port{far},fd={far}",
        "-device", f"virtserialport,bus=ports.0,chardev=port{far},name=donjon.simulated-tee",
    ]  # fmt: skip
    machine.started()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(far)


@pytest.mark.parametrize(("asked", "made"), [("auto", "snp"), ("snp", "snp")])
def test_whose_evidence_is_asked_for_it_has(lab: str, image: Image, asked: str, made: str) -> None:
    machine = Simulated(launched(lab, asked), DIGEST, image)
    assert machine.processor.tee == made
    machine.close()


@pytest.mark.parametrize("asked", ["sgx", "cca"])
def test_other_tees_have_no_such_machines(lab: str, image: Image, asked: str) -> None:
    with pytest.raises(UsageError, match=f"simulated virtual machine: expected evidence of snp or tdx, got {asked}"):
        Simulated(launched(lab, asked), DIGEST, image)


def test_a_folder_that_is_no_lab_is_refused(tmp_path: Path, image: Image) -> None:
    with pytest.raises(UsageError, match=r"lab\.toml"):
        Simulated(launched(str(tmp_path / "none")), DIGEST, image)


@pytest.mark.parametrize("name", ["bzImage", "initrd.zst"])
def test_an_image_that_is_damaged_is_none(lab: str, image: Image, name: str) -> None:
    path = Path(image.directory) / name
    path.write_bytes(b"X" + path.read_bytes()[1:])
    with pytest.raises(VerifyError, match=f"the image is damaged: {name}"):
        Simulated(launched(lab), DIGEST, image)
    path.unlink()
    with pytest.raises(VerifyError, match=f"the image is damaged: {name} is missing"):
        Simulated(launched(lab), DIGEST, image)


# At the port


class Counting:
    """A processor that answers at length."""

    def __init__(self) -> None:
        self.heard = 0

    def feed(self, data: bytes) -> bytes:
        if data.startswith(b"nonsense"):
            raise ParseError("Request.magic: expected DSTP, got nons")
        self.heard += len(data)
        return data * 100


class Port:
    """The guest's end, and who attends to the other."""

    def __init__(self, processor: object) -> None:
        self.loop, self.said = Loop(), Said()
        self.ours, self.guest = socket.socketpair()
        self.guest.setblocking(False)
        assert isinstance(processor, Counting | Processor)
        self.attendant = Attendant(self.ours, processor, self.loop, self.said.logger)  # type: ignore[arg-type]

    def turn(self, until: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end
            self.loop.turn(0.01)

    def read(self, size: int) -> bytes:
        data = bytearray()

        def enough() -> bool:
            try:
                data.extend(self.guest.recv(size - len(data)))
            except BlockingIOError:
                pass
            return len(data) == size

        self.turn(enough)
        return bytes(data)

    def close(self) -> None:
        self.ours.close()
        self.guest.close()
        self.loop.close()


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port(Counting())
    yield made
    made.close()


def test_a_guest_gets_the_report_that_it_asks_for(machine: Simulated) -> None:
    port = Port(machine.processor)
    port.guest.send(REQUEST)
    head = port.read(16)
    report = port.read(int.from_bytes(head[8:12], "little"))
    assert DIGEST in report
    assert machine.processor.measured["measurement"] in report
    port.close()


def test_a_guest_that_asks_and_asks_and_does_not_read_is_heard_no_more(port: Port) -> None:
    sent = 0
    for _ in range(200):
        try:
            sent += port.guest.send(bytes(4096))
        except BlockingIOError:
            pass
        port.loop.turn(0)
    counting = port.attendant._processor
    assert isinstance(counting, Counting)
    assert 0 < counting.heard <= 8192 < sent
    assert len(port.attendant._answers) <= 100 * 4096
    assert len(port.read(100 * sent)) == 100 * sent  # and then it is
    assert counting.heard == sent


def test_what_is_no_request_ends_the_port_and_nothing_else(port: Port) -> None:
    port.guest.send(b"nonsense")
    port.turn(lambda: bool(port.said.lines))
    assert "the simulated processor hears the machine no more: Request.magic" in port.said.lines[0][1]
    assert port.guest.recv(1) == b""
    port.loop.turn(0)  # nobody waits for it


def test_a_machine_that_has_ended_is_forgotten(port: Port) -> None:
    port.guest.close()
    port.loop.turn(0)
    port.loop.turn(0)
    assert not port.loop._calls
    assert not port.said.lines
