"""Packages from wherever they are to be had; none is used before its size and digest were compared with the lock.

Where a package comes from is of no importance then, and so these are tried in order: the downloads that are there; the
directory or address in DONJON_MIRROR; on Debian, the machine's own package sources, first through apt and then at their
addresses: an archive has one pool for all releases, so a machine that names one has the others' packages too. Wheels
come through pip, with whatever index that is set up with. No address stands here: whoever installs decides.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

from donjon import files
from donjon.errors import ParseError, PlatformError, UsageError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from donjon.image.lock import Lock, Package

    Say = Callable[[str], None]
    Tell = Callable[[int], None]

__all__ = ["download", "fetch", "is_there", "of_archive", "unlink"]

MIRRORS = "https://www.debian.org/mirror/list"
"""Where Debian says who has its packages."""
MOST_SOURCES = 8
"""Of a machine, that are asked for a package."""
TIMEOUT = 60.0
"""Seconds that a server may be silent."""
PROGRAM_TIMEOUT = 900.0
CHUNK = 1 << 18  # bytes
STEP = 8_000_000
"""Bytes after which it is told how far a download is."""
PYTHON = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none")


class _AbsentError(Exception):
    """This origin gives no such package; the text says why.

    Args:
        gone: it was asked, and has none. Else it could not be asked, and may have it.
    """

    def __init__(self, text: str, gone: bool = False) -> None:
        super().__init__(text)
        self.gone = gone


def fetch(lock: Lock, folder: str, say: Say) -> dict[str, str]:
    """Have every package of the lock in `folder`.

    Args:
        say: told what is being fetched, in words.
    Returns:
        A package's file name -> its path.
    Raises:
        PlatformError: one is to be had nowhere, or the disk is full. ParseError: what was found is another.
    """
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise PlatformError(f"cannot make {folder}: {words_of(error)}", "check who may write there") from error
    missing = [package for package in lock.packages if not is_there(package, f"{folder}/{package.file}", say)]
    total = sum(package.size for package in missing)
    done = 0
    for index, package in enumerate(missing):

        def tell(came: int, what: str = f"downloading {package.name} {package.version}", before: int = done) -> None:
            say(f"{what} ({(before + came) / 1e6:.1f} of {total / 1e6:.1f} MB)")

        tell(0)
        _get(package, lock.snapshot, f"{folder}/{package.file}", len(missing) - index, tell)
        done += package.size
    return {package.file: f"{folder}/{package.file}" for package in lock.packages}


def is_there(package: Package, path: str, say: Say) -> bool:
    """Whether the package is there and whole; what is damaged is removed, and `say` is told."""
    try:
        with open(path, "rb") as file:
            problem = _differs(package, file.read(package.size + 1))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise PlatformError(f"cannot read {path}: {words_of(error)}", "check who may read it") from error
    if problem:
        say(f"{path} is damaged: it is fetched again")
        unlink(path)
    return not problem


def _differs(package: Package, data: bytes) -> str:
    """How `data` is not the package; "" if it is."""
    if len(data) != package.size:
        more = "more" if len(data) > package.size else str(len(data))
        return f"expected {package.size} bytes, got {more}"
    digest = hashlib.sha256(data).hexdigest()
    return "" if digest == package.sha256 else f"expected SHA-256 {package.sha256}, got {digest}"


def _get(package: Package, snapshot: str, path: str, missing: int, tell: Tell) -> None:
    tried: list[str] = []
    wrong, unasked = False, False
    for name, attempt in _origins(package, tell):
        try:
            data = attempt()
        except _AbsentError as reason:
            tried.append(f"{name}: {reason}")
            unasked = unasked or not reason.gone
            continue
        problem = _differs(package, data)
        if problem:
            tried.append(f"{name}: {problem}")
            wrong = True
            continue
        _keep(path, data)
        return
    where = "\n".join(tried) or "nobody to ask: DONJON_MIRROR is not set, and this machine has no apt"
    more = f", the first of {missing} that are missing" if missing > 1 else ""
    message = f"cannot get {package.name} {package.version} ({package.file}){more}:\n{where}"
    if wrong:
        raise ParseError(message, "a mirror may be broken or have been tampered with: try another with DONJON_MIRROR")
    mirror = f"set DONJON_MIRROR to a mirror of Debian, .../debian: {MIRRORS} has a list"
    if not tried:
        raise PlatformError(message, mirror)
    if unasked:
        hint = (
            f"check the network; or copy {os.path.dirname(path)} from a machine that has built an image, and name it "
        )
        raise PlatformError(message, f"{hint}with DONJON_MIRROR")
    raise PlatformError(
        message,
        f"{mirror}; an archive of old states has it at .../debian/{snapshot}. Where nobody has this version any more, "
        "`python -m tools.image_lock` in Donjon's sources makes a lock of today's, which measures differently",
    )


def _keep(path: str, data: bytes) -> None:
    try:
        with files.replacing(path, 0o666) as file:  # who gets a copy of the directory may be another user
            file.write(data)
    except OSError as error:
        raise PlatformError(
            f"cannot write {path}: {words_of(error)}", "check who may write there, and for space"
        ) from error


def unlink(path: str) -> None:
    """Remove a file, if it is there and can be."""
    try:
        os.unlink(path)
    except OSError:
        pass  # what stays is looked at again before it is used


def _origins(package: Package, tell: Tell) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Where a package might be, in the order in which that is tried."""
    mirror = os.environ.get("DONJON_MIRROR", "")
    if mirror.startswith(("http://", "https://")):
        base = mirror if mirror.endswith("/") else f"{mirror}/"
        url = f"{of_archive(base, package.archive)}{package.path}" if package.kind == "deb" else f"{base}{package.file}"
        yield base, lambda: download(url, package.size, tell)
    elif mirror.startswith("/"):
        names = [f"{mirror}/{package.file}", *([f"{mirror}/{package.path}"] if package.path else [])]
        yield mirror, lambda: _copy(names, package.size)
    elif mirror:
        raise UsageError(f"DONJON_MIRROR: expected a directory, or http(s)://..., got {mirror}")
    if package.kind == "wheel":
        yield "pip", lambda: _pip(package)
        return
    if shutil.which("apt-get"):
        yield "apt-get download", lambda: _apt(package)
        for source in _sources(package.archive):
            yield source, lambda url=f"{source}{package.path}": download(url, package.size, tell)  # type: ignore[misc]


def of_archive(base: str, archive: str) -> str:
    """A mirror's address, for one of Debian's archives: `debian-security` stands beside `debian`."""
    return base.replace("/debian/", f"/{archive}/")


def _sources(archive: str) -> list[str]:
    """Addresses of the machine's package sources, those of this archive first; [] where apt does not tell."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    try:
        told = _run(command, "/")
    except _AbsentError:
        return []
    found = dict.fromkeys(line for line in told.splitlines() if line.startswith(("http://", "https://")))
    return sorted(found, key=lambda url: not url.endswith(f"/{archive}/"))[:MOST_SOURCES]


def _copy(paths: Iterable[str], size: int) -> bytes:
    reason = "no such file"
    for path in paths:
        try:
            with open(path, "rb") as file:
                return file.read(size + 1)
        except OSError as error:
            reason = words_of(error)
    raise _AbsentError(reason, gone=True)


def download(url: str, size: int, tell: Tell | None = None) -> bytes:
    """At most one byte more than expected, over HTTP or HTTPS and nothing else; `tell` hears now and then how many."""
    import http.client
    import urllib.error
    import urllib.request

    opener = urllib.request.OpenerDirector()  # with no handler for files or FTP, to which a server could redirect
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    data = bytearray()
    try:
        with opener.open(url, timeout=TIMEOUT) as answer:
            while len(data) <= size and (chunk := answer.read(min(CHUNK, size + 1 - len(data)))):
                if tell is not None and len(data) // STEP < (len(data) + len(chunk)) // STEP:
                    tell(len(data) + len(chunk))
                data += chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise _AbsentError(f"answers {error.code} {error.reason}", gone=error.code in (404, 410)) from error
    except urllib.error.URLError as error:
        raise _AbsentError(
            words_of(error.reason) if isinstance(error.reason, OSError) else str(error.reason)
        ) from error
    except OSError as error:
        raise _AbsentError(words_of(error)) from error
    except (http.client.HTTPException, ValueError) as error:
        raise _AbsentError(str(error) or type(error).__name__) from error
    return bytes(data)


def _apt(package: Package) -> bytes:
    """From the machine's own sources; their signatures are checked too, though the lock does not need that."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - apt downloads as another user where it can
        architecture = "" if package.file.endswith("_all.deb") else ":amd64"
        word = f"{package.name}{architecture}={package.version}"
        _run(["apt-get", "-qq", "download", word], folder, ("E: Can't find", "E: Version", "E: Unable to locate"))
        return _only_file(folder, package.size)


def _pip(package: Package) -> bytes:
    """From the index that pip is set up with."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = f"{folder}/wanted.txt"
        with open(wanted, "w", encoding="utf-8") as file:
            file.write(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        tags = package.file.removesuffix(".whl").rpartition("-")[2].split(".")
        platforms = [word for tag in tags for word in ("--platform", tag)]
        os.mkdir(f"{folder}/found")
        _run(
            [*_pip_command(), "--quiet", "--disable-pip-version-check", "download", "--require-hashes",
             "--only-binary", ":all:", "--no-deps", *PYTHON, *platforms, "--dest", f"{folder}/found", "-r", wanted],
            folder, ("ERROR: No matching distribution",),
        )  # fmt: skip
        return _only_file(f"{folder}/found", package.size)


def _pip_command() -> list[str]:
    """This Python's, or else the one in the path: not every environment has pip inside."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    program = shutil.which("pip3") or shutil.which("pip")
    if program is None:
        raise _AbsentError("there is none: install pip, or put the wheels into a directory and set DONJON_MIRROR to it")
    return [program]


def _run(command: list[str], folder: str, gone: tuple[str, ...] = ()) -> str:
    """What a command says; an error that begins with one of `gone` means that there is no such package."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=PROGRAM_TIMEOUT, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _AbsentError("no answer") from error
    except OSError as error:
        raise _AbsentError(words_of(error)) from error
    if done.returncode:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        told = [line for line in lines if line.startswith(("E:", "ERROR:"))] or lines
        raise _AbsentError(told[-1][:300], gone=told[-1].startswith(gone))
    return done.stdout.decode("utf-8", "replace")


def _only_file(folder: str, size: int) -> bytes:
    names = [name for name in os.listdir(folder) if name.endswith((".deb", ".whl"))]
    if len(names) != 1:
        raise _AbsentError("nothing was downloaded")
    return _copy([f"{folder}/{names[0]}"], size)
