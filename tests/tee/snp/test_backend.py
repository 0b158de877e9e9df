"""QEMU's words for SNP guests: each property is one that QEMU lists, and what would not start is refused before."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from donjon.errors import ParseError, PlatformError, UsageError, VerifyError
from donjon.sim import firmware as simulated
from donjon.tee.snp import backend
from donjon.tee.tdx import backend as tdx

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "enarx"
BLOCK, AUTH = (VECTORS / "id-block.bin").read_bytes(), (VECTORS / "id-auth.bin").read_bytes()
# `qemu-system-x86_64 -object sev-snp-guest,help` of QEMU 10.0.2, and what it leaves out as its base class has it.
LISTED = (
    "author-key-enabled guest-visible-workarounds host-data id-auth id-block kernel-hashes policy sev-device "
    "vcek-disabled".split()
)
BASE = ["id", "cbitpos", "reduced-phys-bits"]


def words(**more: object) -> list[str]:
    given = {"memory": 512 << 20, "vcpus": 2, "host_data": b"w" * 32, "firmware": "/fw", **more}
    return backend.machine(**given)  # type: ignore[arg-type]


def guest(found: list[str]) -> dict[str, str]:
    value = next(word for word in found if word.startswith("sev-snp-guest,"))
    return dict(part.split("=", 1) for part in value.split(",")[1:])


def test_every_property_is_one_of_qemu_s() -> None:
    found = guest(words(id_block=BLOCK, id_auth=AUTH))
    assert set(found) <= {*LISTED, *BASE}
    assert found["kernel-hashes"] == "on"
    assert (found["cbitpos"], found["reduced-phys-bits"], found["policy"]) == ("51", "1", "0x30000")
    assert b64decode(found["host-data"]) == b"w" * 32
    assert (b64decode(found["id-block"]), b64decode(found["id-auth"])) == (BLOCK, AUTH)
    assert found["author-key-enabled"] == "on"
    assert "id-block" not in guest(words())


def test_the_machine_is_the_one_that_is_measured() -> None:
    found = words()
    pairs = dict(zip(found[::2], found[1::2], strict=True))
    assert (pairs["-cpu"], pairs["-smp"], pairs["-m"], pairs["-bios"]) == ("EPYC-v4", "2", "512M", "/fw")
    assert "confidential-guest-support=sev0" in pairs["-M"]
    assert "kernel-irqchip=split" in pairs["-M"]


def test_a_guest_for_debugging_says_so() -> None:
    assert guest(words(debug=True))["policy"] == "0xb0000"


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"host_data": b"w"}, UsageError, "expected 32 bytes, got 1"),
        ({"id_block": BLOCK}, UsageError, "expected both or none"),
        ({"id_block": BLOCK, "id_auth": AUTH, "debug": True}, UsageError, "IdBlock.policy: expected 0xb0000"),
        ({"id_block": bytes(96), "id_auth": AUTH}, ParseError, "IdBlock.version"),
        ({"id_block": b"x" + BLOCK[1:], "id_auth": AUTH}, VerifyError, "id_block_sig"),
    ],
)
def test_what_would_not_start_is_refused(more: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        words(**more)


@pytest.mark.parametrize(
    ("version", "ok"), [((9, 0, 4), False), ((9, 1, 0), True), ((10, 0, 2), True), ((7, 2), False)]
)
def test_old_qemus_are_refused(version: tuple[int, ...], ok: bool) -> None:
    if ok:
        backend.requirements(version)
    else:
        with pytest.raises(PlatformError, match=r"cannot start SNP guests: expected 9\.1 or later"):
            backend.requirements(version)
    with pytest.raises(PlatformError, match=r"cannot start TDs: expected 10\.1 or later"):
        tdx.requirements(version)
    tdx.requirements((10, 1, 0))


def test_firmware_is_found_and_wrong_one_is_never_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, wrong = tmp_path / "good.fd", tmp_path / "wrong.fd"
    good.write_bytes(simulated.write())
    wrong.write_bytes(simulated.write(kernel_hashes=False))
    monkeypatch.setattr(backend, "FIRMWARE", (str(tmp_path / "none"), str(good)))
    monkeypatch.delenv("DONJON_FIRMWARE", raising=False)
    assert backend.firmware(None) == (str(good), good.read_bytes())
    monkeypatch.setenv("DONJON_FIRMWARE", str(wrong))
    with pytest.raises(UsageError, match="does not measure the kernel"):
        backend.firmware(None)
    assert backend.firmware(str(good))[0] == str(good)
    with pytest.raises(UsageError, match="no such file"):
        backend.firmware(str(tmp_path / "none"))
    monkeypatch.delenv("DONJON_FIRMWARE")
    monkeypatch.setattr(backend, "FIRMWARE", (str(tmp_path / "none"),))
    with pytest.raises(PlatformError, match="no firmware") as error:
        backend.firmware(None)
    assert "ovmf-amdsev" in str(error.value.hint)


def test_numbers_of_memory_encryption_come_from_cpuid() -> None:
    assert backend.encryption(0x1 << 6 | 51) == (51, 1)
