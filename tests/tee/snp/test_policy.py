"""Each question of the policy alone: a genuine report, under simulated roots, in which only that is violated.

As with `verify`: the case fails in exactly the named check, it would pass without that check, and no check and no key
of the table lacks its case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from donjon.errors import ParseError
from donjon.tee import snp
from donjon.tee.contract import Check as MadeCheck
from donjon.tee.contract import Checks, Outcome
from donjon.tee.snp.layout import GuestPolicy, PlatformInfo, Product, SignerInfo, SigningKey, Tcb
from donjon.tee.snp.policy import Firmware, MinimumTcb
from donjon.tee.snp.simulate import TCBS
from tests.tee.snp.machines import DAY, NOW, Case, Machines, failed

A48, B48 = b"\xaa" * 48, b"\xbb" * 48
USUAL = GuestPolicy.SMT | GuestPolicy.RESERVED_17
INFO = PlatformInfo.SMT_EN | PlatformInfo.ECC_EN | PlatformInfo.ALIAS_CHECK_COMPLETE
GENOA = TCBS[Product.Genoa]


def tcb(**parts: int) -> bytes:
    return replace(GENOA, **parts).write()


@dataclass(frozen=True)
class Violation:
    """A report and a policy of which one thing does not fit.

    Args:
        fits: rows that satisfy the same policy.
    """

    check: str
    text: str
    policy: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Any] = field(default_factory=dict)
    fits: Mapping[str, Any] = field(default_factory=dict)
    product: Product = Product.Genoa
    kind: SigningKey = SigningKey.VCEK
    crl: bool = True
    stale: bool = False
    name: str = ""

    def case(self, machines: Machines, rows: Mapping[str, Any]) -> Case:
        crls: tuple[bytes, ...] | None = None if self.crl else ()
        if self.stale:
            crls = (machines.vendor.crl(self.product, NOW - 9 * DAY, NOW - DAY),)
        grace = DAY * 2 if self.stale else DAY * 0
        return Case(machines.chip(self.product, self.kind), rows, crls=crls, policy=self.policy, grace=grace)


AUTHOR = {"signer_info": SignerInfo.AUTHOR_KEY_EN, "author_key_digest": A48}
VIOLATIONS = [
    # Key
    Violation(
        "policy.products",
        "expected one of Genoa, Turin, got Milan (Milan: software on the host can extract the keys",
        {"products": ["Genoa", "Turin"]},
        product=Product.Milan,
        name="Milan without being named",
    ),
    Violation("policy.signing_keys", "expected one of VLEK, got VCEK", {"signing_keys": ["VLEK"]}),
    Violation(
        "policy.csp_id",
        "expected one of CN=other.example, got CN=cloud.example",
        {"csp_id": ["CN=other.example"]},
        kind=SigningKey.VLEK,
    ),
    Violation(
        "policy.allow_masked_chip_id",
        "expected a CHIP_ID that is not masked, got masked",
        rows={"chip_id": bytes(64)},
    ),
    Violation("policy.chip_id", "expected 0000", {"chip_id": ["00" * 64]}),
    Violation("policy.crl", "expected a revocation list, got nothing", crl=False),
    Violation("policy.crl_max_age_days", "expected at most 0 days, got 1 days", {"crl_max_age_days": 0}),
    Violation(
        "policy.stale_collateral_days",
        "expected at most 0 days past its end, got 1 days and 0 hours past its end",
        stale=True,
    ),
    # Firmware
    *(
        Violation(
            f"tcb.{which}_minimum",
            "expected at least snp=23 microcode=84, got bootloader=10 tee=0 snp=23 microcode=83",
            {"allow_provisional": True},
            {f"{which}_tcb": tcb(microcode=83)},
            name=f"old microcode in the {which} TCB",
        )
        for which in ("launch",)
    ),
    Violation(
        "tcb.order",
        "expected reported, committed and current TCB each not above the next",
        {"tcb_floor": "none", "allow_provisional": True},
        {"current_tcb": tcb(bootloader=9)},
        name="a current TCB below the committed one",
    ),
    Violation(
        "tcb.order",
        "expected reported, committed and current TCB each not above the next",
        {"tcb_floor": "none"},
        {"current_tcb": tcb(snp=22), "committed_tcb": tcb(snp=22)},
        name="a committed TCB below the reported one",
    ),
    Violation(
        "policy.allow_provisional",
        "expected the committed 1.55.40 with bootloader=10 tee=0 snp=23 microcode=84, got 1.55.41 with",
        rows={"current_build": 41},
        name="firmware of another version than the committed one",
    ),
    Violation(
        "policy.allow_provisional",
        "expected the committed 1.55.40 with bootloader=10 tee=0 snp=23 microcode=84, got 1.55.40 with bootloader=11",
        rows={"current_tcb": tcb(bootloader=11)},
        name="a newer bootloader than the committed one",
    ),
    Violation("policy.firmware", "expected at least 1.55.41, got 1.55.40", {"firmware": "1.55.41"}),
    Violation(
        "policy.mitigations",
        "expected all bits of 0x41, got 0x3f",
        {"mitigations": 0x41},
        fits={"current_mit_vector": 0x41, "launch_mit_vector": 0x7F},
        product=Product.Turin,
    ),
    Violation(
        "policy.mitigations",
        "expected all bits of 0x1, got none in a report of version 3",
        {"mitigations": 1},
        fits={"version": 5},
        name="mitigations from a report that shows none",
    ),
    Violation(
        "policy.mitigations",
        "expected all bits of 0x1, got 0x3e",
        {"mitigations": 1},
        {"launch_mit_vector": 0x3E},
        fits={},
        product=Product.Turin,
        name="mitigations that came after launch",
    ),
    # Machine
    Violation("policy.report_version", "expected at least 5, got 3", {"report_version": 5}, fits={"version": 5}),
    Violation(
        "policy.alias_check",
        "expected ALIAS_CHECK_COMPLETE to be set, got SMT_EN ECC_EN",
        rows={"platform_info": INFO & ~PlatformInfo.ALIAS_CHECK_COMPLETE},
    ),
    Violation(
        "policy.platform_info_flags",
        "expected TSME_EN alone, got SMT_EN",
        {"platform_info_flags": "TSME"},
        fits={"platform_info": INFO & ~PlatformInfo.SMT_EN | PlatformInfo.TSME_EN},
    ),
    Violation(
        "policy.platform_info_flags",
        "expected SMT_EN alone, got SMT_EN TSME_EN",
        {"platform_info_flags": "SME"},
        {"platform_info": INFO | PlatformInfo.TSME_EN},
        name="both bits where Enarx wants one",
    ),
    Violation(
        "policy.platform_info",
        "expected TSME_EN CIPHERTEXT_HIDING_DRAM_EN to be set, got SMT_EN TSME_EN ECC_EN ALIAS_CHECK_COMPLETE",
        {"platform_info": ["TSME_EN", "CIPHERTEXT_HIDING_DRAM_EN"]},
        {"platform_info": INFO | PlatformInfo.TSME_EN},
        {"platform_info": INFO | PlatformInfo.TSME_EN | PlatformInfo.CIPHERTEXT_HIDING_DRAM_EN},
    ),
    Violation(
        "policy.platform_info_forbidden",
        "expected SMT_EN TIO_EN to be clear, got SMT_EN ECC_EN ALIAS_CHECK_COMPLETE",
        {"platform_info_forbidden": ["SMT_EN", "TIO_EN"]},
        fits={"platform_info": INFO & ~PlatformInfo.SMT_EN},
    ),
    # Permissions
    Violation(
        "policy.allow_debug", "expected POLICY.DEBUG 0, got POLICY.DEBUG 1", rows={"policy": USUAL | GuestPolicy.DEBUG}
    ),
    Violation(
        "policy.allow_migration",
        "expected POLICY.MIGRATE_MA 0, got POLICY.MIGRATE_MA 1",
        rows={"policy": USUAL | GuestPolicy.MIGRATE_MA},
    ),
    Violation("report.report_id_ma", "expected ffff", rows={"report_id_ma": bytes(32)}),
    Violation(
        "policy.abi",
        "expected >=1.51, got 1.50",
        {"abi": ">=1.51"},
        {"policy": USUAL | GuestPolicy(0x0132)},
        {"policy": USUAL | GuestPolicy(0x0133)},
    ),
    Violation(
        "policy.abi",
        "expected >=1.51, got 0.55",
        {"abi": ">=1.51"},
        {"policy": USUAL | GuestPolicy(0x0037)},
        {"policy": USUAL | GuestPolicy(0x0133)},
        name="an ABI with a lower major and a higher minor version",
    ),
    Violation(
        "report.abi", "expected at most 1.55, got 2.0", rows={"policy": USUAL | GuestPolicy(0x0200)}, name="a newer ABI"
    ),
    Violation(
        "policy.policy_flags",
        "expected SMT SINGLE_SOCKET to be set, got SMT RESERVED_17",
        {"policy_flags": ["SMT", "SingleSocket"]},
        fits={"policy": USUAL | GuestPolicy.SINGLE_SOCKET},
    ),
    Violation(
        "policy.policy_flags_forbidden",
        "expected CXL_ALLOW to be clear, got SMT RESERVED_17 CXL_ALLOW",
        {"policy_flags_forbidden": ["CXL_ALLOW"]},
        {"policy": USUAL | GuestPolicy.CXL_ALLOW},
    ),
    # Guest
    Violation("policy.vmpl", "expected one of 0, got 1", rows={"vmpl": 1}),
    Violation("policy.guest_svn", "expected at least 4, got 3", {"guest_svn": 4}, {"guest_svn": 3}, {"guest_svn": 4}),
    Violation("policy.hash", "expected aaaa", {"hash": [A48.hex()]}, {"measurement": B48}, {"measurement": A48}),
    Violation(
        "policy.hash_blacklist",
        "expected not bbbb",
        {"hash_blacklist": [B48.hex()]},
        {"measurement": B48},
        {"measurement": A48},
    ),
    Violation("policy.signer", "expected aaaa", {"signer": [A48.hex()]}, {**AUTHOR, "author_key_digest": B48}, AUTHOR),
    Violation(
        "policy.signer",
        "expected aaaa",
        {"signer": [A48.hex()]},
        {"author_key_digest": A48},
        AUTHOR,
        name="a signer that the report does not vouch for",
    ),
    Violation(
        "policy.id_key_digest",
        "expected aaaa",
        {"id_key_digest": [A48.hex()]},
        {"id_key_digest": B48},
        {"id_key_digest": A48},
    ),
    Violation(
        "policy.id_key_digest_blacklist",
        "expected not aaaa",
        {"id_key_digest_blacklist": [A48.hex(), B48.hex()]},
        {"id_key_digest": B48},
        {"id_key_digest": bytes(48)},
    ),
    Violation(
        "policy.family_id",
        "expected 01",
        {"family_id": ["01" * 16]},
        {"family_id": bytes(16)},
        {"family_id": b"\1" * 16},
    ),
    Violation(
        "policy.image_id", "expected 01", {"image_id": ["01" * 16]}, {"image_id": bytes(16)}, {"image_id": b"\1" * 16}
    ),
    Violation(
        "policy.host_data",
        "expected one of 3 listed values",
        {"host_data": ["01" * 32, "02" * 32, "03" * 32]},
        {"host_data": bytes(32)},
        {"host_data": b"\3" * 32},
    ),
]

EACH = pytest.mark.parametrize(
    "violation",
    VIOLATIONS,
    ids=[(item.name or item.check.partition(".")[2].replace("_", " ")) for item in VIOLATIONS],
)


@EACH
def test_refuses(machines: Machines, violation: Violation) -> None:
    verdict = violation.case(machines, violation.rows).judge()
    assert verdict.report is not None, "it is genuine"
    assert not verdict.accepted
    found = failed(verdict)
    assert set(found) == {violation.check}
    assert found[violation.check].startswith(f"{violation.check}: {violation.text}")


@EACH
def test_nothing_else_would_refuse(machines: Machines, violation: Violation, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Checks.record

    def without(self: Checks, item: MadeCheck) -> bool:
        return record(self, structs.replace(item, outcome=Outcome.PASSED) if item.name == violation.check else item)

    monkeypatch.setattr(Checks, "record", without)
    assert violation.case(machines, violation.rows).judge().accepted


@pytest.mark.parametrize(
    "violation", [item for item in VIOLATIONS if item.fits], ids=lambda item: item.name or item.check
)
def test_accepts_what_fits_the_same_policy(machines: Machines, violation: Violation) -> None:
    assert violation.case(machines, violation.fits).judge().accepted


# The TCBs but for the launch TCB depend on each other: a lower one needs a key that was derived for it.


@pytest.mark.parametrize("lowest", ["reported", "committed", "current"])
def test_refuses_old_firmware_in_each_tcb(machines: Machines, lowest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ["reported", "committed", "current"]
    old = replace(GENOA, snp=22)
    chip = replace(machines.genoa, tcb=old)
    low = order[: order.index(lowest) + 1]
    rows = {f"{which}_tcb": (old if which in low else GENOA).write() for which in (*order, "launch")}
    policy = {"allow_provisional": True}
    verdict = Case(chip, rows, policy=policy).judge()
    assert set(failed(verdict)) == {f"tcb.{which}_minimum" for which in low}
    record = Checks.record
    dropped = {f"tcb.{which}_minimum" for which in low}
    for kept in sorted(dropped):

        def without(self: Checks, item: MadeCheck, kept: str = kept) -> bool:
            drop = item.name in dropped and item.name != kept
            return record(self, structs.replace(item, outcome=Outcome.PASSED) if drop else item)

        monkeypatch.setattr(Checks, "record", without)
        assert set(failed(Case(chip, rows, policy=policy).judge())) == {kept}


def test_a_chip_is_refused_by_name(machines: Machines) -> None:
    chip_id = machines.genoa.chip_id.hex()
    assert Case(machines.genoa, policy={"chip_id": [chip_id]}).judge().accepted
    verdict = Case(machines.genoa, policy={"chip_id_blacklist": [chip_id]}).judge()
    assert set(failed(verdict)) == {"policy.chip_id_blacklist"}
    (check,) = [check for check in verdict.checks if check.name == "policy.chip_id_blacklist"]
    assert check.found == chip_id[:8], "not more of the machine's id than is needed to find it in one's own list"


def test_every_check_and_every_key_has_its_case(machines: Machines) -> None:
    made = {check.name for check in snp.judge(Case(machines.genoa).judge().require(), snp.Policy())}
    cases = {item.check for item in VIOLATIONS}
    cases |= {f"tcb.{which}_minimum" for which in ("reported", "committed", "current")} | {"policy.chip_id_blacklist"}
    assert made == cases
    keys = set(snp.Policy.__struct_fields__)
    asked = {name.partition(".")[2] for name in made if name.startswith("policy.")}
    assert keys - asked == {"tcb_floor", "minimum_tcb"}, "these two say what tcb.*_minimum demands"


# What a policy may allow


@pytest.mark.parametrize(
    ("policy", "rows"),
    [
        ({"allow_debug": True}, {"policy": USUAL | GuestPolicy.DEBUG}),
        ({"allow_debug": True, "policy_flags": ["Debug"]}, {"policy": USUAL | GuestPolicy.DEBUG}),
        ({"allow_migration": True}, {"policy": USUAL | GuestPolicy.MIGRATE_MA, "report_id_ma": bytes(32)}),
        ({"allow_masked_chip_id": True}, {"chip_id": bytes(64)}),
        ({"allow_provisional": True}, {"current_build": 99}),
        ({"alias_check": False}, {"platform_info": PlatformInfo(0)}),
        ({"vmpl": [0, 1, 3]}, {"vmpl": 3}),
        ({"firmware": "1.55"}, {}),
        ({"firmware": "1.55.40"}, {}),
        ({"platform_info_flags": "SME"}, {}),
        ({"crl_max_age_days": 1}, {}),
        ({"tcb_floor": "none", "allow_provisional": True}, {"launch_tcb": tcb(snp=0)}),
        ({"minimum_tcb": {"Genoa": {"snp": 22}}}, {"launch_tcb": tcb(snp=22)}),
        ({"minimum_tcb": {"Milan": {"snp": 255}}}, {}),
        ({}, {"current_tcb": tcb(microcode=200)}),
        ({}, {"platform_info": INFO | 1 << 6 | 1 << 63}),
    ],
    ids=[
        "debugging",
        "debugging that is demanded",
        "a migration agent",
        "a masked chip",
        "provisional firmware",
        "memory that was not checked for aliases",
        "other privilege levels",
        "firmware by two numbers",
        "firmware by three numbers",
        "Enarx's word for simultaneous threads",
        "a list of a day",
        "old firmware without a table",
        "old firmware below a lowered minimum",
        "a minimum for another product",
        "microcode newer than what was committed",
        "unknown bits of PLATFORM_INFO",
    ],
)
def test_accepts(machines: Machines, policy: dict[str, Any], rows: dict[str, Any]) -> None:
    assert failed(Case(machines.genoa, rows, policy=policy).judge()) == {}


def test_without_a_revocation_list_when_the_policy_says_so(machines: Machines) -> None:
    assert Case(machines.genoa, crls=(), policy={"crl": "if given"}).judge().accepted
    stale = machines.vendor.crl(Product.Genoa, NOW - 400 * DAY)
    verdict = Case(machines.genoa, crls=(stale,), policy={"crl": "if given"}).judge()
    assert set(failed(verdict)) == {"crl.validity"}, "one that is there counts"


def test_a_provider_counts_only_for_its_keys(machines: Machines) -> None:
    policy = {"csp_id": ["CN=cloud.example"]}
    assert Case(machines.genoa, policy=policy).judge().accepted
    assert Case(machines.cloud, policy=policy).judge().accepted


def test_milan_is_accepted_by_name_and_the_verdict_says_what_it_is(machines: Machines) -> None:
    verdict = Case(machines.milan).judge()
    assert verdict.accepted
    assert any("arXiv 2605.12990" in note for note in verdict.notes)
    assert not any("Milan" in note for note in Case(machines.genoa).judge().notes)


def test_the_verdict_says_what_was_not_asked(machines: Machines) -> None:
    plain = Case(machines.genoa).judge()
    assert "the policy names no guest: any passes" in plain.notes
    named = Case(machines.genoa, {"measurement": A48}, policy={"hash": [A48.hex()]}).judge()
    assert not any("any passes" in note for note in named.notes)
    old = Case(machines.genoa, {"version": 2}).judge()
    assert old.accepted
    assert any("BadRAM" in note for note in old.notes)
    unlisted = Case(machines.turin, {"version": 2}).judge()
    assert any("no lowest version numbers are asked of Turin" in note for note in unlisted.notes)


def test_a_minimum_adds_to_the_shipped_one(machines: Machines) -> None:
    verdict = Case(machines.turin, policy={"minimum_tcb": {"Turin": {"fmc": 2, "snp": 4}}}).judge()
    found = failed(verdict)
    assert set(found) == {f"tcb.{which}_minimum" for which in ("reported", "committed", "current", "launch")}
    assert "expected at least microcode=71 fmc=2 snp=4, got fmc=1" in found["tcb.reported_minimum"]
    no_such = Case(machines.genoa, policy={"minimum_tcb": {"Genoa": {"fmc": 1}}}).judge()
    assert "tcb.reported_minimum" in failed(no_such), "a part that the product does not have is not new enough"


@pytest.mark.parametrize("part", ["bootloader", "tee", "snp", "microcode"])
def test_each_part_of_a_minimum_is_asked(machines: Machines, part: str) -> None:
    found = machines.genoa.tcb.parts()[part]
    for number, passes in ((found, True), (found + 1, False)):
        policy = {"tcb_floor": "none", "minimum_tcb": {"Genoa": {part: number}}}
        assert ("tcb.reported_minimum" not in failed(Case(machines.genoa, policy=policy).judge())) is passes


# Reading the table


def test_enarx_own_configuration_means_what_it_meant(machines: Machines) -> None:
    table = {
        "signer": [A48.hex()],
        "id_key_digest": [B48.hex()],
        "hash": [A48.hex()],
        "abi": ">=1.51",
        "policy_flags": ["SMT"],
        "platform_info_flags": "SME",
    }
    rows = {**AUTHOR, "id_key_digest": B48, "measurement": A48, "policy": USUAL | GuestPolicy(0x0133)}
    assert Case(machines.genoa, rows, policy=table).judge().accepted


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"hsh": []}, '[snp]: unknown key "hsh": expected one of signer, hash,'),
        ({"hash": ["00"]}, '[snp] hash[0]: expected 96 hex digits, got "00"'),
        ({"hash": ["zz" * 48]}, "[snp] hash[0]: expected 96 hex digits, got "),
        ({"hash": [" " + "00" * 47 + "0"]}, "[snp] hash[0]: expected 96 hex digits, got "),
        ({"hash": ["00" * 4000]}, "[snp] hash[0]: expected 96 hex digits, got 8000 characters"),
        ({"hash": [7]}, "[snp] hash[0]: expected 96 hex digits, got int"),
        ({"hash": "00"}, "[snp] hash: Expected `array`, got `str`"),
        ({"hash": [""]}, '[snp] hash[0]: expected 96 hex digits, got ""'),
        ({"allow_debug": "yes"}, "[snp] allow_debug: Expected `bool`, got `str`"),
        ({"vmpl": [4]}, "[snp] vmpl[0]: Expected `int` <= 3"),
        ({"guest_svn": -1}, "[snp] guest_svn: Expected `int` >= 0"),
        ({"products": ["Rome"]}, "[snp] products[0]: expected one of Milan, Genoa, Turin, got 'Rome'"),
        ({"policy_flags": ["smt"]}, "[snp] policy_flags[0]: expected one of SMT, SingleSocket, Debug, "),
        ({"platform_info_flags": "SEV"}, "[snp] platform_info_flags: expected one of SME, TSME, got 'SEV'"),
        ({"abi": "newest"}, '[snp] abi: expected a requirement such as ">=1.51", got "newest"'),
        ({"abi": 1}, '[snp] abi: expected a requirement such as ">=1.51"'),
        ({"firmware": "1"}, '[snp] firmware: expected a version such as "1.55" or "1.55.29"'),
        ({"firmware": "1.256"}, '[snp] firmware: expected a version such as "1.55" or "1.55.29"'),
        ({"minimum_tcb": {"Genoa": {"spl": 1}}}, "[snp] minimum_tcb[...]: Object contains unknown field `spl`"),
        ({"minimum_tcb": {"Genoa": {"snp": 256}}}, "[snp] minimum_tcb[...].snp: Expected `int` <= 255"),
        ({"policy_flags": ["Debug"]}, "[snp]: policy_flags demands Debug, which allow_debug = false refuses"),
        ({"policy_flags": ["MIGRATE_MA"]}, "[snp]: policy_flags demands MIGRATE_MA, which allow_migration"),
        (
            {"hash": [A48.hex()], "hash_blacklist": [A48.hex()]},
            f"[snp]: {A48.hex()} is in both hash and hash_blacklist",
        ),
        (
            {"platform_info": ["TIO_EN"], "platform_info_forbidden": ["TIO_EN"]},
            "[snp]: TIO_EN is in both platform_info",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_refuses_tables_that_say_nothing_sensible(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ParseError) as caught:
        snp.Policy.read(table, "[snp]")
    assert caught.value.message.startswith(text)


def test_suggests_the_nearest_key() -> None:
    with pytest.raises(ParseError) as caught:
        snp.Policy.read({"hash_blocklist": []}, "[snp]")
    assert caught.value.hint == 'did you mean "hash_blacklist"?'
    with pytest.raises(ParseError) as caught:
        snp.Policy.read({"q": 1}, "[snp]")
    assert caught.value.hint == "remove it"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.just("00" * 48),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(snp.Policy.__struct_fields__) | st.text(max_size=8), VALUES, max_size=4))
def test_any_table_is_read_or_refused(table: dict[str, Any]) -> None:
    try:
        snp.Policy.read(table, "[snp]")
    except ParseError:
        pass


def test_values_of_the_table_compare_and_print() -> None:
    assert Firmware(1, 55) == Firmware.read("1.55") != Firmware(1, 56)
    assert len({Firmware(1, 55), Firmware(1, 55)}) == 1
    assert str(Firmware(1, 55, 29)) == "1.55.29"
    assert snp.Policy.read({"abi": "*"}, "[snp]") == snp.Policy()
    assert snp.Policy.read({}, "[snp]") == snp.Policy()
    assert MinimumTcb.read({"snp": 1}, "[x]").snp == 1
    assert str(Tcb(bootloader=1, tee=2, snp=3, microcode=4)) == "bootloader=1 tee=2 snp=3 microcode=4"


def test_the_folder_is_a_package_of_its_own() -> None:
    assert (Path(snp.__file__).parent / "floors.toml").exists()
