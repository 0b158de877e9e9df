"""From packages to an image: what is damaged on the way is found and made again, and nothing half made is taken."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import pytest

from donjon.errors import BugError, ParseError, PlatformError, UsageError
from donjon.image import build, building, fetching, recipe
from donjon.image.lock import Lock, Package
from donjon.image.unpacking import Item
from tests.image.elves import module
from tests.image.packages import deb

LIBRARY = "lib/x86_64-linux-gnu"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """Two packages, in a mirror: a library with links, and a kernel with the modules that are wanted."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("DONJON_MIRROR", str(mirror))
    wanted = {f"lib/modules/6/kernel/{name}.ko.xz": _xz(module(("depends=",))) for name in recipe.KERNEL_MODULES}
    contents = {
        "libc6": deb(
            {
                f"./{LIBRARY}/libc.so.6.1": b"library", f"./{LIBRARY}/libc.so.6": "libc.so.6.1",
                f"./{LIBRARY}/out": "/etc/passwd", f"./{LIBRARY}/around": "around", "./usr/bin/tool": b"not taken",
            }
        ),
        "linux-image-6-cloud-amd64": deb({"./boot/vmlinuz-6": b"kernel", **wanted}),
    }  # fmt: skip
    packages = []
    for name, data in contents.items():
        (mirror / f"{name}.deb").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        packages.append(Package("deb", name, "1", f"{name}.deb", len(data), digest, archive="debian", path="pool/x"))
    return Lock(tuple(packages), "0" * 64, "20250102T030405Z")


def _xz(data: bytes) -> bytes:
    import lzma

    return lzma.compress(data)


@pytest.fixture
def cache(tmp_path: Path) -> str:
    (tmp_path / "cache" / "inputs").mkdir(parents=True)
    return str(tmp_path / "cache")


def nothing(_: str) -> None:
    pass


def content(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_what_the_recipe_takes_is_unpacked_and_links_become_files(lock: Lock, cache: str) -> None:
    found = content(building._inputs(lock, cache, nothing))
    known = json.loads(found.pop("files.json"))
    assert found.pop("kernel/vmlinuz") == b"kernel"
    assert found.pop(f"root/{LIBRARY}/libc.so.6.1") == b"library"
    assert found.pop(f"root/{LIBRARY}/libc.so.6") == b"library"
    names = {name.replace("-", "_") for name in recipe.KERNEL_MODULES}
    assert set(found) == {f"kernel/modules/{name}.ko" for name in names}  # no tool, and no link that leads out
    assert known[f"root/{LIBRARY}/libc.so.6"] == ["libc6", hashlib.sha256(b"library").hexdigest()]


def test_what_was_unpacked_is_used_again(lock: Lock, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = building._inputs(lock, cache, nothing)
    monkeypatch.delenv("DONJON_MIRROR")
    said: list[str] = []
    assert building._inputs(lock, cache, said.append) == folder
    assert said == []


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "list", "no list"])
def test_what_was_unpacked_and_is_damaged_is_unpacked_again(lock: Lock, cache: str, damage: str) -> None:
    folder = building._inputs(lock, cache, nothing)
    before = content(folder)
    library = Path(folder, "root", LIBRARY, "libc.so.6")
    if damage == "gone":
        library.unlink()
    elif damage == "list":
        Path(folder, "files.json").write_bytes(b"{" * 9)
    elif damage == "no list":
        Path(folder, "files.json").write_bytes(b"[1]")
    else:
        library.write_bytes(b"librarz" if damage == "flip" else b"")
    said: list[str] = []
    assert building._inputs(lock, cache, said.append) == folder
    assert said[0] == "what was unpacked is damaged: it is unpacked again"
    assert content(folder) == before


def test_a_download_that_changes_before_it_is_unpacked_is_refused(
    lock: Lock, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fetching.fetch

    def fetch(lock: Lock, folder: str, say: fetching.Say) -> dict[str, str]:
        found = real(lock, folder, say)
        Path(found["libc6.deb"]).write_bytes(deb({f"./{LIBRARY}/libc.so.6": b"another"}))
        return found

    monkeypatch.setattr(fetching, "fetch", fetch)
    with pytest.raises(ParseError, match=r"libc6\.deb: expected SHA-256 "):
        building._inputs(lock, cache, nothing)
    assert os.listdir(f"{cache}/inputs") == []


def test_a_file_beyond_a_link_of_its_package_is_refused(tmp_path: Path, cache: str) -> None:
    draft, outside = tmp_path / "draft", tmp_path / "outside"
    draft.mkdir()
    outside.mkdir()
    known: dict[str, tuple[str, str]] = {}
    building._place(str(draft), Item("root/lib", b"", 0o777, str(outside)), "evil", known)
    with pytest.raises(ParseError, match=r"^evil: root/lib/x/file lies beyond a link$"):
        building._place(str(draft), Item("root/lib/x/file", b"x", 0o644), "evil", known)
    assert not list(outside.iterdir())


def test_a_kernel_without_a_module_that_is_needed_is_told(
    lock: Lock, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "KERNEL_MODULES", (*recipe.KERNEL_MODULES, "warp-drive"))
    with pytest.raises(ParseError, match=r"^kernel module warp_drive: there is none in the package$"):
        building._inputs(lock, cache, nothing)
    assert os.listdir(f"{cache}/inputs") == []


def interpreter(tmp_path: Path, script: str) -> list[str]:
    """A program that takes the job and does what the script says."""
    path = tmp_path / "interpreter"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


JOB = {"source": "/", "inputs": "/cache/inputs/0/root"}


def test_steps_are_told_and_the_end_is_seen(tmp_path: Path) -> None:
    said: list[str] = []
    script = (
        """cat >/dev/null; echo '{"step": "compressing base", "bytes": 56900000}'; echo noise; echo '{"digest": "0"}'"""
    )
    building.run_packing(interpreter(tmp_path, script), JOB, said.append)
    assert said == ["compressing base (56.9 MB; once, then it is kept)"]


@pytest.mark.parametrize(
    ("script", "family", "message"),
    [
        ("""echo '{"error": "bad", "hint": "do", "family": "ParseError"}'; exit 1""", ParseError, "^bad$"),
        ("""echo '{"error": "full", "hint": null, "family": "PlatformError"}'; exit 1""", PlatformError, "^full$"),
        ("""echo '{"error": "odd", "hint": null, "family": "Exception"}'; exit 1""", BugError, "^odd$"),
        ("echo Illegal instruction >&2; exit 132", PlatformError, "interpreter ended with 132: Illegal instruction$"),
        ("kill -9 $$", PlatformError, "interpreter ended with -9: it said nothing$"),
        ("exit 0", PlatformError, "interpreter ended with 0: it said nothing$"),
    ],
)
def test_how_it_failed_is_told(tmp_path: Path, script: str, family: type[Exception], message: str) -> None:
    with pytest.raises(family, match=message):
        building.run_packing(interpreter(tmp_path, script), JOB, nothing)


def test_what_a_killed_build_left_is_swept_and_the_newest_are_kept(cache: str) -> None:
    for index in range(5):
        for name in (
            f"images/production-{index}",
            f"images/debug-{index}",
            "images/production-9.x.new",
            "inputs/a.new",
        ):
            Path(cache, name).mkdir(parents=True, exist_ok=True)
            os.utime(Path(cache, name), (index, index))
    Path(cache, "segments").mkdir()
    Path(cache, "segments", "x.zst.7.new").write_bytes(b"half")
    building._sweep(cache)
    assert sorted(os.listdir(f"{cache}/images")) == ["debug-3", "debug-4", "production-3", "production-4"]
    assert os.listdir(f"{cache}/segments") == []
    assert os.listdir(f"{cache}/inputs") == []


def test_an_unknown_variant_and_another_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^image variant tiny: expected one of production, debug, simulated$"):
        build("tiny")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(PlatformError, match=r"^cannot build an image on Linux aarch64: expected Linux on x86-64$"):
        build()


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PlatformError, match=r"^cannot write .*: not a directory$"):
        build()
