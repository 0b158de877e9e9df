"""What code that has broken out of the engine would try, from inside a process that is a Keep: a script.

    python escape.py FOLDER ro|rw     enters the sandbox with FOLDER as the guest's only directory, tries everything,
                                      and prints what came of each as JSON: the error's name, or "done"

Before it enters it opens what a Keep has open: a listener with a connection to it, a connection of its own, a pipe.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from donjon.keep import sandbox, syscalls
from donjon.log import Logger

MACHINE = os.uname().machine
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
PARENT = os.getppid()
NEWUSER, NEWNET, THREAD = 0x10000000, 0x40000000, 0x10000


def number(name: str) -> int:
    """Of a call that this machine has."""
    found = syscalls.number(name, MACHINE)
    assert found is not None
    return found


def call(name: str | int, *arguments: int) -> int:
    """A system call, as native code makes it."""
    given = (ctypes.c_long(argument) for argument in arguments)
    result = LIBC.syscall(ctypes.c_long(name if isinstance(name, int) else number(name)), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return int(result)


def outcome(attempt: Callable[[], object]) -> str:
    """The error's name, "done", or what it gave, where that is text."""
    try:
        got = attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return got if isinstance(got, str) else "done"


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"x")


def start_thread() -> str:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    return "done" if done else "nothing"


def opened() -> dict[str, socket.socket]:
    """What a Keep has open when its guest starts."""
    listener = socket.create_server(("127.0.0.1", 0))
    caller = socket.create_connection(listener.getsockname())
    spare = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other = socket.create_server(("127.0.0.1", 0))
    return {"listener": listener, "caller": caller, "spare": spare, "datagrams": datagrams, "other": other}


def attempts(folder: str, have: dict[str, socket.socket]) -> dict[str, Callable[[], object]]:
    """Everything to try, by its name."""
    pipe = os.pipe()
    program = os.memfd_create("program")
    os.write(program, b"#!/bin/true\n")
    text = ctypes.create_string_buffer(folder.encode() + b"/new")
    word = ctypes.create_string_buffer(64)
    port = have["listener"].getsockname()
    return {
        # files
        "read a file of the system's": lambda: read("/etc/passwd"),
        "read a file of the user's": lambda: read(__file__),
        "list the root": lambda: os.listdir("/"),
        "write to /tmp": lambda: write("/tmp/donjon-escape"),
        "write beside the directory": lambda: write(f"{folder}/../beside"),
        "read through a link that leads out": lambda: read(f"{folder}/out"),
        "read the directory's": lambda: read(f"{folder}/inside"),
        "list the directory": lambda: os.listdir(folder),
        "write to the directory's": lambda: write(f"{folder}/inside"),
        "create in the directory": lambda: write(f"{folder}/created"),
        "create there by another call": lambda: call("openat2", -100, ctypes.addressof(text), 0, 24),
        "make a directory there": lambda: os.mkdir(f"{folder}/made"),
        "rename there": lambda: os.rename(f"{folder}/inside", f"{folder}/renamed"),
        "rename back": lambda: os.rename(f"{folder}/renamed", f"{folder}/inside"),
        "move out of the directory": lambda: os.rename(f"{folder}/inside", f"{folder}/../moved"),
        "link from outside": lambda: os.link(f"{folder}/../outside", f"{folder}/linked"),
        "cut off a file there": lambda: os.truncate(f"{folder}/inside", 0),
        "set times there": lambda: os.utime(f"{folder}/inside", (1, 1)),
        "set times of an open file": lambda: os.utime(program, (1, 1)),
        "make a device there": lambda: os.mknod(f"{folder}/device", 0o20600, 0x0105),
        "make a pipe there": lambda: os.mkfifo(f"{folder}/pipe"),
        "let everybody write": lambda: os.chmod(f"{folder}/inside", 0o666),
        "give it away": lambda: os.chown(f"{folder}/inside", 1, 1),
        "read Python's library": lambda: read(os.__file__),
        "write to Python's library": lambda: write(os.path.join(os.path.dirname(os.__file__), "evil.py")),
        "read its own environment": lambda: read("/proc/self/environ"),
        "read its own memory": lambda: read("/proc/self/mem"),
        "read another's memory": lambda: read(f"/proc/{PARENT}/mem"),
        "read another's environment": lambda: read(f"/proc/{PARENT}/environ"),
        "open a terminal": lambda: read("/dev/tty"),
        # programs and processes
        "start a program": lambda: os.execv("/bin/true", ["true"]),
        "start a program from memory": lambda: os.execve(program, ["true"], {}),
        "start one by another call": lambda: call("execveat", program, ctypes.addressof(word), 0, 0, 0x1000),
        "fork": os.fork,
        "start a process": lambda: call("clone", signal.SIGCHLD, 0, 0, 0, 0),
        "start a process by another call": lambda: call("clone3", ctypes.addressof(word), 64),
        "start a thread": start_thread,
        "trace another": lambda: call("ptrace", 16, PARENT, 0, 0),
        "be traced": lambda: call("ptrace", 0, 0, 0, 0),
        "read another's memory by a call": lambda: call("process_vm_readv", PARENT, 0, 0, 0, 0, 0),
        "signal another": lambda: os.kill(PARENT, 0),
        "signal a group": lambda: os.kill(0, 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "signal another's thread": lambda: call("tgkill", PARENT, PARENT, 0),
        "queue a signal": lambda: call("rt_sigqueueinfo", PARENT, 0, ctypes.addressof(word)),
        "get a handle of another": lambda: os.pidfd_open(PARENT),
        "take another's descriptor": lambda: call("pidfd_getfd", 0, 0, 0),
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "have the kernel signal another": lambda: _set_owner(have["caller"]),
        "change another's limits": lambda: call("prlimit64", PARENT, 7, 0, ctypes.addressof(word)),
        "its own limits": lambda: call("prlimit64", 0, 7, 0, ctypes.addressof(word)),
        "change another's priority": lambda: os.setpriority(os.PRIO_PROCESS, PARENT, 5),
        # sockets
        "open an IPv4 socket": lambda: socket.socket(socket.AF_INET),
        "open an IPv6 socket": lambda: socket.socket(socket.AF_INET6),
        "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "open a socket to the machine below": lambda: socket.socket(socket.AF_VSOCK),
        "open a pair of sockets": socket.socketpair,
        "connect a socket that it has": lambda: have["spare"].connect(port),
        "connect a UDP socket that it has": lambda: have["datagrams"].connect(port),
        "bind a socket that it has": lambda: have["spare"].bind(("127.0.0.1", 0)),
        "listen with a socket that it has": lambda: have["spare"].listen(),
        "resolve a name": lambda: socket.getaddrinfo("localhost.invalid", 80),
        "accept": lambda: have["listener"].accept()[0].close(),
        "connect by sending": lambda: have["spare"].sendto(b"x", socket.MSG_FASTOPEN, port),
        "connect by another way of sending": lambda: have["spare"].sendmsg([b"x"], [], socket.MSG_FASTOPEN, port),
        "connect with a listener that it has": lambda: _turn_round(have["other"], port),
        "make a file outside empty": lambda: os.truncate(f"{folder}/../outside", 0),
        "write to a connection": lambda: have["caller"].send(b"x"),
        "write to a pipe": lambda: os.write(pipe[1], b"x"),
        "type into the terminal": lambda: call("ioctl", 0, 0x5412, ctypes.addressof(word)),
        # namespaces and the file system
        "a user namespace": lambda: call("unshare", NEWUSER),
        "a network namespace": lambda: call("unshare", NEWNET),
        "a thread in a user namespace": lambda: call("clone", NEWUSER | THREAD, 0, 0, 0, 0),
        "another's namespace": lambda: call("setns", 0, 0),
        "mount": lambda: call("mount", 0, 0, 0, 0, 0),
        "mount by another call": lambda: call("fsopen", 0, 0),
        "change the root": lambda: os.chroot("/"),
        # the kernel
        "io_uring": lambda: call("io_uring_setup", 1, ctypes.addressof(word)),
        "the keyring": lambda: call("keyctl", 0, 0, 0, 0, 0),
        "add a key": lambda: call("add_key", 0, 0, 0, 0, 0),
        "bpf": lambda: call("bpf", 0, 0, 0),
        "performance counters": lambda: call("perf_event_open", 0, 0, 0, 0, 0),
        "handle page faults": lambda: call("userfaultfd", 0),
        "load a module": lambda: call("finit_module", 0, 0, 0),
        "another personality": lambda: call("personality", 0x0040000),
        "shared memory": lambda: call("shmget", 0, 4096, 0o1600),
        "a call of tomorrow": lambda: call(syscalls.NEWEST + 1),
        "another filter": lambda: call("seccomp", 1, 0, 0),
        # who it is
        "become another": lambda: os.setuid(os.getuid()),
        "take capabilities back": lambda: call("capset", 0, 0),
        "its capabilities": _capabilities,
        "may others look into it": lambda: str(LIBC.prctl(3, 0, 0, 0, 0)),
        "may it gain privileges": lambda: str(LIBC.prctl(39, 0, 0, 0, 0)),
        "bytes of a core dump": lambda: str(__import__("resource").getrlimit(4)),
        "a variable": lambda: str(os.environ.get("SECRET")),
        "a variable, of the library": lambda: str(_getenv(b"SECRET")),
        "a variable that says how errors are shown": lambda: str(os.environ.get("NO_COLOR")),
        # what a Keep needs
        "anonymous memory, as a certificate's": lambda: read(f"/proc/self/fd/{program}"),
        "a module of Python's library": lambda: __import__("colorsys").__name__,
        "a module of ours": lambda: __import__("donjon.workload.tree", fromlist=["x"]).__name__,
        "a library that is not in use": lambda: __import__("cbor2").__name__,
        "random bytes": lambda: os.urandom(8),
        "executable memory": _executable,
    }  # fmt: skip


def _turn_round(listener: socket.socket, peer: tuple[str, int]) -> None:
    """Make a listener a socket like any other, and send with it to somebody whom it connects to by that."""
    listener.shutdown(socket.SHUT_RD)
    listener.sendto(b"x", socket.MSG_FASTOPEN, peer)


def _set_owner(one: socket.socket) -> None:
    import fcntl

    fcntl.fcntl(one, fcntl.F_SETOWN, PARENT)


def _capabilities() -> str:
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    call(sandbox.CAPGET[MACHINE], ctypes.addressof(head), ctypes.addressof(sets))
    return "none" if not any(sets) else "files" if max(sets) <= sandbox.CAPABILITIES else str(list(sets))


def _getenv(name: bytes) -> bytes | None:
    LIBC.getenv.restype = ctypes.c_char_p
    found: bytes | None = LIBC.getenv(name)
    return found


def _executable() -> None:
    import mmap

    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def main() -> None:
    """See above."""
    folder, mode = sys.argv[1:]
    have = opened()
    held = os.environ.get("SECRET", "").encode()
    address = _address(b"SECRET=") if held else 0
    tries = attempts(folder, have)
    every = [name for table in syscalls.DENIED.values() for name in table if syscalls.number(name, MACHINE) is not None]
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    said: list[str] = []
    log = Logger(lambda _level, _target, text: said.append(text), "debug")
    sandbox.enter("on", [(directory, mode == "rw")], sandbox.libraries(), log)
    found = {name: outcome(attempt) for name, attempt in tries.items()}
    for name in every:
        found[f"call {name}"] = outcome(lambda name=name: call(name, *[-1] * 6))  # type: ignore[misc]
    if address:
        found["the variable's bytes"] = ctypes.string_at(address, 16).hex()
    sys.stdout.write(json.dumps({"found": found, "said": said}))


def _address(start: bytes) -> int:
    """Where the kernel has put a variable."""
    places = ctypes.POINTER(ctypes.c_void_p).in_dll(LIBC, "environ")
    index = 0
    while place := places[index]:
        if ctypes.string_at(place).startswith(start):
            return int(place)
        index += 1
    raise AssertionError(start)


if __name__ == "__main__":
    main()
