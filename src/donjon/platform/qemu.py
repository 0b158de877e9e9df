"""Finds QEMU, which holds virtual machines, and says how to get it where there is none.

QEMU takes 20 ms to say its version, a tenth of what `donjon run` does until its machine starts, so what it said is kept
in the user's cache, for as long as the program is the same file. A script in its place may start another QEMU any time:
it is asked each time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from donjon.errors import PlatformError, words_of
from donjon.log import printable
from donjon.platform import remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OLDEST", "Qemu", "find", "how_to_get"]

NAMES = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm")
"""The program's name everywhere, and where Red Hat keeps it."""
OLDEST = (7, 2)
"""The oldest version that was tried."""
SECONDS = 20.0
"""How long it may take to say its version."""
ELF = b"\x7fELF"
VERSION = re.compile(rb"QEMU emulator version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")

# ID or ID_LIKE in os-release(5) -> the command that installs it.
PACKAGES = {
    "debian": "sudo apt-get install qemu-system-x86",
    "ubuntu": "sudo apt-get install qemu-system-x86",
    "fedora": "sudo dnf install qemu-system-x86-core",
    "rhel": "sudo dnf install qemu-kvm",
    "arch": "sudo pacman -S qemu-system-x86",
    "suse": "sudo zypper install qemu-x86",
    "alpine": "sudo apk add qemu-system-x86_64",
    "gentoo": "sudo emerge app-emulation/qemu",
    "nixos": "nix-env -iA nixos.qemu",
}
RELEASE = ("/etc/os-release", "/usr/lib/os-release")


class Qemu:
    """One QEMU.

    Attributes:
        path: absolute.
        version: such as (7, 2, 22).
    """

    __slots__ = ("path", "version")

    def __init__(self, path: str, version: tuple[int, int, int]) -> None:
        self.path = path
        self.version = version

    def __repr__(self) -> str:
        return f"QEMU {'.'.join(map(str, self.version))} ({self.path})"


def find(search: str | None = None, memory: str | None = None) -> Qemu:
    """The QEMU of this machine.

    Args:
        search: directories as in PATH; None, those of PATH.
        memory: the file that remembers what it said; None is that of the user, "" is none.
    Raises:
        PlatformError: there is none, it does not run, or it is older than OLDEST.
    """
    path = next(filter(None, (shutil.which(name, path=search) for name in NAMES)), None)
    if path is None:
        raise PlatformError(f"cannot start a virtual machine: there is no {NAMES[0]} in PATH", how_to_get())
    path = os.path.abspath(path)
    memory = remembered.file("qemu.json") if memory is None else memory
    key = _key(path)
    version = _recall(memory, key)
    if version is None:
        version = _ask(path)
        if key and key == _key(path):
            remembered.remember(memory, {"key": key, "version": version})
    if version < OLDEST:
        raise PlatformError(
            f"{path}: expected QEMU {'.'.join(map(str, OLDEST))} or later, got {'.'.join(map(str, version))}",
            f"install a later one, on Debian from backports; {how_to_get()}",
        )
    return Qemu(path, version)


def _ask(path: str) -> tuple[int, int, int]:
    """The version that it says it has."""
    try:
        said = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=SECONDS,
        ).stdout  # fmt: skip
    except OSError as error:
        raise PlatformError(f"cannot run {path}: {words_of(error)}", how_to_get()) from error
    except subprocess.TimeoutExpired:
        raise PlatformError(f"{path} --version: expected an answer within {SECONDS:g} s, got none") from None
    found = VERSION.search(said[:4096])
    if found is None:
        first = said[:200].decode("utf-8", "replace").strip().partition("\n")[0]
        raise PlatformError(
            f'{path} --version: expected "QEMU emulator version ...", got "{printable(first)}"', how_to_get()
        )
    return int(found[1]), int(found[2]), int(found[3] or 0)


def _key(path: str) -> str:
    """Which file it is: another name, content or version has another; "" for what is no program of the processor's."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != ELF:
                return ""
            about = os.fstat(file.fileno())
    except OSError:
        return ""  # some may be run and not read
    times = about.st_mtime_ns, about.st_ctime_ns
    return " ".join(map(str, (path, about.st_dev, about.st_ino, about.st_size, *times)))


def _recall(memory: str, key: str) -> tuple[int, int, int] | None:
    kept = remembered.recall(memory) if key else None
    found = kept[0] if kept is not None else None
    if not isinstance(found, dict) or found.get("key") != key:
        return None
    numbers = found.get("version")
    if not isinstance(numbers, list) or len(numbers) != 3 or not all(type(number) is int for number in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def how_to_get(release: Mapping[str, str] | None = None) -> str:
    """The command that installs QEMU on this system, or what to look for.

    Args:
        release: what os-release(5) says; None reads it.
    """
    known = _release() if release is None else release
    for name in (known.get("ID", ""), *known.get("ID_LIKE", "").split()):
        for family, command in PACKAGES.items():
            if name == family or (family == "suse" and name.startswith("opensuse")):
                return command
    return f"install QEMU {'.'.join(map(str, OLDEST))} or later with {NAMES[0]}"


def _release() -> dict[str, str]:
    for path in RELEASE:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(65536)
        except OSError:
            continue
        pairs = (line.partition("=") for line in text.splitlines())
        return {name.strip(): value.strip().strip("\"'") for name, equals, value in pairs if equals}
    return {}
