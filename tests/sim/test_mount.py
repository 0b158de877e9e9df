"""Collectors on a real kernel's file system, under which simulated hardware stands: what they get a Steward accepts."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from donjon import sim, tee
from donjon.errors import PlatformError, UsageError
from donjon.sim.lab import TEES
from donjon.steward.files import Pile
from donjon.steward.procedure import Decision, decide
from donjon.tee import tsm
from tests.sim.labs import LAX, WORKLOAD, trust
from tests.sim.mounts import mounted, raw_mount, sim_mount
from tests.steward.requests import new_key, request, spki
from tests.system.command import donjon_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="FUSE is for Unix")]
DATA = bytes(range(64))


@pytest.fixture(scope="module", params=["by libfuse", "as in a guest"])
def roots(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Path]]:
    """A mount of every TEE: by the command, and as a simulated confidential VM has it."""
    base = tmp_path_factory.mktemp("mounts")
    blocks = []
    if request.param == "as in a guest" and os.getuid() != 0:
        pytest.skip("only root can mount without libfuse's helper")
    try:
        for name in TEES:
            if request.param == "by libfuse":
                words = sim_mount(folder, base / name, "--tee", name, "--workload", WORKLOAD.hex())
            else:
                words = raw_mount(folder, base / name, name, WORKLOAD)
            blocks.append(mounted(words, base / name))
            blocks[-1].__enter__()
        yield {name: base / name for name in TEES}
    finally:
        for block in blocks:
            block.__exit__(None, None, None)


def collect(name: str, data: bytes, root: Path, **more: Any) -> bytes:
    found: bytes = import_module(f"donjon.tee.{name}.collect").collect(data, str(root), **more)
    return found


# The whole path


@pytest.mark.parametrize("name", TEES)
def test_what_a_collector_gets_a_steward_accepts(folder: Path, roots: dict[str, Path], name: str) -> None:
    now = datetime.now(UTC)  # a mount shows the hardware of now
    lab = sim.load(str(folder), now)
    kind, key = tee.load(name), new_key()
    data = request((kind.OID, collect(name, kind.key_binding(spki(key)), roots[name])), key=key)
    decision = judge(lab, data, lab.guest(name), now)
    assert [str(check) for check in decision.failures] == []
    assert decision.require().markers == ("simulated",)
    assert decision.require().workload == WORKLOAD


def judge(lab: sim.Lab, data: bytes, guest: sim.Guest, now: datetime) -> Decision:
    """With Intel's collateral handed to the Steward, as evidence of real machines lacks it too."""
    if guest.tee not in ("sgx", "tdx"):
        return decide(data, trust(lab), LAX, now)
    pile = Pile()
    pile.add_roots("roots.toml", Path(lab.roots).read_text())
    pile.add("collateral.json", guest.collateral())
    return decide(data, pile.trust(), LAX, now)


@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
def test_the_provider_says_which_tee_it_is(roots: dict[str, Path], name: str) -> None:
    assert tsm.provider(str(roots[name])) == name
    assert os.listdir(roots[name]) == []


def test_there_is_no_provider_where_there_is_no_directory(tmp_path: Path) -> None:
    assert tsm.provider(str(tmp_path / "none")) is None


@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
def test_no_entry_is_left(roots: dict[str, Path], name: str) -> None:
    collect(name, DATA, roots[name])
    assert os.listdir(roots[name]) == []


@pytest.mark.parametrize(("asked", "of"), [("snp", "tdx"), ("tdx", "snp"), ("cca", "tdx")])
def test_a_collector_refuses_the_evidence_of_another_tee(roots: dict[str, Path], asked: str, of: str) -> None:
    with pytest.raises(PlatformError, match=f"expected evidence of {asked}, got that of {of}"):
        collect(asked, DATA, roots[of])


def test_evidence_of_snp_brings_certificate_and_list(roots: dict[str, Path]) -> None:
    evidence, collateral = tee.load("snp").parse(collect("snp", DATA, roots["snp"]))
    assert evidence.report.guest.report_data == DATA
    assert len(collateral.crls) == 1


def test_a_quote_comes_without_the_zeros_that_fill_it_up(roots: dict[str, Path]) -> None:
    evidence, collateral = tee.load("tdx").parse(collect("tdx", DATA, roots["tdx"]))
    assert len(evidence.raw) < 6000
    assert evidence.trailing == b""
    assert collateral.tcb_info is None


@pytest.mark.parametrize(("asked", "vmpl"), [(None, 0), (0, 0), (2, 2), (3, 3)])
def test_snp_asks_for_a_privilege_level_only_where_it_is_told_to(
    roots: dict[str, Path], asked: int | None, vmpl: int
) -> None:
    evidence, _ = tee.load("snp").parse(collect("snp", DATA, roots["snp"], privlevel=asked))
    assert evidence.report.head.vmpl == vmpl


@pytest.mark.parametrize("level", [-1, 4])
def test_there_are_four_privilege_levels(roots: dict[str, Path], level: int) -> None:
    with pytest.raises(UsageError, match=f"expected 0 to 3, got {level}"):
        collect("snp", DATA, roots["snp"], privlevel=level)


@pytest.mark.parametrize("name", TEES)
@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_has_64_bytes(roots: dict[str, Path], name: str, size: int) -> None:
    with pytest.raises(UsageError, match=f"expected 64 bytes, got {size}"):
        collect(name, bytes(size), roots[name])


def test_a_tee_without_privilege_levels_is_told(roots: dict[str, Path]) -> None:
    with pytest.raises(PlatformError, match="privlevel: no such file or directory") as caught:
        tsm.report(DATA, "tdx", str(roots["tdx"]), privlevel=1)
    assert caught.value.hint == "of SNP alone there are levels"
    assert os.listdir(roots["tdx"]) == []


# Somebody else


class Intruder:
    """Another thread that writes to the same entry, at the very moment between our writing and our reading."""

    def __init__(self, root: Path, name: str, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = times
        self.root, self.name = root, name
        write = tsm._Entry.write

        def and_then(entry: tsm._Entry, file: str, data: bytes) -> None:
            write(entry, file, data)
            if file == "inblob" and self.left:
                self.left -= 1
                other = threading.Thread(target=self.write)
                other.start()
                other.join()

        monkeypatch.setattr(tsm._Entry, "write", and_then)
        monkeypatch.setattr(tsm, "_wait", lambda _: None)

    def write(self) -> None:
        for entry in os.listdir(self.root):
            (self.root / entry / self.name).write_bytes(b"1" if self.name == "privlevel" else bytes(64))


@pytest.mark.parametrize("file", ["inblob", "privlevel"])
def test_an_entry_that_somebody_else_wrote_to_is_asked_once_more(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    intruder = Intruder(roots["snp"], file, 3, monkeypatch)
    evidence, _ = tee.load("snp").parse(collect("snp", DATA, roots["snp"]))
    assert intruder.left == 0
    assert evidence.report.guest.report_data == DATA
    assert evidence.report.head.vmpl == 0
    assert os.listdir(roots["snp"]) == []


def test_but_not_for_ever(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    Intruder(roots["snp"], "inblob", 1000, monkeypatch)
    with pytest.raises(PlatformError, match="expected 1 writes to the entry, got 2, 8 times in a row") as caught:
        collect("snp", DATA, roots["snp"])
    assert caught.value.hint == "something else on this machine asks for evidence all the time"
    assert os.listdir(roots["snp"]) == []


def test_many_at_once_get_each_their_own(roots: dict[str, Path]) -> None:
    found: dict[int, bytes] = {}

    def one(number: int) -> None:
        found[number] = collect("snp", bytes([number]) * 64, roots["snp"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(12):
        evidence, _ = tee.load("snp").parse(found[number])
        assert evidence.report.guest.report_data == bytes([number]) * 64


def test_gramines_files_are_asked_once_more_when_somebody_else_wrote(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from donjon.tee.sgx import collect as module

    write, left = module._write, [2]

    def and_then(root: str, name: str, data: bytes) -> None:
        write(root, name, data)
        if left[0]:
            left[0] -= 1
            (roots["sgx"] / "user_report_data").write_bytes(b"x")

    monkeypatch.setattr(module, "_write", and_then)
    evidence, _ = tee.load("sgx").parse(module.collect(DATA, str(roots["sgx"])))
    assert evidence.body.report_data == DATA
    left[0] = 1000
    with pytest.raises(PlatformError, match="got other report data, 8 times in a row"):
        module.collect(DATA, str(roots["sgx"]))


# The stand-in keeps the kernel's rules


def failing(number: int) -> Any:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def test_an_entry_comes_with_its_files(roots: dict[str, Path]) -> None:
    wanted = {
        "snp": {"inblob", "outblob", "auxblob", "generation", "provider", "privlevel", "privlevel_floor"},
        "tdx": {"inblob", "outblob", "generation", "provider"},
        "cca": {
            "inblob",
            "outblob",
            "auxblob",
            "manifestblob",
            "generation",
            "provider",
            "privlevel",
            "privlevel_floor",
            "service_provider",
            "service_guid",
            "service_manifest_version",
        },
    }
    for name, files in wanted.items():
        entry = roots[name] / "entry"
        entry.mkdir()
        try:
            assert {path.name for path in entry.iterdir()} == files
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in entry.iterdir()}
            assert modes["inblob"] == 0o200
            assert modes["outblob"] == 0o400
            assert modes["provider"] == 0o444
        finally:
            entry.rmdir()
        assert not entry.exists()


def test_files_keep_the_kernels_rules(roots: dict[str, Path]) -> None:
    entry = roots["snp"] / "rules"
    entry.mkdir()
    try:
        with failing(errno.EEXIST):
            entry.mkdir()
        assert (entry / "generation").read_bytes() == b"0\n"
        with failing(errno.EINVAL):  # nothing to bind yet
            (entry / "outblob").read_bytes()
        with failing(errno.EFBIG):
            (entry / "inblob").write_bytes(bytes(65))
        with failing(errno.EACCES):  # not even root
            (entry / "inblob").read_bytes()
        with failing(errno.EACCES):
            (entry / "outblob").write_bytes(b"")
        (entry / "inblob").write_bytes(bytes(63))
        with failing(errno.EINVAL):  # the driver wants 64
            (entry / "outblob").read_bytes()
        (entry / "inblob").write_bytes(DATA)
        assert (entry / "generation").read_bytes() == b"2\n"
        report = (entry / "outblob").read_bytes()
        assert len(report) == 1184
        assert (entry / "outblob").read_bytes() == report  # the same until something is written
        (entry / "privlevel").write_bytes(b"0x1\n")
        assert (entry / "outblob").read_bytes() != report
        for bad in (b"4", b"-1", b"one"):
            with failing(errno.EINVAL):
                (entry / "privlevel").write_bytes(bad)
        assert (entry / "generation").read_bytes() == b"3\n"
        with failing(errno.EPERM):
            (entry / "more").mkdir()
        with failing(errno.EPERM):
            (entry / "provider").unlink()
        with failing(errno.EACCES):
            (roots["snp"] / "file").write_bytes(b"")
        held = os.open(entry / "outblob", os.O_RDONLY)
    finally:
        entry.rmdir()
    try:
        with failing(errno.ENOENT):  # its entry is gone
            os.read(held, 1)
    finally:
        os.close(held)


def test_what_is_written_in_pieces_counts_when_the_file_is_closed(roots: dict[str, Path]) -> None:
    entry = roots["cca"] / "pieces"
    entry.mkdir()
    try:
        with (entry / "inblob").open("wb", buffering=0) as stream:
            stream.write(DATA[:40])
            stream.write(DATA[40:])
            assert (entry / "generation").read_bytes() == b"0\n"
        assert (entry / "generation").read_bytes() == b"1\n"
        evidence, _ = tee.load("cca").parse((entry / "outblob").read_bytes())
        assert evidence.realm.claims.challenge == DATA
    finally:
        entry.rmdir()


def test_gramines_files_keep_gramines_rules(roots: dict[str, Path]) -> None:
    root = roots["sgx"]
    assert {path.name for path in root.iterdir()} == {"attestation_type", "user_report_data", "quote"}
    assert (root / "attestation_type").read_bytes() == b"dcap"
    (root / "user_report_data").write_bytes(b"short")
    quote, _ = tee.load("sgx").parse((root / "quote").read_bytes())
    assert quote.body.report_data == b"short".ljust(64, b"\0")
    (root / "user_report_data").write_bytes(b"x" * 100)
    quote, _ = tee.load("sgx").parse((root / "quote").read_bytes())
    assert quote.body.report_data == b"x" * 64
    assert (root / "user_report_data").read_bytes() == b""
    for name in ("quote", "attestation_type"):
        with failing(errno.EACCES):
            (root / name).write_bytes(b"x")
    with failing(errno.EACCES):
        (root / "more").mkdir()
    with failing(errno.ENOENT):
        (root / "report").read_bytes()


# The command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    where = tmp_path / "mnt"
    with mounted(sim_mount(folder, where, "--tee", "cca"), where) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 0
        assert said.decode() == f"donjon: configfs-tsm of simulated cca at {where}\n"
        assert not os.path.ismount(where)


def test_unmounting_ends_it(folder: Path, tmp_path: Path) -> None:
    where = tmp_path / "mnt"
    with mounted(sim_mount(folder, where, "--tee", "sgx"), where) as process:
        unmount = ["umount"] if os.getuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*unmount, str(where)], check=True)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 0
        assert said.decode() == f"donjon: Gramine's attestation files of simulated sgx at {where}\n"


def test_a_mount_needs_a_directory(folder: Path, tmp_path: Path) -> None:
    done = donjon_run("sim", "mount", tmp_path / "none", "--sim", folder)
    assert done.returncode == 2
    assert b"expected a directory to mount on" in done.stderr
