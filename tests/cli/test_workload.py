"""`donjon workload digest`: the number, and what it is of."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from donjon.cli.main import main
from donjon.identity import self_signed
from donjon.keep.launch import Launch
from donjon.keep.nil import prepare
from donjon.workload import Descriptor, File, package
from tests.keep import guests

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "main.wat"
    path.write_bytes(guests.ARGUMENTS)
    return path


def printed(capfd: Captured, *words: str | Path) -> str:
    assert main(["workload", "digest", *map(str, words)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out


def test_prints_the_digest_alone_on_a_line(module: Path, capfd: Captured) -> None:
    main_entry = File.named("main.wasm", guests.ARGUMENTS)
    assert printed(capfd, module) == Descriptor(package(main_entry)).digest().hex() + "\n"
    assert printed(capfd, module, "--", "a") == Descriptor(package(main_entry), ["a"]).digest().hex() + "\n"


def test_covers_the_bytes_of_the_configuration_and_of_its_roots(module: Path, tmp_path: Path, capfd: Captured) -> None:
    root = self_signed().chain_pem()
    (tmp_path / "root.pem").write_bytes(root)
    text = '[roots]\ncompany = "root.pem"\n'
    toml = tmp_path / "Enarx.toml"
    toml.write_text(text)
    expected = Descriptor(
        package(File.named("main.wasm", guests.ARGUMENTS), text.encode()), roots={"company": sha256(root).digest()}
    )
    assert printed(capfd, module, "--wasmcfgfile", toml) == expected.digest().hex() + "\n"
    found = json.loads(printed(capfd, module, "--wasmcfgfile", toml, "--json"))
    assert found["workload"] == expected.digest().hex()
    assert json.dumps(found["descriptor"], sort_keys=True, separators=(",", ":")).encode() == expected.json()
    assert found["files"]["Enarx.toml"]["length"] == len(text)
    (tmp_path / "root.pem").write_bytes(root + b"\n")
    assert printed(capfd, module, "--wasmcfgfile", toml) != expected.digest().hex() + "\n"
    (tmp_path / "root.pem").write_bytes(root)
    toml.write_text(text + "# another comment\n")
    assert printed(capfd, module, "--wasmcfgfile", toml) != expected.digest().hex() + "\n"


def test_is_what_a_keep_that_runs_the_same_has(module: Path, tmp_path: Path, capfd: Captured) -> None:
    toml = tmp_path / "Enarx.toml"
    toml.write_text('args = ["x"]\nsteward = "https://steward.example.com"\n')
    launch = Launch(str(module), str(toml), ["y"])
    prepare(launch, None)
    assert printed(capfd, module, "--wasmcfgfile", toml, "--", "y") == launch.describe().digest().hex() + "\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["no-such.wasm"], 2, "donjon: error: no module no-such.wasm: no such file\n"),
        (["{module}", "--wasmcfgfile", "no-such.toml"], 2, "donjon: error: cannot read no-such.toml: no such file"),
    ],
)
def test_says_what_is_missing(words: list[str], code: int, text: str, module: Path, capfd: Captured) -> None:
    assert main(["workload", "digest", *(word.format(module=module) for word in words)]) == code
    assert capfd.readouterr().err.startswith(text)
