"""`donjon sim`: what it writes, what it ends with. Mounting is in tests/sim/test_mount.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from donjon import sim
from donjon.cli.main import main
from tests.sim.labs import NOW

Captured = pytest.CaptureFixture[str]
LATER = "2026-06-02T00:00:00Z"
TEES = ("snp", "tdx", "sgx", "cca")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sim") / "lab"
    sim.create(str(path), NOW)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "lab").symlink_to(lab)
    (tmp_path / "p.toml").write_text("accept_unattested = true\n")
    write_key(tmp_path / "keep.key", ec.generate_private_key(ec.SECP256R1()))
    return tmp_path


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def judge(*words: str) -> int:
    return main(["steward", "judge", "--roots", "lab/roots.toml", "--at", LATER, *words])


@pytest.mark.parametrize("tee", TEES)
@pytest.mark.parametrize("bound", [("--key", "keep.key"), ("--report-data", "07" * 64)])
def test_what_it_writes_a_steward_accepts(tee: str, bound: tuple[str, str], capfd: Captured) -> None:
    assert main(["sim", "evidence", "--tee", tee, *bound, "--at", LATER, "out"]) == 0
    assert judge("out") == 4
    assert capfd.readouterr().out.endswith("refused: evidence.attested\n")
    assert judge("--policy", "p.toml", "out") == 0


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()], ids=["P-384", "Ed25519"]
)
def test_takes_the_keys_that_a_steward_takes(here: Path, key: ec.EllipticCurvePrivateKey) -> None:
    write_key(here / "other.key", key)
    assert main(["sim", "evidence", "--tee", "cca", "--key", "other.key", "--at", LATER, "out"]) == 0
    assert judge("--policy", "p.toml", "out") == 0


def test_the_state_is_in_the_evidence(capfd: Captured) -> None:
    words = ["--state", "genoa,out-of-date", "--key", "keep.key", "--at", LATER, "out"]
    assert main(["sim", "evidence", *words]) == 0
    assert judge("--json", "--policy", "p.toml", "out") == 4
    found = json.loads(capfd.readouterr().out)["subjects"][0]
    failed = [check["name"] for check in found["checks"] if check["outcome"] == "failed"]
    assert failed[0] == "tcb.reported_minimum"


def test_the_workload_is_in_the_evidence(here: Path, capfd: Captured) -> None:
    (here / "w.toml").write_text(f'accept_unattested = true\n[[workload]]\ndigest = ["{"ab" * 32}"]\n')
    for workload, code in (("ab" * 32, 0), ("ac" * 32, 4)):
        assert main(["sim", "evidence", "--workload", workload, "--key", "keep.key", "--at", LATER, "out"]) == 0
        assert judge("--policy", "w.toml", "out") == code
    assert "refused: evidence.workload" in capfd.readouterr().out


def test_bare_evidence_with_collateral_from_a_file(here: Path) -> None:
    for tee, field in (("tdx", "no-collateral"), ("sgx", "no-collateral"), ("snp", "crl-missing")):
        assert main(["sim", "evidence", "--tee", tee, "--state", field, "--key", "keep.key", "--at", LATER, "out"]) == 0
        assert judge("--policy", "p.toml", "out") == 4
        assert main(["sim", "collateral", "--tee", tee, "--at", LATER, "more"]) == 0
        assert judge("--policy", "p.toml", "out", "more") == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--tee", "cca"), "nothing is published about a platform"),
        (("--tee", "tdx", "--state", "no-collateral"), "not all collateral is there in the state no-collateral"),
        (("--tee", "sgx", "--state", "no-qe-identity"), "not all collateral is there in the state no-qe-identity"),
        (("--state", "crl-missing"), "there is no revocation list in the state crl-missing"),
    ],
)
def test_collateral_that_is_not_there_is_told(words: tuple[str, ...], text: str, capfd: Captured) -> None:
    assert main(["sim", "collateral", *words, "out"]) == 2
    assert text in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ((), 2, "expected one of --key and --report-data"),
        (("--report-data", "00" * 64, "--at", "0001-01-01T00:00:00Z"), 2, "--at: expected a time in the years 1951 to"),
        (("--report-data", "00" * 64, "--at", "9999-12-31T00:00:00Z"), 2, "--at: expected a time in the years 1951 to"),
        (("--key", "keep.key", "--report-data", "00" * 64), 2, "expected one of --key and --report-data"),
        (("--report-data", "00"), 2, "--report-data: expected 128 hex digits"),
        (("--key", "none"), 2, "cannot read none"),
        (("--key", "p.toml"), 1, "expected a private key in PEM"),
        (("--key", "rsa.key"), 1, "expected one of P-256, P-384 or Ed25519"),
        (("--key", "keep.key", "--workload", "xy"), 2, '--workload: expected hex digits, got "xy"'),
        (("--key", "keep.key", "--workload", "00" * 33), 2, "HOST_DATA: expected at most 32 bytes, got 33"),
        (("--key", "keep.key", "--state", "blue"), 2, 'unknown state "blue"'),
        (("--key", "keep.key", "--tee", "kvm"), 2, "--tee: expected snp, tdx, sgx or cca"),
        (("--key", "keep.key", "--at", "soon"), 2, "--at: expected a time"),
        (("--key", "keep.key", "--sim", "nowhere"), 2, "nowhere is no lab: lab.toml is missing"),
    ],
)
def test_says_what_is_wrong(here: Path, words: tuple[str, ...], code: int, text: str, capfd: Captured) -> None:
    write_key(here / "rsa.key", rsa.generate_private_key(65537, 2048))
    assert main(["sim", "evidence", *words, "out"]) == code
    assert text in capfd.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.parametrize(("path", "code"), [("none/out", 2), ("lab", 2), ("\0", 2), ("/proc/out", 2)])
def test_says_why_it_cannot_write(path: str, code: int, capfd: Captured) -> None:
    assert main(["sim", "evidence", "--tee", "cca", "--key", "keep.key", path]) == code
    assert "cannot write" in capfd.readouterr().err


@pytest.mark.parametrize("tee", TEES)
def test_lists_the_states(tee: str, capfd: Captured) -> None:
    assert main(["sim", "states", tee]) == 0
    text = capfd.readouterr().out
    assert main(["sim", "states", tee, "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert listed["tee"] == tee
    assert len(listed["states"]) == len(sim.words(tee))
    for word in listed["states"]:
        assert word["word"] in text
        assert not word["fails"] or f"fails {word['fails']}" in text


def test_makes_a_lab(here: Path, capfd: Captured) -> None:
    assert main(["sim", "init", "new"]) == 0
    sim.load("new")
    assert main(["sim", "init", "new"]) == 2
    err = capfd.readouterr().err
    assert "expected an empty directory" in err
    assert "hint: it is a lab already: use it with --sim new" in err
    assert main(["sim", "init", "p.toml"]) == 2
    assert "expected a directory, got a file" in capfd.readouterr().err
    assert main(["sim", "init", "/proc/new"]) == 3
    assert "cannot make /proc/new" in capfd.readouterr().err
