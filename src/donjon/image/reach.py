"""Which Python modules a program needs: what its text imports, and what those import, to the end.

Every import statement counts, also one in a function, but not one for types only. What is loaded by a computed name
stands in a table of `recipe`, as no reader of texts can see it; a test that boots the image imports all that is in it.
"""

from __future__ import annotations

import ast
import os
from functools import cache

from donjon.errors import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

__all__ = ["Module", "reach"]

EXTENSIONS = (".cpython-311-x86_64-linux-gnu.so", ".abi3.so")


class Module:
    """Where a module was found: `root` and `path` below it, such as `json/__init__.py`."""

    __slots__ = ("name", "path", "root")

    def __init__(self, name: str, root: str, path: str) -> None:
        self.name = name
        self.root = root
        self.path = path

    @property
    def file(self) -> str:
        """The whole path."""
        return f"{self.root}/{self.path}"

    @property
    def package(self) -> str:
        """What relative imports of it start from."""
        return self.name if self.path.endswith("/__init__.py") else self.name.rpartition(".")[0]


def reach(
    entries: Iterable[str],
    roots: Iterable[str],
    denied: Collection[str],
    hidden: Mapping[str, Iterable[str]],
    only: Mapping[str, str] | None = None,
) -> dict[str, Module]:
    """All modules that `entries` lead to and that lie below `roots`; what is built into the interpreter does not.

    Args:
        roots: directories, the first that has a module wins.
        denied: names that stay out, with everything below them.
        hidden: module -> what it imports by a computed name.
        only: root -> the one package that is taken from it, whatever else lies there.
    Raises:
        ParseError: a module cannot be read; or one is nowhere that has to be there: an entry, one of `hidden`, one of
            ours. Of others that is no mistake: the interpreter has some built in, and some are another system's.
    """
    roots = tuple(roots)
    found: dict[str, Module] = {}
    missing: set[str] = set()
    queue = [(name, "what is asked for") for name in entries]
    while queue:
        name, by = queue.pop()
        if name in found or (name in missing and not by) or _is_denied(name, denied):
            continue
        module = _find(name, roots, only or {})
        if module is None:
            if by:
                raise ParseError(f"{name}, which {by} imports: expected this module below {' or '.join(roots)}")
            missing.add(name)
            continue
        found[name] = module
        if "." in name:
            queue.append((name.rpartition(".")[0], ""))
        queue.extend((other, name) for other in hidden.get(name, ()))
        if module.path.endswith(".py"):
            queue.extend(
                (other, name if sure and _ours(other) else "")
                for other, sure in _imports(module.file, module.path, module.package)
            )
    return found


def _ours(name: str) -> bool:
    return name == "donjon" or name.startswith("donjon.")


def _is_denied(name: str, denied: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[: end + 1]) in denied for end in range(len(parts)))


def _find(name: str, roots: tuple[str, ...], only: Mapping[str, str]) -> Module | None:
    path = name.replace(".", "/")
    for root in roots:
        if name.partition(".")[0] != only.get(root, name.partition(".")[0]):
            continue
        for end in ("/__init__.py", ".py", *EXTENSIONS):
            if os.path.isfile(f"{root}/{path}{end}"):
                return Module(name, root, f"{path}{end}")
    return None


@cache
def _imports(file: str, name: str, package: str) -> tuple[tuple[str, bool], ...]:
    """The names that a module's text imports, each with whether it is surely a module.

    In `from a import b`, `a` is, and `a.b` may be.
    """
    with open(file, "rb") as stream:
        text = stream.read()
    try:
        tree = ast.parse(text, name)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ParseError(f"{name}: expected Python 3.11: {error}") from error
    return tuple(_names(tree, package))


def _names(tree: ast.AST, package: str) -> Iterator[tuple[str, bool]]:
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base, True
            yield from ((f"{base}.{alias.name}", False) for alias in node.names)
        elif isinstance(node, ast.If) and _for_types(node.test):
            nodes.extend(node.orelse)
        else:
            nodes.extend(ast.iter_child_nodes(node))


def _for_types(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """`from ..wire import x` in package `donjon.tee.snp` starts from `donjon` and means `donjon.wire`."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
