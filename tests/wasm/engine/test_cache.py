"""The cache of compiled modules: what it holds is its owner's, is never run when it is not as it was written, and never
costs the run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.log import DEBUG, Logger
from donjon.wasm.engine import Instance, Module, _capi, load
from donjon.wasm.engine import module as module_file
from donjon.wasm.engine._capi import api
from donjon.wasm.engine.cache import Cache

ONE = b'(module (func (export "one")))'
TWO = b'(module (func (export "two")) (memory 1))'


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, notes: list[str]) -> Cache:
    def sink(level: int, target: str, message: str) -> None:
        assert (level, target) == (DEBUG, "donjon.wasm.cache")
        notes.append(message)

    return Cache(str(tmp_path / "modules"), log=Logger(sink, "debug"))


def entries(cache: Cache) -> list[Path]:
    return sorted(Path(cache.folder).glob("*.cwasm"))


def fresh(cache: Cache) -> Cache:
    """The same folder, as another process sees it."""
    return Cache(cache.folder, cache.limit, cache._log)


def runs(module: Module, name: str) -> None:
    instance = Instance(module, lambda _space, _name: None)
    instance.call(name)
    instance.close()


def test_a_second_start_does_not_compile(cache: Cache, notes: list[str]) -> None:
    first = load(ONE, cache)
    second = load(ONE, fresh(cache))
    assert (first.cached, second.cached) == (False, True)
    runs(first, "one")
    runs(second, "one")
    assert notes == []


def test_everything_is_the_owners_alone(cache: Cache) -> None:
    old = os.umask(0)
    try:
        load(ONE, cache)
    finally:
        os.umask(old)
    modes = {path.suffix or path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(cache.folder).iterdir()}
    assert modes == {".cwasm": 0o600, "key": 0o600}
    assert stat.S_IMODE(Path(cache.folder).stat().st_mode) == 0o700


def test_nothing_else_is_left_in_the_folder(cache: Cache) -> None:
    load(ONE, cache)
    load(TWO, cache)
    assert sorted(path.suffix for path in Path(cache.folder).iterdir()) == ["", ".cwasm", ".cwasm"]


def test_another_module_has_another_entry(cache: Cache) -> None:
    load(ONE, cache)
    assert not load(TWO, fresh(cache)).cached
    assert len(entries(cache)) == 2


def test_other_settings_of_the_engine_have_another_entry(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    load(ONE, cache)
    monkeypatch.setattr(module_file, "FLAGS", module_file.FLAGS + " more=1")
    assert not load(ONE, fresh(cache)).cached
    assert len(entries(cache)) == 2


def test_another_library_has_another_entry(cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load(ONE, cache)
    other = tmp_path / "other.so"
    other.write_bytes(b"")
    monkeypatch.setattr(_capi, "library_path", lambda: str(other))
    assert not load(ONE, fresh(cache)).cached
    assert len(entries(cache)) == 2


# ---- what is not as it was written


def flip(at: float) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        data = bytearray(entry.read_bytes())
        data[int(at * (len(data) - 1))] ^= 1
        entry.write_bytes(data)

    return change


def cut(to: int) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        data = entry.read_bytes()
        entry.write_bytes(data[: to if to >= 0 else len(data) + to])

    return change


def by_link(entry: Path) -> None:
    entry.rename(entry.with_suffix(".real"))
    entry.symlink_to(entry.with_suffix(".real"))


def by_directory(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


TAMPERED: dict[str, Callable[[Path], object]] = {
    **{f"a bit is flipped at {at:.0%}": flip(at) for at in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0)},
    "it is empty": cut(0),
    "it has one byte": cut(1),
    "it is shorter than a hash": cut(31),
    "it is a hash long": cut(32),
    "its last byte is missing": cut(-1),
    "its hash is missing": cut(-32),
    "something follows it": lambda entry: entry.write_bytes(entry.read_bytes() + b"x"),
    "it holds something else": lambda entry: entry.write_bytes(os.urandom(5000)),
    "it is a link": by_link,
    "others may read it": lambda entry: entry.chmod(0o644),
    "others may write it": lambda entry: entry.chmod(0o602),
    "it is a directory": by_directory,
}


@pytest.mark.parametrize("case", TAMPERED)
def test_an_entry_is_compiled_anew_and_never_run_when(cache: Cache, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load(ONE, cache)
    (entry,) = entries(cache)
    TAMPERED[case](entry)
    given_to_the_engine: list[object] = []
    real = api.wasmtime_module_deserialize_file

    def deserialize(*args: object) -> object:
        given_to_the_engine.append(args)
        return real(*args)

    monkeypatch.setattr(api, "wasmtime_module_deserialize_file", deserialize)
    assert fresh(cache).get(entry.stem) is None
    assert given_to_the_engine == [], "the engine must not see what is not authentic"
    module = load(ONE, fresh(cache))
    assert not module.cached
    runs(module, "one")
    if case != "it is a directory":
        assert load(ONE, fresh(cache)).cached, "the entry must have been replaced"


def test_an_entry_under_anothers_name_is_not_run(cache: Cache) -> None:
    load(ONE, cache)
    (first,) = entries(cache)
    load(TWO, cache)
    (second,) = set(entries(cache)) - {first}
    third = first.with_suffix(".swap")
    first.rename(third)
    second.rename(first)
    third.rename(second)
    assert fresh(cache).get(first.stem) is None
    module = load(ONE, fresh(cache))
    assert not module.cached
    runs(module, "one")


def test_an_entry_made_with_another_key_is_not_run(cache: Cache, tmp_path: Path) -> None:
    load(ONE, cache)
    (entry,) = entries(cache)
    data = entry.read_bytes()
    other = Cache(str(tmp_path / "other"))
    name = other.key(load_bytes(ONE), module_file.FLAGS)
    assert name is not None
    assert name != entry.stem, "who does not know the key must not know the names"
    (tmp_path / "other" / f"{name}.cwasm").write_bytes(data)
    (tmp_path / "other" / f"{name}.cwasm").chmod(0o600)
    assert other.get(name) is None


def load_bytes(text: bytes) -> bytes:
    return module_file.from_text(text)


def test_a_replaced_key_makes_all_entries_strangers(cache: Cache) -> None:
    load(ONE, cache)
    key = Path(cache.folder) / "key"
    key.write_bytes(os.urandom(32))
    module = load(ONE, fresh(cache))
    assert not module.cached
    runs(module, "one")
    assert load(ONE, fresh(cache)).cached


def test_somebody_elses_entry_is_not_run(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    load(ONE, cache)
    (entry,) = entries(cache)
    other = fresh(cache)
    assert other.key(load_bytes(ONE), module_file.FLAGS) == entry.stem
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert other.get(entry.stem) is None


def test_somebody_elses_folder_is_not_used(cache: Cache, monkeypatch: pytest.MonkeyPatch, notes: list[str]) -> None:
    load(ONE, cache)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    module = load(ONE, fresh(cache))
    assert not module.cached
    runs(module, "one")
    assert notes == [f"module cache: not used: {cache.folder}: expected a folder of ours that nobody else can write to"]


# ---- a cache that cannot be used costs time and nothing else

KEY = "expected 32 bytes that only their owner can read"


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (lambda folder: folder.chmod(0o777), "{folder}: expected a folder of ours that nobody else can write to"),
        (lambda folder: (folder / "key").chmod(0o644), "{folder}/key: " + KEY),
        (lambda folder: (folder / "key").write_bytes(b""), "{folder}/key: " + KEY),
        (lambda folder: (folder / "key").write_bytes(bytes(31)), "{folder}/key: " + KEY),
        (lambda folder: (folder / "key").write_bytes(bytes(33)), "{folder}/key: " + KEY),
        (
            lambda folder: ((folder / "key").unlink(), (folder / "key").symlink_to("/dev/zero")),
            "[Errno 40] Too many levels of symbolic links: '{folder}/key'",
        ),
    ],
    ids=["a folder for all", "a key for all", "an empty key", "a short key", "a long key", "a link for a key"],
)
def test_a_spoilt_cache_is_noted_and_the_run_goes_on(
    cache: Cache, notes: list[str], spoil: Callable[[Path], object], note: str
) -> None:
    load(ONE, cache)
    spoil(Path(cache.folder))
    module = load(ONE, fresh(cache))
    assert not module.cached
    runs(module, "one")
    assert len(notes) == 1
    expected = "module cache: not used: " + note.format(folder=cache.folder)
    assert notes[0] == expected or ("symbolic links" in notes[0] and "symbolic links" in expected)


def test_a_folder_that_cannot_be_made_is_noted_and_the_run_goes_on(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "file").write_bytes(b"")
    log = Logger(lambda _level, _target, message: notes.append(message), "debug")
    module = load(ONE, Cache(f"{tmp_path}/file/modules", log=log))
    assert not module.cached
    runs(module, "one")
    assert notes == [f"module cache: not used: [Errno 20] Not a directory: '{tmp_path}/file/modules'"]


def test_a_read_only_folder_serves_what_it_has(cache: Cache, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load(ONE, cache)
    real = os.open

    def open_read_only(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system", path)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", open_read_only)
    assert load(ONE, fresh(cache)).cached
    module = load(TWO, fresh(cache))
    assert not module.cached
    runs(module, "two")
    assert len(notes) == 1
    assert "not written: [Errno 30] Read-only file system" in notes[0]


def test_a_full_disk_leaves_nothing_behind(cache: Cache, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        runs(load(ONE, cache), "one")
    assert [path.name for path in Path(cache.folder).iterdir()] == ["key"]
    assert "No space left on device" in notes[0]


# ---- size


def test_the_oldest_entries_make_room(cache: Cache) -> None:
    texts = [b'(module (func (export "one")) (global i32 (i32.const %d)))' % number for number in range(4)]
    for number, text in enumerate(texts[:3]):
        load(text, cache)
        (newest,) = [path for path in entries(cache) if path.stat().st_mtime > time.time() - 3000]
        os.utime(newest, (0, 10**9 + number))
    size = entries(cache)[0].stat().st_size
    load(texts[3], Cache(cache.folder, limit=2 * size + size // 2))
    assert [load(text, Cache(cache.folder, limit=0)).cached for text in texts] == [False, False, True, True]


def test_a_module_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "modules"), limit=100)
    runs(load(ONE, cache), "one")
    assert entries(cache) == []


def test_an_entry_that_is_used_becomes_young_again(cache: Cache) -> None:
    load(ONE, cache)
    (entry,) = entries(cache)
    os.utime(entry, (0, 10**9))
    assert load(ONE, fresh(cache)).cached
    assert entry.stat().st_mtime > 10**9
    young = time.time() - 60
    os.utime(entry, (young, young))
    assert load(ONE, fresh(cache)).cached
    assert entry.stat().st_mtime == pytest.approx(young), "each start writing would wear out disks"


def test_drafts_that_were_left_behind_are_removed_and_young_ones_are_not(cache: Cache) -> None:
    load(ONE, cache)
    old, young = Path(cache.folder, "a.cwasm.1.new"), Path(cache.folder, "b.cwasm.2.new")
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (0, 10**9))
    load(TWO, cache)
    assert (old.exists(), young.exists()) == (False, True)


def test_drafts_of_a_process_with_the_same_number_are_in_nobodys_way(cache: Cache, notes: list[str]) -> None:
    load(ONE, cache)
    entry = entries(cache)[0]
    entry.rename(f"{entry}.{os.getpid()}.new")  # in containers, every first process is number 1
    load(ONE, cache)
    assert load(ONE, fresh(cache)).cached, notes


# ---- many at once

START = """
import sys
from donjon.wasm.engine import Instance, load
from donjon.wasm.engine._capi import api
from donjon.wasm.engine.cache import Cache
module = load(b'(module (func (export "one")))', Cache(sys.argv[1]))
Instance(module, lambda space, name: None).call("one")
"""


def test_first_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen([sys.executable, "-c", START, str(folder)], env=environment, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".cwasm"]
    assert load(ONE, Cache(str(folder))).cached


# ---- where it is


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"DONJON_CACHE": "/a/b", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/donjon/modules"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/donjon/modules"),
        ({"HOME": "/h"}, "/h/.cache/donjon/modules"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/h"}, "/h/.cache/donjon/modules"),
        ({"DONJON_CACHE": "not/absolute", "HOME": "/h"}, None),
        ({"DONJON_CACHE": "", "HOME": "/h"}, None),
        ({"HOME": ""}, None),
    ],
)
def test_the_users_cache_is_where_the_environment_says(
    environment: dict[str, str], folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DONJON_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = Cache.of_user()
    assert (found and found.folder) == folder
