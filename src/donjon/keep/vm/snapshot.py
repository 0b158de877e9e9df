"""Machines that start where another one was: booted, greeted, kept in a file. For tests and development alone.

    run(launch, log, snapshot_for_tests="build/snapshots")

An emulated machine takes three seconds until it greets, always the same ones. So one is started, and kept when it has
greeted; later ones go on from there, and take what is left: hand over, compile, run.

Copies of a machine have the same randomness, all of it: what one draws, each of them draws. Two of them would make the
same key, and who has the file knows it. Their clocks stand where the first one's stood. So a workload with TLS or a
Steward is refused, as is hardware that gives evidence; and there is no option of the command line for this.

A file holds a machine of one QEMU, one image, and these words of the command line: each combination has a name of its
own. What QEMU reads from it, it believes, so nobody else may have written it: the directory has to be this user's, and
closed to others. It may be removed at any time.

Source: QEMU, docs/interop/qmp-spec.rst; qapi/migration.json (migrate, query-migrate), qapi/misc.json (getfd).
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time

from donjon import files
from donjon.errors import PlatformError, UsageError, words_of
from donjon.log import INFO, printable
from donjon.sallyport import frames
from donjon.sallyport.io import Port
from donjon.sallyport.machine import HostMachine, Lost
from donjon.sums import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.keep.launch import Launch
    from donjon.keep.vm.boot import Boot
    from donjon.log import Logger

__all__ = ["use"]

FORMAT = 1
SUFFIX = ".machine"
LONGEST = 1 << 16
"""Bytes of an answer of QEMU's monitor."""
SAVE_SECONDS = 60.0
NAP = 0.01
FASTEST = 1 << 40
"""Bytes in a second; QEMU spares the network unless it is told otherwise, 128 MiB a second."""
VARYING = re.compile(r"\b(fd=|port)\d+")


def use(
    launch: Launch, boot: Boot, boots: Callable[[], Boot], directory: str, seconds: float, log: Logger
) -> frames.Hello | None:
    """Have a machine go on from a snapshot; where there is none yet, one is made of another machine.

    Args:
        boot: the machine, which was not started.
        boots: makes another like it.
        directory: where snapshots are.
        seconds: until a machine greets.
    Returns:
        What it has said already; None: it boots, as KVM does that as quickly.
    Raises:
        UsageError: it must not start so, or the directory is others' too. PlatformError: it cannot.
    """
    _check(launch, boot)
    if boot.accel == "kvm":
        return None
    path, found = _open(boot, directory)
    if found is None:
        with boots() as another:
            _take(another, path, seconds, log)
        path, found = _open(boot, directory)
        if found is None:
            raise PlatformError(f"the snapshot {path} has gone")
    boot.resume(found)
    return frames.Hello(versions=(frames.VERSION,), variant=boot.image.variant, image=bytes(32))


def _check(launch: Launch, boot: Boot) -> None:
    where = "snapshot_for_tests"
    config = launch.config
    if boot.confidential or launch.sim is not None:
        raise UsageError(f"{where}: a machine that gives evidence has to start from the beginning")
    if boot.console is not None:
        raise UsageError(f"{where}: the image with a console shows how it boots, and would not")
    if config.steward is not None or any(getattr(file, "prot", "tcp") == "tls" for file in config.files):
        raise UsageError(f"{where}: copies of a machine make the same keys, and this workload has TLS or a Steward")
    if boot.ports:
        raise UsageError(f"{where}: a machine with a network starts from the beginning")


def _open(boot: Boot, directory: str) -> tuple[str, int | None]:
    """Where the snapshot of such a machine is, and a descriptor to read it from; None: there is none yet.

    Raises:
        UsageError: somebody else could have put it there. PlatformError: it cannot be read.
    """
    path = f"{os.path.abspath(directory)}/{_name(boot)}{SUFFIX}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _check_own(directory, os.stat(directory), stat.S_IWGRP | stat.S_IWOTH)
        found = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return path, None
    except OSError as error:
        raise PlatformError(f"cannot read the snapshot {path}: {words_of(error)}", "remove it") from error
    try:
        about = os.fstat(found)
        _check_own(path, about, stat.S_IRWXG | stat.S_IRWXO)
        if not stat.S_ISREG(about.st_mode):
            raise UsageError(f"{path}: expected a file", "remove it")
    except UsageError:
        os.close(found)
        raise
    return path, found


def _check_own(name: str, about: os.stat_result, closed: int) -> None:
    if about.st_uid != os.geteuid() or about.st_mode & closed:
        raise UsageError(
            f"{name}: expected what this user alone can write: whoever writes a snapshot decides what runs",
            f"remove it, or chmod go= {name}",
        )


def _name(boot: Boot) -> str:
    about = os.stat(boot.qemu.path)
    program = boot.qemu.version, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
    words = [VARYING.sub(r"\1", word) for word in boot.words]
    return sha256(json.dumps([FORMAT, program, boot.image.digest, words]).encode()).hex()[:32]


def _take(boot: Boot, path: str, seconds: float, log: Logger) -> None:
    """Start the machine, and keep it when it has greeted.

    Args:
        path: of the file, which appears whole.
        seconds: until it greets.
    Raises:
        PlatformError: it does not greet, or cannot be kept. ParseError: it breaks the protocol.
    """
    log.log(INFO, "the machine boots, and is kept for those that come after it", "donjon.keep")
    process = boot.start()
    try:
        _await_hello(boot, seconds)
        with files.replacing(path) as file:
            _save(_Monitor(boot.monitor), file.fileno())
    except OSError as error:
        raise PlatformError(f"cannot keep the machine in {path}: {words_of(error)}") from error
    finally:
        process.close()


def _await_hello(boot: Boot, seconds: float) -> None:
    port = Port(boot.port.fileno(), HostMachine())
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for event in port.step(left):
            if isinstance(event, frames.Hello):
                return
            if isinstance(event, frames.Failed):
                raise event.error()
            if isinstance(event, Lost):
                raise PlatformError("the virtual machine has ended while greeting, and cannot be kept")
    raise PlatformError(f"the virtual machine said nothing for {seconds:g} s", "a slow or busy machine needs longer")


def _save(monitor: _Monitor, file: int) -> None:
    """Have QEMU write the machine's state into a file."""
    monitor.ask("qmp_capabilities")
    monitor.ask("migrate-set-parameters", {"max-bandwidth": FASTEST})
    monitor.ask("getfd", {"fdname": "snapshot"}, file)
    monitor.ask("migrate", {"uri": "fd:snapshot"})
    while (state := monitor.ask("query-migrate").get("status")) != "completed":
        if state not in ("setup", "active", "device", "pre-switchover"):
            raise PlatformError(f"QEMU cannot keep the machine: its state is {printable(str(state)[:40])}")
        time.sleep(NAP)


class _Monitor:
    """QEMU's monitor, asked one thing after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._end = time.monotonic() + SAVE_SECONDS
        self._held = b""

    def ask(self, command: str, arguments: dict[str, object] | None = None, descriptor: int = -1) -> dict[str, object]:
        """What it answers.

        Raises:
            PlatformError: it refuses, says nothing in time, or nonsense.
        """
        words = json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n"
        socket.send_fds(self._connection, [words], [descriptor] if descriptor >= 0 else [])
        while True:
            said = self._line()
            if "error" in said:
                raise PlatformError(f"QEMU's monitor: {command}: {printable(str(said['error'])[:200])}")
            if "return" in said:
                found = said["return"]
                return found if isinstance(found, dict) else {}

    def _line(self) -> dict[str, object]:
        while b"\n" not in self._held:
            self._connection.settimeout(max(0.001, self._end - time.monotonic()))
            data = self._connection.recv(LONGEST)
            self._held += data
            if not data or len(self._held) > LONGEST:
                raise PlatformError("QEMU's monitor has ended, or says too much")
        line, _, self._held = self._held.partition(b"\n")
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PlatformError("QEMU's monitor: expected JSON, got something else") from error
        return said if isinstance(said, dict) else {}
