"""QEMU's words for TDs: each property is one that QEMU documents."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from donjon.errors import ParseError, UsageError
from donjon.sim import firmware as simulated
from donjon.tee.tdx import backend

# QEMU's qapi/qom.json, TdxGuestProperties.
LISTED = {"qom-type", "id", "attributes", "sept-ve-disable", "mrconfigid", "mrowner", "mrownerconfig",
          "quote-generation-socket"}  # fmt: skip


def test_every_property_is_one_of_qemu_s() -> None:
    found = backend.machine(memory=1 << 30, vcpus=1, mr_config_id=b"w" * 32, firmware="/fw", quotes={"type": "unix"})
    guest = json.loads(next(word for word in found if word.startswith("{")))
    assert set(guest) <= LISTED
    assert b64decode(guest["mrconfigid"]) == b"w" * 32 + bytes(16)
    assert guest["quote-generation-socket"] == {"type": "unix"}
    assert found[found.index("-bios") + 1] == "/fw"


def test_a_longer_value_does_not_fit() -> None:
    with pytest.raises(UsageError, match="at most 48 bytes, got 49"):
        backend.machine(memory=1 << 30, vcpus=1, mr_config_id=bytes(49), firmware="/fw")


def test_the_quoting_service_is_asked_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "QUOTE_SOCKET", str(tmp_path / "qgs"))
    assert backend.quote_service() == {"type": "vsock", "cid": "2", "port": "4050"}
    (tmp_path / "qgs").touch()
    assert backend.quote_service() == {"type": "unix", "path": str(tmp_path / "qgs")}


def test_firmware_has_to_know_tdx(tmp_path: Path) -> None:
    path = tmp_path / "fw"
    path.write_bytes(simulated.write(tdx=False))
    with pytest.raises(ParseError, match="expected TDX metadata"):
        backend.firmware(str(path))
    path.write_bytes(simulated.write())
    assert backend.firmware(str(path))[0] == str(path)
