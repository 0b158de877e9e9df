"""Sockets of Keeps in real virtual machines: listeners, connections out, TLS that ends inside, and what is refused.

A machine takes seconds to start, so each one is asked for much.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.image import Image, cpio, store
from donjon.keep.launch import Launch
from donjon.keep.vm import run
from donjon.keep.vm.relay import PENDING
from tests import images
from tests.keep import guests
from tests.system.command import Running, config, connects, donjon_run, file, listens
from tests.system.said import Said
from tests.system.stewards import Steward, lab_in, leaf_of
from tests.system.test_sockets import has_ipv6
from tests.system.tls import Authority, exactly, peer, three_lines, tls_client

pytestmark = pytest.mark.slow
WORDS = ["run", "--backend", "kvm", "--accel", "tcg"]
SECONDS = 120.0
"""For what takes five on a machine with nothing else to do."""


@pytest.fixture(scope="module")
def env(image: Callable[[str], Image]) -> dict[str, str]:
    images.qemu()
    return {"DONJON_IMAGE": image("production").directory}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steward]:
    folder = tmp_path_factory.mktemp("service")
    made = Steward(folder / "steward", lab_in(folder / "lab"))
    yield made
    made.close()


def echoed(client: socket.socket, data: bytes) -> bool:
    """Whether what is sent comes back, sending and receiving at the same time."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    got = hashlib.sha256(bytes(exactly(client, len(data))))
    sender.join()
    return got.digest() == hashlib.sha256(data).digest()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- listening


def test_a_listener_of_a_machine_is_like_any_other(tmp_path: Path, env: dict[str, str]) -> None:
    addr = "::" if has_ipv6() else "0.0.0.0"
    toml = config(tmp_path, listens("in", addr=addr))
    module = file(tmp_path, guests.SERVES)
    with Running(*WORDS, module, "--wasmcfgfile", toml, listeners=1, env=env) as keep:
        host, port = keep.addresses["in"]
        assert host == addr
        assert port != 0
        qemus = children(keep.process.pid)
        assert len(qemus) == 1

        for there in ["127.0.0.1", *(["::1"] if has_ipv6() else [])]:
            with socket.create_connection((there, port), SECONDS) as client:
                client.sendall(b"ping")
                assert exactly(client, 4) == b"ping"
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b"", "it hangs up when we do"

        # The listener goes on after a client that cuts the connection.
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.sendall(b"cut")
            assert exactly(client, 3) == b"cut"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        # Many at once: QEMU takes one after another, and so does this guest; nobody is lost.
        clients = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(40)]
        for number, client in enumerate(clients):
            client.sendall(b"%04d" % number)
            client.shutdown(socket.SHUT_WR)
        for number, client in enumerate(clients):
            assert exactly(client, 5) == b"%04d" % number
            client.close()

        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            assert echoed(client, random.Random(1).randbytes(8 << 20))

        # The port is ours as long as the Keep runs, and another Keep is told so as on nil.
        (tmp_path / "second").mkdir()
        second = config(tmp_path / "second", listens("in", addr="127.0.0.1", port=port))
        done = donjon_run(*WORDS, module, "--wasmcfgfile", second, env=env, seconds=SECONDS)
        assert (done.returncode, done.stdout) == (3, b"")
        assert done.stderr.decode().splitlines()[-2:] == [
            f'donjon: error: cannot listen on 127.0.0.1:{port} for "in": address already in use',
            f"donjon: hint: stop what uses port {port}, or choose another `port` (0: any free one)",
        ]

        code, seconds = keep.end()
        assert code == -15, "as nil"
        assert seconds < 10
    assert not Path(f"/proc/{qemus[0]}").exists()
    with socket.create_server((addr if addr != "::" else "127.0.0.1", port)):
        pass  # it is free again


SENDS = guests.guest(
    """(local $fd i32) (local $n i32)
       (local.set $fd (call $accept (i32.const 3) (i32.const 0)))
       (loop $more
         (i32.store (i32.const 65536) (local.get $n))
         (call $write (local.get $fd) (i32.const 65536) (i32.const 65536))
         (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if $more (i32.lt_u (local.get $n) (i32.const 48))))
       (call $exit (i32.const 7))"""
)
"""Sends 3 MiB to its first client and ends."""


def test_what_a_workload_sends_before_it_ends_arrives(tmp_path: Path, env: dict[str, str]) -> None:
    """On nil the system goes on delivering; here the system that has it is about to be switched off."""
    toml = config(tmp_path, listens("in"))
    with Running(*WORDS, file(tmp_path, SENDS), "--wasmcfgfile", toml, listeners=1, env=env) as keep:
        with socket.create_connection(keep.at("in"), SECONDS) as client:
            time.sleep(3)  # until all buffers on the way are full, or the guest has ended
            data = exactly(client, 4 << 20)
        wanted = b"".join(number.to_bytes(4, "little") + bytes(65532) for number in range(48))
        assert len(data) == len(wanted)
        assert data == wanted
        assert keep.wait(60) == 7


# ---- out, TLS, a Steward


EVERYTHING = guests.guest("(call $lines (i32.const 3)) (call $lines (i32.const 4)) (call $serve (i32.const 5))")
"""Answers lines of two peers that it has connected to, then serves."""


def test_connections_out_and_tls_with_a_stewards_certificate(
    tmp_path: Path, env: dict[str, str], service: Steward
) -> None:
    served: list[str] = []

    def plain(stream: socket.socket) -> None:
        three_lines(stream)
        served.append("plain")

    def secret(stream: socket.socket) -> None:
        three_lines(stream)
        assert isinstance(stream, ssl.SSLSocket)
        served.append(str(stream.version()))

    context = Authority(tmp_path).server("localhost")
    authority = tmp_path / "authority.pem"
    with peer(plain, seconds=SECONDS) as tcp, peer(secret, context, seconds=SECONDS) as tls:
        toml = config(
            tmp_path,
            connects(tcp, name="plain"),
            connects(tls, prot="tls", host="localhost", name="secret") + '\nca = ["others"]',
            listens("in", prot="tls"),
            before=service.toml(),
            after=f'{service.roots()}others = "{authority}"\n',
        )
        module = file(tmp_path, EVERYTHING)
        more = ["--wasmcfgfile", str(toml), "--log-filter", "debug"]
        with Running(*WORDS, module, *more, listeners=1, env=env) as keep:
            address = keep.at("in")
            with tls_client(address, service.client(), seconds=SECONDS) as client:
                leaf = leaf_of(client)
                client.sendall(b"hello")
                assert exactly(client, 5) == b"hello"
            assert sorted(served) == ["TLSv1.3", "plain"]

            # The certificate is the Steward's; TLS does not end here: nothing in this process could do that.
            assert leaf.issuer.rfc4514_string() == "CN=Donjon Steward Issuing"
            maps = Path(f"/proc/{keep.process.pid}/maps").read_text()
            assert not [name for name in ("libssl", "/_ssl.") if name in maps]

            # Peers keep their address: whom the Keep refuses, it names.
            with socket.create_connection(address, SECONDS) as other:
                port = other.getsockname()[1]
                other.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while other.recv(100):
                    pass
            end = time.monotonic() + 30
            while f"127.0.0.1:{port}".encode() not in keep.stderr:
                assert time.monotonic() < end, keep.stderr.decode()
                time.sleep(0.05)

            with tls_client(address, service.client(), seconds=SECONDS) as client:
                data = random.Random(2).randbytes(2 << 20)
                got = bytearray()
                for at in range(0, len(data), 16384):  # by turns, as ssl's sockets are not for two threads
                    client.sendall(data[at : at + 16384])
                    got += exactly(client, len(data[at : at + 16384]))
                assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


# ---- what is refused


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return int(closed.getsockname()[1])


def test_a_peer_that_is_not_there_is_said_as_on_nil(tmp_path: Path, env: dict[str, str]) -> None:
    port = closed_port()
    toml = config(tmp_path, connects(port))
    module = file(tmp_path, guests.CONNECTS)
    said = [donjon_run("run", module, "--wasmcfgfile", toml)]
    said.append(donjon_run(*WORDS, module, "--wasmcfgfile", toml, env=env, seconds=SECONDS))
    assert [done.returncode for done in said] == [3, 3]
    assert said[1].stderr.decode().splitlines()[-2:] == said[0].stderr.decode().splitlines()


def test_a_name_that_leads_back_to_this_machine_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    """One that the system takes for 127.0.0.1, as it would take a name whose owner says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        toml = config(tmp_path, connects(port, host="0x7f000001"))
        module = file(tmp_path, guests.CONNECTS)
        done = donjon_run(*WORDS, module, "--wasmcfgfile", toml, env=env, seconds=SECONDS)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    reason = "the name 0x7f000001 leads to 127.0.0.1, where this machine keeps what is its own"
    assert done.returncode == 3
    assert done.stderr.decode().splitlines()[-2:] == [
        f'donjon: error: cannot connect to 0x7f000001:{port} for "stream": {reason}',
        "donjon: hint: name the address itself in Enarx.toml, if that is meant",
    ]


# ---- a Keep that was taken over

BURGLAR = b"""#!/usr/bin/python3.11 -ISBu
import json, os, socket, sys
sys.path.append("/usr/lib/donjon")
from donjon.errors import DonjonError
from donjon.guest import confine, init, keep
from donjon.guest.requests import Asker

def tried(call):
    try:
        return call()
    except DonjonError as error:
        return f"{type(error).__name__}: {error.message}"
    except OSError as error:
        return type(error).__name__

def direct(address, port):
    with socket.socket() as made:
        made.settimeout(3)
        made.connect((address, port))
        return "connected"

def asks(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(2)
        made.sendto(bytes(12), ("10.0.2.3", port))
        return made.recv(100).hex()

def run(workload, place, reporter, requests):
    confine.confine(confine.KEEP)
    reporter.send("open")
    asker, held = Asker(requests), []
    with open("/dial.json") as file:
        job = json.load(file)

    def reach(host, port):
        _, number = asker.ask("reach", host, str(port))
        held.append(socket.socket(fileno=number))
        held[-1].settimeout(20)
        return held[-1].recv(100).decode()

    found = {"reach": [tried(lambda: reach(*each)) for each in job["reach"]]}
    found["listen"] = [tried(lambda: repr(asker.ask("listening", *each))) for each in job["listen"]]
    found["direct"] = [tried(lambda: direct(*each)) for each in job["direct"]]
    found["names"] = tried(lambda: asks(53))
    found["many"] = [tried(lambda: reach(*job["reach"][0])) for _ in range(job["many"])]
    os.write(1, json.dumps(found).encode())
    return 0

keep._run = run
init.main()
"""


def test_a_keep_that_was_taken_over_reaches_nobody_but_whom_its_configuration_names(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's own process 1, but a Keep that asks for everything; this process is its host."""

    class Burgled(Image):
        @property
        def initrd_raw(self) -> str:
            return str(tmp_path / "initrd")

    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as named, socket.create_server(("127.0.0.1", 0)) as other:
        port, secret = named.getsockname()[1], other.getsockname()[1]

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(named.accept()[0])
                    accepted[-1].sendall(b"hello")

        job = {
            "reach": [
                ("127.0.0.1", port), ("127.0.0.1", secret), ("localhost", port), ("127.1", port), ("0.0.0.0", port),
                ("::ffff:127.0.0.1", port), ("169.254.169.254", 80), ("example.com", 443), ("10.0.2.2", port),
            ],
            "listen": [("in", "tcp", "0.0.0.0", "0", "10007"), ("other", "tcp", "0.0.0.0", "0", "10003")],
            "direct": [("10.0.2.2", secret), ("10.0.2.2", port), ("127.0.0.1", secret), ("192.0.2.1", 80)],
            "many": 80,
        }  # fmt: skip
        found_image = store.find_in(env["DONJON_IMAGE"])
        more = {
            "init": cpio.file(BURGLAR, executable=True),
            "dial.json": cpio.file(json.dumps(job).encode()),
        }
        (tmp_path / "initrd").write_bytes(Path(found_image.initrd_raw).read_bytes() + cpio.write(more))
        burgled = Burgled(found_image.directory, found_image.manifest, found_image.digest)
        monkeypatch.setattr("donjon.image.find", lambda _variant: burgled)

        toml = config(tmp_path, connects(port), before="[limits]\nconnections = 4\n")
        reader, writer = os.pipe()
        said = Said()
        greeter = threading.Thread(target=greet)
        greeter.start()
        try:
            launch = Launch(str(file(tmp_path, guests.CONNECTS)), str(toml))
            code = run(launch, said.logger, accel="tcg", stdio=(0, writer, 2))
            os.close(writer)
            found = json.loads(os.read(reader, 1 << 16))
        finally:
            os.close(reader)
            named.shutdown(socket.SHUT_RDWR)
            greeter.join()
            for one in accepted:
                one.close()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert code == 0
    assert found["reach"] == ["hello", *["UsageError: Enarx.toml names no such peer"] * 8]
    assert all(text.startswith("UsageError: cannot listen for ") for text in found["listen"])
    assert "connected" not in found["direct"]
    assert found["names"] in ("TimeoutError", "ConnectionRefusedError", "OSError")
    most = 4 + PENDING - 1
    assert found["many"] == ["hello"] * most + ["PlatformError: too many connections are open"] * (80 - most)
    assert len(accepted) == 4 + PENDING
    complaints = [text for _, text in said.lines if "names no such peer" in text]
    assert len(complaints) == 8
