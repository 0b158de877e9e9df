"""Archives for the kernel: equal content gives equal bytes, and nothing of the machine is in them."""

from __future__ import annotations

import shutil
import stat
import subprocess

import pytest

from donjon.errors import BugError, ParseError
from donjon.image import cpio

TREE = {
    "init": cpio.file(b"#!/x\n", executable=True),
    "etc/name": cpio.file(b"abc"),
    "lib64": cpio.link("usr/lib64"),
    "dev/null": cpio.node(1, 3, 0o666),
    "tmp": cpio.directory(0o1777),
}


def test_the_order_in_which_files_come_does_not_matter() -> None:
    assert cpio.write(TREE) == cpio.write(dict(reversed(TREE.items())))


def test_what_is_written_is_read_again() -> None:
    found = {path: (entry.mode, entry.data, entry.device) for path, entry in cpio.read(cpio.write(TREE))}
    for path, entry in TREE.items():
        assert found.pop(path) == (entry.mode, entry.data, entry.device)
    assert found == {"dev": (stat.S_IFDIR | 0o755, b"", (0, 0)), "etc": (stat.S_IFDIR | 0o755, b"", (0, 0))}


def test_no_owner_time_or_device_of_a_machine_is_in_a_header() -> None:
    data = cpio.write(TREE)
    at = inode = 0
    while True:
        fields = [int(data[start : start + 8], 16) for start in range(at + 6, at + 110, 8)]
        name = data[at + 110 : at + 109 + fields[11]].decode()
        if name == cpio.TRAILER:
            break
        inode += 1
        assert fields[0] == inode
        assert fields[2:4] == [0, 0]  # owner and group
        assert fields[5] == 0  # time
        assert fields[7:9] == [0, 0]  # device
        assert fields[9:11] == ([1, 3] if name == "dev/null" else [0, 0])
        body = at + 110 + fields[11]
        body += -body % 4
        at = body + fields[6] + -fields[6] % 4
    assert inode == 7


def test_archives_in_a_row_are_read_as_one() -> None:
    both = cpio.write({"a": cpio.file(b"1")}) + bytes(8) + cpio.write({"a": cpio.file(b"2"), "b": cpio.file(b"")})
    assert [(path, entry.data) for path, entry in cpio.read(both)] == [("a", b"1"), ("a", b"2"), ("b", b"")]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio: apt-get install cpio")
def test_the_program_cpio_reads_it_too() -> None:
    done = subprocess.run(["cpio", "-it", "--quiet"], input=cpio.write(TREE), capture_output=True, check=True)
    assert done.stdout.decode().split() == ["dev", "dev/null", "etc", "etc/name", "init", "lib64", "tmp"]


@pytest.mark.parametrize("path", ["", "/etc", "a/../b", "a//b", "./a", "a\0b", "a/"])
def test_a_path_that_leads_elsewhere_is_a_mistake_of_ours(path: str) -> None:
    with pytest.raises(BugError, match="expected a path from the root"):
        cpio.write({path: cpio.file(b"")})


def test_a_file_is_no_directory() -> None:
    with pytest.raises(BugError, match=r"^a/b: a is no directory$"):
        cpio.write({"a": cpio.file(b""), "a/b": cpio.file(b"")})


def test_every_archive_that_ends_early_is_refused() -> None:
    whole = cpio.write({"etc/name": cpio.file(b"abc")}).rstrip(b"\0")
    for end in range(1, len(whole)):
        with pytest.raises(ParseError, match=r"^cpio at 0x"):
            list(cpio.read(whole[:end]))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"070702" + b"0" * 104, r"cpio at 0x0: expected a header that begins with 070701, got b'070702'"),
        (b"070701" + b"x" * 104, r"cpio at 0x0: expected hexadecimal digits"),
        (b"070701" + b"0" * 104, r"expected 0 bytes of a name"),
        (b"070701" + b"0" * 104 + bytes(2), r"expected 0 bytes of a name"),
        (b"070701" + b"F" * 104, r"the file ends early"),
    ],
)
def test_a_broken_header_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ParseError, match=text):
        list(cpio.read(data))


def test_an_archive_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "LIMIT", 511)
    with pytest.raises(ParseError, match=r"^cpio: 512 bytes, expected at most 511$"):
        list(cpio.read(cpio.write({"name": cpio.file(b"")})))


def test_a_name_that_is_no_text_is_refused() -> None:
    data = cpio.write({"name": cpio.file(b"")}).replace(b"name\0", b"n\xffme\0", 1)
    with pytest.raises(ParseError, match="expected a name in UTF-8"):
        list(cpio.read(data))
