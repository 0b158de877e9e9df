"""A Keep as it runs, checked from outside: evidence in its own certificate, simulated, for each TEE."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from donjon import sim
from tests.system.command import ROOT, Running, command, donjon_run, environment

CONFIG = """
[[files]]
kind = "stdin"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "listen"
name = "echo"
addr = "127.0.0.1"
port = 0
"""
OTHER = "11" * 32


@pytest.mark.slow
@pytest.mark.parametrize("tee", ["snp", "tdx", "sgx", "cca"])
def test_a_running_keep_proves_what_it_runs(tee: str, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    sim.create(str(lab), datetime.now(UTC))
    config = tmp_path / "Enarx.toml"
    config.write_text(CONFIG)
    module = ROOT / "examples/echo/wat/main.wat"
    workload = donjon_run("workload", "digest", module, "--wasmcfgfile", config).stdout.decode().strip()
    words = ("run", module, "--wasmcfgfile", config, "--sim", lab, "--attest", tee)
    with Running(*words, listeners=1) as keep:
        host, port = keep.at("echo")
        always = ("verify", f"{host}:{port}", "--roots", lab / "roots.toml", "--accept-unattested", "--json")
        done = donjon_run(*always, "--workload", workload, "--tee", tee)
        assert done.returncode == 0, done.stdout
        proof = json.loads(done.stdout)["proof"]
        assert (proof["tee"], proof["workload"], proof["simulated"]) == (tee, workload, True)
        refused = donjon_run(*always, "--workload", OTHER)
        assert refused.returncode == 4
        failed = [item["name"] for item in json.loads(refused.stdout)["checks"] if item["outcome"] == "failed"]
        assert failed == ["demand.workload"]
        expected = f"roots={lab / 'roots.toml'},accept_unattested=true,workload="
        line = [*command(), "connect", f"{host}:{port}", "--pin", "key", "--expect"]
        with subprocess.Popen([*line, expected + workload], stderr=subprocess.PIPE, env=environment()) as door:
            assert door.stderr is not None
            said = door.stderr.readline().decode()
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", said)
            assert found, said
            with socket.create_connection(("127.0.0.1", int(found[1])), 30) as connection:
                connection.sendall(b"proven")
                assert connection.recv(6) == b"proven"
            door.terminate()
        assert donjon_run(*line[1 if len(command()) == 1 else 3 :], expected + OTHER).returncode == 4
