"""The other end of `process.py`: a process that is a Keep, or (with "warm") one that is forked into Keeps.

It is started as a script, isolated and without site-packages (`python -I -S`), which halves its start. Its argument is
the descriptor of the channel to whoever started it: first the orders come in, then records go out; see `channel.py`.

If the other end goes away the kernel sends this process SIGIO, which ends it: no Keep outlives who started it, even
one whose guest never stops computing. (macOS ignores SIGIO by default; there the Keep ends with its guest.)
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Take the orders and follow them."""
    descriptor = int(sys.argv[1])
    with open(descriptor, "rb", buffering=0, closefd=False) as channel:
        import marshal

        # Orders come from the process that started this one, so nothing hostile is unmarshalled.
        size = int.from_bytes(_exactly(channel, 8), "little")
        orders = marshal.loads(_exactly(channel, size))  # noqa: S302
    sys.path[:] = orders["path"]
    sys.argv[1:] = []
    from donjon.keep.nil import occupy_standard_streams

    occupy_standard_streams()
    if orders["warm"]:
        _serve(orders, descriptor)
    else:
        _follow(orders, descriptor, (0, 1, 2))


def _exactly(channel: object, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.read(size - len(data))  # type: ignore[attr-defined]
        if not part:
            os._exit(0)  # who started us went away
        data += part
    return data


def _follow(
    orders: dict[str, object], channel: int, stdio: tuple[int, int, int], module: object = None, main: object = None
) -> None:
    """Be a Keep; ends the process."""
    from donjon.keep.channel import Reporter

    reporter = Reporter(channel)
    code = 1
    try:
        reporter.send("pid", str(os.getpid()))
        code = _run(orders, reporter, stdio, module, main)
        reporter.send("exit", str(code))
    except BaseException as error:
        reporter.send_error(error)
    os._exit(code)


def _run(orders: dict[str, object], reporter: object, stdio: tuple[int, int, int], module: object, main: object) -> int:
    from donjon.keep.channel import Reporter, launch_from
    from donjon.keep.nil import prepare, run
    from donjon.log import Logger
    from donjon.wasm.engine import Module
    from donjon.wasm.engine.cache import Cache

    assert isinstance(reporter, Reporter)  # noqa: S101
    import _signal  # type: ignore[import-not-found]  # `signal` wraps it in enumerations, 3 ms

    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGIO, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    reporter.end_with_peer()
    log = Logger(reporter.send_log, str(orders["log"]))
    launch = launch_from(orders)

    def listening(name: str, host: str, port: int) -> None:
        reporter.send("listening", name, host, str(port))

    def ready() -> None:
        reporter.send("ready")

    if orders["backend"] != "nil":
        from donjon.keep.vm import run as run_in_machine

        backend = str(orders["backend"])
        return run_in_machine(launch, log, backend=backend, stdio=stdio, on_listen=listening, on_ready=ready)
    if not isinstance(module, Module):
        module = prepare(launch, Cache.of_user(log))
    elif launch.attested():
        from donjon.workload import File

        assert isinstance(main, File)  # noqa: S101 - the warm parent read it
        launch.main = main
    return run(
        launch,
        module,
        log,
        on_listen=listening,
        on_ready=ready,
        stdio=stdio,
        sandbox=str(orders["sandbox"]),
    )


def _serve(orders: dict[str, object], descriptor: int) -> None:
    """Be a warm parent: compile once, then fork a Keep for each order that comes with its four descriptors.

    Of each Keep it holds the channel too, to report what only its parent learns: which signal ended it.
    """
    import _signal
    import select
    import socket

    from donjon.errors import PlatformError, words_of
    from donjon.keep.channel import Reporter, launch_from
    from donjon.keep.nil import prepare, warm_up
    from donjon.wasm.engine.cache import Cache

    reporter = Reporter(descriptor)
    try:
        launch = launch_from(orders)
        module = prepare(launch, Cache.of_user(), describe=True)
        warm_up(module)
    except BaseException as error:
        reporter.send_error(error)
        os._exit(1)
    reporter.send("ready")
    channel = socket.socket(fileno=descriptor)
    channels: dict[int, int] = {}  # a Keep's process -> our copy of its channel
    ended, wake = os.pipe()  # a byte comes whenever a Keep has ended
    os.set_blocking(ended, False)
    os.set_blocking(wake, False)
    _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(ended, select.POLLIN)
    while True:
        ready = {host for host, _ in poller.poll()}
        if ended in ready:
            os.read(ended, 4096)
            _bury(channels)
        if descriptor not in ready:
            continue
        head, descriptors, _, _ = socket.recv_fds(channel, 8, 4, socket.MSG_WAITALL)
        if len(head) < 8:
            os._exit(0)  # the other end is gone; the Keeps have channels of their own
        data = _exactly(channel.makefile("rb", 0), int.from_bytes(head, "little"))
        *stdio, own = descriptors
        try:
            pid = os.fork()
        except OSError as error:
            Reporter(own).send_error(PlatformError(f"cannot fork a Keep: {words_of(error)}"))
            os.close(own)
        else:
            if pid == 0:
                _signal.set_wakeup_fd(-1)
                for inherited in (descriptor, ended, wake, *channels.values()):
                    os.close(inherited)
                _be_forked(data, own, stdio, module, launch.main)
            channels[pid] = own
        for received in stdio:
            os.close(received)


def _be_forked(data: bytes, channel: int, stdio: list[int], module: object, main: object) -> None:
    import marshal

    orders = marshal.loads(data)  # noqa: S302 - from our own owner
    _follow(orders, channel, (stdio[0], stdio[1], stdio[2]), module, main)


def _bury(channels: dict[int, int]) -> None:
    """Reap the Keeps that have ended; those that a signal ended could not say so themselves."""
    while channels:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        channel = channels.pop(pid)
        if os.WIFSIGNALED(status):
            os.set_blocking(channel, False)
            try:
                os.write(channel, b"signal\0%d\n" % os.WTERMSIG(status))
            except OSError:
                pass  # its owner does not want to know any more
        os.close(channel)


if __name__ == "__main__":
    main()
