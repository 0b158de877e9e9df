"""The tool that disables checks finds those that no test would miss, and only those."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest

from tools import disable_checks

HEAD = """
    from datetime import UTC, datetime
    from donjon.steward.policy import parse
    from donjon.steward.procedure import Trust, decide
    from donjon.tee.contract import Roots
    from tests.steward.requests import kvm_request

    def decision(text):
        return decide(kvm_request(), {"kvm": Trust((Roots({}),))}, parse(text), datetime(2026, 6, 1, tzinfo=UTC))
"""
WEAK = """
    def test_that_forgets_to_look():
        decision("")

    def test_that_looks_at_something_else():
        assert decision('tees = ["snp"]\\naccept_unattested = true').tee == "kvm"
"""
STRONG = """
    def test_refuses_what_proves_nothing():
        assert not decision("").accepted

    def test_refuses_a_tee_that_the_policy_does_not_have():
        assert not decision('tees = ["snp"]\\naccept_unattested = true').accepted

    def test_accepts_by_name():
        assert decision("accept_unattested = true").accepted
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(disable_checks, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Within the tree, as tests outside of it have no names that pytest would know again."""
    (disable_checks.ROOT / ".build").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=disable_checks.ROOT / ".build") as made:
        yield Path(made)


def suite(folder: Path, *bodies: str) -> str:
    path = folder / "test_made_for_this.py"
    path.write_text("".join(map(dedent, bodies)))
    return str(path.relative_to(disable_checks.ROOT))


def test_finds_what_no_test_would_miss(folder: Path, kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert disable_checks.main([suite(folder, HEAD, WEAK)]) == 1
    output = capfd.readouterr().out
    assert "no test notices       kvm evidence.attested\n" in output
    assert "no test notices       request request.tee\n" in output
    assert "no test notices       donjon.steward.policy.General.tees\n" in output
    assert "2 checks disabled, one at a time: 0 noticed" in output


def test_says_nothing_of_what_is_tested(folder: Path, kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert disable_checks.main(["--jobs", "2", suite(folder, HEAD, WEAK, STRONG)]) == 0
    output = capfd.readouterr().out
    assert "2 checks disabled, one at a time: 2 noticed" in output
    assert "2 policy keys disabled, one at a time: 2 noticed" in output
    results = json.loads((kept / "state.json").read_bytes())["results"]
    assert results["kvm evidence.attested"].endswith("test_refuses_what_proves_nothing")


def test_does_not_ask_again_what_it_knows(folder: Path, kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = suite(folder, HEAD, STRONG)
    assert disable_checks.main([path]) == 0
    assert "recording" in capfd.readouterr().out
    assert disable_checks.main([path]) == 0
    output = capfd.readouterr().out
    assert "recording" not in output
    assert "disabling" not in output


def test_a_test_that_fails_already_says_nothing(folder: Path, kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert disable_checks.main([suite(folder, "def test_fails():\n    assert False\n")]) == 2
    assert "the tests do not pass as they are" in capfd.readouterr().err


def test_excuses_are_for_things_that_there_are() -> None:
    assert not set(disable_checks.EXCUSED) & set(disable_checks.NEVER_ALONE)
    assert all(reason for reason in {**disable_checks.EXCUSED, **disable_checks.NEVER_ALONE}.values())
