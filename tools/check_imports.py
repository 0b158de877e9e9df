"""Imports point down: who may import whom in src/donjon, and a check that the code keeps to it.

    python -m tools.check_imports [SRC]

The rules are the tables below; the code is read, never run. Every import counts, also one inside a function and one
for types only: what a module's text names, a reader has to know. Importing `a.b.c` runs `a` and `a.b` as well, so those
count too. One thing is free: a package's `__init__` may offer its own modules, wherever they stand, as long as it loads
them on request (inside a function) or names them for types.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Layer(NamedTuple):
    """Modules on one level; a name stands for the module and everything below it, the longest name wins."""

    modules: tuple[str, ...]
    reason: str


# Each folder is a TEE, or a vendor's code that several share. Nothing else in the tree knows their names.
TEES = tuple(f"donjon.tee.{path.parent.name}" for path in sorted((ROOT / "src/donjon/tee").glob("*/__init__.py")))
# The modules of a TEE that touch devices, networks, files or randomness; all the others compute and nothing else.
TEE_EDGES = ("backend", "collect", "simulate")
# Beside their folders: what reads devices and files.
TEE_FILES = ("donjon.tee.tsm", "donjon.tee.firmware")

# From the top. A module may import what stands in a lower layer, and its own unit; nothing beside it, nothing above it.
LAYERS = (
    Layer(("donjon.__main__",), "the command, as `python -m donjon`"),
    Layer(("donjon.cli",), "parses words, prints results: nothing else may depend on how that looks"),
    Layer(("donjon",), "the library's face: `from donjon import Keep` is for users, not for our own modules"),
    Layer(("donjon.guest",), "the inside of a virtual machine: what runs a Keep there as a host does here"),
    Layer(
        ("donjon.keep", "donjon.project", "donjon.signing"),
        "starts and stops Keeps; makes projects; keys that sign images",
    ),
    Layer(("donjon.platform",), "describes the machine, and what can hold a Keep on it: a Keep asks before it starts"),
    Layer(("donjon.image",), "builds and finds the image that virtual machines start"),
    Layer(
        ("donjon.sim",), "simulated hardware on disk: above the Steward's files, as it writes the roots that those read"
    ),
    Layer(("donjon.steward.serve",), "the Steward as a process: listeners and signals"),
    Layer(("donjon.steward.app",), "the Steward over HTTP"),
    Layer(("donjon.steward.service",), "judges, issues, records, and only then answers"),
    Layer(("donjon.steward.record", "donjon.steward.depot"), "the Steward's record; its collateral"),
    Layer(("donjon.verify.files",), "a relying party's demands from files: policy, roots"),
    Layer(
        ("donjon.steward.authority", "donjon.steward.files", "donjon.steward.fetching"),
        "the Steward's keys on disk; an operator's files; vendors over HTTP",
    ),
    Layer(
        (
            "donjon.wasm",
            "donjon.tls.listener",
            "donjon.tls.streams",
            "donjon.tls.context",
            "donjon.identity",
            "donjon.sallyport.io",
            "donjon.verify.connection",
            "donjon.verify.context",
            "donjon.verify.proxy",
            *TEE_FILES,
            *(f"{tee}.{edge}" for tee in TEES for edge in TEE_EDGES),
        ),
        "touches the engine, sockets, files, devices; each can be read and replaced without the others",
    ),
    Layer(
        ("donjon.files", "donjon.linux"),
        "files that users name, and calls of the kernel: below all that use some, above what only computes",
    ),
    Layer(
        ("donjon.verify", "donjon.steward.client"),
        "what a relying party demands and judges, by what a Steward has written; what a Keep asks a Steward over HTTPS",
    ),
    Layer(("donjon.steward",), "the Steward's procedure and policy: a request in, a decision out"),
    Layer(
        ("donjon.config", "donjon.workload", "donjon.tls", "donjon.sallyport", *TEES),
        "rules and protocols: bytes in, bytes out",
    ),
    Layer(("donjon.errors", "donjon.log", "donjon.sums", "donjon.wire", "donjon.tee"), "what everybody may use"),
)

# Exceptions to «nothing beside it»: importer, imported, reason.
SIDEWAYS = (
    (
        "donjon.tls.streams",
        "donjon.wasm.wasi",
        "a TLS stream is a descriptor of the guest: it extends the base class there",
    ),
    ("donjon.tls.listener", "donjon.wasm.wasi", "a TLS listener is a descriptor of the guest too"),
    ("donjon.tls.listener", "donjon.tls.streams", "a listener makes streams"),
    ("donjon.tls.context", "donjon.identity", "a context is loaded with the Keep's key and certificates"),
    ("donjon.verify.context", "donjon.verify.connection", "a context judges the chain of a connection"),
    ("donjon.verify.proxy", "donjon.verify.connection", "a proxy connects"),
    ("donjon.verify.proxy", "donjon.verify.context", "a proxy's connections are judged as a library's are"),
    ("donjon.log", "donjon.errors", "a filter that cannot be read is a UsageError"),
    ("donjon.wire", "donjon.errors", "a layout that does not fit is a ParseError"),
    ("donjon.tee", "donjon.tee.firmware", "firmware files that backends share"),
    ("donjon.tee.ovmf", "donjon.wire", "a firmware file is read with a cursor"),
    ("donjon.tee", "donjon.errors", "evidence that is not genuine is a VerifyError"),
    ("donjon.tee", "donjon.log", "what evidence and policies say stands in messages, without what terminals obey"),
    ("donjon.tee", "donjon.tee.tsm", "the kernel's interface that collectors share"),
    ("donjon.tee.sgx", "donjon.tee.intel", "what SGX and TDX share: quotes, chains, collateral"),
    ("donjon.tee.tdx", "donjon.tee.intel", "what SGX and TDX share: quotes, chains, collateral"),
)

# Refused by name, whatever the layers say: importer, imported, reason.
NEVER = (
    ("donjon.wasm", "donjon.tls", "a guest never sees TLS: the engine and WASI know descriptors only"),
    ("donjon.wasm", "donjon.config", "what a guest gets is handed over by the Keep, not read from a file"),
    ("donjon.wasm", "donjon.keep", "an engine can be used without a Keep"),
    ("donjon.wasm", "donjon.cli", "an engine can be used without a command line"),
    *(
        (importer, name, "a new TEE is one folder and one line: ask `donjon.tee.load`, name none")
        for importer in ("donjon.steward", "donjon.cli.steward", "donjon.cli.measure")
        for name in TEES
    ),
)

# Modules that compute and nothing else: they are tested without a network, a clock or luck.
PURE = (
    "donjon.tls.pipe",
    "donjon.sallyport.frames",
    "donjon.sallyport.machine",
    "donjon.config.models",
    "donjon.errors",
    "donjon.wire",
    "donjon.tee",
    "donjon.workload",
    *(
        f"donjon.steward.{name}"
        for name in ("procedure", "policy", "endorsement", "request", "nonce", "answer", "result", "toml")
    ),
    *(f"donjon.verify.{name}" for name in ("demands", "certificates", "result", "judgement", "policy")),
)
OUTSIDE = frozenset(
    "asyncio ctypes fcntl glob io multiprocessing os pathlib random secrets select selectors shutil signal socket "
    "socketserver subprocess tempfile threading time urllib uuid".split()
)
# Parts of those that only compute.
INSIDE = frozenset({"urllib.parse"})

# What everybody may take from the face: it is a literal there.
FACE_LITERALS = frozenset({"donjon.__version__"})


class Import(NamedTuple):
    """One imported name and its line; `when` it is loaded: with the `module`, in a `function`, for `types` only."""

    name: str
    line: int
    when: str


def main(arguments: list[str]) -> int:
    """Print every import that the tables refuse.

    Returns:
        0 when there is none, 1 otherwise.
    """
    source = Path(arguments[0]) if arguments else ROOT / "src"
    findings = list(check(source))
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} imports point the wrong way; the tables are in tools/check_imports.py", file=sys.stderr)
    return 1 if findings else 0


def check(source: Path) -> Iterator[str]:
    """Read all modules below `source` (the folder that holds `donjon`); one line for each import that is refused."""
    modules = {module_name(path, source): path for path in sorted(source.rglob("*.py"))}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        seen = set()
        for found in imports(tree, package, modules.keys()):
            for finding in judge(module, found):
                if (found.line, finding) not in seen:
                    seen.add((found.line, finding))
                    yield f"{path}:{found.line}: {finding}"


def module_name(path: Path, source: Path) -> str:
    """`src/donjon/tls/__init__.py` is `donjon.tls`."""
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, package: str, known: object) -> Iterator[Import]:
    """All imports of one module, relative ones made absolute, `from a import b` as `a.b` where that is a module.

    Args:
        package: the package that relative imports start from.
        known: a container of the names of our own modules.
    """
    for node, when in walk(tree, "module"):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, when)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                whole = full in known or full in FACE_LITERALS  # type: ignore[operator]
                yield Import(full if whole else base, node.lineno, when)
        elif isinstance(node, ast.Call) and (name := dynamic(node)):
            yield Import(name, node.lineno, when)


def walk(node: ast.AST, when: str) -> Iterator[tuple[ast.AST, str]]:
    """Every node below `node`, with when it runs (see `Import`)."""
    for child in ast.iter_child_nodes(node):
        inside = when
        if isinstance(node, ast.If) and child in node.body and "TYPE_CHECKING" in names(node.test):
            inside = "types"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and when == "module":
            inside = "function"
        yield child, inside
        yield from walk(child, inside)


def names(expression: ast.expr) -> set[str]:
    """The plain and dotted last names in `expression`, unless it negates."""
    if isinstance(expression, ast.UnaryOp):
        return set()
    found = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    return found | {node.attr for node in ast.walk(expression) if isinstance(node, ast.Attribute)}


def absolute(node: ast.ImportFrom, package: str) -> str:
    """`from ..wire import x` in package `donjon.tee.snp` starts from `donjon.tee` and means `donjon.tee.wire`."""
    if not node.level:
        return node.module or ""
    start = package.split(".")[: len(package.split(".")) - (node.level - 1)]
    return ".".join([*start, *([node.module] if node.module else [])])


def dynamic(node: ast.Call) -> str | None:
    """The name in `import_module("...")` or `__import__("...")`, where it is written out."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in {"import_module", "__import__"} and node.args and isinstance(node.args[0], ast.Constant):
        return str(node.args[0].value)
    return None


def judge(module: str, found: Import) -> Iterator[str]:
    """Why `module` may not import `found`, a line for each reason."""
    top = found.name.partition(".")[0]
    if top != "donjon":
        edge = (within(module, TEES) and module.rpartition(".")[2] in TEE_EDGES) or module in TEE_FILES
        if top in OUTSIDE and found.name not in INSIDE and found.when != "types" and within(module, PURE) and not edge:
            yield f"{module} imports {top}: it has to stay free of sockets, files, clock and randomness"
        return
    if found.name in FACE_LITERALS:
        return
    if found.name == "donjon":
        yield from judge_one(module, found.name)
        return
    for name in lineage(found.name):
        run_already = within(module, (name,))  # a module's own packages are run before it
        offered = within(name, (module,)) and found.when != "module"
        if not run_already and not offered:
            yield from judge_one(module, name)


def judge_one(module: str, name: str) -> Iterator[str]:
    """The same for one name of our own."""
    for importer, imported, reason in NEVER:
        if within(module, (importer,)) and within(name, (imported,)):
            yield f"{module} imports {name}: {reason}"
            return
    (own, own_unit), (other, other_unit) = place(module), place(name)
    if own is None or other is None:
        missing = module if own is None else name
        yield f"{missing} stands in no layer: give it a place in LAYERS"
    elif other < own:
        yield f"{module} imports {name}, which stands above it ({LAYERS[other].reason})"
    elif other == own and own_unit != other_unit and not excused(module, name):
        yield f"{module} imports {name}, which stands beside it ({LAYERS[own].reason})"


def excused(module: str, name: str) -> bool:
    """Whether SIDEWAYS let `module` import `name`; with `a.b` comes `a`, as one cannot be had without the other."""
    return any(within(module, (a,)) and (within(name, (b,)) or within(b, (name,))) for a, b, _ in SIDEWAYS)


def lineage(name: str) -> list[str]:
    """`donjon.tls.pipe` runs `donjon.tls` too; `donjon` itself is run by everything and says nothing."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(2, len(parts) + 1)]


def place(module: str) -> tuple[int | None, str]:
    """The layer's index, counted from the top, and the unit in it: the longest name in the tables that fits."""
    best: tuple[int | None, str] = (None, "")
    for index, layer in enumerate(LAYERS):
        for unit in layer.modules:
            fits = module == unit if unit == "donjon" else within(module, (unit,))
            if fits and len(unit) > len(best[1]):
                best = (index, unit)
    return best


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    """Whether `module` is one of `prefixes` or lies below one."""
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
