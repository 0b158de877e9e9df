"""`donjon.platform.caching`: what is fetched and refused, and how it lies on disk. The vendors are on the loopback."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from donjon.cli.main import main
from donjon.errors import DonjonError, ParseError, PlatformError, VerifyError
from donjon.platform import backends, caching
from donjon.platform.caching import Cache, ends, read_lists
from donjon.platform.machine import Machine, Recorded
from donjon.steward import fetching
from donjon.tee.contract import Roots
from donjon.tee.intel import evidence, tcb, x509
from donjon.tee.intel.simulate import SimulatedIntel, SimulatedPlatform, platform_numbers
from donjon.tee.snp.layout import Product, Tcb
from donjon.tee.snp.simulate import Chip, Vendor
from donjon.wire.der import Der
from tests.platform.machines import CHIP, NOW, TCB, VCEK, write
from tests.steward.vendors import Fake, _quoted

Captured = pytest.CaptureFixture[str]
START = datetime(2026, 5, 1, tzinfo=UTC)
FMSPC = "00606a000000"


@pytest.fixture(scope="module")
def amd() -> Vendor:
    return Vendor.make(START)


@pytest.fixture(scope="module")
def intel() -> SimulatedIntel:
    return SimulatedIntel.new(START)


@pytest.fixture
def kds(amd: Vendor) -> Iterator[Fake]:
    """AMD's service with the lists, and with the VCEK of the recorded host."""
    fake = Fake()
    for product in Product:
        fake.has_list(product, amd.crl(product, START))
    fake.has_chip(chip(amd))
    with fake.serving():
        yield fake


@pytest.fixture
def pcs(intel: SimulatedIntel) -> Iterator[Fake]:
    """Intel's service with everything about one kind of machine."""
    fake = Fake()
    machine = intel.platform(platform_numbers(fmspc=bytes.fromhex(FMSPC)))
    for kind in ("sgx", "tdx"):
        fake.has_collateral(intel, machine, kind, intel.collateral(machine, kind, datetime.fromisoformat(NOW)))
    with fake.serving():
        yield fake


def chip(vendor: Vendor, **changes: Any) -> Chip:
    made = vendor.chip(Product.Milan, START)
    fields = {"chip_id": CHIP, "tcb": Tcb.read(TCB, Product.Milan), **changes}
    return type(made)(**{name: fields.get(name, getattr(made, name)) for name in made.__dataclass_fields__})


class Here(Recorded):
    """A recorded machine whose cache is a directory of today."""

    def __init__(self, folder: str, cache: Path) -> None:
        self._cache = str(cache)
        super().__init__(folder)

    def data(self, path: str, most: int = 1 << 22) -> bytes | None:
        return Machine.data(self, path, most) if path.startswith(self._cache) else super().data(path, most)

    def names(self, path: str) -> tuple[str, ...]:
        return Machine.names(self, path) if path.startswith(self._cache) else super().names(path)

    def caches(self) -> dict[str, str]:
        return {"amd": self._cache, "intel": self._cache}


@pytest.fixture
def made(tmp_path: Path, amd: Vendor, intel: SimulatedIntel) -> Callable[..., Cache]:
    """`made(host, fake)` is the cache of a recorded machine that asks this service."""

    def make(host: str, fake: Fake, said: list[str] | None = None, **changes: Any) -> Cache:
        machine = Here(write(tmp_path / f"record{len(list(tmp_path.iterdir()))}", host, **changes), tmp_path / "cache")
        roots: dict[str, Roots] = {"snp": amd.roots, "sgx": intel.roots(), "tdx": intel.roots()}
        kept: list[str] = [] if said is None else said
        return Cache(machine, kept.append, None, {"amd": fake.base, "intel": fake.base}, roots)

    return make


def files(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != caching.LOCK)


# What comes


def test_amds_lists_of_every_product_are_one_file_in_enarxs_form(
    tmp_path: Path, kds: Fake, made: Callable[..., Cache], amd: Vendor
) -> None:
    said: list[str] = []
    cache = made("snp-host", kds, said)
    cache.amd_lists()
    data = (tmp_path / "cache" / "crls.der").read_bytes()
    assert said == [str(tmp_path / "cache" / "crls.der")]
    assert files(tmp_path / "cache") == ["crls.der"]
    assert read_lists(data) == tuple(kds.files[f"/vcek/v1/{product.name}/crl"][2] for product in Product)
    assert kds.asked == [f"/vcek/v1/{product.name}/crl" for product in Product]
    assert ends(data) == START + timedelta(days=365)
    assert all(f"{kds.base}/vcek/v1/{product.name}/crl".encode() in data for product in Product)
    crl = next(one for one in backends.snp(cache.machine).data if one.name == "AMD CRL cache file")
    assert crl.passed


def test_the_vcek_lies_under_enarxs_name_and_is_printed(tmp_path: Path, kds: Fake, made: Callable[..., Cache]) -> None:
    cache = made("snp-host", kds)
    cache.vcek()
    assert files(tmp_path / "cache") == [VCEK]
    assert (tmp_path / "cache" / VCEK).read_bytes() == kds.files[kds.asked[0]][2]
    assert kds.asked == [f"/vcek/v1/Milan/{CHIP.hex()}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"]
    assert cache.vcek_file() == str(tmp_path / "cache" / VCEK)
    datum = next(one for one in backends.snp(cache.machine).data if one.name == "SEV-SNP VCEK key cache file")
    assert datum.passed


def test_of_turin_the_id_is_short_and_the_first_number_is_the_fmcs(
    tmp_path: Path, kds: Fake, made: Callable[..., Cache], amd: Vendor
) -> None:
    turin = amd.chip(Product.Turin, START)
    kds.has_chip(turin)
    leaf = {"00000001.0": [0x00B00F21, 0, 1 << 30, 0]}
    tcb = turin.tcb.write().hex()
    status = {"version": [1, 58, 1], "state": "initialized", "guests": 0, "current_tcb": tcb, "reported_tcb": tcb}
    cache = made("snp-host", kds, cpuid=leaf, sev_status=status, chip_id={"hex": turin.chip_id.hex()})
    cache.vcek()
    assert kds.asked[0].startswith(f"/vcek/v1/Turin/{turin.chip_id[:8].hex()}?fmcSPL=")
    parts = "-".join(f"{number:02d}" for number in turin.tcb.parts().values())
    assert files(tmp_path / "cache") == [f"vcek-{turin.chip_id[:8].hex()}-{parts}"]


def test_intels_lists_are_one_file(
    tmp_path: Path, pcs: Fake, made: Callable[..., Cache], intel: SimulatedIntel
) -> None:
    made("sgx-host", pcs).intel_lists()
    lists = read_lists((tmp_path / "cache" / "crls.der").read_bytes())
    assert [x509.crl(one).issuer_name for one in lists] == [
        "Intel SGX Root CA", "Intel SGX PCK Processor CA", "Intel SGX PCK Platform CA",
    ]  # fmt: skip


def test_tcb_info_of_sgx_and_tdx(tmp_path: Path, pcs: Fake, made: Callable[..., Cache]) -> None:
    cache = made("sgx-host", pcs)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fmspc.txt").write_text(FMSPC.upper() + "\n")
    cache.intel_tcb()
    assert files(tmp_path / "cache") == ["fmspc.txt", "tcb-tdx.der", "tcb.der"]
    for name, kind in (("tcb.der", "SGX"), ("tcb-tdx.der", "TDX")):
        signed = evidence._signed(Der((tmp_path / "cache" / name).read_bytes(), name).sequence(), "tcbInfo")
        assert signed is not None
        assert tcb.tcb_info(signed.body).id == kind
    datum = next(one for one in backends.sgx(cache.machine).data if one.name == "TCB & FMSPC cache")
    assert (datum.passed, datum.info) == (True, FMSPC.upper())


def test_a_machine_without_tdx_has_tcb_info_of_sgx_alone(tmp_path: Path, pcs: Fake, made: Callable[..., Cache]) -> None:
    pcs.files = {path: kept for path, kept in pcs.files.items() if not path.startswith("/tdx/")}
    said: list[str] = []
    cache = made("sgx-host", pcs, said)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fmspc.txt").write_text(FMSPC)
    cache.intel_tcb()
    assert files(tmp_path / "cache") == ["fmspc.txt", "tcb.der"]
    assert (
        said[1] == "tdx: intel: expected an answer of 200, got 404: there is no such thing: not every machine has both"
    )
    pcs.files.clear()
    with pytest.raises(PlatformError, match=f"Intel has no TCB info of FMSPC {FMSPC}"):
        cache.intel_tcb()


@pytest.mark.parametrize("text", ["", "00606a00000", "00606a00000g", "00606a000000 00"])
def test_an_fmspc_that_is_none_is_refused(tmp_path: Path, pcs: Fake, made: Callable[..., Cache], text: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fmspc.txt").write_text(text)
    with pytest.raises(ParseError, match="expected 12 hex digits"):
        made("sgx-host", pcs).intel_tcb()
    assert pcs.asked == []


def test_without_fmspc_it_is_said_who_writes_it(pcs: Fake, made: Callable[..., Cache]) -> None:
    with pytest.raises(PlatformError) as raised:
        made("sgx-host", pcs).intel_tcb()
    assert "`donjon platform sgx cache-pck` writes it" in str(raised.value.hint)


RETRIEVED = ",".join(("ab" * 384, "0000", "04" * 16, "0d00", "00" * 16)) + "\n"
PCKCERT = f"/sgx/certification/v4/pckcert?encrypted_ppid={'ab' * 384}&cpusvn={'04' * 16}&pcesvn=0d00&pceid=0000"


def has_pck(pcs: Fake, machine: SimulatedPlatform, chain: tuple[bytes, ...] | None = None) -> None:
    leaf, *above = machine.pck.chain
    headers = {"SGX-PCK-Certificate-Issuer-Chain": _quoted(tuple(above) if chain is None else chain)}
    pcs.files[PCKCERT] = ("application/x-pem-file", headers, x509.pem((leaf,)).encode())


def test_the_pck_certificate_says_which_kind_of_machine_it_is(
    tmp_path: Path, pcs: Fake, made: Callable[..., Cache], intel: SimulatedIntel
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "pckid_retrieval.csv").write_text(RETRIEVED)
    has_pck(pcs, intel.platform(platform_numbers(fmspc=bytes.fromhex(FMSPC))))
    made("sgx-host", pcs).pck()
    assert (tmp_path / "cache" / "fmspc.txt").read_text() == FMSPC


def test_a_pck_certificate_of_another_root_is_refused(
    tmp_path: Path, pcs: Fake, made: Callable[..., Cache], intel: SimulatedIntel
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "pckid_retrieval.csv").write_text(RETRIEVED)
    other = SimulatedIntel.new(START)
    has_pck(pcs, other.platform())
    with pytest.raises(VerifyError, match="expected a chain to Intel's root"):
        made("sgx-host", pcs).pck()
    has_pck(pcs, other.platform(), intel.platform().pck.chain[1:])
    with pytest.raises(VerifyError):
        made("sgx-host", pcs).pck()
    assert not (tmp_path / "cache" / "fmspc.txt").exists()


@pytest.mark.parametrize("text", ["", ",,,", RETRIEVED[2:], RETRIEVED.replace("0d00", "xx00"), "&" + RETRIEVED[1:]])
def test_what_the_tool_wrote_is_checked_before_it_is_sent(
    tmp_path: Path, pcs: Fake, made: Callable[..., Cache], text: str
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "pckid_retrieval.csv").write_text(text)
    with pytest.raises(ParseError, match="expected the encrypted PPID"):
        made("sgx-host", pcs).pck()
    assert pcs.asked == []


# What is refused, and leaves everything as it was


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("404", "there is no such thing"), ("429", "got 429"), ("500", "got 500"), ("301", "got 301"),
        ("redirect", "got 302"), ("closed", "no answer: "), ("huge", "at most 2101248 bytes, got more"),
        ("garbage", ""), ("slow", "no answer: "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("what", ["amd_lists", "vcek", "intel_lists", "intel_tcb"])
def test_a_bad_answer_changes_nothing(
    tmp_path: Path, kds: Fake, pcs: Fake, made: Callable[..., Cache], monkeypatch: pytest.MonkeyPatch, what: str,
    mode: str, problem: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(fetching, "SECONDS", 0.4)
    fake, host = (pcs, "sgx-host") if what.startswith("intel") else (kds, "snp-host")
    fake.mode = mode
    (tmp_path / "cache").mkdir()
    for name in ("crls.der", VCEK, "tcb.der"):
        (tmp_path / "cache" / name).write_text("as it was")
    (tmp_path / "cache" / "fmspc.txt").write_text(FMSPC)
    with pytest.raises(DonjonError) as raised:
        getattr(made(host, fake), what)()
    if not (what == "intel_tcb" and mode == "404"):  # there it is a question of the kind of machine
        assert problem in raised.value.message
        assert mode == "garbage" or "--from" in str(raised.value.hint)
    assert isinstance(raised.value, ParseError if mode == "garbage" else PlatformError)
    assert files(tmp_path / "cache") == sorted(["crls.der", "fmspc.txt", "tcb.der", VCEK])
    assert (tmp_path / "cache" / "crls.der").read_text() == "as it was"
    assert "/elsewhere" not in fake.asked


@pytest.mark.slow
def test_what_another_has_signed_is_refused(tmp_path: Path, kds: Fake, made: Callable[..., Cache]) -> None:
    other = Vendor.make(START)
    kds.has_list(Product.Turin, other.crl(Product.Turin, START))
    with pytest.raises(VerifyError, match="crl-vcek-turin: expected a signature by ARK-Turin"):
        made("snp-host", kds).amd_lists()
    kds.has_chip(chip(other))
    with pytest.raises(VerifyError, match="expected a signature by SEV-Milan"):
        made("snp-host", kds).vcek()
    assert not (tmp_path / "cache").exists()


def test_the_vcek_of_another_chip_or_tcb_is_refused(kds: Fake, made: Callable[..., Cache], amd: Vendor) -> None:
    (path,) = (path for path in kds.files if CHIP.hex() in path)
    for other in (chip(amd, chip_id=CHIP[::-1]), chip(amd, tcb=Tcb.read(bytes(8), Product.Milan))):
        kds.files[path] = ("application/pkix-cert", {}, other.vek)
        with pytest.raises(VerifyError, match="expected the VCEK of this chip and TCB"):
            made("snp-host", kds).vcek()


def test_a_list_that_has_ended_is_not_kept(tmp_path: Path, kds: Fake, made: Callable[..., Cache], amd: Vendor) -> None:
    """It is what an old copy looks like that somebody plays back; or this machine's clock is wrong."""
    kds.has_list(Product.Genoa, amd.crl(Product.Genoa, START, START + timedelta(days=1)))
    with pytest.raises(
        PlatformError, match=r"crl-vcek-genoa: expected one that has not ended, got one until 2026-05-02"
    ):
        made("snp-host", kds).amd_lists()
    assert not (tmp_path / "cache").exists()


def test_a_chip_that_cannot_be_asked_and_one_that_amd_does_not_know(kds: Fake, made: Callable[..., Cache]) -> None:
    with pytest.raises(PlatformError, match="cannot open /dev/sev: permission denied"):
        made("snp-forbidden", kds).vcek()
    with pytest.raises(PlatformError, match="AMD has no certificates of this processor: "):
        made("snp-host", kds, cpuid={"00000001.0": [0x00800F12, 0, 0, 0]}).vcek()
    with pytest.raises(PlatformError, match=r"vcek-.*: no such file or directory"):
        made("snp-host", kds).vcek_file()
    assert kds.asked == []


# On disk


def test_everybody_may_read_the_files_whatever_the_umask_is(
    tmp_path: Path, kds: Fake, made: Callable[..., Cache]
) -> None:
    before = os.umask(0o077)
    try:
        made("snp-host", kds).amd_lists()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "cache" / "crls.der").stat().st_mode) == 0o644


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
    tmp_path: Path, kds: Fake, made: Callable[..., Cache]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "other").write_text("as it was")
    (tmp_path / "cache" / "crls.der").symlink_to(tmp_path / "other")
    made("snp-host", kds).amd_lists()
    assert (tmp_path / "other").read_text() == "as it was"
    assert not (tmp_path / "cache" / "crls.der").is_symlink()


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path, kds: Fake, made: Callable[..., Cache]) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / caching.LOCK).symlink_to(tmp_path / "other")
    with pytest.raises(PlatformError, match="cannot write "):
        made("snp-host", kds).amd_lists()
    assert not (tmp_path / "other").exists()


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path, kds: Fake, made: Callable[..., Cache]) -> None:
    (tmp_path / "cache").write_text("a file where a directory would be")
    with pytest.raises(PlatformError, match="cannot write ") as raised:
        made("snp-host", kds).amd_lists()
    assert raised.value.hint == "run it as root, or name a directory of your own with --cache"


HOLDS = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(60)"


def test_a_writer_waits_for_another_and_not_for_ever(
    tmp_path: Path, kds: Fake, made: Callable[..., Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    words = [sys.executable, "-c", HOLDS, str(tmp_path / "cache" / caching.LOCK)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            monkeypatch.setattr(caching, "WAIT", 0.2)
            with pytest.raises(PlatformError, match="cannot write "):
                made("snp-host", kds).amd_lists()
            monkeypatch.setattr(caching, "WAIT", 20.0)
            threading.Timer(0.3, other.kill).start()  # a lock ends with its process, however that ends
            made("snp-host", kds).amd_lists()
        finally:
            other.kill()
    assert files(tmp_path / "cache") == ["crls.der"]


def test_readers_see_a_whole_file_while_it_is_written_over_and_over(
    tmp_path: Path, kds: Fake, made: Callable[..., Cache]
) -> None:
    cache = made("snp-host", kds)
    cache.amd_lists()
    data = (tmp_path / "cache" / "crls.der").read_bytes()
    over = threading.Event()

    def overwrite() -> None:
        while not over.is_set():
            cache._write("amd", "crls.der", data)

    writers = [threading.Thread(target=overwrite) for _ in range(2)]
    for writer in writers:
        writer.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert (tmp_path / "cache" / "crls.der").read_bytes() == data
    over.set()
    for writer in writers:
        writer.join()
    assert files(tmp_path / "cache") == ["crls.der"]


# Registration


class Registry:
    """Intel's registration service: keeps what is sent, answers as it is told to."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.sent: list[tuple[str, str, bytes]] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                registry.sent.append((self.path, self.headers["Content-Type"], body))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"00" * 8)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def registries() -> Iterator[Callable[..., Registry]]:
    running: list[Registry] = []

    def start(status: int, **headers: str) -> Registry:
        running.append(Registry(status, {name.replace("_", "-"): value for name, value in headers.items()}))
        return running[-1]

    yield start
    for one in running:
        one.server.shutdown()
        one.server.server_close()


VARIABLE = f"{caching.REGISTRATION}d69b-4e6c-8b3b-abc123abc123"
EFI = {"names": {caching.EFI: ["Boot0000", VARIABLE]}, "files": {f"{caching.EFI}/{VARIABLE}": b"\7\0\0\0HEADmanifest"}}


def test_the_manifest_is_sent_without_what_stands_before_it(
    made: Callable[..., Cache], registries: Callable[..., Registry]
) -> None:
    registry, said = registries(201), []  # type: ignore[var-annotated]
    made("sgx-host", registry, said, **EFI).register()
    assert registry.sent == [("/sgx/registration/v1/platform", "application/octet-stream", b"manifest")]
    assert said == ["registered"]


@pytest.mark.parametrize("status", [200, 302, 400, 415, 500, 503])
def test_a_registration_that_is_refused_is_told_without_what_terminals_obey(
    made: Callable[..., Cache], registries: Callable[..., Registry], status: int
) -> None:
    registry = registries(status, Error_Message="\x1b[2Jno such platform", Location="http://127.0.0.1:1/")
    with pytest.raises(PlatformError) as raised:
        made("sgx-host", registry, **EFI).register()
    assert f"intel: expected 201, got {status}: " in raised.value.message
    assert "\x1b" not in raised.value.message
    assert len(registry.sent) == 1


def test_no_manifest_is_not_sent(made: Callable[..., Cache], registries: Callable[..., Registry]) -> None:
    registry = registries(201)
    with pytest.raises(PlatformError, match="there is no SgxRegistrationServerRequest"):
        made("sgx-host", registry).register()
    empty = {**EFI, "files": {f"{caching.EFI}/{VARIABLE}": b"\7\0\0\0HEAD"}}
    with pytest.raises(PlatformError, match="there is no SgxRegistrationServerRequest"):
        made("sgx-host", registry, **empty).register()
    assert registry.sent == []


def test_nobody_there_to_register_with(made: Callable[..., Cache]) -> None:
    nobody = Fake(base="http://127.0.0.1:1")
    with pytest.raises(PlatformError, match="intel: no answer: "):
        made("sgx-host", nobody, **EFI).register()


# The commands


def test_the_commands_ask_whom_they_are_told_to_and_believe_only_the_vendor(
    tmp_path: Path, capfd: Captured, kds: Fake, pcs: Fake
) -> None:
    """Simulated hardware's lists are signed, but not by AMD or Intel."""
    folder = tmp_path / "mine"
    assert main(["platform", "snp", "cache-crl", "--cache", str(folder), "--from", kds.base]) == 4
    assert "crl-vcek-milan: expected " in capfd.readouterr().err
    assert main(["platform", "sgx", "cache-crl", "--cache", str(folder), "--from", pcs.base]) == 4
    assert "rootcacrl: " in capfd.readouterr().err
    assert kds.asked
    assert pcs.asked
    assert not folder.exists()


@pytest.mark.parametrize(
    ("vendor", "update", "initialize"),
    [("snp-host", ["amd_lists"], ["vcek"]), ("sgx-host", ["intel_lists", "intel_tcb"], ["register"])],
)
def test_each_vendor_has_its_own_to_update_and_to_initialize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, update: list[str], initialize: list[str]
) -> None:
    called: list[str] = []
    for name in ("amd_lists", "vcek", "intel_lists", "intel_tcb", "register"):
        monkeypatch.setattr(Cache, name, lambda _self, name=name: called.append(name))
    monkeypatch.setattr("donjon.cli.caches.Machine", lambda: Recorded(write(tmp_path / "m", vendor)))
    assert main(["update-cache"]) == 0
    assert called == update
    called.clear()
    (tmp_path / "m").rename(tmp_path / "m1")
    assert main(["initialize"]) == 0
    assert called == initialize


@pytest.mark.parametrize(
    ("line", "method"),
    [
        ("platform snp cache-crl", "amd_lists"), ("platform snp update", "vcek"),
        ("platform sgx cache-crl", "intel_lists"), ("platform sgx cache-pck", "pck"),
        ("platform sgx cache-tcb", "intel_tcb"), ("platform sgx register", "register"),
    ],
)  # fmt: skip
def test_each_command_does_its_own(monkeypatch: pytest.MonkeyPatch, line: str, method: str) -> None:
    called: list[tuple[str, str | None]] = []
    for name in ("amd_lists", "vcek", "intel_lists", "intel_tcb", "pck", "register"):
        monkeypatch.setattr(Cache, name, lambda self, name=name: called.append((name, self.folder)))
    assert main([*line.split(), "--cache", "/mine"]) == 0
    assert called == [(method, "/mine")]


def test_another_processor_has_nothing_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.setattr("donjon.cli.caches.Machine", lambda: Recorded(write(tmp_path / "m", "raspberry-pi")))
    assert main(["update-cache"]) == 3
    assert "processor: expected one of AMD or Intel, got 'none'" in capfd.readouterr().err


def test_the_vcek_is_printed_as_bytes_or_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / VCEK).write_bytes(bytes(range(256)))

    class Host(Here):
        def __init__(self) -> None:
            super().__init__(write(tmp_path / f"m{len(list(tmp_path.iterdir()))}", "snp-host"), folder)

    monkeypatch.setattr("donjon.cli.caches.Machine", Host)
    assert main(["platform", "snp", "vcek"]) == 0
    assert capfdbinary.readouterr().out == bytes(range(256))
    assert main(["platform", "snp", "vcek", "--file"]) == 0
    assert capfdbinary.readouterr().out == f"{folder}/{VCEK}\n".encode()


def test_the_usual_places_are_enarxs_and_variables_name_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DONJON_AMD_CACHE", raising=False)
    monkeypatch.delenv("DONJON_INTEL_CACHE", raising=False)
    assert caching.folders() == {"amd": "/var/cache/amd-sev", "intel": "/var/cache/intel-sgx"}
    monkeypatch.setenv("DONJON_AMD_CACHE", "/a")
    assert caching.folders() == {"amd": "/a", "intel": "/var/cache/intel-sgx"}
    assert caching.folders("/b") == {"amd": "/b", "intel": "/b"}
