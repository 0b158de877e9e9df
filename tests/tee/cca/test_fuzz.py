"""Invariant: any bytes are parsed, or refused with ParseError; what was parsed is verified, or refused as evidence.

Bytes alone hardly get past the first head, so tokens are also made from good ones: changed bytes, changed CBOR values
at any depth, and parts exchanged.
"""

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError
from donjon.tee import cca
from donjon.tee.cca.policy import judge
from donjon.tee.cca.simulate import collect, sign
from donjon.tee.contract import EvidenceError
from tests.clock import quickly
from tests.tee.cca.simulated import CHALLENGE, NOW, platform, realm, token
from tests.tee.cca.test_vectors import FOLDER

TOKENS = [path.read_bytes() for path in sorted(FOLDER.glob("*.cbor"))] + [token()]
KNOWN = platform().roots()
MOST = 0.25  # seconds for one input; two signatures take some 2 ms, all the rest less


def judged(data: bytes) -> None:
    def message_of() -> str:
        try:
            evidence, collateral = cca.parse(data)
            report = cca.verify(evidence, collateral, KNOWN, NOW)
            judge(report, cca.Policy())
        except (ParseError, EvidenceError) as error:
            return str(error)
        return ""

    message = quickly(message_of, MOST)
    assert len(message) < 4096
    assert message.isprintable()


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_takes_any_bytes(data: bytes) -> None:
    judged(data)


@settings(max_examples=300)
@given(st.sampled_from(TOKENS), st.integers(0, 3000), st.binary(max_size=9), st.integers(0, 9))
def test_takes_tokens_with_changed_bytes(data: bytes, at: int, new: bytes, gone: int) -> None:
    at = min(at, len(data))
    judged(data[:at] + new + data[at + gone :])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=20)
    | st.sampled_from([bytes(32), bytes(48), bytes(64), b"\x01" + bytes(32), "sha-256", "sha-512", 0x3000]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-4, 10) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)
SETS = [cbor2.loads(cbor2.loads(cbor2.loads(token()).value[label][1]).value[2]) for label in (44234, 44241)]
KEYS = [[*claims, 44244, 44257, 2394, 2400, 65000] for claims in SETS]


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(KEYS[0]), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(KEYS[1]), VALUES, max_size=2),
)
def test_takes_signed_tokens_with_changed_claims(first: dict[Any, Any], second: dict[Any, Any]) -> None:
    first_part = sign({**SETS[0], **first}, platform().cpak)
    second_part = sign({**SETS[1], **second}, platform().rak)
    judged(collect(first_part, second_part))


@settings(max_examples=200)
@given(VALUES, st.sampled_from([0, 1, 2, 3]), st.sampled_from([44234, 44241]))
def test_takes_signature_structures_with_any_part(value: object, part: int, label: int) -> None:
    collection = cbor2.loads(token()).value
    parts = {key: record[1] for key, record in collection.items()}
    sign1 = list(cbor2.loads(parts[label]).value)
    sign1[part] = value if part == 1 else cbor2.dumps(value)
    parts[label] = cbor2.dumps(cbor2.CBORTag(18, sign1))
    judged(collect(parts[44234], parts[44241]))


@settings(max_examples=100)
@given(VALUES, st.sampled_from([399, 907]))
def test_takes_collections_of_anything(value: object, tag: int) -> None:
    judged(cbor2.dumps(cbor2.CBORTag(tag, value)))


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=200))
def test_takes_any_realm_key(key: bytes) -> None:
    judged(platform().token(realm(), CHALLENGE, realm_changes={"public_key": key}))


@given(st.text(max_size=300))
def test_reads_any_file_of_anchors_or_refuses_it(text: str) -> None:
    try:
        cca.read_anchors(text)
    except ParseError:
        pass


def nested(levels: int) -> object:
    value: object = []
    for _ in range(levels - 1):
        value = [value]
    return value


LARGEST = {
    "unknown claims": token({"others": {70000 + number: 0 for number in range(4000)}}),
    "unknown texts as claims": token({"others": {f"{number:04}": 0 for number in range(4000)}}),
    "firmware": token({"sw_components": platform().claims.sw_components * 25}),
    "the deepest value": token({"others": {1: nested(15)}}),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGEST)
def test_judges_the_largest_tokens_quickly_and_tells_it_shortly(name: str) -> None:
    data = LARGEST[name]
    assert len(data) <= 32768

    def whole() -> tuple[Any, Any]:
        evidence, collateral = cca.parse(data)
        report = cca.verify(evidence, collateral, KNOWN, NOW)
        return report, judge(report, cca.Policy(allow_unknown_claims=False))

    report, findings = quickly(whole, MOST)
    assert all(len(str(check)) < 2048 for check in findings)
    assert len(str(dict(report.claims))) < 4096


def test_the_tokens_that_are_changed_reach_every_step() -> None:
    reached = set()
    for data in TOKENS:
        try:
            evidence, collateral = cca.parse(data)
            reached.add(cca.verify(evidence, collateral, KNOWN, NOW).tee)
        except (ParseError, EvidenceError) as error:
            reached.add(type(error).__name__)
    assert reached == {"ParseError", "EvidenceError", "cca"}
