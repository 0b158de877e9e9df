"""A machine that is a confidential VM itself: the Keep runs in place, and its evidence is the machine's.

The command runs in a mount namespace where simulated hardware stands in the kernel's place, so nothing is named by an
option: what it finds is what it would find there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon import tee
from tests.keep import guests
from tests.sim.mounts import mounted, sim_mount
from tests.system.command import Running, command, config, donjon_run, environment, file, listens
from tests.system.stewards import lab_in, leaf_of
from tests.system.tls import tls_client, unchecked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare to make a mount namespace with"),
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount in the kernel's place"),
]
PLACE = "/sys/kernel/config/tsm/report"
SCRIPT = f'mount -t tmpfs none /sys/kernel && mkdir -p {PLACE} && mount --bind "$1" {PLACE} && shift && exec "$@"'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(lab_in(tmp_path_factory.mktemp("sim") / "lab"))


@contextmanager
def guest_of(lab: Path, folder: Path, name: str) -> Iterator[list[str]]:
    """What starts the command on a machine that is a guest of this TEE."""
    tsm = folder / "tsm"
    with mounted(sim_mount(lab, tsm, "--tee", name), tsm):
        yield ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(tsm), *command()]


@pytest.mark.parametrize(("name", "demand"), [("snp", "tee"), ("snp", "snp"), ("tdx", "tdx"), ("cca", "tee")])
def test_the_keep_runs_in_place_and_its_certificate_has_the_machines_evidence(
    tmp_path: Path, lab: Path, name: str, demand: str
) -> None:
    module, toml = file(tmp_path, guests.SERVES), config(tmp_path, listens("echo", "tls"))
    words = ["run", "--require", demand, str(module), "--wasmcfgfile", str(toml)]
    with guest_of(lab, tmp_path, name) as program, Running(*words, listeners=1, program=program) as keep:
        with tls_client(keep.at("echo"), unchecked()) as connection:
            leaf = leaf_of(connection)
        assert f"this machine is a guest of {name}: the Keep runs in place".encode() in keep.stderr
    kind = tee.load(name)
    evidence = next(one.value for one in leaf.extensions if one.oid.dotted_string == kind.OID)
    bound, _ = kind.claimed(kind.parse(evidence.value)[0])
    assert bound == kind.key_binding(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(("name", "demand"), [("snp", "tdx"), ("cca", "snp")])
def test_a_guest_of_another_tee_than_demanded_runs_nothing(tmp_path: Path, lab: Path, name: str, demand: str) -> None:
    module = file(tmp_path, guests.SERVES)
    with guest_of(lab, tmp_path, name) as program:
        words = [*program, "run", "--require", demand, str(module)]
        done = subprocess.run(words, capture_output=True, env=environment(), timeout=60, check=False)
    assert done.returncode == 3
    assert f"--require {demand}: this machine is a guest of {name}".encode() in done.stderr


def test_here_nothing_is_demanded_in_vain(tmp_path: Path) -> None:
    module = file(tmp_path, guests.SERVES)
    done = donjon_run("run", "--require", "cca", module)
    assert done.returncode == 3
    assert b"--require cca: " in done.stderr
