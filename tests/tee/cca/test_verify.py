"""Each check of `verify`, violated alone in a token that is otherwise good and signed anew."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.errors import ParseError, UsageError
from donjon.tee import cca
from donjon.tee.cca import layout
from donjon.tee.cca.collateral import Collateral, Event, Notice, anchor_name, digest
from donjon.tee.cca.simulate import PRODUCT, SimulatedPlatform, SimulatedRealm, collect, sign
from donjon.tee.contract import EvidenceError, Outcome, Roots
from tests.tee.cca.simulated import CHALLENGE, NOW, RIM, RPV, failures, platform, realm, token, verify

NAME = anchor_name(platform().claims.implementation_id, platform().claims.instance_id)
ANCHOR = platform().roots().anchors[NAME]
GOOD = token()


def parts() -> tuple[list[Any], list[Any]]:
    """What both signature structures hold: header, unprotected header, payload, signature."""
    collection = cbor2.loads(GOOD).value
    return cbor2.loads(collection[44234][1]).value, cbor2.loads(collection[44241][1]).value


def again(platform_part: list[Any] | tuple[Any, ...], realm_part: list[Any] | tuple[Any, ...]) -> bytes:
    first, second = (cbor2.dumps(cbor2.CBORTag(18, list(part))) for part in (platform_part, realm_part))
    return collect(first, second)


def cut(part: Any, change: Callable[[bytes], bytes]) -> list[Any]:
    return [*part[:3], change(part[3])]


def flip(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


def other_key() -> bytes:
    return ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip


def off_curve() -> bytes:
    """The realm's key with another y, and bound."""
    key = cbor2.loads(platform().realm_key(layout.REALM_2_0))
    return cbor2.dumps({**key, -3: bytes(47) + b"\x01"})


def algorithm(number: int, of: str) -> bytes:
    """One header names another algorithm; the signature is right but for that."""
    keys = {"platform": platform().cpak, "realm": platform().rak}
    payloads = dict(zip(keys, (part[2] for part in parts()), strict=True))
    first, second = (sign(payloads[name], key, number if name == of else None) for name, key in keys.items())
    return collect(first, second)


def notice(**fields: Any) -> Collateral:
    return Collateral({NAME: Notice(**fields)})


def measured_after(events: int) -> tuple[bytes, ...]:
    """The measurements after so many of the realm's events."""
    made = realm()
    del made.events[events:]
    return made.claims(CHALLENGE, b"", "sha-256").extensible_measurements


DAY = timedelta(days=1)
RAK = platform().realm_key(layout.REALM_2_0)
BOUND = f"expected {digest('sha-256', RAK).hex()}, the sha-256 of the realm's key, got "

# Name of the check → (what fails alone, its text from the colon on)
NEGATIVE: dict[str, list[tuple[Callable[[], dict[str, str]], str]]] = {
    "platform.profile": [
        (
            lambda: failures(token({"profile": "tag:arm.com,2026:cca_platform#2.0.0;direct"})),
            (
                "expected one of http://arm.com/CCA-SSD/1.0.0, tag:arm.com,2023:cca_platform#1.0.0, "
                "tag:arm.com,2024:cca_platform#2.0.0, got tag:arm.com,2026:cca_platform#2.0.0;direct"
            ),
        ),
    ],
    "realm.profile": [
        (
            lambda: failures(token({"profile": layout.LEGACY_PLATFORM})),
            "expected a token without a profile, got tag:arm.com,2024:realm#2.0.0",
        ),
        (
            lambda: failures(platform().token(realm(profile=None), CHALLENGE)),
            "expected tag:arm.com,2023:realm#1.0.0 or tag:arm.com,2024:realm#2.0.0, got a token without one",
        ),
        (
            lambda: failures(token({"profile": layout.LEGACY_PLATFORM}, {"profile": "none"})),
            "expected a token without a profile, got none",
        ),
        (
            lambda: failures(token({"profile": layout.PLATFORM_2_0, "client_id": 1}, {"profile": layout.REALM_1_0})),
            "expected tag:arm.com,2024:realm#2.0.0, got tag:arm.com,2023:realm#1.0.0",
        ),
    ],
    "platform.anchor": [
        (lambda: failures(GOOD, Roots({})), f"expected a platform whose key is known, got {NAME}"),
        (
            lambda: failures(GOOD, Roots({NAME.replace("/01", "/02"): ANCHOR, NAME[:-2] + "00": ANCHOR})),
            f"expected a platform whose key is known, got {NAME}",
        ),
    ],
    "platform.key_validity": [
        (
            lambda: failures(GOOD, collateral=notice(not_before=NOW + DAY)),
            "expected validity, got 2026-11-24T12:00:00Z to 9999-12-31T23:59:59Z, judged at 2026-11-23T12:00:00Z",
        ),
        (
            lambda: failures(GOOD, collateral=notice(not_before=NOW - DAY, not_after=NOW), now=NOW + DAY),
            "expected validity, got 2026-11-22T12:00:00Z to 2026-11-23T12:00:00Z, judged at 2026-11-24T12:00:00Z",
        ),
    ],
    "platform.key_revocation": [
        (lambda: failures(GOOD, collateral=notice(revoked="lost")), "expected not revoked, got revoked: lost"),
    ],
    "platform.algorithm": [
        (
            lambda: failures(algorithm(-7, "platform")),
            "expected -35 (ES384), as the key is on P-384, got -7 (ES256)",
        ),
        (lambda: failures(algorithm(0, "platform")), "expected -35 (ES384), as the key is on P-384, got 0"),
        (lambda: failures(algorithm(-8, "platform")), "expected -35 (ES384), as the key is on P-384, got -8"),
    ],
    "platform.signature": [
        (
            lambda: failures(again(cut(parts()[0], flip), parts()[1])),
            "expected 96 bytes, signed by the key, got 96 bytes that are no signature by the key",
        ),
        (
            lambda: failures(again(cut(parts()[0], lambda _: b""), parts()[1])),
            "expected 96 bytes, signed by the key, got 0 bytes that are no signature by the key",
        ),
        (
            lambda: failures(again(cut(parts()[0], lambda _: bytes(96)), parts()[1])),
            "expected 96 bytes, signed by the key, got 96 bytes that are no signature by the key",
        ),
        (
            lambda: failures(again(cut(parts()[0], lambda signature: signature + b"\0"), parts()[1])),
            "expected 96 bytes, signed by the key, got 97 bytes that are no signature by the key",
        ),
        (
            lambda: failures(GOOD, Roots({NAME: other_key()})),
            "expected 96 bytes, signed by the key, got 96 bytes that are no signature by the key",
        ),
    ],
    "platform.challenge": [
        (lambda: failures(token({"challenge": bytes(32)})), f"{BOUND}{bytes(32).hex()}"),
        (  # the right key by another hash
            lambda: failures(token({"challenge": digest("sha-384", RAK)})),
            f"{BOUND}{digest('sha-384', RAK).hex()}",
        ),
    ],
    "realm.key": [
        (
            lambda: failures(token(None, {"public_key": off_curve()})),
            f"expected a point on P-384, got {cbor2.loads(off_curve())[-2].hex()}, {bytes(47).hex()}01",
        ),
    ],
    "realm.algorithm": [
        (lambda: failures(algorithm(-36, "realm")), "expected -35 (ES384), as the key is on P-384, got -36 (ES512)"),
    ],
    "realm.signature": [
        (
            lambda: failures(again(parts()[0], cut(parts()[1], flip))),
            "expected 96 bytes, signed by the key, got 96 bytes that are no signature by the key",
        ),
        (  # the platform's own key may not sign for a realm
            lambda: failures(collect(sign(parts()[0][2], platform().cpak), sign(parts()[1][2], platform().cpak))),
            "expected 96 bytes, signed by the key, got 96 bytes that are no signature by the key",
        ),
    ],
    "realm.event_log": [
        (
            lambda: failures(GOOD, collateral=Collateral(events=tuple(realm().events[:1]))),
            "expected "
            + ", ".join(value.hex() for value in measured_after(1))
            + ", got "
            + ", ".join(value.hex() for value in measured_after(2)),
        ),
    ],
}


CASES = [(name, number) for name, cases in NEGATIVE.items() for number in range(len(cases))]


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name} {number}" for name, number in CASES])
def test_refuses_a_token_in_which_only_this_is_wrong(name: str, number: int) -> None:
    judge, text = NEGATIVE[name][number]
    assert judge() == {name: f"{name}: {text}"}


def test_every_check_has_a_case() -> None:
    report = verify(GOOD, collateral=Collateral({NAME: Notice(not_after=NOW)}, tuple(realm().events)))
    assert {check.name for check in report.checks} == set(NEGATIVE)
    assert {check.outcome for check in report.checks} == {Outcome.PASSED}


def test_a_good_token_gives_a_report_of_all_that_it_says() -> None:
    window = NOW - DAY, NOW + DAY
    report = verify(GOOD, collateral=Collateral({NAME: Notice(PRODUCT, *window)}))
    assert report.tee == "cca"
    assert report.product == PRODUCT
    assert report.measurement == RIM
    assert report.report_data == CHALLENGE
    assert report.workload == RPV
    assert report.simulated
    assert report.protected
    assert report.judged_at == NOW
    assert (report.valid_from, report.valid_until) == window
    assert report.claims == {
        "platform_profile": "tag:arm.com,2023:cca_platform#1.0.0",
        "implementation_id": platform().claims.implementation_id.hex(),
        "platform_config": "00000001",
        "lifecycle": "0x3000 (secured)",
        "realm_profile": "tag:arm.com,2024:realm#2.0.0",
        "hash_algorithm": "sha-256",
        "extensible_measurement_0": measured_after(2)[0].hex(),
        "extensible_measurement_1": bytes(32).hex(),
        "extensible_measurement_2": bytes(32).hex(),
        "extensible_measurement_3": measured_after(2)[3].hex(),
        "memory_encryption": "private",
    }
    assert report.tcb == {
        "lifecycle": "secured", "BL1": "1.0", "BL2": "1.0", "BL31": "1.0", "RMM": "1.0", "HW_CONFIG": "1.0",
    }  # fmt: skip
    machine = platform().claims.instance_id.hex()
    assert machine not in f"{report.claims} {report.tcb} {' '.join(map(str, report.checks))}"


def test_claims_tell_what_is_unusual() -> None:
    others = {65000 + number: 1 for number in range(20)}
    report = verify(
        token({"others": {"own\n": 1}}, {"lfa_policy": 1, "devices_token_hash": bytes(32), "others": others})
    )
    assert report.claims["live_firmware_activation"] is True
    assert report.claims["devices_token_hash"] == bytes(32).hex()
    assert report.claims["unknown_claims"].startswith("platform 'own\\n', realm 65000, realm 65001")
    assert report.claims["unknown_claims"].endswith("realm 65014, 5 more")


def test_firmware_without_versions_or_names_is_told_by_its_measurements() -> None:
    first, second, *_ = platform().claims.sw_components
    components = (replace(first, version=None), replace(second, component_type=None), first)
    assert verify(token({"sw_components": components})).tcb == {
        "lifecycle": "secured",
        "BL1": first.measurement.hex(),
        "component 1": "1.0",
        "BL1 (2)": "1.0",
    }


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("profile", [layout.LEGACY_REALM, layout.REALM_1_0, layout.REALM_2_0])
@pytest.mark.parametrize("key_hash", ["sha-256", "sha-384", "sha-512"])
def test_takes_every_profile_with_every_curve_and_hash(curve: str, profile: str | None, key_hash: str) -> None:
    of_platform = layout.PLATFORM_1_0 if profile else layout.LEGACY_PLATFORM
    made = SimulatedPlatform.new(curve, curve, profile=of_platform)
    data = made.token(SimulatedRealm(RIM, RPV, profile=profile), CHALLENGE, 399, key_hash)
    assert verify(data, made.roots()).report_data == CHALLENGE


def test_takes_the_platform_profile_of_2024() -> None:
    assert verify(token({"profile": layout.PLATFORM_2_0, "client_id": 1})).measurement == RIM


@pytest.mark.parametrize("number", [-7, 0])
def test_asks_for_no_signature_of_another_algorithm(number: int) -> None:
    with pytest.raises(EvidenceError) as caught:
        verify(algorithm(number, "platform"))
    outcomes = {check.name: check.outcome for check in caught.value.checks}
    assert outcomes["platform.signature"] is Outcome.NOT_APPLICABLE
    assert outcomes["realm.signature"] is Outcome.PASSED, "everything else is told all the same"


def test_a_changed_byte_anywhere_is_noticed() -> None:
    for at in range(0, len(GOOD), 7):
        data = GOOD[:at] + bytes([GOOD[at] ^ 0x10]) + GOOD[at + 1 :]
        try:
            evidence, collateral = cca.parse(data)
        except ParseError:
            continue
        with pytest.raises(EvidenceError):
            cca.verify(evidence, collateral, platform().roots(), NOW)


def test_a_key_is_good_on_the_first_and_last_second_of_its_window() -> None:
    collateral = notice(not_before=NOW, not_after=NOW)
    assert not failures(GOOD, collateral=collateral)
    assert failures(GOOD, collateral=collateral, now=NOW - timedelta(seconds=1))
    assert failures(GOOD, collateral=collateral, now=NOW + timedelta(seconds=1))


def test_a_time_without_a_zone_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match=r"^time of judgement: expected a time with its zone"):
        verify(GOOD, now=datetime(2026, 1, 1))  # noqa: DTZ001  # on purpose


@pytest.mark.parametrize(
    "spki",
    [
        b"",
        b"not a key",
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ec.generate_private_key(ec.SECP256K1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["nothing", "no key", "a key without a curve of ours", "a key on another curve"],
)
def test_an_anchor_that_is_no_key_is_the_operators_mistake(spki: bytes) -> None:
    with pytest.raises(UsageError, match=f"^anchor {NAME}: expected the public key of a curve, in DER: "):
        verify(GOOD, Roots({NAME: spki}))


def test_realm_parts_of_one_boot_can_be_exchanged_and_only_the_challenge_tells() -> None:
    mine = cbor2.loads(GOOD).value
    theirs = cbor2.loads(platform().token(SimulatedRealm(bytes(32)), bytes(64))).value
    mixed = collect(mine[44234][1], theirs[44241][1])
    assert not failures(mixed)
    assert verify(mixed).report_data == bytes(64)


def test_realm_parts_of_two_boots_cannot_be_exchanged() -> None:
    other = replace(platform(), rak=ec.generate_private_key(ec.SECP384R1()))
    theirs = cbor2.loads(other.token(realm(), CHALLENGE)).value
    mixed = collect(cbor2.loads(GOOD).value[44234][1], theirs[44241][1])
    assert list(failures(mixed)) == ["platform.challenge"]


def test_judges_the_same_evidence_at_another_time_otherwise() -> None:
    collateral = notice(not_before=datetime(2026, 1, 1, tzinfo=UTC), not_after=datetime(2026, 12, 31, tzinfo=UTC))
    years = [list(failures(GOOD, collateral=collateral, now=NOW.replace(year=year))) for year in (2025, 2026, 2027)]
    assert years == [["platform.key_validity"], [], ["platform.key_validity"]]


def test_an_event_log_that_fits_is_noted() -> None:
    report = verify(GOOD, collateral=Collateral(events=tuple(realm().events)))
    assert next(check for check in report.checks if check.name == "realm.event_log").outcome is Outcome.PASSED
    wrong = Collateral(events=(*realm().events, Event(1, b"x")))
    assert list(failures(GOOD, collateral=wrong)) == ["realm.event_log"]
