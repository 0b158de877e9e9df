"""Both ends of TLS, in memory and in this process."""

from __future__ import annotations

import ssl

from donjon.identity import Identity
from donjon.tls import TlsPipe, client_context, server_context


class Ends:
    """Makes pairs of pipes that trust each other, and moves bytes between them."""

    def __init__(self, identity: Identity, roots: str) -> None:
        self.identity = identity
        self.roots = roots
        self.server = server_context(identity)
        self.client = client_context(identity, roots)

    def fresh(self, name: str = "localhost") -> tuple[TlsPipe, TlsPipe]:
        return serve(self.server), call(self.client, name)

    def joined(self, step: int | None = None) -> tuple[TlsPipe, TlsPipe]:
        """A server and a client after their handshake, fed `step` bytes at a time."""
        server, client = self.fresh()
        shake(server, client, step)
        return server, client


def serve(context: ssl.SSLContext) -> TlsPipe:
    return TlsPipe(context, server_side=True)


def call(context: ssl.SSLContext, name: str | None = "localhost", peer: str | None = None) -> TlsPipe:
    return TlsPipe(context, server_side=False, server_hostname=name, peer=peer)


def shake(server: TlsPipe, client: TlsPipe, step: int | None = None) -> None:
    for _ in range(6):
        client.handshake()
        for piece in pieces(client.take(), step):
            server.feed(piece)
            server.handshake()
        for piece in pieces(server.take(), step):
            client.feed(piece)
            client.handshake()
        if server.handshaken and client.handshaken:
            return
    raise AssertionError("the handshake does not end")


def pieces(data: bytes, step: int | None) -> list[bytes]:
    step = step or len(data) or 1
    return [data[start : start + step] for start in range(0, len(data), step)]


def drain(pipe: TlsPipe, room: int = 70_000) -> tuple[bytes, int]:
    """All that can be read now, and the answer (0 or STARVED) that ended it."""
    buffer, data = bytearray(room), b""
    while (size := pipe.read_into(memoryview(buffer))) > 0:
        data += buffer[:size]
    return data, size
