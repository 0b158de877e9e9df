"""Demands from words and files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from donjon.errors import ParseError, UsageError
from donjon.verify import expect
from donjon.verify.files import MAX_ROOTS
from tests.verify.chains import WORKLOAD, Chain
from tests.verify.servers import Steward, pem


def test_words_become_demands(tmp_path: Path) -> None:
    first, second = Chain().anchor, Chain().anchor
    (tmp_path / "a.pem").write_bytes(pem(first))
    (tmp_path / "b.pem").write_bytes(pem(second))
    demands = expect(
        steward_root=(str(tmp_path / "a.pem"), str(tmp_path / "b.pem")), tee=["snp"], workload=WORKLOAD.hex(),
        max_age=timedelta(hours=2), names=["a.example.com"],
    )  # fmt: skip
    assert demands.anchors == (first, second)
    assert (demands.tees, demands.workloads, demands.names) == (("snp",), (WORKLOAD,), ("a.example.com",))
    assert demands.max_age == timedelta(hours=2)


def test_files_that_a_policy_names_stand_beside_it(tmp_path: Path, steward: Steward) -> None:
    anchor = Chain().anchor
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "root.pem").write_bytes(pem(anchor))
    (tmp_path / "there" / "verify.toml").write_text('steward_root = "root.pem"\n')
    assert expect(tmp_path / "there" / "verify.toml").anchors == (anchor,)
    (tmp_path / "there" / "verify.toml").write_text('roots = "roots.toml"\n')
    (tmp_path / "there" / "roots.toml").write_text(steward.roots().read_text())
    demands = expect(tmp_path / "there" / "verify.toml")
    assert [roots.simulated for roots in demands.roots["cca"].roots] == [False, True]


def test_files_that_options_name_stand_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = Chain().anchor
    (tmp_path / "root.pem").write_bytes(pem(anchor))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "verify.toml").write_text('tee = ["snp"]\n')
    monkeypatch.chdir(tmp_path)
    assert expect("there/verify.toml", steward_root="root.pem").anchors == (anchor,)


def test_refuses_files_that_are_not_what_they_must_be(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    with pytest.raises(UsageError, match="no such file"):
        expect(steward_root=str(bad))
    with pytest.raises(UsageError, match="no such file"):
        expect(bad)
    with pytest.raises(UsageError, match="is a directory"):
        expect(steward_root=str(tmp_path))
    with pytest.raises(UsageError, match="not a path"):
        expect("a\0b")
    for content in (b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        bad.write_bytes(content)
        with pytest.raises(ParseError, match="expected certificates in PEM"):
            expect(steward_root=str(bad))
    bad.write_bytes(bytes(MAX_ROOTS + 1))
    with pytest.raises(ParseError, match="at most"):
        expect(steward_root=str(bad))
    bad.write_bytes(b"\xff")
    with pytest.raises(ParseError, match="expected UTF-8, got the byte ff"):
        expect(bad)
    with pytest.raises(ParseError, match="expected UTF-8"):
        expect(roots=str(bad))
    bad.write_text("simulated = 1")
    with pytest.raises(ParseError, match="expected true or false"):
        expect(roots=str(bad))


def test_a_root_and_roots_exclude_each_other(tmp_path: Path, steward: Steward) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        expect(steward_root=str(steward.root), roots=str(steward.roots()))
    policy = tmp_path / "verify.toml"
    policy.write_text(f'steward_root = "{steward.root}"\n[snp]\n')
    with pytest.raises(UsageError, match="exclude each other"):
        expect(policy)


@pytest.mark.parametrize("word", ["steward_root", "tee", "product", "measurement", "workload", "names"])
@pytest.mark.parametrize("empty", [(), [], b""])
def test_a_demand_that_is_given_and_empty_is_refused(word: str, empty: Any) -> None:
    """A program that had nothing to fill in would else demand nothing."""
    with pytest.raises(UsageError, match=rf"^{word}: expected at least one, got none$"):
        expect(**{word: empty})


def test_an_age_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match='expected a time like "90s"'):
        expect(max_age=0)  # type: ignore[arg-type]
