"""The tests that Enarx has for programs in a Keep, by their numbers in the list of its tests (E-WASM-01 to 15).

The programs are ours and in WebAssembly text. Those with `deploy` (09, 11) run their package with `run`: there is no
registry yet.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.keep import guests
from tests.system.command import Running, config, connects, donjon_run, file, listens
from tests.system.tls import Authority, peer, three_lines, tls_client

TWO_MEBIBYTES = bytes(range(256)) * 8192

# Letters turned by 13, the rest as it is: `turned` of a byte is looked up in the table that start makes.
ROT13 = guests.guest(
    """(local $size i32) (local $at i32) (local $i i32)
       (loop $fill
         (i32.store8 (i32.add (i32.const 2048) (local.get $i)) (local.get $i))
         (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 256))))
       (local.set $i (i32.const 0))
       (loop $letters
         (i32.store8 (i32.add (i32.const 2113) (local.get $i))
           (i32.add (i32.const 65) (i32.rem_u (i32.add (local.get $i) (i32.const 13)) (i32.const 26))))
         (i32.store8 (i32.add (i32.const 2145) (local.get $i))
           (i32.add (i32.const 97) (i32.rem_u (i32.add (local.get $i) (i32.const 13)) (i32.const 26))))
         (br_if $letters (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 26))))
       (loop $more
         (if (local.tee $size (call $read (i32.const 0) (i32.const 65536) (i32.const 4096)))
           (then
             (local.set $at (i32.const 65536))
             (loop $turn
               (i32.store8 (local.get $at) (i32.load8_u (i32.add (i32.const 2048) (i32.load8_u (local.get $at)))))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               (br_if $turn (i32.lt_u (local.get $at) (i32.add (i32.const 65536) (local.get $size)))))
             (call $write (i32.const 1) (i32.const 65536) (local.get $size))
             (br $more))))"""
)
MORNING = b"Good morning, that's a nice tnetennba.\n0118 999 881 999 119 725 3\n"
ZBEAVAT = b"Tbbq zbeavat, gung'f n avpr gargraaon.\n0118 999 881 999 119 725 3\n"


def test_e_wasm_01_the_value_that_a_function_returns_is_dropped(tmp_path: Path) -> None:
    module = file(tmp_path, b'(module (func (export "") (result i32) i32.const 1))')
    assert donjon_run("run", module).returncode == 0


def test_e_wasm_02_the_arguments_are_counted(tmp_path: Path) -> None:
    module = file(
        tmp_path,
        b"""(module (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (result i32)
          (drop (call $sizes (i32.const 0) (i32.const 4)))
          (i32.load (i32.const 0))))""",
    )
    assert donjon_run("run", module).returncode == 0


def test_e_wasm_03_hello(tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.says("Hello, world!\n")))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, world!\n", b"")


def test_e_wasm_04_an_export_that_is_no_function_is_nothing_to_run(tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, b'(module (memory (export "") 1))'))
    assert done.returncode == 1
    assert b"exports no _start" in done.stderr


def test_e_wasm_05_two_mebibytes_are_echoed(tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, guests.CAT), stdin=TWO_MEBIBYTES)
    assert done.returncode == 0
    assert done.stdout == TWO_MEBIBYTES


def test_e_wasm_06_sixteen_megabytes_at_once(tmp_path: Path) -> None:
    module = b"""(module (memory (export "memory") 1) (func (export "_start")
        (if (i32.lt_s (memory.grow (i32.const 245)) (i32.const 0)) (then unreachable))
        (i32.store8 (i32.const 16000000) (i32.const 1))))"""
    assert donjon_run("run", file(tmp_path, module)).returncode == 0


def test_e_wasm_07_memory_under_stress(tmp_path: Path) -> None:
    """1, 2, 4 ... 32 MiB more, then 32 MiB written from end to end a hundred times."""
    module = b"""(module (memory (export "memory") 1) (func (export "_start") (local $pages i32) (local $times i32)
        (local.set $pages (i32.const 16))
        (loop $grow
          (if (i32.lt_s (memory.grow (local.get $pages)) (i32.const 0)) (then unreachable))
          (br_if $grow (i32.le_u (local.tee $pages (i32.shl (local.get $pages) (i32.const 1))) (i32.const 512))))
        (loop $fill
          (memory.fill (i32.const 65536) (local.get $times) (i32.const 33554432))
          (if (i32.ne (i32.load8_u (i32.const 33619967)) (local.get $times)) (then unreachable))
          (br_if $fill (i32.lt_u (local.tee $times (i32.add (local.get $times) (i32.const 1))) (i32.const 100))))))"""
    assert donjon_run("run", file(tmp_path, module)).returncode == 0


@pytest.mark.parametrize("package", [False, True], ids=["E-WASM-08 and 09 alone", "E-WASM-10 with Enarx.toml"])
def test_e_wasm_08_to_10_zerooneone(package: bool, tmp_path: Path) -> None:
    more = ["--wasmcfgfile", str(config(tmp_path))] if package else []
    done = donjon_run("run", file(tmp_path, ROT13), *more, stdin=MORNING)
    assert (done.returncode, done.stdout, done.stderr) == (0, ZBEAVAT, b"")


def test_e_wasm_11_a_package_without_input(tmp_path: Path) -> None:
    done = donjon_run("run", file(tmp_path, ROT13), "--wasmcfgfile", config(tmp_path))
    assert (done.returncode, done.stdout) == (0, b"")


def test_e_wasm_12_connect_tcp(tmp_path: Path) -> None:
    with peer(three_lines) as port:
        done = donjon_run("run", file(tmp_path, guests.CONNECTS), "--wasmcfgfile", config(tmp_path, connects(port)))
    assert (done.returncode, done.stdout) == (0, b"FD_COUNT=4\0FD_NAMES=stdin:stdout:stderr:stream\0")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_e_wasm_13_connect_tls(host: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with peer(three_lines, authority.server(host)) as port:
        done = donjon_run(
            "run",
            file(tmp_path, guests.CONNECTS),
            "--wasmcfgfile",
            config(tmp_path, connects(port, "tls", host)),
            env={"SSL_CERT_FILE": str(authority.path)},
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"FD_COUNT=4\0FD_NAMES=stdin:stdout:stderr:stream\0"


@pytest.mark.parametrize("prot", ["tcp", "tls"], ids=["E-WASM-14 listen_tcp", "E-WASM-15 listen_tls"])
def test_e_wasm_14_and_15_listen(prot: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ping:
        toml = config(tmp_path, listens("ingest", prot), connects(ping.getsockname()[1], name="ping"))
        with Running("run", file(tmp_path, guests.LISTENS), "--wasmcfgfile", toml, listeners=1) as running:
            ping.settimeout(20)
            ping.accept()[0].close()  # the guest's listener is up
            for _ in range(3):
                if prot == "tls":
                    with tls_client(running.at("ingest")) as stream:
                        assert stream.version() == "TLSv1.3"
                        three_lines(stream)
                else:
                    with socket.create_connection(running.at("ingest"), 20) as plain:
                        three_lines(plain)
            assert running.wait() == 0
            assert running.output() == b"FD_COUNT=5\0FD_NAMES=stdin:stdout:stderr:ingest:ping\0"
