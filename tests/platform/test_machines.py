"""Machines that nobody here has: what is found on their records, what is chosen there, what the doctor says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from donjon.cli.main import main
from donjon.errors import DonjonError, ParseError, PlatformError, UsageError
from donjon.platform import backends, choice, doctor, facts
from donjon.platform.backends import Backend, Datum
from donjon.platform.caching import ends, read_lists
from donjon.platform.machine import Machine, Recorded, Recorder
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Vendor
from donjon.wire.der import SEQUENCE, UTF8_STRING, encode
from tests.platform.machines import CHIP, MACHINES, NO_IMAGE, VCEK, write

Captured = pytest.CaptureFixture[str]
CAN = ("nil", "kvm", "snp", "tdx")


def of(tmp_path: Path, name: str, **changes: Any) -> Recorded:
    return Recorded(write(tmp_path / name, name, **changes))


def found(machine: Machine) -> dict[str, Backend]:
    return {backend.name: backend for backend in backends.find(machine)}


def every(data: tuple[Datum, ...]) -> Iterator[Datum]:
    for datum in data:
        yield datum
        yield from every(datum.data)


def named(backend: Backend, name: str) -> Datum:
    return next(datum for datum in every(backend.data) if datum.name == name)


def crls(until: datetime) -> bytes:
    """A crls.der with AMD's list of one product that ends then."""
    vendor = Vendor.make(datetime(2026, 5, 1, tzinfo=UTC))
    crl = vendor.crl(Product.Milan, datetime(2026, 5, 1, tzinfo=UTC), until)
    entry = encode(SEQUENCE, encode(UTF8_STRING, b"https://example.com"), crl)
    return encode(SEQUENCE, encode(SEQUENCE, entry))


@pytest.mark.parametrize(
    ("name", "works", "hardware", "guest"),
    [
        ("snp-host", {"kvm", "snp"}, {"kvm", "snp"}, None),
        ("tdx-host", {"kvm", "tdx"}, {"kvm", "tdx"}, None),
        ("sgx-host", {"sgx"}, {"kvm", "sgx"}, None),
        ("snp-guest", set(), {"kvm"}, "snp"),
        ("tdx-guest", set(), {"kvm"}, "tdx"),
        ("laptop", {"kvm"}, {"kvm"}, None),
        ("new-laptop", set(), {"kvm"}, None),
        ("container", {"kvm"}, {"kvm"}, None),
        ("nested", {"kvm"}, {"kvm"}, None),
        ("raspberry-pi", set(), set(), None),
        ("raspberry-pi-kvm", set(), set(), None),
        ("snp-forbidden", {"kvm"}, {"kvm", "snp"}, None),
        ("snp-old-kernel", {"kvm"}, {"kvm", "snp"}, None),
        ("mac", set(), set(), None),
    ],
)
def test_each_machine_is_what_it_is(
    tmp_path: Path, name: str, works: set[str], hardware: set[str], guest: str | None
) -> None:
    machine = of(tmp_path, name)
    all_of_them = found(machine)
    assert {key for key, backend in all_of_them.items() if backend.passed} == works
    assert {key for key, backend in all_of_them.items() if backend.hardware} == hardware
    assert backends.inside(machine)[0] == guest


ENARX = {
    "kvm": (
        "Driver", "API Version", "CPU", "CPU supports FSGSBASE instructions", "CPU supports RDRAND instruction",
    ),
    "snp": (
        "Driver", "SEV-SNP is enabled in host kernel", "API Version", "CPU", "Microcode support",
        "Secure Memory Encryption (SME)", "Physical address bit reduction", "C-bit location in page table entry",
        "Secure Encrypted Virtualization (SEV)", "Number of encrypted guests supported simultaneously",
        "Minimum ASID value for SEV-enabled, SEV-ES disabled guest",
        "Secure Encrypted Virtualization Secure Nested Paging (SEV-SNP)", "Page Flush MSR available",
        "MEMLOCK rlimit allows for", "SEV-SNP VCEK key cache file", "AMD CRL cache file",
    ),
    "sgx": (
        "Driver", "CPU", "SGX Support", "Version 1", "Version 2", "FLC Support", "Max Size (32-bit)",
        "Max Size (64-bit)", "MiscSelect", "Features", "Xfrm", "EPC Size", "Intel CRL cache file", "TCB & FMSPC cache",
        "AESM Daemon Socket",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("backend", "host"), [("kvm", "snp-host"), ("snp", "snp-host"), ("sgx", "sgx-host")])
def test_every_datum_of_enarx_is_there_also_in_json(tmp_path: Path, capfd: Captured, backend: str, host: str) -> None:
    assert main(["platform", "info", "--json", "--recorded", write(tmp_path / host, host)]) == 0
    shown = next(item for item in json.loads(capfd.readouterr().out)["backends"] if item["backend"] == backend)

    def names(data: list[dict[str, Any]]) -> Iterator[str]:
        for datum in data:
            assert {"name", "pass", "info", "mesg", "data"} <= datum.keys()
            assert "null" not in (datum["info"], datum["mesg"])
            yield datum["name"]
            yield from names(datum["data"])

    assert set(ENARX[backend]) <= set(names(shown["data"]))


def test_what_the_leaves_of_snp_say_is_read_bit_by_bit(tmp_path: Path) -> None:
    snp = found(of(tmp_path, "snp-host"))["snp"]
    values = {
        "C-bit location in page table entry": "51",
        "Physical address bit reduction": "5",
        "Number of encrypted guests supported simultaneously": "509",
        "Minimum ASID value for SEV-enabled, SEV-ES disabled guest": "100",
        "Microcode support": "Milan",
        "CPU": "AMD EPYC 7313P 16-Core Processor",
        "MEMLOCK rlimit allows for": "~8 Keeps",
    }
    assert {name: named(snp, name).info for name in values} == values


def test_what_the_leaves_of_sgx_say_is_read_bit_by_bit(tmp_path: Path) -> None:
    sgx = found(of(tmp_path, "sgx-host"))["sgx"]
    values = {
        "Max Size (32-bit)": "2 GiB",
        "Max Size (64-bit)": "64 PiB",
        "MiscSelect": "0x00000001",
        "Features": "0x0000000000000036",
        "Xfrm": "0x00000000000000e7",
        "EPC Size": "8 GiB",
        "TCB & FMSPC cache": "00606a000000",
    }
    assert {name: named(sgx, name).info for name in values} == values


@pytest.mark.parametrize("bit", [0, 1, 4])
def test_an_snp_host_lacks_each_feature_that_its_processor_does_not_have(tmp_path: Path, bit: int) -> None:
    leaf = [0x1F & ~(1 << bit), 51 | 5 << 6, 509, 100]
    assert not found(of(tmp_path, "snp-host", cpuid={"8000001f.0": leaf}))["snp"].passed


# One thing is missing: what it is called, and the command that mends it.
LACKS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("snp", "snp-host", {"kinds": {"/dev/sev": ""}}, "Driver", "sudo modprobe ccp"),
    ("snp", "snp-host", {"may": {"/dev/sev": "r"}}, "Driver", "sudo setfacl -m u:$USER:rw /dev/sev"),
    (
        "snp", "snp-host", {"files": {"/sys/module/kvm_amd/parameters/sev_snp": "N"}},
        "SEV-SNP is enabled in host kernel",
        "sudo modprobe -r kvm_amd && sudo modprobe kvm_amd sev_snp=1; sudo dmesg | grep -i sev",
    ),
    ("snp", "snp-host", {"image": NO_IMAGE}, "Guest image", "donjon image build"),
    ("tdx", "tdx-host", {"image": NO_IMAGE}, "Guest image", "donjon image build"),
    ("snp", "snp-host", {"system": ["Linux", "6.1.0", "#1", "x86_64"]}, "Host kernel", ""),
    ("snp", "snp-host", {"qemu": [[7, 2, 22], "/usr/bin/qemu", ""]}, "QEMU", ""),
    ("snp", "snp-host", {"qemu": [None, "there is none", "sudo apt-get install q"]}, "QEMU", "sudo apt-get install q"),
    ("snp", "snp-host", {"firmware": {"snp": [None, "there is none", "get it"]}}, "Firmware", ""),
    (
        "tdx", "tdx-host", {"files": {"/sys/module/kvm_intel/parameters/tdx": "N"}}, "TDX is enabled in host kernel",
        "sudo modprobe -r kvm_intel && sudo modprobe kvm_intel tdx=1; sudo dmesg | grep -i tdx",
    ),
    ("tdx", "tdx-host", {"qemu": [[10, 0, 2], "/usr/bin/qemu", ""]}, "QEMU", ""),
    ("tdx", "tdx-host", {"system": ["Linux", "6.12.0", "#1", "x86_64"]}, "Host kernel", ""),
    ("sgx", "sgx-host", {"kinds": {"/var/run/aesmd/aesm.socket": ""}}, "AESM Daemon Socket",
     "sudo systemctl enable --now aesmd"),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "host", "changes", "name", "command"), LACKS)
def test_what_is_missing_is_named_with_what_mends_it(
    tmp_path: Path, backend: str, host: str, changes: dict[str, Any], name: str, command: str
) -> None:
    lacking = found(of(tmp_path, host, **changes))[backend]
    assert [datum.name for datum in lacking.missing] == [name]
    assert lacking.missing[0].mesg
    assert (lacking.missing[0].command or "") == command


@pytest.mark.parametrize(("backend", "host", "changes", "name", "command"), [x for x in LACKS if x[0] != "sgx"])
def test_nothing_weaker_runs_without_a_word_and_nothing_at_all_when_a_tee_is_demanded(
    tmp_path: Path, backend: str, host: str, changes: dict[str, Any], name: str, command: str
) -> None:
    machine = of(tmp_path, host, **changes)
    said: list[str] = []
    chosen = choice.choose("auto", None, said.append, machine, can=CAN)
    assert (chosen.backend, chosen.tee) == ("nil", None)
    (warning,) = said
    assert name in warning
    assert "`donjon doctor`" in warning
    for demand in ("tee", backend):
        with pytest.raises(PlatformError, match="nothing here keeps the host out"):
            choice.choose("auto", demand, said.append, machine, can=CAN)
    with pytest.raises(PlatformError, match=f"backend {backend} is here, but something is missing: {name}"):
        choice.choose(backend, None, said.append, machine, can=CAN)


@pytest.mark.parametrize(("host", "expected"), [("snp-host", "snp"), ("tdx-host", "tdx"), ("laptop", "nil")])
def test_the_strongest_that_works_is_chosen(tmp_path: Path, host: str, expected: str) -> None:
    said: list[str] = []
    chosen = choice.choose("auto", None, said.append, of(tmp_path, host), can=CAN)
    assert (chosen.backend, said) == (expected, [])


def test_a_list_that_has_ended_is_told_and_does_not_take_the_tee_away(tmp_path: Path, capfd: Captured) -> None:
    """Enarx goes on in nil without a word, and its JSON does not show why."""
    old = {"/var/cache/amd-sev/crls.der": crls(datetime(2026, 5, 20, tzinfo=UTC))}
    machine = of(tmp_path, "snp-host", files={**MACHINES["snp-host"]["files"], **old})
    assert choice.choose("auto", "tee", None, machine, can=CAN).backend == "snp"
    main(["platform", "info", "--json", "--recorded", str(tmp_path / "snp-host")])
    out = capfd.readouterr().out
    assert "crls.der has ended on 2026-05-20" in out
    assert "sudo donjon platform snp cache-crl" in out


def test_a_list_that_has_not_ended_passes(tmp_path: Path) -> None:
    files = {"/var/cache/amd-sev/crls.der": crls(datetime(2026, 7, 1, tzinfo=UTC))}
    datum = named(found(of(tmp_path, "snp-host", files=files))["snp"], "AMD CRL cache file")
    assert (datum.passed, datum.info) == (True, "/var/cache/amd-sev/crls.der, until 2026-07-01")


@pytest.mark.parametrize("data", [b"", b"0", b"0\0", b"garbage", b"\x30\x02\x30\x00" * 2, b"\x30\x84\xff\xff\xff\xff"])
def test_a_damaged_list_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ParseError):
        read_lists(data)
    files = {"/var/cache/amd-sev/crls.der": data}
    assert not named(found(of(tmp_path, "snp-host", files=files))["snp"], "AMD CRL cache file").passed


def test_no_lists_do_not_last_for_ever() -> None:
    assert ends(encode(SEQUENCE, encode(SEQUENCE))) is None


def test_the_vcek_is_looked_for_by_chip_and_tcb(tmp_path: Path) -> None:
    assert named(found(of(tmp_path, "snp-host"))["snp"], "SEV-SNP VCEK key cache file").info == (
        f"/var/cache/amd-sev/{VCEK}"
    )
    other = of(tmp_path / "other", "snp-host", chip_id={"hex": CHIP[::-1].hex()})
    datum = named(found(other)["snp"], "SEV-SNP VCEK key cache file")
    assert (datum.passed, datum.command) == (False, "sudo donjon platform snp update")


# Machines that are guests of a TEE


@pytest.mark.parametrize(("guest", "tee"), [("snp-guest", "snp"), ("tdx-guest", "tdx")])
@pytest.mark.parametrize("demand", [None, "tee", "its own"])
def test_in_a_confidential_vm_the_keep_runs_in_place(tmp_path: Path, guest: str, tee: str, demand: str | None) -> None:
    demand = tee if demand == "its own" else demand
    chosen = choice.choose("auto", demand, None, of(tmp_path, guest), provider=lambda: tee)
    assert chosen == choice.Choice("nil", tee, in_place=True)


def test_a_guest_of_another_tee_is_not_what_is_demanded(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"^--require tdx: this machine is a guest of snp$"):
        choice.choose("auto", "tdx", None, of(tmp_path, "snp-guest"), provider=lambda: "snp")


def test_a_guest_that_cannot_say_what_it_is_runs_nothing_that_demands_a_tee(tmp_path: Path) -> None:
    def refuse() -> str:
        raise PlatformError("permission denied")

    machine = of(tmp_path, "snp-guest")
    with pytest.raises(PlatformError, match="permission denied"):
        choice.choose("auto", "tee", None, machine, provider=refuse)
    bare = of(tmp_path / "bare", "snp-guest", kinds={"/sys/kernel/config/tsm/report": ""})
    with pytest.raises(PlatformError, match="this machine is a guest of snp, and has no configfs-tsm"):
        choice.choose("auto", "tee", None, bare)


def test_configfs_tsm_without_a_provider_is_no_guest(tmp_path: Path) -> None:
    def refuse() -> str:
        raise PlatformError("no such device or address")

    machine = of(tmp_path, "laptop", kinds={"/sys/kernel/config/tsm/report": "directory"})
    assert choice.choose("auto", None, None, machine, provider=refuse).tee is None
    with pytest.raises(PlatformError, match="nothing here keeps the host out"):
        choice.choose("auto", "tee", None, machine, provider=refuse)


def test_enarxs_name_of_snp_is_understood(tmp_path: Path) -> None:
    machine = of(tmp_path, "snp-host")
    assert choice.choose("sev", "sev", None, machine, can=CAN) == choice.Choice("snp", "snp")


@pytest.mark.parametrize(
    ("backend", "demand", "message"),
    [
        ("kvm", "tee", "--backend kvm protects nobody from the host, and --require tee demands that"),
        ("snp", "tdx", "--backend snp is not what --require tdx demands"),
        ("auto", "kvm", '--require: expected tee, snp, tdx, sgx, cca, got "kvm"'),
    ],
)
def test_what_contradicts_itself_is_a_mistake_of_the_caller(
    tmp_path: Path, backend: str, demand: str, message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        choice.choose(backend, demand, None, of(tmp_path, "snp-host"), can=CAN)
    assert raised.value.message == message


def test_what_is_named_runs_or_nothing_does(tmp_path: Path) -> None:
    assert choice.choose("kvm", None, None, of(tmp_path, "snp-host"), can=CAN).backend == "kvm"
    assert choice.choose("nil", None, None, of(tmp_path / "2", "snp-host"), can=CAN).backend == "nil"
    with pytest.raises(PlatformError, match="backend tdx is not to be had on this machine"):
        choice.choose("tdx", None, None, of(tmp_path / "3", "snp-host"), can=CAN)
    with pytest.raises(PlatformError, match="nothing here keeps the host out"):
        choice.choose("nil", "tee", None, of(tmp_path / "4", "snp-host"), can=CAN)


def test_a_backend_that_this_version_does_not_start_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    assert choice.choose("auto", None, said.append, of(tmp_path, "snp-host"), can=("nil",)).backend == "nil"
    assert "this version of donjon does not start it" in said[0]


# The doctor


@pytest.mark.parametrize(
    ("host", "words", "code"),
    [
        ("snp-host", (), 0), ("tdx-host", (), 0), ("laptop", (), 0), ("mac", (), 0), ("raspberry-pi", (), 0),
        ("snp-guest", (), 0), ("sgx-host", (), 0),
        ("snp-host", ("--backend", "sev"), 0), ("snp-host", ("--backend", "tdx"), 3),
        ("laptop", ("--backend", "kvm"), 0), ("new-laptop", (), 0), ("new-laptop", ("--backend", "kvm"), 3),
        ("container", ("--backend", "kvm"), 0), ("nested", ("--backend", "kvm"), 0), ("snp-forbidden", (), 3),
        ("snp-old-kernel", (), 3), ("raspberry-pi-kvm", (), 0), ("raspberry-pi-kvm", ("--backend", "kvm"), 3),
        ("mac", ("--backend", "kvm"), 3), ("sgx-host", ("--backend", "sgx"), 3),
    ],
)  # fmt: skip
def test_the_exit_code_of_the_doctor_tells(
    tmp_path: Path, capfd: Captured, host: str, words: tuple[str, ...], code: int
) -> None:
    assert main(["doctor", "--recorded", write(tmp_path / host, host), *words]) == code
    out, err = capfd.readouterr()
    assert out
    assert err == ""


def test_the_doctor_says_what_to_type(tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    folder = write(
        tmp_path / "m", "snp-host", may={"/dev/sev": ""}, files={"/sys/module/kvm_amd/parameters/sev_snp": "N"}
    )
    assert main(["doctor", "--recorded", folder, "--backend", "snp"]) == 3
    assert capfd.readouterr().out == (
        "✗ snp  a Keep that the machine's owner cannot look into, by AMD's SEV-SNP: 2 things are missing\n"
        "      1. Driver: This user may not use it.\n"
        "         sudo setfacl -m u:$USER:rw /dev/sev\n"
        "      2. SEV-SNP is enabled in host kernel: The module kvm_amd has to be loaded with sev_snp=1; the\n"
        "         kernel's log says what it lacks.\n"
        "         sudo modprobe -r kvm_amd && sudo modprobe kvm_amd sev_snp=1; sudo dmesg | grep -i sev\n"
        "      -  AMD CRL cache file: /var/cache/amd-sev/crls.der is not there.\n"
        "         sudo donjon platform snp cache-crl\n"
    )


def test_the_doctor_speaks_json(tmp_path: Path, capfd: Captured) -> None:
    main(["doctor", "--json", "--recorded", write(tmp_path / "m", "new-laptop"), "--backend", "kvm"])
    (kvm,) = json.loads(capfd.readouterr().out)["backends"]
    assert (kvm["backend"], kvm["state"], kvm["wanted"]) == ("kvm", "missing", True)
    assert [(step["name"], step["command"]) for step in kvm["steps"]] == [
        ("QEMU", "sudo apt-get install q"), ("Guest image", "donjon image build"),
    ]  # fmt: skip
    assert [step["command"] for step in kvm["remarks"]] == ["sudo usermod -aG kvm $USER && newgrp kvm"]


def judged(machine: Machine) -> dict[str, doctor.Judgement]:
    return {one.backend: one for one in doctor.examine(backends.find(machine))}


# What the doctor says of each: of kvm with what it runs; the names of what is to be done; and of the backend that the
# machine is for.
JUDGEMENTS: dict[str, tuple[str, str, list[str]]] = {
    "snp-host": ("KVM", "snp works", []),
    "snp-forbidden": ("emulation", "snp missing", ["Driver", "Driver"]),
    "snp-old-kernel": (
        "KVM", "snp missing", ["Host kernel", "SEV-SNP is enabled in host kernel", "QEMU", "Firmware"],
    ),
    "tdx-host": ("KVM", "tdx works", []),
    "sgx-host": ("KVM", "sgx not started", []),
    "snp-guest": ("emulation", "kvm missing", ["QEMU", "Guest image"]),
    "tdx-guest": ("emulation", "kvm missing", ["QEMU", "Guest image"]),
    "laptop": ("KVM", "kvm works", []),
    "new-laptop": ("emulation", "kvm missing", ["QEMU", "Guest image"]),
    "container": ("emulation", "kvm works", []),
    "nested": ("emulation", "kvm works", []),
    "raspberry-pi": ("emulation", "kvm no hardware", []),
    "raspberry-pi-kvm": ("emulation", "kvm no hardware", []),
    "mac": ("emulation", "kvm no hardware", []),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_the_doctor_judges_each_machine(tmp_path: Path, name: str) -> None:
    with_what, verdict, steps = JUDGEMENTS[name]
    machine = of(tmp_path, name)
    all_of_them = judged(machine)
    backend, _, state = verdict.partition(" ")
    assert (all_of_them[backend].state, [step.name for step in all_of_them[backend].steps]) == (state, steps)
    assert with_what in str(named(found(machine)["kvm"], "Acceleration").info)
    if all_of_them["kvm"].state == "works":
        assert with_what in all_of_them["kvm"].summary


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("bit", [None, *range(5)])
def test_whatever_is_missing_the_doctor_has_something_to_do(tmp_path: Path, name: str, bit: int | None) -> None:
    leaves = MACHINES[name].get("cpuid", {})
    changes = {} if bit is None else {leaf: [number & ~(1 << bit) for number in row] for leaf, row in leaves.items()}
    vendor = {leaf: row for leaf, row in leaves.items() if leaf in ("00000000.0", "00000021.0") or leaf > "80000001"}
    keep = {} if bit is None else {leaf: row for leaf, row in vendor.items() if leaf != "8000001f.0"}
    for one in judged(of(tmp_path, name, cpuid={**changes, **keep})).values():
        if one.state == "missing":
            assert one.steps, one
        assert all(step.mesg for step in (*one.steps, *one.remarks))


def test_the_doctor_of_a_guest_says_that_keeps_run_in_place(tmp_path: Path, capfd: Captured) -> None:
    main(["doctor", "--recorded", write(tmp_path / "m", "tdx-guest")])
    assert "itself a confidential VM (tdx)" in capfd.readouterr().out


# Records


@pytest.mark.parametrize("name", MACHINES)
def test_a_record_of_a_record_shows_the_same(tmp_path: Path, name: str) -> None:
    recorder = Recorder(of(tmp_path, name))
    facts.find(recorder)
    recorder.write(str(tmp_path / "copy"))
    again = Recorded(str(tmp_path / "copy"))
    assert [(b.name, b.passed, [d.passed for d in every(b.data)]) for b in backends.find(again)] == [
        (b.name, b.passed, [d.passed for d in every(b.data)]) for b in backends.find(Recorded(str(tmp_path / name)))
    ]


def test_a_record_does_not_name_the_chip(tmp_path: Path) -> None:
    recorder = Recorder(of(tmp_path, "snp-host"))
    facts.find(recorder)
    recorder.write(str(tmp_path / "copy"))
    assert CHIP.hex() not in (tmp_path / "copy" / "machine.json").read_text()


def test_a_record_does_not_name_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    qemu = [[10, 1, 0], "/home/ada/bin/qemu-system-x86_64", ""]
    firmware = {"snp": [None, "/home/ada/OVMF.fd: expected firmware", "/home/ada"]}
    for name, image in (("laptop", MACHINES["laptop"]["image"]), ("new-laptop", NO_IMAGE)):
        recorder = Recorder(of(tmp_path, name, qemu=qemu, firmware=firmware, image=image))
        facts.find(recorder)
        recorder.write(str(tmp_path / f"{name}-copy"))
        assert "ada" not in (tmp_path / f"{name}-copy" / "machine.json").read_text()


def test_this_machine_can_be_recorded_and_looked_at(tmp_path: Path, capfd: Captured) -> None:
    assert main(["platform", "record", str(tmp_path / "here")]) == 0
    capfd.readouterr()
    assert main(["platform", "info", "--json", "--recorded", str(tmp_path / "here")]) == 0
    recorded = json.loads(capfd.readouterr().out)
    assert main(["platform", "info", "--json"]) == 0
    here = json.loads(capfd.readouterr().out.replace(os.path.expanduser("~"), "~"))
    assert recorded["backends"] == here["backends"]


def test_a_record_is_not_written_over_anything(tmp_path: Path, capfd: Captured) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["platform", "record", str(tmp_path)]) == 2
    assert "expected an empty directory, or none" in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "[" * 9999, '{"format": 2}', '{"format": 1}', '{"format": 1, "system": ["a"], "now": 1}',
        "\udcff",
    ],
)  # fmt: skip
def test_a_malformed_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "machine.json").write_text(content, errors="surrogateescape")
    with pytest.raises(ParseError, match="expected a record of a machine"):
        Recorded(str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"cpuid": {"00000000.0": [1, 2]}}, {"sev_status": {"state": "x"}}, {"chip_id": {"hex": "x"}}, {"kvm": {"x": 1}},
        {"kvm": {"seconds": {}}}, {"kvm": {"hint": 0}}, {"kvm": {"modules": "text"}}, {"now": "0001-01-01T00:00+14:00"},
        {"qemu": [1]}, {"names": {"/": 1}}, {"kinds": {"/": 1}}, {"may": []}, {"memlock": "x"}, {"caches": {}},
        {"now": "yesterday"},
    ],
)  # fmt: skip
def test_a_record_with_a_malformed_answer_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DonjonError, match="expected a record of a machine"):
        of(tmp_path, "laptop", **changes)


def test_a_record_does_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert of(tmp_path, "mac").text("/../../secret") is None


def test_no_record_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        Recorded(str(tmp_path))
