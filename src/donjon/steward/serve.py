"""The process `donjon steward serve`: two listeners, an orderly end.

At SIGTERM or SIGINT /readyz says no, `drain` seconds pass in which load balancers notice, nothing new is accepted,
what has begun is finished within GRACE, the record is closed. A second signal ends it at once. At SIGHUP it reads anew
what its operator may have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from donjon.errors import DonjonError, PlatformError, UsageError, words_of
from donjon.log import Logger, printable
from donjon.steward import app
from donjon.steward.service import Service

Reload = Callable[[], Awaitable[None]]

GRACE = 10
"""Seconds for requests that have begun."""
HEAD_SECONDS = 10
"""In which the head of a request has to arrive, counted from the connection or from its first byte."""
ANSWER_SECONDS = 20
"""In which somebody has to take the next part of an answer."""
KEEP_ALIVE = 15
"""Seconds that an idle connection may stay."""
MAX_CONNECTIONS = 256
"""Connections and requests at one time; beyond it the answer is 503. Times MAX_BUNDLE it bounds the memory."""
MAX_HEADERS = 16 * 1024
BACKLOG = 512


def listen(address: str, port: int) -> socket.socket:
    """A listening socket; "::" takes IPv4 as well.

    Raises:
        UsageError: not an IP address. PlatformError: the port is taken, or may not be had.
    """
    try:
        family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    except ValueError as error:
        raise UsageError(f'expected an IP address to listen on, got "{address}"') from error
    # With the protocol given, asyncio turns Nagle's algorithm off: else the body of an answer waits 40 ms for its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        hint = "stop what uses it, or choose another port (0: any free one)" if taken else None
        raise PlatformError(f"cannot listen on {place(address, port)}: {words_of(error)}", hint) from error
    return listener


class Tls:
    """The context for the public listener: TLS 1.3 and 1.2, as Enarx's clients speak.

    Raises:
        UsageError: a file is missing, or they do not fit.
    """

    def __init__(self, certificates: str, key: str) -> None:
        self._files = certificates, key
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_alpn_protocols(["http/1.1"])
        self.load()

    def check(self) -> None:
        """Say whether the files could be used.

        Raises:
            UsageError: they could not.
        """
        certificates, key = self._files
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificates, key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"cannot use {certificates} and {key} for TLS: {words_of(error)}") from error

    def load(self) -> None:
        """Read the files anew: whoever connects from now on sees these.

        Raises:
            UsageError: a file is missing, or they do not fit; then the old ones stay.
        """
        self.check()  # with a context of its own, as half of a pair would stay in ours
        self._context.load_cert_chain(*self._files)

    def __call__(self, *_: object) -> ssl.SSLContext:
        """The context, as uvicorn asks for it."""
        return self._context


def run(
    service: Service,
    public: socket.socket,
    admin: socket.socket,
    logger: Logger,
    context: Callable[..., ssl.SSLContext] | None = None,
    drain: float = 0,
    reload: Reload | None = None,
) -> None:
    """Serve until a signal says otherwise.

    Args:
        reload: called at SIGHUP.
        context: for TLS on the public listener; without it that is plain HTTP.
    """
    asyncio.run(_run(service, public, admin, logger, context, drain, reload))


async def _run(
    service: Service,
    public: socket.socket,
    admin: socket.socket,
    logger: Logger,
    context: Callable[..., ssl.SSLContext] | None,
    drain: float,
    reload: Reload | None,
) -> None:
    _Forward(logger).attach()
    servers = [
        _Server(_config(app.public(service), context)),
        _Server(_config(app.admin(service), None)),
    ]
    ending = asyncio.Event()

    def end() -> None:
        if ending.is_set():
            os._exit(1)  # asked twice: whoever asks does not want to wait
        ending.set()
        service.draining = True

    depot = service.depot
    background = [asyncio.create_task(depot.run())] if depot is not None else []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    hangup = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    background.append(asyncio.create_task(_reload(service, reload, hangup, logger)))
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, (public, admin), strict=True)
    ]
    for name, listener, scheme in (("", public, "https" if context else "http"), (" for operators", admin, "http")):
        logger.info(f"listening on {scheme}://{place(*listener.getsockname()[:2])}{name}", target="donjon.steward")
    await ending.wait()
    logger.info("ending", target="donjon.steward")
    await asyncio.sleep(drain)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    for task in background:
        task.cancel()
    if depot is not None:
        await depot.close()


async def _reload(service: Service, reload: Reload | None, hangup: asyncio.Event, logger: Logger) -> None:
    """At each SIGHUP read anew what can be; what is wrong is said, and nothing changes."""
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            if reload is not None:
                await reload()
            result = "done"
            logger.info(f"read anew; the policy is {service.policy.digest.hex()}", target="donjon.steward")
        except DonjonError as error:
            result = "refused"
            logger.error(f"kept what was there: {error.message}", target="donjon.steward")
        except Exception as error:
            result = "refused"
            logger.error(f"kept what was there: {type(error).__name__}: {error}", target="donjon.steward")
        service.metrics.count("reloads_total", result=result)


class _Forward(logging.Handler):
    """Hands what the server has to say to our log: what clients do wrong only to whoever asks for it.

    Without this Python would print it, a line for each request that is no HTTP, whatever the log's filter says.
    """

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One line for what happened, without a traceback."""
        say = self._log.error if record.levelno >= logging.ERROR else self._log.debug
        say(printable(record.getMessage()), "donjon.steward")

    def attach(self) -> None:
        """Take the place of whatever would print."""
        for name in ("uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [self], False


class _Server(uvicorn.Server):
    """Leaves signals to us: there are two servers in this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Ends connections on which no whole request head arrives in time, or on which nobody takes what was answered: each
    holds one of MAX_CONNECTIONS places."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taken()
        self._unread = self.loop.call_later(ANSWER_SECONDS, self._reset)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def _watch(self) -> None:
        """Begin to count where a head is awaited, and stop where it has come."""
        if self.conn.their_state is not h11.IDLE:
            self._rest()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _reset(self) -> None:
        """Hang up, and have the kernel forget what nobody takes."""
        connection = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _taken(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _config(application: ASGIApp, context: Callable[..., ssl.SSLContext] | None) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADERS,
        ssl_context_factory=context,
    )


def place(address: str, port: int) -> str:
    """An address and a port as URLs write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
