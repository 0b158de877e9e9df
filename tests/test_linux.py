"""What is asked of Linux, played by stand-ins: the kernel's side of these calls is in `guest/test_boot`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon import linux


def answers(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the TDX module report."""

    def ioctl(_file: int, request: int, data: bytearray) -> int:
        assert (request >> 30, request >> 16 & 0x3FFF, request >> 8 & 0xFF, request & 0xFF) == (3, len(data), 84, 1)
        assert len(data) == 1088
        report = bytearray(1024)
        report[0] = kind
        report[528:576] = b"d" * 48  # MRTD
        report[576:624] = bytes(range(48))  # MRCONFIGID
        report[624:672] = b"o" * 48  # MROWNER
        data[64:] = report
        return 0

    monkeypatch.setattr("donjon.linux.fcntl.ioctl", ioctl)


def test_the_tdx_module_says_what_a_td_was_started_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(0x81, monkeypatch)
    assert linux.td_config("/dev/null") == bytes(range(48))


def test_a_report_of_another_kind_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(0, monkeypatch)
    with pytest.raises(OSError, match="Protocol error") as caught:
        linux.td_config("/dev/null")
    assert caught.value.errno == errno.EPROTO


def test_a_virtio_port_is_found_by_the_name_that_the_host_gave_it(tmp_path: Path) -> None:
    for port, name in (("vport0p1", "another\n"), ("vport0p2", "donjon.test\n"), ("vport1p1", "")):
        (tmp_path / port).mkdir()
        (tmp_path / port / "name").write_text(name)
    assert linux.virtio_port("donjon.test", str(tmp_path)) == "/dev/vport0p2"
    assert linux.virtio_port("donjon", str(tmp_path)) is None


def test_without_the_driver_there_is_no_port_nor_with_one_that_is_not_all_there_yet(tmp_path: Path) -> None:
    assert linux.virtio_port("donjon.test", str(tmp_path / "none")) is None
    (tmp_path / "vport0p1").mkdir()
    assert linux.virtio_port("donjon.test", str(tmp_path)) is None


@pytest.mark.parametrize(
    "call",
    [linux.unmount, linux.load_module, lambda path: linux.mount("none", path, "nonesuch", 0)],
    ids=["unmount", "module", "mount"],
)
def test_an_error_says_where(call: Callable[[str], None], tmp_path: Path) -> None:
    path = tmp_path / "here"
    path.write_text("neither a directory nor a module")
    with pytest.raises(OSError, match=r"here'$"):
        call(str(path))
