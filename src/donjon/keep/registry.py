"""The Keeps of one user that run on this machine: an entry each, and what they have said.

    DIRECTORY/NAME.json      who it is; DIRECTORY is $XDG_RUNTIME_DIR/donjon/keeps, or /tmp/donjon-UID/keeps without one
    DIRECTORY/NAME.log       what a detached Keep and its guest write, and in NAME.log.1 what they wrote before that

An entry is written when everything is open, before the guest runs. Nobody has to take it away: it names a process by
its number and the moment of its start, so what crashed, was killed or is another process by now is no Keep any more,
and its entry goes when somebody looks. A Keep in the sandbox could not take it away itself.

The directories are this user's alone (0700), and so is every file in them (0600, no links): anything else there is
another's doing and is refused, as is an entry that is not in its one form. `parse` is fuzzed.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from donjon.keep.launch import Launch

    Listeners = Sequence[tuple[str, str, int]]

__all__ = ["Directory", "Entry", "birth_of", "check_name", "fresh_name", "parse", "register", "stop", "workload_of"]

LONGEST = 64 << 10
"""Bytes of an entry; the names of 1024 listeners fit."""
LONGEST_NAME = 48
MOST_ENTRIES = 4096
OLD_LOGS = 16
"""Logs of Keeps that have ended, so many are kept: the newest."""
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
KILL_SECONDS = 10.0


class Entry:
    """A Keep that runs.

    Attributes:
        name: unique among those of this user.
        pid: of the process that is the Keep, or holds it.
        born: when that process was started, so that another with its number is not taken for it.
        backend: what holds the Keep: "nil", "kvm", ...
        workload: the digest of its launch descriptor, hex.
        listeners: name in Enarx.toml, host, port.
        since: seconds since 1970.
        detached: whether what it says is kept here.
    """

    __slots__ = ("backend", "born", "detached", "listeners", "name", "pid", "since", "workload")

    def __init__(
        self, name: str, pid: int, born: str, backend: str, workload: str, listeners: Listeners, since: int,
        detached: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.pid = pid
        self.born = born
        self.backend = backend
        self.workload = workload
        self.listeners = tuple(listeners)
        self.since = since
        self.detached = detached

    def fields(self) -> dict[str, object]:
        """As JSON has it."""
        listeners = [{"name": name, "host": host, "port": port} for name, host, port in self.listeners]
        return {
            "name": self.name,
            "pid": self.pid,
            "born": self.born,
            "backend": self.backend,
            "workload": self.workload,
            "listeners": listeners,
            "since": self.since,
            "detached": self.detached,
        }

    def runs(self) -> bool:
        """Whether that process is still there."""
        return self.born != "" and birth_of(self.pid) == self.born


def parse(data: bytes) -> Entry:
    """An entry from its file.

    Raises:
        ParseError: it is not in the form in which entries are written.
    """
    import json

    if len(data) > LONGEST:
        raise ParseError(f"entry of a Keep: expected at most {LONGEST} bytes, got more")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ParseError("entry of a Keep: expected JSON") from error
    shape = {
        "name": str, "pid": int, "born": str, "backend": str, "workload": str, "listeners": list, "since": int,
        "detached": bool,
    }  # fmt: skip
    _check(found, shape, "")
    listeners = []
    if len(found["listeners"]) > 1024:
        raise ParseError("entry of a Keep: listeners: expected at most 1024, got more")
    for listener in found["listeners"]:
        _check(listener, {"name": str, "host": str, "port": int}, "listeners.")
        if not 0 < listener["port"] < 1 << 16:
            raise ParseError("entry of a Keep: listeners.port: expected 1 to 65535, got another")
        listeners.append((listener["name"], listener["host"], listener["port"]))
    if not _is_name(found["name"]):
        raise ParseError(f'entry of a Keep: name: expected one, got "{printable(found["name"][:20])}"')
    if not 1 < found["pid"] < 1 << 31 or not 0 <= found["since"] < 1 << 40:
        raise ParseError("entry of a Keep: pid, since: expected numbers that can be, got others")
    return Entry(**{**found, "listeners": listeners})


def _check(found: object, shape: dict[str, type], where: str) -> None:
    if not isinstance(found, dict) or found.keys() != shape.keys():
        what = "an object" if not where else "objects"
        raise ParseError(f"entry of a Keep: {where or 'top'}: expected {what} with {', '.join(shape)}")
    for key, kind in shape.items():
        value = found[key]
        if type(value) is not kind or (isinstance(value, str) and len(value) > 512):
            raise ParseError(f"entry of a Keep: {where}{key}: expected {_WORDS[kind]}, got another")


_WORDS = {str: "short text", int: "a number", list: "a list", bool: "true or false"}


def check_name(name: str, where: str = "--name") -> None:
    """Refuse what cannot be a Keep's name.

    Raises:
        UsageError: it is not 1 to 48 letters, digits, "-", "_" and ".", the first a letter or digit.
    """
    if not _is_name(name):
        raise UsageError(
            f'{where}: expected a name of 1 to {LONGEST_NAME} letters, digits, "-", "_" or ".", got '
            f'"{printable(name[:60])}"',
            "the first is a letter or a digit, as in web-1",
        )


def _is_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and name[0] not in "-_." and LETTERS.issuperset(name)


def fresh_name(module: str) -> str:
    """A name for a Keep that was given none: its module's, and four digits."""
    stem = os.path.basename(module).partition(".")[0]
    kept = "".join(letter for letter in stem if letter in LETTERS).lstrip("-_.")[:40] or "keep"
    return f"{kept}-{os.urandom(2).hex()}"


def workload_of(launch: Launch) -> str:
    """The digest that names a workload, hex; of a module that is a file it is read, where that has not been done."""
    if launch.main is None:
        from donjon.wasm.engine import read
        from donjon.workload.tree import MAIN, File

        data = launch.module if isinstance(launch.module, bytes) else read(launch.module)
        launch.main = File.named(MAIN, data)
    return launch.describe().digest().hex()


def birth_of(pid: int) -> str:
    """When a process was started, in words that no other process of this number has; "" when there is none."""
    if sys.platform != "linux":
        import subprocess

        asked = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read(36)
    except OSError:
        return ""
    # From field 3 on, as field 2 can hold anything: state, ..., number 22 is the start, in ticks since boot.
    return "" if fields[0] in (b"Z", b"X") else f"{boot.decode()}:{fields[19].decode()}"


class Directory:
    """Where the entries are; made when it is not there.

    Attributes:
        path: for messages.
    Raises:
        PlatformError: it cannot be had, or is not this user's alone.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        self.path = ""
        for step in _steps():
            self._enter(step)

    def _enter(self, step: str) -> None:
        above = None if self._descriptor < 0 else self._descriptor
        self.path = os.path.join(self.path, step)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            try:
                os.mkdir(step, 0o700, dir_fd=above)
            except FileExistsError:
                pass
            descriptor = os.open(step, flags, dir_fd=above)
        except OSError as error:
            self.close()
            raise PlatformError(
                f"cannot use {printable(self.path)} for entries of Keeps: {words_of(error)}",
                "it has to be a directory of this user's, and no link; remove it, or set XDG_RUNTIME_DIR to another",
            ) from error
        self.close()
        self._descriptor = descriptor
        about = os.fstat(descriptor)
        if about.st_uid != os.geteuid() or about.st_mode & 0o077:
            self.close()
            raise PlatformError(
                f"cannot use {printable(self.path)} for entries of Keeps: expected a directory of this user's with "
                f"mode 700, got one of user {about.st_uid} with mode {stat.S_IMODE(about.st_mode):o}",
                "remove it, or set XDG_RUNTIME_DIR to a directory that is yours",
            )

    def close(self) -> None:
        """Give it back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- entries

    def add(self, entry: Entry) -> None:
        """Register a Keep.

        Raises:
            UsageError: one with its name runs. PlatformError: it cannot be written.
        """
        import json

        data = json.dumps(entry.fields()).encode()
        name, temporary = f"{entry.name}.json", f".{entry.name}.{os.getpid()}"
        try:
            with _Lock(self._descriptor):
                self.check_free(entry.name)
                file = self.create(temporary)
                try:
                    with open(file, "wb") as stream:
                        stream.write(data)
                    os.rename(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
                except BaseException:
                    os.unlink(temporary, dir_fd=self._descriptor)
                    raise
        except OSError as error:
            raise PlatformError(f"cannot write {self.path}/{name}: {words_of(error)}") from error

    def check_free(self, name: str) -> None:
        """Refuse the name of a Keep that runs.

        Raises:
            UsageError: it does.
        """
        try:
            there = self._read(f"{name}.json").runs()
        except (OSError, ParseError):
            return  # what is not an entry, a link for example, is replaced
        if there:
            raise UsageError(f'a Keep named "{name}" runs already', f"`donjon stop {name}` ends it; or choose another")

    def remove(self, entry: Entry) -> None:
        """Take an entry away, unless another Keep has the name by now."""
        with _Lock(self._descriptor):
            try:
                found = self._read(f"{entry.name}.json")
                if (found.pid, found.born) == (entry.pid, entry.born):
                    os.unlink(f"{entry.name}.json", dir_fd=self._descriptor)
            except (OSError, ParseError):
                pass  # somebody was here before

    def entries(self, refused: Callable[[str], object] = str) -> list[Entry]:
        """All Keeps that run, by name; entries of others are taken away.

        Args:
            refused: told of each file that is no entry; it stays.
        """
        found = []
        for file in self._files(".json"):
            try:
                entry = self._read(file)
                if entry.name != file.removesuffix(".json"):
                    raise ParseError(f'entry of a Keep: expected the name of its file, got "{entry.name}"')
            except FileNotFoundError:
                continue
            except (OSError, ParseError) as error:
                text = error.message if isinstance(error, ParseError) else words_of(error)
                refused(f"{self.path}/{printable(file)} is not looked at: {text}")
                continue
            if entry.runs():
                found.append(entry)
            else:
                self.remove(entry)
        return found

    def find(self, name: str) -> Entry:
        """The Keep of this name.

        Raises:
            UsageError: none runs.
        """
        for entry in self.entries():
            if entry.name == name:
                return entry
        raise UsageError(f'no Keep named "{printable(name[:60])}" runs', "`donjon ps` lists those that do")

    def _files(self, end: str) -> Iterator[str]:
        names = sorted(name for name in os.listdir(self._descriptor) if name.endswith(end) and name[0] != ".")
        yield from names[:MOST_ENTRIES]

    def _read(self, file: str) -> Entry:
        descriptor = self.open(file)
        with open(descriptor, "rb") as stream:
            return parse(stream.read(LONGEST + 1))

    # ---- files

    def create(self, file: str) -> int:
        """Make a file that is this user's alone; one that is there goes."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.unlink(file, dir_fd=self._descriptor)
        except FileNotFoundError:
            pass
        return os.open(file, flags, 0o600, dir_fd=self._descriptor)

    def open(self, file: str) -> int:
        """Open a file to read it.

        Raises:
            ParseError: it is not a plain file of this user's that nobody else can change. OSError: as usual.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file, flags, dir_fd=self._descriptor)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
            os.close(descriptor)
            raise ParseError("expected a file of this user's with mode 600")
        return descriptor

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; what has that goes."""
        os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def forget_old_logs(self) -> None:
        """Of Keeps that have ended keep the newest OLD_LOGS logs."""
        running = {entry.name for entry in self.entries()}
        old = []
        for file in self._files(".log"):
            if file.removesuffix(".log") not in running:
                try:
                    old.append((os.stat(file, dir_fd=self._descriptor, follow_symlinks=False).st_mtime, file))
                except OSError:
                    continue
        for _, file in sorted(old)[:-OLD_LOGS]:
            for name in (file, f"{file}.1"):
                try:
                    os.unlink(name, dir_fd=self._descriptor)
                except OSError:
                    pass


class _Lock:
    """Held while entries are changed, so that nobody takes a new one for the old one of its name."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        import fcntl

        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        import fcntl

        fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _steps() -> tuple[str, ...]:
    """Directories, each in the one before it; the first is there, or is made in /tmp."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(given) and os.path.isdir(given):
        return (os.path.join(given, "donjon"), "keeps")
    return (f"/tmp/donjon-{os.geteuid()}", "keeps")  # noqa: S108 - refused unless it is ours alone


def register(
    name: str, backend: str, workload: str, listeners: Listeners, detached: bool, pid: int | None = None
) -> None:
    """Add an entry for a Keep of this process, or of another.

    Raises:
        UsageError: one with this name runs. PlatformError: it cannot be done.
    """
    pid = os.getpid() if pid is None else pid
    with Directory() as directory:
        directory.add(Entry(name, pid, birth_of(pid), backend, workload, listeners, int(time.time()), detached))


def stop(entry: Entry, seconds: float) -> bool:
    """End a Keep: SIGTERM, and SIGKILL when it has not ended after so many seconds.

    Returns:
        Whether it took the second.
    Raises:
        PlatformError: not even that ends it.
    """
    import signal

    try:
        handle = _Handle(entry.pid)
    except ProcessLookupError:
        return False
    try:
        if not entry.runs():
            return False  # it had ended, and the number is another's: of whom the handle is, is known before any signal
        handle.send(signal.SIGTERM)
        if handle.wait(seconds):
            return False
        handle.send(signal.SIGKILL)
        if not handle.wait(KILL_SECONDS):
            raise PlatformError(f'the Keep "{entry.name}", process {entry.pid}, cannot be ended')
        return True
    finally:
        handle.close()


class _Handle:
    """A process, which stays the same one whatever becomes of its number; only by that number where there is no pidfd.

    Raises:
        ProcessLookupError: there is none.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._descriptor = os.pidfd_open(pid) if sys.platform == "linux" else -1

    def send(self, number: int) -> None:
        import signal

        try:
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self._pid, number)
        except ProcessLookupError:
            pass

    def wait(self, seconds: float) -> bool:
        """Whether it ends in that time."""
        if self._descriptor >= 0:
            import select

            poller = select.poll()
            poller.register(self._descriptor, select.POLLIN)
            return bool(poller.poll(seconds * 1000))
        end = time.monotonic() + seconds
        while birth_of(self._pid):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
