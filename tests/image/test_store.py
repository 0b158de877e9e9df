"""Images on disk: found when they are whole, refused when they are not."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import pytest

from donjon.errors import DonjonError, PlatformError, UsageError, VerifyError
from donjon.image import build, find, manifest, store
from donjon.image import lock as locks


def make(directory: Path, variant: str = "production", content: bytes = b"x") -> store.Image:
    """A directory as a build makes it, with files of a few bytes."""
    directory.mkdir(parents=True)
    files = {name: content + name.encode() for name in manifest.FILES}
    told = manifest.make(variant, "quiet", "0" * 64, files, {}, {}, {}, {}, [], [])
    for name, data in files.items():
        (directory / name).write_bytes(data)
    (directory / "manifest.json").write_bytes(manifest.canonical(told))
    (directory / "sbom.spdx.json").write_bytes(b"{}")
    return store.Image(str(directory), told, hashlib.sha256(manifest.canonical(told)).hexdigest())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DONJON_IMAGE", raising=False)
    return tmp_path


def built(variant: str = "production") -> Path:
    """Where an image of these sources is."""
    return Path(store.image_folder(variant, locks.load()))


def test_an_image_that_was_built_is_found(home: Path) -> None:
    made = make(built())
    found = find()
    assert (found.variant, found.cmdline, found.digest) == ("production", "quiet", made.digest)
    for path in (found.kernel, found.vmlinux, found.initrd, found.initrd_raw, found.sbom):
        assert os.path.isfile(path)
        assert path.startswith(str(home / "cache" / "donjon" / "image" / "images" / "production-"))


@pytest.mark.parametrize("what", ["another's", "everybody's"])
def test_a_cache_that_another_user_may_have_filled_is_refused(
    home: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    make(built())
    cache = home / "cache" / "donjon" / "image"
    if what == "everybody's":
        cache.chmod(0o777)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    for use in (find, build):
        with pytest.raises(PlatformError) as caught:
            use()
        assert caught.value.message.startswith(f"cannot use {cache}: expected a directory of this user's")


def test_without_one_the_command_that_makes_it_is_told(home: Path) -> None:
    with pytest.raises(PlatformError, match=r"^no image in .*/production-[0-9a-f]{32}$") as caught:
        find()
    assert caught.value.hint == "`donjon image build` makes it, once for each version of Donjon"
    with pytest.raises(PlatformError) as caught:
        find("debug")
    assert caught.value.hint == "`donjon image build --variant debug` makes it, once for each version of Donjon"


def test_an_unknown_variant_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match=r"^image variant tiny: expected one of production, debug, simulated$"):
        find("tiny")


def test_another_directory_can_be_used_instead(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(home / "mine", "debug")
    monkeypatch.setenv("DONJON_IMAGE", str(home / "mine"))
    assert find("debug").digest == made.digest
    with pytest.raises(UsageError, match=r"^DONJON_IMAGE: expected an image of the variant production, got debug$"):
        find()
    monkeypatch.setenv("DONJON_IMAGE", str(home / "none"))
    with pytest.raises(PlatformError, match=r"^no image in .*/none$"):
        find()


@pytest.mark.parametrize("name", manifest.FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone"])
def test_a_damaged_file_is_refused_with_what_to_do(home: Path, name: str, damage: str) -> None:
    made = make(built())
    find()
    path = Path(made.directory) / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flip": whole[:-1] + b"!", "cut": whole[:-1], "longer": whole + b"!"}[damage])
    with pytest.raises(VerifyError, match=rf"^the image is damaged: {name}[ :]") as caught:
        find()
    assert caught.value.hint == f"remove {made.directory}, then `donjon image build` makes it again"


def test_damage_that_keeps_size_and_time_is_seen_by_a_check(home: Path) -> None:
    find_me = make(built())
    found = find()
    path = Path(find_me.directory) / "vmlinux"
    status = path.stat()
    path.write_bytes(b"y" + path.read_bytes()[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert find().digest == found.digest
    with pytest.raises(VerifyError, match=r"^the image is damaged: vmlinux: expected 8 bytes, SHA-256 "):
        store.check(found)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_what_is_measured_is_compared_when_it_is_read(home: Path, damage: str) -> None:
    made = make(built())
    path = Path(made.directory) / "initrd.zst"
    whole = path.read_bytes()
    assert store.read(made, "initrd.zst") == whole
    path.write_bytes(whole[:-1] + b"!" if damage == "flip" else whole[:-1])
    with pytest.raises(
        VerifyError, match=rf"^the image is damaged: initrd\.zst: expected {len(whole)} bytes, SHA-256 "
    ):
        store.read(made, "initrd.zst")


def test_files_are_read_once_and_again_when_they_were_touched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(built())
    checks: list[str] = []
    real = store.check

    def check(image: store.Image) -> None:
        checks.append(image.directory)
        real(image)

    monkeypatch.setattr(store, "check", check)
    find()
    find()
    assert len(checks) == 1
    os.utime(Path(made.directory) / "bzImage", (1, 1))
    find()
    find()
    assert len(checks) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected JSON"),
        (b"[" * 50_000, "expected JSON"),
        (b"{}", "expected a manifest of format 1"),
        (b" " * (manifest.LIMIT + 1), "expected at most"),
        (b'{"format": 1}', "expected variant, a text"),
        (b'{"format": 1, "variant": "x", "cmdline": "", "lock": ""}', "expected a variant of production, debug"),
        (b'{"format": 1, "variant": "debug", "cmdline": "a\\nb", "lock": ""}', "expected cmdline to be one line"),
        (b'{"format": 1, "variant": "debug", "cmdline": "", "lock": "", "files": {}}', "expected files bzImage"),
    ],
)
def test_a_manifest_that_is_none_is_damage(home: Path, text: bytes, message: str) -> None:
    made = make(built())
    (Path(made.directory) / "manifest.json").write_bytes(text)
    with pytest.raises(VerifyError, match=rf"^the image is damaged: .*manifest\.json: {message}"):
        find()


@pytest.mark.parametrize("key", ["size", "sha256"])
def test_a_manifest_whose_files_lack_something_is_damage(home: Path, key: str) -> None:
    made = make(built())
    path = Path(made.directory) / "manifest.json"
    told = json.loads(path.read_bytes())
    del told["files"]["vmlinux"][key]
    path.write_text(json.dumps(told))
    with pytest.raises(VerifyError, match=r"files\.vmlinux: expected size and sha256$"):
        find()


@pytest.mark.parametrize(
    ("key", "row"), [("segments", {"name": "base"}), ("packages", {}), ("purposes", {"purpose": "x", "raw": True})]
)
def test_a_manifest_whose_lists_cannot_be_shown_is_damage(home: Path, key: str, row: dict[str, object]) -> None:
    made = make(built())
    path = Path(made.directory) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: [row]}))
    with pytest.raises(VerifyError, match=rf"expected {key}, a list of objects with "):
        find()


def test_other_sources_give_another_name(tmp_path: Path) -> None:
    (tmp_path / "donjon" / "keep").mkdir(parents=True)
    (tmp_path / "donjon" / "cli").mkdir()
    file = tmp_path / "donjon" / "keep" / "nil.py"
    file.write_text("a = 1\n")
    lock = locks.load()
    first = store.key(lock, "production", str(tmp_path))
    os.utime(file, (1, 1))
    (tmp_path / "donjon" / "cli" / "run.py").write_text("never inside\n")
    (tmp_path / "donjon" / "keep" / "notes.txt").write_text("nor this\n")
    assert store.key(lock, "production", str(tmp_path)) == first
    assert store.key(lock, "debug", str(tmp_path)) != first
    file.write_text("a = 2\n")
    assert store.key(lock, "production", str(tmp_path)) != first


def test_the_directory_s_own_place_does_not_matter_to_the_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "donjon").mkdir(parents=True)
        (tmp_path / name / "donjon" / "log.py").write_text("a = 1\n")
    lock = locks.load()
    assert store.key(lock, "debug", str(tmp_path / "one")) == store.key(lock, "debug", str(tmp_path / "two"))


def test_publishing_gives_a_directory_its_name(tmp_path: Path) -> None:
    draft = make(tmp_path / "draft")
    published = store.publish(draft.directory, str(tmp_path / "image"))
    assert published.directory == str(tmp_path / "image")
    assert sorted(os.listdir(tmp_path)) == ["image"]


def test_whoever_is_later_takes_what_is_there(tmp_path: Path) -> None:
    store.publish(make(tmp_path / "one").directory, str(tmp_path / "image"))
    inode = (tmp_path / "image").stat().st_ino
    store.publish(make(tmp_path / "two").directory, str(tmp_path / "image"))
    assert (tmp_path / "image").stat().st_ino == inode
    assert os.listdir(tmp_path) == ["image"]


def test_a_damaged_image_is_replaced(tmp_path: Path) -> None:
    store.publish(make(tmp_path / "one").directory, str(tmp_path / "image"))
    (tmp_path / "image" / "vmlinux").write_bytes(b"")
    store.check(store.publish(make(tmp_path / "two").directory, str(tmp_path / "image")))
    assert os.listdir(tmp_path) == ["image"]


def test_another_image_is_replaced(tmp_path: Path) -> None:
    store.publish(make(tmp_path / "one", content=b"old").directory, str(tmp_path / "image"))
    new = make(tmp_path / "two", content=b"new")
    assert store.publish(new.directory, str(tmp_path / "image")).digest == new.digest
    assert os.listdir(tmp_path) == ["image"]


@pytest.mark.parametrize("is_image", [False, True])
def test_files_of_others_are_never_removed(tmp_path: Path, is_image: bool) -> None:
    if is_image:
        make(tmp_path / "image", content=b"old")
    else:
        (tmp_path / "image").mkdir()
    (tmp_path / "image" / "thesis.txt").write_text("years of work")
    with pytest.raises(DonjonError):
        store.publish(make(tmp_path / "draft").directory, str(tmp_path / "image"))
    assert (tmp_path / "image" / "thesis.txt").read_text() == "years of work"


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(PlatformError, match=r"^no place for images: this user has no home directory$"):
        store.folder()
