"""`donjon run`: a workload in this process, or beside it where somebody has to watch it."""

from __future__ import annotations

from donjon.cli.tui import logger
from donjon.keep.launch import DEVICES, TSM, Launch
from donjon.keep.nil import occupy_standard_streams, prepare
from donjon.keep.nil import run as run_here
from donjon.wasm.engine.cache import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options
    from donjon.log import Logger

__all__ = ["run"]


def run(options: Options) -> int:
    """Run the module; the guest's exit code becomes the command's.

    Signals keep their ordinary effect: this process is the Keep, and ending it ends the guest, spinning or not.
    """
    occupy_standard_streams()
    if options.detach:
        return _detach(options)
    _default_signals()
    log = logger(options.log_filter, options.log_target)
    backend = "nil"
    if options.backend != "nil" or options.require is not None:
        backend = _choose(options, log)
    launch = Launch(
        options.module,
        options.wasmcfgfile,
        options.args,
        attest=options.attest,
        sim=options.sim,
        tsm=options.tsm,
        output=options.output,
    )
    if backend != "nil":
        return _run_in_machine(launch, log, backend, options)
    _refuse_machine(options)
    if launch.config.limits.cpu is not None:
        return _run_beside(launch, log, options)
    if options.name is None:
        return run_here(launch, prepare(launch, Cache.of_user(log)), log, sandbox=options.sandbox)
    listed = _Listed(launch, "nil", options.name, log)
    module = prepare(launch, Cache.of_user(log), describe=True)
    return run_here(launch, module, log, listed.listening, sandbox=options.sandbox, on_open=listed.open)


_SIGNS = ("/dev/sev", "/sys/module/kvm_intel/parameters/tdx", *DEVICES, TSM)
"""Where none of these is, no backend keeps anybody out and the machine is no guest of a TEE: 10 us to find out."""


def _choose(options: Options, log: Logger) -> str:
    """See what is to hold the Keep.

    Raises:
        UsageError, PlatformError: what is demanded contradicts itself, or is not to be had.
    """
    import os

    if options.backend == "auto" and options.require is None and not any(map(os.path.exists, _SIGNS)):
        return "nil"
    if options.backend == "kvm" and options.require is None:
        return "kvm"  # there is nothing to choose, and 10 ms to load what would
    from donjon.errors import UsageError
    from donjon.platform import BACKENDS
    from donjon.platform.choice import choose

    if options.require is not None:
        if options.sim is not None:
            raise UsageError(f"--sim: simulated hardware is not what --require {options.require} demands", "remove one")
        if options.tsm != TSM:
            raise UsageError(f"--tsm: a directory of anybody's is not what --require {options.require} demands")
        if options.debug:
            raise UsageError(
                f"--debug: a machine that the host can look into is not what --require {options.require} demands"
            )
    if options.backend == "auto" and (options.sim is not None or options.tsm != TSM):
        return "nil"  # whoever brings evidence along does without this machine's
    brought = ("Firmware",) * (options.firmware is not None) + ("Guest image",) * options.debug
    chosen = choose(options.backend, options.require, log.warn, can=BACKENDS, brought=brought)
    if chosen.in_place:
        log.info(f"this machine is a guest of {chosen.tee}: the Keep runs in place")
    return chosen.backend


def _run_in_machine(launch: Launch, log: Logger, backend: str, options: Options) -> int:
    """Run it in a virtual machine."""
    from donjon.errors import UsageError
    from donjon.keep.vm import run as run_in_machine

    if options.tsm != TSM:
        raise UsageError(f"--tsm: a Keep in a virtual machine ({backend}) has the evidence of that", "remove it")
    if options.sandbox == "off":
        raise UsageError("--sandbox off: a Keep in a virtual machine is always confined there", "remove it")
    if options.sim is not None and backend != "kvm":
        raise UsageError(f"--sim: a machine of {backend} has real hardware", "simulated hardware is for --backend kvm")
    if backend == "kvm" and options.sim is None and options.attest not in ("auto", "none", "kvm"):
        raise UsageError(
            f"--attest {options.attest}: a machine of kvm has no hardware that gives evidence",
            "--sim LAB simulates some, --backend snp or tdx starts a machine that has it",
        )
    for option in ("--signatures", "--firmware", "--output"):
        if backend == "kvm" and options.given(option):
            raise UsageError(f"{option} is for machines of snp and tdx, and this one is kvm's", "remove it")
    if backend != "kvm" and options.given("--accel"):
        raise UsageError(f"--accel: a machine of {backend} runs on its hardware and nothing else", "remove it")
    signatures = None
    if options.signatures:
        from donjon.files import read
        from donjon.tee.signatures import MAX_FILE, parse

        signatures = parse(read(options.signatures, MAX_FILE))
    listed = _Listed(launch, backend, options.name, log)
    return run_in_machine(
        launch,
        log,
        on_listen=listed.listening,
        on_ready=listed.open,
        backend=backend,
        signatures=signatures,
        firmware=options.firmware,
        debug=options.debug,
        accel=options.accel,
        memory=mebibytes(options.memory, "--memory") if options.memory else None,
        boot_seconds=seconds(options.boot_seconds, "--boot-seconds"),
    )


def _refuse_machine(options: Options) -> None:
    """Nothing that was asked for is passed over.

    Raises:
        UsageError: something is asked for that only virtual machines have.
    """
    for option in ("--memory", "--accel", "--signatures", "--firmware", "--output", "--debug", "--boot-seconds"):
        if options.given(option):
            from donjon.errors import UsageError

            hint = "[limits] memory limits what a program has" if option == "--memory" else "name one with --backend"
            raise UsageError(f"{option}: this Keep is no virtual machine", hint)


def mebibytes(value: str, where: str) -> int:
    """Bytes, from MiB.

    Raises:
        UsageError: it is not a whole number of them that a machine can have.
    """
    if value.isascii() and value.isdigit() and len(value) <= 7 and 64 <= int(value) <= 1 << 20:
        return int(value) << 20
    from donjon.errors import UsageError

    raise UsageError(f'{where}: expected 64 to {1 << 20} MiB, got "{value[:20]}"', "for example 512")


def seconds(value: str, where: str) -> float:
    """Seconds.

    Raises:
        UsageError: it is not a whole number of them above 0.
    """
    if value.isascii() and value.isdigit() and int(value[:6]) > 0 and len(value) <= 5:
        return float(value)
    from donjon.errors import UsageError

    raise UsageError(f'{where}: expected 1 to 99999 seconds, got "{value[:20]}"', "for example 300")


class _Listed:
    """What `donjon ps` shows of this Keep, gathered while it starts.

    Args:
        name: None: one is made up; and where it cannot be listed, it runs all the same.
    """

    def __init__(self, launch: Launch, backend: str, name: str | None, log: Logger) -> None:
        from donjon.keep.registry import Directory, check_name, fresh_name

        self._launch = launch
        self._backend = backend
        self._named = name is not None
        self._name = fresh_name(launch.name) if name is None else name
        self._listeners: list[tuple[str, str, int]] = []
        self._log = log
        check_name(self._name)
        if self._named:
            with Directory() as directory:
                directory.check_free(self._name)  # before anything is begun

    def listening(self, name: str, host: str, port: int) -> None:
        self._listeners.append((name, host, port))

    def open(self) -> None:
        """Everything is open: the Keep is there."""
        import os

        from donjon.errors import PlatformError
        from donjon.keep.detached import STARTED, say_started
        from donjon.keep.registry import register, workload_of

        try:
            register(self._name, self._backend, workload_of(self._launch), self._listeners, STARTED in os.environ)
        except PlatformError as error:
            if self._named:
                raise
            self._log.warn(f"`donjon ps` does not list this Keep: {error.message}")
        say_started()


def _detach(options: Options) -> int:
    """Start the same command as a process that goes on, and print the Keep's name."""
    from donjon.cli import tui
    from donjon.cli.keeps import show
    from donjon.keep import detached
    from donjon.keep.registry import check_name, fresh_name

    name = fresh_name(options.module) if options.name is None else options.name
    check_name(name)
    code = detached.start(_words(options, name), name)
    if code is None:
        tui.write(f"{name}\n")
        return 0
    show(name, tui.STDERR)
    return code or 1


def _words(options: Options, name: str) -> list[str]:
    """The command line of these options, but in the foreground."""
    from donjon.cli.table import GLOBAL, RUN

    words = [RUN.name, "--name", name]
    for option in (*RUN.options, *GLOBAL):
        value = options[option.key]
        if options.given(option.name) and option.name not in ("--detach", "--name"):
            words.append(option.name if value is True else f"{option.name}={value}")
    return [*words, options.module, "--", *options.args]


def _run_beside(launch: Launch, log: Logger, options: Options) -> int:
    """Run it in a process of its own: when its time is over the kernel ends that one, and this one tells the user."""
    import os
    import signal

    from donjon.keep.process import Keep

    listed = _Listed(launch, "nil", options.name, log) if options.name is not None else None
    with Keep.start_launch(launch, 0, 1, 2, log, options.log_filter, options.sandbox) as keep:

        def end_both(number: int, _frame: object) -> None:
            os.kill(keep.pid, signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end_both)
        if listed is not None:
            for name, (host, port) in keep.listeners.items():
                listed.listening(name, host, port)
            listed.open()
        return keep.wait()


def _default_signals() -> None:
    """Let SIGINT end the process, as SIGTERM does. Python's own handler would run only when the guest calls us."""
    import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enumerations, 3 ms

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
