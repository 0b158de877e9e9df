"""The instruction CPUID, asked for real; and what happens where it cannot be."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from donjon.platform import cpuid as module
from donjon.platform.cpuid import cpuid

x86 = pytest.mark.skipif(
    os.uname().machine != "x86_64" or sys.platform != "linux", reason="other processors have no CPUID"
)


def told() -> dict[str, str]:
    """What the kernel says of the first processor."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@x86
def test_vendor_family_and_features_are_those_that_the_kernel_tells() -> None:
    vendor, first = cpuid(0), cpuid(1)
    assert vendor is not None
    assert first is not None
    assert struct.pack("<3I", vendor[1], vendor[3], vendor[2]).decode() == told()["vendor_id"]
    family = (first[0] >> 8 & 0xF) + (first[0] >> 20 & 0xFF if first[0] >> 8 & 0xF == 0xF else 0)
    assert family == int(told()["cpu family"])
    assert (first[2] >> 30 & 1 == 1) == ("rdrand" in told()["flags"].split())


@x86
def test_subleaves_differ_and_a_leaf_beyond_the_last_is_none() -> None:
    vendor = cpuid(0)
    assert vendor is not None
    assert cpuid(vendor[0] + 1) is None
    assert cpuid(0x8000FFFF) is None
    assert cpuid(0xD, 0) != cpuid(0xD, 1)


@x86
def test_a_thousand_questions_keep_no_memory() -> None:
    before = len(Path("/proc/self/maps").read_text().splitlines())
    for _ in range(1000):
        cpuid(1)
    assert len(Path("/proc/self/maps").read_text().splitlines()) < before + 50


def refuse(*_: object) -> tuple[int, int, int, int]:
    raise PermissionError(13, "Permission denied")


def test_where_no_page_may_be_executed_the_kernels_device_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*machine[:4], "x86_64")))
    monkeypatch.setattr(module, "_run", refuse)
    device = tmp_path / "cpuid"
    device.write_bytes(struct.pack("<4I", 13, 1, 2, 3) + struct.pack("<4I", 4, 5, 6, 7))
    monkeypatch.setattr(module, "DEVICE", str(device))
    assert cpuid(0) == (13, 1, 2, 3)
    device.write_bytes(b"short")
    assert cpuid(0) is None
    monkeypatch.setattr(module, "DEVICE", str(tmp_path / "none"))
    assert cpuid(0) is None


def test_another_processor_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*machine[:4], "aarch64")))
    monkeypatch.setattr(module, "_ask", refuse)
    assert cpuid(0) is None
