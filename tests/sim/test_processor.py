"""The processor of a simulated confidential VM, without a machine: what it measures, and what it hands out."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon import sim, tee
from donjon.errors import ParseError, UsageError
from donjon.sim import firmware, port
from donjon.sim.processor import Processor
from donjon.tee.snp.measure import launch_digest
from donjon.tee.tdx import measure as tdx
from donjon.wire import pack
from tests.sim.labs import NOW, WORKLOAD

KERNEL, INITRD, CMDLINE = b"a kernel", b"an initrd", "quiet"


@pytest.fixture
def fresh(folder: Path, tmp_path: Path) -> Path:
    """A copy of the lab, to be changed."""
    new = tmp_path / "lab"
    new.mkdir(0o700)
    for file in folder.iterdir():
        (new / file.name).touch(0o600)
        (new / file.name).write_bytes(file.read_bytes())
    return new


def start(lab: Path, **changes: object) -> Processor:
    words = {"tee": "snp", "workload": WORKLOAD, "kernel": KERNEL, "initrd": INITRD, "cmdline": CMDLINE, "vcpus": 1}
    return Processor.start(str(lab), **words | changes)  # type: ignore[arg-type]


def test_reports_hold_the_launch_digest_and_the_workload(folder: Path) -> None:
    processor = start(folder)
    data = bytes(range(64))
    asked = port.Request(magic=port.MAGIC, version=1, kind=port.Kind.REPORT, privlevel=255, report_data=data)
    said = processor.feed(pack(asked))
    size = int.from_bytes(said[8:12], "little")
    evidence, _ = tee.load("snp").parse(b"\x04\x82" + size.to_bytes(2, "big") + said[16 : 16 + size])
    digest = launch_digest(firmware.write(), KERNEL, INITRD, CMDLINE, 1)
    assert evidence.report.guest.measurement == digest == processor.measured["measurement"]
    assert evidence.report.guest.host_data == WORKLOAD
    assert evidence.report.guest.report_data == data


@pytest.mark.parametrize("part", [{"kernel": b"another"}, {"initrd": b""}, {"cmdline": "debug"}, {"vcpus": 2}])
def test_every_part_counts(folder: Path, part: dict[str, object]) -> None:
    assert start(folder, **part).measured != start(folder).measured


def test_the_labs_firmware_counts(folder: Path, fresh: Path) -> None:
    (fresh / "firmware.fd").write_bytes(firmware.write(seed=b"another"))
    assert start(fresh).measured != start(folder).measured


def test_a_td_has_its_registers_in_the_quote(lab: sim.Lab) -> None:
    measured = {"mr_td": tdx.mrtd(lab.firmware()), "rtmr1": b"1" * 48, "rtmr2": tdx.rtmr2(CMDLINE, INITRD)}
    evidence, _ = tee.load("tdx").parse(lab.guest("tdx", WORKLOAD, measured=measured).collect(bytes(64)))
    body = evidence.body
    assert (body.mr_td, body.rtmr1, body.rtmr2) == tuple(measured.values())
    assert body.rtmr0 == bytes(48)
    assert body.mr_config_id == WORKLOAD.ljust(48, b"\0")


@pytest.mark.parametrize("name", ["snp", "tdx"])
def test_a_launch_decides_about_its_own_fields_only(lab: sim.Lab, name: str) -> None:
    with pytest.raises(UsageError, match="no launch decides about report_data"):
        lab.guest(name, measured={"report_data": bytes(64)})


@pytest.mark.parametrize("name", ["sgx", "cca"])
def test_enclaves_and_realms_do_not_start_so(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"simulated virtual machine: expected snp, tdx, got {name}"):
        start(folder, tee=name)


def test_a_lab_from_before_there_was_firmware_gets_it(fresh: Path) -> None:
    (fresh / "firmware.fd").unlink()
    assert sim.load(str(fresh), NOW).firmware() == firmware.write()


def test_firmware_that_others_can_read_is_refused(fresh: Path) -> None:
    (fresh / "firmware.fd").chmod(0o644)
    with pytest.raises(UsageError, match="its owner alone"):
        start(fresh)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"not firmware", "multiple of 4096"), (firmware.write(kernel_hashes=False), "KERNEL_HASHES")],
)
def test_firmware_that_will_not_do_is_refused(fresh: Path, data: bytes, words: str) -> None:
    (fresh / "firmware.fd").write_bytes(data)
    with pytest.raises((ParseError, UsageError), match=words):
        start(fresh)
