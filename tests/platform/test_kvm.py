"""`donjon.platform.kvm`: what each way to fail is called, that nothing hangs, and what is remembered.

What the guest's process would print is printed by small programs here; the last test runs the guest on this machine.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from donjon.platform import kvm
from donjon.platform.kvm import Kvm, probe

DEVICE = "/dev/null"
"""Opens as /dev/kvm would."""


def answering(**found: Any) -> tuple[str, ...]:
    """A command that prints this."""
    return (sys.executable, "-IS", "-c", f"print({json.dumps(found)!r})")


def running(code: str) -> tuple[str, ...]:
    return (sys.executable, "-IS", "-c", code)


GOOD = answering(step="done", api=12, seconds=0.0004)


def trial(command: tuple[str, ...], seconds: float = 10.0) -> Kvm:
    return probe(device=DEVICE, command=command, memory="", seconds=seconds)


def test_a_guest_that_runs_at_the_processors_pace_works() -> None:
    found = trial(GOOD)
    assert (found.state, found.works, found.problem, found.hint, found.api) == ("works", True, "", None, 12)


@pytest.mark.parametrize(
    ("command", "state", "problem"),
    [
        pytest.param(
            answering(step="api", api=11), "version", "KVM's API version: expected 12, got 11", id="another API version"
        ),
        pytest.param(
            answering(step="done", api=12, seconds=0.5), "emulated",
            "KVM is itself emulated on this machine, and slower: 600 000 instructions took it 0.50 s",
            id="a guest that works, but slowly",
        ),
        pytest.param(
            answering(step="interrupt", api=12, seconds=0.5, error="exit reason 17"), "emulated",
            "KVM is itself emulated on this machine, and slower: 600 000 instructions took it 0.50 s",
            id="a guest that is slow, and then fails",
        ),
        pytest.param(
            answering(step="vm", api=12, error="device or resource busy", errno=16), "failed",
            "a small guest on KVM failed at the step 'vm': device or resource busy",
            id="no virtual machine to be had",
        ),
        pytest.param(
            answering(step="interrupt", api=12, seconds=0.0004, error="exit reason 8"), "failed",
            "a small guest on KVM failed at the step 'interrupt': exit reason 8",
            id="a guest that dies when it is interrupted",
        ),
        pytest.param(
            answering(step="loop", api=12), "failed",
            "a small guest on KVM failed at the step 'loop': it said nothing",
            id="a guest that stops half-way",
        ),
        pytest.param(running("pass"), "failed", "a small guest on KVM ended without a word", id="no answer"),
        pytest.param(running("print('[1]')"), "failed", "a small guest on KVM ended without a word", id="no object"),
        pytest.param(running("print('[' * 3000)"), "failed", "a small guest on KVM ended without a word", id="nested"),
        pytest.param(
            running("print('x' * 10**6)"), "failed", "a small guest on KVM ended without a word", id="a flood",
        ),
        pytest.param(
            ("/nonexistent/python",), "failed",
            "a small guest on KVM failed at the step 'start': no such file or directory", id="no Python",
        ),
    ],
)  # fmt: skip
def test_says_what_is_wrong(command: tuple[str, ...], state: str, problem: str) -> None:
    found = trial(command)
    assert (found.state, found.problem, found.works) == (state, problem, False)


def test_another_hypervisor_is_named_as_the_cause_of_a_busy_processor() -> None:
    assert "VirtualBox" in str(trial(answering(step="vm", api=12, error="busy", errno=16)).hint)


def test_a_guest_that_does_not_end_is_killed_at_the_deadline(tmp_path: Path) -> None:
    number = tmp_path / "pid"
    code = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    begun = time.monotonic()
    found = trial(running(code), seconds=1.0)
    assert (found.state, found.problem) == ("silent", "a small guest on KVM did not end in time")
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_a_guest_that_cannot_be_killed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spared: list[int] = []
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, _number: spared.append(pid))
    begun = time.monotonic()
    found = trial(running("import time; time.sleep(60)"), seconds=0.2)
    assert found.state == "silent"
    assert time.monotonic() - begun < 5
    (child,) = spared
    kill(child, 9)
    os.waitpid(child, 0)


def test_a_guest_that_answered_and_does_not_go_away_counts_by_its_answer() -> None:
    code = f"import os, time; os.write(1, {json.dumps({'step': 'done', 'api': 12, 'seconds': 0.0})!r}.encode())\n"
    assert trial(running(code + "os.close(1); time.sleep(60)")).works


@pytest.mark.parametrize(
    ("modules", "leaves", "hint"),
    [
        pytest.param((), {1: (0, 0, 1 << 5, 0)}, "sudo modprobe kvm_intel", id="a processor of Intel"),
        pytest.param((), {0x80000001: (0, 0, 4, 0)}, "sudo modprobe kvm_amd", id="a processor of AMD"),
        pytest.param(
            (), {}, "switch virtualization on in the BIOS; on a virtual machine, ask for nested virtualization",
            id="no virtualization",
        ),
        pytest.param(
            ("kvm_intel",), {}, "the module is loaded: in a container, start that with --device /dev/kvm",
            id="a container",
        ),
    ],
)  # fmt: skip
def test_no_device_has_a_hint_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: tuple[str, ...], leaves: dict[int, Any], hint: str
) -> None:
    isdir = os.path.isdir
    monkeypatch.setattr(
        os.path, "isdir", lambda path: path[12:] in modules if path.startswith("/sys/module/") else isdir(path)
    )
    monkeypatch.setattr("donjon.platform.cpuid.cpuid", leaves.get)
    found = probe(device=str(tmp_path / "kvm"), command=GOOD, memory="")
    assert (found.state, found.problem) == ("absent", f"{tmp_path}/kvm: no such file or directory")
    assert (found.hint, found.modules) == (hint, modules)


def test_what_is_no_device_is_not_opened_as_one(tmp_path: Path) -> None:
    (tmp_path / "kvm").write_text("")
    found = probe(device=str(tmp_path / "kvm"), command=GOOD, memory="")
    assert (found.state, found.problem) == ("absent", f"{tmp_path}/kvm: expected a device, got something else")


@pytest.mark.parametrize(
    ("mode", "group", "hint"),
    [
        pytest.param(0o660, "kvm", "sudo usermod -aG kvm $USER && newgrp kvm", id="its group may"),
        pytest.param(0o600, "kvm", "sudo setfacl -m u:$USER:rw /dev/null", id="its group may not"),
        pytest.param(0o660, "", "sudo setfacl -m u:$USER:rw /dev/null", id="its group has no name"),
    ],
)
def test_no_permission_has_a_hint_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, mode: int, group: str, hint: str
) -> None:
    import grp

    def refuse(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    def name(_: int) -> Any:
        if not group:
            raise KeyError
        return grp.struct_group((group, "x", 108, []))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "stat", lambda _: os.stat_result((0o020000 | mode, 0, 0, 1, 0, 108, 0, 0, 0, 0)))
    monkeypatch.setattr(grp, "getgrgid", name)
    found = probe(device=DEVICE, command=GOOD, memory="")
    assert (found.state, found.problem) == ("forbidden", "cannot open /dev/null: permission denied")
    assert found.hint == hint


def test_on_another_system_than_linux_nobody_is_told_to_load_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    found = probe(device="/dev/nonexistent", memory="")
    assert (found.state, found.hint) == ("absent", None)


def test_on_another_processor_no_guest_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*machine[:4], "aarch64")))
    assert probe(device=DEVICE, memory="").state == "foreign"


class Counted:
    """A command that leaves a mark each time it runs."""

    def __init__(self, folder: Path, answer: dict[str, Any]) -> None:
        self.marks = folder / "marks"
        self.command = running(f"open({str(self.marks)!r}, 'a').write('x'); print({json.dumps(answer)!r})")
        self.memory = str(folder / "cache" / "donjon" / "kvm.json")

    def probe(self, anew: bool = False) -> Kvm:
        return probe(anew, DEVICE, command=self.command, memory=self.memory)

    @property
    def runs(self) -> int:
        return len(self.marks.read_text())


WORKING = {"step": "done", "api": 12, "seconds": 0.0004}


@pytest.mark.skipif(
    not os.path.exists(kvm.BOOT), reason="what is remembered holds for a boot, and here nobody names it"
)
class TestMemory:
    @pytest.mark.parametrize("answer", [WORKING, {**WORKING, "seconds": 1.0}, {"step": "api", "api": 13}])
    def test_an_answer_holds_until_it_is_asked_for_anew(self, tmp_path: Path, answer: dict[str, Any]) -> None:
        counted = Counted(tmp_path, answer)
        first, second = counted.probe(), counted.probe()
        assert (first.remembered, second.remembered, counted.runs) == (False, True, 1)
        assert (first.state, first.problem, first.seconds) == (second.state, second.problem, second.seconds)
        assert not counted.probe(anew=True).remembered
        assert counted.runs == 2

    def test_a_failure_may_pass_and_is_not_remembered(self, tmp_path: Path) -> None:
        counted = Counted(tmp_path, {"step": "vm", "api": 12, "error": "cannot allocate memory"})
        counted.probe()
        counted.probe()
        assert counted.runs == 2

    def test_an_answer_ends_with_the_boot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        counted = Counted(tmp_path, WORKING)
        counted.probe()
        other = tmp_path / "boot_id"
        other.write_text("00000000-0000-0000-0000-000000000001\n")
        monkeypatch.setattr(kvm, "BOOT", str(other))
        assert not counted.probe().remembered

    @pytest.mark.parametrize("content", ["", "{", "[]", "[" * 5000, '{"key": 1}', "\udcff"])
    def test_a_damaged_memory_is_none(self, tmp_path: Path, content: str) -> None:
        counted = Counted(tmp_path, WORKING)
        counted.probe()
        Path(counted.memory).write_text(content, errors="surrogateescape")
        assert counted.probe().works
        assert counted.runs == 2

    @pytest.mark.parametrize(("name", "value"), [("state", 1), ("api", "12"), ("seconds", "x"), ("more", 1)])
    def test_a_memory_of_another_shape_is_none(self, tmp_path: Path, name: str, value: Any) -> None:
        counted = Counted(tmp_path, WORKING)
        counted.probe()
        found = json.loads(Path(counted.memory).read_text())
        Path(counted.memory).write_text(json.dumps({**found, name: value}))
        counted.probe()
        assert counted.runs == 2

    def test_that_a_guest_did_not_end_is_remembered_for_a_while(self, tmp_path: Path) -> None:
        marks, memory = tmp_path / "marks", str(tmp_path / "kvm.json")
        command = running(f"open({str(marks)!r}, 'a').write('x'); import time; time.sleep(60)")

        def ask() -> Kvm:
            return probe(device=DEVICE, command=command, memory=memory, seconds=1.0)

        assert [ask().remembered, ask().remembered] == [False, True]
        old = time.time() - kvm.BRIEF - 1
        os.utime(memory, (old, old))
        assert not ask().remembered
        assert marks.read_text() == "xx"

    def test_what_somebody_else_has_put_there_does_not_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted = Counted(tmp_path, WORKING)
        counted.probe()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert not counted.probe().remembered

    @pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
    def test_a_memory_that_is_no_file_is_none_and_nobody_waits_for_it(self, tmp_path: Path, kind: str) -> None:
        counted = Counted(tmp_path, WORKING)
        counted.probe()
        memory = Path(counted.memory)
        if kind == "link":
            memory.rename(tmp_path / "elsewhere")
            memory.symlink_to(tmp_path / "elsewhere")
        else:
            memory.unlink()
            os.mkfifo(memory) if kind == "pipe" else memory.mkdir()
        assert not counted.probe().remembered
        assert counted.runs == 2

    def test_where_nothing_can_be_written_it_is_asked_each_time(self, tmp_path: Path) -> None:
        counted = Counted(tmp_path, WORKING)
        (tmp_path / "cache").write_text("a file where a directory would be")
        assert counted.probe().works
        assert counted.probe().works
        assert counted.runs == 2

    def test_no_draft_is_left_behind(self, tmp_path: Path) -> None:
        counted = Counted(tmp_path, WORKING)
        counted.probe()
        assert os.listdir(os.path.dirname(counted.memory)) == ["kvm.json"]

    def test_it_lies_in_the_users_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        probe(device=DEVICE, command=GOOD)
        assert (tmp_path / "donjon" / "kvm.json").exists()

    def test_without_a_home_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", "")
        assert probe(device=DEVICE, command=GOOD).works


def test_this_machine_gives_an_answer_within_the_deadline() -> None:
    begun = time.monotonic()
    found = probe(anew=True, memory="")
    assert time.monotonic() - begun < kvm.SECONDS + kvm.GRACE + 5
    assert found.works == (found.problem == "")
    assert found.works or found.state in ("absent", "forbidden", "version", "emulated", "silent", "failed", "foreign")
    if found.works:
        assert found.api == 12
