"""Hostile inputs of the largest size: refused without recursion, in little memory, in few steps.

Memory is what is held beside the input at the peak; steps are calls of Python functions. Neither depends on how fast
the machine is.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import pytest

from donjon import config
from donjon.errors import ParseError
from donjon.steward import app, policy, result
from donjon.steward.app import ProblemError
from donjon.steward.files import Pile, read_roots
from donjon.steward.procedure import decide
from donjon.steward.request import MAX_BUNDLE, MAX_REQUEST, parse_bundle, parse_request
from donjon.tee import cca, sgx, snp, tdx
from donjon.tee.cca import _cbor
from donjon.tee.intel import collateral, strictjson, x509
from donjon.tee.tdx import eventlog
from donjon.wire.der import SEQUENCE, Der, encode, oid_text
from tests.steward.requests import NOW

DEPTH = 60
"""Frames that a parser may stand above its caller: none has a reason for more."""
CALLS = 400_000
"""Calls of functions for one input: some 50 ms."""
PER_BYTE = 24
"""Bytes of memory held for each of the input; a parsed JSON text of small numbers needs that."""
BESIDE = 4_000_000


@dataclass
class Used:
    """What an act has cost."""

    memory: int = 0
    calls: int = 0
    depth: int = 0


@contextmanager
def measured() -> Iterator[Used]:
    """Count calls and the deepest of them, then memory, of what is done within."""
    used = Used()
    level = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal level
        if event == "call":
            used.calls += 1
            level += 1
            used.depth = max(used.depth, level)
        elif event == "return":
            level -= 1

    tracemalloc.start()
    sys.setprofile(profile)
    try:
        yield used
    finally:
        sys.setprofile(None)
        used.memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def nested(tag: int, size: int) -> bytes:
    """Values within values, until nothing more fits; as DER demands, with the right lengths."""
    data = b""
    while len(data) < size - 8:
        data = encode(tag, data)
    return data


def flood(piece: bytes, size: int) -> bytes:
    """The same over and over."""
    return piece * (size // len(piece))


def in_sequence(data: bytes) -> bytes:
    return encode(SEQUENCE, data)


SMALL = 20_000  # what takes quadratic time to make is not made larger
HUGE = b"9" * 600_000
PEM = b"-----BEGIN CERTIFICATE-----\n"
JSONS = {
    "nesting of arrays": b"[" * 500_000,
    "nesting of objects": b'{"a":' * 100_000,
    "a huge integer": HUGE,
    "a huge integer as a value": b'{"request":' + HUGE + b"}",
    "a huge exponent": b'{"request":1e' + HUGE + b"}",
    "many names": b"{" + b",".join(b'"%d":0' % number for number in range(50_000)) + b"}",
    "the same name": b"{" + b",".join([b'"a":0'] * 80_000) + b"}",
    "many small values": b"[" + b"0," * 300_000 + b"0]",
    "one long text": b'"' + b"\\u0000" * 100_000 + b'"',
    "half a surrogate": b'{"request":"\\ud800"}',
    "NaN": b'{"request":NaN}',
}
DERS = {
    "nesting": nested(SEQUENCE, SMALL),
    "many empty values": in_sequence(flood(b"\x05\0", MAX_REQUEST - 8)),
    "many sequences": in_sequence(flood(b"\x30\0", MAX_REQUEST - 8)),
    "a long identifier": in_sequence(encode(0x06, b"\x81" * (MAX_REQUEST - 20) + b"\1")),
    "a big integer": in_sequence(encode(SEQUENCE, encode(0x02, b"\x7f" * (MAX_REQUEST - 20)))),
    "a length past the end": b"\x30\x84\xff\xff\xff\xff" + bytes(MAX_REQUEST - 8),
    "an indefinite length": b"\x30\x80" + bytes(MAX_REQUEST - 8),
    "one long string": in_sequence(encode(0x04, bytes(MAX_REQUEST - 20))),
}
CBORS = {
    "nesting of arrays": b"\x81" * 32_768,
    "nesting of tags": b"\xd9\x01\x8f" * 10_922,
    "an array that promises more": b"\x9b" + b"\xff" * 8 + bytes(32_000),
    "a map that promises more": b"\xbb\0\0\0\0\0\0\x7f\xff" + bytes(32_000),
    "a string that promises more": b"\x5b\x7f" + b"\xff" * 7 + bytes(32_000),
    "many items": b"\x99\x7f\xf0" + bytes(0x7FF0),
    "maps of maps": b"\xa1\0" * 16_384,
    "a bignum": b"\xc2\x59\x7f\xf0" + b"\xff" * 0x7FF0,
    "shared references": b"\xd8\x1c\x81\xd8\x1d\0",
    "the same key": b"\xb9\x3f\xff" + b"\0\0" * 0x3FFF,
}
pytestmark = pytest.mark.slow

# Not here: an integer of 400,000 digits, for which Python's parser takes 50 MB before it refuses it.
TOMLS = {
    "nesting of arrays": b"a = " + b"[" * 400_000,
    "nesting of tables": b"a = " + b"{a=" * 100_000,
    "a key of many parts": b"a." * 200_000 + b"a = 1",
    "one long text": b'a = "' + b"x" * 900_000 + b'"',
}
CASES: dict[str, tuple[Callable[[bytes], object], dict[str, bytes]]] = {
    "steward.json": (app.read_json, JSONS),
    "intel.json": (lambda data: strictjson.read(data, "JSON", 1 << 20), JSONS),
    "intel.split": (lambda data: strictjson.split(data, "tcbInfo", "JSON"), JSONS),
    "intel.collateral": (collateral.from_json, JSONS),
    "steward.result": (lambda data: result.read_cmw(encode(0x0C, data)), JSONS),
    "steward.request": (parse_request, DERS),
    "steward.bundle": (parse_bundle, {**DERS, "many requests": in_sequence(flood(b"\x30\0", MAX_BUNDLE - 8))}),
    "snp": (snp.parse, DERS),
    "sgx": (sgx.parse, DERS),
    "tdx": (tdx.parse, DERS),
    "cca": (cca.parse, {**DERS, **CBORS}),
    "cbor": (lambda data: _cbor.read(data, "CBOR", (399,)), CBORS),
    "intel.certificate": (x509.certificate, DERS),
    "intel.crl": (x509.crl, DERS),
    "intel.pem": (
        lambda data: x509.certificates(data, "PEM"),
        {
            "beginnings": flood(PEM, 250_000),
            "empty ones": flood(PEM + b"-----END CERTIFICATE-----\n", 250_000),
            "white space": PEM + b"\n" * 250_000,
            "one without an end": PEM + b"A" * 250_000,
        },
    ),
    "pile": (
        lambda data: Pile().add("file", data),
        {
            **DERS,
            "beginnings": flood(PEM, 250_000),
            "one without an end": PEM + b"A" * 1_000_000,
            "a flood": flood(PEM + b"AAAA\n-----END CERTIFICATE-----\n", 1_000_000),
        },
    ),
    "config": (lambda data: config.parse(data.decode()), TOMLS),
    "policy": (lambda data: policy.parse(data.decode()), TOMLS),
    "roots": (lambda data: read_roots(data.decode()), TOMLS),
    "eventlog": (eventlog.parse, {"zeros": bytes(262_144), "ones": b"\xff" * 262_144}),
}
ALL = [(name, case) for name, (_, cases) in CASES.items() for case in cases]
# What is harmless and taken, because nobody has said that it is too much.
TAKEN = {
    ("steward.json", "many small values"), ("steward.json", "one long text"), ("steward.json", "half a surrogate"),
    ("steward.json", "many names"), ("steward.json", "a huge exponent"),
    ("intel.json", "many small values"), ("intel.json", "one long text"), ("intel.json", "many names"),
    ("steward.bundle", "nesting"), ("steward.bundle", "a big integer"),  # parts that are read later
    ("pile", "nesting"), ("pile", "a big integer"), ("cbor", "many items"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), ALL, ids=lambda value: value.replace(" ", "-"))
def test_the_largest_input_is_refused_for_little(name: str, case: str) -> None:
    act, cases = CASES[name]
    data = cases[case]
    message: str | None = None
    with measured() as used:
        try:
            act(data)
        except (ParseError, ProblemError) as error:
            message = str(error)
    assert used.depth < DEPTH
    assert used.calls < CALLS
    assert used.memory < PER_BYTE * len(data) + BESIDE
    if message is not None:
        assert len(message) < 4096
    else:
        assert (name, case) in TAKEN


def test_an_identifier_of_any_length_is_read_in_few_steps() -> None:
    with measured() as used:
        assert oid_text(b"\x81" * 500_000 + b"\1") is None
        assert oid_text(b"\x81" * 64) is None
    assert used.calls < 10


def test_der_within_der_is_read_as_deep_as_its_reader_goes_and_no_deeper() -> None:
    data = nested(SEQUENCE, SMALL)
    reader = Der(data, "x")
    with measured() as used:
        for _ in range(5):
            reader = reader.sequence()
    assert used.depth < 5


@pytest.mark.parametrize("case", DERS, ids=lambda value: value.replace(" ", "-"))
def test_the_whole_judgement_of_what_is_no_request_costs_little(case: str) -> None:
    with measured() as used:
        decision = decide(DERS[case], {}, policy.Policy(), NOW)
    assert not decision.accepted
    assert used.calls < 10_000
    assert used.memory < 4 * len(DERS[case]) + BESIDE
    assert all(len(str(check)) < 4096 for check in decision.checks)


def test_a_request_in_json_is_held_a_few_times_and_no_more() -> None:
    text = json.dumps({"request": b64encode(bytes(MAX_REQUEST)).decode()}).encode()
    with measured() as used:
        app._decoded(app.read_json(text)["request"], "request", b"+/")
    assert used.memory < 8 * len(text)
