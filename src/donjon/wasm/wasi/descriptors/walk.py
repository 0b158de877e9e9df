"""From a guest's path to a place on the host: the descriptor of a directory, and one name in it.

How nothing gets out of the directory where a path starts:
- Every component but the last is opened by itself, relative to the descriptor of the one before, and only if it is a
  directory; the kernel is asked to follow no link. A component that another process swaps for a symbolic link while we
  are on the way is met either as the directory it was or as the link it is, and both are safe.
- Symbolic links are read and their text is walked by the same rules, so a link leads as far as a path does. Absolute
  ones are refused, `/proc/self/root` and its kind included: to us they are text.
- `..` goes back along the way we came, to a descriptor that we hold, and never asks the kernel for a parent. A
  directory that is moved while we are in it does not matter. At the start there is no way back.
- The last component stays a name: whoever uses it does so relative to `parent`, and without following.

A path of one component, the common case, costs nothing here. Others cost one open a directory. Descriptors are held
for as long as a `..` is still to come; without one, each is closed when the next is open, so depth is no matter.

What this does not prevent: a host's process that moves a directory elsewhere while a guest uses it takes the guest's
access along, as it would a native program's; and what is mounted or hard-linked below the start is below the start.
"""

from __future__ import annotations

import errno
import os

from donjon.wasm.wasi.p1.errno import Errno, WasiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["MOST_LINKS", "Walk"]

MOST_LINKS = 40
"""Symbolic links on one way; Linux has the same limit."""

_STEP = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
"""O_PATH: to pass through a directory takes the permission to search it, not the one to read it."""

NOT_OPENED = (errno.ENOTDIR, errno.ELOOP)
"""What a system answers to O_NOFOLLOW when the name is a symbolic link, with and without O_DIRECTORY."""


class Walk:
    """A walk along one path; a context manager, for it holds descriptors.

    Args:
        root: descriptor of the directory where the path starts, and which it does not leave.
        path: the guest's.
    Attributes:
        parent: descriptor of the directory that holds the last component; the walk's own, or `root`.
        name: the last component; "." when the path leads to `parent` itself. Never "..", never with a slash.
        slash: a slash came after the last component, so it has to be a directory. The kernel is not to see that slash:
            it would follow a link for it.
    Raises:
        WasiError: noent, the path is empty; notcapable, it is absolute, or leads out by `..` or a link; loop, over
            MOST_LINKS links.
        OSError: a component is not there, not a directory, may not be searched, or has too long a name.
    """

    __slots__ = ("_held", "_links", "_names", "_rest", "_root", "_ups", "name", "parent", "slash")

    def __init__(self, root: int, path: str) -> None:
        self.parent = self._root = root
        self.slash = False
        self._held: list[int] = []  # descriptors of the last of `_names`, each below the one before
        self._names: list[bytes] = []  # from the root to `parent`; no links among them
        self._rest: list[bytes] = []  # still to go, the next one last
        self._ups = 0  # how many of `_rest` are ".."
        self._links = 0
        name = path.encode()
        if b"/" not in name and name not in (b"", b".", b".."):
            self.name = name
            return
        try:
            self._prepend(name)
            self._go()
        except BaseException:
            self.close()
            raise
        self.slash = name.endswith(b"/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the descriptors."""
        while self._held:
            os.close(self._held.pop())

    def follow(self) -> bool:
        """If `name` is a symbolic link, walk on to where it leads; False, it is none."""
        target = self._target(self.name)
        if target is None:
            return False
        self._prepend(target)
        self._go()
        self.slash = self.slash or target.endswith(b"/")
        return True

    def _target(self, name: bytes) -> bytes | None:
        """The text of a symbolic link; None, the name is something else."""
        self._links += 1  # what is no link counts too: somebody may be changing it back and forth
        if self._links > MOST_LINKS:
            raise WasiError(Errno.LOOP, f"over {MOST_LINKS} symbolic links")
        try:
            return os.readlink(name, dir_fd=self.parent)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _prepend(self, path: bytes) -> None:
        """Put a path, the guest's or a link's, before what is still to go."""
        if path.startswith(b"/"):
            raise WasiError(Errno.NOTCAPABLE, f"{path!r} is absolute: expected a path beneath the directory")
        parts = [part for part in path.split(b"/") if part]
        if not parts:
            raise WasiError(Errno.NOENT, "the path is empty")
        self._ups += parts.count(b"..")
        self._rest.extend(reversed(parts))

    def _go(self) -> None:
        """Take every component but the last, which becomes `name`."""
        rest = self._rest
        while True:
            name = rest.pop()
            if name == b"..":
                self._up()
                name = b"."
            if not rest:
                self.name = name
                return
            if name != b".":
                self._down(name)

    def _down(self, name: bytes) -> None:
        try:
            below = os.open(name, _STEP, dir_fd=self.parent)
        except OSError as error:
            target = self._target(name) if error.errno in NOT_OPENED else None
            if target is None:
                raise
            self._prepend(target)
            return
        if not self._ups:
            self.close()
        self._held.append(below)
        self._names.append(name)
        self.parent = below

    def _up(self) -> None:
        names, held, rest = self._names, self._held, self._rest
        self._ups -= 1
        if not names:
            raise WasiError(Errno.NOTCAPABLE, '".." would leave the directory')
        names.pop()
        os.close(held.pop())
        if held or not names:
            self.parent = held[-1] if held else self._root
            return
        # Nothing is held, for there was no ".." ahead until a link brought this one: come here again from the root.
        # Links bring at most MOST_LINKS of these turns.
        if not rest:
            rest.append(b".")
        rest.extend(reversed(names))
        names.clear()
        self.parent = self._root
