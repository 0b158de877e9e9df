"""The lock: what a build takes from outside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from donjon.errors import ParseError, PlatformError
from donjon.image import fetching, lock

DEB = {
    "kind": "deb", "name": "libc6", "version": "2.36-9+deb12u14", "archive": "debian",
    "path": "pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb", "size": 10, "sha256": "ab" * 32, "use": "image",
}  # fmt: skip
WHEEL = {
    "kind": "wheel", "name": "cffi", "version": "2.1.1", "file": "cffi-2.1.1-cp311-cp311-manylinux2014_x86_64.whl",
    "size": 10, "sha256": "cd" * 32, "use": "build",
}  # fmt: skip


def text(*rows: object) -> bytes:
    return json.dumps({"format": 1, "snapshot": "20250102T030405Z", "packages": rows}).encode()


def test_what_it_says_is_read() -> None:
    found = lock.parse(text(DEB, WHEEL))
    assert [(p.name, p.file, p.use) for p in found.packages] == [
        ("libc6", "libc6_2.36-9+deb12u14_amd64.deb", "image"),
        ("cffi", "cffi-2.1.1-cp311-cp311-manylinux2014_x86_64.whl", "build"),
    ]
    assert found.digest == hashlib.sha256(text(DEB, WHEEL)).hexdigest()


def test_any_change_gives_another_digest() -> None:
    assert lock.parse(text(DEB)).digest != lock.parse(text({**DEB, "size": 11})).digest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**DEB, "path": "pool/main/../../etc/passwd.deb"}, r"packages\[0\]\.path: expected pool/"),
        ({**DEB, "path": "/etc/x.deb"}, r"packages\[0\]\.path"),
        ({**DEB, "archive": "elsewhere"}, r"packages\[0\]\.archive: expected debian or debian-security"),
        ({**DEB, "sha256": "ab" * 31}, r"packages\[0\]\.sha256: expected \[0-9a-f\]"),
        ({**DEB, "sha256": "AB" * 32}, r"packages\[0\]\.sha256"),
        ({**DEB, "size": 0}, r"packages\[0\]\.size: expected 1 to"),
        ({**DEB, "size": True}, r"packages\[0\]\.size: expected 1 to"),
        ({**DEB, "size": 1 << 40}, r"packages\[0\]\.size: expected 1 to"),
        ({**DEB, "name": "../x"}, r"packages\[0\]\.name"),
        ({**DEB, "name": "-o"}, r"packages\[0\]\.name"),
        ({**DEB, "name": None}, r"packages\[0\]\.name"),
        ({**DEB, "path": 1}, r"packages\[0\]\.path"),
        ({**DEB, "version": "1 2"}, r"packages\[0\]\.version"),
        ({**DEB, "use": "both"}, r"packages\[0\]\.use: expected image or build"),
        ({**DEB, "more": 1}, r"packages\[0\]: expected exactly"),
        ({**WHEEL, "file": "../x.whl"}, r"packages\[0\]\.file: expected the name of a wheel"),
        ({**WHEEL, "file": "x.tar"}, r"packages\[0\]\.file"),
        ({**WHEEL, "file": None}, r"packages\[0\]\.file"),
        ({**WHEEL, "kind": "rpm"}, r"packages\[0\]: expected a package of kind deb or wheel"),
        ([], r"packages\[0\]: expected a package"),
    ],
)
def test_a_row_that_is_out_of_form_is_refused(row: object, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        lock.parse(text(row))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[]", "expected format 1"),
        (b"1", "expected format 1"),
        (text(DEB).replace(b'"format": 1', b'"format": 2'), "expected format 1"),
        (b'{"format": 1, "packages": []}', "expected format 1 with its packages and snapshot"),
        (b'{"format": 1, "packages": [], "snapshot": "now"}', "snapshot: expected a time such as"),
        (b'{"format": 1, "packages": [], "snapshot": 20250102}', "snapshot: expected a time such as"),
        (b'{"format": 1, "packages": 1, "snapshot": "20250102T030405Z"}', "expected 1 to 200 packages"),
        (text(), "expected 1 to 200 packages"),
        (b" " * (lock.LIMIT + 1), "expected at most"),
        (text(DEB, DEB), "expected each package once"),
    ],
)
def test_another_text_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        lock.parse(data)


def test_a_lock_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"cannot read .*none\.json: no such file"):
        lock.load(str(tmp_path / "none.json"))


def test_the_one_that_is_part_of_donjon_has_all_that_an_image_needs() -> None:
    packages = lock.load().packages
    names = {package.name for package in packages}
    assert {"libc6", "python3.11-minimal", "libpython3.11-stdlib", "libssl3", "wasmtime", "cryptography"} <= names
    assert [name for name in names if name.startswith("linux-image-")]
    assert {package.archive for package in packages if package.kind == "deb"} <= set(lock.ARCHIVES)


def test_its_wheels_are_those_that_donjon_itself_is_tested_with() -> None:
    pins = (Path(__file__).resolve().parents[2] / "requirements" / "run.txt").read_text()
    for package in lock.load().packages:
        if package.kind == "wheel":
            assert f"\n{package.name}=={package.version} " in pins, f"{package} is not what requirements/run.txt pins"
            assert package.sha256 in pins


@pytest.mark.parametrize(
    "change", [lambda row: {**row, "sha256": "0" * 64}, lambda row: {**row, "size": row["size"] + 1}]
)
def test_a_lock_that_was_changed_finds_no_package(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    data = b"!<arch>\n"
    row = {**DEB, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    file = lock.parse(text(row)).packages[0].file
    (tmp_path / file).write_bytes(data)
    fetching.fetch(lock.parse(text(row)), str(tmp_path), lambda _: None)
    other = lock.parse(text(change(row)))
    assert not fetching.is_there(other.packages[0], str(tmp_path / file), lambda _: None)
