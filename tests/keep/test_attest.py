"""Whose evidence a Keep has: what this machine speaks for, and never something weaker."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from donjon import sim
from donjon.config import Config, Listen
from donjon.errors import BugError, DonjonError, PlatformError, UsageError, VerifyError
from donjon.keep import attest, network, nil
from donjon.keep import launch as launch_module
from donjon.keep.attest import about, choose, detect, maker
from donjon.keep.launch import ATTEST, GRAMINE, TSM, Launch
from donjon.keep.nil import prepare, run
from donjon.tee import ALL, tsm
from donjon.wasm.engine import Module, load
from tests.keep import guests

TLS = Config(files=[Listen(name="web", addr="127.0.0.1", port=0)])
STEWARD = Config(steward="https://steward.example")
WORKLOAD = bytes(range(32))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Module:
    """The module, which takes a descriptor for good."""
    return load(guests.RETURNS)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Module) -> None:
    """Whatever this machine has is not there."""
    monkeypatch.setattr(nil, "load", lambda *_: compiled)
    for module in (attest, launch_module):
        monkeypatch.setattr(module, "DEVICES", (str(tmp_path / "sev-guest"), str(tmp_path / "tdx_guest")))
        monkeypatch.setattr(module, "GRAMINE", str(tmp_path / "attestation"))


def launch(tmp_path: Path, config: Config = STEWARD, attest: str = "auto", lab: str | None = None) -> Launch:
    return Launch(guests.RETURNS, config, attest=attest, sim=lab, tsm=str(tmp_path / "tsm"))


# ---- what this machine speaks for


@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
def test_takes_what_configfs_tsm_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[str] = []

    def provider(root: str) -> str:
        asked.append(root)
        return name

    monkeypatch.setattr(tsm, "provider", provider)
    assert choose(launch(tmp_path), WORKLOAD).tee == name
    assert asked == [str(tmp_path / "tsm")]


def test_takes_sgx_where_gramine_is(tmp_path: Path) -> None:
    (tmp_path / "attestation").mkdir()
    assert detect(str(tmp_path / "tsm")) == "sgx"


def test_takes_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    source = choose(launch(tmp_path), WORKLOAD)
    assert (source.tee, source.collect(b"")) == ("kvm", b"")
    assert about(launch(tmp_path), source) == "kvm (no TEE: the host can read and change it)"


def test_a_machine_with_simulated_hardware_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = attest.Machine("snp", str(tmp_path))
    assert about(launch(tmp_path), source) == "snp"
    monkeypatch.setattr(network.current(), "simulated", True)
    assert about(launch(tmp_path), source) == "simulated snp"


def test_a_configfs_tsm_that_cannot_be_asked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_root: str) -> str:
        raise PlatformError("cannot be asked")

    monkeypatch.setattr(tsm, "provider", fail)
    (tmp_path / "attestation").mkdir()
    with pytest.raises(PlatformError, match="cannot be asked"):
        choose(launch(tmp_path), WORKLOAD)


def test_a_device_without_configfs_tsm_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tdx_guest").touch()
    with pytest.raises(PlatformError, match=r"but no configfs-tsm at .*: there is no way to its evidence") as caught:
        choose(launch(tmp_path), WORKLOAD)
    assert caught.value.hint is not None
    assert "Linux 6.7" in caught.value.hint


@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
def test_a_tee_that_is_named_is_asked_whatever_the_machine_is(tmp_path: Path, name: str) -> None:
    source = choose(launch(tmp_path, attest=name), WORKLOAD)
    assert source.tee == name
    with pytest.raises(PlatformError):
        source.collect(bytes(64))


def test_collectors_get_the_directory_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from donjon.tee.snp import collect

    monkeypatch.setattr(collect, "collect", lambda report_data, root: report_data + root.encode())
    source = choose(launch(tmp_path, attest="snp"), WORKLOAD)
    assert source.collect(b"x") == b"x" + str(tmp_path / "tsm").encode()


def test_the_words_are_those_of_the_tees() -> None:
    assert set(ATTEST) == {"auto", "none", *ALL}
    assert (TSM, GRAMINE) == ("/sys/kernel/config/tsm/report", "/dev/attestation")


# ---- when a launch is attested


@pytest.mark.parametrize(
    ("config", "attest_word", "there", "expected"),
    [
        (Config(), "auto", "tsm", False),
        (TLS, "auto", "", False),
        (TLS, "auto", "tsm", True),
        (TLS, "auto", "attestation", True),
        (TLS, "auto", "sev-guest", True),
        (TLS, "none", "tsm", False),
        (TLS, "none", "sev-guest", False),
        (TLS, "snp", "", True),
        (STEWARD, "auto", "", True),
        (STEWARD, "kvm", "", True),
    ],
)
def test_is_attested_with_a_steward_or_with_sockets_on_a_machine_that_can(
    tmp_path: Path, config: Config, attest_word: str, there: str, expected: bool
) -> None:
    if there:
        (tmp_path / there).mkdir()
    made = launch(tmp_path, config, attest_word)
    assert made.attested() is expected
    prepare(made, None)
    assert (made.main is not None) is expected


def test_a_machine_that_can_and_fails_runs_nothing_and_says_how_to_do_without(tmp_path: Path) -> None:
    (tmp_path / "tsm").mkdir(mode=0o500)
    made = launch(tmp_path, TLS)
    with pytest.raises(PlatformError) as caught:
        run(made, prepare(made, None))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("`donjon run --attest none` runs the program without evidence")


def test_a_machine_with_a_device_alone_runs_nothing_and_says_how_to_do_without(tmp_path: Path) -> None:
    (tmp_path / "sev-guest").touch()
    made = launch(tmp_path, TLS)
    with pytest.raises(PlatformError, match=r"no configfs-tsm at .*: there is no way to its evidence") as caught:
        run(made, prepare(made, None))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("`donjon run --attest none` runs the program without evidence")


def test_a_workload_is_not_described_before_its_module_is_read(tmp_path: Path) -> None:
    with pytest.raises(BugError):
        maker(launch(tmp_path), [])


def test_a_configuration_made_in_python_stands_for_the_file(tmp_path: Path) -> None:
    digests = set()
    for config in (None, TLS, TLS.replace(args=["x"]), TLS.replace(env={"A": "b"}), STEWARD):
        made = Launch(guests.RETURNS, config)
        prepare(made, None, describe=True)
        digests.add(made.describe().digest())
    assert len(digests) == 5
    default = Launch(guests.RETURNS, Config())
    prepare(default, None, describe=True)
    assert default.describe().digest() in digests


# ---- simulated hardware


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sim.create(str(tmp_path_factory.mktemp("attest") / "lab"), datetime.now(UTC)).directory


@pytest.mark.parametrize(("word", "name"), [("auto", "snp"), ("tdx", "tdx"), ("sgx", "sgx"), ("cca", "cca")])
def test_a_lab_gives_what_is_named_or_snp(tmp_path: Path, lab: str, word: str, name: str) -> None:
    assert choose(launch(tmp_path, TLS, word, lab), WORKLOAD).tee == name


@pytest.mark.parametrize("name", ["snp", "tdx", "sgx", "cca"])
def test_the_simulated_launcher_names_the_workload(tmp_path: Path, lab: str, name: str) -> None:
    made = launch(tmp_path, TLS, name, lab)
    prepare(made, None)
    said: list[str] = []
    maker(made, [])(said.append)
    digest = made.describe().digest().hex()
    assert said == [f"the certificate holds evidence of simulated {name} for workload {digest}"]


@pytest.mark.parametrize("error", [UsageError("x"), VerifyError("x")])
def test_other_errors_say_nothing_of_doing_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: DonjonError
) -> None:
    (tmp_path / "tsm").mkdir()

    def fail(_root: str) -> str:
        raise error

    monkeypatch.setattr(tsm, "provider", fail)
    made = launch(tmp_path, TLS)
    prepare(made, None)
    with pytest.raises(type(error)):
        maker(made, [])(lambda _text: None)
    assert error.hint is None
