"""The image, started as a host starts it: what its Keep does, what it refuses, and what can be reached inside.

The machine is emulated, and a boot takes some four seconds: few, each looked at closely.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from donjon import sim
from donjon.errors import TrapError
from donjon.guest.init import PUBLIC
from donjon.image import Image, cpio
from donjon.keep.network import GATE_PORT
from donjon.keep.nil import prepare, run
from donjon.sallyport import frames
from donjon.sallyport.machine import STDIN
from donjon.sim.port import NAME
from donjon.sim.processor import Processor
from tests.guest.sessions import Machine, Session
from tests.guest.test_agent import ECHO, SPIN, TRAP, launched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOG = b"""(module (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (drop (memory.grow (i32.const 16383)))
    (loop $more
      (i32.store (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 0x3ffff000))))))"""
PROGRAM = b"""#!/usr/bin/python3.11 -ISBu
import sys
sys.path.append("/usr/lib/donjon")
sys.path.append("/inside")
import inside
inside.main()
"""
MARKS = ["kernel", "python", "init", "modules", "port", "agent", "engine", "launch", "compile", "open", "run"]

Images = Callable[[str], Image]


def with_program(image: Image, folder: Path, do: str) -> Path:
    """An initramfs whose process 1 is `inside`."""
    more = cpio.write(
        {
            "init": cpio.file(PROGRAM, executable=True),
            "inside/inside.py": cpio.file((Path(__file__).parent / "inside.py").read_bytes()),
            "inside.json": cpio.file(json.dumps({"do": do}).encode()),
        }
    )
    path = folder / "initrd"
    path.write_bytes(Path(image.initrd_raw).read_bytes() + more)
    return path


def test_a_workload_runs_and_the_machine_powers_off(image: Images, tmp_path: Path) -> None:
    """Input with its end, output, exit code, moments, and a kernel that is locked and has no console."""
    lines = b"".join(b"line %d\n" % number for number in range(2000))

    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            assert session.machine.write(STDIN, lines) == len(lines)
            session.machine.end(STDIN)

    console = tmp_path / "console"
    session = Machine(image("production"), launched(ECHO), act=act, options={"log": "debug"}, console=console).run()
    assert session.stdout == lines
    assert session.last(frames.Exit).code == 7
    assert session.last(frames.Hello).variant == "production"
    marks = [event for event in session.events if isinstance(event, frames.Mark)]
    assert [mark.name for mark in marks] == MARKS
    moments = [mark.nanoseconds for mark in marks]
    assert moments == sorted(moments)
    assert 0 < moments[0] < moments[-1] < 100e9
    assert session.logs()[0] == (
        "lockdown confidentiality, module.sig_enforce Y, modules_disabled 1, swaps 0, consoles none, root ro"
    )
    assert console.read_bytes() == b""
    assert session.process.returncode == 0


def test_a_trap_is_told_in_the_words_of_nil(image: Images) -> None:
    launch = launched(TRAP)
    with pytest.raises(TrapError) as expected:
        run(launch, prepare(launch, None))
    trap = Machine(image("production"), launched(TRAP), options={"name": launch.name}).run().last(frames.Trap)
    assert (trap.message, trap.code, trap.frames) == (
        expected.value.message, expected.value.code, tuple(expected.value.frames),
    )  # fmt: skip


def test_another_module_than_the_descriptors_is_refused(image: Images) -> None:
    session = Machine(image("production"), launched(TRAP), files={"main.wasm": SPIN}).run()
    assert session.last(frames.Failed).message.startswith("launch: expected the package ")
    assert session.process.returncode == 0


def test_a_workload_that_eats_the_memory_is_told_so(image: Images) -> None:
    failed = Machine(image("production"), launched(HOG)).run().last(frames.Failed)
    assert (failed.family, failed.message, failed.hint) == (
        "PlatformError", "the Keep's machine has no memory left", "give it more memory",
    )  # fmt: skip


def test_a_host_that_goes_away_leaves_no_machine_behind(image: Images) -> None:
    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            session.socket.shutdown(socket.SHUT_RDWR)

    session = Machine(image("production"), launched(SPIN), act=act).run()  # waits for the machine's end
    assert session.process.returncode == 0


def test_a_kernel_that_panics_ends_the_machine(image: Images, tmp_path: Path) -> None:
    """The host sees the port close without a last word; the production image has no other way to tell."""
    made = image("production")
    console = tmp_path / "console"
    session = Machine(made, launched(SPIN), initrd=with_program(made, tmp_path, "panic"), console=console).run()
    assert [type(event).__name__ for event in session.events[-2:]][-1] == "Lost"
    assert session.process.returncode == 0
    assert console.read_bytes() == b""


def test_a_machine_that_cannot_be_set_up_says_why(image: Images, tmp_path: Path) -> None:
    made = image("production")
    failed = Machine(made, launched(SPIN), initrd=with_program(made, tmp_path, "fail")).run().last(frames.Failed)
    assert failed.family == "PlatformError"
    assert failed.message == ("the virtual machine could not be set up: OSError: [Errno 19] the test has it so")


@pytest.fixture(scope="module")
def burglar(image: Images, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What process 1 and a Keep that has broken out find in a machine with a network."""
    folder = tmp_path_factory.mktemp("burglar")
    made = image("production")
    initrd = with_program(made, folder, "burgle")
    session = Machine(made, launched(SPIN), initrd=initrd, network=(GATE_PORT,)).run()
    assert session.last(frames.Exit).code == 0
    found: dict[str, Any] = json.loads(session.stdout)
    return found


def test_the_kernel_takes_modules_of_its_own_only_and_later_none(burglar: dict[str, Any]) -> None:
    assert burglar["modules"] == {
        "another": "EKEYREJECTED",
        "unsigned": "EKEYREJECTED",
        "signed": "EEXIST",
        "later": "EPERM",
    }


def test_the_kernel_is_locked_and_has_neither_swap_nor_console(burglar: dict[str, Any]) -> None:
    assert "lockdown confidentiality" in burglar["lockdown"]
    assert (burglar["consoles"], burglar["swaps"], burglar["swapon"] != "done") == ("", [], True)
    assert int(burglar["kernel/panic_on_oops"]) == 1
    assert int(burglar["kernel/panic"]) == -1
    assert burglar["user/max_user_namespaces"] == "0"
    assert burglar["kernel/kexec_load_disabled"] == "1"
    assert burglar["kernel/io_uring_disabled"] == "2"
    modes = {path: options.split(",") for path, _, options in burglar["mounts"]}
    assert "ro" in modes["/"]
    for path in ("/proc", "/sys", "/tmp"):
        assert {"nosuid", "nodev", "noexec"} <= set(modes[path])
    assert {"nosuid", "noexec"} <= set(modes["/dev"])


def test_who_breaks_out_of_the_engine_is_a_user_without_any_right(burglar: dict[str, Any]) -> None:
    status = burglar["status"]
    assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].split() == []
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert burglar["processes"] == []
    # The file is that of the module's machine code; the sockets are those to the agent.
    assert burglar["descriptors"] == ["file", "pipe", "pipe", "pipe", "socket", "socket"]


def test_who_breaks_out_finds_nothing_to_open_or_to_write(burglar: dict[str, Any]) -> None:
    assert set(burglar["devices"]) == set(PUBLIC)
    assert burglar["writable"] == ["/tmp"]
    assert burglar["abstract"] == []


def test_who_breaks_out_is_in_a_sandbox_as_well(burglar: dict[str, Any]) -> None:
    done = {"library": "done", "kill": "EPERM"}
    assert burglar["sandboxed"] == dict.fromkeys(("socket", "fork", "a program"), "EPERM") | done | dict.fromkeys(
        ("file", "device", "proc"), "EACCES"
    )


REFUSED = {
    "agent's memory": {"ENOENT"}, "agent's descriptors": {"ENOENT"}, "ptrace": {"EPERM"},
    "process_vm_readv": {"EPERM", "ESRCH"}, "kill": {"EPERM"}, "root": {"EPERM"}, "maker": {"EPERM"},
    "user namespace": {"ENOSPC", "EPERM"}, "mount": {"EPERM"}, "vsock": {"EAFNOSUPPORT"},
    "packet": {"EPERM", "EAFNOSUPPORT"},
    "raw": {"EPERM"}, "ping": {"EACCES"}, "alg": {"EAFNOSUPPORT"}, "io_uring": {"EPERM"}, "bpf": {"EPERM"},
    "perf": {"EACCES", "EPERM"}, "userfaultfd": {"EPERM"}, "module": {"EPERM"}, "reboot": {"EPERM"},
    "kernel log": {"EPERM"}, "kexec": {"EPERM"}, "evidence": {"ENOENT"}, "port": {"EADDRINUSE"},
    "a program": {"EACCES"},
    "gate": {"closed"},
}  # fmt: skip


@pytest.mark.parametrize("way", REFUSED)
def test_who_breaks_out_gets_no_further(way: str, burglar: dict[str, Any]) -> None:
    assert burglar["tried"][way] in REFUSED[way]


class Simulated:
    """A machine of the simulated variant with the device that signs for it."""

    def __init__(self, image: Image, lab: str, named: bytes, launch: Any, **more: Any) -> None:
        kernel, initrd = (Path(path).read_bytes() for path in (image.kernel, image.initrd))
        processor = Processor.start(lab, "snp", named, kernel=kernel, initrd=initrd, cmdline=image.cmdline)
        ours, theirs = socket.socketpair()

        def serve() -> None:
            with ours:
                while data := ours.recv(4096):
                    ours.sendall(processor.feed(data))

        threading.Thread(target=serve, daemon=True).start()
        self.session = Machine(image, launch, devices=((NAME, theirs),), **more)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("sim") / "lab")
    sim.create(path, datetime.now(UTC))
    return path


def digest_of(launch: Any) -> bytes:
    from donjon.workload import File

    launch.main = File.named("main.wasm", launch.module)
    return bytes(launch.describe().digest())


def test_a_launch_that_the_hardware_does_not_name_is_refused(image: Images, lab: str) -> None:
    launch = launched(ECHO)
    named = bytes(range(32))
    refused = Simulated(image("simulated"), lab, named, launch).session.run().last(frames.Refuse)
    assert refused.family == "VerifyError"
    assert refused.message == (
        f"launch descriptor: the hardware names the workload {named.hex()}, got {digest_of(launch).hex()}"
    )


def test_a_launch_that_the_hardware_names_runs_and_says_nothing(image: Images, lab: str) -> None:
    def act(session: Session, event: Any) -> None:
        if isinstance(event, frames.Started):
            session.machine.write(STDIN, b"secret")
            session.machine.end(STDIN)

    launch = launched(ECHO)
    session = Simulated(image("simulated"), lab, digest_of(launch), launch, act=act, options={"log": "trace"}).session
    assert session.run().last(frames.Exit).code == 7
    assert session.stdout == b""
    assert not any("fd_" in line for line in session.logs())
    names = [event.name for event in session.events if isinstance(event, frames.Mark)]
    assert names == [*MARKS[:7], "attest", "launch", "compile", "open"]


def test_a_tee_without_a_source_of_randomness_is_refused(image: Images, lab: str) -> None:
    launch = launched(ECHO)
    without = "max,-cx16,-rdrand"
    session = Simulated(image("simulated"), lab, digest_of(launch), launch, processor=without).session
    assert session.run().last(frames.Refuse).message == (
        "this processor has no RDRAND, and every other source of randomness is the host's"
    )
