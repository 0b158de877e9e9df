"""The facts behind `donjon platform info`.

People paste them into reports of mistakes: they are complete enough to tell why a Keep would not start, always of the
same shape, and hold no secret (no environment, no host name, no addresses). Nothing here raises because something is
missing: that is a fact too.

Not known: which groups a peer accepts, whether a port is free.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TypedDict

from donjon import __version__
from donjon.errors import PlatformError
from donjon.platform import backends
from donjon.platform.backends import Backend, Datum, inside
from donjon.platform.machine import Machine

__all__ = ["Backend", "Datum", "Descriptors", "Engine", "Facts", "Tls", "client_groups", "find", "nil"]


class Engine(TypedDict):
    """The engine that runs WebAssembly; None where there is none. `library` is the file that is loaded."""

    name: str
    version: str | None
    library: str | None


class Tls(TypedDict):
    """The TLS library and what it offers by default; `hybrid` are those of `groups` that resist quantum computers."""

    library: str
    version_1_3: bool
    groups: list[str]
    hybrid: list[str]


class Descriptors(TypedDict):
    """How many descriptors this process may have (None: no limit) and has open."""

    soft: int | None
    hard: int | None
    open: int | None


class Facts(TypedDict):
    """Everything.

    `confidential_vm` is the TEE whose guest this machine is, None where it is none.
    `system_info` is kernel name, release, version and machine, as uname(2) gives them; `cache` is the folder of
    compiled modules, None where there is none because the user has no home.
    """

    version: str
    system_info: str
    python: str
    processors: int
    engine: Engine
    tls: Tls
    cache: str | None
    descriptors: Descriptors
    backends: list[Backend]
    confidential_vm: str | None
    confidential_vm_data: list[Datum]


def find(machine: Machine | None = None) -> Facts:
    """Look at everything. Takes some 20 ms where KVM was tried before, most of it for the engine and OpenSSL.

    Args:
        machine: another one, that was recorded; what is this process's own (engine, TLS, cache) stays that.
    """
    engine, tls = _engine(), _tls()
    machine = machine or Machine()
    tee, guest = inside(machine)
    return {
        "version": __version__,
        "system_info": " ".join(machine.system()),
        "python": f"{sys.implementation.name} {sys.version.split()[0]}",
        "processors": os.cpu_count() or 1,
        "engine": engine,
        "tls": tls,
        "cache": _cache(),
        "descriptors": _descriptors(),
        "backends": [_nil(engine, tls), *backends.find(machine)],
        "confidential_vm": tee,
        "confidential_vm_data": list(guest),
    }


def client_groups(hello: bytes) -> list[int]:
    """The key exchange groups that a ClientHello offers.

    Args:
        hello: what a client sends first, as one or more TLS records.
    Returns:
        Code points in order of preference; [] when there is no such extension or it is not a ClientHello.
    Source: RFC 8446, 4.1.2 and 4.2.7.
    """
    body, at = b"", 0
    while at + 5 <= len(hello) and hello[at] == 22:  # records of handshake messages: type, version, length
        size = int.from_bytes(hello[at + 3 : at + 5], "big")
        body += hello[at + 5 : at + 5 + size]
        at += 5 + size
    if len(body) < 39 or body[0] != 1:
        return []
    at = 4 + 2 + 32  # header, version, random
    for width in (1, 2, 1):  # session id, cipher suites, compression methods: each a length and that many bytes
        at += width + int.from_bytes(body[at : at + width], "big")
    end = min(at + 2 + int.from_bytes(body[at : at + 2], "big"), len(body))
    at += 2
    while at + 4 <= end:
        kind, size = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        if kind == 10:
            groups = body[at + 6 : at + 4 + size]  # after the length of the list itself
            return [int.from_bytes(groups[i : i + 2], "big") for i in range(0, len(groups) - 1, 2)]
        at += 4 + size
    return []


# Code points of the IANA registry "TLS Supported Groups"; GROUPS that mix a lattice and a curve are hybrid.
GROUPS = {
    0x0017: "secp256r1", 0x0018: "secp384r1", 0x0019: "secp521r1", 0x001D: "x25519", 0x001E: "x448",
    0x0100: "ffdhe2048", 0x0101: "ffdhe3072", 0x0102: "ffdhe4096", 0x0103: "ffdhe6144", 0x0104: "ffdhe8192",
    0x11EB: "SecP256r1MLKEM768", 0x11EC: "X25519MLKEM768", 0x11ED: "SecP384r1MLKEM1024",
}  # fmt: skip


def _tls() -> Tls:
    """What OpenSSL offers is read from the first bytes that it would send: Python 3.11 to 3.14 cannot ask it."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ssl.HAS_TLSv1_3:
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # as a Keep's, see donjon.tls
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):  # it waits for the answer, which nobody will give
        client.do_handshake()
    groups = [GROUPS.get(code, f"0x{code:04x}") for code in client_groups(sent.read())]
    return {
        "library": ssl.OPENSSL_VERSION,
        "version_1_3": ssl.HAS_TLSv1_3,
        "groups": groups,
        "hybrid": [group for group in groups if "MLKEM" in group],
    }


def _engine() -> Engine:
    """The library that a Keep would load; the package around it is not imported (40 ms)."""
    import importlib.metadata

    from donjon.wasm.engine._capi import library_path

    try:
        version = importlib.metadata.version("wasmtime")
    except importlib.metadata.PackageNotFoundError:
        version = None
    try:
        return {"name": "wasmtime", "version": version, "library": library_path()}
    except PlatformError:
        return {"name": "wasmtime", "version": version, "library": None}


def nil() -> Backend:
    """The one backend that needs no machine in particular."""
    return _nil(_engine(), _tls())


def _nil(engine: Engine, tls: Tls) -> Backend:
    problem = _problem(engine["library"])
    version = f"{engine['name']} {engine['version']}" if engine["version"] else None
    install = None if problem is None else "python3 -m pip install --force-reinstall wasmtime"
    good = tls["version_1_3"]
    return Backend(
        "nil",
        (
            Datum("WebAssembly engine", problem is None, version, problem, install),
            Datum("TLS 1.3", good, tls["library"], None if good else "Use a Python whose OpenSSL has TLS 1.3."),
        ),
        hardware=True,
        protects=False,
        mesg="nil protects nobody from the host: whoever controls this machine can read and change what runs in the "
        "Keep.",
    )


def _problem(library: str | None) -> str | None:
    """What keeps the engine from being loaded."""
    import ctypes

    if library is None:
        return "Install the Python package wasmtime into the Python that runs donjon."
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return f"Reinstall the Python package wasmtime: {error}."
    return None


def _descriptors() -> Descriptors:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (None if limit == resource.RLIM_INFINITY else limit for limit in limits)
    try:
        count = len(os.listdir("/dev/fd")) - 1  # one is for reading the list
    except OSError:
        count = None
    return {"soft": soft, "hard": hard, "open": count}


def _cache() -> str | None:
    from donjon.wasm.engine.cache import Cache

    cache = Cache.of_user()
    return None if cache is None else cache.folder
