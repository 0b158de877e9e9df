"""`donjon run --detach`, `ps`, `logs` and `stop`: several Keeps at once on one machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.keep.registry import birth_of
from tests import images
from tests.keep import guests
from tests.system.command import Running, command, config, donjon_run, environment, file, listens

Done = subprocess.CompletedProcess[bytes]
HELD = guests.guest("(drop (call $accept (i32.const 3) (i32.const 0)))")
"""A program that waits for a connection, and then ends."""


class Place:
    """A directory of entries, and the command with it."""

    def __init__(self, folder: Path) -> None:
        self.env = {"XDG_RUNTIME_DIR": str(folder)}
        self.entries = folder / "donjon" / "keeps"

    def donjon(self, *words: str | Path, code: int = 0) -> Done:
        done = donjon_run(*words, env=self.env)
        assert done.returncode == code, done.stderr.decode()
        return done

    def ps(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.donjon("ps", "--json").stdout)
        return {entry["name"]: entry for entry in found}

    def until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "run"
    folder.mkdir()
    made = Place(folder)
    yield made
    for name in made.ps():
        made.donjon("stop", name, "--time", "0")
    made.until(lambda: not _keepers(made))


def _keepers(place: Place) -> list[str]:
    """Processes that have something to do with Keeps of this place: keepers too have its variable."""
    wanted = f"XDG_RUNTIME_DIR={place.env['XDG_RUNTIME_DIR']}".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.fixture
def service(tmp_path: Path) -> tuple[str, ...]:
    """Words that run a service on a port of its own."""
    toml = config(tmp_path, listens("web"))
    return (str(file(tmp_path, HELD)), "--wasmcfgfile", str(toml))


def test_three_keeps_run_at_once_are_listed_and_end_each_for_itself(place: Place, service: tuple[str, ...]) -> None:
    names = ["one", "two"]
    for name in names:
        assert place.donjon("run", "--detach", "--name", name, *service).stdout == f"{name}\n".encode()
    names.append(place.donjon("run", "--detach", *service).stdout.decode().strip())
    assert re.fullmatch(r"main-[0-9a-f]{4}", names[2])
    found = place.ps()
    assert sorted(found) == sorted(names)
    ports = set()
    for entry in found.values():
        assert (entry["backend"], entry["detached"]) == ("nil", True)
        assert re.fullmatch(r"[0-9a-f]{64}", entry["workload"])
        assert abs(time.time() - entry["since"]) < 100
        (listener,) = entry["listeners"]
        assert (listener["name"], listener["host"]) == ("web", "127.0.0.1")
        ports.add(listener["port"])
        assert birth_of(entry["pid"])
    assert len(ports) == 3
    assert len({entry["workload"] for entry in found.values()}) == 1
    assert place.donjon("stop", "two").stdout == b""
    assert sorted(place.ps()) == sorted({*names} - {"two"})
    (listener,) = found["one"]["listeners"]
    socket.create_connection(("127.0.0.1", listener["port"])).close()  # and so it ends by itself
    place.until(lambda: list(place.ps()) == [names[2]])


def test_the_table_shows_what_a_person_wants_to_know(place: Place, service: tuple[str, ...]) -> None:
    empty = place.donjon("ps").stdout.decode()
    assert empty == "NAME  PID  BACKEND  SINCE  WORKLOAD  LISTENERS\n"
    place.donjon("run", "--detach", "--name", "web", *service)
    entry = place.ps()["web"]
    head, line = place.donjon("ps").stdout.decode().splitlines()
    assert head.split() == empty.split()
    listener = f"web=127.0.0.1:{entry['listeners'][0]['port']}"
    assert line.split()[:3] == ["web", str(entry["pid"]), "nil"]
    assert line.split()[-2:] == [entry["workload"][:12], listener]


def test_the_workload_is_what_digest_says(place: Place, service: tuple[str, ...]) -> None:
    place.donjon("run", "--detach", "--name", "web", *service)
    said = place.donjon("workload", "digest", *service).stdout.decode()
    assert place.ps()["web"]["workload"] in said


def test_it_goes_on_without_the_shell_that_started_it(place: Place, service: tuple[str, ...]) -> None:
    words = [*command(), "run", "--detach", "--name", "web", *service]
    started = subprocess.run(
        words, env=environment(place.env), capture_output=True, check=True, timeout=60, start_new_session=True
    )  # fmt: skip
    assert started.stdout == b"web\n"
    pid = place.ps()["web"]["pid"]
    assert os.getsid(pid) not in (os.getsid(0), pid)
    assert [os.readlink(f"/proc/{pid}/fd/0"), os.readlink(f"/proc/{pid}/fd/1")[:5]] == ["/dev/null", "pipe:"]


def test_what_it_writes_is_kept_and_read_later(place: Place, tmp_path: Path) -> None:
    module = file(tmp_path, guests.says("a line\n"))
    place.donjon("run", "--detach", "--name", "says", module)
    place.until(lambda: "says" not in place.ps())
    place.until(lambda: b"ended" in place.donjon("logs", "says").stdout)
    assert place.donjon("logs", "says").stdout == b"a line\ndonjon: the Keep ended with code 0\n"
    assert (place.entries / "says.log").stat().st_mode & 0o777 == 0o600


def test_a_log_is_followed_until_the_keep_ends(place: Place, service: tuple[str, ...]) -> None:
    place.donjon("run", "--detach", "--name", "web", *service)
    words = [*command(), "logs", "--follow", "web"]
    with subprocess.Popen(words, env=environment(place.env), stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert b"listening on 127.0.0.1" in following.stdout.readline()
        assert following.poll() is None
        place.donjon("stop", "web")
        assert following.wait(20) == 0


def test_a_log_is_bounded_and_its_newest_part_is_kept(place: Place, tmp_path: Path) -> None:
    body = """
      (local $n i32)
      (loop $more
        (call $write (i32.const 1) (i32.const 65536) (i32.const 65536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $n) (i32.const 80))))
    """
    module = file(tmp_path, guests.guest(body))
    place.donjon("run", "--detach", "--name", "loud", module)
    place.until(lambda: b"the Keep ended" in place.donjon("logs", "loud").stdout)
    sizes = [(place.entries / f"loud.log{end}").stat().st_size for end in ("", ".1")]
    assert sum(sizes) <= 2 << 20
    assert len(place.donjon("logs", "loud").stdout) == sum(sizes)
    assert sum(sizes) >= 1 << 20


def test_a_program_that_cannot_start_says_so_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    done = place.donjon("run", "--detach", "--name", "none", tmp_path / "none.wasm", code=2)
    assert done.stdout == b""
    assert done.stderr.startswith(b"donjon: error: no module ")
    assert place.ps() == {}
    file(tmp_path, b"(module", "bad.wat")
    assert place.donjon("run", "--detach", tmp_path / "bad.wat", code=1).stdout == b""


def test_a_port_that_is_taken_is_said_where_it_was_started(place: Place, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        toml = config(tmp_path, listens("web", port=taken.getsockname()[1]))
        done = place.donjon("run", "--detach", file(tmp_path, HELD), "--wasmcfgfile", toml, code=3)
    assert b"cannot listen on 127.0.0.1" in done.stderr


def test_a_name_is_for_one_keep(place: Place, service: tuple[str, ...]) -> None:
    place.donjon("run", "--detach", "--name", "web", *service)
    pid = place.ps()["web"]["pid"]
    for detach in (("--detach",), ()):
        done = place.donjon("run", *detach, "--name", "web", *service, code=2)
        assert b'a Keep named "web" runs already' in done.stderr
    assert place.ps()["web"]["pid"] == pid


@pytest.mark.parametrize("words", [("run", "--name", "../x", "a.wasm"), ("logs", "../x"), ("stop", "../x")])
def test_a_name_that_cannot_be_one_is_refused(words: tuple[str, ...], place: Place, tmp_path: Path) -> None:
    file(tmp_path, guests.RETURNS, "a.wasm")
    done = donjon_run(*words, env=place.env, cwd=tmp_path)
    assert done.returncode == 2
    assert b"expected a name of 1 to 48 letters" in done.stderr


def test_one_in_the_foreground_is_listed_when_it_has_a_name(place: Place, service: tuple[str, ...]) -> None:
    with Running("run", "--name", "mine", *service, listeners=1, env=place.env) as running:
        place.until(lambda: "mine" in place.ps())
        entry = place.ps()["mine"]
        assert (entry["pid"], entry["detached"]) == (running.process.pid, False)
        assert entry["listeners"][0]["port"] == running.addresses["web"][1]
        done = place.donjon("logs", "mine", code=2)
        assert b"was not started with --detach" in done.stderr
        place.donjon("stop", "mine")
        assert running.wait() == -signal.SIGTERM


def test_one_without_a_name_costs_nothing_and_is_not_listed(place: Place, service: tuple[str, ...]) -> None:
    with Running("run", *service, listeners=1, env=place.env):
        assert place.ps() == {}


def test_one_that_was_killed_leaves_no_entry(place: Place, service: tuple[str, ...]) -> None:
    place.donjon("run", "--detach", "--name", "web", *service)
    os.kill(place.ps()["web"]["pid"], signal.SIGKILL)
    place.until(lambda: place.ps() == {})
    assert b"ended by signal 9" in place.donjon("logs", "web").stdout
    assert b'no Keep named "web" runs' in place.donjon("stop", "web", code=2).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_keep_ends_when_its_keeper_is_killed(place: Place, service: tuple[str, ...]) -> None:
    place.donjon("run", "--detach", "--name", "web", *service)
    pid = place.ps()["web"]["pid"]
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    place.until(lambda: place.ps() == {})


def test_limits_of_a_detached_keep_hold(place: Place, tmp_path: Path) -> None:
    toml = config(tmp_path, after="[limits]\ncpu = 0.5\n")
    place.donjon("run", "--detach", "--name", "spins", file(tmp_path, guests.SPINS), "--wasmcfgfile", toml)
    other = tmp_path / "other"
    other.mkdir()
    toml = config(other, listens("web"))
    place.donjon("run", "--detach", "--name", "waits", file(tmp_path, HELD, "held.wat"), "--wasmcfgfile", toml)
    place.until(lambda: list(place.ps()) == ["waits"])
    said = place.donjon("logs", "spins").stdout
    assert b"processor time" in said
    assert b"ended with code 134" in said


def test_stop_reaches_a_program_that_computes_and_one_with_a_time_limit(place: Place, tmp_path: Path) -> None:
    toml = config(tmp_path, after="[limits]\ncpu = 600\n")
    module = file(tmp_path, guests.SPINS)
    place.donjon("run", "--detach", "--name", "plain", module)
    place.donjon("run", "--detach", "--name", "limited", module, "--wasmcfgfile", toml)
    assert sorted(place.ps()) == ["limited", "plain"]
    begun = time.monotonic()
    for name in ("plain", "limited"):
        place.donjon("stop", name)
    assert time.monotonic() - begun < 9  # neither needed to be killed
    assert place.ps() == {}


@pytest.mark.parametrize("time_", ["-1", "x", "1e3", "99999999"])
def test_a_time_that_is_none_is_refused(time_: str, place: Place) -> None:
    done = place.donjon("stop", "web", f"--time={time_}", code=2)
    assert b"--time: expected 0 to 9999 seconds" in done.stderr


def test_arguments_and_options_are_those_that_were_given(place: Place, tmp_path: Path) -> None:
    module = file(tmp_path, guests.ARGUMENTS)
    place.donjon("run", "--detach", "--name", "args", "--log-filter", "off", module, "--", "--detach", "-x", "a b", "")
    place.until(lambda: b"ended" in place.donjon("logs", "args").stdout)
    said = place.donjon("logs", "args").stdout
    assert said.startswith(b"main.wasm\0--detach\0-x\0a b\0\0")


def test_a_place_that_is_another_users_is_refused(place: Place, service: tuple[str, ...]) -> None:
    place.entries.parent.mkdir(mode=0o700)
    place.entries.mkdir()
    place.entries.chmod(0o777)
    for words in (("ps",), ("logs", "x"), ("stop", "x"), ("run", "--detach", *service)):
        assert b"expected a directory of this user's" in place.donjon(*words, code=3).stderr
    place.entries.chmod(0o700)


@pytest.mark.slow
def test_one_in_a_virtual_machine_is_detached_listed_and_stopped(place: Place, service: tuple[str, ...]) -> None:
    images.qemu()
    place.env |= {"DONJON_IMAGE": images.image("production").directory, "DONJON_BOOT_SECONDS": "280"}
    words = ("run", "--detach", "--name", "far", "--backend", "kvm", *service)
    done = donjon_run(*words, env=place.env, seconds=300)
    assert (done.returncode, done.stdout) == (0, b"far\n"), done.stderr.decode()
    entry = place.ps()["far"]
    assert (entry["backend"], entry["detached"], entry["listeners"][0]["name"]) == ("kvm", True, "web")
    said = place.donjon("workload", "digest", *service).stdout.decode()
    assert entry["workload"] in said
    (machine,) = Path(f"/proc/{entry['pid']}/task/{entry['pid']}/children").read_text().split()
    assert place.donjon("stop", "far", "--time", "60").stdout == b""
    place.until(lambda: not Path(f"/proc/{machine}").exists())
    assert place.ps() == {}
    assert b"listening on 127.0.0.1" in place.donjon("logs", "far").stdout
