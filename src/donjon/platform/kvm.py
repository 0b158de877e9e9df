"""Whether KVM works here: asked in a few milliseconds, never hanging, and remembered until the next boot.

    kvm = probe()
    if kvm.works: ...            # qemu -accel kvm
    else: ...                    # qemu -accel tcg, and `kvm.problem` says why

That /dev/kvm opens and answers says little. On machines that are virtual themselves and have no virtualization of the
processor (kernels with kvm_pvm are such), every question is answered well, a guest that halts at once runs, and yet an
operating system does not come up: what it does is emulated instruction by instruction, some million a second, which
is hundreds of times slower than QEMU's own emulation. So a small guest is run at length (`_trial.py`), and its pace is
measured.

The guest runs in a process of its own, with a deadline. If it does not end it is killed; if that does not help either,
as a process that waits inside the kernel cannot be killed, it is left alone: nobody here waits for it.

What was found holds until the kernel is another one, so it is kept in the user's cache under the boot's id. (That a
guest did not end holds for ten minutes.) Permission is asked for anew each time, as a group may be joined meanwhile.
QEMU's version does not matter to it: no QEMU is run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from donjon.errors import words_of
from donjon.platform import remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEVICE", "Kvm", "of_json", "probe"]

DEVICE = "/dev/kvm"
SECONDS = 3.0
"""How long the trial may take in all; it takes some 50 ms, most of it Python's start."""
GRACE = 0.3
"""Seconds for the trial to be gone after it was killed."""
SLOW = 0.05
"""Seconds of the processor for 600 000 instructions: more is emulation. Processors take less than 0.001."""
BRIEF = 600.0
"""Seconds for which it counts that a guest did not end: it takes long to find out, and may have been a busy machine."""
MAX_ANSWER = 4096
MODULES = ("kvm_intel", "kvm_amd", "kvm_pvm")
"""What drives KVM: Intel's VT-x, AMD's SVM, or nothing but software."""
BOOT = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Kvm:
    """What was found.

    Args:
        state: "works"; or "absent", "forbidden", "version", "emulated", "silent", "failed", or "foreign" where no guest
            was made for this kind of processor.
        problem: why it does not work, "" when it does. hint: what to do about it, None when there is nothing.
        api: the version that KVM says it has. seconds: of the processor, which the guest's loop took.
        modules: which of `MODULES` are loaded. remembered: it was found out earlier.
    """

    state: str
    problem: str = ""
    hint: str | None = None
    api: int | None = None
    seconds: float | None = None
    modules: tuple[str, ...] = ()
    remembered: bool = False

    @property
    def works(self) -> bool:
        """Whether `qemu -accel kvm` is worth starting."""
        return self.state == "works"


def probe(
    anew: bool = False,
    device: str = DEVICE,
    *,
    command: Sequence[str] | None = None,
    memory: str | None = None,
    seconds: float = SECONDS,
) -> Kvm:
    """Find out, or remember.

    Args:
        anew: what was found earlier does not count.
        command: what to run in place of the guest; it prints what the guest's process would.
        memory: the file that remembers; None is that of the user, "" is none.
        seconds: how long the guest may take.
    """
    modules = tuple(name for name in MODULES if os.path.isdir(f"/sys/module/{name}"))
    closed = _closed(device, modules)
    if closed is not None:
        return closed
    path = remembered.file("kvm.json") if memory is None else memory
    key = _key(device, modules)
    found = None if anew or not key else _recall(path, key)
    if found is not None:
        return replace(found, remembered=True)
    if command is None:
        if os.uname().machine != "x86_64":
            return Kvm("foreign", "no guest was made for this kind of processor to try KVM with", modules=modules)
        command = (sys.executable, "-IS", os.path.join(os.path.dirname(__file__), "_trial.py"), device)
    found = replace(_judge(_attempt(command, seconds)), modules=modules)
    if key and found.state in ("works", "emulated", "version", "silent"):
        remembered.remember(path, {"key": key, **asdict(found)})
    return found


def _closed(device: str, modules: tuple[str, ...]) -> Kvm | None:
    """What can be seen without running anything."""
    try:
        mode = os.stat(device).st_mode
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as error:
        return _cannot_open(device, error, modules)
    if not stat.S_ISCHR(mode):
        return Kvm("absent", f"{device}: expected a device, got something else", modules=modules)
    return None


def _cannot_open(device: str, error: OSError, modules: tuple[str, ...]) -> Kvm:
    if sys.platform != "linux":
        return Kvm("absent", "KVM is a part of Linux, and this is another system")
    problem = f"cannot open {device}: {words_of(error)}"
    if isinstance(error, PermissionError):
        return Kvm("forbidden", problem, _permission(device), modules=modules)
    if isinstance(error, FileNotFoundError):
        return Kvm("absent", f"{device}: {words_of(error)}", _absence(modules), modules=modules)
    return Kvm("absent", problem, _absence(modules) or "see dmesg", modules=modules)


def _permission(device: str) -> str:
    """The command that lets this user open the device: joining its group, where it has one that may."""
    import grp

    with contextlib.suppress(OSError, KeyError):
        found = os.stat(device)
        if found.st_mode & 0o060 == 0o060 and found.st_gid:
            group = grp.getgrgid(found.st_gid).gr_name
            return f"sudo usermod -aG {group} $USER && newgrp {group}"
    return f"sudo setfacl -m u:$USER:rw {device}"


def _absence(modules: tuple[str, ...]) -> str | None:
    """What brings the device; a command, where it is one."""
    from donjon.platform.cpuid import cpuid

    if modules:
        return "the module is loaded: in a container, start that with --device /dev/kvm"
    vmx, svm = (cpuid(1) or (0, 0, 0, 0))[2] >> 5 & 1, (cpuid(0x80000001) or (0, 0, 0, 0))[2] >> 2 & 1
    if vmx or svm:
        return f"sudo modprobe {'kvm_intel' if vmx else 'kvm_amd'}"
    return "switch virtualization on in the BIOS; on a virtual machine, ask for nested virtualization"


def _attempt(command: Sequence[str], seconds: float) -> bytes | None:
    """What the command prints within the time, at most MAX_ANSWER bytes; None: it did not end."""
    ours, theirs = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, theirs, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            child = os.posix_spawn(command[0], list(command), {"PATH": os.defpath}, file_actions=actions)
        except OSError as error:
            return json.dumps({"step": "start", "error": words_of(error)}).encode()
        finally:
            os.close(theirs)
        answer, ended = bytearray(), False
        end = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(ours, select.POLLIN)
        while not ended and len(answer) <= MAX_ANSWER and (left := end - time.monotonic()) > 0:
            if waiting.poll(max(1, int(left * 1000))):
                more = os.read(ours, MAX_ANSWER + 1)
                answer += more
                ended = not more
        _end(child)
        return bytes(answer[:MAX_ANSWER]) if ended or len(answer) > MAX_ANSWER else None
    finally:
        os.close(ours)


def _end(child: int) -> None:
    """Kill it and take its status; do not insist."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    end = time.monotonic() + GRACE
    with contextlib.suppress(ChildProcessError):  # whoever uses this library may have taken all statuses
        while os.waitpid(child, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.005)


def _judge(answer: bytes | None) -> Kvm:
    if answer is None:
        return Kvm("silent", "a small guest on KVM did not end in time", "see dmesg; another kernel may help")
    try:
        found = json.loads(answer)
        step, error = str(found["step"]), str(found.get("error", ""))[:200]
        busy = found.get("errno") == errno.EBUSY
        api = None if found.get("api") is None else int(found["api"])
        seconds = None if found.get("seconds") is None else float(found["seconds"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Kvm("failed", "a small guest on KVM ended without a word", "see dmesg")
    if step == "api" and api is not None:
        hint = "a Linux kernel after 2.6.22 has it"
        return Kvm("version", f"KVM's API version: expected 12, got {api}", hint, api)
    if seconds is not None and seconds > SLOW:
        problem = f"KVM is itself emulated on this machine, and slower: 600 000 instructions took it {seconds:.2f} s"
        hint = "on a virtual machine, ask for nested virtualization"
        return Kvm("emulated", problem, hint, api, seconds)
    if step != "done" or seconds is None:
        problem = f"a small guest on KVM failed at the step {step!a}: {error or 'it said nothing'}"
        hint = "another hypervisor, such as VirtualBox, has the processor: end it" if busy else "see dmesg"
        return Kvm("failed", problem, hint, api, seconds)
    return Kvm("works", "", None, api, seconds)


def _key(device: str, modules: tuple[str, ...]) -> str:
    """For how long an answer holds: this start of the kernel, with these modules, and the trial as it is now."""
    try:
        with open(BOOT, encoding="ascii") as file:
            boot = file.read(64).strip()
    except (OSError, UnicodeError):
        return ""
    return f"{boot} {device} {','.join(modules)} {SLOW}"


def _recall(path: str, key: str) -> Kvm | None:
    kept = remembered.recall(path)
    if kept is None:
        return None
    found, written = kept
    if not isinstance(found, dict):
        return None
    try:
        if found.pop("key") != key:
            return None
        kvm = of_json(found)
    except (TypeError, KeyError):
        return None
    return None if kvm.state == "silent" and not 0 <= time.time() - written < BRIEF else kvm


def of_json(found: dict[str, Any]) -> Kvm:
    """What was found, from an object with its fields, which may be damaged.

    Raises:
        TypeError: it has another shape.
    """
    modules = found.get("modules", [])
    kvm = Kvm(**{**found, "modules": tuple(modules)})
    texts = (kvm.state, kvm.problem, "" if kvm.hint is None else kvm.hint, *kvm.modules)
    numbers = (0 if kvm.api is None else kvm.api, 0 if kvm.seconds is None else kvm.seconds)
    if not isinstance(modules, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("kvm: expected texts")
    if not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("kvm: expected numbers")
    return kvm
