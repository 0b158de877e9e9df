"""The agent asks its host for the certificate that evidence came without, and takes nothing but that certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from donjon.errors import PlatformError
from donjon.guest.agent import Place
from donjon.guest.requests import Asker
from donjon.identity.apart import Making
from donjon.log import WARN
from donjon.sallyport import frames
from donjon.sallyport.machine import MAX_COLLATERAL
from donjon.tee.snp.certtable import write_table
from donjon.tee.snp.evidence import encode, parse, wrap
from donjon.tee.snp.layout import Product, SigningKey
from donjon.tee.snp.simulate import Chip, Vendor
from donjon.tee.tsm import Answer
from tests.guest.sessions import Session
from tests.guest.test_agent import HELLO, launched

START = datetime(2026, 5, 1, tzinfo=UTC)
BOUND = bytes(range(64))
Reply = Callable[[Session, int], None]


@pytest.fixture(scope="module")
def vendor() -> Vendor:
    return Vendor.make(START)


@pytest.fixture(scope="module")
def chip(vendor: Vendor) -> Chip:
    return vendor.chip(Product.Genoa, START)


class Machine:
    """A machine of SNP whose host sends no certificates along; what its makers got as evidence, and what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, chip: Chip) -> None:
        self.chip = chip
        self.report = chip.report(report_data=BOUND)
        self.table = b""
        self.variant = "production"
        self.asked: list[str] = []
        self.warned: list[str] = []
        self.path = path
        self._patch = monkeypatch

    def collect(self, reply: Reply, times: int = 1, pause: float = 0.0) -> list[bytes]:
        """Have a maker ask for evidence, and answer each request of the agent's in this way."""

        def make(asked: Any) -> None:
            asker = Asker(asked)
            for number in range(times):
                begun = time.monotonic()
                data, _ = asker.ask("evidence", BOUND.hex())
                (self.path / f"evidence-{number}").write_bytes(data)
                (self.path / f"took-{number}").write_text(str(time.monotonic() - begun))
                time.sleep(pause)
            raise PlatformError("all is written down")

        def run(_workload: object, _place: Place, _reporter: object, asked: Any) -> int:
            Making(Asker(asked).ask("identity")[1]).result()
            return 0

        def act(session: Session, event: Any) -> None:
            if isinstance(event, frames.Collateral):
                self.asked.append(event.request)
                reply(session, event.id)
            elif isinstance(event, frames.Log) and event.level == WARN:
                self.warned.append(event.message)

        def answer(*_: object) -> Answer:
            return Answer("snp", self.report, self.table, b"")

        patch = self._patch
        patch.setattr("donjon.guest.evidence.check_named", lambda *_: None)
        patch.setattr("donjon.tee.snp.roots.vendor", lambda: self.chip.vendor.roots)
        patch.setattr("donjon.tee.tsm.report", answer)
        patch.setattr("donjon.guest.keep.maker_of", lambda _workload, _place, asked: lambda _say: make(asked))
        patch.setattr("donjon.guest.keep._run", run)
        session = Session(launched(HELLO), Place(tee="snp", variant=self.variant), act=act)
        assert session.run().last(frames.Failed).message == "all is written down"
        return [(self.path / f"evidence-{number}").read_bytes() for number in range(times)]

    def took(self, number: int) -> float:
        """Seconds that the maker has waited."""
        return float((self.path / f"took-{number}").read_text())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chip: Chip) -> Machine:
    return Machine(monkeypatch, tmp_path, chip)


def with_(data: bytes) -> Reply:
    return lambda session, number: session.machine.reply(number, data)


def never(_session: Session, _number: int) -> None:
    """A host that hears, and does not answer."""


def test_a_report_that_came_alone_goes_with_the_certificate_that_the_host_has(machine: Machine, chip: Chip) -> None:
    (evidence,) = machine.collect(with_(chip.vek))
    assert evidence == encode(machine.report, chip.vek)
    found, _ = parse(evidence)
    assert found.vek is not None
    assert found.report.guest.report_data == BOUND
    assert machine.asked == [f"snp vcek-genoa-{chip.chip_id.hex()}-{chip.tcb.write().hex()}"]
    assert machine.warned == []


@pytest.mark.parametrize("product", list(Product))
def test_it_is_asked_for_by_the_products_own_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vendor: Vendor, product: Product
) -> None:
    chip = vendor.chip(product, START)
    machine = Machine(monkeypatch, tmp_path, chip)
    assert machine.collect(with_(chip.vek)) == [encode(machine.report, chip.vek)]
    name = chip.chip_id[: product.chip_id_size].hex()
    assert machine.asked == [f"snp vcek-{product.name.lower()}-{name}-{chip.tcb.write().hex()}"]


def other_key(chip: Chip) -> Chip:
    return replace(chip, key=ec.generate_private_key(ec.SECP384R1()))


WRONG: dict[str, tuple[Callable[[Chip], bytes], str]] = {
    "another chip's": (
        lambda chip: replace(chip, chip_id=bytes(reversed(chip.chip_id))).vek,
        "snp: vek.chip_id: expected ",
    ),
    "of another TCB": (
        lambda chip: replace(chip, tcb=replace(chip.tcb, microcode=chip.tcb.microcode + 1)).vek,
        "snp: vek.microcode: expected ",
    ),
    "of another key": (lambda chip: other_key(chip).vek, "snp: report.signature: expected "),
    "a provider's": (
        lambda chip: replace(chip, kind=SigningKey.VLEK).vek,
        "snp: report.signing_key: expected ",
    ),
    "of another product": (
        lambda chip: replace(chip, product=Product.Milan).vek,
        "snp: product.cpuid: expected Genoa, got Milan",
    ),
    "another certificate": (lambda chip: chip.vendor.anchor(Product.Genoa, "ASK"), "VEK.subject: expected "),
    "cut off": (lambda chip: chip.vek[:-1], ""),
    "with something behind it": (lambda chip: chip.vek + b"\0", ""),
    "garbage": (lambda _: b"\x30\x82\xff\xff" + bytes(range(256)), ""),
    "nothing": (lambda _: b"", ""),
    "longer than a certificate is": (lambda chip: chip.vek + bytes(7000), "certificate: expected at most 8192 bytes"),
    "too large": (lambda _: bytes((16 << 10) + 1), "the host's answer: expected at most 16384 bytes, got 16385"),
    "as large as can be": (lambda _: bytes(MAX_COLLATERAL), "the host's answer: expected at most 16384 bytes, got "),
}  # fmt: skip


@pytest.mark.parametrize("variant", ["production", "simulated"])
@pytest.mark.parametrize(("wrong", "why"), WRONG.values(), ids=list(WRONG))
def test_evidence_goes_without_where_the_answer_is_not_the_keys_certificate(
    machine: Machine, chip: Chip, wrong: Callable[[Chip], bytes], why: str, variant: str
) -> None:
    machine.variant = variant
    assert machine.collect(with_(wrong(chip))) == [wrap(machine.report)]
    (warning,) = machine.warned
    assert warning.startswith("the evidence goes without the certificate of its key: ")
    assert why in warning


def test_only_simulated_hardware_may_have_a_maker_that_nobody_knows(machine: Machine, chip: Chip) -> None:
    stranger = replace(chip, vendor=Vendor.make(START))
    assert machine.collect(with_(stranger.vek)) == [wrap(machine.report)]
    assert "chain.vek_signature: expected a signature by SEV-Genoa, got another" in machine.warned[0]
    machine.variant = "simulated"
    assert machine.collect(with_(stranger.vek)) == [encode(machine.report, stranger.vek)]
    assert len(machine.warned) == 1


def test_a_key_of_another_kind_cannot_have_signed_even_where_the_maker_is_unknown(machine: Machine, chip: Chip) -> None:
    machine.variant = "simulated"
    spki = chip.vendor.usual(chip.product, "ASK").spki  # RSA
    assert machine.collect(with_(chip.changed(spki=spki).vek)) == [wrap(machine.report)]
    assert "vek.key_is_p384" in machine.warned[0]


def test_evidence_goes_without_where_the_host_refuses(machine: Machine) -> None:
    def refuse(session: Session, number: int) -> None:
        session.machine.collateral_failed(number, "no network\nat all\0 " + "x" * 8000)

    assert machine.collect(refuse) == [wrap(machine.report)]
    (warning,) = machine.warned
    assert "key: the host cannot fetch it: no network" in warning
    assert len(warning) <= 520  # some of which are escapes of what is no text


def test_a_silent_host_is_waited_for_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.guest.broker.COLLATERAL_SECONDS", 0.8)
    assert machine.collect(never, times=3) == [wrap(machine.report)] * 3
    assert len(machine.asked) == 1
    assert machine.warned[0].endswith(": the host does not answer")
    assert [text.endswith(": the host has not answered an earlier request") for text in machine.warned[1:]] == [
        True
    ] * 2
    assert machine.took(0) >= 0.8 > machine.took(2)


@pytest.mark.slow
def test_an_answer_that_comes_late_is_there_the_next_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, chip: Chip
) -> None:
    monkeypatch.setattr("donjon.guest.broker.COLLATERAL_SECONDS", 0.1)

    def late(session: Session, number: int) -> None:
        time.sleep(1.5)
        session.machine.reply(number, chip.vek)

    first, second = machine.collect(late, times=2, pause=2.0)
    assert (first, second) == (wrap(machine.report), encode(machine.report, chip.vek))
    assert len(machine.asked) == len(machine.warned) == 1


def test_what_was_fit_is_asked_for_once_and_what_was_not_again(machine: Machine, chip: Chip) -> None:
    answers = iter([b"garbage", chip.vek])
    found = machine.collect(lambda session, number: session.machine.reply(number, next(answers)), times=3)
    assert found == [wrap(machine.report), *[encode(machine.report, chip.vek)] * 2]
    assert len(machine.asked) == 2
    assert len(machine.warned) == 1


def test_nothing_is_asked_for_where_nothing_lacks_or_nobody_can_name_it(
    machine: Machine, vendor: Vendor, chip: Chip
) -> None:
    machine.table = write_table({"VCEK": chip.vek})
    assert machine.collect(never) == [encode(machine.report, chip.vek)]
    machine.table = b""
    for report in (
        chip.report(report_data=BOUND, chip_id=bytes(64)),  # the host masks it
        chip.report(report_data=BOUND, version=2),  # does not name its product
        vendor.chip(Product.Genoa, START, SigningKey.VLEK).report(report_data=BOUND),  # AMD publishes none
    ):
        machine.report = report
        assert machine.collect(never) == [wrap(report)]
    assert (machine.asked, machine.warned) == ([], [])


@pytest.mark.parametrize("words", [("collateral", "crl-vcek-genoa"), ("unfit", "words of the workload's")])
def test_neither_the_keep_nor_its_makers_can_ask_or_warn(
    words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_workload: object, _place: Place, _reporter: object, asked: Any) -> int:
        with pytest.raises(Exception, match="expected one that it may make"):
            Asker(asked).ask(*words)
        Making(Asker(asked).ask("identity")[1]).result()
        return 0

    monkeypatch.setattr(
        "donjon.guest.keep.maker_of", lambda _workload, _place, asked: lambda _say: Asker(asked).ask(*words)
    )
    monkeypatch.setattr("donjon.guest.keep._run", run)
    session = Session(launched(HELLO)).run()
    assert session.last(frames.Failed).message == "request of a Keep: expected one that it may make"
    assert not [event for event in session.events if isinstance(event, frames.Collateral | frames.Log)]
