"""Keeps as processes of their own: start, feed, watch and stop them from Python."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from donjon.errors import BugError, DonjonError, ParseError, PlatformError, UsageError, words_of
from donjon.keep.channel import error_from, number_in, orders_for, out_of_processor_time, parse, receive
from donjon.keep.launch import TSM, Launch
from donjon.keep.sandbox import MODES
from donjon.log import QUIET, Logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import BinaryIO, Literal, Self

    from donjon.config.models import Config

    Stream = Literal["pipe", "inherit", "null"] | int

__all__ = ["Keep", "Result", "WarmParent", "run"]

START_SECONDS = 120.0
"""The longest that a Keep may take until its guest starts; compiling the largest known module takes 20 s."""
MACHINE_SECONDS = 600.0
"""The same in a virtual machine, which may be emulated, and everything with it."""
GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL; SIGTERM needs no grace from a guest, which does not see it."""
CATCH_UP_SECONDS = 0.2
"""How long records that have come are read at once; a Keep that logs without end would never let go."""
FAREWELL_SECONDS = 5.0
"""Between a Keep's last record and the end of its process."""
MOST_LISTENERS = 1024
"""As many as a configuration may have files."""


class Keep:
    """A running workload in a process of its own.

    Leaving a `with` block stops it. Whatever becomes of the process that made it, the Keep does not outlive it; on
    macOS, if that process is killed, the Keep ends with its guest.

    Attributes:
        listeners: name in the configuration -> (host, port) really bound, for each `listen`; of several with the same
            name, the last.
        stdin: binary stream to the guest, if it was started with "pipe"; else None.
        stdout, stderr: binary streams from the guest, likewise. A guest that writes more than a pipe holds (64 KiB)
            waits until it is read.
        pid: of the process.
    """

    def __init__(self, channel: socket.socket, process: subprocess.Popen[bytes] | None, log: Logger) -> None:
        self.listeners: dict[str, tuple[str, int]] = {}
        self.stdin: BinaryIO | None = None
        self.stdout: BinaryIO | None = None
        self.stderr: BinaryIO | None = None
        self.pid = process.pid if process is not None else 0
        self._channel = channel
        self._process = process
        self._log = log
        self._held = bytearray()
        self._patience = START_SECONDS
        self._ready = False
        self._stopped = 0
        self._signal = 0
        self._code: int | None = None
        self._error: DonjonError | None = None

    @classmethod
    def start(
        cls,
        module: str | bytes | os.PathLike[str],
        config: Config | str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        stdin: Stream = "pipe",
        stdout: Stream = "pipe",
        stderr: Stream = "pipe",
        attest: str = "auto",
        sim: str | os.PathLike[str] | None = None,
        tsm: str = TSM,
        log: Logger = QUIET,
        log_filter: str = "info",
        sandbox: str = "auto",
        backend: str = "nil",
    ) -> Keep:
        """Start a workload; returns when its sockets are open and the guest is about to run.

        Args:
            module: path of a .wasm or .wat file, or the bytes of one.
            config: a `donjon.Config`, or the path of an Enarx.toml; None: standard streams and nothing else.
            args, env: in addition to the configuration's.
            stdin, stdout, stderr: "pipe" (the Keep's attribute), "inherit", "null", or a descriptor.
            attest, sim, tsm: whose evidence its identity has; as the options of `donjon run`.
            log: gets what the Keep logs, whenever `wait`, `poll` or `stop` is called.
            log_filter: what the Keep logs at all.
            sandbox: "auto", "on" or "off"; as the option of `donjon run`.
            backend: "nil", or what holds its virtual machine: "kvm", "snp", "tdx". The configuration is a file then.
        Raises:
            DonjonError: of the family whose fault it is: no such file, not a module, port taken, ...
        """
        launch = _launch(module, config, args, env, attest, sim, tsm)
        return cls.start_launch(launch, stdin, stdout, stderr, log, log_filter, sandbox, backend)

    @classmethod
    def start_launch(
        cls,
        launch: Launch,
        stdin: Stream = "pipe",
        stdout: Stream = "pipe",
        stderr: Stream = "pipe",
        log: Logger = QUIET,
        log_filter: str = "info",
        sandbox: str = "auto",
        backend: str = "nil",
    ) -> Keep:
        """`start`, with everything about the workload in one value."""
        _check_mode(sandbox)
        if backend != "nil":
            _check_machine(launch, backend)
        channel, process = _spawn(stdin, stdout, stderr)
        keep = cls(channel, process, log)
        keep._patience = START_SECONDS if backend == "nil" else MACHINE_SECONDS
        keep.stdin, keep.stdout, keep.stderr = process.stdin, process.stdout, process.stderr  # type: ignore[assignment]
        orders = orders_for(launch, _absolute(launch.module), log_filter, sandbox=sandbox, backend=backend)
        keep._give_orders(orders)
        return keep

    def _give_orders(self, orders: bytes) -> None:
        try:
            self._channel.sendall(orders)
        except OSError:
            pass  # it died at once: the records, or their absence, tell why
        self._await_ready()

    def _await_ready(self) -> None:
        end = time.monotonic() + self._patience
        while not self._ready and self._read(end - time.monotonic()):
            pass
        if self._error is None and (self._ready or self._code is not None):
            return  # it runs, or its module's start function ended it already, which is no mistake
        if self._error is None:
            self._fail(PlatformError(f"the Keep did not start within {self._patience:g} s"))
        error = self._error
        self.close()
        if error is not None:
            raise error

    # ---- watching

    def poll(self) -> int | None:
        """The exit code if the Keep has ended, else None. Raises as `wait` does."""
        self._catch_up()
        return self._outcome()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Args:
            timeout: seconds at most; None, without end.
        Returns:
            The guest's exit code; after `stop`, 128 plus the number of the signal that it took.
        Raises:
            TrapError: the guest trapped, or used up its processor time.
            TimeoutError: it still runs.
            DonjonError: of another family: the Keep failed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self._outcome()) is None:
            if not self._read(None if end is None else end - time.monotonic()) and self._outcome() is None:
                raise TimeoutError(f"the Keep still runs after {timeout:g} s")
        return code

    def _ended(self) -> bool:
        return self._code is not None or self._error is not None

    def _outcome(self) -> int | None:
        if self._error is not None:
            raise self._error
        return self._code

    def _catch_up(self) -> None:
        """Take in what has come, but not for ever from a Keep that never stops sending."""
        end = time.monotonic() + CATCH_UP_SECONDS
        while time.monotonic() < end and self._read(0.0):
            pass

    def _read(self, seconds: float | None) -> bool:
        """Take in a record, or the end of records; False: nothing came in time, or nothing more will.

        Args:
            seconds: at most; less than 0 is too late even for what has come already.
        """
        if self._ended() or (seconds is not None and seconds < 0):
            return False
        try:
            return self._read_record(seconds)
        except ParseError as error:
            self._fail(error)
            return True

    def _read_record(self, seconds: float | None) -> bool:
        while (line := receive(self._held)) is None:
            poller = select.poll()
            poller.register(self._channel, select.POLLIN)
            if not poller.poll(None if seconds is None else seconds * 1000):
                return False
            try:
                data = self._channel.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                self._gone()
                return True
            self._held += data
        self._take(parse(line))
        return True

    def _take(self, fields: list[str]) -> None:
        match fields:
            case ["log", level, target, text]:
                self._log.log(max(1, number_in(level, 5)), text, target)
            case ["listening", name, host, port] if not self._ready and len(self.listeners) < MOST_LISTENERS:
                self.listeners[name] = (host, number_in(port, 65535))
            case ["pid", pid] if not self._ready:
                self.pid = self.pid or number_in(pid, 1 << 22)
            case ["ready"]:
                self._ready = True
            case ["exit", code]:
                self._code = number_in(code, 255)
                self._reap()
            case ["error", *_]:
                self._error = error_from(fields)
                self._reap()
            case ["signal", which] if self._process is None:
                self._signal = number_in(which, 64)
            case _:
                raise ParseError(f'record of a Keep: expected one that it may send now, got "{fields[0][:20]}"')

    def _fail(self, error: DonjonError) -> None:
        """It broke the rules: whatever it is by now, it must not go on."""
        self._error = error
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        elif self.pid:
            _kill(self.pid, signal.SIGKILL)

    def _gone(self) -> None:
        """The channel ended without a last word: a signal ended the process."""
        number = self._signal or self._stopped
        if self._process is not None:
            number = -self._reap()
        if number == signal.SIGPROF:
            self._error = out_of_processor_time()
        elif number > 0 and (self._stopped or number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)):
            self._code = 128 + number
        else:
            self._error = BugError(
                f"the Keep's process ended by signal {number}" if number > 0 else "the Keep's process vanished"
            )

    def _reap(self) -> int:
        """Wait for the process, whose last word was heard; one that does not end then is killed."""
        if self._process is None:
            return 0
        try:
            return self._process.wait(FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    # ---- stopping

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End the Keep, whatever its guest is doing; does nothing if it has ended. `wait` tells how.

        Args:
            grace: seconds until the process is killed if it does not end.
        """
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            self._catch_up()
            if not self._ended() and self.pid:
                self._stopped = number
                _kill(self.pid, number)  # it lives, or its end of the channel would be closed
                end = time.monotonic() + seconds
                while self._read(end - time.monotonic()):
                    pass

    def close(self) -> None:
        """Stop the Keep and give back its streams; leaving a `with` block does the same. `wait` still tells how it
        ended."""
        self.stop(0.5)
        self._channel.close()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # what was written last and never read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Result:
    """How a workload ended that ran to its end.

    Attributes:
        code: the guest's exit code.
        stdout, stderr: what it wrote.
    """

    __slots__ = ("code", "stderr", "stdout")

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"Result(code={self.code}, stdout={self.stdout[:80]!r}, stderr={self.stderr[:80]!r})"


def run(
    module: str | bytes | os.PathLike[str],
    config: Config | str | os.PathLike[str] | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
    attest: str = "auto",
    sim: str | os.PathLike[str] | None = None,
    tsm: str = TSM,
    log: Logger = QUIET,
    sandbox: str = "auto",
    backend: str = "nil",
) -> Result:
    """Run a workload to its end and collect what it writes.

    Args:
        stdin: what the guest reads there.
        timeout: seconds at most.
        attest, sim, tsm, sandbox, backend: as `Keep.start`.
    Raises:
        TrapError, DonjonError, TimeoutError: as `Keep.start` and `Keep.wait`.
    """
    with Keep.start(
        module, config, args, env, attest=attest, sim=sim, tsm=tsm, log=log, sandbox=sandbox, backend=backend
    ) as keep:
        assert keep._process is not None  # noqa: S101 - Keep.start always makes one
        try:
            stdout, stderr = keep._process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the Keep still runs after {timeout:g} s") from None
        return Result(keep.wait(timeout), stdout, stderr)


class WarmParent:
    """A process that has a module compiled and everything loaded, and is forked for each Keep: 1 to 2 ms instead of 20.

        with WarmParent("app.wasm") as parent:
            with parent.start(args=["7"]) as keep: ...

    Keeps started from it stop when they are stopped; closing the parent does not stop them.

    Raises:
        DonjonError: as `Keep.start`, for the module.
    """

    def __init__(self, module: str | bytes | os.PathLike[str]) -> None:
        self._module = os.fspath(module) if not isinstance(module, bytes) else module
        self._turn = threading.Lock()  # several threads may start Keeps
        self._channel, self._process = _spawn("null", "inherit", "inherit")
        first = Keep(self._channel, self._process, QUIET)
        first._give_orders(orders_for(Launch(self._module), _absolute(self._module), "off", warm=True))

    def start(
        self,
        config: Config | str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        *,
        stdin: Stream = "pipe",
        stdout: Stream = "pipe",
        stderr: Stream = "pipe",
        attest: str = "auto",
        sim: str | os.PathLike[str] | None = None,
        tsm: str = TSM,
        log: Logger = QUIET,
        log_filter: str = "info",
        sandbox: str = "auto",
    ) -> Keep:
        """Start one more Keep with this module; as `Keep.start`."""
        launch = _launch(self._module, config, args, env, attest, sim, tsm)
        _check_mode(sandbox)
        for choice in (stdin, stdout, stderr):
            _choice(choice)
        ours, theirs = _pair()
        keep = Keep(ours, None, log)
        opened: list[int] = []
        try:
            descriptors = []
            for name, choice in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                descriptor, stream = _stream(name, choice, opened)
                descriptors.append(descriptor)
                setattr(keep, name, stream)
            orders = orders_for(launch, b"", log_filter, sandbox=sandbox)
            try:
                with self._turn:
                    socket.send_fds(self._channel, [orders[:8]], [*descriptors, theirs.fileno()])
                    self._channel.sendall(orders[8:])
            except OSError as error:
                raise PlatformError(f"the warm parent is gone: {words_of(error)}") from error
        except BaseException:
            keep.close()
            raise
        finally:
            theirs.close()
            for descriptor in opened:
                os.close(descriptor)
        keep._await_ready()
        return keep

    def close(self) -> None:
        """End the parent."""
        self._channel.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _launch(
    module: str | bytes | os.PathLike[str],
    config: Config | str | os.PathLike[str] | None,
    args: Sequence[str],
    env: Mapping[str, str] | None,
    attest: str,
    sim: str | os.PathLike[str] | None,
    tsm: str,
) -> Launch:
    path = module if isinstance(module, bytes) else os.fspath(module)
    given = os.fspath(config) if isinstance(config, os.PathLike) else config
    return Launch(path, given, args, env, attest, None if sim is None else os.path.abspath(os.fspath(sim)), tsm)


def _check_machine(launch: Launch, backend: str) -> None:
    """What can be seen before a process is started."""
    from donjon.platform import BACKENDS

    if backend == "auto" or backend not in BACKENDS:
        expected = ", ".join(name for name in BACKENDS if name != "auto")
        raise UsageError(f'backend: expected {expected}, got "{backend[:20]}"')
    if launch.tsm != TSM:
        raise UsageError(f"tsm: a Keep in a virtual machine ({backend}) has the evidence of that")
    if launch.sim is not None and backend != "kvm":
        raise UsageError(f"sim: a machine of {backend} has real hardware", "simulated hardware is for kvm")
    launch.check_enclosed()


def _check_mode(sandbox: str) -> None:
    if sandbox not in MODES:
        raise UsageError(f'sandbox: expected "auto", "on" or "off", got "{sandbox[:20]}"')


def _absolute(module: str | bytes) -> str | bytes:
    return module if isinstance(module, bytes) else os.path.abspath(module)


def _spawn(stdin: Stream, stdout: Stream, stderr: Stream) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A fresh process that waits for its orders on the channel, whose descriptor is its argument."""
    standard = [_choice(stream) for stream in (stdin, stdout, stderr)]
    ours, theirs = _pair()
    script = os.path.join(os.path.dirname(__file__), "_child.py")
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(theirs.fileno())],
            stdin=standard[0],
            stdout=standard[1],
            stderr=standard[2],
            pass_fds=[theirs.fileno()],
            bufsize=0,
            close_fds=True,
        )
    except OSError as error:
        ours.close()
        raise PlatformError(f"cannot start a process for the Keep: {words_of(error)}") from error
    finally:
        theirs.close()
    return ours, process


def _pair() -> tuple[socket.socket, socket.socket]:
    """The channel's two ends, neither of them on a number that means a standard stream to the process that gets it."""
    low: list[socket.socket] = []
    pair = socket.socketpair()
    while any(end.fileno() <= 2 for end in pair):  # this process runs without standard streams
        low += pair
        pair = socket.socketpair()
    for end in low:
        end.close()
    return pair


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _choice(stream: Stream) -> int | None:
    if isinstance(stream, int):
        return stream
    try:
        return {"pipe": subprocess.PIPE, "inherit": None, "null": subprocess.DEVNULL}[stream]
    except KeyError:
        raise UsageError(f'stream {stream!r}: expected "pipe", "inherit", "null" or a descriptor') from None


def _stream(name: str, choice: Stream, opened: list[int]) -> tuple[int, BinaryIO | None]:
    """The descriptor that the Keep gets for a standard stream, and our end of it; what was opened for it goes to
    `opened`."""
    if isinstance(choice, int):
        return choice, None
    if _choice(choice) is None:
        return ("stdin", "stdout", "stderr").index(name), None
    if choice == "null":
        opened.append(os.open(os.devnull, os.O_RDWR))
        return opened[-1], None
    reader, writer = os.pipe()
    opened.append(reader if name == "stdin" else writer)
    return opened[-1], os.fdopen(writer, "wb", 0) if name == "stdin" else os.fdopen(reader, "rb", 0)
