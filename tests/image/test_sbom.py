"""The list of packages of an image, as others' programs read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from donjon.image import building, cpio, manifest, sbom
from donjon.image import lock as locks


@pytest.fixture(scope="module")
def document() -> bytes:
    """The list of an image that has one file of each package but the one which only builds."""
    packages = locks.load().packages
    inside = [package.name for package in packages if package.use == "image"]
    entries = {f"{index}": cpio.file(b"x") for index, _ in enumerate(inside)}
    origins = {f"{index}": name for index, name in enumerate(inside)}
    files = dict.fromkeys(manifest.FILES, b"x")
    rows = [building._row(package) for package in packages]
    told = manifest.make(
        "production", "quiet", "0" * 64, files, {"base": entries}, {"base": b"x"}, {"base": b"x"}, origins, rows, []
    )
    return sbom.make(told, "a" * 64)


def found(document: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(document)
    return parsed


def test_the_tools_of_spdx_find_nothing_wrong_with_it(document: bytes, tmp_path: Path) -> None:
    file = tmp_path / "sbom.spdx.json"
    for text, valid in ((document, True), (document.replace(b"DESCRIBES", b"DESCRIBED_BY"), False)):
        file.write_bytes(text)
        command = [sys.executable, "-m", "spdx_tools.spdx.clitools.pyspdxtools", "--infile", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is valid, done.stdout + done.stderr


def test_every_package_of_the_lock_is_in_it_with_digest_and_name_for_scanners(document: bytes) -> None:
    packages = {package["name"]: package for package in found(document)["packages"]}
    for package in locks.load().packages:
        about = packages[package.name]
        assert about["checksums"] == [{"algorithm": "SHA256", "checksumValue": package.sha256}]
        assert about["versionInfo"] == package.version
        assert about["packageFileName"] == package.file
    (purl,) = packages["zlib1g"]["externalRefs"]
    assert purl["referenceLocator"] == "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=bookworm"
    (purl,) = packages["wasmtime"]["externalRefs"]
    assert purl["referenceLocator"].startswith("pkg:pypi/wasmtime@")


def test_what_only_builds_is_not_said_to_be_inside(document: bytes) -> None:
    relations = {
        (about["spdxElementId"], about["relationshipType"], about["relatedSpdxElement"])
        for about in found(document)["relationships"]
    }
    assert ("SPDXRef-deb-libzstd1", "BUILD_TOOL_OF", "SPDXRef-image-production") in relations
    assert ("SPDXRef-image-production", "CONTAINS", "SPDXRef-deb-libc6") in relations
    assert ("SPDXRef-image-production", "CONTAINS", "SPDXRef-donjon") in relations


def test_it_has_no_time_of_its_own(document: bytes) -> None:
    assert found(document)["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
