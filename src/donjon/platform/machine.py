"""The machine that is looked at: this one, or one that was recorded, which can be looked at anywhere.

    Machine()                        this one
    Recorded("dir")                  one that `donjon platform record` has written
    Recorder(Machine())              this one; remembers all that was asked, and `write` makes a record of it

Everything that `facts`, `backends` and `choice` know of a machine goes through the methods here. So a record is whole
by its making: it holds the answers to those questions, and nothing else of the machine. Of files it holds only such as
the kernel shows to everybody and lists that vendors publish; numbers that name a chip are replaced, and so is the
user's home directory.

A record is a directory: `machine.json`, and below `files` the files that were read, by their paths.
"""

from __future__ import annotations

import json
import os
import re
import stat
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from donjon.errors import DonjonError, ParseError, PlatformError, UsageError, words_of
from donjon.log import printable
from donjon.platform import sev
from donjon.platform.cpuid import Registers, cpuid
from donjon.platform.kvm import Kvm, of_json, probe

__all__ = ["Machine", "Recorded", "Recorder"]

MAX_TEXT = 64 * 1024
MAX_DATA = 4 * 1024 * 1024
MAX_NAMES = 4096
"""Of one directory."""
MAX_RECORD = 4 * 1024 * 1024
FORMAT = 1
_LONG_HEX = re.compile(r"[0-9a-fA-F]{16,}")


class Machine:
    """This machine. Nothing here raises because something is missing: that is an answer too."""

    def system(self) -> tuple[str, str, str, str]:
        """Kernel name, release, version and machine, as uname(2) gives them; never the host's name."""
        found = os.uname()
        return found.sysname, found.release, found.version, found.machine

    def now(self) -> datetime:
        """The time by which lists have ended or not."""
        return datetime.now(UTC)

    def text(self, path: str) -> str | None:
        """A small file's text without the end of line; None where it cannot be read."""
        data = self.data(path, MAX_TEXT)
        return None if data is None else data.decode("utf-8", "replace").strip()

    def data(self, path: str, most: int = MAX_DATA) -> bytes | None:
        """A file's bytes; None where it cannot be read or is longer."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            found = bytearray()
            while len(found) <= most and (more := os.read(file, most + 1 - len(found))):
                found += more
            return bytes(found) if len(found) <= most else None
        except OSError:
            return None
        finally:
            os.close(file)

    def names(self, path: str) -> tuple[str, ...]:
        """What is in a directory, sorted; nothing where it cannot be read."""
        try:
            return tuple(sorted(os.listdir(path))[:MAX_NAMES])
        except OSError:
            return ()

    def kind(self, path: str) -> str:
        """What is there: "file", "directory", "device", "socket", "other", or "" for nothing."""
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return ""
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFCHR: "device", stat.S_IFSOCK: "socket"}
        return kinds.get(stat.S_IFMT(mode), "other")

    def may(self, path: str) -> str:
        """What this user may do there: some of "rw"."""
        return "".join(word for word, mode in (("r", os.R_OK), ("w", os.W_OK)) if os.access(path, mode))

    def cpuid(self, leaf: int, subleaf: int = 0) -> Registers | None:
        """What the processor's instruction CPUID says."""
        return cpuid(leaf, subleaf)

    def memlock(self) -> int | None:
        """Bytes that a process may lock in memory; None: any number."""
        import resource

        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return None if limit == resource.RLIM_INFINITY else limit

    def kvm(self) -> Kvm:
        """Whether KVM works."""
        return probe()

    def sev_status(self) -> sev.PlatformStatus | str:
        """What the firmware behind /dev/sev says; text: why it says nothing."""
        try:
            return sev.Device().platform_status()
        except PlatformError as error:
            return error.message

    def chip_id(self) -> bytes | str:
        """CHIP_ID; text: why it cannot be had."""
        try:
            return sev.Device().chip_id()
        except PlatformError as error:
            return error.message

    def qemu(self) -> tuple[tuple[int, int, int] | None, str, str]:
        """QEMU's version; where it is or what is wrong; how to get it."""
        from donjon.platform import qemu

        try:
            found = qemu.find()
        except PlatformError as error:
            return None, error.message, error.hint or ""
        return found.version, found.path, qemu.how_to_get()

    def firmware(self, kind: str) -> tuple[str | None, str, str]:
        """The firmware that starts guests of a TEE, "snp" or "tdx", read and understood; what is wrong; what to do."""
        from donjon.tee.snp import backend as snp
        from donjon.tee.tdx import backend as tdx

        try:
            return (snp if kind == "snp" else tdx).firmware(None)[0], "", ""
        except DonjonError as error:
            return None, error.message, error.hint or ""

    def image(self) -> tuple[str | None, str, str]:
        """The directory of the image that virtual machines start; what is wrong; what to do."""
        from donjon import image

        try:
            return image.find().directory, "", ""
        except DonjonError as error:
            return None, error.message, error.hint or ""

    def caches(self) -> dict[str, str]:
        """Where collateral is kept: "amd" and "intel"."""
        from donjon.platform.caching import folders

        return folders()


class Recorder(Machine):
    """A machine, and all that it was asked."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._answers: dict[str, Any] = {}
        self._files: dict[str, bytes] = {}
        self._salt = os.urandom(16)

    def write(self, folder: str) -> list[str]:
        """Write the record.

        Args:
            folder: not there yet, or empty.
        Returns:
            The names of the files below it.
        Raises:
            UsageError: something is there. PlatformError: it cannot be written.
        """
        try:
            if os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
                raise UsageError(f"{folder}: expected an empty directory, or none", "name another one")
            made = {"machine.json": self._document().encode()}
            made.update({f"files{path}": data for path, data in self._files.items()})
            for name, data in made.items():
                path = os.path.join(folder, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "xb") as file:
                    file.write(data)
            return sorted(made)
        except OSError as error:
            raise PlatformError(f"cannot write {folder}: {words_of(error)}") from error

    def _document(self) -> str:
        self.system()
        self.now()
        return json.dumps({"format": FORMAT, "source": "recorded", **self._answers}, indent=1, sort_keys=True) + "\n"

    def _keep(self, what: str, key: str, value: Any) -> None:
        self._answers.setdefault(what, {})[self._hide(key)] = value

    def _hide(self, text: str) -> str:
        """The same text in which long hexadecimal numbers, which may name a chip, are others of the same length."""

        def other(match: re.Match[str]) -> str:
            made = sha256(self._salt + match[0].lower().rstrip("0").encode()).hexdigest() * 2
            kept = len(match[0].rstrip("0")) if len(match[0]) == 128 else len(match[0])
            return (made * (len(match[0]) // len(made) + 1))[:kept].ljust(len(match[0]), "0")

        return _LONG_HEX.sub(other, text)

    def system(self) -> tuple[str, str, str, str]:
        found = self._machine.system()
        self._answers["system"] = list(found)
        return found

    def now(self) -> datetime:
        found = self._machine.now()
        self._answers["now"] = found.isoformat()
        return found

    def data(self, path: str, most: int = MAX_DATA) -> bytes | None:
        found = self._machine.data(path, most)
        if found is not None:
            self._files[self._hide(path)] = found
        return found

    def names(self, path: str) -> tuple[str, ...]:
        found = self._machine.names(path)
        self._keep("names", path, [self._hide(name) for name in found])
        return found

    def kind(self, path: str) -> str:
        found = self._machine.kind(path)
        if found:
            self._keep("kinds", path, found)
        return found

    def may(self, path: str) -> str:
        found = self._machine.may(path)
        if found:
            self._keep("may", path, found)
        return found

    def cpuid(self, leaf: int, subleaf: int = 0) -> Registers | None:
        found = self._machine.cpuid(leaf, subleaf)
        if found is not None:
            self._keep("cpuid", f"{leaf:08x}.{subleaf}", [f"{number:08x}" for number in found])
        return found

    def memlock(self) -> int | None:
        found = self._machine.memlock()
        self._answers["memlock"] = found
        return found

    def kvm(self) -> Kvm:
        found = self._machine.kvm()
        self._answers["kvm"] = {name: getattr(found, name) for name in ("state", "problem", "hint", "api", "seconds")}
        self._answers["kvm"]["modules"] = list(found.modules)
        return found

    def sev_status(self) -> sev.PlatformStatus | str:
        found = self._machine.sev_status()
        self._answers["sev_status"] = found if isinstance(found, str) else _status_to_json(found)
        return found

    def chip_id(self) -> bytes | str:
        found = self._machine.chip_id()
        self._answers["chip_id"] = {"problem": found} if isinstance(found, str) else {"hex": self._hide(found.hex())}
        return found

    def qemu(self) -> tuple[tuple[int, int, int] | None, str, str]:
        found = self._machine.qemu()
        self._answers["qemu"] = [found[0], _homeless(found[1]), _homeless(found[2])]
        return found

    def firmware(self, kind: str) -> tuple[str | None, str, str]:
        found = self._machine.firmware(kind)
        self._keep("firmware", kind, [_homeless(part) for part in found])
        return found

    def image(self) -> tuple[str | None, str, str]:
        found = self._machine.image()
        self._answers["image"] = [_homeless(part) for part in found]
        return found

    def caches(self) -> dict[str, str]:
        found = self._machine.caches()
        self._answers["caches"] = found
        return found


class Recorded(Machine):
    """A machine of a record.

    Raises:
        UsageError: there is none. ParseError: it is malformed, or of a later format.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        where = os.path.join(folder, "machine.json")
        data = super().data(where, MAX_RECORD)
        if data is None:
            raise UsageError(f"cannot read {where}", "`donjon platform record DIR` makes a record")
        try:
            self._answers: dict[str, Any] = json.loads(data)
            if self._answers["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {str(self._answers['format'])[:20]}")
            self._check()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            problem = printable(f"{type(error).__name__}: {error}"[:200])
            raise ParseError(f"{where}: expected a record of a machine: {problem}") from error

    def _check(self) -> None:
        """Read everything once, so that a record that is malformed is refused at the beginning."""
        self.system(), self.now(), self.memlock(), self.kvm(), self.sev_status(), self.chip_id(), self.qemu()
        self.caches(), self.image()
        for what in ("names", "kinds", "may", "cpuid", "firmware"):
            if not isinstance(self._answers.get(what, {}), dict):
                raise TypeError(f"{what}: expected an object")
            for key in self._answers.get(what, {}):
                if what == "names":
                    self.names(key)
                elif what == "firmware":
                    self.firmware(key)
                elif what == "cpuid":
                    leaf, _, subleaf = key.partition(".")
                    self.cpuid(int(leaf, 16), int(subleaf))
                elif not isinstance(self._answers[what][key], str):
                    raise TypeError(f"{what}.{key[:40]}: expected text")

    def system(self) -> tuple[str, str, str, str]:
        one, two, three, four = (str(part) for part in self._answers["system"])
        return one, two, three, four

    def now(self) -> datetime:
        return datetime.fromisoformat(self._answers["now"]).astimezone(UTC)

    def data(self, path: str, most: int = MAX_DATA) -> bytes | None:
        if ".." in path.split("/"):
            return None
        return super().data(f"{self._folder}/files{path}", most)

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(str(name) for name in self._answers.get("names", {}).get(path, ()))

    def kind(self, path: str) -> str:
        return str(self._answers.get("kinds", {}).get(path, ""))

    def may(self, path: str) -> str:
        return str(self._answers.get("may", {}).get(path, ""))

    def cpuid(self, leaf: int, subleaf: int = 0) -> Registers | None:
        found = self._answers.get("cpuid", {}).get(f"{leaf:08x}.{subleaf}")
        if found is None:
            return None
        eax, ebx, ecx, edx = (int(number, 16) & 0xFFFFFFFF for number in found)
        return eax, ebx, ecx, edx

    def memlock(self) -> int | None:
        found = self._answers.get("memlock")
        return None if found is None else int(found)

    def kvm(self) -> Kvm:
        found = self._answers.get("kvm", {"state": "absent", "problem": "/dev/kvm: no such file or directory"})
        return of_json(found)

    def sev_status(self) -> sev.PlatformStatus | str:
        found = self._answers.get("sev_status", "cannot open /dev/sev: no such file or directory")
        return found if isinstance(found, str) else _status_from_json(found)

    def chip_id(self) -> bytes | str:
        found = self._answers.get("chip_id", {"problem": "cannot open /dev/sev: no such file or directory"})
        return bytes.fromhex(found["hex"]) if "hex" in found else str(found["problem"])

    def qemu(self) -> tuple[tuple[int, int, int] | None, str, str]:
        version, path, get = self._answers.get("qemu", (None, "there is no qemu-system-x86_64 in PATH", ""))
        if version is None:
            return None, str(path), str(get)
        major, minor, micro = (int(number) for number in version)
        return (major, minor, micro), str(path), str(get)

    def firmware(self, kind: str) -> tuple[str | None, str, str]:
        path, problem, hint = self._answers.get("firmware", {}).get(kind, (None, "there is none", ""))
        return None if path is None else str(path), str(problem), str(hint)

    def image(self) -> tuple[str | None, str, str]:
        path, problem, hint = self._answers.get("image", (None, "there is none", "`donjon image build` makes it"))
        return None if path is None else str(path), str(problem), str(hint)

    def caches(self) -> dict[str, str]:
        found = self._answers.get("caches", {"amd": "/var/cache/amd-sev", "intel": "/var/cache/intel-sgx"})
        return {name: str(found[name]) for name in ("amd", "intel")}


def _homeless(text: str | None) -> str | None:
    """The text without the home directory, which has the user's name."""
    home = os.path.expanduser("~")
    return text.replace(home, "~") if text and home.startswith("/") and len(home) > 1 else text


def _status_to_json(status: sev.PlatformStatus) -> dict[str, Any]:
    return {
        "version": list(status.version),
        "state": status.state,
        "guests": status.guests,
        "current_tcb": status.current_tcb.hex(),
        "reported_tcb": status.reported_tcb.hex(),
        "vlek": status.vlek,
    }


def _status_from_json(found: dict[str, Any]) -> sev.PlatformStatus:
    major, minor, build = (int(number) for number in found["version"])
    return sev.PlatformStatus(
        (major, minor, build),
        str(found["state"]),
        int(found["guests"]),
        _tcb(found["current_tcb"]),
        _tcb(found["reported_tcb"]),
        bool(found.get("vlek", False)),
    )


def _tcb(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 8:
        raise ValueError(f"expected a TCB of 8 bytes, got {len(found)}")
    return found
