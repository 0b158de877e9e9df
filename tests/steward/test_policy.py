"""The policy file: what is read, and where a mistake stands."""

from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon import tee
from donjon.errors import ParseError
from donjon.steward.policy import MAX_FILE, Policy, parse
from donjon.tee import snp

DIGEST = "ab" * 32


def refusal(text: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse(text)
    return caught.value


def test_an_empty_file_is_the_safe_default() -> None:
    policy = parse("")
    assert policy == Policy()
    assert policy.general.lifetime == timedelta(hours=24)
    assert not policy.general.accept_unattested
    assert policy.of("snp") == snp.Policy()


def test_reads_everything() -> None:
    policy = parse(
        f"""
        lifetime = "90m"
        accept_unattested = true
        require_nonce = true
        keys = ["P-384"]
        tees = ["snp", "kvm"]
        domain = "keeps.example.com"
        [snp]
        products = ["Milan"]
        abi = ">=1.51"
        [sgx]
        enclave_product_id = 7
        [[workload]]
        title = "shop"
        digest = ["{DIGEST}"]
        names = ["shop.example.com", "10.0.0.7", "2001:DB8::0007"]
        """
    )
    assert policy.general.lifetime == timedelta(minutes=90)
    assert policy.general.tees == ("snp", "kvm")
    assert policy.of("snp").products == ("Milan",)
    assert policy.of("sgx").enclave_product_id == 7
    assert policy.workloads[0].names == ("shop.example.com", "10.0.0.7", "2001:db8::7")


def test_reads_the_file_that_enarx_tests_its_steward_with() -> None:
    policy = parse(
        f"""
        [sgx]
        signer = ["{"7a" * 32}"]
        hash = ["{"40" * 32}"]
        features = ["Debug", "ProvisioningKey", "EInitKey", "KSS"]
        enclave_security_version = 0
        enclave_product_id = 0
        allowed_advisories = ["INTEL-SA-00289", "INTEL-SA-00381"]
        [snp]
        signer = ["{"7d" * 48}"]
        id_key_digest = ["{"d7" * 48}"]
        hash = ["{"ff" * 48}"]
        abi = ">=1.51"
        policy_flags = ["SMT"]
        platform_info_flags = "SME"
        """
    )
    assert policy.of("snp").policy_flags == ("SMT",)


def test_knows_its_own_text_by_a_digest() -> None:
    assert parse("# a\n").digest == sha256(b"# a\n").digest() != parse("").digest


def test_says_of_which_tees_any_guest_passes() -> None:
    assert Policy().open_to == ("snp", "tdx", "sgx", "cca")
    named = f'[snp]\nsigner = ["{"ab" * 48}"]\n[tdx]\nhash = ["{"cd" * 48}"]\n[sgx]\nhash = ["{"ef" * 32}"]\n'
    assert parse(named).open_to == ("cca",)
    assert parse('tees = ["snp", "kvm"]\n').open_to == ("snp",)


@pytest.mark.parametrize("length", [32, 48, 64])
def test_finds_the_workload_that_evidence_names_in_a_field_of_any_length(length: int) -> None:
    policy = parse(f'[[workload]]\ndigest = ["{DIGEST}"]\n')
    field = bytes.fromhex(DIGEST).ljust(length, b"\0")
    assert policy.workload(field) is policy.workloads[0]
    assert policy.workload(field[:-1] + b"\1") is None
    assert policy.workload(b"") is None


def test_what_may_be_out_of_date_is_allowed_to_every_tee_unless_it_allows_more() -> None:
    policy = parse('[sgx]\nstale_collateral_days = 9\n[tdx]\nstale_collateral_days = 1\n[collateral]\nstale = "36h"\n')
    assert [policy.of(name).stale_collateral_days for name in ("snp", "sgx", "tdx")] == [2, 9, 2]
    assert policy.of("cca") == Policy().of("cca")
    assert parse("").of("snp").stale_collateral_days == 0


@pytest.mark.parametrize("address", ["https://[::1]:8443/pccs/", "http://127.0.0.1:1", "http://localhost"])
def test_an_address_of_a_vendor_may_be_another(address: str) -> None:
    policy = parse(f'[collateral]\namd = "{address}"\n')
    amd, intel = tee.load_fetch("snp"), tee.load_fetch("sgx")
    assert amd
    assert intel
    assert policy.collateral.address(amd) == address.rstrip("/")
    assert policy.collateral.address(intel) == intel.BASE


MISTAKES = {
    "a key that is nearly right": (
        'lifetme = "1h"\n',
        'steward.toml:1:1: unknown key "lifetme"',
        'did you mean "lifetime"?',
    ),
    "a key of a table above all tables": (
        "hash_blacklist = []\n",
        "1:1: unknown key",
        "belongs into a table such as [snp]",
    ),
    "a key that a table does not have": (
        "[snp]\nhash = []\nhsh = []\n",
        'steward.toml:3:1: [snp]: unknown key "hsh"',
        'did you mean "hash"?',
    ),
    "a digest that is too short": (
        '[snp]\nhash = [\n  "00"]\n',
        "steward.toml:3:3: [snp] hash[0]: expected 96 hex digits",
        None,
    ),
    "a key in a table within": (
        "[snp.minimum_tcb.Milan]\nbootloder = 3\n",
        "steward.toml:1:6: [snp] minimum_tcb",
        None,
    ),
    "a lifetime that is none": ('lifetime = "1w"\n', 'steward.toml:1:12: lifetime: expected a time like "90m"', None),
    "a lifetime of weeks": ('lifetime = "28d"\n', "steward.toml:1:12: lifetime: expected a time between", None),
    "a flag that is text": (
        'accept_unattested = "yes"\n',
        "steward.toml:1:21: accept_unattested: Expected `bool`",
        None,
    ),
    "a TEE that nobody knows": ('\ntees = ["sev"]\n', "steward.toml:2:8: tees: expected some of", None),
    "a kind of key that nobody knows": (
        'keys = ["RSA"]\n',
        "steward.toml:1:9: keys[0]: expected one of P-256, P-384, Ed25519, got",
        None,
    ),
    "a table that is a number": ("snp = 1\n", "steward.toml:1:7: [snp]: expected a table, got int", "write [snp]"),
    "collateral that is a number": ("collateral = 1\n", "steward.toml:1:14: [collateral]: expected a table", None),
    "a vendor that nobody knows": (
        '[collateral]\nitel = "https://a.example"\n',
        'steward.toml:2:1: [collateral]: unknown key "itel": expected one of offline, ca, stale, amd, intel',
        'did you mean "intel"?',
    ),
    "an address that anybody can listen to": (
        '[collateral]\namd = "http://a.example"\n',
        "steward.toml:2:7: [collateral] amd: expected an address",
        None,
    ),
    "an address with a name in it": (
        '[collateral]\namd = "https://u:p@a.example"\n',
        "steward.toml:2:7: [collateral] amd: expected an address",
        None,
    ),
    "an address with a question": (
        '[collateral]\nintel = "https://a.example?x"\n',
        "steward.toml:2:9: [collateral] intel: expected an ad",
        None,
    ),
    "an address with a port that is none": (
        '[collateral]\nintel = "https://a.example:x"\n',
        "steward.toml:2:9: [collateral] intel: expected an ad",
        None,
    ),
    "an address that is a number": ("[collateral]\namd = 1\n", "steward.toml:2:7: [collateral] amd: expected", None),
    "a window that is none": (
        '[collateral]\nstale = "7"\n',
        'steward.toml:2:9: [collateral] stale: expected "0", or a time like',
        None,
    ),
    "a window of months": (
        '[collateral]\nstale = "31d"\n',
        "steward.toml:2:9: [collateral] stale: expected a time of at most",
        None,
    ),
    "a workload in one bracket": ("[workload]\n", "steward.toml:1:1: workload: expected an array", "two brackets"),
    "a workload without a digest": (
        '[[workload]]\ntitle = "a"\n',
        "steward.toml:1:1: workload[0]: expected at least one digest, package or signer",
        None,
    ),
    "a workload with no digests": (
        "[[workload]]\ndigest = []\n",
        "steward.toml:1:1: workload[0]: expected at least one",
        None,
    ),
    "a name with a wildcard": (
        f'[[workload]]\ndigest = ["{DIGEST}"]\nnames = ["*.example.com"]\n',
        "steward.toml:3:10: workload[0] names[0]: expected a host name",
        None,
    ),
    "a name that looks like an address": (
        f'[[workload]]\ndigest = ["{DIGEST}"]\nnames = ["10.0.0.256"]\n',
        "steward.toml:3:10: workload[0] names[0]: expected a host name",
        None,
    ),
    "a digest of zeros, which all evidence has that names no workload": (
        f'[[workload]]\ndigest = ["{DIGEST}", "{"00" * 32}"]\nnames = ["shop.example.com"]\n',
        "steward.toml:2:10: workload[0]: digest: expected the digest of a workload, got zeros",
        None,
    ),
    "an empty list of workloads": (
        "workload = []\n",
        "steward.toml:1:12: workload: expected at least one",
        "leave it out",
    ),
    "one digest in two workloads": (
        f'[[workload]]\ndigest = ["{DIGEST}"]\n[[workload]]\ndigest = ["{DIGEST}"]\n',
        "steward.toml:4:10: workload[1] digest: expected each digest once",
        "all names into one table",
    ),
    "a domain that is an address": ('domain = "10.0.0.1"\n', "steward.toml:1:10: domain: expected a host name", None),
    "no TOML": ("lifetime = \n", "steward.toml:1:12: invalid value", "donjon steward init"),
    "a text that ends too early": ('lifetime = "', "steward.toml:1:", None),
    "too much nesting": (
        "a = " + "[" * 5000 + "]" * 5000,
        "steward.toml:1:69: expected at most 64 levels, got more",
        None,
    ),
    "a long number": ("a = " + "1" * 5000, "expected integers of at most", None),
    "too much": ("#" * (MAX_FILE + 1), "expected at most 1000000 bytes", None),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_refuses_with_the_place(name: str) -> None:
    text, message, hint = MISTAKES[name]
    error = refusal(text)
    assert message in error.message
    assert hint is None or hint in (error.hint or "")


def test_tells_all_mistakes_in_the_order_of_the_text() -> None:
    error = refusal('[sgx]\nx = 1\n[snp]\ny = 1\n[[workload]]\ndigest = ["0"]\n')
    assert [line.split(": ")[0] for line in error.message.split("\n")] == [
        "steward.toml:2:1", "steward.toml:4:1", "steward.toml:6:11",
    ]  # fmt: skip
    assert len((error.hint or "").split("\n")) == 2


def test_refuses_more_workloads_and_names_than_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '[[workload]]\ndigest = ["{}"]\n'
    monkeypatch.setattr("donjon.steward.policy.MAX_WORKLOADS", 2)
    text = "".join(entry.format(f"{number:064x}") for number in range(3))
    assert "steward.toml:5:1: workload: expected at most 2, got 3" in refusal(text).message
    names = ", ".join(f'"{number}.example.com"' for number in range(65))
    assert "names: expected at most 64" in refusal(f"{entry.format(DIGEST)}names = [{names}]\n").message


WORDS = st.sampled_from(
    [
        *"hash digest names lifetime tees minimum_tcb snp workload true 1 [[ ]] [ ] { } = . , # ' \"".split(),
        *(" ", "\n", "[snp]\n", "[[workload]]\n", "[sgx.x]\n", f'"{DIGEST}"'),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=20).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except ParseError:
        pass
