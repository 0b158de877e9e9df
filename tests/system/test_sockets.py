"""Listening and connecting: addresses, ports, and what is said when it cannot be."""

from __future__ import annotations

import ctypes
import os
import socket
import ssl
from pathlib import Path

import pytest

from tests.keep import guests
from tests.system.command import Running, config, connects, donjon_run, file, listens
from tests.system.conftest import Serve
from tests.system.tls import Authority, exactly, peer, three_lines


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def echoes(address: tuple[str, int]) -> bool:
    with socket.create_connection(address, 20) as client:
        client.sendall(b"ping")
        return exactly(client, 4) == b"ping"


# ---- listening


@pytest.mark.parametrize(
    ("addr", "shown", "reached", "not_reached"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", ["127.0.0.1"], ["::1"], id="IPv4"),
        pytest.param("::1", "::1", ["::1"], ["127.0.0.1"], id="IPv6", marks=ipv6),
        pytest.param("::", "::", ["::1", "127.0.0.1"], [], id="both", marks=ipv6),
        pytest.param("0.0.0.0", "0.0.0.0", ["127.0.0.1"], ["::1"], id="all of IPv4"),
        pytest.param("localhost", None, ["localhost"], [], id="a name"),
    ],
)
def test_listens_where_it_is_told(
    addr: str, shown: str | None, reached: list[str], not_reached: list[str], tmp_path: Path
) -> None:
    toml = config(tmp_path, listens("in", addr=addr))
    with Running("run", file(tmp_path, guests.SERVES), "--wasmcfgfile", toml, listeners=1) as keep:
        host, port = keep.addresses["in"]
        assert shown is None or host == shown
        assert port != 0
        for there in reached:
            assert echoes((there, port))
        for there in not_reached:
            with pytest.raises(OSError, match=r"refused|unreachable|Cannot assign"):
                socket.create_connection((there, port), 5)


def test_the_same_port_can_be_taken_again_at_once(tmp_path: Path) -> None:
    module = file(tmp_path, guests.SERVES)
    port = 0
    for _ in range(3):
        toml = config(tmp_path, listens("in", port=port))
        with Running("run", module, "--wasmcfgfile", toml, listeners=1) as keep:
            port = keep.at("in")[1]
            assert echoes(keep.at("in"))


def test_a_port_that_is_taken_is_named_with_a_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        toml = config(tmp_path, listens("in", port=port))
        done = donjon_run("run", file(tmp_path, guests.SERVES), "--wasmcfgfile", toml)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode().splitlines() == [
        f'donjon: error: cannot listen on 127.0.0.1:{port} for "in": address already in use',
        f"donjon: hint: stop what uses port {port}, or choose another `port` (0: any free one)",
    ]


def give_up_low_ports() -> None:
    """Whoever runs the tests as root has the privilege: take it from the process to be."""
    if os.geteuid() == 0:
        drop, net_bind_service = 24, 10  # PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE
        if ctypes.CDLL(None, use_errno=True).prctl(drop, net_bind_service, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def test_a_privileged_port_needs_a_privilege(tmp_path: Path) -> None:
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not start.exists() or int(start.read_text()) <= 80:
        pytest.skip("this machine lets everybody have every port")
    toml, module = config(tmp_path, listens("in", port=80)), file(tmp_path, guests.SERVES)
    done = donjon_run("run", module, "--wasmcfgfile", toml, preexec_fn=give_up_low_ports)
    assert done.returncode == 3
    assert b'for "in": permission denied\n' in done.stderr
    assert b"ports below 1024 need a privilege" in done.stderr


@pytest.mark.parametrize(
    ("addr", "code", "complaint"),
    [
        pytest.param("192.0.2.1", 3, "`addr` must be an address of this machine", id="another machine's address"),
        pytest.param("no-such-name.invalid", 2, "`addr` is an address or name of this machine", id="no such name"),
    ],
)
def test_an_address_that_is_not_this_machines_is_refused(addr: str, code: int, complaint: str, tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.SERVES), "--wasmcfgfile", config(tmp_path, listens("in", addr=addr)))
    assert done.returncode == code
    assert complaint in done.stderr.decode()


# ---- connecting


def connecting(tmp_path: Path, *entries: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    done = donjon_run("run", file(tmp_path, guests.CONNECTS), "--wasmcfgfile", config(tmp_path, *entries), env=env)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connects_by_address_and_by_name(host: str, tmp_path: Path) -> None:
    with peer(three_lines) as port:
        assert connecting(tmp_path, connects(port, host=host)) == (0, "")


def test_a_peer_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, text = connecting(tmp_path, connects(port))
    assert code == 3
    assert text.splitlines() == [
        f'donjon: error: cannot connect to 127.0.0.1:{port} for "stream": connection refused',
        "donjon: hint: start the peer first: a Keep connects before its guest runs",
    ]


def test_a_name_that_cannot_be_resolved_is_said_to_be_that(tmp_path: Path) -> None:
    code, text = connecting(tmp_path, connects(1, host="no-such-name.invalid"))
    assert code == 3
    assert 'cannot connect to no-such-name.invalid:1 for "stream": the name no-such-name.invalid cannot be' in text


def test_an_address_that_cannot_be_reached_is_said_to_be_that(tmp_path: Path) -> None:
    code, text = connecting(tmp_path, connects(1, host="255.255.255.255"))
    assert code == 3
    assert 'cannot connect to 255.255.255.255:1 for "stream": ' in text


# ---- connecting over TLS


@pytest.mark.parametrize(
    ("names", "host", "complaint"),
    [
        pytest.param(["localhost"], "localhost", "", id="the right name"),
        pytest.param(["127.0.0.1"], "127.0.0.1", "", id="the right address"),
        pytest.param(["other.example"], "localhost", "hostname mismatch", id="another name"),
        pytest.param(["127.0.0.2"], "127.0.0.1", "IP address mismatch", id="another address"),
        pytest.param(["localhost"], "127.0.0.1", "IP address mismatch", id="a name where an address is wanted"),
        pytest.param([], "localhost", "hostname mismatch", id="no name at all"),
    ],
)
def test_the_peers_name_is_verified(names: list[str], host: str, complaint: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trust = {"SSL_CERT_FILE": str(authority.path)}
    if not complaint:
        with peer(three_lines, authority.server(*names)) as port:
            assert connecting(tmp_path, connects(port, "tls", host), env=trust) == (0, "")
        return
    with peer(three_lines, authority.server(*names), refused=True) as port:
        code, text = connecting(tmp_path, connects(port, "tls", host), env=trust)
        assert code == 4
        assert f'cannot connect to {host}:{port} for "stream": certificate verify failed: ' in text
        assert complaint.lower() in text.lower()
        assert "donjon: hint: " in text


def test_a_peer_whose_authority_nobody_trusts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "trusted").mkdir()
    theirs, trusted = Authority(tmp_path / "theirs"), Authority(tmp_path / "trusted")
    with peer(three_lines, theirs.server("localhost"), refused=True) as port:
        code, text = connecting(tmp_path, connects(port, "tls", "localhost"), env={"SSL_CERT_FILE": str(trusted.path)})
        assert code == 4
        assert "certificate verify failed" in text
        assert "SSL_CERT_FILE" in text


def test_another_keep_is_refused_by_default_and_accepted_when_its_certificate_is_trusted(
    serve: Serve, tmp_path: Path
) -> None:
    address = serve("blocking", "tls").at("echo")
    program = guests.guest(
        """(call $write (i32.const 3) (i32.const 2048) (i32.const 5))
           (call $check (call $sock_shutdown (i32.const 3) (i32.const 2)))
           (call $copy (i32.const 3) (i32.const 1))""",
        '(data (i32.const 2048) "hello")',
    )
    toml = config(tmp_path, connects(address[1], "tls", "localhost"))
    module = file(tmp_path, program, "client.wat")
    roots = tmp_path / "keep.pem"
    authority = Authority(tmp_path)
    refused = donjon_run("run", module, "--wasmcfgfile", toml, env={"SSL_CERT_FILE": str(authority.path)})
    assert refused.returncode == 4
    roots.write_text(ssl.get_server_certificate(address, timeout=20))
    trusted = donjon_run("run", module, "--wasmcfgfile", toml, env={"SSL_CERT_FILE": str(roots)})
    assert (trusted.returncode, trusted.stdout, trusted.stderr) == (0, b"hello", b"")


def test_a_peer_without_tls_1_3_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old = authority.server("localhost")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with peer(three_lines, old, refused=True) as port:
        code, text = connecting(
            tmp_path, connects(port, "tls", "localhost"), env={"SSL_CERT_FILE": str(authority.path)}
        )
        assert code == 4
        assert "TLS 1.3" in text


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SSL_CERT_FILE", "/no/such/file.pem", "cannot read it"),
        ("SSL_CERT_FILE", "/dev/null", "certificates in PEM"),
        ("SSL_CERT_DIR", "/no/such/directory", "expected a directory"),
    ],
)
def test_roots_that_cannot_be_read_are_the_callers_mistake(
    variable: str, value: str, complaint: str, tmp_path: Path
) -> None:
    with peer(lambda _stream: None) as port:
        code, text = connecting(tmp_path, connects(port, "tls", "localhost"), env={variable: value})
    assert code == 2
    assert variable in text
    assert complaint in text
