"""One Keep's life, as its host sees it: hand over, carry, and say how it ended.

    greeting    the machine starts, and has `boot_seconds` until it says Hello
    handover    launch descriptor and options; it accepts; files; it compiles, has a certificate made, and starts: for
                all of that there is one time, longer for a large workload, and longer with more `boot_seconds`
    running     streams, messages, connections
    ending      its last word was said: what it has written still leaves, then QEMU is killed, which is quicker than
                a guest's power off and costs nothing, as a Keep keeps nothing

What ends the wait is the last word, the end of QEMU, a violation of the protocol, silence, or a signal of ours.
"""

from __future__ import annotations

from donjon.errors import DonjonError, ParseError, PlatformError, UsageError
from donjon.keep.network import FIRST_PORT, GATE_PORT, Surroundings
from donjon.keep.vm import BOOT_SECONDS
from donjon.keep.vm.lines import Lines, Monitor
from donjon.keep.vm.loop import IN, OUT, Loop
from donjon.keep.vm.streams import Input, Output
from donjon.keep.vm.trouble import explain
from donjon.sallyport import frames
from donjon.sallyport.io import Port
from donjon.sallyport.machine import STDERR, STDIN, STDOUT, HostMachine, Lost, State, Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.config.models import Listen
    from donjon.keep.launch import Launch
    from donjon.keep.vm import OnListen, OnMark
    from donjon.keep.vm.boot import Boot
    from donjon.keep.vm.collateral import Fetcher
    from donjon.keep.vm.dial import Dialer
    from donjon.keep.vm.loop import Timer
    from donjon.keep.vm.process import Process
    from donjon.keep.vm.relay import Door, Relay
    from donjon.keep.vm.signals import Signals
    from donjon.log import Logger
    from donjon.sallyport.machine import Event

__all__ = ["Session"]

HANDOVER_SECONDS = 120.0
LONGER = "a slow or busy machine needs longer: set --boot-seconds"
UNBELIEVED = "the machine was ended: what speaks in it is not, or no longer, the image's own agent"
SLOWEST = 256 << 10
"""Bytes of the workload that a machine takes in a second, at the least."""
LAST_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""From asking the machine to stop until it is ended; inside, the workload has two of them."""


class _EndError(Exception):
    """Nothing more is waited for."""


class Session:
    """A machine and what is said with it.

    Args:
        process: the QEMU that was started with what `boot` says.
        boot_seconds: until it greets.
        stdio: descriptors for the guest's stdin, stdout and stderr.
        hello: what the machine has said already, if it goes on from a snapshot.
        signals: those that end this process.
    """

    def __init__(
        self,
        launch: Launch,
        boot: Boot,
        process: Process,
        log: Logger,
        boot_seconds: float,
        stdio: tuple[int, int, int],
        signals: Signals,
        hello: frames.Hello | None = None,
    ) -> None:
        self.on_listen: OnListen | None = None
        self.on_ready: Callable[[], None] | None = None
        self.on_mark: OnMark | None = None
        self._launch = launch
        self._boot = boot
        self._log = log
        self._boot_seconds = boot_seconds
        size = sum(map(len, boot.files.values()))
        self._handover_seconds = HANDOVER_SECONDS + size // SLOWEST + max(0.0, boot_seconds - BOOT_SECONDS)
        self._signals = signals
        self._hello = hello
        self._machine = HostMachine(hello)
        self._port = Port(boot.port.fileno(), self._machine)
        self._loop = Loop()
        self._outputs = {
            STDOUT: Output(stdio[1], STDOUT, self._loop, self._machine),
            STDERR: Output(stdio[2], STDERR, self._loop, self._machine),
        }
        self._monitor = Monitor(boot.monitor, self._loop)
        self._console = None if boot.console is None else Lines(boot.console, self._loop, self._printed)
        self._input = Input(stdio[0], STDIN, self._loop, self._machine)
        if all(file.kind != "stdin" for file in launch.config.files):
            self._input.stop()  # nobody inside reads it: what comes is somebody else's
        self._relay: Relay | None = None
        self._dialer: Dialer | None = None
        self._doors: dict[int, Door] = {}
        self._unbound: dict[int, Listen] = {}
        if boot.ports:
            self._connect()
        self._fetcher: Fetcher | None = None
        self._process = process
        self._word: frames.Exit | frames.Telling | None = None
        self._lost = False
        self._state = State.GREETING
        self._deadline: Timer | None = None
        self._status: int | None = None
        self._said = ""

    def _connect(self) -> None:
        """Have what carries connections."""
        from donjon.keep.vm.dial import Dialer, allowed
        from donjon.keep.vm.relay import Door, Relay

        config, ports, machine = self._launch.config, self._boot.ports, self._machine
        self._relay = relay = Relay(self._loop, config.limits.connections, self._log, lambda: machine.congested)
        relay.prepare()
        self._doors = {guest: Door(self._loop, ours) for guest, ours in ports.items()}
        self._dialer = Dialer(allowed(config), self._loop, relay, self._doors.get(GATE_PORT), machine, self._log)
        for index, file in enumerate(config.files):
            if file.kind == "listen":
                self._unbound[FIRST_PORT + index] = file

    def run(self) -> int:
        """From start to end; the guest's exit code. Raises as `donjon.keep.vm.run`."""
        try:
            self._start()
            while not self._over():
                self._turn()
            self._see_off()
        except _EndError:
            pass
        finally:
            self._close()
        return self._judge()

    def _start(self) -> None:
        boot, loop, process = self._boot, self._loop, self._process
        if boot.simulated is not None:
            boot.simulated.attend(loop, self._log)
        process.listen_in(loop)
        loop.watch(process.ended, IN, lambda _events: self._qemu_ended())
        if self._signals.descriptor >= 0:
            loop.watch(self._signals.descriptor, IN, lambda _events: self._signalled())
        self._deadline = loop.after(self._boot_seconds, self._too_slow)
        if self._hello is not None:
            self._greeted(self._hello)

    def _turn(self) -> None:
        self._port.send()
        self._input.refresh()
        if self._relay is not None:
            self._relay.wake()
        self._loop.watch(self._port.fileno(), 0 if self._port.ended else self._port.mask, self._port_ready)
        self._loop.turn()

    def _over(self) -> bool:
        """Whether the last word was said, and all that came before has left."""
        return (self._word is not None or self._lost) and all(output.idle for output in self._outputs.values())

    def _see_off(self) -> None:
        """Let what the guest has sent to its peers still reach them."""
        relay = self._relay
        if relay is not None and not self._lost:
            relay.close_listeners()
            while relay.busy():
                self._turn()

    # ---- what happens

    def _port_ready(self, events: int) -> None:
        if events & ~OUT:
            self._receive()

    def _receive(self) -> None:
        try:
            found = self._port.receive()
        except Violation as violation:
            for event in violation.events:
                self._take(event)
            raise ParseError(violation.message, UNBELIEVED) from violation
        for event in found:
            self._take(event)

    def _qemu_ended(self) -> None:
        """Read what it has left, which is little; then nothing more comes."""
        self._loop.forget(self._process.ended)
        while not self._port.ended:
            self._receive()
        self._lost = True

    def _signalled(self) -> None:
        again = self._signals.heard() > 1
        if again or self._machine.state is State.GREETING:
            raise _EndError
        self._machine.stop()
        self._loop.after(GRACE_SECONDS, self._end)

    def _printed(self, line: bytes) -> None:
        self._log.info(line.decode("utf-8", "replace"), "donjon.console")

    def _end(self) -> None:
        raise _EndError

    def _too_slow(self) -> None:
        if self._machine.state is State.GREETING:
            raise PlatformError(f"the virtual machine said nothing for {self._boot_seconds:g} s", LONGER)
        what = "taken all of" if self._machine.state is not State.STARTING else "started"
        raise PlatformError(
            f"the virtual machine has not {what} the workload within {self._handover_seconds:g} s", LONGER
        )

    def _take(self, event: Event) -> None:
        machine = self._machine
        match event:
            case frames.Stdout():
                self._outputs[STDOUT].add(event.data)
            case frames.Stderr():
                self._outputs[STDERR].add(event.data)
            case frames.Log():
                self._log.log(event.level, event.message, event.target)
            case frames.Mark():
                self._log.debug(f"the machine's clock: {event.name} {event.nanoseconds / 1e9:.6f} s", "donjon.keep")
                if self.on_mark is not None:
                    self.on_mark(event.name, event.nanoseconds)
            case frames.Gone():
                self._input.stop()
            case frames.Hello():
                self._greeted(event)
            case frames.Accept():
                for name, data in self._boot.files.items():
                    machine.file(name, data)
                machine.start()
            case frames.Started():
                self._rest_easy()
                if self.on_ready is not None:
                    self.on_ready()
            case frames.Exit() | frames.Trap() | frames.Failed() | frames.Refuse():
                self._rest_easy()
                self._word = event
                self._input.stop()
            case frames.Listening():
                self._listen(event)
            case frames.Dial():
                if self._dialer is not None:
                    self._dialer.take(event)
                else:
                    machine.dial_failed(event.id, UsageError("cannot connect: Enarx.toml names no peer"))
            case frames.Collateral():
                self._fetch(event)
            case Lost():
                self._lost = True
                self._state = event.state

    def _greeted(self, hello: frames.Hello) -> None:
        self._log.debug(f"the machine greets: image {hello.variant}", "donjon.keep")
        boot = self._boot
        boot.greeted()
        self._machine.launch(boot.descriptor, boot.options)
        self._rest_easy()
        self._deadline = self._loop.after(self._handover_seconds, self._too_slow)

    def _listen(self, asked: frames.Listening) -> None:
        """Bind as this side's Enarx.toml says; of the guest's words only which entry it means counts."""
        file = self._unbound.pop(asked.guest_port, None)
        if file is None or file.name != asked.name or self._relay is None:
            error = UsageError(f'cannot listen for "{asked.name}": Enarx.toml names no such listener')
            self._machine.bind_failed(asked.id, error)
            return
        try:
            listener, host, port = Surroundings().bind(file)
        except DonjonError as error:
            self._machine.bind_failed(asked.id, error)
            return
        guest_port, machine = asked.guest_port, self._machine

        def announce(source: int, peer: str, peer_port: int) -> None:
            machine.peer(guest_port, source, peer, peer_port)

        self._relay.listen(listener, self._doors[guest_port], announce)
        self._machine.bound(asked.id, host, port)
        if self.on_listen is not None:
            self.on_listen(file.name, host, port)

    def _fetch(self, asked: frames.Collateral) -> None:
        if self._fetcher is None:
            from donjon.keep.vm.collateral import Fetcher

            self._fetcher = Fetcher(self._loop, self._machine, self._log)
        self._fetcher.take(asked)

    def _rest_easy(self) -> None:
        """What comes now may take as long as it takes."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # ---- the end

    def _close(self) -> None:
        self._monitor.close()
        if self._console is not None:
            self._console.close()
        self._loop.forget(self._process.ended)
        # One that has hung up is about to end, and how it ends says why.
        self._status = self._process.wait(LAST_SECONDS if self._lost and self._word is None else 0)
        self._said = self._process.said()
        self._process.close()
        if self._fetcher is not None:
            self._fetcher.close()
        if self._dialer is not None:
            self._dialer.close()
        if self._relay is not None:
            self._relay.close()
        self._loop.close()

    def _judge(self) -> int:
        """What becomes of the last word, or of there being none."""
        word = self._word
        if isinstance(word, frames.Exit):
            return word.code
        if word is not None:
            raise word.error()
        if self._signals.number:
            return 128 + self._signals.number
        raise self._trouble()

    def _trouble(self) -> DonjonError:
        """Why the machine has ended without a word."""
        return explain(self._status, self._said, self._monitor.reason, self._state.value, self._boot.memory >> 20)
