"""Which calls of Linux a Keep that runs may not make, and the filter that says so to the kernel.

Nothing here runs when a Keep starts: `tools/filter.py` makes `_filter.py` from this table, and a test compares the two.

The filter is a deny list: the guest's own calls (reading, writing, waiting, accepting, memory, clocks) go through
untouched and at no cost, as the kernel remembers the numbers that are always allowed. What a Keep never does once its
files are open is refused: start or touch a process, open a socket, change the system, who owns what, or who it is.
Numbers that came after this table was written answer ENOSYS, as on an older kernel, so nothing new slips through.

A number is refused alone or by its arguments (`_conditions`). Pointers cannot be looked behind, so paths are Landlock's
business (`sandbox.py`); without a directory that the guest may write to, the calls that change directories are refused
here as well, whatever the kernel has of Landlock.

Source: seccomp(2), bpf of <linux/filter.h>; numbers from <asm/unistd_64.h> and <asm-generic/unistd.h> of Linux 6.18.
"""

from __future__ import annotations

import errno
import struct

__all__ = ["ALLOW", "ARCHITECTURES", "DENIED", "KILL", "PID", "assemble", "number"]

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""uname's machine -> AUDIT_ARCH of <linux/audit.h>."""
PID = 0x50494421
"""Stands in the programs for the process's own number, which is put in at the start."""
NEWEST = 469
"""The last number that this table knows; up to here each has been looked at."""
X32 = 0x40000000
"""Numbers from here on are the x32 interface of x86-64, with a table of its own."""

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

# Name -> number on x86_64, on aarch64; None where it has no such call.
# fmt: off
DENIED: dict[str, dict[str, tuple[int | None, int | None]]] = {
    "other programs and processes": {
        "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
        "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
        "process_mrelease": (448, 448), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
        "pidfd_send_signal": (424, 424), "kcmp": (312, 272), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240), "get_robust_list": (274, 100), "move_pages": (279, 239),
        "migrate_pages": (256, 238), "setpriority": (141, 140), "ioprio_set": (251, 30),
        "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
        "sched_setattr": (314, 274), "setpgid": (109, 154),
    },
    "other views of the file system": {
        "mount": (165, 40), "umount2": (166, 39), "move_mount": (429, 429), "open_tree": (428, 428),
        "open_tree_attr": (467, 467), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
        "fspick": (433, 433), "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
        "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
        "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
        "fanotify_mark": (301, 263), "inotify_init": (253, None), "inotify_init1": (294, 26),
        "inotify_add_watch": (254, 27), "inotify_rm_watch": (255, 28),
    },
    "the kernel itself": {
        "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_setup": (206, 0), "io_destroy": (207, 1),
        "io_submit": (209, 2), "io_cancel": (210, 3), "io_getevents": (208, 4), "io_pgetevents": (333, 292),
        "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "kexec_load": (246, 104),
        "kexec_file_load": (320, 294), "create_module": (174, None), "init_module": (175, 105),
        "finit_module": (313, 273), "delete_module": (176, 106), "get_kernel_syms": (177, None),
        "query_module": (178, None), "uselib": (134, None), "iopl": (172, None), "ioperm": (173, None),
        "modify_ldt": (154, None), "syslog": (103, 116), "reboot": (169, 142), "swapon": (167, 224),
        "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
        "nfsservctl": (180, 42), "lookup_dcookie": (212, 18), "vhangup": (153, 58), "sethostname": (170, 161),
        "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
        "clock_adjtime": (305, 266), "personality": (135, 92), "_sysctl": (156, None), "ustat": (136, None),
        "sysfs": (139, None), "vmsplice": (278, 75), "remap_file_pages": (216, 234), "mbind": (237, 235),
        "set_mempolicy": (238, 237), "set_mempolicy_home_node": (450, 450), "memfd_secret": (447, 447),
        "seccomp": (317, 277), "lsm_set_self_attr": (460, 460), "map_shadow_stack": (453, 453),
    },
    "who this process is": {
        "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
        "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
        "setgroups": (116, 159), "capset": (126, 91),
    },
    # Also truncate: Landlock covers it from ABI 3 on only, and who has a file open has ftruncate.
    "whose a file is, what it may, and a file by its name": {
        "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
        "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
        "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
        "fremovexattr": (199, 16), "removexattrat": (466, 466), "file_setattr": (469, 469), "mknod": (133, None),
        "mknodat": (259, 33), "truncate": (76, 45),
    },
    "new sockets, and other ways to talk": {
        "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
        "shmget": (29, 194), "shmat": (30, 196), "shmdt": (67, 197), "shmctl": (31, 195), "semget": (64, 190),
        "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189),
        "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
        "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183), "mq_notify": (244, 184),
        "mq_getsetattr": (245, 185),
    },
}
CHANGING: dict[str, tuple[int | None, int | None]] = {
    "creat": (85, None), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "unlink": (87, None), "unlinkat": (263, 35), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None),
}
"""Refused unless the guest has a directory that it may write to."""
ASKED: dict[str, tuple[int | None, int | None]] = {
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "utimensat": (280, 88), "clone": (56, 220),
    "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261), "ioctl": (16, 29),
    "fcntl": (72, 25), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
}
"""Refused by their arguments, see `_conditions`."""
# fmt: on

CLONE_THREAD = 0x00010000
CLONE_NAMESPACES = 0x7E020000
WRITING = 0o3 | 0o100 | 0o1000  # O_ACCMODE, O_CREAT, O_TRUNC
IOCTLS = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS and TCGETS2 (is it a terminal?), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not TIOCSTI above all: it
types into the user's shell."""
FCNTLS = (8, 15, 1026)
"""F_SETOWN, F_SETOWN_EX (whom a descriptor sends signals), F_NOTIFY."""
MSG_FASTOPEN = 0x20000000
"""Sending with it connects, to any address, which Landlock does not see; and shutdown() makes a socket for that of any
listener."""

LD, JA, JEQ, JGE, JSET, RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06  # <linux/bpf_common.h>
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def number(name: str, machine: str) -> int | None:
    """The number of a call that this table has; None where the machine has no such call."""
    column = list(ARCHITECTURES).index(machine)
    for table in (*DENIED.values(), CHANGING, ASKED):
        if name in table:
            return table[name][column]
    raise KeyError(name)


def assemble(machine: str, writable: bool) -> bytes:
    """The filter as the kernel takes it: 8 bytes an instruction, PID still in it.

    The verdicts are found by halving, not one after the other: the kernel tries every number when it takes the filter,
    and that is half of what a sandbox costs a start.

    Args:
        machine: one of ARCHITECTURES.
        writable: has the guest a directory that it may write to?
    """
    program: list[Instruction] = [(LD, 0, 0, ARCH), (JEQ, 1, 0, ARCHITECTURES[machine]), (RET, 0, 0, KILL)]
    program += [(LD, 0, 0, NUMBER), *_search(_verdicts(machine, writable))]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


Verdict = tuple[Instruction, ...]
"""What decides about a number; it ends the filter."""


def _verdicts(machine: str, writable: bool) -> list[tuple[int, Verdict]]:
    """Where each verdict begins to hold, in order, from number 0 on; it holds until the next."""
    allow, deny, unknown = ((RET, 0, 0, ALLOW),), (_refuse(errno.EPERM),), (_refuse(errno.ENOSYS),)
    column = list(ARCHITECTURES).index(machine)
    found: dict[int, Verdict] = {}
    for table in DENIED.values() if writable else (*DENIED.values(), CHANGING):
        found |= {row[column]: deny for row in table.values() if row[column] is not None}  # type: ignore[misc]
    for name, block in _conditions(writable).items():
        value = number(name, machine)
        if value is not None:
            found[value] = tuple(block)
    starts: list[tuple[int, Verdict]] = []
    for value in range(NEWEST + 1):
        verdict = found.get(value, allow)
        if not starts or starts[-1][1] != verdict:
            starts.append((value, verdict))
    starts.append((NEWEST + 1, unknown))
    if machine == "x86_64":
        starts.append((X32, ((RET, 0, 0, KILL),)))
    return starts


def _search(starts: list[tuple[int, Verdict]]) -> list[Instruction]:
    """Instructions that find the verdict for the number in the accumulator; seven halvings deep."""
    if len(starts) == 1:
        return list(starts[0][1])
    middle = len(starts) // 2
    below, above = _search(starts[:middle]), _search(starts[middle:])
    pivot = starts[middle][0]
    if len(below) <= 255:
        return [(JGE, len(below), 0, pivot), *below, *above]
    return [(JGE, 0, 1, pivot), (JA, 0, 0, len(below)), *below, *above]  # a conditional jump has 8 bits


def _conditions(writable: bool) -> dict[str, list[Instruction]]:
    """Of each call that is refused by its arguments, what decides; it ends in a verdict."""
    deny, allow = _refuse(errno.EPERM), (RET, 0, 0, ALLOW)
    own = [_low(0), (JEQ, 0, 1, PID), allow, deny]  # numbers of processes have 32 bits
    flags = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
    found: dict[str, list[Instruction]] = {
        name: [_low(argument), (JSET, 0, 1, MSG_FASTOPEN), deny, allow] for name, argument in flags.items()
    }
    found |= {
        # A thread of this process, in no namespace of its own; the flags of clone3 lie behind a pointer, and libraries
        # take the other call for ENOSYS only.
        "clone": [_low(0), (JSET, 0, 2, CLONE_THREAD), (JSET, 1, 0, CLONE_NAMESPACES), allow, deny],
        "clone3": [_refuse(errno.ENOSYS)],
        "kill": own,
        "tgkill": own,
        "prlimit64": [_low(0), (JEQ, 0, 1, 0), allow, deny],
        "ioctl": [_low(1), *((JEQ, len(IOCTLS) - index, 0, code) for index, code in enumerate(IOCTLS)), deny, allow],
        "fcntl": [_low(1), *((JEQ, len(FCNTLS) - index, 0, code) for index, code in enumerate(FCNTLS)), allow, deny],
    }
    if not writable:
        found["open"] = [_low(1), (JSET, 0, 1, WRITING), _refuse(errno.EACCES), allow]
        found["openat"] = [_low(2), (JSET, 0, 1, WRITING), _refuse(errno.EACCES), allow]
        found["openat2"] = [_refuse(errno.ENOSYS)]  # its flags lie behind a pointer
        # Without a path, it sets the times of a descriptor.
        found["utimensat"] = [_low(1), (JEQ, 0, 3, 0), (LD, 0, 0, ARGUMENTS + 8 + 4), (JEQ, 0, 1, 0), allow, deny]
    return found


def _low(argument: int) -> Instruction:
    """Load the lower half of an argument; both machines are little-endian."""
    return (LD, 0, 0, ARGUMENTS + 8 * argument)


def _refuse(code: int) -> Instruction:
    return (RET, 0, 0, ERRNO | code)
