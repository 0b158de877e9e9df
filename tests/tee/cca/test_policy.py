"""Each key of `[cca]`: what it lets pass, and what fails when only that is violated."""

import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from donjon.errors import ParseError
from donjon.tee import cca
from donjon.tee.cca import layout
from donjon.tee.cca.collateral import Collateral
from donjon.tee.cca.policy import Policy, judge, trust_vector
from donjon.tee.contract import Check, Outcome
from tests.tee.cca.simulated import CHALLENGE, RIM, RPV, platform, realm, token, verdict, verify

IMPLEMENTATION = platform().claims.implementation_id.hex()
COMPONENTS = platform().claims.sw_components
REMS = realm().claims(CHALLENGE, b"", "sha-256").extensible_measurements
OTHER = "ee" * 32
GOOD = token()


def reference(drop: int | None = None, **fields: Any) -> dict[str, Any]:
    """The reference values that fit the simulated platform, but for `fields`."""
    components = [
        {
            "type": item.component_type,
            "measurement": item.measurement.hex(),
            "signer": item.signer_id.hex(),
            "version": item.version,
        }
        for number, item in enumerate(COMPONENTS)
        if number != drop
    ]
    return {"implementation_id": IMPLEMENTATION, "config": "00000001", "components": components, **fields}


def component(number: int, **fields: Any) -> dict[str, Any]:
    """The same, with one component changed."""
    made = reference()
    made["components"][number].update(fields)
    return made


def findings(table: Mapping[str, Any], data: bytes = GOOD, collateral: Collateral | None = None) -> dict[str, Check]:
    return {check.name: check for check in judge(verify(data, None, collateral), Policy.read(table, "[cca]"))}


def failed(table: Mapping[str, Any], data: bytes = GOOD, collateral: Collateral | None = None) -> dict[str, str]:
    checks = findings(table, data, collateral).values()
    return {check.name: str(check) for check in checks if check.outcome is Outcome.FAILED}


LIFECYCLES = {
    0x0000: "unknown",
    0x10FF: "assembly_and_test",
    0x2001: "platform_rot_provisioning",
    0x4003: "non_platform_rot_debug",
    0x5000: "recoverable_platform_rot_debug",
    0x60FF: "decommissioned",
}
LOG = Collateral(events=tuple(realm().events))
LEGACY = platform().token(realm(profile=None), CHALLENGE, 399, platform_changes={"profile": layout.LEGACY_PLATFORM})
FROM_LATER = token(None, {"others": {65000: 1}})
LIVE = token(None, {"lfa_policy": 1})
DEVICES = token(None, {"devices_token_hash": bytes(32)})
SHARED = token(None, {"mec_policy": 0})
DEBUG = token({"lifecycle": 0x4000})
FIRST = COMPONENTS[0]

# Key → (token, table that refuses it, the failed check, its text from the colon on, table that takes it)
NEGATIVE: dict[str, list[tuple[bytes, dict[str, Any], str, str, dict[str, Any]]]] = {
    "lifecycle": [
        (
            DEBUG,
            {},
            "platform.lifecycle",
            (
                "expected one of secured, got non_platform_rot_debug "
                "(the platform is in the state non_platform_rot_debug, not secured)"
            ),
            {"lifecycle": ["secured", "non_platform_rot_debug"]},
        ),
        (
            GOOD,
            {"lifecycle": []},
            "platform.lifecycle",
            "expected nothing, as the list is empty, got secured",
            {"lifecycle": ["secured"]},
        ),
    ],
    "allow_legacy_profile": [
        (
            LEGACY,
            {"allow_legacy_profile": False},
            "platform.legacy_profile",
            (
                "expected a profile of 2023 or later, got http://arm.com/CCA-SSD/1.0.0 "
                "(the platform's profile is deprecated)"
            ),
            {},
        )
    ],
    "allow_unknown_claims": [
        (
            FROM_LATER,
            {"allow_unknown_claims": False},
            "token.unknown_claims",
            "expected none, got realm 65000",
            {},
        )
    ],
    "allow_live_activation": [
        (
            LIVE,
            {},
            "realm.live_activation",
            "expected one of no, got yes (firmware can be replaced while the realm runs)",
            {"allow_live_activation": True},
        )
    ],
    "allow_devices": [
        (
            DEVICES,
            {},
            "realm.devices",
            (
                f"expected no devices, got devices, of digest {'00' * 32} "
                "(devices reach the realm's memory, and were not judged)"
            ),
            {"allow_devices": True},
        )
    ],
    "require_private_memory": [
        (
            SHARED,
            {"require_private_memory": True},
            "realm.memory_encryption",
            "expected private, got shared",
            {"require_private_memory": False},
        ),
        (
            platform().token(realm(profile=layout.REALM_1_0), CHALLENGE),
            {"require_private_memory": True},
            "realm.memory_encryption",
            "expected private, got the token does not say",
            {},
        ),
    ],
    "require_event_log": [
        (
            GOOD,
            {"require_event_log": True},
            "realm.event_log_present",
            "expected an event log that fits, got no event log",
            {},
        )
    ],
    "platforms": [
        (
            GOOD,
            {"platforms": [reference(implementation_id=OTHER)]},
            "platform.implementation",
            f"expected one of {OTHER}, got {IMPLEMENTATION}",
            {"platforms": [reference(implementation_id=OTHER), reference()]},
        ),
        (
            GOOD,
            {"platforms": [reference(config="00000002")]},
            "platform.config",
            "expected 00000002, got 00000001",
            {"platforms": [reference(config="00000002"), reference()]},
        ),
        (
            GOOD,
            {"platforms": [reference(config="0000000002")]},
            "platform.config",
            "expected 0000000002, got 00000001",
            {"platforms": [reference()]},
        ),
        (
            GOOD,
            {"platforms": [reference(config="ffff0002", config_mask="0000000f")]},
            "platform.config",
            "expected ffff0002 under 0000000f, got 00000001",
            {"platforms": [reference(config="ffff0001", config_mask="0000000f")]},
        ),
        (
            GOOD,
            {"platforms": [component(0, measurement=OTHER)]},
            "platform.components",
            f"expected the components of one known release, got unknown BL1 {FIRST.measurement.hex()}; no BL1 {OTHER}",
            {"platforms": [component(0, measurement=OTHER), reference()]},
        ),
        (
            GOOD,
            {"platforms": [component(0, signer=OTHER)]},
            "platform.components",
            (
                "expected the components of one known release, "
                f"got unknown BL1 {FIRST.measurement.hex()}; no BL1 {FIRST.measurement.hex()}"
            ),
            {"platforms": [reference()]},
        ),
        (
            GOOD,
            {"platforms": [component(0, version="2.0")]},
            "platform.components",
            (
                "expected the components of one known release, "
                f"got unknown BL1 {FIRST.measurement.hex()}; no BL1 {FIRST.measurement.hex()}"
            ),
            {"platforms": [reference()]},
        ),
        (
            GOOD,
            {"platforms": [component(0, type="BL0")]},
            "platform.components",
            (
                "expected the components of one known release, "
                f"got unknown BL1 {FIRST.measurement.hex()}; no BL0 {FIRST.measurement.hex()}"
            ),
            {"platforms": [reference()]},
        ),
        (  # firmware that nobody knows
            GOOD,
            {"platforms": [reference(drop=0)]},
            "platform.components",
            f"expected the components of one known release, got unknown BL1 {FIRST.measurement.hex()}",
            {"platforms": [reference(drop=0), reference()]},
        ),
        (  # firmware that was not measured
            token({"sw_components": COMPONENTS[1:]}),
            {"platforms": [reference()]},
            "platform.components",
            f"expected the components of one known release, got no BL1 {FIRST.measurement.hex()}",
            {"platforms": [reference(drop=0)]},
        ),
        (  # one release's configuration with another's firmware
            GOOD,
            {"platforms": [reference(config="00000002"), component(0, measurement=OTHER)]},
            "platform.components",
            f"expected the components of one known release, got unknown BL1 {FIRST.measurement.hex()}; no BL1 {OTHER}",
            {"platforms": [{"implementation_id": IMPLEMENTATION}]},
        ),
    ],
    "signers": [
        (
            GOOD,
            {"signers": [OTHER]},
            "platform.signers",
            f"expected known signers only, got {FIRST.signer_id.hex()}",
            {"signers": [OTHER, FIRST.signer_id.hex()]},
        )
    ],
    "hash": [
        (
            GOOD,
            {"hash": [OTHER, "ee" * 64]},
            "realm.initial_measurement",
            f"expected one of {OTHER}, {'ee' * 64}, got {RIM.hex()}",
            {"hash": [OTHER, RIM.hex()]},
        )
    ],
    "hash_blacklist": [
        (
            GOOD,
            {"hash_blacklist": [OTHER, RIM.hex()]},
            "realm.initial_measurement_denied",
            f"expected not listed, got {RIM.hex()}, which is listed",
            {"hash_blacklist": [OTHER]},
        )
    ],
    **{
        f"rem{number}": [
            (
                GOOD,
                {f"rem{number}": [OTHER]},
                f"realm.extensible_measurement_{number}",
                f"expected one of {OTHER}, got {REMS[number].hex()}",
                {f"rem{number}": [OTHER, REMS[number].hex()]},
            )
        ]
        for number in range(4)
    },
    "personalization_value": [
        (
            GOOD,
            {"personalization_value": ["00" * 64]},
            "realm.personalization_value",
            f"expected one of {'00' * 64}, got {RPV.hex()}",
            {"personalization_value": ["00" * 64, RPV.hex()]},
        )
    ],
}

CASES = [(key, number) for key, cases in NEGATIVE.items() for number in range(len(cases))]


@pytest.mark.parametrize(("key", "number"), CASES, ids=[f"{key} {number}" for key, number in CASES])
def test_a_key_refuses_what_violates_it_alone_and_takes_what_does_not(key: str, number: int) -> None:
    data, refusing, name, text, taking = NEGATIVE[key][number]
    assert failed(refusing, data) == {name: f"{name}: {text}"}
    assert failed(taking, data) == {}


def test_every_key_has_a_case() -> None:
    assert {item.name for item in msgspec.structs.fields(Policy)} == set(NEGATIVE)


def test_every_check_of_the_policy_has_a_case() -> None:
    names = {case[2] for cases in NEGATIVE.values() for case in cases}
    assert names == set(findings({}))


def test_the_same_questions_are_asked_whatever_the_policy() -> None:
    tables: list[dict[str, Any]] = [{}, *(case[1] for cases in NEGATIVE.values() for case in cases)]
    asked = {tuple(findings(table)) for table in tables}
    assert len(asked) == 1


@pytest.mark.parametrize(("number", "name"), LIFECYCLES.items())
def test_only_a_secured_platform_passes_unless_the_policy_names_another_state(number: int, name: str) -> None:
    data = token({"lifecycle": number})
    assert list(failed({}, data)) == ["platform.lifecycle"]
    assert failed({"lifecycle": [name]}, data) == {}
    note = findings({"lifecycle": [name]}, data)["platform.lifecycle"].note
    assert note == f"the platform is in the state {name}, not secured"
    assert list(failed({"lifecycle": [name]}, GOOD)) == ["platform.lifecycle"]


def test_everything_wrong_is_found_at_once() -> None:
    data = token({"lifecycle": 0x5000}, {"lfa_policy": 1, "devices_token_hash": bytes(32), "mec_policy": 0})
    table = {"hash": [OTHER], "require_private_memory": True, "require_event_log": True, "signers": [OTHER]}
    assert set(failed(table, data)) == {
        "platform.lifecycle",
        "platform.signers",
        "realm.memory_encryption",
        "realm.live_activation",
        "realm.devices",
        "realm.initial_measurement",
        "realm.event_log_present",
    }


def test_an_event_log_at_hand_is_enough() -> None:
    assert failed({"require_event_log": True}, GOOD, LOG) == {}


def test_live_activation_that_is_ruled_out_passes() -> None:
    assert findings({}, token(None, {"lfa_policy": 0}))["realm.live_activation"].outcome is Outcome.PASSED


def test_notes_say_what_the_reader_of_an_accepted_verdict_must_know() -> None:
    found = verdict(LEGACY)
    assert found.accepted
    assert found.notes == (
        "simulated: proves nothing about the host",
        "the platform's profile is deprecated",
        "no reference values: nobody judged the platform's firmware",
        "the policy names no realm: any passes",
    )
    measurement = cca.parse(LEGACY)[0].realm.claims.initial_measurement.hex()
    assert "the policy names no realm: any passes" not in {
        check.note for check in findings({"hash": [measurement]}, LEGACY).values()
    }


def test_ignored_claims_are_listed() -> None:
    check = findings({}, FROM_LATER)["token.unknown_claims"]
    assert check.outcome is Outcome.NOT_APPLICABLE
    assert check.found == "claims that nobody here knows are ignored: realm 65000"


def test_reads_the_table_as_a_file_has_it() -> None:
    text = f"""
        [cca]
        lifecycle = ["secured", "non_platform_rot_debug"]
        hash = ["{RIM.hex()}"]
        [[cca.platforms]]
        implementation_id = "{IMPLEMENTATION}"
        config = "00000001"
        config_mask = "000000ff"
        [[cca.platforms.components]]
        type = "RMM"
        measurement = "{OTHER}"
    """
    policy = Policy.read(tomllib.loads(text)["cca"], "[cca]")
    assert policy.lifecycle == (layout.Lifecycle.SECURED, layout.Lifecycle.REALM_DEBUG)
    assert policy.hash == (RIM,)
    assert policy.platforms[0].components[0].measurement == bytes.fromhex(OTHER)
    assert policy.platforms[0].components[0].signer is None
    assert cca.Policy() == Policy.read({}, "[cca]")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"lifecycles": []}, '[cca]: unknown key "lifecycles": expected one of lifecycle, '),
        ({"lifecycle": ["debug"]}, "[cca] lifecycle[0]: expected one of unknown, assembly_and_test, "),
        ({"hash": ["ee"]}, "[cca] hash[0]: expected 64 or 96 or 128 hex digits, got 2"),
        ({"hash": ["eg" * 32]}, "[cca] hash[0]: expected hex digits, two a byte"),
        ({"hash": ["ee " * 32]}, "[cca] hash[0]: expected hex digits, two a byte"),
        ({"hash": [1]}, "[cca] hash[0]: expected hex digits, got int"),
        ({"rem0": "ee"}, "[cca] rem0: Expected `array`, got `str`"),
        ({"allow_devices": 1}, "[cca] allow_devices: Expected `bool`, got `int`"),
        ({"personalization_value": [OTHER]}, "[cca] personalization_value[0]: expected 128 hex digits, got"),
        ({"platforms": [{}]}, "[cca] platforms[0]: Object missing required field `implementation_id`"),
        ({"platforms": [reference(config="")]}, "[cca] platforms[0].config: expected 2 to 2048 hex digits, got 0"),
        (
            {"platforms": [reference(config_mask="00")]},
            "[cca] platforms[0]: config_mask: expected as many hex digits as config has",
        ),
        (
            {"platforms": [{"implementation_id": OTHER, "config_mask": "00"}]},
            "[cca] platforms[0]: config_mask: expected as many hex digits as config has",
        ),
        ({"platforms": [reference(sort=1)]}, "[cca] platforms[0]: Object contains unknown field `sort`"),
        (
            {"platforms": [reference(components=[{"type": "RMM"}])]},
            "[cca] platforms[0].components[0]: Object missing required field `measurement`",
        ),
    ],
)
def test_a_table_that_is_wrong_is_told_with_its_place(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        Policy.read(table, "[cca]")
    assert caught.value.message.startswith(message)


# Attestation results

ALL = {
    "platforms": [reference()],
    "hash": [RIM.hex()],
    "rem0": [REMS[0].hex()],
}


@pytest.mark.parametrize(
    ("data", "table", "vector"),
    [
        (
            GOOD,
            ALL,
            {
                "platform": {
                    "instance-identity": 2, "hardware": 2, "configuration": 2, "executables": 3, "runtime-opaque": 32,
                },
                "realm": {"instance-identity": 2, "executables": 2},
            },
        ),
        (GOOD, {}, {"platform": {"instance-identity": 2, "runtime-opaque": 32}, "realm": {"instance-identity": 2}}),
        (
            GOOD,
            {"platforms": [{"implementation_id": IMPLEMENTATION}], "hash": [RIM.hex()]},
            {
                "platform": {"instance-identity": 2, "hardware": 2, "configuration": 2, "runtime-opaque": 32},
                "realm": {"instance-identity": 2, "executables": 3},
            },
        ),
        (
            DEBUG,
            {"platforms": [component(0, measurement=OTHER)], "hash": [OTHER]},
            {
                "platform": {"instance-identity": 2, "hardware": 97, "runtime-opaque": 96},
                "realm": {"instance-identity": 2, "executables": 33},
            },
        ),
        (
            GOOD,
            {"hash": [RIM.hex()], "rem3": [OTHER]},
            {
                "platform": {"instance-identity": 2, "runtime-opaque": 32},
                "realm": {"instance-identity": 2, "executables": 96},
            },
        ),
    ],
)  # fmt: skip
def test_attestation_results_tell_the_tiers(data: bytes, table: dict[str, Any], vector: dict[str, Any]) -> None:
    assert trust_vector(verdict(data, Policy.read(table, "[cca]")).checks) == vector


def test_attestation_results_tell_what_is_not_genuine() -> None:
    def of(**failures: Outcome) -> dict[str, dict[str, int]]:
        outcomes = {check.name: check for check in verdict(GOOD).checks}
        for name, outcome in failures.items():
            name = name.replace("__", ".", 1)
            outcomes[name] = Check(name, outcome, "", "", "")
        return trust_vector(outcomes.values())

    assert of(platform__anchor=Outcome.FAILED) == {"platform": {"instance-identity": 97}, "realm": {}}
    assert of(platform__signature=Outcome.FAILED) == {"platform": {"instance-identity": 99}, "realm": {}}
    assert of(platform__key_revocation=Outcome.FAILED)["platform"]["instance-identity"] == 96
    assert of(platform__challenge=Outcome.FAILED)["realm"] == {"instance-identity": 99}
    assert of(realm__signature=Outcome.FAILED)["realm"] == {"instance-identity": 99}
    assert trust_vector(()) == {"platform": {"instance-identity": 99}, "realm": {}}
