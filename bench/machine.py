"""What this machine is, and what its processes use."""

from __future__ import annotations

import os
import platform
import resource
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "Memory",
    "busy",
    "cpu_seconds",
    "cpus",
    "descendants",
    "describe",
    "memory",
    "on_cpu",
    "raise_descriptor_limit",
    "resident",
    "staying_on",
]


@dataclass(frozen=True)
class Memory:
    """What a process and its descendants occupy, in MB (10^6 bytes).

    Args:
        pss: proportional share: a page that n processes map counts 1/n.
        private: pages that nobody else maps.
        anonymous: pages that come from no file (heap, stacks); others who map the same libraries do not change it.
    """

    pss: float
    private: float
    anonymous: float


def cpus() -> list[int]:
    """The CPUs that we may run on; empty where the system does not let a process choose."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def on_cpu(pid: int, cpu: int | None) -> None:
    """Keep a process and its threads-to-be on one CPU; does nothing if `cpu` is None or the system cannot."""
    if cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {cpu})


@contextmanager
def staying_on(cpu: int | None) -> Iterator[None]:
    """Keep this process on one CPU for a while."""
    before = cpus()
    on_cpu(0, cpu)
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def descendants(pid: int) -> list[int]:
    """The process and everything that it started, found through /proc; only itself where there is none."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def memory(pid: int) -> Memory | None:
    """Weigh a process and its descendants; None where the system does not tell (no /proc/PID/smaps_rollup)."""
    kilobytes: Counter[str] = Counter()
    try:
        for each in descendants(pid):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]:
                name, count = line.split()[:2]
                kilobytes[name] += int(count)
    except FileNotFoundError:
        return None
    private = kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]
    return Memory(*(count * 1024 / 1e6 for count in (kilobytes["Pss:"], private, kilobytes["Anonymous:"])))


def resident(pid: int) -> float | None:
    """What a process has in memory, in MB; None where the system does not tell (no /proc/PID/statm)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return None
    return pages * resource.getpagesize() / 1e6


def cpu_seconds(pid: int) -> float | None:
    """CPU time that a process and its threads have used; None where the system does not tell (no /proc/PID/stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def raise_descriptor_limit(wanted: int) -> None:
    """Let us and the processes that we start open `wanted` descriptors, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def busy() -> float:
    """The share of the CPUs that runnable programs kept busy over the last minute; 1 is all of them."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def describe(compiler: list[str] | None) -> dict[str, str]:
    """The machine and the versions of what is compared, for the head of a report."""
    return {
        "processor": f"{processor()}, {os.cpu_count()} CPUs",
        "system": f"{platform.system()} {platform.release()}",
        "load before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "donjon": package("donjon"),
        "wasmtime": package("wasmtime"),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "node": first_line(["node", "--version"]),
        "compiler": first_line([*compiler, "--version"]) if compiler else "none",
    }


def processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        fields: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
        if "model name" in fields:
            return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
    return platform.processor() or platform.machine()


def package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def first_line(command: list[str]) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "not installed"
    return output.partition("\n")[0]
