"""Machines for tests of the simulated confidential VM: QEMU with the image, the processor, and a program inside.

The program is one more archive behind the image's own, with another `/init`: it goes through the image's own steps up
to where evidence is there, and then does over a port of its own what it is told to. It is measured, like all the rest.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from donjon.errors import DonjonError, ParseError
from donjon.image import cpio
from donjon.keep.vm import words
from donjon.sim.port import NAME
from donjon.sim.processor import Processor
from tests.images import image, qemu
from tests.system.command import donjon_run

SECONDS = 100.0
MEMORY = 320 * words.MIB
TEST_PORT = "donjon.test"
POLICY = """\
accept_unattested = true
tees = ["{tee}"]
[collateral]
offline = true
{measured}
[[workload]]
digest = ["{workload}"]
names = ["shop.example.com"]
"""
"""Of a Steward, for machines of which `donjon image measure` prints `measured`."""

PROGRAM = b"""#!/usr/bin/python3.11 -ISBu
import sys
sys.path.append("/usr/lib/donjon")
from donjon import linux
from donjon.guest import init

def told(_kind, error, _traceback):
    init._tell_console(error)

sys.excepthook = told
init._standard_streams()
init._mount_all()
tried = ""
try:
    from donjon.sim.inside import attach
    attach()
except Exception as error:
    tried = repr(error)
import json, os, select, time

init.PORT = "donjon.test"
port = init._port()
os.set_blocking(port, True)
tee = init._speaks()

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from donjon.tee import load
from donjon.errors import DonjonError
from donjon.identity.attested import evidence, fresh_key, make_request
from donjon.keep.attest import Machine, detect
from donjon.steward.nonce import binding

kind = load(detect(init.TSM))
key = fresh_key(kind)
spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

def answer(asked):
    if "about" in asked:
        modules = [name for name in sys.modules if name.startswith("donjon.sim")]
        return {"speaks": tee, "detected": kind.NAME, "attach": tried, "modules": modules, "ports": ports()}
    nonce, workload = asked["nonce"], bytes.fromhex(asked["workload"])
    data = binding(bytes.fromhex(nonce), spki) if nonce else kind.key_binding(spki)
    started = time.monotonic()
    value = evidence(Machine(kind.NAME, init.TSM), kind, data, workload)
    return {"request": make_request(key, kind.OID, value).hex(), "seconds": time.monotonic() - started}

def ports():
    return sorted(init._line(f"/sys/class/virtio-ports/{name}/name") for name in os.listdir("/sys/class/virtio-ports"))

line = b""
while True:
    more = os.read(port, 65536)
    if not more:
        linux.power_off()
    line += more
    if line.endswith(b"\\n"):
        try:
            said = answer(json.loads(line))
        except (DonjonError, OSError) as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        data = json.dumps(said).encode() + b"\\n"
        while data:
            data = data[os.write(port, data):]
        line = b""
"""


def vendors_word(folder: Path, lab: str, tee: str) -> list[str]:
    """Words for a Steward: what the lab's vendor publishes is in this folder, which is made."""
    folder.mkdir()
    if tee == "tdx":
        done = donjon_run("sim", "collateral", "--sim", lab, "--tee", tee, folder / "intel.json")
        assert done.returncode == 0, done.stderr
    return ["--collateral", str(folder)]


@dataclass(frozen=True)
class Parts:
    """What a machine is started with."""

    kernel: bytes
    initrd: bytes
    cmdline: str

    @classmethod
    def of(cls, variant: str) -> Parts:
        """An image with the program."""
        built = image(variant)
        program = cpio.write({"init": cpio.file(PROGRAM, executable=True)})
        initrd = Path(built.initrd).read_bytes()
        padded = initrd + bytes(-len(initrd) % 4)
        return cls(Path(built.kernel).read_bytes(), padded + program, built.cmdline)

    def changed(self, **parts: Any) -> Parts:
        return replace(self, **parts)


class Machine:
    """One QEMU; leaving the block ends it.

    Args:
        parts: what it boots; QEMU gets these very bytes.
        processor: at the end of the port for reports; None leaves the port out.

    Attributes:
        heard: what the guest has sent to that port.
        answers: what it gets; a hostile host can give it anything.
    """

    def __init__(self, parts: Parts, processor: Processor | None) -> None:
        self.heard = b""
        self.answers: Callable[[bytes], bytes] | None = None if processor is None else processor.feed
        files = [_sealed(parts.kernel), _sealed(parts.initrd)]
        ours, theirs = socket.socketpair()
        device, far = socket.socketpair()
        self._port, self._device = ours, device
        kernel, initrd = (f"/proc/self/fd/{number}" for number in files)
        line = [qemu(), *words.kvm("tcg", MEMORY, None), *words.common(kernel, initrd, parts.cmdline)]
        line += words.port(TEST_PORT, theirs.fileno(), first=True, confidential=False)
        inherited = [*files, theirs.fileno()]
        if processor is not None:
            inherited.append(far.fileno())
            line += words.port(NAME, far.fileno(), first=False, confidential=False)
        self._process = subprocess.Popen(
            line,
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number in files:
            os.close(number)
        theirs.close()
        far.close()
        self._server = threading.Thread(target=self._serve)
        self._server.start()
        ours.settimeout(SECONDS)

    def _serve(self) -> None:
        with suppress(ConnectionResetError, BrokenPipeError, ParseError):
            while self.answers is not None and (data := self._device.recv(4096)):
                self.heard += data
                self._device.sendall(self.answers(data))

    def ask(self, **what: Any) -> dict[str, Any]:
        """Have the program do something."""
        self._port.sendall(json.dumps(what).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            more = self._port.recv(65536)
            assert more, f"the machine has ended: {self.output()}"
            data += more
        found: dict[str, Any] = json.loads(data)
        return found

    def request(self, workload: bytes, nonce: bytes | None) -> bytes:
        """A certificate request that the guest makes.

        Raises:
            GuestError: it refuses.
        """
        said = self.ask(workload=workload.hex(), nonce=None if nonce is None else nonce.hex())
        if "error" in said:
            raise GuestError(said["error"])
        return bytes.fromhex(said["request"])

    def output(self) -> str:
        """What QEMU says."""
        assert self._process.stdout is not None
        end = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        self._process.kill()
        return self._process.stdout.read().decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        with suppress(OSError):
            self._device.shutdown(socket.SHUT_RDWR)
        self._server.join()
        self._port.close()
        self._device.close()


class GuestError(DonjonError):
    """The guest refuses."""


def _sealed(data: bytes) -> int:
    """A file without a name, with these bytes."""
    number = os.memfd_create("donjon", os.MFD_CLOEXEC)
    left = memoryview(data)
    while left:
        left = left[os.write(number, left) :]
    return number
