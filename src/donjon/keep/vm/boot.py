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
    from donjon.log import Logger

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


class Boot:
    """One machine that is about to start; leaving the block gives back what it held.

    Attributes:
        words: QEMU's command line.
        inherited: descriptors that QEMU gets.
        ports: of the guest -> ours on 127.0.0.1, which leads there.
        port: our end of the sallyport.
        files: name -> content of what is handed over.
        descriptor, options: what is launched.
        how: for a message: what holds the machine.
    """

    def __init__(
        self, launch: Launch, log: Logger, backend: str, variant: str | None, accel: str, memory: int | None
    ) -> None:
        self._launch = launch
        self._stack = ExitStack()
        self.inherited: list[int] = []
        self._held: list[socket.socket] = []
        if backend != "kvm":
            raise UsageError(f'backend: expected kvm, got "{backend[:20]}"')
        if accel not in ACCELERATORS:
            raise UsageError(f'accelerator: expected {", ".join(ACCELERATORS)}, got "{accel[:20]}"')
        self.files = _files(launch)
        described = launch.describe()
        self.descriptor = described.json()
        self.options = _options(launch, log)

        from donjon import image as images
        from donjon.platform import qemu as qemus

        self.qemu = qemus.find()
        self.image = images.find(variant or "production")
        self.accel, why = _accelerator(accel)
        self.how = f"QEMU {'.'.join(map(str, self.qemu.version))}"
        if self.accel == "tcg":
            self.how += f", which emulates the processor (TCG){': ' + why if why else ''}"
        else:
            self.how += " with KVM"
        self.memory = memory if memory is not None else _memory(launch.config, len(self.files[MAIN]))
        self.port, theirs = socket.socketpair()
        self._stack.enter_context(self.port)
        self._stack.enter_context(theirs)
        self._handed = [theirs]
        self.ports = self._reserve(_guest_ports(launch.config))
        self.words = [
            self.qemu.path,
            *words.kvm(self.accel, self.memory, _qboot(self.qemu.path)),
            *words.common(self.image.vmlinux, self.image.initrd_raw, self.image.cmdline),
            *words.port(PORT, self._inherit(theirs.fileno()), first=True, confidential=False),
        ]
        if self.ports:
            self.words += words.network([(ours, guest) for guest, ours in self.ports.items()], confidential=False)

    def _inherit(self, descriptor: int) -> int:
        self.inherited.append(descriptor)
        return descriptor

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

    def started(self) -> None:
        """QEMU has what it inherits: it is closed here, so that its end shows."""
        for handed in self._handed:
            handed.close()

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


def _memory(config: Config, size: int) -> int:
    """Bytes of memory for a machine: the image, what compiling takes, what the guest may have."""
    wanted = SMALLEST + COMPILING * size + (config.limits.memory or 0)
    return -(-wanted // MIB) * MIB


def _accelerator(asked: str) -> tuple[str, str]:
    """The accelerator, and why not another."""
    if asked == "tcg":
        return "tcg", ""
    from donjon.platform import kvm

    found = kvm.probe()
    if found.works:
        return "kvm", ""
    if asked == "kvm":
        raise PlatformError(f"cannot use KVM: {found.problem}", found.hint)
    return "tcg", found.problem


def _qboot(qemu: str) -> str | None:
    """The small firmware that enters a kernel at once, if this QEMU has it; else it takes its usual one."""
    for base in (os.path.dirname(os.path.dirname(os.path.realpath(qemu))), "/usr"):
        for folder in ("share/qemu", "share/qemu-kvm", "share/qemu-firmware"):
            path = f"{base}/{folder}/qboot.rom"
            if os.path.exists(path):
                return path
    return None
