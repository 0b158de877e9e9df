"""What a machine is started with: QEMU, an accelerator, the image, a sallyport, and the words for all that.

Everything that can be wrong with this computer is found here, before a process is started.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from donjon.config._rules import PEM
from donjon.config.models import Config
from donjon.errors import PlatformError, UsageError
from donjon.keep.network import FIRST_PORT, GATE_PORT
from donjon.keep.vm import words
from donjon.log import printable
from donjon.wasm.engine import read
from donjon.workload.tree import CONFIG, MAIN, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from donjon.keep.launch import Launch
    from donjon.keep.vm.process import Process
    from donjon.keep.vm.simulated import Simulated
    from donjon.log import Logger
    from donjon.platform.qemu import Qemu
    from donjon.tee.signatures import Signatures

__all__ = ["Boot"]

MIB = words.MIB
COMPILING = 12
"""Bytes of memory that a byte of a module takes while it is compiled, and afterwards."""
ACCELERATORS = ("auto", "kvm", "tcg")
PORT = "donjon.sallyport"
ROOTS = "roots/"
LONGEST_NAME = 200
SMALLEST = 256 * MIB
"""Bytes of memory with which the image starts and a small workload runs."""
CONFIDENTIAL = 192 * MIB
"""What a confidential machine needs beside: buffers that it shares with its devices (64 MiB), its firmware."""


class Boot:
    """One machine that is about to start; leaving the block gives back what it held.

    Attributes:
        words: QEMU's command line.
        inherited: descriptors that QEMU gets.
        ports: of the guest -> ours on 127.0.0.1, which leads there.
        port: our end of the sallyport.
        files: name -> content of what is handed over.
        descriptor, options: what is launched.
        accel: what a machine of kvm runs on, "kvm" or "tcg"; "" for others.
        how: for a message: what holds the machine.
    """

    def __init__(
        self,
        launch: Launch,
        log: Logger,
        backend: str = "kvm",
        *,
        debug: bool = False,
        accel: str = "auto",
        memory: int | None = None,
        firmware: str | None = None,
        signatures: Signatures | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._held: list[socket.socket] = []
        self._handed: list[socket.socket] = []
        self.inherited: list[int] = []
        self.simulated: Simulated | None = None
        self.accel = ""
        if accel not in ACCELERATORS:
            raise UsageError(f'accelerator: expected {", ".join(ACCELERATORS)}, got "{accel[:20]}"')
        self.files = _files(launch)
        described = launch.describe()
        self.descriptor = described.json()
        self.options = _options(launch, log)
        self.confidential = backend != "kvm"
        if memory is None:
            memory = _memory(launch.config, len(self.files[MAIN]), self.confidential)
        self.memory = memory

        from donjon import image as images
        from donjon.platform import qemu as qemus

        self.qemu = qemu = qemus.find()
        with self._stack:
            if self.confidential:
                own = _confidential(backend, qemu, memory, described.digest(), firmware, debug, signatures)
                self.image = images.find("debug" if debug else "production")
                parts = self.image.kernel, self.image.initrd
                self.how = f"{_name(qemu)} with {backend}"
            else:
                if signatures is not None:
                    raise UsageError("signatures: a machine of kvm is not measured, and none are looked at")
                if firmware is not None:
                    raise UsageError("firmware: a machine of kvm is not measured, and has QEMU's own")
                self.accel, self.how = _accelerator(accel, qemu, log)
                own = words.kvm(self.accel, memory, _qboot(qemu.path))
                if launch.sim is not None:
                    parts = self._simulate(launch, described.digest(), debug)
                else:
                    self.image = images.find("debug" if debug else "production")
                    small = memory < SMALLEST  # what is unpacked already lies there twice for a moment
                    parts = self.image.vmlinux, self.image.initrd if small else self.image.initrd_raw
            self.words = [qemu.path, *own, *words.common(*parts, self.image.cmdline), *self._ports(debug)]
            self.ports = self._reserve(_guest_ports(launch.config))
            if self.ports:
                forwards = [(ours, guest) for guest, ours in self.ports.items()]
                self.words += words.network(forwards, self.confidential)
            self._stack = self._stack.pop_all()

    def _simulate(self, launch: Launch, digest: bytes, debug: bool) -> tuple[str, str]:
        """Have a lab's processor measure the machine; kernel and initramfs as QEMU gets them."""
        from donjon import image as images
        from donjon.keep.vm.simulated import Simulated

        if debug:
            raise UsageError("--debug: the image with simulated hardware has no console", "leave out --sim or --debug")
        self.image = images.find("simulated")
        self.simulated = simulated = Simulated(launch, digest, self.image)
        self._stack.callback(simulated.close)
        self.inherited += simulated.inherited
        self.how += f"; {simulated.processor.tee} is simulated"
        return simulated.kernel, simulated.initrd

    def _ports(self, debug: bool) -> list[str]:
        """Words for the sallyport, and what else is on virtual wires; their ends become attributes."""
        self.port, port = self._pair()
        self.monitor, monitor = self._pair()
        found = [*words.port(PORT, port, first=True, confidential=self.confidential), *words.monitor(monitor)]
        if self.simulated is not None:
            found += self.simulated.words
        self.console: socket.socket | None = None
        if debug:
            self.console, console = self._pair()
            found += words.console(console)
        return found

    def _pair(self) -> tuple[socket.socket, int]:
        """A connection to QEMU: our end, and the descriptor that it inherits."""
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours)
        self._stack.enter_context(theirs)
        self._handed.append(theirs)
        self.inherited.append(theirs.fileno())
        return ours, theirs.fileno()

    def _reserve(self, guest_ports: list[int]) -> dict[int, int]:
        """A free port on 127.0.0.1 for each, which nobody else is given until QEMU listens there.

        Both bind it with SO_REUSEADDR, which is allowed as long as no more than one listens.
        """
        found = {}
        for guest_port in guest_ports:
            held = self._stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            found[guest_port] = held.getsockname()[1]
            self._held.append(held)
        return found

    def resume(self, snapshot: int) -> None:
        """Have the machine go on from where another one was kept, instead of booting; closes the descriptor in time."""
        self._stack.callback(os.close, snapshot)
        self.inherited.append(snapshot)
        self.words += ["-incoming", f"fd:{snapshot}"]

    def start(self) -> Process:
        """Start QEMU. What it inherits is closed here, so that its end shows."""
        from donjon.keep.vm.process import Process

        process = Process(self.words, self.inherited)
        self._stack.callback(process.close)
        for handed in self._handed:
            handed.close()
        if self.simulated is not None:
            self.simulated.started()
        return process

    def greeted(self) -> None:
        """The machine runs, so QEMU listens."""
        for held in self._held:
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def _files(launch: Launch) -> dict[str, bytes]:
    """What is handed over; sets `launch.main`."""
    data = launch.module if isinstance(launch.module, bytes) else read(launch.module)
    launch.main = File.named(MAIN, data)  # of the very bytes that run
    found = {MAIN: data}
    if launch.toml is not None:
        found = {CONFIG: launch.toml, **found}
    elif launch.config != Config():
        raise UsageError(
            "a Keep in a virtual machine gets its configuration as the file that describes it, and there is none",
            "give the path of an Enarx.toml",
        )
    roots = launch.roots()
    inline = {name for name, value in launch.config.roots.items() if PEM in value}
    return {**found, **{f"{ROOTS}{name}": root.data for name, root in roots.items() if name not in inline}}


def _guest_ports(config: Config) -> list[int]:
    """Ports of the guest that have to be reached; where there are none there is no network card."""
    found = [FIRST_PORT + index for index, file in enumerate(config.files) if file.kind == "listen"]
    if config.steward is not None or any(file.kind == "connect" for file in config.files):
        found.append(GATE_PORT)
    return found


def _options(launch: Launch, log: Logger) -> bytes:
    """What the Keep does not have to trust: whose evidence to have, how much to log, what to call the module."""
    import json

    options = {"log": log.levels, "attest": launch.attest, "name": printable(launch.name)[-LONGEST_NAME:]}
    return json.dumps(options).encode()


def _memory(config: Config, size: int, confidential: bool) -> int:
    """Bytes of memory for a machine: the image, what compiling takes, what the guest may have."""
    wanted = SMALLEST + COMPILING * size + (config.limits.memory or 0) + (CONFIDENTIAL if confidential else 0)
    return -(-wanted // MIB) * MIB


def _confidential(
    name: str,
    qemu: Qemu,
    memory: int,
    workload: bytes,
    firmware: str | None,
    debug: bool,
    signatures: Signatures | None,
) -> list[str]:
    """QEMU's words for a machine of a TEE."""
    from donjon.platform.cpuid import cpuid
    from donjon.tee import load_backend

    backend = load_backend(name)
    if backend is None:
        raise UsageError(f"backend {name}: it has no virtual machines")
    backend.requirements(qemu.version)
    return backend.start(
        memory=memory, workload=workload, given=firmware, debug=debug, signatures=signatures, cpuid=cpuid
    )


def _name(qemu: Qemu) -> str:
    return f"QEMU {'.'.join(map(str, qemu.version))}"


def _accelerator(asked: str, qemu: Qemu, log: Logger) -> tuple[str, str]:
    """The accelerator, and what a message says of it."""
    emulated = f"{_name(qemu)}, which emulates the processor (TCG)"
    if asked == "tcg":
        return "tcg", emulated
    from donjon.platform import kvm

    found = kvm.probe()
    if found.works:
        return "kvm", f"{_name(qemu)} with KVM"
    if asked == "kvm":
        raise PlatformError(f"cannot use KVM: {found.problem}", found.hint)
    if found.state == "forbidden":
        log.warn(f"{found.problem}: the machine is emulated, which is slow; {found.hint}", "donjon.keep")
        return "tcg", emulated
    return "tcg", f"{emulated}: {found.problem}"


def _qboot(qemu: str) -> str | None:
    """The small firmware that enters a kernel at once, if this QEMU has it; else it takes its usual one."""
    for base in (os.path.dirname(os.path.dirname(os.path.realpath(qemu))), "/usr"):
        for folder in ("share/qemu", "share/qemu-kvm", "share/qemu-firmware"):
            path = f"{base}/{folder}/qboot.rom"
            if os.path.exists(path):
                return path
    return None
