"""The configuration: what is negotiated, whom we trust, and where the private key goes."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from donjon.errors import ParseError, PlatformError, UsageError, VerifyError
from donjon.identity import Identity, self_signed
from donjon.tls import FEED, TlsError, TlsPipe, Unproven, client_context, context, server_context
from tests.keep.stewards import Steward
from tests.tls.ends import Ends, call, drain, serve, shake

OPENSSL = shutil.which("openssl")
GENUINE = OPENSSL is not None and subprocess.check_output([OPENSSL, "version"]).startswith(b"OpenSSL 3")
needs_openssl = pytest.mark.skipif(not GENUINE, reason="speaks to the openssl command (3.x; macOS has another's)")
SECONDS = 20  # until a test that hangs is given up

SUITES = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
GROUPS = ["X25519", "P-256", "P-384"]


class Service(threading.Thread):
    """Serves one connection on loopback through a pipe; notes what each piece of ciphertext did to it."""

    def __init__(self, ends: Ends) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.port = self.listener.getsockname()[1]
        self.pipe = serve(ends.server)
        self.ready: list[bool] = []  # whether the piece held data or an end
        self.received = b""
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.listener, self.listener.accept()[0] as peer:
                peer.settimeout(SECONDS)
                self._serve(peer)
        except BaseException as error:
            self.failure = error

    def _serve(self, peer: socket.socket) -> None:
        pipe = self.pipe
        while not pipe.handshake():
            peer.sendall(pipe.take())
            pipe.feed(peer.recv(FEED))
        peer.sendall(pipe.seal(b"welcome\n"))
        while not pipe.eof:
            data = peer.recv(FEED)
            if not data:
                pipe.feed_eof()
            pipe.feed(data)
            self.ready.append(pipe.prefetch())
            more, _ = drain(pipe)
            self.received += more
            if more:
                peer.sendall(pipe.seal(more.upper()))
        pipe.close_notify()
        peer.sendall(pipe.take())

    def result(self) -> Service:
        self.join(SECONDS)
        assert not self.is_alive(), "the service hangs"
        if self.failure:
            raise self.failure
        return self


def s_client(service: Service, ends: Ends, *options: str) -> subprocess.Popen[bytes]:
    place = f"127.0.0.1:{service.port}"
    command = [str(OPENSSL), "s_client", "-connect", place, "-CAfile", ends.roots, "-verify_return_error", *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def until(process: subprocess.Popen[bytes], word: bytes) -> bytes:
    """Read the process's output up to `word`."""
    assert process.stdout is not None
    seen = b""
    while word not in seen:
        byte = process.stdout.read(1)
        assert byte, seen
        seen += byte
    return seen


@needs_openssl
@pytest.mark.parametrize(("suite", "group"), [(s, "X25519") for s in SUITES] + [(SUITES[0], g) for g in GROUPS[1:]])
def test_enarx_suites_and_groups_are_all_accepted(ends: Ends, suite: str, group: str) -> None:
    service = Service(ends)
    with s_client(service, ends, "-ciphersuites", suite, "-groups", group, "-verify_hostname", "localhost") as client:
        until(client, b"welcome\n")
        client.communicate(b"", SECONDS)  # the end of its input makes it send close_notify
    assert service.result().pipe.suite == suite


@needs_openssl
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("group", GROUPS)
def test_enarx_suites_and_groups_are_all_offered(ends: Ends, tmp_path: Path, suite: str, group: str) -> None:
    (tmp_path / "chain").write_bytes(ends.identity.chain_pem())
    (tmp_path / "key").write_bytes(ends.identity.key_pem())
    command = [str(OPENSSL), "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", str(tmp_path / "chain")]
    command += ["-key", str(tmp_path / "key"), "-ciphersuites", suite, "-groups", group, "-Verify", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        line = until(server, b"ACCEPT") + until(server, b"\n")
        port = int(line.rsplit(b":", 1)[1])
        pipe = call(ends.client)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as peer:
            while not pipe.handshake():
                peer.sendall(pipe.take())
                data = peer.recv(FEED)
                if not data:
                    pipe.feed_eof()
                pipe.feed(data)
            peer.sendall(pipe.take())
            pipe.close_notify()
            peer.sendall(pipe.take())
        output, _ = server.communicate(b"", SECONDS)
    assert pipe.suite == suite
    assert b"CN = localhost" in output or b"CN=localhost" in output, "the Keep's certificate is shown when asked for"


@needs_openssl
@pytest.mark.skipif(ssl.OPENSSL_VERSION_INFO < (3, 5), reason="OpenSSL has X25519MLKEM768 from 3.5 on")
def test_the_hybrid_post_quantum_group_is_accepted(ends: Ends) -> None:
    service = Service(ends)
    with s_client(service, ends, "-groups", "X25519MLKEM768") as client:
        until(client, b"welcome\n")
        client.communicate(b"", SECONDS)
    assert service.result().pipe.eof


@needs_openssl
def test_a_key_update_is_no_data_and_is_answered(ends: Ends) -> None:
    service = Service(ends)
    with s_client(service, ends) as client:
        assert client.stdin is not None
        until(client, b"welcome\n")
        client.stdin.write(b"K\n")
        client.stdin.flush()
        until(client, b"KEYUPDATE\n")
        for _ in range(SECONDS * 100):  # it comes by itself, so that the next line is not in the same piece
            if service.ready:
                break
            time.sleep(0.01)
        client.stdin.write(b"after the update\n")
        client.stdin.flush()
        until(client, b"AFTER THE UPDATE\n")
        client.communicate(b"", SECONDS)
    service.result()
    assert service.received == b"after the update\n"
    assert service.ready[0] is False, "a KeyUpdate alone makes nothing ready"


@needs_openssl
@pytest.mark.parametrize("options", [["-tls1_2"], ["-groups", "P-521:ffdhe2048", "-tls1_2"]])
def test_openssl_with_tls_1_2_only_is_refused(ends: Ends, options: list[str]) -> None:
    service = Service(ends)
    with s_client(service, ends, *options) as client:
        client.communicate(b"", SECONDS)
    with pytest.raises(TlsError, match=r"peer does not offer TLS 1\.3"):
        service.result()


def test_only_tls_1_3_is_allowed_on_both_sides(ends: Ends) -> None:
    for made in (ends.server, ends.client):
        assert made.minimum_version is made.maximum_version is ssl.TLSVersion.TLSv1_3
        assert made.options & ssl.OP_NO_COMPRESSION
        assert not made.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert ends.server.num_tickets == 0
    assert ends.client.check_hostname
    assert ends.client.verify_mode is ssl.CERT_REQUIRED


def test_secrets_are_not_logged(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "secrets"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    server, client = server_context(ends.identity), client_context(ends.identity, ends.roots)
    shake(serve(server), call(client))
    assert not log.exists()


# Whom a client trusts


def test_ssl_cert_file_names_whom_to_trust(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ends.roots)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    shake(
        serve(ends.server),
        call(client_context(None)),
    )


@needs_openssl
def test_ssl_cert_dir_names_whom_to_trust(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = subprocess.check_output([str(OPENSSL), "x509", "-noout", "-subject_hash", "-in", ends.roots], text=True)
    (tmp_path / f"{digest.strip()}.0").write_bytes(Path(ends.roots).read_bytes())
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    shake(
        serve(ends.server),
        call(client_context(None)),
    )


def test_roots_given_replace_the_systems(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ends.roots)
    other = tmp_path / "other.pem"
    other.write_bytes(self_signed().chain_pem())
    with pytest.raises(TlsError, match="certificate verify failed"):
        shake(
            serve(ends.server),
            call(client_context(None, str(other))),
        )


@pytest.fixture(scope="module")
def steward() -> Steward:
    return Steward()


def test_certificates_given_replace_the_systems_roots(
    ends: Ends, steward: Steward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ends.roots)
    keep = steward.keep(names=("localhost",))
    shake(serve(server_context(keep)), call(client_context(None, [steward.anchor])))
    with pytest.raises(Unproven, match="certificate verify failed"):
        shake(serve(ends.server), call(client_context(None, [steward.anchor])))


def demanding(steward: Steward, *anchors: bytes) -> TlsPipe:
    return serve(server_context(steward.keep(), anchors))


def test_a_server_with_anchors_demands_a_certificate_below_one_of_them(ends: Ends, steward: Steward) -> None:
    other = Steward("Other")
    for keep in (steward.keep(), other.keep()):
        server = demanding(steward, steward.anchor, other.anchor)
        shake(server, call(client_context(keep, [steward.anchor], check_name=False)))
        assert server.peer_chain[:2] == keep.chain, "the client sends all of its chain"
    for client in (ends.identity, None, other.keep()):
        with pytest.raises(Unproven):
            shake(
                demanding(steward, steward.anchor),
                call(client_context(client, [steward.anchor], check_name=False)),
            )


def test_a_certificate_can_be_trusted_by_itself(ends: Ends, steward: Steward) -> None:
    shake(
        demanding(steward, ends.identity.certificate),
        call(client_context(ends.identity, [steward.anchor], check_name=False)),
    )


def test_an_authority_that_another_has_issued_can_be_trusted_without_its_root(steward: Steward) -> None:
    keep, other = steward.keep(), Steward("Other").keep()
    shake(demanding(steward, keep.chain[1]), call(client_context(keep, [steward.anchor], check_name=False)))
    with pytest.raises(Unproven, match="unable to get"):
        shake(demanding(steward, other.chain[1]), call(client_context(keep, [steward.anchor], check_name=False)))


def test_names_are_checked_unless_somebody_else_does(steward: Steward) -> None:
    keep = steward.keep(names=("shop.example.com",))
    with pytest.raises(Unproven, match="hostname mismatch"):
        shake(serve(server_context(keep)), call(client_context(None, [steward.anchor])))
    unnamed = client_context(None, [steward.anchor], check_name=False)
    assert unnamed.verify_mode is ssl.CERT_REQUIRED
    shake(serve(server_context(keep)), call(unnamed))


def test_another_identity_is_shown_from_the_next_handshake_on(steward: Steward) -> None:
    first, second = steward.keep(), steward.keep()
    made = server_context(first)
    before = call(client_context(None, [steward.anchor], check_name=False))
    server = serve(made)
    shake(server, before)
    context.show(made, second)
    after = call(client_context(None, [steward.anchor], check_name=False))
    shake(serve(made), after)
    assert (before.peer_chain[:2], after.peer_chain[:2]) == (first.chain, second.chain)
    before.feed(server.seal(b"still open"))
    assert drain(before)[0] == b"still open"


def test_an_anchor_that_openssl_cannot_read_is_named(ends: Ends) -> None:
    with pytest.raises(ParseError, match=r"^certificate 2 to be trusted: expected one that OpenSSL can read$"):
        server_context(ends.identity, [ends.identity.certificate, b"0\x03\x02\x01\x01"])
    with pytest.raises(ParseError, match=r"^certificate 1 to be trusted"):
        client_context(None, [b""])


def test_a_certificate_that_hides_behind_another_is_not_trusted() -> None:
    """OpenSSL reads on where tools that show a file stop."""
    shown, hidden = self_signed(), self_signed()
    with pytest.raises(ParseError, match=r"^certificate 2 to be trusted: expected one certificate, got 2$"):
        client_context(None, [self_signed().certificate, shown.certificate + hidden.certificate])
    with pytest.raises(ParseError, match=r"^certificate 1 to be trusted: expected one certificate, got 2$"):
        server_context(shown, [shown.certificate + hidden.certificate])
    client_context(None, [shown.certificate, shown.certificate])  # one twice is one


def test_roots_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_text("no certificates")
    with pytest.raises(UsageError, match=r"missing\.pem: cannot read it: no such file or directory"):
        client_context(None, str(missing))
    with pytest.raises(UsageError, match=r"empty\.pem: expected certificates in PEM"):
        client_context(None, str(empty))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(missing))
    with pytest.raises(UsageError, match=r"^SSL_CERT_FILE: .*missing\.pem: cannot read it"):
        client_context(None)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(missing))
    with pytest.raises(UsageError, match=r"^SSL_CERT_DIR: expected a directory, got '.*missing\.pem'"):
        client_context(None)


def test_a_python_built_for_another_place_finds_the_systems_roots(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    nowhere = ssl.DefaultVerifyPaths("", "", "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(context, "SYSTEM_ROOTS", (str(tmp_path / "none"), ends.roots))
    shake(
        serve(ends.server),
        call(client_context(None)),
    )
    monkeypatch.setattr(context, "SYSTEM_ROOTS", (str(tmp_path / "none"),))
    with pytest.raises(PlatformError, match="no root certificates") as caught:
        client_context(None)
    assert "SSL_CERT_FILE" in (caught.value.hint or "")


# Where the private key goes


@pytest.fixture(params=["memory", "pipe"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pipe":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no anonymous memory files")
    return str(request.param)


def descriptors() -> list[str]:
    return sorted(os.listdir("/dev/fd"), key=int)


def test_the_key_is_loaded_without_a_file_and_without_a_descriptor_left(ends: Ends, way: str) -> None:
    opened: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append(arguments[0])

    before = descriptors()
    watching = True
    sys.addaudithook(watch)
    server, client = server_context(ends.identity), client_context(ends.identity, ends.roots)
    watching = False
    assert opened == []
    assert descriptors() == before
    shake(serve(server), call(client))


def test_a_key_that_does_not_fit_is_refused_and_no_descriptor_is_left(ends: Ends, way: str) -> None:
    wrong = Identity(self_signed()._key, ends.identity.chain)
    before = descriptors()
    for identity in (wrong, Identity(b"", ends.identity.chain), Identity(b"\0" * 40, (b"\0" * 40,))):
        with pytest.raises(VerifyError, match="certificate and key are damaged, or do not belong together"):
            server_context(identity)
    assert descriptors() == before


def test_a_chain_longer_than_a_pipe_holds_is_loaded_or_refused(ends: Ends, way: str) -> None:
    before = descriptors()
    endless = Identity(ends.identity._key, ends.identity.chain * 2_000)
    if way == "memory":
        server_context(endless)
    else:
        with pytest.raises(PlatformError, match="too long for a pipe"):
            server_context(endless)
    assert descriptors() == before


def test_a_system_without_paths_for_descriptors_is_said_so(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_path", lambda descriptor: f"/nowhere/{descriptor}")
    before = descriptors()
    with pytest.raises(PlatformError, match="cannot hand the Keep's key to OpenSSL through /nowhere/"):
        server_context(ends.identity)
    assert descriptors() == before
