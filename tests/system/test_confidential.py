"""The simulated confidential VM: build, measure, policy, boot, attest, certificate, verify; each tampering refused.

What boots is the image's variant "simulated" under QEMU, with one more program as process 1 (`confidential`), and the
Steward is a process of its own. Boots are shared, as each takes some four seconds: most of what a host can do, it does
at the port of the processor while the machine goes on. The same with whole Keeps is in `test_confidential_keep`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from donjon import sim
from donjon.errors import DonjonError
from donjon.image import cpio
from donjon.sim import firmware
from donjon.sim.port import Device
from donjon.sim.processor import Processor
from donjon.steward.client import Client, RefusedError
from donjon.steward.result import CMW, read_cmw
from donjon.tls.context import client_context
from tests.images import image, qemu
from tests.system.command import donjon_run
from tests.system.confidential import POLICY, GuestError, Machine, Parts, vendors_word
from tests.system.stewards import Steward, lab_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
WORKLOAD = bytes(range(32))
OTHER = bytes(range(1, 33))


@dataclass
class Place:
    """A lab, an image, and a machine of each TEE that was started as its owner says."""

    lab: str
    parts: Parts
    folder: Path

    def start(
        self, tee: str, parts: Parts | None = None, lab: str | None = None, workload: bytes = WORKLOAD
    ) -> Machine:
        """Boot; the processor measures what is booted."""
        booted = parts or self.parts
        return Machine(booted, processor(lab or self.lab, tee, booted, workload))

    def measured(self, tee: str) -> str:
        """What `donjon image measure` prints of it for a policy."""
        (self.folder / "kernel").write_bytes(self.parts.kernel)
        (self.folder / "initrd").write_bytes(self.parts.initrd)
        words: list[str | Path] = [
            "--kernel",
            self.folder / "kernel",
            "--initrd",
            self.folder / "initrd",
            "--append",
            self.parts.cmdline,
        ]
        done = donjon_run("image", "measure", "--tee", tee, "--firmware", f"{self.lab}/firmware.fd", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def policy(self, tee: str, measured: str | None = None, workload: bytes = WORKLOAD) -> str:
        lines = self.measured(tee) if measured is None else measured
        return POLICY.format(tee=tee, measured=lines, workload=workload.hex())


def processor(lab: str, tee: str, parts: Parts, workload: bytes = WORKLOAD) -> Processor:
    return Processor.start(lab, tee, workload, kernel=parts.kernel, initrd=parts.initrd, cmdline=parts.cmdline)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    qemu()
    folder = tmp_path_factory.mktemp("confidential")
    return Place(lab_in(folder / "lab"), Parts.of("simulated"), folder)


@pytest.fixture(scope="module")
def stewards(place: Place) -> Iterator[Callable[[str], Steward]]:
    """A Steward for each TEE, whose policy pins what the image measures."""
    made: dict[str, Steward] = {}
    with ExitStack() as stack:

        def steward(tee: str) -> Steward:
            if tee not in made:
                more = vendors_word(place.folder / f"{tee}-collateral", place.lab, tee)
                made[tee] = Steward(place.folder / f"{tee}-steward", place.lab, place.policy(tee), more)
                stack.callback(made[tee].close)
            return made[tee]

        yield steward


@pytest.fixture(scope="module")
def machines(place: Place) -> Iterator[Callable[[str], Machine]]:
    """A machine for each TEE, started as it should be."""
    made: dict[str, Machine] = {}
    with ExitStack() as stack:

        def machine(tee: str) -> Machine:
            if tee not in made:
                made[tee] = stack.enter_context(place.start(tee))
            return made[tee]

        yield machine


def certify(steward: Steward, machine: Machine, workload: bytes = WORKLOAD) -> tuple[bytes, ...]:
    """Ask as a Keep does; its key stays inside."""
    return client_of(steward).certify(lambda nonce: machine.request(workload, nonce))


def client_of(steward: Steward) -> Client:
    return Client(steward.url, client_context(None, str(steward.ca)), attempts=1)


def refusal(steward: Steward, machine: Machine) -> str:
    with pytest.raises(RefusedError) as caught:
        certify(steward, machine)
    return caught.value.message


# As it should be


@pytest.mark.parametrize("tee", ["snp", "tdx"])
def test_an_image_that_was_measured_beforehand_gets_a_certificate_that_says_what_runs(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine], tmp_path: Path, tee: str
) -> None:
    steward, machine = stewards(tee), machines(tee)
    said = machine.ask(about=True)
    assert (said["speaks"], said["detected"], said["attach"]) == (tee, tee, "")
    chain = certify(steward, machine)
    leaf = x509.load_der_x509_certificate(chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.example.com"]
    value = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(CMW)).value
    assert isinstance(value, x509.UnrecognizedExtension)
    claims = read_cmw(value.value)["submods"][tee]["ear_attester_claims"]
    assert claims["simulated"] is True
    assert claims["nonce"] is True
    assert claims["workload"].startswith(WORKLOAD.hex())
    assert claims["measurement"] in place.measured(tee)
    # Somebody else, who has the Steward's root and nothing else
    shown = b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in chain)
    (tmp_path / "shown.pem").write_bytes(shown)
    words: list[str | Path] = ["shown.pem", "--steward-root", steward.root, "--tee", tee, "--accept-unattested"]
    done = donjon_run("verify", *words, "--workload", WORKLOAD.hex(), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["proof"]["measurement"] == claims["measurement"]
    assert donjon_run("verify", *words, "--workload", OTHER.hex(), cwd=tmp_path).returncode == 4
    assert donjon_run("verify", *words[:-1], "--workload", WORKLOAD.hex(), cwd=tmp_path).returncode == 4


def test_what_is_measured_is_what_is_booted_and_nothing_else(place: Place) -> None:
    lab = sim.load(place.lab)
    parts = place.parts
    usual = lab.measure("snp", parts.kernel, parts.initrd, parts.cmdline)
    assert lab.measure("snp", parts.kernel, parts.initrd, parts.cmdline) == usual
    assert lab.measure("snp", parts.kernel, parts.initrd, parts.cmdline, vcpus=2) != usual
    tdx = lab.measure("tdx", parts.kernel, parts.initrd, parts.cmdline)
    other = lab.measure("tdx", parts.kernel, parts.initrd, f"{parts.cmdline} x")
    assert {name for name in tdx if tdx[name] != other[name]} == {"rtmr2"}


# Tampered with what boots: the Steward refuses what its processor has measured


def other_kernel(parts: Parts) -> Parts:
    """Another name of who built it, in the text that the kernel's header points at."""
    at = int.from_bytes(parts.kernel[0x20E:0x210], "little") + 0x200
    where = parts.kernel.index(b"(", at)
    return parts.changed(kernel=parts.kernel[: where + 1] + b"X" + parts.kernel[where + 2 :])


def other_initrd(parts: Parts) -> Parts:
    """One more archive, with one more file."""
    return parts.changed(initrd=parts.initrd + cpio.write({"more": cpio.file(b"code of somebody else")}))


def other_command_line(parts: Parts) -> Parts:
    return parts.changed(cmdline=parts.cmdline.replace("lockdown=confidentiality", "lockdown=integrity"))


TAMPERED = {"kernel": other_kernel, "initramfs": other_initrd, "command line": other_command_line}


@pytest.mark.parametrize("what", [*TAMPERED, "firmware"])
def test_of_snp_another_part_is_another_measurement(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine], what: str
) -> None:
    lab, parts = tampered(place, what)
    with answering(machines("snp"), processor(lab, "snp", parts).feed) as machine:
        assert refusal(stewards("snp"), machine) == wrong_measurement(place, stewards("snp"), parts, lab)


def tampered(place: Place, what: str) -> tuple[str, Parts]:
    """A lab and the parts of which one is another."""
    if what == "firmware":
        return tampered_lab(place), place.parts
    return place.lab, TAMPERED[what](place.parts)


def wrong_measurement(place: Place, steward: Steward, parts: Parts, lab: str) -> str:
    """What the Steward says of a machine with these parts."""
    usual, found = (
        sim.load(where).measure("snp", what.kernel, what.initrd, what.cmdline)["measurement"].hex()
        for where, what in ((place.lab, place.parts), (lab, parts))
    )
    assert usual != found
    return f"the Steward {steward.url} refuses (403): policy.hash: expected {usual}, got {found}"


@contextmanager
def answering(machine: Machine, answers: Callable[[bytes], bytes]) -> Iterator[Machine]:
    """A host that has another processor at the port for a while."""
    usual, machine.answers = machine.answers, answers
    try:
        yield machine
    finally:
        machine.answers = usual


@pytest.mark.parametrize(
    ("what", "check"),
    [("kernel", "td.rtmr1"), ("initramfs", "td.rtmr2"), ("command line", "td.rtmr2"), ("firmware", "td.hash")],
)
def test_of_tdx_each_part_has_its_register(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine], what: str, check: str
) -> None:
    lab, parts = tampered(place, what)
    with answering(machines("tdx"), processor(lab, "tdx", parts).feed) as machine:
        assert f" refuses (403): {check}: expected one of " in refusal(stewards("tdx"), machine)


def tampered_lab(place: Place) -> str:
    """The same hardware with another firmware."""
    folder = place.folder / "tampered"
    if not folder.exists():
        folder.mkdir(0o700)
        for file in Path(place.lab).iterdir():
            (folder / file.name).touch(0o600)
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "firmware.fd").write_bytes(firmware.write(seed=b"somebody else's"))
    return str(folder)


def test_firmware_that_would_boot_any_kernel_is_none(place: Place, tmp_path: Path) -> None:
    lab = Path(sim.create(str(tmp_path / "lab"), sim.load(place.lab)._clock()).directory)
    (lab / "firmware.fd").write_bytes(firmware.write(kernel_hashes=False))
    with pytest.raises(DonjonError, match="KERNEL_HASHES"):
        processor(str(lab), "snp", place.parts)


# Tampered: the guest refuses


@pytest.mark.parametrize("tee", ["snp", "tdx"])
def test_a_guest_refuses_to_be_another_workload_than_it_was_launched_for(
    stewards: Callable[[str], Steward], machines: Callable[[str], Machine], tee: str
) -> None:
    with pytest.raises(GuestError, match=rf"VerifyError: .* for this workload, {OTHER.hex()}, got evidence for "):
        certify(stewards(tee), machines(tee), OTHER)


def test_a_guest_refuses_the_report_of_another_machine_that_was_recorded(machines: Callable[[str], Machine]) -> None:
    machine = machines("snp")
    usual, recorded = machine.answers, list[bytes]()
    assert usual is not None

    def record(data: bytes) -> bytes:
        recorded.append(usual(data))
        return recorded[-1]

    with answering(machine, record):
        machine.request(WORKLOAD, bytes(32))
    assert len(recorded) == 1
    wrong = pytest.raises(GuestError, match="expected it to bind what was asked for")
    with answering(machine, lambda _: recorded[0]), wrong:
        machine.request(WORKLOAD, bytes(31) + b"\1")


# Tampered: the Steward refuses


def test_a_fresh_report_of_a_machine_that_runs_something_else_is_refused(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine]
) -> None:
    """The host asks another machine of its own, one that it has control of, whenever the guest asks for a report."""
    with answering(machines("snp"), Device(sim.load(place.lab).guest("snp", WORKLOAD)).feed) as machine:
        assert " refuses (403): policy.hash: expected " in refusal(stewards("snp"), machine)


def test_a_policy_for_another_workload_refuses_this_one(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine]
) -> None:
    steward = stewards("snp")
    with policy_of(steward, place.policy("snp"), place.policy("snp", workload=OTHER)):
        assert " refuses (403): evidence.workload: expected one of 1 workloads" in refusal(steward, machines("snp"))
    assert certify(steward, machines("snp"))


@contextmanager
def policy_of(steward: Steward, usual: str, policy: str) -> Iterator[None]:
    """A Steward with another policy for a while."""
    steward.said.clear()
    steward.reload(policy)
    try:
        yield
    finally:
        steward.said.clear()
        steward.reload(usual)


def test_a_steward_does_not_start_with_a_policy_that_was_damaged(place: Place, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"steward\.toml"):
        Steward(tmp_path / "steward", place.lab, place.policy("snp").replace("hash = [", "hush = ["))


def test_the_image_for_debugging_is_no_image_for_production(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine]
) -> None:
    debug = image("debug")
    parts = Parts(Path(debug.kernel).read_bytes(), Path(debug.initrd).read_bytes(), debug.cmdline)
    with answering(machines("snp"), processor(place.lab, "snp", parts).feed) as machine:
        assert refusal(stewards("snp"), machine) == wrong_measurement(place, stewards("snp"), parts, place.lab)


@pytest.mark.parametrize(
    ("tee", "check"),
    [("snp", "policy.allow_debug: expected POLICY.DEBUG 0"), ("tdx", "td.debug: expected no, got yes")],
)
def test_a_machine_that_its_host_may_debug_gets_nothing(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine], tee: str, check: str
) -> None:
    """All that is measured is as it should be, but the host can read the guest's memory."""
    with answering(machines(tee), debugged(place, tee).feed) as machine:
        assert f" refuses (403): {check}" in refusal(stewards(tee), machine)


def test_of_snp_a_policy_may_allow_to_debug(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine]
) -> None:
    usual = place.policy("snp")
    with (
        answering(machines("snp"), debugged(place, "snp").feed) as machine,
        policy_of(stewards("snp"), usual, usual.replace("[snp]\n", "[snp]\nallow_debug = true\n")),
    ):
        assert certify(stewards("snp"), machine)


def debugged(place: Place, tee: str) -> Device:
    """A processor that lets the host look into the machine, which is otherwise as it should be."""
    lab, parts = sim.load(place.lab), place.parts
    return Device(lab.guest(tee, WORKLOAD, "debug", lab.measure(tee, parts.kernel, parts.initrd, parts.cmdline)))


@pytest.mark.parametrize("tee", ["snp", "tdx"])
def test_hardware_of_another_maker_is_nobodys(
    place: Place, stewards: Callable[[str], Steward], machines: Callable[[str], Machine], other_lab: str, tee: str
) -> None:
    """The very image with the very workload, on hardware under roots that the Steward does not have."""
    with answering(machines(tee), processor(other_lab, tee, place.parts).feed) as machine:
        assert f" refuses (403): {FOREIGN[tee]}" in refusal(stewards(tee), machine)


FOREIGN = {"snp": "chain.vek_signature: expected a signature by ", "tdx": "pck.root: expected the pinned root, "}


@pytest.fixture(scope="module")
def other_lab(place: Place) -> str:
    return lab_in(place.folder / "other lab")


@pytest.mark.parametrize("tee", ["snp", "tdx"])
def test_a_request_that_was_granted_before_is_refused(
    stewards: Callable[[str], Steward], machines: Callable[[str], Machine], tee: str
) -> None:
    granted: list[bytes] = []
    client = client_of(stewards(tee))

    def make(nonce: bytes | None) -> bytes:
        granted.append(machines(tee).request(WORKLOAD, nonce))
        return granted[0]

    assert client.certify(make)
    with pytest.raises(RefusedError) as caught:
        client.certify(lambda _: granted[0])
    assert " refuses (403): evidence.binding: expected " in caught.value.message


# Production cannot reach it


def test_the_production_image_has_none_of_the_code() -> None:
    names = {variant: set(files(variant)) for variant in ("production", "debug", "simulated")}
    simulated = {name for name in names["simulated"] if "donjon/sim" in name}
    assert {"inside", "fuse", "port", "kernel"} <= {Path(name).name.partition(".")[0] for name in simulated}
    for variant in ("production", "debug"):
        assert [name for name in names[variant] if "donjon/sim" in name or name.endswith("tee/simulated.pyc")] == []
    for needle in (b"donjon.simulated-tee", b"donjon.sim.inside"):
        assert needle in contents("simulated")
        assert needle not in contents("production")


def contents(variant: str) -> bytes:
    return Path(image(variant).initrd_raw).read_bytes()


def files(variant: str) -> list[str]:
    return [name for name, _ in cpio.read(contents(variant))]


def test_the_production_image_takes_no_evidence_from_the_device(place: Place, tmp_path: Path) -> None:
    """With the device plugged in it says that there is no TEE; the port hears nothing."""
    parts = Parts.of("production")
    with Machine(parts, processor(place.lab, "snp", parts)) as machine:
        said = machine.ask(about=True)
        assert said["ports"] == ["donjon.simulated-tee", "donjon.test"]
        assert (said["speaks"], said["detected"], said["modules"]) == (None, "kvm", [])
        assert said["attach"].startswith("ModuleNotFoundError(\"No module named 'donjon.sim'")
        made = x509.load_der_x509_csr(machine.request(WORKLOAD, None))
        assert [extension.oid.dotted_string for extension in made.extensions] == [
            "1.3.6.1.4.1.58270.1.1"
        ]  # Enarx's KVM
        assert machine.heard == b""
