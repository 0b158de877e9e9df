"""Collectors against roots that no kernel would show: everything ends, in evidence or in a message with a hint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from donjon import sim, tee
from donjon.errors import PlatformError
from donjon.tee import tsm
from tests.sim.labs import NOW
from tests.sim.mounts import mounted, stand_in

pytestmark = pytest.mark.slow
DATA = bytes(range(64))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("tsm")
    sim.create(str(base / "lab"), NOW)
    with mounted(stand_in(base / "lab", base / "mnt"), base / "mnt"):
        yield base / "mnt"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting is noted, not done."""
    found: list[float] = []
    monkeypatch.setattr(tsm, "_wait", found.append)
    return found


def collect(root: Path, name: str, sort: str) -> bytes:
    found: bytes = import_module(f"donjon.tee.{name}.collect").collect(DATA, str(root / name / sort))
    return found


# Good evidence all the same


@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
@pytest.mark.parametrize(
    ("sort", "waits"),
    [("fine", []), ("busy-twice", [0.01, 0.02]), ("again-once", [0.01]), ("moves-once", [0.01]), ("no-auxblob", [])],
)
def test_takes(root: Path, name: str, sort: str, waits: list[float], pauses: list[float]) -> None:
    if sort == "no-auxblob" and name != "snp":
        sort = "fine"  # the others have none anyway
    tee.load(name).parse(collect(root, name, sort)) if sort != "no-auxblob" else None
    assert pauses == waits
    assert os.listdir(root / name / sort) == []


@pytest.mark.parametrize("sort", ["no-auxblob", "no-certificates"])
def test_without_certificates_the_report_goes_alone(root: Path, sort: str) -> None:
    data = collect(root, "snp", sort)
    assert data[:4] == bytes.fromhex("048204a0")  # an OCTET STRING of 1184 bytes
    assert data[4 + 0x50 : 4 + 0x90] == DATA


def test_an_entry_that_cannot_be_removed_does_not_spoil_the_evidence(root: Path) -> None:
    tee.load("snp").parse(collect(root, "snp", "not-removable"))


def test_what_follows_a_quote_is_left_for_policy_to_judge(root: Path) -> None:
    evidence, _ = tee.load("tdx").parse(collect(root, "tdx", "more"))
    assert evidence.trailing.endswith(b"\0\1")


def test_the_largest_report_that_linux_gives_is_taken(root: Path) -> None:
    evidence, _ = tee.load("tdx").parse(collect(root, "tdx", "largest"))
    assert evidence.trailing == b""


# A message

FAILURES = {
    "einval": ("/outblob: ", "the kernel's driver refuses the request"),
    "eio": ("/outblob: ", "the firmware, or the host, has failed"),
    "enxio": ("/outblob: ", "no TEE has registered with the kernel: modprobe sev-guest"),
    "enodev": ("/outblob: ", "no TEE has registered with the kernel: modprobe sev-guest"),
    "enotty": ("/outblob: ", "starting the VM anew"),
    "etimedout": ("/outblob: ", "quote generation service (QGS)"),
    "efbig": ("/outblob: file too large", "larger than this kernel takes"),
    "eperm": ("/outblob: operation not permitted", "run as root"),
    "busy": (": outblob: device or resource busy, 8 times in a row", "asks for evidence all the time"),
    "closed-inblob": ("/inblob: permission denied", "run as root, or let this user write there"),
    "no-entries": (": no such device or address", "modprobe sev-guest, tdx-guest or arm-cca-guest"),
    "forbidden": (": permission denied", "run as root, or let this user write there"),
    "full": (": no space left on device", "entries that nobody removed"),
    "no-outblob": ("/outblob: no such file or directory", "mount -t configfs none /sys/kernel/config"),
    "no-inblob": ("/inblob: no such file or directory", "mount -t configfs none /sys/kernel/config"),
    "none-such": (": no such file or directory", "mount -t configfs none /sys/kernel/config"),
    "moves": (": expected 1 writes to the entry, got 2, 8 times in a row", "asks for evidence all the time"),
    "unknown-provider": (
        '/provider: expected one of sev_guest, tdx_guest, arm_cca_guest, got "sgx_guest"',
        "this version of donjon does not know it",
    ),
    "provider-of-bytes": ("/provider: expected a word, got 736576006775657374", None),
    "long-provider": ("/provider: expected at most 128 bytes, got more", None),
    "provider-moves": ("/provider: expected it to stay, got another", None),
    "generation-of-words": ('/generation: expected a number, got "one"', None),
    "generation-below-zero": ('/generation: expected a number, got "-1"', None),
    "huge-generation": ("/generation: expected a number, got", None),
    "endless": ("/outblob: expected at most 32768 bytes, got more", None),
    "endless-aux": ("/auxblob: expected at most 32768 bytes, got more", None),
    "endless-provider": ("/provider: expected at most 128 bytes, got more", None),
    "link": ("/outblob: too many levels of symbolic links", "may be a link"),
    "pipe": ("/outblob: expected a plain file, got something else", None),
    "inblob-pipe": ("/inblob: no such device or address", None),
    "takes-less": ("/inblob: expected it to take 64 bytes at once, got fewer", None),
    "empty": ("/outblob: expected a report, got nothing", "the firmware, or the host, has failed"),
    "largest": ("evidence cannot be read: SNP report: expected 1184 bytes, got 32768", "newer than this version"),
    "binds-other": ("SNP report: expected it to bind what was asked for, got other report data", None),
    "noise": ("evidence cannot be read", "newer than this version of donjon"),
    "more": ("evidence cannot be read: SNP report: expected 1184 bytes, got 1185", "newer than this version"),
    "bad-certificates": ("evidence cannot be read: certificate table", "newer than this version"),
    "bad-certificate": ("evidence cannot be read: ", "newer than this version"),
    "bad-list": ("evidence cannot be read: ", "newer than this version"),
    "masked-key": ("expected a signature by the VCEK or VLEK, got none", "masked the key"),
}


@pytest.mark.parametrize("sort", FAILURES)
def test_says_what_is_wrong(root: Path, sort: str) -> None:
    text, hint = FAILURES[sort]
    with pytest.raises(PlatformError) as caught:
        collect(root, "snp", sort)
    assert text in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")
    if sort != "none-such":
        assert os.listdir(root / "snp" / sort) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tdx", "TDX quote: expected it to bind what was asked for, got other report data"),
        ("cca", "CCA token: expected it to bind what was asked for, got another challenge"),
    ],
)
def test_the_answer_has_to_be_to_the_question(root: Path, name: str, text: str) -> None:
    with pytest.raises(PlatformError, match=text):
        collect(root, name, "binds-other")


@pytest.mark.parametrize("name", ["tdx", "cca"])
def test_noise_is_no_evidence(root: Path, name: str) -> None:
    with pytest.raises(PlatformError, match=f"this machine's {name} evidence cannot be read"):
        collect(root, name, "noise")


def test_pauses_grow_and_end(root: Path, pauses: list[float]) -> None:
    with pytest.raises(PlatformError):
        collect(root, "snp", "busy")
    assert len(pauses) == 7
    assert 1.2 < sum(pauses) < 1.3


@pytest.mark.parametrize(
    ("sort", "text"), [("unknown-provider", "expected one of"), ("no-entries", "no such device"), ("link", None)]
)
def test_asking_for_the_provider_fails_rather_than_say_none(root: Path, sort: str, text: str | None) -> None:
    where = str(root / "snp" / sort)
    if text is None:
        assert tsm.provider(where) == "snp"
    else:
        with pytest.raises(PlatformError, match=text):
            tsm.provider(where)


def test_a_root_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for act in (lambda root: tsm.provider(root), lambda root: tsm.report(DATA, "snp", root)):
        with pytest.raises(PlatformError, match="file: not a directory"):
            act(str(tmp_path / "file"))


def test_an_ordinary_directory_is_no_configfs(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="provider: no such file or directory"):
        tsm.report(DATA, "snp", str(tmp_path))
    assert os.listdir(tmp_path) == []


# What else can go wrong


def test_an_entry_that_turns_into_a_link_is_not_entered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "provider").write_text("sev_guest\n")

    def swap(name: str, mode: int, dir_fd: int) -> None:
        os.symlink(elsewhere, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swap)
    with pytest.raises(PlatformError, match="not a directory"):
        tsm.report(DATA, "snp", str(tmp_path))
    assert (elsewhere / "provider").exists()


@pytest.mark.parametrize("step", ["provider", "outblob", "generation"])
def test_an_interrupt_leaves_no_entry(root: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    read = tsm._Entry.read

    def interrupted(entry: tsm._Entry, name: str, most: int) -> bytes:
        if name == step:
            raise KeyboardInterrupt
        return read(entry, name, most)

    monkeypatch.setattr(tsm._Entry, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tsm.report(DATA, "snp", str(root / "snp/fine"))
    assert os.listdir(root / "snp/fine") == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="it counts descriptors in /proc")
def test_no_descriptor_is_left_open(root: Path) -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    collect(root, "snp", "fine")
    before = held()
    for sort in FAILURES:
        with pytest.raises(PlatformError):
            collect(root, "snp", sort)
    collect(root, "snp", "fine")
    assert held() == before
