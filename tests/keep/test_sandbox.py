"""What is round a Keep's process: what an escape finds there, what a Keep still can, and the filter itself."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from donjon import Config, Keep
from donjon.config import Dir, File, Limits, Stderr, Stdin, Stdout
from donjon.errors import PlatformError, UsageError
from donjon.keep import sandbox, syscalls
from donjon.keep._filter import PROGRAMS
from donjon.log import QUIET, Logger
from tests.conftest import MEASURED
from tests.keep import guests
from tools import filter as generator

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
unmeasured = pytest.mark.skipif(MEASURED, reason="where coverage is measured, Keeps have no sandbox: see conftest")
STDIO: tuple[File, ...] = (Stdin(), Stdout(), Stderr())
SECRET = "hush-hush-123456"


def attempted(folder: Path, mode: str) -> dict[str, str]:
    """What came of each attempt of `escape.py` beside a directory with that mode."""
    (folder / "given").mkdir()
    (folder / "given" / "inside").write_text("inside")
    (folder / "outside").write_text("outside")
    (folder / "given" / "out").symlink_to("../outside")
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "SECRET": SECRET, "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/keep/escape.py"), str(folder / "given"), mode],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["said"] == []
    found: dict[str, str] = answer["found"]
    return found


@pytest.fixture(scope="module")
def beside_nothing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a Keep can that reads one directory."""
    return attempted(tmp_path_factory.mktemp("reads"), "ro")


@pytest.fixture(scope="module")
def beside_writable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one can that writes to it."""
    return attempted(tmp_path_factory.mktemp("writes"), "rw")


# Attempt -> what comes of it with a directory to read, and with one to write to.
# fmt: off
REFUSED = {
    "read a file of the system's": "EACCES",
    "read a file of the user's": "EACCES",
    "list the root": "EACCES",
    "write to /tmp": "EACCES",
    "write beside the directory": "EACCES",
    "read through a link that leads out": "EACCES",
    "make a file outside empty": "EPERM",
    "write to the directory's": ("EACCES", "done"),
    "create in the directory": ("EACCES", "done"),
    "create there by another call": ("ENOSYS", "EFAULT"),
    "make a directory there": ("EPERM", "done"),
    "rename there": ("EPERM", "done"),
    "rename back": ("EPERM", "done"),
    "move out of the directory": ("EPERM", "EACCES"),
    "link from outside": ("EPERM", "EXDEV"),
    "cut off a file there": "EPERM",
    "set times there": ("EPERM", "done"),
    "make a device there": "EPERM",
    "make a pipe there": "EPERM",
    "let everybody write": "EPERM",
    "give it away": "EPERM",
    "write to Python's library": "EACCES",
    "read its own environment": "EACCES",
    "read its own memory": "EACCES",
    "read another's memory": "EACCES",
    "read another's environment": "EACCES",
    "open a terminal": "EACCES",
    "a library that is not in use": "EACCES",

    "start a program": "EPERM",
    "start a program from memory": "EPERM",
    "start one by another call": "EPERM",
    "fork": "EPERM",
    "start a process": "EPERM",
    "start a process by another call": "ENOSYS",
    "trace another": "EPERM",
    "be traced": "EPERM",
    "read another's memory by a call": "EPERM",
    "signal another": "EPERM",
    "signal a group": "EPERM",
    "signal everybody": "EPERM",
    "signal another's thread": "EPERM",
    "queue a signal": "EPERM",
    "get a handle of another": "EPERM",
    "take another's descriptor": "EPERM",
    "have the kernel signal another": "EPERM",
    "change another's limits": "EPERM",
    "change another's priority": "EPERM",

    "open an IPv4 socket": "EPERM",
    "open an IPv6 socket": "EPERM",
    "open a UDP socket": "EPERM",
    "open a local socket": "EPERM",
    "open a netlink socket": "EPERM",
    "open a socket to the machine below": "EPERM",
    "open a pair of sockets": "EPERM",
    "connect a socket that it has": "EPERM",
    "connect a UDP socket that it has": "EPERM",
    "bind a socket that it has": "EPERM",
    "listen with a socket that it has": "EPERM",
    "connect by sending": "EPERM",
    "connect by another way of sending": "EPERM",
    "connect with a listener that it has": "EPERM",
    "type into the terminal": "EPERM",

    "a user namespace": "EPERM",
    "a network namespace": "EPERM",
    "a thread in a user namespace": "EPERM",
    "another's namespace": "EPERM",
    "mount": "EPERM",
    "mount by another call": "EPERM",
    "change the root": "EPERM",

    "io_uring": "EPERM",
    "the keyring": "EPERM",
    "add a key": "EPERM",
    "bpf": "EPERM",
    "performance counters": "EPERM",
    "handle page faults": "EPERM",
    "load a module": "EPERM",
    "another personality": "EPERM",
    "shared memory": "EPERM",
    "a call of tomorrow": "ENOSYS",
    "another filter": "EPERM",

    "become another": "EPERM",
    "take capabilities back": "EPERM",
    "may others look into it": "0",
    "may it gain privileges": "1",
    "bytes of a core dump": "(0, 0)",
    "a variable": "None",
    "a variable, of the library": "None",
    "the variable's bytes": "00" * 16,
}
STILL_WORKS = {
    "read the directory's": "done",
    "list the directory": "done",
    "set times of an open file": "done",
    "read Python's library": "done",
    "start a thread": "done",
    "signal itself": "done",
    "its own limits": "done",
    "accept": "done",
    "write to a connection": "done",
    "write to a pipe": "done",
    "a variable that says how errors are shown": "1",
    "anonymous memory, as a certificate's": "done",
    "a module of Python's library": "colorsys",
    "a module of ours": "donjon.workload.tree",
    "random bytes": "done",
    "executable memory": "done",
}
# fmt: on


@linux
@pytest.mark.parametrize("what", REFUSED)
def test_an_escape_cannot(what: str, beside_nothing: dict[str, str], beside_writable: dict[str, str]) -> None:
    expected = REFUSED[what]
    reading, writing = expected if isinstance(expected, tuple) else (expected, expected)
    assert (beside_nothing[what], beside_writable[what]) == (reading, writing)


@linux
@pytest.mark.parametrize("what", STILL_WORKS)
def test_a_keep_still_can(what: str, beside_nothing: dict[str, str], beside_writable: dict[str, str]) -> None:
    assert beside_nothing[what] == beside_writable[what] == STILL_WORKS[what]


@linux
def test_every_attempt_is_judged_here(beside_nothing: dict[str, str]) -> None:
    judged = {*REFUSED, *STILL_WORKS, "resolve a name", "its capabilities"}
    assert {name for name in beside_nothing if not name.startswith("call ")} == judged
    assert "name resolution" in beside_nothing["resolve a name"]
    assert beside_nothing["its capabilities"] == ("files" if os.getuid() == 0 else "none")


@linux
def test_every_call_that_is_denied_whatever_its_arguments_is(beside_writable: dict[str, str]) -> None:
    tried = {name: came for name, came in beside_writable.items() if name.startswith("call ")}
    assert len(tried) > 140
    assert set(tried.values()) == {"EPERM"}


# ---- ends of a process


def _ends(script: str) -> int:
    """How a process ends that enters the sandbox and then does this."""
    head = (
        "import ctypes, mmap, os\n"
        "from donjon.keep import sandbox\n"
        "from donjon.log import QUIET\n"
        "sandbox.enter('on', (), sandbox.libraries(), QUIET)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-c", head + script], env=env, check=False, timeout=60).returncode


@linux
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="an interface of x86-64")
def test_a_call_through_the_x32_interface_ends_the_process() -> None:
    assert _ends("ctypes.CDLL(None).syscall(0x40000000 + 39)") == -signal.SIGSYS


@linux
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="an interface of x86-64")
def test_a_call_through_the_32_bit_interface_ends_the_process() -> None:
    script = (
        "memory = mmap.mmap(-1, 4096, prot=7)\n"
        "memory.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20 (getpid); int 0x80; ret
        "code = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))\n"
        "os._exit(7 if code() == os.getpid() else 8)\n"
    )
    assert _ends(script) in (-signal.SIGSYS, -signal.SIGSEGV)  # the second where the kernel has no such interface


@linux
def test_abort_still_ends_the_process() -> None:
    assert _ends("os.abort()") == -signal.SIGABRT


@linux
def test_threads_that_come_later_are_in_it_too() -> None:
    script = (
        "import threading\n"
        "found = []\n"
        "def attempt():\n"
        "    try: open('/etc/passwd')\n"
        "    except PermissionError: found.append(1)\n"
        "    try: os.fork()\n"
        "    except PermissionError: found.append(2)\n"
        "one = threading.Thread(target=attempt); one.start(); one.join()\n"
        "os._exit(sum(found))\n"
    )
    assert _ends(script) == 3


# ---- a Keep


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@linux
@pytest.mark.parametrize(
    ("mode", "filters", "dumpable"),
    [pytest.param("auto", "1", False, marks=unmeasured), ("on", "1", False), ("off", "0", True)],
)
def test_a_keep_runs_in_it_unless_it_is_off(mode: str, filters: str, dumpable: bool) -> None:
    outside = int(_status(os.getpid())["Seccomp_filters"])
    with Keep.start(guests.CAT, sandbox=mode) as keep:
        assert keep.stdin is not None
        assert keep.stdout is not None
        keep.stdin.write(b"x")
        assert keep.stdout.read(1) == b"x"  # so the guest runs
        found = _status(keep.pid)
        assert int(found["Seccomp_filters"]) - outside == int(filters)
        assert (found["NoNewPrivs"] == "1") == (mode != "off")
        assert (os.stat(f"/proc/{keep.pid}/environ").st_uid == os.getuid()) == (dumpable or os.getuid() == 0)
        keep.stdin.close()
        assert keep.wait(10) == 0


@linux
def test_the_guests_first_code_runs_in_it() -> None:
    """A start function runs when the module is linked, before `_start`."""
    script = (
        "import ctypes, os\n"
        "from donjon.keep import nil\n"
        "from donjon.keep.launch import Launch\n"
        "from donjon.wasm.wasi.p1 import proc\n"
        "real = nil.Instance\n"
        "def linked(*given):\n"
        "    os.write(1, b'%d\\n' % ctypes.CDLL(None).prctl(21, 0, 0, 0, 0))\n"  # PR_GET_SECCOMP: 2 with a filter
        "    return real(*given)\n"
        "nil.Instance = linked\n"
        "launch = Launch(b'(module (func (export \"_start\")))')\n"
        "nil.run(launch, nil.prepare(launch, None), sandbox='on')\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == (b"2\n", b"")


@linux
def test_time_limits_hold_in_it() -> None:
    from donjon.errors import TrapError

    config = Config(files=list(STDIO), limits=Limits(cpu=0.3))
    with Keep.start(guests.SPINS, config, sandbox="on") as keep, pytest.raises(TrapError, match="processor time"):
        keep.wait(30)


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match='sandbox: expected "auto", "on" or "off", got "maybe"'):
        Keep.start(guests.CAT, sandbox="maybe")


# ---- kernels that lack something


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without Landlock and seccomp: each call says so, and none is made."""
    monkeypatch.setattr(sandbox, "_call", lambda *_: -errno.ENOSYS)
    monkeypatch.setattr(sandbox, "_harden", lambda: None)


@linux
@pytest.mark.usefixtures("old_kernel")
def test_on_refuses_where_something_is_missing_and_says_all_of_it() -> None:
    with pytest.raises(PlatformError) as caught:
        sandbox.enter("on", (), (), QUIET)
    assert caught.value.message == (
        "the Keep cannot be sandboxed: Landlock is not in this kernel: expected Linux 5.13; seccomp is not in this "
        "kernel: expected Linux 4.14 with CONFIG_SECCOMP_FILTER"
    )
    assert "--sandbox auto" in (caught.value.hint or "")


@linux
@pytest.mark.usefixtures("old_kernel")
def test_auto_goes_on_where_something_is_missing_and_tells_who_asks() -> None:
    said: list[tuple[int, str]] = []
    sandbox.enter("auto", (), (), Logger(lambda level, _target, text: said.append((level, text)), "debug"))
    assert [text.split(" is ")[0] for level, text in said if level == 4] == ["sandbox: Landlock", "sandbox: seccomp"]


@linux
@pytest.mark.parametrize(
    ("abi", "writable", "text"),
    [
        (-errno.EOPNOTSUPP, False, "Landlock is disabled at boot (see `lsm=`)"),
        (-errno.ENOSYS, False, "Landlock is not in this kernel: expected Linux 5.13"),
        (1, True, "Landlock of this kernel (ABI 1) would forbid to rename between directories: expected ABI 2"),
    ],
)
def test_what_is_missing_has_its_words(abi: int, writable: bool, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: abi)
    assert sandbox.lacking(writable)[0] == text


@linux
def test_a_first_abi_is_enough_for_a_guest_that_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 1)
    monkeypatch.setattr(sandbox, "_is_alone", lambda: True)
    assert sandbox.lacking() == []


@linux
def test_a_process_with_threads_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_is_alone", lambda: False)
    assert sandbox.lacking() == ["Landlock holds for one thread only: expected a process that has no more"]


def test_other_systems_have_no_sandbox_and_run_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    sandbox.enter("auto", (), (), QUIET)
    with pytest.raises(PlatformError, match="darwin has neither Landlock nor seccomp: expected Linux"):
        sandbox.enter("on", (), (), QUIET)


@linux
@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, 7, 8, 12])
def test_a_ruleset_asks_for_no_more_than_its_kernel_knows(abi: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bytes]] = []

    def call(number: int, *arguments: int) -> int:
        if number == sandbox.LANDLOCK_CREATE_RULESET:
            import ctypes

            asked.append((arguments[1], ctypes.string_at(arguments[0], 24)))
            return os.open(os.devnull, os.O_RDONLY)
        return 0

    monkeypatch.setattr(sandbox, "_call", call)
    sandbox._landlock(abi, (), ())
    ((size, attributes),) = asked
    files, network, scopes = struct.unpack("<QQQ", attributes)
    assert files == (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    assert size == {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(abi, 24)
    assert (network, scopes) == (3, 3)


@linux
def test_a_call_that_cannot_fail_and_does_stops_the_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_call", lambda *_: -errno.E2BIG)
    with pytest.raises(PlatformError, match="the Keep cannot be sandboxed: landlock_create_ruleset: argument list too"):
        sandbox._landlock(7, (), ())


# ---- the filter


def _verdict(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would say: classic BPF over struct seccomp_data."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *(0,) * (6 - len(arguments)))
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    held, at = 0, 0
    for _ in range(4096):
        kind, yes, no, operand = code[at]
        at += 1
        if kind == syscalls.RET:
            return int(operand)
        if kind == syscalls.LD:
            held = struct.unpack_from("<I", data, operand)[0]
        elif kind == syscalls.JA:
            at += operand
        else:
            passed = {
                syscalls.JEQ: held == operand,
                syscalls.JGE: held >= operand,
                syscalls.JSET: bool(held & operand),
            }[kind]
            at += yes if passed else no
    raise AssertionError("the program has no end")


MACHINES = [(machine, writable) for machine in syscalls.ARCHITECTURES for writable in (False, True)]
EPERM, EACCES, ENOSYS = (syscalls.ERRNO | code for code in (errno.EPERM, errno.EACCES, errno.ENOSYS))


@pytest.mark.parametrize(("machine", "writable"), MACHINES)
def test_the_filter_says_of_each_number_what_the_table_says(machine: str, writable: bool) -> None:
    program, arch = PROGRAMS[machine, writable], syscalls.ARCHITECTURES[machine]
    column = list(syscalls.ARCHITECTURES).index(machine)
    denied = {row[column] for table in syscalls.DENIED.values() for row in table.values()}
    if not writable:
        denied |= {row[column] for row in syscalls.CHANGING.values()}
    asked = {row[column] for row in syscalls.ASKED.values()}
    for number in range(syscalls.NEWEST + 1):
        if number not in asked:
            assert _verdict(program, number, arch) == (EPERM if number in denied else syscalls.ALLOW), number
    for number in (syscalls.NEWEST + 1, 512, 0x3FFFFFFF):
        assert _verdict(program, number, arch) == ENOSYS
    beyond = syscalls.KILL if machine == "x86_64" else ENOSYS
    assert _verdict(program, 0x40000000, arch) == _verdict(program, 0xFFFFFFFF, arch) == beyond


@pytest.mark.parametrize(("machine", "writable"), MACHINES)
@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0xC00000F3, 0])
def test_the_filter_ends_a_process_that_calls_by_another_table(machine: str, writable: bool, arch: int) -> None:
    for number in (0, 1, 59, 221):
        assert _verdict(PROGRAMS[machine, writable], number, arch) == syscalls.KILL


PID = syscalls.PID
CONDITIONS = [
    ("kill", (PID, 9), "allow", "allow"),
    ("kill", (1, 9), "EPERM", "EPERM"),
    ("kill", (0, 9), "EPERM", "EPERM"),
    ("kill", ((1 << 64) - 1, 9), "EPERM", "EPERM"),
    ("tgkill", (PID, 7, 6), "allow", "allow"),
    ("tgkill", (1, 7, 6), "EPERM", "EPERM"),
    ("clone", (0x10F00,), "allow", "allow"),
    ("clone", (17,), "EPERM", "EPERM"),
    ("clone", (0x10010F00,), "EPERM", "EPERM"),
    ("clone3", (0, 88), "ENOSYS", "ENOSYS"),
    ("prlimit64", (0, 7), "allow", "allow"),
    ("prlimit64", (PID, 7), "EPERM", "EPERM"),
    ("ioctl", (0, 0x5401), "allow", "allow"),
    ("ioctl", (0, 0x5451), "allow", "allow"),
    ("ioctl", (0, 0x5412), "EPERM", "EPERM"),
    ("ioctl", (0, 0x1_0000_5412), "EPERM", "EPERM"),
    ("ioctl", (0, 0), "EPERM", "EPERM"),
    ("fcntl", (3, 3), "allow", "allow"),
    ("fcntl", (3, 4), "allow", "allow"),
    ("fcntl", (3, 8), "EPERM", "EPERM"),
    ("fcntl", (3, 15), "EPERM", "EPERM"),
    ("fcntl", (3, 1026), "EPERM", "EPERM"),
    ("sendto", (3, 8, 1, 0x4000), "allow", "allow"),
    ("sendto", (3, 8, 1, 0x2000_4000, 8, 16), "EPERM", "EPERM"),
    ("sendmsg", (3, 8, 0x4040), "allow", "allow"),
    ("sendmsg", (3, 8, 0x2000_0000), "EPERM", "EPERM"),
    ("sendmmsg", (3, 8, 1, 0), "allow", "allow"),
    ("sendmmsg", (3, 8, 1, 0x2000_0000), "EPERM", "EPERM"),
    ("openat", (0, 8, 0), "allow", "allow"),
    ("openat", (0, 8, 0o2000000), "allow", "allow"),
    ("openat", (0, 8, 1), "EACCES", "allow"),
    ("openat", (0, 8, 2), "EACCES", "allow"),
    ("openat", (0, 8, 0o100), "EACCES", "allow"),
    ("openat", (0, 8, 0o1000), "EACCES", "allow"),
    ("openat2", (0, 8), "ENOSYS", "allow"),
    ("utimensat", (3, 0, 0), "allow", "allow"),
    ("utimensat", (3, 8, 0), "EPERM", "allow"),
    ("utimensat", (3, 1 << 32, 0), "EPERM", "allow"),
]


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
@pytest.mark.parametrize(("name", "arguments", "reading", "writing"), CONDITIONS)
def test_the_filter_looks_at_arguments(
    machine: str, name: str, arguments: tuple[int, ...], reading: str, writing: str
) -> None:
    words = {syscalls.ALLOW: "allow", EPERM: "EPERM", EACCES: "EACCES", ENOSYS: "ENOSYS"}
    number, arch = syscalls.number(name, machine), syscalls.ARCHITECTURES[machine]
    assert number is not None
    found = [words[_verdict(PROGRAMS[machine, writable], number, arch, arguments)] for writable in (False, True)]
    assert found == [reading, writing]


def test_the_filters_are_made_from_the_table() -> None:
    assert generator.TARGET.read_text(encoding="utf-8") == generator.generate()


def test_no_number_stands_for_two_calls() -> None:
    for column in (0, 1):
        tables = (*syscalls.DENIED.values(), syscalls.CHANGING, syscalls.ASKED)
        numbers = [row[column] for table in tables for row in table.values() if row[column] is not None]
        assert len(numbers) == len(set(numbers))


HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    path = next(filter(os.path.exists, HEADERS[machine]), None)
    if path is None:
        reason = f"the kernel's headers for {machine} are not installed (Debian: linux-libc-dev)"
        assert not os.environ.get("DONJON_CI"), reason  # libc6-dev, which it installs, brings those of both
        pytest.skip(reason)
    text = Path(path).read_text(encoding="utf-8")
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    compared = 0
    for table in (*syscalls.DENIED.values(), syscalls.CHANGING, syscalls.ASKED):
        for name in table:
            number = syscalls.number(name, machine)
            if name in known:
                assert number == known[name], name
                compared += 1
    assert compared > 130


def test_a_call_that_the_table_lacks_has_no_number() -> None:
    with pytest.raises(KeyError):
        syscalls.number("read", "x86_64")


@linux
def test_directories_stay_as_open_as_the_configuration_says(tmp_path: Path) -> None:
    """The guests of the conformance suites do the rest of it, in the sandbox as all Keeps."""
    (tmp_path / "file").write_text("text")
    config = Config(files=[*STDIO, Dir(host=str(tmp_path), guest="/", mode="ro")])
    with Keep.start(guests.CAT, config, sandbox="on") as keep:
        assert keep.stdin is not None
        keep.stdin.close()
        assert keep.wait(10) == 0
