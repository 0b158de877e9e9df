"""What a VM Keep is compared with: the same kernel in the same QEMU, with next to nothing in its initramfs.

QEMU's words are those of `donjon.keep.vm.words`, so machine, accelerator, memory, firmware and devices are a Keep's.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.results import Sample
from bench.servers import NATIVE, Server
from bench.setting import BenchError, Setting
from donjon.errors import DonjonError
from donjon.image import Image, cpio, store
from donjon.keep.network import FIRST_PORT
from donjon.keep.vm import words
from donjon.platform import kvm, qemu

__all__ = ["PLAIN", "Machine", "busybox", "first_byte", "libraries", "machine", "serving", "used"]

PLAIN = "quiet console=hvc9 8250.nr_uarts=0 panic=-1 rdinit=/init"
"""The command line of somebody who wants a quiet start and has tuned nothing."""
MEMORY = 320
"""MiB of every machine that is compared: enough for either side."""
SECONDS = 90.0
INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
echo x >/dev/vport0p1
/bin/busybox poweroff -f
"""
LISTENS = re.compile(rb"listening on \S+:\d+\n")
PORT = FIRST_PORT + 3
"""Where the server listens inside: as a Keep's, whose fourth file is the listener."""


@dataclass(frozen=True)
class Machine:
    """What all machines of a run are started with."""

    qemu: str
    accel: str
    image: Image
    firmware: str | None

    def words(self, initrd: Path, cmdline: str, descriptor: int, port: int | None = None) -> list[str]:
        """QEMU's command line; with a port of ours, there is a network card, and it leads to the server."""
        return [
            self.qemu,
            *words.kvm(self.accel, MEMORY * words.MIB, self.firmware),
            *words.common(self.image.vmlinux, str(initrd), cmdline),
            *words.port("bench", descriptor, first=True, confidential=False),
            *(words.network([(port, PORT)], confidential=False) if port is not None else ()),
        ]


def machine(setting: Setting) -> Machine:
    """Find QEMU, build the image that `donjon run` is going to find, and see whether KVM works.

    Raises:
        BenchError: one of these is not to be had here.
    """
    from donjon.keep.vm.boot import _qboot

    if setting.donjon is None:
        raise BenchError("a VM Keep's kernel comes with Donjon")
    command = [str(setting.donjon), "image", "build"]
    try:
        found = qemu.find()
        done = subprocess.run(command, env=setting.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"no guest image: {done.stderr.strip()[-300:]}")
        directory = next(line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if "Directory" in line)
        image = store.find_in(directory)
    except DonjonError as error:
        raise BenchError(f"{error}: {error.hint}") from error
    return Machine(found.path, "kvm" if kvm.probe().works else "tcg", image, _qboot(found.path))


def busybox(setting: Setting) -> Path | None:
    """An initramfs with busybox, which writes to the virtio-serial port; None (and a note) without a static busybox."""
    path = shutil.which("busybox")
    if path is None or not static(Path(path).read_bytes()):
        setting.note("the bare kernel was not started: no statically linked busybox (Debian: busybox-static)")
        return None
    entries = {
        "init": cpio.file(INIT, executable=True),
        "bin/busybox": cpio.file(Path(path).read_bytes(), executable=True),
        "dev": cpio.directory(),
    }
    return write(setting, "busybox.cpio", entries)


def static(program: bytes) -> bool:
    """Whether this is an ELF program of 64 bits that asks for no loader (it has no PT_INTERP)."""
    if program[:5] != b"\x7fELF\x02":
        return False
    start, size, count = (
        int.from_bytes(program[at : at + length], "little") for at, length in ((32, 8), (54, 2), (56, 2))
    )
    kinds = (program[start + size * number :][:4] for number in range(count))
    return (3).to_bytes(4, "little") not in kinds


def write(setting: Setting, name: str, entries: Mapping[str, cpio.Entry]) -> Path:
    path = setting.build / name
    path.write_bytes(cpio.write(entries))
    return path


def first_byte(setting: Setting, bare: Machine, initrd: Path, cmdline: str) -> Sample:
    """From starting QEMU to the first byte out of the machine; milliseconds, and QEMU's CPU time until then."""
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as said:
        ours.settimeout(SECONDS)
        begun = time.perf_counter()
        with theirs:
            process = subprocess.Popen(
                bare.words(initrd, cmdline, theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=said, stderr=said, env=setting.environment(),
            )  # fmt: skip
        came, elapsed, cpu = b"", 0.0, None
        try:
            came = ours.recv(1)
            elapsed, cpu = time.perf_counter() - begun, used([process.pid])
        except TimeoutError:
            pass
        finally:
            process.kill()
            process.wait()
        if not came:
            said.seek(0)
            raise BenchError(f"the bare kernel said nothing: {said.read(500).decode(errors='replace')}")
        return Sample(elapsed * 1e3, cpu)


def used(pids: Iterable[int]) -> float | None:
    """CPU time in milliseconds that processes' threads have used; None where the system does not tell."""
    total = 0
    try:
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return total / 1e6


def libraries(program: Path) -> list[Path]:
    """What a dynamically linked program needs, its loader among it, by `ldd`.

    Raises:
        BenchError: one is not there, or there is no `ldd`.
    """
    try:
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"ldd {program}: {error}") from error
    if "not found" in done.stdout:
        raise BenchError(f"ldd {program}: {done.stdout}")
    return [Path(word) for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")]


def server(setting: Setting, bare: Machine, *, tls: bool) -> Path | None:
    """An initramfs with the C server; None (and a note) if it cannot be built here."""
    echo, init = setting.native("echo", tls=tls, port=PORT), setting.native("init", port=PORT)
    if echo is None or init is None:
        return None
    entries = {"init": cpio.file(init.read_bytes(), executable=True), "dev": cpio.directory()}
    entries["echo"] = cpio.file(echo.read_bytes(), executable=True)
    if tls:
        entries |= {path.name: cpio.file(path.read_bytes()) for path in setting.certificate}
        for path in libraries(echo):
            entries[str(path).lstrip("/")] = cpio.file(path.resolve().read_bytes(), executable=True)
    modules = ("failover", "net_failover", "virtio_net")
    for name, entry in cpio.read(Path(bare.image.initrd_raw).read_bytes()):
        if name.startswith("lib/modules/") and Path(name).stem in modules:
            entries[Path(name).name] = entry
    return write(setting, f"echo{'-tls' * tls}.cpio", entries)


@contextmanager
def serving(setting: Setting, bare: Machine, *, tls: bool) -> Iterator[Server | None]:
    """The C server in a virtual machine of its own; None if it cannot be built here."""
    initrd = server(setting, bare, tls=tls)
    if initrd is None:
        yield None
        return
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                bare.words(initrd, bare.image.cmdline, theirs.fileno(), port), pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        try:
            ours.settimeout(SECONDS)
            said = b""
            while not LISTENS.search(said):
                came = ours.recv(4096)
                said += came
                if not came:
                    raise BenchError(
                        f"the C server in a virtual machine does not listen: {said.decode(errors='replace')}"
                    )
            yield Server(NATIVE, process, port)
        finally:
            process.kill()
            process.wait()
