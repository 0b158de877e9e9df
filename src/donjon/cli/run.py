"""`donjon run`: a workload in this process, or beside it where somebody has to watch it."""

from __future__ import annotations

from donjon.cli.tui import logger
from donjon.keep.launch import Launch
from donjon.keep.nil import prepare
from donjon.keep.nil import run as run_here
from donjon.wasm.engine.cache import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["run"]


def run(options: Options) -> int:
    """Run the module; the guest's exit code becomes the command's.

    Signals keep their ordinary effect: this process is the Keep, and ending it ends the guest, spinning or not.
    """
    _default_signals()
    log = logger(options.log_filter, options.log_target)
    launch = Launch(options.module, options.wasmcfgfile, options.args)
    if launch.config.limits.cpu is not None:
        from donjon.keep.process import Keep

        return Keep.start_launch(launch, stdin=0, stdout=1, stderr=2, log=log).wait()
    module = prepare(launch, Cache.of_user(log))
    return run_here(launch, module, log)


def _default_signals() -> None:
    """Let SIGINT end the process, as SIGTERM does. Python's own handler would run only when the guest calls us."""
    import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enumerations, 3 ms

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
