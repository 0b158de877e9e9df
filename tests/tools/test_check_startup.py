"""tools/check_startup.py: reading what Python says of its imports, and judging it."""

from __future__ import annotations

import pytest

from tools.check_startup import ALLOWED, HEAVY, RunError, findings, imported, parse

REPORT = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   _ctypes
import time:       200 |        300 | ctypes
hello from the guest
import time:        20 |         20 |       donjon.errors
"""


def test_reads_the_modules_in_their_order() -> None:
    assert parse(REPORT) == ["_ctypes", "ctypes", "donjon.errors"]


def test_lets_pass_what_the_list_names_and_what_lies_below_it() -> None:
    assert findings(["ctypes", "ctypes._endian", "donjon.keep.nil"]) == []


def test_refuses_what_the_list_does_not_name_once_for_a_package() -> None:
    assert findings(["json", "json.decoder", "re"]) == [
        "json is imported by `donjon run` and not in ALLOWED of tools/check_startup.py",
        "re is imported by `donjon run` and not in ALLOWED of tools/check_startup.py",
    ]


def test_a_name_that_only_begins_like_an_allowed_one_is_refused() -> None:
    assert len(findings(["selectors", "structlog"])) == 2


@pytest.mark.parametrize(("name", "reason"), HEAVY)
def test_refuses_our_own_that_other_commands_need(name: str, reason: str) -> None:
    assert findings(["donjon", name, f"{name}.part"]) == [f"{name} is imported by `donjon run`: {reason}"]


def test_every_entry_has_its_reason_and_stands_there_once() -> None:
    names = [name for name, reason in (*ALLOWED, *HEAVY) if reason]
    assert len(names) == len(set(names)) == len(ALLOWED) + len(HEAVY)


def test_a_command_that_fails_is_told_with_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    import sys

    monkeypatch.setattr("tools.check_startup.PYTHON", sys.executable)
    with pytest.raises(RunError, match=r"ended with 1:\nno such thing$"):
        imported(["-c", "raise SystemExit('no such thing')"], str(tmp_path))
