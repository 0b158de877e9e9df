"""Packages: what is in them, and that a broken or hostile one is refused."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from donjon.errors import ParseError
from donjon.image import unpacking
from tests.image.packages import ar, deb, tar


def test_files_and_links_of_a_debian_package_are_read() -> None:
    data = deb({"usr/bin/x": b"program", "lib/y.so.1": "y.so.1.0"})
    found = [(item.path, item.data, item.mode, item.link) for item in unpacking.deb(data, "x.deb")]
    assert found == [("usr/bin/x", b"program", 0o755, ""), ("lib/y.so.1", b"", 0o777, "y.so.1.0")]


def test_files_of_a_wheel_are_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/__init__.py", "x = 1")
        archive.mkdir("b")
    assert [(item.path, item.data) for item in unpacking.wheel(out.getvalue(), "a.whl")] == [
        ("a/__init__.py", b"x = 1")
    ]


@pytest.mark.parametrize("path", ["../etc/passwd", "a/../../b", "/etc/passwd", "a\\b", "./."])
def test_a_path_out_of_the_package_is_refused(path: str) -> None:
    with pytest.raises(ParseError, match=r"^x\.deb: .* leads out of the package$"):
        list(unpacking.deb(deb({path: b""}), "x.deb"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(path, "")
    with pytest.raises(ParseError, match=r"^x\.whl: .* leads out of the package$"):
        list(unpacking.wheel(out.getvalue(), "x.whl"))


def test_a_path_that_ends_before_its_end_is_refused() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"path": "a\0b"}  # as the format's other fields cannot have it
        archive.addfile(member)
    with pytest.raises(ParseError, match=r"^x\.deb: a.*b leads out of the package$"):
        list(unpacking.deb(ar({"data.tar.xz": out.getvalue()}), "x.deb"))


def test_devices_and_hard_links_are_left_out() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"kind{kind.decode()}")
            member.type, member.linkname = kind, "elsewhere"
            archive.addfile(member)
    assert list(unpacking.deb(ar({"data.tar.xz": out.getvalue()}), "x.deb")) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "expected a Debian package, which begins with !<arch>"),
        (b"!<arch>\n", "expected a member data.tar"),
        (b"!<arch>\n" + b"x" * 60, "at 0x8: expected a member of the archive"),
        (
            ar({"data.tar.xz": b""}).replace(b"0         `\n", b"many      `\n"),
            "at 0x8: expected a member of the archive",
        ),
        (ar({"data.tar.xz": b""}).replace(b"`\n", b".."), "at 0x8: expected a member of the archive"),
        (ar({"data.tar.xz": b"nothing"}), "expected a tar archive"),
        (ar({"data.tar.xz": tar({"a": b"1"})[:60]}), "expected a tar archive"),
        (ar({"control.tar.xz": b""}), "expected a member data.tar"),
    ],
)
def test_a_package_that_is_none_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ParseError, match=text):
        list(unpacking.deb(data, "x.deb"))


def test_a_wheel_that_is_none_is_refused() -> None:
    with pytest.raises(ParseError, match=r"^x\.whl: expected a wheel: "):
        list(unpacking.wheel(b"PK nothing", "x.whl"))


def test_a_member_without_a_name_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "1")
    data = out.getvalue()
    start = data.index(b"PK\1\2")
    nameless = data[:start] + data[start : start + 28] + b"\0\0" + data[start + 30 :]
    with pytest.raises(ParseError, match=r"^x\.whl: "):
        list(unpacking.wheel(nameless, "x.whl"))


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LIMIT", 10)
    with pytest.raises(ParseError, match="expected at most 10 bytes of files"):
        list(unpacking.deb(deb({"a": b"123456", "b": b"123456"}), "x.deb"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "1" * 11)
    with pytest.raises(ParseError, match="expected at most 10 bytes of files"):
        list(unpacking.wheel(out.getvalue(), "x.whl"))


def test_every_package_that_ends_early_is_refused() -> None:
    whole = deb({"usr/bin/x": b"program"})
    for end in range(0, len(whole) - 1, 7):
        with pytest.raises(ParseError):
            list(unpacking.deb(whole[:end], "x.deb"))


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    list(unpacking.deb(deb({"usr/bin/x": b"program"}), "x.deb"))
    assert list(tmp_path.iterdir()) == []
