"""What a process of the workload's gives up before it does anything: it shares the machine with process 1.

The workload's code is kept in its memory by the engine. Should it ever get out, it finds itself a user without any
capability, who can neither see nor signal another process, in a machine whose root is read-only and that has no program
to start; it is not the user who makes keys, nor the one who may ask the hardware for evidence.
"""

from __future__ import annotations

import os

__all__ = ["KEEP", "MAKER", "confine", "hold"]

KEEP, MAKER = 65534, 65533
"""Users: of the workload's process, and of those that make its keys."""
PROCESSES = 256
"""Of one user, threads included: the compiler has some."""


def confine(user: int) -> None:
    """Become this user, for ever, and end with the process that started this one.

    Raises:
        OSError: the kernel refuses; then nothing else may happen here.
    """
    import resource

    from donjon import linux

    os.setsid()
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # when there is no memory left, it is this process's
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    os.setgroups([])
    linux.drop_bounding_set()
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)  # which takes all capabilities, and lets nobody look into this process any more
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)


def hold(stdio: tuple[int, int, int], *keep: int) -> None:
    """The standard streams and these: nothing else that process 1 has open is this process's."""
    for number, given in enumerate(stdio):
        os.dup2(given, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                pass  # the directory's own
