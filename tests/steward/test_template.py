"""The file of `donjon steward init` says what it teaches: as it stands, and with every setting switched on."""

from donjon.steward._template import TEMPLATE
from donjon.steward.policy import Collateral, General, Policy, Workload, parse
from donjon.tee import ALL


def switched_on() -> str:
    return "".join(line.removeprefix("# ") for line in TEMPLATE.splitlines(keepends=True))


def test_as_it_stands_it_is_the_safe_default() -> None:
    policy = parse(TEMPLATE)
    assert (policy.general, policy.tables, policy.workloads) == (General(), {}, ())


def test_with_every_setting_switched_on_it_parses() -> None:
    policy = parse(switched_on())
    assert policy.general.accept_unattested
    assert policy.general.require_nonce
    assert set(policy.tables) == set(ALL) - {"kvm"}
    assert policy.workloads[0].names == ("shop.example.com",)
    assert policy.collateral.offline
    assert set(policy.collateral.addresses) == {"amd", "intel"}
    assert policy != Policy()


def test_what_it_shows_of_defaults_are_the_defaults() -> None:
    policy = parse(switched_on())
    assert policy.general.lifetime == General().lifetime
    assert policy.general.keys == General().keys
    assert set(policy.general.tees) == set(General().tees) - {"kvm"}
    assert policy.of("snp").products == Policy().of("snp").products


def test_it_shows_every_key_that_is_not_of_a_tee() -> None:
    lines = {line.split(" = ")[0] for line in switched_on().splitlines()}
    assert {*General.__struct_fields__, *Workload.__struct_fields__} <= lines
    assert {*Collateral.__struct_fields__, "amd", "intel"} - {"addresses"} <= lines


def test_it_fits_a_terminal() -> None:
    assert all(len(line) <= 120 for line in TEMPLATE.splitlines())
