"""Gramine's files as no Gramine would show them; the real thing is in tests/sim/test_mount.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.errors import PlatformError, UsageError
from donjon.tee import sgx
from donjon.tee.intel.simulate import SimulatedIntel, enclave
from donjon.tee.sgx.collect import collect
from tests.sim.labs import NOW

DATA = bytes(range(64))


@pytest.fixture(scope="module")
def quote() -> bytes:
    return SimulatedIntel.new(NOW).platform().sgx_quote(enclave(report_data=DATA))


@pytest.fixture
def root(tmp_path: Path, quote: bytes) -> Path:
    (tmp_path / "attestation_type").write_bytes(b"dcap")
    (tmp_path / "user_report_data").touch()
    (tmp_path / "quote").write_bytes(quote)
    return tmp_path


def refused(root: Path) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        collect(DATA, str(root))
    return caught.value


def test_takes_a_quote_that_binds_what_was_asked_for(root: Path, quote: bytes) -> None:
    evidence, collateral = sgx.parse(collect(DATA, str(root)))
    assert evidence.raw == quote
    assert collateral.tcb_info is None
    assert (root / "user_report_data").read_bytes() == DATA


@pytest.mark.parametrize("kind", [b"none", b"epid", b"", b"dcap2", b"\xff"])
def test_knows_one_kind_of_attestation(root: Path, kind: bytes) -> None:
    (root / "attestation_type").write_bytes(kind)
    error = refused(root)
    assert 'attestation_type: expected "dcap", got ' in error.message
    assert error.hint == 'the manifest needs sgx.remote_attestation = "dcap"'


@pytest.mark.parametrize("name", ["attestation_type", "user_report_data", "quote"])
def test_says_which_file_is_missing(root: Path, name: str) -> None:
    (root / name).unlink()
    error = refused(root)
    assert error.message == f"{root}/{name}: no such file or directory"
    assert "under Gramine" in (error.hint or "")


@pytest.mark.parametrize("name", ["attestation_type", "user_report_data", "quote"])
def test_opens_plain_files_only(root: Path, name: str) -> None:
    makers: tuple[Callable[[Path], None], ...] = (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir)
    for make in makers:
        (root / name).rmdir() if (root / name).is_dir() else (root / name).unlink()
        make(root / name)
        assert refused(root).message.startswith(f"{root}/{name}: ")


def test_a_file_has_a_limit(root: Path) -> None:
    os.truncate(root / "quote", 1 << 40)  # a hole: endless for whoever reads it
    assert refused(root).message == f"{root}/quote: expected at most 32768 bytes, got more"


def test_a_quote_has_to_bind_what_was_asked_for(root: Path) -> None:
    with pytest.raises(PlatformError, match="expected it to bind what was asked for, got other report data, 8 times"):
        collect(bytes(64), str(root))


def test_noise_is_no_quote(root: Path) -> None:
    (root / "quote").write_bytes(b"noise" * 100)
    assert refused(root).message.startswith("this machine's sgx evidence cannot be read: ")


def test_a_quoting_enclave_that_fails_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def fails(path: str, *rest: object, **more: object) -> int:
        if str(path).endswith("/quote"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", fails)
    error = refused(root)
    assert error.message == f"{root}/quote: permission denied"
    assert "AESM" in (error.hint or "")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_has_64_bytes(root: Path, size: int) -> None:
    with pytest.raises(UsageError, match=f"expected 64 bytes, got {size}"):
        collect(bytes(size), str(root))
