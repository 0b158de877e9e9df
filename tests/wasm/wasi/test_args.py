"""args_* and environ_*: what the guest is told at its start."""

from __future__ import annotations

import struct

import pytest

from tests.wasm.wasi.lab import FREE, SIZE, Lab

LISTS = {
    "args": [b"main.wasm\0", "ünï\0".encode()],
    "environ": [b"HOME=/\0", b"EMPTY=\0"],
}


@pytest.mark.parametrize("kind", LISTS)
def test_tells_how_many_strings_and_bytes_there_are(lab: Lab, kind: str) -> None:
    with lab.writes_only((FREE, 4), (FREE + 8, 4)):
        lab.ok(f"{kind}_sizes_get", FREE, FREE + 8)
    assert (lab.u32(FREE), lab.u32(FREE + 8)) == (2, sum(map(len, LISTS[kind])))


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("buffer", [4096, 4097, SIZE - 17], ids=["aligned", "not aligned", "at the end of memory"])
def test_writes_the_strings_and_where_they_are(lab: Lab, kind: str, buffer: int) -> None:
    whole = b"".join(LISTS[kind])
    buffer = min(buffer, SIZE - len(whole))
    with lab.writes_only((FREE, 8), (buffer, len(whole))):
        lab.ok(f"{kind}_get", FREE, buffer)
    assert struct.unpack("<II", lab.get(FREE, 8)) == (buffer, buffer + len(LISTS[kind][0]))
    assert lab.get(buffer, len(whole)) == whole


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(
    ("pointers", "buffer", "errno"),
    [
        (FREE + 2, 4096, "inval"),
        (SIZE - 4, 4096, "fault"),
        (SIZE, 4096, "fault"),
        (2**32 - 4, 4096, "fault"),
        (FREE, SIZE - 12, "fault"),
        (FREE, 2**32 - 1, "fault"),
    ],
)
def test_writes_nothing_where_there_is_no_room(lab: Lab, kind: str, pointers: int, buffer: int, errno: str) -> None:
    with lab.writes_only():
        assert lab.fails(f"{kind}_get", pointers, buffer) == errno


def test_a_guest_without_arguments_gets_none() -> None:
    lab = Lab()
    try:
        with lab.writes_only((FREE, 4), (FREE + 4, 4)):
            lab.ok("args_sizes_get", FREE, FREE + 4)
        assert (lab.u32(FREE), lab.u32(FREE + 4)) == (0, 0)
        with lab.writes_only():
            lab.ok("args_get", FREE, FREE)
    finally:
        lab.close()


def test_bytes_that_are_no_text_reach_the_guest_as_they_were() -> None:
    lab = Lab((b"\xff\x80".decode("utf-8", "surrogateescape"),))
    try:
        lab.ok("args_get", FREE, 4096)
        assert lab.get(4096, 3) == b"\xff\x80\0"
    finally:
        lab.close()
