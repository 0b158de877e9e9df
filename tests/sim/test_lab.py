"""The lab: what it makes convinces a Steward that was told to believe it, and nobody else; its files are its own."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from donjon import sim, tee
from donjon.errors import ParseError, PlatformError, UsageError
from donjon.sim import _files
from donjon.sim.lab import TEES
from donjon.steward.policy import Policy
from donjon.steward.procedure import decide, vendor_trust
from tests.sim.labs import LAX, NOW, WORKLOAD, asked, failures
from tests.steward.requests import new_key, request, spki

YEAR = timedelta(days=365)


@pytest.mark.parametrize("name", TEES)
def test_a_steward_that_believes_the_lab_grants_and_says_that_it_was_simulated(lab: sim.Lab, name: str) -> None:
    guest = lab.guest(name, WORKLOAD)
    assert guest.tee == name
    grant = asked(lab, guest).require()
    assert grant.markers == ("simulated",)
    assert grant.workload == WORKLOAD


@pytest.mark.parametrize("name", TEES)
def test_a_steward_refuses_it_unless_its_policy_accepts_what_is_unattested(lab: sim.Lab, name: str) -> None:
    assert failures(asked(lab, lab.guest(name), Policy())) == ["evidence.attested"]


@pytest.mark.parametrize("name", TEES)
def test_a_steward_without_the_roots_refuses_it(lab: sim.Lab, name: str) -> None:
    kind, key = tee.load(name), new_key()
    data = request((kind.OID, lab.guest(name).collect(kind.key_binding(spki(key)))), key=key)
    assert not decide(data, vendor_trust(), LAX, NOW).accepted


@pytest.mark.parametrize("name", TEES)
def test_evidence_of_another_key_is_refused(lab: sim.Lab, name: str) -> None:
    assert failures(asked(lab, lab.guest(name), steal=True)) == ["evidence.binding"]


def test_a_workload_longer_than_the_field_is_refused(lab: sim.Lab) -> None:
    for name, size in (("snp", 32), ("tdx", 48), ("sgx", 64), ("cca", 64)):
        lab.guest(name, bytes(size))
        with pytest.raises(UsageError, match=f"expected at most {size} bytes, got {size + 1}"):
            lab.guest(name, bytes(size + 1))


def test_kvm_and_unknown_tees_cannot_be_simulated(lab: sim.Lab) -> None:
    for name in ("kvm", "sev"):
        with pytest.raises(UsageError, match=f'expected one of snp, tdx, sgx, cca, got "{name}"'):
            lab.guest(name)


def test_report_data_has_64_bytes(lab: sim.Lab) -> None:
    with pytest.raises(UsageError, match="expected 64 bytes, got 0"):
        lab.guest("snp").collect(b"")


# Files


def test_nobody_else_can_read_it(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_directory_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UsageError, match="expected an empty directory"):
        sim.create(str(tmp_path), NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_no_lab_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no lab: lab\.toml is missing"):
        sim.load(str(tmp_path))


def copy(folder: Path, to: Path) -> Path:
    to.mkdir(mode=0o700)
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
        (to / path.name).chmod(0o600)
    return to


def test_a_key_that_others_can_read_is_refused(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "amd-ask.key").chmod(0o640)
    with pytest.raises(
        UsageError, match=r"amd-ask\.key: expected a file that its owner alone can read, got the mode 640"
    ):
        sim.load(str(own), NOW)


@pytest.mark.parametrize("name", ["amd-ask.key", "amd-roots.pem", "intel-pck.key", "intel-root.pem", "arm-cpak.key"])
def test_a_file_that_is_missing_or_changed_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    own = copy(folder, tmp_path / "lab")
    for content in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff"):
        (own / name).write_bytes(content)
        with pytest.raises(ParseError, match=name.rpartition(".")[0].replace("-", ".*")):
            sim.load(str(own), NOW)
    (own / name).unlink()
    with pytest.raises(ParseError):
        sim.load(str(own), NOW)


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "arm-rak.key").unlink()
    os.symlink(folder / "arm-rak.key", own / "arm-rak.key")
    with pytest.raises(PlatformError, match=r"cannot read .*arm-rak\.key"):
        sim.load(str(own), NOW)


# Time


@pytest.mark.parametrize("years", [1, 6.5, 8, 30])
def test_years_later_its_evidence_is_still_good(folder: Path, tmp_path: Path, years: float) -> None:
    own = copy(folder, tmp_path / "lab")
    later = NOW + years * YEAR
    lab = sim.load(str(own), later)
    for name in TEES:
        assert asked(lab, lab.guest(name), now=later).accepted


def test_roots_stay_the_same_until_they_near_their_end(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    before = (own / "roots.toml").read_text()
    sim.load(str(own), NOW + 5 * YEAR)
    assert (own / "roots.toml").read_text() == before
    sim.load(str(own), NOW + 7 * YEAR)
    assert (own / "roots.toml").read_text() != before
    sim.load(str(own), NOW + 7 * YEAR)


def test_machines_are_the_same_after_loading(folder: Path) -> None:
    def identity() -> list[bytes]:
        lab = sim.load(str(folder), NOW)
        snp = tee.load("snp").parse(lab.guest("snp").collect(bytes(64)))[0]
        return [snp.report.platform.chip_id, lab.guest("tdx").blobs(bytes(64)).report[:500]]

    assert identity() == identity()


# What was broken off


def test_roots_that_do_not_fit_the_keys_are_written_anew(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "roots.toml").write_text("simulated = true\n")
    lab = sim.load(str(own), NOW)
    assert (own / "roots.toml").read_text() == (folder / "roots.toml").read_text()
    assert asked(lab, lab.guest("tdx")).accepted


def test_a_renewal_that_was_broken_off_is_finished(folder: Path, tmp_path: Path) -> None:
    own, later = copy(folder, tmp_path / "lab"), NOW + 7 * YEAR
    renewed = copy(folder, tmp_path / "other")
    sim.load(str(renewed), later)
    (own / "intel-root.pem").write_bytes((renewed / "intel-root.pem").read_bytes())  # this one was written, no more
    lab = sim.load(str(own), later)
    for name in ("sgx", "tdx"):
        assert asked(lab, lab.guest(name), now=later).accepted


def test_a_lab_that_was_not_finished_is_none(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "lab.toml").unlink()
    with pytest.raises(UsageError, match=r"is no lab: lab\.toml is missing"):
        sim.load(str(own), NOW)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("version = 2\n", UsageError, "expected a lab of version 1, got 2"),
        ("", UsageError, "expected a lab of version 1, got None"),
        ("version", ParseError, "expected TOML"),
        ("\xff", ParseError, "expected TOML"),
    ],
)
def test_a_lab_of_another_version_is_told(
    folder: Path, tmp_path: Path, text: str, kind: type[Exception], said: str
) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "lab.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(kind, match=said):
        sim.load(str(own), NOW)


def test_a_key_is_a_plain_file(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "arm-rak.key").unlink()
    os.mkfifo(own / "arm-rak.key", 0o600)
    with pytest.raises(UsageError, match=r"arm-rak\.key: expected a file$"):
        sim.load(str(own), NOW)


def test_a_key_belongs_to_this_user(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = copy(folder, tmp_path / "lab")
    if os.getuid() == 0:
        os.chown(own / "arm-rak.key", 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UsageError, match=r": expected a file of this user's, got one of user \d+"):
        sim.load(str(own), NOW)


def test_a_file_has_a_limit(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    os.truncate(own / "amd-ark.key", 1 << 40)
    with pytest.raises(ParseError, match=r"amd-ark\.key: expected at most 262144 bytes, got more"):
        sim.load(str(own), NOW)


def test_files_beside_the_lab_are_left_alone(folder: Path, tmp_path: Path) -> None:
    own = copy(folder, tmp_path / "lab")
    (own / "amd-notes.txt").write_text("mine")
    sim.load(str(own), NOW)
    for number in range(65):
        (own / f"amd-{number}.pem").touch(0o600)
    with pytest.raises(UsageError, match="expected at most 64 files of amd, got 70"):
        sim.load(str(own), NOW)


def test_a_directory_that_goes_away_is_told(tmp_path: Path) -> None:
    for act in (
        lambda: _files.write(str(tmp_path / "none"), "a", b""),
        lambda: _files.read_all(str(tmp_path / "none"), "amd-"),
        lambda: _files.locked(str(tmp_path / "none")).__enter__(),
    ):
        with pytest.raises(PlatformError, match=r"cannot (write|read|open) .*none.*: no such file or directory"):
            act()
    (tmp_path / "a").mkdir()
    with pytest.raises(PlatformError, match=r"cannot write .*/a: is a directory"):
        _files.write(str(tmp_path), "a", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # no draft is left
