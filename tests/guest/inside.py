"""Process 1 of a Keep's virtual machine, which looks around while it sets up, and whose Keep is a burglar.

Runs inside the image, by an /init behind the image's own: nothing of the tests or of pytest is there. All but what is
looked at is the image's own. What process 1 finds, the Keep's process has from it, and writes it all to its stdout.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from donjon import linux
from donjon.guest import agent, confine, init
from donjon.keep import nil
from donjon.keep.network import GATE_PORT, GUEST_ADDRESS

FOUND: dict[str, Any] = {}
DOOR, CONFINE = init._close_doors, nil._confine
MODULE = f"{init.MODULES}/failover.ko"
SIGNATURE = b"~Module signature appended~\n"


def main() -> None:
    with open("/inside.json", encoding="ascii") as file:
        job = json.load(file)
    init._close_doors = around
    if job["do"] == "panic":
        agent.Agent._start = panic  # type: ignore[method-assign, assignment]
    elif job["do"] == "fail":
        init._warm_up = fail
    else:
        nil._confine = break_out
        nil._call = write  # type: ignore[assignment]
    init.main()


def panic(*_: object) -> None:
    """As a bug of the kernel's would, once the host has handed over everything."""
    with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
        file.write("c")


def fail() -> None:
    raise OSError(errno.ENODEV, "the test has it so")


def around() -> None:
    """What process 1 may do before and after it has closed the doors."""
    with open(MODULE, "rb") as file:
        good = file.read()
    spoilt = bytearray(good)
    spoilt[len(spoilt) // 2] ^= 1
    FOUND["modules"] = {
        "another": module(bytes(spoilt)),
        "unsigned": module(good[: good.rindex(SIGNATURE)] if SIGNATURE in good else good),
        "signed": module(good),
    }
    DOOR()
    FOUND["modules"]["later"] = module(good)
    with open("/proc/consoles", encoding="ascii") as file:
        FOUND["consoles"] = file.read()
    with open("/proc/swaps", encoding="ascii") as file:
        FOUND["swaps"] = file.read().splitlines()[1:]
    FOUND["lockdown"] = init.facts()
    for name in (
        "kernel/panic_on_oops", "kernel/panic", "kernel/io_uring_disabled", "kernel/yama/ptrace_scope",
        "user/max_user_namespaces", "kernel/unprivileged_bpf_disabled", "kernel/kexec_load_disabled",
    ):  # fmt: skip
        FOUND[name] = init._line(f"/proc/sys/{name}")
    with open("/proc/self/mounts", encoding="ascii") as file:
        FOUND["mounts"] = [line.split()[1:4] for line in file]
    FOUND["swapon"] = tried(lambda: called("swapon", b"/etc/donjon/variant", 0))
    FOUND["kmsg"] = tried(lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)))


def module(data: bytes) -> str:
    """How loading it goes."""
    number = os.memfd_create("module")
    os.write(number, data)
    os.lseek(number, 0, 0)
    try:
        return tried(lambda: linux.load_module(f"/proc/self/fd/{number}"))
    finally:
        os.close(number)


def tried(act: Callable[[], object]) -> str:
    """The name of the error that it gives, or "done"."""
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def called(name: str, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def asked(number: int, *arguments: Any) -> int:
    """A system call by its number on x86-64."""
    whole = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return called("syscall", ctypes.c_long(number), *whole)


# ---- the Keep


def break_out(mode: str, opener: Any, log: Any) -> None:
    """Before it is put into its sandbox, the Keep's process is free to do what its user may."""
    FOUND.update(burgled())
    with open("/proc/self/status", encoding="ascii") as file:
        FOUND["status"] = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    CONFINE(mode, opener, log)
    FOUND["sandboxed"] = {
        "socket": tried(lambda: socket.socket()),
        "fork": tried(os.fork),
        "file": tried(lambda: os.open("/etc/donjon/variant", os.O_RDONLY)),
        "device": tried(lambda: os.open("/dev/null", os.O_RDONLY)),
        "proc": tried(lambda: os.open("/proc/meminfo", os.O_RDONLY)),
        "library": tried(lambda: os.open(f"{os.path.dirname(os.__file__)}/os.pyc", os.O_RDONLY)),
        "kill": tried(lambda: os.kill(1, 0)),
        "a program": tried(lambda: os.execv("/usr/bin/python3.11", ["python3.11"])),
    }


def write(*_: object) -> int:
    data = json.dumps(FOUND).encode()
    while data:
        data = data[os.write(1, data) :]
    return 0


def burgled() -> dict[str, Any]:
    """What a Keep's process can reach that has broken out of the engine."""
    found: dict[str, Any] = {}
    found["processes"] = sorted(name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid()))
    found["descriptors"] = descriptors()
    found["devices"] = sorted(path for path in every("/dev") if opened(path))
    found["writable"] = sorted(path for path in every("/") if not path.startswith("/proc/") and writes(path))
    found["abstract"] = abstract()
    buffer = ctypes.create_string_buffer(256)
    pieces = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 256)
    array = (ctypes.c_uint32 * 32)(2, 4, 4, 1)  # BPF_MAP_TYPE_ARRAY, sizes of key and value, entries
    found["tried"] = {
        "agent's memory": tried(lambda: os.open("/proc/1/mem", os.O_RDONLY)),
        "agent's descriptors": tried(lambda: os.listdir("/proc/1/fd")),
        "ptrace": tried(lambda: called("ptrace", 16, 1, None, None)),
        "process_vm_readv": tried(lambda: asked(310, 1, pieces, 1, pieces, 1, 0)),
        "kill": tried(lambda: os.kill(1, 9)),
        "root": tried(lambda: os.setuid(0)),
        "maker": tried(lambda: os.setresuid(confine.MAKER, confine.MAKER, confine.MAKER)),
        "user namespace": tried(lambda: called("unshare", 0x10000000)),
        "mount": tried(lambda: linux.mount("none", "/tmp", "tmpfs", 0)),
        "vsock": tried(lambda: socket.socket(40, socket.SOCK_STREAM)),
        "packet": tried(lambda: socket.socket(17, socket.SOCK_RAW)),
        "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
        "ping": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)),
        "alg": tried(lambda: socket.socket(38, socket.SOCK_SEQPACKET)),
        "io_uring": tried(lambda: asked(425, 4, buffer)),
        "bpf": tried(lambda: asked(321, 0, array, 128)),
        "perf": tried(lambda: asked(298, buffer, 0, -1, -1, 0)),
        "userfaultfd": tried(lambda: asked(323, 0)),
        "module": tried(lambda: linux.load_module(MODULE)),
        "reboot": tried(lambda: called("reboot", 0x4321FEDC)),
        "kernel log": tried(lambda: called("klogctl", 3, buffer, 256)),
        "kexec": tried(lambda: asked(246, 0, 0, None, 0)),
        "evidence": tried(lambda: os.mkdir(f"{init.TSM}/burglar")),
        "port": tried(lambda: socket.create_server((GUEST_ADDRESS, GATE_PORT))),
        "a program": tried(program),
        "gate": gate(),
    }
    return found


def program() -> None:
    path = "/tmp/program"
    with open(path, "wb") as file, open("/usr/bin/python3.11", "rb") as source:
        file.write(source.read(4096))
    os.chmod(path, 0o755)
    os.execv(path, [path])


def gate() -> str:
    """What becomes of a connection to where the host delivers those that it makes."""
    with socket.create_connection((GUEST_ADDRESS, GATE_PORT), 5) as connection:
        connection.settimeout(5)
        return "closed" if connection.recv(1) == b"" else "taken"


def descriptors() -> list[str]:
    """What every open descriptor is."""
    found = []
    for number in range(1024):
        with suppress(OSError):
            found.append({1: "pipe", 2: "device", 8: "file", 12: "socket"}.get(os.fstat(number).st_mode >> 12, "other"))
    return sorted(found)


def every(top: str) -> list[str]:
    found = []
    for folder, folders, names in os.walk(top):
        if folder == "/":
            folders.remove("proc")
        found += [f"{folder.rstrip('/')}/{name}" for name in (*folders, *names)]
    return found


def opened(path: str) -> bool:
    if os.path.isdir(path) or os.path.islink(path):
        return False
    for mode in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
        try:
            os.close(os.open(path, mode | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError:
            continue
        return True
    return False


def writes(path: str) -> bool:
    return not os.path.islink(path) and os.access(path, os.W_OK) and not path.startswith("/dev/")


def abstract() -> list[str]:
    """Names of sockets that anyone could connect to."""
    with open("/proc/net/unix", encoding="ascii") as file:
        return [line.split()[7] for line in file.readlines()[1:] if len(line.split()) > 7]
