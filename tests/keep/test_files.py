"""Reaching peers that do not answer; what listeners and directories do is in tests/system and tests/wasm."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from donjon.config import Config, Connect, Listen
from donjon.errors import PlatformError
from donjon.keep import files
from donjon.keep.credentials import Credentials
from donjon.keep.files import Opener
from donjon.keep.launch import Launch
from donjon.log import QUIET
from donjon.wasm.wasi.reactor import Reactor
from tests.keep.stewards import Steward, pem


def reach(entry: Connect) -> None:
    Opener(Launch(b"", Config(files=[entry])), Reactor(), QUIET, None).open(entry)


def test_a_peer_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        port = silent.getsockname()[1]
        with pytest.raises(PlatformError) as caught:
            reach(Connect(host="127.0.0.1", port=port))
    assert caught.value.message == f'cannot connect to 127.0.0.1:{port} for "127.0.0.1": no TLS handshake within 0.2 s'
    assert time.monotonic() - begun < 5


def test_a_peer_that_drips_its_handshake_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as dripping:

        def drip() -> None:
            connection, _ = dripping.accept()
            with connection:
                connection.sendall(bytes.fromhex("16 03 03 40 00"))  # a record of 16 KiB, of which little comes
                try:
                    while True:
                        connection.sendall(b"\0")
                        time.sleep(0.02)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(PlatformError, match=r"no TLS handshake within 0\.3 s"):
            reach(Connect(host="127.0.0.1", port=dripping.getsockname()[1]))
        thread.join()


def test_a_peer_that_does_not_even_accept_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = []
        for _ in range(8):  # until the kernel's queue is full and takes no more
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            waiting.append(client)
        try:
            with pytest.raises(PlatformError, match="timed out"):
                reach(Connect(host="127.0.0.1", prot="tcp", port=address[1]))
        finally:
            for client in waiting:
                client.close()


def test_listeners_that_trust_the_same_share_a_context_and_all_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[ssl.SSLContext] = []
    monkeypatch.setattr(Credentials, "show_in", lambda _, context: renewed.append(context))
    first, second = pem(Steward().anchor), pem(Steward().anchor)
    ways: list[list[str] | None] = [None, ["first"], ["first"], ["second"], ["first", "second"], None]
    entries = [Listen(name="in", addr="127.0.0.1", port=0, ca=ca) for ca in ways]
    config = Config(files=entries, roots={"first": first, "second": second})
    opener = Opener(Launch(b"", config), Reactor(), QUIET, None)
    opened = [opener.open(entry) for entry in entries]
    for descriptor in opened:
        descriptor.close()
    opener.close()
    demands = [context.verify_mode is ssl.CERT_REQUIRED for context in renewed]
    assert demands == [False, True, True, True]
    assert [len(context.get_ca_certs()) for context in renewed] == [0, 1, 1, 2]
