"""What is put round a Keep's process on Linux, so that whoever breaks out of the engine finds nothing.

The engine keeps the guest in; this is for the day it does not. From the moment before the module's first instruction
the process may do what a Keep still has to do, and no more:

- **seccomp**: no other program, no other process, no new socket of any kind, no change of the system or of who this is;
  the table is `syscalls.py`. That is why UDP and names are no hole here, which Landlock leaves open.
- **Landlock**: of all files only those below the directories that the configuration opens, read or written as it says,
  and, to be read, Python's library, ours and the system's, as parts of these are loaded when they are needed.
- **no_new_privs**, and no capability but those that say whose files root may touch.
- **not dumpable**: no process of the same user gets at the key through ptrace or /proc, and no core holds it.
- **the environment is gone**: variables are for the user's programs, and may hold their passwords.

When: everything is open, connected and certified by then, and the module is compiled. What comes later and needs more,
a certificate's renewal, is asked of a process that was forked before (`donjon.identity.apart.Beside`). All of this is
for ever, so it is only for a process that is a Keep and nothing else, and has one thread.

What an escape still has: the open sockets and standard streams, and what their peers believe; the Keep's own key;
those directories; these libraries; processor and memory; and, as neither means covers it, whether a name in the file
system exists, how large and how old it is (stat), and what a symbolic link says.

With "auto" a kernel that lacks one of the means runs the Keep without it; "on" refuses.

Source: Landlock, Documentation/userspace-api/landlock.rst, <linux/landlock.h>, ABI 1 to 7; seccomp(2); prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import sys

from donjon.errors import PlatformError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from donjon.log import Logger

__all__ = ["MODES", "enter", "lacking", "landlock_abi", "libraries"]

MODES = ("auto", "on", "off")

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446  # the same on every machine
SECCOMP = {"x86_64": 317, "aarch64": 277}
PRLIMIT = {"x86_64": 302, "aarch64": 261}
CAPGET = {"x86_64": 125, "aarch64": 90}
CAPSET = {"x86_64": 126, "aarch64": 91}

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38  # <linux/prctl.h>
SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL = 1, 2
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_RET_KILL_PROCESS = 0x80000000
RLIMIT_CORE = 4
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES = 1 << 1 | 1 << 2 | 1 << 3
"""DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER: root's directories are no less open to its guest than they were."""

# LANDLOCK_ACCESS_FS_*, a bit each, in their order; what each ABI knows are the first so many.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE = 1 << 13, 1 << 14
KNOWN_BITS = (0, 13, 14, 15, 15, 16)  # by ABI; 16 from ABI 5 on
READING = READ_FILE | READ_DIR
WRITING = READING | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE
"""All that preview 1 can do; it makes no devices, pipes or sockets, and executes nothing."""
NET_TCP = 3  # bind and connect
SCOPES = 3  # abstract sockets, signals
LANDLOCK_RULE_PATH_BENEATH = 1

SYSTEM = ("/usr/lib", "/usr/lib64", "/lib")
"""Where shared libraries are, which anybody may read."""
VARIABLES = (b"COLUMNS", b"DONJON_TRACEBACK", b"NO_COLOR", b"TERM")
"""What says how an error is shown; the rest of the environment goes."""


def enter(mode: str, directories: Sequence[tuple[int, bool]], readable: Iterable[str], log: Logger) -> None:
    """Confine this process, for ever.

    Args:
        mode: one of MODES.
        directories: descriptors of the guest's, each with whether it may write there.
        readable: paths of directories that may be read, see `libraries`; what is not there is left out.
        log: told, at level debug, what this kernel lacks.
    Raises:
        PlatformError: mode "on", and the kernel lacks something.
    """
    if mode == "off":
        return
    writable = any(may_write for _, may_write in directories)
    missing = lacking(writable)
    if missing and mode == "on":
        raise PlatformError(
            f"the Keep cannot be sandboxed: {'; '.join(missing)}",
            "`--sandbox auto` runs it with what this machine has; Linux 5.19 and later have all of it",
        )
    if sys.platform != "linux":
        log.debug(f"sandbox: {missing[0]}", "donjon.keep")
        return
    _harden()
    abi = 0 if any(text.startswith("Landlock") for text in missing) else landlock_abi()
    if abi > 0:
        _landlock(abi, directories, readable)
    if not any(text.startswith("seccomp") for text in missing):
        _seccomp(writable)
    for text in missing:
        log.debug(f"sandbox: {text}", "donjon.keep")


def lacking(writable: bool = False) -> list[str]:
    """What this machine lacks to sandbox a Keep, a text each; [] when it has everything.

    Args:
        writable: for a guest with a directory that it may write to.
    """
    if sys.platform != "linux":
        return [f"{sys.platform} has neither Landlock nor seccomp: expected Linux"]
    machine = _machine()
    if machine is None:
        return ["seccomp: expected a 64-bit process on x86_64 or aarch64, got another: its calls are not known here"]
    missing = []
    abi = landlock_abi()
    if abi <= 0:
        why = "disabled at boot (see `lsm=`)" if abi == -_EOPNOTSUPP else "not in this kernel: expected Linux 5.13"
        missing.append(f"Landlock is {why}")
    elif abi == 1 and writable:
        missing.append("Landlock of this kernel (ABI 1) would forbid to rename between directories: expected ABI 2")
    elif not _is_alone():
        missing.append("Landlock holds for one thread only: expected a process that has no more")
    action = ctypes.c_uint32(SECCOMP_RET_KILL_PROCESS)
    if _call(SECCOMP[machine], SECCOMP_GET_ACTION_AVAIL, 0, ctypes.addressof(action)) != 0:
        missing.append("seccomp is not in this kernel: expected Linux 4.14 with CONFIG_SECCOMP_FILTER")
    return missing


def landlock_abi() -> int:
    """The version of the kernel's Landlock, 1 or more; 0 or less: an error's number negated, there is none."""
    return _call(LANDLOCK_CREATE_RULESET, 0, 0, 1)


def libraries(*modules: str) -> list[str]:
    """Where modules of Python's library and of ours, and what they are linked to, are read from when needed later.

    Args:
        modules: packages beside these that are loaded already and may load more of themselves.
    """
    ours = os.path.dirname(os.path.dirname(__file__))
    found = [*SYSTEM, os.path.dirname(os.__file__), ours]
    for name in modules:
        place = getattr(sys.modules.get(name), "__file__", None)
        if place is not None:
            found.append(os.path.dirname(place))
    return found


def _harden() -> None:
    """What no kernel refuses: no core, no ptrace, no environment, nothing of root's that a Keep has no use for."""
    _forget_environment()
    machine = _machine()
    if machine is not None:
        none = (ctypes.c_uint64 * 2)(0, 0)  # `resource` is 0.2 ms
        _call(PRLIMIT[machine], 0, RLIMIT_CORE, ctypes.addressof(none), 0)
        head = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; each again for the numbers from 32 on
        if _call(CAPGET[machine], ctypes.addressof(head), ctypes.addressof(sets)) == 0 and any(sets):
            sets[:] = [sets[0] & CAPABILITIES, sets[1] & CAPABILITIES, 0, 0, 0, 0]
            _call(CAPSET[machine], ctypes.addressof(head), ctypes.addressof(sets))
    libc = _library()
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _forget_environment() -> None:
    """Overwrite the variables where the kernel put them, and where Python keeps them."""
    import posix

    environ: dict[bytes, bytes] = posix.environ
    kept = [(name, os.fsdecode(environ[name])) for name in VARIABLES if name in environ]
    libc = _library()
    first = ctypes.c_void_p.in_dll(libc, "environ").value
    if first:
        total = sum(map(len, environ)) + sum(map(len, environ.values())) + 2 * len(environ)
        for text, size in _texts(first, len(environ), total):
            ctypes.memset(text, 0, size)
    head = bytes.__basicsize__ - 1
    for value in environ.values():
        # A bytes object that nobody else has, and that is dropped next; those of one byte are the interpreter's.
        if len(value) > 1 and sys.getrefcount(value) <= 3:
            ctypes.memset(id(value) + head, 0, len(value))
    environ.clear()
    libc.clearenv()
    for name, kept_value in kept:
        os.environ[os.fsdecode(name)] = kept_value


def _texts(first: int, count: int, total: int) -> list[tuple[int, int]]:
    """Where the texts of `environ` are, and their sizes; side by side, as the kernel puts them, they are seen as one.

    Args:
        first: the address of the array.
        count, total: how many there are, and their bytes, by what Python read of them at its start.
    """
    places = (ctypes.c_size_t * (count + 1)).from_address(first)[:]
    if places[-1] or 0 in places[:-1]:  # somebody changed it behind Python's back
        places = []
        while place := ctypes.c_size_t.from_address(first + 8 * len(places)).value:
            places.append(place)
    else:
        places.pop()
    if not places:
        return []
    if places[-1] + len(ctypes.string_at(places[-1])) + 1 - places[0] == total and places == sorted(places):
        return [(places[0], total)]
    return [(place, len(ctypes.string_at(place))) for place in places]


def _landlock(abi: int, directories: Sequence[tuple[int, bool]], readable: Iterable[str]) -> None:
    known = (1 << KNOWN_BITS[min(abi, 5)]) - 1
    attributes = (ctypes.c_uint64 * 3)(known, NET_TCP, SCOPES)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _done("landlock_create_ruleset", _call(LANDLOCK_CREATE_RULESET, ctypes.addressof(attributes), size, 0))
    try:
        for descriptor, may_write in directories:
            _allow(rules, descriptor, (WRITING if may_write else READING) & known)
        for path in readable:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            _allow(rules, descriptor, READING & known)
            os.close(descriptor)
        _done("landlock_restrict_self", _call(LANDLOCK_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)


def _allow(rules: int, descriptor: int, access: int) -> None:
    """A rule is struct landlock_path_beneath_attr: access u64, descriptor s32, packed."""
    rule = (ctypes.c_uint32 * 3)(access, 0, descriptor)  # no access has a bit over 31
    _done("landlock_add_rule", _call(LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, ctypes.addressof(rule), 0))


def _seccomp(writable: bool) -> None:
    from donjon.keep._filter import PROGRAMS

    machine = _machine()
    assert machine is not None  # noqa: S101 - `lacking` would have said so
    program = PROGRAMS[machine, writable].replace(_PID, os.getpid().to_bytes(4, "little"))
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: count of instructions u16, padding, address
    head = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(held))
    found = _call(SECCOMP[machine], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ctypes.addressof(head))
    _done("seccomp", found)


_PID = (0x50494421).to_bytes(4, "little")  # as in `syscalls.py`, which is not loaded here
_EOPNOTSUPP = 95

_libc: ctypes.PyDLL | None = None


def _library() -> ctypes.PyDLL:
    global _libc
    if _libc is None:
        _libc = ctypes.PyDLL(None, use_errno=True)
        _libc.syscall.restype = ctypes.c_long
    return _libc


def _call(number: int, *arguments: int) -> int:
    """A call of the kernel's: its result, or its error's number negated."""
    result: int = _library().syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return result if result >= 0 else -ctypes.get_errno()


def _done(what: str, result: int) -> int:
    """The result of a call that cannot fail on a kernel that has it: if it does, the Keep must not run as if it had."""
    if result < 0:
        raise PlatformError(
            f"the Keep cannot be sandboxed: {what}: {os.strerror(-result).lower()}",
            "`--sandbox off` runs it without; please report it with what `donjon platform info` prints",
        )
    return result


def _machine() -> str | None:
    """The machine whose numbers of calls this process uses; None where they are not known here."""
    machine = os.uname().machine
    return machine if machine in SECCOMP and sys.maxsize > 1 << 32 else None


def _is_alone() -> bool:
    try:
        return os.stat("/proc/self/task").st_nlink == 3  # itself, its parent, and a folder a thread
    except OSError:
        return True  # without /proc nobody can say; a Keep has one thread
