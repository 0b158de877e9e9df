"""Compiled modules on disk: a start costs a map of a file instead of 0.7 s per MB of code.

Compiled code is run as it is, so an entry is trusted only if its owner's key says so: it ends in a keyed hash
(BLAKE2b) of its name and content, and is not even parsed when that is wrong. The key and the entries are files that
only their owner can read or write, in a folder of the same kind. A TEE trusts no entry that was not made inside it:
there, no cache is given.

An entry's name is the keyed hash of the module, the engine's library, its settings and this machine's kind. Entries
appear whole (written beside, then renamed); whoever is later replaces what is the same. Too many are thinned out, the
oldest first. Whatever is wrong with the cache costs time, never the run.
"""

from __future__ import annotations

import os
import sys
import time

from donjon.wasm.engine import _capi

try:
    from _blake2 import blake2b  # what hashlib.blake2b is; hashlib itself loads OpenSSL, 3 ms of a start
except ImportError:  # another Python than CPython
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.log import Logger

__all__ = ["Cache"]

LIMIT = 1 << 30
"""Bytes of all entries together."""

KEY_SIZE = MAC_SIZE = 32  # bytes
FRESH = 24 * 60 * 60  # seconds: an entry that is used is marked as young at most this often


class Cache:
    """Compiled modules in a folder.

    Args:
        folder: where; made with mode 0700 if it is not there.
        limit: bytes of all entries together.
        log: where what went wrong is noted, at level debug.
    """

    def __init__(self, folder: str, limit: int = LIMIT, log: Logger | None = None) -> None:
        self.folder = folder
        self.limit = limit
        self._log = log
        self._secret: bytes | None = None

    @staticmethod
    def of_user(log: Logger | None = None) -> Cache | None:
        """The user's: $DONJON_CACHE, or donjon/modules in $XDG_CACHE_HOME or ~/.cache. None where there is no home."""
        folder = os.environ.get("DONJON_CACHE")
        if folder is None:
            base = os.environ.get("XDG_CACHE_HOME", "")
            if not base.startswith("/"):  # its specification: ignore what is not absolute
                base = os.path.expanduser("~/.cache") if os.environ.get("HOME", "~") else ""
            folder = f"{base}/donjon/modules" if base else ""
        return Cache(folder, log=log) if folder.startswith("/") else None

    def key(self, data: bytes, flags: str) -> str | None:
        """The name of the entry for a module; None when the cache cannot be used."""
        try:
            self._secret = self._secret or self._load_secret()
            library = os.stat(_capi.library_path())
        except OSError as error:
            self._note(f"not used: {error}")
            return None
        hasher = blake2b(data, key=self._secret, digest_size=MAC_SIZE)
        hasher.update(f"{flags} {library.st_size} {library.st_mtime_ns} {sys.platform} {os.uname().machine}".encode())
        return hasher.hexdigest()

    def get(self, entry: str | None) -> int | None:
        """The engine's handle of the module in an entry; None: there is none that can be trusted and used."""
        if entry is None:
            return None
        try:
            file = os.open(self._path(entry), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._checked(entry, file)
        except (OSError, ValueError) as error:
            self._note(f"entry {entry} not used: {error}")
            return None
        finally:
            os.close(file)

    def _checked(self, entry: str, file: int) -> int | None:
        import mmap

        from donjon.wasm.engine.module import map_code

        stat = os.fstat(file)
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o077:
            raise ValueError("expected a file of ours with mode 0600")
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            body, mac = view[:-MAC_SIZE], view[-MAC_SIZE:]
            good = _equal(self._mac(entry, body), bytes(mac))
            body.release()
            mac.release()
        if not good:
            raise ValueError("damaged, or made with another key")
        handle = map_code(file)
        if stat.st_mtime + FRESH < time.time():
            os.utime(file)
        return handle

    def put(self, entry: str, code: int) -> bool:
        """Write an entry for machine code in an open file; says whether it is there now."""
        import mmap

        draft = f"{self._path(entry)}.{os.urandom(8).hex()}.new"  # in containers, processes share their numbers
        try:
            if os.fstat(code).st_size > self.limit:
                return False
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with (
                    open(file, "wb", buffering=0, closefd=True) as out,
                    mmap.mmap(code, 0, access=mmap.ACCESS_READ) as content,
                    memoryview(content) as body,
                ):
                    for part in (body, self._mac(entry, body)):
                        done = 0
                        while done < len(part):
                            with memoryview(part)[done:] as rest:
                                done += out.write(rest) or 0
                os.rename(draft, self._path(entry))
            except BaseException:
                os.unlink(draft)
                raise
            self._thin_out()
            return True
        except OSError as error:
            self._note(f"entry {entry} not written: {error}")
            return False

    def _thin_out(self) -> None:
        """Remove the entries that were not used for longest, until the rest is within the limit; and drafts left
        behind."""
        entries = []
        with os.scandir(self.folder) as found:
            for item in found:
                if item.name.endswith((".cwasm", ".new")):
                    try:
                        stat = item.stat(follow_symlinks=False)
                    except FileNotFoundError:  # another start thins out too
                        continue
                    entries.append((stat.st_mtime, stat.st_size, item.path, item.name.endswith(".new")))
        entries.sort(reverse=True)
        newest = entries[0][0] if entries else 0.0
        total = 0
        for mtime, size, path, is_draft in entries:
            total += size
            if total > self.limit or (is_draft and mtime + FRESH < newest):
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    continue

    def _load_secret(self) -> bytes:
        """This user's key, made at the first use; two first users agree on one, for only one of them can make the
        file."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        stat = os.stat(self.folder)
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
            raise PermissionError(f"{self.folder}: expected a folder of ours that nobody else can write to")
        path = f"{self.folder}/key"
        for _ in range(2):
            try:
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                self._make_secret(path)
                continue
            with open(file, "rb") as content:
                stat = os.fstat(file)
                secret = content.read(KEY_SIZE + 1)
            if stat.st_uid != os.geteuid() or stat.st_mode & 0o077 or len(secret) != KEY_SIZE:
                raise PermissionError(f"{path}: expected {KEY_SIZE} bytes that only their owner can read")
            return secret
        raise PermissionError(f"{path}: cannot be made")

    def _make_secret(self, path: str) -> None:
        draft = f"{path}.{os.urandom(8).hex()}.new"
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(file, "wb") as out:
            out.write(os.urandom(KEY_SIZE))
            out.flush()
            os.fsync(file)  # a power cut must not leave an empty key under the name, which would never be replaced
        try:
            os.link(draft, path)  # unlike rename, this does not replace what another process made meanwhile
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)

    def _mac(self, entry: str, body: memoryview) -> bytes:
        hasher = blake2b(entry.encode(), key=self._secret or b"", digest_size=MAC_SIZE)
        hasher.update(body)
        return hasher.digest()

    def _path(self, entry: str) -> str:
        return f"{self.folder}/{entry}.cwasm"

    def _note(self, text: str) -> None:
        if self._log is not None:
            self._log.debug(f"module cache: {text}", "donjon.wasm.cache")


def _equal(ours: bytes, theirs: bytes) -> bool:
    """Compare in constant time, as hmac.compare_digest, whose module costs 4 ms to import."""
    difference = len(ours) ^ len(theirs)
    for a, b in zip(ours, theirs, strict=False):
        difference |= a ^ b
    return not difference
