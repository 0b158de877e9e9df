"""Attested Keeps as a whole: simulated hardware, a real Steward over TLS, the command, and a client that checks."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon import Keep, WarmParent, tee
from donjon.errors import DonjonError, ParseError, PlatformError, UsageError, VerifyError
from donjon.keep import attest, nil
from donjon.keep.launch import Launch
from donjon.steward import client as client_module
from donjon.steward import endorsement
from donjon.steward.result import CMW, MARKERS, read_cmw, read_markers
from donjon.workload import Descriptor
from tests.keep import guests
from tests.sim.mounts import mounted, sim_mount
from tests.steward.https import (
    Answer,
    Handler,
    Issuer,
    chain_answer,
    drip,
    nonce_answer,
    reply,
    serving,
    steward,
)
from tests.system.command import Running, config, donjon_run, environment, file, listens
from tests.system.stewards import POLICY, Steward, lab_in, leaf_of
from tests.system.tls import exactly, tls_client, unchecked

TEES = ("snp", "tdx", "sgx", "cca")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lab_in(tmp_path_factory.mktemp("sim") / "lab")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, lab: str) -> Iterator[Steward]:
    made = Steward(tmp_path_factory.mktemp("service") / "steward", lab)
    yield made
    made.close()


@pytest.fixture
def started() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Whatever is made through this is ended when the test ends."""
    made: list[Any] = []

    def start(make: Callable[[], Any]) -> Any:
        made.append(make())
        return made[-1]

    yield start
    for one in made:
        one.__exit__(None, None, None) if hasattr(one, "__exit__") else one.close()


def extension(leaf: x509.Certificate, oid: str) -> bytes:
    value = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    assert isinstance(value, x509.UnrecognizedExtension)
    return value.value


def uris(leaf: x509.Certificate) -> list[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def digest(*words: str | Path) -> bytes:
    """What the command says that the workload is."""
    done = donjon_run("workload", "digest", *words)
    assert done.returncode == 0, done.stderr
    return bytes.fromhex(done.stdout.decode())


def ni(workload: bytes) -> str:
    return "ni:///sha-256;" + base64.urlsafe_b64encode(workload).rstrip(b"=").decode()


def echo(folder: Path, service: Steward) -> tuple[Path, Path]:
    module = file(folder, guests.SERVES)
    toml = config(folder, listens("echo", "tls"), before=service.toml(), after=service.roots())
    return module, toml


# ---- from the command to the client


@pytest.mark.slow
def test_a_policy_may_name_the_package_whatever_its_arguments(tmp_path: Path, lab: str, started: Any) -> None:
    service = started(lambda: Steward(tmp_path / "steward", lab))
    module, toml = echo(tmp_path, service)
    package = json.loads(donjon_run("workload", "digest", "--json", module, "--wasmcfgfile", toml).stdout)
    named = f'[[workload]]\npackage = ["{package["descriptor"]["package"]}"]\nnames = ["shop.example.com"]\n'
    roots = json.dumps([*package["descriptor"]["roots"].values()])
    service.reload(POLICY + named + f"roots = {roots}\n")
    words: list[str | Path] = [module, "--wasmcfgfile", toml, "--sim", lab]
    keep = started(lambda: Running("run", *words, "--", "any", "words", listeners=1))
    with tls_client(keep.at("echo"), service.client()) as connection:
        leaf = leaf_of(connection)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.example.com"]
    other = tmp_path / "other.wat"
    other.write_text(module.read_text() + ";; another package\n")
    refused = donjon_run("run", other, *words[1:])
    assert refused.returncode == 4
    assert b"refuses (403): evidence.workload: expected one of 1 workloads of the policy, got" in refused.stderr


def test_a_descriptor_with_variables_of_the_launcher_stays_here() -> None:
    assert attest.descriptor_for_steward(Descriptor(bytes(32), ["a"])) == Descriptor(bytes(32), ["a"]).json()
    assert attest.descriptor_for_steward(Descriptor(bytes(32), env={"TOKEN": "secret"})) is None
    assert attest.descriptor_for_steward(Descriptor(bytes(32), ["a" * attest.MAX_DESCRIPTOR])) is None
    assert attest.MAX_DESCRIPTOR == endorsement.MAX_DESCRIPTOR


@pytest.mark.slow
@pytest.mark.parametrize("name", TEES)
def test_a_client_that_trusts_the_steward_learns_what_runs_and_where(
    tmp_path: Path, lab: str, service: Steward, started: Any, name: str
) -> None:
    module, toml = echo(tmp_path, service)
    words: list[str | Path] = [module, "--wasmcfgfile", toml, "--sim", lab, "--attest", name]
    keep = started(lambda: Running("run", *words, "--", "x", listeners=1))
    with tls_client(keep.at("echo"), service.client()) as connection:
        connection.sendall(b"ping")
        assert exactly(connection, 4) == b"ping"
        leaf = leaf_of(connection)
    workload = digest(module, "--wasmcfgfile", toml, "--", "x")
    assert ni(workload) in uris(leaf)
    claims = read_cmw(extension(leaf, CMW))
    attester = claims["submods"][name]["ear_attester_claims"]
    assert attester["simulated"] is True
    assert attester["nonce"] is True
    assert attester["workload"].startswith(workload.hex())
    assert read_markers(extension(leaf, MARKERS)) == ("simulated",)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == ("secp384r1" if name == "snp" else "secp256r1")
    said = keep.stderr.decode()
    assert (
        f"donjon: certified by the Steward {service.url} for simulated {name} and workload {workload.hex()}\n" in said
    )


@pytest.mark.slow
def test_without_a_steward_the_certificate_holds_evidence_that_anybody_can_verify(
    tmp_path: Path, lab: str, started: Any
) -> None:
    module, toml = file(tmp_path, guests.SERVES), config(tmp_path, listens("echo", "tls"))
    keep = started(lambda: Running("run", module, "--wasmcfgfile", toml, "--sim", lab, listeners=1))
    with tls_client(keep.at("echo"), unchecked()) as connection:
        leaf = leaf_of(connection)
    kind = tee.load("snp")
    evidence, _ = kind.parse(extension(leaf, kind.OID))
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert kind.claimed(evidence) == (kind.key_binding(spki), digest(module, "--wasmcfgfile", toml))


@pytest.mark.slow
def test_the_library_and_a_warm_parent_do_the_same(tmp_path: Path, lab: str, service: Steward, started: Any) -> None:
    module, toml = echo(tmp_path, service)
    parent = started(lambda: WarmParent(module))
    keeps = [
        started(lambda: Keep.start(module, toml, ["x"], sim=lab, attest="tdx")),
        started(lambda: parent.start(toml, ["x"], sim=lab, attest="tdx")),
    ]
    for keep in keeps:
        with tls_client(keep.listeners["echo"], service.client()) as connection:
            assert ni(digest(module, "--wasmcfgfile", toml, "--", "x")) in uris(leaf_of(connection))


@pytest.mark.slow
def test_a_machine_without_a_tee_is_certified_where_the_policy_accepts_that(
    tmp_path: Path, service: Steward, started: Any
) -> None:
    module, toml = echo(tmp_path, service)
    words: list[str | Path] = [module, "--wasmcfgfile", toml, "--tsm", tmp_path / "none"]
    keep = started(lambda: Running("run", *words, listeners=1))
    with tls_client(keep.at("echo"), service.client()) as connection:
        assert read_markers(extension(leaf_of(connection), MARKERS)) == ("unprotected",)


@pytest.mark.slow
def test_a_steward_that_refuses_says_why_and_nothing_runs(tmp_path: Path, lab: str) -> None:
    policy = POLICY + f'[[workload]]\ndigest = ["{"00" * 31}01"]\n'
    service = Steward(tmp_path / "steward", lab, policy)
    try:
        module = file(tmp_path, guests.ARGUMENTS)
        toml = config(tmp_path, before=service.toml(), after=service.roots())
        done = donjon_run("run", module, "--wasmcfgfile", toml, "--sim", lab)
    finally:
        service.close()
    assert (done.returncode, done.stdout) == (4, b"")
    said = done.stderr.decode()
    assert (
        f"donjon: error: the Steward {service.url} refuses (403): evidence.workload: expected one of 1 workloads"
        in said
    )
    assert "donjon: hint: its policy decides" in said


@pytest.mark.slow
def test_a_certificate_is_renewed_and_a_connection_that_is_open_notices_nothing(
    tmp_path: Path, lab: str, started: Any
) -> None:
    service = started(lambda: Steward(tmp_path / "steward", lab, 'lifetime = "5m"\n' + POLICY))
    module = file(tmp_path, guests.ALTERNATES)
    toml = config(tmp_path, listens("echo", "tls"), before=service.toml(), after=service.roots())
    # The command, with certificates renewed after a hundredth of their five minutes.
    script = (
        "from donjon.keep import credentials\n"
        "credentials.SHARE, credentials.JITTER, credentials.LOOK = 0.01, 0.0, 0.5\n"
        "from donjon.cli.main import entry\n"
        "entry()\n"
    )
    words: list[str | Path] = ["run", module, "--wasmcfgfile", toml, "--sim", lab]
    keep = started(lambda: Running(*words, listeners=1, program=[sys.executable, "-c", script]))
    with tls_client(keep.at("echo"), service.client()) as first:
        old = leaf_of(first)
        end = time.monotonic() + 30
        renewed = old
        while renewed.serial_number == old.serial_number:
            assert time.monotonic() < end, keep.stderr.decode()
            first.sendall(b"ping")  # it is served all the time
            assert exactly(first, 4) == b"ping"
            time.sleep(0.2)
            with tls_client(keep.at("echo"), service.client()) as second:
                renewed = leaf_of(second)
                assert exactly(second, 4) == b"ping"
        first.sendall(b"last")
        assert exactly(first, 4) == b"last"
    assert renewed.public_key() != old.public_key()
    assert uris(renewed)[-1] == uris(old)[-1]
    assert b"donjon: the Keep's certificate is renewed, and valid until " in keep.stderr


# ---- a Steward that is no help, in this process, with times that are short


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 0.05)


def attempt(folder: Path, url: str, ca: Path, **more: Any) -> DonjonError:
    """Run a guest that would write its arguments; the error that kept it from running."""
    (folder / "Enarx.toml").write_text(f'steward = "{url}"\nsteward_ca = "c"\n[roots]\nc = "{ca}"\n')
    launch = Launch(guests.ARGUMENTS, str(folder / "Enarx.toml"), tsm=str(folder / "none"), **more)
    module = nil.prepare(launch, None)
    with pytest.raises(DonjonError) as caught:
        nil.run(launch, module)
    return caught.value


def to_another_key(issuer: Issuer) -> Handler:
    other = issuer.sign(ec.generate_private_key(ec.SECP256R1()).public_key()).public_bytes(Encoding.DER)
    return lambda method, *_: nonce_answer() if method == "GET" else chain_answer(other, issuer.der)


def answering(answer: Answer) -> Handler:
    return lambda method, *_: nonce_answer() if method == "GET" else answer


def json_of(body: bytes) -> bytes:
    return reply(200, "application/json", body)


@pytest.mark.parametrize(
    ("handler", "family", "text"),
    [
        pytest.param(answering(json_of(b"garbage")), ParseError, "something else than certificates", id="garbage"),
        pytest.param(to_another_key(Issuer()), VerifyError, "got one for another key", id="another key's certificate"),
        pytest.param(
            steward(Issuer(), life=timedelta(seconds=-1)), VerifyError, "(expired)", id="an expired certificate"
        ),
        pytest.param(
            answering(reply(302, "", b"", "Location: https://127.0.0.1/")),
            ParseError,
            "a redirect (302)",
            id="redirect",
        ),
        pytest.param(answering(reply(200, "text/html")), ParseError, "got text/html", id="another content type"),
        pytest.param(answering(json_of(bytes(300_000))), ParseError, "at most 262144 bytes", id="oversized"),
        pytest.param(
            answering(drip(bytes(1000))),
            PlatformError,
            "did not answer within 0.5 s",
            id="slow",
            marks=pytest.mark.slow,
        ),
        pytest.param(answering(reply(503)), PlatformError, "cannot answer now (503); it was asked 5", id="unavailable"),
        pytest.param(answering(reply(429)), PlatformError, "cannot answer now (429); it was asked 5", id="too many"),
        pytest.param(answering(reply(403)), VerifyError, "refuses (403)", id="a refusal"),
        pytest.param(answering(reply(500)), PlatformError, "got status 500", id="a failure of its own"),
    ],
)
def test_no_keep_runs_for_a_steward_that_is_no_help(
    tmp_path: Path,
    quick: None,
    capfd: pytest.CaptureFixture[str],
    handler: Handler,
    family: type[DonjonError],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "did not answer" in text:
        monkeypatch.setattr(client_module, "EXCHANGE_SECONDS", 0.5)
    with serving(tmp_path, handler) as server:
        error = attempt(tmp_path, server.url, server.pem)
        assert isinstance(error, family)
        assert f"the Steward {server.url}" in error.message
    assert text in error.message
    assert capfd.readouterr() == ("", "")


def test_no_keep_runs_for_a_steward_whose_tls_cannot_be_trusted(
    tmp_path: Path, quick: None, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    with serving(tmp_path, steward(Issuer())) as server, serving(tmp_path / "other", steward(Issuer())) as other:
        error = attempt(tmp_path, server.url, other.pem)
    assert isinstance(error, VerifyError)
    assert "its certificate is not to be trusted" in error.message
    assert error.hint is not None
    assert "steward_ca" in error.hint
    assert capfd.readouterr() == ("", "")


def test_no_keep_runs_where_nobody_listens(tmp_path: Path, quick: None, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, steward(Issuer())) as server:
        pass
    error = attempt(tmp_path, server.url, server.pem)
    assert type(error) is PlatformError
    assert error.message.endswith("connection refused; it was asked 5 times")
    assert capfd.readouterr() == ("", "")


def test_a_steward_of_enarx_certifies_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, steward(Issuer(), enarx=True)) as server:
        text = f'steward = "{server.url}"\nsteward_ca = "c"\n[roots]\nc = "{server.pem}"\n'
        (tmp_path / "Enarx.toml").write_text(text)
        launch = Launch(guests.ARGUMENTS, str(tmp_path / "Enarx.toml"), tsm=str(tmp_path / "none"))
        assert nil.run(launch, nil.prepare(launch, None)) == 0
        assert server.asked == ["GET /v1/nonce", "POST /"]
    assert capfd.readouterr().out == "main.wasm\0"


# ---- what does not fit together


@pytest.mark.parametrize(
    ("toml", "more", "text"),
    [
        ('steward = "https://a"', {"attest": "none"}, "attest none: a Keep must not run without the certificate"),
        ("", {"attest": "kvm"}, "attest kvm: evidence of no hardware has a use for a Steward only"),
        ("", {"attest": "sev"}, 'attest: expected auto, none, kvm, snp, tdx, sgx, cca, got "sev"'),
        ("", {"attest": "none", "sim": "lab"}, "attest none: simulated hardware gives evidence of"),
        ('steward = "https://a"', {"attest": "kvm", "sim": "lab"}, "attest kvm: simulated hardware gives evidence of"),
        ("", {"sim": "lab"}, "there is nothing that could show evidence"),
        ("", {"attest": "snp"}, "there is nothing that could show evidence"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(tmp_path: Path, toml: str, more: dict[str, str], text: str) -> None:
    (tmp_path / "Enarx.toml").write_text(toml)
    with pytest.raises(UsageError) as caught:
        Launch(guests.ARGUMENTS, str(tmp_path / "Enarx.toml"), **more)  # type: ignore[arg-type]
    assert caught.value.message.startswith(text)


def test_a_tee_that_is_asked_for_and_not_there_is_not_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, steward(Issuer())) as server:
        error = attempt(tmp_path, server.url, server.pem, attest="snp")
        assert [asked for asked in server.asked if asked.startswith("POST")] == []
    assert isinstance(error, PlatformError)


def test_a_lab_that_is_none_is_said_so(tmp_path: Path) -> None:
    with serving(tmp_path, steward(Issuer())) as server:
        error = attempt(tmp_path, server.url, server.pem, sim=str(tmp_path / "no-lab"))
    assert isinstance(error, UsageError)
    assert "no-lab" in error.message


def test_a_keep_that_attests_takes_no_memory_for_it(tmp_path: Path) -> None:
    """What makes identities is never loaded into the Keep's own process."""
    script = (
        "import sys\n"
        "from donjon.keep.launch import Launch\n"
        "from donjon.keep import nil\n"
        f"launch = Launch({guests.RETURNS!r}, sys.argv[1])\n"
        "assert nil.run(launch, nil.prepare(launch, None)) == 0\n"
        "heavy = ('cryptography', 'http', 'msgspec', 'ssl', 'email', 'donjon.tee', 'donjon.steward')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    with serving(tmp_path, steward(Issuer())) as server:
        toml = tmp_path / "Enarx.toml"
        toml.write_text(f'steward = "{server.url}"\nsteward_ca = "c"\n[roots]\nc = "{server.pem}"\n')
        done = subprocess.run(
            [sys.executable, "-c", script, str(toml)], capture_output=True, text=True, env=environment(), check=False
        )
    assert (done.stdout, done.stderr) == ("[]\n", "")


# ---- the machine's own way to evidence, with a file system that behaves like the kernel's


@pytest.mark.slow
def test_evidence_of_the_machine_is_found_by_itself_and_names_the_workload(
    tmp_path: Path, lab: str, service: Steward, started: Any
) -> None:
    module, toml = echo(tmp_path, service)
    workload = digest(module, "--wasmcfgfile", toml)
    tsm = tmp_path / "tsm"
    words: list[str | Path] = [module, "--wasmcfgfile", toml, "--tsm", tsm]
    with mounted(sim_mount(Path(lab), tsm, "--tee", "cca", "--workload", workload.hex()), tsm):
        keep = started(lambda: Running("run", *words, listeners=1))
        with tls_client(keep.at("echo"), service.client()) as connection:
            leaf = leaf_of(connection)
    assert ni(workload) in uris(leaf)
    assert list(read_cmw(extension(leaf, CMW))["submods"]) == ["cca"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
def test_a_launcher_that_named_another_workload_gets_no_keep(tmp_path: Path, lab: str, name: str) -> None:
    module, toml = file(tmp_path, guests.SERVES), config(tmp_path, listens("echo", "tls"))
    tsm = tmp_path / "tsm"
    with mounted(sim_mount(Path(lab), tsm, "--tee", name, "--workload", "00" * 31 + "01"), tsm):
        done = donjon_run("run", module, "--wasmcfgfile", toml, "--tsm", tsm)
    assert done.returncode == 4
    assert b": expected evidence for this workload, " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snp", "tdx", "cca"])
def test_a_machines_evidence_goes_into_a_certificate_that_the_keep_signs(
    tmp_path: Path, lab: str, started: Any, name: str
) -> None:
    module, toml = file(tmp_path, guests.SERVES), config(tmp_path, listens("echo", "tls"))
    tsm = tmp_path / "tsm"
    with mounted(sim_mount(Path(lab), tsm, "--tee", name), tsm):
        keep = started(lambda: Running("run", module, "--wasmcfgfile", toml, "--tsm", tsm, listeners=1))
        with tls_client(keep.at("echo"), unchecked()) as connection:
            leaf = leaf_of(connection)
    kind = tee.load(name)
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bound, named = kind.claimed(kind.parse(extension(leaf, kind.OID))[0])
    assert bound == kind.key_binding(spki)
    assert not any(named)


@pytest.mark.slow
def test_a_tee_that_the_machine_has_not_is_not_replaced_by_the_one_that_it_has(tmp_path: Path, lab: str) -> None:
    module, toml = file(tmp_path, guests.SERVES), config(tmp_path, listens("echo", "tls"))
    tsm = tmp_path / "tsm"
    with mounted(sim_mount(Path(lab), tsm, "--tee", "tdx"), tsm):
        done = donjon_run("run", module, "--wasmcfgfile", toml, "--tsm", tsm, "--attest", "snp")
    assert done.returncode == 3
    assert b"expected evidence of snp, got that of tdx" in done.stderr
