"""Equal sources give equal bytes, whoever builds: another user, time, place, language, hash seed, order of files."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.image import Image, building, cpio, recipe, store
from donjon.image import lock as locks
from tests import images

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
QUICK = 1  # zstd's level: what is packed matters here, not how small it gets
NOBODY = 65534
SOURCES = Path(__file__).resolve().parents[2] / "src"
CACHE = images.CACHE / "donjon" / "image"
PLAIN = "import sys; sys.path.append({source!r}); from donjon.image.packing import main; sys.exit(main())"
STRANGE = """
import os, random, sys, time
def shuffled(names):
    names = list(names)
    random.Random(7).shuffle(names)
    return names
listdir, walk = os.listdir, os.walk
os.listdir = lambda path=".": shuffled(listdir(path))
os.walk = lambda top: ((path, folders, shuffled(names)) for path, folders, names in walk(top))
time.time = lambda: 1e9
time.time_ns = lambda: 10**18
"""
"""A machine on which directories come in another order, in another year."""
BUILD = """
sys.path.append({source!r})
from donjon.image import build
print(build({variant!r}, lambda text: print(text, file=sys.stderr)).directory)
"""
ELSEWHERE = {
    "TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "ja_JP.eucJP", "PYTHONHASHSEED": "4711",
    "USER": "somebody", "SOURCE_DATE_EPOCH": "1", "PATH": "/usr/bin:/bin",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(image: Callable[[str], Image]) -> Image:
    """What `make image` builds here."""
    return image("simulated")


@pytest.fixture(scope="module")
def inputs(built: Image) -> str:
    """The unpacked packages of that build."""
    assert built.variant == "simulated"
    return building._inputs(locks.load(), str(CACHE), print)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="a strange place, ünd a long one ") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def other_sources(folder: Path) -> str:
    """A copy of our sources elsewhere: another order, another time, other permissions, other packages beside it."""
    for name in ("cffi", "cryptography", "msgspec", "wasmtime", "ssl"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("1/0\n")
    files = [path for path in (SOURCES / "donjon").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    random.Random(3).shuffle(files)
    for index, path in enumerate(files):
        copy = folder / path.relative_to(SOURCES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        os.chmod(copy, 0o755 if index % 2 else 0o444)
        os.utime(copy, (1e9 + index, 1e9 - index))
    return str(folder)


def pack(folder: Path, inputs: str, source: str, start: str, environment: dict[str, str]) -> dict[str, bytes]:
    """Run the packing stage alone, and give what it wrote."""
    for name in ("segments", "out"):
        (folder / name).mkdir(parents=True)
    lock = locks.load()
    job = {
        "variant": "simulated", "inputs": inputs, "source": source, "segments": str(folder / "segments"),
        "out": str(folder / "out"), "lock": lock.digest, "packages": [building._row(row) for row in lock.packages],
        "entry": recipe.ENTRY, "init": recipe.INIT.decode(), "level": QUICK,
    }  # fmt: skip
    words = [*building.command(inputs), "-c", start.format(source=source)]
    done = subprocess.run(
        words, input=json.dumps(job).encode(), capture_output=True, env=environment, umask=0o077, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert b'"digest"' in done.stdout.splitlines()[-1]
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def plain(inputs: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is packed here."""
    return pack(tmp_path_factory.mktemp("plain"), inputs, str(SOURCES), PLAIN, {"PATH": "/usr/bin"})


def test_another_machine_packs_the_same_bytes(inputs: str, plain: dict[str, bytes], place: Path) -> None:
    environment = {**ELSEWHERE, "HOME": "/nonexistent", "PYTHONPATH": str(place), "PYTHONHOME": str(place)}
    other = pack(place, inputs, other_sources(place / "sources"), STRANGE + PLAIN, environment)
    assert other.keys() == plain.keys()
    for name, data in plain.items():
        assert other[name] == data, name


def test_nothing_of_this_machine_is_in_what_is_packed(plain: dict[str, bytes], inputs: str) -> None:
    """No path, user or host: not in the archive, not in byte code, not in the manifest or the list of packages."""
    whole = plain["initrd.cpio"] + plain["manifest.json"] + plain["sbom.spdx.json"]
    for word in (str(SOURCES), inputs, str(CACHE), os.uname().nodename, str(Path.home()), sys.prefix):
        assert len(word) < 6 or word.encode() not in whole, word


def test_every_entry_is_as_the_format_has_it_on_every_machine(plain: dict[str, bytes]) -> None:
    whole = list(cpio.read(plain["initrd.cpio"]))
    assert len(whole) > 300
    for path, entry in whole:
        assert stat.S_IMODE(entry.mode) in (0o644, 0o755) or not stat.S_ISREG(entry.mode), path
        assert not path.endswith(".py"), path
    programs = {path for path, entry in whole if entry.mode & 0o111 and stat.S_ISREG(entry.mode)}
    assert {path for path in programs if ".so" not in path} == {"init", "usr/bin/python3.11"}  # no shell, no tools


def others() -> list[str]:
    """Other Pythons of this machine that Donjon can run on, beside the system's: at most two, the newest."""
    found: dict[str, str] = {}
    names = [shutil.which(f"python3.{minor}") or "" for minor in range(11, 16)]
    names += sorted(map(str, Path("~/.pyenv/versions").expanduser().glob("3.1[1-9].*/bin/python3")))
    for name in names:
        if os.path.exists(name) and not os.path.realpath(name).startswith("/usr/bin/"):
            asked = "import sys, lzma; assert sys.version_info >= (3, 11); print(sys.version)"
            done = subprocess.run([name, "-c", asked], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip() != sys.version:
                found.setdefault(done.stdout, name)
    return list(found.values())[-2:]


def build_elsewhere(python: str, place: Path, built: Image, user: int | None = None) -> None:
    """Build with another Python, without a network, and compare every file."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    mirror = place / "mirror"
    shutil.copytree(CACHE / "downloads", mirror)
    os.chmod(mirror, 0o755)
    if user is not None:
        for path in (home, *home.rglob("*")):
            os.chown(path, user, user)
    source = other_sources(place / "sources")
    environment = {**ELSEWHERE, "HOME": str(home), "DONJON_MIRROR": str(mirror), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-S", "-c", STRANGE + BUILD.format(source=source, variant=built.variant)], cwd="/",
        capture_output=True, text=True, env=environment, user=user, umask=0o027, check=False,
        extra_groups=None if user is None else [],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = Path(done.stdout.strip())
    assert made.parent == home / ".cache/donjon/image/images"
    assert made.name == Path(built.directory).name  # the key too is the same
    for path in made.iterdir():
        if path.name != store.SEEN:
            assert path.read_bytes() == Path(built.directory, path.name).read_bytes(), path.name
    assert {path.name for path in made.iterdir()} == {path.name for path in Path(built.directory).iterdir()}


def test_a_whole_build_by_another_user_from_nothing_gives_the_same_bytes(built: Image, place: Path) -> None:
    """With the system's Python, as nobody where this is run by root; everything is unpacked and compressed anew."""
    root = os.getuid() == 0
    system = os.path.exists("/usr/bin/python3")
    build_elsewhere("/usr/bin/python3" if system else sys.executable, place, built, NOBODY if root and system else None)


def test_builds_with_other_pythons_give_the_same_bytes(built: Image, place: Path) -> None:
    """What was compressed is at hand, and found by its content: what is unpacked and packed has to be equal."""
    for index, python in enumerate(others() or [sys.executable]):
        here = place / str(index)
        segments = here / "home/.cache/donjon/image/segments"
        segments.parent.mkdir(parents=True)
        shutil.copytree(CACHE / "segments", segments)
        count = len(list(segments.iterdir()))
        build_elsewhere(python, here, built)
        assert len(list(segments.iterdir())) == count, python
