"""What vendors publish, fetched for a machine that asks by name. The vendor is on the loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from donjon.errors import DonjonError
from donjon.keep.vm import collateral
from donjon.keep.vm.collateral import Fetcher, find
from donjon.keep.vm.loop import Loop
from donjon.log import QUIET
from donjon.sallyport import frames
from donjon.sallyport.machine import Fetched, State
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Chip, Vendor
from tests.sallyport.ends import Ends
from tests.steward.vendors import Fake

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def vendor() -> Vendor:
    return Vendor.make(START)


@pytest.fixture(scope="module")
def chip(vendor: Vendor) -> Chip:
    return vendor.chip(Product.Milan, START)


@pytest.fixture
def kds(vendor: Vendor, chip: Chip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """AMD's service with one list and one chip; folders of this machine that are empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DONJON_AMD_CACHE", str(tmp_path / "amd"))
    fake = Fake()
    fake.has_list(Product.Milan, vendor.crl(Product.Milan, START))
    fake.has_chip(chip)
    with fake.serving():
        yield fake


class Room:
    """A machine that asks, and the host's loop."""

    def __init__(self, kds: Fake) -> None:
        self.ends = Ends().reach(State.RUNNING)
        self.loop = Loop()
        self.fetcher = Fetcher(self.loop, self.ends.host, QUIET, {"amd": kds.base})

    def ask(self, *requests: str) -> list[Any]:
        """The answers, in the order in which they come."""
        for request in requests:
            self.ends.guest.collateral(request)
        self.ends.pump()
        for event in self.ends.heard_outside:
            if isinstance(event, frames.Collateral):
                self.fetcher.take(event)
        self.ends.heard_outside.clear()
        self.ends.heard_inside.clear()
        self.ends.pump()
        while len(self.ends.heard_inside) < len(requests):
            self.loop.turn(20)
            self.ends.pump()
        return self.ends.heard_inside


@pytest.fixture
def room(kds: Fake) -> Iterator[Room]:
    made = Room(kds)
    yield made
    made.fetcher.close()
    made.loop.close()


def vcek_of(chip: Chip) -> tuple[str, bytes]:
    return f"snp vcek-milan-{chip.chip_id.hex()}-{chip.tcb.write().hex()}", chip.vek


def test_a_machine_gets_what_it_names_and_the_vendors_very_bytes(
    room: Room, kds: Fake, chip: Chip, vendor: Vendor
) -> None:
    name, certificate = vcek_of(chip)
    one, two = room.ask(name, "snp crl-vcek-milan")
    assert isinstance(one, Fetched)
    assert isinstance(two, Fetched)
    assert (one.data, two.data) == (certificate, kds.files["/vcek/v1/Milan/crl"][2])
    assert len(kds.asked) == 2


def test_what_never_changes_is_asked_for_once_and_lists_each_time(room: Room, kds: Fake, chip: Chip) -> None:
    name, certificate = vcek_of(chip)
    for _ in range(2):
        room.ask(name, "snp crl-vcek-milan")
    assert [path.partition("?")[0].rpartition("/")[2] for path in kds.asked].count("crl") == 2
    assert len(kds.asked) == 3
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "donjon" / "collateral"
    assert [path.read_bytes() for path in folder.iterdir()] == [certificate]


def test_what_the_operator_has_fetched_is_taken(room: Room, kds: Fake, chip: Chip, tmp_path: Path) -> None:
    name, certificate = vcek_of(chip)
    (tmp_path / "amd").mkdir()
    (tmp_path / "amd" / "another").write_bytes(b"nonsense")
    (tmp_path / "amd" / "vcek-as-enarx-calls-it").write_bytes(certificate)
    (answer,) = room.ask(name)
    assert (answer.data, kds.asked) == (certificate, [])


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ("snp https://127.0.0.1/secret", "AMD publishes nothing of the name 'https://127.0.0.1/secret'"),
        ("snp crl-vcek-milan/../../x", "AMD publishes nothing of the name"),
        ("snp", "AMD publishes nothing of the name ''"),
        ("sev crl-vcek-milan", "sev"),
        ("../../etc/passwd x", "passwd"),
        ("cca x", "cca"),
    ],
)
def test_nothing_else_of_this_machine_or_its_network_is_reached(
    request_: str, complaint: str, room: Room, kds: Fake
) -> None:
    (answer,) = room.ask(request_)
    assert isinstance(answer, frames.CollateralFailed)
    assert complaint in answer.message
    assert kds.asked == []
    with pytest.raises(DonjonError):
        find(request_, {"amd": kds.base})


@pytest.mark.parametrize("mode", ["404", "garbage", "closed", "huge", "redirect"])
def test_a_vendor_that_does_not_answer_well_is_a_message_or_its_bytes(
    mode: str, room: Room, kds: Fake, chip: Chip
) -> None:
    """Whether they are a certificate the guest sees."""
    kds.mode = mode
    (answer,) = room.ask(vcek_of(chip)[0])
    if mode == "garbage":
        assert isinstance(answer, Fetched)
    else:
        assert isinstance(answer, frames.CollateralFailed)
        assert "amd: " in answer.message


def test_what_a_machine_does_not_take_is_said_and_not_kept(
    room: Room, chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, certificate = vcek_of(chip)
    monkeypatch.setattr(collateral, "MAX_COLLATERAL", 1000)
    (answer,) = room.ask(name)
    assert isinstance(answer, frames.CollateralFailed)
    wanted = f"amd: {name.removeprefix('snp ')}: expected at most 1000 bytes, got {len(certificate)}"
    assert answer.message == wanted
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "donjon").exists()


def test_no_fork_to_be_had_is_said_of_each_request(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe", pipe)
    for answer in room.ask("snp crl-vcek-milan", "snp crl-vcek-genoa"):
        assert isinstance(answer, frames.CollateralFailed)
        assert answer.message == "this machine has no room for another process"


def test_a_machine_that_asks_without_end_is_refused(room: Room, kds: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collateral, "MOST", 1)
    assert isinstance(room.ask("snp crl-vcek-milan")[0], Fetched)
    (answer,) = room.ask("snp crl-vcek-milan")
    assert answer.message == "a Keep gets no more than 1 answers"
    assert len(kds.asked) == 1


def test_closing_ends_the_fork_that_waits(kds: Fake, chip: Chip) -> None:
    kds.mode = "slow"
    made = Room(kds)
    made.ends.guest.collateral(vcek_of(chip)[0])
    made.ends.pump()
    made.fetcher.take(made.ends.heard_outside[-1])
    assert made.fetcher._fork is not None
    number = made.fetcher._fork.pid
    made.fetcher.close()
    made.loop.close()
    assert not Path(f"/proc/{number}").exists()
