"""The processes that the agent forks: the Keep itself, which runs the workload, and makers of its keys.

Each gives up what it does not need before it parses a byte of the workload's, and speaks with the agent alone: the Keep
over a channel as every Keep and its owner (`donjon.keep.channel`), and both by requests. The channel has two more
records: `mark`, with a name and a time, and `open`, before any code of the workload's runs.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import NoReturn

    from donjon.guest.agent import Place
    from donjon.guest.workload import Workload
    from donjon.identity import Identity
    from donjon.keep.channel import Reporter
    from donjon.keep.launch import Launch

__all__ = ["be_keep", "maker_of"]


def be_keep(
    workload: Workload, place: Place, stdio: tuple[int, int, int], channel: int, requests: _socket.socket
) -> NoReturn:
    """Be the Keep; ends the process."""
    from donjon.guest.confine import hold
    from donjon.keep.channel import Reporter

    reporter = Reporter(channel)
    code = 1
    try:
        hold(stdio, channel, requests.fileno())
        reporter.end_with_peer()
        code = _run(workload, place, reporter, requests)
        reporter.send("exit", str(code))
    except BaseException as error:
        reporter.send_error(error)
    os._exit(code)


def _run(workload: Workload, place: Place, reporter: Reporter, requests: _socket.socket) -> int:
    from donjon.guest.confine import KEEP, confine
    from donjon.keep.nil import run
    from donjon.log import Logger
    from donjon.wasm.engine import load
    from donjon.workload.tree import CONFIG, MAIN

    if place.confined:
        confine(KEEP)

    def mark(name: str) -> None:
        reporter.send("mark", name, str(time.monotonic_ns()))

    launch = workload.launch(place.tsm)
    if CONFIG in workload.files:  # without Enarx.toml there are standard streams and nothing else
        _enclose(launch, place, requests)
    log = Logger(reporter.send_log, str(workload.options["log"]))
    mark("launch")
    module = load(workload.files[MAIN], None, launch.name)
    mark("compile")

    def opened() -> None:
        mark("open")
        reporter.send("open")

    def ready() -> None:
        mark("run")
        reporter.send("ready")

    return run(launch, module, log, on_open=opened, on_ready=ready, sandbox="on" if place.confined else "off")


def _enclose(launch: Launch, place: Place, requests: _socket.socket) -> None:
    from donjon.guest.enclosed import Enclosed
    from donjon.guest.requests import Asker
    from donjon.keep import network

    enclosed = Enclosed(Asker(requests), place.address, place.first_port)
    enclosed.files = launch.config.files
    network.use(enclosed)


def maker_of(workload: Workload, place: Place, requests: _socket.socket) -> Callable[[Callable[[str], None]], Identity]:
    """What makes an identity for the workload, in a process that `donjon.identity.Apart` has forked."""

    def make(say: Callable[[str], None]) -> Identity:
        from donjon.guest.confine import MAKER, confine
        from donjon.guest.enclosed import Enclosed
        from donjon.guest.requests import Asker
        from donjon.keep import attest, network

        if place.confined:
            confine(MAKER)
        launch = workload.launch(place.tsm)
        enclosed = Enclosed(Asker(requests), place.address, place.first_port, place.tee or "")
        enclosed.simulated = place.variant == "simulated"
        network.use(enclosed)
        from donjon.keep.files import names_of

        return attest.maker(launch, names_of(launch.config))(say)

    return make
