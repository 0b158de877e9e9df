"""For each key of `[sgx]`: a genuine enclave in which only that is violated."""

from __future__ import annotations

from typing import Any

import pytest

from donjon.errors import ParseError
from donjon.tee import sgx
from donjon.tee.intel.layout import Attributes, MiscSelect
from donjon.tee.intel.policy import IntelPolicy
from donjon.tee.intel.simulate import enclave
from tests.tee.intel.simulated import NOW, intel, platform, refusals

BASE = Attributes.INIT | Attributes.MODE64BIT
GOOD = enclave()
SIGNER, HASH = GOOD.mr_signer.hex(), GOOD.mr_enclave.hex()


def refused(fields: dict[str, Any], keys: dict[str, Any]) -> set[str]:
    policy = sgx.Policy.read(keys, "[sgx]")
    return set(refusals("sgx", platform().sgx_quote(enclave(**fields)), policy))


# Fields of the enclave's report, keys of the policy, the checks that fail: these and no others.
CASES: list[tuple[str, dict[str, Any], dict[str, Any], set[str]]] = [
    ("everything is well", {}, {}, set()),
    ("the enclave can be debugged", {"attributes": BASE | Attributes.DEBUG}, {}, {"enclave.debug"}),
    ("the policy allows to debug", {"attributes": BASE | Attributes.DEBUG}, {"features": ["Debug"]}, set()),
    ("the enclave has the provisioning key", {"attributes": BASE | Attributes.PROVISION_KEY}, {}, {"enclave.features"}),
    (
        "the policy allows the provisioning key",
        {"attributes": BASE | Attributes.PROVISION_KEY},
        {"features": ["ProvisioningKey"]},
        set(),
    ),
    ("the enclave can start others", {"attributes": BASE | Attributes.EINITTOKEN_KEY}, {}, {"enclave.features"}),
    ("the policy allows that", {"attributes": BASE | Attributes.EINITTOKEN_KEY}, {"features": ["EInitKey"]}, set()),
    ("CET may be on", {"attributes": BASE | Attributes.CET}, {}, set()),
    ("the policy leaves CET out", {"attributes": BASE | Attributes.CET}, {"features": ["KSS"]}, {"enclave.features"}),
    ("the policy leaves KSS out", {}, {"features": ["CET", "AEXNotify"]}, {"enclave.features"}),
    ("AEX-Notify may be on", {"attributes": BASE | Attributes.AEXNOTIFY}, {}, set()),
    ("a flag is set that nobody knows", {"attributes": BASE | Attributes(1 << 40)}, {}, {"enclave.features"}),
    ("the enclave was never started", {"attributes": Attributes.MODE64BIT}, {}, {"enclave.base"}),
    ("the enclave is not of 64 bits", {"attributes": Attributes.INIT}, {}, {"enclave.base"}),
    ("exceptions are saved", {"misc_select": MiscSelect.EXINFO}, {}, set()),
    ("the policy wants none saved", {"misc_select": MiscSelect.EXINFO}, {"misc_select": []}, {"enclave.misc_select"}),
    ("something unknown is saved", {"misc_select": MiscSelect(0x80)}, {}, {"enclave.misc_select"}),
    ("the processor's extensions lack the basic ones", {"xfrm": 0x1}, {}, {"enclave.xfrm"}),
    ("an extension is used that nobody knows", {"xfrm": 0xE7 | 1 << 60}, {}, {"enclave.xfrm"}),
    ("an extension is used that the policy refuses", {}, {"allowed_xfrm": 0x3}, {"enclave.xfrm"}),
    ("the signer is listed", {}, {"signer": [SIGNER]}, set()),
    ("the signer is not listed", {}, {"signer": ["00" * 32]}, {"enclave.signer"}),
    ("the enclave is listed", {}, {"hash": [HASH]}, set()),
    ("the enclave is not listed", {}, {"hash": ["00" * 32]}, {"enclave.hash"}),
    ("the enclave is not listed though its signer is", {}, {"hash": ["00" * 32], "signer": [SIGNER]}, {"enclave.hash"}),
    ("the enclave is denied", {}, {"hash_blacklist": [HASH]}, {"enclave.hash_blacklist"}),
    ("the product is the one", {"isv_prod_id": 7}, {"enclave_product_id": 7}, set()),
    ("the product is another", {"isv_prod_id": 7}, {"enclave_product_id": 0}, {"enclave.product_id"}),
    ("the version is high enough", {"isv_svn": 5}, {"enclave_security_version": 5}, set()),
    ("the version is too low", {"isv_svn": 4}, {"enclave_security_version": 5}, {"enclave.security_version"}),
    ("the configuration is listed", {"config_id": b"\1" * 64}, {"config_id": ["01" * 64]}, set()),
    ("the configuration is not listed", {}, {"config_id": ["01" * 64]}, {"enclave.config_id"}),
    (
        "without KSS nobody vouches for the configuration",
        {"attributes": BASE, "config_id": b"\1" * 64},
        {"config_id": ["01" * 64]},
        {"enclave.config_id"},
    ),
    ("the configuration's version is high enough", {"config_svn": 2}, {"config_svn": 2}, set()),
    ("the configuration's version is too low", {"config_svn": 1}, {"config_svn": 2}, {"enclave.config_svn"}),
    (
        "without KSS nobody vouches for the configuration's version",
        {"attributes": BASE, "config_svn": 3},
        {"config_svn": 2},
        {"enclave.config_svn"},
    ),
    ("the family is listed", {"isv_family_id": b"\1" * 16}, {"family_id": ["01" * 16]}, set()),
    ("the family is not listed", {}, {"family_id": ["01" * 16]}, {"enclave.family_id"}),
    ("the extended product is listed", {"isv_ext_prod_id": b"\1" * 16}, {"extended_product_id": ["01" * 16]}, set()),
    ("the extended product is not listed", {}, {"extended_product_id": ["01" * 16]}, {"enclave.extended_product_id"}),
]


@pytest.mark.parametrize(("fields", "keys", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_decides_when(fields: dict[str, Any], keys: dict[str, Any], expected: set[str]) -> None:
    assert refused(fields, keys) == expected


def test_every_key_and_every_check_has_a_case() -> None:
    own = set(sgx.Policy.__struct_fields__) - set(IntelPolicy.__struct_fields__)
    assert own == {key for _, _, keys, _ in CASES for key in keys}
    report = sgx.verify(
        sgx.parse(platform().sgx_quote(GOOD))[0], intel().collateral(platform(), "sgx", NOW), intel().roots(), NOW
    )
    made = {check.name for check in sgx.judge(report, sgx.Policy()) if check.name.startswith("enclave.")}
    assert made == {name for _, _, _, expected in CASES for name in expected}


def test_an_enclave_that_may_be_debugged_is_noted() -> None:
    quote = platform().sgx_quote(enclave(attributes=BASE | Attributes.DEBUG))
    report = sgx.verify(sgx.parse(quote)[0], intel().collateral(platform(), "sgx", NOW), intel().roots(), NOW)
    policy = sgx.Policy.read({"features": ["Debug"], "signer": [SIGNER]}, "[sgx]")
    notes = {check.note for check in sgx.judge(report, policy) if check.note}
    assert notes == {"the host can read and change this enclave"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"signer": ["41c1"]}, "expected 64 hex digits"),
        ({"signer": "41c1"}, "signer: Expected `array`, got `str`"),
        ({"features": ["Turbo"]}, "features[0]: expected one of CET, "),
        ({"misc_select": ["ALL"]}, "misc_select[0]: expected one of EXINFO, "),
        ({"enclave_product_id": 65536}, "enclave_product_id: Expected `int` <= 65535"),
        ({"enclave_security_version": -1}, "enclave_security_version: Expected `int` >= 0"),
        ({"hash": [HASH], "hash_blacklist": [HASH]}, f"expected different ones, got {HASH} in both"),
        ({"hashes": []}, 'unknown key "hashes"'),
        ({"allowed_statuses": ["Revoked"]}, "Revoked can never pass"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        sgx.Policy.read(keys, "[sgx]")
    assert message in f"{caught.value}"


def test_the_policy_of_enarxs_own_tests_reads() -> None:
    import tomllib

    text = """
        signer = ["7a49a07df0f8e90a6e1d9a63e3c696d9c844f0e3f8739b21daa640f99facc48a"]
        hash = ["4046ea255f0455131a024e1265ac1ebd131fdbd1240f1712a00381f6f04e8c15"]
        features = ["Debug", "ProvisioningKey", "EInitKey", "KSS"]
        enclave_security_version = 0
        enclave_product_id = 0
        allowed_advisories = ["INTEL-SA-00289", "INTEL-SA-00615"]
    """
    policy = sgx.Policy.read(tomllib.loads(text), "[sgx]")
    assert policy.enclave_product_id == 0
    assert len(policy.features) == 4
