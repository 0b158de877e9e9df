"""The guest as the functions of preview 1 see it: arguments, environment, descriptors, memory, and how it ended."""

from __future__ import annotations

from donjon.log import QUIET, TRACE
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.memory import Memory
from donjon.wasm.wasi.p1.trampoline import Views, new_trap
from donjon.wasm.wasi.reactor import Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from donjon.log import Logger
    from donjon.wasm.wasi.descriptors.base import Descriptor
    from donjon.wasm.wasi.p1.poll import Plan

__all__ = ["Exit", "Guest"]


class Exit(BaseException):
    """The guest called proc_exit (or raised a signal that ends it). Not an error: it passes every `except
    Exception`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Guest:
    """What belongs to one running guest.

    Args:
        args, env: without terminating NUL; env as "NAME=value".
        limit: descriptors that may be open at once.
        reactor: where calls wait; the listeners and streams among the descriptors share it.
    Attributes:
        fds: number -> descriptor, the open ones.
        generation: grows whenever a number may stand for another descriptor than before.
        tracing: every call is to be logged.
        plan: how poll_oneoff waited the last time.
        pending: what ended the guest from inside a call: Exit, TrapError, or a bug of ours.
    """

    def __init__(
        self,
        args: Iterable[str] = (),
        env: Iterable[str] = (),
        limit: int = 4096,
        reactor: Reactor | None = None,
        log: Logger = QUIET,
    ) -> None:
        self.args = tuple(_c_string(text) for text in args)
        self.env = tuple(_c_string(text) for text in env)
        self.memory = Memory()
        self.fds: dict[int, Descriptor] = {}
        self.generation = 0
        self.limit = limit
        self.reactor = reactor if reactor is not None else Reactor()
        self.log = log
        self.pending: BaseException | None = None
        self.plan: Plan | None = None
        self.views = Views()
        self.new_view = self.views.new
        self.tracing = log.enabled(TRACE, "donjon.wasi")
        self._lowest = 0  # no number below is free

    def add(self, descriptor: Descriptor) -> int:
        """Give a descriptor the lowest free number.

        Raises:
            WasiError: mfile, the limit is reached. The descriptor stays the caller's, who closes it.
        """
        fds, number = self.fds, self._lowest
        if len(fds) >= self.limit:
            raise WasiError(Errno.MFILE, f"{self.limit} descriptors are open, which is the limit")
        while number in fds:
            number += 1
        fds[number] = descriptor
        self._lowest = number + 1
        return number

    def remove(self, number: int) -> Descriptor:
        """Take a descriptor out, without closing it.

        Raises:
            WasiError: badf, the number is not open.
        """
        descriptor = self.fds.pop(number, None)
        if descriptor is None:
            raise WasiError(Errno.BADF, f"descriptor {number} is not open")
        self.generation += 1
        self._lowest = min(self._lowest, number)
        return descriptor

    def close(self) -> None:
        """Close every descriptor, whatever happens to any of them: TLS peers get their close_notify."""
        for number in list(self.fds):
            try:
                self.remove(number).close()
            except (OSError, WasiError):
                continue

    def trap(self, error: BaseException) -> int:
        """Keep what ended the guest, and give the engine a trap to unwind with."""
        self.pending = error
        return new_trap(b"exit" if isinstance(error, Exit) else b"host error")

    def log_error(self, name: str, error: Exception) -> None:
        """Note why a call failed; what is seen depends on the log filter."""
        if self.tracing:
            self.log.trace(f"{name}: {error}", "donjon.wasi")


def _c_string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"
