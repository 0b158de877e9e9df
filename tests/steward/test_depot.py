"""The service's own collateral, against services that keep the real ones' rules, and that break them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from msgspec import structs

from donjon import tee
from donjon.errors import ParseError, UsageError, VerifyError
from donjon.identity import self_signed
from donjon.steward import depot as depots
from donjon.steward import fetching
from donjon.steward.depot import Depot
from donjon.steward.fetching import Vendors
from donjon.steward.files import read_collateral
from donjon.steward.policy import Policy, parse
from donjon.steward.procedure import Decision, Trust, decide
from donjon.tee import sgx, snp, tdx
from donjon.tee.contract import Need, Roots
from donjon.tee.intel.collateral import Collateral, to_json
from donjon.tee.intel.simulate import FRESH, TeeName, enclave, platform_numbers
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Chip
from donjon.tee.snp.vek import read_vek
from donjon.tee.tdx.simulate import td_report
from tests.steward.requests import VECTORS, Key, new_key, request, spki
from tests.steward.vendors import Fake
from tests.tee.intel import simulated as intels
from tests.tee.snp.machines import DAY, NOW, YEAR, Machines

Settle = tuple[Decision, bool]


@dataclass
class Clock:
    """Both clocks, which tests move."""

    now: datetime = NOW
    seconds: float = 1000.0

    def move(self, by: timedelta) -> None:
        self.now += by
        self.seconds += by.total_seconds()


@dataclass
class Said:
    """A log."""

    lines: list[str]

    def warn(self, text: str, target: str) -> None:
        assert target == "donjon.steward"
        self.lines.append(text)

    error = warn


@dataclass
class Lab:
    """A depot, and requests for it.

    Args:
        words: lines below [collateral], beside the addresses.
        directory: where it keeps things.
    """

    fake: Fake
    roots: dict[str, Roots]
    words: str = ""
    directory: Path | None = None
    supplied: tuple[tuple[str, bytes], ...] = ()
    clock: Clock = field(default_factory=Clock)
    said: list[str] = field(default_factory=list)

    def policy(self) -> Policy:
        base = self.fake.base
        text = f'accept_unattested = true\n[collateral]\namd = "{base}"\nintel = "{base}/"\n{self.words}\n'
        return parse(text)

    def depot(self) -> Depot:
        policy = self.policy()
        trust = {name: Trust((tee.load(name).vendor_roots(), roots)) for name, roots in self.roots.items()}
        vendors = None if policy.collateral.offline else Vendors(policy.collateral, lambda: self.clock.seconds)
        directory = str(self.directory) if self.directory else None
        self.said = []
        return Depot(
            directory, trust, policy.collateral, vendors, cast("Any", Said(self.said)), clock=lambda: self.clock.now,
            seconds=lambda: self.clock.seconds, supplied=self.supplied,
        )  # fmt: skip

    async def ask(self, depot: Depot, *requests: bytes) -> list[Settle]:
        """All at once."""

        async def one(data: bytes) -> Settle:
            def judge(trust: Any) -> Decision:
                return decide(data, trust, self.policy(), self.clock.now)

            return await depot.settle(judge, self.clock.now, self.clock.seconds + depots.WAIT)

        return list(await asyncio.gather(*map(one, requests)))

    def once(self, *requests: bytes) -> list[Settle]:
        """With a depot of its own, which is closed."""

        async def run() -> list[Settle]:
            depot = self.depot()
            try:
                found = await self.ask(depot, *requests)
                await asyncio.gather(*depot._flights.values())
                return found
            finally:
                await depot.close()

        return asyncio.run(run())


def alone(chip: Chip, key: Key | None = None, **rows: Any) -> bytes:
    """The request of a machine whose host hands out no certificates."""
    key = key or new_key()
    rows = {"report_data": snp.key_binding(spki(key)), **rows}
    return request((snp.OID, snp.wrap(chip.report(**rows))), key=key)


def whole(chip: Chip, crl: bytes) -> bytes:
    """A request with all that it needs."""
    key = new_key()
    report = chip.report(report_data=snp.key_binding(spki(key)))
    return request((snp.OID, snp.encode(report, chip.vek, [("", crl)])), key=key)


def without_list(chip: Chip) -> bytes:
    key = new_key()
    return request((snp.OID, snp.encode(chip.report(report_data=snp.key_binding(spki(key))), chip.vek)), key=key)


def crl(machines: Machines, since: datetime = NOW - DAY, until: datetime | None = None, **changes: Any) -> bytes:
    return machines.vendor.crl(Product.Genoa, since, until or since + YEAR, **changes)


@pytest.fixture
def lab(fake: Fake, machines: Machines, tmp_path: Path) -> Lab:
    """AMD has the usual machine, and a list of yesterday."""
    fake.has_chip(machines.genoa)
    fake.has_list(Product.Genoa, crl(machines))
    return Lab(fake, {"snp": machines.vendor.roots}, directory=tmp_path / "collateral")


def texts(found: Settle) -> list[str]:
    return [str(check) for check in found[0].failures]


def test_fetches_what_a_report_that_came_alone_needs_and_keeps_it(lab: Lab, machines: Machines) -> None:
    async def run() -> None:
        depot = lab.depot()
        [(decision, later)] = await lab.ask(depot, alone(machines.genoa))
        assert decision.accepted, decision.failures
        assert not later
        assert len(lab.fake.asked) == 2
        assert (await lab.ask(depot, alone(machines.genoa)))[0][0].accepted
        assert len(lab.fake.asked) == 2
        depot.scrape()
        text = depot.metrics.text()
        assert f'collateral_age_seconds{{tee="snp",kind="crl"}} {DAY.total_seconds():.17g}' in text
        assert 'collateral_fetches_total{vendor="amd",result="fetched"} 2' in text
        await depot.close()

    asyncio.run(run())


def test_many_requests_for_one_thing_ask_once(lab: Lab, machines: Machines) -> None:
    found = lab.once(*(alone(machines.genoa) for _ in range(10)))
    assert all(decision.accepted for decision, _ in found)
    assert max(path.partition("?")[0].rpartition("/")[2] for path in lab.fake.asked) == "crl"
    assert len(lab.fake.asked) == 2


def test_turins_address_has_its_short_id_and_its_fmc(lab: Lab, machines: Machines) -> None:
    lab.fake.has_chip(machines.turin)
    lab.fake.has_list(Product.Turin, machines.vendor.crl(Product.Turin, NOW - DAY))
    assert lab.once(alone(machines.turin))[0][0].accepted
    assert any("fmcSPL=01" in path for path in lab.fake.asked)


def test_a_restart_needs_no_vendor(lab: Lab, machines: Machines) -> None:
    assert lab.once(alone(machines.genoa))[0][0].accepted
    lab.fake.mode = "503"
    lab.fake.asked.clear()
    assert lab.once(alone(machines.genoa))[0][0].accepted
    assert lab.fake.asked == []
    assert lab.directory
    files = [path for path in lab.directory.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


@pytest.mark.parametrize("harm", [b"", b"garbage", None], ids=["empty", "garbage", "another's"])
def test_a_file_that_was_changed_is_not_used(lab: Lab, machines: Machines, harm: bytes | None) -> None:
    assert lab.once(alone(machines.genoa))[0][0].accepted
    assert lab.directory
    (path,) = lab.directory.glob("snp/vcek-*")
    (list_path,) = lab.directory.glob("snp/crl-*")
    path.write_bytes(machines.cloud.vek if harm is None else harm)
    list_path.write_bytes(crl(machines, key=machines.vendor.keys["ASK"]) if harm is None else harm)
    (lab.directory / "snp/crl-vcek-genoa.1.part").write_bytes(b"half")
    (lab.directory / "snp/notes.txt").write_bytes(b"an operator's")
    (lab.directory / "snp/vcek-genoa-00-00").write_bytes(b"of no such chip")
    lab.fake.asked.clear()
    assert lab.once(alone(machines.genoa))[0][0].accepted
    assert len(lab.fake.asked) == 2
    assert not list(lab.directory.glob("snp/*.part"))
    assert (lab.directory / "snp/notes.txt").exists()


def test_a_file_that_is_too_long_is_not_read(lab: Lab, machines: Machines) -> None:
    assert lab.once(alone(machines.genoa))[0][0].accepted
    assert lab.directory
    (path,) = lab.directory.glob("snp/crl-*")
    path.write_bytes(bytes(depots.MAX_KEPT + 1))
    depot = lab.depot()
    assert depot._get(depots.Key("snp", snp_need("crl-vcek-genoa"))) is None


def snp_need(name: str) -> Need:
    fetch = tee.load_fetch("snp")
    assert fetch
    return fetch.need(name)


# What a vendor can do wrong


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("503", "expected an answer of 200, got 503"),
        ("500", "expected an answer of 200, got 500"),
        ("429", "expected an answer of 200, got 429"),
        ("redirect", "expected an answer of 200, got 302"),
        ("closed", "no answer"),
        ("garbage", "expected SEQUENCE"),
        ("huge", "expected an answer of at most"),
    ],
)
def test_an_outage_is_said_and_is_over_later(lab: Lab, machines: Machines, mode: str, said: str) -> None:
    async def run() -> None:
        depot = lab.depot()
        lab.fake.mode = mode
        [(decision, later)] = await lab.ask(depot, without_list(machines.genoa))
        assert not decision.accepted
        assert later
        assert any(said in line for line in lab.said), lab.said
        asked = len(lab.fake.asked)
        [(_, later)] = await lab.ask(depot, without_list(machines.genoa))  # left alone for a while
        assert later
        assert len(lab.fake.asked) == asked
        assert "/elsewhere" not in lab.fake.asked
        lab.fake.mode = ""
        lab.clock.move(timedelta(minutes=2))
        assert (await lab.ask(depot, without_list(machines.genoa)))[0][0].accepted
        await depot.close()

    asyncio.run(run())


def test_a_vendor_that_nobody_answers_for(lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.fake, "base", "http://127.0.0.1:1")
    [(decision, later)] = lab.once(without_list(machines.genoa))
    assert texts((decision, later)) == ["policy.crl: expected a revocation list, got nothing"]
    assert later


def test_what_a_vendor_does_not_have_is_asked_once(lab: Lab, machines: Machines) -> None:
    chip = machines.vendor.chip(Product.Genoa, NOW - DAY, seed=b"unknown")

    async def run() -> None:
        depot = lab.depot()
        [(decision, later)] = await lab.ask(depot, alone(chip))
        assert [check.name for check in decision.failures] == ["vek.present"]
        assert not later, "the vendor has answered"
        [(decision, later)] = await lab.ask(depot, alone(chip))
        assert len(lab.fake.asked) == 1
        lab.clock.move(timedelta(hours=2))
        lab.fake.has_chip(chip)
        assert (await lab.ask(depot, alone(chip)))[0][0].accepted
        await depot.close()

    asyncio.run(run())


@pytest.mark.slow
def test_a_slow_vendor_holds_up_nobody_else(lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depots, "WAIT", 1.5)
    monkeypatch.setattr(fetching, "SECONDS", 2.0)
    lab.fake.mode = "slow"

    async def run() -> None:
        depot = lab.depot()
        started = time.monotonic()

        async def timed(data: bytes) -> tuple[Settle, float]:
            [found] = await lab.ask(depot, data)
            return found, time.monotonic() - started

        waiting = asyncio.create_task(timed(alone(machines.genoa)))
        await asyncio.sleep(0.05)
        (other, _), took = await timed(whole(machines.genoa, crl(machines)))
        assert other.accepted
        assert took < 1.2
        (decision, later), took = await waiting
        assert not decision.accepted
        assert later
        assert took > 1.3
        await asyncio.wait([*depot._flights.values()], timeout=20)  # the whole answer has its bound, too
        assert depot._flights == {}
        await depot.close()

    lab.clock.seconds = 0

    class Real(Clock):
        @property
        def seconds(self) -> float:
            return time.monotonic()

        @seconds.setter
        def seconds(self, value: float) -> None:
            pass

    lab.clock = Real()
    asyncio.run(run())


def test_a_vendor_is_not_asked_faster_than_it_bears(
    lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many machines as one likes: a burst, and then one question after the other."""
    monkeypatch.setattr(fetching, "BURST", 3)
    monkeypatch.setattr(fetching, "RATE", 20.0)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    chips = [machines.vendor.chip(Product.Genoa, NOW - DAY, seed=bytes([n])) for n in range(6)]

    async def run() -> None:
        depot = lab.depot()
        monkeypatch.setattr(asyncio, "sleep", slept)
        await lab.ask(depot, *(alone(chip) for chip in chips))
        await depot.close()

    asyncio.run(run())
    assert [round(pause, 3) for pause in pauses if pause > 0.01] == [0.05] * 3


def test_retry_after_is_respected(lab: Lab, machines: Machines) -> None:
    lab.fake.mode = "429"  # with Retry-After: 30

    async def run() -> None:
        depot = lab.depot()
        await lab.ask(depot, without_list(machines.genoa))
        assert depot.vendors
        assert 29 <= depot.vendors.rest("amd") <= 30
        await depot.close()

    asyncio.run(run())


def test_pauses_grow_to_a_bound() -> None:
    vendors = Vendors(Policy().collateral, lambda: 5.0)
    state = fetching._Vendor()
    pauses = []
    for _ in range(14):
        vendors._failed(state, "x")
        pauses.append(state.until - 5.0)
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == fetching.LONGEST
    vendors._failed(state, "x", 1e9)
    assert state.until - 5.0 == fetching.LONGEST_ASKED


def test_a_list_that_another_has_signed_is_not_taken(lab: Lab, machines: Machines) -> None:
    lab.fake.has_list(Product.Genoa, crl(machines, key=machines.vendor.keys["ASK"]))
    [(decision, later)] = lab.once(without_list(machines.genoa))
    assert [check.name for check in decision.failures] == ["policy.crl"]
    assert later
    assert lab.said == ["snp crl-vcek-genoa: crl-vcek-genoa: expected a signature by ARK-Genoa, got another one"]


def test_evidence_that_is_not_consistent_makes_nobody_ask(lab: Lab, machines: Machines) -> None:
    key = new_key()
    forged = machines.genoa.report(report_data=snp.key_binding(spki(key)), key=machines.turin.key)
    data = request((snp.OID, snp.encode(forged, machines.genoa.vek)), key=key)
    [(decision, later)] = lab.once(data)
    assert "report.signature" in [check.name for check in decision.failures]
    assert not later
    unsigned = bytearray(alone(machines.genoa))
    unsigned[-1] ^= 1
    lab.once(bytes(unsigned))
    assert lab.fake.asked == []


# New and old


def test_a_revoked_chain_is_seen_although_the_request_brings_an_older_list(lab: Lab, machines: Machines) -> None:
    revoking = crl(machines, NOW - DAY / 2, revoked=[0x20001])
    lab.fake.has_list(Product.Genoa, revoking)

    async def run() -> None:
        depot = lab.depot()
        assert (await lab.ask(depot, without_list(machines.genoa)))[0][0].accepted is False
        [(decision, _)] = await lab.ask(depot, whole(machines.genoa, crl(machines)))
        assert [check.name for check in decision.failures] == ["crl.revoked"]
        await depot.close()

    asyncio.run(run())


def test_a_newer_list_that_came_with_the_request_counts(lab: Lab, machines: Machines) -> None:
    async def run() -> None:
        depot = lab.depot()
        assert (await lab.ask(depot, without_list(machines.genoa)))[0][0].accepted
        newer = crl(machines, NOW - DAY / 2, revoked=[0x20001])
        [(decision, _)] = await lab.ask(depot, whole(machines.genoa, newer))
        assert [check.name for check in decision.failures] == ["crl.revoked"]
        await depot.close()

    asyncio.run(run())


def test_an_older_list_does_not_replace_a_newer_one(lab: Lab, machines: Machines) -> None:
    async def run() -> None:
        depot = lab.depot()
        assert (await lab.ask(depot, without_list(machines.genoa)))[0][0].accepted
        lab.fake.has_list(Product.Genoa, crl(machines, NOW - 9 * DAY))
        lab.clock.move(2 * DAY)
        await asyncio.gather(*depot.refresh())
        assert lab.said == ["snp crl-vcek-genoa: the vendor sent an older one"]
        held = depot._get(depots.Key("snp", snp_need("crl-vcek-genoa")))
        assert held
        assert held.piece.made == NOW - DAY
        await depot.close()

    asyncio.run(run())


def test_lists_are_fetched_anew_after_half_their_time_and_after_a_day(lab: Lab, machines: Machines) -> None:
    async def run() -> None:
        depot = lab.depot()
        lab.fake.has_list(Product.Genoa, crl(machines, NOW - DAY, NOW + DAY))
        assert (await lab.ask(depot, without_list(machines.genoa)))[0][0].accepted
        lab.clock.move(DAY * 0.4)
        assert depot.refresh() == []
        lab.fake.has_list(Product.Genoa, crl(machines, NOW, NOW + YEAR))
        lab.clock.move(DAY * 0.2)
        await asyncio.gather(*depot.refresh())
        assert len(lab.fake.asked) == 2
        lab.clock.move(DAY * 0.9)
        assert depot.refresh() == []
        lab.clock.move(DAY * 0.2)
        await asyncio.gather(*depot.refresh())
        assert len(lab.fake.asked) == 3
        lab.clock.move(30 * DAY)
        assert depot.refresh() == [], "nobody has needed it for a month"
        await depot.close()

    asyncio.run(run())


def test_what_is_accepted_is_fetched_for_ourselves_unless_it_is_simulated(lab: Lab, machines: Machines) -> None:
    assert lab.once(whole(machines.genoa, crl(machines)))[0][0].accepted
    assert lab.fake.asked == []
    lab.roots = {"snp": replace(machines.vendor.roots, simulated=False)}
    assert lab.once(whole(machines.genoa, crl(machines)))[0][0].accepted
    assert lab.fake.asked == ["/vcek/v1/Genoa/crl"]


# Out of date


def ended(lab: Lab, machines: Machines) -> Callable[[], Settle]:
    """A depot whose list has ended an hour ago; asks it."""
    lab.fake.has_list(Product.Genoa, crl(machines, NOW - DAY, NOW + DAY))
    assert lab.once(without_list(machines.genoa))[0][0].accepted
    lab.clock.move(DAY + timedelta(hours=1))
    return lambda: lab.once(without_list(machines.genoa))[0]


def test_what_has_ended_is_not_used_by_default(lab: Lab, machines: Machines) -> None:
    ask = ended(lab, machines)
    lab.fake.mode = "503"
    decision, later = ask()
    assert [check.name for check in decision.failures] == ["policy.crl"]
    assert later


def test_what_has_ended_is_used_within_the_window_while_the_vendor_is_down(lab: Lab, machines: Machines) -> None:
    ask = ended(lab, machines)
    lab.words = 'stale = "12h"'
    lab.fake.mode = "503"
    decision, _ = ask()
    assert decision.accepted, decision.failures
    assert "the revocation list ended 0 days and 1 hours before" in decision.notes
    lab.clock.move(timedelta(hours=12))
    assert not ask()[0].accepted


def test_what_has_ended_is_not_used_while_the_vendor_answers(lab: Lab, machines: Machines) -> None:
    ask = ended(lab, machines)
    lab.words = 'stale = "12h"'
    lab.fake.has_list(Product.Genoa, crl(machines, NOW, revoked=[0x20001]))
    assert [check.name for check in ask()[0].failures] == ["crl.revoked"]


def test_a_vendor_that_goes_on_with_what_has_ended_is_down(lab: Lab, machines: Machines) -> None:
    ask = ended(lab, machines)
    lab.words = 'stale = "12h"'
    decision, _ = ask()
    assert decision.accepted, decision.failures
    assert decision.notes


def test_offline_nobody_is_asked(lab: Lab, machines: Machines) -> None:
    ask = ended(lab, machines)
    lab.fake.asked.clear()
    lab.words = "offline = true"
    decision, later = ask()
    assert not decision.accepted
    assert not later
    lab.words = 'offline = true\nstale = "2h"'
    assert ask()[0].accepted
    assert lab.fake.asked == []


# Intel


@pytest.fixture
def intel_lab(fake: Fake, tmp_path: Path) -> Lab:
    for name in ("sgx", "tdx"):
        fake.has_collateral(intels.intel(), intels.platform(), name, current(name))
    roots = intels.intel().roots()
    return Lab(fake, {"sgx": roots, "tdx": roots}, directory=tmp_path / "c", clock=Clock(intels.NOW))


def current(name: Any, at: datetime = intels.NOW) -> Collateral:
    return intels.intel().collateral(intels.platform(), name, at)


def quoted(name: str, platform: Any = None, collateral: Collateral | None = None) -> bytes:
    key = new_key()
    platform = platform or intels.platform()
    if name == "sgx":
        quote = platform.sgx_quote(enclave(report_data=sgx.key_binding(spki(key))))
        value = quote if collateral is None else sgx.wrap(quote, collateral)
        return request((sgx.OID, value), key=key)
    quote = platform.tdx_quote(td_report(report_data=tdx.key_binding(spki(key))))
    return request((tdx.OID, quote if collateral is None else tdx.wrap(quote, collateral)), key=key)


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_fetches_what_a_bare_quote_needs(intel_lab: Lab, name: str) -> None:
    [(decision, later)] = intel_lab.once(quoted(name))
    assert decision.accepted, decision.failures
    assert not later
    assert len(intel_lab.fake.asked) == 4
    intel_lab.fake.mode = "closed"
    assert intel_lab.once(quoted(name))[0][0].accepted
    assert len(intel_lab.fake.asked) == 4


def test_an_unknown_kind_of_platform_is_refused_with_its_reason(intel_lab: Lab) -> None:
    other = intels.intel().platform(platform_numbers(fmspc=bytes(6)))
    [(decision, later)] = intel_lab.once(quoted("sgx", other))
    assert [check.name for check in decision.failures] == ["tcb_info.present"]
    assert not later


def test_a_quote_below_another_root_makes_nobody_ask(intel_lab: Lab) -> None:
    stranger = type(intels.intel()).new(intels.NOW).platform()
    intel_lab.once(quoted("sgx", stranger))
    assert intel_lab.fake.asked == []


def test_of_the_requests_lists_and_ours_the_newer_ones_count(intel_lab: Lab) -> None:
    older = current("sgx", intels.NOW - 40 * DAY)  # has ended

    async def run() -> None:
        depot = intel_lab.depot()
        [(decision, _)] = await intel_lab.ask(depot, quoted("sgx", collateral=older))
        assert decision.accepted, decision.failures
        await depot.close()

    asyncio.run(run())


def test_intels_lists_pass_within_the_window(intel_lab: Lab) -> None:
    assert intel_lab.once(quoted("tdx"))[0][0].accepted
    intel_lab.fake.mode = "500"
    intel_lab.clock.move(30 * DAY)
    assert not intel_lab.once(quoted("tdx"))[0][0].accepted
    intel_lab.words = 'stale = "7d"'
    [(decision, _)] = intel_lab.once(quoted("tdx"))
    assert decision.accepted, decision.failures
    assert any("the newest collateral at hand is not fresh" in note for note in decision.notes)
    assert any("ended 1 days" in note for note in decision.notes)


def test_the_window_is_not_for_what_can_be_had(intel_lab: Lab) -> None:
    """One list that has ended and cannot be had anew is no reason to take another that somebody sent along."""
    intel_lab.words, intel_lab.directory = 'stale = "2d"', None
    ended = current("sgx")

    async def run() -> Decision:
        depot = intel_lab.depot()
        assert (await intel_lab.ask(depot, quoted("sgx")))[0][0].accepted
        intel_lab.clock.move(FRESH)
        for key in tuple(depot._held):
            if key.need.name.startswith("tcb-"):
                del depot._held[key]  # of a kind of platform that is new here
            else:
                depot._fail(key, 3600, down=True)
        newer = current("sgx", intel_lab.clock.now)
        intel_lab.fake.has_collateral(intels.intel(), intels.platform(), "sgx", newer)
        [(decision, _)] = await intel_lab.ask(depot, quoted("sgx", collateral=Collateral(tcb_info=ended.tcb_info)))
        await depot.close()
        return decision

    decision = asyncio.run(run())
    assert decision.accepted, decision.failures
    notes = {check.name: check.note for check in decision.checks if check.name.endswith(".validity")}
    assert notes["root_ca_crl.validity"], "ended, and within the window"
    assert not notes["tcb_info.validity"]


@pytest.mark.parametrize(
    "header", ["TCB-Info-Issuer-Chain", "SGX-Enclave-Identity-Issuer-Chain", "SGX-PCK-CRL-Issuer-Chain"]
)
def test_an_answer_without_its_chain_is_not_taken(intel_lab: Lab, header: str) -> None:
    for _, headers, _ in intel_lab.fake.files.values():
        headers.pop(header, None)
    [(decision, later)] = intel_lab.once(quoted("sgx"))
    assert not decision.accepted
    assert later
    assert any(f"expected the header {header.lower()}" in line for line in intel_lab.said)


def test_answers_of_another_intel_are_not_taken(intel_lab: Lab) -> None:
    other = type(intels.intel()).new(intels.NOW)
    intel_lab.fake.has_collateral(
        other, intels.platform(), "sgx", other.collateral(intels.platform(), "sgx", intels.NOW)
    )
    [(decision, _)] = intel_lab.once(quoted("sgx"))
    assert not decision.accepted
    assert len(intel_lab.said) == 4
    assert intel_lab.directory
    assert not intel_lab.directory.exists()


def test_a_list_of_another_tee_is_not_taken() -> None:
    fetch = tee.load_fetch("sgx")
    assert fetch
    of_tdx = current("tdx")
    fake = Fake()
    fake.has_collateral(intels.intel(), intels.platform(), "tdx", of_tdx)
    _, headers, body = fake.files["/tdx/certification/v4/tcb?fmspc=D017D017D017&update=standard"]
    lower = {name.lower(): value for name, value in headers.items()}
    need = fetch.need("tcb-sgx-d017d017d017")
    with pytest.raises(VerifyError, match="expected it to be about this, got TDX d017d017d017"):
        fetch.piece(need, fetch.keep(need, body, lower), intels.intel().roots())
    need = fetch.need("tcb-tdx-000000000000")
    with pytest.raises(VerifyError, match="expected it to be about this"):
        fetch.piece(need, fetch.keep(need, body, lower), intels.intel().roots())
    kept = fetch.keep(need, body, lower)
    piece = fetch.piece(fetch.need("tcb-tdx-d017d017d017"), kept, intels.intel().roots())
    assert piece.collateral == Collateral(tcb_info=of_tdx.tcb_info)


@pytest.mark.parametrize("name", ["snp", "sgx", "tdx"])
@pytest.mark.parametrize("wrong", ["", "..", "crl", "tcb-sgx-", "vcek-genoa-00-00", "CRL-VCEK-GENOA", "a/b"])
def test_names_of_needs_are_few(name: str, wrong: str) -> None:
    fetch = tee.load_fetch(name)
    assert fetch
    with pytest.raises(ParseError):
        fetch.need(wrong)


def test_the_vendors_addresses_are_theirs() -> None:
    amd, intel = tee.load_fetch("snp"), tee.load_fetch("tdx")
    assert amd
    assert intel
    assert tee.load_fetch("kvm") is None
    assert tee.load_fetch("cca") is None
    assert amd.address(amd.need("crl-vlek-turin"), amd.BASE) == "https://kdsintf.amd.com/vlek/v1/Turin/crl"
    where = {
        "rootcacrl": "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        "pckcrl-processor": f"{intel.BASE}/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
        "qe-tdx": f"{intel.BASE}/tdx/certification/v4/qe/identity?update=standard",
        "tcb-sgx-00906ed50000": f"{intel.BASE}/sgx/certification/v4/tcb?fmspc=00906ED50000&update=standard",
    }
    assert {name: intel.address(intel.need(name), intel.BASE) for name in where} == where


# This machine


def test_a_clock_that_stands_before_what_a_vendor_has_signed_is_noticed(lab: Lab, machines: Machines) -> None:
    assert lab.once(without_list(machines.genoa))[0][0].accepted
    assert not lab.depot().behind
    lab.clock.now = NOW - 2 * DAY
    assert lab.depot().behind


WRITER = """
import sys
from donjon.steward.depot import Depot, Key
from donjon.steward.policy import Collateral
from donjon.tee import load_fetch

depot = Depot(sys.argv[1], {}, Collateral(), None)
key = Key("snp", load_fetch("snp").need("crl-vcek-genoa"))
kept = open(sys.argv[2], "rb").read()
depot._write(key, kept)
print("ready", flush=True)
while True:
    depot._write(key, kept)
"""


def test_kill_9_while_writing_leaves_a_whole_file(lab: Lab, machines: Machines, tmp_path: Path) -> None:
    assert lab.directory
    data = crl(machines, revoked=range(1, 3000))
    (tmp_path / "list").write_bytes(data)
    for lap in range(6):
        command = [sys.executable, "-c", WRITER, str(lab.directory), str(tmp_path / "list")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.02 + 0.003 * lap)
            os.kill(process.pid, signal.SIGKILL)
        assert (lab.directory / "snp/crl-vcek-genoa").read_bytes() == data
    assert lab.depot()._get(depots.Key("snp", snp_need("crl-vcek-genoa")))
    assert not list(lab.directory.glob("snp/*.part"))


def test_lists_stay_when_there_is_no_more_room_for_chips(
    lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMD certifies one chip at as many TCBs as somebody asks for; without the list nobody is accepted any more."""
    monkeypatch.setattr(depots, "MAX_PIECES", 3)
    lab.fake.has_list(Product.Turin, machines.vendor.crl(Product.Turin, NOW - DAY))
    chips = [replace(machines.genoa, chip_id=bytes([n]) * 64) for n in range(1, 7)]
    for chip in chips:
        lab.fake.has_chip(chip)

    async def run() -> set[str]:
        depot = lab.depot()
        assert (await lab.ask(depot, without_list(machines.turin)))[0][0].accepted
        for chip in chips:
            assert (await lab.ask(depot, alone(chip)))[0][0].accepted
        await depot.close()
        return {key.need.name for key in depot._held}

    kept = asyncio.run(run())
    assert lab.directory
    for names in (kept, {path.name for path in lab.directory.glob("snp/*")}):
        assert len(names) == 3
        assert {"crl-vcek-genoa", "crl-vcek-turin"} < names
    lab.fake.mode = "503"
    assert lab.once(alone(chips[-1]))[0][0].accepted, "a restart while the vendor is down"


def test_invented_chips_do_not_keep_lists_away(lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in a report is proven before its certificate is there: so anybody can ask for as many as they like."""
    monkeypatch.setattr(fetching, "BURST", 1)
    monkeypatch.setattr(fetching, "RATE", 4.0)
    monkeypatch.setattr(fetching, "MAX_QUEUE", 2)
    invented = [replace(machines.genoa, chip_id=bytes([n]) * 64) for n in range(1, 7)]
    *_, (decision, later) = lab.once(*map(alone, invented), without_list(machines.genoa))
    assert decision.accepted, (later, lab.said)


def test_a_vendor_that_answers_no_more_about_chips_is_asked_for_lists(lab: Lab, machines: Machines) -> None:
    async def run() -> None:
        depot = lab.depot()
        lab.fake.mode = "429"  # with Retry-After: 30
        assert (await lab.ask(depot, alone(replace(machines.genoa, chip_id=bytes([1]) * 64))))[0][1]
        lab.fake.mode = ""
        assert (await lab.ask(depot, without_list(machines.genoa)))[0][0].accepted
        await depot.close()

    asyncio.run(run())


def test_memory_and_failures_are_bounded(lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depots, "MAX_PIECES", 2)
    monkeypatch.setattr(depots, "MAX_FAILURES", 3)
    chips = [replace(machines.genoa, chip_id=bytes([n]) * 64) for n in range(1, 5)]
    for chip in chips:
        lab.fake.has_chip(chip)
    assert all(decision.accepted for decision, _ in lab.once(*map(alone, chips[:1])))
    assert all(decision.accepted for decision, _ in lab.once(*map(alone, chips[1:2])))
    assert lab.directory
    assert len(list(lab.directory.glob("snp/*"))) == 2
    assert len(lab.depot()._held) <= 2
    depot = lab.depot()
    for number in range(5):
        depot._fail(depots.Key("snp", snp_need(f"vcek-genoa-{number:0128x}-{0:016x}")), 1, down=False)
    assert len(depot._failed) == 3


def test_more_requests_than_may_wait_are_told_to_come_again(
    lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depots, "MAX_WAITING", 2)
    found = lab.once(*(without_list(machines.genoa) for _ in range(5)))
    assert [(decision.accepted, later) for decision, later in found] == [(True, False)] * 2 + [(False, True)] * 3


@pytest.mark.parametrize("trusted", [True, False])
def test_a_cache_of_ones_own_may_have_a_private_ca(lab: Lab, machines: Machines, tmp_path: Path, trusted: bool) -> None:
    identity = self_signed()
    (tmp_path / "tls.crt").write_bytes(identity.chain_pem())
    (tmp_path / "tls.key").write_bytes(identity.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with Fake(files=lab.fake.files).serving(context) as fake:
        lab.fake = fake
        lab.words = f'ca = "{tmp_path / "tls.crt"}"' if trusted else ""
        [(decision, later)] = lab.once(without_list(machines.genoa))
    assert decision.accepted is trusted
    assert later is not trusted
    assert trusted or any("certificate verify failed" in line for line in lab.said)


def test_a_file_of_certificates_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in ("ca.pem", "missing.pem"):
        with pytest.raises(UsageError, match=r"\[collateral\] ca: cannot use"):
            Vendors(structs.replace(Policy().collateral, ca=str(tmp_path / path)))


# What the real vendors have once answered


def test_a_genuine_list_and_vcek_of_amd_are_taken() -> None:
    fetch = tee.load_fetch("snp")
    assert fetch
    folder, roots = VECTORS / "snp/steward-milan-v2", tee.load("snp").vendor_roots()
    crl, der = (folder / "crl.der").read_bytes(), (folder / "vcek.der").read_bytes()
    piece = fetch.piece(fetch.need("crl-vcek-milan"), crl, roots)
    assert piece.made < piece.ends
    with pytest.raises(VerifyError, match="expected a signature by ARK-Genoa"):
        fetch.piece(fetch.need("crl-vcek-genoa"), crl, roots)
    vek = read_vek(der)
    assert vek.hw_id
    name = f"vcek-milan-{vek.hw_id.hex()}-{vek.tcb.write().hex()}"
    assert fetch.piece(fetch.need(name), der, roots).collateral == snp.Collateral(veks=(der,))
    with pytest.raises(VerifyError, match="expected the VCEK of this chip and TCB"):
        fetch.piece(fetch.need(f"vcek-milan-{vek.hw_id.hex()}-{0:016x}"), der, roots)


def test_genuine_answers_of_intel_are_taken() -> None:
    fetch = tee.load_fetch("sgx")
    assert fetch
    found = json.loads((VECTORS / "sgx/phala-xeon-e/collateral.json").read_text())
    fmspc = json.loads(found["tcb_info"])["fmspc"].lower()

    def answer(member: str, name: str) -> bytes:
        return f'{{"{member}":{found[name]},"signature":"{found[f"{name}_signature"]}"}}'.encode()

    ca = "platform" if "Platform" in common_name(found["pck_crl_issuer_chain"]) else "processor"
    answers = {
        f"tcb-sgx-{fmspc}": (answer("tcbInfo", "tcb_info"), "tcb-info", found["tcb_info_issuer_chain"]),
        "qe-sgx": (answer("enclaveIdentity", "qe_identity"), "sgx-enclave-identity", found["qe_identity_issuer_chain"]),
        f"pckcrl-{ca}": (bytes.fromhex(found["pck_crl"]), "sgx-pck-crl", found["pck_crl_issuer_chain"]),
        "rootcacrl": (bytes.fromhex(found["root_ca_crl"]), "none", ""),
    }
    joined = Collateral()
    for name, (body, header, chain) in answers.items():
        need = fetch.need(name)
        kept = fetch.keep(need, body, {f"{header}-issuer-chain": urllib.parse.quote(chain)})
        joined = sgx.join(joined, fetch.piece(need, kept, tee.load("sgx").vendor_roots()).collateral)
    assert sgx.needs(sgx.parse((VECTORS / "sgx/phala-xeon-e/quote.bin").read_bytes())[0])[1].name == f"pckcrl-{ca}"
    assert joined.tcb_info
    assert joined.qe_identity
    assert len(joined.crls) == 2


def common_name(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()


# What an operator has


TEES: tuple[TeeName, ...] = ("sgx", "tdx")


def pem(label: str, data: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()


def test_files_of_amd_serve_where_nobody_can_be_asked(lab: Lab, machines: Machines) -> None:
    lab.words = "offline = true"
    lab.supplied = read_collateral(
        [("crl.pem", pem("X509 CRL", crl(machines))), ("vcek.der", machines.genoa.vek), ("vlek", machines.cloud.vek)]
    )
    assert lab.once(alone(machines.genoa))[0][0].accepted
    assert lab.fake.asked == []
    assert not lab.once(alone(machines.turin))[0][0].accepted


def test_files_of_intel_serve_where_nobody_can_be_asked(intel_lab: Lab) -> None:
    intel_lab.words = "offline = true"
    machines = [intels.platform(), intels.intel().platform(platform_numbers(fmspc=bytes(6)))]
    strings = [
        (f"{name}-{number}", to_json(intels.intel().collateral(machine, name, intels.NOW), machine.pck.chain).encode())
        for number, machine in enumerate(machines)
        for name in TEES
    ]  # fmt: skip
    intel_lab.supplied = read_collateral(strings)
    for machine in machines:
        for name in ("sgx", "tdx"):
            [(decision, _)] = intel_lab.once(quoted(name, machine))
            assert decision.accepted, decision.failures
    assert intel_lab.fake.asked == []


def test_what_waits_during_a_reload_is_judged_with_the_roots_of_its_policy(lab: Lab, machines: Machines) -> None:
    """Else an old policy that accepts what proves nothing would meet roots that came with a stricter one."""

    async def run() -> Decision:
        depot = lab.depot()
        new, old = depot.base, {"snp": Trust((tee.load("snp").vendor_roots(),))}
        await depot.change(old, depot.settings, depot.vendors)
        depot.vendors = Vendors(depot.settings, lambda: lab.clock.seconds)
        lab.fake.mode = "slow"

        def judge(trust: Any) -> Decision:
            return decide(alone_once, trust, lab.policy(), lab.clock.now)

        alone_once = alone(machines.genoa)
        waiting = asyncio.create_task(depot.settle(judge, lab.clock.now, lab.clock.seconds + depots.WAIT, old))
        await asyncio.sleep(0.05)
        assert depot._flights
        lab.fake.mode = ""
        await depot.change(new, depot.settings, Vendors(depot.settings, lambda: lab.clock.seconds))
        decision, _ = await waiting
        assert (await lab.ask(depot, alone_once))[0][0].accepted, "with the new ones it would be"
        await depot.close()
        return decision

    assert not asyncio.run(run()).accepted


UNREADABLE: dict[str, dict[str, str]] = {
    "TCB info that is none": {"tcb_info": "{}"},
    "a QE identity of nobody's": {"qe_identity": "QVE"},
    "TCB info in the place of a QE identity": {"qe_identity": "tcb_info"},
    "a list that is none": {"pck_crl": "00"},
}


def unreadable(case: str) -> bytes:
    """The nine strings, of which one cannot be read."""
    chain = sgx.parse(intels.quote("sgx"))[0].signature.chain
    found: dict[str, str] = json.loads(to_json(current("sgx"), chain))
    changes = dict(UNREADABLE[case])
    if changes.get("qe_identity") == "QVE":
        changes["qe_identity"] = found["qe_identity"].replace('"QE"', '"QVE"')
    if changes.get("qe_identity") == "tcb_info":
        changes["qe_identity"] = found["tcb_info"]
    return json.dumps({**found, **changes}).encode()


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_whose_lists_cannot_be_read_is_refused_before_anything_changes(case: str, intel_lab: Lab) -> None:
    with pytest.raises(ParseError, match=r"^intel\.json: "):
        read_collateral([("intel.json", unreadable(case))])

    async def run() -> None:
        depot = intel_lab.depot()
        await depot.change(depot.base, depot.settings, depot.vendors, [("intel.json", unreadable(case))])
        await depot.close()

    asyncio.run(run())
    assert any("intel.json is not used for sgx: " in line for line in intel_lab.said)


def test_a_directory_that_cannot_be_listed_stops_no_reload(
    lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab.once(alone(machines.genoa))[0][0].accepted

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    async def run() -> None:
        depot = lab.depot()
        monkeypatch.setattr(os, "listdir", refuse)
        await depot.change(depot.base, depot.settings, depot.vendors)
        await depot.close()

    asyncio.run(run())
    assert any("cannot read collateral snp: " in line for line in lab.said)


def test_a_file_that_no_root_has_signed_is_not_used(lab: Lab, machines: Machines) -> None:
    lab.words = "offline = true"
    forged = crl(machines, key=machines.vendor.keys["ASK"])
    lab.supplied = read_collateral([("forged.crl", forged), ("vcek", machines.genoa.vek)])
    assert not lab.once(alone(machines.genoa))[0][0].accepted
    assert lab.said[0].startswith("forged.crl is not used for snp: crl-vcek-genoa: expected a signature by ARK-Genoa")


def test_a_file_that_is_older_does_not_count(lab: Lab, machines: Machines) -> None:
    assert lab.once(alone(machines.genoa))[0][0].accepted
    lab.words = "offline = true"
    lab.supplied = read_collateral([("old.crl", crl(machines, NOW - 9 * DAY, revoked=[0x20001]))])
    assert lab.once(alone(machines.genoa))[0][0].accepted
    lab.supplied = read_collateral([("new.crl", crl(machines, NOW, revoked=[0x20001]))])
    assert [check.name for check in lab.once(alone(machines.genoa))[0][0].failures] == ["crl.revoked"]


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"{}x", pem("X509 CRL", b"abc"), b"-----BEGIN A-----\n*\n-----END A-----"]
)
def test_a_file_that_is_no_collateral_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_collateral([("file", data)])


def test_a_request_is_no_collateral(machines: Machines) -> None:
    with pytest.raises(ParseError, match="expected CRLs, VCEKs, or Intel's collateral"):
        read_collateral([("file", alone(machines.genoa))])


def test_a_mistake_of_ours_is_not_made_again_and_again(
    lab: Lab, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Vendors, "get", broken)
    [(decision, later)] = lab.once(without_list(machines.genoa))
    assert not decision.accepted
    assert later
    assert "snp crl-vcek-genoa: RuntimeError: broken" in lab.said
