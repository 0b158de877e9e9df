"""Where each key and value of a TOML text stands, which the standard library's reader does not tell.

Theory of operation: the reader has already accepted the text (or will refuse it for what comes first), so this module
judges nothing. It walks once over keys, brackets and strings, keeps the open arrays and inline tables on a stack of
its own, and stops at the first thing that it cannot place, or that is nested too deeply. So it ends on any text,
without recursion, and everything before the first mistake is placed as the reader sees it. Offsets count characters of
the text; its line ends are "\\n".

A path is made of keys and array indices: `("files", 3, "prot")`. Of a table with a header, key and value stand at the
header's bracket; a table that only other keys imply stands where it is named first.
"""

from __future__ import annotations

import re
import tomllib

from donjon.config._rules import MAX_LEVELS

Path = tuple[str | int, ...]

# fmt: off
_SPACE   = re.compile(r"[ \t]*+")
_BLANK   = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_BARE    = re.compile(r"[A-Za-z0-9_-]++")
_STRING  = re.compile(                                        # up to two quotes may end what is inside of three
    r'"""(?:[^"\\]++|\\.|"(?!""))*+"""(?:""|")?+'
    r"|'''(?:[^']++|'(?!''))*+'''(?:''|')?+"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'", re.DOTALL)
_SCALAR  = re.compile(r"[^,\]}#\n]++")                         # a date may have a space inside
# fmt: on


class Positions:
    """The places of a text.

    Args:
        text: TOML with "\\n" line ends.
        depth: how many parts of a path are kept; what is nested deeper is walked over.

    `spots` maps a path to the offsets of its key and of its value (of an array's element, twice the value's).
    `too_deep` is the offset of the first key or bracket that is nested deeper than MAX_LEVELS, or None.
    """

    def __init__(self, text: str, depth: int = 5) -> None:
        self.text = text
        self.depth = depth
        self.spots: dict[Path, tuple[int, int]] = {(): (0, 0)}
        self.too_deep: int | None = None
        self._tables: dict[Path, int] = {}  # arrays of tables: the index of the last one
        self._at = 0
        self._walk()

    def _walk(self) -> None:
        table: Path | None = ()
        while True:
            self._skip(_BLANK)
            if self._next("["):
                header = self._header()
                if header is None:
                    return
                table = header[0]
            elif not self._pair(table):
                return

    def _header(self) -> tuple[Path | None] | None:
        """Read `[a.b]` or `[[a.b]]`; give the path of its table (None: too deep to keep), or None to stop."""
        start = self._at
        several = self.text.startswith("[[", start)
        self._at += 2 if several else 1
        self._skip(_SPACE)
        parts = self._key()
        if not parts or not self._take("]" * (1 + several)):
            return None
        path: Path | None = ()
        for part, place in parts[:-1]:
            path = self._implied(path, part, place)
            if path in self._tables:
                path = self._below(path, self._tables[path])
        path = self._below(path, parts[-1][0])
        if path is not None and several:
            self.spots.setdefault(path, (start, start))
            self._tables[path] = self._tables.get(path, -1) + 1
            path = self._below(path, self._tables[path])
        if path is not None:
            self.spots[path] = (start, start)
        return (path,)

    def _pair(self, table: Path | None) -> bool:
        """Read `key = value`, note both places; False to stop."""
        assigned = self._assign(table)
        return assigned is not None and self._value(assigned[0])

    def _assign(self, table: Path | None) -> tuple[Path | None] | None:
        """Read a key and its "="; give the path of what comes next (None: too deep to keep), or None to stop."""
        parts = self._key()
        if not parts or not self._take("="):
            return None
        self._skip(_SPACE)
        path = table
        for part, place in parts[:-1]:
            path = self._implied(path, part, place)
        path = self._below(path, parts[-1][0])
        if path is not None:
            self.spots[path] = (parts[-1][1], self._at)
        return (path,)

    def _value(self, path: Path | None) -> bool:
        """Read a value and all that is nested in it; False to stop."""
        stack: list[tuple[str, Path | None, int]] = []  # what closes it, its path, how many elements it has so far
        while True:
            if self._next("[") or self._next("{"):
                if len(stack) == MAX_LEVELS:
                    self._note_depth(self._at)
                    return False
                stack.append(("]" if self._next("[") else "}", path, 0))
                self._at += 1
            elif not self._skip(_STRING if self._next('"') or self._next("'") else _SCALAR):
                return False
            while stack:
                self._skip(_BLANK)
                if self._take(","):
                    self._skip(_BLANK)
                if not self._take(stack[-1][0]):
                    break
                stack.pop()
            else:
                return True
            closer, inside, count = stack[-1]
            if closer == "]":
                stack[-1] = (closer, inside, count + 1)
                path = self._below(inside, count)
                if path is not None:
                    self.spots[path] = (self._at, self._at)
            else:
                assigned = self._assign(inside)
                if assigned is None:
                    return False
                path = assigned[0]

    def _key(self) -> list[tuple[str, int]]:
        """Read a key with its dots and the space after it; give its parts and their offsets, none to stop."""
        parts: list[tuple[str, int]] = []
        while len(parts) < MAX_LEVELS:
            start = self._at
            quoted = self._next('"') or self._next("'")
            if not self._skip(_STRING if quoted else _BARE):
                return []
            raw = self.text[start : self._at]
            parts.append((_unquoted(raw) if quoted else raw, start))
            self._skip(_SPACE)
            if not self._take("."):
                return parts
            self._skip(_SPACE)
        self._note_depth(parts[0][1])
        return []

    def _implied(self, path: Path | None, part: str, place: int) -> Path | None:
        path = self._below(path, part)
        if path is not None:
            self.spots.setdefault(path, (place, place))
        return path

    def _below(self, path: Path | None, part: str | int) -> Path | None:
        return None if path is None or len(path) >= self.depth else (*path, part)

    def _note_depth(self, offset: int) -> None:
        if self.too_deep is None:
            self.too_deep = offset

    def _next(self, token: str) -> bool:
        return self.text.startswith(token, self._at)

    def _take(self, token: str) -> bool:
        found = self._next(token)
        if found:
            self._at += len(token)
        return found

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Step over what the pattern matches here; False when that is nothing."""
        match = pattern.match(self.text, self._at)
        if match:
            self._at = match.end()
        return bool(match and match.group())


def _unquoted(raw: str) -> str:
    """The key that a quoted part stands for; the reader is asked about escapes, as they are its business."""
    if "\\" not in raw or raw.startswith("'"):
        return raw[1:-1]
    try:
        return str(tomllib.loads(f"key = {raw}")["key"])
    except tomllib.TOMLDecodeError:
        return raw
