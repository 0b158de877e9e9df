"""/dev/sev: a driver that keeps the rules of Linux's answers, and one that fails in each way that it may."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest

from donjon.errors import PlatformError
from donjon.platform import sev
from donjon.platform.sev import Device, IssueCmd

CHIP = bytes(range(64))
STATUS = struct.pack("<BBBBIII8s8s", 1, 55, 1, 1, 21, 0, 3, b"currentT", b"reported")


class Driver:
    """What is below the ioctl.

    Args:
        number: the error that the driver raises; 0 none. firmware: what the firmware says; 0 success.
        chip: the id; Turin's has 8 bytes.
    """

    def __init__(self, number: int = 0, firmware: int = 0, chip: bytes = CHIP, status: bytes = STATUS) -> None:
        self.number, self.firmware, self.chip, self.status = number, firmware, chip, status

    def __call__(self, descriptor: int, request: int, command: IssueCmd) -> int:
        assert descriptor > 2
        assert (request, ctypes.sizeof(command)) == (0xC0105300, 16)
        command.error = self.firmware
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        if command.cmd == 9:
            ctypes.memmove(command.data, self.status, 32)
        elif command.cmd == 8:
            address, length = struct.unpack("<QI", ctypes.string_at(command.data, 12))
            assert length == 64
            ctypes.memmove(address, self.chip, min(length, len(self.chip)))
            ctypes.memmove(command.data + 8, struct.pack("<I", len(self.chip)), 4)
        else:
            raise OSError(errno.EINVAL, "no such command")
        return 0


def device(**changes: object) -> Device:
    return Device("/dev/null", Driver(**changes))  # type: ignore[arg-type]


def test_the_buffers_have_the_kernels_sizes() -> None:
    assert (ctypes.sizeof(sev.Status), ctypes.sizeof(sev.GetId2)) == (32, 12)


def test_the_firmwares_status_is_read() -> None:
    found = device().platform_status()
    assert (found.version, found.state, found.guests, found.vlek) == ((1, 55, 21), "initialized", 3, False)
    assert (found.current_tcb, found.reported_tcb) == (b"currentT", b"reported")


@pytest.mark.parametrize(("state", "words"), [(0, "uninitialized"), (1, "initialized"), (7, "state 7")])
def test_states_have_names_where_there_are_names(state: int, words: str) -> None:
    status = bytearray(STATUS)
    status[2] = state
    assert device(status=bytes(status)).platform_status().state == words


@pytest.mark.parametrize(("features", "vlek"), [(0, False), (1, False), (2, False), (4, True), (7, True)])
def test_a_vlek_is_the_third_bit_of_the_features(features: int, vlek: bool) -> None:
    status = STATUS[:8] + struct.pack("<I", features) + STATUS[12:]
    assert device(status=status).platform_status().vlek is vlek


def test_an_id_has_64_bytes_whatever_the_chip_has() -> None:
    assert device().chip_id() == CHIP
    assert device(chip=b"turin-id").chip_id() == b"turin-id" + bytes(56)


@pytest.mark.parametrize("chip", [b"", bytes(65), bytes(8), bytes(64)])
def test_an_id_that_cannot_be_one_is_refused(chip: bytes) -> None:
    with pytest.raises(PlatformError, match="GET_ID2: expected "):
        device(chip=chip).chip_id()


@pytest.mark.parametrize(
    ("number", "firmware", "message", "hint"),
    [
        (errno.EACCES, 0, "/dev/null: GET_ID2: permission denied", "run it as root"),
        (errno.EPERM, 0, "/dev/null: GET_ID2: operation not permitted", "run it as root"),
        (
            errno.EINVAL, 0, "/dev/null: GET_ID2: invalid argument",
            "a Linux 6.11 or later host with SNP switched on knows this command",
        ),
        (errno.EIO, 0x16, "/dev/null: GET_ID2: input/output error, the firmware says 0x16", "see dmesg"),
        (errno.EIO, 0xFFFFFFFF, "/dev/null: GET_ID2: input/output error", "see dmesg"),
        (0, 5, "/dev/null: GET_ID2: the firmware says 0x5", "see dmesg"),
    ],
)  # fmt: skip
def test_a_refusal_says_whose_it_is_and_what_to_do(number: int, firmware: int, message: str, hint: str) -> None:
    with pytest.raises(PlatformError) as raised:
        device(number=number, firmware=firmware).chip_id()
    assert (raised.value.message.lower(), raised.value.hint) == (message.lower(), hint)


def test_no_device_has_a_hint_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="no such file or directory") as raised:
        Device(str(tmp_path / "sev")).platform_status()
    assert "sudo modprobe ccp" in str(raised.value.hint)


def test_what_is_no_such_device_says_so() -> None:
    with pytest.raises(PlatformError, match="/dev/null: SNP_PLATFORM_STATUS: ") as raised:
        Device("/dev/null").platform_status()
    assert raised.value.hint == "a Linux 6.11 or later host with SNP switched on knows this command"
