"""Packages in, image out. This runs in the pinned interpreter, so that nothing else of this machine matters.

`building` starts it (see `command` there) with a job on standard input, and reads lines of progress from its output.
What it writes are the files of one image, into a directory that is not published yet.

The initramfs is three archives in a row, each compressed by itself: the `base` (interpreter, libraries, engine, kernel
modules, roots), the `code` (Donjon and /init) and the `extras` of the variant. Linux unpacks one after the other, and a
change of our own code packs a few hundred kilobytes anew instead of all: compressed archives are kept by the digest of
what is in them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sys
from importlib import _bootstrap_external

from donjon.errors import BugError, DonjonError, ParseError, words_of
from donjon.files import replacing
from donjon.image import cpio, elf, kernel, manifest, recipe, sbom, zstd
from donjon.image.reach import Module, reach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from donjon.image.cpio import Entry

__all__ = ["main", "pack"]

STDLIB = "usr/lib/python3.11"
DYNAMIC = f"{STDLIB}/lib-dynload"
PYTHON = "usr/bin/python3.11"
OURS = "usr/lib/donjon"
LOADER = "lib64/ld-linux-x86-64.so.2"
LIBRARIES = "lib/x86_64-linux-gnu"
ENGINE = "wasmtime/linux-x86_64/_libwasmtime.so"
CERTIFICATES = "usr/share/ca-certificates/mozilla/"
ROOTS = "etc/ssl/certs/ca-certificates.crt"
ROOTS_OF_OPENSSL = "usr/lib/ssl/cert.pem"
QUICK = 9
"""The level at which parts are compressed to see how much of the whole they are."""
NODES = {
    "dev/console": (5, 1, 0o600),
    "dev/null": (1, 3, 0o666),
    "dev/random": (1, 8, 0o444),
    "dev/urandom": (1, 9, 0o444),
}
DIRECTORIES = {"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "tmp": 0o1777}


def main() -> int:
    """Do the job on standard input; say how far it is in lines of JSON, the last one an `error` if there was one."""
    job = json.load(sys.stdin)
    try:
        pack(job)
    except DonjonError as error:
        say({"error": error.message, "hint": error.hint, "family": type(error).__name__})
        return 1
    except OSError as error:
        say({"error": f"{error.filename or 'the image'}: {words_of(error)}", "hint": None, "family": "PlatformError"})
        return 1
    return 0


def say(line: dict[str, Any]) -> None:
    """One line for `building`."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def pack(job: dict[str, Any]) -> None:
    """Make one image.

    Args:
        job: `variant`; `inputs`, the directory of unpacked packages; `source`, the one that holds `donjon`; `segments`,
            where compressed archives are kept; `out`, an empty directory; `lock`, the lock's digest; `packages`, its
            rows; `entry`, `init` and `level`, which are the recipe's but in tests.
    """
    variant, out = job["variant"], job["out"]
    packer = Packer(job["inputs"], job["source"], job["entry"], job["init"].encode())
    say({"step": "collecting files"})
    segments = {"base": packer.base, "code": packer.code, "extras": packer.extras(variant)}
    raws = {name: cpio.write(entries) for name, entries in segments.items()}
    packed = {}
    for name, raw in raws.items():
        packed[name] = _compressed(raw, name, job["segments"], job["level"])
    purposes = [
        about for name, entries in segments.items()
        for about in _purposes(entries, packer.origins, len(packed[name]))
    ]  # fmt: skip
    image = packer.inputs.read("kernel/vmlinuz")
    files = {
        "bzImage": image,
        "vmlinux": zstd.decompress(kernel.payload(image, "vmlinuz"), kernel.VMLINUX_LIMIT),
        "initrd.zst": b"".join(packed.values()),
        "initrd.cpio": b"".join(raws.values()),
    }
    if not files["vmlinux"].startswith(elf.IDENT):
        raise ParseError("vmlinuz: expected an ELF file inside")
    told = manifest.make(
        variant, recipe.COMMAND_LINES[variant], job["lock"], files, segments, raws, packed, packer.origins,
        job["packages"], purposes,
    )  # fmt: skip
    canonical = manifest.canonical(told)
    files["manifest.json"] = canonical
    files["sbom.spdx.json"] = sbom.make(told, hashlib.sha256(canonical).hexdigest())
    for name, data in files.items():
        _write(f"{out}/{name}", data)
    say({"digest": hashlib.sha256(canonical).hexdigest()})


def _purposes(entries: dict[str, Entry], origins: dict[str, str], size: int) -> list[dict[str, Any]]:
    """What the bytes of an archive are for.

    Shares of the compressed size are those that the parts have when each is compressed by itself, quickly.
    """
    parts: dict[str, list[bytes]] = {}
    for path, entry in sorted(entries.items()):
        if path in origins and entry.data:
            parts.setdefault(recipe.purpose(path, origins[path]), []).append(entry.data)
    alone = {name: len(zstd.compress(b"".join(data), QUICK, recipe.WINDOW_LOG)) for name, data in parts.items()}
    total = sum(alone.values())
    return [
        {"purpose": name, "files": len(data), "raw": sum(map(len, data)), "zstd": size * alone[name] // total}
        for name, data in parts.items()
    ]


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _compressed(raw: bytes, name: str, folder: str, level: int) -> bytes:
    """The archive compressed, from `folder` if it is there and whole; a multiple of four bytes long."""
    digest = hashlib.sha256(raw).hexdigest()
    path = f"{folder}/{digest}-{level}-{recipe.WINDOW_LOG}.zst"
    try:
        with open(path, "rb") as file:
            data = file.read()
        if zstd.decompress(data, len(raw) + 1) == raw:
            return data
    except (OSError, ParseError):
        pass  # not there, or damaged: it is made again
    say({"step": f"compressing {name}", "bytes": len(raw)})
    data = zstd.compress(raw, level, recipe.WINDOW_LOG)
    data += bytes(-len(data) % 4)
    with replacing(path, sync=True) as file:
        file.write(data)
    return data


class Inputs:
    """Unpacked packages, each file compared with its digest when it is read; `owner` says which package it is of."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(f"{folder}/files.json", "rb") as file:
            self._known: dict[str, list[str]] = json.load(file)

    def read(self, path: str) -> bytes:
        """A file's content, by its path below the directory."""
        with open(f"{self.folder}/{path}", "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self._known[path][1]:
            raise ParseError(
                f"{self.folder}/{path}: damaged since it was unpacked",
                hint=f"remove {self.folder}: the next build unpacks it again",
            )
        return data

    def owner(self, path: str) -> str:
        """The package that a file is of."""
        return self._known[path][0]

    def names(self, start: str) -> list[str]:
        """The paths that begin with `start`, sorted."""
        return sorted(path for path in self._known if path.startswith(start))

    def __contains__(self, path: str) -> bool:
        return path in self._known


class Packer:
    """Collects what goes into the archives `base`, `code` and the variants' `extras`.

    `origins` says of each path in them which package it is from; "donjon" is one.
    """

    def __init__(self, inputs: str, source: str, entry: str, init: bytes) -> None:
        self.inputs = Inputs(inputs)
        self.source = source
        self.origins: dict[str, str] = {}
        self.base: dict[str, Entry] = {}
        self.code: dict[str, Entry] = {}
        self._roots = (source, f"{inputs}/site", f"{inputs}/root/{STDLIB}", f"{inputs}/root/{DYNAMIC}")
        self._entry = entry
        self._denied = {**recipe.DENIED, **recipe.UNREAL}
        plain = self._reach((entry, *recipe.PYTHON_NEEDS), self._denied)
        # What only the simulated variant needs of Python and its packages is in every base, so that there is one base.
        self._simulated = self._reach((entry, recipe.SIMULATED_ENTRY, *recipe.PYTHON_NEEDS), recipe.DENIED)
        self._ours = {name: module for name, module in plain.items() if module.root == source}
        for name, module in sorted({**plain, **self._simulated}.items()):
            if module.root != source:
                self._add_module(self.base, STDLIB if module.root != self._roots[3] else DYNAMIC, module)
            elif name in self._ours:
                self._add_module(self.code, OURS, module)
        self._add_system()
        self._put(self.code, "init", cpio.file(init, executable=True), "donjon")

    def _reach(self, entries: tuple[str, ...], denied: dict[str, str]) -> dict[str, Module]:
        # Where Donjon is installed, other packages are its neighbours: those of this machine, not the lock's.
        return reach(entries, self._roots, denied, recipe.HIDDEN, {self.source: "donjon"})

    def extras(self, variant: str) -> dict[str, Entry]:
        """What a variant has beside base and code; the later archive wins where both have a path."""
        found: dict[str, Entry] = {}
        self._put(found, "etc/donjon/variant", cpio.file(f"{variant}\n".encode()), "donjon")
        if variant == "simulated":
            for name, module in sorted(self._simulated.items()):
                if module.root == self.source and name not in self._ours:
                    self._add_module(found, OURS, module)
            self._put(found, "init", cpio.file(recipe.SIMULATED_INIT, executable=True), "donjon")
        return found

    def _put(self, entries: dict[str, Entry], path: str, entry: Entry, origin: str) -> None:
        entries[path] = entry
        self.origins[path] = origin

    def _add_module(self, entries: dict[str, Entry], folder: str, module: Module) -> None:
        path = f"{folder}/{module.path}"
        if module.root == self.source:
            with open(module.file, "rb") as file:
                data, origin = file.read(), "donjon"
            if module.path.endswith("/__init__.py"):
                self._add_data(entries, module)
        else:
            below = module.file.removeprefix(f"{self.inputs.folder}/")
            data, origin = self.inputs.read(below), self.inputs.owner(below)
        if path.endswith(".py"):
            self._put(entries, f"{path}c", cpio.file(compiled(data, f"/{path}")), origin)
        else:
            self._put(entries, path, cpio.file(elf.cut(data, path), executable=True), origin)

    def _add_data(self, entries: dict[str, Entry], module: Module) -> None:
        """Files of our own packages that are read as resources: tables and certificates."""
        folder = os.path.dirname(module.path)
        for name in sorted(os.listdir(f"{self.source}/{folder}")):
            if name.endswith((".toml", ".der", ".pem", ".json")):
                with open(f"{self.source}/{folder}/{name}", "rb") as file:
                    self._put(entries, f"{OURS}/{folder}/{name}", cpio.file(file.read()), "donjon")

    def _add_system(self) -> None:
        base = self.base
        for path, (major, minor, mode) in NODES.items():
            base[path] = cpio.node(major, minor, mode)
        for path, mode in DIRECTORIES.items():
            base[path] = cpio.directory(mode)
        for path in self.inputs.names("kernel/modules/"):
            name = path.rpartition("/")[2]
            self._put(base, f"lib/modules/{name}", cpio.file(self.inputs.read(path)), self.inputs.owner(path))
        names = self.inputs.names(f"root/{CERTIFICATES}")
        bundle = b"".join(self.inputs.read(name).rstrip(b"\n") + b"\n" for name in names)
        self._put(base, ROOTS, cpio.file(bundle), self.inputs.owner(names[0]))
        self._put(base, ROOTS_OF_OPENSSL, cpio.link(f"/{ROOTS}"), self.inputs.owner(names[0]))
        for path, source in ((PYTHON, f"root/{PYTHON}"), (f"{STDLIB}/{ENGINE}", f"site/{ENGINE}")):
            data = elf.cut(self.inputs.read(source), path)
            self._put(base, path, cpio.file(data, executable=True), self.inputs.owner(source))
        self._add_libraries()

    def _add_libraries(self) -> None:
        """The libraries that the interpreter and all others in the archive ask for, and those ask for."""
        queue = [
            path for path, entry in sorted(self.base.items()) if entry.data.startswith(elf.IDENT) and ".ko" not in path
        ]
        done: set[str] = set()
        while queue:
            path = queue.pop()
            for name in elf.needed(self.base[path].data, path):
                if name in done:
                    continue
                done.add(name)
                target = LOADER if name == os.path.basename(LOADER) else f"{LIBRARIES}/{name}"
                source = next((f"root/{folder}/{name}" for folder in (LIBRARIES, f"usr/{LIBRARIES}")
                               if f"root/{folder}/{name}" in self.inputs), None)  # fmt: skip
                if source is None:
                    raise ParseError(f"{path}: needs {name}, which no package of the lock has")
                data = elf.cut(self.inputs.read(source), target)
                self._put(self.base, target, cpio.file(data, executable=True), self.inputs.owner(source))
                queue.append(target)
        if LOADER not in self.base:
            source = f"root/{LIBRARIES}/{os.path.basename(LOADER)}"
            data = elf.cut(self.inputs.read(source), LOADER)
            self._put(self.base, LOADER, cpio.file(data, executable=True), self.inputs.owner(source))


def compiled(source: bytes, name: str) -> bytes:
    """Byte code that the interpreter takes without looking at a source: its header has a hash, and no time.   [PEP552]

    Documentation of modules and functions is left out, as nobody inside reads it. Checks (`assert`) stay, and so does
    what classes say, as `dataclasses` works out a text where there is none, which takes time.
    """
    try:
        tree = ast.parse(source, name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_documentation(node)
        code = compile(tree, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ParseError(f"{name}: expected Python 3.11: {error}") from error
    if sys.version_info[:2] != (3, 11):
        raise BugError(f"the image is made by Python 3.11, not {sys.version.split()[0]}")
    made: bytes | bytearray = _bootstrap_external._code_to_hash_pyc(code, importlib.util.source_hash(source), False)  # type: ignore[attr-defined]
    return bytes(made)


def _drop_documentation(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        del node.body[0]  # not replaced: nothing may stand before `from __future__ import`
        if not node.body and not isinstance(node, ast.Module):
            node.body.append(ast.copy_location(ast.Pass(), first))


if __name__ == "__main__":
    sys.exit(main())
