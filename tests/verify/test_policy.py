"""A relying party's policy: every key means what it says, and a mistake is told with its place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from donjon.errors import ParseError, UsageError
from donjon.steward.procedure import Trust
from donjon.tee.contract import Roots
from donjon.verify.policy import MAX_FILE, Asked, Policy, asked, parse
from tests.verify.chains import OTHER, WORKLOAD, Chain

WHOLE = f"""
steward_root = "root.pem"
tee = ["snp", "tdx"]
product = "Genoa"
measurement = ["{"AB" * 48}"]
workload = ["{WORKLOAD.hex()}", "{OTHER.hex()}"]
names = ["shop.example.com", "urn:uuid:5a3c3d26-7a4b-4d2c-9b58-2d6a4c5f0e11"]
max_age = "90s"
accept_unattested = true

[tcb.snp]
microcode = 84

[tcb.tdx]
status = "UpToDate"
"""


def test_every_key_becomes_a_demand() -> None:
    demands = parse(WHOLE).demands([Chain().anchor])
    assert (demands.tees, demands.products) == (("snp", "tdx"), ("Genoa",))
    assert demands.measurements == (b"\xab" * 48,)
    assert demands.workloads == (WORKLOAD, OTHER)
    assert demands.names == ("shop.example.com", "urn:uuid:5a3c3d26-7a4b-4d2c-9b58-2d6a4c5f0e11")
    assert demands.max_age == timedelta(seconds=90)
    assert demands.accept_unattested
    assert demands.tcb == {"snp": {"microcode": 84}, "tdx": {"status": "UpToDate"}}


def test_tables_of_tees_are_those_of_steward_toml() -> None:
    found = parse('roots = "roots.toml"\n[cca]\nhash = ["' + "11" * 32 + '"]\n')
    roots = {"cca": Trust((Roots({}),))}
    demands = found.demands(roots=roots)
    assert bytes(demands.tables["cca"].hash[0]) == bytes([17] * 32)
    assert demands.roots == roots
    assert found.asked.roots == "roots.toml"


def test_an_empty_file_demands_nothing() -> None:
    assert parse("") == Policy()
    assert Policy().demands().anchors == ()


WRONG: dict[str, tuple[str, str]] = {
    "no TOML": ("tee = [", r"verify.toml:1:8: invalid value"),
    "an unknown key": ('tees = ["snp"]', r'verify.toml:1:1: unknown key "tees": expected one of steward_root, '),
    "an unknown TEE": ('\ntee = ["sev"]', r"verify.toml:2:7: tee: expected one of snp, .*, got 'sev'"),
    "an unknown TEE's TCB": ("[tcb.sev]\nx = 1", r"verify.toml:1:\d+: tcb: expected tables for snp, .*, got sev"),
    "a short workload": ('workload = ["ab"]', r"verify.toml:1:13: workload\[0\]: expected 64 hex digits"),
    "a workload of zeros": (f'workload = ["{"00" * 32}"]', r"verify.toml:1:12: workload: expected a digest, got zeros"),
    "no workload at all": (
        'tee = ["snp"]\nworkload = []',
        r"verify.toml:2:12: workload: expected at least one, got none",
    ),
    "no root at all": ("steward_root = []", r"verify.toml:1:16: steward_root: expected at least one, got none"),
    "half a byte": ('measurement = ["abc"]', r"verify.toml:1:16: measurement\[0\]: expected 2 to 128 hex digits"),
    "a measurement with spaces": ('measurement = ["ab cd"]', r"expected 2 to 128 hex digits"),
    "a long measurement": (f'measurement = ["{"ab" * 65}"]', r"expected 2 to 128 hex digits"),
    "a number for a measurement": ("measurement = [1]", r"expected 2 to 128 hex digits"),
    "an age without a unit": ('max_age = "24"', r"verify.toml:1:11: max_age: expected a time like"),
    "an age that is a number": ("max_age = 24", r"verify.toml:1:11: max_age: expected a time like"),
    "no age": ('max_age = "0h"', r"expected a time like"),
    "yes": ('accept_unattested = "yes"', r"verify.toml:1:21: accept_unattested: "),
    **{
        f"no {word}": (
            f"tee = 'snp'\n{word} = []" if word != "tee" else "\ntee = []",
            rf"verify.toml:2:\d+: {word}: expected at least one",
        )
        for word in ("steward_root", "tee", "product", "measurement", "workload", "names")
    },
    "an empty name": ('names = [""]', r"verify.toml:1:10: names\[0\]: expected 1 to 512 printable letters"),
    "a name of two lines": ('names = ["a\\nb"]', r"expected 1 to 512 printable letters"),
    "many names": ("names = [" + '"a",' * 1001 + "]", r"names: expected at most 1000"),
    "a TCB that is a list": ("[tcb]\nsnp = [1]", r"verify.toml:1:\d+: tcb: expected tables for snp, .*, got snp"),
    "a fraction in a TCB": (
        "[tcb.snp]\nmicrocode = 1.5",
        r"tcb: snp.microcode: expected a number or a text, got float",
    ),
    "a mistake in a TEE's table": (
        '[snp]\nhash = ["ab"]',
        r"verify.toml:2:9: \[snp\] hash\[0\]: expected 96 hex digits",
    ),
    "a TEE that is no table": ("snp = 1", r"verify.toml:1:7: \[snp\]: expected a table"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses(name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(ParseError, match=message):
        parse(text)


def test_tells_several_mistakes_at_once() -> None:
    with pytest.raises(ParseError) as caught:
        parse('max_age = "x"\n[snp]\nx = 1\n[tdx]\ny = 2\n')
    assert [line.partition(": ")[0] for line in caught.value.message.splitlines()] == [
        "verify.toml:1:11", "verify.toml:3:1", "verify.toml:5:1",
    ]  # fmt: skip


def test_refuses_a_file_that_is_too_long() -> None:
    with pytest.raises(ParseError, match=f"at most {MAX_FILE} bytes"):
        parse("#" * (MAX_FILE + 1))


def test_refuses_what_is_nested_too_deeply() -> None:
    with pytest.raises(ParseError):
        parse("tee = " + "[" * 100_000)


def test_options_are_the_same_words() -> None:
    found = asked(tee="snp,tdx", workload=WORKLOAD.hex(), max_age="24h", names=("a", "b"), accept_unattested=False)
    assert found == Asked.read(
        {"tee": ["snp", "tdx"], "workload": [WORKLOAD.hex()], "max_age": "24h", "names": ["a", "b"]}, "x"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tee": "sev"}, "tee: expected one of snp"),
        ({"tee": "snp,"}, "tee: expected one of snp"),
        ({"workload": "ab"}, r"demands workload\[0\]: expected 64 hex digits"),
        ({"measurement": ","}, "expected 2 to 128 hex digits"),
        ({"names": "a,,b"}, r"names\[1\]: expected 1 to 512"),
        ({"max_age": "soon"}, "max_age: expected a time like"),
    ],
)
def test_refuses_the_option(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(**words)


@pytest.mark.parametrize(
    "words",
    [{"tee": "cca"}, {"max_age": "1h"}, {"accept_unattested": True}, {"workload": "11" * 32}, {"steward_root": "x"}],
    ids=lambda item: next(iter(item)),
)
def test_what_the_policy_demands_no_option_demands_as_well(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(words))}: the policy demands it, and so does an option"):
        parse(WHOLE).joined(asked(**words))


def test_a_policy_and_options_add_up() -> None:
    whole = parse('tee = ["snp"]').joined(asked(workload=WORKLOAD.hex())).demands()
    assert (whole.tees, whole.workloads) == (("snp",), (WORKLOAD,))
