"""Tokens that are not well formed, each in one way, signed by the simulated platform all the same."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from donjon.errors import BugError, ParseError
from donjon.tee import cca
from donjon.tee.cca import layout
from donjon.tee.cca._claims import Claims, claim, claims, data
from donjon.tee.cca.evidence import parse
from donjon.tee.cca.simulate import collect, sign
from tests.tee.cca.simulated import CHALLENGE, platform, realm, token

GOOD = token()
PLATFORM, REALM = (
    record[1]
    for record in (cbor2.loads(GOOD).value[layout.PLATFORM_LABEL], cbor2.loads(GOOD).value[layout.REALM_LABEL])
)
PLATFORM_MAP = cbor2.loads(cbor2.loads(PLATFORM).value[2])
REALM_MAP = cbor2.loads(cbor2.loads(REALM).value[2])
LACKS = object()


def with_platform(changes: dict[Any, Any]) -> bytes:
    return collect(sign(changed(PLATFORM_MAP, changes), platform().cpak), REALM)


def with_realm(changes: dict[Any, Any]) -> bytes:
    return collect(PLATFORM, sign(changed(REALM_MAP, changes), platform().rak))


def with_component(changes: dict[Any, Any]) -> bytes:
    return with_platform({2399: [changed(PLATFORM_MAP[2399][0], changes)]})


def with_key(changes: dict[Any, Any]) -> bytes:
    return with_realm({44237: cbor2.dumps(changed(cbor2.loads(REALM_MAP[44237]), changes))})


def changed(old: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in {**old, **changes}.items() if value is not LACKS}


def outer(value: object, tag: int | None = 907) -> bytes:
    return cbor2.dumps(value if tag is None else cbor2.CBORTag(tag, value))


def sign1(value: object, tag: int | None = 18) -> bytes:
    return collect(outer(value, tag), REALM)


HEADER, _, PAYLOAD, SIGNATURE = cbor2.loads(PLATFORM).value
DIGEST_SIZES = "32 or 48 or 64 bytes"
PRINTABLE = "a text of 1 to 256 printable characters"

REFUSED: dict[str, tuple[Callable[[], bytes], str | None]] = {
    # the collection
    "a token of more than 32 KiB": (
        lambda: GOOD + bytes(32769 - len(GOOD)),
        "CCA token: expected at most 32768 bytes, got 32769",
    ),
    "a token without a tag": (
        lambda: outer({}, None),
        "CCA token: expected tag 907 or 399 around all, got a map of 0",
    ),
    "a token of another tag": (lambda: outer({}, 61), "CCA token at 0x0: expected tag 399 or 907, got tag 61"),
    "a token with another token's tag within": (
        lambda: outer({44234: cbor2.CBORTag(907, 1), 44241: b""}, 399),
        "platform token: expected bytes, got tag 907",
    ),
    "a collection that is an array": (lambda: outer([]), "CCA token, tag 907: expected a map, got an array of 0"),
    "a collection without a platform token": (
        lambda: outer({44241: [263, REALM]}),
        "CCA token, tag 907: the platform token (44234) is missing",
    ),
    "a collection without a realm token": (
        lambda: outer({44234: [263, PLATFORM]}),
        "CCA token, tag 907: the realm token (44241) is missing",
    ),
    "a collection with a third part": (
        lambda: outer({44234: [263, PLATFORM], 44241: [263, REALM], 44242: b""}),
        "CCA token, tag 907: expected the keys 44234 and 44241, got the integer 44242",
    ),
    "a collection with a text as key": (
        lambda: outer({"44234": PLATFORM, 44241: REALM}, 399),
        "CCA token, tag 399: expected the keys 44234 and 44241, got the text '44234'",
    ),
    "a record of tag 399 that is an array": (
        lambda: outer({44234: [263, PLATFORM], 44241: [263, REALM]}, 399),
        "platform token: expected bytes, got an array of 2",
    ),
    "a record of tag 907 that is bytes": (
        lambda: outer({44234: PLATFORM, 44241: REALM}),
        f"platform token: expected an array of 2, type and value, got {len(PLATFORM)} bytes",
    ),
    "a record of three": (
        lambda: outer({44234: [263, PLATFORM, 1], 44241: [263, REALM]}),
        "platform token: expected an array of 2, type and value, got an array of 3",
    ),
    "a record of another content format": (
        lambda: outer({44234: [264, PLATFORM], 44241: [263, REALM]}),
        "platform token: expected the content format 263, got the integer 264",
    ),
    "a record whose content format is a text": (
        lambda: outer({44234: [263, PLATFORM], 44241: ["263", REALM]}),
        "realm token: expected the content format 263, got the text '263'",
    ),
    # COSE_Sign1
    "a part that is not CBOR": (lambda: collect(b"\xff", REALM), None),
    "a part with a byte after its end": (lambda: collect(PLATFORM + b"\0", REALM), None),
    "a signature structure without its tag": (
        lambda: sign1([HEADER, {}, PAYLOAD, SIGNATURE], None),
        "platform token: expected tag 18 (COSE_Sign1), got an array of 4",
    ),
    "a signature structure of another kind": (
        lambda: sign1([HEADER, {}, PAYLOAD, SIGNATURE], 17),
        "platform token at 0x0: expected tag 18, got tag 17",
    ),
    "a signature structure of three": (
        lambda: sign1([HEADER, {}, PAYLOAD]),
        "platform token: expected an array of 4, got an array of 3",
    ),
    "a signature structure that is a map": (
        lambda: sign1({}),
        "platform token: expected an array of 4, got a map of 0",
    ),
    "a header that is not bytes": (
        lambda: sign1([{1: -35}, {}, PAYLOAD, SIGNATURE]),
        "platform token, protected header: expected bytes, got a map of 1",
    ),
    "a payload that is elsewhere": (
        lambda: sign1([HEADER, {}, None, SIGNATURE]),
        "platform token, payload: expected bytes, got null",
    ),
    "a signature that is a number": (
        lambda: sign1([HEADER, {}, PAYLOAD, 1]),
        "platform token, signature: expected bytes, got the integer 1",
    ),
    "an empty header": (lambda: sign1([b"", {}, PAYLOAD, SIGNATURE]), None),
    "a header without an algorithm": (
        lambda: sign1([cbor2.dumps({}), {}, PAYLOAD, SIGNATURE]),
        "platform token, protected header: alg (1) is missing",
    ),
    "an algorithm that is a text": (
        lambda: sign1([cbor2.dumps({1: "ES384"}), {}, PAYLOAD, SIGNATURE]),
        (
            "platform token, protected header, alg (1): expected an integer from -9223372036854775808 to "
            "9223372036854775807, got the text 'ES384'"
        ),
    ),
    "a header with conditions that nobody here knows": (
        lambda: sign1([cbor2.dumps({1: -35, 2: [1]}), {}, PAYLOAD, SIGNATURE]),
        "platform token, protected header: expected no other keys, got the integer 2",
    ),
    "an algorithm in the header that nothing signs": (
        lambda: sign1([HEADER, {1: -35}, PAYLOAD, SIGNATURE]),
        "platform token, unprotected header: expected no other keys, got the integer 1",
    ),
    "certificates in the header that nothing signs": (
        lambda: sign1([HEADER, {33: b""}, PAYLOAD, SIGNATURE]),
        "platform token, unprotected header: expected no other keys, got the integer 33",
    ),
    "an unprotected header that is an array": (
        lambda: sign1([HEADER, [], PAYLOAD, SIGNATURE]),
        "platform token, unprotected header: expected a map, got an array of 0",
    ),
    "claims that are an array": (
        lambda: sign1([HEADER, {}, b"\x80", SIGNATURE]),
        "platform token: expected a map, got an array of 0",
    ),
    "claims with a key that is true, which Python takes for 1": (
        lambda: with_platform({True: 1}),
        "platform token: expected integers and texts as keys, got true",
    ),
    "claims with a key twice": (
        lambda: sign1([HEADER, {}, bytes.fromhex("a20a010a01"), SIGNATURE]),
        "platform token: not CBOR that this format allows: error decoding map: Duplicate map key: 10",
    ),
    # the platform's claims
    "a platform's challenge of 31 bytes": (
        lambda: with_platform({10: bytes(31)}),
        f"platform token, arm-platform-challenge (10): expected {DIGEST_SIZES}, got 31 bytes",
    ),
    "a platform's challenge that is an array": (
        lambda: with_platform({10: [bytes(32)]}),
        f"platform token, arm-platform-challenge (10): expected {DIGEST_SIZES}, got an array of 1",
    ),
    "a platform's profile that is a number": (
        lambda: with_platform({265: 1}),
        f"platform token, arm-platform-profile (265): expected {PRINTABLE}, got the integer 1",
    ),
    "a platform's profile with a line break": (
        lambda: with_platform({265: "a\nb"}),
        f"platform token, arm-platform-profile (265): expected {PRINTABLE}, got 'a\\nb'",
    ),
    "an implementation id of 33 bytes": (
        lambda: with_platform({2396: bytes(33)}),
        "platform token, arm-platform-implementation-id (2396): expected 32 bytes, got 33 bytes",
    ),
    "an instance id of another kind": (
        lambda: with_platform({256: b"\x02" + bytes(32)}),
        "platform token, arm-platform-instance-id (256): expected 33 bytes that begin with 01, got 02",
    ),
    "an instance id of 32 bytes": (
        lambda: with_platform({256: b"\x01" + bytes(31)}),
        "platform token, arm-platform-instance-id (256): expected 33 bytes that begin with 01, got 32 bytes",
    ),
    "an empty configuration": (
        lambda: with_platform({2401: b""}),
        "platform token, arm-platform-config (2401): expected 1 to 1024 bytes, got 0 bytes",
    ),
    "a lifecycle that no table has": (
        lambda: with_platform({2395: 0x3100}),
        "platform token, arm-platform-lifecycle (2395): expected 0x00nn, 0x10nn, ... or 0x60nn, got 0x3100",
    ),
    "a lifecycle of three bytes": (
        lambda: with_platform({2395: 0x13000}),
        "platform token, arm-platform-lifecycle (2395): expected 0x00nn, 0x10nn, ... or 0x60nn, got 0x13000",
    ),
    "a negative lifecycle": (lambda: with_platform({2395: -1}), None),
    "a lifecycle that is true": (
        lambda: with_platform({2395: True}),
        "platform token, arm-platform-lifecycle (2395): expected 0x00nn, 0x10nn, ... or 0x60nn, got true",
    ),
    "no firmware": (
        lambda: with_platform({2399: []}),
        "platform token, arm-platform-sw-components (2399): expected an array of 1 to 128, got an array of 0",
    ),
    "129 pieces of firmware": (
        lambda: with_platform({2399: [{2: bytes(32), 5: bytes(32)}] * 129}),
        "platform token, arm-platform-sw-components (2399): expected an array of 1 to 128, got an array of 129",
    ),
    "firmware that is a text": (
        lambda: with_platform({2399: ["BL2"]}),
        "platform token, arm-platform-sw-components (2399) [0]: expected a map, got the text 'BL2'",
    ),
    "firmware without its measurement": (
        lambda: with_component({2: LACKS}),
        "platform token, arm-platform-sw-components (2399) [0]: measurement value (2) is missing",
    ),
    "firmware without its signer": (
        lambda: with_component({5: LACKS}),
        "platform token, arm-platform-sw-components (2399) [0]: signer id (5) is missing",
    ),
    "a measurement of another length than its algorithm's": (
        lambda: with_component({2: bytes(48)}),
        (
            "platform token, arm-platform-sw-components (2399) [0], measurement value (2): expected 32 bytes, "
            "as of sha-256, got 48 bytes"
        ),
    ),
    "a measurement of another length than the platform's algorithm's": (
        lambda: with_component({2: bytes(48), 6: LACKS}),
        (
            "platform token, arm-platform-sw-components (2399) [0], measurement value (2): expected 32 bytes, "
            "as of sha-256, got 48 bytes"
        ),
    ),
    "live activation that is a number": (
        lambda: with_component({7: 1}),
        (
            "platform token, arm-platform-sw-components (2399) [0], live firmware activation supported (7): "
            "expected true or false, got the integer 1"
        ),
    ),
    "a client that is not the realm world": (
        lambda: with_platform({2394: 2}),
        "platform token, arm-platform-client-id (2394): expected 1, got the integer 2",
    ),
    "a platform of 2024 that does not name its client": (
        lambda: with_platform({265: layout.PLATFORM_2_0}),
        (
            "platform token: arm-platform-client-id (2394) is missing, which profile "
            "tag:arm.com,2024:cca_platform#2.0.0 has"
        ),
    ),
    # the realm's claims
    "a realm's challenge of 32 bytes": (
        lambda: with_realm({10: bytes(32)}),
        "realm token, cca-realm-challenge (10): expected 64 bytes, got 32 bytes",
    ),
    "a personalization value of 63 bytes": (
        lambda: with_realm({44235: bytes(63)}),
        "realm token, cca-realm-personalization-value (44235): expected 64 bytes, got 63 bytes",
    ),
    "a realm's hash algorithm that is broken": (
        lambda: with_realm({44236: "sha-1"}),
        (
            'realm token, cca-realm-hash-algo-id (44236): expected "sha-256" or "sha-384" or "sha-512", '
            "got the text 'sha-1'"
        ),
    ),
    "a hash algorithm for the realm's key that is broken": (
        lambda: with_realm({44240: "md5"}),
        (
            'realm token, cca-realm-public-key-hash-algo-id (44240): expected "sha-256" or "sha-384" or "sha-512", '
            "got the text 'md5'"
        ),
    ),
    "an initial measurement of another length than its algorithm's": (
        lambda: with_realm({44238: bytes(64)}),
        "realm token, cca-realm-initial-measurement (44238): expected 32 bytes, as of sha-256, got 64 bytes",
    ),
    "an extensible measurement of another length than its algorithm's": (
        lambda: with_realm({44239: [bytes(32)] * 3 + [bytes(64)]}),
        "realm token, cca-realm-extensible-measurements (44239) [3]: expected 32 bytes, as of sha-256, got 64 bytes",
    ),
    "three extensible measurements": (
        lambda: with_realm({44239: [bytes(32)] * 3}),
        "realm token, cca-realm-extensible-measurements (44239): expected an array of 4, got an array of 3",
    ),
    "a memory encryption policy that nobody knows": (
        lambda: with_realm({44243: 2}),
        "realm token, cca-realm-mec-policy (44243): expected an integer from 0 to 1, got the integer 2",
    ),
    "a realm of 2024 without its memory encryption policy": (
        lambda: with_realm({44243: LACKS}),
        "realm token: cca-realm-mec-policy (44243) is missing, which profile tag:arm.com,2024:realm#2.0.0 has",
    ),
    "a realm of 2024 without its instance id": (
        lambda: with_realm({256: LACKS}),
        "realm token: cca-realm-instance-id (256) is missing, which profile tag:arm.com,2024:realm#2.0.0 has",
    ),
    "a live activation policy that is true": (
        lambda: with_realm({44244: True}),
        "realm token, cca-realm-lfa-policy (44244): expected an integer from 0 to 1, got true",
    ),
    # the realm's key
    "a realm's key that is a bare point, in a profile where it is a COSE_Key": (
        lambda: with_realm({44237: platform().realm_key(None)}),
        None,
    ),
    "a realm's key that is a COSE_Key, in the profile where it is a bare point": (
        lambda: with_realm({265: LACKS}),
        (
            "realm token, cca-realm-public-key (44237): expected 04 and 64, 96 or 132 bytes, got 107 bytes that begin "
            "with a4"
        ),
    ),
    "a compressed bare point": (
        lambda: with_realm({265: LACKS, 44237: b"\x02" + bytes(96)}),
        (
            "realm token, cca-realm-public-key (44237): expected 04 and 64, 96 or 132 bytes, got 97 bytes that begin "
            "with 02"
        ),
    ),
    "an empty realm's key": (
        lambda: with_realm({44237: b""}),
        "realm token, cca-realm-public-key (44237): expected 1 to 512 bytes, got 0 bytes",
    ),
    "a key of another type": (
        lambda: with_key({1: 1}),
        "realm token, cca-realm-public-key (44237), kty (1): expected 2, got the integer 1",
    ),
    "a key on another curve": (
        lambda: with_key({-1: 8}),
        "realm token, cca-realm-public-key (44237), crv (-1): expected an integer from 1 to 3, got the integer 8",
    ),
    "a key whose coordinates are of another curve": (
        lambda: with_key({-1: 1}),
        "realm token, cca-realm-public-key (44237), x: expected 32 bytes, as on P-256, got 48 bytes",
    ),
    "a compressed key": (
        lambda: with_key({-3: True}),
        "realm token, cca-realm-public-key (44237), y (-3): expected 32 or 48 or 66 bytes, got true",
    ),
    "a private key": (
        lambda: with_key({-4: bytes(48)}),
        "realm token, cca-realm-public-key (44237): expected no other keys, got the integer -4",
    ),
    "a key for another algorithm": (
        lambda: with_key({3: -7}),
        "realm token, cca-realm-public-key (44237), alg (3): expected -35, as on P-384, got -7",
    ),
    "a key that is not for verifying": (
        lambda: with_key({4: [1]}),
        "realm token, cca-realm-public-key (44237), key_ops (4): expected 2 (verify) among them, got (1,)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ParseError) as caught:
        cca.parse(make())
    assert message is None or caught.value.message == message


MANDATORY = [
    (label, part, row)
    for part, label, table in (
        ("platform token", with_platform, layout.PlatformClaims),
        ("realm token", with_realm, layout.RealmClaims),
        ("realm token, cca-realm-public-key (44237)", with_key, layout.CoseKey),
    )
    for row in table.ROWS.values()
    if not row.optional
]


@pytest.mark.parametrize(("make", "part", "row"), MANDATORY, ids=[f"{part} {row.name}" for _, part, row in MANDATORY])
def test_refuses_a_part_that_lacks_a_claim(make: Callable[[dict[Any, Any]], bytes], part: str, row: Any) -> None:
    with pytest.raises(ParseError) as caught:
        parse(make({row.key: LACKS}))
    assert caught.value.message == f"{part}: {row.name} ({row.key}) is missing"


def test_takes_what_the_profiles_allow_besides() -> None:
    evidence = parse(
        collect(
            sign(
                changed(PLATFORM_MAP, {2400: "https://verifier.example", 65000: [1], "own": {}}),
                platform().cpak,
                protected=cbor2.dumps({1: -35, 3: 263, 4: b"key", 16: "application/eat+cwt"}),
                unprotected={4: b"key"},
            ),
            sign(changed(REALM_MAP, {44243: "private", 44244: 1, 44257: bytes(32)}), platform().rak),
            399,
        )
    )
    assert evidence.tag == 399
    assert evidence.platform.claims.verification_service == "https://verifier.example"
    assert dict(evidence.platform.claims.others) == {65000: (1,), "own": {}}
    assert evidence.realm.claims.memory == "private"
    assert evidence.realm.claims.lfa_policy == 1
    assert evidence.realm.claims.devices_token_hash == bytes(32)
    key = with_key({2: b"name", 3: -35, 4: [1, 2]})
    assert parse(key).realm_key.curve.name == "P-384"


def test_a_component_may_say_how_it_is_updated_and_who_else_signed_it() -> None:
    component = parse(with_component({7: True, 8: [bytes(32), bytes(64)]})).platform.claims.sw_components[0]
    assert component.live_activated is True
    assert component.countersigners == (bytes(32), bytes(64))


def test_a_hash_that_only_the_platform_computes_may_have_any_name() -> None:
    evidence = parse(with_component({2: bytes(48), 6: "sha3-384"}))
    assert evidence.platform.claims.sw_components[0].hash_algo_id == "sha3-384"


@pytest.mark.parametrize(("value", "memory"), [(0, "shared"), (1, "private"), ("shared", "shared")])
def test_memory_policies_have_two_forms(value: int | str, memory: str) -> None:
    assert parse(with_realm({44243: value})).realm.claims.memory == memory


def test_claims_are_written_as_they_were_read() -> None:
    evidence = parse(GOOD)
    assert cbor2.dumps(evidence.platform.claims.map()) == evidence.platform.payload
    assert evidence.realm.claims.map() == REALM_MAP
    assert replace(evidence.realm.claims, lfa_policy=1).map() == {**REALM_MAP, 44244: 1}


def test_the_extension_of_a_request_is_an_octet_string_around_the_token() -> None:
    wrapped = cca.wrap(GOOD)
    assert wrapped[:2] == b"\x04\x82"
    assert cca.parse(wrapped) == cca.parse(GOOD)
    for bad in (wrapped + b"\0", wrapped[:-1], b"\x04\x80" + GOOD, b"\x04", cca.wrap(cca.wrap(GOOD))):
        with pytest.raises(ParseError):
            cca.parse(bad)
    with pytest.raises(ParseError, match=r"^CCA evidence: expected at most 32773 bytes, got 32774$"):
        cca.parse(bytes(32774))


def test_a_table_with_a_key_twice_cannot_be_imported() -> None:
    with pytest.raises(BugError, match=r"^Twice: two claims have the same key$"):

        @claims
        class Twice(Claims):
            one: bytes = claim(1, "one", data(1))
            two: bytes = claim(1, "two", data(1))


def test_the_challenge_is_where_the_guest_put_it() -> None:
    assert parse(platform().token(realm(), CHALLENGE, 399)).realm.claims.challenge == CHALLENGE
