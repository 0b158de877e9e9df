"""What is remembered of certificates and collateral never changes a verdict."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from donjon.tee.contract import Roots
from donjon.tee.intel import verify
from donjon.tee.intel.collateral import Collateral, Signed
from donjon.tee.intel.simulate import FRESH, SimulatedIntel, TeeName
from donjon.tee.intel.verify import ROOT
from tests.tee.intel.simulated import NOW, failures, intel, platform, quote

DAY = timedelta(days=1)
BOTH: tuple[TeeName, ...] = ("sgx", "tdx")


def good(name: TeeName) -> Collateral:
    return intel().collateral(platform(), name, NOW)


@pytest.mark.parametrize("name", BOTH)
def test_the_same_evidence_at_another_time_gets_the_other_answer(name: TeeName) -> None:
    evidence, collateral = quote(name), good(name)
    for _ in range(2):
        assert failures(name, evidence, collateral) == {}
        late = failures(name, evidence, collateral, now=NOW + FRESH)
        assert set(late) == {f"{each}.validity" for each in ("root_ca_crl", "pck_crl", "tcb_info", "qe_identity")}
        early = failures(name, evidence, collateral, now=NOW - 2 * DAY)
        assert {"pck.validity", "tcb_info_signer.validity", "pck_crl.validity"} <= set(early)


@pytest.mark.parametrize("name", BOTH)
def test_what_is_late_depends_on_the_grace_of_each_judgement(name: TeeName) -> None:
    evidence, collateral, late = quote(name), good(name), NOW + FRESH
    for grace, passes in ((timedelta(0), False), (2 * DAY, True), (timedelta(0), False)):
        assert (failures(name, evidence, replace(collateral, grace=grace), now=late) == {}) is passes


@pytest.mark.parametrize("name", BOTH)
def test_other_roots_do_not_believe_what_these_did(name: TeeName) -> None:
    evidence, collateral, other = quote(name), good(name), SimulatedIntel.new(NOW)
    for _ in range(2):
        assert failures(name, evidence, collateral) == {}
        for roots in (other.roots(), Roots({}), Roots({ROOT: b""})):
            found = failures(name, evidence, collateral, roots=roots)
            assert {"pck.root", "tcb_info_signer.root", "qe_identity_signer.root"} == set(found)


@pytest.mark.parametrize("name", BOTH)
def test_what_is_revoked_later_is_refused_from_then_on(name: TeeName) -> None:
    evidence, before = quote(name), good(name)
    root, processor, _ = before.crls
    newer = intel().platform_ca.crl(NOW - timedelta(hours=1), revoked=[platform().pck.serial])
    signer = intel().root.crl(NOW - timedelta(hours=1), revoked=[intel().tcb_signer.serial])
    assert failures(name, evidence, before) == {}
    after = replace(before, crls=(root, processor, newer))
    assert set(failures(name, evidence, after)) == {"pck.not_revoked"}
    after = replace(before, crls=(*before.crls, newer))
    assert set(failures(name, evidence, after)) == {"pck.not_revoked"}
    after = replace(before, crls=(*before.crls, signer))
    assert set(failures(name, evidence, after)) == {"tcb_info_signer.not_revoked", "qe_identity_signer.not_revoked"}
    assert failures(name, evidence, before) == {}


@pytest.mark.parametrize("name", BOTH)
def test_nothing_that_was_tried_before_makes_bad_collateral_good(name: TeeName) -> None:
    evidence, collateral = quote(name), good(name)
    info = collateral.tcb_info
    assert info is not None
    stranger = SimulatedIntel.new(NOW)
    for bad, expected in (
        (Signed(info.body, bytes(64), info.chain), {"tcb_info.signature"}),
        (Signed(info.body + b" ", info.signature, info.chain), {"tcb_info.signature"}),
        (stranger.sign(info.body), {"tcb_info_signer.root"}),
        (Signed(info.body, info.signature, stranger.tcb_signer.chain), {"tcb_info_signer.root", "tcb_info.signature"}),
    ):
        for _ in range(2):
            assert set(failures(name, evidence, replace(collateral, tcb_info=bad))) == expected
            assert failures(name, evidence, collateral) == {}


def test_only_what_is_good_is_remembered() -> None:
    collateral, stranger = good("sgx"), SimulatedIntel.new(NOW)
    assert failures("sgx", quote("sgx"), collateral) == {}
    sizes = [each.cache_info().currsize for each in (verify._good_platform, verify._good_list)]
    machine = stranger.platform()
    theirs = stranger.collateral(machine, "sgx", NOW)
    assert "pck.root" in failures("sgx", quote("sgx", machine), theirs)
    assert "pck_crl.present" in failures("sgx", quote("sgx"), replace(collateral, crls=collateral.crls[:1]))
    assert sizes == [each.cache_info().currsize for each in (verify._good_platform, verify._good_list)]


@pytest.mark.parametrize("name", BOTH)
def test_a_strangers_root_with_intels_lists_leaves_nothing_in_memory(name: TeeName) -> None:
    """Anybody can make a root, and as many long lists below it as they like, and send what Intel has signed beside."""
    stranger, lists = SimulatedIntel.new(NOW), good(name)
    machine = stranger.platform()
    size = verify._good_list.cache_info().currsize
    for revoked in ((), range(1 << 70, (1 << 70) + 2_600)):
        root = stranger.root.crl(NOW - timedelta(hours=1), revoked=revoked)
        theirs = (root, *stranger.collateral(machine, name, NOW).crls[1:])
        found = failures(name, quote(name, machine), replace(lists, crls=theirs))
        assert "pck.root" in found
        assert "tcb_info_signer.root" not in found, "these are Intel's"
    assert verify._good_list.cache_info().currsize == size


@pytest.mark.parametrize("name", BOTH)
def test_what_a_quote_says_is_asked_each_time(name: TeeName) -> None:
    collateral, evidence = good(name), quote(name)
    assert failures(name, evidence, collateral) == {}
    at = 48 + 320 if name == "sgx" else 48 + 6 + 520  # in REPORTDATA
    changed = evidence[:at] + bytes([evidence[at] ^ 1]) + evidence[at + 1 :]
    assert set(failures(name, changed, collateral)) == {"quote.signature"}
    assert failures(name, evidence, collateral) == {}


@pytest.mark.parametrize("name", BOTH)
def test_long_collateral_is_judged_and_not_remembered(name: TeeName) -> None:
    collateral = good(name)
    long = intel().root.crl(NOW - timedelta(hours=1), revoked=range(1 << 70, (1 << 70) + 2_600))
    assert len(long) > 64 * 1024
    size = verify._good_platform.cache_info().currsize
    assert failures(name, quote(name), replace(collateral, crls=(*collateral.crls, long))) == {}
    assert verify._good_platform.cache_info().currsize == size


def test_judgements_in_several_threads_do_not_disturb_each_other() -> None:
    evidence, collateral, other = quote("tdx"), good("tdx"), SimulatedIntel.new(NOW).roots()

    def judge(number: int) -> bool:
        return not failures("tdx", evidence, collateral, roots=other if number % 2 else None)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(judge, range(64))) == [True, False] * 32
