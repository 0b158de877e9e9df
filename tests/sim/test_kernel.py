"""The rules of the stand-ins that a mount cannot show: what the kernel asks before it asks the file system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from donjon import sim
from donjon.sim import kernel
from donjon.sim.kernel import ConfigFs, Gramine


def refused(number: int, act: Callable[[], object]) -> None:
    with pytest.raises(OSError, check=lambda error: error.errno == number):
        act()


def test_a_guest_gets_the_interface_of_its_tee(lab: sim.Lab) -> None:
    kinds = {name: type(kernel.rules(lab.guest(name))) for name in ("snp", "tdx", "cca", "sgx")}
    assert kinds == {"snp": ConfigFs, "tdx": ConfigFs, "cca": ConfigFs, "sgx": Gramine}


def test_configfs_knows_its_paths(lab: sim.Lab) -> None:
    rules = ConfigFs(lab.guest("tdx"))
    refused(errno.ENOENT, lambda: rules.mode("/a"))
    refused(errno.ENOENT, lambda: rules.mode("/a/provider"))
    rules.make("/a")
    assert rules.names("/") == ["a"]
    assert rules.mode("/a") == 0o040755
    refused(errno.ENOENT, lambda: rules.mode("/a/auxblob"))  # TDX has none
    refused(errno.ENOTDIR, lambda: rules.mode("/a/provider/x"))
    refused(errno.ENOTDIR, lambda: rules.names("/a/provider"))
    refused(errno.ENOTDIR, lambda: rules.remove("/a/provider"))
    refused(errno.ENOENT, lambda: rules.remove("/b"))


def test_configfs_has_a_bound_on_entries(lab: sim.Lab) -> None:
    rules = ConfigFs(lab.guest("cca"))
    for number in range(kernel.MAX_ENTRIES):
        rules.make(f"/{number}")
    refused(errno.ENOSPC, lambda: rules.make("/more"))
    rules.remove("/0")
    rules.make("/more")


def test_nothing_is_written_to_an_entry_that_is_gone(lab: sim.Lab) -> None:
    rules = ConfigFs(lab.guest("snp"))
    rules.make("/a")
    inblob, level = rules.open("/a/inblob", os.O_WRONLY), rules.open("/a/privlevel", os.O_WRONLY)
    rules.write(inblob, bytes(64), 0)
    rules.remove("/a")
    rules.flush(inblob)
    refused(errno.ENOENT, lambda: rules.write(level, b"1", 0))
    rules.make("/a")
    generation = rules.open("/a/generation", os.O_RDONLY)
    assert rules.read(generation, 100, 0) == b"0\n"
    for handle in (inblob, level, generation):
        rules.release(handle)


def test_an_auxblob_beyond_the_kernels_limit_is_not_handed_out(lab: sim.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MAX_OUTBLOB", 1000)
    rules = ConfigFs(lab.guest("snp"))
    rules.make("/a")
    inblob = rules.open("/a/inblob", os.O_WRONLY)
    rules.write(inblob, bytes(64), 0)
    rules.flush(inblob)
    refused(errno.EFBIG, lambda: rules.read(rules.open("/a/outblob", os.O_RDONLY), 100, 0))


@pytest.mark.parametrize(("size", "fine"), [(31, False), (32, True), (63, True), (64, True)])
def test_arms_driver_takes_32_to_64_bytes(lab: sim.Lab, size: int, fine: bool) -> None:
    rules = ConfigFs(lab.guest("cca"))
    rules.make("/a")
    inblob, outblob = rules.open("/a/inblob", os.O_WRONLY), rules.open("/a/outblob", os.O_RDONLY)
    rules.write(inblob, b"x" * size, 0)
    rules.flush(inblob)
    if fine:
        assert rules.read(outblob, 100, 0)
    else:
        refused(errno.EINVAL, lambda: rules.read(outblob, 100, 0))


@pytest.mark.parametrize(
    ("name", "data", "count", "fine"),
    [
        ("privlevel", b"3\n", 1, True),
        ("privlevel", b"0x2", 1, True),
        ("privlevel", b"4", 0, False),
        ("privlevel", b"-1", 0, False),
        ("privlevel", b"1 ", 0, False),
        ("privlevel", b"", 0, False),
        ("service_manifest_version", b"7", 1, True),
        ("service_manifest_version", b"4294967296", 0, False),
        ("service_provider", b"svsm\n", 1, True),
        ("service_guid", b"63da758d-e664-4564-adc5-f4b93be8accd\n", 1, True),
        ("service_guid", b"no guid", 1, False),  # the kernel counts before it reads
    ],
)
def test_attributes_are_read_as_the_kernel_reads_them(
    lab: sim.Lab, name: str, data: bytes, count: int, fine: bool
) -> None:
    rules = ConfigFs(lab.guest("cca"))
    rules.make("/a")
    handle = rules.open(f"/a/{name}", os.O_WRONLY)
    if fine:
        assert rules.write(handle, data, 0) == len(data)
    else:
        refused(errno.EINVAL, lambda: rules.write(handle, data, 0))
    assert rules.read(rules.open("/a/generation", os.O_RDONLY), 9, 0) == b"%d\n" % count


def test_gramine_knows_its_paths(lab: sim.Lab) -> None:
    rules = Gramine(lab.guest("sgx"))
    assert rules.mode("/") == 0o040755
    assert rules.mode("/quote") == 0o100444
    refused(errno.ENOENT, lambda: rules.mode("/keys"))
    refused(errno.ENOTDIR, lambda: rules.names("/quote"))
    refused(errno.EACCES, lambda: rules.make("/x"))
    refused(errno.EACCES, lambda: rules.remove("/quote"))
    handle = rules.open("/user_report_data", os.O_WRONLY)
    refused(errno.EFBIG, lambda: rules.write(handle, bytes(10), 4090))
