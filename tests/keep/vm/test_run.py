"""`donjon run --backend kvm` with a program in QEMU's place: what a user sees, whatever QEMU or a guest does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from donjon import Config, Keep
from donjon import run as keep_run
from donjon.config import parse
from donjon.errors import PlatformError, TrapError, UsageError
from donjon.keep import vm
from donjon.keep.launch import Launch
from donjon.keep.vm import session
from donjon.log import Logger
from tests.keep import guests
from tests.keep.vm.standin import gone, pid, standin, words
from tests.system.command import Running, command, config, donjon_run, environment, file, listens

KVM = ("run", "--backend", "kvm")
TLS = 'files = [{ kind = "listen", name = "a", prot = "tls", port = 0 }]'


def without_first(stderr: bytes) -> bytes:
    """Without the line that says what the machine runs on."""
    first, _, rest = stderr.partition(b"\n")
    assert first == b"donjon: virtual machine: QEMU 10.2.0, which emulates the processor (TCG)"
    return rest


# ---- the same as without a machine


@pytest.mark.parametrize(
    ("guest", "args", "stdin"),
    [
        pytest.param(guests.CAT, (), b"to and fro" * 30_000, id="stdin and stdout"),
        pytest.param(guests.exits(7), (), b"", id="an exit code"),
        pytest.param(guests.exits(1000), (), b"", id="an exit code that is none"),
        pytest.param(guests.TRAPS, (), b"", id="a trap"),
        pytest.param(guests.ARGUMENTS, ("one", "zwei", ""), b"", id="arguments"),
        pytest.param(b"(module", (), b"", id="no module"),
        pytest.param(b'(module (import "env" "f" (func)) (func (export "_start")))', (), b"", id="a foreign import"),
    ],
)
def test_all_is_as_without_a_machine(guest: bytes, args: tuple[str, ...], stdin: bytes, tmp_path: Path) -> None:
    module = file(tmp_path, guest)
    after = ("--", *args) if args else ()
    expected = donjon_run("run", "--backend", "nil", module, *after, stdin=stdin)
    env = standin(tmp_path, "agent()")
    done = donjon_run(*KVM, module, *after, stdin=stdin, env=env)
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout)
    assert without_first(done.stderr) == expected.stderr
    assert gone(pid(tmp_path))


def test_what_a_guest_writes_to_stderr_is_not_mixed_up_with_ours(tmp_path: Path) -> None:
    done = donjon_run(*KVM, file(tmp_path, guests.says("mine\n", 2)), env=standin(tmp_path, "agent()"))
    assert (done.returncode, done.stdout, without_first(done.stderr)) == (0, b"", b"mine\n")


def test_variables_files_and_listeners_are_those_of_enarx_toml(tmp_path: Path) -> None:
    toml = config(tmp_path, listens("web"), before='env = { GREETING = "hi" }\n')
    env = standin(tmp_path, "agent()")
    module = file(tmp_path, guests.SERVES)
    with Running(*KVM, module, "--wasmcfgfile", toml, listeners=1, env=env) as running:
        for _ in range(3):
            with socket.create_connection(running.at("web"), 10) as client:
                client.sendall(b"ping")
                assert client.recv(4, socket.MSG_WAITALL) == b"ping"
        number, seconds = running.end()
    assert (number, seconds < 5) == (-signal.SIGTERM, True)
    assert gone(pid(tmp_path))


def test_a_port_that_is_taken_is_told_as_without_a_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        toml = config(tmp_path, listens("web", port=taken.getsockname()[1]))
        words_ = (file(tmp_path, guests.ACCEPTS), "--wasmcfgfile", toml)
        expected = donjon_run("run", "--backend", "nil", *words_)
        done = donjon_run(*KVM, *words_, env=standin(tmp_path, "agent()"))
    assert (done.returncode, without_first(done.stderr)) == (3, expected.stderr)
    assert b"address already in use" in done.stderr


def test_a_stdin_that_nobody_inside_has_is_not_read(tmp_path: Path) -> None:
    """It may be somebody else's, who reads on when this command has ended."""
    toml = tmp_path / "Enarx.toml"
    toml.write_text('[[files]]\nkind = "null"\n[[files]]\nkind = "stdout"\n')
    reader, writer = os.pipe()
    os.write(writer, b"for the next")
    os.close(writer)
    env = environment(standin(tmp_path, "agent()"))
    path = file(tmp_path, guests.RETURNS)
    subprocess.run([*command(), *KVM, path, "--wasmcfgfile", toml], stdin=reader, check=True, env=env, timeout=60)
    assert os.read(reader, 100) == b"for the next"
    os.close(reader)


def test_a_reader_of_stdout_that_goes_away_ends_nothing_but_the_stream(tmp_path: Path) -> None:
    module = file(
        tmp_path,
        guests.guest(
            "(call $check (i32.const 0)) (loop (call $write (i32.const 1) (i32.const 0) (i32.const 65536)) (br 0))"
        ),
    )
    env = environment(standin(tmp_path, "agent()"))
    with subprocess.Popen(
        [*command(), *KVM, module], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(20) == 100 + 64, "the guest's errno is pipe"
    assert gone(pid(tmp_path))


def test_a_guest_that_writes_more_than_its_reader_takes_waits(tmp_path: Path) -> None:
    module = file(tmp_path, guests.CAT)
    data = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(data)
    env = environment(standin(tmp_path, "agent()"))
    with (
        (tmp_path / "data").open("rb") as stdin,
        subprocess.Popen(
            [*command(), *KVM, module], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        ) as process,
    ):
        assert process.stdout is not None
        time.sleep(1.0)
        assert process.stdout.read() == data
        assert process.wait(20) == 0


# ---- what is wrong with this machine


def test_without_qemu_the_command_that_installs_it_is_told(tmp_path: Path) -> None:
    env = standin(tmp_path, "agent()")
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env={**env, "PATH": str(tmp_path)})
    assert done.returncode == 3
    first, hint = done.stderr.decode().splitlines()
    assert first == "donjon: error: cannot start a virtual machine: there is no qemu-system-x86_64 in PATH"
    assert "install" in hint


def test_a_qemu_that_is_too_old_is_refused(tmp_path: Path) -> None:
    env = standin(tmp_path, "agent()", version="6.0.1")
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env=env)
    assert done.returncode == 3
    assert "qemu-system-x86_64: expected QEMU 7.2 or later, got 6.0.1" in done.stderr.decode()


def test_without_an_image_the_command_that_makes_it_is_told(tmp_path: Path) -> None:
    env = {**standin(tmp_path, "agent()"), "DONJON_IMAGE": "", "XDG_CACHE_HOME": str(tmp_path)}
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env=env)
    assert done.returncode == 3
    first, hint = done.stderr.decode().splitlines()
    assert first.startswith(f"donjon: error: no image in {tmp_path}/donjon/image/images/production-")
    assert hint == "donjon: hint: `donjon image build` makes it, once for each version of Donjon"


def test_a_damaged_image_is_not_started(tmp_path: Path) -> None:
    env = standin(tmp_path, "agent()")
    path = tmp_path / "image" / "initrd.cpio"
    path.write_bytes(b"!" + path.read_bytes()[1:])
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env=env)
    assert done.returncode == 4
    assert "donjon: error: the image is damaged: initrd.cpio: expected 12 bytes" in done.stderr.decode()
    assert f"donjon: hint: remove {tmp_path}/image, then `donjon image build` makes it again" in done.stderr.decode()
    assert not (tmp_path / "pid").exists()


def test_kvm_that_does_not_work_is_not_used_where_it_was_asked_for(tmp_path: Path) -> None:
    """Where it works, the stand-in does not mind."""
    env = standin(tmp_path, "agent()")
    done = donjon_run(*KVM, "--accel", "kvm", file(tmp_path, guests.RETURNS), env=env)
    assert done.returncode in (0, 3)
    if done.returncode == 3:
        assert done.stderr.decode().startswith("donjon: error: cannot use KVM: ")
        assert not (tmp_path / "pid").exists()
    else:
        assert "-accel kvm" in " ".join(words(tmp_path))


@pytest.mark.parametrize(
    ("body", "code", "complaint", "hint"),
    [
        pytest.param(
            "sys.exit(\"qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\")",
            3,
            "this machine has no memory left for a virtual one of 257 MiB: "
            "cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "give it less with --memory, or end something else",
            id="no memory",
        ),
        pytest.param(
            'sys.exit("qemu-system-x86_64: Could not access KVM kernel module: Permission denied")',
            3,
            "cannot use KVM: Could not access KVM kernel module: Permission denied",
            "sudo usermod -aG kvm $USER, then log in again",
            id="no permission for KVM",
        ),
        pytest.param(
            "sys.exit(\"qemu-system-x86_64: sev_launch: Failed to open /dev/sev 'Permission denied'\")",
            3,
            "cannot open /dev/sev: permission denied",
            "join the group that owns /dev/sev",
            id="no permission for a device",
        ),
        pytest.param(
            "sys.exit(\"qemu-system-x86_64: -netdev user: Could not set up host forwarding rule 'tcp::1'\")",
            3,
            "a port of this machine was taken while QEMU started: -netdev user: Could not set up host forwarding rule "
            "'tcp::1'",
            "run it again",
            id="a port was taken",
        ),
        pytest.param(
            "print('a \\x1b[31mtrap for terminals\\n' * 100000); sys.exit(9)",
            3,
            r"QEMU has failed while greeting: a \x1b[31mtrap for terminals; a",
            "--log-filter debug shows how QEMU was started",
            id="it says too much",
        ),
        pytest.param(
            "sys.exit(5)", 3, "QEMU has failed while greeting: it ended with code 5", "--log-filter", id="no word"
        ),
        pytest.param("os.kill(os.getpid(), 11)", 3, "QEMU was ended by signal 11 while greeting", None, id="a crash"),
        pytest.param(
            "os.kill(os.getpid(), 9)",
            3,
            "QEMU was ended by signal 9 while greeting",
            "the kernel may have run out of memory: see dmesg",
            id="it was killed",
        ),
        pytest.param(
            "hello(); hear(); tell('guest-reset')",
            3,
            "the virtual machine's kernel panicked while checking",
            "it has 257 MiB of memory: give it more with --memory; --debug shows what its kernel says",
            id="a panic",
        ),
        pytest.param(
            "tell('guest-shutdown')",
            3,
            "the virtual machine has switched itself off while greeting, without a word",
            "it has 257 MiB of memory: give it more with --memory",
            id="it powers off",
        ),
        pytest.param(
            "sys.exit()", 3, "the virtual machine has ended while greeting, without a word", None, id="an end"
        ),
        pytest.param(
            "os.close(wire('donjon.sallyport')); time.sleep(600)",
            3,
            "the virtual machine has ended while greeting, without a word",
            None,
            id="it hangs up and lives on",
        ),
        pytest.param(
            "say(b'no frame at all'); time.sleep(600)",
            1,
            "sallyport: guest while greeting: expected Hello, Failed, got type 0x6e",
            "the machine was ended",
            id="no frame",
        ),
        pytest.param(
            "hello(); hear(); hello(); time.sleep(600)",
            1,
            "sallyport: guest while checking: expected ",
            "the machine was ended",
            id="a frame out of place",
        ),
        pytest.param(
            "hello(); hear(); say(bytes((0x4e, 255, 255, 255, 255))); time.sleep(600)",
            1,
            "sallyport: Failed: expected ",
            "the machine was ended",
            id="a frame without an end",
        ),
    ],
)
def test_what_goes_wrong_is_one_message_and_leaves_nothing(
    body: str, code: int, complaint: str, hint: str | None, tmp_path: Path
) -> None:
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env=standin(tmp_path, body))
    lines = without_first(done.stderr).decode().splitlines()
    assert done.returncode == code, lines
    assert lines[0].startswith(f"donjon: error: {complaint}"), lines
    assert len(lines[0]) < 9000
    assert len(lines) == (1 if hint is None else 2), lines
    assert hint is None or lines[1].startswith(f"donjon: hint: {hint}")
    assert gone(pid(tmp_path))


def test_a_small_machine_that_panics_is_told_how_much_would_do(tmp_path: Path) -> None:
    env = standin(tmp_path, "tell('guest-reset')")
    done = donjon_run(*KVM, "--memory", "64", file(tmp_path, guests.RETURNS), env=env)
    assert done.returncode == 3
    assert b"it has 64 MiB of memory: give it more with --memory, 256 for a small program; --debug" in done.stderr


def test_a_machine_that_says_nothing_is_ended_in_time(tmp_path: Path) -> None:
    env = standin(tmp_path, "time.sleep(600)")
    done = donjon_run(*KVM, "--boot-seconds", "1", file(tmp_path, guests.RETURNS), env=env)
    assert done.returncode == 3
    assert without_first(done.stderr).decode().splitlines() == [
        "donjon: error: the virtual machine said nothing for 1 s",
        "donjon: hint: a slow or busy machine needs longer: set --boot-seconds",
    ]
    assert gone(pid(tmp_path))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param("hello(); time.sleep(600)", "taken all of", id="it takes nothing"),
        pytest.param(
            "from donjon.sallyport.frames import Accept\nhello(); hear(); say(Accept().encode()); time.sleep(600)",
            "started",
            id="it compiles for ever",
        ),
    ],
)
def test_a_machine_that_greets_and_does_not_start_the_workload_is_ended_in_time(
    body: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, setting in standin(tmp_path, body).items():
        monkeypatch.setenv(name, setting)
    monkeypatch.setattr(session, "HANDOVER_SECONDS", 1.0)
    said = f"the virtual machine has not {what} the workload within 1 s"
    with pytest.raises(PlatformError, match=said) as caught:
        vm.run(Launch(guests.RETURNS), accel="tcg")
    assert caught.value.hint == "a slow or busy machine needs longer: set --boot-seconds"
    assert gone(pid(tmp_path))


def test_a_qemu_that_talks_without_end_is_listened_to_without_keeping_it(tmp_path: Path) -> None:
    env = standin(tmp_path, "print('x' * (64 << 20)); agent()")
    done = donjon_run(*KVM, file(tmp_path, guests.exits(3)), env=env)
    assert (done.returncode, without_first(done.stderr)) == (3, b"")


def test_a_listener_that_enarx_toml_does_not_name_is_refused(tmp_path: Path) -> None:
    """A guest that was taken over would open ports of this machine."""
    body = """
from donjon.sallyport.frames import *
hello(); hear(); say(Accept().encode()); hear()
say(Listening(id=1, name="other", prot="tcp", host="", port=0, guest_port=10003).encode())
answer = hear()
say(Failed(family="BugError", message=repr(answer), hint="").encode())
"""
    toml = config(tmp_path, listens("web"))
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), "--wasmcfgfile", toml, env=standin(tmp_path, body))
    assert "Enarx.toml names no such listener" in done.stderr.decode()


def test_dialing_without_a_peer_in_enarx_toml_is_refused(tmp_path: Path) -> None:
    body = """
from donjon.sallyport.frames import *
hello(); hear(); say(Accept().encode()); hear()
say(Dial(id=1, host="127.0.0.1", port=22).encode())
answer = hear()
say(Failed(family="BugError", message=repr(answer), hint="").encode())
"""
    done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env=standin(tmp_path, body))
    assert "cannot connect" in done.stderr.decode()


# ---- signals, and the end of this process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_workload_then_the_machine_then_the_command(number: signal.Signals, tmp_path: Path) -> None:
    env = standin(tmp_path, "agent()")
    module = file(tmp_path, guests.guest("(call $write (i32.const 1) (i32.const 0) (i32.const 1)) (loop br 0)"))
    with Running(*KVM, module, env=env) as running:
        assert running.process.stdout is not None
        assert running.process.stdout.read(1)
        status, seconds = running.end(number)
    assert status == -number
    assert seconds < 4
    assert gone(pid(tmp_path))


@pytest.mark.parametrize(
    ("body", "often"),
    [
        pytest.param("time.sleep(600)", 1, id="before the machine greets"),
        pytest.param("hello(); time.sleep(600)", 2, id="asked twice, of a machine that does not listen"),
        pytest.param("hello(); time.sleep(600)", 1, id="of a machine that does not listen", marks=pytest.mark.slow),
    ],
)
def test_a_machine_that_does_not_stop_is_ended(body: str, often: int, tmp_path: Path) -> None:
    with Running(*KVM, "--log-filter", "debug", file(tmp_path, guests.RETURNS), env=standin(tmp_path, body)) as running:
        number = pid(tmp_path)
        time.sleep(0.5)
        if often == 2:
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        status, seconds = running.end()
    assert status == -signal.SIGTERM
    assert seconds < (4 if often == 2 or "hello" not in body else 9)
    assert gone(number)


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    env = standin(tmp_path, "agent()")
    ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command()]
    with Running(*KVM, file(tmp_path, guests.CAT), env=env, program=ignoring) as running:
        pid(tmp_path)
        time.sleep(0.5)
        running.process.send_signal(signal.SIGHUP)
        assert running.process.stdin is not None
        running.process.stdin.write(b"still here")
        running.process.stdin.close()
        assert running.output() == b"still here"
        assert running.wait() == 0


@pytest.mark.parametrize("body", ["agent()", "time.sleep(600)"], ids=["while it runs", "before it greets"])
def test_nothing_is_left_of_a_command_that_is_killed(body: str, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {**standin(tmp_path, body), "TMPDIR": str(temporary)}
    with Running(*KVM, file(tmp_path, guests.SPINS), env=env) as running:
        number = pid(tmp_path)
        time.sleep(0.3)
        running.process.kill()
        running.wait()
        assert gone(number)
    assert not list(temporary.iterdir())


def test_a_qemu_has_nothing_of_ours_but_what_it_needs(tmp_path: Path) -> None:
    body = """
fds = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if int(name) > 2
       and os.path.exists(f"/proc/self/fd/{name}")}
Path(sys.argv[0]).with_name("seen").write_text(json.dumps([dict(os.environ), fds, os.getcwd(), os.getsid(0)]))
agent()
"""
    env = {**standin(tmp_path, body), "OTHERS": "1"}
    with Path("/dev/null").open("rb") as other:
        done = donjon_run(*KVM, file(tmp_path, guests.RETURNS), env=env, pass_fds=[other.fileno()])
    assert done.returncode == 0, done.stderr
    environ, descriptors, folder, session = json.loads((tmp_path / "bin" / "seen").read_text())
    assert environ == {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    given = [word.rpartition("fd=")[2] for word in words(tmp_path) if word.startswith("socket,id=")]
    own = [name for name, what in descriptors.items() if what == str(tmp_path / "bin" / "qemu-system-x86_64")]
    assert sorted(descriptors) == sorted([*given, *own])
    assert (folder, session) == ("/", pid(tmp_path))


# ---- from Python


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent in a machine's place, for this process and what it starts."""
    for name, value in standin(tmp_path, "agent()").items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("played")
def test_a_keep_of_the_library_can_be_in_a_machine(tmp_path: Path) -> None:
    said: list[str] = []
    log = Logger(lambda _level, _target, message: said.append(message))
    with Keep.start(guests.SERVES, config(tmp_path, listens("web")), backend="kvm", log=log) as keep:
        with socket.create_connection(keep.listeners["web"], 10) as client:
            client.sendall(b"ping")
            assert client.recv(4, socket.MSG_WAITALL) == b"ping"
        number = pid(tmp_path)
        keep.stop(5.0)
        assert keep.wait(10) == 128 + signal.SIGTERM
    assert said[0].startswith("virtual machine: QEMU 10.2.0")
    assert gone(number)


@pytest.mark.usefixtures("played")
def test_what_a_machine_has_run_is_collected_as_ever(tmp_path: Path) -> None:
    assert keep_run(guests.CAT, stdin=b"there and back", backend="kvm", timeout=30).stdout == b"there and back"
    (tmp_path / "pid").unlink()
    with pytest.raises(TrapError, match="unreachable") as caught:
        keep_run(guests.TRAPS, backend="kvm", timeout=30)
    assert caught.value.frames[:2] == ("inner", "outer")
    assert gone(pid(tmp_path))


@pytest.mark.usefixtures("played")
def test_a_keep_that_is_killed_takes_its_machine_along(tmp_path: Path) -> None:
    with Keep.start(guests.SPINS, backend="kvm") as keep:
        os.kill(keep.pid, signal.SIGKILL)
        assert keep.wait(10) == 128 + signal.SIGKILL
        assert gone(pid(tmp_path))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"backend": "auto"}, 'backend: expected nil, kvm, snp, sev, tdx, got "auto"'),
        ({"backend": "lambda"}, 'got "lambda"'),
        ({"backend": "kvm", "tsm": "/tmp/x"}, "tsm: a Keep in a virtual machine"),
        ({"backend": "snp", "sim": "lab", "config": parse(TLS)}, "sim: a machine of snp has real hardware"),
        ({"backend": "kvm", "config": Config(args=["a"])}, "a Keep in a virtual machine gets its configuration as the"),
    ],
)
@pytest.mark.usefixtures("played")
def test_what_a_machine_cannot_have_is_refused(more: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=complaint):
        Keep.start(guests.RETURNS, **more)
    assert not (tmp_path / "pid").exists()
