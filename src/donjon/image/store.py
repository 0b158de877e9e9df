"""Images on disk: where they are kept, and that one which is found is whole.

    $DONJON_IMAGE/                      an image to use instead: the files below of one variant
    $XDG_CACHE_HOME/donjon/image/
        downloads/                      packages, each compared with the lock before it is used
        inputs/DIGEST/                  what packages hold, by the digest of the lock
        segments/                       compressed archives, by the digest of what is in them
        images/VARIANT-KEY/             bzImage vmlinux initrd.zst initrd.cpio manifest.json sbom.spdx.json

A key is made of the lock, the variant and Donjon's own sources, so an image that is found is the one that would be
built. Directories appear whole: they are made beside, and renamed. Whoever is later finds what is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import stat

from donjon import files
from donjon.errors import ParseError, PlatformError, UsageError, VerifyError, words_of
from donjon.image import lock as locks
from donjon.image import manifest as manifests
from donjon.image.recipe import VARIANTS
from donjon.sums import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from donjon.image.lock import Lock

__all__ = [
    "Image", "check", "check_owner", "damaged", "find", "find_in", "folder", "image_folder", "key", "publish", "read",
    "source",
]  # fmt: skip

SEEN = "seen.json"
"""Size and time of each file when its digest was last compared: what has not changed since is not read again."""
BUILD = "donjon image build"
CHUNK = 1 << 20  # bytes
ALLOWED = (*manifests.FILES, "manifest.json", "sbom.spdx.json", SEEN)


class Image:
    """An image that can be started: paths, the kernel's command line, and what it is."""

    __slots__ = ("cmdline", "digest", "directory", "manifest", "variant")

    def __init__(self, directory: str, manifest: dict[str, Any], digest: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.digest = digest
        self.variant: str = manifest["variant"]
        self.cmdline: str = manifest["cmdline"]

    @property
    def kernel(self) -> str:
        """The kernel as it is measured (bzImage)."""
        return f"{self.directory}/bzImage"

    @property
    def vmlinux(self) -> str:
        """The same kernel unpacked (ELF), which starts sooner where nothing is measured."""
        return f"{self.directory}/vmlinux"

    @property
    def initrd(self) -> str:
        """The initramfs as it is measured."""
        return f"{self.directory}/initrd.zst"

    @property
    def initrd_raw(self) -> str:
        """The same initramfs unpacked."""
        return f"{self.directory}/initrd.cpio"

    @property
    def sbom(self) -> str:
        """What it is made of, as an SPDX document."""
        return f"{self.directory}/sbom.spdx.json"


def folder() -> str:
    """Where images are kept.

    Raises:
        PlatformError: this user has no home directory.
    """
    caches = files.caches()
    if not caches:
        raise PlatformError("no place for images: this user has no home directory", "set XDG_CACHE_HOME to a directory")
    return f"{caches}/image"


def check_owner() -> None:
    """Refuse a cache that another user has put there: what is in it is run, an interpreter among it.

    Raises:
        PlatformError: it is another's, or anybody may write there.
    """
    path = folder()
    try:
        about = os.stat(path)
    except OSError:
        return  # there is none, or whoever opens something in it will say
    if about.st_uid != os.geteuid() or about.st_mode & stat.S_IWOTH:
        raise PlatformError(
            f"cannot use {path}: expected a directory of this user's that not everybody may write to, got one of user "
            f"{about.st_uid} with mode {stat.S_IMODE(about.st_mode):o}",
            "set XDG_CACHE_HOME to a directory that is yours",
        )


def source() -> str:
    """The directory that holds the package `donjon`."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def key(lock: Lock, variant: str, sources: str | None = None) -> str:
    """The name of what a build would give now, 32 hex digits."""
    whole = f"{manifests.FORMAT} {lock.digest} {variant}\n"
    root = sources or source()
    for path in sorted(_sources(f"{root}/donjon")):
        with open(path, "rb") as file:
            content = sha256(file.read()).hex()
        whole += f"{path.removeprefix(root)} {content}\n"
    return sha256(whole.encode()).hex()[:32]


def _sources(top: str) -> Iterator[str]:
    for path, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in ("__pycache__", "cli", "project")]
        yield from (f"{path}/{name}" for name in names if name.endswith((".py", ".toml", ".der", ".pem", ".json")))


def image_folder(variant: str, lock: Lock) -> str:
    """Where an image is, or would be."""
    return f"{folder()}/images/{variant}-{key(lock, variant)}"


def find(variant: str = "production") -> Image:
    """An image that was built, or the one that DONJON_IMAGE names.

    Raises:
        UsageError: there is no such variant. PlatformError: it is not there. VerifyError: it is damaged.
    """
    if variant not in VARIANTS:
        raise UsageError(f"image variant {variant}: expected one of {', '.join(VARIANTS)}")
    words = "" if variant == "production" else f" --variant {variant}"
    given = os.environ.get("DONJON_IMAGE", "")
    if given:
        image = _open(os.path.abspath(given), f"DONJON_IMAGE names {given}: build one there, or unset it")
        if image.variant != variant:
            raise UsageError(
                f"DONJON_IMAGE: expected an image of the variant {variant}, got {image.variant}",
                f"unset it, or build one with `{BUILD}{words} --out DIR`",
            )
        return image
    check_owner()
    return _open(image_folder(variant, locks.load()), f"`{BUILD}{words}` makes it, once for each version of Donjon")


def _open(directory: str, hint: str) -> Image:
    try:
        with open(f"{directory}/manifest.json", "rb") as file:
            data = file.read(manifests.LIMIT + 1)
    except FileNotFoundError as error:
        raise PlatformError(f"no image in {directory}", hint) from error
    except OSError as error:
        raise PlatformError(f"cannot read {directory}/manifest.json: {words_of(error)}", hint) from error
    try:
        manifest = manifests.parse(data, f"{directory}/manifest.json")
    except ParseError as error:
        raise damaged(directory, str(error)) from error
    image = Image(directory, manifest, sha256(data).hex())
    if _seen(directory) != _now(image):
        check(image)
    return image


def find_in(directory: str) -> Image:
    """The image in a directory; raises as `find`."""
    return _open(directory, f"`{BUILD}` makes it")


def damaged(directory: str, what: str) -> VerifyError:
    """The error for an image that is not what its manifest says."""
    return VerifyError(f"the image is damaged: {what}", f"remove {directory}, then `{BUILD}` makes it again")


def check(image: Image) -> None:
    """Compare every file's content with the manifest.

    Raises:
        VerifyError: one differs. PlatformError: one cannot be read.
    """
    import hashlib

    before = _now(image)
    for name, about in image.manifest["files"].items():
        path = f"{image.directory}/{name}"
        size, digest = 0, hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while chunk := file.read(CHUNK):
                    size += len(chunk)
                    digest.update(chunk)
        except FileNotFoundError as error:
            raise damaged(image.directory, f"{name} is missing") from error
        except OSError as error:
            raise PlatformError(f"cannot read {path}: {words_of(error)}", "check who may read it") from error
        if size != about["size"] or digest.hexdigest() != about["sha256"]:
            raise damaged(
                image.directory,
                f"{name}: expected {about['size']} bytes, SHA-256 {about['sha256']}, got {size}, {digest.hexdigest()}",
            )
    _note_seen(image.directory, before)


def read(image: Image, name: str) -> bytes:
    """The content of one file, as the manifest says it is: what is measured has to be what was made.

    Raises:
        VerifyError: it differs. PlatformError: it cannot be read.
    """
    about = image.manifest["files"][name]
    path = f"{image.directory}/{name}"
    try:
        with open(path, "rb") as file:
            data = file.read(about["size"] + 1)
    except FileNotFoundError as error:
        raise damaged(image.directory, f"{name} is missing") from error
    except OSError as error:
        raise PlatformError(f"cannot read {path}: {words_of(error)}", "check who may read it") from error
    if len(data) != about["size"] or sha256(data).hex() != about["sha256"]:
        raise damaged(image.directory, f"{name}: expected {about['size']} bytes, SHA-256 {about['sha256']}")
    return data


def _now(image: Image) -> dict[str, list[int]] | None:
    """Size, time and inode of each file."""
    found = {}
    for name, about in image.manifest["files"].items():
        try:
            status = os.stat(f"{image.directory}/{name}")
        except OSError:
            return None
        if status.st_size != about["size"]:
            return None
        found[name] = [status.st_size, status.st_mtime_ns, status.st_ino]
    return found


def _seen(directory: str) -> object:
    try:
        with open(f"{directory}/{SEEN}", "rb") as file:
            return json.loads(file.read(4096))
    except (OSError, ValueError, RecursionError):
        return {}  # never compared


def _note_seen(directory: str, found: object) -> None:
    try:
        with files.replacing(f"{directory}/{SEEN}", 0o666) as file:  # readable as the image itself is
            file.write(json.dumps(found).encode())
    except OSError:
        pass  # somebody else's image: it is compared each time


def publish(draft: str, directory: str) -> Image:
    """Give a finished directory its name; if somebody was sooner, theirs is taken, as it is the same.

    Raises:
        PlatformError: it cannot be renamed, or the name is taken by something else.
    """
    with open(f"{draft}/manifest.json", "rb") as file:
        data = file.read()
    image = Image(draft, manifests.parse(data, "manifest.json"), sha256(data).hex())
    _note_seen(draft, _now(image))
    try:
        os.rename(draft, directory)
    except OSError as error:
        try:
            other = _open(directory, "")
        except (PlatformError, VerifyError):
            other = None
        if other is None:
            # What is there is damaged, or no image: it makes room if it holds nothing but an image's files.
            if not _replace(draft, directory):
                raise PlatformError(
                    f"cannot put the image to {directory}: {words_of(error)}", "choose another directory"
                ) from error
        elif other.digest != image.digest and not _replace(draft, directory):
            raise PlatformError(f"{directory}: expected no other image there", "choose another directory") from error
        shutil.rmtree(draft, ignore_errors=True)
    return _open(directory, "")


def _replace(draft: str, directory: str) -> bool:
    """Put `draft` where an image is that is another, or damaged; False if it holds anything else."""
    try:
        if any(name not in ALLOWED and not name.startswith(SEEN) for name in os.listdir(directory)):
            return False
        aside = f"{directory}.{os.urandom(8).hex()}.old"
        os.rename(directory, aside)
        os.rename(draft, directory)
    except OSError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True
