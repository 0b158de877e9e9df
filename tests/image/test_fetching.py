"""Packages come from wherever they are to be had, and only those that the lock names."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.errors import ParseError, PlatformError, UsageError
from donjon.image import fetching
from donjon.image.lock import Lock, Package

DATA = b"a package"
PATH = "pool/main/g/glibc/libc6_2_amd64.deb"
FILE = "libc6_2_amd64.deb"
DIGEST = hashlib.sha256(DATA).hexdigest()


def lock() -> Lock:
    return locked(Package("deb", "libc6", "2", FILE, len(DATA), DIGEST, archive="debian", path=PATH))


def locked(*packages: Package) -> Lock:
    return Lock(packages, "0" * 64, "20250102T030405Z")


def nothing(_: str) -> None:
    pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.sent = 0
        self.length: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.length or len(data)))
        self.end_headers()
        try:
            for start in range(0, len(data), 65536):
                self.wfile.write(data[start : start + 65536])
                self.server.sent += len(data[start : start + 65536])
        except ConnectionError:
            pass  # it has enough

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_other_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: each test says what is there."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("DONJON_MIRROR", raising=False)


@pytest.fixture
def apt(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts an apt on this machine that has no package, and these addresses as sources."""
    folder = tmp_path_factory.mktemp("bin")

    def install(*sources: str) -> None:
        lines = "".join(f"echo {source}; " for source in ("deb cdrom:", *sources))
        script = folder / "apt-get"
        refusal = "E: Version '2' for 'libc6' was not found"
        script.write_text(f'#!/bin/sh\ncase $1 in indextargets) {lines}exit 0;; esac\necho "{refusal}"\nexit 100\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setattr(shutil, "which", lambda name: str(folder / name))

    return install


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(DATA)
    said: list[str] = []
    assert fetching.fetch(lock(), str(tmp_path), said.append) == {FILE: str(tmp_path / FILE)}
    assert said == []


@pytest.mark.parametrize("damaged", [b"", b"a packagf", DATA + b"!"])
def test_a_damaged_download_is_fetched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / FILE).write_bytes(DATA)
    monkeypatch.setenv("DONJON_MIRROR", str(mirror))
    (tmp_path / FILE).write_bytes(damaged)
    said: list[str] = []
    fetching.fetch(lock(), str(tmp_path), said.append)
    assert (tmp_path / FILE).read_bytes() == DATA
    assert said == [f"{tmp_path / FILE} is damaged: it is fetched again", "downloading libc6 2 (0.0 of 0.0 MB)"]


def test_a_mirror_has_packages_by_their_name_or_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    (mirror / PATH).parent.mkdir(parents=True)
    (mirror / PATH).write_bytes(DATA)
    monkeypatch.setenv("DONJON_MIRROR", str(mirror))
    fetching.fetch(lock(), str(tmp_path / "here"), nothing)
    assert (tmp_path / "here" / FILE).read_bytes() == DATA


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_is_a_mirror_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, slash: str
) -> None:
    server.files[f"/debian/{PATH}"] = DATA
    monkeypatch.setenv("DONJON_MIRROR", f"{server.url}/debian{slash}")
    said: list[str] = []
    fetching.fetch(lock(), str(tmp_path), said.append)
    assert (tmp_path / FILE).read_bytes() == DATA
    assert said == ["downloading libc6 2 (0.0 of 0.0 MB)"]


def test_a_mirror_has_one_archive_beside_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    fix = Package(
        "deb", "libssl3", "3", "s.deb", len(DATA), DIGEST, archive="debian-security", path="pool/updates/s.deb"
    )
    for base in ("/debian", "/archive/debian/20250102T030405Z"):
        server.files[f"{base.replace('debian', 'debian-security')}/pool/updates/s.deb"] = DATA
        monkeypatch.setenv("DONJON_MIRROR", f"{server.url}{base}")
        fetching.fetch(locked(fix), str(tmp_path / base[-5:]), nothing)
        assert (tmp_path / base[-5:] / "s.deb").read_bytes() == DATA


def test_the_machine_s_sources_are_asked_at_their_addresses_those_of_the_archive_first(
    tmp_path: Path, server: Server, apt: Callable[..., None]
) -> None:
    apt(f"{server.url}/debian-security/", f"{server.url}/debian/", f"{server.url}/debian/", f"{server.url}/other/")
    server.files[f"/other/{PATH}"] = DATA
    fetching.fetch(lock(), str(tmp_path), nothing)
    assert server.asked == [f"/debian/{PATH}", f"/debian-security/{PATH}", f"/other/{PATH}"]
    assert (tmp_path / FILE).read_bytes() == DATA


def test_without_apt_and_mirror_the_message_says_where_mirrors_are_listed(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as caught:
        fetching.fetch(lock(), str(tmp_path), nothing)
    assert caught.value.message == (
        f"cannot get libc6 2 ({FILE}):\nnobody to ask: DONJON_MIRROR is not set, and this machine has no apt"
    )
    assert caught.value.hint == (
        "set DONJON_MIRROR to a mirror of Debian, .../debian: https://www.debian.org/mirror/list has a list"
    )


def test_a_package_that_is_not_the_lock_s_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    server.files[f"/{PATH}"] = b"b package"
    monkeypatch.setenv("DONJON_MIRROR", server.url)
    with pytest.raises(ParseError) as caught:
        fetching.fetch(lock(), str(tmp_path), nothing)
    assert caught.value.message == (
        f"cannot get libc6 2 ({FILE}):\n{server.url}/: expected SHA-256 {DIGEST}, "
        f"got {hashlib.sha256(b'b package').hexdigest()}"
    )
    assert caught.value.hint is not None
    assert "tampered" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_after_a_wrong_one_the_next_origin_is_asked(tmp_path: Path, server: Server, apt: Callable[..., None]) -> None:
    server.files["/bad/" + PATH], server.files["/good/" + PATH] = b"wrong", DATA
    apt(f"{server.url}/bad/", f"{server.url}/good/")
    fetching.fetch(lock(), str(tmp_path), nothing)
    assert (tmp_path / FILE).read_bytes() == DATA


def test_when_no_origin_has_it_any_more_the_message_says_how_to_lock_anew(
    tmp_path: Path, server: Server, apt: Callable[..., None]
) -> None:
    apt(f"{server.url}/debian/", f"{server.url}/old/")
    with pytest.raises(PlatformError) as caught:
        fetching.fetch(lock(), str(tmp_path), nothing)
    assert caught.value.message.splitlines() == [
        f"cannot get libc6 2 ({FILE}):",
        "apt-get download: E: Version '2' for 'libc6' was not found",
        f"{server.url}/debian/: answers 404 Not Found",
        f"{server.url}/old/: answers 404 Not Found",
    ]
    assert caught.value.hint is not None
    assert "an archive of old states has it at .../debian/20250102T030405Z" in caught.value.hint
    assert "`python -m tools.image_lock`" in caught.value.hint


def test_without_a_network_the_message_says_what_is_missing_and_how_to_bring_it(
    tmp_path: Path, server: Server, apt: Callable[..., None]
) -> None:
    apt(f"{server.url}/debian/", "http://127.0.0.1:1/")
    other = Package("deb", "zlib1g", "1", "z.deb", len(DATA), DIGEST, archive="debian", path=PATH)
    with pytest.raises(PlatformError) as caught:
        fetching.fetch(locked(*lock().packages, other), str(tmp_path), nothing)
    assert caught.value.message.splitlines() == [
        f"cannot get libc6 2 ({FILE}), the first of 2 that are missing:",
        "apt-get download: E: Version '2' for 'libc6' was not found",
        f"{server.url}/debian/: answers 404 Not Found",
        "http://127.0.0.1:1/: connection refused",
    ]
    assert caught.value.hint == (
        f"check the network; or copy {tmp_path} from a machine that has built an image, and name it with DONJON_MIRROR"
    )


def test_a_server_that_never_stops_sending_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    server.files[f"/{PATH}"] = bytes(64 << 20)
    monkeypatch.setenv("DONJON_MIRROR", server.url)
    with pytest.raises(ParseError, match=r"expected 9 bytes, got more"):
        fetching.fetch(lock(), str(tmp_path), nothing)
    assert server.sent < 32 << 20


def test_how_far_a_long_download_is_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    data = bytes(20_000_000)
    package = Package("deb", "linux", "6", "l.deb", len(data), hashlib.sha256(data).hexdigest(), archive="debian")
    server.files["/"] = data
    monkeypatch.setenv("DONJON_MIRROR", server.url)
    said: list[str] = []
    fetching.fetch(locked(package), str(tmp_path), said.append)
    assert [line.split("(")[1].split(".")[0] for line in said] == ["0", "8", "16"]
    assert said[2].endswith(" of 20.0 MB)")


def test_a_server_that_stops_early_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    server.files[f"/{PATH}"], server.length = DATA[:4], len(DATA)
    monkeypatch.setenv("DONJON_MIRROR", server.url)
    with pytest.raises((ParseError, PlatformError), match=r"expected 9 bytes, got 4|IncompleteRead"):
        fetching.fetch(lock(), str(tmp_path), nothing)


def test_a_redirect_is_followed_over_http_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    server.files["/there"] = DATA
    server.redirects[f"/{PATH}"] = f"{server.url}/there"
    monkeypatch.setenv("DONJON_MIRROR", server.url)
    fetching.fetch(lock(), str(tmp_path / "one"), nothing)
    (tmp_path / "secret").write_bytes(DATA)
    server.redirects[f"/{PATH}"] = f"file://{tmp_path}/secret"
    with pytest.raises(PlatformError, match="cannot get libc6"):
        fetching.fetch(lock(), str(tmp_path / "two"), nothing)
    server.redirects[f"/{PATH}"] = "ftp://127.0.0.1:9/there"
    with pytest.raises(PlatformError, match=r": answers 302 Found$"):
        fetching.fetch(lock(), str(tmp_path / "two"), nothing)
    assert os.listdir(tmp_path / "two") == []


@pytest.mark.parametrize("mirror", ["ftp://x/", "elsewhere", "file:///x"])
def test_a_mirror_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("DONJON_MIRROR", mirror)
    with pytest.raises(UsageError, match=r"^DONJON_MIRROR: expected a directory, or http\(s\)://\.\.\., got "):
        fetching.fetch(lock(), str(tmp_path), nothing)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / FILE).write_bytes(DATA)
    monkeypatch.setenv("DONJON_MIRROR", str(mirror))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(PlatformError, match=r"cannot write .*\.deb: no space left on device") as caught:
        fetching.fetch(lock(), str(tmp_path / "here"), nothing)
    assert caught.value.hint == "check who may write there, and for space"
    assert os.listdir(tmp_path / "here") == []


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match=r"^cannot make .*/file/downloads: not a directory$"):
        fetching.fetch(lock(), str(tmp_path / "file" / "downloads"), nothing)


def test_a_wheel_comes_through_pip_with_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def run(command: list[str], folder: str, gone: tuple[str, ...]) -> None:
        seen.extend(command)
        seen.append(Path(command[-1]).read_text())
        (Path(command[command.index("--dest") + 1]) / "x-1-cp311-abi3-manylinux_2_28_x86_64.whl").write_bytes(DATA)

    monkeypatch.setattr(fetching, "_run", run)
    file = "x-1-cp311-abi3-manylinux_2_28_x86_64.whl"
    wheel = locked(Package("wheel", "x", "1", file, len(DATA), DIGEST))
    fetching.fetch(wheel, str(tmp_path), nothing)
    assert (tmp_path / file).read_bytes() == DATA
    assert seen[-1] == f"x==1 --hash=sha256:{DIGEST}\n"
    assert {"--require-hashes", "--no-deps", "--only-binary", "manylinux_2_28_x86_64"} <= set(seen)


def test_what_pip_says_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    wheel = locked(Package("wheel", "x", "1", "x-1-py3-none-any.whl", 9, DIGEST))
    with pytest.raises(PlatformError, match=r"^cannot get x 1 \(x-1-py3-none-any\.whl\):\npip: no reason given$"):
        fetching.fetch(wheel, str(tmp_path), nothing)


def test_without_pip_the_other_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    wheel = locked(Package("wheel", "x", "1", "x-1-py3-none-any.whl", 9, DIGEST))
    message = r":\npip: there is none: install pip, or put the wheels into a directory and set DONJON_MIRROR to it$"
    with pytest.raises(PlatformError, match=message):
        fetching.fetch(wheel, str(tmp_path), nothing)


def test_a_pip_that_brings_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    wheel = locked(Package("wheel", "x", "1", "x-1-py3-none-any.whl", 9, DIGEST))
    with pytest.raises(PlatformError, match=r":\npip: nothing was downloaded$"):
        fetching.fetch(wheel, str(tmp_path), nothing)
