"""From the lock to an image: fetch the packages, unpack them, have the pinned interpreter pack, publish.

    lock -> downloads -> inputs -> (packing, inside the pinned interpreter) -> images/VARIANT-KEY

The interpreter is the image's own, started by its own loader with its own libraries, so this works on any Linux for
x86-64, and nothing of the machine's Python gets into the image. Only unpacking is done by the machine's: ar, tar, xz
and zip have one meaning.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import lzma
import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager

from donjon.errors import BugError, DonjonError, ParseError, PlatformError, UsageError, words_of
from donjon.image import fetching, kernel, recipe, store, unpacking
from donjon.image import lock as locks
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from donjon.image.lock import Lock, Package
    from donjon.image.store import Image
    from donjon.image.unpacking import Item

    Progress = Callable[[str], None]

__all__ = ["build", "command"]

LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
KEPT_IMAGES = 2
"""Of each variant, the newest; each has some 145 MB."""
KEPT_SEGMENTS = 12
"""Compressed archives, the newest; three make an image, and most have half a megabyte."""
FAMILIES: dict[str, type[DonjonError]] = {
    family.__name__: family for family in (ParseError, PlatformError, UsageError, BugError)
}


def build(variant: str = "production", progress: Progress | None = None, out: str | None = None) -> Image:
    """Make an image, or find the one that was made.

    Args:
        progress: called with what is being done, in words.
        out: a directory to put it into instead of the cache.
    Raises:
        UsageError: no such variant. PlatformError: no network, no room, another kind of machine.
        ParseError: a package is not what the lock says.
    """
    say = progress or _silent
    if variant not in recipe.VARIANTS:
        raise UsageError(f"image variant {variant}: expected one of {', '.join(recipe.VARIANTS)}")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PlatformError(
            f"cannot build an image on {platform.system()} {platform.machine()}: expected Linux on x86-64",
            "build it on such a machine, and set DONJON_IMAGE to a copy",
        )
    lock = locks.load()
    directory = os.path.abspath(out) if out else store.image_folder(variant, lock)
    store.check_owner()
    if not out and (image := _found(directory, say)):
        return image
    cache = store.folder()
    try:
        os.makedirs(cache, 0o700, exist_ok=True)
        for name in ("segments", "inputs", "images"):
            os.makedirs(f"{cache}/{name}", 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
        with _alone(cache, say):
            if not out and (image := _found(directory, say)):
                return image  # of the build that we waited for
            _sweep(cache)
            inputs = _inputs(lock, cache, say)
            draft = f"{directory}.{os.urandom(8).hex()}.new"
            os.mkdir(draft, 0o700)
            try:
                _pack(variant, lock, inputs, f"{cache}/segments", draft, say)
                return store.publish(draft, directory)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise _cannot(error, directory) from error


def _silent(text: str) -> None:
    pass


def _found(directory: str, say: Progress) -> Image | None:
    if not os.path.exists(f"{directory}/manifest.json"):
        return None
    try:
        return store.find_in(directory)
    except DonjonError:
        say("the image is damaged: it is made again")
        return None


@contextmanager
def _alone(cache: str, say: Progress) -> Iterator[None]:
    """One build at a time; the lock goes with its process, however that ends."""
    file = os.open(f"{cache}/build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _cannot(error: OSError, directory: str) -> PlatformError:
    where = error.filename or directory
    hint = "make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check who may write there"
    return PlatformError(f"cannot write {where}: {words_of(error)}", hint)


def _sweep(cache: str) -> None:
    """Remove drafts of builds that were killed, as nobody else builds now, and all but the newest of what is kept."""
    for name in ("images", "inputs", "segments", "downloads"):
        _remove(entry for entry in _entries(f"{cache}/{name}") if entry.name.endswith((".new", ".old")))
    for variant in recipe.VARIANTS:
        _remove([entry for entry in _entries(f"{cache}/images") if entry.name.startswith(variant)][KEPT_IMAGES:])
    _remove(_entries(f"{cache}/segments")[KEPT_SEGMENTS:])


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a directory, the newest first."""
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _remove(entries: Iterable[os.DirEntry[str]]) -> None:
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            fetching.unlink(entry.path)


def _inputs(lock: Lock, cache: str, say: Progress) -> str:
    """The directory with what the packages hold, each file with its digest and its package in files.json."""
    # How packages are unpacked belongs to the name: another recipe takes other files from the same packages.
    taken = json.dumps([recipe.TAKEN, recipe.KERNEL_MODULES, lock.digest])
    folder = f"{cache}/inputs/{hashlib.sha256(taken.encode()).hexdigest()[:32]}"
    if os.path.exists(f"{folder}/files.json"):
        if _whole(folder):
            return folder
        say("what was unpacked is damaged: it is unpacked again")
        shutil.rmtree(folder)
    downloads = fetching.fetch(lock, f"{cache}/downloads", say)
    draft = f"{folder}.{os.urandom(8).hex()}.new"
    known: dict[str, tuple[str, str]] = {}
    os.mkdir(draft, 0o700)
    try:
        for package in lock.packages:
            say(f"unpacking {package.name}")
            for item in _items(package, downloads[package.file]):
                _place(draft, item, package.name, known)
        _resolve(draft, known)
        with open(f"{draft}/files.json", "w", encoding="utf-8") as file:
            json.dump(known, file)
        try:
            os.rename(draft, folder)
        except OSError:
            if not os.path.exists(f"{folder}/files.json"):  # else somebody was sooner, with the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _whole(folder: str) -> bool:
    """Whether every file is what was unpacked: an interpreter is among them, and it runs before it can look."""
    try:
        with open(f"{folder}/files.json", "rb") as file:
            known = json.load(file)
        for path, (_, expected) in known.items():
            with open(f"{folder}/{path}", "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != expected:
                    return False
    except (OSError, ValueError, TypeError, AttributeError):
        return False
    return True


def _items(package: Package, path: str) -> Iterator[Item]:
    """What is taken of one package, under the paths that `packing` knows."""
    with open(path, "rb") as file:
        data = file.read(package.size + 1)
    if hashlib.sha256(data).hexdigest() != package.sha256:  # compared when it was fetched; the disk may have changed it
        raise ParseError(
            f"{path}: expected SHA-256 {package.sha256}", f"remove {path}: the next build fetches it again"
        )
    if package.kind == "wheel":
        for item in unpacking.wheel(data, package.file):
            item.path = f"site/{item.path}"
            yield item
        return
    modules: dict[str, bytes] = {}
    for item in unpacking.deb(data, package.file):
        if not item.path.startswith(recipe.TAKEN):
            continue
        if item.path.startswith("boot/vmlinuz-"):
            item.path = "kernel/vmlinuz"
        elif item.path.startswith("lib/modules/"):
            name = item.path.rpartition("/")[2]
            if name.endswith(".ko.xz"):
                modules[name.removesuffix(".ko.xz").replace("-", "_")] = item.data
            continue
        else:
            item.path = f"root/{item.path}"
        yield item
    if modules:
        order = kernel.load_order(recipe.KERNEL_MODULES, lambda name: _unxz(modules.get(name), name))
        for name, content in order:
            yield unpacking.Item(f"kernel/modules/{name}.ko", content, 0o644)


def _unxz(data: bytes | None, name: str) -> bytes | None:
    if data is None:
        return None
    try:
        return lzma.decompress(data, memlimit=256 << 20)
    except lzma.LZMAError as error:
        raise ParseError(f"kernel module {name}: expected xz: {error}") from error


def _place(draft: str, item: Item, package: str, known: dict[str, tuple[str, str]]) -> None:
    path = f"{draft}/{item.path}"
    above = os.path.dirname(path)
    if os.path.relpath(os.path.realpath(above), os.path.realpath(draft)) != (os.path.dirname(item.path) or "."):
        raise ParseError(f"{package}: {printable(item.path)} lies beyond a link")  # which leads anywhere
    os.makedirs(above, 0o700, exist_ok=True)
    if item.link:
        os.symlink(item.link, path)
        known[item.path] = (package, "")
        return
    with open(path, "xb") as file:
        file.write(item.data)
    os.chmod(path, 0o700 if item.mode & 0o100 else 0o600)
    known[item.path] = (package, hashlib.sha256(item.data).hexdigest())


def _resolve(draft: str, known: dict[str, tuple[str, str]]) -> None:
    """Put what links lead to in their place; a link out of the package, or to nothing, goes."""
    for path in [path for path, (_, digest) in known.items() if not digest]:
        whole, at, steps = f"{draft}/{path}", path, 0
        while os.path.islink(f"{draft}/{at}") and steps < 8:
            target = os.readlink(f"{draft}/{at}")
            start = "root" if target.startswith("/") else os.path.dirname(at)
            at = os.path.normpath(f"{start}/{target.lstrip('/')}")
            steps += 1
        package = known.pop(path)[0]
        os.unlink(whole)
        if at in known and known[at][1] and not at.startswith(".."):
            shutil.copyfile(f"{draft}/{at}", whole)
            os.chmod(whole, 0o700)
            known[path] = (package, known[at][1])


def command(inputs: str) -> list[str]:
    """How the pinned interpreter is started: by its own loader, with its own libraries, deaf to the environment."""
    root = f"{inputs}/root"
    folders = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
    return [f"{root}/{LOADER}", "--library-path", folders, f"{root}/usr/bin/python3.11", "-ISB", "-X", "utf8"]


def _pack(variant: str, lock: Lock, inputs: str, segments: str, out: str, say: Progress) -> None:
    source = store.source()
    job = {
        "variant": variant, "inputs": inputs, "source": source, "segments": segments, "out": out, "lock": lock.digest,
        "packages": [_row(package) for package in lock.packages], "entry": recipe.ENTRY, "init": recipe.INIT.decode(),
        "level": recipe.LEVEL,
    }  # fmt: skip
    run_packing(command(inputs), job, say)


def run_packing(words: list[str], job: Mapping[str, object], say: Progress) -> None:
    """Start the interpreter on `packing` with a job, and tell how far it is.

    Raises:
        DonjonError: as packing says.
    """
    start = f"import sys; sys.path.append({job['source']!r}); from donjon.image.packing import main; sys.exit(main())"
    process = subprocess.Popen(
        [*words, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    with process:
        try:
            try:
                process.stdin.write(json.dumps(job).encode())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended already; its words say why
            failure: dict[str, Any] | None = None
            done = False
            for line in process.stdout:
                told = _told(line)
                if "error" in told:
                    failure = told
                elif "step" in told:
                    say(f"{told['step']}{_megabytes(told)}")
                done = done or "digest" in told
            words_of_it = process.stderr.read(65536).decode("utf-8", "replace")
        except BaseException:
            process.kill()
            raise
    if failure is not None:
        raise FAMILIES.get(failure["family"], BugError)(failure["error"], failure["hint"])
    if process.returncode or not done:
        last = words_of_it.strip().splitlines()[-1:] or ["it said nothing"]
        raise PlatformError(
            f"the pinned interpreter ended with {process.returncode}: {last[0]}",
            f"remove {os.path.dirname(str(job['inputs']))}: the next build unpacks it again",
        )


def _told(line: bytes) -> dict[str, Any]:
    """A line of packing's; nothing where an interpreter that is broken says something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _megabytes(told: dict[str, object]) -> str:
    size = told.get("bytes")
    return f" ({size / 1e6:.1f} MB; once, then it is kept)" if isinstance(size, int) else ""


def _row(package: Package) -> dict[str, object]:
    row: dict[str, object] = {
        "kind": package.kind, "name": package.name, "version": package.version, "size": package.size,
        "sha256": package.sha256, "use": package.use,
    }  # fmt: skip
    where = {"archive": package.archive, "path": package.path} if package.kind == "deb" else {"file": package.file}
    return {**row, **where}
