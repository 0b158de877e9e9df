"""`donjon steward`: what it prints, what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from donjon.cli.main import main
from donjon.steward._template import TEMPLATE
from donjon.steward.files import write_roots
from tests.steward.requests import REAL, VECTORS, Realm, kvm_request

Captured = pytest.CaptureFixture[str]
AT = "2023-01-15T00:00:00Z"
MILAN = '[snp]\nproducts = ["Milan"]\ntcb_floor = "none"\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def judge(*words: str) -> int:
    return main(["steward", "judge", *words])


# init


def test_init_writes_the_template(here: Path) -> None:
    assert main(["steward", "init"]) == 0
    assert (here / "steward.toml").read_text(encoding="utf-8") == TEMPLATE


def test_init_leaves_a_file_as_it_is(here: Path, capfd: Captured) -> None:
    (here / "steward.toml").write_text("mine")
    assert main(["steward", "init"]) == 1
    assert (here / "steward.toml").read_text() == "mine"
    assert "does already exist" in capfd.readouterr().err


def test_init_says_why_it_cannot_write(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    here.rmdir()
    assert main(["steward", "init"]) == 3
    assert "cannot write steward.toml" in capfd.readouterr().err


# judge


def test_accepts_a_real_keep_at_its_time(here: Path, capfd: Captured) -> None:
    (here / "p.toml").write_text(MILAN)
    assert judge("--policy", "p.toml", "--at", AT, str(REAL["snp"])) == 0
    out = capfd.readouterr().out
    assert out.endswith("\naccepted\n")
    assert "report.signature" in out
    assert "[SNP-ABI" in out
    assert "note: Milan" in out


def test_refuses_it_by_the_safe_defaults_and_names_the_check(capfd: Captured) -> None:
    assert judge("--at", AT, str(REAL["snp"])) == 4
    assert "\nrefused: policy.products (and 4 more)\n" in capfd.readouterr().out


def test_prints_every_check_as_json(capfd: Captured) -> None:
    assert judge("--json", "--at", AT, str(REAL["snp"])) == 4
    found = json.loads(capfd.readouterr().out)
    assert found["at"] == AT
    (subject,) = found["subjects"]
    assert (subject["kind"], subject["tee"], subject["ground"]) == ("request", "snp", "refused")
    failed = {check["name"]: check for check in subject["checks"] if check["outcome"] == "failed"}
    assert failed["policy.products"]["found"] == "Milan"
    assert failed["policy.products"]["demanded"] == "one of Genoa, Turin"
    assert failed["policy.products"]["spec"]


def test_shows_what_would_be_granted(here: Path, capfd: Captured) -> None:
    (here / "request.csr").write_bytes(kvm_request())
    (here / "p.toml").write_text("accept_unattested = true\n")
    assert judge("--json", "--policy", "p.toml", "request.csr") == 0
    (subject,) = json.loads(capfd.readouterr().out)["subjects"]
    assert subject["grant"]["markers"] == ["unprotected"]
    assert subject["report"]["protected"] is False


def test_judges_a_bare_quote_with_its_collateral(capfd: Captured) -> None:
    directory = VECTORS / "tdx/phala-v4-b0c06f"
    files = [str(directory / "quote.bin"), str(directory / "collateral.json")]
    assert judge("--at", "2025-06-30T00:00:00Z", *files) == 0
    assert judge("--at", "2025-08-01T00:00:00Z", *files) == 4


def test_asks_bare_evidence_for_report_data(capfd: Captured) -> None:
    directory = VECTORS / "tdx/phala-v4-b0c06f"
    files = [str(directory / "quote.bin"), str(directory / "collateral.json")]
    assert judge("--at", "2025-06-30T00:00:00Z", "--report-data", "00" * 64, *files) == 4
    assert "refused: evidence.binding\n" in capfd.readouterr().out


def test_believes_the_roots_that_it_is_given(here: Path, capfd: Captured) -> None:
    realm = Realm()
    (here / "request.csr").write_bytes(realm.request())
    (here / "roots.toml").write_text(write_roots({"cca": realm.roots}))
    (here / "p.toml").write_text("accept_unattested = true\n")
    assert judge("--policy", "p.toml", "request.csr") == 4
    assert judge("--policy", "p.toml", "--roots", "roots.toml", "request.csr") == 0
    assert judge("--roots", "roots.toml", "request.csr") == 4
    assert "refused: evidence.attested" in capfd.readouterr().out


def test_one_refusal_among_several_counts(here: Path) -> None:
    (here / "good.csr").write_bytes(kvm_request())
    (here / "bad.csr").write_bytes(REAL["snp"].read_bytes())
    (here / "p.toml").write_text("accept_unattested = true\n")
    assert judge("--policy", "p.toml", "good.csr") == 0
    assert judge("--policy", "p.toml", "good.csr", "bad.csr") == 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["missing"], 2, "cannot read missing: no such file"),
        (["."], 2, "cannot read .: is a directory"),
        (["a\0b"], 2, "not a path"),
        ([], 2, "FILE is missing"),
        (["--at", "tomorrow", "text"], 2, '--at: expected a time, got "tomorrow"'),
        (["--at", "2026-06-01", "text"], 2, "expected a time with its zone"),
        (["--at", "0001-01-01T00:00:00+14:00", "text"], 2, "--at: expected a time in the years 1 to 9999"),
        (["--at", "9999-12-31T23:59:59-01:00", "text"], 2, "--at: expected a time in the years 1 to 9999"),
        (["--report-data", "00", "text"], 2, "--report-data: expected 128 hex digits, got 2"),
        (["--report-data", "xy", "text"], 2, "--report-data: expected 128 hex digits"),
        (["text"], 1, "text: nobody knows what this is"),
        (["--policy", "text", "text"], 1, "text:1:"),
        (["--policy", "binary", "text"], 1, "binary: expected UTF-8, got the byte ff"),
        (["crl"], 2, "there is nothing to judge"),
        (["text"] * 65, 2, "expected at most 64 files, got 65"),
    ],
)
def test_says_what_is_wrong(here: Path, capfd: Captured, words: list[str], code: int, message: str) -> None:
    (here / "text").write_text("hello")
    (here / "binary").write_bytes(b"\xff")
    (here / "crl").write_bytes((VECTORS / "snp/steward-milan-v2/crl.der").read_bytes())
    assert judge(*words) == code
    assert message in capfd.readouterr().err
