"""The kernel file, and the order in which its modules are loaded."""

from __future__ import annotations

import struct

import pytest

from donjon.errors import ParseError
from donjon.image import kernel
from tests.image.elves import module

PACKED = b"\x28\xb5\x2f\xfd" + b"x" * 96


def bzimage(packed: bytes = PACKED, version: int = 0x20F, length: int = 100) -> bytes:
    """A setup header, three sectors of setup code, and the payload 16 bytes after that."""
    head = bytearray(4 * 512)
    head[0x1F1] = 3
    head[0x202:0x208] = b"HdrS" + struct.pack("<H", version)
    head[0x248:0x250] = struct.pack("<II", 16, length)
    return bytes(head) + bytes(16) + packed + b"rest"


def test_the_packed_kernel_is_where_the_header_says() -> None:
    assert kernel.payload(bzimage(), "vmlinuz") == PACKED


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bzimage()[:0x24F], r"^vmlinuz: expected a Linux kernel \(bzImage\)"),
        (bzimage().replace(b"HdrS", b"HdrT"), r"^vmlinuz: expected a Linux kernel \(bzImage\)"),
        (b"MZ", r"^vmlinuz: expected a Linux kernel \(bzImage\), with HdrS at 0x202$"),
        (bzimage(version=0x206), r"^vmlinuz: expected boot protocol 2\.08 or later, got 2\.06$"),
        (bzimage(b"\x1f\x8b" + bytes(98)), r"^vmlinuz: expected 100 bytes of zstd at 0x810$"),
        (bzimage(length=1 << 30), r"^vmlinuz: expected 1073741824 bytes of zstd at 0x810$"),
    ],
)
def test_another_file_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ParseError, match=text):
        kernel.payload(data, "vmlinuz")


def order(wanted: list[str], **depends: str) -> list[str]:
    files = {name: module((f"depends={value}",)) for name, value in depends.items()}
    return [name for name, _ in kernel.load_order(wanted, files.get)]


def test_a_module_comes_after_what_it_depends_on() -> None:
    assert order(["virtio_net"], virtio_net="net_failover", net_failover="failover", failover="") == [
        "failover", "net_failover", "virtio_net",
    ]  # fmt: skip


def test_what_several_depend_on_comes_once() -> None:
    found = order(["sev-guest", "tdx-guest"], sev_guest="tsm", tdx_guest="tsm", tsm="configfs", configfs="")
    assert found == ["configfs", "tsm", "sev_guest", "tdx_guest"]


def test_a_missing_module_is_told_with_who_wants_it() -> None:
    with pytest.raises(ParseError, match=r"^kernel module tsm, which sev_guest depends on: there is none"):
        order(["sev-guest"], sev_guest="tsm")
    with pytest.raises(ParseError, match=r"^kernel module nic: there is none in the package$"):
        order(["nic"])


def test_modules_that_depend_on_each_other_are_refused() -> None:
    with pytest.raises(ParseError, match=r"^kernel module b: a depends on it, and it on a$"):
        order(["a"], a="b", b="a")
