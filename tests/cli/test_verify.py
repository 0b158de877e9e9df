"""`donjon verify`: what it prints, what it ends with; every option alone can refuse a Keep."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from donjon.cli.main import main
from donjon.cli.verify import read_expected
from donjon.errors import UsageError
from donjon.wire.der import SEQUENCE, encode
from tests.steward.requests import REAL, VECTORS, kvm_request, request
from tests.system.command import donjon_run
from tests.verify.chains import NAME, OTHER, WORKLOAD
from tests.verify.servers import Server, Steward, http_ok, pem, server_context

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def steward(tmp_path_factory: pytest.TempPathFactory) -> Steward:
    return Steward(tmp_path_factory.mktemp("steward"))


@pytest.fixture(scope="module")
def keep(steward: Steward) -> Iterator[Server]:
    server = Server(server_context(steward.keep()), http_ok)
    yield server
    server.close()


@pytest.fixture(scope="module")
def bare(steward: Steward) -> Iterator[Server]:
    server = Server(server_context(steward.bare_keep()), http_ok)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def chain_file(steward: Steward, folder: Path) -> str:
    text = steward.keep().read_text()
    (folder / "chain.pem").write_text(text[text.index("-----BEGIN CERTIFICATE") :])
    return "chain.pem"


def test_tells_who_judged_what_and_when(steward: Steward, keep: Server, capfd: Captured) -> None:
    assert main(["verify", keep.address, "--steward-root", str(steward.root), "--accept-unattested"]) == 0
    out = capfd.readouterr().out
    assert out.startswith(f"{keep.address}: SIMULATED, accepted as demanded\n")
    for line in (
        r"judged by    CN=Donjon Steward Root \(Donjon, donjon-steward ",
        r"judged at    20\d\d-",
        r"TEE          Arm CCA",
        r"TCB          lifecycle=secured",
        r"measurement  0000",
        rf"workload     {WORKLOAD.hex()}",
        rf"names        urn:uuid:.*, {NAME}",
        r"key          [0-9a-f]{64}",
        r"valid until  20\d\d-",
        r"note: simulated: proves nothing about the host",
        r"note: nobody asked what runs: no workload was demanded",
    ):
        assert re.search(line, out), line


def test_says_nothing_of_what_was_asked(steward: Steward, keep: Server, capfd: Captured) -> None:
    root = str(steward.root)
    words = ["--steward-root", root, "--accept-unattested", "--workload", WORKLOAD.hex()]
    assert main(["verify", keep.address, *words]) == 0
    assert "nobody asked" not in capfd.readouterr().out


REFUSED = {
    "tee": (["--tee", "snp,tdx"], "demand.tee"),
    "product": (["--product", "Genoa"], "demand.product"),
    "measurement": (["--measurement", "11" * 32], "demand.measurement"),
    "workload": (["--workload", OTHER.hex()], "demand.workload"),
    "name": (["--name", "shop.example.org"], "demand.name"),
}


@pytest.mark.parametrize("option", REFUSED)
def test_refuses_when_only_one_demand_does_not_hold(
    option: str, steward: Steward, keep: Server, capfd: Captured
) -> None:
    words, check = REFUSED[option]
    always = ["verify", keep.address, "--steward-root", str(steward.root), "--accept-unattested"]
    assert main([*always, *words]) == 4
    told = capfd.readouterr()
    assert f"{keep.address}: refused" in told.out
    assert f"✗ {check}" in told.out
    assert f"donjon: error: peer refused: {check}: expected one of" in told.err
    assert main([*always, *words, "--json"]) == 4
    found = json.loads(capfd.readouterr().out)
    assert [item["name"] for item in found["checks"] if item["outcome"] == "failed"] == [check]


@pytest.mark.parametrize(
    "words",
    [
        ["--tee", "snp,cca"], ["--measurement", f"{'11' * 48},{'00' * 32}"], ["--name", f"x.example.com,{NAME}"],
        ["--workload", f"{OTHER.hex()},{WORKLOAD.hex()}"], ["--max-age", "1h"], ["--timeout", "5"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_accepts_when_the_demand_holds(words: list[str], steward: Steward, keep: Server) -> None:
    always = ["verify", keep.address, "--steward-root", str(steward.root), "--accept-unattested"]
    assert main([*always, *words]) == 0


def test_refuses_a_judgement_that_is_too_old(steward: Steward, here: Path, capfd: Captured) -> None:
    later = (steward.now + timedelta(hours=2)).isoformat()
    words = ["verify", chain_file(steward, here), "--steward-root", str(steward.root), "--accept-unattested"]
    assert main([*words, "--at", later, "--max-age", "3h"]) == 0
    assert main([*words, "--at", later, "--max-age", "1h"]) == 4
    assert "demand.max_age" in capfd.readouterr().err


def test_refuses_at_another_time(steward: Steward, here: Path, capfd: Captured) -> None:
    words = ["verify", chain_file(steward, here), "--steward-root", str(steward.root), "--accept-unattested"]
    assert main([*words, "--at", (steward.now + timedelta(days=2)).isoformat()]) == 4
    assert "chain.dates" in capfd.readouterr().err


def test_refuses_what_proves_nothing_unless_told(steward: Steward, keep: Server, capfd: Captured) -> None:
    assert main(["verify", keep.address, "--steward-root", str(steward.root)]) == 4
    assert "evidence.attested: expected evidence of real hardware, got simulated" in capfd.readouterr().err


def test_refuses_another_steward(keep: Server, tmp_path: Path, capfd: Captured) -> None:
    other = Steward(tmp_path)
    assert main(["verify", keep.address, "--steward-root", str(other.root), "--accept-unattested"]) == 4
    assert "chain.anchor" in capfd.readouterr().err


def test_says_what_to_do_without_a_root(keep: Server, capfd: Captured) -> None:
    assert main(["verify", keep.address]) == 4
    assert "hint: if a Steward has issued it, name the Steward's root" in capfd.readouterr().err


def test_judges_evidence_in_the_certificate(steward: Steward, bare: Server, capfd: Captured) -> None:
    always = ["verify", bare.address, "--accept-unattested"]
    assert main([*always, "--roots", str(steward.roots()), "--workload", WORKLOAD.hex()]) == 0
    assert "judged by    the evidence itself" in capfd.readouterr().out
    capfd.readouterr()
    assert main(always) == 4  # nobody believes these roots
    assert "name those of its lab, --roots lab/roots.toml" in capfd.readouterr().err
    assert main(["verify", bare.address, "--roots", str(steward.roots())]) == 4
    assert "evidence.attested" in capfd.readouterr().err


def test_a_policy_demands_the_same(steward: Steward, keep: Server, bare: Server, here: Path, capfd: Captured) -> None:
    (here / "root.pem").write_bytes(steward.root.read_bytes())
    good = f'steward_root = "root.pem"\naccept_unattested = true\nworkload = "{WORKLOAD.hex()}"\n'
    (here / "verify.toml").write_text(good)
    assert main(["verify", keep.address, "--policy", "verify.toml"]) == 0
    assert main(["verify", keep.address, "--policy", "verify.toml", "--tee", "snp"]) == 4
    assert main(["verify", keep.address, "--policy", "verify.toml", "--workload", OTHER.hex()]) == 2
    assert "workload: the policy demands it, and so does an option" in capfd.readouterr().err
    (here / "verify.toml").write_text(good + '[tcb.cca]\nRMM = "2.0"\n')
    assert main(["verify", keep.address, "--policy", "verify.toml"]) == 4
    assert "demand.tcb" in capfd.readouterr().err
    roots = f'roots = "{steward.roots()}"\naccept_unattested = true\n'
    (here / "verify.toml").write_text(roots + f'[cca]\nhash = ["{"11" * 32}"]\n')
    assert main(["verify", bare.address, "--policy", "verify.toml"]) == 4
    assert "realm.initial_measurement" in capfd.readouterr().err
    (here / "verify.toml").write_text("tee = 1\n")
    assert main(["verify", keep.address, "--policy", "verify.toml"]) == 1
    assert "verify.toml:1:7: tee" in capfd.readouterr().err


# JSON


def test_json_has_the_proof_and_every_check(steward: Steward, keep: Server, capfd: Captured) -> None:
    assert main(["verify", keep.address, "--steward-root", str(steward.root), "--accept-unattested", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert list(found) == ["subject", "proven", "at", "reason", "hint", "proof", "checks"]
    assert (found["subject"], found["proven"], found["reason"]) == (keep.address, True, "")
    assert list(found["proof"]) == [
        "tee", "product", "tcb", "measurement", "workload", "judged_by", "anchor", "judged_at", "valid_until",
        "simulated", "protected", "nonce", "names", "key", "certificate", "notes",
    ]  # fmt: skip
    assert found["proof"]["workload"] == WORKLOAD.hex()
    assert found["proof"]["simulated"] is True
    assert all(item["outcome"] != "failed" for item in found["checks"])


def test_json_says_why_not(keep: Server, capfd: Captured) -> None:
    assert main(["verify", keep.address, "-j"]) == 4
    told = capfd.readouterr()
    found = json.loads(told.out)
    assert (found["proven"], found["proof"]) == (False, None)
    assert found["reason"].startswith("peer refused: leaf.signature")
    assert found["hint"].startswith("if a Steward has issued it")
    assert told.err == ""


# Files and standard input


def test_judges_a_chain_in_a_file(steward: Steward, here: Path, capfd: Captured) -> None:
    words = ["verify", chain_file(steward, here), "--steward-root", str(steward.root), "--accept-unattested"]
    assert main(words) == 0
    assert capfd.readouterr().out.startswith("chain.pem: SIMULATED")


def test_judges_the_answer_of_a_steward_as_it_came(steward: Steward, here: Path, capfd: Captured) -> None:
    text = Path(chain_file(steward, here)).read_text()
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END", text, re.DOTALL)
    chain = [base64.b64decode(block) for block in blocks]
    (here / "answer.der").write_bytes(encode(SEQUENCE, *reversed(chain)))
    words = ["verify", "answer.der", "--steward-root", str(steward.root), "--accept-unattested"]
    assert main(words) == 0, capfd.readouterr().err
    (here / "answer.der").write_bytes(encode(SEQUENCE, *chain))
    assert main(words) == 4


def test_judges_one_certificate_in_der(steward: Steward, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = steward.bare_keep().read_text()
    body = text[text.index("-----BEGIN CERTIFICATE-----") + 27 : text.index("-----END CERTIFICATE")]
    (here / "keep.crt").write_bytes(base64.b64decode(body))
    words = ["--roots", str(steward.roots()), "--accept-unattested"]
    assert main(["verify", "keep.crt", *words]) == 0
    stdin = io.TextIOWrapper(io.BytesIO((here / "keep.crt").read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["verify", "-", *words]) == 0


def test_judges_real_evidence_and_requests(capfd: Captured) -> None:
    real = ["verify", str(REAL["snp"]), "--at", "2023-01-15T00:00:00Z"]
    assert main(real) == 4  # a Milan, of 2023
    assert "policy." in capfd.readouterr().err
    Path("verify.toml").write_text('[snp]\nproducts = ["Milan"]\ntcb_floor = "none"\n')
    real += ["--policy", "verify.toml"]
    assert main([*real, "--tee", "snp", "--product", "Milan"]) == 0
    out = capfd.readouterr().out
    assert "proven" in out
    assert "ff717ae7" in out
    assert main([*real, "--tee", "tdx"]) == 4
    assert main([*real, "--measurement", "11" * 48]) == 4


def test_judges_a_quote_with_its_collateral(capfd: Captured) -> None:
    found = json.loads((VECTORS / "sgx/expected.json").read_text())
    text = json.dumps(found)
    assert "automata-icelake" in text
    folder = VECTORS / "sgx/automata-icelake"
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".bin", ".dat", ".json"))
    code = main(["verify", *files, "--json"])
    told = json.loads(capfd.readouterr().out)
    assert code == 4  # now, its collateral is old: but it was found and read
    names = [item["name"] for item in told["checks"]]
    assert "evidence.format" not in names
    assert len(names) > 20


def test_a_request_must_bind_its_key(steward: Steward, here: Path, capfd: Captured) -> None:
    from donjon.tee import cca
    from tests.verify.chains import realm

    words = ["--roots", str(steward.roots()), "--accept-unattested"]
    (here / "good.csr").write_bytes(realm().request())
    assert main(["verify", "good.csr", *words]) == 0
    (here / "bad.csr").write_bytes(realm().request(binding=lambda spki: cca.key_binding(spki + b"x")))
    assert main(["verify", "bad.csr", *words]) == 4
    assert "evidence.binding" in capfd.readouterr().err
    (here / "none.csr").write_bytes(request())
    assert main(["verify", "none.csr"]) == 4
    assert "request.evidence" in capfd.readouterr().err
    (here / "kvm.csr").write_bytes(kvm_request())
    assert main(["verify", "kvm.csr"]) == 4
    assert main(["verify", "kvm.csr", "--accept-unattested"]) == 0
    assert "UNPROTECTED" in capfd.readouterr().out


def test_what_is_malformed_in_a_file_is_no_refusal(steward: Steward, here: Path, capfd: Captured) -> None:
    (here / "x").write_bytes(b"hello")
    assert main(["verify", "x"]) == 1
    chain = (here / chain_file(steward, here)).read_text()
    (here / "x").write_text(chain.replace("MII", "MIJ", 1))
    assert main(["verify", "x", "--steward-root", str(steward.root)]) == 1
    (here / "x").write_text(chain * 5)
    assert main(["verify", "x", "--steward-root", str(steward.root)]) == 1
    assert "chain: expected 1 to 8 certificates, got 10" in capfd.readouterr().err


WRONG: dict[str, tuple[list[str], int, str]] = {
    "no file": (["missing.pem"], 2, "no such file"),
    "a host without a port": (["keep.example.com"], 2, "hint: .*a Keep is named as HOST:PORT"),
    "an address of the web": (["https://keep.example.com:1"], 2, "hint: .*a Keep is named as HOST:PORT"),
    "a port without a host": ([":443"], 2, "expected HOST:PORT"),
    "IPv6 without brackets": (["::1:443"], 2, r"hint: an IPv6 address is written \[::1\]:443"),
    "a port beyond all": (["host:70000"], 2, "expected HOST:PORT"),
    "an unknown TEE": (["host:1", "--tee", "sev"], 2, "tee: expected one of snp"),
    "a short workload": (["host:1", "--workload", "ab"], 2, "expected 64 hex digits"),
    "a name without a Steward": (["host:1", "--name", "a"], 2, "names need a Steward's root"),
    "an age without a Steward": (["host:1", "--max-age", "1h"], 2, "an age needs a Steward's root"),
    "no time": (["host:1", "--at", "noon"], 2, "--at: expected a time"),
    "no timeout": (["host:1", "--timeout", "0"], 2, "--timeout: expected seconds"),
    "a timeout of words": (["host:1", "--timeout", "long"], 2, "--timeout: expected seconds"),
    "no root": (["host:1", "--steward-root", "missing.pem"], 2, "no such file"),
    "only roots": (["host:1", "--steward-root", "empty.pem"], 1, "expected certificates in PEM"),
    "no roots": (["host:1", "--roots", "empty.pem", "--policy", "missing.toml"], 2, "no such file"),
    "two things": (["one.csr", "two.csr"], 2, "expected one thing to judge, got 2"),
    "a Steward and a request": (["one.csr", "--steward-root", "root.pem"], 2, "a Steward's root judges certificates"),
    "nobody there": (["127.0.0.1:1"], 3, "cannot connect to 127.0.0.1:1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong_with(name: str, steward: Steward, here: Path, capfd: Captured) -> None:
    words, code, message = WRONG[name]
    (here / "empty.pem").write_text("")
    (here / "root.pem").write_bytes(steward.root.read_bytes())
    for file in ("one.csr", "two.csr"):
        (here / file).write_bytes(kvm_request())
    assert main(["verify", *words]) == code
    assert re.search(message, capfd.readouterr().err)


def test_text_of_the_peer_moves_no_cursor(here: Path, capfd: Captured) -> None:
    from tests.verify.chains import Chain

    chain = Chain()
    chain.leaf.subject = chain.issuing.subject = "\x1b[2J\x1b]0;x\x07"
    (here / "chain.pem").write_bytes(pem(*chain.built()))
    (here / "root.pem").write_bytes(pem(Chain().anchor))
    assert main(["verify", "chain.pem", "--steward-root", "root.pem", "--at", "2026-06-01T12:00:00Z"]) == 4
    told = capfd.readouterr()
    assert "\x1b" not in told.out + told.err


# As a process


@pytest.mark.slow
def test_the_command_itself(steward: Steward, keep: Server) -> None:
    words = ("verify", keep.address, "--steward-root", steward.root, "--accept-unattested")
    done = donjon_run(*words, "--workload", WORKLOAD.hex())
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"accepted as demanded" in done.stdout
    done = donjon_run(*words, "--workload", OTHER.hex())
    assert done.returncode == 4
    assert b"peer refused: demand.workload" in done.stderr
    chain = steward.keep().read_bytes()
    done = donjon_run("verify", "-", *words[2:], stdin=chain[chain.index(b"-----BEGIN CERTIFICATE") :])
    assert done.returncode == 0
    assert done.stdout.startswith(b"-: SIMULATED")
    done = donjon_run("verify", "-", stdin=chain)
    assert done.returncode == 1  # a private key is no certificate
    assert b"got PEM of" in done.stderr


# What `connect` expects


def test_expectations_are_a_file_or_words(steward: Steward, here: Path) -> None:
    (here / "verify.toml").write_text('tee = ["snp"]\n')
    assert read_expected("verify.toml").tees == ("snp",)
    (here / "a=b.toml").write_text('tee = ["tdx"]\n')
    assert read_expected("./a=b.toml").tees == ("tdx",)
    demands = read_expected(
        f"steward_root={steward.root},tee=snp,tee=tdx,workload={WORKLOAD.hex()},max_age=1h,names=a,"
        "accept_unattested=true,product=Genoa,measurement=abcd"
    )
    assert (demands.tees, demands.workloads, demands.names) == (("snp", "tdx"), (WORKLOAD,), ("a",))
    assert (demands.accept_unattested, demands.max_age) == (True, timedelta(hours=1))
    assert (demands.products, demands.measurements, len(demands.anchors)) == (("Genoa",), (b"\xab\xcd",), 1)
    assert not read_expected("tee=snp,accept_unattested=false").accept_unattested
    assert "cca" in read_expected(f"roots={steward.roots()}").roots


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tees=snp", "expected a file, or steward_root="),
        ("tee=snp,tdx", 'got "tdx"'),
        ("tee=snp,", 'got ""'),
        ("max_age=1h,max_age=2h", "expected max_age once"),
        ("accept_unattested=yes", "accept_unattested: expected true or false"),
        ("tee=sev", "tee: expected one of"),
        ("policy=x", "expected a file, or"),
        ("missing.toml", "no such file"),
    ],
)
def test_refuses_the_expectation(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_expected(text)
