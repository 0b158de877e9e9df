"""The service as a process: real sockets, real signals, and what is left after kill -9."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from donjon.cli.main import main
from donjon.errors import PlatformError, UsageError
from donjon.identity import Identity, self_signed
from donjon.steward import serve
from donjon.steward.files import write_roots
from donjon.steward.record import Record
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Vendor
from donjon.wire.der import SEQUENCE, Der
from tests.steward.requests import kvm_request
from tests.steward.test_depot import alone
from tests.steward.vendors import Fake
from tests.tee.snp.machines import Machines

Captured = pytest.CaptureFixture[str]


class Process:
    """`donjon steward serve` in a directory."""

    def __init__(self, directory: Path, *words: str, policy: str = "") -> None:
        (directory / "p.toml").write_text(f"accept_unattested = true\n{policy}")
        command = [sys.executable, "-m", "donjon", "steward", "serve", "--policy", "p.toml", "--addr", "127.0.0.1"]
        command += ["--port", "0", "--admin-port", "0", "--state", "state", *words]
        self.process = subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self.port, self.admin = self._port(), self._port()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _port(self) -> int:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"listening on https?://127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise AssertionError("".join(self.said))

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said += self.process.stderr

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def post(self, body: bytes) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("POST", "/", body, {"Content-Type": "application/pkcs10"})
            reply = connection.getresponse()
            return reply.status, reply.read()

    def get(self, target: str) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)) as connection:
            connection.request("GET", target)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGKILL)


def leaf_of(body: bytes) -> x509.Certificate:
    path = Der(body, "path").sequence()
    path.whole(SEQUENCE, "issuer")
    return x509.load_der_x509_certificate(path.whole(SEQUENCE, "leaf"))


@pytest.mark.slow
def test_serves_until_it_is_told_to_end_and_its_record_is_whole(
    process: Process, tmp_path: Path, capfd: Captured
) -> None:
    status, body = process.post(kvm_request())
    assert status == 200
    assert process.get("/readyz")[1]["record_entries"] == 1
    assert process.end() == 0
    said = "".join(process.said)
    assert "donjon: warning: evidence that proves nothing is accepted: for development only\n" in said
    assert "kvm: issued " in said
    record = str(tmp_path / "state/record.sqlite")
    assert main(["steward", "check-record", record]) == 0
    entries, digest = capfd.readouterr().out.split("\n")[:2]
    assert entries == "1 entries"
    assert main(["steward", "check-record", record, "--head", digest]) == 0
    assert main(["steward", "check-record", record, "--head", "00" * 31 + "01"]) == 4
    with Record(record, read_only=True) as book:
        assert book.of_serial(leaf_of(body).serial_number) is not None


@pytest.mark.slow
def test_starts_again_with_the_same_authority_and_record(tmp_path: Path) -> None:
    first = Process(tmp_path)
    issuer = first.post(kvm_request())[1][:600]
    assert first.end(signal.SIGINT) == 0
    second = Process(tmp_path)
    assert second.post(kvm_request())[1][10:400] == issuer[10:400]
    assert second.get("/readyz")[1]["record_entries"] == 2
    assert second.end() == 0


@pytest.mark.slow
def test_kill_9_under_load_loses_the_record_of_no_certificate(process: Process, tmp_path: Path) -> None:
    serials: list[int] = []

    def ask() -> None:
        while True:
            try:
                status, body = process.post(kvm_request())
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                serials.append(leaf_of(body).serial_number)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(serials) < 20:
        time.sleep(0.01)
    process.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    with Record(str(tmp_path / "state/record.sqlite")) as book:
        book.verify()
        assert all(book.of_serial(serial) is not None for serial in serials)


@pytest.mark.slow
def test_speaks_tls(tmp_path: Path) -> None:
    identity = self_signed()
    (tmp_path / "tls.key").write_bytes(identity.key_pem())
    (tmp_path / "tls.crt").write_bytes(identity.chain_pem())
    process = Process(tmp_path, "--tls-key", "tls.key", "--tls-crt", "tls.crt")
    assert any("tls.key: everybody on this machine can read the key" in line for line in process.said)
    context = ssl.create_default_context(cadata=identity.chain_pem().decode())
    connection = http.client.HTTPSConnection("127.0.0.1", process.port, timeout=10, context=context)
    with closing(connection):
        connection.request("POST", "/", kvm_request(), {"Content-Type": "application/pkcs10"})
        assert connection.getresponse().status == 200
    assert process.end() == 0


@pytest.mark.slow
def test_says_that_it_is_not_ready_while_it_drains(tmp_path: Path) -> None:
    process = Process(tmp_path, "--drain", "60")
    process.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    status = 200
    while status == 200 and time.monotonic() < deadline:
        status = process.get("/readyz")[0]
    assert status == 503
    assert process.post(kvm_request())[0] == 200
    process.process.send_signal(signal.SIGTERM)  # asked twice
    assert process.process.wait(20) == 1
    assert process.process.stderr is not None
    process.process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--log-filter", "debug")], ids=["usually", "when it is asked for"])
def test_what_is_no_http_is_told_to_whoever_asks(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = Process(tmp_path, *words)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", process.port), 10) as connection:
            connection.sendall(b"GARBAGE\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert process.end() == 0
    told = [line for line in process.said if "Invalid HTTP request" in line]
    assert len(told) == (3 if words else 0)
    assert all(line.startswith("donjon: ") for line in process.said), process.said


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"POST / HT"], ids=["nothing", "half a line"])
def test_ends_a_connection_on_which_no_request_arrives(tmp_path: Path, sent: bytes) -> None:
    words = ["steward", "serve", "--addr", "127.0.0.1", "--port", "0", "--admin-port", "0"]
    code = "import sys; from donjon.cli.main import main; from donjon.steward import serve; serve.HEAD_SECONDS = 0.3; "
    code += f"sys.exit(main({words!r}))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "listening" in line)
        found = re.search(r":(\d+)$", line.strip())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), 10) as connection:
            connection.sendall(sent)
            assert connection.recv(1) == b""
        process.terminate()


@pytest.mark.slow
def test_ends_a_connection_on_which_nobody_takes_the_answers(tmp_path: Path) -> None:
    """Else it held its place, and megabytes of the kernel's, for as long as it likes."""
    words = ["steward", "serve", "--addr", "127.0.0.1", "--port", "0", "--admin-port", "0"]
    code = "import sys; from donjon.cli.main import main; from donjon.steward import serve; "
    code += f"serve.ANSWER_SECONDS = 0.3; sys.exit(main({words!r}))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "listening" in line)
        found = re.search(r":(\d+)$", line.strip())
        assert found is not None
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.settimeout(10)
            connection.connect(("127.0.0.1", int(found[1])))
            connection.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1400)
            gone = select.poll()
            gone.register(connection, 0)  # POLLERR and POLLHUP are told anyway
            ended = gone.poll(10_000)
        process.terminate()
    assert ended


# Before it serves


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--port", "65536"], 2, "--port: expected a number from 0 to 65535"),
        (["--port", "x"], 2, '--port: expected a number from 0 to 65535, got "x"'),
        (["--admin-port", "-1"], 2, "--admin-port"),
        (["--key", "k"], 2, "expected --key and --crt together"),
        (["--tls-crt", "k"], 2, "expected --tls-key and --tls-crt together"),
        (["--tls-crt", "missing", "--tls-key", "missing"], 2, "cannot use missing and missing for TLS"),
        (["--addr", "localhost", "--port", "0"], 2, 'expected an IP address to listen on, got "localhost"'),
        (["--policy", "missing"], 2, "cannot read missing"),
        (["--roots", "bad.toml"], 1, "bad.toml:1:"),
        (["--state", "bad.toml"], 3, "cannot make bad.toml"),
        (["--port", "0", "--admin-port", "0", "--record", "."], 3, "cannot open the record"),
    ],
)
def test_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[")
    assert main(["steward", "serve", *words]) == code
    assert message in capfd.readouterr().err
    assert not (tmp_path / "steward/root.key").exists()


def test_refuses_a_state_whose_key_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    from datetime import UTC, datetime

    from donjon.steward import authority

    authority.create("steward", datetime.now(UTC))
    os.chmod("steward/issuing.pem", 0o644)
    assert main(["steward", "serve", "--addr", "127.0.0.1", "--port", "0"]) == 2
    assert "chmod 600 steward/issuing.pem" in capfd.readouterr().err


def test_says_which_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "donjon.steward.serve", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    import donjon.steward

    monkeypatch.delattr(donjon.steward, "serve", raising=False)
    assert main(["steward", "serve"]) == 3
    assert "pip install starlette uvicorn h11" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["missing"], "no such file"), (["p", "--head", "00"], "--head: expected 64 hex digits")],
)
def test_check_record_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["steward", "check-record", *words]) == 2
    assert message in capfd.readouterr().err


def test_a_port_that_is_taken_is_said_so() -> None:
    with closing(serve.listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PlatformError, match=f"cannot listen on 127.0.0.1:{port}: address already in use") as caught:
            serve.listen("127.0.0.1", port)
        assert caught.value.hint == "stop what uses it, or choose another port (0: any free one)"


def test_listens_on_everything_with_one_socket() -> None:
    with closing(serve.listen("::", 0)) as listener:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, listener.getsockname()[1]), 5):
                pass
    with pytest.raises(UsageError):
        serve.listen("no:address", 0)


def test_the_body_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    # asyncio turns Nagle's algorithm off for sockets that say that they are TCP, and for no others.
    with serve.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.proto == socket.IPPROTO_TCP


# While it serves


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_sighup_reads_the_policy_anew_and_keeps_the_old_one_if_it_is_wrong(process: Process, tmp_path: Path) -> None:
    policy = tmp_path / "p.toml"
    before = process.get("/readyz")[1]["policy"]
    policy.write_text("accept_unatested = true\n")
    process.process.send_signal(signal.SIGHUP)
    until(lambda: any("kept what was there: p.toml:1:1: unknown key" in line for line in process.said))
    assert process.get("/readyz")[1]["policy"] == before
    assert process.post(kvm_request())[0] == 200
    policy.write_text("# stricter\n")
    process.process.send_signal(signal.SIGHUP)
    digest = sha256(policy.read_bytes()).hexdigest()
    until(lambda: process.get("/readyz")[1]["policy"] == digest)
    until(lambda: any(f"read anew; the policy is {digest}" in line for line in process.said))
    assert process.get("/readyz")[1]["accept_unattested"] is False
    assert process.post(kvm_request())[0] == 400
    assert process.end() == 0


@pytest.mark.slow
def test_warns_where_workloads_get_names_and_any_guest_can_be_them(tmp_path: Path) -> None:
    named = f'tees = ["snp"]\n[[workload]]\ndigest = ["{"11" * 32}"]\nnames = ["shop.example.com"]\n'
    process = Process(tmp_path, policy=named)
    assert process.end() == 0
    assert any("the policy names no code (`hash`) for snp" in line for line in process.said)


@pytest.mark.slow
def test_sighup_takes_new_certificates_for_https(tmp_path: Path) -> None:
    def write(identity: Identity) -> bytes:
        (tmp_path / "tls.key").write_bytes(identity.key_pem())
        (tmp_path / "tls.crt").write_bytes(identity.chain_pem())
        return x509.load_pem_x509_certificate(identity.chain_pem()).public_bytes(Encoding.DER)

    def shown() -> bytes:
        context = ssl._create_unverified_context()
        with (
            socket.create_connection(("127.0.0.1", running.port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""

    old = write(self_signed())
    running = Process(tmp_path, "--tls-key", "tls.key", "--tls-crt", "tls.crt")
    assert shown() == old
    (tmp_path / "tls.key").write_bytes(self_signed().key_pem())  # half of a pair
    running.process.send_signal(signal.SIGHUP)
    until(lambda: any("kept what was there: cannot use" in line for line in running.said))
    assert shown() == old
    new = write(self_signed())
    running.process.send_signal(signal.SIGHUP)
    until(lambda: shown() == new)
    assert running.end() == 0


@pytest.mark.slow
def test_fetches_what_a_keep_did_not_send_and_has_it_after_a_restart(
    tmp_path: Path, fake: Fake, machines: Machines
) -> None:
    now = datetime.now(UTC)
    vendor = Vendor(machines.vendor.keys, now - timedelta(days=30))
    chip = vendor.chip(Product.Genoa, now - timedelta(days=9))
    (tmp_path / "roots.toml").write_text(write_roots({"snp": vendor.roots}))
    collateral = f'[collateral]\namd = "{fake.base}"\n'
    fake.mode = "503"
    process = Process(tmp_path, "--roots", "roots.toml", policy=collateral)
    status, body = process.post(alone(chip))
    assert status == 503
    assert json.loads(body)["type"] == "/v1/problems/collateral"
    assert json.loads(body)["checks"][-1]["name"] == "vek.present"
    assert process.end() == 0

    fake.mode = ""
    fake.has_chip(chip)
    fake.has_list(Product.Genoa, vendor.crl(Product.Genoa, now - timedelta(days=1)))
    process = Process(tmp_path, "--roots", "roots.toml", policy=collateral)
    assert process.post(alone(chip))[0] == 200
    assert process.end() == 0
    assert len(list((tmp_path / "state/collateral/snp").iterdir())) == 2

    fake.mode = "503"
    process = Process(tmp_path, "--roots", "roots.toml", policy=collateral)
    assert process.post(alone(chip))[0] == 200
    assert process.end() == 0
