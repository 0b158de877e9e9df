"""What a suite needs: where things are, how long to measure, and the programs, built when first asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bench import calls_wat

__all__ = ["BenchError", "Setting"]

HERE = Path(__file__).parent


class BenchError(Exception):
    """The measurement cannot be made; the text says why and what to do."""


@dataclass
class Setting:
    """One run of the bench.

    Args:
        build: directory for programs, certificates, caches and reports; made if missing.
        programs: directory with WebAssembly programs that others built (`python.wasm`, `echo-c.wasm`).
        donjon: the installed command; None measures the peers alone.
        rounds: how often each contender is measured.
        quick: a smoke run: everything runs, nothing is measured well.
        requests: how many the Steward's memory is watched over; None leaves that to the suite.
        notes: collects what the reader must know: what was left out, and why.
    """

    build: Path
    programs: Path
    donjon: Path | None
    rounds: int
    quick: bool = False
    requests: int | None = None
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a note once."""
        if text not in self.notes:
            self.notes.append(text)

    def environment(self) -> dict[str, str]:
        """Every contender's environment: ours, with caches inside `build` so that a run leaves the user's alone."""
        caching = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**caching, "XDG_CACHE_HOME": str(self.build / "cache")}

    @cached_property
    def compiler(self) -> list[str] | None:
        """A C compiler: the system's, or the one in the `ziglang` package."""
        for name in ("cc", "gcc", "clang"):
            if found := shutil.which(name):
                return [found]
        return self.zig

    @cached_property
    def zig(self) -> list[str] | None:
        """The `ziglang` package's C compiler, which builds for WASI as well."""
        command = [sys.executable, "-m", "ziglang", "cc"]
        probe = subprocess.run([*command, "--version"], capture_output=True, check=False)
        return command if probe.returncode == 0 else None

    def native(self, name: str, *, tls: bool = False, port: int | None = None) -> Path | None:
        """Build `native/NAME.c` for this machine; None (and a note) if that is not possible here.

        Args:
            port: it is for a virtual machine, where servers have a fixed port; without OpenSSL it is static.
        """
        libraries = openssl_libraries() if tls else []
        if self.compiler is None:
            self.note("native C peers are missing: no C compiler (install gcc or `pip install ziglang`)")
            return None
        if tls and not libraries:
            self.note("the native TLS peer is missing: Python's ssl module has no shared OpenSSL to link with here")
            return None
        if name == "load" and sys.platform != "linux":
            self.note("the load generator is the one in Python: the C one needs Linux (epoll)")
            return None
        options = ["-DWITH_TLS"] if tls else []
        output = self.build / (f"{name}-tls" if tls else name)
        if port is not None:
            options += [f"-DGUEST_PORT={port}", *([] if tls else ["-static"])]
            output = output.with_name(f"{output.name}-guest")
        return self.compile([*self.compiler, "-O2", *options], HERE / "native" / f"{name}.c", output, libraries)

    def wasm(self, name: str) -> Path:
        """Build `native/NAME.c` for WASI."""
        if self.zig is None:
            raise BenchError("cannot build for WASI: the package ziglang is missing (pip install ziglang)")
        command = [*self.zig, "-target", "wasm32-wasi", "-O2", "-s"]
        return self.compile(command, HERE / "native" / f"{name}.c", self.build / f"{name}.wasm", [])

    def compile(self, command: list[str], source: Path, output: Path, libraries: list[str]) -> Path:
        newest = max(path.stat().st_mtime for path in (source, HERE / "native" / "openssl.h"))
        if not output.exists() or output.stat().st_mtime < newest:
            self.build.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                [*command, "-o", str(output), str(source), *libraries], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise BenchError(f"{source.name} does not compile:\n{done.stderr}")
        return output

    def program(self, name: str) -> Path | None:
        """A WebAssembly program from `programs`, or None if it has not been built or fetched."""
        path = self.programs / name
        return path if path.exists() else None

    def calls(self, count: int) -> Path:
        """The module that times `count` calls of each function."""
        from wasmtime import wat2wasm

        self.build.mkdir(parents=True, exist_ok=True)
        path = self.build / f"calls-{count}.wasm"
        path.write_bytes(wat2wasm(calls_wat.module(count)))
        return path

    @cached_property
    def certificate(self) -> tuple[Path, Path]:
        """A self-signed certificate for localhost and its key, P-256 as Donjon's own: PEM files for the TLS peers."""
        from datetime import UTC, datetime, timedelta

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.build.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        end = now + timedelta(days=1)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        paths = self.build / "certificate.pem", self.build / "key.pem"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].touch(mode=0o600)
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def openssl_libraries() -> list[str]:
    """The shared libraries that Python's ssl module runs on, by path; empty where they cannot be found (no /proc)."""
    import ssl  # noqa: F401  - brings the libraries in

    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    mapped = {line.split()[-1] for line in maps.splitlines() if "/" in line}
    found = [path for name in ("libssl.", "libcrypto.") for path in sorted(mapped) if Path(path).name.startswith(name)]
    return found if len(found) == 2 else []
