"""Process 1 of a machine that only looks: imports what it is told, tries what a Keep needs, and reports at a port.

Runs inside the image, in place of its own /init: nothing of the tests or of pytest is there.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

POWER_OFF = 0x4321FEDC


def look() -> dict[str, Any]:
    with open("/probe.json", encoding="utf-8") as file:
        job = json.load(file)
    found: dict[str, Any] = {"python": sys.version.split()[0], "path": sys.path, "failed": {}}
    for name in job["modules"]:
        try:
            importlib.import_module(name)
        except BaseException as error:
            found["failed"][name] = f"{type(error).__name__}: {error}"
    for name in job["tries"]:
        try:
            found[name] = globals()[name]()
        except BaseException:
            found[name] = traceback.format_exc()
    return found


def modules() -> list[str]:
    """Load every kernel module in the order in which the guest does; what the kernel then says is loaded."""
    from donjon.guest import init

    libc = ctypes.CDLL(None, use_errno=True)
    for name in dict.fromkeys((*init.NETWORK, *init.TEES["snp"], *init.TEES["tdx"])):
        with open(f"/lib/modules/{name}.ko", "rb") as file:
            if libc.syscall(313, file.fileno(), b"", 0):
                error = ctypes.get_errno()
                if error != 19:  # ENODEV: not inside such a TEE
                    raise OSError(error, os.strerror(error), name)
    with open("/proc/modules", encoding="ascii") as file:
        return sorted(line.split()[0] for line in file)


def engine() -> list[str]:
    """Compile a module and name its exports."""
    from donjon.wasm.engine import load

    module = load(b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\7\5\1\1x\0\0\n\4\1\2\0\x0b", None, "probe")
    return list(module.exports())


def tls() -> dict[str, Any]:
    """The public roots that OpenSSL finds, and its version."""
    import ssl

    return {"roots": len(ssl.create_default_context().get_ca_certs()), "version": ssl.OPENSSL_VERSION}


def certificate() -> bool:
    """Make a key and a certificate as a Keep does."""
    from donjon.identity.certificate import self_signed

    made = self_signed(["probe.example"])
    return bool(made)


def vendors() -> dict[str, Any]:
    """What comes as files beside modules: roots that evidence is verified with, and the lowest version numbers."""
    from donjon.tee import snp, tdx
    from donjon.tee.snp import floors

    found: dict[str, Any] = {"snp": sorted(snp.vendor_roots().anchors), "tdx": sorted(tdx.vendor_roots().anchors)}
    return {**found, "floors": bool(floors.shipped().microcode)}


def lockdown() -> str:
    """What the kernel keeps even process 1 from."""
    with open("/sys/kernel/security/lockdown", encoding="ascii") as file:
        return file.read().strip()


def mount() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, place in (
        ("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"),
        ("securityfs", "/sys/kernel/security"),
    ):  # fmt: skip
        if libc.mount(kind.encode(), place.encode(), kind.encode(), ctypes.c_ulong(0), None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)
    os.symlink("/proc/self/fd", "/dev/fd")


def port(name: str) -> str:
    for _ in range(2000):
        for entry in os.listdir("/sys/class/virtio-ports"):
            with open(f"/sys/class/virtio-ports/{entry}/name", encoding="ascii") as file:
                if file.read().strip() == name:
                    return f"/dev/{entry}"
        time.sleep(0.005)
    raise OSError(f"no port {name}")


def main() -> None:
    try:
        while os.open("/dev/null", os.O_RDWR) < 2:
            pass
        mount()
        out = os.open(port("donjon.probe"), os.O_RDWR)
        data = memoryview(json.dumps(look()).encode() + b"\n")
        while data:
            data = data[os.write(out, data) :]
        os.read(out, 1)  # until the test has it all
    finally:
        ctypes.CDLL(None).reboot(POWER_OFF)
