"""`donjon run`: a workload in this process, or beside it where somebody has to watch it."""

from __future__ import annotations

from donjon.cli.tui import logger
from donjon.keep.launch import Launch
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
    _default_signals()
    log = logger(options.log_filter, options.log_target)
    launch = Launch(
        options.module,
        options.wasmcfgfile,
        options.args,
        attest=options.attest,
        sim=options.sim,
        tsm=options.tsm,
    )
    if launch.config.limits.cpu is not None:
        return _run_beside(launch, log, options.log_filter)
    module = prepare(launch, Cache.of_user(log))
    return run_here(launch, module, log)


def _run_beside(launch: Launch, log: Logger, levels: str) -> int:
    """Run it in a process of its own: when its time is over the kernel ends that one, and this one tells the user."""
    import os
    import signal

    from donjon.keep.process import Keep

    with Keep.start_launch(launch, 0, 1, 2, log, levels) as keep:

        def end_both(number: int, _frame: object) -> None:
            os.kill(keep.pid, signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end_both)
        return keep.wait()


def _default_signals() -> None:
    """Let SIGINT end the process, as SIGTERM does. Python's own handler would run only when the guest calls us."""
    import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enumerations, 3 ms

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
