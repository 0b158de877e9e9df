"""`donjon run --backend kvm --sim LAB`: the whole way from an image that anyone can measure to a client that checks.

    donjon image build, donjon image measure ──► policy ──► Steward
    donjon run ──► QEMU, the image, a workload, evidence of simulated hardware ──► certificate ──► donjon verify

and what becomes of it when a host tampers: with what boots, what is handed over, or what hardware says of it. Each boot
takes some four seconds; what is tampered with without one is in `test_confidential`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from donjon import sim
from donjon.errors import VerifyError
from donjon.guest.agent import Place
from donjon.image import Image, cpio, manifest
from donjon.keep import vm
from donjon.keep.launch import Launch
from donjon.keep.vm.simulated import Simulated
from donjon.log import Logger
from donjon.sallyport import frames
from donjon.sim.lab import Guest, Lab
from donjon.tee import snp
from donjon.tee.simulated import Measured
from donjon.workload import File
from tests.guest.sessions import Session
from tests.images import image, qemu
from tests.sim.mounts import mounted, raw_mount
from tests.system.command import ROOT, Running, config, donjon_run, listens
from tests.system.confidential import POLICY, vendors_word
from tests.system.stewards import Steward, lab_in
from tests.system.tls import tls_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TEES = ("snp", "tdx")
ECHO = ROOT / "examples/echo/wat/main.wat"


@dataclass
class Shop:
    """A workload, a Steward that gives it a name when it runs in the image, and where it is started.

    Args:
        toml: its Enarx.toml. digest: of the workload. policy: what the Steward has.
    """

    tee: str
    lab: str
    image: Image
    steward: Steward
    toml: Path
    digest: str
    policy: str

    def words(self, toml: Path | None = None, module: Path = ECHO) -> list[str | Path]:
        more = ("--backend", "kvm", "--sim", self.lab, "--attest", self.tee)
        return ["run", "--wasmcfgfile", toml or self.toml, *more, module]

    def env(self, booted: Path | None = None) -> dict[str, str]:
        """With another image, if there is one."""
        return {"DONJON_IMAGE": str(booted or self.image.directory)}

    def refused(self, *words: str | Path, booted: Path | None = None) -> str:
        """Run what does not get a certificate; what it says."""
        done = donjon_run(*(words or self.words()), env=self.env(booted), seconds=120)
        assert done.returncode == 4, done.stderr
        assert b"listening on" not in done.stderr
        assert done.stdout == b""
        return done.stderr.decode()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lab_in(tmp_path_factory.mktemp("confidential") / "lab")


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory, lab: str) -> Iterator[Callable[[str], Shop]]:
    """One for each TEE: built, measured, and written into a policy before anything runs."""
    qemu()
    built = image("simulated")
    made: dict[str, Shop] = {}
    with ExitStack() as stack:

        def shop(tee: str) -> Shop:
            if tee not in made:
                folder = tmp_path_factory.mktemp(tee)
                steward = started(folder, lab, tee)
                stack.callback(steward.close)
                toml = config(folder, listens("echo", "tls"), before=steward.toml(), after=steward.roots())
                env = {"DONJON_IMAGE": built.directory}
                words = ("--variant", "simulated", "--firmware", f"{lab}/firmware.fd")
                measured = donjon_run("image", "measure", "--tee", tee, *words, env=env)
                assert measured.returncode == 0, measured.stderr
                digest = donjon_run("workload", "digest", ECHO, "--wasmcfgfile", toml).stdout.decode().strip()
                policy = POLICY.format(tee=tee, measured=measured.stdout.decode(), workload=digest)
                steward.reload(policy)
                made[tee] = Shop(tee, lab, built, steward, toml, digest, policy)
            return made[tee]

        yield shop


def started(folder: Path, lab: str, tee: str) -> Steward:
    more = vendors_word(folder / "collateral", lab, tee)
    return Steward(folder / "steward", lab, "accept_unattested = true\n", more)


@pytest.mark.parametrize("tee", TEES)
def test_a_keep_in_a_measured_machine_gets_its_name_and_proves_it_to_a_client(
    shops: Callable[[str], Shop], tee: str
) -> None:
    shop = shops(tee)
    with Running(*shop.words(), listeners=1, env=shop.env()) as keep:
        host, port = keep.at("echo")
        said = f"certified by the Steward {shop.steward.url} for simulated {tee} and workload {shop.digest}"
        assert said in keep.stderr.decode()
        words: list[str | Path] = ["verify", f"{host}:{port}", "--steward-root", shop.steward.root, "--tee", tee]
        demanded = donjon_run(*words, "--accept-unattested", "--workload", shop.digest, "--json")
        assert demanded.returncode == 0, demanded.stderr
        proof = json.loads(demanded.stdout)["proof"]
        assert proof["simulated"] is True
        assert proof["measurement"] in shop.policy
        assert "shop.example.com" in proof["names"]
        # Exactly this workload, and nobody takes it for hardware
        assert donjon_run(*words, "--accept-unattested", "--workload", "5" * 64).returncode == 4
        assert donjon_run(*words, "--workload", shop.digest).returncode == 4
        with tls_client((host, port), shop.steward.client(), "shop.example.com") as client:
            client.sendall(b"hello, Keep in a machine")
            assert client.recv(100) == b"hello, Keep in a machine"
        assert keep.end()[0] == -15


HELLO = ROOT / "examples/hello/wat/hello.wat"


@pytest.mark.parametrize("fetched", [True, False], ids=["fetched", "not to be had"])
def test_of_snp_a_host_that_sends_no_certificates_is_asked_for_its_keys(
    lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: bool
) -> None:
    """The Steward is offline and has a revocation list, so it needs the certificate from the Keep."""
    qemu()
    lists, folder = tmp_path / "lists", tmp_path / "amd"
    lists.mkdir()
    folder.mkdir()
    assert donjon_run("sim", "collateral", "--sim", lab, "--tee", "snp", lists / "list.crl").returncode == 0
    if fetched:
        evidence, _ = snp.parse(sim.load(lab).guest("snp").collect(bytes(64)))
        assert evidence.vek is not None
        (folder / "vcek").write_bytes(evidence.vek.certificate.encoded)
    guest = Lab.guest

    def alone(self: Lab, tee: str, workload: bytes = b"", state: str = "", measured: Measured | None = None) -> Guest:
        return guest(self, tee, workload, state or "report-alone", measured)

    monkeypatch.setattr(Lab, "guest", alone)
    monkeypatch.setattr("donjon.tee.snp.fetch.BASE", "http://127.0.0.1:1")  # where there is no vendor
    monkeypatch.setenv("DONJON_AMD_CACHE", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DONJON_IMAGE", image("simulated").directory)
    policy = "accept_unattested = true\n[collateral]\noffline = true\n"
    steward = Steward(tmp_path / "steward", lab, policy, ["--collateral", str(lists)])
    said: list[str] = []
    out = os.memfd_create("out")
    null = os.open(os.devnull, os.O_RDWR)
    try:
        toml = config(tmp_path, listens("echo", "tls"), before=steward.toml(), after=steward.roots())
        launch = Launch(str(HELLO), str(toml), attest="snp", sim=lab)
        log = Logger(lambda _level, _target, text: said.append(text), "debug")
        if fetched:
            assert vm.run(launch, log, stdio=(null, out, null)) == 0
        else:
            with pytest.raises(VerifyError, match=r"vek\.present"):
                vm.run(launch, log, stdio=(null, out, null))
        answered = [text for text in said if text.startswith("collateral snp vcek-turin-")]
        assert len(answered) == 1
        without = [text for text in said if text.startswith("the evidence goes without the certificate of its key")]
        assert len(without) == (not fetched)
        certificate = f"certified by the Steward {steward.url} for simulated snp"
        certified = [text for text in said if text.startswith(certificate)]
        assert len(certified) == fetched
    finally:
        os.close(out)
        os.close(null)
        steward.close()


# Tampered with what boots


def forged(built: Image, folder: Path, **parts: Any) -> Path:
    """A copy of an image with another part, and a manifest that says so: a host can write what it likes."""
    folder.mkdir()
    about = {**built.manifest, "files": dict(built.manifest["files"])}
    about["cmdline"] = parts.pop("cmdline", built.cmdline)
    for name in about["files"]:
        data = parts.get(name.partition(".")[0])
        if data is None or name == "initrd.cpio":
            os.link(f"{built.directory}/{name}", folder / name)
            continue
        (folder / name).write_bytes(data)
        about["files"][name] = {"size": len(data), "sha256": sha256(data).hexdigest()}
    (folder / "manifest.json").write_bytes(manifest.canonical(about))
    return folder


def test_of_snp_a_machine_with_another_initramfs_boots_and_gets_no_name(
    shops: Callable[[str], Shop], tmp_path: Path
) -> None:
    shop = shops("snp")
    initrd = Path(shop.image.initrd).read_bytes()
    more = cpio.write({"more": cpio.file(b"code of somebody else")})
    said = shop.refused(booted=forged(shop.image, tmp_path / "image", initrd=initrd + bytes(-len(initrd) % 4) + more))
    assert " refuses (403): policy.hash: expected " in said


def test_of_tdx_a_machine_that_is_not_locked_down_boots_and_gets_no_name(
    shops: Callable[[str], Shop], tmp_path: Path
) -> None:
    shop = shops("tdx")
    unlocked = shop.image.cmdline.replace("lockdown=confidentiality", "lockdown=integrity")
    said = shop.refused(booted=forged(shop.image, tmp_path / "image", cmdline=unlocked))
    assert " refuses (403): td.rtmr2: expected one of " in said


def test_the_production_image_is_not_started_with_simulated_hardware(shops: Callable[[str], Shop]) -> None:
    shop = shops("snp")
    done = donjon_run(*shop.words(), env={"DONJON_IMAGE": image("production").directory})
    assert done.returncode == 2
    assert "expected an image of the variant simulated, got production" in done.stderr.decode()


# Tampered with the workload, by a host that says so


def test_of_snp_another_program_gets_no_name(shops: Callable[[str], Shop], tmp_path: Path) -> None:
    shop = shops("snp")
    module = tmp_path / "main.wat"
    module.write_text(ECHO.read_text() + ";; and one more line\n")
    said = shop.refused(*shop.words(module=module))
    assert " refuses (403): evidence.workload: expected one of 1 workloads" in said


def test_of_tdx_another_configuration_gets_no_name(shops: Callable[[str], Shop], tmp_path: Path) -> None:
    shop = shops("tdx")
    text = shop.toml.read_text()
    assert 'name = "echo"' in text
    toml = tmp_path / "Enarx.toml"
    toml.write_text(text.replace('name = "echo"', 'name = "other"'))
    assert " refuses (403): evidence.workload: expected one of 1 workloads" in shop.refused(*shop.words(toml=toml))


# Tampered with the workload, by a host that hides it


@pytest.mark.parametrize("tee", TEES)
def test_a_machine_refuses_another_launch_than_its_hardware_names(
    shops: Callable[[str], Shop], monkeypatch: pytest.MonkeyPatch, tee: str
) -> None:
    """HOST_DATA of SNP, MRCONFIGID of TDX: the policy would let the named one pass, and another is handed over."""
    shop = shops(tee)

    class Lying(Simulated):
        def __init__(self, launch: Launch, digest: bytes, image: Image) -> None:
            assert digest.hex() != shop.digest
            super().__init__(launch, bytes.fromhex(shop.digest), image)

    monkeypatch.setattr("donjon.keep.vm.simulated.Simulated", Lying)
    monkeypatch.setenv("DONJON_IMAGE", shop.image.directory)
    launch = Launch(str(ECHO), str(shop.toml), ["--surprise"], attest=tee, sim=shop.lab)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with pytest.raises(VerifyError) as caught:
            vm.run(launch, stdio=(null, null, null))
    finally:
        os.close(null)
    digest = launch.describe().digest().hex()
    assert caught.value.message == f"launch descriptor: the hardware names the workload {shop.digest}, got {digest}"


@pytest.mark.parametrize("name", ["main.wasm", "Enarx.toml"])
@pytest.mark.parametrize("tee", TEES)
def test_a_keep_refuses_a_file_that_its_launch_does_not_mean(lab: str, tmp_path: Path, tee: str, name: str) -> None:
    """The launch is the one that the hardware names; a file is another. The agent is a process here, not a machine."""
    module, toml = ECHO.read_bytes(), config(tmp_path, listens("echo", "tls"))
    launch = Launch(module, str(toml), attest=tee)
    launch.main = File.named("main.wasm", module)
    files = {"main.wasm": module, "Enarx.toml": toml.read_bytes()}
    where = tmp_path / "tsm"
    with mounted(raw_mount(Path(lab), where, tee, launch.describe().digest()), where):
        changed = {**files, name: files[name] + b"\n"}
        session = Session(launch, Place(tee=tee, tsm=str(where)), changed, options={"attest": tee}).run()
    assert session.last(frames.Accept)  # the launch is as it should be
    assert session.last(frames.Failed).message.startswith("launch: expected the package ")


def test_a_quote_that_the_host_made_up_names_no_workload(lab: str, tmp_path: Path) -> None:
    """In a TD quotes come from the host, and nobody inside has verified them. What counts is the TDX module's word."""
    launch = Launch(ECHO.read_bytes(), None, attest="none")
    launch.main = File.named("main.wasm", ECHO.read_bytes())
    digest, other = launch.describe().digest(), bytes(range(32))
    where = tmp_path / "tsm"
    with mounted(raw_mount(Path(lab), where, "tdx", digest), where):
        place = Place(tee="tdx", tsm=str(where), named=other.ljust(48, b"\0"))
        refused = Session(launch, place, options={"attest": "none"}).run().last(frames.Refuse)
    assert refused.message == (f"launch descriptor: the hardware names the workload {other.hex()}, got {digest.hex()}")
