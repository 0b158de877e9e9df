"""The `nil` backend: no TEE. The Keep is this process, and protects nobody from the host it runs on.

`run` is what every backend does in the end, inside: compile, open what the configuration names, link, call, and say how
it ended. It runs the guest in the calling thread and returns when the guest is done; a signal ends both.
"""

from __future__ import annotations

import os

from donjon.errors import BugError, DonjonError, ParseError, UsageError
from donjon.log import QUIET
from donjon.wasm.engine import HostFunction, Instance, _capi, load, read
from donjon.wasm.wasi.p1 import MODULE, bind, lookup, traced
from donjon.wasm.wasi.p1.guest import Exit, Guest
from donjon.wasm.wasi.reactor import Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.keep.files import Opener
    from donjon.keep.launch import Launch
    from donjon.log import Logger
    from donjon.wasm.engine import Module
    from donjon.wasm.engine.cache import Cache

    OnListen = Callable[[str, str, int], None]

__all__ = ["occupy_standard_streams", "prepare", "run", "warm_up"]

OPENED = ("listen", "connect", "dir")
"""The kinds of files that `keep/files.py` opens."""
FAREWELL_SECONDS = 2.0
"""How long a Keep that is done still sends what its guest has written to slow TLS peers."""


def prepare(launch: Launch, cache: Cache | None, describe: bool = False) -> Module:
    """Compile the workload, or find it compiled.

    Args:
        describe: set `launch.main` although this launch is not attested; others of the same module may be.
    Raises:
        UsageError: its file cannot be read.
        ParseError: it is not a module.
    """
    data = launch.module if isinstance(launch.module, bytes) else read(launch.module)
    if launch.attested() or describe:
        from donjon.workload.tree import MAIN, File

        launch.main = File.named(MAIN, data)  # of the very bytes that run
    return load(data, cache, launch.name)


def occupy_standard_streams() -> None:
    """Open /dev/null where whoever started this process left descriptor 0, 1 or 2 closed.

    Else the next file or connection gets the number, and is taken for a standard stream. Call it before anything opens.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def warm_up(module: Module) -> None:
    """Load what running the module will need, so that forks of this process find it loaded."""
    import gc

    guest = Guest()
    for space, name, _ in module.imports():
        function = lookup(name) if space == MODULE else None
        if function is not None:
            _capi.Callback(bind(function, guest))  # the first callback of a process has libffi look for memory for them
    _capi.api.bind_all()
    for part in (
        "config.models",
        "keep.channel",
        "keep.sandbox",
        "keep._filter",
        "log",
        "wasm.wasi.descriptors.stdio",
        "wasm.engine.cache",
    ):
        __import__(f"donjon.{part}")
    import fcntl  # noqa: F401 - which the channel needs

    gc.collect()
    gc.freeze()  # or the first collection in a fork would touch, and so copy, every page of these


def run(
    launch: Launch,
    module: Module,
    log: Logger = QUIET,
    on_listen: OnListen | None = None,
    on_open: Callable[[], None] | None = None,
    on_ready: Callable[[], None] | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    sandbox: str = "off",
) -> int:
    """Run a workload to its end.

    Args:
        module: from `prepare` of the same launch.
        on_listen: called with name, host and port of each listener once it is bound.
        on_open: called when everything is open, before the process is confined and any code of the guest's runs.
        on_ready: called when everything is open and linked, before the guest's `_start`; a start function of the
            module's, which compilers use to lay out its memory, has run by then.
        stdio: the host's descriptors for the guest's stdin, stdout and stderr.
        sandbox: one of `donjon.keep.sandbox.MODES`. Another than "off" is for a process that is a Keep and nothing
            else: it stays confined when this returns.
    Returns:
        The guest's exit code, 0 to 255.
    Raises:
        TrapError: the guest trapped.
        DonjonError: of the other families, when it could not be started, or ended with a code over 255.
    """
    config = launch.config
    reactor = Reactor()
    guest = Guest(launch.argv(), launch.environ(), config.limits.descriptors, reactor, log)
    opener = None
    try:
        opener = _opener(launch, guest, log, on_listen)
        _open(launch, guest, log, opener, stdio)
        if on_open is not None:
            on_open()
        if config.limits.cpu is not None:
            _limit_cpu(config.limits.cpu)
        if sandbox != "off":
            _confine(sandbox, opener, log)
        try:  # to link it, which runs the module's start function: the guest's code begins here
            instance = _link(guest, module, config.limits.memory)
        except Exit as ended:
            return _exit_code(ended.code)
        entries = _entries(instance, log)
        if on_ready is not None:
            on_ready()
        return _call(guest, instance, entries)
    finally:
        if opener is not None:
            opener.close()
        guest.close()
        reactor.drain(FAREWELL_SECONDS)


def _open(launch: Launch, guest: Guest, log: Logger, opener: Opener | None, stdio: tuple[int, int, int]) -> None:
    """Open the configuration's files in their order, so that an entry's index is its descriptor.

    A Keep that has to be certified is, when this returns; without sockets that show it, too.
    """
    from donjon.wasm.wasi.descriptors.stdio import Null, Stdio

    for file in launch.config.files:
        if file.kind in ("stdin", "stdout", "stderr"):
            index = ("stdin", "stdout", "stderr").index(file.kind)
            try:
                guest.add(Stdio(stdio[index], index > 0, guest.reactor))
            except OSError:  # it was closed already: the guest finds nothing there, rather than somebody else's file
                guest.add(Null())
        elif file.kind == "null":
            guest.add(Null())
        else:
            assert opener is not None  # noqa: S101 - this is what it is for
            guest.add(opener.open(file))
    kinds = {file.kind for file in launch.config.files}
    for kind in ("stdout", "stderr"):
        if kind not in kinds:
            log.warn(f'no entry of kind "{kind}" in `files`: what the guest writes there is lost')
    if opener is not None:
        opener.finish()


def _opener(launch: Launch, guest: Guest, log: Logger, on_listen: OnListen | None) -> Opener | None:
    """What opens sockets and directories, and has an identity made; None where none of these is asked for."""
    if launch.config.steward is None and all(file.kind not in OPENED for file in launch.config.files):
        return None
    from donjon.keep.files import Opener

    return Opener(launch, guest.reactor, log, on_listen)


def _confine(mode: str, opener: Opener | None, log: Logger) -> None:
    """Give up what a Keep has no use for any more. What it opened stays open; what it compiled is compiled."""
    from donjon.keep import sandbox

    if opener is None:
        sandbox.enter(mode, (), sandbox.libraries(), log)
    else:
        sandbox.enter(mode, opener.directories, sandbox.libraries(*opener.loaded), log)


def _link(guest: Guest, module: Module, memory: int | None) -> Instance:
    def resolve(space: str, name: str) -> HostFunction | None:
        function = lookup(name) if space == MODULE else None
        if function is None:
            return None
        call = bind(function, guest)
        return HostFunction(function.params, function.results, traced(function, call, guest) if guest.tracing else call)

    try:
        return Instance(module, resolve, memory)
    except DonjonError:
        code = _raise_pending(guest)  # the module's start function may have called us
        if code is None:
            raise
        raise Exit(code) from None


def _entries(instance: Instance, log: Logger) -> tuple[str, ...]:
    """The functions to call, in this order.

    A command has `_start`. What has none is a reactor: `_initialize`, if there is one, comes before anything else.
    Enarx's `""` is called instead of `_start`, in either kind.
    """
    command = instance.has("_start")
    first = ("_initialize",) if not command and instance.has("_initialize") else ()
    if instance.has(""):
        return (*first, "")
    if command:
        return ("_start",)
    if first:
        log.warn("the module is a reactor: it has no _start, so it is initialised and that is all")
        return first
    raise ParseError(
        "the module exports no _start: there is nothing to run",
        hint="build a command (a program with main), not a library",
    )


def _call(guest: Guest, instance: Instance, entries: tuple[str, ...]) -> int:
    try:
        for entry in entries:
            instance.call(entry)
    except DonjonError:
        code = _raise_pending(guest)
        if code is None:
            raise
        return code
    return 0


def _raise_pending(guest: Guest) -> int | None:
    """If a call of ours ended the guest: its exit code, or the error that did it."""
    pending = guest.pending
    if pending is None:
        return None
    if isinstance(pending, Exit):
        return _exit_code(pending.code)
    if isinstance(pending, DonjonError):
        raise pending
    if isinstance(pending, KeyboardInterrupt):
        raise pending
    raise BugError(f"a WASI call failed: {type(pending).__name__}: {pending}") from pending


def _exit_code(code: int) -> int:
    """The exit code for the 32 bits that the guest gave; -1, as C programs like to have it, is 255 as natively."""
    signed = code - (1 << 32) if code >> 31 else code
    if not -128 <= signed <= 255:
        raise UsageError(f"the guest exited with code {signed}: expected -128 to 255, which a process can have")
    return signed & 0xFF


def _limit_cpu(seconds: float) -> None:
    """End this process by SIGPROF when it has used so much processor time from now on.

    `process.py`, which sees the signal, says what it means.
    """
    import signal

    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 0.001))
