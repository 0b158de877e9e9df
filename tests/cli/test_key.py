"""`donjon key`, `donjon sign`, `donjon image measure`: files that are made, lines that a policy takes."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from donjon.cli.main import main
from donjon.errors import ParseError
from donjon.image import manifest
from donjon.sim import firmware as simulated
from donjon.steward.policy import parse as parse_policy
from donjon.tee import signatures
from donjon.tee.sgx import sigstruct
from donjon.tee.snp import idblock
from donjon.tee.snp.layout import GuestPolicy
from donjon.tee.snp.measure import launch_digest
from donjon.tee.tdx import measure as td
from tests.tee.tdx.test_measure import program

VECTORS = Path(__file__).parent.parent / "vectors" / "enarx"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("sev-author.key", "sev-id.key", "sgx-test.key"):
        (tmp_path / name).write_bytes((VECTORS / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    return tmp_path


def run(capfd: Captured, *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    out, err = capfd.readouterr()
    assert bool(err) == bool(code), err
    return err if code else out


def test_known_digests_and_signatures_of_enarx(here: Path, capfd: Captured) -> None:
    assert run(capfd, "key", "sev", "digest", "sev-id.key").startswith("0ea04f87205f95585f80")
    assert run(capfd, "key", "sgx", "digest", "sgx-test.key").startswith("298037d88782e022e019")
    words = ("--author-key", "sev-author.key", "--id-key", "sev-id.key", "--out", "id.sig")
    assert run(capfd, "key", "sev", "sign", *words) == ""
    assert (here / "id.sig").read_bytes() == (VECTORS / "sev-id-key-signature.blob").read_bytes()


@pytest.mark.parametrize("kind", ["sev", "sgx"])
def test_a_new_key_is_for_its_owner_alone_and_overwrites_nothing(here: Path, capfd: Captured, kind: str) -> None:
    assert run(capfd, "key", kind, "create", "--out", "new.key") == ""
    assert (here / "new.key").stat().st_mode & 0o777 == 0o600
    content = (here / "new.key").read_bytes()
    assert "is there already" in run(capfd, "key", kind, "create", "--out", "new.key", code=2)
    assert (here / "new.key").read_bytes() == content
    assert len(run(capfd, "key", kind, "digest", "new.key")) == {"sev": 96, "sgx": 64}[kind]
    assert run(capfd, "key", kind, "create").startswith("-----BEGIN ")
    (here / "new.key").chmod(0o640)
    error = run(capfd, "key", kind, "digest", "new.key", code=2)
    assert "its owner alone" in error
    assert "chmod 600 new.key" in error


def test_a_key_of_another_kind_is_refused(capfd: Captured) -> None:
    assert "expected a key of P-384" in run(capfd, "key", "sev", "digest", "sgx-test.key", code=1)
    assert "expected an RSA key" in run(capfd, "key", "sgx", "digest", "sev-id.key", code=1)


def test_signs_both_parts_and_what_is_written_is_read(here: Path, capfd: Captured) -> None:
    (here / "id.sig").write_bytes((VECTORS / "sev-id-key-signature.blob").read_bytes())
    sev = ("--launch-digest", "ab" * 48, "--sev-id-key", "sev-id.key", "--sev-id-key-signature", "id.sig")
    text = run(capfd, "sign", *sev, "--mrenclave", "cd" * 32, "--sgx-key", "sgx-test.key")
    found = signatures.parse(text.encode())
    assert found.sev is not None
    assert found.sgx is not None
    assert idblock.check(bytes(found.sev.id_block), bytes(found.sev.id_auth)).launch_digest == b"\xab" * 48
    assert sigstruct.check(bytes(found.sgx)).mr_enclave == b"\xcd" * 32
    assert run(capfd, "sign", *sev, "--out", "image.sig") == ""
    assert signatures.parse((here / "image.sig").read_bytes()).sgx is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to sign"),
        (("--launch-digest", "ab" * 48), "expected --sev-id-key and --sev-id-key-signature with --launch-digest"),
        (("--sev-id-key", "sev-id.key"), "expected --sev-id-key and --sev-id-key-signature together"),
        (("--mrenclave", "ab" * 32), "expected --mrenclave and --sgx-key together"),
        (("--mrenclave", "ab", "--sgx-key", "sgx-test.key"), "--mrenclave: expected 64 hex digits, got 2"),
        (("--mrenclave", "xy", "--sgx-key", "sgx-test.key"), "--mrenclave: expected 64 hex digits, got other text"),
    ],
)
def test_parts_that_belong_together_have_to_be_there(capfd: Captured, words: tuple[str, ...], message: str) -> None:
    assert message in run(capfd, "sign", *words, code=2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"version":"1","sgx":[1]}',
        b'{"version":"1","more":1}',
        b"\xff" * 300_000,
        b'"\xff"',
    ],
)
def test_other_files_are_no_signatures(data: bytes) -> None:
    with pytest.raises(ParseError, match="signatures: expected"):
        signatures.parse(data)


KERNEL = b"MZ not a program"


@pytest.fixture
def files(here: Path) -> tuple[str, ...]:
    (here / "kernel").write_bytes(KERNEL)
    (here / "initrd").write_bytes(b"initrd")
    (here / "fw").write_bytes(simulated.write())
    return ("--kernel", "kernel", "--initrd", "initrd", "--append", "quiet", "--firmware", "fw")


def test_the_lines_are_a_policy_that_knows_the_digests(files: tuple[str, ...], capfd: Captured) -> None:
    text = run(capfd, "image", "measure", "--tee", "snp", *files, "--vcpus", "1,2", "--cpu", "EPYC-v4,EPYC-Milan")
    listed = tomllib.loads(text)["snp"]["hash"]
    expected = [
        launch_digest(simulated.write(), KERNEL, b"initrd", "quiet", n, cpu).hex()
        for cpu in ("EPYC-v4", "EPYC-Milan")
        for n in (1, 2)
    ]
    assert listed == expected
    assert [bytes(item).hex() for item in parse_policy(text).of("snp").hash] == expected
    found = json.loads(run(capfd, "image", "measure", "--tee", "snp", *files, "--json"))
    assert found["policy"] == {"hash": expected[:1]}
    assert found["image"] == "kernel kernel, initramfs initrd"


@pytest.fixture
def built(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An image of a variant as a build leaves it, with a kernel and an initramfs of a few bytes."""
    (here / "fw").write_bytes(simulated.write())
    monkeypatch.setenv("DONJON_FIRMWARE", "fw")

    def build(variant: str) -> Path:
        directory = here / variant
        directory.mkdir()
        content = {"bzImage": program(), "vmlinux": b"", "initrd.zst": b"initrd", "initrd.cpio": b""}
        for name, data in content.items():
            (directory / name).write_bytes(data)
        told = manifest.make(variant, "quiet", "0" * 64, content, {}, {}, {}, {}, [], [])
        (directory / "manifest.json").write_bytes(manifest.canonical(told))
        monkeypatch.setenv("DONJON_IMAGE", str(directory))
        return directory

    return build


def digest_of_built(cpu: str = "EPYC-v4", vcpus: int = 1) -> bytes:
    return launch_digest(simulated.write(), program(), b"initrd", "quiet", vcpus, cpu)


def test_without_files_the_image_that_was_built_is_measured(built: Callable[[str], Path], capfd: Captured) -> None:
    built("production")
    text = run(capfd, "image", "measure", "--tee", "snp", "--vcpus", "2")
    assert text.startswith("# image production, digest ")
    assert tomllib.loads(text)["snp"] == {"hash": [digest_of_built(vcpus=2).hex()]}
    registers = tomllib.loads(run(capfd, "image", "measure", "--tee", "tdx"))["tdx"]
    assert registers["rtmr1"] == [td.rtmr1(program()).hex()]
    assert registers["rtmr2"] == [td.rtmr2("quiet", b"initrd").hex()]


def test_the_lines_of_a_debug_image_allow_what_such_guests_do(built: Callable[[str], Path], capfd: Captured) -> None:
    built("debug")
    text = run(capfd, "image", "measure", "--tee", "snp", "--variant", "debug")
    assert tomllib.loads(text)["snp"] == {"hash": [digest_of_built().hex()], "allow_debug": True}
    assert parse_policy(text).of("snp").allow_debug is True
    assert "allow_debug" not in run(capfd, "image", "measure", "--tee", "tdx", "--variant", "debug")
    assert "expected an image of the variant production" in run(capfd, "image", "measure", "--tee", "snp", code=2)


def test_an_image_that_is_not_there_or_damaged_is_not_measured(
    built: Callable[[str], Path], capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = built("production")
    run(capfd, "image", "measure", "--tee", "snp")
    status = (directory / "initrd.zst").stat()
    (directory / "initrd.zst").write_bytes(b"INITRD")
    os.utime(directory / "initrd.zst", ns=(status.st_atime_ns, status.st_mtime_ns))  # what a quick look would miss
    assert "the image is damaged: initrd.zst" in run(capfd, "image", "measure", "--tee", "snp", code=4)
    monkeypatch.setenv("DONJON_IMAGE", "nowhere")
    error = run(capfd, "image", "measure", "--tee", "snp", code=3)
    assert "no image in " in error
    assert "DONJON_IMAGE names nowhere" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kernel", "k"), "expected --kernel, --initrd and --append together, got --kernel alone"),
        (("--kernel", "k", "--append", ""), "together, got --kernel, --append alone"),
        (
            ("--variant", "debug", "--kernel", "k", "--initrd", "i", "--append", ""),
            "expected --variant, or --kernel, --initrd and --append, got --kernel, --initrd, --append with it",
        ),
    ],
)
def test_files_of_another_image_come_together(capfd: Captured, words: tuple[str, ...], message: str) -> None:
    assert message in run(capfd, "image", "measure", "--tee", "snp", *words, code=2)


def test_an_id_block_is_signed_for_the_image_that_was_built(
    here: Path, built: Callable[[str], Path], capfd: Captured
) -> None:
    (here / "id.sig").write_bytes((VECTORS / "sev-id-key-signature.blob").read_bytes())
    words = ("sign", "--sev-id-key", "sev-id.key", "--sev-id-key-signature", "id.sig")
    for variant, flags in (("production", idblock.POLICY), ("debug", idblock.POLICY | GuestPolicy.DEBUG)):
        built(variant)
        text = run(capfd, *words, "--variant", variant, "--vcpus", "2", "--cpu", "EPYC-Milan")
        sev = signatures.parse(text.encode()).sev
        assert sev is not None
        signed = idblock.check(bytes(sev.id_block), bytes(sev.id_auth))
        assert signed.launch_digest == digest_of_built("EPYC-Milan", 2)
        assert signed.policy == flags
    assert "--vcpus: expected a number" in run(capfd, *words, "--variant", "debug", "--vcpus", "1,2", code=2)


def test_tdx_says_what_cannot_be_computed(here: Path, files: tuple[str, ...], capfd: Captured) -> None:
    (here / "kernel").write_bytes(program())
    text = run(capfd, "image", "measure", "--tee", "tdx", *files)
    parse_policy(text)
    assert "RTMR0 is not here" in text
    assert tomllib.loads(text)["tdx"] == {
        "hash": [td.mrtd(simulated.write()).hex()],
        "rtmr1": [td.rtmr1(program()).hex()],
        "rtmr2": [td.rtmr2("quiet", b"initrd").hex()],
    }


def test_firmware_that_boots_any_kernel_is_refused(here: Path, files: tuple[str, ...], capfd: Captured) -> None:
    (here / "fw").write_bytes(simulated.write(kernel_hashes=False))
    error = run(capfd, "image", "measure", "--tee", "snp", *files, code=2)
    assert "does not measure the kernel" in error
    assert "ovmf-amdsev" in error


@pytest.mark.parametrize("count", ["x", "1,", "-1", "1000"])
def test_numbers_of_processors_are_numbers(files: tuple[str, ...], capfd: Captured, count: str) -> None:
    assert main(["image", "measure", "--tee", "snp", *files, f"--vcpus={count}"]) == 2
    assert "--vcpus: expected numbers" in capfd.readouterr().err
