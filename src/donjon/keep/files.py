"""Opens what a configuration names beside the standard streams: sockets and directories."""

from __future__ import annotations

import socket

from donjon.errors import PlatformError, UsageError, VerifyError, words_of
from donjon.keep import network
from donjon.keep.network import CONNECT_SECONDS, have_descriptors
from donjon.wasm.wasi.descriptors.socket import Budget, TcpListener, TcpStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from donjon.config.models import Config, Connect, Dir, File, Listen
    from donjon.identity import Identity
    from donjon.keep.credentials import Credentials
    from donjon.keep.launch import Launch
    from donjon.log import Logger
    from donjon.tls.streams import Judge
    from donjon.wasm.wasi.descriptors.base import Descriptor
    from donjon.wasm.wasi.reactor import Reactor

__all__ = ["Opener", "names_of"]

EVERYWHERE = ("::", "0.0.0.0", "")  # noqa: S104 - these are no names for a certificate


class Opener:
    """Opens the files of one Keep; what TLS needs is made once, when the first TLS socket is opened.

    Attributes:
        directories: the descriptors of those that are open, each with whether the guest may write there.
        loaded: packages that judge peers, and may load more of themselves when one comes.
    """

    def __init__(
        self, launch: Launch, reactor: Reactor, log: Logger, on_listen: Callable[[str, str, int], None] | None
    ) -> None:
        config = launch.config
        self._launch = launch
        self._config = config
        self._reactor = reactor
        self._log = log
        self._on_listen = on_listen
        self._budget = Budget(config.limits.connections)
        self._credentials = self._begin_identity(launch)
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}  # by what sets them apart
        self.directories: list[tuple[int, bool]] = []
        self.loaded: tuple[str, ...] = ()
        # A connection can be outside the guest's table (its handshake is under way, or what it still has to send), and
        # has a second descriptor while the peer is slow to take what was written.
        have_descriptors(config.limits.descriptors + 2 * config.limits.connections)

    def open(self, file: File) -> Descriptor:
        """Open one entry.

        Raises:
            PlatformError, UsageError, VerifyError: it cannot be; the message names the entry.
        """
        if file.kind == "listen":
            return self._listen(file)
        if file.kind == "connect":
            return self._connect(file)
        assert file.kind == "dir"  # noqa: S101 - nil.py opens the other kinds, and a configuration has no more
        return self._dir(file)

    def finish(self) -> None:
        """Everything is open: what was begun has to be there before the guest runs.

        Raises:
            DonjonError: the identity that the configuration demands cannot be had.
        """
        if self._credentials is not None:
            self._credentials.identity()

    def close(self) -> None:
        """End what goes on beside the guest."""
        if self._credentials is not None:
            self._credentials.close()

    # ---- listen

    def _listen(self, file: Listen) -> Descriptor:
        listener, host, port = network.current().bind(file)
        descriptor: Descriptor
        try:
            if file.prot == "tls":
                from donjon.tls.listener import TlsListener

                context, judge = self._server_context(file), self._judge(file)
                descriptor = TlsListener(listener, context, self._reactor, self._budget, self._log, judge)
            else:
                descriptor = TcpListener(listener, self._reactor, self._budget)
        except BaseException:
            listener.close()
            raise
        shown = f"[{host}]" if ":" in host else host
        self._log.info(f'listening on {shown}:{port} ({file.prot}) as "{file.name}"')
        if self._on_listen is not None:
            self._on_listen(file.name, host, port)
        return descriptor

    def _server_context(self, file: Listen) -> ssl.SSLContext:
        key = ("listen", file.ca)
        if key not in self._contexts:
            from donjon.tls.context import server_context

            context = server_context(self._own_identity(), self._anchors(file))
            self._credentials_or_fail().show_in(context)
            self._contexts[key] = context
        return self._contexts[key]

    def _anchors(self, file: Listen | Connect) -> tuple[bytes, ...]:
        """The certificates in `ca`, each once."""
        roots = self._launch.roots()
        return tuple(dict.fromkeys(one for name in file.ca or () for one in roots[name].certificates))

    def _judge(self, file: Listen | Connect) -> Judge | None:
        if file.verify is None:
            return None
        from donjon.keep.peers import judge_of

        self.loaded = ("cryptography", "msgspec", "cbor2")
        return judge_of(file.verify, self._anchors(file), "client" if file.kind == "listen" else "server")

    def _begin_identity(self, launch: Launch) -> Credentials | None:
        """Have the key and certificate made, if any socket or Steward needs them, while the sockets are opened here."""
        sockets = [file for file in self._config.files if file.kind in ("listen", "connect")]
        if self._config.steward is None and not any(file.prot == "tls" for file in sockets):
            return None
        from donjon.keep.credentials import Credentials, maker

        begin = network.current().begin(launch)
        return Credentials(maker(launch, names_of(self._config)), self._reactor, self._log, begin=begin)

    def _credentials_or_fail(self) -> Credentials:
        assert self._credentials is not None  # noqa: S101 - a TLS socket asks, so there are some
        return self._credentials

    def _own_identity(self) -> Identity:
        return self._credentials_or_fail().identity()

    # ---- connect

    def _connect(self, file: Connect) -> Descriptor:
        peer = f"[{file.host}]:{file.port}" if ":" in file.host else f"{file.host}:{file.port}"
        if not self._budget.take():
            raise UsageError(f'cannot connect to {peer} for "{file.name}": limits.connections is reached')
        connection = network.current().reach(file, peer, CONNECT_SECONDS)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if file.prot == "tcp":
                return TcpStream(connection, self._reactor, self._budget)
            return self._connect_tls(file, connection, peer)
        except OSError as error:
            connection.close()
            raise PlatformError(f'cannot connect to {peer} for "{file.name}": {words_of(error)}') from error
        except BaseException:
            connection.close()
            raise

    def _connect_tls(self, file: Connect, connection: socket.socket, peer: str) -> Descriptor:
        from donjon.tls import streams

        context, judge = self._client_context(file), self._judge(file)  # what fails here is not the peer's fault
        try:
            return streams.connect(
                connection, context, file.host, peer, self._reactor, self._budget, CONNECT_SECONDS, judge
            )
        except VerifyError as error:
            raise VerifyError(
                f'cannot connect to {peer} for "{file.name}": {error.message}', hint=_hint(error, file)
            ) from error

    def _client_context(self, file: Connect) -> ssl.SSLContext:
        check_name = file.verify is None or not file.verify.identifies
        key = ("connect", file.ca, check_name)
        if key not in self._contexts:
            from donjon.tls.context import client_context

            self._contexts[key] = client_context(self._own_identity(), self._anchors(file) or None, check_name)
        return self._contexts[key]

    # ---- directories

    def _dir(self, file: Dir) -> Descriptor:
        from donjon.wasm.wasi.descriptors.directory import preopen

        try:
            opened = preopen(file.host, file.guest, writable=file.mode == "rw")
        except OSError as error:
            raise UsageError(
                f'cannot open the directory {file.host} for "{file.name}": {words_of(error)}',
                hint="`host` in Enarx.toml is the directory outside, relative to where Enarx.toml is",
            ) from error
        self.directories.append((opened.handle, opened.writable))
        return opened


def names_of(config: Config) -> list[str]:
    """What clients connect to, for a certificate that the Keep signs itself."""
    return sorted({file.addr for file in config.files if file.kind == "listen"} - set(EVERYWHERE))


def _hint(error: VerifyError, file: Connect) -> str:
    """What helps a user whose peer is not accepted."""
    from donjon.tls.pipe import TRUST

    if error.hint and not (file.ca and error.hint == TRUST):
        return error.hint
    if file.ca:
        return f"the peer's certificate must lead to a root in {', '.join(file.ca)}, see `ca` and [roots] in Enarx.toml"
    return "the peer's certificate must lead to a root of this system, or of $SSL_CERT_FILE"
