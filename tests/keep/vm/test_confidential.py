"""Machines of SNP and TDX up to QEMU's own door: the words it is started with, by a program in its place.

Such hardware is not to be had where this is tested; what QEMU makes of the words, its list of properties says
(`tests/tee/snp/test_backend.py`).
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import pytest

from donjon.errors import DonjonError, PlatformError, UsageError
from donjon.keep import vm
from donjon.keep.launch import Launch
from donjon.log import Logger, line
from donjon.sim import firmware
from donjon.tee import signatures
from tests.keep import guests
from tests.keep.vm.standin import standin, words
from tests.system.command import config, donjon_run, file, listens

VECTORS = Path(__file__).parents[2] / "vectors" / "enarx"
BLOCK, AUTH = (VECTORS / "id-block.bin").read_bytes(), (VECTORS / "id-auth.bin").read_bytes()


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, body: str = "agent()", **more: object) -> Path:
    """A workload with a listener that nobody visits, in a machine of `backend`; what was said is in `said`."""
    version = str(more.pop("version", "10.2.0"))
    for name, value in standin(tmp_path, body, version).items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "OVMF.fd"
    path.write_bytes(firmware.write())
    monkeypatch.setenv("DONJON_FIRMWARE", str(path))
    said: list[str] = []
    log = Logger(lambda level, where, message: said.append(line(level, where, message)), "debug")
    launch = Launch(guests.exits(3), str(config(tmp_path, listens("web"))))
    code = vm.run(launch, log, backend=backend, **more)  # type: ignore[arg-type]
    assert code == 3
    (tmp_path / "said").write_text("".join(said))
    (tmp_path / "digest").write_bytes(launch.describe().digest())
    return tmp_path


def value(found: list[str], name: str) -> str:
    return found[found.index(name) + 1]


def test_a_machine_of_snp_has_the_words_that_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = signatures.parse(signatures.write("0.1.0", (BLOCK, AUTH)))
    found = words(run(tmp_path, monkeypatch, "snp", signatures=known))
    image = tmp_path / "image"
    assert (value(found, "-kernel"), value(found, "-initrd")) == (str(image / "bzImage"), str(image / "initrd.zst"))
    assert (value(found, "-append"), value(found, "-bios")) == ("quiet", str(tmp_path / "OVMF.fd"))
    assert (value(found, "-accel"), value(found, "-cpu"), value(found, "-smp")) == ("kvm", "EPYC-v4", "1")
    guest = dict(part.split("=", 1) for part in next(w for w in found if w.startswith("sev-snp-guest,")).split(",")[1:])
    assert b64decode(guest["host-data"]) == (tmp_path / "digest").read_bytes()
    assert (b64decode(guest["id-block"]), b64decode(guest["id-auth"])) == (BLOCK, AUTH)
    assert (guest["kernel-hashes"], guest["policy"]) == ("on", "0x30000")
    assert "virtual machine: QEMU 10.2.0 with snp" in (tmp_path / "said").read_text()
    only_shared_memory(found)


def test_a_machine_of_tdx_has_the_words_that_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = words(run(tmp_path, monkeypatch, "tdx"))
    image = tmp_path / "image"
    assert (value(found, "-kernel"), value(found, "-initrd")) == (str(image / "bzImage"), str(image / "initrd.zst"))
    assert (value(found, "-append"), value(found, "-bios")) == ("quiet", str(tmp_path / "OVMF.fd"))
    guest = json.loads(next(word for word in found if word.startswith("{")))
    assert b64decode(guest["mrconfigid"]) == (tmp_path / "digest").read_bytes().ljust(48, b"\0")
    only_shared_memory(found)


def only_shared_memory(found: list[str]) -> None:
    """Each virtio device sees what the guest shares with it, and nothing else."""
    devices = [word for name, word in pairwise(found) if name == "-device" and "virtio-" in word]
    assert len(devices) == 2, "ports and a network card"
    for device in devices:
        assert device.endswith(",disable-legacy=on,iommu_platform=on"), device


def test_a_machine_for_debugging_has_the_image_with_a_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "os.write(wire('console'), b'Linux says \\x1b[2J\\r\\nhello\\n'); agent()"
    for name, setting in standin(tmp_path, body, variant="debug").items():
        monkeypatch.setenv(name, setting)
    done = donjon_run("run", "--backend", "kvm", "--debug", file(tmp_path, guests.exits(4)), env=dict(os_environment()))
    assert done.returncode == 4
    assert b"donjon: Linux says \\x1b[2J\ndonjon: hello\n" in done.stderr


def os_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "DONJON_IMAGE", "DONJON_ACCEL")}


@pytest.mark.parametrize(
    ("backend", "more", "error", "complaint"),
    [
        pytest.param("snp", {"version": "9.0.5"}, PlatformError, "QEMU 9.0.5 cannot start SNP guests", id="old, SNP"),
        pytest.param("tdx", {"version": "10.0.2"}, PlatformError, "QEMU 10.0.2 cannot start TDs", id="old, TDX"),
        pytest.param("sgx", {}, UsageError, "backend sgx: it has no virtual machines", id="SGX"),
        pytest.param("none", {}, UsageError, "none", id="no TEE"),
        pytest.param("tdx", {"debug": True}, UsageError, "QEMU starts no TDs that can be debugged", id="debugging TDX"),
        pytest.param(
            "tdx",
            {"signatures": signatures.Signatures("0.1.0")},
            UsageError,
            "signatures: TDs have none",
            id="signatures for TDX",
        ),
        pytest.param(
            "snp",
            {"signatures": signatures.Signatures("0.1.0")},
            UsageError,
            "signatures: expected those of SNP, got none",
            id="signatures of others",
        ),
        pytest.param("snp", {"firmware": "/nonexistent"}, DonjonError, "/nonexistent", id="no firmware"),
        pytest.param("kvm", {"firmware": "/x", "accel": "tcg"}, UsageError, "firmware: a machine of kvm", id="for kvm"),
    ],
)
def test_what_cannot_be_started_is_refused_before_it_is(
    backend: str,
    more: dict[str, object],
    error: type[DonjonError],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(error, match=complaint):
        run(tmp_path, monkeypatch, backend, **more)  # type: ignore[arg-type]
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("--backend", "kvm", "--signatures", "x"), "--signatures is for machines of snp and tdx"),
        (("--backend", "kvm", "--output"), "--output is for machines of snp and tdx"),
        (("--backend", "kvm", "--tsm", "/x"), "--tsm: a Keep in a virtual machine (kvm) has the evidence of that"),
        (("--backend", "nil", "--memory", "256"), "--memory: this Keep is no virtual machine"),
        (("--backend", "nil", "--debug"), "--debug: this Keep is no virtual machine"),
        (("--backend", "nil", "--accel", "tcg"), "--accel: this Keep is no virtual machine"),
        (("--backend", "nil", "--boot-seconds", "120"), "--boot-seconds: this Keep is no virtual machine"),
        (("--backend", "kvm", "--memory", "1"), "--memory: expected 64 to 1048576 MiB"),
        (("--backend", "kvm", "--boot-seconds", "0"), "--boot-seconds: expected 1 to 99999 seconds"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(given: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    done = donjon_run("run", *given, file(tmp_path, guests.RETURNS), env=standin(tmp_path, "agent()"))
    assert done.returncode == 2
    assert f"donjon: error: {complaint}" in done.stderr.decode()
    assert not (tmp_path / "pid").exists()


def test_evidence_that_a_machine_of_kvm_cannot_give_is_refused_before_anything_starts(tmp_path: Path) -> None:
    toml = config(tmp_path, 'kind = "listen"\nname = "x"\nport = 0')
    words = ("run", "--backend", "kvm", "--attest", "snp", file(tmp_path, guests.RETURNS), "--wasmcfgfile", toml)
    done = donjon_run(*words, env=standin(tmp_path, "agent()"))
    assert done.returncode == 2
    assert b"--attest snp: a machine of kvm has no hardware that gives evidence" in done.stderr
    assert b"--sim LAB" in done.stderr
    assert not (tmp_path / "pid").exists()


def test_a_directory_of_the_host_is_refused_before_anything_starts(tmp_path: Path) -> None:
    toml = config(tmp_path, 'kind = "dir"\nhost = "."\nguest = "/"\nmode = "rw"')
    env = standin(tmp_path, "agent()")
    done = donjon_run("run", "--backend", "kvm", file(tmp_path, guests.RETURNS), "--wasmcfgfile", toml, env=env)
    assert done.returncode == 2
    assert b"a Keep in a virtual machine has no directories of its host" in done.stderr
    assert not (tmp_path / "pid").exists()
