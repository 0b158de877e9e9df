"""A door to a proven Keep for programs that know nothing of proofs: plain TCP on this machine, TLS to the Keep.

    donjon connect shop.example.com:8443 --expect verify.toml --listen 127.0.0.1:8080

Every connection from here has one of its own to the Keep, which is judged before the first byte of either side passes.
What one side ends, the other sees ended, each direction by itself; what is cut, is cut on the other side too (by a TCP
reset), so that nobody takes half of an answer for the whole. Who reads slowly is waited for: a direction holds some
200 KiB at most.

Pins. The demands say what may run; a pin says in addition that it stays what it was when the proxy started:

    proof   TEE, measurement, workload, who has judged, and whether it is real: of the first proof. A Keep that renews
            its certificate, also with a fresh key, is the same by that; so is another one of the same workload.
    key     the key of the first proof as well. This is for Keeps that hold state; when such a Keep starts anew or
            takes a fresh key, the proxy has to start anew, too.
    none    the demands alone.

A key is not the default since it is not what was proven: keys are made anew whenever a Keep wants, and the proof binds
each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
from collections.abc import Coroutine
from typing import Any

from donjon.errors import DonjonError, PlatformError, words_of
from donjon.log import Logger, printable
from donjon.tee.contract import Checks
from donjon.tls.pipe import FEED, STARVED, TlsError, TlsPipe
from donjon.verify.connection import SECONDS, Address, cannot_connect
from donjon.verify.context import PeerRefusedError, ssl_context
from donjon.verify.demands import Demands
from donjon.verify.judgement import Proof, RefusedError

TARGET = "donjon.verify"
MAX_CONNECTIONS = 512
BUFFER = 64 * 1024
"""Bytes that are read at once, and that may wait to be sent before reading stops."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: nothing is waited for, and the peer gets a reset."""
PINS = ("proof", "key", "none")


class Pin:
    """Holds a Keep to its first proof.

    Args:
        what: one of PINS.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: Proof | None = None

    def accept(self, proof: Proof) -> None:
        """Take the first proof; compare each later one.

        Raises:
            RefusedError: it is another one.
        """
        first = self._first
        if first is None:
            self._first = proof
            return
        if self._what == "none":
            return
        checks = Checks("peer", proof.checks)
        spec = f"--pin {self._what}"
        for name in ("tee", "measurement", "workload", "anchor", "simulated", "protected"):
            checks.equal(f"pin.{name}", getattr(proof, name), getattr(first, name), spec)
        if self._what == "key":
            checks.equal("pin.key", proof.key, first.key, spec)
        if not checks.ok:
            raise RefusedError(checks.all, "if this change is meant, start `donjon connect` again")


class Proxy:
    """Listens, connects, judges, carries.

    Args:
        target: where the Keep is.
        pin: see the module.
    """

    def __init__(self, target: Address, demands: Demands, pin: str, log: Logger) -> None:
        self._target = target
        self._context = ssl_context(demands, Pin(pin).accept)
        self._log = log
        self._open: set[asyncio.Task[None]] = set()

    def run(self, listener: socket.socket, announce: Any) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            listener: bound, on this machine.
            announce: called without arguments when everything is ready.
        Raises:
            RefusedError: the Keep is not what was demanded. PlatformError: it cannot be reached.
        """
        asyncio.run(self._run(listener, announce))

    async def _run(self, listener: socket.socket, announce: Any) -> None:
        _, writer, pipe = await self._proven()  # before anybody connects here: what is wrong shows at once
        pipe.close_notify()
        writer.write(pipe.take())
        writer.close()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await asyncio.start_server(self._accepted, sock=listener, limit=BUFFER)
        announce()
        await stop.wait()
        server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= MAX_CONNECTIONS:
            self._log.warn(f"refused a connection: {MAX_CONNECTIONS} are open", target=TARGET)
            _reset(writer)
            return
        self._open.add(task)
        ended = False
        try:
            await self._serve(reader, writer)
            ended = True
        except asyncio.CancelledError:
            pass  # the proxy ends
        except DonjonError as error:
            hint = f"; {error.hint}" if error.hint else ""
            self._log.error(printable(f"{error.message}{hint}"), target=TARGET)
        except OSError as error:
            self._log.debug(f"a connection broke: {words_of(error)}", target=TARGET)
        finally:
            self._open.discard(task)
            if not ended:
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until both directions have ended."""
        keep_reader, keep_writer, pipe = await self._proven()
        _settle(writer)
        try:
            await _both(
                _to_keep(reader, keep_writer, pipe),
                _from_keep(keep_reader, keep_writer, writer, pipe),
            )
        except BaseException:
            _reset(keep_writer)
            raise
        for end in (keep_writer, writer):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()

    async def _proven(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, TlsPipe]:
        """Connect and shake hands; what comes back has been judged.

        Raises:
            RefusedError: by the demands or the pin. PlatformError: it cannot be reached, or speaks no TLS 1.3.
        """
        try:
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_connection(*self._target, limit=BUFFER)
        except (OSError, ValueError) as error:
            raise cannot_connect(self._target, error) from error
        try:
            pipe = TlsPipe(self._context, False, self._target.host, str(self._target))
            _settle(writer)
            async with asyncio.timeout(SECONDS):
                await _handshake(reader, writer, pipe)
        except TlsError as error:
            writer.transport.abort()
            if isinstance(error.__cause__, PeerRefusedError):
                refused = error.__cause__.refused
                raise RefusedError(refused.checks, refused.hint) from error
            raise PlatformError(f"cannot connect to {printable(str(self._target))}: {error.message}") from error
        except (OSError, ValueError) as error:
            writer.transport.abort()
            raise cannot_connect(self._target, error) from error
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer, pipe


async def _handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: TlsPipe) -> None:
    while not pipe.handshake():
        writer.write(pipe.take())
        await writer.drain()
        data = await reader.read(FEED)
        if data:
            pipe.feed(data)
        else:
            pipe.feed_eof()
    writer.write(pipe.take())


async def _to_keep(reader: asyncio.StreamReader, keep: asyncio.StreamWriter, pipe: TlsPipe) -> None:
    """Carry what comes from here, until it ends."""
    while data := await reader.read(BUFFER):
        keep.write(pipe.seal(data))
        await keep.drain()
    pipe.close_notify()
    keep.write(pipe.take())
    await keep.drain()


async def _from_keep(
    reader: asyncio.StreamReader, keep: asyncio.StreamWriter, writer: asyncio.StreamWriter, pipe: TlsPipe
) -> None:
    """Carry what comes from the Keep, until it says that this was all.

    Raises:
        TlsError: it was cut, or altered.
    """
    room = memoryview(bytearray(BUFFER))
    while True:
        size = pipe.read_into(room)
        if size > 0:
            writer.write(bytes(room[:size]))
            await writer.drain()
        elif size == STARVED:
            if answer := pipe.take():  # a KeyUpdate has one
                keep.write(answer)
            data = await reader.read(FEED)
            if data:
                pipe.feed(data)
            else:
                pipe.feed_eof()
        else:
            writer.write_eof()
            return


async def _both(*directions: Coroutine[Any, Any, None]) -> None:
    """Run both to their ends; when one fails, the other has none to wait for."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _settle(writer: asyncio.StreamWriter) -> None:
    """Small messages go at once; who is gone without a word is found out; what waits to be sent is bounded."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    writer.transport.set_write_buffer_limits(high=BUFFER)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Hang up so that it does not look like an end: by a TCP reset, with whatever was still to be sent."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


def listen(address: Address) -> socket.socket:
    """Bind where programs of this machine connect to.

    Raises:
        PlatformError: it cannot be.
    """
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server(address, family=family)
    except (OSError, ValueError) as error:
        what = words_of(error) if isinstance(error, OSError) else "not a host name"
        raise PlatformError(f"cannot listen on {printable(str(address))}: {printable(what)}", "try port 0") from error
