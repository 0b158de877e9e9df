"""What process 1 asks of a kernel, played by stand-ins: the kernel's side of these calls is in `test_boot`."""

from __future__ import annotations

import errno

import pytest

from donjon.guest import init, linux


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

    monkeypatch.setattr("donjon.guest.linux.fcntl.ioctl", ioctl)


def test_the_tdx_module_says_what_a_td_was_started_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(0x81, monkeypatch)
    assert linux.td_config("/dev/null") == bytes(range(48))


def test_a_report_of_another_kind_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(0, monkeypatch)
    with pytest.raises(OSError, match="Protocol error") as caught:
        linux.td_config("/dev/null")
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize("tee", [None, "snp"])
def test_elsewhere_the_evidence_says_what_a_machine_was_started_for(tee: str | None) -> None:
    assert init._named(tee) == (None, None)


def test_a_td_takes_the_modules_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "td_config", lambda: bytes(48))
    assert init._named("tdx") == (bytes(48), None)


def test_a_td_that_cannot_ask_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> bytes:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(linux, "td_config", missing)
    named, problem = init._named("tdx")
    assert named is None
    assert problem == "the TDX module does not say what this machine was started for: No such file or directory"
