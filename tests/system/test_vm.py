"""`donjon run --backend kvm` with the real QEMU, kernel and image: few starts, each of which shows much.

What needs no machine is in `tests/keep/vm`, where a program stands in QEMU's place.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.image import manifest as manifests
from tests import images
from tests.image.test_store import make
from tests.keep import guests
from tests.keep.vm.standin import gone
from tests.system.command import Running, command, config, donjon_run, environment, file, listens

pytestmark = pytest.mark.slow

KVM = ("run", "--backend", "kvm")
SECONDS = 300.0
ACCELERATION = b"donjon: virtual machine: QEMU "


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    """The commands below find what was built."""
    images.qemu()
    before = os.environ.get("DONJON_IMAGE")
    os.environ["DONJON_IMAGE"] = images.image("production").directory
    yield
    if before is None:
        del os.environ["DONJON_IMAGE"]
    else:
        os.environ["DONJON_IMAGE"] = before


def env() -> dict[str, str]:
    return {"DONJON_IMAGE": os.environ["DONJON_IMAGE"], "DONJON_BOOT_SECONDS": "280"}


def children(number: int) -> list[int]:
    """A process's, as the kernel has them."""
    return [int(name) for name in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def machine(running: Running, seconds: float = 30.0) -> int:
    """The QEMU of a command."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for number in children(running.process.pid):
            if Path(f"/proc/{number}/comm").read_text().startswith("qemu-system"):
                return number
        time.sleep(0.02)
    raise AssertionError(running.stderr.decode())


def test_a_workload_in_a_machine_has_its_streams_arguments_variables_and_exit_code(tmp_path: Path) -> None:
    """Both ways 1 MB, which no buffer between holds."""
    data = os.urandom(1 << 20)
    module = file(
        tmp_path,
        guests.guest(
            "(call $show_arguments) (call $show_environment) (call $copy (i32.const 0) (i32.const 1)) "
            "(call $write (i32.const 2) (i32.const 2048) (i32.const 5)) (call $exit (i32.const 42))",
            '(data (i32.const 2048) "ended")',
        ),
    )
    toml = config(tmp_path, before='args = ["from toml"]\nenv = { GREETING = "hi there" }\n')
    words = ("--wasmcfgfile", toml, module, "--", "one", "zwei drei")
    expected = donjon_run("run", "--backend", "nil", *words, stdin=data)
    done = donjon_run(*KVM, *words, stdin=data, seconds=SECONDS, env=env())
    first, _, rest = done.stderr.partition(b"\n")
    assert first.startswith(ACCELERATION)
    assert first.endswith(b" with KVM") or b"emulates the processor (TCG)" in first
    assert (done.returncode, rest) == (42, expected.stderr)
    assert done.stdout == expected.stdout


def test_a_trap_and_a_malformed_module_are_told_as_without_a_machine(tmp_path: Path) -> None:
    for name, module in (("trap.wat", guests.TRAPS), ("cut.wasm", b"\0asm\x01\0\0\0\x01\xff\xff\xff")):
        path = file(tmp_path, module, name)
        expected = donjon_run("run", "--backend", "nil", path)
        done = donjon_run(*KVM, path, seconds=SECONDS, env=env())
        assert (done.returncode, done.stderr.partition(b"\n")[2]) == (expected.returncode, expected.stderr)
        assert done.returncode in (1, 134)


def test_a_service_in_a_machine_is_reached_and_ends_with_the_command(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("web"), listens("other", addr="::"))
    module = file(tmp_path, guests.SERVES)
    with Running(*KVM, module, "--wasmcfgfile", toml, listeners=2, env=env()) as running:
        number = machine(running)
        for size in (1, 100_000):
            with socket.create_connection(running.at("web"), 30) as client:
                data = os.urandom(size)
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                found = b""
                while part := client.recv(65536):
                    found += part
                assert found == data
        status, seconds = running.end(signal.SIGINT)
    assert status == -signal.SIGINT
    assert seconds < 10
    assert gone(number)


def test_two_machines_at_once_have_their_own_memory_and_end_each_for_itself(tmp_path: Path) -> None:
    toml, module = config(tmp_path, listens("web")), file(tmp_path, guests.SERVES)
    words = (*KVM, module, "--wasmcfgfile", toml)
    with (
        Running(*words, "--memory", "288", listeners=1, env=env()) as one,
        Running(*words, "--memory", "320", listeners=1, env=env()) as other,
    ):
        for running, memory in ((one, b"288M"), (other, b"320M")):
            assert memory in Path(f"/proc/{machine(running)}/cmdline").read_bytes().split(b"\0")
        with (
            socket.create_connection(one.at("web"), 30) as first,
            socket.create_connection(other.at("web"), 30) as second,
        ):
            second.sendall(b"still")
            assert second.recv(100) == b"still"
            first.sendall(b"both")
            assert first.recv(100) == b"both"
            number = machine(one)
            assert one.end(signal.SIGTERM)[0] == -signal.SIGTERM
            assert gone(number)
            second.sendall(b" there")
            assert second.recv(100) == b" there"
        assert other.end(signal.SIGTERM)[0] == -signal.SIGTERM


def test_nothing_is_left_of_a_machine_whose_command_is_killed(tmp_path: Path) -> None:
    """Neither QEMU nor its ports; nor is there ever a file or a socket with a name."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    toml = config(tmp_path, listens("web"))
    module = file(tmp_path, guests.SERVES)
    more = {**env(), "TMPDIR": str(temporary), "XDG_RUNTIME_DIR": str(temporary)}
    with Running(*KVM, module, "--wasmcfgfile", toml, listeners=1, env=more) as running:
        number = machine(running)
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        forward = next(word for word in words if b"hostfwd" in word).rpartition(b"127.0.0.1:")[2]
        inside = "127.0.0.1", int(forward.partition(b"-")[0])
        outside = running.at("web")
        for address in (inside, outside):
            socket.create_connection(address, 30).close()
        running.process.kill()
        running.wait()
        assert gone(number)
        for address in (inside, outside):
            refused_soon(address)
    assert not list(temporary.iterdir())


def refused_soon(address: tuple[str, int], seconds: float = 10.0) -> None:
    """A process's first thread may be gone a little before its last one, which has the sockets."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, seconds).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < end, address
        time.sleep(0.05)


def test_the_smallest_machine_runs_a_workload(tmp_path: Path) -> None:
    """As docs/vm-keeps.md has it."""
    done = donjon_run(*KVM, "--memory", "160", file(tmp_path, guests.exits(7)), env=env(), seconds=SECONDS)
    assert done.returncode == 7, done.stderr


def test_a_machine_from_a_snapshot_does_what_one_that_boots_does(tmp_path: Path) -> None:
    """The first makes the snapshot; a file that QEMU cannot read is told."""
    module, snapshots = file(tmp_path, guests.ARGUMENTS), tmp_path / "snapshots"
    expected = donjon_run("run", "--backend", "nil", module, "--", "one", "zwei")
    script = (
        "import sys; from donjon.keep.launch import Launch; from donjon.keep.vm import run; "
        "greeted = []; mark = lambda name, moment: greeted.append(moment) if name == 'engine' else None; "
        "launch = Launch(sys.argv[1], args=['one', 'zwei']); "
        "code = run(launch, accel='tcg', snapshot_for_tests=sys.argv[2], on_mark=mark); "
        "sys.stderr.write(f'{code} {greeted}')"
    )
    words = [sys.executable, "-c", script, str(module), str(snapshots)]

    def start() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(words, env=environment(env()), capture_output=True, timeout=SECONDS, check=False)

    first, second = start(), start()
    (kept,) = snapshots.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    for done in (first, second):
        assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr
    assert first.stderr == second.stderr  # they greeted at the same moment: the first one's machine did
    assert first.stderr.startswith(b"0 [")
    kept.write_bytes(kept.read_bytes()[:1_000_000])
    assert b"PlatformError: QEMU has failed" in start().stderr


@pytest.mark.parametrize(
    ("memory", "complaint"),
    [
        pytest.param("80", "the virtual machine's kernel panicked while greeting", id="too little: its kernel panics"),
        pytest.param("1000000", "this machine has no memory left for a virtual one of 1000000 MiB", id="too much"),
    ],
)
def test_memory_that_does_not_fit_is_told(memory: str, complaint: str, tmp_path: Path) -> None:
    """QEMU may have 4 GB of addresses here, so that much is too much anywhere."""
    limited = ["sh", "-c", 'ulimit -v 4194304; exec "$@"', "sh", *command()]
    done = subprocess.run(
        [*limited, *KVM, "--memory", memory, str(file(tmp_path, guests.RETURNS))],
        env=environment(env()), capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    lines = done.stderr.decode().splitlines()
    assert lines[1].startswith(f"donjon: error: {complaint}"), lines
    assert lines[2].startswith("donjon: hint: ")
    assert len(lines) == 3


def test_an_initramfs_that_is_none_is_a_panic_and_no_silence(tmp_path: Path, spoilt: Callable[[str], str]) -> None:
    done = donjon_run(
        *KVM, file(tmp_path, guests.RETURNS), env={"DONJON_IMAGE": spoilt("initrd.cpio")}, seconds=SECONDS
    )
    assert done.returncode == 3
    assert "donjon: error: the virtual machine's kernel panicked while greeting" in done.stderr.decode()


def test_a_kernel_that_is_none_is_refused_by_qemu(tmp_path: Path, spoilt: Callable[[str], str]) -> None:
    done = donjon_run(
        *KVM, "--boot-seconds", "5", file(tmp_path, guests.RETURNS), env={"DONJON_IMAGE": spoilt("vmlinux")},
        seconds=SECONDS,
    )  # fmt: skip
    assert done.returncode == 3
    assert "donjon: error: " in done.stderr.decode()


@pytest.fixture
def spoilt(tmp_path: Path) -> Callable[[str], str]:
    """Makes an image of which one file is nonsense, and whose manifest says so."""

    def spoil(name: str) -> str:
        built, folder = images.image("production"), tmp_path / "spoilt"
        make(folder, content=b"nonsense" * 1000)
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["cmdline"] = built.cmdline
        for other in set(manifests.FILES) - {name}:
            (folder / other).unlink()
            (folder / other).symlink_to(f"{built.directory}/{other}")
            manifest["files"][other] = built.manifest["files"][other]
        path.write_bytes(manifests.canonical(manifest))
        return str(folder)

    return spoil
