"""path_*: every function by itself, and that no path leaves the directory where it starts.

The tree of these tests has two sides: `inside`, which the guest gets, and `outside` with a secret. Whatever a test
does, `outside` must be as before when it ends, and no host descriptor may be left open.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from donjon.wasm.wasi.descriptors.stdio import Null
from donjon.wasm.wasi.descriptors.walk import MOST_LINKS, Walk
from donjon.wasm.wasi.p1.errno import BY_HOST, WasiError
from donjon.wasm.wasi.p1.rights import ALL, DIRECTORY, FILE, Rights
from tests.wasm.wasi.files import (
    APPEND,
    BUFFER,
    CREAT,
    EXCL,
    FOLLOW,
    OTHERS,
    READ,
    RESULT,
    TRUNC,
    WRITE,
    Files,
    Refused,
    host_descriptors,
    snapshot,
)
from tests.wasm.wasi.files import (
    DIRECTORY as O_DIRECTORY,
)
from tests.wasm.wasi.lab import Lab, error_name
from tests.wasm.wasi.witx import ERRNO

BOTH = OTHERS | READ | WRITE
SECRET = b"the secret"


class World:
    """A guest with descriptor `top` for `inside`, and what lies around it.

    The tree: inside/{file, empty/, folder/{inner, deep/}}, outside/{secret, folder/inner}.
    """

    def __init__(self, lab: Lab, base: Path) -> None:
        self.files = Files(lab)
        self.lab = lab
        self.base = base
        self.inside, self.outside = base / "inside", base / "outside"
        for folder in ("inside/empty", "inside/folder/deep", "outside/folder"):
            (base / folder).mkdir(parents=True)
        (self.inside / "file").write_bytes(b"file")
        (self.inside / "folder/inner").write_bytes(b"inner")
        (self.outside / "secret").write_bytes(SECRET)
        (self.outside / "folder/inner").write_bytes(SECRET)
        self.top = self.files.preopen(self.inside)
        self.before = snapshot(self.outside)

    def link(self, name: str, target: str | Path) -> None:
        """Make a symbolic link inside, as the host."""
        (self.inside / name).symlink_to(target)

    def errno(self, name: str, *values: int | str | bytes) -> str:
        return self.files.errno(name, *values)

    def open(self, path: str | bytes, *args: int, **words: int) -> int:
        return self.files.open(self.top, path, *args, **words)

    def open_errno(self, path: str | bytes, *args: int, **words: int) -> str:
        """The errno of path_open, "success" too; what was opened is closed."""
        try:
            self.files.close(self.open(path, *args, **words))
        except Refused as refused:
            return refused.errno
        return "success"

    def check(self) -> None:
        assert snapshot(self.outside) == self.before, "something outside changed"


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    before = host_descriptors()
    made = World(lab, tmp_path)
    yield made
    made.check()
    lab.guest.close()
    assert host_descriptors() == before, "a host descriptor was left open, or one too many closed"


ON_PATHS: dict[str, Callable[[World, str], str]] = {
    "create_directory": lambda w, path: w.errno("path_create_directory", w.top, path),
    "filestat_get": lambda w, path: w.errno("path_filestat_get", w.top, FOLLOW, path, RESULT),
    "filestat_get of a link": lambda w, path: w.errno("path_filestat_get", w.top, 0, path, RESULT),
    "filestat_set_times": lambda w, path: w.errno("path_filestat_set_times", w.top, FOLLOW, path, 1, 1, 5),
    "link from": lambda w, path: w.errno("path_link", w.top, FOLLOW, path, w.top, "linked"),
    "link to": lambda w, path: w.errno("path_link", w.top, 0, "file", w.top, path),
    "open": lambda w, path: w.open_errno(path),
    "open to write": lambda w, path: w.open_errno(path, BOTH),
    "open and make": lambda w, path: w.open_errno(path, BOTH, CREAT),
    "open and make anew": lambda w, path: w.open_errno(path, BOTH, CREAT | EXCL),
    "open and cut": lambda w, path: w.open_errno(path, BOTH, TRUNC),
    "open a directory": lambda w, path: w.open_errno(path, oflags=O_DIRECTORY),
    "readlink": lambda w, path: w.errno("path_readlink", w.top, path, BUFFER, 1000, RESULT),
    "remove_directory": lambda w, path: w.errno("path_remove_directory", w.top, path),
    "rename from": lambda w, path: w.errno("path_rename", w.top, path, w.top, "renamed"),
    "rename to": lambda w, path: w.errno("path_rename", w.top, "file", w.top, path),
    "symlink": lambda w, path: w.errno("path_symlink", "file", w.top, path),
    "unlink_file": lambda w, path: w.errno("path_unlink_file", w.top, path),
}
FOLLOWING = (
    "filestat_get",
    "filestat_set_times",
    "link from",
    "open",
    "open to write",
    "open and make",
    "open and cut",
    "open a directory",
)
"""Those that go through a link that is the last component."""


# ---- nothing gets out

ESCAPES = {
    "absolute": "/",
    "absolute to a file": "/etc/passwd",
    "absolute with two slashes": "//etc/passwd",
    "absolute to inside": "{inside}/file",
    "the parent": "..",
    "the parent with a slash": "../",
    "the parent's file": "../outside/secret",
    "the parent after a dot": "./../outside/secret",
    "the parent after slashes": ".//.//../outside/secret",
    "down and up too often": "folder/deep/../../../outside/secret",
    "up through the parent back inside": "../inside/file",
    "far up": "../../../../../../../../etc/passwd",
    "through a link to outside": "to-outside/secret",
    "through a link to the parent": "to-parent/outside/secret",
    "through a chain of links": "chain1/secret",
    "through an absolute link": "absolute/secret",
    "through an absolute link to inside": "absolute-inside/inner",
    "through a link to the root": "root/etc/passwd",
    "up behind a link": "to-deep/../../../outside/secret",
    "up behind a link, and down": "folder/to-empty/../../outside/secret",
    "through a link in a folder": "folder/up2/outside/secret",
    "through a link with a slash after it": "to-outside/",
}


def with_links(world: World) -> None:
    world.link("to-outside", "../outside")
    world.link("to-secret", "../outside/secret")
    world.link("to-parent", "..")
    world.link("chain1", "chain2")
    world.link("chain2", "folder/chain3")
    world.link("folder/chain3", "../chain4")
    world.link("chain4", "../outside")
    world.link("absolute", world.outside)
    world.link("absolute-inside", world.inside / "folder")
    world.link("root", "/")
    world.link("to-deep", "folder/deep")
    world.link("folder/to-empty", "../empty")
    world.link("folder/up2", "../..")
    world.link("proc", "/proc/self/root")


@pytest.mark.parametrize("path", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("function", ON_PATHS)
def test_no_path_leaves_the_directory(world: World, function: str, path: str) -> None:
    with_links(world)
    before = snapshot(world.inside)
    path = path.format(inside=world.inside)
    found = ON_PATHS[function](world, path)
    # A link with a slash after it is looked through only where the path names something that is there; where a name is
    # made or removed it is the link itself.
    if path == "to-outside/" and function not in FOLLOWING and not function.startswith(("filestat", "readlink")):
        assert found in ("exist", "notdir", "isdir")
    else:
        assert found == ("isdir" if path == "to-outside/" and "make" in function else "notcapable")
    assert snapshot(world.inside) == before


@pytest.mark.parametrize(
    "link", ["to-outside", "to-secret", "to-parent", "chain1", "absolute", "absolute-inside", "root", "proc"]
)
@pytest.mark.parametrize("function", FOLLOWING)
def test_no_link_at_the_end_leads_out(world: World, function: str, link: str) -> None:
    with_links(world)
    assert ON_PATHS[function](world, link) == "notcapable"


@pytest.mark.parametrize("link", ["to-outside", "to-secret", "absolute"])
def test_a_link_that_leads_out_is_itself_inside(world: World, link: str) -> None:
    with_links(world)
    assert world.files.stat(world.top, link, 0)["filetype"] == 7
    assert world.files.readlink(world.top, link)
    world.files.do("path_filestat_set_times", world.top, 0, link, 1, 2, 5)
    assert (world.inside / link).lstat().st_mtime_ns == 2
    world.files.do("path_link", world.top, 0, link, world.top, "second")
    assert (world.inside / "second").is_symlink()
    world.files.do("path_rename", world.top, link, world.top, "third")
    world.files.do("path_unlink_file", world.top, "third")
    assert world.open_errno("second", follow=0) == "loop"
    assert world.errno("path_remove_directory", world.top, "second") == "notdir"


def test_a_directory_that_the_guest_opened_is_not_left_either(world: World) -> None:
    world.link("folder/up", "..")
    folder = world.open("folder")
    for path in ("..", "../file", "../folder/inner", "deep/../../file", "up", "up/file"):
        with pytest.raises(Refused, match="notcapable"):
            world.files.open(folder, path)
        assert world.errno("path_create_directory", folder, path + "/new") == "notcapable"
    assert world.files.content(folder, "deep/../inner") == b"inner"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_the_kernels_own_links_are_not_followed(world: World) -> None:
    proc = world.files.preopen(Path("/proc/self"))
    secret = os.open(world.outside / "secret", os.O_RDONLY)
    outside = os.open(world.outside, os.O_RDONLY)
    try:
        for path in ("root", "root/etc/passwd", "cwd", "exe", f"fd/{secret}", f"fd/{outside}/secret", f"fd/{outside}"):
            with pytest.raises(Refused, match="notcapable"):
                world.files.open(proc, path)
            assert world.errno("path_filestat_get", proc, FOLLOW, path, RESULT) == "notcapable"
        pipe = os.pipe()
        with pytest.raises(Refused, match="noent"):  # its text is "pipe:[number]"
            world.files.open(proc, f"fd/{pipe[0]}")
        os.close(pipe[0])
        os.close(pipe[1])
    finally:
        os.close(secret)
        os.close(outside)


def test_a_hard_link_to_outside_is_inside_as_the_host_wished(world: World) -> None:
    # Nobody can tell the two names of a file apart; so it must not be possible for the guest to make such a link.
    os.link(world.outside / "secret", world.inside / "hard")
    assert world.files.content(world.top, "hard") == SECRET
    (world.inside / "hard").unlink()
    with_links(world)
    for path in ("../outside/secret", "to-outside/secret", "to-secret", str(world.outside / "secret")):
        assert world.errno("path_link", world.top, FOLLOW, path, world.top, "hard") == "notcapable"
    assert not (world.inside / "hard").exists()
    world.before = snapshot(world.outside)  # making and removing the link changed the number of names for a while


@pytest.mark.parametrize("target", ["/", "/etc/passwd", "//x", "/."])
def test_a_guest_cannot_make_an_absolute_link(world: World, target: str) -> None:
    assert world.errno("path_symlink", target, world.top, "link") == "notcapable"
    assert not (world.inside / "link").is_symlink()


@pytest.mark.parametrize("target", ["..", "../outside", "folder/../../outside/secret"])
def test_a_link_that_a_guest_makes_leads_nowhere_outside(world: World, target: str) -> None:
    world.files.do("path_symlink", target, world.top, "link")
    for function in FOLLOWING:
        assert ON_PATHS[function](world, "link") == "notcapable"


def test_a_directory_moved_away_while_open_gives_no_way_up(world: World) -> None:
    folder = world.open("folder")
    os.rename(world.inside / "folder", world.base / "moved")
    for path in ("..", "../outside/secret", "deep/../../outside/secret"):
        with pytest.raises(Refused, match="notcapable"):
            world.files.open(folder, path)
    assert world.files.content(folder, "inner") == b"inner"
    assert world.open_errno("folder/inner") == "noent"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("folder/deep/../../file", b"file"),  # back along the descriptors that are held
        ("folder/deep/../../outside/secret", "noent"),
        ("folder/deep/../../../outside/secret", "notcapable"),
        ("folder/deep/up", "noent"),  # back by a link's "..": the way starts anew, and is not there any more
    ],
)
def test_a_directory_moved_away_during_a_walk_gives_no_way_up(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, expected: bytes | str
) -> None:
    world.link("folder/deep/up", "../../outside/secret")
    real = os.open

    def moving(name: bytes, *args: int, **words: int) -> int:
        opened = real(name, *args, **words)
        if name == b"deep":
            os.rename(world.inside / "folder", world.base / "moved")
        return opened

    monkeypatch.setattr(os, "open", moving)
    if isinstance(expected, bytes):
        assert world.files.content(world.top, path) == expected
    else:
        assert world.open_errno(path) == expected
    assert (world.base / "moved").exists()


SWAPPER = """
import os, sys, time
os.chdir(sys.argv[1])
os.symlink("../outside", "evil")
end = time.monotonic() + float(sys.argv[2])
print("go", flush=True)
while time.monotonic() < end:
    os.rename("swap", "real"); os.rename("evil", "swap")
    os.rename("swap", "evil"); os.rename("real", "swap")
"""


@pytest.mark.parametrize("path", ["swap/{}", "swap/../swap/{}", "a/../swap/b/../{}", "to-swap/{}", "a/b/../../swap/{}"])
def test_a_process_that_swaps_directory_and_link_does_not_get_us_out(world: World, path: str) -> None:
    for folder in ("swap/b", "a/b"):
        (world.inside / folder).mkdir(parents=True)
    (world.outside / "b").mkdir()
    world.before = snapshot(world.outside)
    world.link("to-swap", "swap")
    (world.inside / "swap/secret").write_bytes(b"harmless")
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, str(world.inside), "0.4"], stdout=subprocess.PIPE)
    assert swapper.stdout is not None
    swapper.stdout.readline()
    seen: dict[str, int] = {}
    rounds = 0
    while swapper.poll() is None:
        rounds += 1
        try:
            content = world.files.content(world.top, path.format("secret"))
            assert content == b"harmless"
            errno_ = "success"
        except Refused as refused:
            errno_ = refused.errno
        seen[errno_] = seen.get(errno_, 0) + 1
        world.open_errno(path.format("made"), BOTH, CREAT)
        world.errno("path_create_directory", world.top, path.format("folder-made"))
        world.errno("path_rename", world.top, "file", world.top, path.format("moved"))
        world.errno("path_rename", world.top, path.format("moved"), world.top, "file")
        world.errno("path_symlink", "x", world.top, path.format("linked"))
        world.errno("path_filestat_set_times", world.top, FOLLOW, path.format("secret"), 1, 1, 5)
        world.errno("path_link", world.top, FOLLOW, path.format("secret"), world.top, f"taken{rounds}")
        if rounds % 3 == 0:
            world.errno("path_unlink_file", world.top, path.format("linked"))
            world.errno("path_remove_directory", world.top, path.format("folder-made"))
    swapper.stdout.close()
    world.check()
    for taken in world.inside.glob("taken*"):
        assert taken.read_bytes() == b"harmless"
    assert set(seen) <= {"success", "notcapable", "noent", "notdir", "loop"}


def test_a_process_that_swaps_file_and_link_does_not_get_us_out(world: World) -> None:
    (world.inside / "swap").write_bytes(b"harmless")
    code = SWAPPER.replace('"../outside"', '"../outside/secret"')
    swapper = subprocess.Popen([sys.executable, "-c", code, str(world.inside), "0.4"], stdout=subprocess.PIPE)
    assert swapper.stdout is not None
    swapper.stdout.readline()
    while swapper.poll() is None:
        for follow in (0, FOLLOW):
            with contextlib.suppress(Refused):
                fd = world.open("swap", BOTH, CREAT, follow=follow)
                assert world.files.read(fd) in (b"harmless", b"")
                world.files.close(fd)
            world.open_errno("swap", BOTH, TRUNC, follow=follow)
            world.errno("path_filestat_set_times", world.top, follow, "swap", 1, 1, 5)
            world.errno("path_link", world.top, follow, "swap", world.top, "taken")
    swapper.stdout.close()
    world.check()


# ---- the way

WAYS = {
    "one name": "file",
    "a dot": "./file",
    "slashes": "folder///deep/..//../file",
    "up and down": "folder/../empty/../folder/deep/../../file",
    "a dot at the end of each": "./folder/./deep/./.././../file",
    "a link": "to-file",
    "a link to a link": "to-link",
    "through a link": "to-folder/../file",
    "a link that goes up": "folder/up/file",
    "a link that goes up from deep": "folder/deep/far-up/to-folder/up/file",
    "through a link to itself": "dot/dot/dot/file",
}


@pytest.mark.parametrize("path", WAYS.values(), ids=WAYS)
def test_finds_the_way_to_a_file(world: World, path: str) -> None:
    world.link("to-file", "file")
    world.link("to-link", "folder/../to-file")
    world.link("to-folder", "./folder/")
    world.link("folder/up", "..")
    world.link("folder/deep/far-up", "../../folder/..")
    world.link("dot", ".")
    expected = (world.inside / "file").stat().st_ino
    assert world.files.stat(world.top, path)["ino"] == expected
    assert world.files.content(world.top, path) == b"file"


PLACES = {
    ".": ".",
    "./": ".",
    "folder/..": ".",
    "folder/../": ".",
    "folder/deep/../..": ".",
    "folder/.": "folder",
    "folder/deep/..": "folder",
    "folder/": "folder",
    "empty//": "empty",
    "folder/up": ".",
    "folder/up/": ".",
    "folder/up/.": ".",
    "folder/deep/back": "folder",
    "folder/deep/back/": "folder",
}


@pytest.mark.parametrize("path", PLACES)
def test_finds_the_way_to_a_directory(world: World, path: str) -> None:
    world.link("folder/up", "..")
    world.link("folder/deep/back", "..")
    expected = (world.inside / PLACES[path]).stat().st_ino
    assert world.files.stat(world.top, path)["ino"] == expected
    fd = world.open(path, oflags=O_DIRECTORY)
    assert world.files.fstat(fd)["ino"] == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "noent"),
        ("missing", "noent"),
        ("missing/file", "noent"),
        ("missing/../file", "noent"),
        ("file/x", "notdir"),
        ("file/", "notdir"),
        ("file/.", "notdir"),
        ("file/..", "notdir"),
        ("folder/inner/../inner", "notdir"),
        ("to-file/", "notdir"),
        ("to-file/x", "notdir"),
        ("dangling", "noent"),
        ("dangling/x", "noent"),
        ("loop", "loop"),
        ("loop/x", "loop"),
        ("ping", "loop"),
        ("n" * 256, "nametoolong"),
        ("folder/" + "n" * 256 + "/x", "nametoolong"),
        (b"fi\xffle", "ilseq"),
        (b"file\0", "inval"),
        (b"\0", "inval"),
        ("x" * 65537, "nametoolong"),
    ],
)
def test_says_why_there_is_no_way(world: World, path: str | bytes, expected: str) -> None:
    world.link("to-file", "file")
    world.link("dangling", "nowhere")
    world.link("loop", "loop")
    world.link("ping", "pong")
    world.link("pong", "ping")
    if len(path) > 60000:
        assert error_name(world.lab.call("path_filestat_get", world.top, FOLLOW, 0, len(path), RESULT)) == expected
        return
    assert world.errno("path_filestat_get", world.top, FOLLOW, path, RESULT) == expected
    assert world.open_errno(path) == expected


def test_follows_as_many_links_as_the_limit_and_no_more(world: World) -> None:
    world.link("link0", "file")
    for number in range(1, MOST_LINKS + 1):
        world.link(f"link{number}", f"link{number - 1}")
    assert world.files.content(world.top, f"link{MOST_LINKS - 1}") == b"file"
    assert world.open_errno(f"link{MOST_LINKS}") == "loop"
    world.link("dot", ".")
    assert world.files.content(world.top, "dot/" * MOST_LINKS + "file") == b"file"
    assert world.open_errno("dot/" * (MOST_LINKS + 1) + "file") == "loop"


def test_links_cannot_multiply_into_a_long_walk(world: World) -> None:
    for number in range(1, 20):
        world.link(f"bomb{number}", "/".join([f"bomb{number - 1}"] * 15))
    world.link("bomb0", ".")
    start = time.process_time()
    assert world.open_errno("bomb19/file") == "loop"
    assert time.process_time() - start < 1


def test_a_path_may_be_deeper_than_the_host_has_descriptors(world: World) -> None:
    import resource

    depth = 300
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(host_descriptors()) + 50, hard))
    try:
        here = world.top
        for _ in range(depth):
            world.files.do("path_create_directory", here, "d")
            below = world.files.open(here, "d")
            if here != world.top:
                world.files.close(here)
            here = below
        world.files.close(here)
        world.files.do("path_create_directory", world.top, "d/" * depth + "last")
        assert world.files.stat(world.top, "d/" * depth + "last")["filetype"] == 3
        # A way back from there needs the descriptors; that they are not there is said, and nothing is left open.
        before = host_descriptors()
        assert world.open_errno("d/" * depth + "../" * depth + "file") == "mfile"
        assert host_descriptors() == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert world.files.content(world.top, "d/" * depth + "../" * depth + "file") == b"file"
    assert world.open_errno("d/" * depth + "../" * (depth + 1) + "file") == "notcapable"
    world.link("d/" * 30 + "up", "../" * 30 + "file")
    assert world.files.content(world.top, "d/" * 30 + "up") == b"file"
    world.link("d/" * 30 + "out", "../" * 31 + "outside/secret")
    assert world.open_errno("d/" * 30 + "out") == "notcapable"


def test_a_path_of_one_name_opens_nothing_on_the_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = os.open

    def counting(path: bytes, *args: int, **words: int) -> int:
        opened.append(path)
        return real(path, *args, **words)

    monkeypatch.setattr(os, "open", counting)
    world.files.stat(world.top, "file")
    assert opened == []
    world.files.close(world.open("file"))
    assert opened == [b"file"]
    opened.clear()
    world.files.stat(world.top, "folder/deep")
    assert opened == [b"folder"]


@pytest.mark.skipif(os.geteuid() == 0 or not hasattr(os, "O_PATH"), reason="root may read everything; O_PATH is Linux'")
def test_passing_through_a_directory_does_not_take_the_right_to_read_it(world: World) -> None:
    (world.inside / "folder").chmod(0o311)
    assert world.files.content(world.top, "folder/inner") == b"inner"


# ---- every function


def test_makes_directories_with_the_mode_a_native_program_would(world: World) -> None:
    old = os.umask(0o027)
    try:
        world.files.do("path_create_directory", world.top, "new")
        world.files.do("path_create_directory", world.top, "new/er/")
        world.files.close(world.open("made", BOTH, CREAT))
    finally:
        os.umask(old)
    assert (world.inside / "new").stat().st_mode & 0o7777 == 0o750
    assert (world.inside / "new/er").stat().st_mode & 0o7777 == 0o750
    assert (world.inside / "made").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", "exist"),
        ("folder", "exist"),
        ("folder/", "exist"),
        ("dangling", "exist"),
        ("dangling/", "exist"),
        (".", "exist"),
        ("folder/..", "exist"),
        ("x/y", "noent"),
    ],
)
def test_makes_no_directory_where_something_is(world: World, path: str, expected: str) -> None:
    world.link("dangling", "nowhere")
    assert world.errno("path_create_directory", world.top, path) == expected
    assert not (world.inside / "nowhere").exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("empty", "success"),
        ("empty/", "success"),
        ("folder", "notempty"),
        ("file", "notdir"),
        ("file/", "notdir"),
        ("to-empty", "notdir"),
        ("to-empty/", "notdir"),
        ("missing", "noent"),
        (".", "inval"),
    ],
)
def test_removes_a_directory_that_is_empty(world: World, path: str, expected: str) -> None:
    world.link("to-empty", "empty")
    assert world.errno("path_remove_directory", world.top, path) == expected
    assert (world.inside / "empty").exists() == (expected != "success")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", "success"),
        ("to-folder", "success"),
        ("folder", "isdir"),
        ("folder/", "isdir"),
        ("file/", "notdir"),
        ("to-folder/", "notdir"),
        ("missing", "noent"),
        ("missing/", "noent"),
        (".", "isdir"),
    ],
)
def test_removes_a_name_that_is_no_directorys(world: World, path: str, expected: str) -> None:
    world.link("to-folder", "folder")
    there = os.path.lexists(world.inside / path)
    assert world.errno("path_unlink_file", world.top, path) == expected
    assert os.path.lexists(world.inside / path) == (there and expected != "success")


@pytest.mark.parametrize(("path", "expected"), [("folder", "isdir"), ("file", "perm")])
def test_what_macos_says_of_removing_a_directory_becomes_isdir(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, expected: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "as on macOS")

    monkeypatch.setattr(os, "unlink", refuse)
    assert world.errno("path_unlink_file", world.top, path) == expected


def test_makes_links_and_reads_them(world: World) -> None:
    world.files.do("path_symlink", "folder/inner", world.top, "link")
    assert os.readlink(world.inside / "link") == "folder/inner"
    assert world.files.readlink(world.top, "link") == b"folder/inner"
    assert world.files.content(world.top, "link") == b"inner"
    assert world.files.readlink(world.top, "link", 6) == b"folder"
    assert world.files.readlink(world.top, "link", 0) == b""
    assert world.files.readlink(world.top, "link", 12) == b"folder/inner"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", "exist"),
        ("folder", "exist"),
        ("folder/", "exist"),
        ("dangling", "exist"),
        ("new/", "noent"),
        ("file/", "notdir"),
        ("dangling/", "notdir"),
        ("x/y", "noent"),
    ],
)
def test_makes_no_link_where_something_is(world: World, path: str, expected: str) -> None:
    world.link("dangling", "nowhere")
    assert world.errno("path_symlink", "target", world.top, path) == expected
    assert world.errno("path_link", world.top, 0, "file", world.top, path) == expected
    assert not (world.inside / "nowhere").exists()


def test_a_link_without_text_is_none(world: World) -> None:
    assert world.errno("path_symlink", "", world.top, "link") == "noent"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", "inval"),
        ("folder", "inval"),
        (".", "inval"),
        ("missing", "noent"),
        ("to-folder/", "inval"),
        ("to-file/", "notdir"),
        ("file/", "notdir"),
    ],
)
def test_reads_only_links(world: World, path: str, expected: str) -> None:
    world.link("to-folder", "folder")
    world.link("to-file", "file")
    with world.lab.writes_only((1024, len(path))):
        assert world.errno("path_readlink", world.top, path, BUFFER, 100, RESULT) == expected


def test_gives_a_file_a_second_name(world: World) -> None:
    world.files.do("path_link", world.top, 0, "folder/inner", world.top, "empty/second")
    assert (world.inside / "empty/second").read_bytes() == b"inner"
    assert world.files.stat(world.top, "folder/inner")["nlink"] == 2


def test_gives_a_link_a_second_name_or_what_it_leads_to(world: World) -> None:
    world.link("link", "folder/inner")
    world.files.do("path_link", world.top, 0, "link", world.top, "of-link")
    assert (world.inside / "of-link").is_symlink()
    world.files.do("path_link", world.top, FOLLOW, "link", world.top, "of-file")
    assert not (world.inside / "of-file").is_symlink()
    assert (world.inside / "of-file").read_bytes() == b"inner"


@pytest.mark.parametrize(
    ("path", "follow", "expected"),
    [
        ("folder", 0, "perm"),
        ("file/", 0, "notdir"),
        ("missing", 0, "noent"),
        ("dangling", FOLLOW, "noent"),
        ("to-folder", FOLLOW, "perm"),
        ("to-folder/", 0, "perm"),
    ],
)
def test_gives_no_second_name_to_directories(world: World, path: str, follow: int, expected: str) -> None:
    world.link("dangling", "nowhere")
    world.link("to-folder", "folder")
    assert world.errno("path_link", world.top, follow, path, world.top, "second") == expected
    assert not os.path.lexists(world.inside / "second")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("file", "new", "success"),
        ("file", "folder/inner", "success"),
        ("file", "to-folder", "success"),
        ("folder", "new", "success"),
        ("folder/", "new/", "success"),
        ("folder", "empty", "success"),
        ("folder", "empty/", "success"),
        ("to-folder", "new", "success"),
        ("file", "file", "success"),
        ("empty", "folder", "notempty"),
        ("empty", "file", "notdir"),
        ("file", "empty", "isdir"),
        ("file/", "new", "notdir"),
        ("file", "new/", "notdir"),
        ("to-folder/", "new", "notdir"),
        ("folder", "folder/deep/x", "inval"),
        ("missing", "new", "noent"),
        ("missing/", "new", "noent"),
        ("file", "x/new", "noent"),
    ],
)
def test_renames_as_posix_does(world: World, old: str, new: str, expected: str) -> None:
    world.link("to-folder", "folder")
    before = snapshot(world.inside)
    inode = (world.inside / old.rstrip("/")).lstat().st_ino if expected == "success" else 0
    assert world.errno("path_rename", world.top, old, world.top, new) == expected
    if expected == "success":
        assert (world.inside / new.rstrip("/")).lstat().st_ino == inode
        assert old == new or not os.path.lexists(world.inside / old.rstrip("/"))
    else:
        assert snapshot(world.inside) == before


@pytest.mark.parametrize(("old", "new"), [(".", "x"), ("file", "."), ("folder/..", "x"), ("folder", "folder/deep/..")])
def test_where_a_path_starts_cannot_be_renamed(world: World, old: str, new: str) -> None:
    before = snapshot(world.inside)
    assert world.errno("path_rename", world.top, old, world.top, new) in ("busy", "inval", "isdir", "notdir")
    assert snapshot(world.inside) == before


def test_renames_and_links_between_two_directories(world: World, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = world.files.preopen(tmp_path / "second")
    world.files.do("path_link", world.top, 0, "file", second, "linked")
    world.files.do("path_rename", world.top, "folder/inner", second, "renamed")
    assert (tmp_path / "second/linked").read_bytes() == b"file"
    assert (tmp_path / "second/renamed").read_bytes() == b"inner"


def test_stat_sees_a_link_or_what_it_leads_to(world: World) -> None:
    world.link("link", "file")
    world.link("to-folder", "folder")
    assert world.files.stat(world.top, "link")["filetype"] == 4
    assert world.files.stat(world.top, "link", 0)["filetype"] == 7
    assert world.files.stat(world.top, "to-folder", 0)["filetype"] == 7
    assert world.files.stat(world.top, "to-folder/", 0)["filetype"] == 3
    host = (world.inside / "file").stat()
    found = world.files.stat(world.top, "file")
    assert (found["size"], found["ino"], found["mtim"]) == (4, host.st_ino, host.st_mtime_ns)


def test_times_are_those_of_a_link_or_of_what_it_leads_to(world: World) -> None:
    world.link("link", "file")
    world.files.do("path_filestat_set_times", world.top, 0, "link", 11, 22, 1 | 4)
    assert world.files.stat(world.top, "link", 0)["mtim"] == 22
    assert world.files.stat(world.top, "file")["mtim"] != 22
    world.files.do("path_filestat_set_times", world.top, FOLLOW, "link", 33, 44, 4)
    assert world.files.stat(world.top, "file")["mtim"] == 44
    assert world.files.stat(world.top, "file")["atim"] != 33
    assert world.files.stat(world.top, "link", 0)["mtim"] == 22
    for wrong in (1 | 2, 4 | 8):
        assert world.errno("path_filestat_set_times", world.top, 0, "file", 1, 1, wrong) == "inval"
    before = time.time_ns()
    world.files.do("path_filestat_set_times", world.top, 0, ".", 0, 0, 2 | 8)
    assert before <= world.inside.stat().st_mtime_ns <= time.time_ns()


@pytest.mark.parametrize(
    ("path", "oflags", "follow", "rights", "expected"),
    [
        ("file", O_DIRECTORY, FOLLOW, READ, "notdir"),
        ("file/", 0, FOLLOW, READ, "notdir"),
        ("folder", 0, FOLLOW, READ, "success"),
        ("folder/", 0, FOLLOW, READ, "success"),
        ("folder", 0, FOLLOW, WRITE, "isdir"),
        ("folder", O_DIRECTORY, FOLLOW, READ | WRITE, "isdir"),
        ("folder", TRUNC, FOLLOW, READ, "isdir"),
        ("folder", CREAT, FOLLOW, READ, "isdir"),
        ("folder/", CREAT, FOLLOW, READ, "isdir"),
        ("new/", CREAT, FOLLOW, READ, "isdir"),
        (".", CREAT, FOLLOW, READ, "isdir"),
        ("file", CREAT | EXCL, FOLLOW, READ, "exist"),
        ("folder", CREAT | EXCL, FOLLOW, READ, "exist"),
        ("dangling", CREAT | EXCL, FOLLOW, READ, "exist"),
        ("new", CREAT | O_DIRECTORY, FOLLOW, READ, "inval"),
        ("new", 16, FOLLOW, READ, "inval"),
        ("new", CREAT, 2, READ, "inval"),
        ("missing", 0, FOLLOW, READ, "noent"),
        ("missing/new", CREAT, FOLLOW, READ, "noent"),
        ("to-file", 0, FOLLOW, READ, "success"),
        ("to-file", 0, 0, READ, "loop"),
        ("to-file", CREAT, 0, READ, "loop"),
        ("to-folder", O_DIRECTORY, FOLLOW, READ, "success"),
        ("to-folder", 0, 0, READ, "loop"),
        ("to-folder/", 0, 0, READ, "success"),
        ("to-file", O_DIRECTORY, FOLLOW, READ, "notdir"),
        ("to-file/", 0, FOLLOW, READ, "notdir"),
        ("dangling", 0, FOLLOW, READ, "noent"),
        ("dangling", 0, 0, READ, "loop"),
        ("slashed", 0, FOLLOW, READ, "success"),
        ("slashed", CREAT, FOLLOW, READ, "isdir"),
    ],
)
def test_opens_or_says_why_not(world: World, path: str, oflags: int, follow: int, rights: int, expected: str) -> None:
    world.link("dangling", "nowhere")
    world.link("to-file", "file")
    world.link("to-folder", "folder")
    world.link("slashed", "folder/")
    assert world.open_errno(path, rights, oflags, follow) == expected
    assert not (world.inside / "new").exists()
    assert not (world.inside / "nowhere").exists()


@pytest.mark.parametrize("path", ["to-folder", "dangling"])
def test_a_link_is_no_directory_unless_it_is_followed(world: World, path: str) -> None:
    world.link("to-folder", "folder")
    world.link("dangling", "nowhere")
    assert world.open_errno(path, READ, O_DIRECTORY, 0) in ("loop", "notdir")


def test_makes_the_file_that_a_link_leads_to(world: World) -> None:
    world.link("dangling", "folder/made")
    fd = world.open("dangling", BOTH, CREAT)
    world.files.write(fd, b"data")
    assert (world.inside / "folder/made").read_bytes() == b"data"


def test_cuts_a_file_even_if_it_is_opened_to_read(world: World) -> None:
    fd = world.open("file", READ, TRUNC)
    assert world.files.read(fd) == b""
    assert (world.inside / "file").read_bytes() == b""
    assert world.open_errno("folder/inner", 0, TRUNC) == "success"
    assert (world.inside / "folder/inner").read_bytes() == b""


def test_a_file_is_made_only_if_it_is_not_there(world: World) -> None:
    assert world.files.content(world.top, "file") == b"file"
    assert world.open_errno("file", BOTH, CREAT) == "success"
    assert (world.inside / "file").read_bytes() == b"file"


def test_the_rights_to_make_and_to_cut_are_the_directorys(world: World) -> None:
    without = DIRECTORY & ~Rights.PATH_CREATE_FILE
    world.files.do("fd_fdstat_set_rights", world.top, without, DIRECTORY | FILE)
    assert world.open_errno("new", READ, CREAT) == "notcapable"
    assert world.open_errno("file", READ, TRUNC) == "success"
    world.files.do("fd_fdstat_set_rights", world.top, without & ~Rights.PATH_FILESTAT_SET_SIZE, DIRECTORY | FILE)
    (world.inside / "file").write_bytes(b"data")
    assert world.open_errno("file", READ, TRUNC) == "notcapable"
    assert world.open_errno("file", READ) == "success"
    world.files.do("fd_fdstat_set_rights", world.top, 0, DIRECTORY | FILE)
    assert world.open_errno("file", READ) == "notcapable"
    assert (world.inside / "file").read_bytes() == b"data"


def test_opens_no_more_descriptors_than_the_limit(tmp_path: Path) -> None:
    lab = Lab(limit=5)
    world = World(lab, tmp_path)
    before = host_descriptors()
    for _ in range(4):
        world.open("file")
    assert len(host_descriptors()) == len(before) + 4
    assert world.open_errno("new", BOTH, CREAT) == "mfile"
    assert not (world.inside / "new").exists()
    world.files.close(4)
    assert world.open("file") == 4
    lab.close()


def test_only_a_directory_has_paths_below_it(world: World) -> None:
    file = world.open("file", OTHERS | READ | WRITE)
    null = world.files.preopen(Path("/dev"))
    device = world.files.open(null, "null", BOTH)
    for fd in (file, device):
        for name, *values in (
            ("path_create_directory", "x"),
            ("path_filestat_get", 0, "x", RESULT),
            ("path_open", 0, "x", 0, 0, 0, 0, RESULT),
            ("path_unlink_file", "x"),
        ):
            assert world.errno(str(name), fd, *values) in ("notdir", "notcapable")


def test_a_descriptor_of_another_kind_is_no_directory_whatever_rights_it_has(world: World) -> None:
    null = Null()
    null.rights = ALL
    fd = world.lab.add(null)
    assert world.errno("path_create_directory", fd, "x") == "notdir"
    assert world.errno("path_rename", world.top, "file", fd, "x") == "notdir"


def test_what_was_opened_is_closed_if_it_cannot_be_handed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> os.stat_result:
        raise OSError(errno.EIO, "of the test")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        assert world.open_errno("file") == "io"


def test_a_bad_pointer_has_no_effect(world: World) -> None:
    size = len(world.lab.memory)
    world.lab.put(1024, b"new")
    arguments = (world.top, FOLLOW, 1024, 3, CREAT, BOTH, ALL, 0)
    assert world.lab.fails("path_open", *arguments, size) == "fault"
    assert world.lab.fails("path_open", *arguments, 513) == "inval"
    assert not (world.inside / "new").exists()
    assert world.lab.fails("path_create_directory", world.top, size - 1, 2) == "fault"
    assert world.lab.fails("path_create_directory", world.top, 0xFFFFFFFF, 0xFFFFFFFF) == "nametoolong"
    assert world.lab.fails("path_symlink", 1024, 3, world.top, size - 2, 4) == "fault"
    assert world.lab.fails("path_readlink", world.top, 1024, 3, size - 2, 4, 512) == "fault"


# ---- read-only directories

WRITES = {
    "makes a directory": lambda w: w.errno("path_create_directory", w.top, "new"),
    "removes a directory": lambda w: w.errno("path_remove_directory", w.top, "empty"),
    "removes a file": lambda w: w.errno("path_unlink_file", w.top, "file"),
    "renames": lambda w: w.errno("path_rename", w.top, "file", w.top, "new"),
    "links": lambda w: w.errno("path_link", w.top, 0, "file", w.top, "new"),
    "makes a link": lambda w: w.errno("path_symlink", "file", w.top, "new"),
    "sets times": lambda w: w.errno("path_filestat_set_times", w.top, 0, "file", 1, 1, 5),
    "sets its own times": lambda w: w.errno("fd_filestat_set_times", w.top, 1, 1, 5),
    "makes a file": lambda w: w.open_errno("new", READ, CREAT),
    "may make a file that is there": lambda w: w.open_errno("file", READ, CREAT),
    "makes a file anew": lambda w: w.open_errno("new", READ, CREAT | EXCL),
    "cuts a file": lambda w: w.open_errno("file", READ, TRUNC),
    "opens to write": lambda w: w.open_errno("file", WRITE),
    "opens to read and write": lambda w: w.open_errno("file", READ | WRITE),
    "opens to append": lambda w: w.open_errno("file", WRITE, fdflags=APPEND),
    "opens with every right": lambda w: w.open_errno("file", (1 << 64) - 1),
}


@pytest.fixture
def read_only(world: World) -> World:
    (world.base / "writable").mkdir()
    world.top = world.files.preopen(world.inside, "ro")
    return world


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("below", ["", "folder/..", "subdirectory"])
def test_a_read_only_directory_refuses_whoever(read_only: World, write: str, below: str) -> None:
    before = snapshot(read_only.inside)
    if below:
        read_only.top = read_only.open(
            "." if below == "subdirectory" else below, OTHERS | READ, inheriting=(1 << 64) - 1
        )
    assert WRITES[write](read_only) == "notcapable"
    assert snapshot(read_only.inside) == before


def test_a_read_only_directory_can_be_read(read_only: World) -> None:
    assert read_only.files.content(read_only.top, "folder/inner") == b"inner"
    assert len(read_only.files.listing(read_only.top)) == 5
    read_only.link("link", "file")
    assert read_only.files.readlink(read_only.top, "link") == b"file"
    fd = read_only.open("file")
    for name, *values in (
        ("fd_filestat_set_size", 0),
        ("fd_filestat_set_times", 1, 1, 5),
        ("fd_allocate", 0, 10),
        ("fd_write", 1024, 0, RESULT),
        ("fd_pwrite", 1024, 0, 0, RESULT),
    ):
        assert read_only.errno(str(name), fd, *map(int, values)) == "notcapable"


def test_a_file_of_a_read_only_directory_gets_no_name_in_a_writable_one(read_only: World) -> None:
    writable = read_only.files.preopen(read_only.base / "writable")
    assert read_only.errno("path_link", read_only.top, 0, "file", writable, "x") == "notcapable"
    assert read_only.errno("path_rename", read_only.top, "file", writable, "x") == "notcapable"
    read_only.files.close(read_only.files.open(writable, "y", BOTH, CREAT))
    assert read_only.errno("path_rename", writable, "y", read_only.top, "y") == "notcapable"
    assert read_only.errno("path_link", writable, 0, "y", read_only.top, "y") == "notcapable"


def test_rights_of_a_read_only_directory_have_no_writing_but_for_libc(read_only: World) -> None:
    from donjon.wasm.wasi.descriptors.directory import WRITING

    _, _, rights, inheriting = read_only.files.fdstat(read_only.top)
    assert not rights & (WRITING | WRITE)
    assert not inheriting & WRITING
    # wasi-libc asks only for what is inheritable: so that open(O_RDWR) fails, and not the first write, this must be.
    assert inheriting & WRITE
    for name in vars(Rights):
        if any(
            word in name
            for word in (
                "CREATE",
                "SET_SIZE",
                "SET_TIMES",
                "RENAME",
                "LINK_",
                "SYMLINK",
                "UNLINK",
                "REMOVE",
                "ALLOCATE",
            )
        ):
            assert getattr(Rights, name) & WRITING, name


# ---- any paths, any sequences

NAMES = st.sampled_from(
    ["a", "b", "c", "file", "folder", "..", ".", "", "to-outside", "up", "up2", "absolute", "loop", "é", "n" * 256]
)
PATHS = st.one_of(
    st.lists(NAMES, max_size=8).map("/".join),
    st.lists(NAMES, max_size=8).map(lambda names: "/" + "/".join(names)),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.binary(max_size=20),
    st.builds(
        lambda n, tail: "../" * n + tail, st.integers(1, 30), st.sampled_from(["outside/secret", "etc/passwd", ""])
    ),
)


def any_call(w: World, name: str, one: str | bytes, two: str | bytes, number: int, fds: list[int]) -> None:
    fd, other = fds[number % len(fds)], fds[number // 7 % len(fds)]
    follow = number & 1
    if name == "path_open":
        try:
            opened = w.files.open(
                fd, one, (0, READ, WRITE, BOTH, OTHERS | READ)[number % 5], number % 16, follow, number % 32
            )
        except Refused:
            return
        if w.files.fdstat(opened)[0] == 3 and len(fds) < 12:
            fds.append(opened)
            return
        if w.files.fdstat(opened)[2] & READ:
            assert SECRET not in w.files.read(opened)
        w.files.close(opened)
        return
    values: tuple[int | str | bytes, ...] = {
        "path_create_directory": (fd, one),
        "path_filestat_get": (fd, follow, one, RESULT),
        "path_filestat_set_times": (fd, follow, one, number, number, number % 16),
        "path_link": (fd, follow, one, other, two),
        "path_readlink": (fd, one, BUFFER, number % 100, RESULT),
        "path_remove_directory": (fd, one),
        "path_rename": (fd, one, other, two),
        "path_symlink": (one, fd, two),
        "path_unlink_file": (fd, one),
        "fd_readdir": (fd, BUFFER, number % 300, number % 9, RESULT),
    }[name]
    assert w.errno(name, *values) in ERRNO


CALLS = st.tuples(
    st.sampled_from(
        ["path_open"] * 4
        + ["path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_link", "path_readlink"]
        + ["path_remove_directory", "path_rename", "path_symlink", "path_symlink", "path_unlink_file", "fd_readdir"]
    ),
    PATHS,
    PATHS,
    st.integers(0, 1 << 20),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CALLS, max_size=30), st.booleans())
def test_whatever_a_guest_does_outside_stays_as_it_is(
    lab: Lab, tmp_path: Path, calls: list[tuple[str, str | bytes, str | bytes, int]], read_only: bool
) -> None:
    descriptors = host_descriptors()
    lab.guest.close()
    shutil.rmtree(tmp_path)
    world = World(lab, tmp_path)
    world.link("to-outside", "../outside")
    world.link("absolute", world.outside)
    world.link("folder/up2", "../..")
    world.link("loop", "loop")
    if read_only:
        world.top = world.files.preopen(world.inside, "ro")
    before = snapshot(world.inside)
    fds = [world.top]
    for call in calls:
        any_call(world, *call, fds)
    world.check()
    assert set(os.listdir(tmp_path)) == {"inside", "outside"}
    if read_only:
        assert snapshot(world.inside) == before
    lab.guest.close()
    assert host_descriptors() == descriptors


class HowTo(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


LIBC = ctypes.CDLL(None, use_errno=True)
OPENAT2 = 437  # on every processor
RESOLVE_BENEATH = 8


def kernel_way(root: int, path: str, follow: bool) -> tuple[str, int]:
    """Where the kernel finds that a path leads, if it may not leave the root: errno's name and inode."""
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    how = HowTo(flags, 0, RESOLVE_BENEATH)
    fd = LIBC.syscall(OPENAT2, root, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        return ("notcapable" if number == errno.EXDEV else error_name(BY_HOST[number])), 0
    try:
        return "success", os.fstat(fd).st_ino
    finally:
        os.close(fd)


def has_openat2() -> bool:
    if sys.platform != "linux" or platform.libc_ver()[0] == "":
        return False
    LIBC.syscall(OPENAT2, -1, b"", None, 0)
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)


PARTS = st.sampled_from(["a", "b", "c", "d", "l", "m", "..", ".", ""])
WAY = st.lists(PARTS, min_size=1, max_size=7).map("/".join)
TREE = st.lists(
    st.one_of(
        st.tuples(
            st.just("folder"), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join), st.just("")
        ),
        st.tuples(
            st.just("file"), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join), st.just("")
        ),
        st.tuples(st.just("link"), st.lists(st.sampled_from("abclm"), min_size=1, max_size=3).map("/".join), WAY),
    ),
    max_size=14,
)


@pytest.mark.skipif(not has_openat2(), reason="this kernel has no openat2 to compare with")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREE, st.lists(st.tuples(WAY, st.booleans()), min_size=1, max_size=12))
def test_ways_are_those_of_a_kernel_that_must_not_leave_the_root(
    lab: Lab, tmp_path: Path, tree: list[tuple[str, str, str]], ways: list[tuple[str, bool]]
) -> None:
    shutil.rmtree(tmp_path)
    inside = tmp_path / "inside"
    inside.mkdir(parents=True)
    for kind, path, target in tree:
        place = inside / path
        try:
            if kind == "folder":
                place.mkdir(parents=True)
            elif kind == "file":
                place.touch()
            elif target:
                place.symlink_to(target)
        except (OSError, RuntimeError):
            continue
    files = Files(lab)
    root = os.open(inside, os.O_RDONLY)
    top = files.preopen(inside)
    try:
        for path, follow in ways:
            expected = kernel_way(root, path, follow)
            try:
                found = "success", files.stat(top, path, int(follow))["ino"]
            except Refused as refused:
                found = refused.errno, 0
            assert found == expected, (path, follow)
    finally:
        os.close(root)
        files.close(top)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30).filter(lambda text: "\0" not in text and text.isprintable()))
def test_a_walk_ends_in_a_plain_name_or_an_error(path: str) -> None:
    root = os.open("/usr", os.O_RDONLY)
    before = host_descriptors()
    with contextlib.suppress(WasiError, OSError), Walk(root, path) as walk:
        assert b"/" not in walk.name
        assert walk.name not in (b"", b"..")
        assert os.fstat(walk.parent)
    assert host_descriptors() == before
    os.close(root)
