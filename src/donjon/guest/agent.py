"""The agent: the Keep's end of the sallyport, and the only process inside that may touch a device.

Three kinds of processes share the machine. The agent is process 1 and root: it parses frames and the launch descriptor,
and nothing of the workload's. The Keep is a fork that becomes a user without any right, and only then reads Enarx.toml,
compiles and runs (`donjon.guest.keep`). A maker of keys is a third user's: it has the network and asks the agent for
evidence. So who breaks out of the engine has the Keep's present key, which the workload could use anyway, and neither
process 1 nor the hardware's device; renewals are made by makers too, each with a fresh key.

What the host sees: every frame. Of a Keep without a TEE that is everything. In a TEE, unless the descriptor says
`output`, nothing that the workload writes: its standard streams end inside. Until the workload starts, messages about
the launch leave, as the host has handed over all that they are made of; after that its exit code does, listeners'
addresses, whom it connects to, which certificate evidence lacks, and of an error one fixed sentence for its family.

A host that is silent, lies or goes away ends the Keep: all that comes before the start has one deadline together, so
that no trickle makes it longer; every violation of the protocol and the end of the port is the end here. A host that
does not read makes the workload wait, as a pipe does; once it has asked for the end, what it does not read is dropped.
"""

from __future__ import annotations

import _socket
import os
import select
import time
from io import BytesIO

from donjon.errors import BugError, DonjonError, ParseError, PlatformError, TrapError
from donjon.guest.broker import Broker
from donjon.guest.requests import pair
from donjon.guest.workload import Workload, read_options
from donjon.keep import channel as records
from donjon.keep.network import FIRST_PORT, GATE_PORT, GUEST_ADDRESS, GUEST_GATEWAY
from donjon.sallyport import frames
from donjon.sallyport.io import Port
from donjon.sallyport.machine import STDERR, STDIN, STDOUT, FileDone, GuestMachine, Launched, Lost, Violation
from donjon.workload import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Agent", "Place"]

HANDOVER_SECONDS = 120.0
"""For the host, from the greeting until all is handed over."""
FLUSH_SECONDS = 10.0
"""For the last words, and then for what is still on its way through the network."""
GRACE_SECONDS = 2.0
"""For a workload that was asked to end, and then once more for what it has written."""
MOST_BYTES = 128 << 20
"""Of the package, in a machine that has three times as much."""
PIECE = 1 << 16
MARKS = ("launch", "compile", "open", "run")
"""Moments that a Keep's process may tell."""
SIGPROF, SIGKILL, SIGTERM = 27, 9, 15
HIDDEN = "what the workload says of it does not leave a confidential Keep"
HIDDEN_HINT = "launch it with --output to see more; that is another workload to whoever verifies it"


class Place:
    """Where the agent runs, and with what.

    Args:
        variant: of the image.
        tee: whose hardware this is; None where it is none.
        tsm: where configfs-tsm is.
        network: whether there is a network card.
        confined: whether the workload's processes become other users, which only root can have.
        problem: why no Keep may start here.
        facts: about the kernel, for the log.
        memory: of the machine, in bytes; None where it is not this agent's.
        named: what the launcher has named, known by a way that is not the host's; None leaves it to the evidence.
        address, gateway, gate_port, first_port: of the network.
    """

    def __init__(
        self,
        variant: str = "production",
        tee: str | None = None,
        tsm: str = "/nonexistent",
        network: bool = False,
        confined: bool = False,
        problem: str | None = None,
        facts: str = "",
        memory: int | None = None,
        named: bytes | None = None,
        address: str = GUEST_ADDRESS,
        gateway: str = GUEST_GATEWAY,
        gate_port: int = GATE_PORT,
        first_port: int = FIRST_PORT,
    ) -> None:
        self.variant, self.tee, self.tsm = variant, tee, tsm
        self.network, self.confined, self.problem, self.facts = network, confined, problem, facts
        self.memory, self.named, self.address, self.gateway = memory, named, address, gateway
        self.gate_port, self.first_port = gate_port, first_port


class _EndError(Exception):
    """The session is over: the last word was said, or nobody listens."""


class Agent:
    """One session.

    Args:
        descriptor: of the port.
        marks: what has been timed so far.
        virtio: whether it is a virtio-serial port, whose other end may still be closed.
    """

    def __init__(
        self, descriptor: int, place: Place, marks: Sequence[tuple[str, int]] = (), virtio: bool = False
    ) -> None:
        third = MOST_BYTES if place.memory is None else min(MOST_BYTES, place.memory // 3)
        self._machine = GuestMachine(most_bytes=third)
        if virtio:
            from donjon.sallyport.io import connect

            connect(descriptor, HANDOVER_SECONDS)
        self._port = Port(descriptor, self._machine, virtio=virtio)
        self._place = place
        self._marks = marks
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._pid = 0
        self._status: int | None = None
        self._pidfd = -1
        self._started = self._secret = self._stopped = False
        self._kill_at = 0.0
        self._word: list[str] | None = None
        self._held = bytearray()
        self._outputs: dict[int, int] = {}  # pipe of the Keep's -> stream
        self._input = bytearray()
        self._input_ended = False
        self._stdin = -1
        self._shown = True

    def run(self) -> None:
        """Speak with the host, run its workload, say how it ended."""
        try:
            self._hand_over()
            while True:
                self._turn()
        except _EndError:
            pass
        except BaseException as error:
            try:
                self._fail(error if isinstance(error, DonjonError) else BugError(f"{type(error).__name__}: {error}"))
            except DonjonError:
                pass  # the session is over already
        finally:
            if self._pid and self._status is None:
                os.kill(self._pid, SIGKILL)
            if self._port.flush(FLUSH_SECONDS) and self._place.network:
                self._await_host()

    def _await_host(self) -> None:
        """Until the host closes the port, as it does when it has read all that came by the network.

        What the workload has sent is in this kernel's buffers still, and would end with it.
        """
        end = time.monotonic() + FLUSH_SECONDS
        try:
            while not self._port.ended and (left := end - time.monotonic()) > 0:
                self._port.step(left)
        except DonjonError:
            pass  # after the last word, it may say what it likes

    # ---- until the workload starts

    def _next(self, *kinds: type) -> object:
        """The host's next event, of one of these kinds."""
        while not self._events:
            left = self._deadline - time.monotonic()
            if left <= 0:
                state = self._machine.state.value
                raise PlatformError(
                    f"the host has not handed over the launch within {HANDOVER_SECONDS:g} s (it was {state})"
                )
            self._events += self._port.step(left)
        event = self._events.pop(0)
        if isinstance(event, Lost):
            raise _EndError
        if isinstance(event, frames.Stop):
            raise PlatformError("stopped before the workload started")
        if not isinstance(event, kinds):
            raise ParseError(f"sallyport: expected {kinds[0].__name__}, got {type(event).__name__}")
        return event

    def _hand_over(self) -> None:
        self._events: list[object] = []
        self._deadline = time.monotonic() + HANDOVER_SECONDS
        machine, place = self._machine, self._place
        machine.hello(place.variant)
        launched = self._next(Launched)
        assert isinstance(launched, Launched)  # noqa: S101 - as asked for
        for name, moment in self._marks:
            machine.mark(name, moment)
        try:
            if place.problem is not None:
                raise PlatformError(place.problem, "this Keep does not start here")
            descriptor = Descriptor.read(launched.descriptor)
            options = read_options(launched.options)
            if place.tee is not None:
                self._check_named(descriptor.digest())
        except DonjonError as error:
            machine.refuse(error)
            raise _EndError from error
        machine.accept()
        if place.facts:
            machine.log(4, "donjon.guest", place.facts)
        self._shown = place.tee is None or descriptor.output
        workload = Workload(descriptor, options, self._files())
        self._start(workload)

    def _files(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        data = BytesIO()
        while True:
            event = self._next(frames.File, frames.Chunk, FileDone, frames.Start)
            if isinstance(event, frames.Chunk):
                data.write(event.data)
            elif isinstance(event, FileDone):
                found[event.name] = data.getvalue()  # which shares its memory: there is no room for a module twice
                data = BytesIO()
            elif isinstance(event, frames.Start):
                return found

    def _check_named(self, digest: bytes) -> None:
        from donjon.guest.evidence import check_named

        check_named(self._place, digest)
        self._machine.mark("attest", time.monotonic_ns())

    # ---- processes

    def _start(self, workload: Workload) -> None:
        from donjon.guest.keep import be_keep

        self._broker = Broker(self._machine, self._place, workload, self._watch, self._unwatch)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        stdin, self._stdin = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        ours, theirs = _socket.socketpair()
        asked, asks = pair()
        stdio = (stdin, out_end if self._shown else null, err_end if self._shown else null)
        self._kills = _kills()
        self._pid = os.fork()
        if self._pid == 0:
            be_keep(workload, self._place, stdio, theirs.fileno(), asks)
        for end in (stdin, out_end, err_end, null):
            os.close(end)
        theirs.close()
        asks.close()
        workload.forget_module()
        for descriptor in (self._stdin, out, err):
            os.set_blocking(descriptor, False)
        self._channel = ours
        self._broker.serve(asked)
        self._outputs = {out: STDOUT, err: STDERR}
        self._watch(out, select.POLLIN, lambda events: self._output(out, STDOUT, events))
        self._watch(err, select.POLLIN, lambda events: self._output(err, STDERR, events))
        self._watch(ours.fileno(), select.POLLIN, lambda _: self._record())
        self._pidfd = os.pidfd_open(self._pid)
        self._watch(self._pidfd, select.POLLIN, lambda _: self._forget(self._pidfd))  # to wake up when it ends

    def _watch(self, descriptor: int, mask: int, act: Callable[[int], None]) -> None:
        self._watched[descriptor] = (mask, act)

    def _unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]

    def _forget(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None:
            os.close(descriptor)

    def _turn(self) -> None:
        """Wait, and do what there is to do."""
        poller = select.poll()
        poller.register(self._port.fileno(), self._port.mask)
        for descriptor, (mask, _) in self._watched.items():
            if descriptor in self._outputs and self._started and not self._room(descriptor):
                continue
            poller.register(descriptor, mask)
        if self._input and self._stdin >= 0:
            poller.register(self._stdin, select.POLLOUT)
        ready = dict(poller.poll(500))
        known = dict(self._watched)
        if self._port.fileno() in ready:
            for event in self._port.receive():
                self._take(event)
        for descriptor, events in ready.items():
            if descriptor == self._stdin:
                self._feed()
            elif descriptor in known and self._watched.get(descriptor) is known[descriptor]:  # not another's by now
                known[descriptor][1](events)
        self._look_after()
        self._port.send()

    def _room(self, descriptor: int) -> int:
        return self._machine.room(self._outputs[descriptor])

    def _look_after(self) -> None:
        """Time that is over, and processes that have ended."""
        now = time.monotonic()
        if self._stopped and self._status is None and now > self._kill_at:
            os.kill(self._pid, SIGKILL)
        self._broker.look_after(now)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid == self._pid:
                self._status = status
        if self._status is None:
            return
        overdue = self._stopped and now > self._kill_at + GRACE_SECONDS  # the host wants the end, and reads no more
        if overdue or (not self._outputs and self._channel.fileno() not in self._watched):
            self._end()

    # ---- the host's events

    def _take(self, event: object) -> None:
        if isinstance(event, frames.Stdin):
            self._input += event.data
            self._feed()
        elif isinstance(event, frames.End):
            self._input_ended = True
            self._feed()
        elif isinstance(event, frames.Gone):
            for descriptor in sorted(self._outputs):
                if self._outputs[descriptor] == event.stream:
                    self._outputs_end(descriptor)
        elif isinstance(event, frames.Stop):
            self._stopped = True
            self._kill_at = time.monotonic() + GRACE_SECONDS
            if self._status is None:
                os.kill(self._pid, SIGTERM)
        elif isinstance(event, Lost):
            raise _EndError
        else:
            self._broker.take(event)

    def _feed(self) -> None:
        """Give the workload what the host has sent for its stdin."""
        if self._stdin < 0:
            self._machine.consumed(STDIN, len(self._input))
            self._input.clear()
            return
        try:
            while self._input:
                done = os.write(self._stdin, self._input)
                del self._input[:done]
                self._machine.consumed(STDIN, done)
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input_ended = True
            self._machine.gone(STDIN)
            self._input.clear()
        if self._input_ended:
            os.close(self._stdin)
            self._stdin = -1

    # ---- the Keep

    def _output(self, descriptor: int, stream: int, events: int) -> None:
        if not self._started:
            if not events & select.POLLIN:  # it has ended without a word: there is no stream to end either
                self._outputs_end(descriptor)
                return
            self._begin()
        room = self._machine.room(stream)
        if not room:
            return
        try:
            data = os.read(descriptor, min(room, PIECE))
        except BlockingIOError:
            return
        if data:
            self._machine.write(stream, data)
            return
        self._machine.end(stream)
        self._outputs_end(descriptor)

    def _outputs_end(self, descriptor: int) -> None:
        self._outputs.pop(descriptor, None)
        self._forget(descriptor)

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._machine.started()

    def _record(self) -> None:
        try:
            data = self._channel.recv(PIECE)
        except ConnectionResetError:
            data = b""
        if not data:
            del self._watched[self._channel.fileno()]  # it stays open, so that its number is nobody else's
            return
        self._held += data
        while (line := records.receive(self._held)) is not None:
            self._heard(records.parse(line))

    def _heard(self, fields: list[str]) -> None:
        match fields:
            case ["log", level, target, text]:
                if not self._secret:
                    self._machine.log(max(1, records.number_in(level, 5)), target, text)
            case ["mark", name, moment]:
                if not self._secret and name in MARKS and moment.isascii() and moment.isdigit() and len(moment) < 20:
                    self._machine.mark(name, int(moment))
            case ["open"]:
                self._secret = not self._shown
            case ["ready"]:
                self._begin()
            case ["exit", code]:
                records.number_in(code, 255)
                self._word = fields
            case ["error", *_]:
                self._word = fields
            case _:
                raise ParseError(f'record of a Keep: expected one that it may send, got "{fields[0][:20]}"')

    def _end(self) -> None:
        """The Keep is no more: say how it ended."""
        assert self._status is not None  # noqa: S101 - the caller has seen it
        machine = self._machine
        number = os.WTERMSIG(self._status) if os.WIFSIGNALED(self._status) else 0
        if self._word is not None and self._word[0] == "exit":
            self._begin()
            machine.exit(int(self._word[1]))
        elif self._word is not None:
            self._fail(records.error_from(self._word))
        elif number == SIGPROF:
            self._fail(records.out_of_processor_time())
        elif self._stopped:
            self._begin()
            machine.exit(128 + (number or SIGTERM))
        elif number == SIGKILL and _kills() > self._kills:
            self._fail(PlatformError("the Keep's machine has no memory left", "give it more memory"))
        else:
            self._fail(BugError(f"the Keep's process ended by signal {number}"))
        raise _EndError

    def _fail(self, error: DonjonError) -> None:
        if self._secret and not isinstance(error, Violation):
            family = type(error)
            error = family(f"the workload has failed ({family.__name__}): {HIDDEN}", hint=HIDDEN_HINT)
        if isinstance(error, TrapError):
            self._begin()
            self._machine.trap(error)
        else:
            self._machine.fail(error)


def _kills() -> int:
    """How often the kernel has ended a process for want of memory."""
    with open("/proc/vmstat", "rb") as file:
        return int(file.read().partition(b"\noom_kill ")[2].partition(b"\n")[0] or 0)
